//! Reads one kind of event from all sources, user by user.

use arrow_array::Array;

use crate::batch::Dictionary;
use crate::cursor::{Cursor, WithinExperiment};
use crate::error::WarehouseError;
use crate::fold::history::{Copies, History};
use crate::fold::split::{Cells, ContextReader};
use crate::fold::{Detail, NamePlace, Names, Row};
use crate::user_texts::LeastText;

/// Reads the rows of one kind of event from all sources. Every cursor is at the current experiment
/// or beyond it.
pub(crate) struct Side {
    sources: Vec<SourceCursor>,
    unexpected: Unexpected,
}

/// Numbers the names of one user's events that the plan does not know, so that events with the same
/// id and different names are not taken for copies.
#[derive(Default)]
struct Unexpected(Dictionary);

/// Names of one user that are told apart exactly; further ones are by 31 bits of their hash.
const MOST_NAMES: usize = 1 << 16;

impl Unexpected {
    /// Returns a number for a name that the plan does not know: the same one for the same name.
    fn detail(&mut self, name: &str) -> Detail {
        if self.0.texts().len() < MOST_NAMES || self.0.contains(name) {
            return Detail(u64::from(self.0.code(name)));
        }
        Detail(u64::from(crc32fast::hash(name.as_bytes()) | 1 << 31))
    }

    /// Forgets the names of the user before.
    fn clear(&mut self) {
        if !self.0.texts().is_empty() {
            self.0 = Dictionary::default();
        }
    }
}

/// What is looked at of a user's rows.
pub(crate) struct Reading<'r> {
    /// Only rows before this time.
    pub(crate) horizon: i64,
    pub(crate) names: &'r Names,
    /// Finds out who is in the segment, unless that is everybody.
    pub(crate) segment: Option<&'r mut SegmentFilter>,
    /// Numbers the contexts, if wanted.
    pub(crate) cells: Option<&'r mut dyn Cells>,
    /// Takes in the user as text, if wanted.
    pub(crate) text: Option<&'r mut LeastText>,
}

struct SourceCursor {
    rows: WithinExperiment,
    /// For each code of the block, once it was looked up, its place in the plan; none for
    /// a name whose rows are skipped.
    names: Vec<Option<Option<NamePlace>>>,
    /// The cursor's generation that `names` is for; 0 for none.
    generation: u64,
}

impl Side {
    pub(crate) fn new(cursors: Vec<Cursor>) -> Self {
        let sources = cursors.into_iter().map(|cursor| SourceCursor {
            rows: WithinExperiment::new(cursor),
            names: Vec::new(),
            generation: 0,
        });
        Self {
            sources: sources.collect(),
            unexpected: Unexpected::default(),
        }
    }

    /// Moves to `experiment`, past what is left of earlier ones.
    pub(crate) fn enter(&mut self, experiment: &str) -> Result<(), WarehouseError> {
        for source in &mut self.sources {
            source.rows.enter(experiment)?;
            source.generation = 0;
        }
        Ok(())
    }

    /// The least user of the experiment that was not yet taken.
    pub(crate) fn user(&self) -> Option<i64> {
        self.sources
            .iter()
            .filter_map(|source| source.rows.user())
            .min()
    }

    /// Passes over the rows of users before `user`.
    pub(crate) fn skip_to(&mut self, user: i64) -> Result<(), WarehouseError> {
        self.sources
            .iter_mut()
            .try_for_each(|source| source.rows.skip_to(user))
    }

    /// Adds what `reading` wants of the rows of `user` to `history`, and passes all of the user's.
    pub(crate) fn take(
        &mut self,
        user: i64,
        reading: &mut Reading<'_>,
        history: &mut History,
    ) -> Result<(), WarehouseError> {
        self.unexpected.clear();
        for source in &mut self.sources {
            if source.rows.user() == Some(user) {
                history.begin_source();
            }
            while source.rows.user() == Some(user) {
                source.take_stretch(user, reading, &mut self.unexpected, history)?;
            }
        }
        Ok(())
    }
}

