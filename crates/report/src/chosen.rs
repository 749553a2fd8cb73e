//! Lists the metrics that an experiment names under each kind, and finds the one that a request
//! chooses.

use trialog_model::event::FieldError;
use trialog_model::metric::{MetricKind, MetricRef};
use trialog_model::metric_definition::NamedMetric;
use trialog_model::nearest::there_are;

use crate::Subject;

/// A metric that an experiment names, under one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedKind<'a> {
    pub(crate) named: NamedMetric<'a>,
    pub(crate) kind: MetricKind,
}

impl NamedKind<'_> {
    /// Returns whether a request chooses this metric, or none.
    pub(crate) fn is_chosen(&self, chosen: Option<&MetricRef>) -> bool {
        chosen.is_none_or(|chosen| is_metric(chosen, self.named.name, self.kind))
    }
}

/// Returns whether `chosen` is this metric under this kind.
pub(crate) fn is_metric(chosen: &MetricRef, name: &str, kind: MetricKind) -> bool {
    chosen.name.as_str() == name && chosen.kind.is_none_or(|chosen| chosen == kind)
}

/// Lists the metrics that the experiment names, each once for each kind.
pub(crate) fn named_kinds<'a>(subject: &Subject<'a>) -> Vec<NamedKind<'a>> {
    let mut all: Vec<NamedKind<'a>> = Vec::new();
    for named in subject.definition.named_metrics(subject.defined_metrics) {
        for &kind in named.kinds {
            let is_same =
                |other: &NamedKind<'_>| other.named.name == named.name && other.kind == kind;
            if !all.iter().any(is_same) {
                all.push(NamedKind { named, kind });
            }
        }
    }
    all
}

/// Checks that the experiment names the metric that a request chooses.
///
/// # Errors
///
/// It names no metric of this name, or not under this kind.
pub(crate) fn check_chosen(
    all: &[NamedKind<'_>],
    chosen: Option<&MetricRef>,
) -> Result<(), FieldError> {
    let Some(chosen) = chosen.filter(|_| !all.iter().any(|metric| metric.is_chosen(chosen))) else {
        return Ok(());
    };
    let name = chosen.name.as_str();
    let of_name = all.iter().filter(|metric| metric.named.name == name);
    let kinds: Vec<&str> = of_name.map(|metric| metric.kind.as_str()).collect();
    let reason = match kinds.is_empty() {
        true => {
            let mut names: Vec<&str> = all.iter().map(|metric| metric.named.name).collect();
            names.dedup();
            format!(
                "`{name}` is no metric that this experiment names{}",
                there_are(name, &names, false)
            )
        }
        false => format!(
            "`{chosen}` is not measured in this experiment: it measures `{name}` as {}",
            kinds.join(", ")
        ),
    };
    Err(FieldError {
        field: "metric",
        reason,
    })
}
