//! Produces events to the topics, and replies to senders after the brokers did.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use trialog_warehouse::WarehouseError;
use trialog_warehouse::embedded::{Refused, Reply, Submission};

use super::{KafkaAddress, failed, message, remedy};
use crate::error::PipelineError;

/// The maximum number of bytes of events that wait for the brokers. Beyond it, senders must retry.
const QUEUE_BYTES: usize = 64 << 20;
/// How long what waits is given when this process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Idempotent, and acknowledged by all replicas that are in sync.
const SETTINGS: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("message.timeout.ms", "20000"),
    // Our own limit comes first: each request is taken whole or not at all.
    ("queue.buffering.max.messages", "10000000"),
    ("queue.buffering.max.kbytes", "2097151"),
];

/// Produces events to their topics.
pub struct Producer {
    producer: ThreadedProducer<Deliveries>,
    address: KafkaAddress,
    queued_bytes: Arc<AtomicUsize>,
    keeps_user_texts: bool,
}

/// A submission whose messages are on their way.
struct Pending {
    n_left: AtomicUsize,
    n_bytes: usize,
    queued_bytes: Arc<AtomicUsize>,
    place: String,
    failure: Mutex<Option<String>>,
    reply: Mutex<Option<Reply>>,
}

impl Pending {
    fn fail(&self, reason: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(reason);
    }

    /// Counts a message that was delivered, or failed. The last one triggers the reply to the
    /// sender.
    fn end_one(&self) {
        if self.n_left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        self.queued_bytes.fetch_sub(self.n_bytes, Ordering::AcqRel);
        let failure = (self.failure.lock().unwrap_or_else(PoisonError::into_inner)).take();
        let outcome = match failure {
            None => Ok(()),
            Some(what) => Err(Arc::new(WarehouseError::Server {
                action: "store events",
                place: self.place.clone(),
                what,
                is_transient: true,
            })),
        };
        let reply = (self.reply.lock().unwrap_or_else(PoisonError::into_inner)).take();
        if let Some(reply) = reply {
            reply(outcome);
        }
    }
}

/// Takes the reports of delivery.
struct Deliveries;

impl ClientContext for Deliveries {
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::warn!("the event log: {error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Arc<Pending>) {
        if let Err((error, _)) = result {
            let remedy = error
                .rdkafka_error_code()
                .and_then(remedy)
                .unwrap_or("send these events again shortly");
            pending.fail(format!("{error}; {remedy}"));
        }
        pending.end_one();
    }
}

impl Producer {
    /// Creates a producer for the topics at `address`.
    ///
    /// # Errors
    ///
    /// librdkafka refuses a setting.
    pub fn new(address: &KafkaAddress) -> Result<Self, PipelineError> {
        let producer = address.config(SETTINGS).create_with_context(Deliveries);
        Ok(Self {
            producer: producer.map_err(|error| failed("make a producer", address, &error))?,
            address: address.clone(),
            queued_bytes: Arc::default(),
            keeps_user_texts: true,
        })
    }

    /// Makes the producer send users that are texts as their numbers.
    #[must_use]
    pub fn without_user_texts(self) -> Self {
        Self {
            keeps_user_texts: false,
            ..self
        }
    }

    /// Returns the address of the cluster.
    pub fn address(&self) -> &KafkaAddress {
        &self.address
    }

    /// Sends the events of `submission`; its reply is called once all of them are durable, or
    /// one of them could not be made so.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Refused> {
        let mut batch = submission.batch;
        if !self.keeps_user_texts {
            batch.drop_user_texts();
        }
        let n_bytes = batch.size_bytes();
        let queued = self.queued_bytes.fetch_add(n_bytes, Ordering::AcqRel);
        if queued > 0 && queued + n_bytes > QUEUE_BYTES {
            self.queued_bytes.fetch_sub(n_bytes, Ordering::AcqRel);
            return Err(Refused::Full);
        }
        let pending = Arc::new(Pending {
            // One more, so that the sender gets no reply before the last message was passed on.
            n_left: AtomicUsize::new(batch.len() + 1),
            n_bytes,
            queued_bytes: Arc::clone(&self.queued_bytes),
            place: self.address.to_string(),
            failure: Mutex::default(),
            reply: Mutex::new(Some(submission.reply)),
        });
        let topic = self.address.topics().for_kind(batch.kind());
        let (mut key, mut payload) = (String::new(), String::new());
        for row in (0..batch.len()).map(|row| batch.row(row)) {
            message::key(&row, self.address.shards(), &mut key);
            message::write(batch.kind(), &row, &mut payload);
            let record = BaseRecord::with_opaque_to(topic, Arc::clone(&pending));
            if let Err((error, _)) = self.producer.send(record.key(&key).payload(&payload)) {
                pending.fail(error.to_string());
                pending.end_one();
            }
        }
        pending.end_one();
        Ok(())
    }

    /// Checks that the brokers answer.
    ///
    /// # Errors
    ///
    /// They do not, or a topic is missing.
    pub fn check(&self, timeout: Duration) -> Result<(), PipelineError> {
        let topic = &self.address.topics().assignments;
        let metadata = (self.producer.client().fetch_metadata(Some(topic), timeout))
            .map_err(|error| failed("reach the brokers", &self.address, &error))?;
        let missing = metadata.topics().iter().find_map(|topic| topic.error());
        match missing {
            None => Ok(()),
            Some(error) => Err(PipelineError::Kafka {
                action: "use the topics",
                place: self.address.to_string(),
                what: format!(
                    "`{topic}`: {}; create the topics with `trialog topics create`",
                    rdkafka::error::RDKafkaErrorCode::from(error)
                ),
                is_transient: true,
            }),
        }
    }

    /// Waits until what was taken is delivered or has failed.
    pub fn flush(&self) {
        if let Err(error) = self.producer.flush(FLUSH_TIMEOUT) {
            tracing::error!("events that wait for the event log are given up: {error}");
        }
    }
}
