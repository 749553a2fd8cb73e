//! Sorts more records than memory holds: sorted chunks in temporary files, merged.
//!
//! Records have one length and are ordered by their bytes, so numbers are written with the
//! highest byte first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::WarehouseError;

/// Memory for the records that are not written yet.
const MAX_BYTES: usize = 16 << 20;
/// Memory for reading chunks back, shared by all of them.
const READ_BYTES: usize = 8 << 20;
/// The fewest records of a chunk that are read at once.
const LEAST_READ: usize = 16;

/// Collects records of `N` bytes and gives them back in order.
#[derive(Debug)]
pub struct ExternalSort<const N: usize> {
    directory: PathBuf,
    max_records: usize,
    records: Vec<[u8; N]>,
    file: Option<Arc<File>>,
    n_written: u64,
    chunks: Vec<(Arc<File>, Range<u64>)>,
}

impl<const N: usize> ExternalSort<N> {
    /// Creates a sort whose temporary files lie in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            max_records: MAX_BYTES / N.max(1),
            records: Vec::new(),
            file: None,
            n_written: 0,
            chunks: Vec::new(),
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// A temporary file cannot be written.
    pub fn push(&mut self, record: [u8; N]) -> Result<(), WarehouseError> {
        self.records.push(record);
        match self.records.len() >= self.max_records {
            true => self.spill(),
            false => Ok(()),
        }
    }

    /// Takes in the records of `other`.
    ///
    /// # Errors
    ///
    /// A temporary file cannot be written.
    pub fn merge(&mut self, other: Self) -> Result<(), WarehouseError> {
        self.chunks.extend(other.chunks);
        other
            .records
            .into_iter()
            .try_for_each(|record| self.push(record))
    }

    /// Calls `each` with every record in order, until it fails.
    ///
    /// # Errors
    ///
    /// A temporary file cannot be read, or what `each` returned.
    pub fn drain<E: From<WarehouseError>>(
        mut self,
        mut each: impl FnMut(&[u8; N]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.records.sort_unstable();
        let n_chunks = self.chunks.len().max(1);
        let n_at_once = (READ_BYTES / N.max(1) / n_chunks).max(LEAST_READ);
        let chunks = self.chunks.into_iter().map(|(file, next)| Chunk {
            file: Some(file),
            next,
            n_at_once,
            records: Vec::new().into_iter(),
        });
        let in_memory = Chunk {
            file: None,
            next: 0..0,
            n_at_once,
            records: self.records.into_iter(),
        };
        let mut chunks: Vec<Chunk<N>> = chunks.chain([in_memory]).collect();
        let mut heap = BinaryHeap::with_capacity(chunks.len());
        for (at, chunk) in chunks.iter_mut().enumerate() {
            let first = chunk.next_record(&self.directory)?;
            heap.extend(first.map(|record| Reverse((record, at))));
        }
        while let Some(Reverse((record, at))) = heap.pop() {
            each(&record)?;
            let following = chunks[at].next_record(&self.directory)?;
            heap.extend(following.map(|record| Reverse((record, at))));
        }
        Ok(())
    }

    /// Writes the records as one chunk.
    fn spill(&mut self) -> Result<(), WarehouseError> {
        self.records.sort_unstable();
        let failed = WarehouseError::io("write a temporary file in", &self.directory);
        let file = match &self.file {
            Some(file) => file,
            None => match tempfile::tempfile_in(&self.directory) {
                Ok(file) => self.file.insert(Arc::new(file)),
                Err(error) => return Err(failed(error)),
            },
        };
        let bytes = self.records.as_flattened();
        (file.write_all_at(bytes, self.n_written)).map_err(failed)?;
        let end = self.n_written + bytes.len() as u64;
        self.chunks.push((Arc::clone(file), self.n_written..end));
        self.n_written = end;
        self.records.clear();
        Ok(())
    }
}

/// Sorted records, in memory or in a part of a file.
struct Chunk<const N: usize> {
    file: Option<Arc<File>>,
    next: Range<u64>,
    n_at_once: usize,
    records: std::vec::IntoIter<[u8; N]>,
}

impl<const N: usize> Chunk<N> {
    fn next_record(&mut self, directory: &Path) -> Result<Option<[u8; N]>, WarehouseError> {
        if let Some(record) = self.records.next() {
            return Ok(Some(record));
        }
        let n_bytes = (self.next.end - self.next.start) as usize;
        let Some(file) = self.file.as_ref().filter(|_| n_bytes > 0) else {
            return Ok(None);
        };
        let mut records = vec![[0; N]; (n_bytes / N.max(1)).min(self.n_at_once)];
        (file.read_exact_at(records.as_flattened_mut(), self.next.start))
            .map_err(WarehouseError::io("read a temporary file in", directory))?;
        self.next.start += (records.len() * N) as u64;
        self.records = records.into_iter();
        Ok(self.records.next())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_pushed_in_several_sorts_comes_back_in_order(
            parts in prop::collection::vec(prop::collection::vec(any::<[u8; 3]>(), 0..40), 1..5),
            max_records in 1usize..30,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let sort = |records: &[[u8; 3]]| {
                let mut sort = ExternalSort { max_records, ..ExternalSort::new(directory.path()) };
                records.iter().try_for_each(|record| sort.push(*record)).unwrap();
                sort
            };
            let mut all = sort(&[]);
            for part in &parts {
                all.merge(sort(part)).unwrap();
            }
            let mut found = Vec::new();
            let drained = all.drain(|record| {
                found.push(*record);
                Ok::<(), WarehouseError>(())
            });
            drained.unwrap();
            let mut expected = parts.concat();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
