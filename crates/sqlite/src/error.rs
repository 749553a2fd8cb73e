//! Defines the errors of opening a SQLite file.

use std::io;
use std::path::PathBuf;

/// The remedy for a database that is damaged, lost its end, or is missing.
pub const RESTORE_ALL: &str = "restore a whole backup into an empty directory with `trialog restore`, as one file of it does not fit the others";

/// The reason why a SQLite file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file's log could not be read.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// SQLite refused a statement.
    #[error("cannot {action} in `{}`", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The file does not hold what was written to it.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The file was written by an older version, and this is no time to change it.
    #[error("`{}` has schema version {found}, this binary needs {known}: start `trialog serve` or `trialog aggregate` once, which brings it up to date", path.display())]
    OlderSchema {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The version that this binary needs.
        known: i64,
    },
    /// A reader keeps the file's log.
    #[error("`{}` is being read: try again when the backup or verification under way has ended", path.display())]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("`{}` has schema version {found}, this binary knows up to {known}: run trialog {needs} or newer", path.display())]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version this binary knows.
        known: i64,
        /// The version of Trialog that wrote it.
        needs: String,
    },
}
