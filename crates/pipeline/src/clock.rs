//! Passes time as an argument: the process decides at its start which clock is read.

use std::sync::Arc;

use trialog_model::time::UnixMicros;

/// A function that returns the present time.
pub type Clock = Arc<dyn Fn() -> UnixMicros + Send + Sync>;
