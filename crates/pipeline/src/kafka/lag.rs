//! Counts for Prometheus what consumers do. A metric's doc comment is its help text.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PartitionLabels {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabels {
    pub(crate) topic: String,
}

trialog_warehouse::metrics! {
    /// The counts of the consumers of one process.
    pub struct ConsumerMetrics {
        /// Messages that are in a partition and not yet in the warehouse, for the partitions
        /// that this process consumes.
        lag: Family<PartitionLabels, Gauge> = "trialog_consumer_lag_messages";
        /// Messages that were taken to the warehouse, by topic.
        stored: Family<TopicLabels, Counter> = "trialog_consumer_stored_messages";
        /// Messages that were delivered again after they had been stored, and passed over.
        repeated: Family<TopicLabels, Counter> = "trialog_consumer_repeated_messages";
        /// Messages that are no events and went to the topic of dead letters, by topic.
        dead_letters: Family<TopicLabels, Counter> = "trialog_consumer_dead_letters";
        /// Batches that were stored, by topic.
        batches: Family<TopicLabels, Counter> = "trialog_consumer_stored_batches";
        /// Tries to store a batch that failed and were made again, by topic.
        retries: Family<TopicLabels, Counter> = "trialog_consumer_retries";
        /// Partitions that this process consumes, by topic.
        partitions: Family<TopicLabels, Gauge> = "trialog_consumer_partitions";
        /// Partitions that are paused at present, since the warehouse is slower than Kafka.
        paused: Family<TopicLabels, Gauge> = "trialog_consumer_paused_partitions";
    }
}

impl Default for ConsumerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the label of a topic.
pub(crate) fn of_topic(topic: &str) -> TopicLabels {
    let topic = topic.to_owned();
    TopicLabels { topic }
}
