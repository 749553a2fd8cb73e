//! Describes the interface as an OpenAPI 3.1 document, `GET /openapi.json`.
//!
//! One file per resource declares its operations and their schemas; limits,
//! words and defaults come from the types and constants that hold them.
//! Tests compare the document with the router, with real answers, and with
//! the snapshot in `docs/openapi.json`.
#![expect(
    clippy::needless_pass_by_value,
    reason = "builders take the schemas that become part of theirs"
)]

pub(crate) mod derived;
pub(crate) mod operation;
pub(crate) mod problems;
pub(crate) mod schema;
pub(crate) mod window;

use std::sync::LazyLock;

use axum::Extension;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use trialog_catalog::keys::Scope;

use self::operation::Operation;
use self::schema::Schema;
use crate::answers::Shared;
use crate::api::{
    audit, breakdown, breakdowns, calc, cohorts, context, evaluation, events, experiments, export,
    funnel, health, holdouts, keys, layers, maintenance, metric_definitions, pipeline, results,
    timeline,
};
use crate::telemetry;

/// What the tags mean, in the order in which a reader needs them.
const TAGS: &[(&str, &str)] = &[
    ("events", "Who saw which variant, and what they did."),
    ("experiments", "The registry of experiments."),
    ("metrics", "Definitions of metrics."),
    ("layers", "Experiments that share no unit."),
    ("holdouts", "Units that are kept out of experiments."),
    (
        "evaluation",
        "Who gets which variant, for clients without an SDK.",
    ),
    ("audit", "Who changed what."),
    ("results", "Tests, intervals and warnings."),
    ("statistics", "Every method on numbers of your own."),
    ("pipeline", "How far results reach, and runs on demand."),
    ("maintenance", "Backup, verification, export, erasure."),
    ("keys", "API keys."),
    ("system", "Health, counts, and this document."),
];

const DESCRIPTION: &str = "Logs A/B tests and analyses them.\n\nTimes are RFC 3339 in UTC. Rates, p-values and relative differences are fractions. Every error is a problem document (RFC 9457).\n\nLater versions may add members to objects in answers; a client must ignore members that it does not know.";

/// Returns the document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut components: Map<String, Value> = schemas().into_iter().collect();
    for operation in operations() {
        components.extend(operation.components());
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] = operation.json();
    }
    let tags: Vec<Value> = (TAGS.iter())
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trialog",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": problems::responses(),
            "securitySchemes": security_schemes(),
        },
    })
}

/// How a key is sent: each of them alone is enough.
fn security_schemes() -> Value {
    let scopes = Scope::ALL.map(Scope::as_str).join(", ");
    let bearer = format!(
        "An API key with the scope that the operation names, of {scopes}. As long as no key was made, a server that listens on loopback asks for none."
    );
    json!({
        "bearer": { "type": "http", "scheme": "bearer", "description": bearer },
        "header": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key." },
        "password": { "type": "http", "scheme": "basic", "description": "The key as the password, with any user name: for browsers." },
    })
}

/// Returns the document as text: indented, members in alphabetical order.
pub fn text() -> String {
    format!("{:#}\n", document())
}

/// Serves the document.
pub(crate) async fn serve() -> Response {
    // Anybody may ask for it: it is made once, and held once.
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| text().into());
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, Extension(Shared), TEXT.clone()).into_response()
}

/// The operation that answers with the document.
fn own_operations() -> Vec<Operation> {
    let path = "/openapi.json";
    let document = Operation::new(
        Method::GET,
        path,
        "getOpenApi",
        "Answers with this document",
    )
    .tag("system")
    .answer(StatusCode::OK, schema::any_object(), "The document.");
    vec![document]
}

fn operations() -> impl Iterator<Item = Operation> {
    [
        events::operations(),
        experiments::operations(),
        metric_definitions::operations(),
        layers::operations(),
        holdouts::operations(),
        evaluation::operations(),
        audit::operations(),
        results::operations(),
        context::operations(),
        breakdown::operations(),
        breakdowns::operations(),
        cohorts::operations(),
        funnel::operations(),
        timeline::operations(),
        calc::operations(),
        pipeline::operations(),
        maintenance::operations(),
        export::operations(),
        keys::operations(),
        health::operations(),
        telemetry::operations(),
        own_operations(),
    ]
    .into_iter()
    .flatten()
}

fn schemas() -> Vec<(String, Schema)> {
    let named = |(name, schema): (&str, Schema)| (name.to_owned(), schema);
    [
        vec![("Problem", problems::problem())],
        events::schemas(),
        experiments::schemas(),
        metric_definitions::schemas(),
        evaluation::schemas(),
        keys::schemas(),
        layers::schemas(),
        holdouts::schemas(),
        calc::schemas(),
    ]
    .into_iter()
    .flatten()
    .map(named)
    .collect()
}
