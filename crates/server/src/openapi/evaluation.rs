//! Evaluation in the document: SDK configuration, `/v1/assign`, `/v1/track`, OFREP.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use trialog_model::ids::ExperimentId;

use super::operation::Operation;
use super::schema::{
    Schema, any_object, boolean, chars, closed, count, field, fraction, list, name, nullable,
    object, one_of, optional, reference, text, time, with,
};
use crate::api::evaluation::{MAX_EXPERIMENTS, MAX_TRACKED};

const FLAGS: &str = "/ofrep/v1/evaluate/flags";
const DECISIONS: [&str; 7] = [
    "assigned",
    "forced",
    "shipped",
    "held_out",
    "not_enrolled",
    "not_targeted",
    "not_running",
];
const REASONS: [&str; 5] = ["SPLIT", "STATIC", "TARGETING_MATCH", "DEFAULT", "DISABLED"];

pub(super) fn operations() -> Vec<Operation> {
    [config(), assign(), track(), one_flag(), all_flags()]
        .into_iter()
        .map(|operation| operation.tag("evaluation"))
        .collect()
}

fn config() -> Operation {
    Operation::new(
        Method::GET,
        "/v1/sdk/config",
        "getSdkConfiguration",
        "What SDKs decide by",
    )
    .describe("Experiments and holdouts that run, and variants that are shipped, with what an assignment needs of them and nothing else. Members may be added: pass over those that are not known.")
    .header("If-None-Match", text(), "The tag of what the client has.")
    .answer(StatusCode::OK, reference("SdkConfiguration"), "The configuration.")
    .answer_header(StatusCode::OK, "ETag", "Stands for this configuration.")
    .answer_empty(StatusCode::NOT_MODIFIED, "The client has it.")
}

fn assign() -> Operation {
    let example = json!({
        "user_id": "42", "experiment_id": "checkout", "context": { "platform": "ios" }, "why": true,
    });
    Operation::new(
        Method::POST,
        "/v1/assign",
        "assign",
        "Says which variant a unit gets",
    )
    .describe("In one experiment, in those that `experiment_ids` lists, or in every one that runs or ships a variant.")
    .body(reference("AssignmentRequest"), example)
    .answer(
        StatusCode::OK,
        reference("AssignmentAnswer"),
        "What becomes of the unit.",
    )
    .problems(&[404, 422])
}

fn track() -> Operation {
    let event = json!({
        "event_id": "0198c7a0-5b6e-7c3d-8f00-3b1d5a2c9e10", "name": "purchase",
        "context": { "targetingKey": "42", "platform": "ios" }, "details": { "value": 99.77 },
    });
    Operation::new(Method::POST, "/v1/track", "track", "Logs what units did")
        .describe("Each event becomes a metric event of every experiment that gives the unit a variant and lists the event type, and of every holdout that lists it. Sending an event again with its `event_id` changes nothing.")
        .body(reference("TrackRequest"), json!({ "events": [event] }))
        .answer(StatusCode::ACCEPTED, reference("Tracked"), "The good events are durable.")
        .problems(&[422])
}

fn one_flag() -> Operation {
    let path = "/ofrep/v1/evaluate/flags/{key}";
    Operation::new(
        Method::POST,
        path,
        "evaluateFlag",
        "Evaluates a flag (OFREP 0.3.0)",
    )
    .describe("A flag is an experiment that is registered and not archived. A unit without a variant gets the control's value, and the decision as the name of the variant.")
    .segment(
        "key",
        name(ExperimentId::MAX_CHARS),
        "checkout",
        "The experiment's id, percent-encoded.",
    )
    .header(
        "Trialog-Exposure",
        one_of(&["log"]),
        "Logs the evaluation as an exposure; the answer comes once that is durable.",
    )
    .body(reference("EvaluationContext"), context_example())
    .answer(StatusCode::OK, reference("Evaluation"), "The evaluation.")
    .failure(
        StatusCode::BAD_REQUEST,
        reference("EvaluationFailure"),
        "The body or the context cannot be used.",
    )
    .failure(
        StatusCode::NOT_FOUND,
        reference("EvaluationFailure"),
        "No such experiment is registered, or it is archived.",
    )
    .problems(&[422])
}

