//! Warns about declared metrics that have no verdict, or little evidence for one.

use trialog_model::metric::MetricRole;

use crate::comparison::{self, Doubts};
use crate::{Health, Measured, Severity, Warning};

/// Adds the warnings about the metrics in `measured` to `health`. `control` is the variant that the
/// others are compared with.
pub(crate) fn warn(health: &mut Health, measured: &[Measured], control: Option<&str>) {
    let mut without_direction: Vec<&str> = Vec::new();
    let is_declared = |metric: &&Measured| metric.role != MetricRole::Exploratory;
    for metric in measured.iter().filter(is_declared) {
        let name = metric.metric.as_str();
        if metric.direction.is_none() && !without_direction.contains(&name) {
            without_direction.push(name);
            health.warnings.push(no_direction(name));
        }
        let doubts = comparison::doubts(metric, control);
        let warnings = [
            few_events(metric, &doubts),
            tied(metric, &doubts),
            sparse(metric, &doubts),
        ];
        health.warnings.extend(warnings.into_iter().flatten());
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

fn few_events(metric: &Measured, doubts: &[Doubts<'_>]) -> Option<Warning> {
    let (name, kind) = (&metric.metric, metric.kind);
    (doubts.iter().any(|doubt| doubt.is_exact)).then(|| {
        about(
            name,
            (Severity::Info, "few_events"),
            format!(
                "`{name}` ({kind}) has fewer than 5 converted or 5 unconverted users in an arm, too few for a reliable result"
            ),
            "the exact test is taken; wait for more users",
        )
    })
}

fn tied(metric: &Measured, doubts: &[Doubts<'_>]) -> Option<Warning> {
    let name = &metric.metric;
    (doubts.iter().any(|doubt| doubt.is_tied)).then(|| {
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

fn sparse(metric: &Measured, doubts: &[Doubts<'_>]) -> Option<Warning> {
    let sparse: Vec<&str> = (doubts.iter())
        .filter(|doubt| doubt.is_sparse)
        .map(|doubt| doubt.treatment)
        .collect();
    let (name, kind) = (&metric.metric, metric.kind);
    (!sparse.is_empty()).then(|| {
        about(
            name,
            (Severity::Warning, "sparse"),
            format!(
                "`{name}` ({kind}) is sparse in {}: an arm has probably missed the rare large values, so it has no verdict of this look",
                sparse.join(", ")
            ),
            "wait for more users of the smaller arm, split the users more evenly, or ask for `:conversion`",
        )
    })
}
