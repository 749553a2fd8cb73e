//! Manages `warehouse.sqlite`: the inbox, the register of runs, source positions.
//!
//! SQLite in WAL mode with `synchronous = FULL` is the write-ahead log of the
//! warehouse; there is no other. All statements stand in this file.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use trialog_model::event::EventKind;
use trialog_sqlite::watch::Watch;
use trialog_sqlite::{
    Migration, Opening, Reach, SchemaVersions, open_read_only, pin, schema_version, sql,
};

use crate::error::WarehouseError;
use crate::run::RunRecord;

/// Returns the path of the file in `directory` that records the last sequence.
pub(crate) fn told(directory: &Path) -> PathBuf {
    directory.join("POSITION")
}

/// The last sequence that was committed, in a file of any schema.
fn reached(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT position FROM sources WHERE source = ?1";
    let last: Option<i64> = (connection.query_row(sql, [INBOX], |row| row.get(0))).optional()?;
    Ok(last.unwrap_or_default().cast_unsigned())
}

/// The source whose position is the last committed sequence.
const INBOX: &str = "inbox";

/// The steps from an empty file to the newest schema; a step that was
/// released never changes.
const MIGRATIONS: &[Migration] = &[
    sql!(INBOX_RUNS_SOURCES),
    seal_everything,
    sql!(TEXTS_OF_USERS),
];

const INBOX_RUNS_SOURCES: &str = "
CREATE TABLE inbox (
    sequence  INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    n_rows    INTEGER NOT NULL,
    checksum  INTEGER NOT NULL,
    payload   BLOB    NOT NULL,
    PRIMARY KEY (sequence, kind)
) WITHOUT ROWID;
CREATE TABLE runs (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    kind           TEXT    NOT NULL,
    file           TEXT    NOT NULL,
    bytes          INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    checksums      BLOB    NOT NULL,
    contents       BLOB    NOT NULL,
    checksum       INTEGER NOT NULL,
    UNIQUE (kind, file)
);
CREATE TABLE sources (
    source     TEXT PRIMARY KEY,
    position   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sources_by_age ON sources (updated_at);
";

/// From here on entries of the inbox and runs can have texts of users. A binary from before
/// would read such entries without the contexts beside them, and is kept from it.
const TEXTS_OF_USERS: &str = "-- Nothing in this file changes.";

/// Lets checksums cover whole entries of the inbox and every source's position.
fn seal_everything(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "ALTER TABLE sources ADD COLUMN seal INTEGER;
         INSERT INTO sources (source, position, updated_at)
             SELECT 'inbox', max(ifnull((SELECT max(sequence) FROM inbox), 0), ifnull((SELECT max(last_sequence) FROM runs), 0)), 0;",
    )?;
    let mut entries =
        transaction.prepare("SELECT sequence, kind, n_rows, checksum, payload FROM inbox")?;
    let mut rows = entries.query([])?;
    while let Some(row) = rows.next()? {
        let (sequence, kind, n_rows): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let payload: Vec<u8> = row.get(4)?;
        // One that is damaged already keeps its checksum, and is found when it is read.
        if crc32fast::hash(&payload) == row.get::<_, u32>(3)? {
            transaction.execute(
                "UPDATE inbox SET checksum = ?3 WHERE sequence = ?1 AND kind = ?2",
                params![
                    sequence,
                    kind,
                    entry_checksum(sequence, &kind, n_rows, &payload)
                ],
            )?;
        }
    }
    Ok(())
}

fn entry_checksum(sequence: i64, kind: &str, n_rows: i64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(kind.as_bytes());
    hasher.update(&n_rows.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Inspects `warehouse.sqlite` in `directory` without changing it; `None` if there is no such
/// file.
///
/// # Errors
///
/// The file cannot be read, or is no database.
pub fn inspect(directory: &Path) -> Result<Option<SchemaVersions>, WarehouseError> {
    let path = directory.join("warehouse.sqlite");
    if !path.exists() {
        return Ok(None);
    }
    let connection = open_read_only(&path).map_err(failed("inspect the schema", &path))?;
    Ok(Some(SchemaVersions {
        found: schema_version(&connection).map_err(failed("inspect the schema", &path))?,
        known: MIGRATIONS.len() as i64,
    }))
}

/// The stored position of a source: a file's last row, or a request's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceMark {
    /// Which source, such as `import:5f2c…` or `key:…`.
    pub source: String,
    /// The position in the source's own units.
    pub position: i64,
    /// Whether the source may be used only once: a submission with another position is rejected.
    pub once: bool,
}

/// One group commit: all of it becomes durable together, or none of it.
pub(crate) struct InboxEntry<'a> {
    pub(crate) sequence: u64,
    pub(crate) kind: EventKind,
    pub(crate) n_rows: usize,
    pub(crate) payload: &'a [u8],
}

