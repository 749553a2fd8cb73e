//! Converts an experiment of the registry to the subject of a report.

use trialog_catalog::experiments::Experiment;
use trialog_report::Subject;

/// Returns the subject of reports on `experiment`.
#[must_use]
pub fn subject(experiment: &Experiment) -> Subject<'_> {
    Subject {
        definition: &experiment.definition,
        defined_metrics: &experiment.defined_metrics,
        status: experiment.status,
        started_at: experiment.started_at,
        stopped_at: experiment.stopped_at,
        decision: experiment.decision.as_ref(),
        pauses: &experiment.pauses,
        failure: experiment.failure.as_deref(),
    }
}
