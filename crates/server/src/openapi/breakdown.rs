//! `/v1/experiments/{id}/breakdown` in the document.

use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_model::ids::Variant;
use trialog_model::metric::MetricKind;

use super::experiments::{experiment_segment, metric_name};
use super::operation::Operation;
use super::results::{CORRECTIONS, filter, segment_parameter, variant_users};
use super::schema::{
    Schema, count, field, level, list, name, nullable, object, one_of, reference, text, time, with,
};

pub(super) fn operations() -> Vec<Operation> {
    let by = json!({
        "name": "by", "in": "query", "required": true,
        "schema": { "type": "array", "items": text(), "minItems": 1, "maxItems": 2 },
        "style": "form", "explode": false,
        "description": "One key of the context at the exposure, or two that are crossed, with a comma between them.",
        "examples": { "platform": { "value": ["platform"] }, "crossed": { "value": ["platform", "geo"] } },
    });
    let breakdown = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/breakdown",
        "getBreakdown",
        "Results by the values of context keys",
    );
    let breakdown = experiment_segment(breakdown)
        .tag("results")
        .describe("The scorecard of each segment with its own sample ratio check, folded on request over the events which the last published run read. Each of the 50 values with the most users has a segment; users without a value have one, and so have those of all other values. A segment's rows equal the results with `segment.<key>=<value>`. Segments are not corrected for one another.")
        .parameter(by)
        .query("metric", metric_name(), "Only this one: `name` or `name:kind`.")
        .query("kind", one_of(&MetricKind::ALL), "Every row as this kind.")
        .query("from", time(), "Only users exposed at or after this time.")
        .query("to", time(), "Only users exposed before this time, which is after `from`.")
        .query("control", name(Variant::MAX_CHARS), "Compare with this variant.")
        .query("alpha", level(), "Another level.")
        .query(
            "correction",
            with(one_of(&CORRECTIONS), "default", "holm"),
            "How p-values are adjusted within a family of a segment.",
        )
        .parameter(segment_parameter())
        .answer(StatusCode::OK, reference("Breakdown"), "A scorecard for each segment.")
        .problems(&[404, 409, 422]);
    vec![breakdown]
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![("Breakdown", breakdown()), ("Segment", segment())]
}

fn breakdown() -> Schema {
    object([
        field("experiment_id", text(), "The experiment."),
        field("by", list(text()), "The keys."),
        field(
            "computed_at",
            nullable(time()),
            "When the numbers of the experiment were published; null before the first run.",
        ),
        field(
            "position",
            nullable(count()),
            "The position in what was ingested that they hold for.",
        ),
        field(
            "data_time",
            nullable(time()),
            "The moment that they hold for.",
        ),
        field(
            "filter",
            nullable(filter()),
            "The users that all segments are chosen from; null for all.",
        ),
        field(
            "alpha",
            level(),
            "The two-sided level of tests and intervals within a segment.",
        ),
        field(
            "correction",
            one_of(&CORRECTIONS),
            "How p-values are adjusted within a family of a segment.",
        ),
        field(
            "control",
            nullable(text()),
            "The variant that the others are compared with.",
        ),
        field(
            "n_values",
            count(),
            "How many values exposed users have, or how many pairs of values.",
        ),
        field(
            "segments",
            list(reference("Segment")),
            "The segments: those of values by their users, then users without a value, then all other values.",
        ),
    ])
}

fn segment() -> Schema {
    let values = json!({ "type": "object", "additionalProperties": nullable(text()) });
    object([
        field(
            "values",
            nullable(values),
            "The value of each key, null where it is missing; null for all other values.",
        ),
        field(
            "label",
            text(),
            "The values as a text, with `(missing)` and `(other)`.",
        ),
        field("users", count(), "Exposed users of all variants."),
        field("variants", list(variant_users()), "Users by variant."),
        field(
            "health",
            reference("Health"),
            "Whether the numbers of the segment can be trusted.",
        ),
        field(
            "metrics",
            list(reference("MetricReport")),
            "Each metric, once for each kind.",
        ),
    ])
}
