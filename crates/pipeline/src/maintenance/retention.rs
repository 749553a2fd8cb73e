//! Runs retention on request.

use super::{Maintenance, MaintenanceError};
use crate::retention::{NOT_EMBEDDED, retain};

pub use crate::retention::{Mode, RetentionReport};

impl Maintenance {
    /// Drops the events that are older than the settings allow.
    ///
    /// # Errors
    ///
    /// A file is damaged or cannot be written; the same call again goes on.
    pub fn retain(&self, mode: Mode) -> Result<RetentionReport, MaintenanceError> {
        let _turn = self.turn();
        let _running = self.aggregator.turn();
        retain(
            &self.catalog,
            self.files(NOT_EMBEDDED)?,
            self.aggregator.settings().keep(),
            (self.clock)(),
            mode,
        )
    }
}