impl SourceCursor {
    /// Takes the rows of `user` in the current block.
    fn take_stretch(
        &mut self,
        user: i64,
        reading: &mut Reading<'_>,
        unexpected: &mut Unexpected,
        history: &mut History,
    ) -> Result<(), WarehouseError> {
        let names = reading.names;
        let Some((block, from)) = self.rows.here() else {
            return Ok(());
        };
        if self.generation != self.rows.generation() {
            self.generation = self.rows.generation();
            self.names.clear();
            self.names.resize(block.names.len(), None);
        }
        let end = self.rows.experiment_end();
        let to = from
            + block.user[from..end]
                .iter()
                .take_while(|row_user| **row_user == user)
                .count();
        let times = &block.timestamp[from..to];
        let n_before = times
            .iter()
            .take_while(|time| **time < reading.horizon)
            .count();
        let reads_context = reading.segment.is_some() || reading.cells.is_some();
        let mut all_known = true;
        for row in from..from + n_before {
            let code = block.name[row] as usize;
            let place =
                self.names[code].get_or_insert_with(|| names.place(block.names.value(code)));
            let Some(name) = *place else {
                continue;
            };
            if let Some(text) = &mut reading.text {
                text.note(block.user_text_at(row));
            }
            let is_expected = name.code().is_some();
            all_known &= is_expected;
            let detail = if reads_context {
                let context = block.context_at(row);
                let cell = (reading.cells.as_mut()).map_or(0, |cells| cells.cell(context));
                let in_segment =
                    (reading.segment.as_mut()).is_none_or(|segment| segment.has(context));
                Detail::from_context(context, cell, in_segment)
            } else if is_expected || history.copies() == Copies::SameId {
                Detail::NONE
            } else {
                unexpected.detail(block.names.value(code))
            };
            history.push(Row {
                timestamp: block.timestamp[row],
                name,
                value: block.value[row],
                event_id: block.event_id[row],
                detail,
            })?;
        }
        if !all_known || reads_context {
            history.order_ties();
        }
        history.note_beyond(&times[n_before..]);
        self.rows.move_to(to)
    }
}

/// Finds out whether contexts have every key of a segment with its value: users are filtered by it.
/// Not to be confused with the segments of events in memory (`segment.rs`).
pub(crate) struct SegmentFilter {
    wanted: Vec<String>,
    reader: ContextReader,
}

impl SegmentFilter {
    /// Creates the filter for these keys and values; `None` if there are none, which everybody
    /// passes.
    pub(crate) fn new(wanted: &[(String, String)]) -> Option<Self> {
        let (keys, wanted) = wanted.iter().cloned().unzip();
        let segment = Self {
            wanted,
            reader: ContextReader::new(keys),
        };
        (!segment.wanted.is_empty()).then_some(segment)
    }

    /// Returns whether `context` has every key with its value.
    fn has(&mut self, context: &str) -> bool {
        self.reader.read(context);
        let values = self.reader.values();
        (self.wanted.iter().zip(values)).all(|(wanted, value)| value == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_compares_texts_numbers_and_booleans() {
        let context = r#"{"platform":"ios","age":7,"new":true,"x":null}"#;
        let holds = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            SegmentFilter::new(&pairs).unwrap().has(context)
        };
        assert!(holds(&[("platform", "ios"), ("age", "7"), ("new", "true")]));
        assert!(!holds(&[("platform", "ios"), ("age", "8")]));
        assert!(!holds(&[("x", "null")]));
        assert!(!holds(&[("absent", "")]));
        let mut segment = SegmentFilter::new(&[("a".into(), "b".into())]).unwrap();
        assert!(!segment.has(""));
        assert!(SegmentFilter::new(&[]).is_none());
    }
}
