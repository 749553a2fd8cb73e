//! Defines what a run publishes about an experiment: exact sums by variant and metric, and how far
//! they reach.
//!
//! The catalog stores these types, and reports are made of them. They hold sums and counts;
//! tests and intervals are computed when a client reads them.

mod events;
mod more;

pub use self::events::EventCounts;
pub use self::more::MoreSums;

use crate::ids::ExperimentId;
use crate::time::UnixMicros;

/// Everything that one computation of an experiment published.
#[derive(Debug, Clone, PartialEq)]
pub struct Computation {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The fingerprint of the definition that it was computed with.
    pub fingerprint: String,
    /// Users with a forced assignment.
    pub forced_users: u64,
    /// The number of users whose variant is not among the aggregated ones.
    pub unknown_variant: u64,
    /// The number of events whose type is not among the aggregated ones.
    pub not_aggregated: u64,
    /// Users by variant.
    pub exposures: Vec<VariantExposures>,
    /// Sums by variant and metric.
    pub metrics: Vec<VariantMetric>,
    /// What became of the events of each type; empty for users chosen by a filter.
    pub arrivals: Vec<EventCounts>,
}

impl Computation {
    /// Builds a computation of `experiment` without users and events.
    pub fn empty(experiment: ExperimentId) -> Self {
        Self {
            experiment,
            fingerprint: String::new(),
            forced_users: 0,
            unknown_variant: 0,
            not_aggregated: 0,
            exposures: Vec::new(),
            metrics: Vec::new(),
            arrivals: Vec::new(),
        }
    }
}

/// The number of users who were exposed to a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantExposures {
    /// The variant.
    pub variant: String,
    /// Users of this variant alone.
    pub user_count: u64,
    /// Users of several variants, of which this was the first.
    pub crossover_users: u64,
}

/// The sums of a metric for a variant: a row of `variant_metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct VariantMetric {
    /// The variant.
    pub variant: String,
    /// The metric.
    pub metric_name: String,
    /// Exposed users.
    pub user_count: u64,
    /// Events in the window.
    pub event_count: u64,
    /// The sum of values, in 1/10,000.
    pub total: i128,
    /// `converted_users / user_count`; 0 without users.
    pub conversion_rate: f64,
    /// The mean total per user; 0 without users.
    pub mean_value: f64,
    /// The sample variance of the totals per user; none below two users.
    pub variance: Option<f64>,
    /// Users with at least one event.
    pub converted_users: u64,
    /// The sum of squared totals per user, in 1/100,000,000.
    pub squared_total: i128,
    /// The sum of squared numbers of events per user.
    pub squared_events: u128,
    /// Sums that only some kinds of metrics have.
    pub more: Option<MoreSums>,
}

/// A row of an analysis other than the scorecard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysisRow {
    /// The name of the analysis.
    pub analysis: String,
    /// The key of the row within the analysis, such as an event type; empty where the analysis
    /// has one row.
    pub key: String,
    /// Exact numbers, in an encoding of the analysis that holds its version.
    pub body: String,
}

/// How far published results reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HighWaterMark {
    /// The last position in what was ingested.
    pub position: u64,
    /// When the run over it started: later events wait for the next run.
    pub data_time: UnixMicros,
    /// The run that published it; 0 before the first.
    pub run_id: i64,
}

/// A computation and when it was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// When the run published it.
    pub computed_at: UnixMicros,
    /// The run that published it.
    pub run_id: i64,
    /// How far it reaches: an experiment without new events keeps its rows, and they hold
    /// for later positions too.
    pub mark: HighWaterMark,
    /// The sums.
    pub computation: Computation,
}
