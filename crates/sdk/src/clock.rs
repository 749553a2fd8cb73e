//! The one place that reads a clock.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use trialog_model::time::UnixMicros;

/// The time that events carry; see [`crate::Builder::clock`].
pub type Clock = Arc<dyn Fn() -> UnixMicros + Send + Sync>;

/// The system's clock. It may jump; nothing but the time of events depends on it.
pub(crate) fn system() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        let now = SystemTime::now();
        let micros = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        UnixMicros(i64::try_from(micros).unwrap_or(i64::MAX))
    })
}

/// A clock that never goes back, for waits and deadlines.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
