//! Limits the number of connections, and chooses which to close when there are too many.
//!
//! A connection is *known* once a request of it was let in by a key, or without one where none
//! is asked for. When all places are taken a newcomer takes that of another: first of those who
//! are not known, and among them of the address that has the most; then of those who are known
//! and idle. A newcomer for whom nobody gives way gets one of a few reserved places, where only
//! health checks and requests with a key are answered. So nobody without a key keeps others out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::limits::Who;

/// Places beyond the most, for health checks and requests with a key.
const N_RESERVED: usize = 64;

/// All connections.
pub(crate) struct Places {
    max: usize,
    /// Counts the actions of all connections, to order them by their last one.
    step: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    taken: HashMap<u64, Arc<State>>,
    n_reserved: usize,
    /// How many requests each caller has in work.
    callers: HashMap<Who, usize>,
}

struct State {
    address: Who,
    is_reserved: bool,
    is_known: AtomicBool,
    has_asked: AtomicBool,
    is_in_work: AtomicBool,
    /// The step at which it became what it is.
    since: AtomicU64,
    /// Notified when the place was given to another connection.
    evicted: Notify,
}

impl Places {
    /// Creates places for at most `max` connections, beside the reserved ones.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            step: AtomicU64::new(0),
            table: Mutex::default(),
        })
    }

    /// Returns a place for a connection from `address`; `None` if not even a reserved one is free.
    pub(crate) fn enter(self: &Arc<Self>, address: Who) -> Option<Place> {
        let mut table = self.table();
        let has_share = self.makes_room_within(&mut table, &address);
        let is_normal = has_share && self.makes_room(&mut table);
        if !is_normal && table.n_reserved >= N_RESERVED {
            return None;
        }
        let state = Arc::new(State {
            address,
            is_reserved: !is_normal,
            is_known: AtomicBool::new(false),
            has_asked: AtomicBool::new(false),
            is_in_work: AtomicBool::new(false),
            since: AtomicU64::new(self.next_step()),
            evicted: Notify::new(),
        });
        let id = table.next;
        table.next += 1;
        table.n_reserved += usize::from(!is_normal);
        table.taken.insert(id, Arc::clone(&state));
        Some(Place {
            id,
            state,
            places: Arc::clone(self),
        })
    }

    /// Returns whether `address` may have one more connection. If idle connections that sent
    /// requests without a valid key already take its share, a quarter of all places, it closes one
    /// of them first. Connections without a request yet do not count, as a client with a key may
    /// open many.
    fn makes_room_within(&self, table: &mut Table, address: &Who) -> bool {
        let is_own = |state: &State| {
            let is_stranger = !state.is_known() && state.has_asked.load(Ordering::Relaxed);
            state.address == *address && is_stranger && !state.is_in_work()
        };
        let n_own = table.taken.values().filter(|state| is_own(state)).count();
        n_own < (self.max / 4).max(1) || table.evict(|state| is_own(state).then_some(0))
    }

    /// Returns whether an unreserved place is free, after closing a connection if necessary.
    fn makes_room(&self, table: &mut Table) -> bool {
        if table.taken.len() - table.n_reserved < self.max {
            return true;
        }
        let mut of_address: HashMap<Who, usize> = HashMap::new();
        for state in table.taken.values().filter(|state| !state.is_known()) {
            *of_address.entry(state.address.clone()).or_default() += 1;
        }
        // The least gives way: strangers of the largest address, then those who are idle.
        table.evict(|state| {
            if state.is_reserved {
                None
            } else if !state.is_known() {
                let n_alike = of_address.get(&state.address).copied().unwrap_or_default();
                Some(self.max.saturating_sub(n_alike))
            } else {
                (!state.is_in_work()).then_some(usize::MAX)
            }
        })
    }

    fn next_step(&self) -> u64 {
        self.step.fetch_add(1, Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Closes the connection of the lowest rank: idle ones first, and of those the one that has
    /// been idle the longest; false if `rank` excludes all.
    fn evict(&mut self, rank: impl Fn(&State) -> Option<usize>) -> bool {
        let ranked = self.taken.iter().filter_map(|(id, state)| {
            let since = state.since.load(Ordering::Relaxed);
            Some((rank(state)?, state.is_in_work(), since, *id))
        });
        let Some((.., id)) = ranked.min() else {
            return false;
        };
        if let Some(state) = self.remove(id) {
            state.evicted.notify_one();
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Arc<State>> {
        let state = self.taken.remove(&id)?;
        self.n_reserved -= usize::from(state.is_reserved);
        Some(state)
    }
}

impl State {
    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    fn is_in_work(&self) -> bool {
        self.is_in_work.load(Ordering::Relaxed)
    }
}

/// The place of a connection until it is dropped.
pub(crate) struct Place {
    id: u64,
    state: Arc<State>,
    places: Arc<Places>,
}

impl Place {
    /// Returns whether the connection may make only one request, which must be a health check or
    /// carry a key.
    pub(crate) fn is_reserved(&self) -> bool {
        self.state.is_reserved
    }

    /// Completes when the connection must close, because another one has its place.
    pub(crate) async fn evicted(&self) {
        self.state.evicted.notified().await;
    }

    /// Returns whether the request that is being handled may be completed although another
    /// connection has the place.
    pub(crate) fn may_finish(&self) -> bool {
        self.state.is_known() && self.state.is_in_work()
    }

    /// Begins a request, which ends when the returned guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.state.is_in_work.store(true, Ordering::Relaxed);
        self.state.has_asked.store(true, Ordering::Relaxed);
        self.note_step();
        Busy {
            place: Arc::clone(self),
            caller: Mutex::default(),
        }
    }

    fn note_step(&self) {
        let step = self.places.next_step();
        self.state.since.store(step, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().remove(self.id);
    }
}

/// A request that is being handled on a connection.
pub(crate) struct Busy {
    place: Arc<Place>,
    caller: Mutex<Option<Who>>,
}

impl Busy {
    /// Returns whether the connection has a reserved place.
    pub(crate) fn is_reserved(&self) -> bool {
        self.place.is_reserved()
    }

    /// Records that the request was admitted, and its caller if that has a limit; false if the
    /// caller already has the maximum of concurrent requests, half of the places.
    pub(crate) fn let_in(&self, caller: Option<Who>) -> bool {
        self.place.state.is_known.store(true, Ordering::Relaxed);
        let Some(caller) = caller else { return true };
        let most = (self.place.places.max / 2).max(1);
        {
            let mut table = self.place.places.table();
            let n_in_work = table.callers.entry(caller.clone()).or_default();
            if *n_in_work >= most {
                return false;
            }
            *n_in_work += 1;
        }
        let before = self.caller().replace(caller);
        debug_assert!(before.is_none(), "a request is let in once");
        true
    }

    fn caller(&self) -> MutexGuard<'_, Option<Who>> {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.place.state.is_in_work.store(false, Ordering::Relaxed);
        self.place.note_step();
        let Some(caller) = self.caller().take() else {
            return;
        };
        let mut table = self.place.places.table();
        if let Some(n_in_work) = table.callers.get_mut(&caller) {
            *n_in_work -= 1;
            if *n_in_work == 0 {
                table.callers.remove(&caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> Who {
        Who::address([10, 0, 0, last].into())
    }

    fn key(name: &str) -> Option<Who> {
        Some(Who::Key(name.to_owned()))
    }

    /// Returns whether another connection has the place.
    fn is_lost(place: &Place) -> bool {
        !place.places.table().taken.contains_key(&place.id)
    }

    fn enter(places: &Arc<Places>, address: u8) -> Arc<Place> {
        Arc::new(places.enter(from(address)).unwrap())
    }

    /// A known connection that is idle.
    fn idle(places: &Arc<Places>, address: u8) -> Arc<Place> {
        let place = enter(places, address);
        assert!(place.begin().let_in(key("idle")));
        place
    }

    #[test]
    fn the_oldest_stranger_of_the_largest_address_gives_way() {
        let places = Places::new(8);
        let known: Vec<_> = (0..5).map(|_| idle(&places, 9)).collect();
        let other = enter(&places, 2);
        let of_one = [enter(&places, 1), enter(&places, 1)];
        let newcomer = enter(&places, 3);
        assert!(is_lost(&of_one[0]) && !is_lost(&of_one[1]) && !is_lost(&other));
        assert!(!newcomer.is_reserved() && known.iter().all(|place| !is_lost(place)));
    }

    #[test]
    fn an_address_has_a_share_and_its_own_strangers_give_way_beyond_it() {
        let places = Places::new(8);
        let ask = |_| {
            let place = enter(&places, 1);
            drop(place.begin());
            place
        };
        let strangers: Vec<_> = (0..5).map(ask).collect();
        assert_eq!(strangers.iter().filter(|place| is_lost(place)).count(), 3);
        assert!(!is_lost(&strangers[4]) && !strangers[4].is_reserved());
        // Who has shown a key does not count.
        let known: Vec<_> = (0..5).map(|_| idle(&places, 1)).collect();
        assert!(known.iter().all(|place| !is_lost(place)));
    }

    #[test]
    fn a_stranger_gives_way_even_while_it_is_answered_and_before_those_who_are_known() {
        let places = Places::new(4);
        let known: Vec<_> = (0..3).map(|_| idle(&places, 1)).collect();
        let slow = enter(&places, 2);
        let _answering = slow.begin();
        let newcomer = enter(&places, 3);
        assert!(is_lost(&slow) && !slow.may_finish());
        assert!(newcomer.begin().let_in(key("a")));
        let _next = idle(&places, 4);
        assert!(is_lost(&known[0]) && !is_lost(&known[1]));
    }

    #[test]
    fn where_all_are_busy_there_are_reserved_places_and_then_none() {
        let places = Places::new(4);
        let busy: Vec<_> = (0..4)
            .map(|n| (idle(&places, n), format!("k{n}")))
            .collect();
        let work: Vec<_> = (busy.iter())
            .map(|(place, name)| {
                let work = place.begin();
                assert!(work.let_in(key(name)));
                work
            })
            .collect();
        let reserved: Vec<_> = (0..N_RESERVED).map(|n| enter(&places, n as u8)).collect();
        assert!(reserved.iter().all(|place| place.is_reserved()));
        assert!(places.enter(from(200)).is_none());
        assert!(
            busy.iter()
                .all(|(place, _)| !is_lost(place) && place.may_finish())
        );
        drop(work);
        assert!(!enter(&places, 200).is_reserved());
        drop(reserved);
        assert_eq!(places.table().n_reserved, 0);
    }

    #[test]
    fn a_caller_has_half_of_the_places_in_work_and_the_local_one_has_no_limit() {
        let places = Places::new(4);
        let seats: Vec<_> = (0..4).map(|n| idle(&places, n)).collect();
        let work: Vec<_> = seats.iter().map(Place::begin).collect();
        assert!(work[0].let_in(key("a")) && work[1].let_in(key("a")));
        assert!(!work[2].let_in(key("a")));
        assert!(work[2].let_in(key("b")) && work[3].let_in(None));
        drop(work);
        assert!(places.table().callers.is_empty());
        assert!(seats[3].begin().let_in(key("a")));
    }
}
