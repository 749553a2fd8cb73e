//! Checks whether an experiment's numbers can be trusted: sample ratio, crossovers, plan.

mod users;
mod warn;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::experiment::{Definition, Status, VariantWeight};
use trialog_model::published::{Computation, EventCounts, VariantMetric};
use trialog_model::time::UnixMicros;
use trialog_stats::sample_ratio_mismatch;

use super::life::warn_of_pauses;
use super::warnings::{Severity, Warning};
use super::{Measured, Subject};

/// Below this p-value the chi-squared check of the sample ratio fails: low, since people look
/// often.
const SRM_LEVEL: f64 = 0.001;
/// The level of the sequential check: it fails below this p-value, at any look.
const SEQUENTIAL_SRM_LEVEL: f64 = 0.01;

/// Whether the numbers can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The sample ratio check of users who saw one variant; null where nothing could be
    /// checked.
    pub srm: Option<SrmReport>,
    /// Why there is no sample ratio check; null where there is one.
    #[serde(default)]
    pub srm_reason: Option<String>,
    /// The same check with crossovers counted at their first variant.
    pub srm_with_crossovers: Option<SrmReport>,
    /// Users who saw two or more variants; they count in no metric.
    pub crossovers: u64,
    /// Users with a forced assignment; they count in no metric.
    pub forced: u64,
    /// The time before which retention dropped the events, RFC 3339: the results are from
    /// before that and are not computed again. Null where all events are kept.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub events_dropped_before: Option<String>,
    /// What became of the events of each type; null where that was not counted: for users that
    /// a filter chose, and before the first run.
    #[serde(default)]
    pub events: Option<Vec<EventCounts>>,
    /// Warnings to the reader, the most severe first.
    pub warnings: Vec<Warning>,
}

/// A test of users by variant against the planned weights: the sequential one at every look
/// while the experiment runs, else chi-squared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SampleRatioCheck")]
pub struct SrmReport {
    /// The chi-squared statistic; null where it cannot be computed.
    pub chi_squared: Option<f64>,
    /// The degrees of freedom: variants minus one.
    pub df: usize,
    /// The upper tail of the chi-squared statistic; null where it cannot be computed.
    #[schemars(range(min = 0, max = 1))]
    pub p_value: Option<f64>,
    /// The test that decides: `sequential` while looks are taken, else `chi_squared`.
    #[serde(default)]
    #[schemars(extend("enum" = ["sequential", "chi_squared"]))]
    pub test: String,
    /// The smallest p-value of the sequential test at every look, with users of several
    /// variants counted at their first one; null where no looks are taken.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub sequential_p_value: Option<f64>,
    /// Whether the users are not split as planned: the p-value of the sequential test is
    /// below 0.01, or that of chi-squared below 0.001.
    pub failed: bool,
}

/// The progress of an experiment towards its planned sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// The planned users of each variant.
    pub sample_size_per_variant: u64,
    /// The users of the smallest variant, divided by the planned ones.
    pub share: f64,
    /// The absolute difference that the plan can detect with its power; null where the plan
    /// names none.
    pub mde: Option<f64>,
    /// The planned power; null where the plan names none.
    #[schemars(range(min = 0, max = 1))]
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

/// The inputs of the health check of an experiment.
pub(super) struct Checked<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) computation: &'a Computation,
    pub(super) measured: &'a [Measured],
    /// The smallest p-value of the sample ratio at every look, where looks are taken.
    pub(super) srm: Option<f64>,
    /// Whether anything was published.
    pub(super) is_published: bool,
    /// Whether a filter chose the users, so that the counts do not describe how events arrive.
    pub(super) is_filtered: bool,
    /// Whether the run counted how the events were used.
    pub(super) counts_events: bool,
    /// The fingerprint of the current definition.
    pub(super) current: &'a str,
}

