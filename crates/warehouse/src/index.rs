//! Indexes what a run or a memory segment holds of each experiment.
//!
//! The fold plans from this: which rows to read, which variants and event
//! types to expect, whether an event lies in the future.

use arrow_array::Array;
use serde::{Deserialize, Serialize};

use crate::batch::Block;

/// The maximum number of distinct names that an entry keeps of an experiment: the first in the
/// order of texts.
pub const MAX_NAMES: usize = 1_000;
/// The maximum number of users of an experiment that are reported as having two texts. If there
/// are that many, the ids are not 64-bit hashes of texts.
pub const MAX_CLASHES: usize = 1_000;

/// The rows of one experiment in a run.
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
    /// What there is of users that are texts; none where no text is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_texts: Option<Box<TextUsers>>,
}

/// The users of an experiment that are texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextUsers {
    /// Users whose number stands for two texts, in order, at most [`MAX_CLASHES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clashing: Vec<i64>,
}

impl TextUsers {
    fn note_clash(&mut self, user: i64) {
        if let Err(at) = self.clashing.binary_search(&user) {
            self.clashing.insert(at, user);
            self.clashing.truncate(MAX_CLASHES);
        }
    }
}

/// The experiments of a run in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index(pub Vec<IndexEntry>);

/// Builds an index while rows are written.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    index: Index,
    /// The last user that is a text in the last experiment, and that text.
    user: Option<i64>,
    user_text: String,
}

impl IndexWriter {
    /// Returns the index of all rows added.
    pub(crate) fn finish(self) -> Index {
        self.index
    }

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
        let entries = &mut self.index.0;
        if entries
            .last()
            .is_none_or(|last| last.experiment != experiment)
        {
            self.user = None;
            entries.push(IndexEntry {
                experiment: experiment.to_owned(),
                rows: 0,
                max_timestamp: i64::MIN,
                names: Vec::new(),
                more_names: false,
                user_texts: None,
            });
        }
        self.note_user_texts(block, from, to);
        let Some(entry) = self.index.0.last_mut() else {
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

    /// Finds users with two texts among rows `from..to` and the row before them.
    fn note_user_texts(&mut self, block: &Block, from: usize, to: usize) {
        let Some(entry) = (self.index.0.last_mut()).filter(|_| block.user_text.is_some()) else {
            return;
        };
        for row in from..to {
            let (user, text) = (block.user[row], block.user_text_at(row));
            if text.is_empty() {
                continue;
            }
            let texts = entry.user_texts.get_or_insert_default();
            if self.user != Some(user) {
                self.user = Some(user);
                self.user_text.clear();
                self.user_text.push_str(text);
            } else if self.user_text != text {
                texts.note_clash(user);
            }
        }
    }
}

impl Index {
    /// Returns the entry of `experiment`.
    pub fn find(&self, experiment: &str) -> Option<&IndexEntry> {
        let at = self
            .0
            .binary_search_by(|entry| entry.experiment.as_str().cmp(experiment))
            .ok()?;
        self.0.get(at)
    }

    /// Returns the users whose number stands for two texts, with their experiments.
    pub(crate) fn clashing_users(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().flat_map(|entry| {
            let users = entry.user_texts.iter().flat_map(|texts| &texts.clashing);
            users.map(|user| (entry.experiment.as_str(), *user))
        })
    }

    /// Counts all rows.
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|entry| entry.rows).sum()
    }
}

impl IndexEntry {
    fn add_name(&mut self, name: &str) {
        let found = self
            .names
            .binary_search_by(|known| known.as_str().cmp(name));
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

    /// Adds what another run holds of the same experiment.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.max_timestamp = self.max_timestamp.max(other.max_timestamp);
        self.more_names |= other.more_names;
        other.names.iter().for_each(|name| self.add_name(name));
        if let Some(texts) = &other.user_texts {
            let user_texts = self.user_texts.get_or_insert_default();
            texts
                .clashing
                .iter()
                .for_each(|user| user_texts.note_clash(*user));
        }
    }
}

#[cfg(test)]
mod tests {
    use trialog_model::event::EventKind;

    use super::*;
    use crate::batch::{Batch, EventRow};

    #[test]
    fn stretches_across_blocks_are_one_entry_and_names_are_bounded() {
        let mut index = IndexWriter::default();
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
                    user_text: "",
                });
            }
            index.add(&batch.sorted());
        }
        let index = index.finish();
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

    #[test]
    fn a_user_with_two_texts_is_told_across_blocks_and_once() {
        let mut index = IndexWriter::default();
        let blocks = [
            [(1, "ann"), (2, "bob"), (3, "")],
            [(3, "cy"), (3, "cy"), (5, "eve")],
            [(5, "ada"), (5, "eve"), (6, "")],
        ];
        for rows in blocks {
            let mut batch = Batch::new(EventKind::Assignment);
            for (user, user_text) in rows {
                batch.push(&EventRow {
                    experiment: "e",
                    user,
                    timestamp: 0,
                    name: "a",
                    value: 0,
                    event_id: 0,
                    context: "",
                    user_text,
                });
            }
            index.add(&batch.into_block());
        }
        let index = index.finish();
        let texts = index.0[0].user_texts.as_deref().unwrap();
        assert_eq!(texts.clashing, [5]);
        let mut merged = index.0[0].clone();
        merged.merge(&index.0[0]);
        assert_eq!(merged.user_texts, index.0[0].user_texts);
    }
}
