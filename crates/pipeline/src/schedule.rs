//! Schedules runs: at an interval, and again after a failure, with growing pauses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::aggregation::{Aggregator, RunReport, Scope};
use crate::error::PipelineError;
use crate::retry::{Attempts, Retry};

/// The cause of a run that the schedule started.
pub const SCHEDULE: &str = "schedule";
/// How often one of several processes looks whether a run is due.
const LOOK: Duration = Duration::from_secs(5);

/// Retries a run until it succeeds or `retry` allows no more attempts; `pause` waits and returns
/// whether to go on.
///
/// # Errors
///
/// The error of the last attempt.
pub fn run_with_retries(
    aggregator: &Aggregator,
    cause: &str,
    scope: Scope,
    retry: &Retry,
    random: &mut fastrand::Rng,
    mut pause: impl FnMut(Duration) -> bool,
) -> Result<RunReport, PipelineError> {
    let mut pause = |failed: u32, error: &PipelineError| {
        // Then it is that process's turn; the schedule looks again.
        if matches!(error, PipelineError::Held { .. }) && cause == SCHEDULE {
            return false;
        }
        let attempt = failed + 1;
        let wait = retry.wait(attempt, random);
        if attempt > retry.attempts || !pause(wait) {
            return false;
        }
        let wait_ms = wait.as_millis() as u64;
        tracing::warn!(attempt, wait_ms, "retrying the run");
        true
    };
    Attempts::new(&mut pause).retry(|attempt| aggregator.run(cause, attempt, scope))
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

    /// Returns a handle that stops the schedule.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }
}

/// What is to be done next.
enum Turn {
    Run,
    Wait(Duration),
}

/// Checks whether a run is due. Each of several processes checks at short intervals, so that it
/// does not matter which of them runs, and any can replace one that died.
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

/// A handle that stops a schedule from starting further runs.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<(Mutex<bool>, Condvar)>);

impl Stopper {
    /// Stops the schedule without waiting for a run under way.
    pub fn stop(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

/// Waits for `length`; false as soon as the schedule is stopped.
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
