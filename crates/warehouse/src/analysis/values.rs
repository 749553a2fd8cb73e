//! Counts the exposed users with each value of context keys, to find the most frequent values.
//!
//! A key may have a value for each user. Counts that leave the memory of a piece go to disk, in
//! one order, and are merged in the end. What each user comes to is recorded on the way, so that
//! the passes that follow read no contexts.

#[cfg(feature = "clickhouse")]
mod clickhouse;
mod tally;

use std::path::PathBuf;

use crate::analysis::Analysis;
#[cfg(feature = "clickhouse")]
use crate::analysis::Answers;
use crate::error::{FoldError, WarehouseError};
use crate::fold::recorded::{Recorder, Records};
use crate::fold::split::{CellValues, Cells, ContextReader, KeyCells, encode_into};
use crate::fold::{Accumulator, Exposure, Exposures, Folded, Plan, Row, Status};

use self::tally::Tally;

/// Values of keys and how many exposed users have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueUsers {
    /// The values, in the order of the keys.
    pub values: CellValues,
    /// How many users.
    pub users: u64,
}

/// The values of keys among exposed users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyValues {
    /// Those with the most users, and among equals those that come first as texts.
    pub largest: Vec<ValueUsers>,
    /// How many there are in all.
    pub n_values: u64,
    /// Exposed users without a value of any of the keys, who are not among the largest.
    pub missing: u64,
    /// Exposed users, whatever values they have.
    pub users: u64,
}

/// Which values to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuestion {
    /// Keys of the context.
    pub keys: Vec<String>,
    /// The most values that are named.
    pub limit: usize,
    /// The directory for counts that memory does not hold.
    pub spill: PathBuf,
}

/// The values that were found, and what the users come to, where that was recorded.
#[derive(Debug)]
pub struct Found {
    /// The values of keys.
    pub values: KeyValues,
    /// The exposures, with the cells of [`KeyValues::cells`].
    pub exposures: Option<Exposures>,
}

impl KeyValues {
    /// Makes a cell of each of the largest values, and one of users without any value where there
    /// are such users.
    pub fn cells(&self, keys: &[String]) -> KeyCells {
        let largest = self.largest.iter().map(|value| value.values.clone());
        let missing = (self.missing > 0).then(|| vec![None; keys.len()]);
        KeyCells::from_values(keys.to_vec(), largest.chain(missing).collect())
    }
}

/// Counts exposed users by the values of keys.
pub struct Values {
    limit: usize,
    reader: ContextReader,
    /// The values of a context as one text.
    text: String,
    tally: Tally,
    recorder: Option<Recorder>,
    /// Those of other pieces.
    records: Vec<Records>,
    failed: Option<WarehouseError>,
}

impl Values {
    fn note(&mut self, outcome: Result<(), WarehouseError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }

    /// Ends the recording of this piece.
    fn finish_records(&mut self) -> Result<(), WarehouseError> {
        if let Some(recorder) = self.recorder.take() {
            self.records.extend(recorder.finish()?);
        }
        Ok(())
    }

    fn take_in(&mut self, mut other: Self) -> Result<(), WarehouseError> {
        other.failed.take().map_or(Ok(()), Err)?;
        self.finish_records()?;
        other.finish_records()?;
        let n_tables = self.tally.merge(other.tally)?;
        let shifted = other.records.into_iter().map(|mut records| {
            records.shift_tables(n_tables);
            records
        });
        self.records.extend(shifted);
        Ok(())
    }

    fn into_found(mut self, next_event_at: Option<i64>) -> Result<Found, WarehouseError> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.finish_records()?;
        let (values, cells) = self.tally.into_largest(self.limit)?;
        let other = values.largest.len() as u32 + u32::from(values.missing > 0);
        Ok(Found {
            values,
            exposures: Some(Exposures::new(self.records, cells, other, next_event_at)),
        })
    }
}

impl Analysis for Values {
    type Question = KeyQuestion;
    type Answer = Result<Found, WarehouseError>;

    fn for_plan(_plan: &Plan, question: &KeyQuestion) -> Self {
        Self {
            limit: question.limit,
            reader: ContextReader::new(question.keys.clone()),
            text: String::new(),
            tally: Tally::new(&question.spill),
            recorder: Some(Recorder::new(&question.spill)),
            records: Vec::new(),
            failed: None,
        }
    }

    fn answer(folded: Folded<Self>) -> Self::Answer {
        folded.accumulator.into_found(folded.next_event_at)
    }

    #[cfg(feature = "clickhouse")]
    fn push_down(
        view: &crate::clickhouse::View,
        plans: &[Plan],
        questions: &[KeyQuestion],
    ) -> Option<Result<Answers<Self>, WarehouseError>> {
        let found = |(plan, question)| {
            let values = view.key_values(plan, question)?;
            Ok(Found {
                values,
                exposures: None,
            })
        };
        let asked = plans.iter().zip(questions);
        Some(Ok(asked.map(|asked| Ok(found(asked))).collect()))
    }
}

impl Cells for Values {
    fn cell(&mut self, context: &str) -> u32 {
        self.reader.read(context);
        self.text.clear();
        encode_into(&mut self.text, self.reader.values());
        self.tally.number(&self.text)
    }
}

impl Accumulator for Values {
    fn reads_events(&self) -> bool {
        false
    }

    fn cells(&mut self) -> Option<&mut dyn Cells> {
        Some(self)
    }

    fn horizon(&self, exposure: i64) -> i64 {
        exposure
    }

    fn assigned(&mut self, user: i64, status: &Status) {
        if let Some(recorder) = self.recorder.as_mut().filter(|_| self.failed.is_none()) {
            let outcome = recorder.record(user, status, self.tally.table());
            self.note(outcome);
        }
        // Of an exposed user the number is still in use.
        if !matches!(status, Status::Exposed(_)) {
            let outcome = self.tally.spill_if_large();
            self.note(outcome);
        }
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.tally.add(exposure.cell, 1);
    }

    fn events(&mut self, _events: &[Row]) {}

    fn end(&mut self) -> Result<(), FoldError> {
        let outcome = self.tally.spill_if_large();
        self.note(outcome);
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let outcome = self.take_in(other);
        self.note(outcome);
        Ok(())
    }
}
