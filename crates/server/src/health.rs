//! `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::app::{App, blocking};
use crate::problem::{Answer, Problem};

/// The process answers.
pub(crate) async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The catalog answers, and events can be stored.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Answer<Json<Value>> {
    blocking(move || {
        app.catalog.high_water_mark()?;
        match app.warehouse.flush_failure() {
            Some(reason) => Err(Problem::unavailable(
                format!("events cannot be flushed: {reason}"),
                30,
            )),
            None => Ok(Json(json!({ "status": "ready" }))),
        }
    })
    .await
}
