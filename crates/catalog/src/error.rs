//! What can go wrong in the catalog, and what a person can do about it.

use std::path::{Path, PathBuf};

use trialog_model::experiment::Status;
use trialog_model::ids::ExperimentId;

/// Why the catalog could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// SQLite refused a statement.
    #[error("cannot {action} in `{}`: {source}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The file does not hold what was written to it.
    #[error("`{}` is damaged: {what}; restore it from a backup", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The data was written by a newer version.
    #[error("`{}` has schema version {found}, this binary knows up to {known}: run a newer trialog", path.display())]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version this binary knows.
        known: i64,
    },
    /// No experiment has this id.
    #[error("no experiment `{0}` is registered and no event named it")]
    NoExperiment(ExperimentId),
    /// An experiment with this id is registered already.
    #[error("experiment `{0}` is registered already: change it with PATCH /v1/experiments/{0}")]
    Exists(ExperimentId),
    /// The experiment's status does not allow the step.
    #[error("experiment `{experiment}` is {}: {mend}", status.as_str())]
    WrongStatus {
        /// The experiment.
        experiment: ExperimentId,
        /// Its status.
        status: Status,
        /// What can be done instead.
        mend: &'static str,
    },
}

impl CatalogError {
    pub(crate) fn database<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl Fn(rusqlite::Error) -> Self + 'a {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        move |source| match source.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged {
                path: path.to_owned(),
                what: source.to_string(),
            },
            _ => Self::Database {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }
}
