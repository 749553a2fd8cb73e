//! The one pass over a user's events against a search through every chain of them.
//!
//! `TRIALOG_SIMULATIONS=10` compares a million histories, ten times as many as a run of the
//! tests has time for.

#![expect(
    clippy::unwrap_used,
    reason = "generated inputs are valid by construction"
)]

#[path = "common/random.rs"]
#[expect(dead_code, reason = "only the size of the simulation is taken")]
mod random;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use trialog_stats::{FunnelMatcher, FunnelSteps};

const SEED: u64 = 20_261_130;

/// A funnel and the events of one user, in no particular order.
#[derive(Debug, Clone)]
struct History {
    types: Vec<u8>,
    limits: Vec<Option<u64>>,
    window: u64,
    exposure: i64,
    /// Type and time.
    events: Vec<(u8, i64)>,
}

/// Few types and times, so that steps repeat and events share times; type 3 is no step.
fn history() -> impl Strategy<Value = History> {
    let limit = prop_oneof![Just(None), (1_u64..6).prop_map(Some)];
    let step = (0_u8..3, limit);
    let last_time = prop_oneof![Just(2_i64), Just(8), Just(20)];
    (
        prop::collection::vec(step, 1..6),
        any::<bool>(),
        1_u64..24,
        -2_i64..3,
        last_time.prop_flat_map(|last| prop::collection::vec((0_u8..4, -3..=last), 0..10)),
    )
        .prop_map(|(steps, is_limited, window, exposure, events)| {
            let (types, limits) = steps.into_iter().unzip();
            History {
                types,
                limits: if is_limited { limits } else { Vec::new() },
                window,
                exposure,
                events,
            }
        })
}

impl History {
    fn matched(&self, matcher: &mut FunnelMatcher) -> Vec<u64> {
        let mut events = self.events.clone();
        // Stable: events at one time stay in the order in which they were generated.
        events.sort_by_key(|(_, time)| *time);
        matcher.start(self.exposure);
        for (code, time) in events {
            matcher.push(code, time).unwrap();
        }
        matcher.finish().to_vec()
    }

    /// The earliest end of a chain of each length, by trying every chain.
    fn searched(&self) -> Vec<u64> {
        let mut earliest = Vec::new();
        self.search(0, self.exposure, &mut Vec::new(), &mut earliest);
        earliest
    }

    fn search(&self, step: usize, last: i64, used: &mut Vec<usize>, earliest: &mut Vec<u64>) {
        let Some(wanted) = self.types.get(step) else {
            return;
        };
        let limit = self.limits.get(step).copied().flatten();
        let end = self.exposure + i64::try_from(self.window).unwrap();
        let end = limit.map_or(end, |limit| end.min(last + i64::try_from(limit).unwrap()));
        for (index, (code, time)) in self.events.iter().enumerate() {
            if code != wanted || *time < last || *time >= end || used.contains(&index) {
                continue;
            }
            let elapsed = time.abs_diff(self.exposure);
            match earliest.get_mut(step) {
                Some(before) => *before = elapsed.min(*before),
                None => earliest.push(elapsed),
            }
            used.push(index);
            self.search(step + 1, *time, used, earliest);
            used.pop();
        }
    }
}

#[test]
fn one_pass_finds_what_a_search_through_every_chain_does() {
    let config = ProptestConfig {
        cases: u32::try_from(100_000 * random::times()).unwrap(),
        rng_seed: RngSeed::Fixed(SEED),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let (n_deep, n_limited) = (Cell::new(0_u64), Cell::new(0_u64));
    proptest!(config, |(history in history())| {
        let steps = FunnelSteps::new(&history.types, &history.limits, history.window).unwrap();
        let found = history.matched(&mut FunnelMatcher::new(steps));
        prop_assert_eq!(&found, &history.searched(), "seed {}", SEED);
        let unlimited = FunnelSteps::new(&history.types, &[], history.window).unwrap();
        let without = history.matched(&mut FunnelMatcher::new(unlimited));
        n_deep.set(n_deep.get() + u64::from(found.len() >= 3));
        n_limited.set(n_limited.get() + u64::from(found != without));
    });
    // The histories are worth comparing: many get far, and limits make a difference.
    let least = 100_000 * random::times() as u64 / 50;
    let counts = (n_deep.get(), n_limited.get());
    assert!(counts.0 > least && counts.1 > least, "{counts:?}");
}

#[test]
fn a_matcher_that_is_used_again_forgets_the_user_before() {
    let steps = FunnelSteps::new(&[0, 1, 0], &[None, Some(4), Some(4)], 30).unwrap();
    let mut reused = FunnelMatcher::new(steps);
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..10_000 {
        let history = History {
            types: vec![0, 1, 0],
            limits: vec![None, Some(4), Some(4)],
            window: 30,
            exposure: random.i64(-5..5),
            events: (0..random.usize(0..9))
                .map(|_| (random.u8(0..2), random.i64(-5..25)))
                .collect(),
        };
        let alone = history.matched(&mut FunnelMatcher::new(steps));
        assert_eq!(history.matched(&mut reused), alone, "{history:?}");
    }
}

#[test]
fn many_events_at_one_time_count_once_for_each_step() {
    let steps = FunnelSteps::new(&[0; 20], &[Some(3); 20], 10).unwrap();
    let mut matcher = FunnelMatcher::new(steps);
    for n_events in [1, 19, 20, 21, 255, 256, 257, 1_000_000] {
        matcher.start(5);
        for _ in 0..n_events {
            matcher.push(0, 7).unwrap();
        }
        assert_eq!(matcher.finish(), vec![2; n_events.min(20)], "{n_events}");
    }
}

#[test]
fn times_and_windows_may_have_any_size() {
    let steps = FunnelSteps::new(&[0, 1], &[None, Some(u64::MAX)], u64::MAX).unwrap();
    let mut matcher = FunnelMatcher::new(steps);
    matcher.start(i64::MIN);
    matcher.push(0, i64::MIN).unwrap();
    matcher.push(1, i64::MAX - 1).unwrap();
    assert_eq!(matcher.finish(), [0, u64::MAX - 1]);
}
