//! Merges the events of one user in one experiment, sorts them, and removes duplicates.
//!
//! A history of ordinary length lies in one buffer that all users share. One
//! that is longer goes to disk and is sorted there, so a user with millions
//! of events costs time and disk, never memory.

use std::path::{Path, PathBuf};

use crate::error::WarehouseError;
use crate::fold::Row;
use crate::fold::spill::{Order, Sorter};

/// Rows that are held in memory; beyond this a history goes to disk.
pub(crate) const MEMORY_ROWS: usize = 256 * 1024;
/// Rows that are handed on at a time when a history comes from disk.
const CHUNK_ROWS: usize = 4 * 1024;
/// Up to this many rows duplicates are found by comparing, beyond by sorting.
const FEW_ROWS: usize = 48;

/// Which events are copies of one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Those that share an event id: assignments.
    SameId,
    /// Those that share an event id and a type: metric events. An order's id stands on
    /// the purchase and on its refund, and these are two events.
    SameIdAndName,
}

/// What the copies of an event have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    event_id: i64,
    /// The place and the number of the name, where it matters.
    name: u64,
}

impl Copies {
    pub(crate) fn identity(self, row: &Row) -> Identity {
        let name = match self {
            Self::SameId => 0,
            Self::SameIdAndName => u64::from(row.name.0) << 32 | row.detail.0,
        };
        Identity {
            event_id: row.event_id,
            name,
        }
    }
}

pub(crate) struct History {
    spill: PathBuf,
    copies: Copies,
    memory_rows: usize,
    rows: Vec<Row>,
    n_sources: usize,
    /// Whether a single source, too, has to be sorted.
    ties_unordered: bool,
    spilled: Option<Sorter>,
    /// The first time at or after the horizon, per source the least is kept.
    beyond: Vec<i64>,
    scratch: Vec<(Identity, u32)>,
}

