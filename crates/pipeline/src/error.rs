//! Why a run or a query failed.

use trialog_catalog::CatalogError;
use trialog_warehouse::WarehouseError;

/// Why a run or a query failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
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
