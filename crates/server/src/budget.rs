//! Shares memory among callers, so that one of them cannot starve the others.
//!
//! A caller may take as long as it holds no more than what is still free. Alone it gets half;
//! where `n` callers take all that they can, each holds one part in `n + 1`, and as much is
//! left for the next one. So a caller that held nothing so far always finds room, however much the
//! others want.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::Who;

/// A number of bytes that callers share.
#[derive(Debug)]
pub(crate) struct Budget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Negative where more was added than there is room for.
    free: i64,
    /// What each caller holds; those that hold nothing are left out.
    held: HashMap<Who, i64>,
}

impl State {
    fn held_by(&self, who: &Who) -> i64 {
        self.held.get(who).copied().unwrap_or_default()
    }

    fn has_room(&self, who: &Who, n_bytes: i64) -> bool {
        let held = self.held_by(who).saturating_add(n_bytes);
        held <= self.free.saturating_sub(n_bytes)
    }

    fn add(&mut self, who: &Who, n_bytes: i64) {
        self.free = self.free.saturating_sub(n_bytes);
        match self.held.get_mut(who) {
            Some(held) => *held = held.saturating_add(n_bytes),
            None => drop(self.held.insert(who.clone(), n_bytes)),
        }
        if self.held_by(who) <= 0 {
            self.held.remove(who);
        }
    }
}

/// The caller's share is exhausted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Budget {
    pub(crate) fn new(n_bytes: usize) -> Arc<Self> {
        let state = State {
            free: signed(n_bytes),
            held: HashMap::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Returns whether `who` could take `n_bytes` more now.
    pub(crate) fn has_room(&self, who: &Who, n_bytes: usize) -> bool {
        self.state().has_room(who, signed(n_bytes))
    }

    /// Creates an empty hold for `who`.
    pub(crate) fn hold(self: &Arc<Self>, who: Who) -> Hold {
        Hold {
            budget: Arc::clone(self),
            who,
            n_bytes: 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes that one request holds until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    budget: Arc<Budget>,
    who: Who,
    n_bytes: i64,
}

impl Hold {
    /// Grows or shrinks the hold to `n_bytes`.
    ///
    /// # Errors
    ///
    /// [`Full`] where the caller's share does not allow it: then nothing has changed.
    pub(crate) fn resize(&mut self, n_bytes: usize) -> Result<(), Full> {
        let more = signed(n_bytes) - self.n_bytes;
        if more == 0 {
            return Ok(());
        }
        let mut state = self.budget.state();
        if more > 0 && !state.has_room(&self.who, more) {
            return Err(Full);
        }
        state.add(&self.who, more);
        self.n_bytes += more;
        Ok(())
    }

    /// Counts `n_bytes` even if there is no room, because data that are already in memory cannot
    /// be rejected.
    pub(crate) fn force_resize(&mut self, n_bytes: usize) {
        let more = signed(n_bytes) - self.n_bytes;
        self.budget.state().add(&self.who, more);
        self.n_bytes += more;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.n_bytes != 0 {
            self.budget.state().add(&self.who, -self.n_bytes);
        }
    }
}

fn signed(n_bytes: usize) -> i64 {
    i64::try_from(n_bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn key(name: &str) -> Who {
        Who::Key(name.to_owned())
    }

    /// Takes steps of a MiB until the budget rejects one, and returns the hold.
    fn take_all(budget: &Arc<Budget>, who: &str) -> (Hold, usize) {
        let mut hold = budget.hold(key(who));
        let n_steps = (1..).find(|step| hold.resize(step * MIB).is_err());
        (hold, n_steps.unwrap() - 1)
    }

    #[test]
    fn whoever_held_nothing_finds_room_beside_any_number_of_greedy_callers() {
        let budget = Budget::new(128 * MIB);
        let mut greedy = Vec::new();
        for n in 0..8 {
            let (hold, n_taken) = take_all(&budget, &n.to_string());
            assert_eq!(n_taken, 64 >> n.min(7), "caller {n}");
            greedy.push(hold);
            assert!(budget.has_room(&key("quiet"), MIB / 4), "after {n}");
        }
        drop(greedy);
        assert_eq!(take_all(&budget, "quiet").1, 64);
    }

    #[test]
    fn all_holds_of_a_caller_count_together() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (budget.hold(key("a")), budget.hold(key("a")));
        assert_eq!(first.resize(30), Ok(()));
        assert_eq!(second.resize(20), Ok(()));
        assert_eq!(second.resize(21), Err(Full));
        assert_eq!(budget.hold(key("b")).resize(25), Ok(()));
        assert_eq!(budget.hold(key("b")).resize(26), Err(Full));
        assert_eq!(first.resize(10), Ok(()), "less is always allowed");
        assert_eq!(second.resize(40), Ok(()));
    }

    #[test]
    fn what_is_insisted_on_counts_until_it_is_gone() {
        let budget = Budget::new(100);
        let mut answer = budget.hold(key("a"));
        answer.force_resize(150);
        assert!(!budget.has_room(&key("b"), 0), "nothing is free");
        drop(answer);
        assert!(budget.has_room(&key("b"), 50) && !budget.has_room(&key("b"), 51));
        assert!(budget.state().held.is_empty());
    }
}
