//! Remembers which exposures were logged.
//!
//! A table of fixed size without locks: a fingerprint has eight places in which it may
//! be stored. If all are taken, it replaces one of them, and the replaced exposure may be
//! logged once more: the analysis takes the earliest of copies, so that costs an event
//! and nothing else. Two exposures share a fingerprint with odds of 1 to 2^61.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of places in which a fingerprint may be stored: a cache line.
const WAYS: usize = 8;

/// The places of one fingerprint, in one line of memory.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

#[derive(Debug)]
pub(crate) struct Seen {
    sets: Box<[Set]>,
    hasher: foldhash::quality::RandomState,
}

/// An exposure that was just recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted(u64);

impl Seen {
    /// Creates a table for about `capacity` exposures.
    pub(crate) fn new(capacity: usize) -> Self {
        let n_sets = (capacity / WAYS).next_power_of_two();
        let sets = (0..n_sets).map(|_| Set::default()).collect();
        Self {
            sets,
            hasher: foldhash::quality::RandomState::default(),
        }
    }

    /// Records `exposure`; `None` if it was recorded before.
    pub(crate) fn note(&self, exposure: &impl Hash) -> Option<Noted> {
        // 0 is an empty place.
        let fingerprint = self.hasher.hash_one(exposure).max(1);
        let set = self.set_of(fingerprint);
        if set
            .iter()
            .any(|place| place.load(Ordering::Relaxed) == fingerprint)
        {
            return None;
        }
        for place in set {
            let taken =
                place.compare_exchange(0, fingerprint, Ordering::Relaxed, Ordering::Relaxed);
            match taken {
                Ok(_) => return Some(Noted(fingerprint)),
                // Another thread noted the same one.
                Err(other) if other == fingerprint => return None,
                Err(_) => {}
            }
        }
        // Bits that do not choose the set choose who gives way.
        let way = (fingerprint >> 58) as usize % WAYS;
        set[way].store(fingerprint, Ordering::Relaxed);
        Some(Noted(fingerprint))
    }

    /// Forgets an exposure whose event was dropped, so that the next call logs it.
    pub(crate) fn forget(&self, Noted(fingerprint): Noted) {
        for place in self.set_of(fingerprint) {
            let _ = place.compare_exchange(fingerprint, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Returns the cache set that `fingerprint` belongs to; the number of sets is a power of two.
    fn set_of(&self, fingerprint: u64) -> &[AtomicU64] {
        let n_sets = self.sets.len();
        &self.sets[fingerprint as usize & (n_sets - 1)].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposure_is_new_once_and_again_when_it_was_forgotten() {
        let seen = Seen::new(64);
        let noted = seen.note(&("42", "gate", "a")).unwrap();
        assert_eq!(seen.note(&("42", "gate", "a")), None);
        assert!(seen.note(&("42", "gate", "b")).is_some());
        seen.forget(noted);
        assert!(seen.note(&("42", "gate", "a")).is_some());
    }

    #[test]
    fn a_full_table_keeps_its_size_and_forgets_some() {
        let seen = Seen::new(1_024);
        assert!((0..10_000).all(|unit| seen.note(&unit).is_some()));
        assert_eq!(seen.sets.len() * WAYS, 1_024);
        let n_known = (0..10_000).filter(|unit| seen.note(unit).is_none()).count();
        assert!(n_known <= 1_024, "{n_known}");
    }
}
