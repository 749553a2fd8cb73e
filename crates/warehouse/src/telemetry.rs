//! Counts for Prometheus what the warehouse does. A metric's doc comment is its help text.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Defines a struct of metrics with `new` and `register`; the doc comment of
/// a field is the metric's help text.
///
/// The name of a counter stands without the `_total` that the output adds. A
/// metric that is not empty at first names its constructor after the name.
#[macro_export]
macro_rules! metrics {
    ($(#[$about:meta])* pub struct $name:ident {
        $($(#[doc = $help:literal])+ $field:ident: $kind:ty = $metric:literal $(, $make:expr)?;)+
    }) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $name {
            $($(#[doc = $help])+ pub(crate) $field: $kind,)+
        }

        impl $name {
            /// Creates all metrics at zero.
            pub(crate) fn new() -> Self {
                Self { $($field: $crate::metrics!(@make $($make)?),)+ }
            }

            /// Registers the metrics in `registry`.
            pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
                $(registry.register(
                    $metric,
                    concat!($($help),+).trim().trim_end_matches('.'),
                    self.$field.clone(),
                );)+
            }
        }
    };
    (@make) => { Default::default() };
    (@make $make:expr) => { $make };
}

/// Upper bounds in seconds, from a commit on a fast disk to one that hangs.
const COMMIT_SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

metrics! {
    /// The counts of one warehouse.
    pub struct Metrics {
        /// Batches of events, one per request or part of an import, that were made durable.
        durable_batches: Counter = "trialog_warehouse_durable_batches";
        /// Events that were made durable.
        durable_events: Counter = "trialog_warehouse_durable_events";
        /// How long group commits took, failed ones included.
        group_commit_duration: Histogram = "trialog_warehouse_group_commit_duration_seconds",
            Histogram::new(COMMIT_SECONDS);
        /// Group commits that failed; their events were not acknowledged.
        group_commit_failures: Counter = "trialog_warehouse_group_commit_failures";
        /// Flushes of events from the inbox into sorted files.
        flushes: Counter = "trialog_warehouse_flushes";
        /// Flushes that failed; each is tried again.
        flush_failures: Counter = "trialog_warehouse_flush_failures";
        /// Merges of sorted files into fewer.
        merges: Counter = "trialog_warehouse_merges";
        /// Merges that failed; each is tried again.
        merge_failures: Counter = "trialog_warehouse_merge_failures";
        /// Bytes of events that wait for the next group commit.
        queued_bytes: Gauge = "trialog_warehouse_queued_bytes";
        /// Bytes of events that are durable in the inbox and not yet in a sorted file.
        unflushed_bytes: Gauge = "trialog_warehouse_unflushed_bytes";
        /// Rows in sorted files; copies of an event count each.
        rows: Gauge = "trialog_warehouse_rows";
        /// Sorted files of events.
        files: Gauge = "trialog_warehouse_files";
        /// Bytes of sorted files.
        file_bytes: Gauge = "trialog_warehouse_file_bytes";
        /// Damaged files that are left out of merges.
        damaged_files: Gauge = "trialog_warehouse_damaged_files";
        /// Users, each in each experiment, of whom one number stands for two texts in the same file.
        clashing_users: Gauge = "trialog_warehouse_clashing_users";
    }
}

/// Converts a count to the value of a gauge.
pub(crate) fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
