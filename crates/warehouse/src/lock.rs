//! One writing process per data directory: the file `LOCK`.
//!
//! The lock is the operating system's, so a process that dies leaves none
//! behind. The file's text is the address at which the holder answers.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::WarehouseError;

/// Held for as long as this process may write to the directory.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Takes the lock of `directory`, which is created if absent.
    ///
    /// # Errors
    ///
    /// [`WarehouseError::Locked`] with the holder's address where another
    /// process has it; an I/O error where the directory cannot be written.
    pub fn acquire(directory: &Path) -> Result<Self, WarehouseError> {
        create_durably(directory)
            .map_err(WarehouseError::io("create the data directory", directory))?;
        let path = directory.join("LOCK");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(WarehouseError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {
                let lock = Self { file, path };
                lock.publish("")?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(WarehouseError::Locked {
                address: address_in(&path),
                path,
            }),
            Err(TryLockError::Error(source)) => Err(WarehouseError::Io {
                action: "lock",
                path,
                source,
            }),
        }
    }

    /// Tells other processes where this one answers, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn publish(&self, address: &str) -> Result<(), WarehouseError> {
        let write = || {
            let mut file = &self.file;
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(address.as_bytes())
        };
        write().map_err(WarehouseError::io("write", &self.path))
    }
}

/// Who holds a directory at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// No process does.
    Nobody,
    /// A process does; where it answers, if it serves.
    Process {
        /// Such as `http://127.0.0.1:8080`.
        address: Option<String>,
    },
}

/// Who holds `directory` now; nothing is changed or created.
///
/// The lock is shared for the moment of the question, so a process that
/// starts in that very moment is refused.
///
/// # Errors
///
/// The LOCK file exists and cannot be read.
pub fn holder(directory: &Path) -> Result<Holder, WarehouseError> {
    let path = directory.join("LOCK");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(source) => return Err(WarehouseError::io("open", &path)(source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Holder::Nobody),
        Err(TryLockError::WouldBlock) => Ok(Holder::Process {
            address: address_in(&path),
        }),
        Err(TryLockError::Error(source)) => Err(WarehouseError::io("lock", &path)(source)),
    }
}

/// Creates `directory` and its missing parents so that they outlive a loss of power.
fn create_durably(directory: &Path) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    std::fs::create_dir(directory)?;
    File::open(parent)?.sync_all()
}

fn address_in(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(1024)
        .read_to_string(&mut text)
        .ok()?;
    let address = text.trim();
    (!address.is_empty()).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_where_the_first_answers() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(directory.path()).unwrap();
        first.publish("http://127.0.0.1:1").unwrap();
        let error = DirectoryLock::acquire(directory.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("that serves http://127.0.0.1:1"), "{error}");
        let address = Some("http://127.0.0.1:1".to_owned());
        let seen = holder(directory.path()).unwrap();
        assert_eq!(seen, Holder::Process { address });
        drop(first);
        assert_eq!(holder(directory.path()).unwrap(), Holder::Nobody);
        DirectoryLock::acquire(directory.path()).unwrap();
    }
}
