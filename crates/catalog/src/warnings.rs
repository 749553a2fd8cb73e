//! Stores the warnings of the last runs by experiment and code.

use std::collections::BTreeMap;

use crate::connection::Catalog;
use crate::database::{self, Cells, Connection, Parameter, Row, cells, params};
use crate::error::CatalogError;
use crate::runs::FinishedRun;

/// The number of experiments whose old warnings one statement removes.
const REMOVED_AT_A_TIME: usize = 32;

impl Catalog {
    /// Counts the experiments with a warning, by code. Stopped and archived ones do not count,
    /// because their integration cannot be changed any more.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn experiments_with_warnings(&self) -> Result<BTreeMap<String, u64>, CatalogError> {
        let sql = "SELECT code, count(*) FROM experiment_warnings
                   JOIN experiments ON experiments.experiment_id = experiment_warnings.experiment_id
                   WHERE experiments.status NOT IN ('stopped', 'archived') GROUP BY code";
        let count = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.read("count warnings", |connection| {
            connection
                .prepare_cached(sql)?
                .query_map(params![], count)?
                .collect()
        })
    }
}

/// Removes the warnings of an experiment.
pub(crate) fn remove(transaction: &Connection<'_>, experiment: &str) -> database::Result<()> {
    let sql = "DELETE FROM experiment_warnings WHERE experiment_id = ?1";
    transaction.prepare_cached(sql)?.execute([experiment])?;
    Ok(())
}

/// Replaces the warnings of the experiments that `run` computed.
pub(crate) fn replace(transaction: &Connection<'_>, run: &FinishedRun) -> database::Result<()> {
    let computed = run
        .outcomes
        .iter()
        .filter(|outcome| outcome.computed.is_ok());
    let computed: Vec<_> = computed.collect();
    for some in computed.chunks(REMOVED_AT_A_TIME) {
        let places: Vec<String> = (1..=some.len()).map(|at| format!("?{at}")).collect();
        let places = places.join(", ");
        let sql = format!("DELETE FROM experiment_warnings WHERE experiment_id IN ({places})");
        let ids: Vec<&str> = some
            .iter()
            .map(|outcome| outcome.experiment.as_str())
            .collect();
        let ids: Vec<&dyn Parameter> = ids.iter().map(|id| id as &dyn Parameter).collect();
        transaction.execute(&sql, ids.as_slice())?;
    }
    let rows: Vec<Cells<'_>> = computed
        .iter()
        .flat_map(|outcome| {
            let id = outcome.experiment.as_str();
            outcome.warnings.iter().map(move |code| cells![id, *code])
        })
        .collect();
    transaction.insert_all("experiment_warnings", &["experiment_id", "code"], &rows)
}
