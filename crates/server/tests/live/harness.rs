//! The HTTP interface over a real catalog and a real warehouse.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use trialog_catalog::Catalog;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::Settings as Aggregation;
use trialog_pipeline::testing;
use trialog_server::{App, InProcess, Settings, router};
use trialog_warehouse::embedded::Options;

const NOW: i64 = 1_760_000_000_000_000;

/// An app with a directory of its own; its clock moves by 1 µs at each reading.
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// What the clock says, in microseconds.
    pub(crate) time: Arc<AtomicI64>,
    router: Router,
    _directory: TempDir,
}

/// The defaults, with randomness that repeats nothing within a process.
pub(crate) fn settings() -> Settings {
    Settings {
        randomness: |buffer| {
            static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            (buffer.iter_mut().zip(next.to_le_bytes().iter().cycle()))
                .for_each(|(byte, from)| *byte = *from);
            Ok(())
        },
        ..Settings::default()
    }
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::with_runs(settings, Aggregation::default())
    }

    pub(crate) fn with_runs(settings: Settings, runs: Aggregation) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let catalog = trialog_catalog::testing::open(directory.path()).unwrap();
        Self::in_directory(directory, catalog, UnixMicros(NOW), (settings, runs))
    }

    /// An app with the data in `directory`, whose clock begins at `now`.
    pub(crate) fn in_directory(
        directory: TempDir,
        catalog: Catalog,
        now: UnixMicros,
        (settings, runs): (Settings, Aggregation),
    ) -> Self {
        let options = Options::default();
        let parts = testing::open_with(catalog, directory.path(), options, runs, now).unwrap();
        let app = App::new(
            parts.catalog,
            parts.warehouse,
            parts.aggregator,
            parts.clock,
            settings,
        );
        let app = Arc::new(app);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            router: router(Arc::clone(&app)),
            app,
            runtime,
            time: parts.time,
            _directory: directory,
        }
    }

    pub(crate) fn answer(&self, request: Request<Body>) -> Response<Body> {
        (self.runtime)
            .block_on(self.router.clone().oneshot(request))
            .unwrap()
    }

    pub(crate) fn status(&self, request: Request<Body>) -> StatusCode {
        self.answer(request).status()
    }

    pub(crate) fn json(&self, answer: Response<Body>) -> Value {
        let body = axum::body::to_bytes(answer.into_body(), 1 << 24);
        serde_json::from_slice(&self.runtime.block_on(body).unwrap()).unwrap()
    }

    pub(crate) fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.answer(request);
        (answer.status(), self.json(answer))
    }

    /// A new key, made from within the process.
    pub(crate) fn make_key(&self, name: &str, scopes: &[&str]) -> String {
        let wanted = json!({"name": name, "scopes": scopes}).to_string();
        let mut request = Request::post("/v1/keys").body(Body::from(wanted)).unwrap();
        request.extensions_mut().insert(InProcess);
        let (status, made) = self.send(request);
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made["key"].as_str().unwrap().to_owned()
    }
}
