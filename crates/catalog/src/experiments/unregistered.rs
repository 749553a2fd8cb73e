//! Experiments that nobody registered: they have so many places, and old ones give way.
//!
//! Whoever may send events can name any number of experiments. So that nobody fills the places
//! for ever, one that has had no events for the longest gives way to one that has some now. Its
//! results go, its events stay; if more of them come in, it is a newcomer again. Places go by
//! the API key that first named them: one with many gives way to one with fewer.

mod places;
mod senders;

use trialog_model::experiment::Definition;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use self::places::Places;
use super::document::insert;
use super::{Experiment, id};
use crate::connection::Catalog;
use crate::database::{self, Connection, params};
use crate::documents::{Deletable, find};
use crate::error::CatalogError;

/// Those that give way in a run at most; what is left of newcomers is left out.
const MAX_GIVING_WAY: usize = 1_000;

/// What became of experiments that nobody registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unregistered {
    /// All that have a place now.
    pub n_present: u64,
    /// Newcomers without a place.
    pub left_out: u64,
    /// Those that lost theirs to a newcomer.
    pub gave_way: u64,
    /// The API key that named the most of those with a place, and how many; none where most of
    /// them were named without a key.
    pub largest: Option<(String, u64)>,
}

impl Catalog {
    /// Adds those of `ids` that are not known yet as `unregistered`, while there are fewer than
    /// `limit` such experiments: those of the sender with the fewest places first, in their
    /// order. Beyond that, 1,000 others at most give way: of the sender with the most places,
    /// or of the same sender, the ones whose results are the oldest.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn add_unregistered(
        &self,
        ids: &[ExperimentId],
        limit: u64,
        now: UnixMicros,
    ) -> Result<Unregistered, CatalogError> {
        self.write("note new experiments", |transaction| {
            Ok(add(transaction, ids, limit, now)?)
        })
    }
}

fn add(
    transaction: &Connection<'_>,
    ids: &[ExperimentId],
    limit: u64,
    now: UnixMicros,
) -> database::Result<Unregistered> {
    senders::remove_unused(transaction, now)?;
    let taken = oldest_first(transaction)?;
    let n_taken = taken.len();
    let mut places = Places::from_taken(taken, &ids.iter().collect());
    for id in ids {
        if find::<Experiment>(transaction, id.as_str())?.is_none() {
            places.push_waiting(id.clone(), senders::find_sender(transaction, id)?);
        }
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // A limit that was lowered takes nobody's place.
    let max_giving_way = if n_taken <= limit { MAX_GIVING_WAY } else { 0 };
    let moves = places.fill(limit.saturating_sub(n_taken), max_giving_way);
    for id in &moves.giving_way {
        if let Some(known) = find::<Experiment>(transaction, id.as_str())? {
            known.remove(transaction)?;
        }
    }
    for id in &moves.added {
        let definition = Definition::unregistered(id.clone());
        insert(transaction, Experiment::from_definition(definition), now)?;
    }
    let n_present = n_taken + moves.added.len() - moves.giving_way.len();
    let largest = places.largest().filter(|(sender, _)| !sender.is_empty());
    Ok(Unregistered {
        n_present: n_present as u64,
        left_out: moves.left_out as u64,
        gave_way: moves.giving_way.len() as u64,
        largest: largest.map(|(sender, n_places)| (sender.to_owned(), n_places as u64)),
    })
}

/// All that have a place, those that have had no events for the longest first, each with its
/// sender.
fn oldest_first(transaction: &Connection<'_>) -> database::Result<Vec<(ExperimentId, String)>> {
    // Results are computed when events have come in; one without any has had its last try.
    let sql = "SELECT e.experiment_id, COALESCE(s.sender, '') FROM experiments e
               LEFT JOIN experiment_senders s ON s.experiment_id = e.experiment_id
               WHERE e.status = 'unregistered'
               ORDER BY COALESCE((SELECT max(computed_at) FROM computations c
                                  WHERE c.experiment_id = e.experiment_id), e.created_at),
                        e.created_at, e.experiment_id";
    (transaction.prepare_cached(sql)?)
        .query_map(params![], |row| Ok((id(row)?, row.get(1)?)))?
        .collect()
}
