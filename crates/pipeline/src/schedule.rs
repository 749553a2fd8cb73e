//! Runs in time: at an interval, and again after a failure, later each time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::aggregation::{Aggregator, RunReport, Scope};
use crate::error::PipelineError;

/// What started a run of the schedule.
pub const SCHEDULE: &str = "schedule";
/// How often one of several processes looks whether a run is due.
const LOOK: Duration = Duration::from_secs(5);

/// How what failed is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// Tries in a row, the first one included.
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
    /// How events that could not be stored are tried again; who stores them says how often.
    #[cfg(any(feature = "clickhouse", feature = "kafka"))]
    pub(crate) const OF_STORING: Self = Self {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(5),
        attempts: u32::MAX,
    };

    /// The wait before try number `attempt` (from 2): doubled each time, at
    /// most `longest`, of which a random half is taken off, so that many
    /// processes do not try at the same moment.
    pub fn wait(&self, attempt: u32, random: &mut fastrand::Rng) -> Duration {
        let doubled = self
            .first
            .saturating_mul(2u32.saturating_pow(attempt.saturating_sub(2)));
        doubled.min(self.longest).mul_f64(0.5 + random.f64() / 2.0)
    }
}

/// Tries to run until one try succeeds; `pause` waits and tells whether to go on.
///
/// # Errors
///
/// The last try's error.
pub fn run_with_retries(
    aggregator: &Aggregator,
    cause: &str,
    scope: Scope,
    retry: &Retry,
    random: &mut fastrand::Rng,
    mut pause: impl FnMut(Duration) -> bool,
) -> Result<RunReport, PipelineError> {
    let mut attempt = 1;
    loop {
        match aggregator.run(cause, attempt, scope) {
            // Then it is that process's turn; the schedule looks again.
            Err(error @ PipelineError::Held { .. }) if cause == SCHEDULE => return Err(error),
            Err(error) => {
                attempt += 1;
                let wait = retry.wait(attempt, random);
                if attempt > retry.attempts || !pause(wait) {
                    return Err(error);
                }
                tracing::warn!(
                    attempt,
                    wait_ms = wait.as_millis() as u64,
                    "trying the run again"
                );
            }
            report => return report,
        }
    }
}

/// Runs the aggregation at an interval, in a thread of its own.
pub struct Scheduler {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Scheduler {
    /// Starts with a run at once, then one every `interval`.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn start(
        aggregator: Arc<Aggregator>,
        interval: Duration,
        retry: Retry,
        mut random: fastrand::Rng,
    ) -> std::io::Result<Self> {
        let stop: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("scheduler".to_owned())
            .spawn(move || {
                let pause = |length| wait(&stopped, length);
                loop {
                    match turn(&aggregator, interval) {
                        Turn::Wait(length) if pause(length) => continue,
                        Turn::Wait(_) => return,
                        Turn::Run => {}
                    }
                    let run = || {
                        run_with_retries(
                            &aggregator,
                            SCHEDULE,
                            Scope::Touched,
                            &retry,
                            &mut random,
                            pause,
                        )
                    };
                    // A failed try is in the history and the log; the next interval tries anew.
                    let ended = catch_unwind(AssertUnwindSafe(run));
                    let next = match &ended {
                        // When that one is due depends on what others publish meanwhile.
                        Ok(Ok(_)) if aggregator.is_one_of_many() => Duration::ZERO,
                        Ok(Err(PipelineError::Held { .. })) => LOOK.min(interval),
                        Ok(_) => interval,
                        Err(_) => {
                            tracing::error!(
                                "a run ended in a panic; the next one starts as scheduled"
                            );
                            interval
                        }
                    };
                    if !pause(next) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// What ends the schedule from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }
}

/// What is to be done next.
enum Turn {
    Run,
    Wait(Duration),
}

/// Of several processes each looks at short intervals whether a run is due, so that it does not
/// matter which of them makes it, and any takes over from one that died.
fn turn(aggregator: &Aggregator, interval: Duration) -> Turn {
    if !aggregator.is_one_of_many() {
        return Turn::Run;
    }
    match aggregator.wait_until_due(interval) {
        Ok(Duration::ZERO) => Turn::Run,
        Ok(length) => Turn::Wait(length.min(LOOK)),
        Err(error) => {
            tracing::warn!("cannot tell when the next run is due: {error}");
            Turn::Wait(LOOK)
        }
    }
}

/// Lets a schedule start no further run.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<(Mutex<bool>, Condvar)>);

impl Stopper {
    /// Returns at once; a run under way goes on.
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

/// Waits for `length`; false as soon as it is time to stop.
fn wait((stop, changed): &(Mutex<bool>, Condvar), length: Duration) -> bool {
    let guard = stop.lock().unwrap_or_else(PoisonError::into_inner);
    let (stop, _) = changed
        .wait_timeout_while(guard, length, |stop| !*stop)
        .unwrap_or_else(PoisonError::into_inner);
    !*stop
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stopper().stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was logged where it happened.
            let _ = thread.join();
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
}
