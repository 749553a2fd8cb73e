//! Backs up catalog and warehouse as of one moment, while events come in.
//!
//! The moment is fixed while nothing can be published or committed, which
//! takes milliseconds; the copying comes after. Runs never change, so they
//! are linked where the file system allows it. The backup appears under its
//! name when it is complete and durable, never before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::Catalog;
use trialog_warehouse::pin::{Pinned, RunFile};

use super::manifest::{FORMAT, FileEntry, Manifest, Summed, copy, sync};
use super::{Flag, Maintenance, MaintenanceError, Progress, go_on};

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BackupReport {
    /// Where it is.
    pub directory: PathBuf,
    /// The moment that it holds.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// The position of events that it holds.
    pub position: u64,
    /// The position that its results cover.
    pub published_position: u64,
    /// Its files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// The part of it that shares its place with the data directory.
    pub linked_bytes: u64,
}

impl Maintenance {
    /// Makes a backup in `directory`, which must not exist yet.
    ///
    /// # Errors
    ///
    /// The data is damaged, or the backup cannot be written; nothing stands
    /// under its name then.
    pub fn backup(
        &self,
        directory: &Path,
        progress: Progress<'_>,
    ) -> Result<BackupReport, MaintenanceError> {
        self.backup_until(&Flag::default(), directory, progress)
    }

    /// Makes a backup as [`Self::backup`] does. Ends with an error soon after `flag` is set.
    ///
    /// # Errors
    ///
    /// Those of [`Self::backup`], and that it was abandoned.
    pub fn backup_until(
        &self,
        flag: &Flag,
        directory: &Path,
        progress: Progress<'_>,
    ) -> Result<BackupReport, MaintenanceError> {
        let _turn = self.turn();
        go_on(flag)?;
        let (parent, name) = place(directory)?;
        fs::create_dir_all(&parent).map_err(MaintenanceError::io("create", &parent))?;
        let draft = tempfile::Builder::new()
            .prefix(&prefix(&name))
            .suffix(".incomplete")
            .tempdir_in(&parent)
            .map_err(MaintenanceError::io("create a directory in", &parent))?;
        let created_at = (self.clock)().to_rfc3339();
        let files = self.files(
            "backups are ClickHouse's: BACKUP DATABASE makes one; pg_dump makes one of the catalog",
        )?;
        let (catalog, warehouse) = self.catalog.pin(|| files.pin())?;
        let warehouse = warehouse?.until(Flag::clone(flag));
        let mut filling = Filling {
            flag,
            draft: draft.path(),
            files: Vec::new(),
            linked_bytes: 0,
        };
        filling.databases(&catalog, &warehouse)?;
        filling.runs(&warehouse, progress)?;
        let manifest = Manifest {
            format: FORMAT,
            trialog: env!("CARGO_PKG_VERSION").to_owned(),
            created_at,
            position: warehouse.position()?,
            published_position: catalog.high_water_mark()?.position,
            files: filling.files,
        };
        let linked_bytes = filling.linked_bytes;
        manifest.write(draft.path())?;
        sync(draft.path())?;
        if directory.exists() {
            return Err(MaintenanceError::Exists(directory.to_owned()));
        }
        fs::rename(draft.path(), directory).map_err(MaintenanceError::io("name", directory))?;
        sync(&parent)?;
        Ok(BackupReport {
            directory: directory.to_owned(),
            files: manifest.files.len(),
            bytes: manifest.bytes(),
            created_at: manifest.created_at,
            position: manifest.position,
            published_position: manifest.published_position,
            linked_bytes,
        })
    }
}

/// The directory that a backup goes into, and its name there.
fn place(directory: &Path) -> Result<(PathBuf, OsString), MaintenanceError> {
    if directory.exists() {
        return Err(MaintenanceError::Exists(directory.to_owned()));
    }
    let name = directory
        .file_name()
        .ok_or_else(|| MaintenanceError::NoBackup {
            path: directory.to_owned(),
            why: "the path ends in no name".to_owned(),
        })?;
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    Ok((parent.to_owned(), name.to_owned()))
}

fn prefix(name: &OsString) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push("-");
    prefix
}

/// A backup that is being written.
struct Filling<'a> {
    /// Set when no client waits for the backup any more.
    flag: &'a Flag,
    draft: &'a Path,
    files: Vec<FileEntry>,
    linked_bytes: u64,
}

impl Filling<'_> {
    fn databases(&mut self, catalog: &Catalog, warehouse: &Pinned) -> Result<(), MaintenanceError> {
        for name in ["catalog.sqlite", "warehouse.sqlite"] {
            go_on(self.flag)?;
            let to = self.draft.join(name);
            match name {
                "catalog.sqlite" => catalog.copy_to(&to)?,
                _ => warehouse.copy_database(&to)?,
            }
            self.files.push(FileEntry::read_from(&to, name)?);
        }
        Ok(())
    }

    fn runs(&mut self, warehouse: &Pinned, progress: Progress<'_>) -> Result<(), MaintenanceError> {
        let runs = warehouse.run_files();
        let (mut done, total) = (0, runs.iter().map(|run| run.bytes).sum());
        let mut directories = Vec::new();
        for run in &runs {
            // A backup of damaged data would be found out when it is too late.
            warehouse.verify_run(&run.path)?;
            let to = self.draft.join(&run.name);
            let parent = to.parent().unwrap_or(self.draft);
            fs::create_dir_all(parent).map_err(MaintenanceError::io("create", parent))?;
            self.run(run, &to)?;
            directories.push(parent.to_owned());
            done += run.bytes;
            progress(done, total);
        }
        directories.dedup();
        for directory in &directories {
            sync(directory)?;
        }
        match directories.is_empty() {
            true => Ok(()),
            false => sync(&self.draft.join("events")),
        }
    }

    fn run(&mut self, run: &RunFile, to: &Path) -> Result<(), MaintenanceError> {
        if fs::hard_link(&run.path, to).is_ok() {
            self.linked_bytes += run.bytes;
            self.files.push(FileEntry::read_from(to, &run.name)?);
            return Ok(());
        }
        let mut from = File::open(&run.path).map_err(MaintenanceError::io("read", &run.path))?;
        let file = File::create(to).map_err(MaintenanceError::io("create", to))?;
        let mut summed = Summed::new(file);
        copy(&mut from, &mut summed).map_err(MaintenanceError::io("copy to", to))?;
        summed
            .inner
            .sync_all()
            .map_err(MaintenanceError::io("sync", to))?;
        self.files.push(summed.entry(&run.name));
        Ok(())
    }
}
