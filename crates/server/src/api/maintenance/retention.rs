//! `POST /v1/retention/apply`: retention on demand.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use trialog_pipeline::maintenance::retention::{Mode, RetentionReport};

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;

pub(super) fn operation() -> Operation {
    let dry_run = schema::with(schema::boolean(), "default", false);
    let path = "/v1/retention/apply";
    Operation::new(
        Method::POST,
        path,
        "applyRetention",
        "Drops events that are older than they are kept",
    )
    .tag("maintenance")
    .describe("Experiments that lose events keep their results as they are.")
    .query(
        "dry_run",
        dry_run,
        "Whether nothing is changed, and the answer says what would be.",
    )
    .query(
        "confirm",
        schema::with(schema::boolean(), "default", false),
        "Whether they are dropped even where that is more than `drop_at_most` lets go at once, or the clock may have jumped.",
    )
    .answers::<RetentionReport>(StatusCode::OK, "What was dropped.")
    .problems(&[409])
}

/// Drops old events now, or says which would go.
pub(crate) async fn retain(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Json<RetentionReport>> {
    let mut mode = Mode::Apply;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        mode = match (name.as_str(), value.as_str()) {
            ("dry_run", "true") => Mode::DryRun,
            ("confirm", "true") if mode == Mode::Apply => Mode::Confirmed,
            ("dry_run" | "confirm", "false") => mode,
            ("confirm", "true") => mode,
            (name @ ("dry_run" | "confirm"), _) => {
                return Err(Problem::bad_field(name, "is neither true nor false"));
            }
            (other, _) => {
                return Err(Problem::bad_field(
                    other,
                    "is no parameter here: use dry_run or confirm",
                ));
            }
        };
    }
    let maintenance = Arc::clone(&app.maintenance);
    let retain = move |_: &Flag| Ok(Json(maintenance.retain(mode)?));
    app.pools.maintenance.finish(retain).await
}
