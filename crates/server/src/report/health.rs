//! Whether an experiment's numbers can be trusted: sample ratio, crossovers, plan.

use serde::{Deserialize, Serialize};
use trialog_catalog::experiments::Experiment;
use trialog_catalog::results::Computation;
use trialog_model::experiment::Definition;
use trialog_model::metric::MetricKind;
use trialog_model::time::UnixMicros;
use trialog_stats::sample_ratio_mismatch;

/// Below this p-value the sample ratio check fails: low, since people look often.
const SRM_LEVEL: f64 = 0.001;
/// Above this share of crossovers a reader is warned.
const CROSSOVER_SHARE: f64 = 0.01;

/// Whether the numbers can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The sample ratio check of users with one variant; null where weights are not known.
    pub srm: Option<SrmReport>,
    /// The same with crossovers counted at their first variant.
    pub srm_with_crossovers: Option<SrmReport>,
    /// Users with two or more variants; they count in no metric.
    pub crossovers: u64,
    /// Users with a forced assignment; they count in no metric.
    pub forced: u64,
    /// Retention dropped the events before this time, RFC 3339: the results
    /// are those from before and are not computed again. Null where all are kept.
    #[serde(default)]
    pub events_dropped_before: Option<String>,
    /// What a reader has to know.
    pub warnings: Vec<Warning>,
}

/// A chi-squared test of users by variant against the planned weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SrmReport {
    /// The statistic.
    pub chi_squared: Option<f64>,
    /// Variants minus one.
    pub df: usize,
    /// Its upper tail.
    pub p_value: Option<f64>,
    /// Whether p is below 0.001.
    pub failed: bool,
}

/// Something that a reader has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// How far an experiment is on the way to its planned sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Users that each variant needs.
    pub sample_size_per_variant: u64,
    /// Users of the smallest variant, divided by that.
    pub share: f64,
    /// The absolute difference that the plan can detect with its power.
    pub mde: Option<f64>,
    /// The planned power.
    pub power: Option<f64>,
}

pub(super) fn progress(definition: &Definition, computation: &Computation) -> Option<Progress> {
    let plan = definition.plan.as_ref()?;
    let least = declared_counts(definition, computation, false)
        .into_iter()
        .min()
        .unwrap_or(0);
    Some(Progress {
        sample_size_per_variant: plan.sample_size_per_variant,
        share: least as f64 / plan.sample_size_per_variant as f64,
        mde: plan.mde,
        power: plan.power,
    })
}

pub(super) fn health(
    experiment: &Experiment,
    computation: &Computation,
    is_published: bool,
    current: &str,
) -> Health {
    let definition = &experiment.definition;
    let srm = self::srm(definition, computation, false);
    let srm_with_crossovers = self::srm(definition, computation, true);
    let crossovers = computation
        .exposures
        .iter()
        .map(|row| row.crossover_users)
        .sum();
    let mut warnings = Warnings(Vec::new());
    if !is_published {
        warnings.add(
            "no_results",
            "no results were published by then: POST /v1/pipeline/run, or `trialog aggregate`, runs now".to_owned(),
        );
    } else if computation.fingerprint != current {
        warnings.add(
            "definition_changed",
            "the definition changed since these results were computed: the next run applies it"
                .to_owned(),
        );
    }
    if let Some(failure) = &experiment.failure {
        warnings.add(
            "computation_failed",
            format!(
                "the last run could not compute this experiment, these results are older: {failure}"
            ),
        );
    }
    if [&srm, &srm_with_crossovers]
        .into_iter()
        .flatten()
        .any(|srm| srm.failed)
    {
        warnings.add("srm", "users are not split as planned (sample ratio mismatch, p < 0.001): find the cause before you trust any difference".to_owned());
    }
    warn_of_metrics(&mut warnings, experiment);
    warn_of_users(&mut warnings, definition, computation, crossovers);
    warn_of_plan(&mut warnings, experiment, computation);
    Health {
        srm,
        srm_with_crossovers,
        crossovers,
        forced: computation.forced_users,
        events_dropped_before: None,
        warnings: warnings.0,
    }
}

impl Health {
    /// Says that the results stay as they are, whatever else happens.
    pub(crate) fn freeze(&mut self, dropped_before: UnixMicros) {
        // No run applies a changed definition any more.
        self.warnings
            .retain(|warning| warning.code != "definition_changed");
        self.warnings.push(Warning {
            code: "events_dropped".to_owned(),
            message: format!(
                "events before {dropped_before} were dropped by retention: these results are from before that and are not computed again, later events and changes of the definition are not in them"
            ),
        });
        self.events_dropped_before = Some(dropped_before.to_rfc3339());
    }
}