pub(super) fn health(checked: &Checked<'_>) -> Health {
    let Checked {
        subject,
        computation,
        ..
    } = checked;
    let definition = subject.definition;
    // What is stopped is looked at once more and then no longer.
    let at_looks = (checked.srm)
        .filter(|_| subject.status != Status::Stopped && subject.status != Status::Archived);
    let srm = self::srm(definition, computation, false).map(|check| check.at_looks(at_looks));
    let srm_with_crossovers = self::srm(definition, computation, true)
        .ok()
        .map(|check| check.at_looks(at_looks));
    let crossovers = computation
        .exposures
        .iter()
        .map(|row| row.crossover_users)
        .sum();
    let mut warnings = Vec::new();
    warn::warn_of_computation(&mut warnings, checked);
    if [srm.as_ref().ok(), srm_with_crossovers.as_ref()]
        .into_iter()
        .flatten()
        .any(|srm| srm.failed)
    {
        let message = match at_looks {
            Some(_) => {
                "users are not split as planned (sample ratio mismatch, p < 0.01 at every look together)"
            }
            None => "users are not split as planned (sample ratio mismatch, p < 0.001)",
        };
        warnings.push(
            Warning::new(Severity::Error, "srm", message)
                .action("find the cause before you trust any difference"),
        );
    }
    warn::warn_of_findings(&mut warnings, checked);
    warn::warn_of_metrics(&mut warnings, subject);
    users::warn(&mut warnings, definition, computation, crossovers);
    warn::warn_of_plan(&mut warnings, subject, computation);
    warn_of_pauses(&mut warnings, subject);
    warnings.sort_by_key(|warning| warning.severity);
    Health {
        srm_reason: srm.as_ref().err().map(|reason| (*reason).to_owned()),
        srm: srm.ok(),
        srm_with_crossovers,
        crossovers,
        forced: computation.forced_users,
        events_dropped_before: None,
        events: events(checked),
        warnings,
    }
}

impl SrmReport {
    /// Decided by the sequential test, where looks are taken.
    fn at_looks(self, p_value: Option<f64>) -> Self {
        let Some(p_value) = p_value else {
            return self;
        };
        Self {
            test: "sequential".to_owned(),
            sequential_p_value: Some(p_value),
            failed: p_value < SEQUENTIAL_SRM_LEVEL,
            ..self
        }
    }
}

impl Health {
    /// Marks the results as final: later runs do not change them.
    pub fn freeze(&mut self, dropped_before: UnixMicros) {
        // No run applies a changed definition any more.
        self.warnings
            .retain(|warning| warning.code != "definition_changed");
        let message = format!(
            "events before {dropped_before} were dropped by retention: these results are from before that and are not computed again, later events and changes of the definition are not in them"
        );
        let warning = Warning::new(Severity::Warning, "events_dropped", message);
        self.warnings.push(warning);
        self.warnings.sort_by_key(|warning| warning.severity);
        self.events_dropped_before = Some(dropped_before.to_rfc3339());
    }
}

/// The counts of events, where they were counted.
fn events(checked: &Checked<'_>) -> Option<Vec<EventCounts>> {
    let arrivals = &checked.computation.arrivals;
    // Rows from before events were counted have events and no counts.
    let has_events = |row: &VariantMetric| row.event_count > 0;
    let is_older = arrivals.is_empty() && checked.computation.metrics.iter().any(has_events);
    (checked.counts_events && !is_older).then(|| arrivals.clone())
}

/// Returns the variants that users can be assigned. Those of weight 0 have no expected users.
pub(super) fn assigned(definition: &Definition) -> impl Iterator<Item = &VariantWeight> {
    definition
        .variants
        .iter()
        .filter(|variant| variant.weight > 0.0)
}

/// Counts the users of the declared variants with a weight, in their order.
pub(super) fn declared_counts(
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
    assigned(definition)
        .map(|declared| count(declared.variant.as_str()))
        .collect()
}

/// Runs the sample ratio check, or returns the reason why it cannot run: a check that did not run
/// did not pass.
fn srm(
    definition: &Definition,
    computation: &Computation,
    with_crossovers: bool,
) -> Result<SrmReport, &'static str> {
    if definition.variants.is_empty() {
        return Err("nobody declared the variants and their weights");
    }
    let weights: Vec<f64> = assigned(definition).map(|variant| variant.weight).collect();
    let counts = declared_counts(definition, computation, with_crossovers);
    if counts.iter().all(|count| *count == 0) {
        return Err(
            match computation.exposures.iter().any(|row| row.user_count > 0) {
                true => "nobody saw a variant that is declared",
                false => "no user is exposed yet",
            },
        );
    }
    let test = sample_ratio_mismatch(&counts, &weights)
        .map_err(|_| "it takes two variants with a weight above 0")?;
    Ok(SrmReport {
        chi_squared: test.chi_squared,
        df: test.df,
        p_value: test.p_value,
        test: "chi_squared".to_owned(),
        sequential_p_value: None,
        failed: test.p_value.is_some_and(|p_value| p_value < SRM_LEVEL),
    })
}
