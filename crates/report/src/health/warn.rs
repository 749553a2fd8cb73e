//! Warns about a computation, the arrival of events, and the plan.

use trialog_model::metric::MetricKind;
use trialog_model::published::Computation;
use trialog_stats::Sample;

use super::{Checked, progress};
use crate::arm::Arm;
use crate::findings::{self, Finding};
use crate::warnings::{self, Severity, Warning};
use crate::{Measured, Subject};

/// Warns if there are no results, or if the results are older than the definition.
pub(super) fn warn_of_computation(warnings: &mut Vec<Warning>, checked: &Checked<'_>) {
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

/// Warns about problems in how the application sends users and events.
pub(super) fn warn_of_findings(warnings: &mut Vec<Warning>, checked: &Checked<'_>) {
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

/// Returns each arm whose covariate differs from the control's.
fn imbalances(measured: &Measured) -> Vec<Finding> {
    let covariate = |arm: &Arm| match arm.sample {
        Some(Sample::Adjusted(adjusted)) => Some(*adjusted.covariate()),
        _ => None,
    };
    let is_control = |arm: &&Arm| Some(&arm.sums.variant) == measured.control.as_ref();
    let control = measured.arms.iter().find(is_control);
    let Some((control, of_control)) = control.and_then(|arm| Some((arm, covariate(arm)?))) else {
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

/// Warns about metrics that are named under a kind that needs a definition and have none.
pub(super) fn warn_of_metrics(warnings: &mut Vec<Warning>, subject: &Subject<'_>) {
    let is_defined = |name: &str, kind: MetricKind| {
        (subject.defined_metric(name)).is_some_and(|defined| defined.kind == kind)
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

/// Warns if the experiment was stopped before it had its planned users.
pub(super) fn warn_of_plan(
    warnings: &mut Vec<Warning>,
    subject: &Subject<'_>,
    computation: &Computation,
) {
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
