//! Records each user's exposure status in one pass, for later passes to read.
//!
//! Reading and parsing contexts costs more than folding the rest of an experiment. A pass that
//! has done it writes 24 bytes for each user to a temporary file, and the passes that follow read
//! these instead of the assignments.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::error::WarehouseError;
use crate::fold::exposure::Status;
use crate::fold::pieces::ranges;
use crate::fold::{Exposure, Plan};

const RECORD_BYTES: usize = 24;
const BUFFER_BYTES: usize = 256 << 10;

/// Writes what the users of a piece come to.
pub(crate) struct Recorder {
    directory: PathBuf,
    file: Option<(BufWriter<File>, TempPath)>,
    first_user: i64,
    n_users: u64,
    /// From which record on the numbers of cells are those of which table.
    tables: Vec<(u64, u32)>,
}

/// What the users of a piece come to, in the order of the users.
#[derive(Debug)]
pub(crate) struct Records {
    path: TempPath,
    first_user: i64,
    n_users: u64,
    tables: Vec<(u64, u32)>,
}

/// What the users of an experiment come to, and into which cell of a split they fall.
#[derive(Debug)]
pub struct Exposures {
    /// In the order of their users.
    parts: Vec<Records>,
    /// The cells of the split by the table and the number that were recorded.
    cells: HashMap<(u32, u32), u32>,
    /// The cell of all other numbers.
    other: u32,
    /// The time of the first assignment that waits for a later run.
    pub(crate) next_event_at: Option<i64>,
}

impl Recorder {
    /// Creates a recorder of a file in `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            file: None,
            first_user: i64::MIN,
            n_users: 0,
            tables: Vec::new(),
        }
    }

    /// Records what `user` comes to, whose cell is a number of `table`.
    pub(crate) fn record(
        &mut self,
        user: i64,
        status: &Status,
        table: u32,
    ) -> Result<(), WarehouseError> {
        let Some(record) = encode(user, status) else {
            return Ok(());
        };
        if self.tables.last().is_none_or(|(_, last)| *last != table) {
            self.tables.push((self.n_users, table));
        }
        let failed = WarehouseError::io("write exposures to a file in", &self.directory);
        let (file, _) = match &mut self.file {
            Some(file) => file,
            none => {
                let created = tempfile::NamedTempFile::new_in(&self.directory);
                let (file, path) = match created {
                    Ok(created) => created.into_parts(),
                    Err(error) => return Err(failed(error)),
                };
                self.first_user = user;
                none.insert((BufWriter::with_capacity(BUFFER_BYTES, file), path))
            }
        };
        file.write_all(&record).map_err(failed)?;
        self.n_users += 1;
        Ok(())
    }

    /// Returns what was recorded; none where nobody was.
    pub(crate) fn finish(self) -> Result<Option<Records>, WarehouseError> {
        let Some((mut file, path)) = self.file else {
            return Ok(None);
        };
        file.flush().map_err(WarehouseError::io(
            "write exposures to a file in",
            &self.directory,
        ))?;
        Ok(Some(Records {
            path,
            first_user: self.first_user,
            n_users: self.n_users,
            tables: self.tables,
        }))
    }
}

impl Records {
    /// Adds `n` to the numbers of tables.
    pub(crate) fn shift_tables(&mut self, n: u32) {
        (self.tables.iter_mut()).for_each(|(_, table)| *table += n);
    }
}

impl Exposures {
    /// Puts the records of all pieces together.
    pub(crate) fn new(
        mut parts: Vec<Records>,
        cells: HashMap<(u32, u32), u32>,
        other: u32,
        next_event_at: Option<i64>,
    ) -> Self {
        parts.sort_by_key(|records| records.first_user);
        Self {
            parts,
            cells,
            other,
            next_event_at,
        }
    }

    /// The users of each part; one part with all users where nobody was recorded.
    pub(crate) fn user_ranges(&self) -> Vec<Range<Option<i64>>> {
        let cuts = self.parts.iter().skip(1).map(|records| records.first_user);
        ranges(&cuts.collect::<Vec<_>>())
    }

