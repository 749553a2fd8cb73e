//! Holds what the handlers share.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
use crate::access::secret;
use crate::answers::Answers;
use crate::api::evaluation::WithoutVariant;
use crate::budget::Budget;
use crate::headers::RequestIds;
use crate::limits::Rates;
use crate::names::Names;
use crate::pools::Pools;
use crate::rulesets::Rulesets;
use crate::serving::Connections;
use crate::telemetry::ServerMetrics;
use crate::turns::Turns;

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

/// The state that the handlers share.
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
    /// Records that this process runs every `interval`, so that responses can name the next run.
    pub fn runs_every(&self, interval: Duration) {
        // It is set once, when the schedule starts.
        let _ = self.interval.set(interval);
    }

    /// Creates the state from its parts.
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

    /// Sends events to `destination` instead of the warehouse.
    #[must_use]
    pub fn with_destination(mut self, destination: Destination) -> Self {
        let now = (self.clock)();
        self.ingest = Ingest::new(destination.clone(), now, self.settings.ingest);
        self.destination = destination;
        self
    }

    /// Shows the counts of `consumers` among the metrics.
    #[cfg(feature = "kafka")]
    pub fn show_consumers(&self, consumers: Arc<Consumers>) {
        // A process has them once.
        let _ = self.consumers.set(consumers);
    }

    /// Returns the consumers of this process.
    #[cfg(feature = "kafka")]
    pub(crate) fn consumers(&self) -> Option<&Arc<Consumers>> {
        self.consumers.get()
    }

    /// Ends long work and prevents more of it, because the process is about to stop.
    pub fn stop(&self) {
        self.pools.jobs.stop();
        self.store.stop_erasing();
    }

    /// Returns the maintenance operations on the same data.
    pub fn maintenance(&self) -> &Arc<Maintenance> {
        &self.maintenance
    }

    /// Records in the file at `path`, beside the catalog, that there were API keys. Without it, a
    /// catalog that lost its keys would admit everyone on this machine.
    pub fn remember_keys_at(&self, path: PathBuf) {
        self.keyring.remember_at(path);
    }

    /// Returns whether any API key is valid now.
    ///
    /// # Errors
    ///
    /// The catalog cannot be read.
    pub fn has_usable_key(&self) -> Result<bool, CatalogError> {
        self.keyring.load(&self.catalog)?;
        Ok(self.keyring.has_usable((self.clock)()))
    }

    /// Returns whether requests need a key, wherever they come from.
    ///
    /// # Errors
    ///
    /// The catalog cannot be read.
    pub fn requires_keys(&self) -> Result<bool, CatalogError> {
        self.keyring.load(&self.catalog)?;
        Ok(!self.keyring.is_empty())
    }

    /// Creates a key with all scopes for commands on the same machine. It is valid as long as this
    /// process lives.
    ///
    /// # Errors
    ///
    /// There is no randomness.
    pub fn make_local_key(&self) -> std::io::Result<String> {
        let mut random = [0; secret::RANDOM_BYTES];
        (self.settings.randomness)(&mut random)?;
        let key = secret::local_from_random(&random);
        self.keyring.set_local(&key);
        Ok(key)
    }
}