struct Warnings(Vec<Warning>);

impl Warnings {
    fn add(&mut self, code: &str, message: String) {
        self.0.push(Warning {
            code: code.to_owned(),
            message,
        });
    }
}

/// Metrics that are named under a kind that takes a definition which is not there.
fn warn_of_metrics(warnings: &mut Warnings, experiment: &Experiment) {
    let is_defined = |name: &str, kind: MetricKind| {
        (experiment.defined_metric(name)).is_some_and(|own| own.kind == kind)
    };
    let undefined: Vec<String> = (experiment.definition.metrics.iter())
        .filter(|(metric, _)| {
            (metric.kind.filter(|kind| kind.needs_definition()))
                .is_some_and(|kind| !is_defined(metric.name.as_str(), kind))
        })
        .map(|(metric, _)| metric.to_string())
        .collect();
    if !undefined.is_empty() {
        warnings.add(
            "metric_not_defined",
            format!(
                "no definition has this name and this kind, so it is left out: {}; POST /v1/metrics makes one",
                undefined.join(", ")
            ),
        );
    }
}

fn warn_of_users(
    warnings: &mut Warnings,
    definition: &Definition,
    computation: &Computation,
    crossovers: u64,
) {
    let users: u64 = computation.exposures.iter().map(|row| row.user_count).sum();
    let share = crossovers as f64 / (users + crossovers).max(1) as f64;
    if share > CROSSOVER_SHARE {
        let percent = share * 100.0;
        warnings.add("crossovers", format!("{crossovers} users ({percent:.1} %) saw more than one variant: assignment is not stable"));
    }
    let is_declared = |variant: &str| {
        definition
            .variants
            .iter()
            .any(|own| own.variant.as_str() == variant)
    };
    let undeclared: Vec<&str> = (computation.exposures.iter())
        .map(|row| row.variant.as_str())
        .filter(|variant| !definition.variants.is_empty() && !is_declared(variant))
        .collect();
    if !undeclared.is_empty() {
        warnings.add(
            "undeclared_variants",
            format!(
                "events name variants that the experiment does not declare: {}",
                undeclared.join(", ")
            ),
        );
    }
    if computation.unknown_variant > 0 {
        warnings.add(
            "too_many_variants",
            format!(
                "{} users are left out: their variants exceed the limit of undeclared ones",
                computation.unknown_variant
            ),
        );
    }
    if computation.not_aggregated > 0 {
        warnings.add("too_many_event_types", format!("{} events are kept but not aggregated: their types exceed the limit of undeclared ones", computation.not_aggregated));
    }
}

fn warn_of_plan(warnings: &mut Warnings, experiment: &Experiment, computation: &Computation) {
    let Some(progress) = progress(&experiment.definition, computation) else {
        return;
    };
    if experiment.stopped_at.is_some() && progress.share < 1.0 {
        let percent = progress.share * 100.0;
        warnings.add(
            "stopped_early",
            format!(
                "it was stopped with {percent:.0} % of the {} users per variant that were planned: a difference found now is likely too large, none found says little",
                progress.sample_size_per_variant
            ),
        );
    }
}

/// Users of the declared variants, in their order.
fn declared_counts(
    definition: &Definition,
    computation: &Computation,
    with_crossovers: bool,
) -> Vec<u64> {
    let count = |variant: &str| {
        let found = computation
            .exposures
            .iter()
            .find(|row| row.variant == variant);
        found.map_or(0, |row| {
            row.user_count
                + if with_crossovers {
                    row.crossover_users
                } else {
                    0
                }
        })
    };
    definition
        .variants
        .iter()
        .map(|declared| count(declared.variant.as_str()))
        .collect()
}

fn srm(
    definition: &Definition,
    computation: &Computation,
    with_crossovers: bool,
) -> Option<SrmReport> {
    let weights: Vec<f64> = definition
        .variants
        .iter()
        .map(|declared| declared.weight)
        .collect();
    let counts = declared_counts(definition, computation, with_crossovers);
    let test = sample_ratio_mismatch(&counts, &weights).ok()?;
    Some(SrmReport {
        chi_squared: test.chi_squared,
        df: test.df,
        p_value: test.p_value,
        failed: test.p_value.is_some_and(|p_value| p_value < SRM_LEVEL),
    })
}
