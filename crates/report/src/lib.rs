//! Builds the results report: from published sums to tests, intervals and warnings.
//!
//! Pure. The statistics are those of `trialog_stats`; what stands here is
//! which test goes with which metric, which tests form a family, and what a
//! reader has to be warned of.

#![forbid(unsafe_code)]

mod arm;
mod breakdown;
pub mod calc;
mod choices;
mod chosen;
mod cohorts;
mod comparison;
mod context;
pub mod findings;
mod funnel;
mod health;
mod heterogeneity;
mod life;
mod measured;
mod no_verdict;
mod report;
mod sequence;
pub mod standing;
pub mod stored_funnel;
mod subject;
pub mod summary;
mod timeline;
mod warnings;

use trialog_model::event::FieldError;
use trialog_model::experiment::{Definition, VariantWeight};
use trialog_model::metric::MetricRef;
use trialog_model::nearest::there_are;
use trialog_model::published::{Computation, Published};
use trialog_model::sequence::Sequence;
use trialog_stats::Correction;

pub use arm::Arm;
pub use breakdown::{Breakdown, Segment, SegmentCell};
pub use choices::{Choices, correction};
pub use cohorts::{
    ActiveUsers, CohortMetric, CohortSums, CohortUsers, Cohorts, DayComparison, DayResults,
    DaysSinceExposure, Drift, ExposureDay, ExposureDays, FollowedMetric, FollowedVariant, Novelty,
    cohort_metrics, cohort_until, last_closed_day,
};
pub use comparison::{
    Comparison, Flag, Guardrail, Headline, NonInferiority, Power, Sequential, headline_levels,
};
pub use context::{Context, ContextKey, ContextValue};
pub use funnel::{
    AlwaysValid, Funnel, FunnelTreatment, FunnelVariant, ReachedShare, StepComparison, StepTimes,
    StepUsers, TimeComparison, funnel_times,
};
pub use health::{Health, Progress, SrmReport};
pub use heterogeneity::{
    Evidence, Heterogeneity, HeterogeneityVerdict, SegmentEffect, adjust_heterogeneity,
};
pub use life::{Decided, Paused};
pub use measured::{Measured, direction};
pub use report::{Filter, MetricReport, Report, VariantSums, VariantUsers, Winsorised};
pub use sequence::{PlannedOutcome, SequenceBreak, SequenceReport};
pub use subject::Subject;
pub use timeline::{
    MetricTimeline, PastRows, PointComparison, PointVariant, StabilityReport, Timeline,
    TimelineLine, TimelineLook, TimelineLooks, TimelinePoint, timeline_metrics,
};
pub use warnings::{Severity, Warning};

use comparison::{Looks, Terms};
use health::Checked;
use measured::measured;
use standing::Standing;

/// Builds the report of `subject` from the sums in `published`, if there are any.
///
/// `current` is the fingerprint of its definition as it is now, `sequence` the looks up to
/// `published`.
///
/// # Errors
///
/// A choice that the experiment does not have.
pub fn build(
    subject: &Subject<'_>,
    published: Option<&Published>,
    current: &str,
    sequence: &Sequence,
    filter: Option<Filter>,
    choices: &Choices,
) -> Result<Report, FieldError> {
    let empty = Computation::empty(subject.definition.experiment_id.clone());
    let computation = published.map_or(&empty, |published| &published.computation);
    let control = control(subject.definition, computation, choices)?;
    let measured = measured(subject, computation, control.as_deref(), choices);
    let standing = Standing::from_sequence(sequence).filter(|_| filter.is_none());
    let mut health = health::health(&Checked {
        subject: *subject,
        computation,
        measured: &measured,
        srm: standing.as_ref().and_then(|standing| standing.srm),
        is_published: published.is_some(),
        is_filtered: filter.is_some(),
        counts_events: published.is_some() && filter.is_none(),
        current,
    });
    sequence::warn(&mut health.warnings, &sequence.breaks);
    let looks = Looks {
        subject: *subject,
        standing: standing.as_ref(),
        is_as_planned: is_as_planned(subject.definition, choices),
        is_unconfirmed: sequence::is_unconfirmed(sequence),
    };
    let shown = (filter.is_none() && published.is_some())
        .then(|| sequence::report(subject.definition, sequence, standing.as_ref()));
    Ok(Report {
        sequence: shown,
        computed_at: published.map(|published| published.computed_at.to_rfc3339()),
        position: published.map(|published| published.mark.position),
        data_time: published.map(|published| published.mark.data_time.to_rfc3339()),
        filter,
        ..assemble(subject, computation, health, measured, Some(looks), choices)?
    })
}

/// Builds the report of metrics that were measured without a pipeline: `computation` has the
/// users, `measured` every metric.
///
/// # Errors
///
/// A choice that the experiment does not have.
pub fn from_measured(
    subject: &Subject<'_>,
    computation: &Computation,
    measured: Vec<Measured>,
    choices: &Choices,
) -> Result<Report, FieldError> {
    let health = health::health(&Checked {
        subject: *subject,
        computation,
        measured: &measured,
        srm: None,
        is_published: true,
        is_filtered: false,
        counts_events: false,
        current: &computation.fingerprint,
    });
    assemble(subject, computation, health, measured, None, choices)
}

/// Returns whether a request asks for the control, level and correction of the planned look.
fn is_as_planned(definition: &Definition, choices: &Choices) -> bool {
    let same_control =
        (choices.control.as_ref()).is_none_or(|variant| Some(variant) == definition.control());
    let same_alpha =
        (choices.alpha).is_none_or(|alpha| alpha.get().total_cmp(&definition.alpha).is_eq());
    same_control && same_alpha && choices.correction == Some(Correction::Holm)
}

