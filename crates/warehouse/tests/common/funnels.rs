//! Funnels over random streams, and a search through every chain of events.

use proptest::prelude::*;
use trialog_model::duration::Window;
use trialog_stats::FunnelSteps;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::analysis::funnel::several::{Funnels, OneFunnel};
use trialog_warehouse::analysis::funnel::{Funnel, FunnelPlan, StepEvent};
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
            times: Some(std::env::temp_dir()),
        };
        (plan, funnel)
    }

    /// The users of each variant who reached each step, and when.
    pub(crate) fn expected(&self, question: &Question, events: &[Event]) -> Reached {
        let mut reached = vec![vec![0; self.steps.len()]; question.variants.len()];
        let mut times = Vec::new();
        let mut n_mature = vec![0; question.variants.len()];
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
            let mut earliest = Vec::new();
            let used = &mut vec![false; within.len()];
            self.search(0, user.exposure, &within, used, &mut earliest);
            // Events at the data time are read, so the observation ends after it.
            let is_mature = self.window.is_some() && end - 1 <= question.data_time;
            n_mature[variant] += u64::from(is_mature);
            for (step, time) in earliest.iter().enumerate() {
                reached[variant][step] += 1;
                let micros = (time - user.exposure).unsigned_abs();
                times.push((micros, variant, StepEvent::Reached { step, is_mature }));
            }
            let step = earliest.len();
            if step < self.steps.len() && !is_mature {
                let last = end.min(question.data_time.saturating_add(1));
                let micros = (last - user.exposure).unsigned_abs();
                times.push((micros, variant, StepEvent::Ended { step }));
            }
        }
        times.sort_unstable();
        Reached {
            users: reached,
            times,
            n_mature,
        }
    }

    /// Notes for each step from `step` on the earliest end of a chain of unused events that goes
    /// on after one at `last`.
    fn search(
        &self,
        step: usize,
        last: i64,
        rows: &[EventRow<'_>],
        used: &mut Vec<bool>,
        earliest: &mut Vec<i64>,
    ) {
        let Some(event_type) = self.steps.get(step) else {
            return;
        };
        let limit = self.limits[step].map_or(i64::MAX, |limit| last + limit * SECOND);
        for at in 0..rows.len() {
            let time = rows[at].timestamp;
            let fits = rows[at].name == *event_type && (last..limit).contains(&time);
            if used[at] || !fits {
                continue;
            }
            match earliest.get_mut(step) {
                Some(known) => *known = time.min(*known),
                None => earliest.push(time),
            }
            used[at] = true;
            self.search(step + 1, time, rows, used, earliest);
            used[at] = false;
        }
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
            plan: FunnelPlan {
                times: None,
                ..funnel
            },
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

/// Who reached which step, and when.
#[derive(Debug, PartialEq)]
pub(crate) struct Reached {
    /// By variant and step.
    pub(crate) users: Vec<Vec<u64>>,
    /// The microseconds since the exposure, the variant and what happened, in order.
    pub(crate) times: Vec<(u64, usize, StepEvent)>,
    /// By variant, the users who were observed for the whole window.
    pub(crate) n_mature: Vec<u64>,
}

/// What was folded, by variant.
pub(crate) fn found(folded: Folded<Funnel>) -> (Vec<u64>, Reached) {
    let slots = 0..folded.users.len();
    let reached = slots
        .clone()
        .map(|slot| folded.accumulator.reached(slot).to_vec());
    let users = reached.collect();
    let mut times = Vec::new();
    let kept = folded.accumulator.into_times().unwrap();
    let n_mature = slots.map(|slot| kept.mature(slot)).collect();
    let drained = kept.drain(|slot, micros, event| {
        times.push((micros, slot, event));
        Ok::<(), WarehouseError>(())
    });
    drained.unwrap();
    assert!(times.is_sorted_by_key(|(micros, _, _)| *micros));
    times.sort_unstable();
    let reached = Reached {
        users,
        times,
        n_mature,
    };
    (folded.users, reached)
}
