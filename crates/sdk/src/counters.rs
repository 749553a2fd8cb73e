//! Counts every event by what happened to it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of the application's events since the client was built, by what happened to them.
///
/// `offered = delivered + dropped.total() + queued`, exactly, whenever no call is in
/// between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that calls offered: one for each exposure that is new, and for each
    /// experiment in which a metric counts.
    pub offered: u64,
    /// Events that the transport took.
    pub delivered: u64,
    /// Events that are gone, by reason.
    pub dropped: Dropped,
    /// Events that wait, those on their way included.
    pub queued: u64,
    /// Attempts that failed and were made again.
    pub retries: u64,
    /// Exposures that were sent without their context, which was too large.
    pub contexts_left_out: u64,
    /// Configurations that were taken over.
    pub configurations: u64,
    /// Attempts to get a configuration that failed.
    pub configuration_failures: u64,
}

/// The dropped events by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The buffer was full: the newest event is dropped.
    pub full: u64,
    /// The event breaks a rule, such as a value out of range.
    pub invalid: u64,
    /// The transport refused the event for good.
    pub refused: u64,
    /// The client was shut down before.
    pub closed: u64,
}

impl Dropped {
    /// Returns the total.
    pub fn total(&self) -> u64 {
        self.full + self.invalid + self.refused + self.closed
    }
}

impl Counters {
    /// Writes the counters in the format of Prometheus, to be appended to what the host exports.
    ///
    /// ```
    /// let text = trialog_sdk::Counters::default().to_prometheus();
    /// assert!(text.contains("trialog_sdk_events_dropped_total{reason=\"full\"} 0\n"));
    /// ```
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        family(
            "trialog_sdk_events_offered_total",
            "counter",
            "Events that calls offered.",
            &[("", self.offered)],
        );
        family(
            "trialog_sdk_events_delivered_total",
            "counter",
            "Events that the transport took.",
            &[("", self.delivered)],
        );
        family(
            "trialog_sdk_events_dropped_total",
            "counter",
            "Events that are gone.",
            &[
                ("{reason=\"full\"}", self.dropped.full),
                ("{reason=\"invalid\"}", self.dropped.invalid),
                ("{reason=\"refused\"}", self.dropped.refused),
                ("{reason=\"closed\"}", self.dropped.closed),
            ],
        );
        family(
            "trialog_sdk_events_queued",
            "gauge",
            "Events that wait.",
            &[("", self.queued)],
        );
        family(
            "trialog_sdk_retries_total",
            "counter",
            "Attempts that failed and were made again.",
            &[("", self.retries)],
        );
        family(
            "trialog_sdk_contexts_left_out_total",
            "counter",
            "Exposures sent without their context.",
            &[("", self.contexts_left_out)],
        );
        family(
            "trialog_sdk_configurations_total",
            "counter",
            "Configurations taken over.",
            &[("", self.configurations)],
        );
        family(
            "trialog_sdk_configuration_failures_total",
            "counter",
            "Attempts to get a configuration that failed.",
            &[("", self.configuration_failures)],
        );
        text
    }
}

/// The counters while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) offered: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) full: AtomicU64,
    pub(crate) invalid: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) queued: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) contexts_left_out: AtomicU64,
    pub(crate) configurations: AtomicU64,
    pub(crate) configuration_failures: AtomicU64,
}

impl Counts {
    pub(crate) fn read(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Counters {
            offered: read(&self.offered),
            delivered: read(&self.delivered),
            dropped: Dropped {
                full: read(&self.full),
                invalid: read(&self.invalid),
                refused: read(&self.refused),
                closed: read(&self.closed),
            },
            queued: read(&self.queued),
            retries: read(&self.retries),
            contexts_left_out: read(&self.contexts_left_out),
            configurations: read(&self.configurations),
            configuration_failures: read(&self.configuration_failures),
        }
    }
}

/// Adds `n` to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