/// `looks` are the earlier ones, none where the data are whole and looked at once.
fn assemble(
    subject: &Subject<'_>,
    computation: &Computation,
    mut health: Health,
    measured: Vec<Measured>,
    looks: Option<Looks<'_>>,
    choices: &Choices,
) -> Result<Report, FieldError> {
    let definition = subject.definition;
    let control = control(definition, computation, choices)?;
    let terms = Terms::from_definition(definition, control.as_deref(), choices, looks);
    no_verdict::warn(&mut health, &measured, terms.control);
    let report = |measured: Measured| (metric_report(&measured, &terms), measured);
    let mut reports: Vec<_> = measured.into_iter().map(report).collect();
    // Only variants that users can be assigned are tested for sure; others that have a
    // comparison are counted where they have it.
    let with_weight = |variant: &&VariantWeight| variant.weight > 0.0;
    let n_treatments = (definition.variants.iter().filter(with_weight).count()).saturating_sub(1);
    comparison::note_power(&mut reports, n_treatments, choices.correction, &terms);
    comparison::adjust_families(&mut reports, n_treatments, choices.correction, &terms);
    if let Some(metric) = &choices.metric
        && !reports.iter().any(|(report, _)| choices.include(report))
    {
        return Err(no_metric(metric, &reports));
    }
    let metrics: Vec<MetricReport> = (reports.into_iter())
        .map(|(report, _)| report)
        .filter(|report| choices.include(report))
        .collect();
    Ok(Report {
        experiment_id: definition.experiment_id.to_string(),
        status: subject.status,
        decision: subject.decision.map(Decided::from_decision),
        pauses: subject.pauses.iter().map(Paused::from_pause).collect(),
        computed_at: None,
        position: None,
        data_time: None,
        filter: None,
        alpha: terms.alpha.get(),
        correction: choices::correction_name(choices.correction).to_owned(),
        variants: variants(definition, computation),
        health,
        plan: health::progress(definition, computation),
        sequence: None,
        control: terms.control.map(str::to_owned),
        metrics,
    })
}

/// Builds the error for `metric`, which is not in `reports`.
fn no_metric(metric: &MetricRef, reports: &[(MetricReport, Measured)]) -> FieldError {
    let name = metric.name.as_str();
    let mut known: Vec<&str> = Vec::new();
    for (report, _) in reports {
        if !known.contains(&report.metric.as_str()) {
            known.push(&report.metric);
        }
    }
    let kinds = reports.iter().filter(|(report, _)| report.metric == name);
    let reason = match known.contains(&name) {
        true => {
            let kinds: Vec<&str> = kinds.map(|(report, _)| report.kind.as_str()).collect();
            format!(
                "`{metric}` is not measured in this experiment: it measures `{name}` as {}",
                kinds.join(", ")
            )
        }
        false => format!(
            "`{metric}` does not occur in this experiment{}",
            there_are(name, &known, false)
        ),
    };
    FieldError {
        field: "metric",
        reason,
    }
}

fn metric_report(measured: &Measured, terms: &Terms<'_>) -> MetricReport {
    MetricReport {
        metric: measured.metric.clone(),
        kind: measured.kind,
        role: measured.role,
        direction: measured.direction,
        event_type: measured.event_type.clone(),
        window: measured.window,
        description: measured.description.clone(),
        variants: measured.arms.iter().map(|arm| arm.sums.clone()).collect(),
        comparisons: comparison::compare_all(measured, terms),
    }
}

/// The variants in their declared order, then the others.
fn variants(definition: &Definition, computation: &Computation) -> Vec<VariantUsers> {
    let users = |variant: &str| {
        let found = computation
            .exposures
            .iter()
            .find(|row| row.variant == variant);
        found.map_or(0, |row| row.user_count)
    };
    let declared = definition.variants.iter().map(|declared| VariantUsers {
        variant: declared.variant.to_string(),
        users: users(declared.variant.as_str()),
        weight: Some(declared.weight),
    });
    let is_declared = |variant: &str| {
        (definition.variants.iter()).any(|declared| declared.variant.as_str() == variant)
    };
    let others = (computation.exposures.iter())
        .filter(|row| !is_declared(&row.variant))
        .map(|row| VariantUsers {
            variant: row.variant.clone(),
            users: row.user_count,
            weight: None,
        });
    declared.chain(others).collect()
}

/// Chooses the control: the requested variant, else the declared one, else `control`, else the
/// first.
fn control(
    definition: &Definition,
    computation: &Computation,
    choices: &Choices,
) -> Result<Option<String>, FieldError> {
    let known = variants(definition, computation);
    if let Some(wanted) = &choices.control {
        return match known.iter().find(|users| users.variant == wanted.as_str()) {
            Some(users) => Ok(Some(users.variant.clone())),
            None => Err(FieldError {
                field: "control",
                reason: {
                    let variants: Vec<&str> =
                        known.iter().map(|known| known.variant.as_str()).collect();
                    let there_are = there_are(wanted.as_str(), &variants, false);
                    format!("`{wanted}` is no variant of this experiment{there_are}")
                },
            }),
        };
    }
    let declared = definition.control().map(ToString::to_string);
    let named = || {
        known
            .iter()
            .find(|users| users.variant == "control")
            .map(|users| users.variant.clone())
    };
    Ok(declared
        .or_else(named)
        .or_else(|| known.first().map(|users| users.variant.clone())))
}
