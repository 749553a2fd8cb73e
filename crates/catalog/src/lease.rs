//! Leases jobs: a lease lets one of the processes that share a catalog do a job.
//!
//! A lease has an end, so that one whose holder died passes on by itself, and
//! an epoch that grows with each holder. Whoever does what the lease is for
//! checks its epoch in the very transaction that makes it count. So a holder
//! that was paused past the end of its lease cannot do anything with it
//! afterwards, however late it wakes up (Gray and Cheriton, "Leases", 1989).

use trialog_model::time::UnixMicros;

use crate::connection::{Catalog, Writes};
use crate::database::{self, Connection, Optional, params};
use crate::error::CatalogError;

/// A lease that this process holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub name: String,
    /// Who has it.
    pub holder: String,
    /// Which holder of it this is, from 1.
    pub epoch: i64,
}

/// The present holder of a lease that another process wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who has it.
    pub holder: String,
    /// When it ends unless it is renewed.
    pub expires_at: UnixMicros,
}

/// The number of lengths ahead at which the end of a lease is implausible. Such a lease was taken
/// by a clock that was ahead, and no process renews it: it is treated as ended.
const MOST_LENGTHS: i64 = 100;

impl Catalog {
    /// Acquires the lease `name` for `length_micros`, or returns its holder. Time is the
    /// database's if it has a clock, so that the clocks of machines do not matter.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        length_micros: i64,
        now: UnixMicros,
    ) -> Result<Result<Lease, Held>, CatalogError> {
        let action = "take a lease";
        self.write_as(Writes::Rows, action, |transaction| {
            let now = clock(transaction, now)?;
            let latest = now.saturating_add(length_micros.saturating_mul(MOST_LENGTHS));
            let taken = transaction
                .query_row(
                    "INSERT INTO leases (name, holder, epoch, expires_at) VALUES (?1, ?2, 1, ?3)
                     ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = leases.epoch + 1, expires_at = excluded.expires_at
                     WHERE leases.expires_at <= ?4 OR leases.expires_at > ?5 RETURNING epoch",
                    params![name, holder, now.saturating_add(length_micros), now, latest],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(epoch) = taken {
                return Ok(Ok(Lease {
                    name: name.to_owned(),
                    holder: holder.to_owned(),
                    epoch,
                }));
            }
            let held = transaction.query_row(
                "SELECT holder, expires_at FROM leases WHERE name = ?1",
                [name],
                |row| {
                    Ok(Held {
                        holder: row.get(0)?,
                        expires_at: row.get(1)?,
                    })
                },
            );
            Ok(held.map(Err)?)
        })
    }

    /// Extends `lease` to `length_micros` from now; false if another process holds it by now.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn renew_lease(
        &self,
        lease: &Lease,
        length_micros: i64,
        now: UnixMicros,
    ) -> Result<bool, CatalogError> {
        let action = "renew a lease";
        self.write_as(Writes::Rows, action, |transaction| {
            let now = clock(transaction, now)?;
            let renewed = transaction.execute(
                "UPDATE leases SET expires_at = ?3 WHERE name = ?1 AND epoch = ?2",
                params![lease.name, lease.epoch, now.saturating_add(length_micros)],
            );
            Ok(renewed? == 1)
        })
    }

    /// Releases `lease`, so that the next process need not wait for its end.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn release_lease(&self, lease: &Lease) -> Result<(), CatalogError> {
        let action = "end a lease";
        self.write_as(Writes::Rows, action, |transaction| {
            let ended = transaction.execute(
                "UPDATE leases SET expires_at = 0 WHERE name = ?1 AND epoch = ?2",
                params![lease.name, lease.epoch],
            );
            Ok(ended.map(drop)?)
        })
    }
}

/// Locks the lease's row until the transaction ends, and returns whether its epoch is still that of
/// `lease`; the expiry is not checked. No process takes the lease over before the transaction ends.
pub(crate) fn lock_if_held(transaction: &Connection<'_>, lease: &Lease) -> database::Result<bool> {
    let held = transaction.execute(
        "UPDATE leases SET epoch = epoch WHERE name = ?1 AND epoch = ?2",
        params![lease.name, lease.epoch],
    )?;
    Ok(held == 1)
}

/// Returns the database's time if it has a clock, else `now`; in microseconds since 1970.
fn clock(transaction: &Connection<'_>, now: UnixMicros) -> database::Result<i64> {
    let sql = transaction.choose(
        "SELECT CAST(?1 AS INTEGER)",
        "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) WHERE CAST(?1 AS BIGINT) IS NOT NULL",
    );
    transaction.query_row(sql, [now.0], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: i64 = 3_600_000_000;
    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    #[test]
    fn a_lease_has_one_holder_until_it_ends_and_an_epoch_for_each() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let take = |holder, length| {
            catalog
                .acquire_lease("aggregation", holder, length, NOW)
                .unwrap()
        };
        let first = take("a", LONG).unwrap();
        assert_eq!((first.holder.as_str(), first.epoch), ("a", 1));
        assert_eq!(take("b", LONG).unwrap_err().holder, "a");
        assert!(catalog.renew_lease(&first, LONG, NOW).unwrap());
        catalog.release_lease(&first).unwrap();
        // This one ends as it begins.
        let second = take("b", 0).unwrap();
        assert_eq!(second.epoch, 2);
        let third = take("c", LONG).unwrap();
        assert_eq!(third.epoch, 3);
        assert!(!catalog.renew_lease(&second, LONG, NOW).unwrap());
        catalog.release_lease(&second).unwrap();
        assert_eq!(
            take("d", LONG).unwrap_err().holder,
            "c",
            "who lost it ends nothing"
        );
        // By a clock that was years ahead; in PostgreSQL it is the server's clock that counts.
        if !catalog.is_shared() {
            let ahead = UnixMicros(NOW.0 + 10_000 * LONG);
            let long = catalog.acquire_lease("aggregation", "e", LONG, ahead);
            assert_eq!(long.unwrap().unwrap().epoch, 4);
            assert_eq!(take("f", LONG).unwrap().epoch, 5);
        }
    }
}
