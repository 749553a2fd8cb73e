//! Holds the lease under which one of several processes aggregates.
//!
//! It is renewed while a run goes on, in a thread of its own. Where that does
//! not succeed in time, the run is abandoned; and should this process have been
//! paused past the end of its lease, the transaction that publishes finds
//! another epoch and publishes nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use trialog_catalog::lease::Lease;
use trialog_catalog::{Catalog, CatalogError};

use crate::clock::Clock;
use crate::error::PipelineError;

/// What the lease is for.
const NAME: &str = "aggregation";
/// How often a lease is renewed before it would end.
const RENEWALS: u32 = 3;

/// The holder and the length of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// What this process is called, for people.
    pub holder: String,
    /// The length of a lease without renewal, which is also how long a dead process prevents
    /// others from aggregating.
    pub length: Duration,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            holder: format!("process {}", std::process::id()),
            length: Duration::from_secs(30),
        }
    }
}

/// The lease while this process holds it.
pub(crate) struct HeldLease {
    lease: Lease,
    catalog: Arc<Catalog>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Set where a run is to end without publishing.
    abandoned: Arc<AtomicBool>,
    lost: AtomicBool,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl HeldLease {
    /// Acquires the lease and renews it until it is released. Runs are abandoned if it is lost or
    /// `stopping` is set.
    pub(crate) fn acquire(
        catalog: Arc<Catalog>,
        clock: Clock,
        settings: &LeaseSettings,
        stopping: Arc<AtomicBool>,
    ) -> Result<Self, PipelineError> {
        let length = i64::try_from(settings.length.as_micros()).unwrap_or(i64::MAX / 4);
        let taken = catalog.acquire_lease(NAME, &settings.holder, length, clock())?;
        let lease = taken.map_err(|held| PipelineError::Held {
            holder: held.holder,
            until: held.expires_at,
        })?;
        let shared = Arc::new(Shared {
            abandoned: Arc::new(AtomicBool::new(false)),
            lost: AtomicBool::new(false),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        });
        let renewing = Renewing {
            lease: lease.clone(),
            catalog: Arc::clone(&catalog),
            clock,
            length,
            every: settings.length / RENEWALS,
            stopping,
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || renewing.run())
            .map_err(|error| CatalogError::Thread(error.to_string()))?;
        Ok(Self {
            lease,
            catalog,
            shared,
            thread: Some(thread),
        })
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Returns the flag that is set when a run under this lease must end without publishing.
    pub(crate) fn abandoned(&self) -> &Arc<AtomicBool> {
        &self.shared.abandoned
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::Acquire)
    }

    /// Builds the error for a lost lease.
    pub(crate) fn lost(&self) -> CatalogError {
        CatalogError::LeaseLost {
            name: self.lease.name.clone(),
        }
    }

    /// Releases the lease.
    pub(crate) fn release(mut self) {
        self.stop();
        if let Err(error) = self.catalog.release_lease(&self.lease) {
            // It ends by itself a little later.
            tracing::warn!("could not give back the lease for aggregation: {error}");
        }
    }

    fn stop(&mut self) {
        *self
            .shared
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was logged where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Renewing {
    lease: Lease,
    catalog: Arc<Catalog>,
    clock: Clock,
    length: i64,
    every: Duration,
    stopping: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Renewing {
    fn run(&self) {
        let mut n_failed = 0;
        // Looks at `stopping` more often than it renews.
        let look = (self.every / 20).max(Duration::from_millis(5));
        let mut since_renewal = Duration::ZERO;
        while !self.wait(look) {
            if self.stopping.load(Ordering::Relaxed) {
                self.shared.abandoned.store(true, Ordering::Relaxed);
            }
            since_renewal += look;
            if since_renewal < self.every {
                continue;
            }
            since_renewal = Duration::ZERO;
            match self
                .catalog
                .renew_lease(&self.lease, self.length, (self.clock)())
            {
                Ok(true) => n_failed = 0,
                Ok(false) => return self.lose(),
                Err(error) => {
                    n_failed += 1;
                    tracing::warn!("could not renew the lease for aggregation: {error}");
                    if n_failed >= RENEWALS {
                        return self.lose();
                    }
                }
            }
        }
    }

    fn lose(&self) {
        self.shared.lost.store(true, Ordering::Release);
        self.shared.abandoned.store(true, Ordering::Relaxed);
    }

    /// Waits for `length`; true as soon as the lease is ended.
    fn wait(&self, length: Duration) -> bool {
        let guard = self
            .shared
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(guard, length, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
