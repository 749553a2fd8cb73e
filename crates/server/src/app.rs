//! What the handlers share, and the routes.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use trialog_catalog::{Catalog, CatalogError};
use trialog_pipeline::aggregation::Aggregator;
use trialog_pipeline::clock::Clock;
use trialog_pipeline::ingest::{Destination, Ingest, IngestSettings};
#[cfg(feature = "kafka")]
use trialog_pipeline::kafka::Consumers;
use trialog_pipeline::maintenance::Maintenance;
use trialog_pipeline::store::Store;

use crate::access::Randomness;
use crate::access::keyring::Keyring;
use crate::access::refusals::Refusals;
use crate::answers::Answers;
use crate::budget::Budget;
use crate::evaluation::WithoutVariant;
use crate::headers::RequestIds;
use crate::limits::Rates;
use crate::names::Names;
use crate::pools::Pools;
use crate::problem::Problem;
use crate::rulesets::Rulesets;
use crate::serving::Connections;
use crate::telemetry::ServerMetrics;
use crate::turns::Turns;
use crate::{access, cors, headers, observe};
use crate::{
    audit, calc, dashboard, evaluation, events, experiments, export, health, holdouts, keys,
    layers, maintenance, metric_definitions, openapi, pipeline, results, telemetry,
};

/// The limits of the HTTP interface.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The largest request body, before and after decompression.
    pub max_body_bytes: usize,
    /// Bytes of bodies that may be in work at a time; beyond its share of it a caller's answer
    /// is 429.
    pub max_bodies_bytes: usize,
    /// Bytes of large answers that may wait to be sent at a time, shared out in the same way.
    pub max_answers_bytes: usize,
    /// Large bodies that are read at a time.
    pub max_turns: usize,
    /// What a request may bring in.
    pub ingest: IngestSettings,
    /// How long a client may take to send its body.
    pub body_timeout: Duration,
    /// Requests a second for each key, or each address without one; 0 for no limit.
    pub requests_per_second: u32,
    /// The limits of connections.
    pub connections: Connections,
    /// Origins whose pages may send events and evaluate; `*` for all.
    pub cors_origins: Vec<String>,
    /// What OpenFeature clients get for a unit without a variant.
    pub without_variant: WithoutVariant,
    /// Where the secrets of new keys come from.
    pub randomness: Randomness,
    /// Filtered results that may be folded at a time.
    pub max_folds: usize,
    /// Filtered results that may wait for their turn.
    pub max_waiting_folds: usize,
    /// Below which directory backups may be made; none allows none.
    pub backup_dir: Option<PathBuf>,
    /// Free bytes on the disk below which the server is not ready; 0 for none.
    pub min_free_disk_bytes: u64,
    /// Whether the API and the dashboard are served; health and metrics always are.
    pub serves_api: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_bodies_bytes: 128 << 20,
            max_answers_bytes: 64 << 20,
            // More than cores, so that none idles while a place passes from one to the next.
            max_turns: 2 * std::thread::available_parallelism().map_or(2, NonZero::get),
            ingest: IngestSettings::default(),
            body_timeout: Duration::from_secs(30),
            requests_per_second: 5_000,
            connections: Connections::default(),
            cors_origins: Vec::new(),
            without_variant: WithoutVariant::default(),
            randomness: |_| Err(std::io::ErrorKind::Unsupported.into()),
            max_folds: 2,
            max_waiting_folds: 16,
            backup_dir: None,
            min_free_disk_bytes: 0,
            serves_api: true,
        }
    }
}

/// What the handlers share.
pub struct App {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) ingest: Ingest,
    pub(crate) destination: Destination,
    /// Those of this process, where it has any.
    #[cfg(feature = "kafka")]
    consumers: OnceLock<Arc<Consumers>>,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) maintenance: Arc<Maintenance>,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) keyring: Keyring,
    pub(crate) rates: Rates,
    pub(crate) refusals: Refusals,
    pub(crate) request_ids: RequestIds,
    /// Memory of bodies in work.
    pub(crate) bodies: Arc<Budget>,
    /// Memory of answers that are not sent yet.
    pub(crate) answers: Answers,
    /// Threads for large bodies.
    pub(crate) turns: Arc<Turns>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) metrics: ServerMetrics,
    pub(crate) names: Names,
    pub(crate) rulesets: Rulesets,
    /// The time between runs of this process, where it runs on a schedule.
    pub(crate) interval: OnceLock<Duration>,
}

