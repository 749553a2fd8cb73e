//! The schemas of events.

use serde_json::json;
use trialog_model::event::{MAX_CONTEXT_KEYS, MAX_EVENT_ID_BYTES, MAX_USER_ID_BYTES};
use trialog_model::ids::{EventType, ExperimentId, Variant};

use crate::openapi::schema::{
    Field, Schema, any_object, boolean, chars, field, matching, name, nullable, object, optional,
    time, with,
};

/// A decimal number as text: sign, digits with a point, an exponent.
const DECIMAL: &str = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$";

/// The components that the operations on events share.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("Assignment", assignment()),
        ("MetricEvent", metric_event()),
    ]
}

fn assignment() -> Schema {
    let context = with(any_object(), "maxProperties", MAX_CONTEXT_KEYS);
    let [user, experiment, event] = of_every_event();
    object([
        user,
        experiment,
        field(
            "variant",
            label(Variant::MAX_CHARS),
            "The variant; a whole number or a boolean is the text of it.",
        ),
        optional(
            "assigned_at",
            nullable(moment()),
            "When, 2000-01-01 to 24 hours after it is received; the time of receipt if absent.",
        ),
        optional(
            "context",
            nullable(context),
            "Platform, country and the like, at most 4 KiB.",
        ),
        optional(
            "forced",
            nullable(boolean()),
            "Whether a tester was put into the variant: the user counts in no metric.",
        ),
        event,
    ])
}

fn metric_event() -> Schema {
    let [user, experiment, event] = of_every_event();
    let bound = 99_999_999_999_999_i64;
    let value = json!({ "oneOf": [
        { "type": "number", "minimum": -bound, "maximum": bound },
        matching(DECIMAL),
    ] });
    object([
        user,
        experiment,
        field(
            "event_type",
            label(EventType::MAX_CHARS),
            "What the user did.",
        ),
        optional(
            "timestamp",
            nullable(moment()),
            "When, 2000-01-01 to 24 hours after it is received; the time of receipt if absent.",
        ),
        optional(
            "value",
            with(value, "default", 1),
            "A decimal number, read from its text: at most 14 digits before the point, four decimals are kept. What would round to 0 is refused.",
        ),
        event,
    ])
}

fn of_every_event() -> [Field; 3] {
    let user = json!({ "oneOf": [
        { "type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX },
        chars(1, MAX_USER_ID_BYTES),
    ] });
    [
        field(
            "user_id",
            user,
            "The user, as an integer or as text. Words that stand for nobody, such as `null`, are refused.",
        ),
        field(
            "experiment_id",
            label(ExperimentId::MAX_CHARS),
            "The experiment.",
        ),
        optional(
            "event_id",
            nullable(chars(1, MAX_EVENT_ID_BYTES)),
            "Copies with one id count once.",
        ),
    ]
}

/// A name as text, as a whole number or as a boolean.
fn label(most: usize) -> Schema {
    let number = json!({ "type": "integer", "format": "int64" });
    json!({ "oneOf": [name(most), number, boolean()] })
}

/// RFC 3339 with a zone, or epoch milliseconds.
fn moment() -> Schema {
    let millis = json!({ "type": "number", "minimum": 946_684_800_000_i64 });
    json!({ "oneOf": [time(), millis] })
}
