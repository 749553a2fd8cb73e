//! Collects the summaries of reports for the list: the stored ones, as far as they are still
//! valid.

use trialog_catalog::experiments::Experiment;
use trialog_pipeline::subject;
use trialog_report::summary::{self, SUMMARY, Summary};

use crate::api::results;
use crate::app::App;
use crate::problem::Answer;

/// Reads the summary of the report on `experiment`; where none is stored, or something changed
/// since, the report is built.
pub(super) fn read(app: &App, experiment: &Experiment) -> Answer<Summary> {
    if let Some(stored) = stored(app, experiment)? {
        return Ok(stored);
    }
    let id = &experiment.definition.experiment_id;
    let report = results::published(app, id, &results::Query::default())?;
    Ok(Summary::from_report(&report))
}

/// The summary that the last run stored, if nothing changed that it was made from.
fn stored(app: &App, experiment: &Experiment) -> Answer<Option<Summary>> {
    let id = &experiment.definition.experiment_id;
    let rows = app.catalog.latest_analysis(id, SUMMARY)?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    // Retention that dropped events since adds a warning.
    if app.catalog.dropped(id)?.is_some() {
        return Ok(None);
    }
    let current = app.aggregator.fingerprint(experiment);
    let breaks = app.catalog.breaks(id)?;
    let basis = summary::basis(&subject(experiment), &current, &breaks);
    Ok(Summary::from_json(&row.body, &basis))
}
