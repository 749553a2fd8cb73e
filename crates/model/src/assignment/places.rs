//! Finds the position of an experiment by its id.
//!
//! The table holds hashes, and the id is compared where the experiment itself stands: a
//! look touches the table and the experiment, and nothing between them.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use super::prepared::Rules;
use crate::ids::ExperimentId;

/// Quick on short texts. Its seed is fixed: names come from the registry, and a question
/// for a name adds nothing.
const HASHER: foldhash::fast::FixedState = foldhash::fast::FixedState::with_seed(0);

/// Positions of experiments by the hash of their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    by_hash: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// Experiments whose hash collides with that of another.
    others: HashMap<ExperimentId, u32>,
}

impl Places {
    /// Indexes `experiments`. If two have the same id, the last one counts.
    pub(super) fn new(experiments: &[Rules]) -> Self {
        let mut places = Self::default();
        places.by_hash.reserve(experiments.len());
        for (place, rules) in (0..).zip(experiments) {
            let id = rules.experiment_id();
            let first = (places.by_hash)
                .entry(HASHER.hash_one(id.as_str()))
                .or_insert(place);
            if experiments[*first as usize].experiment_id() == id {
                *first = place;
            } else {
                places.others.insert(id.clone(), place);
            }
        }
        places
    }

    pub(super) fn find<'r>(&self, id: &str, experiments: &'r [Rules]) -> Option<&'r Rules> {
        let place = self.by_hash.get(&HASHER.hash_one(id))?;
        let found = experiments.get(*place as usize)?;
        if found.is_called(id) {
            return Some(found);
        }
        experiments.get(*self.others.get(id)? as usize)
    }
}

/// A hasher that returns the hash it is given.
#[derive(Debug, Clone, Copy, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
