//! Whether an experiment's numbers can be trusted: sample ratio, crossovers, plan.

use serde::{Deserialize, Serialize};
use trialog_model::experiment::{Definition, Status, VariantWeight};
use trialog_model::metric::MetricKind;
use trialog_model::published::{Computation, EventCounts, VariantExposures, VariantMetric};
use trialog_model::time::UnixMicros;
use trialog_stats::{Sample, sample_ratio_mismatch};

use super::findings::{self, Finding};
use super::life::warn_of_pauses;
use super::measured::Arm;
use super::warnings::{self, Severity, Warning};
use super::{Measured, Subject};

/// Below this p-value the chi-squared check of the sample ratio fails: low, since people look
/// often.
const SRM_LEVEL: f64 = 0.001;
/// Below this one the sequential check does, at whatever look.
const SEQUENTIAL_SRM_LEVEL: f64 = 0.01;
/// Above this share of crossovers a reader is warned.
const CROSSOVER_SHARE: f64 = 0.01;

/// Whether the numbers can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The sample ratio check of users with one variant; null where nothing could be checked.
    pub srm: Option<SrmReport>,
    /// Why there is no sample ratio check; null where there is one.
    #[serde(default)]
    pub srm_reason: Option<String>,
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
    /// What became of the events of each type; null where it was not counted: for users that
    /// a filter chose, and before the first run.
    #[serde(default)]
    pub events: Option<Vec<EventCounts>>,
    /// What a reader has to know, the most severe first.
    pub warnings: Vec<Warning>,
}

/// A test of users by variant against the planned weights: the sequential one at every look
/// while the experiment runs, else chi-squared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SrmReport {
    /// The statistic.
    pub chi_squared: Option<f64>,
    /// Variants minus one.
    pub df: usize,
    /// Its upper tail.
    pub p_value: Option<f64>,
    /// `sequential` or `chi_squared`: which of them decides.
    #[serde(default)]
    pub test: String,
    /// The smallest p-value of the sequential test at every look, users of several variants
    /// counted at their first one; null where no looks are taken.
    #[serde(default)]
    pub sequential_p_value: Option<f64>,
    /// Whether the users are not split as planned: p of the sequential test below 0.01, or
    /// that of chi-squared below 0.001.
    pub failed: bool,
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

/// What the health of an experiment is made of.
pub(super) struct Checked<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) computation: &'a Computation,
    pub(super) measured: &'a [Measured],
    /// The smallest p-value of the sample ratio at every look, where looks are taken.
    pub(super) srm: Option<f64>,
    /// Whether anything was published.
    pub(super) is_published: bool,
    /// Whether the users were chosen by a filter, so that nothing tells how events arrive.
    pub(super) is_filtered: bool,
    /// Whether what became of events was counted.
    pub(super) counts_events: bool,
    /// The fingerprint of the definition as it is now.
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
    let srm = self::srm(definition, computation, false).map(|own| own.at_looks(at_looks));
    let srm_with_crossovers = self::srm(definition, computation, true)
        .ok()
        .map(|own| own.at_looks(at_looks));
    let crossovers = computation
        .exposures
        .iter()
        .map(|row| row.crossover_users)
        .sum();
    let mut warnings = Vec::new();
    warn_of_computation(&mut warnings, checked);
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
    warn_of_findings(&mut warnings, checked);
    warn_of_metrics(&mut warnings, subject);
    warn_of_users(&mut warnings, definition, computation, crossovers);
    warn_of_plan(&mut warnings, subject, computation);
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
    /// Says that the results stay as they are, whatever else happens.
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

fn warn_of_computation(warnings: &mut Vec<Warning>, checked: &Checked<'_>) {
    if !checked.is_published {
        warnings.push(
            Warning::new(
                Severity::Info,
                "no_results",
                "no results were published by then",
            )
            .action("POST /v1/pipeline/run, or `trialog aggregate`, runs now"),
        );
    } else if checked.computation.fingerprint != checked.current {
        let message = "the definition changed since these results were computed";
        warnings.push(
            Warning::new(Severity::Info, "definition_changed", message)
                .action("the next run applies it"),
        );
    }
    if let Some(failure) = checked.subject.failure {
        let message = format!(
            "the last run could not compute this experiment, these results are older: {failure}"
        );
        let code = "computation_failed";
        warnings.push(Warning::new(Severity::Error, code, message));
    }
}

