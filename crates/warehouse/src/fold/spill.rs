//! Sorts more rows than memory holds: sorted chunks in one temporary file, merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::WarehouseError;
use crate::fold::history::{Copies, Identity};
use crate::fold::{Detail, NamePlace, Row};

const ROW_BYTES: usize = 36;
/// Memory for reading chunks back, shared by all of them.
const READ_BYTES: usize = 8 << 20;

/// The order in which rows come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By time and content.
    Time,
    /// By what copies have in common, then by time and content.
    Copies(Copies),
}

impl Order {
    fn key(self, row: &Row) -> (Identity, Row) {
        match self {
            Self::Time => (Identity::default(), *row),
            Self::Copies(copies) => (copies.identity(row), *row),
        }
    }
}

/// Collects rows and gives them back in order.
pub(crate) struct Sorter {
    directory: PathBuf,
    order: Order,
    /// Only for the size of the read buffers' least share.
    memory_rows: usize,
    file: Option<File>,
    n_written: u64,
    /// Where each chunk ends in the file.
    chunk_ends: Vec<u64>,
}

impl Sorter {
    /// A sorter whose temporary file lies in `directory`.
    pub(crate) fn new(directory: &Path, order: Order, memory_rows: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            order,
            memory_rows,
            file: None,
            n_written: 0,
            chunk_ends: Vec::new(),
        }
    }

    /// Takes all of `rows` as one chunk and leaves it empty.
    pub(crate) fn push_all(&mut self, rows: &mut Vec<Row>) -> Result<(), WarehouseError> {
        if rows.is_empty() {
            return Ok(());
        }
        let order = self.order;
        rows.sort_unstable_by_key(|row| order.key(row));
        let mut bytes = Vec::with_capacity(rows.len() * ROW_BYTES);
        rows.drain(..).for_each(|row| encode(&row, &mut bytes));
        let failed = WarehouseError::io("write a temporary file in", &self.directory);
        let file = match &mut self.file {
            Some(file) => file,
            none => match tempfile::tempfile_in(&self.directory) {
                Ok(file) => none.insert(file),
                Err(error) => return Err(failed(error)),
            },
        };
        file.write_all_at(&bytes, self.n_written).map_err(failed)?;
        self.n_written += bytes.len() as u64;
        self.chunk_ends.push(self.n_written);
        Ok(())
    }

    /// Hands on every row in order.
    pub(crate) fn drain(
        self,
        mut each: impl FnMut(Row) -> Result<(), WarehouseError>,
    ) -> Result<(), WarehouseError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let n_chunks = self.chunk_ends.len();
        let buffer_rows = (READ_BYTES / ROW_BYTES / n_chunks).clamp(16, self.memory_rows.max(16));
        let mut start = 0;
        let mut chunks: Vec<Chunk<'_>> = Vec::with_capacity(n_chunks);
        for &end in &self.chunk_ends {
            chunks.push(Chunk {
                file,
                directory: &self.directory,
                next: start..end,
                buffer_rows,
                rows: Vec::new().into_iter(),
            });
            start = end;
        }
        let mut heap = BinaryHeap::new();
        for (at, chunk) in chunks.iter_mut().enumerate() {
            if let Some(row) = chunk.next_row()? {
                heap.push(Reverse((self.order.key(&row), at)));
            }
        }
        while let Some(Reverse(((_, row), at))) = heap.pop() {
            each(row)?;
            if let Some(row) = chunks[at].next_row()? {
                heap.push(Reverse((self.order.key(&row), at)));
            }
        }
        Ok(())
    }
}

/// A sorted part of the file, read through a buffer.
struct Chunk<'f> {
    file: &'f File,
    directory: &'f Path,
    next: std::ops::Range<u64>,
    buffer_rows: usize,
    rows: std::vec::IntoIter<Row>,
}

impl Chunk<'_> {
    fn next_row(&mut self) -> Result<Option<Row>, WarehouseError> {
        if let Some(row) = self.rows.next() {
            return Ok(Some(row));
        }
        let n_bytes =
            ((self.next.end - self.next.start) as usize).min(self.buffer_rows * ROW_BYTES);
        let mut bytes = vec![0; n_bytes];
        self.file
            .read_exact_at(&mut bytes, self.next.start)
            .map_err(WarehouseError::io(
                "read a temporary file in",
                self.directory,
            ))?;
        self.next.start += n_bytes as u64;
        self.rows = bytes
            .chunks_exact(ROW_BYTES)
            .map(decode)
            .collect::<Vec<_>>()
            .into_iter();
        Ok(self.rows.next())
    }
}

fn encode(row: &Row, into: &mut Vec<u8>) {
    into.extend_from_slice(&row.timestamp.to_le_bytes());
    into.extend_from_slice(&row.value.to_le_bytes());
    into.extend_from_slice(&row.event_id.to_le_bytes());
    into.extend_from_slice(&row.name.0.to_le_bytes());
    into.extend_from_slice(&row.detail.0.to_le_bytes());
}

fn decode(bytes: &[u8]) -> Row {
    let number = |at: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[at..at + 8]);
        i64::from_le_bytes(eight)
    };
    let code = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(four)
    };
    Row {
        timestamp: number(0),
        value: number(8),
        event_id: number(16),
        name: NamePlace(code(24)),
        detail: Detail(number(28).cast_unsigned()),
    }
}
