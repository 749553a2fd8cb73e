//! `/v1/holdouts` in the document.

use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_model::experiment::Status;
use trialog_model::holdout::MAX_SCOPE;
use trialog_model::ids::{ExperimentId, HoldoutName};

use super::operation::Operation;
use super::schema::{
    Schema, chars, closed, extended, field, list, name, nullable, object, one_of, optional,
    page_limit, reference, resettable, text, time,
};

const PATH: &str = "/v1/holdouts";
const TAG: &str = "Stands for this state of it; changes with each change.";

pub(super) fn operations() -> Vec<Operation> {
    let all = Operation::new(Method::GET, PATH, "listHoldouts", "Lists holdouts")
        .query("after", text(), "The `next` of the page before.")
        .query("limit", page_limit(), "Holdouts on a page.")
        .answer(
            StatusCode::OK,
            reference("HoldoutPage"),
            "A page, in the order of names.",
        );
    let created = Operation::new(Method::POST, PATH, "registerHoldout", "Registers a holdout")
        .describe("Makes a draft, and the experiment `holdout:<name>` that measures it.")
        .body(
            reference("HoldoutDefinition"),
            json!({ "name": "q3", "size": 0.05, "metrics": { "primary": ["purchase:sum"] }, "owner": "growth" }),
        )
        .answer(StatusCode::CREATED, reference("Holdout"), "It is registered.")
        .answer_header(StatusCode::CREATED, "Location", "Where it is.")
        .answer_header(StatusCode::CREATED, "ETag", TAG)
        .problems(&[409, 422]);
    let changed = of_one(
        Method::PATCH,
        "/v1/holdouts/{name}",
        "changeHoldout",
        "Changes the members that the body names",
    )
    .describe("After the start its size cannot grow, nor its scope by an experiment that runs.")
    .body(
        reference("HoldoutChange"),
        json!({ "size": 0.04, "description": "everything of the quarter" }),
    )
    .if_match()
    .problems(&[409, 422]);
    let step = |path, id, summary| {
        of_one(Method::POST, path, id, summary)
            .if_match()
            .problems(&[409])
    };
    [
        all,
        created,
        of_one(
            Method::GET,
            "/v1/holdouts/{name}",
            "getHoldout",
            "Reads a holdout",
        ),
        changed,
        step(
            "/v1/holdouts/{name}/start",
            "startHoldout",
            "Starts a draft: its units are held out from now on",
        ),
        step(
            "/v1/holdouts/{name}/stop",
            "stopHoldout",
            "Stops a holdout, for good: its units are let in",
        ),
    ]
    .into_iter()
    .map(|operation| operation.tag("holdouts"))
    .collect()
}

fn of_one(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    Operation::new(method, path, id, summary)
        .segment(
            "name",
            name(HoldoutName::MAX_CHARS),
            "q3",
            "The holdout's name, percent-encoded.",
        )
        .answer(StatusCode::OK, reference("Holdout"), "The holdout.")
        .answer_header(StatusCode::OK, "ETag", TAG)
        .problems(&[404])
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let statuses = [Status::Draft, Status::Running, Status::Stopped];
    let warning = object([
        field("code", one_of(&["loses_units"]), "What it is about."),
        field("experiment_id", text(), "The experiment that runs."),
        field("message", text(), "What happens to it."),
    ]);
    let shown = [
        field(
            "experiment_id",
            text(),
            "The experiment that measures it: its results are there.",
        ),
        field("status", one_of(&statuses), "Where it is in its life."),
        field("created_at", time(), "When it was registered."),
        field("updated_at", time(), "When it changed last."),
        field("started_at", nullable(time()), "When it was started."),
        field("stopped_at", nullable(time()), "When it was stopped."),
        field(
            "warnings",
            list(warning),
            "Of an answer to the start: experiments in the scope that run already.",
        ),
    ];
    let page = object([
        field("holdouts", list(reference("Holdout")), "The holdouts."),
        field(
            "next",
            nullable(text()),
            "What `after` takes for the next page; null on the last.",
        ),
    ]);
    vec![
        ("HoldoutDefinition", closed(definition())),
        ("HoldoutChange", closed(resettable(definition()))),
        ("Holdout", extended(definition(), shown)),
        ("HoldoutPage", page),
    ]
}

fn definition() -> Schema {
    let free = |name, description: &str| optional(name, nullable(chars(0, 4096)), description);
    let ids = json!({
        "type": ["array", "null"], "items": name(ExperimentId::MAX_CHARS), "maxItems": MAX_SCOPE,
    });
    object([
        field(
            "name",
            name(HoldoutName::MAX_CHARS),
            "Its name, which seeds the buckets.",
        ),
        field(
            "size",
            json!({ "type": "number", "minimum": 0.0001, "maximum": 0.9999 }),
            "The share of units that are held out.",
        ),
        optional(
            "experiments",
            ids,
            "The experiments in its scope; every one if absent.",
        ),
        optional(
            "metrics",
            reference("Metrics"),
            "The metrics by which it is measured.",
        ),
        free("description", "What it is for people."),
        free("owner", "Who answers for it."),
    ])
}
