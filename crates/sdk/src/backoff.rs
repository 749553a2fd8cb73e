//! Computes how long to wait after a failure.

use std::time::Duration;

/// Doubles the wait from `first` to `most`, and draws from the upper half of it, so that clients
/// do not retry all at the same moment.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    n_failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            n_failures: 0,
        }
    }

    /// Returns the wait after one more failure; never shorter than the server requested, up to an
    /// hour.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.n_failures.min(20));
        self.n_failures = self.n_failures.saturating_add(1);
        let wait = doubled.min(self.most).mul_f64(0.5 + fastrand::f64() / 2.0);
        let asked = asked.unwrap_or_default().min(Duration::from_secs(3_600));
        wait.max(asked)
    }

    pub(crate) fn reset(&mut self) {
        self.n_failures = 0;
    }
}

/// Returns `interval` a tenth longer or shorter.
pub(crate) fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + fastrand::f64() / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        for longest in [1, 2, 4, 8, 8, 8] {
            let longest = Duration::from_secs(longest);
            let wait = backoff.next(None);
            assert!(wait >= longest / 2 && wait <= longest, "{wait:?}");
        }
        assert!(backoff.next(Some(Duration::from_secs(20))) >= Duration::from_secs(20));
        assert!(backoff.next(Some(Duration::MAX)) <= Duration::from_secs(3_600));
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_secs(1));
    }
}
