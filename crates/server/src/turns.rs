//! Schedules threads for heavy work: callers take turns, however many requests one of them sends.
//!
//! So much runs at a time, and the last place is never taken by a caller that has another one.
//! Who finds no place waits; places that become free go to the waiting callers one after the
//! other, not to the requests in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::limits::Who;

/// Requests of a caller that may wait; one more is refused.
const MAX_WAITING: usize = 256;

/// The places for heavy work.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    n_free: usize,
    running: HashMap<Who, usize>,
    waiting: HashMap<Who, VecDeque<oneshot::Sender<Turn>>>,
    /// The waiting callers, each once, the next one first.
    round: VecDeque<Who>,
}

impl State {
    fn may_run(&self, who: &Who) -> bool {
        self.n_free > 1 || (self.n_free == 1 && !self.running.contains_key(who))
    }

    fn begin(&mut self, who: &Who) {
        self.n_free -= 1;
        *self.running.entry(who.clone()).or_default() += 1;
    }

    fn end(&mut self, who: &Who) {
        self.n_free += 1;
        if let Some(n) = self.running.get_mut(who) {
            *n -= 1;
            if *n == 0 {
                self.running.remove(who);
            }
        }
    }

    /// Returns the next request that may run, with its caller.
    fn next(&mut self) -> Option<(Who, oneshot::Sender<Turn>)> {
        let place = (self.round.iter()).position(|who| self.may_run(who))?;
        let who = self.round.remove(place)?;
        let queue = self.waiting.get_mut(&who)?;
        // Clients that went away are passed over.
        let first = std::iter::from_fn(|| queue.pop_front()).find(|waiting| !waiting.is_closed());
        if queue.is_empty() {
            self.waiting.remove(&who);
        } else {
            self.round.push_back(who.clone());
        }
        match first {
            Some(sender) => Some((who, sender)),
            None => self.next(),
        }
    }
}

/// A place. Dropping it lets the next request run.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    who: Who,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.state().end(&self.who);
        self.turns.pass_on();
    }
}

/// Too many requests of this caller are already waiting.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Turns {
    /// Creates `n` places, and one more that no caller takes beside another.
    pub(crate) fn new(n: usize) -> Arc<Self> {
        let state = State {
            n_free: n.max(1) + 1,
            running: HashMap::new(),
            waiting: HashMap::new(),
            round: VecDeque::new(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// Waits for a place. A caller that goes away while it waits takes none.
    ///
    /// # Errors
    ///
    /// [`TooMany`] at once where too many requests of `who` wait.
    pub(crate) async fn take(self: &Arc<Self>, who: &Who) -> Result<Turn, TooMany> {
        let waiting = {
            let mut state = self.state();
            // Whoever waits has nobody of the same caller before it that could run.
            if state.may_run(who) {
                state.begin(who);
                None
            } else {
                Some(Self::wait(&mut state, who)?)
            }
        };
        match waiting {
            None => Ok(self.turn(who.clone())),
            // The sender is dropped only with its turn.
            Some(waiting) => waiting.await.map_err(|_| TooMany),
        }
    }

    fn wait(state: &mut State, who: &Who) -> Result<oneshot::Receiver<Turn>, TooMany> {
        let queue = state.waiting.entry(who.clone()).or_default();
        if queue.len() >= MAX_WAITING {
            queue.retain(|sender| !sender.is_closed());
        }
        if queue.len() >= MAX_WAITING {
            return Err(TooMany);
        }
        let (sender, receiver) = oneshot::channel();
        if queue.is_empty() && !state.round.contains(who) {
            state.round.push_back(who.clone());
        }
        queue.push_back(sender);
        Ok(receiver)
    }

    /// Gives every free place to a waiting caller.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.next();
                if let Some((who, _)) = &next {
                    state.begin(who);
                }
                next
            };
            let Some((who, sender)) = next else { return };
            // The lock is free: a turn that nobody waits for any more passes itself on.
            drop(sender.send(self.turn(who)));
        }
    }

    fn turn(self: &Arc<Self>, who: Who) -> Turn {
        Turn {
            turns: Arc::clone(self),
            who,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn key(name: &str) -> Who {
        Who::Key(name.to_owned())
    }

    type Taking = Pin<Box<dyn Future<Output = Result<Turn, TooMany>>>>;

    fn asking(turns: &Arc<Turns>, who: &str) -> Taking {
        let (turns, who) = (Arc::clone(turns), key(who));
        let mut taking: Taking = Box::pin(async move { turns.take(&who).await });
        assert!(look(&mut taking).is_none(), "it has to wait");
        taking
    }

    fn look(taking: &mut Taking) -> Option<Turn> {
        let polled = (taking.as_mut()).poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(turn) => Some(turn.unwrap()),
            Poll::Pending => None,
        }
    }

    fn take(turns: &Arc<Turns>, who: &str) -> Turn {
        let who = key(who);
        let taking = pin!(turns.take(&who));
        match taking.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => turn.unwrap(),
            Poll::Pending => panic!("{who:?} has to wait"),
        }
    }

    #[test]
    fn the_last_place_is_for_a_caller_that_has_none() {
        let turns = Turns::new(2);
        let first = take(&turns, "a");
        let _second = take(&turns, "a");
        let mut third = asking(&turns, "a");
        let _quiet = take(&turns, "b");
        drop(first);
        assert!(look(&mut third).is_none(), "one is kept for others");
        let _other = take(&turns, "c");
    }

    #[test]
    fn callers_take_turns_however_many_of_one_wait() {
        let turns = Turns::new(1);
        let (mut running, _other) = (take(&turns, "a"), take(&turns, "x"));
        let mut greedy: Vec<_> = (0..3).map(|_| asking(&turns, "a")).collect();
        let mut quiet = asking(&turns, "b");
        drop(running);
        running = look(&mut greedy[0]).expect("the first that waits");
        assert!(look(&mut quiet).is_none());
        drop(running);
        running = look(&mut quiet).expect("b goes before what else waits of a");
        assert!(
            greedy[1..]
                .iter_mut()
                .all(|waiting| look(waiting).is_none())
        );
        drop(running);
        assert!(look(&mut greedy[1]).is_some());
    }

    #[test]
    fn who_goes_away_takes_no_place() {
        let turns = Turns::new(1);
        let (a, b) = (take(&turns, "a"), take(&turns, "b"));
        let (gone, mut stays) = (asking(&turns, "c"), asking(&turns, "d"));
        drop(gone);
        drop(a);
        let turn = look(&mut stays).unwrap();
        drop((turn, b));
        assert_eq!(turns.state().n_free, 2);
        assert!(turns.state().running.is_empty() && turns.state().waiting.is_empty());
    }

    #[test]
    fn so_many_wait_and_more_are_refused() {
        let turns = Turns::new(1);
        let _running = (take(&turns, "a"), take(&turns, "x"));
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| asking(&turns, "a")).collect();
        let who = key("a");
        let refused = |turns: &Arc<Turns>| {
            let polled = pin!(turns.take(&who)).poll(&mut Context::from_waker(Waker::noop()));
            matches!(polled, Poll::Ready(Err(TooMany)))
        };
        assert!(refused(&turns));
        let _quiet = asking(&turns, "b");
        waiting.pop();
        assert!(!refused(&turns), "one has gone away");
    }
}
