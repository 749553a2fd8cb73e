//! `/healthz`: the process answers. `/readyz`: it can do its work.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

#[cfg(feature = "kafka")]
use trialog_pipeline::ingest::Destination;
use trialog_pipeline::store::Store;
use trialog_warehouse::embedded::Warehouse;

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::pools;
use crate::problem::{Answer, Problem};

/// How long the checks may take: a catalog that is busy for longer serves nobody.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the brokers may take of that.
#[cfg(feature = "kafka")]
const BROKER_PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn operations() -> Vec<Operation> {
    let alive = Operation::new(
        Method::GET,
        "/healthz",
        "isAlive",
        "Answers while the process does",
    )
    .answers::<Alive>(StatusCode::OK, "It does.");
    let ready = Operation::new(
        Method::GET,
        "/readyz",
        "isReady",
        "Says whether the server can do its work",
    )
    .describe("503 says that it cannot, and its `checks` say why.")
    .answers::<Ready>(StatusCode::OK, "It can.");
    [alive, ready]
        .map(|operation| operation.tag("system"))
        .into()
}

/// The process answers.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Alive {
    /// Always `ok`.
    #[schemars(extend("const" = "ok"))]
    status: &'static str,
}

/// The server can do its work.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Ready {
    /// Always `ready`.
    #[schemars(extend("const" = "ready"))]
    status: &'static str,
    /// What was looked at.
    checks: Vec<Check>,
}

/// A check of readiness.
#[derive(Debug, Serialize, JsonSchema)]
struct Check {
    /// What has to work.
    check: &'static str,
    /// Whether it does.
    #[schemars(extend("enum" = ["ok", "failed"]))]
    status: &'static str,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    reason: Option<String>,
}

/// Answers that the process is alive.
pub(crate) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

impl Check {
    fn new(check: &'static str, outcome: Result<(), String>) -> Self {
        Self {
            check,
            status: if outcome.is_ok() { "ok" } else { "failed" },
            reason: outcome.err(),
        }
    }
}

/// Checks that the catalog answers and that events can be stored.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Answer<Json<Ready>> {
    let looking = pools::upkeep(&app, |app| Ok(checks(app)));
    let checks = match tokio::time::timeout(PATIENCE, looking).await {
        Ok(checks) => checks?,
        Err(_) => {
            let reason = format!("gave no answer within {} s", PATIENCE.as_secs());
            vec![Check::new("catalog", Err(reason))]
        }
    };
    let failed: Vec<String> = (checks.iter())
        .filter_map(|check| Some(format!("{}: {}", check.check, check.reason.as_ref()?)))
        .collect();
    if failed.is_empty() {
        return Ok(Json(Ready {
            status: "ready",
            checks,
        }));
    }
    let detail = format!("the server is not ready: {}", failed.join("; "));
    Err(Problem::unavailable(detail, 30).with("checks", json!(checks)))
}

fn checks(app: &App) -> Vec<Check> {
    let catalog = app.catalog.high_water_mark();
    let catalog = catalog.map(drop).map_err(|error| error.to_string());
    let catalog = catalog.and_then(|()| app.catalog.lost_file().map_or(Ok(()), Err));
    let mut checks = vec![Check::new("catalog", catalog)];
    match &app.store {
        Store::Embedded(warehouse) => checks.extend(files(app, warehouse)),
        #[cfg(feature = "clickhouse")]
        store @ Store::ClickHouse(_) => {
            let answers = store.check_server().map_err(|error| error.to_string());
            checks.push(Check::new("clickhouse", answers));
        }
    }
    #[cfg(feature = "kafka")]
    if let Some(consumers) = app.consumers() {
        let running = if consumers.is_running() {
            Ok(())
        } else {
            Err(
                "a thread that takes events from `event_log` has ended: restart this process"
                    .to_owned(),
            )
        };
        checks.push(Check::new("consumer", running));
    }
    #[cfg(feature = "kafka")]
    if let Destination::Kafka(producer) = &app.destination {
        let answers = producer.check(BROKER_PATIENCE);
        checks.push(Check::new(
            "kafka",
            answers.map_err(|error| error.to_string()),
        ));
    }
    checks
}

/// The warehouse in the data directory, and the disk beneath it.
fn files(app: &App, warehouse: &Warehouse) -> [Check; 4] {
    let writer = if warehouse.takes_events() {
        Ok(())
    } else {
        Err("the thread that makes events durable has ended: restart the server".to_owned())
    };
    let flush = match warehouse.flush_failure() {
        Some(reason) => Err(format!("events cannot be flushed: {reason}")),
        None => Ok(()),
    };
    let lost = warehouse.lost_file().map_or(Ok(()), Err);
    [
        Check::new("warehouse", lost),
        Check::new("writer", writer),
        Check::new("flush", flush),
        Check::new("disk", disk(app, warehouse)),
    ]
}

fn disk(app: &App, warehouse: &Warehouse) -> Result<(), String> {
    let space = warehouse.space().map_err(|error| error.chain())?;
    let (free, least) = (space.free_bytes, app.settings.min_free_disk_bytes);
    if free < least {
        return Err(format!(
            "{free} bytes are free where `min_free_disk` asks for {least}: free space on the disk"
        ));
    }
    if space.free_inodes == Some(0) {
        return Err("no file can be created: the file system has no free inode".to_owned());
    }
    Ok(())
}
