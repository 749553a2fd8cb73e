//! Cohorts over random streams of several days: the scorecards of the users that a filter chooses,
//! and sums that are made one user after the other.
#![allow(dead_code, reason = "not every test checks in all ways")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use trialog_warehouse::analysis::cohorts::{
    CohortPlan, DayMetric, DaySums, DaysQuestion, DaysSince, ExposureDays,
};
use trialog_warehouse::analysis::scorecard::{Quantity, Scorecard};
use trialog_warehouse::batch::EventRow;
use trialog_warehouse::fold::split::{DAY_MICROS, DayCells, Split};
use trialog_warehouse::fold::{Folded, Names, Plan};

use crate::harness::Event;
use crate::questions::{EVENT_TYPES, QUARTER, START, min_value, plan};
use crate::reference::{MetricQuestion, Question, Standing, exposed};

/// What six hours are to a quarter of a second.
const STRETCH: i64 = DAY_MICROS / 4 / QUARTER;

/// Makes each quarter of a second six hours, so that a stream spans days.
pub(crate) fn stretched(events: &[Event]) -> Vec<Event> {
    let event = |(kind, row): &Event| {
        let row = EventRow {
            timestamp: later(row.timestamp),
            ..*row
        };
        (*kind, row)
    };
    events.iter().map(event).collect()
}

fn later(time: i64) -> i64 {
    START + (time - START) * STRETCH
}

/// The same of a question; windows become days.
pub(crate) fn stretched_question(question: &Question) -> Question {
    let metric = |metric: &MetricQuestion| MetricQuestion {
        window: metric.window.map(|window| window * STRETCH),
        delay: metric.delay * STRETCH,
        ..*metric
    };
    Question {
        start_at: question.start_at.map(later),
        end_at: question.end_at.map(later),
        data_time: later(question.data_time),
        exposed_from: question.exposed_from.map(later),
        exposed_to: question.exposed_to.map(later),
        metrics: question.metrics.iter().map(metric).collect(),
        ..question.clone()
    }
}

/// The users by day of exposure, of which the latest are kept; then how many came before and after.
pub(crate) fn expected_days(
    question: &Question,
    events: &[Event],
    asked: DaysQuestion,
) -> (BTreeMap<i64, u64>, u64, u64) {
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    for user in exposed(question, events, &[]) {
        if matches!(user.standing, Standing::Exposed(_)) {
            *days
                .entry(user.exposure.div_euclid(DAY_MICROS))
                .or_default() += 1;
        }
    }
    let after = days.split_off(&(asked.last + 1));
    let n_before = days.len().saturating_sub(asked.limit);
    let before: Vec<u64> = days.values().take(n_before).copied().collect();
    let kept = days.into_iter().skip(n_before).collect();
    (kept, before.iter().sum(), after.values().sum())
}

/// What was found, in the form of [`expected_days`].
pub(crate) fn found_days(found: ExposureDays) -> (BTreeMap<i64, u64>, u64, u64) {
    (found.users, found.earlier_users, found.later_users)
}

/// The plan with a cell for each of `days`.
pub(crate) fn by_day(question: &Question, days: Vec<i64>, n_rows: u64) -> Plan {
    Plan {
        split: Split::Days(DayCells::from_days(days)),
        ..plan(question, n_rows)
    }
}

/// Checks that each cell of `plan` has the numbers of its users: `fold` gives a scorecard.
pub(crate) fn check_cells(
    plan: &Plan,
    fold: impl Fn(&Plan) -> Option<Folded<Scorecard>>,
) -> Result<(), TestCaseError> {
    let Split::Days(cells) = &plan.split else {
        return Ok(());
    };
    let Some(by_day) = fold(plan) else {
        return Ok(());
    };
    for (cell, day) in cells.days().iter().enumerate() {
        let mut filtered = Plan {
            split: Split::Whole,
            ..plan.clone()
        };
        let exposed = &mut filtered.filter.exposed;
        let (from, to) = (day * DAY_MICROS, (day + 1) * DAY_MICROS);
        exposed.start = Some(exposed.start.map_or(from, |start| start.max(from)));
        exposed.end = Some(exposed.end.map_or(to, |end| end.min(to)));
        let Some(alone) = fold(&filtered) else {
            return Ok(());
        };
        let numbers = |folded: &Folded<Scorecard>, cell: usize| {
            let n_variants = plan.variants.len();
            let slots = cell * n_variants..(cell + 1) * n_variants;
            let scorecard = &folded.accumulator;
            let sums = slots.clone().flat_map(|slot| {
                (0..scorecard.metrics().len()).map(move |metric| *scorecard.sums(slot, metric))
            });
            (
                folded.users[slots.clone()].to_vec(),
                folded.crossovers[slots.clone()].to_vec(),
                (folded.forced[cell], folded.unknown_variant[cell]),
                scorecard.not_aggregated[cell],
                sums.collect::<Vec<_>>(),
            )
        };
        prop_assert_eq!(numbers(&by_day, cell), numbers(&alone, 0), "day {}", day);
    }
    Ok(())
}

