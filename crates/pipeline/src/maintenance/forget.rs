//! Erases one user: the exception to append-only that people have a right to.
//!
//! The order makes it safe to end anywhere. First the catalog notes the
//! erasure and makes the experiments due, then the events go, run by run, then
//! the traces in `warehouse.sqlite`, then the results are computed anew. The
//! same request again removes what is left.

use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::CatalogError;
use trialog_catalog::erasures::ErasureRequest;
use trialog_model::ids::ExperimentId;
use trialog_warehouse::erase::Doomed;

use super::{Maintenance, MaintenanceError};
use crate::aggregation::{RunReport, Scope};

/// The outcome of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ForgetReport {
    /// The entry in the audit of erasures.
    #[schemars(range(min = 1))]
    pub erasure_id: i64,
    /// Events that were removed, copies included.
    pub events: u64,
    /// Experiments that had some of them.
    pub experiments: Vec<String>,
    /// Files that were written anew.
    pub runs_rewritten: usize,
    /// Files of which nothing remained.
    pub runs_dropped: usize,
    /// The run that published the results without the user; null where there was nothing to
    /// recompute.
    pub recomputed: Option<RunReport>,
    /// What else has to be done.
    pub notes: Vec<String>,
}

impl Maintenance {
    /// Removes every event of `user`, in all experiments or in one, and
    /// computes the results anew.
    ///
    /// # Errors
    ///
    /// A file is damaged or cannot be written; the same call again goes on.
    pub fn forget(
        &self,
        user: i64,
        experiment: Option<&ExperimentId>,
        actor: &str,
    ) -> Result<ForgetReport, MaintenanceError> {
        let _turn = self.turn();
        let mut report = self.erase_user(user, experiment, actor)?;
        let frozen = self.catalog.frozen_experiments()?;
        for id in frozen.iter().map(ExperimentId::as_str) {
            if report.experiments.iter().any(|touched| touched == id) {
                report.notes.push(format!(
                    "the results of `{id}` still count the user: retention dropped events of it, so they cannot be computed again"
                ));
            }
        }
        if !report.experiments.is_empty() {
            match self.aggregator.run("forget", 1, Scope::Touched) {
                Ok(run) => report.recomputed = Some(run),
                Err(error) => report.notes.push(format!(
                    "the results could not be computed anew, the next run tries again: {error}"
                )),
            }
        }
        Ok(report)
    }

    fn erase_user(
        &self,
        user: i64,
        experiment: Option<&ExperimentId>,
        actor: &str,
    ) -> Result<ForgetReport, MaintenanceError> {
        // A run in between would publish results with the user once more.
        let _running = self.aggregator.turn();
        let doomed = Doomed::User {
            user,
            experiment: experiment.map(|id| id.as_str().to_owned()),
        };
        let files = self.files("erasure is ClickHouse's: ALTER TABLE assignments and metric_events DELETE WHERE user_id = ..., then `trialog aggregate --full`")?;
        let limit = files.position();
        let found = files.count_doomed(&doomed, limit)?;
        let experiments = self.registered(found.keys())?;
        let salt = format!("{:032x}", fastrand::u128(..));
        let request = ErasureRequest {
            actor,
            salt: &salt,
            user,
            experiment,
            n_events: found.values().sum(),
            experiments: &experiments,
        };
        let erasure_id = self.catalog.begin_erasure(&request, (self.clock)())?;
        self.catalog.forget_in_samples(user, experiment)?;
        let erased = files.erase(&doomed, limit)?;
        files.scrub()?;
        (self.catalog).finish_erasure(erasure_id, erased.events, (self.clock)())?;
        tracing::info!(
            erasure_id,
            events = erased.events,
            experiments = found.len(),
            "removed the events of a user"
        );
        Ok(ForgetReport {
            erasure_id,
            events: erased.events,
            experiments: found.into_keys().collect(),
            runs_rewritten: erased.runs_rewritten,
            runs_dropped: erased.runs_dropped,
            recomputed: None,
            notes: vec![
                "backups and exports made before still hold the user: remove them, or erase the user again after a restore".to_owned(),
                "results published before this stay in the history: they are sums, and name no user".to_owned(),
            ],
        })
    }

    /// Returns the registered ones of `ids`. The others have no results.
    fn registered<'a>(
        &self,
        ids: impl Iterator<Item = &'a String>,
    ) -> Result<Vec<ExperimentId>, MaintenanceError> {
        let mut registered = Vec::new();
        for id in ids.filter_map(|id| ExperimentId::new(id.clone()).ok()) {
            match self.catalog.experiment(&id) {
                Ok(_) => registered.push(id),
                Err(CatalogError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(registered)
    }
}
