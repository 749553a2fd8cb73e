//! Pins the warehouse at one moment, regardless of later writes, for backups and verifications.
//!
//! The inbox and the register are read through a connection of their own. The
//! runs are held open, so a merge does not take them away before their reader
//! has ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use trialog_model::event::EventKind;
use trialog_sqlite::told::ToldFile;

use crate::codec;
use crate::database::{self, Database};
use crate::embedded::Warehouse;
use crate::error::WarehouseError;
use crate::run::Run;
use crate::segment::ActiveSegment;
use crate::snapshot::{Snapshot, go_on};

/// The warehouse at one moment.
pub struct Pinned {
    directory: PathBuf,
    database: Database,
    runs: Vec<Arc<Run>>,
    /// What is wrong with runs that cannot be opened.
    unreadable: Vec<WarehouseError>,
    /// Set to end the readers.
    abandoned: Arc<AtomicBool>,
    /// The last position that was acknowledged to a client.
    told: Option<u64>,
}

/// A live run as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFile {
    /// Its path below the data directory, such as `events/metrics/….parquet`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

impl Warehouse {
    /// Pins the warehouse at this moment.
    ///
    /// # Errors
    ///
    /// `warehouse.sqlite` cannot be read.
    pub fn pin(&self) -> Result<Pinned, WarehouseError> {
        let shared = &self.shared;
        loop {
            // Nothing is committed while this is held.
            let _committing = shared.database();
            let database = Database::pin(&shared.directory)?;
            let ids = database.run_ids()?;
            let state = shared.state();
            let runs: Vec<_> = (state.runs.iter())
                .filter(|run| ids.contains(&run.record.id))
                .cloned()
                .collect();
            if runs.len() == ids.len() {
                return Ok(Pinned {
                    directory: shared.directory.clone(),
                    told: Some(database.last_sequence()?),
                    database,
                    runs,
                    unreadable: Vec::new(),
                    abandoned: Arc::default(),
                });
            }
            // A flush or a merge has registered its run and is about to open it to readers.
            drop(state);
            std::thread::yield_now();
        }
    }
}

impl Pinned {
    /// Opens the warehouse in `directory` while no process has it open. [`Self::unreadable`] lists
    /// the runs that cannot be opened.
    ///
    /// # Errors
    ///
    /// `warehouse.sqlite` is absent, damaged, or of another schema.
    pub fn open(directory: &Path) -> Result<Self, WarehouseError> {
        trialog_sqlite::pin::check_log(&directory.join("warehouse.sqlite"))?;
        let database = Database::open_pinned(directory)?;
        let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
        for record in database.runs()? {
            match Run::open(record, &directory.join("events")) {
                Ok(run) => runs.push(Arc::new(run)),
                Err(error) => unreadable.push(error),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            database,
            runs,
            unreadable,
            abandoned: Arc::default(),
            told: ToldFile::read(&database::told(directory))?,
        })
    }

    /// Makes readers end with [`WarehouseError::Abandoned`] soon after `abandoned` is set.
    #[must_use]
    pub fn until(self, abandoned: Arc<AtomicBool>) -> Self {
        Self { abandoned, ..self }
    }

    /// Returns the last position that it covers.
    ///
    /// # Errors
    ///
    /// `warehouse.sqlite` cannot be read.
    pub fn position(&self) -> Result<u64, WarehouseError> {
        self.database.last_sequence()
    }

    /// Returns the last position that was acknowledged to a client, if it is known.
    pub fn told(&self) -> Option<u64> {
        self.told
    }

    /// Returns the reasons why runs cannot be opened.
    pub fn unreadable(&self) -> &[WarehouseError] {
        &self.unreadable
    }

    /// Returns the live runs.
    pub fn run_files(&self) -> Vec<RunFile> {
        let file = |run: &Arc<Run>| RunFile {
            name: format!("events/{}/{}", run.record.kind.plural(), run.record.file),
            path: run.path.clone(),
            bytes: run.record.bytes,
            rows: run.rows(),
        };
        self.runs.iter().map(file).collect()
    }

