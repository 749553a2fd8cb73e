//! Buffers the messages of a partition until they are sent to the warehouse.

use std::time::{Duration, Instant};

use trialog_model::event::{EventKind, Rules};
use trialog_model::time::UnixMicros;
use trialog_model::user_id::position_fingerprint;
use trialog_model::wire::{Layout, decode};
use trialog_warehouse::batch::Batch;

/// A message with content that is not an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeadLetter {
    pub(super) offset: i64,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) field: String,
    pub(super) reason: String,
}

/// The messages of a partition since the last batch.
pub(super) struct Buffer {
    pub(super) batch: Batch,
    pub(super) dead_letters: Vec<DeadLetter>,
    dead_bytes: usize,
    /// The offset after the last message.
    pub(super) next_offset: i64,
    pub(super) n_messages: u64,
    since: Option<Instant>,
    allows_placeholder_ids: bool,
}

impl Buffer {
    pub(super) fn new(kind: EventKind, allows_placeholder_ids: bool) -> Self {
        Self {
            allows_placeholder_ids,
            batch: Batch::new(kind),
            dead_letters: Vec::new(),
            dead_bytes: 0,
            next_offset: 0,
            n_messages: 0,
            since: None,
        }
    }

    /// Creates an empty buffer for the same kind of events.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.batch.kind(), self.allows_placeholder_ids)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_messages == 0
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.batch.size_bytes() + self.dead_bytes
    }

    /// Returns how long the first message has waited.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Adds a message. `source` names its partition.
    pub(super) fn add(&mut self, source: &str, message: Message<'_>, now: Instant) {
        let Message {
            offset,
            key,
            payload,
            received_at,
        } = message;
        self.since.get_or_insert(now);
        self.next_offset = offset + 1;
        self.n_messages += 1;
        let mut refused: Option<(String, String)> = None;
        let rules = Rules {
            allows_placeholder_ids: self.allows_placeholder_ids,
            ..received_at.into()
        };
        let batch = &mut self.batch;
        let read = decode(
            batch.kind(),
            payload,
            Layout::Detect,
            rules,
            |index, event| match event {
                Ok(event) => {
                    let id = (event.event_id).unwrap_or_else(|| {
                        position_fingerprint(source, offset.unsigned_abs(), index)
                    });
                    batch.push_event(&event, id);
                }
                Err(error) => {
                    refused.get_or_insert((error.field.to_owned(), error.reason));
                }
            },
        );
        if let Err(error) = read {
            refused = Some(("message".to_owned(), error.to_string()));
        }
        if let Some((field, reason)) = refused {
            self.dead_bytes += key.len() + payload.len() + 256;
            self.dead_letters.push(DeadLetter {
                offset,
                key: key.to_vec(),
                payload: payload.to_vec(),
                field,
                reason,
            });
        }
    }
}

/// A message as it was received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'m> {
    pub(super) offset: i64,
    pub(super) key: &'m [u8],
    pub(super) payload: &'m [u8],
    /// The time at which it was written, so that a message that is read again is validated with
    /// the same time.
    pub(super) received_at: UnixMicros,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_760_000_000_000_000);

    fn message(offset: i64, payload: &[u8]) -> Message<'_> {
        Message {
            offset,
            key: b"gate",
            payload,
            received_at: NOW,
        }
    }

    #[test]
    fn poison_becomes_a_dead_letter_and_the_others_are_kept() {
        let mut buffer = Buffer::new(EventKind::Metric, false);
        let now = Instant::now();
        let good =
            br#"{"user_id":1,"experiment_id":"gate","event_type":"buy","timestamp":1700000000000}"#;
        let poison: [&[u8]; 5] = [b"", b"\xff\xfe", b"nonsense", br#"{"user_id":1}"#, br#"[1"#];
        for (offset, payload) in (10..).zip([good.as_slice()].into_iter().chain(poison)) {
            buffer.add("kafka:m/0", message(offset, payload), now);
        }
        assert_eq!(
            (
                buffer.batch.len(),
                buffer.dead_letters.len(),
                buffer.next_offset
            ),
            (1, 5, 16)
        );
        assert!(
            buffer
                .dead_letters
                .iter()
                .all(|letter| !letter.reason.is_empty())
        );
        assert_eq!(buffer.dead_letters[3].field, "experiment_id");
    }

    #[test]
    fn an_event_without_an_id_has_one_of_its_place() {
        let payload =
            br#"{"user_id":1,"experiment_id":"gate","event_type":"buy","timestamp":1700000000000}"#;
        let id = |source: &str, offset| {
            let mut buffer = Buffer::new(EventKind::Metric, false);
            buffer.add(source, message(offset, payload), Instant::now());
            buffer.batch.row(0).event_id
        };
        assert_eq!(id("kafka:m/0", 7), id("kafka:m/0", 7));
        assert_ne!(id("kafka:m/0", 7), id("kafka:m/0", 8));
        assert_ne!(id("kafka:m/0", 7), id("kafka:m/1", 7));
    }
}
