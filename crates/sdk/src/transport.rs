//! Sends events to their destination.

mod file;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;

use std::ops::Range;
use std::time::Duration;

use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;

use crate::event::Event;

pub use file::FileTransport;
#[cfg(feature = "http")]
pub use http::HttpTransport;
#[cfg(feature = "http")]
pub(crate) use http::{agent, wait};
#[cfg(feature = "kafka")]
pub use kafka::KafkaTransport;
pub use memory::MemoryTransport;

/// Sends batches of events. The client calls it on its own thread, which may wait.
///
/// Delivery may repeat: every event carries an `event_id`, by which the analysis counts
/// it once.
pub trait Transport: Send {
    /// Sends `batch`, all of one kind, and gives up after `timeout`.
    fn send(&mut self, kind: EventKind, batch: &Batch, timeout: Duration) -> Delivery;
}

/// The outcome of sending a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It is taken, but for `n_refused` events that break a rule.
    Taken {
        /// Events that were refused for good.
        n_refused: u64,
        /// Why.
        reason: String,
    },
    /// It is too large: the client sends it in halves.
    TooLarge,
    /// It could not be sent now: the client tries again.
    Failed {
        /// Why.
        reason: String,
        /// How long to wait before the next attempt, if the receiver says so.
        wait: Option<Duration>,
    },
}

impl Delivery {
    /// Reports that the receiver accepted the whole batch.
    pub fn taken() -> Self {
        Self::Taken {
            n_refused: 0,
            reason: String::new(),
        }
    }

    /// Reports that the batch could not be sent now.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
            wait: None,
        }
    }
}

/// Events of one kind, as lines of JSON in the form that `POST /v1/events/…` takes.
#[derive(Debug, Default)]
pub struct Batch {
    lines: Vec<u8>,
    events: Vec<(ExperimentId, Range<usize>)>,
    /// The number of exposures whose context was too large.
    pub(crate) n_left_out: u64,
}

impl Batch {
    pub(crate) fn push(&mut self, event: &Event) {
        let start = self.lines.len();
        self.n_left_out += u64::from(event.write(&mut self.lines));
        let line = start..self.lines.len();
        self.events.push((event.experiment_id.clone(), line));
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns all events, one JSON object on each line.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Returns each event with its experiment, as one JSON object.
    pub fn events(&self) -> impl Iterator<Item = (&ExperimentId, &[u8])> {
        (self.events.iter())
            .map(|(experiment, line)| (experiment, &self.lines[line.start..line.end - 1]))
    }

    /// Splits the batch into two halves.
    pub(crate) fn halves(&self) -> [Self; 2] {
        let middle = self.events.len() / 2;
        let cut = self
            .events
            .get(middle)
            .map_or(self.lines.len(), |(_, line)| line.start);
        let moved = |(experiment, line): &(ExperimentId, Range<usize>)| {
            (experiment.clone(), line.start - cut..line.end - cut)
        };
        let first = Self {
            lines: self.lines[..cut].to_vec(),
            events: self.events[..middle].to_vec(),
            n_left_out: 0,
        };
        let second = Self {
            lines: self.lines[cut..].to_vec(),
            events: self.events[middle..].iter().map(moved).collect(),
            n_left_out: 0,
        };
        [first, second]
    }
}
