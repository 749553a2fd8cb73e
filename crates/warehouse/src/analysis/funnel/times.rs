//! Keeps how long users took to each step, exactly and in bounded memory.

use std::path::Path;

use crate::error::WarehouseError;
use crate::external_sort::ExternalSort;

/// The bytes of a record: the time, and the step of a variant with what happened there.
const N_BYTES: usize = 16;

/// The times at which the users of all slots reached steps, and at which their observation ended
/// before the window did.
#[derive(Debug)]
pub struct StepTimes {
    n_steps: usize,
    sort: ExternalSort<N_BYTES>,
    /// By slot, the users who were observed for the whole window.
    mature: Vec<u64>,
    /// By slot and step, how many of them reached it.
    mature_reached: Vec<u64>,
    /// What could not be written.
    failed: Option<WarehouseError>,
}

/// What happened to a user of a slot at one time since the exposure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepEvent {
    /// The user reached the step of this number.
    Reached {
        /// The step, from 0.
        step: usize,
        /// Whether the user was observed for the whole window.
        is_mature: bool,
    },
    /// The observation of the user ended, who had reached the steps before this one.
    Ended {
        /// The first step that was not reached, from 0.
        step: usize,
    },
}

/// How long a user was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observed {
    /// In microseconds since the exposure, which are at least 1.
    pub(super) micros: u64,
    /// Whether that is the whole window.
    pub(super) is_mature: bool,
}

impl StepTimes {
    pub(super) fn new(n_slots: usize, n_steps: usize, directory: &Path) -> Self {
        Self {
            n_steps,
            sort: ExternalSort::new(directory),
            mature: vec![0; n_slots],
            mature_reached: vec![0; n_slots * n_steps],
            failed: None,
        }
    }

    /// Returns the users of `slot` who were observed for the whole window.
    pub fn mature(&self, slot: usize) -> u64 {
        self.mature[slot]
    }

    /// Returns how many of them reached each step.
    pub fn mature_reached(&self, slot: usize) -> &[u64] {
        &self.mature_reached[slot * self.n_steps..][..self.n_steps]
    }

    /// Calls `each` with the slot, the microseconds since the exposure and what happened then, in
    /// the order of time.
    ///
    /// # Errors
    ///
    /// A temporary file cannot be written or read, or what `each` returned.
    pub fn drain<E: From<WarehouseError>>(
        self,
        mut each: impl FnMut(usize, u64, StepEvent) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let n_places = self.n_steps as u64 + 1;
        self.sort.drain(|record| {
            let (micros, code) = decode(record);
            let (place, kind) = (code / 3, code % 3);
            let step = (place % n_places) as usize;
            let event = match kind {
                0 => StepEvent::Ended { step },
                kind => StepEvent::Reached {
                    step,
                    is_mature: kind == 2,
                },
            };
            each((place / n_places) as usize, micros, event)
        })
    }

    /// Adds a user of `slot` who reached the steps at `times`.
    pub(super) fn add(&mut self, slot: usize, times: &[u64], observed: Observed) {
        let outcome = self.try_add(slot, times, observed);
        self.note(outcome);
    }

    pub(super) fn merge(&mut self, mut other: Self) {
        let failed = other.failed.take().map_or(Ok(()), Err);
        self.note(failed);
        let pairs = (self.mature.iter_mut().zip(other.mature))
            .chain(self.mature_reached.iter_mut().zip(other.mature_reached));
        pairs.for_each(|(users, others)| *users += others);
        let outcome = self.sort.merge(other.sort);
        self.note(outcome);
    }

    fn try_add(
        &mut self,
        slot: usize,
        times: &[u64],
        observed: Observed,
    ) -> Result<(), WarehouseError> {
        if self.failed.is_some() {
            return Ok(());
        }
        let first = slot * (self.n_steps + 1);
        let mut push = |micros: u64, step: usize, kind: u64| {
            let code = (first + step) as u64 * 3 + kind;
            self.sort.push(encode(micros, code))
        };
        let kind = 1 + u64::from(observed.is_mature);
        for (step, micros) in times.iter().enumerate() {
            push(*micros, step, kind)?;
        }
        if observed.is_mature {
            self.mature[slot] += 1;
            let reached = &mut self.mature_reached[slot * self.n_steps..][..times.len()];
            reached.iter_mut().for_each(|users| *users += 1);
        } else if times.len() < self.n_steps {
            push(observed.micros, times.len(), 0)?;
        }
        Ok(())
    }

    fn note(&mut self, outcome: Result<(), WarehouseError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }
}

fn encode(micros: u64, code: u64) -> [u8; N_BYTES] {
    (u128::from(micros) << 64 | u128::from(code)).to_be_bytes()
}

fn decode(record: &[u8; N_BYTES]) -> (u64, u64) {
    let both = u128::from_be_bytes(*record);
    ((both >> 64) as u64, both as u64)
}
