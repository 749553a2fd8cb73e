//! Stores the history of runs and the times at which they were published.

mod mark;
mod publish;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::Serialize;
use trialog_model::time::UnixMicros;

use crate::connection::{Catalog, Writes};
use crate::database::{Optional, Row, params};
use crate::error::CatalogError;

pub(crate) use mark::{high_water_mark, mark_at};
pub use publish::{FinishedRun, Outcome};

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It has not ended yet.
    Running,
    /// Its results are published.
    Succeeded,
    /// It wrote nothing but this.
    Failed,
    /// The process ended before it did.
    Interrupted,
}

impl RunStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Parses a stored status. Unknown text, such as that of a newer version, is read as
    /// `Interrupted`.
    fn parse(text: &str) -> Self {
        [Self::Running, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .unwrap_or(Self::Interrupted)
    }
}

/// A run as the history shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// Its number.
    pub run_id: i64,
    /// What started it: `schedule`, `request`, `command`.
    pub cause: String,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// What became of it.
    pub status: RunStatus,
    /// When it started.
    pub started_at: UnixMicros,
    /// When it ended.
    pub finished_at: Option<UnixMicros>,
    /// Up to where it read.
    pub position: Option<u64>,
    /// Experiments that it recomputed.
    pub n_experiments: Option<u64>,
    /// The number of experiments among them that failed.
    pub n_failed: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Catalog {
    /// Returns when the last published run was published; `None` before the first.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn last_published_at(&self) -> Result<Option<UnixMicros>, CatalogError> {
        self.read("read the last run", |connection| {
            let sql = "SELECT finished_at FROM pipeline_runs
                WHERE status = 'succeeded' ORDER BY run_id DESC LIMIT 1";
            let found = connection.query_row(sql, params![], |row| row.get(0));
            found.optional()
        })
    }

    /// Returns the first time from `at` on at which no run was published. Rows are stored by this
    /// time.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn free_time(&self, at: UnixMicros) -> Result<UnixMicros, CatalogError> {
        self.read("read the times of runs", |connection| {
            let sql = "SELECT EXISTS
                (SELECT 1 FROM pipeline_runs WHERE status = 'succeeded' AND finished_at = ?1)";
            let mut statement = connection.prepare_cached(sql)?;
            let mut free = at;
            while statement.query_row([free.0], |row| row.get(0))? {
                free.0 += 1;
            }
            Ok(free)
        })
    }

    /// Returns whether a run was published between `from` and `to`, by its clock.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn ran_between(&self, from: UnixMicros, to: UnixMicros) -> Result<bool, CatalogError> {
        self.read("read the times of runs", |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM pipeline_runs
                WHERE status = 'succeeded' AND finished_at BETWEEN ?1 AND ?2)";
            connection.query_row(sql, [from.0, to.0], |row| row.get(0))
        })
    }

    /// Returns the time of the catalog's storage right after something was written: that of the
    /// file system, or of the server of the database. `None` if it is not available.
    pub fn storage_time(&self) -> Option<UnixMicros> {
        let Ok(file) = self.file("it has a clock of its own") else {
            let now = self.read("read the time", |connection| {
                let sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)";
                connection.query_row(sql, params![], |row| row.get(0))
            });
            return now.ok();
        };
        file.written_at()
    }

    /// Records that a run begins, and returns its number.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn begin_run(
        &self,
        cause: &str,
        attempt: u32,
        now: UnixMicros,
    ) -> Result<i64, CatalogError> {
        self.write_as(Writes::Rows, "begin a run", |transaction| {
            let sql = "INSERT INTO pipeline_runs (cause, attempt, status, started_at)
                VALUES (?1, ?2, 'running', ?3) RETURNING run_id";
            let number = |row: &Row<'_>| row.get(0);
            Ok(transaction.query_row(sql, params![cause, attempt, now.0], number)?)
        })
    }

    /// Records that a run failed. It published nothing.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn fail_run(&self, run_id: i64, error: &str, now: UnixMicros) -> Result<(), CatalogError> {
        self.write_as(Writes::Rows, "note a failed run", |transaction| {
            transaction.execute(
                "UPDATE pipeline_runs SET status = 'failed', finished_at = ?2, error = ?3
                     WHERE run_id = ?1",
                params![run_id, now.0, error],
            )?;
            Ok(())
        })
    }

    /// Marks the runs that an earlier process left unfinished.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn mark_interrupted_runs(&self) -> Result<usize, CatalogError> {
        self.write_as(Writes::Rows, "mark interrupted runs", |transaction| {
            let sql = "UPDATE pipeline_runs SET status = 'interrupted' WHERE status = 'running'";
            Ok(transaction.execute(sql, params![])?)
        })
    }

    /// Returns the last runs, newest first.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn runs(&self, limit: u32) -> Result<Vec<RunRecord>, CatalogError> {
        let record = |row: &Row<'_>| {
            Ok(RunRecord {
                run_id: row.get(0)?,
                cause: row.get(1)?,
                attempt: row.get(2)?,
                status: RunStatus::parse(&row.get::<String>(3)?),
                started_at: row.get(4)?,
                finished_at: row.get(5)?,
                position: row.get::<Option<i64>>(6)?.map(i64::cast_unsigned),
                n_experiments: row.get(7)?,
                n_failed: row.get(8)?,
                error: row.get(9)?,
            })
        };
        self.read("read the history of runs", |connection| {
            connection
                .prepare_cached(
                    "SELECT run_id, cause, attempt, status, started_at, finished_at, position,
                         n_experiments, n_failed, error
                     FROM pipeline_runs ORDER BY run_id DESC LIMIT ?1",
                )?
                .query_map([limit], record)?
                .collect()
        })
    }
}
