//! Records facts that stay true once they are, such as that there were API keys.

use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, params};
use crate::error::CatalogError;

/// There was an API key.
const API_KEYS: &str = "api_keys";

/// Records that an API key exists, in the transaction that stores the first one.
pub(crate) fn note_keys(transaction: &Connection<'_>, now: UnixMicros) -> database::Result<()> {
    transaction.execute(
        "INSERT INTO facts (fact, since) VALUES (?1, ?2) ON CONFLICT (fact) DO NOTHING",
        params![API_KEYS, now.0],
    )?;
    Ok(())
}

impl Catalog {
    /// Returns whether there ever was an API key. If so, requests need a key, even if all keys are
    /// gone.
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
