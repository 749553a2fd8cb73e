//! Restores a backup to a data directory that can be started.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Serialize;
use trialog_warehouse::lock::DirectoryLock;

use super::manifest::{FileEntry, Manifest, Summed, copy, sync};
use super::{MaintenanceError, Progress};

/// Stands in a data directory while it is being restored.
const MARKER: &str = "RESTORING";
/// What a directory may hold that is to be restored into.
const NO_DATA: [&str; 2] = ["LOCK", "backups"];

/// A finished restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The backup.
    pub backup: PathBuf,
    /// The data directory.
    pub data_dir: PathBuf,
    /// When the backup was made, RFC 3339.
    pub created_at: String,
    /// The last position of its events.
    pub position: u64,
    /// The position up to which its results were computed.
    pub published_position: u64,
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Restores `backup` into `data_dir`: checks every byte first, then copies.
///
/// # Errors
///
/// The backup is incomplete or damaged, the data directory is in use or holds
/// data, or it cannot be written.
pub fn restore(
    backup: &Path,
    data_dir: &Path,
    progress: Progress<'_>,
) -> Result<RestoreReport, MaintenanceError> {
    let manifest = Manifest::read(backup)?;
    let total = 2 * manifest.bytes();
    let damage = manifest.verify(backup, &mut |done, _| progress(done, total))?;
    if !damage.is_empty() {
        return Err(MaintenanceError::DamagedBackup {
            path: backup.to_owned(),
            what: damage,
        });
    }
    let _lock = DirectoryLock::acquire(data_dir)?;
    make_room(data_dir)?;
    let marker = data_dir.join(MARKER);
    File::create(&marker)
        .and_then(|file| file.sync_all())
        .map_err(MaintenanceError::io("create", &marker))?;
    sync(data_dir)?;
    let mut done = manifest.bytes();
    for file in &manifest.files {
        copy_file(backup, data_dir, file)?;
        done += file.bytes;
        progress(done, total);
    }
    sync(data_dir)?;
    fs::remove_file(&marker).map_err(MaintenanceError::io("remove", &marker))?;
    sync(data_dir)?;
    Ok(RestoreReport {
        backup: backup.to_owned(),
        data_dir: data_dir.to_owned(),
        files: manifest.files.len(),
        bytes: manifest.bytes(),
        created_at: manifest.created_at,
        position: manifest.position,
        published_position: manifest.published_position,
    })
}

/// Rejects a data directory in which a restore was interrupted.
///
/// # Errors
///
/// [`MaintenanceError::HalfRestored`].
pub fn check_complete(data_dir: &Path) -> Result<(), MaintenanceError> {
    match data_dir.join(MARKER).exists() {
        true => Err(MaintenanceError::HalfRestored(data_dir.to_owned())),
        false => Ok(()),
    }
}

/// Rejects a data directory that has events but has lost its catalog file: a new catalog would
/// have no keys and no experiments.
///
/// # Errors
///
/// [`MaintenanceError::NoCatalog`].
pub fn check_catalog(data_dir: &Path) -> Result<(), MaintenanceError> {
    let (catalog, events) = (
        data_dir.join("catalog.sqlite"),
        data_dir.join("warehouse.sqlite"),
    );
    match events.exists() && !catalog.exists() {
        true => Err(MaintenanceError::NoCatalog(catalog)),
        false => Ok(()),
    }
}

/// Refuses a directory with data; what an interrupted restore left is removed.
fn make_room(data_dir: &Path) -> Result<(), MaintenanceError> {
    let interrupted = data_dir.join(MARKER).exists();
    let listing: std::io::Result<Vec<_>> = fs::read_dir(data_dir).and_then(Iterator::collect);
    for entry in listing.map_err(MaintenanceError::io("list", data_dir))? {
        let (name, path) = (entry.file_name(), entry.path());
        if NO_DATA.iter().any(|allowed| name == *allowed) || name == MARKER {
            continue;
        }
        if !interrupted {
            return Err(MaintenanceError::HoldsData {
                path: data_dir.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.map_err(MaintenanceError::io("remove", &path))?;
    }
    Ok(())
}

fn copy_file(backup: &Path, data_dir: &Path, expected: &FileEntry) -> Result<(), MaintenanceError> {
    let (from, to) = (backup.join(&expected.name), data_dir.join(&expected.name));
    let parent = to.parent().unwrap_or(data_dir);
    fs::create_dir_all(parent).map_err(MaintenanceError::io("create", parent))?;
    let mut source = File::open(&from).map_err(MaintenanceError::io("read", &from))?;
    let file = File::create(&to).map_err(MaintenanceError::io("create", &to))?;
    let mut summed = Summed::new(file);
    copy(&mut source, &mut summed).map_err(MaintenanceError::io("copy to", &to))?;
    summed
        .inner
        .sync_all()
        .map_err(MaintenanceError::io("sync", &to))?;
    if summed.entry(&expected.name) != *expected {
        return Err(MaintenanceError::DamagedBackup {
            path: backup.to_owned(),
            what: vec![format!("`{}` changed while it was copied", expected.name)],
        });
    }
    // What lies above the data directory was made durable when it was created.
    let below = |directory: &&Path| directory.starts_with(data_dir);
    parent.ancestors().take_while(below).try_for_each(sync)
}
