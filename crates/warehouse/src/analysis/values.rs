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
use crate::fold::split::{
    CellValues, Cells, ContextReader, KeyCells, Tuples, encode_into, places_of,
};
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
    /// Groups of keys of the context; the keys of a group are crossed.
    pub groups: Vec<Vec<String>>,
    /// The most values that are named.
    pub limit: usize,
    /// The directory for counts that memory does not hold.
    pub spill: PathBuf,
}

/// The values that were found, and what the users come to, where that was recorded.
#[derive(Debug)]
pub struct Found {
    /// The values of each group of keys.
    pub values: Vec<KeyValues>,
    /// The exposures, with the cells of [`KeyValues::cells`], where there is one group.
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
    groups: Vec<Group>,
    /// The numbers that a context has in all groups together, where there are several.
    tuples: Tuples,
    tuple: Vec<u32>,
    recorder: Option<Recorder>,
    /// Those of other pieces.
    records: Vec<Records>,
    failed: Option<WarehouseError>,
}

/// The keys that are counted together.
struct Group {
    /// Their places among all keys.
    places: Vec<usize>,
    tally: Tally,
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
        let mut n_tables = 0;
        for (group, other) in self.groups.iter_mut().zip(other.groups) {
            n_tables = group.tally.merge(other.tally)?;
        }
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
        let mut found = Vec::with_capacity(self.groups.len());
        let mut exposures = None;
        let mut records = Some(self.records).filter(|_| self.groups.len() == 1);
        for group in self.groups {
            let (values, cells) = group.tally.into_largest(self.limit)?;
            let other = values.largest.len() as u32 + u32::from(values.missing > 0);
            exposures = (records.take())
                .map(|records| Exposures::new(records, cells, other, next_event_at));
            found.push(values);
        }
        Ok(Found {
            values: found,
            exposures,
        })
    }

    /// Writes large tables to disk. No number is in use any more.
    fn spill_if_large(&mut self) {
        let mut outcome = Ok(());
        for group in &mut self.groups {
            let table = group.tally.table();
            outcome = outcome.and_then(|()| group.tally.spill_if_large());
            if group.tally.table() != table {
                self.tuples.clear();
            }
        }
        self.tuples.clear_if_many();
        self.note(outcome);
    }
}

impl Analysis for Values {
    type Question = KeyQuestion;
    type Answer = Result<Found, WarehouseError>;

    fn for_plan(_plan: &Plan, question: &KeyQuestion) -> Self {
        let (keys, places) = places_of(&question.groups);
        let n_groups = places.len();
        let groups = places.into_iter().map(|places| Group {
            places,
            tally: Tally::sharing(&question.spill, n_groups),
        });
        Self {
            limit: question.limit,
            reader: ContextReader::new(keys),
            text: String::new(),
            groups: groups.collect(),
            tuples: Tuples::new(n_groups),
            tuple: Vec::with_capacity(n_groups),
            recorder: (n_groups == 1).then(|| Recorder::new(&question.spill)),
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
        // Many keys are counted in one pass over the assignments, and not in one of each.
        if questions.iter().any(|question| question.groups.len() != 1) {
            return None;
        }
        let found = |(plan, question): (&Plan, &KeyQuestion)| {
            let values = view.key_values(plan, &question.groups[0], question)?;
            Ok(Found {
                values: vec![values],
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
        self.tuple.clear();
        for group in &mut self.groups {
            self.text.clear();
            let values = group.places.iter().map(|place| self.reader.value(*place));
            encode_into(&mut self.text, values);
            self.tuple.push(group.tally.number(&self.text));
        }
        match self.tuple[..] {
            [number] => number,
            _ => self.tuples.number(&self.tuple),
        }
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
            let table = self.groups.first().map_or(0, |group| group.tally.table());
            let outcome = recorder.record(user, status, table);
            self.note(outcome);
        }
        // Of an exposed user the number is still in use.
        if !matches!(status, Status::Exposed(_)) {
            self.spill_if_large();
        }
    }

    fn begin(&mut self, exposure: &Exposure) {
        if let [group] = &mut self.groups[..] {
            group.tally.add(exposure.cell, 1);
            return;
        }
        let numbers = self.tuples.get(exposure.cell);
        for (group, number) in self.groups.iter_mut().zip(numbers) {
            group.tally.add(*number, 1);
        }
    }

    fn events(&mut self, _events: &[Row]) {}

    fn end(&mut self) -> Result<(), FoldError> {
        self.spill_if_large();
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let outcome = self.take_in(other);
        self.note(outcome);
        Ok(())
    }
}
