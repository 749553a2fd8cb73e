//! Which API key first named an experiment that nobody registered.
//!
//! Stored events do not say which key sent them, so it is noted when a new name comes in. A
//! name without a note, such as one of an imported file, has the sender `""`.

use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, Optional, params};
use crate::error::CatalogError;

/// The most notes of a sender; its further names have none.
const MAX_NOTES: u64 = 10_000;
/// A note without an unregistered experiment is removed once it is older than this.
const KEEP_UNUSED_MICROS: i64 = 24 * 3_600_000_000;

impl Catalog {
    /// Notes `sender` for those of `experiments` that are neither registered nor noted yet; for
    /// 10,000 names of a sender at most.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn note_sender(
        &self,
        sender: &str,
        experiments: &[ExperimentId],
        now: UnixMicros,
    ) -> Result<(), CatalogError> {
        self.write("note who names experiments", |transaction| {
            Ok(insert_notes(transaction, sender, experiments, now)?)
        })
    }
}

fn insert_notes(
    transaction: &Connection<'_>,
    sender: &str,
    experiments: &[ExperimentId],
    now: UnixMicros,
) -> database::Result<()> {
    let n_notes: u64 = transaction.query_row(
        "SELECT count(*) FROM experiment_senders WHERE sender = ?1",
        params![sender],
        |row| row.get(0),
    )?;
    let mut n_free = MAX_NOTES.saturating_sub(n_notes);
    for experiment in experiments {
        if n_free == 0 {
            break;
        }
        let n_inserted = transaction.execute(
            "INSERT INTO experiment_senders (experiment_id, sender, noted_at)
             SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?3 AS BIGINT)
             WHERE NOT EXISTS (SELECT 1 FROM experiments WHERE experiment_id = ?1)
             ON CONFLICT (experiment_id) DO NOTHING",
            params![experiment.as_str(), sender, now.0],
        )?;
        n_free -= n_inserted as u64;
    }
    Ok(())
}

/// The sender of `experiment`, `""` where none is noted.
pub(super) fn find_sender(
    transaction: &Connection<'_>,
    experiment: &ExperimentId,
) -> database::Result<String> {
    let sender = transaction
        .prepare_cached("SELECT sender FROM experiment_senders WHERE experiment_id = ?1")?
        .query_row(params![experiment.as_str()], |row| row.get(0))
        .optional()?;
    Ok(sender.unwrap_or_default())
}

/// Removes the notes that no unregistered experiment has used for a day.
pub(super) fn remove_unused(transaction: &Connection<'_>, now: UnixMicros) -> database::Result<()> {
    transaction.execute(
        "DELETE FROM experiment_senders WHERE noted_at < ?1 AND NOT EXISTS
         (SELECT 1 FROM experiments e WHERE e.experiment_id = experiment_senders.experiment_id
          AND e.status = 'unregistered')",
        params![now.0.saturating_sub(KEEP_UNUSED_MICROS)],
    )?;
    Ok(())
}
