//! Why a run or a query failed.

use trialog_catalog::CatalogError;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_warehouse::WarehouseError;

/// Why a run or a query failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The process was told to stop.
    #[error(
        "the server is shutting down: nothing of this run was published, and the next one covers its events"
    )]
    Stopping,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The warehouse failed.
    #[error("{}", .0.chain())]
    Warehouse(#[from] WarehouseError),
    /// Old events of an experiment are gone, so it cannot be computed any more.
    #[error(
        "events of `{experiment}` before {before} were dropped by retention: its published results stay, but nothing can be computed from what is left"
    )]
    EventsDropped {
        /// The experiment.
        experiment: ExperimentId,
        /// Events before this are gone.
        before: UnixMicros,
    },
    /// One experiment cannot be folded.
    #[error(transparent)]
    Fold(#[from] trialog_warehouse::FoldError),
}

impl PipelineError {
    /// Whether the process was told to stop, and nothing is wrong.
    pub fn is_stopping(&self) -> bool {
        matches!(
            self,
            Self::Stopping | Self::Warehouse(WarehouseError::Abandoned)
        )
    }
}