/// A payload as stored in the inbox.
pub(crate) struct StoredPayload {
    pub(crate) sequence: u64,
    pub(crate) kind: EventKind,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens or creates `warehouse.sqlite` in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, WarehouseError> {
        let path = directory.join("warehouse.sqlite");
        let told = told(directory);
        let connection = Opening {
            path: &path,
            pragmas: "PRAGMA page_size = 16384; PRAGMA wal_autocheckpoint = 2000;",
            migrations: MIGRATIONS,
            reach: Some(Reach {
                told: &told,
                reached,
            }),
        }
        .open()?;
        Ok(Self { connection, path })
    }

    /// Opens the database in `directory` for reading, at its present state.
    pub(crate) fn pin(directory: &Path) -> Result<Self, WarehouseError> {
        let path = directory.join("warehouse.sqlite");
        let connection = pin::pin(&path, MIGRATIONS)?;
        Ok(Self { connection, path })
    }

    /// Opens the database like [`Self::pin`] while no process has it open. The file must exist if
    /// it ever did. The caller compares its sequence with the recorded one.
    pub(crate) fn open_pinned(directory: &Path) -> Result<Self, WarehouseError> {
        let path = directory.join("warehouse.sqlite");
        let told = told(directory);
        let reach = Reach {
            told: &told,
            reached,
        };
        pin::check_file(&path, &reach)?;
        Self::pin(directory)
    }

    /// Watches the files of the database.
    pub(crate) fn watch(&self) -> Watch {
        Watch::new(&self.path)
    }

