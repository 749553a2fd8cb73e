//! Keeps events in memory, for the tests of an application.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use trialog_model::event::EventKind;

use super::{Batch, Delivery, Transport};

/// Keeps events in memory, without a limit: for tests.
///
/// Clones share what they keep, so a test gives one to the client and reads the other.
#[derive(Debug, Clone, Default)]
pub struct MemoryTransport(Arc<Mutex<Vec<Value>>>);

impl MemoryTransport {
    /// Creates an empty transport.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes and returns the events that were sent since the last call, as JSON objects.
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transport for MemoryTransport {
    fn send(&mut self, _: EventKind, batch: &Batch, _: Duration) -> Delivery {
        let parsed = batch
            .events()
            .filter_map(|(_, line)| serde_json::from_slice(line).ok());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(parsed);
        Delivery::taken()
    }
}
