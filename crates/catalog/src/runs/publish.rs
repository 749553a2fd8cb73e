//! Publishes a run in one transaction.

use trialog_model::ids::ExperimentId;
use trialog_model::published::{AnalysisRow, Computation};
use trialog_model::time::UnixMicros;

use super::mark;
use crate::connection::{Catalog, Writes};
use crate::database::{self, Connection, params};
use crate::error::CatalogError;
use crate::journal::{self, JournalState};
use crate::lease::{self, Lease};
use crate::results::{self, Writing};
use crate::warnings;

/// The outcome of a run for one experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The revision of the definition that was used.
    pub revision: i64,
    /// When the passing of time alone changes the answer.
    pub recompute_at: Option<UnixMicros>,
    /// What was computed, or why it could not be.
    pub computed: Result<Computation, String>,
    /// The codes of its warnings, each once.
    pub warnings: Vec<&'static str>,
    /// The rows of analyses other than the scorecard; none where nothing was computed.
    pub analyses: Vec<AnalysisRow>,
}

/// A finished run that is about to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedRun {
    /// Its number, from [`Catalog::begin_run`].
    pub run_id: i64,
    /// Up to where it read.
    pub position: u64,
    /// When it started: data time.
    pub data_time: UnixMicros,
    /// When its results count as computed.
    pub computed_at: UnixMicros,
    /// Computations of an experiment before this are thinned out to one a day.
    pub thin_out_before: UnixMicros,
    /// One outcome for each experiment that was touched.
    pub outcomes: Vec<Outcome>,
    /// The lease under which it was made; none where no other process can run.
    pub lease: Option<Lease>,
    /// Which batches it read, where the catalog keeps the warehouse's journal.
    pub journal: Option<JournalState>,
}

impl Catalog {
    /// Publishes a run: its results, their position and the run's record, in one transaction.
    ///
    /// # Errors
    ///
    /// The database cannot be written; nothing of the run is visible then.
    pub fn publish(&self, run: &FinishedRun) -> Result<(), CatalogError> {
        self.write_as(Writes::Rows, "publish a run", |transaction| {
            if let Some(lease) = &run.lease
                && !lease::lock_if_held(transaction, lease)?
            {
                let name = lease.name.clone();
                return Err(CatalogError::LeaseLost { name }.into());
            }
            write_computations(transaction, run)?;
            warnings::replace(transaction, run)?;
            for outcome in &run.outcomes {
                publish_outcome(transaction, run, outcome)?;
            }
            mark::advance(transaction, run)?;
            if let Some(covered) = &run.journal {
                journal::clear(transaction, covered, run.computed_at)?;
            }
            let n_failed = run
                .outcomes
                .iter()
                .filter(|outcome| outcome.computed.is_err())
                .count();
            transaction.execute(
                "UPDATE pipeline_runs SET status = 'succeeded', finished_at = ?2,
                         position = ?3, n_experiments = ?4, n_failed = ?5
                     WHERE run_id = ?1",
                params![
                    run.run_id,
                    run.computed_at.0,
                    run.position.cast_signed(),
                    run.outcomes.len() as i64,
                    n_failed as i64
                ],
            )?;
            Ok(())
        })
    }
}

/// Rows that are gathered before they are written.
const MOST_ROWS: usize = 10_000;

fn write_computations(transaction: &Connection<'_>, run: &FinishedRun) -> database::Result<()> {
    let mut writing = Writing::default();
    for outcome in &run.outcomes {
        let Ok(computation) = &outcome.computed else {
            continue;
        };
        writing.add(computation, run.computed_at, run.run_id);
        writing.add_analyses(&computation.experiment, run.computed_at, &outcome.analyses);
        if writing.len() >= MOST_ROWS {
            std::mem::take(&mut writing).write(transaction)?;
        }
    }
    writing.write(transaction)
}

fn publish_outcome(
    transaction: &Connection<'_>,
    run: &FinishedRun,
    outcome: &Outcome,
) -> database::Result<()> {
    let id = outcome.experiment.as_str();
    if outcome.computed.is_ok() {
        results::thin_out(transaction, id, run.thin_out_before.0)?;
    }
    let computed_revision = outcome.computed.is_ok().then_some(outcome.revision);
    let n_known = transaction
        .prepare_cached(
            "UPDATE experiments SET computed_revision = coalesce(?2, computed_revision),
                 recompute_at = ?3, failure = ?4
             WHERE experiment_id = ?1",
        )?
        .execute(params![
            id,
            computed_revision,
            outcome.recompute_at.map(|time| time.0),
            outcome.computed.as_ref().err()
        ])?;
    if n_known == 0 {
        // It was deleted while the run was computing it.
        results::remove(transaction, id)?;
        warnings::remove(transaction, id)?;
    }
    Ok(())
}
