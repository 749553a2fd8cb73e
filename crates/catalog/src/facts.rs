//! What was once so and stays so, whatever becomes of the rows that it was so of.

use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, params};
use crate::error::CatalogError;

/// There was an API key.
const API_KEYS: &str = "api_keys";

/// Notes that there is an API key, in the transaction that keeps the first one.
pub(crate) fn note_keys(transaction: &Connection<'_>, now: UnixMicros) -> database::Result<()> {
    transaction.execute(
        "INSERT INTO facts (fact, since) VALUES (?1, ?2) ON CONFLICT (fact) DO NOTHING",
        params![API_KEYS, now.0],
    )?;
    Ok(())
}

impl Catalog {
    /// Whether there ever was an API key: if so, nobody gets in without one any more, also
    /// where the keys are gone.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn had_keys(&self) -> Result<bool, CatalogError> {
        self.read("read whether there were API keys", |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM facts WHERE fact = ?1)";
            connection.query_row(sql, [API_KEYS], |row| row.get(0))
        })
    }
}
