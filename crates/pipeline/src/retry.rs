//! Retries work: pauses between attempts, and counts all attempts of a piece of work.

use std::time::Duration;

use crate::error::PipelineError;

/// The policy for retrying failed work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// Attempts in a row, the first one included.
    pub attempts: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            attempts: 5,
        }
    }
}

impl Retry {
    /// The policy for storing events. The caller chooses the number of attempts.
    #[cfg(any(feature = "clickhouse", feature = "kafka"))]
    pub(crate) const OF_STORING: Self = Self {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(5),
        attempts: u32::MAX,
    };

    /// Computes the wait before attempt number `attempt` (from 2): doubled each time, at most
    /// `longest`, of which a random half is taken off, so that many processes do not retry at
    /// the same moment.
    pub fn wait(&self, attempt: u32, random: &mut fastrand::Rng) -> Duration {
        let doubled = self
            .first
            .saturating_mul(2u32.saturating_pow(attempt.saturating_sub(2)));
        doubled.min(self.longest).mul_f64(0.5 + random.f64() / 2.0)
    }
}

/// Counts the attempts of one piece of work, whichever of its steps they are for.
pub(crate) struct Attempts<'a> {
    number: u32,
    /// Waits after a failed attempt, of which it gets the number; false where there is to be no
    /// other.
    pause: &'a mut dyn FnMut(u32, &PipelineError) -> bool,
}

impl<'a> Attempts<'a> {
    /// Starts with attempt 1. `pause` waits after each failure and returns whether to go on.
    pub(crate) fn new(pause: &'a mut dyn FnMut(u32, &PipelineError) -> bool) -> Self {
        Self { number: 1, pause }
    }

    /// Retries `step`, which receives the number of the attempt, until it succeeds or `pause`
    /// returns false.
    pub(crate) fn retry<T>(
        &mut self,
        mut step: impl FnMut(u32) -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        loop {
            match step(self.number) {
                Err(error) if (self.pause)(self.number, &error) => self.number += 1,
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_vary_by_half() {
        let retry = Retry {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(10),
            attempts: 9,
        };
        let mut random = fastrand::Rng::with_seed(1);
        for (attempt, full) in [(2, 1), (3, 2), (4, 4), (5, 8), (6, 10), (40, 10)] {
            for _ in 0..100 {
                let wait = retry.wait(attempt, &mut random).as_secs_f64();
                assert!(
                    (f64::from(full) / 2.0..=f64::from(full)).contains(&wait),
                    "{attempt}: {wait}"
                );
            }
        }
    }

    #[test]
    fn the_attempts_of_all_steps_are_counted_together() {
        let mut failures = Vec::new();
        let mut pause = |attempt: u32, _: &PipelineError| {
            failures.push(attempt);
            attempt < 4
        };
        let mut attempts = Attempts::new(&mut pause);
        let busy = || PipelineError::Busy("full".to_owned());
        let first = attempts.retry(|attempt| match attempt {
            3 => Ok(attempt),
            _ => Err(busy()),
        });
        assert_eq!(first.unwrap(), 3);
        assert!(attempts.retry(|_| Err::<(), _>(busy())).is_err());
        assert_eq!(failures, [1, 2, 3, 4]);
    }
}
