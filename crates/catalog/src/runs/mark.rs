//! Stores the position up to which results were computed.

use trialog_model::published::HighWaterMark;
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, Optional, Row, corrupt, params};
use crate::error::CatalogError;
use crate::journal::JournalState;

use super::FinishedRun;

/// The one source of the embedded warehouse: its inbox numbers every batch.
const INBOX: &str = "inbox";

impl Catalog {
    /// Returns the position and time that published results reach.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn high_water_mark(&self) -> Result<HighWaterMark, CatalogError> {
        self.read("read the high-water mark", high_water_mark)
    }

    /// Returns the position that published results reach, and the earlier batches that they do not
    /// cover.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn covered(&self) -> Result<(HighWaterMark, Vec<u64>), CatalogError> {
        self.read("read the high-water mark", covered)
    }
}

/// Moves the mark to where `run` read, except for batches that were not finished then.
pub(super) fn advance(transaction: &Connection<'_>, run: &FinishedRun) -> database::Result<()> {
    let unreadable = (run.journal.as_ref()).map_or_else(Vec::new, JournalState::unreadable_batches);
    transaction.execute(
        "INSERT INTO pipeline_state (source, position, data_time, run_id, except_for)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (source) DO UPDATE SET position = excluded.position,
             data_time = excluded.data_time, run_id = excluded.run_id,
             except_for = excluded.except_for",
        params![
            INBOX,
            run.position.cast_signed(),
            run.data_time.0,
            run.run_id,
            to_column(&unreadable)
        ],
    )?;
    Ok(())
}

pub(crate) fn high_water_mark(connection: &Connection<'_>) -> database::Result<HighWaterMark> {
    Ok(covered(connection)?.0)
}

/// The high-water mark, and the positions below it that the results do not cover.
fn covered(connection: &Connection<'_>) -> database::Result<(HighWaterMark, Vec<u64>)> {
    let mark = |row: &Row<'_>| {
        if !row.is_sound(5)? {
            return Err(corrupt(
                "the high-water mark does not match its checksum".to_owned(),
            ));
        }
        let position: i64 = row.get(1)?;
        let mark = HighWaterMark {
            position: position.cast_unsigned(),
            data_time: UnixMicros(row.get(2)?),
            run_id: row.get(3)?,
        };
        Ok((mark, numbers(&row.get::<String>(4)?)))
    };
    let sql = "SELECT source, position, data_time, run_id, except_for, seal
        FROM pipeline_state WHERE source = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([INBOX], mark)
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Numbers as a column holds them.
fn to_column(numbers: &[u64]) -> String {
    let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
    texts.join(" ")
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Returns the high-water mark as it was published at `time`.
pub(crate) fn mark_at(
    connection: &Connection<'_>,
    time: UnixMicros,
) -> database::Result<HighWaterMark> {
    let mark = |row: &Row<'_>| {
        let position: i64 = row.get(0)?;
        Ok(HighWaterMark {
            position: position.cast_unsigned(),
            data_time: UnixMicros(row.get(1)?),
            run_id: row.get(2)?,
        })
    };
    let sql = "SELECT position, started_at, run_id FROM pipeline_runs
               WHERE status = 'succeeded' AND finished_at <= ?1 ORDER BY run_id DESC LIMIT 1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([time.0], mark)
        .optional()?;
    Ok(found.unwrap_or_default())
}
