//! Limits the requests per second of each caller.
//!
//! A bucket per key, or per address where there is no key, holds the requests
//! of one second and fills evenly. What is kept of a bucket is the time at
//! which it will be full again.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use trialog_model::time::UnixMicros;

/// Buckets in memory; beyond it, newcomers share one.
const MAX_BUCKETS: usize = 10_000;
const SECOND: i64 = 1_000_000;

/// The owner of a token bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Key(String),
    Address(IpAddr),
    /// A command on the same machine, or this process itself: its requests are not counted.
    Local,
    /// Those for whom there is no bucket left.
    Crowd,
}

impl Who {
    /// Returns the caller at `ip`. An IPv6 client has a /64 of addresses, and one bucket.
    pub(crate) fn address(ip: IpAddr) -> Self {
        Self::Address(match ip.to_canonical() {
            IpAddr::V6(ip) => {
                let network = ip.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// Returns the caller if its requests are limited; `None` for commands on this machine.
    pub(crate) fn limited(&self) -> Option<&Self> {
        (*self != Self::Local).then_some(self)
    }
}

/// The token buckets of all callers.
pub(crate) struct Rates {
    /// How much later a bucket is full for each request; 0 for no limit.
    cost_micros: i64,
    full_at: Mutex<HashMap<Who, i64>>,
}

impl Rates {
    /// Creates buckets of `per_second` requests; 0 sets no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            cost_micros: SECOND.checked_div(i64::from(per_second)).unwrap_or(0),
            full_at: Mutex::new(HashMap::new()),
        }
    }

    /// Takes a token for a request of `who`. If the bucket is empty, returns the seconds to wait.
    pub(crate) fn refuse(&self, who: &Who, now: UnixMicros) -> Option<u32> {
        if self.cost_micros == 0 || who.limited().is_none() {
            return None;
        }
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(who) {
            buckets.retain(|_, full_at| *full_at > now.0);
        }
        let who = if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(who) {
            Who::Crowd
        } else {
            who.clone()
        };
        let full_at = buckets.entry(who).or_insert(now.0);
        // A clock that was set back does not lock anybody out for long.
        let start = (*full_at).clamp(now.0, now.0.saturating_add(SECOND));
        let filled = start.saturating_add(self.cost_micros);
        let excess = filled.saturating_sub(now.0).saturating_sub(SECOND);
        if excess > 0 {
            *full_at = start;
            let seconds = excess.unsigned_abs().div_ceil(SECOND.unsigned_abs());
            return Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        *full_at = filled;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> UnixMicros {
        UnixMicros(1_000 * SECOND + micros)
    }

    fn key(name: &str) -> Who {
        Who::Key(name.to_owned())
    }

    #[test]
    fn a_bucket_holds_a_second_and_fills_evenly() {
        let rates = Rates::new(10);
        for _ in 0..10 {
            assert_eq!(rates.refuse(&key("a"), at(0)), None);
        }
        assert_eq!(rates.refuse(&key("a"), at(0)), Some(1));
        assert_eq!(
            rates.refuse(&key("b"), at(0)),
            None,
            "others are not concerned"
        );
        assert_eq!(rates.refuse(&key("a"), at(99_999)), Some(1));
        assert_eq!(rates.refuse(&key("a"), at(100_000)), None);
        assert_eq!(rates.refuse(&key("a"), at(100_000)), Some(1));
        assert_eq!(rates.refuse(&key("a"), at(5 * SECOND)), None);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let rates = Rates::new(10);
        assert_eq!(rates.refuse(&key("a"), at(3_600 * SECOND)), None);
        assert!(rates.refuse(&key("a"), at(0)).is_some());
        assert_eq!(rates.refuse(&key("a"), at(SECOND)), None);
    }

    #[test]
    fn memory_is_bounded_and_idle_callers_make_room() {
        let rates = Rates::new(1);
        for n in 0..MAX_BUCKETS {
            assert_eq!(rates.refuse(&key(&n.to_string()), at(0)), None);
        }
        assert_eq!(rates.refuse(&key("new"), at(1)), None);
        assert_eq!(
            rates.refuse(&key("newer"), at(1)),
            Some(1),
            "both share a bucket"
        );
        assert_eq!(rates.refuse(&key("newer"), at(10 * SECOND)), None);
        assert_eq!(rates.full_at.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_ipv6_client_has_one_bucket_for_all_its_addresses() {
        let who = |text: &str| Who::address(text.parse().unwrap());
        assert_eq!(who("2001:db8::1"), who("2001:db8::ffff:2"));
        assert_ne!(who("2001:db8::1"), who("2001:db8:0:1::1"));
        assert_eq!(who("::ffff:10.0.0.1"), who("10.0.0.1"));
        assert_ne!(who("10.0.0.1"), who("10.0.0.2"));
    }

    #[test]
    fn no_limit_refuses_nobody() {
        let rates = Rates::new(0);
        assert!((0..1_000).all(|_| rates.refuse(&key("a"), at(0)).is_none()));
    }
}
