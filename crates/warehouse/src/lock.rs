//! Locks a data directory for one writing process: the file `LOCK`.
//!
//! The lock is the operating system's, so a process that dies leaves none
//! behind. The file's text is the address at which the holder answers.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::WarehouseError;
use crate::private;

/// How often the lock is tried anew when others replace the file at the same time.
const MAX_ATTEMPTS: usize = 4;

/// The lock of a data directory, held as long as this process may write to it.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Acquires the lock of `directory`, which is created if absent.
    ///
    /// # Errors
    ///
    /// [`WarehouseError::Locked`] with the holder's address where another
    /// process has it; an I/O error where the directory cannot be written.
    pub fn acquire(directory: &Path) -> Result<Self, WarehouseError> {
        create_durably(directory)
            .map_err(WarehouseError::io("create the data directory", directory))?;
        let path = directory.join("LOCK");
        for _ in 0..MAX_ATTEMPTS {
            if let Some(file) = attempt(&path)? {
                private::narrow(directory);
                let lock = Self { file, path };
                lock.publish("")?;
                return Ok(lock);
            }
        }
        Err(WarehouseError::Locked {
            address: address_in(&path),
            path,
        })
    }

    /// Publishes the address of this process, such as `http://127.0.0.1:8080`, to other processes.
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

/// Tries to lock the file `path`; `None` if another process replaced the file meanwhile.
fn attempt(path: &Path) -> Result<Option<File>, WarehouseError> {
    let file = open_lock(path).map_err(WarehouseError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) if private::is_held_by_others(&file) => {
            tracing::warn!(
                "a process of another user locked `{}`, which is no reason to wait: the file is replaced",
                path.display()
            );
            return replaced(path).map_err(WarehouseError::io("replace", path));
        }
        Err(TryLockError::WouldBlock) => {
            return Err(WarehouseError::Locked {
                address: address_in(path),
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(WarehouseError::io("lock", path)(source)),
    }
    let checked = || match private::is_wide(&file.metadata()?) {
        // Who has it open could lock it later.
        true => replaced(path),
        false => is_at(&file, path).map(|is_at| is_at.then_some(file)),
    };
    checked().map_err(WarehouseError::io("read", path))
}

/// A new file under the name `path`, locked before it gets that name.
fn replaced(path: &Path) -> io::Result<Option<File>> {
    let draft = path.with_extension("new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = open_lock(&draft)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    match std::fs::rename(&draft, path) {
        // Another process put its own there; `is_at` finds out.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(is_at(&file, path)?.then_some(file)),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Returns whether `file` is the file at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((opened.dev(), opened.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The state of a directory's lock.
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

/// Returns who holds `directory` now. Changes and creates nothing.
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
        Err(TryLockError::WouldBlock) if private::is_held_by_others(&file) => Ok(Holder::Nobody),
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
    private::create_directory(directory)?;
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_may_open_is_replaced_and_a_holder_of_it_is_respected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        std::fs::write(&path, "").unwrap();
        let widen = || std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666));
        widen().unwrap();
        let opened_before = File::open(&path).unwrap();
        let lock = DirectoryLock::acquire(directory.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // The file that others had open locks nothing any more.
        opened_before.try_lock_shared().unwrap();
        assert!(DirectoryLock::acquire(directory.path()).is_err());
        drop(lock);
        // A process of this user, such as an earlier version, keeps what it locked.
        widen().unwrap();
        let earlier = File::open(&path).unwrap();
        earlier.try_lock().unwrap();
        assert!(DirectoryLock::acquire(directory.path()).is_err());
    }

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
