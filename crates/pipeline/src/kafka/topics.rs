//! Creates topics on request, with as many partitions as consumers may share.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{KafkaAddress, failed};
use crate::error::PipelineError;

const TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(100);

/// A topic as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Its partitions; 0 where it does not exist.
    pub partitions: usize,
    /// Whether it was created just now.
    pub created: bool,
}

/// The partitions and replicas of new topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Partitions of the two topics of events; dead letters have one.
    pub partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
}

/// Creates the topics that do not exist, and returns all of them.
///
/// # Errors
///
/// The cluster cannot be reached or refuses.
pub async fn create(address: &KafkaAddress, layout: Layout) -> Result<Vec<Topic>, PipelineError> {
    let action = "create topics";
    let wrong = |error: &KafkaError| failed(action, address, error);
    let client: AdminClient<DefaultClientContext> =
        (address.config(&[]).create()).map_err(|error| wrong(&error))?;
    let topics = address.topics();
    let new = topics.all().map(|name| {
        let partitions = if name == topics.dead_letters {
            1
        } else {
            layout.partitions
        };
        NewTopic::new(
            name,
            partitions,
            TopicReplication::Fixed(layout.replication),
        )
    });
    let options = AdminOptions::new()
        .operation_timeout(Some(TIMEOUT))
        .request_timeout(Some(TIMEOUT));
    let outcomes = client
        .create_topics(&new, &options)
        .await
        .map_err(|error| wrong(&error))?;
    let mut created = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(name) => created.push(name),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(PipelineError::Kafka {
                    action,
                    place: address.to_string(),
                    what: format!(
                        "`{name}`: {code}; check --partitions and --replication, which cannot be more than there are brokers"
                    ),
                    is_transient: false,
                });
            }
        }
    }
    let mut there = list(address)?;
    for topic in &mut there {
        topic.created = created.contains(&topic.topic);
    }
    Ok(there)
}

/// Keeps the most informative error, rather than that no broker answered.
#[derive(Default)]
struct LastError(Mutex<Option<KafkaError>>);

impl LastError {
    fn take(&self) -> Option<KafkaError> {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner)).take()
    }
}

impl ClientContext for LastError {
    fn error(&self, error: KafkaError, _: &str) {
        use RDKafkaErrorCode::{Authentication, SSL, SaslAuthenticationFailed};
        let code = error.rdkafka_error_code();
        if matches!(code, Some(Authentication | SaslAuthenticationFailed | SSL)) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

impl ConsumerContext for LastError {}

/// Returns the topics as the cluster has them.
///
/// # Errors
///
/// The cluster cannot be reached.
pub fn list(address: &KafkaAddress) -> Result<Vec<Topic>, PipelineError> {
    let action = "look at the topics";
    let wrong = |error: &KafkaError| failed(action, address, error);
    let config = address.config(&[("group.id", "trialog.look")]);
    let consumer: BaseConsumer<LastError> =
        (config.create_with_context(LastError::default())).map_err(|error| wrong(&error))?;
    let metadata = consumer.fetch_metadata(None, TIMEOUT).map_err(|error| {
        // The context receives the reason why the connection failed.
        consumer.poll(POLL);
        wrong(&consumer.context().take().unwrap_or(error))
    })?;
    let found = |name: &str| {
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        topic
            .filter(|topic| topic.error().is_none())
            .map_or(0, |topic| topic.partitions().len())
    };
    Ok(address
        .topics()
        .all()
        .map(|name| Topic {
            topic: name.to_owned(),
            partitions: found(name),
            created: false,
        })
        .to_vec())
}

/// Checks that all topics exist.
///
/// # Errors
///
/// The cluster cannot be reached, or lacks a topic.
pub fn check(address: &KafkaAddress) -> Result<Vec<Topic>, PipelineError> {
    let topics = list(address)?;
    match topics.iter().find(|topic| topic.partitions == 0) {
        None => Ok(topics),
        Some(missing) => Err(PipelineError::Kafka {
            action: "use the topics",
            place: address.to_string(),
            what: format!(
                "`{}` does not exist: create the topics with `trialog topics create`, or check topic_prefix in `event_log`",
                missing.topic
            ),
            is_transient: false,
        }),
    }
}
