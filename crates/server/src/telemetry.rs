//! Serves `/metrics`: the counts of all parts in Prometheus's text format. A metric's doc comment
//! is its help text.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use trialog_model::time::UnixMicros;

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::process;

/// Upper bounds in seconds, around the 20 ms of a results page and the 30 s of a slow body.
const REQUEST_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// The labels of a request, which have few values: the route is its template, the status its
/// class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) route: String,
    pub(crate) method: &'static str,
    pub(crate) status: &'static str,
}

/// The version of this binary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BuildLabels {
    version: &'static str,
}

trialog_warehouse::metrics! {
    /// The counts of the HTTP interface and the process.
    pub struct ServerMetrics {
        /// How long requests took until their answer began, by route template, method and class of status.
        requests: Family<RequestLabels, Histogram> = "trialog_http_request_duration_seconds",
            Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS));
        /// The version of this binary, as a label of the constant 1.
        build: Family<BuildLabels, Gauge> = "trialog_build_info";
        /// When the process started, in seconds since 1970.
        started_at: Gauge<f64, AtomicU64> = "process_start_time_seconds";
        /// Open file descriptors; 0 where the system does not tell.
        open_fds: Gauge = "process_open_fds";
        /// The most file descriptors that the process may open; 0 where the system does not tell.
        max_fds: Gauge = "process_max_fds";
        /// Resident memory; 0 where the system does not tell.
        resident_bytes: Gauge = "process_resident_memory_bytes";
        /// Bytes that may still be written to the disk that events are on; 0 where the system does not tell.
        free_disk: Gauge = "trialog_disk_free_bytes";
    }
}

impl ServerMetrics {
    /// Creates the counts of a process that started at `started_at`.
    pub(crate) fn started(started_at: UnixMicros) -> Self {
        let metrics = Self::new();
        let version = env!("CARGO_PKG_VERSION");
        let build = metrics.build.get_or_create(&BuildLabels { version });
        build.set(1);
        drop(build);
        metrics.started_at.set(started_at.0 as f64 / 1e6);
        metrics
    }

    /// Counts a request.
    pub(crate) fn note_request(&self, labels: &RequestLabels, taken: Duration) {
        let histogram = self.requests.get_or_create(labels);
        histogram.observe(taken.as_secs_f64());
    }

    fn refresh(&self, free_disk_bytes: u64) {
        let gauge = |count: Option<u64>| count.and_then(|n| i64::try_from(n).ok()).unwrap_or(0);
        self.open_fds.set(gauge(process::open_fds()));
        self.max_fds.set(gauge(process::max_fds()));
        self.resident_bytes.set(gauge(process::resident_bytes()));
        self.free_disk.set(gauge(Some(free_disk_bytes)));
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let path = "/metrics";
    let counts = Operation::new(Method::GET, path, "getMetrics", "Shows what is counted")
        .tag("system")
        .answer_as(
            StatusCode::OK,
            prometheus_text::CONTENT_TYPE,
            "The counts, in Prometheus's text format.",
        );
    vec![counts]
}

/// Serves all counts as Prometheus reads them.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Answer<impl IntoResponse> {
    let text = pools::query(&app, move |app| {
        let files = app.store.embedded("there are no files here").ok();
        let space = files.and_then(|warehouse| warehouse.space().ok());
        app.metrics
            .refresh(space.map_or(0, |space| space.free_bytes));
        let mut registry = Registry::default();
        app.ingest.metrics().register(&mut registry);
        if let Some(warehouse) = files {
            warehouse.metrics().register(&mut registry);
        }
        #[cfg(feature = "kafka")]
        if let Some(consumers) = app.consumers() {
            consumers.metrics().register(&mut registry);
        }
        app.aggregator.metrics().register(&mut registry);
        app.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).map_err(|error| {
            Problem::internal(format!("the metrics cannot be written: {error}"))
        })?;
        Ok(text)
    })
    .await?;
    Ok((
        [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
        text,
    ))
}
