//! Checks whether an open database still has its files. SQLite keeps them open and does not notice
//! when they are removed, replaced or truncated.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::RESTORE_ALL;

/// The files of a database as they were when it was opened.
#[derive(Debug)]
pub struct Watch {
    files: Vec<Watched>,
    path: PathBuf,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Device and number; none where the file was not there.
    identity: Option<(u64, u64)>,
}

impl Watched {
    fn new(path: PathBuf) -> Self {
        let identity = identity(&path);
        Self { path, identity }
    }

    fn check(&self) -> Result<(), String> {
        if self.identity.is_none() || identity(&self.path) == self.identity {
            return Ok(());
        }
        let what = if self.path.exists() {
            "replaced"
        } else {
            "removed"
        };
        Err(lost(&self.path, what))
    }
}

impl Watch {
    /// Watches the database at `path`, which is open, and its log.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let files = [path.to_owned(), crate::pin::log_of(path)];
        Self {
            files: files.into_iter().map(Watched::new).collect(),
            path: path.to_owned(),
        }
    }

    /// Returns the file that was removed or replaced since the database was opened, as an error.
    ///
    /// # Errors
    ///
    /// The file, what happened to it, and the remedy, in words.
    pub fn check(&self) -> Result<(), String> {
        self.files.iter().try_for_each(Watched::check)
    }

    /// Checks as [`Self::check`] does, and also that the database file has all pages that its
    /// header counts. The caller must prevent all writes meanwhile.
    ///
    /// # Errors
    ///
    /// The file, what happened to it, and the remedy, in words.
    pub fn check_length(&self) -> Result<(), String> {
        self.check()?;
        match is_whole(&self.path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(lost(&self.path, "cut short")),
            Err(error) => Err(format!("cannot read `{}`: {error}", self.path.display())),
        }
    }
}

fn lost(path: &Path, what: &str) -> String {
    format!(
        "`{}` was {what} beneath the running server: stop it, and {RESTORE_ALL}",
        path.display()
    )
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether the file has the pages that its header counts
/// (<https://www.sqlite.org/fileformat2.html#the_database_header>).
fn is_whole(path: &Path) -> std::io::Result<bool> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; 32];
    if length < header.len() as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut header, 0)?;
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let n_pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    Ok(header.starts_with(MAGIC) && length >= page_bytes * u64::from(n_pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Opening, sql};

    fn open(path: &Path) -> rusqlite::Connection {
        let opening = Opening {
            path,
            pragmas: "",
            migrations: &[sql!("CREATE TABLE t (x)")],
            reach: None,
        };
        opening.open().unwrap()
    }

    /// The expected message, and the damage that causes it.
    type Spoil = (&'static str, fn(&Path));

    #[test]
    fn a_file_that_is_removed_replaced_or_cut_is_told() {
        let spoils: [Spoil; 5] = [
            ("removed", |path| std::fs::remove_file(path).unwrap()),
            ("removed", |path| {
                std::fs::remove_file(crate::pin::log_of(path)).unwrap();
            }),
            ("replaced", |path| {
                let copy = path.with_extension("copy");
                std::fs::copy(path, &copy).unwrap();
                std::fs::rename(&copy, path).unwrap();
            }),
            ("cut short", |path| truncate(path, 0)),
            ("cut short", |path| truncate(path, 8_000)),
        ];
        for (what, spoil) in spoils {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("db");
            let writer = open(&path);
            writer
                .execute_batch("INSERT INTO t VALUES (randomblob(20000)); PRAGMA wal_checkpoint")
                .unwrap();
            let watch = Watch::new(&path);
            watch.check_length().unwrap();
            spoil(&path);
            let message = watch.check_length().unwrap_err();
            assert!(
                message.contains(what) && message.contains("restore"),
                "{message}"
            );
        }
    }

    fn truncate(path: &Path, length: u64) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(length).unwrap();
    }
}
