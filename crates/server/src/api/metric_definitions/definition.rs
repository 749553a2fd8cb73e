//! The schemas of what clients say about a metric.

use serde_json::json;
use trialog_model::ids::{EventType, MetricName};
use trialog_model::metric::MetricKind;
use trialog_model::metric_definition::{Direction, WinsoriseOf};

use crate::api::experiments::confirmable;
use crate::openapi::schema::{
    Schema, between_0_and_1, closed, field, free, matching, name, nullable, object, one_of,
    optional, reference, resettable, with,
};
use crate::openapi::window::{delay, window};

const DIRECTIONS: [Direction; 2] = [Direction::Increase, Direction::Decrease];

/// The components that the operations on metrics share.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let mut schemas = vec![
        ("MetricDefinition", closed(confirmable(definition()))),
        (
            "MetricChange",
            closed(confirmable(resettable(definition()))),
        ),
    ];
    schemas.extend(parts());
    schemas
}

/// What a metric is.
pub(super) fn definition() -> Schema {
    object([
        field(
            "name",
            name(MetricName::MAX_CHARS),
            "The name by which experiments name it; it does not end in `:kind`.",
        ),
        field(
            "kind",
            one_of(&MetricKind::ALL),
            "How events become a number per user.",
        ),
        field(
            "event_type",
            name(EventType::MAX_CHARS),
            "The events that it is made of.",
        ),
        optional(
            "window",
            nullable(window()),
            "How long after exposure an event counts, at most 3650d; as the experiment says if absent.",
        ),
        optional(
            "delay",
            nullable(delay()),
            "How long after the exposure the window begins, from -1d (before it) to 3650d; the window keeps its length. Not for retention.",
        ),
        optional(
            "min_value",
            nullable(min_value()),
            "Only events of at least this value count, with at most four decimals: of a ratio those of the numerator, and those of a covariate that is made of the same events.",
        ),
        optional(
            "direction",
            nullable(one_of(&DIRECTIONS)),
            "Which way is good; more where it is not said, but then a guardrail has no verdict.",
        ),
        optional(
            "denominator",
            nullable(name(EventType::MAX_CHARS)),
            "Of a ratio: the events whose sum it is divided by.",
        ),
        optional(
            "retention",
            nullable(reference("Retention")),
            "Of retention: when after exposure an event counts.",
        ),
        optional(
            "quantile",
            nullable(between_0_and_1()),
            "Of a quantile: its level.",
        ),
        optional(
            "winsorise",
            nullable(reference("Winsorise")),
            "Of a count or a sum: users beyond these quantiles are set to them.",
        ),
        optional(
            "covariate",
            nullable(reference("Covariate")),
            "Of a conversion, a count or a sum: what users did before their exposure, by which it is adjusted (CUPED).",
        ),
        optional(
            "margin",
            nullable(between_0_and_1()),
            "As a guardrail: how much worse than the control it may be, as a fraction of the control's value.",
        ),
        free("description", "What it is, for people."),
        free("owner", "Who answers for it."),
    ])
}

/// A number or decimal text with the digits of values.
fn min_value() -> Schema {
    let bound = 99_999_999_999_999_i64;
    json!({ "oneOf": [
        { "type": "number", "minimum": -bound, "maximum": bound, "multipleOf": 1e-4 },
        matching(r"^-?0*[0-9]{1,14}(\.[0-9]{0,4}0*)?$"),
    ] })
}

/// What a definition is made of beside its fields.
fn parts() -> Vec<(&'static str, Schema)> {
    let level = |name, description: &str| optional(name, nullable(between_0_and_1()), description);
    vec![
        (
            "Retention",
            closed(object([
                optional(
                    "from",
                    nullable(window()),
                    "Where it begins; at the exposure if absent.",
                ),
                field(
                    "to",
                    window(),
                    "Where it ends, later than it begins and not `none`. Only users for whom it has ended count.",
                ),
            ])),
        ),
        (
            "Winsorise",
            closed(object([
                optional(
                    "of",
                    with(one_of(&WinsoriseOf::ALL), "default", "all_users"),
                    "Of which users the quantiles are: of all, those without an event as 0, or of those with an event that counts; then the others stay 0.",
                ),
                level("lower", "The lower quantile; none if absent."),
                level(
                    "upper",
                    "The upper quantile, above the lower; none if absent.",
                ),
            ])),
        ),
        (
            "Covariate",
            closed(object([
                optional(
                    "event_type",
                    nullable(name(EventType::MAX_CHARS)),
                    "The events that are summed; those of the metric if absent.",
                ),
                field(
                    "period",
                    window(),
                    "How long before the exposure an event counts; not `none`.",
                ),
            ])),
        ),
    ]
}
