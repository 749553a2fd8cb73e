//! Time as an argument: who reads the clock is decided where the process starts.

use std::sync::Arc;

use trialog_model::time::UnixMicros;

/// Gives the present time whenever it is asked.
pub type Clock = Arc<dyn Fn() -> UnixMicros + Send + Sync>;
