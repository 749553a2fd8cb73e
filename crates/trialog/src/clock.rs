//! Reads the clock: the only clock reader of this crate.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use trialog_model::time::UnixMicros;
use trialog_pipeline::clock::Clock;

/// The last second of the year 9999: no text of a time has room for a later one.
const LAST: UnixMicros = UnixMicros(253_402_300_799_000_000);

/// Returns the system's clock, limited to the years 1970 to 9999.
pub(crate) fn system() -> Clock {
    Arc::new(now)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only clock reader of this crate"
)]
pub(crate) fn now() -> UnixMicros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMicros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).min(LAST)
}