/// What looks wrong in how the application sends users and events.
fn warn_of_findings(warnings: &mut Vec<Warning>, checked: &Checked<'_>) {
    let (subject, computation) = (&checked.subject, checked.computation);
    let mut findings = Vec::new();
    if !checked.is_filtered {
        findings.extend(findings::of_arrivals(subject, computation));
        let one_arm = findings::one_arm(subject.definition, computation);
        findings.extend(one_arm.map(Finding::OneArm));
        findings.extend(findings::never_came(subject, computation));
    }
    findings.extend(findings::undeclared(subject.definition, computation));
    for measured in checked.measured {
        findings.extend(imbalances(measured));
        if measured.arms.iter().any(is_capped_to_zero) {
            let metric = measured.metric.clone();
            findings.push(Finding::CapOfZero { metric });
        }
    }
    warnings.extend(findings.iter().map(warnings::of_finding));
}

/// Each arm whose covariate differs from the control's.
fn imbalances(measured: &Measured) -> Vec<Finding> {
    let covariate = |arm: &Arm| match arm.sample {
        Some(Sample::Adjusted(adjusted)) => Some(*adjusted.covariate()),
        _ => None,
    };
    let is_control = |arm: &&Arm| Some(&arm.sums.variant) == measured.control.as_ref();
    let control = measured.arms.iter().find(is_control);
    let Some((control, of_control)) = control.and_then(|own| Some((own, covariate(own)?))) else {
        return Vec::new();
    };
    let others = measured.arms.iter().filter(|arm| !is_control(arm));
    let found = others.filter_map(|arm| {
        findings::imbalance(
            &measured.metric,
            (&control.sums.variant, &of_control),
            (&arm.sums.variant, &covariate(arm)?),
        )
    });
    found.map(Finding::CovariateImbalance).collect()
}

/// Whether winsorising set users above 0 to 0. Sums are those before it where they were
/// published, and those after it where a file was read.
fn is_capped_to_zero(arm: &Arm) -> bool {
    let Some(capped) = &arm.sums.winsorised else {
        return false;
    };
    let is_zero = |text: &str| text.parse::<f64>() == Ok(0.0);
    capped.upper.as_deref().is_some_and(is_zero) && (capped.users > 0 || !is_zero(&arm.sums.total))
}

/// Metrics that are named under a kind that takes a definition which is not there.
fn warn_of_metrics(warnings: &mut Vec<Warning>, subject: &Subject<'_>) {
    let is_defined = |name: &str, kind: MetricKind| {
        (subject.defined_metric(name)).is_some_and(|own| own.kind == kind)
    };
    let undefined: Vec<String> = (subject.definition.metrics.iter())
        .filter(|(metric, _)| {
            (metric.kind.filter(|kind| kind.needs_definition()))
                .is_some_and(|kind| !is_defined(metric.name.as_str(), kind))
        })
        .map(|(metric, _)| metric.to_string())
        .collect();
    if !undefined.is_empty() {
        let message = format!(
            "no definition has this name and this kind, so it is left out: {}",
            undefined.join(", ")
        );
        let code = "metric_not_defined";
        warnings.push(
            Warning::new(Severity::Warning, code, message).action("POST /v1/metrics makes one"),
        );
    }
}

/// The odds of any two users with one hash from which on they are warned of.
const HASH_ODDS: f64 = 0.01;

/// Whether so many users, if their ids are texts, may well have two with the same 64-bit
/// hash: by the birthday estimate, n^2 / 2^65.
fn shared_hashes(users: u64) -> Option<Warning> {
    let odds = (users as f64).powi(2) / 2f64.powi(65);
    (odds > HASH_ODDS).then(|| {
        let percent = odds.min(1.0) * 100.0;
        let message = format!(
            "{users} users: if their ids are texts, two of them share a 64-bit hash, and so are one user, with odds of about {percent:.1} %"
        );
        Warning::new(Severity::Info, "shared_user_hashes", message)
            .action("`trialog verify` counts users with two texts; integers as ids never share a number")
            .number("users", users as f64)
            .number("odds", odds.min(1.0))
    })
}

