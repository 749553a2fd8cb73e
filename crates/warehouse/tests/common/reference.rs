//! The scorecard as section 4 of the design defines it, in the plainest way:
//! all events in memory, one definition after the other.

use std::collections::{BTreeMap, BTreeSet};

use trialog_model::bucket::bucket;
use trialog_model::event::EventKind;
use trialog_warehouse::analysis::arrivals::TypeArrivals;
use trialog_warehouse::analysis::scorecard::MetricSums;
use trialog_warehouse::batch::EventRow;

use crate::harness::Event;

/// The variant whose assignments every plan skips; it sorts between two that are expected.
pub(crate) const IGNORED: &str = "bb";

/// Under which buckets are told that are left out.
pub(crate) const SALT: &str = "holdout:q3";

/// What is asked about one experiment.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) experiment: &'static str,
    pub(crate) start_at: Option<i64>,
    pub(crate) end_at: Option<i64>,
    /// In order.
    pub(crate) variants: Vec<&'static str>,
    pub(crate) metrics: Vec<MetricQuestion>,
    pub(crate) data_time: i64,
    pub(crate) exposed_from: Option<i64>,
    pub(crate) exposed_to: Option<i64>,
    pub(crate) segment: Vec<(&'static str, &'static str)>,
    /// The buckets under [`SALT`] whose users are left out whole.
    pub(crate) left_out: Option<(u16, u16)>,
}

/// Which events of a type count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetricQuestion {
    pub(crate) event_type: &'static str,
    /// How long its window is, in microseconds; without a length it ends with `end_at`.
    pub(crate) window: Option<i64>,
    /// How long after the exposure the window begins, in microseconds.
    pub(crate) delay: i64,
    /// The least value that counts.
    pub(crate) min_value: Option<i64>,
}

impl MetricQuestion {
    /// Every event of a type from the exposure on.
    pub(crate) fn every(event_type: &'static str) -> Self {
        Self {
            event_type,
            window: None,
            delay: 0,
            min_value: None,
        }
    }
}

/// The numbers that answer it, by variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) users: Vec<u64>,
    pub(crate) crossovers: Vec<u64>,
    pub(crate) forced: u64,
    pub(crate) unknown_variant: u64,
    /// By variant, then by metric.
    pub(crate) sums: Vec<Vec<MetricSums>>,
    /// By event type in the order of the texts; none where only some users are looked at.
    pub(crate) arrivals: Vec<TypeArrivals>,
}

/// Answers `question` from `events`; `None` where a sum leaves its range.
pub(crate) fn answer(question: &Question, events: &[Event]) -> Option<Answer> {
    let n_variants = question.variants.len();
    let mut answer = Answer {
        users: vec![0; n_variants],
        crossovers: vec![0; n_variants],
        forced: 0,
        unknown_variant: 0,
        sums: vec![vec![MetricSums::default(); question.metrics.len()]; n_variants],
        arrivals: arrivals(question, events),
    };
    let event_types: Vec<&str> = (question.metrics.iter())
        .map(|metric| metric.event_type)
        .collect();
    for user in exposed(question, events, &event_types) {
        let variant = match user.standing {
            Standing::Forced => {
                answer.forced += 1;
                continue;
            }
            Standing::UnknownVariant => {
                answer.unknown_variant += 1;
                continue;
            }
            Standing::Crossover(variant) => {
                answer.crossovers[variant] += 1;
                continue;
            }
            Standing::Exposed(variant) => variant,
        };
        answer.users[variant] += 1;
        for (metric, sums) in question.metrics.iter().zip(&mut answer.sums[variant]) {
            let start = user.exposure + metric.delay;
            let counted = user.rows.iter().filter(|row| {
                row.name == metric.event_type
                    && metric.min_value.is_none_or(|least| row.value >= least)
                    && start <= row.timestamp
                    && match metric.window {
                        Some(window) => row.timestamp < start + window,
                        None => question.end_at.is_none_or(|end| row.timestamp < end),
                    }
            });
            add_user(sums, counted.map(|row| row.value))?;
        }
    }
    Some(answer)
}

