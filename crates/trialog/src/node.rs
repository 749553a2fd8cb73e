//! A data directory opened by this process: catalog, warehouse, aggregator.

use std::sync::Arc;

use anyhow::Context;
use trialog_catalog::Catalog;
use trialog_pipeline::aggregation::Aggregator;
use trialog_pipeline::care::restore::check_complete;
use trialog_server::{App, Settings};
use trialog_warehouse::WarehouseError;
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::lock::DirectoryLock;

use crate::clock;
use crate::config::Config;

pub(crate) struct Node {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) warehouse: Arc<Warehouse>,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) app: Arc<App>,
}

impl Node {
    /// Opens the data directory, which no other process may have open.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        Self::with_lock(
            config,
            DirectoryLock::acquire(&config.data_dir).map_err(plain)?,
        )
    }

    pub(crate) fn with_lock(config: &Config, lock: DirectoryLock) -> anyhow::Result<Self> {
        check_complete(&config.data_dir)?;
        let catalog = Arc::new(Catalog::open(&config.data_dir)?);
        let n_interrupted = catalog.mark_interrupted_runs()?;
        if n_interrupted > 0 {
            tracing::warn!(
                n_interrupted,
                "an earlier process ended during a run; nothing of it was published"
            );
        }
        let published = catalog.high_water_mark()?.position;
        let warehouse = Warehouse::open(&config.data_dir, lock, Options::default(), published)
            .map_err(plain)?;
        let warehouse = Arc::new(warehouse);
        let clock = clock::system();
        let aggregator = Aggregator::new(
            Arc::clone(&catalog),
            Arc::clone(&warehouse),
            Arc::clone(&clock),
            config.aggregation.clone(),
        );
        let aggregator = Arc::new(aggregator);
        let app = App::new(
            Arc::clone(&catalog),
            Arc::clone(&warehouse),
            Arc::clone(&aggregator),
            clock,
            Settings {
                backup_dir: Some(config.backup_dir.clone()),
                min_free_disk_bytes: config.min_free_bytes,
                ..config.http.limits.clone()
            },
        );
        Ok(Self {
            catalog,
            warehouse,
            aggregator,
            app: Arc::new(app),
        })
    }
}

/// A warehouse error with its causes in one message.
pub(crate) fn plain(error: WarehouseError) -> anyhow::Error {
    anyhow::Error::new(error)
}

/// The runtime that serves HTTP.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
