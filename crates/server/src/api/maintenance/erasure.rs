//! `DELETE /v1/users/{user}` and `GET /v1/erasures`: erasures and their audit.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::audit::Actor;
use trialog_catalog::erasures::Erasure;
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::ids::ExperimentId;
use trialog_model::user_id::user_id_from_text;
use trialog_pipeline::maintenance::forget::ForgetReport;

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;

/// Erasures that are shown.
const N_ERASURES: u32 = 1_000;

pub(super) fn operations() -> [Operation; 2] {
    [forget_operation(), erasures_operation()]
}

fn forget_operation() -> Operation {
    let path = "/v1/users/{user}";
    Operation::new(
        Method::DELETE,
        path,
        "forgetUser",
        "Removes every event of a user, for good",
    )
    .tag("maintenance")
    .describe("The results without the user are published before the answer.")
    .segment(
        "user",
        schema::chars(1, MAX_USER_ID_BYTES),
        "u-1",
        "The user id as in events, percent-encoded.",
    )
    .query(
        "experiment",
        schema::name(ExperimentId::MAX_CHARS),
        "Only events of this experiment.",
    )
    .answers::<ForgetReport>(StatusCode::OK, "What was removed.")
}

fn erasures_operation() -> Operation {
    let path = "/v1/erasures";
    Operation::new(
        Method::GET,
        path,
        "listErasures",
        "Lists what was erased, newest first",
    )
    .tag("maintenance")
    .query(
        "user",
        schema::text(),
        "Only erasures of this user, whose id is text as in events: whether somebody was erased.",
    )
    .answers::<Erasures>(StatusCode::OK, "The last 1,000 erasures.")
}

/// The audit of erasures.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Erasures {
    /// The erasures.
    erasures: Vec<Erasure>,
}

/// Removes every event of a user; the user id is text as in an event.
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Extension(actor): Extension<Actor>,
    RawQuery(query): RawQuery,
) -> Answer<Json<ForgetReport>> {
    let Path(user) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    if user.len() > MAX_USER_ID_BYTES {
        return Err(Problem::bad_field("user", "is longer than any user id"));
    }
    let mut experiment = None;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        if name != "experiment" {
            let reason = "is no parameter here: use experiment";
            return Err(Problem::bad_field(&name, reason));
        }
        let id = ExperimentId::new(value);
        experiment =
            Some(id.map_err(|error| Problem::bad_field("experiment", &error.to_string()))?);
    }
    let maintenance = Arc::clone(&app.maintenance);
    // What an erasure has begun it brings to its end, whoever waits for it.
    let forget = move |_: &Flag| {
        let user = user_id_from_text(user.trim());
        let report = maintenance.forget(user, experiment.as_ref(), actor.as_str())?;
        Ok(Json(report))
    };
    app.pools.maintenance.finish(forget).await
}

/// The audit of erasures; with `user`, those of this user.
pub(crate) async fn erasures(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Erasures>> {
    let mut user = None;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        match name.as_str() {
            "user" if value.len() <= MAX_USER_ID_BYTES => {
                user = Some(user_id_from_text(value.trim()));
            }
            "user" => return Err(Problem::bad_field("user", "is longer than any user id")),
            other => return Err(Problem::bad_field(other, "is no parameter here: use user")),
        }
    }
    let erasures = pools::query(&app, move |app| {
        Ok(app.catalog.erasures(user, N_ERASURES)?)
    })
    .await?;
    Ok(Json(Erasures { erasures }))
}
