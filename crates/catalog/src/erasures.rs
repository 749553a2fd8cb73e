//! Records erasures: that the events of a user were removed, but not of whom.
//!
//! A user is written down as a hash with a key that never leaves the catalog (its table is
//! `hidden_keys`), since the ids of users can be counted through: whoever has a row of the
//! audit finds no id by trying all of them.

use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use trialog_model::hex::hex;
use trialog_model::ids::ExperimentId;
use trialog_model::sequence::BreakReason;
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, Row, corrupt, params};
use crate::error::CatalogError;
use crate::sequence::{self, NewBreak};

/// An erasure before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRequest<'a> {
    /// The actor who requested the erasure.
    pub actor: &'a str,
    /// Random text that is hashed together with the user.
    pub salt: &'a str,
    /// The user, of whom a hash is kept.
    pub user: i64,
    /// The one experiment; none for all.
    pub experiment: Option<&'a ExperimentId>,
    /// Events to remove, copies included.
    pub n_events: u64,
    /// Experiments that have some of them; all become due.
    pub experiments: &'a [ExperimentId],
}

/// An erasure as the audit shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Erasure {
    /// Its number.
    #[schemars(range(min = 1))]
    pub erasure_id: i64,
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    pub requested_at: String,
    /// When all was removed; null where the process ended before.
    #[schemars(extend("format" = "date-time"))]
    pub finished_at: Option<String>,
    /// The actor who requested the erasure.
    pub actor: String,
    /// What was hashed together with the user.
    pub salt: String,
    /// HMAC-SHA256 of the salt and the user with a key that never leaves the catalog: only the
    /// catalog can check whether the erasure is of a given user.
    pub user_hash: String,
    /// The one experiment; null for all.
    pub experiment: Option<String>,
    /// Events that were removed, copies included.
    pub events: u64,
    /// Experiments that had some of them.
    pub experiments: u64,
}

impl Catalog {
    /// Records that an erasure begins, and marks its experiments for recomputation, so that none
    /// keeps results with the user even if the process ends.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn begin_erasure(
        &self,
        request: &ErasureRequest<'_>,
        now: UnixMicros,
    ) -> Result<i64, CatalogError> {
        self.write("begin an erasure", |transaction| {
            for id in request.experiments {
                let sql = "UPDATE experiments SET recompute_at = 0 WHERE experiment_id = ?1";
                transaction.execute(sql, [id.as_str()])?;
                let new = NewBreak {
                    experiment: id.as_str(),
                    reason: BreakReason::Erasure,
                    at: now,
                    actor: request.actor,
                    fields: "",
                };
                sequence::note_break(transaction, &new)?;
            }
            let user_hash = keyed(&key(transaction)?, request.salt, request.user);
            let erasure_id = transaction.query_row(
                "INSERT INTO erasures
                     (requested_at, actor, salt, user_hash, experiment_id, n_events, n_experiments)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING erasure_id",
                params![
                    now.0,
                    request.actor,
                    request.salt,
                    user_hash,
                    request.experiment.map(ExperimentId::as_str),
                    request.n_events.cast_signed(),
                    request.experiments.len() as i64
                ],
                |row| row.get(0),
            )?;
            Ok(erasure_id)
        })
    }

    /// Records that an erasure is complete.
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
        self.write("finish an erasure", |transaction| {
            transaction.execute(
                "UPDATE erasures SET finished_at = ?2, n_events = ?3 WHERE erasure_id = ?1",
                params![erasure_id, now.0, n_events.cast_signed()],
            )?;
            Ok(())
        })
    }

    /// Returns the last erasures, newest first; only those of `user` if it is given.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or a row is not as it was written.
    pub fn erasures(&self, user: Option<i64>, limit: u32) -> Result<Vec<Erasure>, CatalogError> {
        self.read("read the erasures", |connection| {
            let all: Vec<Erasure> = connection
                .prepare_cached(
                    "SELECT erasure_id, requested_at, finished_at, actor, salt, user_hash,
                         experiment_id, n_events, n_experiments, seal
                     FROM erasures ORDER BY erasure_id DESC LIMIT ?1",
                )?
                .query_map([limit], erasure)?
                .collect::<database::Result<_>>()?;
            let Some(user) = user else { return Ok(all) };
            let key = key(connection)?;
            let is_of_user =
                |erasure: &Erasure| erasure.user_hash == keyed(&key, &erasure.salt, user);
            Ok(all.into_iter().filter(is_of_user).collect())
        })
    }

    /// Hashes with the key what an earlier version hashed without one; once.
    pub(crate) fn hash_erasures_with_key(&self) -> Result<(), CatalogError> {
        let action = "hash the erasures with a key";
        let is_used = self.read(action, |connection| {
            connection.query_row(
                "SELECT is_used FROM hidden_keys WHERE name = 'erasures'",
                params![],
                |row| row.get::<i64>(0),
            )
        })?;
        if is_used != 0 {
            return Ok(());
        }
        self.write(action, |transaction| Ok(hash_again(transaction)?))
    }
}

