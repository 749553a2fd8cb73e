//! What the handlers share, the routes, and serving them.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{delete, get, post};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use trialog_catalog::Catalog;
use trialog_pipeline::aggregation::Aggregator;
use trialog_pipeline::care::Care;
use trialog_pipeline::clock::Clock;
use trialog_pipeline::ingest::Ingest;
use trialog_warehouse::embedded::Warehouse;

use crate::metrics::ServerMetrics;
use crate::problem::{Answer, Problem};
use crate::{
    care, dashboard, events, experiments, export, health, metrics, observe, pipeline, results,
};

/// Exports that are written at a time.
const MAX_EXPORTS: usize = 2;

/// The limits of the HTTP interface.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The largest request body, before and after decompression.
    pub max_body_bytes: usize,
    /// Bytes of bodies that may be in work at a time; beyond it the answer is 429.
    pub max_bodies_bytes: usize,
    /// How long a client may take to send its body.
    pub body_timeout: Duration,
    /// Filtered results that may be folded at a time.
    pub max_folds: usize,
    /// Filtered results that may wait for their turn.
    pub max_waiting_folds: usize,
    /// Below which directory backups may be made; none allows none.
    pub backup_dir: Option<PathBuf>,
    /// Free bytes on the disk below which the server is not ready; 0 for none.
    pub min_free_disk_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_bodies_bytes: 128 << 20,
            body_timeout: Duration::from_secs(30),
            max_folds: 2,
            max_waiting_folds: 16,
            backup_dir: None,
            min_free_disk_bytes: 0,
        }
    }
}

/// What the handlers share.
pub struct App {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) warehouse: Arc<Warehouse>,
    pub(crate) ingest: Ingest,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) care: Arc<Care>,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    /// A permit per KiB of body in work.
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) folds: Arc<Semaphore>,
    pub(crate) waiting_folds: Arc<Semaphore>,
    pub(crate) metrics: ServerMetrics,
    pub(crate) exports: Arc<Semaphore>,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        catalog: Arc<Catalog>,
        warehouse: Arc<Warehouse>,
        aggregator: Arc<Aggregator>,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        let now = clock();
        let ingest = Ingest::new(Arc::clone(&warehouse), now);
        let bodies = Arc::new(Semaphore::new(settings.max_bodies_bytes / 1024));
        let folds = Arc::new(Semaphore::new(settings.max_folds));
        let waiting_folds = Arc::new(Semaphore::new(
            settings.max_folds + settings.max_waiting_folds,
        ));
        let care = Arc::new(Care::new(
            Arc::clone(&catalog),
            Arc::clone(&warehouse),
            Arc::clone(&aggregator),
            Arc::clone(&clock),
        ));
        Self {
            catalog,
            warehouse,
            ingest,
            aggregator,
            care,
            clock,
            settings,
            bodies,
            folds,
            waiting_folds,
            metrics: ServerMetrics::started(now),
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
        }
    }

    /// Backup, verification and the like over the same data.
    pub fn care(&self) -> &Arc<Care> {
        &self.care
    }
}

/// All routes over `app`.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/events/assignments", post(events::assignments))
        .route("/v1/events/metrics", post(events::metrics))
        .route(
            "/v1/experiments",
            get(experiments::list).post(experiments::create),
        )
        .route(
            "/v1/experiments/{id}",
            get(experiments::read).patch(experiments::change),
        )
        .route("/v1/experiments/{id}/start", post(experiments::start))
        .route("/v1/experiments/{id}/stop", post(experiments::stop))
        .route("/v1/experiments/{id}/results", get(results::results))
        .route("/v1/pipeline", get(pipeline::state))
        .route("/v1/pipeline/run", post(pipeline::run))
        .route("/v1/backup", post(care::backup))
        .route("/v1/verify", get(care::verify))
        .route("/v1/users/{user}", delete(care::forget))
        .route("/v1/export/{table}", get(export::export))
        .route("/v1/retention/apply", post(care::retain))
        .route("/v1/erasures", get(care::erasures))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .merge(dashboard::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}

async fn no_route(uri: Uri, headers: HeaderMap) -> Response {
    let problem = Problem::new(
        StatusCode::NOT_FOUND,
        format!(
            "there is nothing at `{}`: docs/api.md lists the paths",
            uri.path()
        ),
    );
    dashboard::not_found(problem, &headers)
}

async fn no_method(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("`{}` does not take this method", uri.path()),
    )
}

/// Serves `app` on `listener` until `shutdown`; requests under way are finished.
///
/// # Errors
///
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(app))
        .with_graceful_shutdown(shutdown)
        .await
}

/// Runs `work`, which blocks, on a thread for such work.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Problem::internal(format!(
            "the request's work ended early: {error}"
        ))),
    }
}
