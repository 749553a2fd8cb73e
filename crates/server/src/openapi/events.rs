//! `/v1/events/...` in the document.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use trialog_model::event::{Fault, MAX_CONTEXT_KEYS, MAX_EVENT_ID_BYTES, MAX_USER_ID_BYTES};
use trialog_model::ids::{EventType, ExperimentId, Variant};

use super::operation::Operation;
use super::schema::{
    Field, Schema, any_object, boolean, chars, count, field, integer, list, matching, name,
    nullable, object, one_of, optional, reference, text, time, with,
};

/// A decimal number as text: sign, digits with a point, an exponent.
const DECIMAL: &str = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$";

const RULES: &str = "One event, an array of events, or one event per line. Each event is judged on its own: a bad one spoils no other, and the answer names it. Members that are not known are passed over. A body may be compressed with gzip or zstd.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        ingest(
            "/v1/events/assignments",
            "sendAssignments",
            "Stores who saw which variant",
            "Assignment",
            json!({ "user_id": "u-1", "experiment_id": "checkout", "variant": "new",
                "assigned_at": "2026-01-05T09:30:00Z", "context": { "platform": "ios" } }),
        ),
        ingest(
            "/v1/events/metrics",
            "sendMetricEvents",
            "Stores what users did",
            "MetricEvent",
            json!({ "user_id": "u-1", "experiment_id": "checkout", "event_type": "purchase",
                "timestamp": "2026-01-05T09:31:00Z", "value": "14.50", "event_id": "order-17" }),
        ),
    ]
}

fn ingest(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    event: &'static str,
    example: Value,
) -> Operation {
    let line = example.to_string();
    let body = json!({ "oneOf": [reference(event), list(reference(event))] });
    Operation::new(Method::POST, path, id, summary)
        .tag("events")
        .describe(RULES)
        .header(
            "Idempotency-Key",
            with(matching("^[!-~]+$"), "maxLength", 255),
            "Makes it safe to send the same request again: the same key with the same body counts once, with another body it is refused.",
        )
        .body(body, json!([example]))
        .or_body("application/x-ndjson", "One event per line.", &line)
        .answer(
            StatusCode::ACCEPTED,
            reference("Accepted"),
            "The good events are on the disk.",
        )
        .problems(&[422])
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("Assignment", assignment()),
        ("MetricEvent", metric_event()),
        ("Accepted", accepted()),
        ("Rejection", rejection()),
        ("RejectionCount", rejection_count()),
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

fn accepted() -> Schema {
    object([
        field("accepted", count(), "Events that are stored."),
        field(
            "rejected",
            list(reference("Rejection")),
            "The first 1,000 of the events that are not, and why.",
        ),
        optional(
            "rejected_total",
            count(),
            "How many events are not stored, where any are not.",
        ),
        optional(
            "rejected_by_reason",
            list(reference("RejectionCount")),
            "How many of them by field and kind of fault.",
        ),
    ])
}

fn rejection() -> Schema {
    object([
        field("index", integer(0), "Its place in the request, from 0."),
        field(
            "field",
            text(),
            "The member that is to blame; `event` for all of it.",
        ),
        field("reason", text(), "What is wrong, and how to mend it."),
    ])
}

fn rejection_count() -> Schema {
    object([
        field(
            "field",
            text(),
            "The member that is to blame; `event` for all of it.",
        ),
        field(
            "fault",
            one_of(&Fault::ALL.map(Fault::as_str)),
            "The kind of fault.",
        ),
        field("events", integer(1), "How many events."),
    ])
}