/// Hashes what the rows have once more, with the key, unless another process did.
fn hash_again(transaction: &Connection<'_>) -> database::Result<()> {
    let n_changed = transaction.execute(
        "UPDATE hidden_keys SET is_used = 1 WHERE name = 'erasures' AND is_used = 0",
        params![],
    )?;
    if n_changed == 0 {
        return Ok(());
    }
    let key = key(transaction)?;
    let rows: Vec<(i64, String)> = transaction
        .prepare_cached("SELECT erasure_id, user_hash FROM erasures")?
        .query_map(params![], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<database::Result<_>>()?;
    for (erasure_id, plain) in rows {
        transaction.execute(
            "UPDATE erasures SET user_hash = ?2 WHERE erasure_id = ?1",
            params![erasure_id, with_key(&key, &plain)],
        )?;
    }
    Ok(())
}

/// The key of this catalog.
fn key(connection: &Connection<'_>) -> database::Result<String> {
    connection.query_row(
        "SELECT name, key, is_used, seal FROM hidden_keys WHERE name = 'erasures'",
        params![],
        |row| match row.is_sound(3)? {
            true => row.get(1),
            false => Err(corrupt(
                "the key of the erasures does not match its checksum".to_owned(),
            )),
        },
    )
}

/// Computes the hash that stands for `user` in the audit.
fn keyed(key: &str, salt: &str, user: i64) -> String {
    // Earlier versions kept the inner hash.
    with_key(key, &hex(&Sha256::digest(format!("{salt}:{user}"))))
}

fn with_key(key: &str, text: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length is taken");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    fn erase(catalog: &Catalog, user: i64) {
        let request = ErasureRequest {
            actor: "mia",
            salt: "00ff",
            user,
            experiment: None,
            n_events: 1,
            experiments: &[],
        };
        let id = catalog.begin_erasure(&request, NOW).unwrap();
        catalog.finish_erasure(id, 1, NOW).unwrap();
    }

    #[test]
    fn the_hash_is_hmac_sha_256_of_the_salted_hash() {
        // RFC 4231, test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(with_key("Jefe", "what do ya want for nothing?"), expected);
    }

    #[test]
    fn nobody_finds_the_user_by_counting_and_the_catalog_knows_whose_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        erase(&catalog, 123_456);
        erase(&catalog, 7);
        let found = catalog.erasures(Some(123_456), 10).unwrap();
        assert_eq!(found.len(), 1);
        let unkeyed = hex(&Sha256::digest("00ff:123456"));
        assert_ne!(found[0].user_hash, unkeyed);
        assert_ne!(found[0].user_hash, keyed("", "00ff", 123_456));
        assert_eq!(catalog.erasures(None, 10).unwrap().len(), 2);
        assert!(catalog.erasures(Some(8), 10).unwrap().is_empty());
    }

    #[test]
    fn what_was_hashed_without_a_key_gets_one_when_the_catalog_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        erase(&catalog, 123_456);
        let go_back = |transaction: &Connection<'_>| {
            let unkeyed = hex(&Sha256::digest("00ff:123456"));
            let back = "UPDATE erasures SET user_hash = ?1";
            transaction.execute(back, params![unkeyed])?;
            let unused = "UPDATE hidden_keys SET is_used = 0";
            Ok(transaction.execute(unused, params![])?)
        };
        catalog
            .write::<_, CatalogError>("go back", go_back)
            .unwrap();
        assert!(catalog.erasures(Some(123_456), 10).unwrap().is_empty());
        drop(catalog);
        for _ in 0..2 {
            let catalog = Catalog::open(directory.path()).unwrap();
            assert_eq!(catalog.erasures(Some(123_456), 10).unwrap().len(), 1);
        }
    }
}