/// What to follow of a fixed cohort.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    n_days: usize,
    /// How many quarters of a day after the beginning of the stream days have to end.
    until: i64,
    metrics: Vec<(&'static str, Option<i64>, Quantity)>,
}

/// Several quantities of the types of events, on some days.
pub(crate) fn followed() -> impl Strategy<Value = Followed> {
    let quantity =
        prop::sample::select(vec![Quantity::Converted, Quantity::Events, Quantity::Total]);
    let event_type = prop::sample::select(EVENT_TYPES.to_vec());
    let metrics = prop::collection::vec((event_type, min_value(), quantity), 0..4);
    (1..5usize, 0..32i64, metrics).prop_map(|(n_days, until, metrics)| Followed {
        n_days,
        until,
        metrics,
    })
}

impl Followed {
    fn until(&self) -> i64 {
        START + self.until * DAY_MICROS / 4
    }

    fn types(&self) -> Vec<&'static str> {
        self.metrics.iter().map(|metric| metric.0).collect()
    }

    /// The plan and the question for the warehouse.
    pub(crate) fn asked(&self, question: &Question, n_rows: u64) -> (Plan, CohortPlan) {
        let mut plan = plan(question, n_rows);
        plan.event_types = Names::new(self.types().into_iter().map(str::to_owned));
        let metric =
            |(event_type, min_value, quantity): &(&str, Option<i64>, Quantity)| DayMetric {
                name: (*event_type).to_owned(),
                event_type: plan.event_types.code(event_type).unwrap(),
                min_value: *min_value,
                quantity: *quantity,
            };
        let cohort = CohortPlan {
            n_days: self.n_days,
            until: self.until(),
            metrics: self.metrics.iter().map(metric).collect(),
        };
        (plan, cohort)
    }

    /// The users of the cohort by variant, and their sums by variant and metric; `None` where a sum
    /// leaves its range.
    pub(crate) fn expected(
        &self,
        question: &Question,
        events: &[Event],
    ) -> Option<(Vec<u64>, Vec<DaySums>)> {
        let n_variants = question.variants.len();
        let empty = DaySums {
            active: vec![0; self.n_days],
            totals: vec![0; self.n_days],
            products: vec![0; self.n_days * (self.n_days + 1) / 2],
        };
        let mut users = vec![0; n_variants];
        let mut sums = vec![empty; n_variants * self.metrics.len()];
        for user in exposed(question, events, &self.types()) {
            let Standing::Exposed(variant) = user.standing else {
                continue;
            };
            if user.exposure + self.n_days as i64 * DAY_MICROS > self.until() {
                continue;
            }
            users[variant] += 1;
            for (at, (event_type, least, quantity)) in self.metrics.iter().enumerate() {
                let of_day = |day: usize| {
                    let start = user.exposure + day as i64 * DAY_MICROS;
                    let rows = user.rows.iter().filter(move |row| {
                        row.name == *event_type
                            && least.is_none_or(|least| row.value >= least)
                            && (start..start + DAY_MICROS).contains(&row.timestamp)
                    });
                    rows.map(|row| i128::from(row.value)).collect::<Vec<_>>()
                };
                let value = |day: usize| match quantity {
                    Quantity::Converted => i128::from(!of_day(day).is_empty()),
                    Quantity::Events => of_day(day).len() as i128,
                    Quantity::Total => of_day(day).iter().sum(),
                };
                let sums = &mut sums[variant * self.metrics.len() + at];
                let mut place = 0;
                for row in 0..self.n_days {
                    sums.active[row] += u64::from(!of_day(row).is_empty());
                    sums.totals[row] += value(row);
                    for column in 0..=row {
                        let product = value(row).checked_mul(value(column))?;
                        sums.products[place] = sums.products[place].checked_add(product)?;
                        place += 1;
                    }
                }
            }
        }
        Some((users, sums))
    }

    /// What was folded, in the form of [`Self::expected`].
    pub(crate) fn found(&self, folded: &Folded<DaysSince>) -> (Vec<u64>, Vec<DaySums>) {
        let slots = 0..folded.users.len();
        let users = slots.clone().map(|slot| folded.accumulator.users(slot));
        let n_metrics = self.metrics.len();
        let places = slots.flat_map(|slot| (0..n_metrics).map(move |metric| (slot, metric)));
        let sums = places.map(|(slot, metric)| folded.accumulator.sums(slot, metric).clone());
        (users.collect(), sums.collect())
    }
}
