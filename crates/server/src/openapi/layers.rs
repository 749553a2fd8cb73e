//! `/v1/layers` in the document.

use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_model::ids::LayerName;

use super::operation::Operation;
use super::schema::{
    Schema, chars, closed, count, extended, field, fraction, list, name, nullable, object,
    optional, page_limit, reference, resettable, text, time,
};

const PATH: &str = "/v1/layers";
const TAG: &str = "Stands for this state of its definition.";

pub(super) fn operations() -> Vec<Operation> {
    let all = Operation::new(Method::GET, PATH, "listLayers", "Lists layers")
        .query("after", text(), "The `next` of the page before.")
        .query("limit", page_limit(), "Layers on a page.")
        .answer(
            StatusCode::OK,
            reference("LayerPage"),
            "A page, in the order of names.",
        );
    let created = Operation::new(Method::POST, PATH, "registerLayer", "Registers a layer")
        .describe("Experiments of a layer own disjoint shares of its 10,000 buckets, so no unit is in two of them.")
        .body(reference("LayerDefinition"), json!({ "name": "checkout", "description": "one test at a time on the way to pay", "owner": "shop" }))
        .answer(StatusCode::CREATED, reference("Layer"), "It is registered.")
        .answer_header(StatusCode::CREATED, "Location", "Where it is.")
        .answer_header(StatusCode::CREATED, "ETag", TAG)
        .problems(&[409, 422]);
    let read = of_one(
        Method::GET,
        "getLayer",
        "Reads a layer with its free buckets",
    )
    .answer_header(StatusCode::OK, "ETag", TAG);
    let changed = of_one(
        Method::PATCH,
        "changeLayer",
        "Changes the members that the body names",
    )
    .body(reference("LayerChange"), json!({ "owner": "payments" }))
    .answer_header(StatusCode::OK, "ETag", TAG)
    .if_match()
    .problems(&[422]);
    let deleted = of_one(
        Method::DELETE,
        "deleteLayer",
        "Deletes a layer in which no draft or running experiment is",
    )
    .if_match()
    .problems(&[409]);
    [all, created, read, changed, deleted]
        .into_iter()
        .map(|operation| operation.tag("layers"))
        .collect()
}

fn of_one(method: Method, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, "/v1/layers/{name}", id, summary)
        .segment(
            "name",
            name(LayerName::MAX_CHARS),
            "checkout",
            "The layer's name, percent-encoded.",
        )
        .answer(StatusCode::OK, reference("Layer"), "The layer.")
        .problems(&[404])
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let ranges = || list(list(count()));
    let owner = object([
        field("experiment_id", text(), "The experiment."),
        field(
            "ranges",
            ranges(),
            "Its buckets, from the first on and before the second.",
        ),
    ]);
    let shown = [
        field("created_at", time(), "When it was registered."),
        field("updated_at", time(), "When it changed last."),
        field(
            "experiments",
            list(owner),
            "Who owns which buckets: drafts and running experiments.",
        ),
        field("free", ranges(), "The buckets that nobody owns."),
        field(
            "free_share",
            fraction(),
            "Their share: the largest allocation that fits.",
        ),
    ];
    let page = object([
        field("layers", list(reference("Layer")), "The layers."),
        field(
            "next",
            nullable(text()),
            "What `after` takes for the next page; null on the last.",
        ),
    ]);
    vec![
        ("LayerDefinition", closed(definition())),
        ("LayerChange", closed(resettable(definition()))),
        ("Layer", extended(definition(), shown)),
        ("LayerPage", page),
    ]
}

fn definition() -> Schema {
    let free = |name, description: &str| optional(name, nullable(chars(0, 4096)), description);
    object([
        field(
            "name",
            name(LayerName::MAX_CHARS),
            "The name by which experiments name it; it seeds the buckets.",
        ),
        free("description", "What it is for people."),
        free("owner", "Who answers for it."),
    ])
}
