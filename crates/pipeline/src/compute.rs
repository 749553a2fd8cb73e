//! From definitions and events to the rows that are published.

use std::ops::Range;

use trialog_catalog::experiments::Experiment;
use trialog_catalog::results::{Computation, VariantExposures, VariantMetric};
use trialog_model::event::EventKind;
use trialog_model::experiment::{Definition, MAX_VARIANTS};
use trialog_model::time::UnixMicros;
use trialog_stats::Summary;
use trialog_warehouse::fold::scorecard::{MetricPlan, MetricSums, Scorecard};
use trialog_warehouse::fold::{Folded, Names, Plan, UserFilter, fold};
use trialog_warehouse::index::IndexEntry;
use trialog_warehouse::snapshot::Snapshot;
use trialog_warehouse::{FoldError, WarehouseError};

/// Changes whenever the meaning of published rows changes.
const MEANING: u32 = 1;

/// How much of what nobody declared is aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Experiments that nobody registered.
    pub unregistered_experiments: u64,
    /// Event types of one experiment that nobody declared.
    pub undeclared_event_types: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unregistered_experiments: 10_000,
            undeclared_event_types: 100,
        }
    }
}

/// What was computed of an experiment.
pub(crate) struct Computed {
    pub(crate) outcome: Result<Computation, FoldError>,
    /// When an event that lies in the future becomes part of the answer.
    pub(crate) next_event_at: Option<UnixMicros>,
}

/// Computes `experiments`, which are in the order of their ids.
pub(crate) fn compute(
    snapshot: &Snapshot,
    experiments: &[Experiment],
    limits: &Limits,
    data_time: UnixMicros,
    filter: &UserFilter,
    n_threads: usize,
) -> Result<Vec<Computed>, WarehouseError> {
    let plans: Vec<Plan> = (experiments.iter())
        .map(|experiment| plan(snapshot, &experiment.definition, limits, data_time, filter))
        .collect();
    let windows: Vec<_> = experiments
        .iter()
        .map(|experiment| experiment.definition.attribution_window)
        .collect();
    let outcomes = fold(snapshot, &plans, n_threads, |plan| {
        let at = plans.partition_point(|other| other.experiment < plan.experiment);
        let metric = |(code, name): (usize, &String)| MetricPlan {
            name: name.clone(),
            event_type: code as u32,
            window: windows[at],
        };
        Scorecard::new(
            plan,
            plan.event_types
                .texts()
                .iter()
                .enumerate()
                .map(metric)
                .collect(),
        )
    })?;
    let results = experiments.iter().zip(&plans).zip(outcomes);
    Ok(results
        .map(|((experiment, plan), outcome)| {
            computed(&experiment.definition, plan, limits, outcome)
        })
        .collect())
}

fn plan(
    snapshot: &Snapshot,
    definition: &Definition,
    limits: &Limits,
    data_time: UnixMicros,
    filter: &UserFilter,
) -> Plan {
    let id = definition.experiment_id.as_str();
    let assignments = snapshot.contents_of(EventKind::Assignment, id);
    let metrics = snapshot.contents_of(EventKind::Metric, id);
    let n_rows = |entry: &Option<IndexEntry>| entry.as_ref().map_or(0, |entry| entry.rows);
    let variants = definition
        .variants
        .iter()
        .map(|declared| declared.variant.as_str());
    let event_types = definition
        .metrics
        .iter()
        .map(|(metric, _)| metric.event_type.as_str());
    Plan {
        experiment: definition.experiment_id.clone(),
        within: Range {
            start: definition.start_at.map(|time| time.0),
            end: definition.end_at.map(|time| time.0),
        },
        n_rows: n_rows(&assignments) + n_rows(&metrics),
        variants: names(variants, assignments.as_ref(), MAX_VARIANTS),
        event_types: names(event_types, metrics.as_ref(), limits.undeclared_event_types),
        data_time: data_time.0,
        filter: filter.clone(),
    }
}

/// What was declared, and of what was seen beyond it the first `limit` in
/// the order of their texts: the choice depends on the events, not on when
/// they arrived.
fn names<'a>(
    declared: impl Iterator<Item = &'a str>,
    seen: Option<&'a IndexEntry>,
    limit: usize,
) -> Names {
    let declared: std::collections::BTreeSet<&str> = declared.collect();
    let seen = seen
        .into_iter()
        .flat_map(|entry| entry.names.iter().map(String::as_str));
    let undeclared: Vec<&str> = seen
        .filter(|name| !declared.contains(name))
        .take(limit)
        .collect();
    Names::new(declared.into_iter().chain(undeclared).map(str::to_owned))
}

fn computed(
    definition: &Definition,
    plan: &Plan,
    limits: &Limits,
    outcome: Result<Folded<Scorecard>, FoldError>,
) -> Computed {
    let next_event_at = outcome
        .as_ref()
        .ok()
        .and_then(|folded| folded.next_event_at)
        .map(UnixMicros);
    let outcome = outcome.map(|folded| Computation {
        experiment: definition.experiment_id.clone(),
        fingerprint: fingerprint(definition, limits),
        forced_users: folded.forced,
        unknown_variant: folded.unknown_variant,
        not_aggregated: folded.accumulator.not_aggregated,
        exposures: (plan.variants.texts().iter().enumerate())
            .map(|(variant, name)| VariantExposures {
                variant: name.clone(),
                user_count: folded.users[variant],
                crossover_users: folded.crossovers[variant],
            })
            .collect(),
        metrics: (0..folded.accumulator.metrics().len())
            .flat_map(|metric| (0..plan.variants.len()).map(move |variant| (metric, variant)))
            .map(|(metric, variant)| {
                let scorecard = &folded.accumulator;
                let names = (
                    &plan.variants.texts()[variant],
                    &scorecard.metrics()[metric].name,
                );
                row(
                    names,
                    folded.users[variant],
                    scorecard.sums(variant, metric),
                )
            })
            .collect(),
    });
    Computed {
        outcome,
        next_event_at,
    }
}

fn row((variant, metric): (&String, &String), users: u64, sums: &MetricSums) -> VariantMetric {
    // Without users there is no summary; means and rates are 0 then.
    let summary = Summary::from_exact(users, sums.total, sums.squared_total, UNIT).ok();
    VariantMetric {
        variant: variant.clone(),
        metric_name: metric.clone(),
        user_count: users,
        event_count: sums.events,
        total: sums.total,
        conversion_rate: if users == 0 {
            0.0
        } else {
            sums.converted_users as f64 / users as f64
        },
        mean_value: summary.map_or(0.0, |summary| summary.mean()),
        variance: summary.and_then(|summary| summary.variance()),
        converted_users: sums.converted_users,
        squared_total: sums.squared_total,
        squared_events: sums.squared_events,
    }
}

/// What the integer 1 stands for in sums of values.
const UNIT: f64 = 1e-4;

/// Stands for everything in a definition that published rows depend on.
pub(crate) fn fingerprint(definition: &Definition, limits: &Limits) -> String {
    let variants: Vec<_> = definition
        .variants
        .iter()
        .map(|declared| &declared.variant)
        .collect();
    let event_types: Vec<_> = definition
        .metrics
        .iter()
        .map(|(metric, _)| &metric.event_type)
        .collect();
    let meaning = serde_json::json!([
        MEANING,
        definition.start_at.map(|time| time.0),
        definition.end_at.map(|time| time.0),
        definition.attribution_window,
        variants,
        event_types,
        limits.undeclared_event_types,
    ]);
    let (high, _) = trialog_model::murmur3::murmur3_x64_128(meaning.to_string().as_bytes(), 0);
    format!("{high:016x}")
}
