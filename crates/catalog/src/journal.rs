//! Keeps the journal of batches for a warehouse without one.
//!
//! A batch is begun here, then inserted into the warehouse under its number,
//! then finished here in one transaction with the position of its source. What
//! a run may read are the batches that were finished by then: everything up to
//! the last number, except for those that were pending and those that were
//! abandoned. So a batch whose insertion was answered late, twice or never
//! takes part once or not at all, and a drill-down sees what its scorecard saw.
//!
//! A source, such as a partition of a topic, is claimed by one process at a
//! time. A claim has an epoch; with another claim, batches of an older one can
//! no longer be begun or finished, whenever its process wakes up.

use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::connection::{Catalog, Writes};
use crate::database::{self, Connection, Optional, params};
use crate::error::CatalogError;
use crate::runs;

/// How long a batch may be pending; sources that are read again abandon theirs much sooner.
const PENDING_MICROS: i64 = 3_600_000_000;

/// A source that this process ingests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The source.
    pub source: String,
    /// Which claim of it this is, from 1.
    pub epoch: i64,
    /// How far it has been stored.
    pub position: Option<i64>,
}

/// The finished batches at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalState {
    /// The number of the last batch that was begun; 0 before the first.
    pub last: u64,
    /// Batches that are not finished yet, in order.
    pub pending: Vec<u64>,
    /// Batches that never will be, in order.
    pub abandoned: Vec<u64>,
}

impl JournalState {
    /// Returns the batches up to the last one that readers must skip.
    pub fn unreadable_batches(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .pending
            .iter()
            .chain(&self.abandoned)
            .copied()
            .collect();
        all.sort_unstable();
        all
    }
}

/// The position of a source after a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The source.
    pub source: String,
    /// The position after the batch.
    pub position: i64,
    /// Whether the source is used once: a batch for it at another position is not finished.
    pub once: bool,
}

