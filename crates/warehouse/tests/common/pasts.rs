//! Scorecards of past times against scorecards of the events up to them.
#![allow(dead_code, reason = "not every test checks in all ways")]

use proptest::prelude::*;
use trialog_model::event::EventKind;
use trialog_warehouse::analysis::scorecard::history::History;
use trialog_warehouse::analysis::scorecard::{MetricPlan, MetricSums, Quantity, Scorecard, Shape};
use trialog_warehouse::fold::Folded;

use crate::harness::Event;
use crate::questions::{N_QUARTERS, QUARTER, SECOND, START};
use crate::reference::{Question, Standing, exposed};

/// Some times, in order: at events and just before them.
pub(crate) fn times() -> impl Strategy<Value = Vec<i64>> {
    let time = (0..N_QUARTERS + 8, 0..2i64);
    let time = time.prop_map(|(quarter, before)| START + quarter * QUARTER - before);
    prop::collection::btree_set(time, 0..6).prop_map(|times| times.into_iter().collect())
}

/// The events of the users who count in the end, and of nobody else: a user with a second variant
/// counts at no time, where a scorecard of an earlier time knows nothing of it.
pub(crate) fn of_counted_users(question: &Question, events: &[Event]) -> Vec<Event> {
    let is_counted = |user: i64| {
        let of_user = |(_, row): &&Event| row.user == user;
        let of_user: Vec<Event> = events.iter().filter(of_user).copied().collect();
        let users = exposed(question, &of_user, &[]);
        users
            .iter()
            .any(|user| matches!(user.standing, Standing::Exposed(_)))
    };
    let is_kept = |(kind, row): &&Event| *kind == EventKind::Metric || is_counted(row.user);
    events.iter().filter(is_kept).copied().collect()
}

/// The metrics, and one of each other shape made of the first one.
pub(crate) fn in_every_shape(metrics: &[MetricPlan]) -> Vec<MetricPlan> {
    let mut all = metrics.to_vec();
    if let Some(first) = metrics.first() {
        let covariate = |quantity| Shape::Covariate {
            event_type: 0,
            period: 2 * SECOND,
            quantity,
        };
        let shapes = [
            Shape::Denominator { event_type: 0 },
            Shape::Retention { from: QUARTER },
            covariate(Quantity::Converted),
            covariate(Quantity::Events),
            covariate(Quantity::Total),
        ];
        all.extend(shapes.map(|shape| MetricPlan {
            shape,
            ..first.clone()
        }));
    }
    all
}

/// The users of each slot, and their sums by slot and metric.
type Numbers = (Vec<u64>, Vec<Option<MetricSums>>);

/// What the history says about the time with this number.
pub(crate) fn found(folded: &Folded<History>, n_metrics: usize, at: usize) -> Numbers {
    let history = &folded.accumulator;
    let slots = 0..folded.users.len();
    let sums = slots
        .clone()
        .flat_map(|slot| (0..n_metrics).map(move |metric| history.sums(slot, metric)[at]));
    let sums = sums.collect();
    (slots.map(|slot| history.users(slot)[at]).collect(), sums)
}

/// What a scorecard of that time says.
pub(crate) fn expected(folded: &Folded<Scorecard>) -> Numbers {
    let scorecard = &folded.accumulator;
    let n_metrics = scorecard.metrics().len();
    let sums = (0..folded.users.len())
        .flat_map(|slot| (0..n_metrics).map(move |metric| Some(*scorecard.sums(slot, metric))));
    (folded.users.clone(), sums.collect())
}