    /// Copies the visible state to a new file, durably.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), WarehouseError> {
        Ok(pin::copy(&self.connection, &self.path, path)?)
    }

    /// Lists all damage in the file.
    pub(crate) fn find_damage(&self) -> Result<Vec<String>, WarehouseError> {
        pin::find_damage(&self.connection).map_err(self.failed("check"))
    }

    /// Removes every trace of what was deleted.
    pub(crate) fn scrub(&self) -> Result<(), WarehouseError> {
        Ok(pin::scrub(&self.connection, &self.path)?)
    }

    /// Returns the ids of the registered runs.
    pub(crate) fn run_ids(&self) -> Result<Vec<i64>, WarehouseError> {
        let read = || -> rusqlite::Result<Vec<i64>> {
            self.connection
                .prepare("SELECT id FROM runs ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect()
        };
        read().map_err(self.failed("read the runs"))
    }

    /// Builds the error for the inbox entry `sequence`, which cannot be decoded.
    pub(crate) fn damaged_entry(
        &self,
        sequence: u64,
        error: &dyn std::fmt::Display,
    ) -> WarehouseError {
        self.damaged(format!("inbox entry {sequence} cannot be decoded: {error}"))
    }

    pub(crate) fn damaged(&self, what: String) -> WarehouseError {
        WarehouseError::Damaged {
            path: self.path.clone(),
            what,
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> WarehouseError + '_ {
        failed(action, &self.path)
    }

    /// Makes `entries` and `marks` durable together.
    pub(crate) fn append(
        &mut self,
        entries: &[InboxEntry<'_>],
        marks: &[SourceMark],
        now: i64,
    ) -> Result<(), WarehouseError> {
        let path = self.path.clone();
        let transaction = self
            .connection
            .transaction()
            .map_err(failed("begin a commit", &path))?;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO inbox (sequence, kind, n_rows, checksum, payload) VALUES (?1, ?2, ?3, ?4, ?5)")
                .map_err(failed("append events", &path))?;
            for entry in entries {
                let (sequence, n_rows) = (entry.sequence.cast_signed(), entry.n_rows as i64);
                let kind = entry.kind.plural();
                let checksum = entry_checksum(sequence, kind, n_rows, entry.payload);
                insert
                    .execute(params![sequence, kind, n_rows, checksum, entry.payload])
                    .map_err(failed("append events", &path))?;
            }
            let mut mark = transaction
                .prepare_cached("INSERT INTO sources (source, position, updated_at) VALUES (?1, ?2, ?3) ON CONFLICT (source) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at")
                .map_err(failed("mark a source", &path))?;
            let last = entries.last().map(|entry| SourceMark {
                source: INBOX.to_owned(),
                position: entry.sequence.cast_signed(),
                once: false,
            });
            for SourceMark {
                source, position, ..
            } in marks.iter().chain(&last)
            {
                mark.execute(params![source, position, now])
                    .map_err(failed("mark a source", &path))?;
            }
        }
        transaction.commit().map_err(failed("commit events", &path))
    }

    /// Passes every payload of the inbox to `each` in the order of their sequences.
    pub(crate) fn each_payload(
        &self,
        mut each: impl FnMut(StoredPayload) -> Result<(), WarehouseError>,
    ) -> Result<(), WarehouseError> {
        let mut statement = self
            .connection
            .prepare("SELECT sequence, kind, n_rows, checksum, payload FROM inbox ORDER BY sequence, kind")
            .map_err(self.failed("read the inbox"))?;
        let mut rows = statement.query([]).map_err(self.failed("read the inbox"))?;
        while let Some(row) = rows.next().map_err(self.failed("read the inbox"))? {
            let read = || -> rusqlite::Result<(i64, String, i64, u32, Vec<u8>)> {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                ))
            };
            let (sequence, kind, n_rows, checksum, payload) =
                read().map_err(self.failed("read the inbox"))?;
            if entry_checksum(sequence, &kind, n_rows, &payload) != checksum {
                return Err(self.damaged(format!(
                    "the checksum of inbox entry {sequence} does not match"
                )));
            }
            let kind = self.kind(&kind)?;
            each(StoredPayload {
                sequence: sequence.cast_unsigned(),
                kind,
                payload,
            })?;
        }
        Ok(())
    }

    fn kind(&self, text: &str) -> Result<EventKind, WarehouseError> {
        EventKind::ALL
            .into_iter()
            .find(|kind| kind.plural() == text)
            .ok_or_else(|| self.damaged(format!("`{text}` is no kind of event")))
    }

    /// Returns the registered runs, oldest first.
    pub(crate) fn runs(&self) -> Result<Vec<RunRecord>, WarehouseError> {
        let mut statement = self
            .connection
            .prepare("SELECT id, kind, file, bytes, first_sequence, last_sequence, checksums, contents, checksum FROM runs ORDER BY id")
            .map_err(self.failed("read the runs"))?;
        let mut rows = statement.query([]).map_err(self.failed("read the runs"))?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(self.failed("read the runs"))? {
            records.push(self.run_record(row)?);
        }
        Ok(records)
    }

    fn run_record(&self, row: &rusqlite::Row<'_>) -> Result<RunRecord, WarehouseError> {
        let read = || -> rusqlite::Result<_> {
            let sequences: (i64, i64) = (row.get(4)?, row.get(5)?);
            let bytes: i64 = row.get(3)?;
            let blobs: (Vec<u8>, Vec<u8>) = (row.get(6)?, row.get(7)?);
            Ok((
                row.get(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                bytes,
                sequences,
                blobs,
                row.get::<_, u32>(8)?,
            ))
        };
        let (id, kind, file, bytes, sequences, (checksums, contents), checksum) =
            read().map_err(self.failed("read the runs"))?;
        let sequences = (sequences.0.cast_unsigned(), sequences.1.cast_unsigned());
        let kind = self.kind(&kind)?;
        let bytes = bytes.cast_unsigned();
        if record_checksum(kind, &file, bytes, sequences, &checksums, &contents) != checksum {
            return Err(self.damaged(format!(
                "the register entry of run {id} does not match its checksum"
            )));
        }
        let index = serde_json::from_slice(&contents).map_err(|error| {
            self.damaged(format!("the contents of run {id} cannot be read: {error}"))
        })?;
        let checksums = checksums
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        Ok(RunRecord {
            id,
            kind,
            file,
            bytes,
            sequences,
            checksums,
            index,
        })
    }

    /// Registers the runs `added`, drops the runs `replaced`, and removes from the inbox what the
    /// new runs now hold, in one transaction. Returns the new ids.
    pub(crate) fn swap_runs(
        &mut self,
        added: &[RunRecord],
        replaced: &[i64],
        flushed: Option<(u64, u64)>,
    ) -> Result<Vec<i64>, WarehouseError> {
        let path = self.path.clone();
        let transaction = self
            .connection
            .transaction()
            .map_err(failed("begin a commit", &path))?;
        let mut ids = Vec::new();
        for record in added {
            insert_run(&transaction, record).map_err(failed("register a run", &path))?;
            ids.push(transaction.last_insert_rowid());
        }
        for id in replaced {
            transaction
                .execute("DELETE FROM runs WHERE id = ?1", [id])
                .map_err(failed("replace a run", &path))?;
        }
        if let Some((first, last)) = flushed {
            transaction
                .execute(
                    "DELETE FROM inbox WHERE sequence BETWEEN ?1 AND ?2",
                    [first.cast_signed(), last.cast_signed()],
                )
                .map_err(failed("empty the inbox", &path))?;
        }
        transaction
            .commit()
            .map_err(failed("commit a run", &path))?;
        Ok(ids)
    }

    /// Returns the last committed sequence; 0 if there is none.
    pub(crate) fn last_sequence(&self) -> Result<u64, WarehouseError> {
        let last = self.position(INBOX)?;
        Ok(last.unwrap_or_default().cast_unsigned())
    }

    /// Builds the error for the run at `path`, which holds events newer than the database.
    pub(crate) fn older_than(&self, path: &Path) -> WarehouseError {
        let path = path.display();
        self.damaged(format!(
            "it does not know of the events in `{path}`, so one of the two is not of this time"
        ))
    }

    /// Returns the stored position of `source`.
    pub(crate) fn position(&self, source: &str) -> Result<Option<i64>, WarehouseError> {
        self.connection
            .prepare_cached("SELECT position FROM sources WHERE source = ?1")
            .and_then(|mut statement| statement.query_row([source], |row| row.get(0)).optional())
            .map_err(self.failed("read a source's position"))
    }

    /// Forgets the request keys that were last used before `before`.
    pub(crate) fn forget_keys(&self, before: i64) -> Result<usize, WarehouseError> {
        self.connection
            .execute(
                "DELETE FROM sources WHERE updated_at < ?1 AND source LIKE 'key:%'",
                [before],
            )
            .map_err(self.failed("forget old request keys"))
    }
}