impl App {
    /// Notes that this process runs every `interval`, so that it can tell when the next run is.
    pub fn runs_every(&self, interval: Duration) {
        // It is told once, when its schedule starts.
        let _ = self.interval.set(interval);
    }

    /// Puts the parts together.
    pub fn new(
        catalog: Arc<Catalog>,
        store: impl Into<Store>,
        aggregator: Arc<Aggregator>,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        let now = clock();
        let store = store.into();
        let destination = Destination::from(&store);
        let ingest = Ingest::new(destination.clone(), now, settings.ingest);
        let bodies = Budget::new(settings.max_bodies_bytes);
        let answers = Answers::new(settings.max_answers_bytes);
        let turns = Turns::new(settings.max_turns);
        let pools = Arc::new(Pools::new(&settings));
        let maintenance = Arc::new(Maintenance::new(
            Arc::clone(&catalog),
            store.clone(),
            Arc::clone(&aggregator),
            Arc::clone(&clock),
        ));
        Self {
            catalog,
            store,
            ingest,
            destination,
            #[cfg(feature = "kafka")]
            consumers: OnceLock::new(),
            aggregator,
            maintenance,
            clock,
            keyring: Keyring::new(),
            rates: Rates::new(settings.requests_per_second),
            refusals: Refusals::default(),
            request_ids: RequestIds::new(now),
            settings,
            bodies,
            answers,
            turns,
            pools,
            names: Names::default(),
            rulesets: Rulesets::default(),
            interval: OnceLock::new(),
            metrics: ServerMetrics::started(now),
        }
    }

    /// The same, with events going to `destination` instead of the warehouse.
    #[must_use]
    pub fn with_destination(mut self, destination: Destination) -> Self {
        let now = (self.clock)();
        self.ingest = Ingest::new(destination.clone(), now, self.settings.ingest);
        self.destination = destination;
        self
    }

    /// Shows what `consumers` count among the metrics.
    #[cfg(feature = "kafka")]
    pub fn show_consumers(&self, consumers: Arc<Consumers>) {
        // A process has them once.
        let _ = self.consumers.set(consumers);
    }

    /// The consumers of this process.
    #[cfg(feature = "kafka")]
    pub(crate) fn consumers(&self) -> Option<&Arc<Consumers>> {
        self.consumers.get()
    }

    /// Lets work that takes long end, and no more of it begin, as the process is about to stop.
    pub fn stop(&self) {
        self.pools.jobs.stop();
        self.store.stop_erasing();
    }

    /// Backup, verification and the like over the same data.
    pub fn maintenance(&self) -> &Arc<Maintenance> {
        &self.maintenance
    }

    /// Remembers in the file at `path` that there were API keys, beside the catalog: without it
    /// a catalog that lost them would let everybody on this machine in.
    pub fn remember_keys_at(&self, path: PathBuf) {
        self.keyring.remember_at(path);
    }

    /// Whether there is an API key that is accepted at present.
    ///
    /// # Errors
    ///
    /// The catalog cannot be read.
    pub fn has_usable_key(&self) -> Result<bool, CatalogError> {
        self.keyring.load(&self.catalog)?;
        Ok(self.keyring.has_usable((self.clock)()))
    }

    /// Whether a request needs a key, wherever it comes from.
    ///
    /// # Errors
    ///
    /// The catalog cannot be read.
    pub fn asks_for_keys(&self) -> Result<bool, CatalogError> {
        self.keyring.load(&self.catalog)?;
        Ok(!self.keyring.is_empty())
    }

    /// Makes a key with all scopes that this process accepts as long as it
    /// lives, for commands on the same machine.
    ///
    /// # Errors
    ///
    /// There is no randomness.
    pub fn make_local_key(&self) -> std::io::Result<String> {
        let mut random = [0; access::secret::RANDOM_BYTES];
        (self.settings.randomness)(&mut random)?;
        let key = access::secret::local_from_random(&random);
        self.keyring.set_local(&key);
        Ok(key)
    }
}

