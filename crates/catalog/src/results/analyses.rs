//! Stores the rows of analyses other than the scorecard.
//!
//! A row belongs to a computation: it is published with it, and goes when that is thinned out
//! or its experiment is deleted. Its seal covers the bytes of its body and its key, and rows
//! are counted, so that a missing one is found.

use trialog_model::ids::ExperimentId;
use trialog_model::published::AnalysisRow;
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, Optional, corrupt, params};
use crate::error::CatalogError;

/// Reads the rows of `analysis` that were published of `experiment` at `computed_at`, by key.
pub(crate) fn read(
    connection: &Connection<'_>,
    experiment: &ExperimentId,
    computed_at: i64,
    analysis: &str,
) -> database::Result<Vec<AnalysisRow>> {
    let sql = "SELECT experiment_id, computed_at, analysis, key, body, seal FROM analysis_results
               WHERE experiment_id = ?1 AND computed_at = ?2 AND analysis = ?3 ORDER BY key";
    connection
        .prepare_cached(sql)?
        .query_map(params![experiment.as_str(), computed_at, analysis], |row| {
            if !row.is_sound(5)? {
                return Err(damaged(experiment, analysis));
            }
            Ok(AnalysisRow {
                analysis: row.get(2)?,
                key: row.get(3)?,
                body: row.get(4)?,
            })
        })?
        .collect()
}

/// Builds the error for rows of `analysis` that are not as they were written.
pub(crate) fn damaged(experiment: &ExperimentId, analysis: &str) -> database::DatabaseError {
    corrupt(format!(
        "the rows of the analysis `{analysis}` of `{experiment}` do not match their checksum"
    ))
}

impl Catalog {
    /// Returns the rows of `analysis` that belong to the newest computation of `experiment`, by
    /// key.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or a row is not as it was written.
    pub fn latest_analysis(
        &self,
        experiment: &ExperimentId,
        analysis: &str,
    ) -> Result<Vec<AnalysisRow>, CatalogError> {
        self.read("read the rows of an analysis", |connection| {
            let sql = "SELECT computed_at FROM computations WHERE experiment_id = ?1
                       ORDER BY run_id DESC LIMIT 1";
            let newest = connection
                .prepare_cached(sql)?
                .query_row([experiment.as_str()], |row| row.get(0))
                .optional()?;
            match newest {
                Some(computed_at) => read(connection, experiment, computed_at, analysis),
                None => Ok(Vec::new()),
            }
        })
    }

    /// Returns the rows of `analysis` of `experiment` that were published at `computed_at`, by
    /// key.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or a row is not as it was written.
    pub fn analysis(
        &self,
        experiment: &ExperimentId,
        computed_at: UnixMicros,
        analysis: &str,
    ) -> Result<Vec<AnalysisRow>, CatalogError> {
        self.read("read the rows of an analysis", |connection| {
            read(connection, experiment, computed_at.0, analysis)
        })
    }
}