fn insert_run(connection: &Connection, record: &RunRecord) -> rusqlite::Result<()> {
    let checksums: Vec<u8> = record
        .checksums
        .iter()
        .flat_map(|checksum| checksum.to_le_bytes())
        .collect();
    let contents = serde_json::to_vec(&record.index)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let checksum = record_checksum(
        record.kind,
        &record.file,
        record.bytes,
        record.sequences,
        &checksums,
        &contents,
    );
    connection.execute(
        "INSERT INTO runs (kind, file, bytes, first_sequence, last_sequence, checksums, contents, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            record.kind.plural(),
            record.file,
            record.bytes.cast_signed(),
            record.sequences.0.cast_signed(),
            record.sequences.1.cast_signed(),
            checksums,
            contents,
            checksum
        ],
    )?;
    Ok(())
}

fn record_checksum(
    kind: EventKind,
    file: &str,
    bytes: u64,
    sequences: (u64, u64),
    checksums: &[u8],
    contents: &[u8],
) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(kind.plural().as_bytes());
    hasher.update(file.as_bytes());
    for number in [bytes, sequences.0, sequences.1] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(checksums);
    hasher.update(contents);
    hasher.finalize()
}

fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(rusqlite::Error) -> WarehouseError + 'a {
    move |source| WarehouseError::Database {
        action,
        path: path.to_owned(),
        source,
    }
}
