//! `GET /v1/sdk/config`: what SDKs decide by.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{has_tag, ruleset};
use crate::answers::Shared;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::problem::Answer;

pub(super) fn operation() -> Operation {
    Operation::new(
        Method::GET,
        "/v1/sdk/config",
        "getSdkConfiguration",
        "What SDKs decide by",
    )
    .describe("Experiments and holdouts that run, and variants that are shipped, with what an assignment needs of them and nothing else. Members may be added: pass over those that are not known.")
    .header("If-None-Match", schema::text(), "The tag of what the client has.")
    .answer(StatusCode::OK, schema::reference("SdkConfiguration"), "The configuration.")
    .answer_header(StatusCode::OK, "ETag", "Stands for this configuration.")
    .answer_empty(StatusCode::NOT_MODIFIED, "The client has it.")
}

/// The configuration, which is written once for all clients, in `model`.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("SdkConfiguration", configuration()),
        ("ExperimentRules", experiment_rules()),
        ("HoldoutRules", holdout_rules()),
        ("ShippedRules", shipped_rules()),
    ]
}

fn configuration() -> Schema {
    schema::object([
        schema::field(
            "experiments",
            schema::list(schema::reference("ExperimentRules")),
            "The experiments that run.",
        ),
        schema::field(
            "holdouts",
            schema::list(schema::reference("HoldoutRules")),
            "The holdouts that run.",
        ),
        schema::optional(
            "shipped",
            schema::list(schema::reference("ShippedRules")),
            "The experiments that ended and ship a variant; absent where there is none.",
        ),
    ])
}

fn experiment_rules() -> Schema {
    schema::object([
        schema::field("experiment_id", schema::text(), "The experiment."),
        schema::optional(
            "salt",
            schema::text(),
            "Seeds the assignment; the id if absent.",
        ),
        schema::optional(
            "layer",
            schema::text(),
            "The layer whose buckets it shares.",
        ),
        schema::optional(
            "ranges",
            schema::list(schema::list(schema::count())),
            "In a layer: its buckets, from the first on and before the second.",
        ),
        schema::field(
            "allocation",
            schema::fraction(),
            "Outside a layer: the share of units that are enrolled.",
        ),
        schema::optional(
            "targeting",
            schema::list(schema::reference("Condition")),
            "Conditions on the context, all of which must hold.",
        ),
        schema::field(
            "variants",
            schema::list(schema::reference("VariantWeight")),
            "The variants and their weights.",
        ),
        schema::optional(
            "forced",
            schema::list(schema::reference("ForcedVariant")),
            "Units that get a variant whatever the rules say.",
        ),
        schema::optional(
            "start_at",
            schema::time(),
            "Earlier exposures are not looked at.",
        ),
        schema::optional(
            "event_types",
            schema::list(schema::text()),
            "The events of which its metrics are made.",
        ),
    ])
}

fn shipped_rules() -> Schema {
    schema::object([
        schema::field("experiment_id", schema::text(), "The experiment."),
        schema::field(
            "ship",
            schema::text(),
            "The variant of every unit that no holdout keeps out and that meets the conditions.",
        ),
        schema::optional(
            "targeting",
            schema::list(schema::reference("Condition")),
            "Conditions on the context, all of which must hold.",
        ),
        schema::field(
            "variants",
            schema::list(schema::reference("VariantWeight")),
            "The variants with their values.",
        ),
        schema::optional(
            "forced",
            schema::list(schema::reference("ForcedVariant")),
            "Units that get a variant whatever the rules say.",
        ),
    ])
}

fn holdout_rules() -> Schema {
    schema::object([
        schema::field("name", schema::text(), "The holdout."),
        schema::field(
            "size",
            schema::fraction(),
            "The share of units that are held out.",
        ),
        schema::field(
            "experiments",
            schema::nullable(schema::list(schema::text())),
            "The experiments in its scope; null for every one.",
        ),
        schema::optional(
            "event_types",
            schema::list(schema::text()),
            "The events of which its metrics are made.",
        ),
    ])
}

pub(crate) async fn config(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer<Response> {
    let prepared = ruleset(&app).await?;
    let tag = [(header::ETAG, format!("\"{}\"", prepared.version))];
    if has_tag(&headers, &prepared.version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((tag, json, Extension(Shared), prepared.json.clone()).into_response())
}