impl Catalog {
    /// Claims `source` for this process, and abandons the pending batches of an earlier claim.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn claim_source(&self, source: &str, now: UnixMicros) -> Result<Claim, CatalogError> {
        let action = "claim a source of events";
        self.write_as(Writes::Journal, action, |transaction| {
            let claim = transaction.query_row(
                "INSERT INTO sources (source, epoch, updated_at) VALUES (?1, 1, ?2)
                 ON CONFLICT (source) DO UPDATE SET epoch = sources.epoch + 1, updated_at = excluded.updated_at
                 RETURNING epoch, position",
                params![source, now.0],
                |row| {
                    Ok(Claim {
                        source: source.to_owned(),
                        epoch: row.get(0)?,
                        position: row.get(1)?,
                    })
                },
            );
            let claim = claim?;
            abandon_pending(transaction, source)?;
            Ok(claim)
        })
    }

    /// Begins a batch with events of `experiments`, marks all of them as touched, and returns its
    /// number. Batches are numbered in the order in which they begin. A source has one batch under
    /// way at a time: an earlier one that was not finished, for example because its number never
    /// reached the caller, is abandoned.
    ///
    /// # Errors
    ///
    /// [`CatalogError::SourceLost`] where another process claimed the source.
    pub fn begin_batch(
        &self,
        claim: &Claim,
        experiments: &[&str],
        now: UnixMicros,
    ) -> Result<u64, CatalogError> {
        let action = "begin a batch";
        // One after the other: a number that was given out later is seen later.
        self.write_as(Writes::Journal, action, |transaction| {
            if !is_claimed(transaction, claim, now)? {
                return Err(lost(claim).into());
            }
            abandon_pending(transaction, &claim.source)?;
            let batch = transaction
                .query_row(
                    "INSERT INTO batches (source, epoch, state, begun_at) VALUES (?1, ?2, 'pending', ?3) RETURNING batch",
                    params![claim.source, claim.epoch, now.0],
                    |row| row.get(0),
                )?;
            touch(transaction, experiments, &claim.source, batch)?;
            Ok(batch)
        })
    }

    /// Finishes a batch that the warehouse has stored, and stores the positions after it.
    ///
    /// # Errors
    ///
    /// [`CatalogError::SourceLost`] where another process claimed the source: then the batch
    /// is abandoned, and its events are taken in by that process. [`CatalogError::SourceUsed`]
    /// where a source that is used once was used for something else.
    pub fn finish_batch(
        &self,
        claim: &Claim,
        batch: u64,
        marks: &[Mark],
        now: UnixMicros,
    ) -> Result<(), CatalogError> {
        let action = "finish a batch";
        self.write_as(Writes::Rows, action, |transaction| {
            if !is_claimed(transaction, claim, now)? {
                return Err(lost(claim).into());
            }
            let finished = transaction
                .execute(
                    "UPDATE batches SET state = 'done' WHERE batch = ?1 AND epoch = ?2 AND state <> 'abandoned'",
                    params![batch, claim.epoch],
                )?;
            // A run that read a finished batch removes its row, so none at all means that it
            // was finished before and its caller was not notified.
            let is_known = || {
                let sql = "SELECT count(*) > 0 FROM batches WHERE batch = ?1";
                transaction.query_row(sql, [batch], |row| row.get::<bool>(0))
            };
            if finished != 1 && is_known()? {
                return Err(lost(claim).into());
            }
            for mark in marks {
                // One statement, so that two processes cannot both find a source unused.
                let only = match mark.once {
                    true => "WHERE sources.position = excluded.position",
                    false => "",
                };
                let sql = format!(
                    "INSERT INTO sources (source, epoch, position, updated_at) VALUES (?1, 0, ?2, ?3)
                     ON CONFLICT (source) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at {only}"
                );
                let marked = transaction
                    .execute(&sql, params![mark.source, mark.position, now.0])?;
                if marked != 1 {
                    return Err(CatalogError::SourceUsed.into());
                }
            }
            Ok(())
        })
    }

    /// Abandons a batch that cannot be stored. Readers skip it.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn abandon_batch(&self, batch: u64) -> Result<(), CatalogError> {
        let action = "abandon a batch";
        self.write_as(Writes::Rows, action, |transaction| {
            let abandoned = transaction.execute(
                "UPDATE batches SET state = 'abandoned' WHERE batch = ?1 AND state = 'pending'",
                [batch],
            );
            Ok(abandoned.map(drop)?)
        })
    }

    /// Returns the stored position of `source`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn source_position(&self, source: &str) -> Result<Option<i64>, CatalogError> {
        self.read("read the position of a source", |connection| {
            let sql = "SELECT position FROM sources WHERE source = ?1";
            let found = connection.query_row(sql, [source], |row| row.get(0));
            Ok(found.optional()?.flatten())
        })
    }

    /// Returns which batches are finished now.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn journal(&self) -> Result<JournalState, CatalogError> {
        self.read("read the journal", |connection| {
            let published = runs::high_water_mark(connection)?.position;
            let sql = "SELECT coalesce(max(batch), 0) FROM batches";
            let last: u64 = connection.query_row(sql, params![], |row| row.get(0))?;
            let of_state = |state: &str| -> database::Result<Vec<u64>> {
                let sql = "SELECT batch FROM batches WHERE state = ?1 ORDER BY batch";
                (connection
                    .prepare_cached(sql)?
                    .query_map([state], |row| row.get(0))?)
                .collect()
            };
            Ok(JournalState {
                last: last.max(published),
                pending: of_state("pending")?,
                abandoned: of_state("abandoned")?,
            })
        })
    }

    /// Returns the experiments with events that no published run covers, in order.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn touched_experiments(&self) -> Result<Vec<ExperimentId>, CatalogError> {
        self.read("find the touched experiments", |connection| {
            let sql = "SELECT DISTINCT experiment_id FROM touched ORDER BY experiment_id";
            (connection
                .prepare_cached(sql)?
                .query_map(params![], crate::experiments::id)?)
            .collect()
        })
    }

    /// Removes the positions of requests before `before`.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn forget_request_keys(&self, before: UnixMicros) -> Result<usize, CatalogError> {
        let action = "forget old request keys";
        self.write_as(Writes::Rows, action, |transaction| {
            // From `key:` to before `key;`, so that an index serves.
            let sql = "DELETE FROM sources WHERE source >= 'key:' AND source < 'key;' AND updated_at < ?1";
            Ok(transaction.execute(sql, [before.0])?)
        })
    }
}

fn abandon_pending(transaction: &Connection<'_>, source: &str) -> database::Result<()> {
    let sql = "UPDATE batches SET state = 'abandoned' WHERE source = ?1 AND state = 'pending'";
    transaction.execute(sql, [source]).map(drop)
}

/// Whether `claim` is the last one of its source; no other is made before the transaction ends.
fn is_claimed(
    transaction: &Connection<'_>,
    claim: &Claim,
    now: UnixMicros,
) -> database::Result<bool> {
    let held = transaction.execute(
        "UPDATE sources SET updated_at = ?3 WHERE source = ?1 AND epoch = ?2",
        params![claim.source, claim.epoch, now.0],
    )?;
    Ok(held == 1)
}

