//! Sends events to Kafka: `experiment.assignments` and `experiment.metrics`, keyed by experiment.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use trialog_model::event::EventKind;

use super::{Batch, Delivery, Transport};
use crate::clock::monotonic;

/// How long a look for reports of delivery waits.
const POLL: Duration = Duration::from_millis(50);

/// Produces events to Kafka with an idempotent producer that waits for all replicas.
pub struct KafkaTransport {
    producer: BaseProducer<Reports>,
    topics: [String; 2],
}

impl std::fmt::Debug for KafkaTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KafkaTransport({:?})", self.topics)
    }
}

/// Counts the delivered and the failed messages of a batch.
#[derive(Default)]
struct Reports(std::sync::Mutex<Counted>);

#[derive(Default, Clone)]
struct Counted {
    n_delivered: usize,
    n_refused: u64,
    n_failed: usize,
    reason: String,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut counted = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Ok(_) => counted.n_delivered += 1,
            Err((error, _)) => {
                counted.reason = error.to_string();
                if is_for_good(error) {
                    counted.n_refused += 1;
                } else {
                    counted.n_failed += 1;
                }
            }
        }
    }
}

/// Whether sending the message again would fail again.
fn is_for_good(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessage)
    )
}

impl KafkaTransport {
    /// Creates a producer for the brokers `host:port,…`, with more `settings` of librdkafka such
    /// as those of TLS and SASL, which override those of the transport.
    ///
    /// # Errors
    ///
    /// librdkafka refuses a setting.
    pub fn new(brokers: &str, settings: &[(&str, &str)]) -> Result<Self, String> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("client.id", "trialog-sdk")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "10000")
            .set("linger.ms", "5");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let producer = config.create_with_context(Reports::default());
        Ok(Self {
            producer: producer
                .map_err(|error| format!("cannot make a producer for `{brokers}`: {error}"))?,
            topics: [
                "experiment.assignments".to_owned(),
                "experiment.metrics".to_owned(),
            ],
        })
    }

    /// Sets other topics for assignments and metrics.
    #[must_use]
    pub fn topics(mut self, assignments: &str, metrics: &str) -> Self {
        self.topics = [assignments.to_owned(), metrics.to_owned()];
        self
    }

    fn counted(&self) -> Counted {
        let counted = self.producer.context().0.lock();
        counted
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Leaves none of a batch behind that failed, so that its reports do not come later.
    fn give_up(&self, reason: String) -> Delivery {
        self.producer
            .purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        self.producer.poll(Duration::ZERO);
        Delivery::failed(reason)
    }
}

impl Transport for KafkaTransport {
    fn send(&mut self, kind: EventKind, batch: &Batch, timeout: Duration) -> Delivery {
        let deadline = monotonic() + timeout;
        let topic = match kind {
            EventKind::Assignment => &self.topics[0],
            EventKind::Metric => &self.topics[1],
        };
        if let Ok(mut counted) = self.producer.context().0.lock() {
            *counted = Counted::default();
        }
        for (experiment, line) in batch.events() {
            let mut record = BaseRecord::to(topic).key(experiment.as_str()).payload(line);
            // The queue of librdkafka is full: wait for reports, which make room.
            while let Err((error, back)) = self.producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull)
                    || monotonic() >= deadline
                {
                    return self.give_up(format!("cannot produce to `{topic}`: {error}"));
                }
                record = back;
                self.producer.poll(POLL);
            }
        }
        loop {
            let counted = self.counted();
            if counted.n_delivered + counted.n_refused as usize == batch.len() {
                return Delivery::Taken {
                    n_refused: counted.n_refused,
                    reason: counted.reason,
                };
            }
            if counted.n_failed > 0 {
                return self.give_up(format!("cannot produce to `{topic}`: {}", counted.reason));
            }
            if monotonic() >= deadline {
                return self.give_up(format!(
                    "`{topic}` did not take the events within {timeout:?}"
                ));
            }
            self.producer.poll(POLL);
        }
    }
}