/// A user with assignments who is looked at.
pub(crate) struct User {
    pub(crate) standing: Standing,
    /// The time of the first assignment.
    pub(crate) exposure: i64,
    /// The metric events in order, without copies.
    pub(crate) rows: Vec<EventRow<'static>>,
}

/// What the assignments of a user come to; a number is the place of the first variant.
pub(crate) enum Standing {
    Forced,
    UnknownVariant,
    Crossover(usize),
    Exposed(usize),
}

/// The users that `question` is about, with their events; those of `event_types` are expected.
pub(crate) fn exposed(question: &Question, events: &[Event], event_types: &[&str]) -> Vec<User> {
    let assignments = by_user(question, events, EventKind::Assignment, &question.variants);
    let mut metrics = by_user(question, events, EventKind::Metric, event_types);
    let mut users = Vec::new();
    for (user, assignments) in assignments {
        let within: Vec<_> = (assignments.into_iter())
            .filter(|row| question.start_at.is_none_or(|start| start <= row.timestamp))
            .filter(|row| question.end_at.is_none_or(|end| row.timestamp < end))
            .collect();
        let Some(exposure) = within.first() else {
            continue;
        };
        if !looked_at(question, exposure) || is_left_out(question, events, user) {
            continue;
        }
        let mut variants = question.variants.iter();
        let variant = variants.position(|variant| *variant == exposure.name);
        let names: BTreeSet<&str> = within.iter().map(|row| row.name).collect();
        let standing = match variant {
            _ if within.iter().any(|row| row.value != 0) => Standing::Forced,
            None => Standing::UnknownVariant,
            Some(variant) if names.len() > 1 => Standing::Crossover(variant),
            Some(variant) => Standing::Exposed(variant),
        };
        users.push(User {
            standing,
            exposure: exposure.timestamp,
            rows: metrics.remove(&user).unwrap_or_default(),
        });
    }
    users
}

/// What became of the events of each type, the plainest way.
fn arrivals(question: &Question, events: &[Event]) -> Vec<TypeArrivals> {
    let is_filtered = question.exposed_from.is_some()
        || question.exposed_to.is_some()
        || !question.segment.is_empty();
    if is_filtered {
        return Vec::new();
    }
    let types: Vec<&str> = (question.metrics.iter())
        .map(|metric| metric.event_type)
        .collect();
    let assignments = by_user(question, events, EventKind::Assignment, &question.variants);
    let metrics = by_user(question, events, EventKind::Metric, &types);
    let distinct: BTreeSet<&str> = types.iter().copied().collect();
    let count = |event_type: &str| {
        let mut counts = TypeArrivals::default();
        for (user, rows) in &metrics {
            let rows: Vec<_> = rows.iter().filter(|row| row.name == event_type).collect();
            let n_rows = rows.len() as u64;
            counts.events += n_rows;
            let within: Vec<_> = (assignments.get(user).into_iter().flatten())
                .filter(|row| question.start_at.is_none_or(|start| start <= row.timestamp))
                .filter(|row| question.end_at.is_none_or(|end| row.timestamp < end))
                .collect();
            let variants: BTreeSet<&str> = within.iter().map(|row| row.name).collect();
            let Some(exposure) = within.first() else {
                counts.unexposed += n_rows;
                counts.unexposed_users += u64::from(n_rows > 0);
                counts.sample.extend((n_rows > 0).then_some(*user));
                continue;
            };
            let is_forced = within.iter().any(|row| row.value != 0);
            if is_left_out(question, events, *user) || is_forced {
                counts.excluded += n_rows;
            } else if !question.variants.contains(&exposure.name) {
                counts.unknown_variant += n_rows;
            } else if variants.len() > 1 {
                counts.excluded += n_rows;
            } else {
                counts.senders_exposed += u64::from(n_rows > 0);
                for row in rows {
                    let is_counted = question.metrics.iter().any(|metric| {
                        let start = exposure.timestamp + metric.delay;
                        metric.event_type == event_type
                            && start <= row.timestamp
                            && match metric.window {
                                Some(window) => row.timestamp < start + window,
                                None => question.end_at.is_none_or(|end| row.timestamp < end),
                            }
                    });
                    let is_before = row.timestamp < exposure.timestamp;
                    counts.counted += u64::from(is_counted);
                    counts.before_exposure += u64::from(is_before && !is_counted);
                    counts.after_window += u64::from(!is_before && !is_counted);
                }
            }
        }
        counts.sample.truncate(5);
        counts
    };
    distinct.into_iter().map(count).collect()
}

