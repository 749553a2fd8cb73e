//! Describes the experiment of a report.

use trialog_model::experiment::{Definition, Status};
use trialog_model::life::{Decision, Pause};
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::time::UnixMicros;

/// The experiment of a report: its definition and its state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subject<'a> {
    /// The definition.
    pub definition: &'a Definition,
    /// The definitions of the metrics that it names, as far as they have one.
    pub defined_metrics: &'a [MetricDefinition],
    /// Where it is in its life.
    pub status: Status,
    /// When it was started.
    pub started_at: Option<UnixMicros>,
    /// When it was stopped.
    pub stopped_at: Option<UnixMicros>,
    /// The decision after it.
    pub decision: Option<&'a Decision>,
    /// The times in which it was stopped before it was resumed, oldest first.
    pub pauses: &'a [Pause],
    /// Why its last computation failed, until one succeeds.
    pub failure: Option<&'a str>,
}

impl<'a> Subject<'a> {
    /// Builds the subject of a report on data without a registered experiment, from a definition
    /// alone.
    pub fn from_definition(definition: &'a Definition) -> Self {
        Self {
            definition,
            defined_metrics: &[],
            status: Status::Unregistered,
            started_at: None,
            stopped_at: None,
            decision: None,
            pauses: &[],
            failure: None,
        }
    }

    /// Returns the definition of the metric called `name`, if it has one.
    pub fn defined_metric(&self, name: &str) -> Option<&'a MetricDefinition> {
        (self.defined_metrics.iter()).find(|metric| metric.name.as_str() == name)
    }
}
