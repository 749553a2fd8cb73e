//! Notifies the host of what happens in the client.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use trialog_model::event::EventKind;

/// Receives notifications of what the client's threads do, to feed the host's metrics and logs.
///
/// Called on the client's threads, never within a call of the application; a panic in it
/// is caught. Totals are in [`crate::Client::counters`] as well.
pub trait Observer: Send + Sync {
    /// The transport took `n_events` after `took`.
    fn delivered(&self, kind: EventKind, n_events: u64, took: Duration) {
        let _ = (kind, n_events, took);
    }

    /// The transport refused `n_events` for good: they are dropped.
    fn refused(&self, kind: EventKind, n_events: u64, reason: &str) {
        let _ = (kind, n_events, reason);
    }

    /// An attempt to send `n_events` failed; the next one comes after `wait`.
    fn retrying(&self, kind: EventKind, n_events: u64, wait: Duration, reason: &str) {
        let _ = (kind, n_events, wait, reason);
    }

    /// A configuration with so many experiments was taken over.
    fn configured(&self, n_experiments: usize) {
        let _ = n_experiments;
    }

    /// Something about the configuration went wrong: it could not be fetched, or a part
    /// of it could not be read, or its copy on the disk not be written. The one before
    /// stays.
    fn configuration_failed(&self, reason: &str) {
        let _ = reason;
    }
}

/// Notifies the host's observer, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Notifier(pub(crate) Option<Arc<dyn Observer>>);

impl Notifier {
    /// Calls the observer and survives its panics.
    pub(crate) fn notify(&self, what: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.0 {
            // It panicked: its message went to the host's panic hook.
            let _ = catch_unwind(AssertUnwindSafe(|| what(observer.as_ref())));
        }
    }
}
