//! What a run or a memory segment holds of each experiment.
//!
//! The fold plans from this: which rows to read, which variants and event
//! types to expect, whether an event lies in the future.

use arrow_array::Array;
use serde::{Deserialize, Serialize};

use crate::batch::Block;

/// Beyond this many distinct names per experiment, only the first ones in
/// the order of their texts are kept.
pub const MAX_NAMES: usize = 1_000;

/// One experiment's rows in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The experiment.
    pub experiment: String,
    /// How many rows it has here.
    pub rows: u64,
    /// The latest time among them.
    pub max_timestamp: i64,
    /// The variants or event types that occur, in order, at most [`MAX_NAMES`]. A
    /// list, since an index of a million experiments is held in memory.
    pub names: Vec<String>,
    /// Whether more names occur than are kept.
    pub more_names: bool,
}

/// The experiments of a run, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index(pub Vec<IndexEntry>);

impl Index {
    /// Adds the rows of `block`, which follow all rows added before.
    pub(crate) fn add(&mut self, block: &Block) {
        let mut seen = vec![false; block.names.len()];
        let mut from = 0;
        while from < block.len() {
            let to = block.experiment_end(from);
            self.add_stretch(block, from, to, &mut seen);
            from = to;
        }
    }

    /// Adds rows `from..to`, all of one experiment; `seen` is all false before and after.
    fn add_stretch(&mut self, block: &Block, from: usize, to: usize, seen: &mut [bool]) {
        let experiment = block.experiment_at(from);
        if self
            .0
            .last()
            .is_none_or(|last| last.experiment != experiment)
        {
            self.0.push(IndexEntry {
                experiment: experiment.to_owned(),
                rows: 0,
                max_timestamp: i64::MIN,
                names: Vec::new(),
                more_names: false,
            });
        }
        let Some(entry) = self.0.last_mut() else {
            return;
        };
        entry.rows += (to - from) as u64;
        let latest = block.timestamp[from..to]
            .iter()
            .copied()
            .max()
            .unwrap_or(i64::MIN);
        entry.max_timestamp = entry.max_timestamp.max(latest);
        let mut codes = Vec::new();
        for &code in &block.name[from..to] {
            let seen = &mut seen[code as usize];
            if !*seen {
                *seen = true;
                codes.push(code as usize);
            }
        }
        for code in codes {
            seen[code] = false;
            entry.add_name(block.names.value(code));
        }
    }

    /// The entry of `experiment`.
    pub fn find(&self, experiment: &str) -> Option<&IndexEntry> {
        let at = self
            .0
            .binary_search_by(|entry| entry.experiment.as_str().cmp(experiment))
            .ok()?;
        self.0.get(at)
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|entry| entry.rows).sum()
    }
}

impl IndexEntry {
    fn add_name(&mut self, name: &str) {
        let found = self.names.binary_search_by(|own| own.as_str().cmp(name));
        let Err(at) = found else { return };
        if self.names.is_empty() {
            self.names.reserve_exact(1);
        }
        self.names.insert(at, name.to_owned());
        if self.names.len() > MAX_NAMES {
            self.names.pop();
            self.more_names = true;
        }
    }

    /// Takes in what another run holds of the same experiment.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.max_timestamp = self.max_timestamp.max(other.max_timestamp);
        self.more_names |= other.more_names;
        other.names.iter().for_each(|name| self.add_name(name));
    }
}

#[cfg(test)]
mod tests {
    use trialog_model::event::EventKind;

    use super::*;
    use crate::batch::{Batch, EventRow};

    #[test]
    fn stretches_across_blocks_are_one_entry_and_names_are_bounded() {
        let mut index = Index::default();
        for half in 0..2 {
            let mut batch = Batch::new(EventKind::Metric);
            for number in 0..800 {
                let name = format!("n{:04}", half * 800 + number);
                batch.push(&EventRow {
                    experiment: "e",
                    user: half,
                    timestamp: number,
                    name: &name,
                    value: 0,
                    event_id: 0,
                    context: "",
                });
            }
            index.add(&batch.sorted());
        }
        let [entry] = index.0.as_slice() else {
            panic!("one experiment")
        };
        assert_eq!(
            (
                entry.rows,
                entry.max_timestamp,
                entry.names.len(),
                entry.more_names
            ),
            (1600, 799, MAX_NAMES, true)
        );
        assert_eq!(entry.names.last().map(String::as_str), Some("n0999"));
    }
}