/// A router that remembers its paths, so that tests can walk them all.
pub(crate) struct Routes {
    router: Router<Arc<App>>,
    paths: Vec<&'static str>,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Vec::new(),
        }
    }

    pub(crate) fn route(mut self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(path, methods);
        self.paths.push(path);
        self
    }

    /// Another way to write a path that is there.
    fn alias(mut self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(path, methods);
        self
    }

    fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.paths.extend(other.paths);
        self
    }
}

/// The path of every route.
pub fn paths() -> Vec<&'static str> {
    routes().paths
}

/// All routes over `app`, behind what every request passes.
pub fn router(app: Arc<App>) -> Router {
    let served = if app.settings.serves_api {
        routes()
    } else {
        own_routes()
    };
    served
        .router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(Arc::clone(&app))
        .layer(from_fn_with_state(Arc::clone(&app), access::guard))
        .layer(from_fn_with_state(Arc::clone(&app), cors::share))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .layer(from_fn_with_state(app, headers::dress))
}

fn routes() -> Routes {
    Routes::new()
        .route("/v1/events/assignments", post(events::assignments))
        .route("/v1/events/metrics", post(events::metrics))
        .route(
            "/v1/experiments",
            get(experiments::list).post(experiments::create),
        )
        .route(
            "/v1/experiments/{id}",
            get(experiments::read)
                .patch(experiments::change)
                .delete(experiments::delete),
        )
        .route("/v1/experiments/{id}/start", post(experiments::start))
        .route("/v1/experiments/{id}/stop", post(experiments::stop))
        .route("/v1/experiments/{id}/resume", post(experiments::resume))
        .route("/v1/experiments/{id}/decide", post(experiments::decide))
        .route("/v1/experiments/{id}/archive", post(experiments::archive))
        .route("/v1/experiments/{id}/confirm", post(experiments::confirm))
        .route("/v1/experiments/{id}/audit", get(audit::of_experiment))
        .route("/v1/audit", get(audit::all))
        .route(
            "/v1/metrics",
            get(metric_definitions::list).post(metric_definitions::create),
        )
        .route(
            "/v1/metrics/{name}",
            get(metric_definitions::read)
                .patch(metric_definitions::change)
                .delete(metric_definitions::delete),
        )
        .route("/v1/layers", get(layers::list).post(layers::create))
        .route(
            "/v1/layers/{name}",
            get(layers::read)
                .patch(layers::change)
                .delete(layers::delete),
        )
        .route("/v1/holdouts", get(holdouts::list).post(holdouts::create))
        .route(
            "/v1/holdouts/{name}",
            get(holdouts::read).patch(holdouts::change),
        )
        .route("/v1/holdouts/{name}/start", post(holdouts::start))
        .route("/v1/holdouts/{name}/stop", post(holdouts::stop))
        .route("/v1/sdk/config", get(evaluation::config))
        .route("/v1/assign", post(evaluation::assign))
        .route("/v1/track", post(evaluation::track))
        .route("/ofrep/v1/evaluate/flags", post(evaluation::evaluate_all))
        .alias("/ofrep/v1/evaluate/flags/", post(evaluation::evaluate_all))
        .route("/ofrep/v1/evaluate/flags/{key}", post(evaluation::evaluate))
        .route("/v1/experiments/{id}/results", get(results::results))
        .route("/v1/calc/{family}", post(calc::compute))
        .route("/v1/pipeline", get(pipeline::state))
        .route("/v1/pipeline/run", post(pipeline::run))
        .route("/v1/backup", post(maintenance::backup))
        .route("/v1/verify", get(maintenance::verify))
        .route("/v1/users/{user}", delete(maintenance::forget))
        .route("/v1/export/{table}", get(export::export))
        .route("/v1/retention/apply", post(maintenance::retain))
        .route("/v1/erasures", get(maintenance::erasures))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::revoke))
        .route("/openapi.json", get(openapi::serve))
        .merge(dashboard::routes())
        .merge(own_routes())
}

/// What a process tells of itself, whatever its roles.
fn own_routes() -> Routes {
    Routes::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(telemetry::metrics))
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
