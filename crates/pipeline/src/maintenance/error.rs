//! Defines the errors of maintenance and what a person can do about them.

use std::io;
use std::path::{Path, PathBuf};

use trialog_catalog::{CatalogError, RESTORE_ALL};
use trialog_warehouse::WarehouseError;

use crate::error::PipelineError;

/// An error of a maintenance operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The catalog, the warehouse or a run failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A file or directory could not be read or written.
    #[error("cannot {action} `{}`: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// What is exported could not be written.
    #[error("cannot write the export: {0}")]
    Write(String),
    /// There is something where the backup is to go.
    #[error("`{}` exists: give a directory that does not", .0.display())]
    Exists(PathBuf),
    /// The directory is no backup, or half of one.
    #[error("`{}` is not a complete backup: {why}", path.display())]
    NoBackup {
        /// The directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The backup does not hold what was written to it.
    #[error("the backup `{}` is damaged: {}; nothing was restored, take another backup", path.display(), what.join("; "))]
    DamagedBackup {
        /// The directory.
        path: PathBuf,
        /// The files, and what is wrong with each.
        what: Vec<String>,
    },
    /// The directory to restore into is not empty.
    #[error("`{}` holds data already (`{found}`): restore into an empty directory, or move the data away first", path.display())]
    HoldsData {
        /// The data directory.
        path: PathBuf,
        /// The content of the directory.
        found: String,
    },
    /// More is to be dropped than without a confirmation, or by a clock that may be wrong.
    #[error(
        "{0}; look at `trialog retention apply --dry-run`, and drop them with `trialog retention apply --confirm` or POST /v1/retention/apply?confirm=true if that is right"
    )]
    Unconfirmed(String),
    /// There are events, and no catalog beside them.
    #[error("`{}` is missing, but `warehouse.sqlite` is there: {RESTORE_ALL}; or give `catalog`, if it is in PostgreSQL", .0.display())]
    NoCatalog(PathBuf),
    /// A restore into the directory did not come to its end.
    #[error("`{}` holds half of a backup, as a restore into it was interrupted: run `trialog restore` again", .0.display())]
    HalfRestored(PathBuf),
}

impl MaintenanceError {
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |reason| Self::Io {
            action,
            path: path.to_owned(),
            reason,
        }
    }

    /// Returns whether data or a backup is not as it was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::DamagedBackup { .. }
            | Self::NoCatalog(_)
            | Self::Pipeline(PipelineError::Catalog(CatalogError::Damaged { .. })) => true,
            Self::Pipeline(PipelineError::Warehouse(error)) => error.is_damage(),
            _ => false,
        }
    }
}

impl From<CatalogError> for MaintenanceError {
    fn from(error: CatalogError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl From<WarehouseError> for MaintenanceError {
    fn from(error: WarehouseError) -> Self {
        Self::Pipeline(error.into())
    }
}
