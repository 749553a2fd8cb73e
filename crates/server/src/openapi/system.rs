//! Health checks, counts and the document itself, in the document.

use axum::http::{Method, StatusCode};
use serde_json::json;

use super::operation::Operation;
use super::schema::{any_object, field, list, object, reference};

pub(super) fn operations() -> Vec<Operation> {
    let alive = object([field("status", json!({ "const": "ok" }), "Always `ok`.")]);
    let ready = object([
        field("status", json!({ "const": "ready" }), "Always `ready`."),
        field("checks", list(reference("Check")), "What was looked at."),
    ]);
    vec![
        get("/healthz", "isAlive", "Answers while the process does").answer(
            StatusCode::OK,
            alive,
            "It does.",
        ),
        get(
            "/readyz",
            "isReady",
            "Says whether the server can do its work",
        )
        .describe("503 says that it cannot, and its `checks` say why.")
        .answer(StatusCode::OK, ready, "It can."),
        get("/metrics", "getMetrics", "Shows what is counted").answer_as(
            StatusCode::OK,
            prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
            "The counts, in Prometheus's text format.",
        ),
        get("/openapi.json", "getOpenApi", "Answers with this document").answer(
            StatusCode::OK,
            any_object(),
            "The document.",
        ),
    ]
}

fn get(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::GET, path, id, summary).tag("system")
}
