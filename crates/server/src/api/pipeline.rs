//! `/v1/pipeline`: how far results reach, the last runs, and a run on demand.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::runs::{RunRecord, RunStatus};
use trialog_model::published::HighWaterMark;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{RunReport, Scope};
use trialog_pipeline::schedule::SCHEDULE;
use trialog_pipeline::store::Store;

use super::types::Time;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;

/// How many runs are shown.
const N_RUNS: u32 = 20;

pub(crate) fn operations() -> Vec<Operation> {
    let state = Operation::new(
        Method::GET,
        "/v1/pipeline",
        "getPipeline",
        "Shows how far results reach, and the last runs",
    )
    .answers::<Pipeline>(StatusCode::OK, "The state.");
    let run = Operation::new(Method::POST, "/v1/pipeline/run", "runPipeline", "Runs now")
        .describe("Answers when the results are published.")
        .query(
            "full",
            schema::with(schema::boolean(), "default", false),
            "Whether every experiment is recomputed, not only those that something happened to.",
        )
        .answers::<RunReport>(StatusCode::OK, "What the run did.");
    [state, run]
        .map(|operation| operation.tag("pipeline"))
        .into()
}

/// How far events and results have come.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Pipeline {
    /// How far results reach.
    published: PublishedUpTo,
    /// How far events reach.
    ingested: Ingested,
    /// The last attempts, newest first.
    runs: Vec<Run>,
    /// When the schedule of this process runs next; null where it has none, or before its
    /// first run has ended.
    next_run_at: Option<Time>,
}

/// The events that results cover.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct PublishedUpTo {
    /// The position that results cover.
    position: u64,
    /// The moment that they hold for; null before the first run.
    data_time: Option<Time>,
    /// The run that published them.
    #[schemars(range(min = 1))]
    run_id: Option<i64>,
}

impl From<HighWaterMark> for PublishedUpTo {
    fn from(mark: HighWaterMark) -> Self {
        let is_any = mark.run_id > 0;
        Self {
            position: mark.position,
            data_time: is_any.then(|| mark.data_time.into()),
            run_id: is_any.then_some(mark.run_id),
        }
    }
}

/// The events that are durable, and the files that hold them.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(inline)]
struct Ingested {
    /// The last position that is durable.
    position: u64,
    /// Files of events; null where the events are in ClickHouse, as are the next three.
    runs: Option<u64>,
    /// Events in them.
    rows_in_runs: Option<u64>,
    /// Their size.
    bytes_in_runs: Option<u64>,
    /// Events in memory and in the inbox.
    unflushed_bytes: Option<u64>,
    /// Why they cannot be flushed.
    flush_failure: Option<String>,
}

impl Ingested {
    fn from_store(store: &Store) -> Answer<Self> {
        let Ok(warehouse) = store.embedded("there are no files here") else {
            return Ok(Self {
                position: store.position()?,
                ..Self::default()
            });
        };
        let usage = warehouse.usage();
        Ok(Self {
            position: usage.position,
            runs: Some(usage.n_runs as u64),
            rows_in_runs: Some(usage.run_rows),
            bytes_in_runs: Some(usage.run_bytes),
            unflushed_bytes: Some(usage.unflushed_bytes as u64),
            flush_failure: warehouse.flush_failure(),
        })
    }
}

/// An attempt to run.
#[derive(Serialize, JsonSchema)]
struct Run {
    /// Its number.
    #[schemars(range(min = 1))]
    run_id: i64,
    /// What started it: `schedule`, `request`, `command`, ...
    cause: String,
    /// Which try it was.
    #[schemars(range(min = 1))]
    attempt: u32,
    /// What became of it.
    status: RunStatus,
    /// When it began.
    started_at: Time,
    /// When it ended.
    finished_at: Option<Time>,
    /// Up to where it read.
    position: Option<u64>,
    /// Experiments that it recomputed.
    experiments: Option<u64>,
    /// Those that could not be computed.
    failed_experiments: Option<u64>,
    /// Why it failed.
    error: Option<String>,
}

impl From<RunRecord> for Run {
    fn from(run: RunRecord) -> Self {
        Self {
            run_id: run.run_id,
            cause: run.cause,
            attempt: run.attempt,
            status: run.status,
            started_at: run.started_at.into(),
            finished_at: run.finished_at.map(Time::from),
            position: run.position,
            experiments: run.n_experiments,
            failed_experiments: run.n_failed,
            error: run.error,
        }
    }
}

pub(crate) async fn state(State(app): State<Arc<App>>) -> Answer<Json<Pipeline>> {
    pools::query(&app, move |app| {
        let runs = app.catalog.runs(N_RUNS)?;
        Ok(Json(Pipeline {
            published: app.catalog.high_water_mark()?.into(),
            ingested: Ingested::from_store(&app.store)?,
            next_run_at: next_run(app, &runs).map(Time::from),
            runs: runs.into_iter().map(Run::from).collect(),
        }))
    })
    .await
}

/// When the schedule of this process runs next; none where it has no schedule, or its
/// first run is under way.
fn next_run(app: &App, runs: &[RunRecord]) -> Option<UnixMicros> {
    let interval = app.interval.get()?;
    let last = runs.iter().find(|run| run.cause == SCHEDULE);
    let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
    let ended = last.and_then(|run| run.finished_at)?;
    Some(UnixMicros(ended.0.saturating_add(interval)))
}

/// Runs now and answers when the results are published.
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Json<RunReport>> {
    let mut scope = Scope::Touched;
    for (name, value) in pairs(query.as_deref().unwrap_or_default())? {
        scope = match (name.as_str(), value.as_str()) {
            ("full", "true") => Scope::Full,
            ("full", "false") => Scope::Touched,
            ("full", _) => return Err(Problem::bad_field("full", "is neither true nor false")),
            (other, _) => return Err(Problem::bad_field(other, "is no parameter here: use full")),
        };
    }
    let aggregator = Arc::clone(&app.aggregator);
    // It goes on without its client: everybody sees what it publishes.
    let run = move |_: &_| Ok(Json(aggregator.run("request", 1, scope)?));
    app.pools.runs.finish(run).await
}
