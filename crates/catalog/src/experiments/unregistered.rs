//! Experiments that nobody registered: they have so many places, and old ones give way.
//!
//! Whoever may send events can name any number of experiments. So that nobody fills the places
//! for ever, one that has had no events for the longest gives way to one that has some now. Its
//! results go, its events stay; if more of them come in, it is a newcomer again.

use std::collections::HashSet;

use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use super::{edit, find, id, insert};
use crate::connection::Catalog;
use crate::database::{self, Connection};
use crate::error::CatalogError;

/// Those that give way in a run at most; what is left of newcomers is left out.
const MAX_GIVING_WAY: usize = 1_000;

/// What became of experiments that nobody registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unregistered {
    /// All that have a place now.
    pub n_present: u64,
    /// Newcomers without a place.
    pub left_out: u64,
    /// Those that lost theirs to a newcomer.
    pub gave_way: u64,
}

impl Catalog {
    /// Adds those of `ids` that are not known yet as `unregistered`, in their order, while
    /// there are fewer than `limit` such experiments. Beyond that, some of those that are not
    /// among `ids` give way, the ones whose results are the oldest first.
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
        let failed = CatalogError::database("note new experiments", self.place());
        self.write("note new experiments", |transaction| {
            add(transaction, ids, limit, now).map_err(&failed)
        })
    }
}

fn add(
    transaction: &Connection<'_>,
    ids: &[ExperimentId],
    limit: u64,
    now: UnixMicros,
) -> database::Result<Unregistered> {
    let mut newcomers = Vec::new();
    for id in ids {
        if find(transaction, id.as_str())?.is_none() {
            newcomers.push(id);
        }
    }
    let n_present: u64 = transaction.query_row(
        "SELECT count(*) FROM experiments WHERE status = 'unregistered'",
        crate::database::params![],
        |row| row.get(0),
    )?;
    let n_free = usize::try_from(limit.saturating_sub(n_present)).unwrap_or(usize::MAX);
    let n_wanted = newcomers.len().saturating_sub(n_free).min(MAX_GIVING_WAY);
    // A limit that was lowered takes nobody's place.
    let may_give_way = n_present <= limit;
    let giving_way = match n_wanted > 0 && may_give_way {
        true => oldest(transaction, ids, n_wanted)?,
        false => Vec::new(),
    };
    for id in &giving_way {
        if let Some(known) = find(transaction, id.as_str())? {
            edit::clear(transaction, &known)?;
        }
    }
    let n_added = newcomers.len().min(n_free.saturating_add(giving_way.len()));
    for id in newcomers.iter().take(n_added) {
        let definition = Definition::unregistered((*id).clone());
        insert(transaction, &definition, Status::Unregistered, now)?;
    }
    Ok(Unregistered {
        n_present: n_present + n_added as u64 - giving_way.len() as u64,
        left_out: (newcomers.len() - n_added) as u64,
        gave_way: giving_way.len() as u64,
    })
}

/// Those that have had no events for the longest and are not among `spared`.
fn oldest(
    transaction: &Connection<'_>,
    spared: &[ExperimentId],
    most: usize,
) -> database::Result<Vec<ExperimentId>> {
    // Results are computed when events have come in; one without any has had its last try.
    let sql = "SELECT experiment_id FROM experiments e WHERE status = 'unregistered'
               ORDER BY COALESCE((SELECT max(computed_at) FROM computations c
                                  WHERE c.experiment_id = e.experiment_id), created_at),
                        created_at, experiment_id";
    let known: Vec<ExperimentId> = (transaction.prepare_cached(sql)?)
        .query_map(crate::database::params![], id)?
        .collect::<database::Result<_>>()?;
    let spared: HashSet<&ExperimentId> = spared.iter().collect();
    let others = known.into_iter().filter(|id| !spared.contains(id));
    Ok(others.take(most).collect())
}
