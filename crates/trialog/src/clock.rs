//! The one place of the process where the clock is read.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use trialog_model::time::UnixMicros;
use trialog_pipeline::clock::Clock;

/// The system's clock.
pub(crate) fn system() -> Clock {
    Arc::new(now)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the clock is read"
)]
pub(crate) fn now() -> UnixMicros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMicros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
