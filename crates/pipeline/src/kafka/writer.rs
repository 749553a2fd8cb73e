//! Stores what a consumer has read, in a thread of its own while the consumer goes on polling.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use trialog_catalog::CatalogError;
use trialog_catalog::journal::Claim;

use super::buffer::{Buffer, DeadLetter};
use super::lag::{ConsumerMetrics, of_topic};
use super::{KafkaAddress, failed};
use crate::clock::Clock;
use crate::error::PipelineError;
use crate::retry::{Attempts, Retry};
use crate::store::Store;

/// How often a wait looks whether it has become pointless.
const LOOK: Duration = Duration::from_millis(50);
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(30);

/// A partition while it is assigned to this consumer. Each assignment has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Assigned {
    pub(super) partition: i32,
    pub(super) generation: u64,
}

/// A task of the writer.
pub(super) enum Work {
    /// Claim the partition, which ends at the offset `end`.
    Open { assigned: Assigned, end: i64 },
    /// Store what was read of it.
    Store {
        assigned: Assigned,
        buffer: Box<Buffer>,
    },
}

/// The outcome of a task.
pub(super) enum Report {
    /// The partition is claimed; what lies before `position` is stored already.
    Opened {
        assigned: Assigned,
        source: String,
        position: i64,
    },
    /// What was read up to `next_offset` is stored.
    Stored {
        assigned: Assigned,
        next_offset: i64,
        n_bytes: usize,
    },
    /// It was not stored, and is left to the present owner of the partition. Where that is this
    /// consumer after all, it has to claim the partition again.
    Left { assigned: Assigned, n_bytes: usize },
}

/// The current assignments by partition.
pub(super) type Assignments = Arc<Mutex<HashMap<i32, u64>>>;

pub(super) struct Writer {
    pub(super) topic: String,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<ConsumerMetrics>,
    pub(super) assignments: Assignments,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) reports: Sender<Report>,
    pub(super) dead_letters: DeadLetters,
}

impl Writer {
    /// Handles tasks until all senders are gone.
    pub(super) fn run(&self, work: &Receiver<Work>) {
        let mut claims: HashMap<Assigned, Claim> = HashMap::new();
        let mut random = fastrand::Rng::new();
        while let Ok(work) = work.recv() {
            claims.retain(|assigned, _| self.is_assigned(*assigned));
            match work {
                Work::Open { assigned, end } => self.open(assigned, end, &mut claims, &mut random),
                Work::Store { assigned, buffer } => {
                    self.store(assigned, &buffer, &claims, &mut random)
                }
            }
        }
    }

    fn is_assigned(&self, assigned: Assigned) -> bool {
        let assignments = self
            .assignments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assignments.get(&assigned.partition) == Some(&assigned.generation)
    }

    fn open(
        &self,
        assigned: Assigned,
        end: i64,
        claims: &mut HashMap<Assigned, Claim>,
        random: &mut fastrand::Rng,
    ) {
        let mut pause =
            |attempt: u32, error: &PipelineError| self.pause(assigned, attempt, error, random);
        let claimed = Attempts::new(&mut pause).retry(|_| self.claim(assigned.partition, end));
        if let Ok(claim) = claimed {
            let report = Report::Opened {
                assigned,
                source: claim.source.clone(),
                position: claim.position.unwrap_or(0),
            };
            claims.insert(assigned, claim);
            // Without a consumer there is nobody to tell.
            let _ = self.reports.send(report);
        }
    }

    /// Claims a partition. Where more of it has been stored than there is, it was made anew, and
    /// counts as another source.
    fn claim(&self, partition: i32, end: i64) -> Result<Claim, PipelineError> {
        for making in 1u32.. {
            let source = match making {
                1 => format!("kafka:{}/{partition}", self.topic),
                again => format!("kafka:{}/{partition}~{again}", self.topic),
            };
            let claim = self.store.claim(&source)?;
            if claim.position.is_none_or(|position| position <= end) {
                return Ok(claim);
            }
            tracing::warn!(
                source,
                end,
                "more of this partition has been stored than there is: it was made anew and is read from its start"
            );
        }
        unreachable!("a partition is not made anew that often")
    }

