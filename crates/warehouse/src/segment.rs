//! Keeps events that are durable in the inbox in memory until they are flushed.

use std::sync::{Mutex, OnceLock, PoisonError};

use trialog_model::event::EventKind;

use crate::batch::{Batch, Block};
use crate::index::{Index, IndexWriter};

/// The segment that is still growing.
pub(crate) struct ActiveSegment {
    pub(crate) batches: [Batch; 2],
    /// The first and last sequence in it, both inclusive.
    pub(crate) sequences: Option<(u64, u64)>,
}

impl ActiveSegment {
    pub(crate) fn new() -> Self {
        Self {
            batches: EventKind::ALL.map(Batch::new),
            sequences: None,
        }
    }

    pub(crate) fn append(&mut self, sequence: u64, batch: &Batch) {
        self.batches[slot(batch.kind())].append(batch);
        self.sequences = Some((
            self.sequences.map_or(sequence, |(first, _)| first),
            sequence,
        ));
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.batches.iter().map(Batch::size_bytes).sum()
    }

    /// Ends the segment; `None` if it is empty.
    pub(crate) fn seal(&mut self) -> Option<Segment> {
        let sequences = self.sequences?;
        let Self { batches, .. } = std::mem::replace(self, Self::new());
        Some(Segment {
            sequences,
            size_bytes: batches.iter().map(Batch::size_bytes).sum(),
            batches: batches.map(|batch| Mutex::new(Some(batch))),
            sorted: [const { OnceLock::new() }; 2],
        })
    }
}

/// A segment that no longer grows. The flusher sorts it, or an earlier reader does.
pub(crate) struct Segment {
    pub(crate) sequences: (u64, u64),
    pub(crate) size_bytes: usize,
    batches: [Mutex<Option<Batch>>; 2],
    sorted: [OnceLock<(Block, Index)>; 2],
}

impl Segment {
    pub(crate) fn is_sorted(&self) -> bool {
        self.sorted.iter().all(|sorted| sorted.get().is_some())
    }

    /// Returns the index of its assignments, once it is sorted.
    pub(crate) fn index_of_assignments(&self) -> Option<&Index> {
        let (_, index) = self.sorted[slot(EventKind::Assignment)].get()?;
        Some(index)
    }

    /// Returns the events of `kind`, sorted, with their index.
    pub(crate) fn sorted(&self, kind: EventKind) -> &(Block, Index) {
        let at = slot(kind);
        self.sorted[at].get_or_init(|| {
            let batch = self.batches[at]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let block = batch.unwrap_or_else(|| Batch::new(kind)).sorted();
            let mut index = IndexWriter::default();
            index.add(&block);
            (block, index.finish())
        })
    }
}

fn slot(kind: EventKind) -> usize {
    match kind {
        EventKind::Assignment => 0,
        EventKind::Metric => 1,
    }
}
