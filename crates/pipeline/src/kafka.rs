//! Connects senders of events and the warehouse through Kafka.
//!
//! Events lie in two topics as JSON, keyed by their experiment. A [`Producer`]
//! writes them and answers after the brokers did; [`Consumers`] take them to the
//! warehouse. Delivery may repeat, and nothing relies on an order: an event has
//! an id of its own or one of its partition and offset, and is counted once.

mod address;
mod buffer;
mod consumer;
mod lag;
mod message;
mod producer;
pub mod topics;
mod writer;

pub use address::{KafkaAddress, Topics};
pub use consumer::{ConsumerSettings, Consumers};
pub use lag::ConsumerMetrics;
pub use producer::Producer;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::PipelineError;

/// Converts an error of librdkafka.
pub(crate) fn failed(
    action: &'static str,
    address: &KafkaAddress,
    error: &KafkaError,
) -> PipelineError {
    let code = error.rdkafka_error_code();
    // librdkafka's own words for what it was built without.
    let is_lacking = error.to_string().contains("not available at build time");
    let remedy = if is_lacking {
        Some(
            "this binary was built without the feature `kafka-tls`: build it with it, or change security.protocol and sasl.mechanism in `event_log`",
        )
    } else {
        code.and_then(remedy)
    };
    PipelineError::Kafka {
        action,
        place: address.to_string(),
        what: match remedy {
            Some(remedy) => format!("{error}; {remedy}"),
            None => error.to_string(),
        },
        is_transient: !matches!(
            code,
            Some(
                RDKafkaErrorCode::Authentication
                    | RDKafkaErrorCode::SaslAuthenticationFailed
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::InvalidConfig
            )
        ),
    }
}

/// Returns what a person can do about an error.
pub(crate) fn remedy(code: RDKafkaErrorCode) -> Option<&'static str> {
    Some(match code {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            "check sasl.mechanism, sasl.username and sasl.password in `event_log`"
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            "give the user of `event_log` the right to read and write its topics"
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            "give the user of `event_log` the right to its consumer groups"
        }
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            "create the topics with `trialog topics create`"
        }
        RDKafkaErrorCode::BrokerTransportFailure
        | RDKafkaErrorCode::AllBrokersDown
        | RDKafkaErrorCode::Resolve
        | RDKafkaErrorCode::OperationTimedOut
        | RDKafkaErrorCode::MessageTimedOut => {
            "check that the brokers in `event_log` run, and security.protocol in it"
        }
        RDKafkaErrorCode::SSL => "check ssl.ca.location and the certificates in `event_log`",
        _ => return None,
    })
}