impl History {
    /// A history that spills into the directory `spill`.
    pub(crate) fn new(spill: &Path) -> Self {
        Self {
            spill: spill.to_owned(),
            copies: Copies::SameId,
            memory_rows: MEMORY_ROWS,
            rows: Vec::new(),
            n_sources: 0,
            ties_unordered: false,
            spilled: None,
            beyond: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Begins with another user's events, or with another kind of them.
    pub(crate) fn begin(&mut self, copies: Copies) {
        self.copies = copies;
        self.rows.clear();
        self.n_sources = 0;
        self.ties_unordered = false;
        self.spilled = None;
        self.beyond.clear();
    }

    /// Which of its events are copies of one another.
    pub(crate) fn copies(&self) -> Copies {
        self.copies
    }

    /// The rows that follow come from another sorted source.
    pub(crate) fn begin_source(&mut self) {
        self.n_sources += 1;
    }

    /// Rows of one source may tie in what sources are sorted by and yet differ.
    pub(crate) fn order_ties(&mut self) {
        self.ties_unordered = true;
    }

    pub(crate) fn push(&mut self, row: Row) -> Result<(), WarehouseError> {
        if self.rows.len() == self.memory_rows {
            let order = Order::Copies(self.copies);
            let sorter = self
                .spilled
                .get_or_insert_with(|| Sorter::new(&self.spill, order, self.memory_rows));
            sorter.push_all(&mut self.rows)?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Notes the sorted times that lie at or beyond the horizon.
    pub(crate) fn note_beyond(&mut self, times: &[i64]) {
        if let (Some(first), Some(last)) = (times.first(), times.last()) {
            self.beyond.extend([*first, *last]);
        }
    }

    /// The least noted time after `data_time`, or a bound below which none lies.
    ///
    /// Only the first and the last time of each stretch are kept, so where the
    /// first is not after `data_time` but the last is, the bound is the next
    /// microsecond: the experiment is then looked at again a little early.
    pub(crate) fn first_beyond(&self, data_time: i64) -> Option<i64> {
        let latest = self
            .beyond
            .iter()
            .copied()
            .max()
            .filter(|latest| *latest > data_time)?;
        let exact = self
            .beyond
            .chunks(2)
            .all(|pair| pair[0] > data_time || pair[1] <= data_time);
        if exact {
            self.beyond
                .iter()
                .copied()
                .filter(|time| *time > data_time)
                .min()
        } else {
            Some(latest.min(data_time.saturating_add(1)))
        }
    }

    /// Hands on the rows in order and without duplicates: of the copies of an
    /// event the least remains.
    pub(crate) fn each_chunk(
        &mut self,
        mut each: impl FnMut(&[Row]),
    ) -> Result<(), WarehouseError> {
        let Some(mut by_id) = self.spilled.take() else {
            if self.n_sources > 1 || self.ties_unordered {
                self.rows.sort_unstable();
            }
            self.remove_duplicates();
            if !self.rows.is_empty() {
                each(&self.rows);
            }
            return Ok(());
        };
        by_id.push_all(&mut self.rows)?;
        let mut by_time = Sorter::new(&self.spill, Order::Time, self.memory_rows);
        let mut last = None;
        by_id.drain(|row| {
            let identity = self.copies.identity(&row);
            if last.replace(identity) == Some(identity) {
                return Ok(());
            }
            self.rows.push(row);
            if self.rows.len() == self.memory_rows {
                by_time.push_all(&mut self.rows)
            } else {
                Ok(())
            }
        })?;
        by_time.push_all(&mut self.rows)?;
        by_time.drain(|row| {
            self.rows.push(row);
            if self.rows.len() == CHUNK_ROWS {
                each(&self.rows);
                self.rows.clear();
            }
            Ok(())
        })?;
        if !self.rows.is_empty() {
            each(&self.rows);
        }
        self.rows.clear();
        Ok(())
    }

    /// Keeps the first of the rows, which are in order, that are copies of one another.
    fn remove_duplicates(&mut self) {
        if self.rows.len() <= FEW_ROWS {
            remove_few(&mut self.rows, self.copies);
        } else {
            remove_many(&mut self.rows, self.copies, &mut self.scratch);
        }
    }
}

/// Compares every row with those kept before it, where a small filter of the
/// ids seen so far cannot rule a copy out.
fn remove_few(rows: &mut Vec<Row>, copies: Copies) {
    let mut filter = [0u64; 8];
    let mut n_kept = 0;
    for at in 0..rows.len() {
        let id = rows[at].event_id;
        let (word, bit) = ((id & 7) as usize, 1u64 << ((id >> 3) & 63));
        let maybe = filter[word] & bit != 0;
        let identity = copies.identity(&rows[at]);
        if maybe && (rows[..n_kept].iter()).any(|kept| copies.identity(kept) == identity) {
            continue;
        }
        filter[word] |= bit;
        rows[n_kept] = rows[at];
        n_kept += 1;
    }
    rows.truncate(n_kept);
}

fn remove_many(rows: &mut Vec<Row>, copies: Copies, scratch: &mut Vec<(Identity, u32)>) {
    scratch.clear();
    scratch.extend(
        rows.iter()
            .enumerate()
            .map(|(at, row)| (copies.identity(row), at as u32)),
    );
    scratch.sort_unstable();
    let surplus: Vec<u32> = scratch
        .windows(2)
        .filter(|pair| pair[0].0 == pair[1].0)
        .map(|pair| pair[1].1)
        .collect();
    if surplus.is_empty() {
        return;
    }
    let surplus: std::collections::HashSet<u32> = surplus.into_iter().collect();
    let mut at = 0;
    rows.retain(|_| {
        at += 1;
        !surplus.contains(&(at - 1))
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fold::{Detail, NamePlace};

    /// A row whose type is one of three: one that is expected, and two others between
    /// the same expected ones.
    fn row(timestamp: i64, event_id: i64, value: i64, name: u32) -> Row {
        Row {
            timestamp,
            name: NamePlace(1 + name.min(1)),
            value,
            event_id,
            detail: match name {
                0 => Detail::NONE,
                number => Detail(u64::from(number)),
            },
        }
    }

    /// What section "duplicate" of the definitions says, in the plainest way.
    fn expected(rows: &[Row], copies: Copies) -> Vec<Row> {
        let mut sorted = rows.to_vec();
        sorted.sort();
        let mut seen = std::collections::HashSet::new();
        sorted.retain(|row| {
            let name = (copies == Copies::SameIdAndName).then_some((row.name, row.detail));
            seen.insert((row.event_id, name))
        });
        sorted
    }

    fn collected(rows: &[Row], copies: Copies, memory_rows: usize) -> Vec<Row> {
        let spill = tempfile::tempdir().unwrap();
        let mut history = History {
            memory_rows,
            ..History::new(spill.path())
        };
        history.begin(copies);
        // Two sources, each sorted, as the fold gives them.
        for half in rows.chunks(rows.len().div_ceil(2).max(1)) {
            let mut half = half.to_vec();
            half.sort();
            history.begin_source();
            half.into_iter().for_each(|row| history.push(row).unwrap());
        }
        let mut collected = Vec::new();
        history
            .each_chunk(|chunk| collected.extend_from_slice(chunk))
            .unwrap();
        collected
    }

    proptest! {
        #[test]
        fn the_least_copy_of_each_event_remains(
            rows in prop::collection::vec((0i64..50, 0i64..60, 0i64..3, 0u32..3), 0..200),
            memory_rows in 5usize..300,
        ) {
            let rows: Vec<Row> =
                rows.into_iter().map(|(time, id, value, name)| row(time, id, value, name)).collect();
            for copies in [Copies::SameId, Copies::SameIdAndName] {
                prop_assert_eq!(collected(&rows, copies, memory_rows), expected(&rows, copies));
            }
        }
    }

    #[test]
    fn waiting_events_are_noted_never_too_late() {
        let spill = tempfile::tempdir().unwrap();
        let mut history = History::new(spill.path());
        assert_eq!(history.first_beyond(10), None);
        history.note_beyond(&[5, 8]);
        assert_eq!(history.first_beyond(10), None);
        history.note_beyond(&[12, 15]);
        assert_eq!(history.first_beyond(10), Some(12));
        history.note_beyond(&[9, 13]);
        assert_eq!(history.first_beyond(10), Some(11));
    }
}
