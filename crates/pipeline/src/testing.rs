//! Builds a catalog, a warehouse and an aggregator in one directory, for tests.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use trialog_catalog::Catalog;
use trialog_model::time::UnixMicros;
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::lock::DirectoryLock;

use crate::aggregation::{Aggregator, Settings};
use crate::clock::Clock;
use crate::error::PipelineError;

/// The parts of a process that stores its data in one directory.
pub struct Parts {
    /// The catalog: SQLite, or PostgreSQL where `TRIALOG_TEST_CATALOG` says so.
    pub catalog: Arc<Catalog>,
    /// The embedded warehouse.
    pub warehouse: Arc<Warehouse>,
    /// The aggregator over both.
    pub aggregator: Arc<Aggregator>,
    /// The clock of all of them.
    pub clock: Clock,
    /// What the clock reads next. Every reading is later than the one before.
    pub time: Arc<AtomicI64>,
}

/// Opens a catalog and a warehouse in `directory`, with a clock that starts at `now`.
///
/// # Errors
///
/// One of them cannot be opened.
pub fn open(
    directory: &Path,
    options: Options,
    settings: Settings,
    now: UnixMicros,
) -> Result<Parts, PipelineError> {
    let catalog = trialog_catalog::testing::open(directory)?;
    open_with(catalog, directory, options, settings, now)
}

/// Opens a warehouse in `directory` beside `catalog`, with a clock that starts at `now`.
///
/// # Errors
///
/// The warehouse cannot be opened.
pub fn open_with(
    catalog: Catalog,
    directory: &Path,
    options: Options,
    settings: Settings,
    now: UnixMicros,
) -> Result<Parts, PipelineError> {
    let catalog = Arc::new(catalog);
    let lock = DirectoryLock::acquire(directory)?;
    let published = catalog.high_water_mark()?.position;
    let warehouse = Arc::new(Warehouse::open(directory, lock, options, published)?);
    let time = Arc::new(AtomicI64::new(now.0));
    let readings = Arc::clone(&time);
    let clock: Clock = Arc::new(move || UnixMicros(readings.fetch_add(1, Ordering::Relaxed)));
    let aggregator = Aggregator::new(
        Arc::clone(&catalog),
        Arc::clone(&warehouse),
        Arc::clone(&clock),
        settings,
    );
    Ok(Parts {
        catalog,
        warehouse,
        aggregator: Arc::new(aggregator),
        clock,
        time,
    })
}
