//! Counts what became of the events of each type: those that count, and why others do not.
//!
//! An integration that is wrong shows here and nowhere else: events under
//! another kind of id belong to no exposed user, an exposure that is logged late
//! leaves its events before it. Counted are distinct events up to the data time.

#[cfg(feature = "clickhouse")]
mod clickhouse;

use crate::fold::LeftOut;

/// The most ids that are kept as a sample.
const SAMPLE: usize = 5;

/// What became of the events of one type; exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeArrivals {
    /// All events.
    pub events: u64,
    /// Events that count in at least one metric.
    pub counted: u64,
    /// Events of exposed users before the exposure, beside those that count.
    pub before_exposure: u64,
    /// Events of exposed users after the exposure that count in no metric.
    pub after_window: u64,
    /// Events of users without an exposure.
    pub unexposed: u64,
    /// Events of users of several variants, or with a forced one.
    pub excluded: u64,
    /// Events of users whose variant the plan does not know.
    pub unknown_variant: u64,
    /// Users with events and without an exposure.
    pub unexposed_users: u64,
    /// Exposed users with events.
    pub senders_exposed: u64,
    /// The least ids among the users without an exposure, at most five.
    pub sample: Vec<i64>,
}

/// Where an event of an exposed user falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Into the window of at least one metric.
    Counted,
    /// Before the exposure.
    Before,
    /// After it, and into no window.
    After,
}

/// Counts events by type, user by user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    types: Vec<TypeArrivals>,
    /// For each type the number of the last user who sent it.
    last_sender: Vec<u64>,
    /// Numbers the users, from 1.
    user: u64,
}

impl Arrivals {
    /// Counts the events of `n_types` types.
    pub(crate) fn new(n_types: usize) -> Self {
        Self {
            types: vec![TypeArrivals::default(); n_types],
            last_sender: vec![0; n_types],
            user: 0,
        }
    }

    /// The counts of each type.
    pub(crate) fn types(&self) -> &[TypeArrivals] {
        &self.types
    }

    #[cfg(feature = "clickhouse")]
    pub(crate) fn types_mut(&mut self) -> &mut [TypeArrivals] {
        &mut self.types
    }

    /// Begins with another user.
    pub(crate) fn begin(&mut self) {
        self.user += 1;
    }

    /// Counts an event of an exposed user.
    pub(crate) fn of_exposed(&mut self, code: u32, place: Place) {
        let is_first = self.is_first(code);
        let counts = &mut self.types[code as usize];
        counts.events += 1;
        counts.senders_exposed += u64::from(is_first);
        match place {
            Place::Counted => counts.counted += 1,
            Place::Before => counts.before_exposure += 1,
            Place::After => counts.after_window += 1,
        }
    }

    /// Counts an event of `user`, who is left out.
    pub(crate) fn of_left_out(&mut self, code: u32, user: i64, why: LeftOut) {
        let is_first = self.is_first(code);
        let counts = &mut self.types[code as usize];
        counts.events += 1;
        match why {
            LeftOut::Unexposed => {
                counts.unexposed += 1;
                if is_first {
                    counts.unexposed_users += 1;
                    counts.add_to_sample(user);
                }
            }
            LeftOut::Excluded => counts.excluded += 1,
            LeftOut::UnknownVariant => counts.unknown_variant += 1,
        }
    }

    fn is_first(&mut self, code: u32) -> bool {
        let last = &mut self.last_sender[code as usize];
        std::mem::replace(last, self.user) != self.user
    }

    /// Takes in the counts of other users.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (counts, other) in self.types.iter_mut().zip(&other.types) {
            counts.merge(other);
        }
    }
}

impl TypeArrivals {
    /// Takes in the counts of other users.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.events += other.events;
        self.counted += other.counted;
        self.before_exposure += other.before_exposure;
        self.after_window += other.after_window;
        self.unexposed += other.unexposed;
        self.excluded += other.excluded;
        self.unknown_variant += other.unknown_variant;
        self.unexposed_users += other.unexposed_users;
        self.senders_exposed += other.senders_exposed;
        other
            .sample
            .iter()
            .for_each(|user| self.add_to_sample(*user));
    }

    fn add_to_sample(&mut self, user: i64) {
        let at = self.sample.partition_point(|other| *other < user);
        if at < SAMPLE {
            self.sample.insert(at, user);
            self.sample.truncate(SAMPLE);
        }
    }
}
