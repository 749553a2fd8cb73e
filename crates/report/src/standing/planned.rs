//! Decides when the planned look takes place, and keeps its outcome.

use trialog_model::experiment::{Definition, Status};
use trialog_model::metric::MetricRole;
use trialog_model::metric_definition::NamedMetric;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_stats::Alpha;

use super::basis::{basis_of_plan, basis_of_verdict};
use super::{Look, PlannedLook, PlannedResult, Standing, planned};
use crate::comparison::{Headline, Terms};
use crate::{Choices, Subject, control, from_measured, health, measured};

/// How long users come in before the planned look: one of each weekday.
const LEAST_MICROS: i64 = 7 * 86_400_000_000;

/// The time of the planned look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planned {
    /// Not at this look, however many users are mature.
    No,
    /// At this look, if each of these arms has `users` who were exposed before `mature`, and
    /// anyone was exposed before `first`.
    If {
        /// Microseconds since 1970: the windows of users exposed before have closed.
        mature: i64,
        /// Microseconds since 1970; none where it is known already.
        first: Option<i64>,
        /// Users that each arm needs.
        users: u64,
    },
}

/// Decides when the planned look at `subject` takes place, at data time `now`.
///
/// It is the first where every arm has its planned number of users whose windows have closed,
/// those of primary metrics, and 7 days have passed.
#[must_use]
pub fn when_planned(
    subject: &Subject<'_>,
    computation: &Computation,
    previous: Option<&Standing>,
    now: UnixMicros,
) -> Planned {
    let definition = subject.definition;
    let has_started = !matches!(subject.status, Status::Draft | Status::Unregistered);
    let Some(plan) = definition.plan.as_ref().filter(|_| has_started) else {
        return Planned::No;
    };
    let is_over = (previous.and_then(|standing| standing.planned.as_ref()))
        .is_some_and(|planned| planned.basis == basis_of_plan(subject));
    let users = plan.sample_size_per_variant;
    let counts = health::declared_counts(definition, computation, false);
    if is_over || counts.is_empty() || counts.iter().any(|count| *count < users) {
        return Planned::No;
    }
    // A start that is dated back is no week of users; an exposure that old is.
    let started = definition.start_at.max(subject.started_at);
    let week_ago = now.0.saturating_sub(LEAST_MICROS);
    let is_known = started.is_some_and(|time| time.0 <= week_ago);
    Planned::If {
        // Exposed before `mature` is exposed at `mature - 1` at the latest.
        mature: now
            .0
            .saturating_sub(longest_window(subject))
            .saturating_add(1),
        first: (!is_known).then(|| week_ago.saturating_add(1)),
        users,
    }
}

/// How long after an exposure the last window of a primary metric closes; one that never does
/// counts as closed.
fn longest_window(subject: &Subject<'_>) -> i64 {
    let named = subject.definition.named_metrics(subject.defined_metrics);
    let closes = |metric: &NamedMetric<'_>| {
        let delay = metric.definition.and_then(|definition| definition.delay);
        let delay = delay.map_or(0, |delay| delay.micros());
        (metric.window.micros()).map(|window| delay.saturating_add(window))
    };
    let primary = (named.iter()).filter(|metric| metric.role == MetricRole::Primary);
    primary.filter_map(closes).max().unwrap_or(0).max(0)
}

/// Returns whether `computation`, of users exposed before some time, has `users` in each arm.
#[must_use]
pub fn has_users(definition: &Definition, computation: &Computation, users: u64) -> bool {
    let counts = health::declared_counts(definition, computation, false);
    counts.iter().all(|count| *count >= users)
}

/// Tests everything that the experiment names once, at the share of alpha that is kept for it.
pub(super) fn planned_look(look: &Look<'_>) -> Option<PlannedLook> {
    let (subject, computation) = (&look.subject, look.computation);
    let definition = subject.definition;
    let alpha = planned(Alpha::new(definition.alpha).unwrap_or(Alpha::P05));
    let choices = Choices {
        alpha: Some(alpha),
        ..Choices::default()
    };
    let control = control(definition, computation, &choices).ok()?;
    let all = measured(subject, computation, control.as_deref(), &choices);
    // Those of the looks, so that what is asked for later is compared with the same.
    let terms = Terms::from_definition(definition, control.as_deref(), &choices, None);
    let bases: Vec<String> = (all.iter())
        .map(|measured| basis_of_verdict(subject, measured, &terms))
        .collect();
    let report = from_measured(subject, computation, all, &choices).ok()?;
    let mut results = Vec::new();
    for (metric, basis) in report.metrics.into_iter().zip(bases) {
        if metric.role == MetricRole::Exploratory {
            continue;
        }
        for comparison in metric.comparisons {
            results.push(PlannedResult {
                metric: metric.metric.clone(),
                kind: metric.kind,
                treatment: comparison.treatment,
                basis: basis.clone(),
                headline: Headline {
                    alpha: Some(alpha.get()),
                    at: Some(look.at.to_rfc3339()),
                    ..comparison.headline
                },
            });
        }
    }
    Some(PlannedLook {
        at: look.at.0,
        basis: basis_of_plan(subject),
        results,
    })
}
