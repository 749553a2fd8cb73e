//! Events to Kafka, against librdkafka's own mock cluster of three brokers.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message, TopicPartitionList};
use serde_json::Value;
use trialog_sdk::{Client, Context, KafkaTransport};

const LONG: Duration = Duration::from_secs(60);
const TOPICS: [&str; 2] = ["experiment.assignments", "experiment.metrics"];

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(3).unwrap();
    for topic in TOPICS {
        cluster.create_topic(topic, 4, 3).unwrap();
    }
    cluster
}

fn client(brokers: &str) -> Client {
    let rules = r#"{"experiments": [
        {"experiment_id": "gate", "event_types": ["purchase"], "variants": [{"variant": "a"}, {"variant": "b"}]},
        {"experiment_id": "page", "event_types": ["purchase"], "variants": [{"variant": "a"}, {"variant": "b"}]}]}"#;
    Client::builder()
        .configuration(rules)
        .transport(KafkaTransport::new(brokers, &[]).unwrap())
        .retries(Duration::from_millis(10), Duration::from_millis(100))
        .build()
        .unwrap()
}

/// Every message of both topics: partition, key, event.
fn messages(brokers: &str, n: usize) -> Vec<(String, i32, String, Value)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let mut all = TopicPartitionList::new();
    for topic in TOPICS {
        for partition in 0..4 {
            all.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)
                .unwrap();
        }
    }
    consumer.assign(&all).unwrap();
    let mut read = Vec::new();
    while read.len() < n {
        let message = consumer.poll(LONG).expect("a message in time").unwrap();
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        let event = serde_json::from_slice(message.payload().unwrap()).unwrap();
        read.push((message.topic().to_owned(), message.partition(), key, event));
    }
    read
}

#[test]
fn events_are_keyed_by_their_experiment() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    let client = client(&brokers);
    for unit in 0..100 {
        let unit = unit.to_string();
        client.assign(&unit, "gate", &Context::new());
        client.log_metric(&unit, &Context::new(), "purchase", 1);
    }
    let report = client.shutdown(LONG);
    assert_eq!(
        (report.delivered, report.dropped, report.queued),
        (300, 0, 0)
    );
    let mut partitions = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (topic, partition, key, event) in messages(&brokers, 300) {
        assert_eq!(event["experiment_id"], key.as_str());
        assert_eq!(event["variant"].is_string(), topic == TOPICS[0]);
        ids.insert(event["event_id"].to_string());
        partitions.insert((topic, key, partition));
    }
    assert_eq!(ids.len(), 300);
    assert_eq!(
        partitions.len(),
        3,
        "an experiment's events are in one partition of a topic"
    );
}

#[test]
fn brokers_that_fail_are_tried_until_they_are_well() {
    let cluster = cluster();
    let brokers = cluster.bootstrap_servers();
    // Errors of the brokers on the way of a produce request (key 0).
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    let client = client(&brokers);
    for unit in 0..50 {
        client.assign(&unit.to_string(), "gate", &Context::new());
    }
    let report = client.shutdown(LONG);
    assert_eq!((report.delivered, report.queued), (50, 0));
}

#[test]
fn without_a_broker_events_wait_and_are_told() {
    let client = client("127.0.0.1:1");
    for unit in 0..20 {
        client.assign(&unit.to_string(), "gate", &Context::new());
    }
    let report = client.shutdown(Duration::from_millis(200));
    assert_eq!(
        (report.delivered, report.dropped, report.queued),
        (0, 0, 20)
    );
    let counters = client.counters();
    assert_eq!(counters.offered, counters.queued);
}
