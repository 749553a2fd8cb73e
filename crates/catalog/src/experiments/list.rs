//! Listing the registry, page by page.

use trialog_model::experiment::Status;

use super::{Experiment, search};
use crate::connection::Catalog;
use crate::database::{self, Connection, Parameter, corrupt};
use crate::documents::find;
use crate::error::CatalogError;

/// What comes first in a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The least id.
    #[default]
    Id,
    /// What was changed last.
    Change,
}

/// Which experiments to list, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only experiments of these statuses; without any, all that are not archived.
    pub statuses: Vec<Status>,
    /// Only experiments of this owner.
    pub owner: Option<String>,
    /// Only experiments that have each of these words in their id, owner or
    /// hypothesis; they come in the order of [`Order::Change`].
    pub search: Option<String>,
    /// What comes first.
    pub order: Order,
    /// Only what comes after this: an id, or the number of a change as text.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

impl Listing {
    pub(super) fn statuses(&self) -> Vec<Status> {
        let is_listed = |status: &Status| match self.statuses.as_slice() {
            [] => *status != Status::Archived,
            some => some.contains(status),
        };
        Status::ALL.into_iter().filter(is_listed).collect()
    }

    /// In the order of changes: only those below this number.
    pub(super) fn before(&self) -> i64 {
        let after = self.after.as_deref();
        after.map_or(i64::MAX, |after| after.parse().unwrap_or(0))
    }
}

impl Catalog {
    /// A page of the registry.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn list_experiments(&self, listing: &Listing) -> Result<Vec<Experiment>, CatalogError> {
        self.read("list experiments", |connection| {
            if let Some(needle) = listing
                .search
                .as_deref()
                .filter(|text| !text.trim().is_empty())
            {
                return search::search(connection, listing, needle);
            }
            let mut found = Vec::new();
            for id in ids(connection, listing)? {
                found.push(find::<Experiment>(connection, &id)?.ok_or_else(|| {
                    corrupt(format!(
                        "an index of `experiments` names `{id}`, which is not there"
                    ))
                })?);
            }
            Ok(found)
        })
    }
}

/// The ids of a page. Within a status an index has them in order already, so
/// the page is found among at most a page of each.
fn ids(connection: &Connection<'_>, listing: &Listing) -> database::Result<Vec<String>> {
    let owner = match listing.owner {
        Some(_) => "owner = ?4",
        None => "CAST(?4 AS TEXT) IS NULL",
    };
    let (after, order) = match listing.order {
        Order::Id => ("experiment_id > ?2", "experiment_id"),
        Order::Change => ("change < ?2", "change DESC"),
    };
    let sql = format!(
        "SELECT experiment_id, change FROM experiments WHERE status = ?1 AND {owner} AND {after} ORDER BY {order} LIMIT ?3"
    );
    let (id, change) = (
        listing.after.as_deref().unwrap_or_default(),
        listing.before(),
    );
    let after: &dyn Parameter = match listing.order {
        Order::Id => &id,
        Order::Change => &change,
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut page: Vec<(String, i64)> = Vec::new();
    for status in listing.statuses() {
        let parameters: [&dyn Parameter; 4] =
            [&status.as_str(), after, &listing.limit, &listing.owner];
        for row in statement.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))? {
            page.push(row?);
        }
    }
    match listing.order {
        Order::Id => page.sort(),
        Order::Change => page.sort_by_key(|(_, change)| std::cmp::Reverse(*change)),
    }
    page.truncate(listing.limit as usize);
    Ok(page.into_iter().map(|(id, _)| id).collect())
}
