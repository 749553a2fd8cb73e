//! Consumers against librdkafka's mock cluster of three brokers, into the embedded warehouse.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use trialog_model::event::EventKind;
use trialog_model::time::UnixMicros;
use trialog_pipeline::clock::Clock;
use trialog_pipeline::ingest::Destination;
use trialog_pipeline::kafka::{ConsumerSettings, Consumers, KafkaAddress, Producer};
use trialog_pipeline::store::Store;
use trialog_warehouse::analysis::scorecard::{MetricPlan, Scorecard, Shape};
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::embedded::{Options, Submission, Warehouse};
use trialog_warehouse::fold::split::Split;
use trialog_warehouse::fold::{Names, Plan, UserFilter, fold};
use trialog_warehouse::lock::DirectoryLock;

const NOW: i64 = 1_760_000_000_000_000;
const LONG: Duration = Duration::from_secs(120);
const N_PARTITIONS: i32 = 4;
const N_USERS: i64 = 500;

struct Stage {
    cluster: MockCluster<'static, DefaultProducerContext>,
    _directory: tempfile::TempDir,
    warehouse: Arc<Warehouse>,
}

fn open(directory: &Path) -> Arc<Warehouse> {
    let lock = DirectoryLock::acquire(directory).unwrap();
    Arc::new(Warehouse::open(directory, lock, Options::default(), 0).unwrap())
}

impl Stage {
    fn new() -> Self {
        let cluster = MockCluster::new(3).unwrap();
        for topic in [
            "experiment.assignments",
            "experiment.metrics",
            "experiment.dead_letters",
        ] {
            cluster.create_topic(topic, N_PARTITIONS, 3).unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let warehouse = open(directory.path());
        Self {
            cluster,
            _directory: directory,
            warehouse,
        }
    }

    fn address(&self) -> KafkaAddress {
        let brokers = self.cluster.bootstrap_servers();
        // Spread over keys, so that one experiment is in every partition.
        format!("kafka://{brokers}?shards=16&session.timeout.ms=6000")
            .parse()
            .unwrap()
    }

    fn consumers(&self) -> Consumers {
        let clock: Clock = Arc::new(|| UnixMicros(NOW));
        let settings = ConsumerSettings {
            batch_rows: 200,
            linger: Duration::from_millis(20),
            ..ConsumerSettings::default()
        };
        Consumers::start(
            &self.address(),
            &Store::Embedded(Arc::clone(&self.warehouse)),
            &clock,
            settings,
        )
        .unwrap()
    }

    /// Produces metric events `from..to` of all users, and their assignments first; tells
    /// how many submissions failed.
    fn produce(&self, numbers: std::ops::Range<i64>) -> usize {
        let producer = Destination::Kafka(Arc::new(Producer::new(&self.address()).unwrap()));
        let (done, outcomes) = mpsc::channel();
        for kind in EventKind::ALL {
            for number in numbers.clone() {
                let mut batch = Batch::new(kind);
                for user in 0..N_USERS {
                    batch.push(&row(kind, user, number));
                }
                let done = done.clone();
                let submission = Submission {
                    batch,
                    mark: None,
                    received_at: NOW,
                    reply: Box::new(move |outcome| done.send(outcome.is_err()).unwrap()),
                };
                producer.submit(submission).unwrap();
            }
        }
        drop(done);
        outcomes.into_iter().filter(|failed| *failed).count()
    }

    /// Users, and events with their sum, as the fold counts them.
    fn counted(&self) -> (u64, u64, i128) {
        let names = |names: &[&str]| Names::new(names.iter().map(|name| (*name).to_owned()));
        let plan = Plan {
            experiment: trialog_model::ids::ExperimentId::new("gate").unwrap(),
            within: None..None,
            variants: names(&["a"]),
            event_types: names(&["buy"]),
            data_time: NOW,
            filter: UserFilter::default(),
            left_out: None,
            exposures: None,
            split: Split::Whole,
            n_rows: 1,
        };
        let outcomes = fold(&self.warehouse.snapshot(), &[plan], 1, |plan| {
            let metric = MetricPlan {
                name: "buy".to_owned(),
                event_type: 0,
                window: trialog_model::duration::Window::DEFAULT,
                delay: 0,
                min_value: None,
                shape: Shape::Plain,
            };
            Scorecard::new(plan, vec![metric])
        });
        let folded = outcomes.unwrap().remove(0).unwrap();
        let sums = folded.accumulator.sums(0, 0);
        (folded.users[0], sums.events, sums.total)
    }

    /// Waits until the fold counts what events up to `number` come to, and that it stays so.
    fn wait_for(&self, number: i64) {
        let events = u64::try_from(number * N_USERS).unwrap();
        let total = i128::from((0..number).sum::<i64>() * N_USERS);
        let expected = (u64::try_from(N_USERS).unwrap(), events, total);
        let deadline = Instant::now() + LONG;
        while self.counted() != expected {
            assert!(
                Instant::now() < deadline,
                "{:?} where {expected:?} was expected",
                self.counted()
            );
            std::thread::yield_now();
        }
    }
}

fn row(kind: EventKind, user: i64, number: i64) -> EventRow<'static> {
    let is_metric = kind == EventKind::Metric;
    EventRow {
        experiment: "gate",
        user,
        timestamp: NOW - if is_metric { 1_000 } else { 2_000_000 },
        name: if is_metric { "buy" } else { "a" },
        value: if is_metric { number } else { 0 },
        event_id: number,
        context: "",
        user_text: "",
    }
}

#[test]
fn consumers_that_come_and_go_count_every_event_once() {
    let stage = Stage::new();
    let first = stage.consumers();
    assert_eq!(stage.produce(0..10), 0);
    stage.wait_for(10);
    let second = stage.consumers();
    assert_eq!(stage.produce(10..20), 0);
    drop(first);
    assert_eq!(stage.produce(20..30), 0);
    stage.wait_for(30);
    drop(second);
    assert_eq!(stage.produce(30..40), 0);
    let third = stage.consumers();
    stage.wait_for(40);
    drop(third);
}

#[test]
fn what_was_stored_is_known_without_the_offsets_of_the_group() {
    let stage = Stage::new();
    let consumers = stage.consumers();
    assert_eq!(stage.produce(0..5), 0);
    stage.wait_for(5);
    drop(consumers);
    let positions: BTreeMap<i32, Option<i64>> = (0..N_PARTITIONS)
        .map(|partition| {
            let source = format!("kafka:experiment.metrics/{partition}");
            (partition, stage.warehouse.source_position(&source).unwrap())
        })
        .collect();
    let stored: i64 = positions
        .values()
        .map(|position| position.unwrap_or(0))
        .sum();
    assert_eq!(stored, 5 * N_USERS, "{positions:?}");
}

#[test]
fn errors_of_brokers_and_a_coordinator_that_moves_lose_nothing() {
    let stage = Stage::new();
    let cluster = &stage.cluster;
    let consumers = stage.consumers();
    assert_eq!(stage.produce(0..5), 0);
    cluster.request_errors(
        RDKafkaApiKey::Fetch,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 5],
    );
    cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 3],
    );
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND; 3],
    );
    for partition in 0..N_PARTITIONS {
        cluster
            .partition_leader("experiment.metrics", partition, Some(partition % 3 + 1))
            .unwrap();
    }
    assert_eq!(stage.produce(5..10), 0);
    stage.wait_for(10);
    drop(consumers);
}
