//! `/metrics`, `/healthz` and `/readyz` over a real catalog and a real warehouse.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{Aggregator, Settings as Aggregation};
use trialog_pipeline::testing;
use trialog_server::{App, Settings, router};
use trialog_warehouse::embedded::{Options, Warehouse};

const NOW: i64 = 1_760_000_000_000_000;

struct Service {
    router: axum::Router,
    warehouse: Arc<Warehouse>,
    aggregator: Arc<Aggregator>,
    now: Arc<AtomicI64>,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Service {
    fn new(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::default();
        let parts = testing::open(
            directory.path(),
            options,
            Aggregation::default(),
            UnixMicros(NOW),
        )
        .unwrap();
        let shared = (Arc::clone(&parts.warehouse), Arc::clone(&parts.aggregator));
        let app = App::new(parts.catalog, shared.0, shared.1, parts.clock, settings);
        Self {
            router: router(Arc::new(app)),
            warehouse: parts.warehouse,
            aggregator: parts.aggregator,
            now: parts.time,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            _directory: directory,
        }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> (StatusCode, String, String) {
        self.runtime.block_on(async {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::from(body.to_owned())).unwrap();
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let kind = response.headers().get(header::CONTENT_TYPE);
            let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
            let body = axum::body::to_bytes(response.into_body(), 1 << 24);
            let body = String::from_utf8(body.await.unwrap().into()).unwrap();
            (status, kind, body)
        })
    }

    /// Every sample of `/metrics`, by its name with its labels.
    fn samples(&self) -> BTreeMap<String, f64> {
        let (_, _, text) = self.send("GET", "/metrics", "");
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let earlier = samples.insert(series.to_owned(), value.parse().unwrap());
            assert_eq!(earlier, None, "{series} stands twice");
        }
        samples
    }

    fn ready(&self) -> (StatusCode, Value) {
        let (status, _, body) = self.send("GET", "/readyz", "");
        (status, serde_json::from_str(&body).unwrap())
    }
}

const EVENTS: &str = r#"[
    {"user_id": 1, "experiment_id": "gate", "variant": "a", "assigned_at": 1759990000000},
    {"user_id": 2, "experiment_id": "gate", "variant": "b", "assigned_at": 1759990000000},
    {"user_id": 3, "experiment_id": "gate"}
]"#;

#[test]
fn what_was_ingested_run_and_answered_is_counted() {
    let service = Service::new(Settings::default());
    service.send("POST", "/v1/events/assignments", EVENTS);
    let waiting = service.samples();
    assert_eq!(waiting["trialog_aggregation_lag_commits"].to_string(), "1");
    service.send("POST", "/v1/pipeline/run", "");
    service.send("GET", "/v1/experiments/gate/results", "");
    service.send("GET", "/v1/experiments/none/results", "");
    service.send("GET", "/wp-login.php", "");
    service.send("BREW", "/v1/experiments", "");
    service.now.fetch_add(90_000_000, Ordering::Relaxed);
    let samples = service.samples();
    let results = "route=\"/v1/experiments/{id}/results\",method=\"GET\"";
    let requests =
        |labels: &str| samples[&format!("trialog_http_request_duration_seconds_count{{{labels}}}")];
    let counted = [
        (
            samples["trialog_ingest_accepted_events_total{kind=\"assignments\"}"],
            2.0,
        ),
        (
            samples["trialog_ingest_rejected_events_total{kind=\"assignments\",field=\"variant\",fault=\"missing\"}"],
            1.0,
        ),
        (samples["trialog_warehouse_durable_batches_total"], 1.0),
        (samples["trialog_warehouse_durable_events_total"], 2.0),
        (
            samples["trialog_warehouse_group_commit_duration_seconds_count"],
            1.0,
        ),
        (
            samples["trialog_aggregation_runs_total{outcome=\"succeeded\"}"],
            1.0,
        ),
        (
            samples["trialog_aggregation_recomputed_experiments_total"],
            1.0,
        ),
        (samples["trialog_aggregation_published_position"], 1.0),
        (samples["trialog_aggregation_lag_commits"], 0.0),
        (samples["trialog_aggregation_lag_seconds"].floor(), 90.0),
        (requests(&format!("{results},status=\"2xx\"")), 1.0),
        (requests(&format!("{results},status=\"4xx\"")), 1.0),
        (
            requests("route=\"none\",method=\"GET\",status=\"4xx\""),
            1.0,
        ),
        (
            requests("route=\"/v1/experiments\",method=\"other\",status=\"4xx\""),
            1.0,
        ),
    ];
    for (place, (actual, expected)) in counted.into_iter().enumerate() {
        assert!(
            (actual - expected).abs() < 1e-9,
            "{place}: {actual} is not {expected}"
        );
    }
    let version = format!(
        "trialog_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert!(samples.contains_key(&version));
}

#[test]
fn names_follow_the_scheme_have_help_and_no_label_names_an_experiment() {
    let service = Service::new(Settings::default());
    service.send(
        "POST",
        "/v1/events/assignments",
        &EVENTS.replace("gate", "secret_launch"),
    );
    service.send("POST", "/v1/pipeline/run", "");
    service.send("GET", "/v1/experiments/secret_launch/results", "");
    let (status, kind, text) = service.send("GET", "/metrics", "");
    assert_eq!(status, StatusCode::OK);
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(!text.contains("secret_launch"));
    let names = |start: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| {
                line.strip_prefix(start)?
                    .split(' ')
                    .next()
                    .map(str::to_owned)
            })
            .collect()
    };
    assert_eq!(names("# HELP "), names("# TYPE "));
    for name in names("# TYPE ") {
        let is_named = name.starts_with("trialog_") || name.starts_with("process_");
        assert!(is_named, "{name}");
    }
    assert!(names("# TYPE ").len() > 20);
}

#[test]
fn a_full_disk_and_a_closed_warehouse_are_not_ready_and_say_why() {
    let service = Service::new(Settings::default());
    let (status, body) = service.ready();
    assert_eq!((status, &body["status"]), (StatusCode::OK, &"ready".into()));
    assert_eq!(body["checks"].as_array().unwrap().len(), 5);
    service.warehouse.close();
    let (status, body) = service.ready();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        body["detail"].as_str().unwrap().contains("writer"),
        "{body}"
    );
    assert_eq!(service.send("GET", "/healthz", "").0, StatusCode::OK);

    let service = Service::new(Settings {
        min_free_disk_bytes: u64::MAX,
        ..Settings::default()
    });
    let (status, body) = service.ready();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let disk = &body["checks"][4];
    assert_eq!(
        (&disk["check"], &disk["status"]),
        (&"disk".into(), &"failed".into())
    );
    assert!(disk["reason"].as_str().unwrap().contains("min_free_disk"));
}

#[test]
fn a_run_asked_for_while_stopping_is_answered_with_503() {
    let service = Service::new(Settings::default());
    service.aggregator.stop();
    let (status, _, body) = service.send("POST", "/v1/pipeline/run", "");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("shutting down"), "{body}");
}
