//! The values of context keys: how many exposed users have which, to find the largest.
//!
//! A key may have a value for each user. Counts that leave the memory of a piece go to disk, in
//! the order of their values, and are merged in the end.

#[cfg(feature = "clickhouse")]
mod clickhouse;
mod tally;

use std::path::PathBuf;

use crate::analysis::Analysis;
#[cfg(feature = "clickhouse")]
use crate::analysis::Answers;
use crate::error::{FoldError, WarehouseError};
use crate::fold::split::{CellValues, Cells, read_values};
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row};

pub(crate) use self::tally::{Tally, encode_values};

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

/// Counts exposed users by the values of keys.
pub struct Values {
    keys: Vec<String>,
    limit: usize,
    values: CellValues,
    tally: Tally,
    failed: Option<WarehouseError>,
}

impl Values {
    fn note(&mut self, outcome: Result<(), WarehouseError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }
}

impl Analysis for Values {
    type Question = KeyQuestion;
    type Answer = Result<KeyValues, WarehouseError>;

    fn for_plan(_plan: &Plan, question: &KeyQuestion) -> Self {
        Self {
            keys: question.keys.clone(),
            limit: question.limit,
            values: CellValues::new(),
            tally: Tally::new(&question.spill),
            failed: None,
        }
    }

    fn answer(folded: Folded<Self>) -> Self::Answer {
        let values = folded.accumulator;
        match values.failed {
            Some(failed) => Err(failed),
            None => values.tally.into_largest(values.limit),
        }
    }

    #[cfg(feature = "clickhouse")]
    fn push_down(
        view: &crate::clickhouse::View,
        plans: &[Plan],
        questions: &[KeyQuestion],
    ) -> Option<Result<Answers<Self>, WarehouseError>> {
        let asked = plans.iter().zip(questions);
        let answers = asked.map(|(plan, question)| Ok(Ok(view.key_values(plan, question))));
        Some(answers.collect())
    }
}

impl Cells for Values {
    fn cell(&mut self, context: &str) -> u32 {
        read_values(context, &self.keys, &mut self.values);
        self.tally.number(&self.values)
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

    fn begin(&mut self, exposure: &Exposure) {
        self.tally.add(exposure.cell, 1);
    }

    fn events(&mut self, _events: &[Row]) {}

    fn end(&mut self) -> Result<(), FoldError> {
        // Between users no number is in use.
        let outcome = self.tally.spill_if_large();
        self.note(outcome);
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let outcome = match other.failed {
            Some(failed) => Err(failed),
            None => self.tally.merge(other.tally),
        };
        self.note(outcome);
        Ok(())
    }
}
