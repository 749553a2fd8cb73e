//! Funnels over random streams, and a search through every chain of events.

use proptest::prelude::*;
use trialog_model::duration::Window;
use trialog_stats::FunnelSteps;
use trialog_warehouse::analysis::funnel::several::{Funnels, OneFunnel};
use trialog_warehouse::analysis::funnel::{Funnel, FunnelPlan};
use trialog_warehouse::batch::EventRow;
use trialog_warehouse::fold::{Folded, Names, Plan};

use crate::harness::Event;
use crate::questions::{EVENT_TYPES, SECOND, plan};
use crate::reference::{Question, Standing, exposed};

/// A funnel to ask for; durations are in whole seconds, as users give them.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) steps: Vec<&'static str>,
    pub(crate) limits: Vec<Option<i64>>,
    pub(crate) window: Option<i64>,
}

/// Steps that repeat, some of them with limits.
pub(crate) fn wanted() -> impl Strategy<Value = Wanted> {
    let step = (
        prop::sample::select(EVENT_TYPES.to_vec()),
        prop::option::of(1..4i64),
    );
    let window = prop::option::of(1..6i64);
    (prop::collection::vec(step, 1..5), window).prop_map(|(steps, window)| {
        let (steps, limits) = steps.into_iter().unzip();
        Wanted {
            steps,
            limits,
            window,
        }
    })
}

impl Wanted {
    /// The plan and the question for the warehouse.
    pub(crate) fn asked(&self, question: &Question, n_rows: u64) -> (Plan, FunnelPlan) {
        let mut plan = plan(question, n_rows);
        plan.event_types = Names::new(self.steps.iter().map(|step| (*step).to_owned()));
        let code = |step: &&str| plan.event_types.code(step).unwrap() as u8;
        let codes: Vec<u8> = self.steps.iter().map(code).collect();
        let micros = |seconds: i64| (seconds * SECOND).unsigned_abs();
        let limits: Vec<_> = self.limits.iter().map(|limit| limit.map(micros)).collect();
        let window = self.window.map_or(u64::MAX, micros);
        let seconds = |seconds: i64| Window::parse(&format!("{seconds}s")).unwrap();
        let funnel = FunnelPlan {
            steps: FunnelSteps::new(&codes, &limits, window).unwrap(),
            window: self.window.map_or(Window::UNBOUNDED, seconds),
            times: None,
        };
        (plan, funnel)
    }

    /// The users of each variant who reached each step.
    pub(crate) fn expected(&self, question: &Question, events: &[Event]) -> Vec<Vec<u64>> {
        let mut reached = vec![vec![0; self.steps.len()]; question.variants.len()];
        for user in exposed(question, events, &self.steps) {
            let Standing::Exposed(variant) = user.standing else {
                continue;
            };
            let end = match self.window {
                Some(window) => user.exposure + window * SECOND,
                None => question.end_at.unwrap_or(i64::MAX),
            };
            let rows = user.rows.into_iter();
            let within: Vec<_> = rows
                .filter(|row| (user.exposure..end).contains(&row.timestamp))
                .collect();
            let depth = self.longest(0, user.exposure, &within, &mut vec![false; within.len()]);
            reached[variant][..depth]
                .iter_mut()
                .for_each(|users| *users += 1);
        }
        reached
    }

    /// The length of the longest chain of unused events from `step` on, after one at `last`.
    fn longest(
        &self,
        step: usize,
        last: i64,
        rows: &[EventRow<'_>],
        used: &mut Vec<bool>,
    ) -> usize {
        let Some(event_type) = self.steps.get(step) else {
            return 0;
        };
        let limit = self.limits[step].map_or(i64::MAX, |limit| last + limit * SECOND);
        let mut longest = 0;
        for at in 0..rows.len() {
            let row = &rows[at];
            let fits = row.name == *event_type && (last..limit).contains(&row.timestamp);
            if used[at] || !fits {
                continue;
            }
            used[at] = true;
            longest = longest.max(1 + self.longest(step + 1, row.timestamp, rows, used));
            used[at] = false;
        }
        longest
    }
}

/// The plan and the question for several funnels at once.
pub(crate) fn asked_together(
    wanted: &[Wanted],
    question: &Question,
    n_rows: u64,
) -> (Plan, Vec<OneFunnel>) {
    let one = |wanted: &Wanted| {
        let (plan, funnel) = wanted.asked(question, n_rows);
        OneFunnel {
            types: plan.event_types,
            plan: funnel,
        }
    };
    let funnels: Vec<OneFunnel> = wanted.iter().map(one).collect();
    let mut plan = plan(question, n_rows);
    let types = funnels.iter().flat_map(|one| one.types.texts());
    plan.event_types = Names::new(types.cloned());
    (plan, funnels)
}

/// What was folded of each funnel, by variant.
pub(crate) fn found_together(folded: &Folded<Funnels>, n_funnels: usize) -> Vec<Vec<Vec<u64>>> {
    let found = |number: usize| {
        let slots = 0..folded.users.len();
        let reached = slots.map(|slot| folded.accumulator.reached(number, slot).to_vec());
        reached.collect()
    };
    (0..n_funnels).map(found).collect()
}

/// What was folded, by variant.
pub(crate) fn found(folded: Folded<Funnel>) -> (Vec<u64>, Vec<Vec<u64>>) {
    let slots = 0..folded.users.len();
    let reached = slots.map(|slot| folded.accumulator.reached(slot).to_vec());
    let reached = reached.collect();
    (folded.users, reached)
}
