//! Warns about declared metrics that have no verdict, or little evidence for one.

use trialog_model::metric::MetricRole;

use crate::comparison::{self, Comparison};
use crate::{Health, MetricReport, Severity, Warning};

/// Adds the warnings about `reports` to `health`.
pub(crate) fn warn<'r>(health: &mut Health, reports: impl Iterator<Item = &'r MetricReport>) {
    let mut without_direction: Vec<&str> = Vec::new();
    for report in reports.filter(|report| report.role != MetricRole::Exploratory) {
        let name = report.metric.as_str();
        if report.direction.is_none() && !without_direction.contains(&name) {
            without_direction.push(name);
            health.warnings.push(no_direction(name));
        }
        let of_comparisons = [few_events(report), tied(report), sparse(report)];
        health.warnings.extend(of_comparisons.into_iter().flatten());
    }
    health.warnings.sort_by_key(|warning| warning.severity);
}

/// A warning about the metric called `metric`.
fn about(
    metric: &str,
    (severity, code): (Severity, &str),
    message: String,
    action: &str,
) -> Warning {
    Warning::new(severity, code, message)
        .action(action)
        .metric(metric)
}

fn no_direction(metric: &str) -> Warning {
    about(
        metric,
        (Severity::Warning, "guardrail_without_direction"),
        format!("the guardrail `{metric}` has no direction, so it has no verdict"),
        "define the metric with `\"direction\": \"decrease\"` or `\"increase\"`; --decrease or --increase of `trialog analyze`",
    )
}

fn few_events(report: &MetricReport) -> Option<Warning> {
    let is_exact = |comparison: &Comparison| comparison.test == "fisher_exact";
    let name = &report.metric;
    (report.comparisons.iter().any(is_exact)).then(|| {
        about(
            name,
            (Severity::Info, "few_events"),
            format!(
                "`{name}` ({}) has fewer than 5 converted or 5 unconverted users in an arm, too few for a reliable result",
                report.kind
            ),
            "the exact test is taken; wait for more users",
        )
    })
}

fn tied(report: &MetricReport) -> Option<Warning> {
    let is_tied =
        |comparison: &Comparison| comparison.flag_reason.as_deref() == Some(comparison::TIED);
    let name = &report.metric;
    (report.comparisons.iter().any(is_tied)).then(|| {
        about(
            name,
            (Severity::Warning, "tied_quantile"),
            format!(
                "too many users share one value about the quantile of `{name}`, so it has no verdict"
            ),
            "take another level, a sum, or `:conversion`",
        )
    })
}

fn sparse(report: &MetricReport) -> Option<Warning> {
    let sparse: Vec<&str> = (report.comparisons.iter())
        .filter(|comparison| comparison.sparse)
        .map(|comparison| comparison.treatment.as_str())
        .collect();
    let name = &report.metric;
    (!sparse.is_empty()).then(|| {
        about(
            name,
            (Severity::Warning, "sparse"),
            format!(
                "`{name}` ({}) is sparse in {}: an arm has probably missed the rare large values, so it has no verdict of this look",
                report.kind,
                sparse.join(", ")
            ),
            "wait for more users of the smaller arm, split the users more evenly, or ask for `:conversion`",
        )
    })
}
