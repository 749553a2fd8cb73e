//! The routes over a real catalog and a real warehouse in a directory of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;
use trialog_catalog::Catalog;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{Aggregator, Settings as Aggregation};
use trialog_server::{App, Settings, router};
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::lock::DirectoryLock;

const NOW: i64 = 1_760_000_000_000_000;

/// An answer: its status, its headers, its body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// The routes, and what is behind them.
pub(crate) struct Service {
    router: Router,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Service {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Arc::new(Catalog::open(directory.path()).unwrap());
        let lock = DirectoryLock::acquire(directory.path()).unwrap();
        let warehouse = Warehouse::open(directory.path(), lock, Options::default(), 0).unwrap();
        let warehouse = Arc::new(warehouse);
        let readings = AtomicI64::new(NOW);
        let clock: trialog_pipeline::clock::Clock =
            Arc::new(move || UnixMicros(readings.fetch_add(1, Ordering::Relaxed)));
        let aggregator = Aggregator::new(
            Arc::clone(&catalog),
            Arc::clone(&warehouse),
            Arc::clone(&clock),
            Aggregation::default(),
        );
        let app = App::new(
            catalog,
            warehouse,
            Arc::new(aggregator),
            clock,
            Settings::default(),
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            router: router(Arc::new(app)),
            runtime,
            _directory: directory,
        }
    }

    pub(crate) fn send(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 24)
                .await
                .unwrap();
            let body = if bytes.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&bytes).unwrap()
            };
            Answer {
                status,
                headers,
                body,
            }
        })
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: impl std::fmt::Display) -> Answer {
        let body = Body::from(body.to_string());
        self.send(Request::post(path).body(body).unwrap())
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        let body = Body::from(body.to_string());
        self.send(Request::patch(path).body(body).unwrap())
    }
}