    /// Opens the part with this number.
    pub(crate) fn open(&self, part: usize) -> Result<RecordReader<'_>, WarehouseError> {
        let mut reader = RecordReader {
            exposures: self,
            path: Path::new(""),
            file: None,
            n_left: 0,
            n_read: 0,
            tables: &[],
            table: 0,
            next: [0; RECORD_BYTES],
        };
        if let Some(records) = self.parts.get(part) {
            let open = WarehouseError::io("open", &records.path);
            let file = File::open(&records.path).map_err(open)?;
            reader.file = Some(BufReader::with_capacity(BUFFER_BYTES, file));
            reader.path = &records.path;
            reader.n_left = records.n_users;
            reader.tables = &records.tables;
        }
        reader.read_next()?;
        Ok(reader)
    }
}

/// Reads one part; at any time it stands on a user or at the end.
pub(crate) struct RecordReader<'e> {
    exposures: &'e Exposures,
    path: &'e Path,
    file: Option<BufReader<File>>,
    /// Users from the current one on.
    n_left: u64,
    n_read: u64,
    /// The tables that are yet to begin.
    tables: &'e [(u64, u32)],
    table: u32,
    next: [u8; RECORD_BYTES],
}

impl RecordReader<'_> {
    /// The current user; none at the end.
    pub(crate) fn user(&self) -> Option<i64> {
        (self.n_left > 0).then(|| number(&self.next, 0))
    }

    /// Takes the current user.
    pub(crate) fn take(&mut self, plan: &Plan) -> Result<Status, WarehouseError> {
        if self.n_left == 0 {
            return Ok(Status::Unexposed);
        }
        while let Some((_, table)) = (self.tables.first()).filter(|(from, _)| *from <= self.n_read)
        {
            self.table = *table;
            self.tables = &self.tables[1..];
        }
        let status = decode(&self.next, plan, |number| {
            let cell = self.exposures.cells.get(&(self.table, number));
            cell.copied().unwrap_or(self.exposures.other)
        });
        self.n_left -= 1;
        self.n_read += 1;
        self.read_next()?;
        Ok(status)
    }

    fn read_next(&mut self) -> Result<(), WarehouseError> {
        let Some(file) = self.file.as_mut().filter(|_| self.n_left > 0) else {
            return Ok(());
        };
        let read = file.read_exact(&mut self.next);
        read.map_err(WarehouseError::io("read", self.path))
    }
}

const LEFT_OUT: u32 = 0;
const FORCED: u32 = 1;
const UNKNOWN_VARIANT: u32 = 2;
/// Two kinds for each variant follow: of crossovers, and of exposed users.
const FIRST_OF_VARIANTS: u32 = 3;

/// Writes the user, the time of the exposure, the kind of status with its variant, and the cell;
/// none of users who are not exposed.
fn encode(user: i64, status: &Status) -> Option<[u8; RECORD_BYTES]> {
    let (at, kind, cell) = match *status {
        Status::Unexposed => return None,
        Status::LeftOut => (0, LEFT_OUT, 0),
        Status::Forced { cell } => (0, FORCED, cell),
        Status::UnknownVariant { cell } => (0, UNKNOWN_VARIANT, cell),
        Status::Crossover { cell, variant } => (0, FIRST_OF_VARIANTS + 2 * variant, cell),
        Status::Exposed(exposure) => {
            let kind = FIRST_OF_VARIANTS + 2 * exposure.variant + 1;
            (exposure.at, kind, exposure.cell)
        }
    };
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&user.to_le_bytes());
    record[8..16].copy_from_slice(&at.to_le_bytes());
    record[16..20].copy_from_slice(&kind.to_le_bytes());
    record[20..].copy_from_slice(&cell.to_le_bytes());
    Some(record)
}

/// Reads what [`encode`] has written, with the cell that `cell_of` gives for the recorded number.
fn decode(record: &[u8; RECORD_BYTES], plan: &Plan, cell_of: impl Fn(u32) -> u32) -> Status {
    let last = number(record, 16).cast_unsigned();
    let (kind, cell) = (last as u32, cell_of((last >> 32) as u32));
    let Some(of_variant) = kind.checked_sub(FIRST_OF_VARIANTS) else {
        return match kind {
            LEFT_OUT => Status::LeftOut,
            FORCED => Status::Forced { cell },
            _ => Status::UnknownVariant { cell },
        };
    };
    let variant = of_variant / 2;
    match of_variant % 2 {
        0 => Status::Crossover { cell, variant },
        _ => Status::Exposed(Exposure {
            user: number(record, 0),
            variant,
            cell,
            slot: plan.slot(cell, variant),
            at: number(record, 8),
        }),
    }
}

fn number(record: &[u8; RECORD_BYTES], at: usize) -> i64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&record[at..at + 8]);
    i64::from_le_bytes(eight)
}
