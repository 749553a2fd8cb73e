//! Maintains the data: backup, restore, verification, erasure, retention, export.
//!
//! Each of them sees the catalog and the warehouse of one moment, and none
//! keeps events from being taken in.

pub mod backup;
mod error;
pub mod export;
pub mod forget;
pub mod manifest;
pub mod restore;
pub mod retention;
mod table;
pub mod verify;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trialog_catalog::Catalog;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::embedded::Warehouse;

use crate::error::PipelineError;
use crate::store::Store;

use crate::aggregation::Aggregator;
use crate::clock::Clock;

pub use error::MaintenanceError;

/// Backs up, verifies, erases and exports the data of one process.
pub struct Maintenance {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) clock: Clock,
    /// One piece of work at a time: erasure cannot go on while a backup reads.
    turn: Mutex<()>,
}

impl Maintenance {
    /// Creates the maintenance of `catalog` and the warehouse in `store`. A forced run goes
    /// through `aggregator`.
    pub fn new(
        catalog: Arc<Catalog>,
        store: impl Into<Store>,
        aggregator: Arc<Aggregator>,
        clock: Clock,
    ) -> Self {
        Self {
            catalog,
            store: store.into(),
            aggregator,
            clock,
            turn: Mutex::new(()),
        }
    }

    /// Returns the embedded warehouse. `what` names the operation that is impossible without it.
    pub(crate) fn files(&self, what: &'static str) -> Result<&Arc<Warehouse>, PipelineError> {
        self.store.embedded(what)
    }

    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A callback that receives the progress of an operation: done, and in all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Set to end an operation soon, without an outcome.
pub type Flag = Arc<AtomicBool>;

/// Fails with [`WarehouseError::Abandoned`] once `flag` is set.
pub(crate) fn go_on(flag: &AtomicBool) -> Result<(), WarehouseError> {
    match flag.load(Ordering::Relaxed) {
        true => Err(WarehouseError::Abandoned),
        false => Ok(()),
    }
}
