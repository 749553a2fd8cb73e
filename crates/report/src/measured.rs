//! Collects each metric under each of its kinds, as measured in every variant.

use trialog_model::duration::Window;
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::metric_definition::{Direction, MetricDefinition};
use trialog_model::published::Computation;

use crate::arm::Arm;
use crate::{Choices, Subject, variants};

/// A metric under one kind, as measured in every variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The name of the metric.
    pub metric: String,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// The role of the metric in the experiment.
    pub role: MetricRole,
    /// Which way is good; none for a guardrail that declares no direction.
    pub direction: Option<Direction>,
    /// The type of the events that the metric is made of.
    pub event_type: String,
    /// How long after exposure an event counts.
    pub window: Window,
    /// The description in the metric's definition.
    pub description: Option<String>,
    /// How much worse a guardrail may be, as a fraction of the control's value.
    pub margin: Option<f64>,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// The metric in each variant.
    pub arms: Vec<Arm>,
}

/// Measures every metric under each of its kinds in every variant.
pub(crate) fn measured(
    subject: &Subject<'_>,
    computation: &Computation,
    control: Option<&str>,
    choices: &Choices,
) -> Vec<Measured> {
    let order: Vec<String> = variants(subject.definition, computation)
        .into_iter()
        .map(|users| users.variant)
        .collect();
    let measured = |analysis: Analysis<'_>| {
        let row = |variant: &String| {
            (computation.metrics.iter())
                .find(|row| row.metric_name == analysis.metric && row.variant == *variant)
        };
        let definition = analysis.definition;
        let rows = order.iter().filter_map(row);
        Measured {
            arms: rows
                .map(|row| Arm::from_row(analysis.kind, row, definition))
                .collect(),
            metric: analysis.metric.to_owned(),
            kind: analysis.kind,
            role: analysis.role,
            direction: direction(
                analysis.role,
                definition.and_then(|metric| metric.direction),
            ),
            event_type: analysis.event_type.to_owned(),
            window: analysis.window,
            description: definition.and_then(|metric| metric.description.clone()),
            margin: definition.and_then(|metric| metric.margin),
            control: control.map(str::to_owned),
        }
    };
    let analyses = analyses(subject, computation, choices);
    analyses.into_iter().map(measured).collect()
}

/// Returns the direction of a metric with `role`. A guardrail has none unless its definition
/// declares one, because a guardrail that guards the wrong way is worse than none. For other
/// metrics, more is good by default.
pub fn direction(role: MetricRole, declared: Option<Direction>) -> Option<Direction> {
    match role {
        MetricRole::Guardrail => declared,
        _ => Some(declared.unwrap_or_default()),
    }
}

/// A metric under one kind, before its numbers.
#[derive(Debug, Clone, Copy)]
struct Analysis<'a> {
    metric: &'a str,
    kind: MetricKind,
    role: MetricRole,
    event_type: &'a str,
    window: Window,
    definition: Option<&'a MetricDefinition>,
}

/// Lists the metrics that the experiment names, in that order, then the other event types
/// that came in. A kind that a request wants beside those is exploratory, so that no p-value
/// depends on the request.
fn analyses<'a>(
    subject: &Subject<'a>,
    computation: &'a Computation,
    choices: &Choices,
) -> Vec<Analysis<'a>> {
    let definition = subject.definition;
    let mut analyses: Vec<Analysis<'a>> = Vec::new();
    let mut add = |new: Analysis<'a>| {
        let is_same =
            |analysis: &Analysis<'_>| analysis.metric == new.metric && analysis.kind == new.kind;
        if !analyses.iter().any(is_same) {
            analyses.push(new);
        }
    };
    for named in definition.named_metrics(subject.defined_metrics) {
        for &kind in named.kinds {
            add(Analysis {
                metric: named.name,
                kind,
                role: named.role,
                event_type: named.event_type,
                window: named.window,
                definition: named.definition,
            });
        }
    }
    let exploratory = |metric: &'a str, kind| {
        let definition = subject.defined_metric(metric);
        Analysis {
            metric,
            kind,
            role: MetricRole::Exploratory,
            event_type: definition.map_or(metric, |defined| defined.event_type.as_str()),
            window: (definition.and_then(MetricDefinition::declared_window))
                .unwrap_or(subject.definition.attribution_window),
            definition,
        }
    };
    let is_named =
        |metric: &str| (definition.metrics.iter()).any(|(named, _)| named.name.as_str() == metric);
    for row in &computation.metrics {
        if !is_named(&row.metric_name) {
            add(exploratory(&row.metric_name, MetricKind::Conversion));
            add(exploratory(&row.metric_name, MetricKind::Sum));
        }
        let definition = subject.defined_metric(&row.metric_name);
        let has = |kind: MetricKind| {
            !kind.needs_definition() || definition.is_some_and(|defined| defined.kind == kind)
        };
        if let Some(kind) = choices.kind_of(&row.metric_name).filter(|kind| has(*kind)) {
            add(exploratory(&row.metric_name, kind));
        }
    }
    analyses
}
