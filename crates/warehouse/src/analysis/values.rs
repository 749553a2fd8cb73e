//! The values of context keys: how many exposed users have which, to find the largest.
//!
//! A key may have a value for each user. Counts that leave the memory of a piece go to disk, in
//! the order of their values, and are merged in the end.

#[cfg(feature = "clickhouse")]
mod clickhouse;
mod tally;

use crate::error::{FoldError, WarehouseError};
use crate::fold::split::{CellValues, Cells, read_values};
use crate::fold::{Accumulator, Exposure, Row};
use crate::snapshot::Snapshot;

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

/// Counts exposed users by the values of keys.
pub(crate) struct Values {
    keys: Vec<String>,
    values: CellValues,
    tally: Tally,
    failed: Option<WarehouseError>,
}

impl Values {
    pub(crate) fn new(snapshot: &Snapshot, keys: &[String]) -> Self {
        Self {
            keys: keys.to_vec(),
            values: CellValues::new(),
            tally: Tally::new(&snapshot.spill),
            failed: None,
        }
    }

    /// Returns the `limit` values with the most users.
    pub(crate) fn into_largest(self, limit: usize) -> Result<KeyValues, WarehouseError> {
        match self.failed {
            Some(failed) => Err(failed),
            None => self.tally.into_largest(limit),
        }
    }

    fn note(&mut self, outcome: Result<(), WarehouseError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
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