fn warn_of_users(
    warnings: &mut Vec<Warning>,
    definition: &Definition,
    computation: &Computation,
    crossovers: u64,
) {
    let users: u64 = computation.exposures.iter().map(|row| row.user_count).sum();
    let share = crossovers as f64 / (users + crossovers).max(1) as f64;
    if share > CROSSOVER_SHARE {
        let percent = share * 100.0;
        let message = format!("{crossovers} users ({percent:.1} %) saw more than one variant");
        warnings.push(
            Warning::new(Severity::Warning, "crossovers", message)
                .action("assignment is not stable; assign by an id that stays with the user")
                .number("users", crossovers as f64)
                .number("share", share),
        );
    }
    warnings.extend(shared_hashes(users));
    let weightless = definition.variants.iter().filter(|own| own.weight == 0.0);
    for own in weightless {
        let is_own = |row: &&VariantExposures| row.variant == own.variant.as_str();
        let users = (computation.exposures.iter().find(is_own)).map_or(0, |row| row.user_count);
        if users > 0 {
            let message = format!(
                "{users} users saw `{}`, whose weight is 0, so that nobody is assigned it",
                own.variant
            );
            warnings.push(
                Warning::new(Severity::Error, "exposed_at_weight_0", message)
                    .action("the application decides by other rules than this experiment; mark exposures that a person chose as forced")
                    .number("users", users as f64),
            );
        }
    }
    if users == 0 && computation.forced_users > 0 {
        let message = format!(
            "all {} users were forced into their variant, so none counts",
            computation.forced_users
        );
        warnings.push(
            Warning::new(Severity::Error, "all_forced", message)
                .action("mark only those exposures as forced that a tester chose")
                .number("users", computation.forced_users as f64),
        );
    }
    if computation.unknown_variant > 0 {
        let message = format!(
            "{} users are left out: their variants exceed the limit of undeclared ones",
            computation.unknown_variant
        );
        warnings.push(
            Warning::new(Severity::Warning, "too_many_variants", message)
                .action("check what the application sends as the variant")
                .number("users", computation.unknown_variant as f64),
        );
    }
    if computation.not_aggregated > 0 {
        let message = format!(
            "{} events are kept but not aggregated: their types exceed the limit of undeclared ones",
            computation.not_aggregated
        );
        warnings.push(
            Warning::new(Severity::Warning, "too_many_event_types", message)
                .action("name the metrics that matter in the experiment")
                .number("events", computation.not_aggregated as f64),
        );
    }
}

fn warn_of_plan(warnings: &mut Vec<Warning>, subject: &Subject<'_>, computation: &Computation) {
    let Some(progress) = progress(subject.definition, computation) else {
        return;
    };
    if subject.stopped_at.is_some() && progress.share < 1.0 {
        let percent = progress.share * 100.0;
        let message = format!(
            "it was stopped with {percent:.0} % of the {} users per variant that were planned: a difference found now is likely too large, none found says little",
            progress.sample_size_per_variant
        );
        let warning = Warning::new(Severity::Warning, "stopped_early", message);
        warnings.push(warning.number("share", progress.share));
    }
}

/// The variants that somebody can be assigned: those of weight 0 have no users to expect.
pub(super) fn assigned(definition: &Definition) -> impl Iterator<Item = &VariantWeight> {
    definition.variants.iter().filter(|own| own.weight > 0.0)
}

/// Users of the declared variants with a weight, in their order.
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

/// The check, or why there is none: what was not measured did not pass.
fn srm(
    definition: &Definition,
    computation: &Computation,
    with_crossovers: bool,
) -> Result<SrmReport, &'static str> {
    if definition.variants.is_empty() {
        return Err("nobody declared the variants and their weights");
    }
    let weights: Vec<f64> = assigned(definition).map(|own| own.weight).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_users_that_hashes_may_be_shared_are_told_of() {
        assert!(shared_hashes(600_000_000).is_none());
        let warning = shared_hashes(1_000_000_000).unwrap();
        let said = warning.text();
        assert!(said.contains("odds of about 2.7 %"), "{said}");
        assert!(
            shared_hashes(u64::MAX)
                .unwrap()
                .text()
                .contains("about 100.0 %")
        );
    }
}