    fn store(
        &self,
        assigned: Assigned,
        buffer: &Buffer,
        claims: &HashMap<Assigned, Claim>,
        random: &mut fastrand::Rng,
    ) {
        let n_bytes = buffer.size_bytes();
        let stored = match claims.get(&assigned) {
            Some(claim) => self.store_claimed(assigned, claim, buffer, random),
            None => Err(PipelineError::Stopping),
        };
        let report = match stored {
            Ok(()) => {
                let topic = of_topic(&self.topic);
                self.metrics
                    .stored
                    .get_or_create(&topic)
                    .inc_by(buffer.n_messages);
                self.metrics.batches.get_or_create(&topic).inc();
                Report::Stored {
                    assigned,
                    next_offset: buffer.next_offset,
                    n_bytes,
                }
            }
            Err(error) => {
                let topic = &self.topic;
                tracing::warn!(
                    topic,
                    partition = assigned.partition,
                    "left a batch to another consumer: {error}"
                );
                Report::Left { assigned, n_bytes }
            }
        };
        // Without a consumer there is nobody to tell.
        let _ = self.reports.send(report);
    }

    fn store_claimed(
        &self,
        assigned: Assigned,
        claim: &Claim,
        buffer: &Buffer,
        random: &mut fastrand::Rng,
    ) -> Result<(), PipelineError> {
        // Permanent errors are retried too, because an operator may fix the cause.
        let mut pause =
            |attempt: u32, error: &PipelineError| self.pause(assigned, attempt, error, random);
        let mut attempts = Attempts::new(&mut pause);
        if !buffer.dead_letters.is_empty() {
            // Before their offsets count as read. Delivered at least once: duplicates are
            // possible, loss is not.
            attempts.retry(|_| {
                self.dead_letters
                    .send(&self.topic, assigned.partition, &buffer.dead_letters)
            })?;
            let topic = of_topic(&self.topic);
            let n_dead = buffer.dead_letters.len() as u64;
            self.metrics
                .dead_letters
                .get_or_create(&topic)
                .inc_by(n_dead);
        }
        let (position, now) = (buffer.next_offset, (self.clock)());
        self.store
            .write(claim, &buffer.batch, position, now, &mut attempts)
    }

    /// Waits before another attempt, of which there are any number. Returns false where one is
    /// pointless: the partition is another consumer's, or this process ends.
    fn pause(
        &self,
        assigned: Assigned,
        attempt: u32,
        error: &PipelineError,
        random: &mut fastrand::Rng,
    ) -> bool {
        if matches!(
            error,
            PipelineError::Catalog(CatalogError::SourceLost { .. })
        ) {
            return false;
        }
        self.metrics
            .retries
            .get_or_create(&of_topic(&self.topic))
            .inc();
        let wait = Retry::OF_STORING.wait(attempt + 1, random);
        tracing::warn!(
            topic = self.topic,
            partition = assigned.partition,
            attempt,
            wait_ms = wait.as_millis() as u64,
            "events wait in Kafka: {error}"
        );
        let mut left = wait;
        loop {
            if self.stopping.load(Ordering::Acquire) || !self.is_assigned(assigned) {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            let slice = left.min(LOOK);
            std::thread::sleep(slice);
            left -= slice;
        }
    }
}

/// Produces dead letters.
pub(super) struct DeadLetters {
    producer: ThreadedProducer<Failures>,
    address: KafkaAddress,
}

/// Counts those that did not arrive.
#[derive(Default)]
struct Failures(Mutex<Option<rdkafka::error::KafkaError>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        }
    }
}

impl DeadLetters {
    pub(super) fn new(address: &KafkaAddress) -> Result<Self, PipelineError> {
        let settings = [("enable.idempotence", "true"), ("acks", "all")];
        let producer = address
            .config(&settings)
            .create_with_context(Failures::default());
        Ok(Self {
            producer: producer.map_err(|error| failed("make a producer", address, &error))?,
            address: address.clone(),
        })
    }

    /// Sends `letters`, and waits until they are durable.
    fn send(
        &self,
        topic: &str,
        partition: i32,
        letters: &[DeadLetter],
    ) -> Result<(), PipelineError> {
        let wrong =
            |error: &rdkafka::error::KafkaError| failed("write dead letters", &self.address, error);
        for letter in letters {
            let offset = letter.offset.to_string();
            let partition = partition.to_string();
            let headers = [
                ("reason", letter.reason.as_str()),
                ("field", &letter.field),
                ("topic", topic),
                ("partition", &partition),
                ("offset", &offset),
            ];
            let headers = headers
                .into_iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: Some(value),
                    })
                });
            let record = BaseRecord::to(&self.address.topics().dead_letters)
                .key(&letter.key)
                .payload(&letter.payload)
                .headers(headers);
            self.producer
                .send(record)
                .map_err(|(error, _)| wrong(&error))?;
        }
        self.producer
            .flush(DEAD_LETTER_TIMEOUT)
            .map_err(|error| wrong(&error))?;
        let failure = (self
            .producer
            .context()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
        .take();
        failure.map_or(Ok(()), |error| Err(wrong(&error)))
    }
}
