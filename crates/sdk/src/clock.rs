//! Reads clocks: the only clock reader of this crate.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use trialog_model::time::UnixMicros;

/// A function that returns the time for events; see [`crate::Builder::clock`].
pub type Clock = Arc<dyn Fn() -> UnixMicros + Send + Sync>;

/// Returns the system's clock. It may jump; only the times of events depend on it.
pub(crate) fn system() -> Clock {
    Arc::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only clock reader of this crate"
        )]
        let now = SystemTime::now();
        let micros = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        UnixMicros(i64::try_from(micros).unwrap_or(i64::MAX))
    })
}

/// Returns the time of a monotonic clock, for waits and deadlines.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
