//! The audit of erasures: that a user's events were removed, never whose.

use serde::Serialize;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Row, corrupt, params};
use crate::error::CatalogError;
use crate::sequence::{self, BreakReason, NewBreak};

/// An erasure before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRequest<'a> {
    /// Who asked.
    pub actor: &'a str,
    /// Random text that is hashed together with the user.
    pub salt: &'a str,
    /// SHA-256 of the salt and the user.
    pub user_hash: &'a str,
    /// The one experiment; none for all.
    pub experiment: Option<&'a ExperimentId>,
    /// Events to remove, copies included.
    pub n_events: u64,
    /// Experiments that have some of them; all become due.
    pub experiments: &'a [ExperimentId],
}

/// An erasure, as the audit shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erasure {
    /// Its number.
    pub erasure_id: i64,
    /// When it began.
    pub requested_at: String,
    /// When all was removed; none where the process ended before.
    pub finished_at: Option<String>,
    /// Who asked.
    pub actor: String,
    /// What was hashed together with the user.
    pub salt: String,
    /// SHA-256 of the salt and the user: a known id can be compared, none can be read.
    pub user_hash: String,
    /// The one experiment; null for all.
    pub experiment: Option<String>,
    /// Events that were removed, copies included.
    pub events: u64,
    /// Experiments that had some of them.
    pub experiments: u64,
}

impl Catalog {
    /// Notes that an erasure begins, and makes its experiments due, so that
    /// none keeps results with the user whatever happens next.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn begin_erasure(
        &self,
        request: &ErasureRequest<'_>,
        now: UnixMicros,
    ) -> Result<i64, CatalogError> {
        let failed = CatalogError::database("begin an erasure", self.place());
        self.write("begin an erasure", |transaction| {
            for id in request.experiments {
                transaction
                    .prepare_cached("UPDATE experiments SET recompute_at = 0 WHERE experiment_id = ?1")
                    .and_then(|mut statement| statement.execute([id.as_str()]))
                    .map_err(&failed)?;
                let new = NewBreak {
                    experiment: id.as_str(),
                    reason: BreakReason::Erasure,
                    at: now,
                    actor: request.actor,
                    fields: "",
                };
                sequence::note_break(transaction, &new).map_err(&failed)?;
            }
            transaction
                .query_row(
                    "INSERT INTO erasures (requested_at, actor, salt, user_hash, experiment_id, n_events, n_experiments) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING erasure_id",
                    params![
                        now.0,
                        request.actor,
                        request.salt,
                        request.user_hash,
                        request.experiment.map(ExperimentId::as_str),
                        request.n_events.cast_signed(),
                        request.experiments.len() as i64
                    ],
|row| row.get(0),
)
.map_err(&failed)

        })
    }

    /// Notes that everything of an erasure is removed.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn finish_erasure(
        &self,
        erasure_id: i64,
        n_events: u64,
        now: UnixMicros,
    ) -> Result<(), CatalogError> {
        let failed = CatalogError::database("finish an erasure", self.place());
        self.write("finish an erasure", |transaction| {
            transaction
                .execute(
                    "UPDATE erasures SET finished_at = ?2, n_events = ?3 WHERE erasure_id = ?1",
                    params![erasure_id, now.0, n_events.cast_signed()],
                )
                .map_err(&failed)?;
            Ok(())
        })
    }

    /// The last erasures, newest first.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or a row is not as it was written.
    pub fn erasures(&self, limit: u32) -> Result<Vec<Erasure>, CatalogError> {
        self.read("read the erasures", |connection| {
            connection
                .prepare_cached("SELECT erasure_id, requested_at, finished_at, actor, salt, user_hash, experiment_id, n_events, n_experiments, seal FROM erasures ORDER BY erasure_id DESC LIMIT ?1")?
                .query_map([limit], erasure)?
                .collect()
        })
    }
}

fn erasure(row: &Row<'_>) -> database::Result<Erasure> {
    if !row.is_sound(9)? {
        let id: i64 = row.get(0)?;
        let what = format!("erasure {id} does not match its checksum");
        return Err(corrupt(what));
    }
    Ok(Erasure {
        erasure_id: row.get(0)?,
        requested_at: UnixMicros(row.get(1)?).to_rfc3339(),
        finished_at: (row.get::<Option<i64>>(2)?).map(|time| UnixMicros(time).to_rfc3339()),
        actor: row.get(3)?,
        salt: row.get(4)?,
        user_hash: row.get(5)?,
        experiment: row.get(6)?,
        events: row.get(7)?,
        experiments: row.get(8)?,
    })
}
