//! Opens the data in this process: catalog, warehouse, aggregator, app.

use std::sync::Arc;

use anyhow::Context;
use trialog_catalog::Catalog;
use trialog_pipeline::aggregation::Aggregator;
use trialog_pipeline::clock::Clock;
use trialog_pipeline::ingest::Destination;
use trialog_pipeline::maintenance::restore::{check_catalog, check_complete};
use trialog_pipeline::store::Store;
use trialog_server::{App, Settings};
use trialog_warehouse::WarehouseError;
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::lock::DirectoryLock;

use crate::clock;
use crate::config::Config;

pub(crate) struct Node {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) app: Arc<App>,
    destination: Destination,
    /// Held where the catalog is in the directory and the warehouse, which holds it otherwise, is not.
    lock: Option<DirectoryLock>,
}

impl Node {
    /// Opens the data; what is in the data directory no other process may have open.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let lock = (config.storage.needs_directory())
            .then(|| DirectoryLock::acquire(&config.data_dir).map_err(plain))
            .transpose()?;
        Self::with_lock(config, lock)
    }

    /// Opens the data with the lock of the data directory, if the lock is needed.
    pub(crate) fn with_lock(config: &Config, lock: Option<DirectoryLock>) -> anyhow::Result<Self> {
        if lock.is_some() {
            check_complete(&config.data_dir)?;
        }
        if !config.storage.has_shared_catalog() {
            check_catalog(&config.data_dir)?;
        }
        let catalog = config.storage.open_catalog(&config.data_dir)?;
        // Of a shared catalog, runs may be other processes'; they are marked under the lease.
        let n_interrupted = if catalog.is_shared() {
            0
        } else {
            catalog.mark_interrupted_runs()?
        };
        if n_interrupted > 0 {
            tracing::warn!(
                n_interrupted,
                "an earlier process ended during a run; nothing of it was published"
            );
        }
        let clock = clock::system();
        let (store, lock) = open_store(config, &catalog, &clock, lock)?;
        let destination = open_destination(config, &store)?;
        let aggregator = Aggregator::new(
            Arc::clone(&catalog),
            store.clone(),
            Arc::clone(&clock),
            config.aggregation.clone(),
        );
        let aggregator = Arc::new(aggregator);
        let app = App::new(
            Arc::clone(&catalog),
            store.clone(),
            Arc::clone(&aggregator),
            clock,
            Settings {
                backup_dir: Some(config.backup_dir.clone()),
                min_free_disk_bytes: config.min_free_bytes,
                serves_api: config.storage.roles.api,
                ..config.http.limits.clone()
            },
        );
        // A catalog in the directory is guarded by what lies beside it.
        if catalog.is_shared() && config.storage.needs_directory() {
            app.remember_keys_at(config.data_dir.join("KEYS_EXISTED"));
        }
        Ok(Self {
            catalog,
            store,
            aggregator,
            app: Arc::new(app.with_destination(destination.clone())),
            destination,
            lock,
        })
    }

    /// Publishes the address of this process to other processes on the machine.
    pub(crate) fn publish_address(&self, address: &str) -> anyhow::Result<()> {
        match (&self.store, &self.lock) {
            (Store::Embedded(warehouse), _) => warehouse.publish_address(address).map_err(plain),
            #[cfg(feature = "clickhouse")]
            (_, Some(lock)) => lock.publish(address).map_err(plain),
            #[cfg(feature = "clickhouse")]
            (_, None) => Ok(()),
        }
    }

    /// Starts to consume events from the event log into the warehouse, if there is one and this
    /// process has that role.
    #[cfg(feature = "kafka")]
    pub(crate) fn start_consumers(
        &self,
        config: &Config,
    ) -> anyhow::Result<Option<Arc<trialog_pipeline::kafka::Consumers>>> {
        use trialog_pipeline::kafka::Consumers;
        let Some(address) =
            (config.storage.event_log.as_ref()).filter(|_| config.storage.roles.consumer)
        else {
            return Ok(None);
        };
        let consumers = Consumers::start(address, &self.store, &clock::system(), config.consumers)?;
        let consumers = Arc::new(consumers);
        self.app.show_consumers(Arc::clone(&consumers));
        Ok(Some(consumers))
    }

    /// Makes accepted events durable, and closes everything.
    pub(crate) fn close(&self) {
        #[cfg(feature = "kafka")]
        if let Destination::Kafka(producer) = &self.destination {
            producer.flush();
        }
        #[cfg(not(feature = "kafka"))]
        let _ = &self.destination;
        self.store.close();
    }
}

fn open_store(
    config: &Config,
    catalog: &Arc<Catalog>,
    clock: &Clock,
    lock: Option<DirectoryLock>,
) -> anyhow::Result<(Store, Option<DirectoryLock>)> {
    #[cfg(feature = "clickhouse")]
    if let Some(address) = &config.storage.warehouse {
        use trialog_pipeline::clickhouse::Journaled;
        let server = trialog_warehouse::clickhouse::ClickHouse::connect(address.clone());
        let server = server.map_err(plain).context("cannot use `warehouse`")?;
        let server = match config.keep_user_ids {
            true => server,
            false => server.without_user_texts(),
        };
        // Only a process that holds the directory has it for itself.
        let server = match &lock {
            Some(_) => server.spilling_into(&config.data_dir.join("spill")),
            None => Ok(server),
        };
        let server = server.map_err(plain)?;
        let journaled = Journaled::new(server, Arc::clone(catalog), Arc::clone(clock));
        return Ok((Store::ClickHouse(journaled), lock));
    }
    #[cfg(not(feature = "clickhouse"))]
    let _ = clock;
    let published = catalog.high_water_mark()?.position;
    let lock = lock.context("the embedded warehouse needs the data directory")?;
    let options = Options {
        keep_user_ids: config.keep_user_ids,
        ..Options::default()
    };
    let warehouse = Warehouse::open(&config.data_dir, lock, options, published);
    Ok((Store::Embedded(Arc::new(warehouse.map_err(plain)?)), None))
}

/// Opens the destination of the events that this process ingests.
fn open_destination(config: &Config, store: &Store) -> anyhow::Result<Destination> {
    #[cfg(feature = "kafka")]
    if let Some(address) = &config.storage.event_log {
        let producer = trialog_pipeline::kafka::Producer::new(address)?;
        let producer = match config.keep_user_ids {
            true => producer,
            false => producer.without_user_texts(),
        };
        return Ok(Destination::Kafka(Arc::new(producer)));
    }
    #[cfg(not(feature = "kafka"))]
    let _ = config;
    Ok(Destination::from(store))
}

/// Converts a warehouse error to one message with its causes.
pub(crate) fn plain(error: WarehouseError) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// Creates the runtime that serves HTTP.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