fn all_flags() -> Operation {
    Operation::new(
        Method::POST,
        FLAGS,
        "evaluateFlags",
        "Evaluates every flag (OFREP 0.3.0)",
    )
    .describe("Every experiment that runs or ships a variant, and those that were stopped and not archived (the last 1,000 that changed), for clients whose context stays.")
    .header(
        "If-None-Match",
        text(),
        "The tag of the answer that the client has.",
    )
    .body(reference("EvaluationContext"), context_example())
    .answer(StatusCode::OK, reference("Evaluations"), "The evaluations.")
    .answer_header(
        StatusCode::OK,
        "ETag",
        "Stands for this answer, which depends on the context too.",
    )
    .answer_empty(StatusCode::NOT_MODIFIED, "The client has the answer.")
    .failure(
        StatusCode::BAD_REQUEST,
        reference("EvaluationFailure"),
        "The body or the context cannot be used.",
    )
}

fn context_example() -> Value {
    json!({ "context": { "targetingKey": "42", "platform": "ios" } })
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("SdkConfiguration", configuration()),
        ("ExperimentRules", experiment_rules()),
        ("HoldoutRules", holdout_rules()),
        ("ShippedRules", shipped_rules()),
        ("AssignmentRequest", assignment_request()),
        ("AssignedVariant", object(assignment())),
        ("AssignmentAnswer", assignment_answer()),
        ("TrackRequest", track_request()),
        ("TrackedEvent", tracked_event()),
        ("Tracked", tracked()),
        ("EvaluationContext", evaluation_context()),
        ("Evaluation", evaluation()),
        ("Evaluations", evaluations()),
        ("EvaluationFailure", evaluation_failure()),
    ]
}

fn configuration() -> Schema {
    object([
        field(
            "experiments",
            list(reference("ExperimentRules")),
            "The experiments that run.",
        ),
        field(
            "holdouts",
            list(reference("HoldoutRules")),
            "The holdouts that run.",
        ),
        optional(
            "shipped",
            list(reference("ShippedRules")),
            "The experiments that ended and ship a variant; absent where there is none.",
        ),
    ])
}

fn experiment_rules() -> Schema {
    object([
        field("experiment_id", text(), "The experiment."),
        optional("salt", text(), "Seeds the assignment; the id if absent."),
        optional("layer", text(), "The layer whose buckets it shares."),
        optional(
            "ranges",
            list(list(count())),
            "In a layer: its buckets, from the first on and before the second.",
        ),
        field(
            "allocation",
            fraction(),
            "Outside a layer: the share of units that are enrolled.",
        ),
        optional(
            "targeting",
            list(reference("Condition")),
            "Conditions on the context, all of which must hold.",
        ),
        field(
            "variants",
            list(reference("VariantWeight")),
            "The variants and their weights.",
        ),
        optional(
            "forced",
            list(reference("ForcedVariant")),
            "Units that get a variant whatever the rules say.",
        ),
        optional("start_at", time(), "Earlier exposures are not looked at."),
        optional(
            "event_types",
            list(text()),
            "The events of which its metrics are made.",
        ),
    ])
}

fn shipped_rules() -> Schema {
    object([
        field("experiment_id", text(), "The experiment."),
        field(
            "ship",
            text(),
            "The variant of every unit that no holdout keeps out and that meets the conditions.",
        ),
        optional(
            "targeting",
            list(reference("Condition")),
            "Conditions on the context, all of which must hold.",
        ),
        field(
            "variants",
            list(reference("VariantWeight")),
            "The variants with their values.",
        ),
        optional(
            "forced",
            list(reference("ForcedVariant")),
            "Units that get a variant whatever the rules say.",
        ),
    ])
}

fn holdout_rules() -> Schema {
    object([
        field("name", text(), "The holdout."),
        field("size", fraction(), "The share of units that are held out."),
        field(
            "experiments",
            nullable(list(text())),
            "The experiments in its scope; null for every one.",
        ),
        optional(
            "event_types",
            list(text()),
            "The events of which its metrics are made.",
        ),
    ])
}

fn unit() -> Schema {
    json!({ "type": ["string", "integer"] })
}

fn assignment_request() -> Schema {
    let ids = json!({
        "type": ["array", "null"], "items": name(ExperimentId::MAX_CHARS), "maxItems": MAX_EXPERIMENTS,
    });
    closed(object([
        field(
            "user_id",
            unit(),
            "The unit: text, or an integer within BIGINT.",
        ),
        optional(
            "experiment_id",
            nullable(name(ExperimentId::MAX_CHARS)),
            "The experiment.",
        ),
        optional(
            "experiment_ids",
            ids,
            "Experiments, instead of `experiment_id`; without both, every one that runs or ships a variant.",
        ),
        optional("context", any_object(), "What is known about the unit."),
        optional(
            "log_exposure",
            with(boolean(), "default", false),
            "Whether the answer counts as an exposure; it is durable before the answer.",
        ),
        optional(
            "why",
            with(boolean(), "default", false),
            "Whether to show the path of the decision.",
        ),
    ]))
}

