//! Defines the errors of the warehouse and what a person can do about them.

use std::io;
use std::path::{Path, PathBuf};

use trialog_model::ids::ExperimentId;
use trialog_sqlite::{OpenError, RESTORE_ALL};

/// An error of the warehouse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WarehouseError {
    /// A file or directory could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A data file does not hold what was written to it.
    #[error("`{}` is damaged: {what}; {}, no result is computed from it", path.display(), remedy(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// SQLite refused a statement on `warehouse.sqlite`.
    #[error("cannot {action} in `{}`", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// Another process writes to this data directory.
    #[error("`{}` is in use by another trialog process{}: stop it, or give another --data-dir", path.display(), .address.as_ref().map(|address| format!(" that serves {address}")).unwrap_or_default())]
    Locked {
        /// The LOCK file.
        path: PathBuf,
        /// Where that process listens, if it does.
        address: Option<String>,
    },
    /// `warehouse.sqlite` cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// A run could not be written.
    #[error("cannot write the events file `{}`", path.display())]
    WriteRun {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: parquet::errors::ParquetError,
    },
    /// The thread that writes has ended, so nothing can be accepted.
    #[error("the warehouse is closed")]
    Closed,
    /// The caller has gone, or the process stops.
    #[error(
        "the work was ended before its time: the process is stopping, or its client has gone away"
    )]
    Abandoned,
    /// ClickHouse refused a statement, or cannot be reached.
    #[error("cannot {action} in `{place}`: {what}")]
    Server {
        /// What was tried.
        action: &'static str,
        /// The address, without a password.
        place: String,
        /// The reason and the remedy.
        what: String,
        /// Whether the same may well succeed later.
        is_transient: bool,
    },
    /// A source that may be used once was used with other events.
    #[error("the source of these events was used before with other events")]
    SourceUsed,
    /// The warehouse stopped accepting because writing fails.
    #[error("the warehouse cannot write: {reason}")]
    CannotWrite {
        /// The first failure, with its remedy.
        reason: String,
    },
}

impl WarehouseError {
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Returns whether a file does not hold what was written to it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Database { source, .. } => trialog_sqlite::is_damage(source),
            _ => false,
        }
    }

    /// Returns whether a retry may succeed: a server cannot be reached now, or lacks a resource.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Server {
                is_transient: true,
                ..
            }
        )
    }

    /// Formats the message with all its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}

impl From<OpenError> for WarehouseError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged { path, what } => Self::Damaged { path, what },
            other => Self::Open(other),
        }
    }
}

/// A file with events never changes, so the one of a backup that has its name is the same.
fn remedy(path: &Path) -> &'static str {
    if path
        .extension()
        .is_some_and(|extension| extension == "parquet")
    {
        "restore the file from a backup that has it"
    } else {
        RESTORE_ALL
    }
}

/// A checksum mismatch found beneath the Parquet reader.
#[derive(Debug, thiserror::Error)]
#[error("the checksum of bytes {from}..{to} does not match")]
pub(crate) struct Damage {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The reason why one experiment could not be folded. Other experiments are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// A sum left the range of exact sums.
    #[error(
        "the sum of `{metric}` in experiment `{experiment}` exceeds the range of exact sums: check the values sent, or rename the event type"
    )]
    SumOverflow {
        /// The experiment.
        experiment: ExperimentId,
        /// The metric.
        metric: String,
    },
}