/// Whether the bucket of `user`, by the least of the texts that were sent, is left out.
fn is_left_out(question: &Question, events: &[Event], user: i64) -> bool {
    let Some((from, to)) = question.left_out else {
        return false;
    };
    let texts = events.iter().filter(|(kind, row)| {
        *kind == EventKind::Assignment
            && row.experiment == question.experiment
            && row.user == user
            && row.timestamp <= question.data_time
            && row.name != IGNORED
            && !row.user_text.is_empty()
    });
    let least = texts.map(|(_, row)| row.user_text.to_owned()).min();
    let unit = least.unwrap_or_else(|| user.to_string());
    (from..to).contains(&bucket(&unit, SALT))
}

fn add_user(sums: &mut MetricSums, values: impl Iterator<Item = i64>) -> Option<()> {
    let values: Vec<i64> = values.collect();
    let n_events = values.len() as u64;
    let total: i128 = values.iter().copied().map(i128::from).sum();
    sums.converted_users += u64::from(n_events > 0);
    sums.events += n_events;
    sums.squared_events += u128::from(n_events) * u128::from(n_events);
    sums.total += total;
    sums.squared_total = sums.squared_total.checked_add(total.checked_mul(total)?)?;
    Some(())
}

/// Each user's events up to the data time, in order, each counted once.
fn by_user(
    question: &Question,
    events: &[Event],
    kind: EventKind,
    expected: &[&str],
) -> BTreeMap<i64, Vec<EventRow<'static>>> {
    let mut users: BTreeMap<i64, Vec<EventRow<'static>>> = BTreeMap::new();
    for (of_kind, row) in events {
        if *of_kind == kind
            && row.experiment == question.experiment
            && row.timestamp <= question.data_time
            && (kind == EventKind::Metric || row.name != IGNORED)
        {
            users.entry(row.user).or_default().push(*row);
        }
    }
    for rows in users.values_mut() {
        rows.sort_by_key(|row| {
            let name = place(row.name, expected);
            (row.timestamp, name, row.value, row.event_id)
        });
        let mut seen = BTreeSet::new();
        rows.retain(|row| {
            let event_type = (kind == EventKind::Metric).then_some(row.name);
            seen.insert((row.event_id, event_type))
        });
    }
    users
}

/// Where `name` stands among the expected ones. Names that nobody asked about
/// and that no expected name separates count as one name.
fn place(name: &str, expected: &[&str]) -> (usize, bool) {
    let distinct: BTreeSet<&str> = expected.iter().copied().collect();
    (distinct.range(..name).count(), distinct.contains(name))
}

/// Whether the filter leaves a user with this exposure in.
fn looked_at(question: &Question, exposure: &EventRow<'_>) -> bool {
    let context: serde_json::Value = serde_json::from_str(exposure.context).unwrap_or_default();
    question
        .exposed_from
        .is_none_or(|from| from <= exposure.timestamp)
        && question.exposed_to.is_none_or(|to| exposure.timestamp < to)
        && question
            .segment
            .iter()
            .all(|(key, wanted)| match &context[*key] {
                serde_json::Value::Null => false,
                serde_json::Value::String(text) => text.as_str() == *wanted,
                other => wanted == &other.to_string(),
            })
}
