//! Records the experiments whose events retention dropped: their results stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use trialog_model::ids::ExperimentId;
use trialog_model::sequence::BreakReason;
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{Optional, corrupt, params};
use crate::error::CatalogError;
use crate::results::keep_in_samples;
use crate::sequence::{self, NewBreak};

/// The events of an experiment that retention dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Events before this time are gone.
    pub before: UnixMicros,
    /// How many were dropped, copies included.
    pub events: u64,
}

impl Catalog {
    /// Records that events before `before` are about to be dropped, with their numbers by
    /// experiment. From now on these experiments are not recomputed.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn note_dropped(
        &self,
        counts: &BTreeMap<String, u64>,
        before: UnixMicros,
        now: UnixMicros,
    ) -> Result<(), CatalogError> {
        self.write("note dropped events", |transaction| {
            for (id, n_events) in counts {
                transaction.execute(
                    "INSERT INTO dropped_events
                     (experiment_id, dropped_before, n_events, dropped_at)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (experiment_id) DO UPDATE SET
                         dropped_before = CASE
                             WHEN dropped_events.dropped_before > excluded.dropped_before
                             THEN dropped_events.dropped_before
                             ELSE excluded.dropped_before END,
                         n_events = dropped_events.n_events + excluded.n_events,
                         dropped_at = excluded.dropped_at",
                    params![id, before.0, n_events.cast_signed(), now.0],
                )?;
                let new = NewBreak {
                    experiment: id,
                    reason: BreakReason::Retention,
                    at: now,
                    actor: "retention",
                    fields: "",
                };
                sequence::note_break(transaction, &new)?;
                // Ids of users whose events are dropped are dropped as well.
                if let Ok(id) = ExperimentId::new(id) {
                    keep_in_samples(transaction, Some(&id), "%", |_| false)?;
                }
            }
            Ok(())
        })
    }

    /// Returns what was dropped of `experiment`, if anything was.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn dropped(&self, experiment: &ExperimentId) -> Result<Option<Dropped>, CatalogError> {
        self.read("read what was dropped", |connection| {
            let sql = "SELECT experiment_id, dropped_before, n_events, dropped_at, seal
                FROM dropped_events WHERE experiment_id = ?1";
            (connection.prepare_cached(sql)?)
                .query_row([experiment.as_str()], |row| {
                    if !row.is_sound(4)? {
                        return Err(corrupt(format!(
                            "what was dropped of `{experiment}` does not match its checksum"
                        )));
                    }
                    Ok(Dropped {
                        before: UnixMicros(row.get(1)?),
                        events: row.get(2)?,
                    })
                })
                .optional()
        })
    }

    /// Returns all experiments of which something was dropped.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn frozen_experiments(&self) -> Result<BTreeSet<ExperimentId>, CatalogError> {
        self.read("read what was dropped", |connection| {
            connection
                .prepare_cached("SELECT experiment_id FROM dropped_events")?
                .query_map(params![], crate::experiments::id)?
                .collect()
        })
    }
}
