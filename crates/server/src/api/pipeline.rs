//! `/v1/pipeline`: how far results reach, the last runs, and a run on demand.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use trialog_catalog::runs::RunRecord;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::Scope;
use trialog_pipeline::schedule::SCHEDULE;
use trialog_pipeline::store::Store;

use crate::app::App;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;

/// How many runs are shown.
const N_RUNS: u32 = 20;

pub(crate) async fn state(State(app): State<Arc<App>>) -> Answer<Json<Value>> {
    pools::query(&app, move |app| {
        let mark = app.catalog.high_water_mark()?;
        let runs: Vec<Value> = app.catalog.runs(N_RUNS)?.iter().map(show).collect();
        Ok(Json(json!({
            "published": {
                "position": mark.position,
                "data_time": (mark.run_id > 0).then(|| mark.data_time.to_rfc3339()),
                "run_id": (mark.run_id > 0).then_some(mark.run_id),
            },
            "ingested": ingested(&app.store)?,
            "runs": runs,
            "next_run_at": next_run(app)?.map(|time| time.to_rfc3339()),
        })))
    })
    .await
}

/// When the schedule of this process runs next; none where it has no schedule, or its
/// first run is under way.
fn next_run(app: &App) -> Answer<Option<UnixMicros>> {
    let Some(interval) = app.interval.get() else {
        return Ok(None);
    };
    let runs = app.catalog.runs(N_RUNS)?;
    let last = runs.iter().find(|run| run.cause == SCHEDULE);
    let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
    let ended = last.and_then(|run| run.finished_at);
    Ok(ended.map(|ended| UnixMicros(ended.0.saturating_add(interval))))
}

/// How far events have come, and of the embedded warehouse what there is of files.
fn ingested(store: &Store) -> Answer<Value> {
    let Ok(warehouse) = store.embedded("there are no files here") else {
        let position = store.position()?;
        return Ok(json!({
            "position": position,
            "runs": null,
            "rows_in_runs": null,
            "bytes_in_runs": null,
            "unflushed_bytes": null,
            "flush_failure": null,
        }));
    };
    let usage = warehouse.usage();
    Ok(json!({
        "position": usage.position,
        "runs": usage.n_runs,
        "rows_in_runs": usage.run_rows,
        "bytes_in_runs": usage.run_bytes,
        "unflushed_bytes": usage.unflushed_bytes,
        "flush_failure": warehouse.flush_failure(),
    }))
}

fn show(run: &RunRecord) -> Value {
    json!({
        "run_id": run.run_id,
        "cause": run.cause,
        "attempt": run.attempt,
        "status": run.status,
        "started_at": run.started_at.to_rfc3339(),
        "finished_at": run.finished_at.map(|time| time.to_rfc3339()),
        "position": run.position,
        "experiments": run.n_experiments,
        "failed_experiments": run.n_failed,
        "error": run.error,
    })
}

/// Runs now and answers when the results are published.
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Value>> {
    let mut scope = Scope::Touched;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        scope = match (name.as_str(), value.as_str()) {
            ("full", "true") => Scope::Full,
            ("full", "false") => Scope::Touched,
            ("full", _) => return Err(Problem::bad_field("full", "is neither true nor false")),
            (other, _) => return Err(Problem::bad_field(other, "is no parameter here: use full")),
        };
    }
    let own = Arc::clone(&app);
    // It goes on without its client: everybody sees what it publishes.
    let run = move |_: &_| Ok(Json(json!(own.aggregator.run("request", 1, scope)?)));
    app.pools.runs.finish(run).await
}
