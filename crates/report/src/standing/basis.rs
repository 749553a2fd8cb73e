//! Writes the inputs of p-values and verdicts beside the data as short texts. A test starts anew
//! if its text changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trialog_model::experiment::Definition;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::murmur3::murmur3_x64_128;

use crate::comparison::Terms;
use crate::{Measured, Subject, health};

/// Changes whenever p-values of earlier looks mean something else.
const MEANING: u32 = 1;

/// Writes everything that the p-values of a test depend on beside the data.
pub(crate) fn basis(subject: &Subject<'_>, measured: &Measured, terms: &Terms<'_>) -> String {
    let definition = subject.definition;
    let metric = subject.defined_metric(&measured.metric);
    short(&json!([
        MEANING,
        terms.control,
        terms.declared_alpha.get(),
        terms.tuning().0,
        definition.start_at.map(|time| time.0),
        measured.event_type,
        measured.window,
        metric.map(meaning),
    ]))
}

/// Writes everything that the planned verdict on a metric depends on beside the data.
pub(crate) fn basis_of_verdict(
    subject: &Subject<'_>,
    measured: &Measured,
    terms: &Terms<'_>,
) -> String {
    let test = basis(subject, measured, terms);
    short(&json!([
        test,
        measured.role,
        measured.direction,
        measured.margin
    ]))
}

/// Writes what the sample ratio is tested against.
pub(super) fn basis_of_srm(definition: &Definition) -> String {
    let weights: Vec<_> = health::assigned(definition)
        .map(|variant| (&variant.variant, variant.weight))
        .collect();
    short(&json!([
        MEANING,
        weights,
        definition.start_at.map(|time| time.0)
    ]))
}

/// Writes the parts of a metric's definition that change its numbers. Fields without a value are
/// left out, so that a new field does not change the text.
fn meaning(definition: &MetricDefinition) -> Value {
    let fields = serde_json::to_value(definition).unwrap_or_default();
    let fields: BTreeMap<String, Value> = serde_json::from_value(fields).unwrap_or_default();
    let says = fields.into_iter().filter(|(field, value)| {
        !value.is_null()
            && !["description", "owner", "direction", "margin"].contains(&field.as_str())
    });
    says.collect()
}

/// Writes everything that the planned look depends on beside the data.
pub(super) fn basis_of_plan(subject: &Subject<'_>) -> String {
    let definition = subject.definition;
    let primary = definition.metrics.primary.iter();
    let defined: Vec<Value> = primary
        .filter_map(|named| subject.defined_metric(named.name.as_str()))
        .map(|metric| json!([meaning(metric), metric.direction, metric.margin]))
        .collect();
    short(&json!([
        MEANING,
        definition.control(),
        definition.alpha,
        definition.plan,
        definition.start_at.map(|time| time.0),
        definition.attribution_window,
        defined,
    ]))
}

/// Shortens `basis` to 16 characters that differ wherever it differs.
pub(crate) fn short(basis: &Value) -> String {
    short_text(&basis.to_string())
}

/// Shortens `text` to 16 characters that differ wherever it differs.
pub(crate) fn short_text(text: &str) -> String {
    let (high, _) = murmur3_x64_128(text.as_bytes(), 0);
    format!("{high:016x}")
}