fn assignment() -> Vec<super::schema::Field> {
    vec![
        field("experiment_id", text(), "The experiment."),
        field("decision", one_of(&DECISIONS), "What becomes of the unit."),
        field(
            "variant",
            nullable(text()),
            "The variant, if the unit gets one.",
        ),
        field(
            "value",
            json!({}),
            "What the variant stands for: its name unless the definition says otherwise; null without a variant.",
        ),
        field(
            "holdout",
            nullable(text()),
            "The holdout that keeps the unit out.",
        ),
        optional(
            "why",
            list(any_object()),
            "The steps that led to the decision, each with its numbers and a sentence.",
        ),
    ]
}

/// One assignment, or a list of them.
fn assignment_answer() -> Schema {
    let every = || {
        [
            field("user_id", text(), "The unit."),
            field(
                "exposure_logged",
                boolean(),
                "Whether exposures were logged.",
            ),
        ]
    };
    let one = object(assignment().into_iter().chain(every()));
    let list_of = [field(
        "assignments",
        list(reference("AssignedVariant")),
        "One for each experiment.",
    )];
    json!({ "anyOf": [one, object(list_of.into_iter().chain(every()))] })
}

/// A unit, and whatever is known about it.
fn context() -> Schema {
    let key = object([field("targetingKey", chars(1, 1024), "The unit.")]);
    with(key, "additionalProperties", true)
}

fn track_request() -> Schema {
    object([field(
        "events",
        json!({ "type": "array", "items": reference("TrackedEvent"), "maxItems": MAX_TRACKED }),
        "The events.",
    )])
}

fn tracked_event() -> Schema {
    let key = context();
    let details = object([optional(
        "value",
        json!({ "type": ["number", "string"] }),
        "The event's value; 1 if absent.",
    )]);
    object([
        field("name", chars(1, 64), "The event type."),
        field("context", key, "Who did it, and what is known about them."),
        optional(
            "event_id",
            text(),
            "Tells copies of the event apart from others.",
        ),
        optional(
            "timestamp",
            json!({ "type": ["string", "integer"] }),
            "When; the time of receipt if absent.",
        ),
        optional("details", details, "What else the application says."),
    ])
}

fn tracked() -> Schema {
    object([
        field("accepted", count(), "Events that were good."),
        field("logged", count(), "Metric events that were made of them."),
        field(
            "unlisted",
            count(),
            "Good events that count nowhere: nothing that has the unit lists their type.",
        ),
        field(
            "rejected",
            list(reference("Rejection")),
            "The first 1,000 of the events that were refused.",
        ),
        field("rejected_total", count(), "How many events were refused."),
        field(
            "rejected_by_reason",
            list(reference("RejectionCount")),
            "How many of them by field and kind of fault.",
        ),
    ])
}

fn evaluation_context() -> Schema {
    object([field(
        "context",
        context(),
        "The unit, and what is known about it.",
    )])
}

fn evaluation() -> Schema {
    let metadata = object([
        optional("contextId", text(), "The unit."),
        field("flagSetId", text(), "`trialog`."),
        field("version", text(), "Stands for the configuration."),
        field("decision", one_of(&DECISIONS), "What became of the unit."),
        optional("holdout", text(), "The holdout that keeps the unit out."),
    ]);
    object([
        field("key", text(), "The flag."),
        field("reason", one_of(&REASONS), "Why."),
        optional(
            "variant",
            text(),
            "The variant; for a unit without one the decision. Absent for such a unit where the server is set to `omit`.",
        ),
        optional(
            "value",
            json!({}),
            "The variant's value, or its name; for a unit without a variant the control's. Absent where `variant` is: the code's default holds.",
        ),
        field(
            "metadata",
            metadata,
            "As the OpenTelemetry conventions have it.",
        ),
    ])
}

fn evaluations() -> Schema {
    let metadata = object([field("version", text(), "Stands for the configuration.")]);
    object([
        field("flags", list(reference("Evaluation")), "Every flag."),
        field("metadata", metadata, "About all of them."),
    ])
}

fn evaluation_failure() -> Schema {
    let codes = [
        "PARSE_ERROR",
        "TARGETING_KEY_MISSING",
        "INVALID_CONTEXT",
        "FLAG_NOT_FOUND",
        "GENERAL",
    ];
    object([
        optional("key", text(), "The flag."),
        field("errorCode", one_of(&codes), "What kind of failure it is."),
        field("errorDetails", text(), "What is wrong, and how to mend it."),
    ])
}