    /// Verifies every byte of the run at `path`, and that the run holds no event beyond the position.
    ///
    /// # Errors
    ///
    /// The damage.
    pub fn verify_run(&self, path: &Path) -> Result<(), WarehouseError> {
        let Some(run) = self.runs.iter().find(|run| run.path == path) else {
            return Ok(());
        };
        if run.record.sequences.1 > self.position()? {
            return Err(self.database.older_than(path));
        }
        run.verify(&self.abandoned)
    }

    /// Copies `warehouse.sqlite` as of that moment to a new file, durably.
    ///
    /// # Errors
    ///
    /// The file is damaged, or the new one cannot be written.
    pub fn copy_database(&self, to: &Path) -> Result<(), WarehouseError> {
        self.database.copy_to(to)
    }

    /// Lists all damage in `warehouse.sqlite`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn find_database_damage(&self) -> Result<Vec<String>, WarehouseError> {
        self.database.find_damage()
    }

    /// Reads every entry of the inbox and counts them.
    ///
    /// # Errors
    ///
    /// The first one that is damaged or lies beyond the last position.
    pub fn verify_inbox(&self) -> Result<u64, WarehouseError> {
        let last = self.position()?;
        let mut n_entries = 0;
        self.database.each_payload(|stored| {
            go_on(&self.abandoned)?;
            if stored.sequence > last {
                return Err(self.database.damaged(format!(
                    "inbox entry {} lies beyond the last position {last}",
                    stored.sequence
                )));
            }
            n_entries += 1;
            codec::decode(stored.kind, &stored.payload)
                .map(drop)
                .map_err(|error| self.database.damaged_entry(stored.sequence, &error))
        })?;
        Ok(n_entries)
    }

    /// Returns the files beside the runs for which no run is registered.
    ///
    /// # Errors
    ///
    /// A directory cannot be listed.
    pub fn orphans(&self) -> Result<Vec<PathBuf>, WarehouseError> {
        let mut orphans = Vec::new();
        let registered: Vec<PathBuf> = (self.database.runs()?.iter())
            .map(|record| {
                let directory = self.directory.join("events").join(record.kind.plural());
                directory.join(&record.file)
            })
            .collect();
        for kind in EventKind::ALL {
            let directory = self.directory.join("events").join(kind.plural());
            if !directory.exists() {
                continue;
            }
            let listing = WarehouseError::io("list", &directory);
            let entries: std::io::Result<Vec<_>> =
                fs::read_dir(&directory).and_then(Iterator::collect);
            let paths = entries.map_err(listing)?.into_iter();
            orphans.extend(
                paths
                    .map(|entry| entry.path())
                    .filter(|path| !registered.contains(path)),
            );
        }
        Ok(orphans)
    }

    /// Returns whether the orphan at `path` holds events that the database has never seen, so that
    /// one of the two was restored from another time.
    ///
    /// # Errors
    ///
    /// `warehouse.sqlite` cannot be read.
    pub fn is_from_later(&self, path: &Path) -> Result<bool, WarehouseError> {
        let last = self.position()?;
        Ok(Run::last_sequence_in(path).is_some_and(|found| found > last))
    }

    /// Returns a snapshot of everything up to `position`, to fold over.
    ///
    /// # Errors
    ///
    /// The inbox is damaged, or the directory for long histories cannot be made.
    pub fn snapshot(&self, position: u64) -> Result<Snapshot, WarehouseError> {
        let spill = self.directory.join("spill");
        fs::create_dir_all(&spill).map_err(WarehouseError::io("create", &spill))?;
        let mut active = ActiveSegment::new();
        self.database.each_payload(|stored| {
            go_on(&self.abandoned)?;
            if stored.sequence <= position {
                let batch = codec::decode(stored.kind, &stored.payload)
                    .map_err(|error| self.database.damaged_entry(stored.sequence, &error))?;
                active.append(stored.sequence, &batch);
            }
            Ok(())
        })?;
        Ok(Snapshot {
            position,
            runs: (self.runs.iter())
                .filter(|run| run.record.sequences.1 <= position)
                .cloned()
                .collect(),
            segments: active.seal().into_iter().map(Arc::new).collect(),
            spill,
            abandoned: Some(Arc::clone(&self.abandoned)),
        })
    }
}
