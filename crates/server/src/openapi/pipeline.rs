//! `/v1/pipeline` in the document.

use axum::http::{Method, StatusCode};
use serde_json::json;

use super::operation::Operation;
use super::schema::{
    Schema, boolean, count, field, integer, list, nullable, object, one_of, reference, text, time,
    with,
};

pub(super) fn operations() -> Vec<Operation> {
    let state = Operation::new(
        Method::GET,
        "/v1/pipeline",
        "getPipeline",
        "Shows how far results reach, and the last runs",
    )
    .tag("pipeline")
    .answer(StatusCode::OK, reference("Pipeline"), "The state.");
    let run = Operation::new(Method::POST, "/v1/pipeline/run", "runPipeline", "Runs now")
        .tag("pipeline")
        .describe("Answers when the results are published.")
        .query(
            "full",
            with(boolean(), "default", false),
            "Whether every experiment is recomputed, not only those that something happened to.",
        )
        .answer(StatusCode::OK, reference("RunReport"), "What the run did.");
    vec![state, run]
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("Pipeline", pipeline()),
        ("Run", run()),
        ("RunReport", report()),
    ]
}

fn pipeline() -> Schema {
    let published = object([
        field("position", count(), "The position that results cover."),
        field(
            "data_time",
            nullable(time()),
            "The moment that they hold for; null before the first run.",
        ),
        field(
            "run_id",
            nullable(integer(1)),
            "The run that published them.",
        ),
    ]);
    let ingested = object([
        field("position", count(), "The last position that is durable."),
        field(
            "runs",
            nullable(count()),
            "Files of events; null where the events are in ClickHouse, as are the next three.",
        ),
        field("rows_in_runs", nullable(count()), "Events in them."),
        field("bytes_in_runs", nullable(count()), "Their size."),
        field(
            "unflushed_bytes",
            nullable(count()),
            "Events in memory and in the inbox.",
        ),
        field(
            "flush_failure",
            nullable(text()),
            "Why they cannot be flushed.",
        ),
    ]);
    object([
        field("published", published, "How far results reach."),
        field("ingested", ingested, "How far events reach."),
        field(
            "runs",
            list(reference("Run")),
            "The last attempts, newest first.",
        ),
        field(
            "next_run_at",
            nullable(time()),
            "When the schedule of this process runs next; null where it has none, or before its first run has ended.",
        ),
    ])
}

fn run() -> Schema {
    let statuses = one_of(&["running", "succeeded", "failed", "interrupted"]);
    object([
        field("run_id", integer(1), "Its number."),
        field(
            "cause",
            text(),
            "What started it: `schedule`, `request`, `command`, ...",
        ),
        field("attempt", integer(1), "Which try it was."),
        field("status", statuses, "What became of it."),
        field("started_at", time(), "When it began."),
        field("finished_at", nullable(time()), "When it ended."),
        field("position", nullable(count()), "Up to where it read."),
        field("experiments", count(), "Experiments that it recomputed."),
        field(
            "failed_experiments",
            count(),
            "Those that could not be computed.",
        ),
        field("error", nullable(text()), "Why it failed."),
    ])
}

fn report() -> Schema {
    let warned = object([
        field("experiments", count(), "How many."),
        field(
            "first",
            list(text()),
            "Up to five of them, in the order of their ids.",
        ),
    ]);
    let pair = json!({ "type": "array", "items": text(), "minItems": 2, "maxItems": 2 });
    object([
        field("run_id", integer(1), "Its number."),
        field("position", count(), "Up to where it read."),
        field("computed_at", time(), "When its results count as computed."),
        field("experiments", count(), "Experiments that it recomputed."),
        field(
            "failed",
            list(pair),
            "Experiments that could not be computed, each with its error.",
        ),
        field(
            "left_out",
            count(),
            "Experiments whose events are kept and not aggregated: too many are unregistered.",
        ),
        field(
            "gave_way",
            count(),
            "Unregistered experiments that lost their place, and their results, to newer ones.",
        ),
        field(
            "frozen",
            count(),
            "Experiments that keep their results, since retention dropped some of their events.",
        ),
        field(
            "warnings",
            json!({ "type": "object", "additionalProperties": warned }),
            "Recomputed experiments whose integration looks wrong, by the code of the warning that their results show.",
        ),
        field(
            "before_last",
            nullable(time()),
            "When the last run was published, where that lies after this one: its clock was ahead, and this run computed all experiments anew.",
        ),
        field("duration_ms", count(), "How long it took, in milliseconds."),
    ])
}
