//! Why a run or a query failed.

use trialog_catalog::CatalogError;
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
