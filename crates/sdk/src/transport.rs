//! Where events go.

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

/// Takes batches of events; called on the client's own thread, which may wait.
///
/// Delivery may repeat: every event carries an `event_id`, by which the analysis counts
/// it once.
pub trait Transport: Send {
    /// Sends `batch`, all of one kind, and gives up after `timeout`.
    fn send(&mut self, kind: EventKind, batch: &Batch, timeout: Duration) -> Delivery;
}

/// What became of a batch.
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
        /// How long to wait, where the other side says so.
        wait: Option<Duration>,
    },
}

impl Delivery {
    /// All of it is taken.
    pub fn taken() -> Self {
        Self::Taken {
            n_refused: 0,
            reason: String::new(),
        }
    }

    /// It could not be sent now.
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
    /// Exposures whose context was too large.
    pub(crate) n_left_out: u64,
}

impl Batch {
    pub(crate) fn push(&mut self, event: &Event) {
        let start = self.lines.len();
        self.n_left_out += u64::from(event.write(&mut self.lines));
        let line = start..self.lines.len();
        self.events.push((event.experiment_id.clone(), line));
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// All of them, one JSON object on each line.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Each with its experiment, as one JSON object.
    pub fn events(&self) -> impl Iterator<Item = (&ExperimentId, &[u8])> {
        (self.events.iter())
            .map(|(experiment, line)| (experiment, &self.lines[line.start..line.end - 1]))
    }

    /// The first and the second half.
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
