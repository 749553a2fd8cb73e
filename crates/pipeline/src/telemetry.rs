//! Counts for Prometheus what ingest and aggregation do. A metric's doc comment is its help text.
//! No label names an experiment, because there may be any number of them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use trialog_model::event::{EventError, EventKind};
use trialog_model::published::HighWaterMark;
use trialog_model::time::UnixMicros;
use trialog_report::findings::Finding;
use trialog_warehouse::embedded::Refused;

use crate::aggregation::RunReport;
use crate::error::PipelineError;

/// Upper bounds in seconds, from a run that finds nothing to one over everything.
const RUN_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0];

/// The kind of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabels {
    kind: &'static str,
}

/// The kind of events, the field that broke a rule, and the kind of its fault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RejectedLabels {
    kind: &'static str,
    field: &'static str,
    fault: &'static str,
}

/// The reason why a request was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusedLabels {
    reason: &'static str,
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    outcome: &'static str,
}

/// The code of a warning about an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CodeLabels {
    code: &'static str,
}

trialog_warehouse::metrics! {
    /// The counts of ingest.
    pub struct IngestMetrics {
        /// Events that were accepted: valid and durable.
        accepted: Family<KindLabels, Counter> = "trialog_ingest_accepted_events";
        /// Events that were rejected, by the field that broke a rule and the kind of its fault.
        rejected: Family<RejectedLabels, Counter> = "trialog_ingest_rejected_events";
        /// Requests that were refused before their events were judged or stored: answered with
        /// 429 where too much waited, with 503 where the server was stopping.
        refused: Family<RefusedLabels, Counter> = "trialog_ingest_refused_requests";
        /// Requests whose Idempotency-Key had been stored before: answered, and not counted again.
        repeated: Counter = "trialog_ingest_repeated_requests";
    }
}

impl IngestMetrics {
    pub(crate) fn accepted(&self, kind: EventKind) -> Counter {
        let kind = kind.plural();
        self.accepted.get_or_create(&KindLabels { kind }).clone()
    }

    pub(crate) fn note_rejected(&self, kind: EventKind, error: &EventError) {
        let labels = RejectedLabels {
            kind: kind.plural(),
            field: error.field,
            fault: error.fault.as_str(),
        };
        self.rejected.get_or_create(&labels).inc();
    }

    pub(crate) fn note_refused(&self, refused: &Refused) {
        self.refuse(match refused {
            Refused::Full => "queue_full",
            Refused::Closed => "stopping",
        });
    }

    /// Counts a request that was rejected because too many bodies were being handled.
    pub fn note_busy(&self) {
        self.refuse("bodies_full");
    }

    fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }
}

trialog_warehouse::metrics! {
    /// The counts of aggregation.
    pub struct AggregationMetrics {
        /// Runs that ended, by outcome: succeeded, failed, or abandoned since the server stopped.
        runs: Family<OutcomeLabels, Counter> = "trialog_aggregation_runs";
        /// How long runs took that succeeded.
        run_duration: Histogram = "trialog_aggregation_run_duration_seconds",
            Histogram::new(RUN_SECONDS);
        /// Experiments that runs recomputed.
        recomputed: Counter = "trialog_aggregation_recomputed_experiments";
        /// Experiments that the last run could not compute; each shows its reason.
        failed: Gauge = "trialog_aggregation_failed_experiments";
        /// Experiments with a warning about how they are integrated, by its code, as runs found
        /// them; stopped and archived experiments do not count.
        warned: Family<CodeLabels, Gauge> = "trialog_experiments_with_warning";
        /// Unregistered experiments beyond the limit at the last run: kept, not aggregated.
        left_out: Gauge = "trialog_aggregation_left_out_experiments";
        /// The data time of the last published run, in seconds since 1970.
        data_time: Gauge<f64, AtomicU64> = "trialog_aggregation_data_time_seconds";
        /// Seconds since the data time of the last published run, or since the start of the
        /// process where nothing has been published.
        lag: Gauge<f64, AtomicU64> = "trialog_aggregation_lag_seconds";
        /// The position up to which results are published.
        position: Gauge = "trialog_aggregation_published_position";
        /// Group commits that were ingested after the published position and wait for the next run.
        lag_commits: Gauge = "trialog_aggregation_lag_commits";
    }
}

impl AggregationMetrics {
    /// Updates the gauges of the published position.
    pub(crate) fn note_mark(&self, mark: &HighWaterMark) {
        self.position
            .set(i64::try_from(mark.position).unwrap_or(i64::MAX));
        self.data_time.set(seconds(mark.data_time));
    }

    /// Updates the number of experiments with each warning.
    pub(crate) fn note_warnings(&self, counts: &BTreeMap<String, u64>) {
        for code in Finding::CODES {
            let count = counts.get(code).copied().unwrap_or(0);
            let gauge = self.warned.get_or_create(&CodeLabels { code });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Records how a run ended.
    pub(crate) fn note_run(&self, outcome: &Result<RunReport, PipelineError>) {
        let outcome = match outcome {
            Ok(report) => {
                self.run_duration.observe(report.duration_ms as f64 / 1e3);
                self.recomputed.inc_by(report.experiments as u64);
                self.failed.set(report.failed.len() as i64);
                self.left_out
                    .set(i64::try_from(report.left_out).unwrap_or(i64::MAX));
                "succeeded"
            }
            Err(error) if error.is_stopping() => "abandoned",
            Err(_) => "failed",
        };
        self.runs.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Updates what depends on the present time.
    pub(crate) fn refresh(&self, now: UnixMicros, started_at: UnixMicros, ingested: Option<u64>) {
        let published = self.data_time.get();
        let since = if published > 0.0 {
            published
        } else {
            seconds(started_at)
        };
        self.lag.set((seconds(now) - since).max(0.0));
        let position = self.position.get().cast_unsigned();
        let behind = ingested.unwrap_or(position).saturating_sub(position);
        self.lag_commits
            .set(i64::try_from(behind).unwrap_or(i64::MAX));
    }
}

fn seconds(time: UnixMicros) -> f64 {
    time.0 as f64 / 1e6
}