fn lost(claim: &Claim) -> CatalogError {
    CatalogError::SourceLost {
        source_name: claim.source.clone(),
    }
}

/// Records that `batch` has events of `experiments`. Each source has its own note with its last
/// batch: earlier batches of the source are finished or abandoned, while those of other sources
/// may be pending.
fn touch(
    transaction: &Connection<'_>,
    experiments: &[&str],
    source: &str,
    batch: u64,
) -> database::Result<()> {
    let mut sorted = experiments.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let list = serde_json::Value::from(sorted).to_string();
    let sql = transaction.choose(
        "INSERT INTO touched (experiment_id, source, batch) SELECT value, CAST(?2 AS TEXT), CAST(?3 AS INTEGER) FROM json_each(?1) WHERE true
         ON CONFLICT (experiment_id, source) DO UPDATE SET batch = excluded.batch",
        "INSERT INTO touched (experiment_id, source, batch) SELECT value, CAST(?2 AS TEXT), CAST(?3 AS BIGINT) FROM json_array_elements_text(CAST(CAST(?1 AS TEXT) AS JSON))
         ON CONFLICT (experiment_id, source) DO UPDATE SET batch = excluded.batch",
    );
    transaction.execute(sql, params![list, source, batch])?;
    Ok(())
}

/// Removes what a run has covered: experiments of whose sources it read the last batch, and
/// finished batches. Abandons batches that have been pending for so long that their process is
/// gone; a process that is still alive is notified when it finishes, and begins again.
pub(crate) fn clear(
    transaction: &Connection<'_>,
    covered: &JournalState,
    now: UnixMicros,
) -> database::Result<()> {
    // Only the pending ones count here: an abandoned batch never changes an answer.
    let pending: Vec<String> = covered.pending.iter().map(u64::to_string).collect();
    let not_pending = match pending.as_slice() {
        [] => String::new(),
        some => format!(" AND batch NOT IN ({})", some.join(", ")),
    };
    let sql = format!("DELETE FROM touched WHERE batch <= ?1{not_pending}");
    transaction.execute(&sql, [covered.last])?;
    // A batch that was pending then and is done now is still to be read by the next run,
    // which knows it by nothing but its being no exception any more.
    let sql = "DELETE FROM batches WHERE batch <= ?1 AND state = 'done'";
    transaction.execute(sql, [covered.last])?;
    let sql = "UPDATE batches SET state = 'abandoned' WHERE state = 'pending' AND begun_at < ?1";
    transaction.execute(sql, [now.0.saturating_sub(PENDING_MICROS)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Abort;

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        (directory, catalog)
    }

    fn mark(claim: &Claim, position: i64) -> Mark {
        Mark {
            source: claim.source.clone(),
            position,
            once: false,
        }
    }

    #[test]
    fn a_batch_can_be_read_from_when_it_is_finished_and_its_experiments_are_touched_before() {
        let (_directory, catalog) = catalog();
        let claim = catalog.claim_source("kafka:m/0", NOW).unwrap();
        let other = catalog.claim_source("kafka:m/1", NOW).unwrap();
        assert_eq!((claim.epoch, claim.position), (1, None));
        let first = catalog.begin_batch(&other, &["b", "a", "b"], NOW).unwrap();
        let second = catalog.begin_batch(&claim, &["c"], NOW).unwrap();
        assert!(first < second);
        let marks = [mark(&claim, 20)];
        catalog.finish_batch(&claim, second, &marks, NOW).unwrap();
        let state = catalog.journal().unwrap();
        assert_eq!(
            (state.last, state.unreadable_batches()),
            (second, vec![first])
        );
        let touched: Vec<String> = (catalog.touched_experiments().unwrap().into_iter())
            .map(String::from)
            .collect();
        assert_eq!(touched, ["a", "b", "c"]);
        assert_eq!(catalog.source_position("kafka:m/0").unwrap(), Some(20));
        assert_eq!(catalog.source_position("kafka:m/1").unwrap(), None);
        // One whose number never came back does not stay pending.
        let third = catalog.begin_batch(&other, &["a"], NOW).unwrap();
        let state = catalog.journal().unwrap();
        assert_eq!((state.pending, state.abandoned), (vec![third], vec![first]));
    }

    #[test]
    fn who_lost_a_source_can_neither_begin_nor_finish_a_batch_of_it() {
        let (_directory, catalog) = catalog();
        let old = catalog.claim_source("kafka:m/0", NOW).unwrap();
        let done = catalog.begin_batch(&old, &["a"], NOW).unwrap();
        catalog
            .finish_batch(&old, done, &[mark(&old, 7)], NOW)
            .unwrap();
        let left = catalog.begin_batch(&old, &["a"], NOW).unwrap();
        let new = catalog.claim_source("kafka:m/0", NOW).unwrap();
        assert_eq!((new.epoch, new.position), (2, Some(7)));
        let refused = |outcome: Result<(), CatalogError>| {
            assert!(
                matches!(outcome, Err(CatalogError::SourceLost { .. })),
                "{outcome:?}"
            );
        };
        refused(catalog.begin_batch(&old, &["a"], NOW).map(drop));
        refused(catalog.finish_batch(&old, left, &[mark(&old, 9)], NOW));
        assert_eq!(catalog.source_position("kafka:m/0").unwrap(), Some(7));
        let state = catalog.journal().unwrap();
        assert_eq!((state.pending, state.abandoned), (vec![], vec![left]));
    }

    #[test]
    fn a_source_that_is_used_once_finishes_one_batch_and_its_repetitions() {
        let (_directory, catalog) = catalog();
        let one = catalog.claim_source("http:1", NOW).unwrap();
        let other = catalog.claim_source("http:2", NOW).unwrap();
        let used = |position| Mark {
            source: "key:a".to_owned(),
            position,
            once: true,
        };
        // Both have found the key unused.
        let first = catalog.begin_batch(&one, &["a"], NOW).unwrap();
        let second = catalog.begin_batch(&other, &["a"], NOW).unwrap();
        catalog.finish_batch(&one, first, &[used(1)], NOW).unwrap();
        let refused = catalog.finish_batch(&other, second, &[used(2)], NOW);
        assert!(
            matches!(refused, Err(CatalogError::SourceUsed)),
            "{refused:?}"
        );
        let state = catalog.journal().unwrap();
        assert_eq!(state.pending, [second], "nothing of it is finished");
        assert_eq!(catalog.source_position("key:a").unwrap(), Some(1));
        catalog
            .finish_batch(&other, second, &[used(1)], NOW)
            .unwrap();
    }

    /// Publishes a run that read what `covered` says.
    fn cover(catalog: &Catalog, covered: &JournalState, now: UnixMicros) {
        let cleared = catalog.write_as(Writes::Rows, "cover", |transaction| {
            Ok::<_, Abort>(clear(transaction, covered, now)?)
        });
        cleared.unwrap();
    }

    #[test]
    fn an_experiment_stays_touched_until_a_run_has_read_the_last_batch_of_every_source() {
        let (_directory, catalog) = catalog();
        let slow = catalog.claim_source("kafka:a/0", NOW).unwrap();
        let fast = catalog.claim_source("kafka:m/0", NOW).unwrap();
        let early = catalog.begin_batch(&slow, &["a"], NOW).unwrap();
        let late = catalog.begin_batch(&fast, &["a"], NOW).unwrap();
        catalog.finish_batch(&fast, late, &[], NOW).unwrap();
        // A run that read the later batch, while the earlier one is being stored.
        let read = catalog.journal().unwrap();
        catalog.finish_batch(&slow, early, &[], NOW).unwrap();
        cover(&catalog, &read, NOW);
        assert_eq!(catalog.touched_experiments().unwrap().len(), 1);
        // The next one reads both.
        let read = JournalState {
            last: late,
            ..JournalState::default()
        };
        cover(&catalog, &read, NOW);
        assert_eq!(catalog.touched_experiments().unwrap().len(), 0);
    }

    #[test]
    fn a_batch_whose_process_is_gone_is_abandoned_and_its_experiments_are_touched_no_more() {
        let (_directory, catalog) = catalog();
        let gone = catalog.claim_source("http:1:a", NOW).unwrap();
        let batch = catalog.begin_batch(&gone, &["a"], NOW).unwrap();
        cover(&catalog, &catalog.journal().unwrap(), NOW);
        assert_eq!(catalog.journal().unwrap().pending, [batch]);
        let later = UnixMicros(NOW.0 + PENDING_MICROS + 1);
        cover(&catalog, &catalog.journal().unwrap(), later);
        assert_eq!(catalog.journal().unwrap().abandoned, [batch]);
        let told = catalog.finish_batch(&gone, batch, &[], later);
        assert!(
            matches!(told, Err(CatalogError::SourceLost { .. })),
            "{told:?}"
        );
        cover(&catalog, &catalog.journal().unwrap(), later);
        assert_eq!(catalog.touched_experiments().unwrap().len(), 0);
    }
}
