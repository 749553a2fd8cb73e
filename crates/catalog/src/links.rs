//! Links experiments with the metrics and surfaces that they name, so that they can be found by
//! them.

mod steps;

use std::collections::BTreeSet;

use trialog_model::experiment::Definition;
use trialog_model::ids::ExperimentId;

use crate::database::{self, Connection, params};

pub(crate) use steps::{create_metrics, create_surfaces};

/// A kind of object that experiments name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkKind {
    /// A metric, or an event type that may become one.
    Metric,
    /// A part of the product.
    Surface,
}

impl LinkKind {
    /// Returns the word in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Metric => "metric",
            Self::Surface => "surface",
        }
    }
}

/// Collects what a definition names, each once.
fn named(definition: &Definition) -> BTreeSet<(LinkKind, &str)> {
    let metrics = definition.metrics.iter();
    let metrics = metrics.map(|(metric, _)| (LinkKind::Metric, metric.name.as_str()));
    let surfaces = definition.surfaces.iter();
    let surfaces = surfaces.map(|surface| (LinkKind::Surface, surface.as_str()));
    metrics.chain(surfaces).collect()
}

/// Replaces the links of an experiment by those to what it names now.
pub(crate) fn sync(
    transaction: &Connection<'_>,
    before: Option<&Definition>,
    definition: &Definition,
) -> database::Result<()> {
    let (before, now) = (before.map(named).unwrap_or_default(), named(definition));
    let id = definition.experiment_id.as_str();
    for (kind, name) in before.difference(&now) {
        transaction.execute(
            "DELETE FROM links WHERE kind = ?1 AND name = ?2 AND experiment_id = ?3",
            params![kind.as_str(), *name, id],
        )?;
    }
    for (kind, name) in now.difference(&before) {
        transaction.execute(
            "INSERT INTO links (kind, name, experiment_id) VALUES (?1, ?2, ?3)
             ON CONFLICT DO NOTHING",
            params![kind.as_str(), *name, id],
        )?;
    }
    Ok(())
}

/// Removes the links of an experiment.
pub(crate) fn remove(
    transaction: &Connection<'_>,
    experiment: &ExperimentId,
) -> database::Result<()> {
    let sql = "DELETE FROM links WHERE experiment_id = ?1";
    transaction.execute(sql, [experiment.as_str()]).map(drop)
}

/// Lists the experiments that name something, in the order of their ids.
pub(crate) fn experiments(
    connection: &Connection<'_>,
    kind: LinkKind,
    name: &str,
) -> database::Result<Vec<ExperimentId>> {
    let sql = "SELECT experiment_id FROM links WHERE kind = ?1 AND name = ?2
        ORDER BY experiment_id";
    (connection.prepare_cached(sql)?)
        .query_map([kind.as_str(), name], crate::experiments::id)?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::MIGRATIONS;

    #[test]
    fn links_of_earlier_versions_are_kept() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        let transaction = connection.transaction().unwrap();
        let mut is_filled = false;
        for step in MIGRATIONS {
            step(&transaction).unwrap();
            let has_old = "SELECT count(*) FROM sqlite_schema WHERE name = 'experiment_surfaces'";
            let n_old: i64 = transaction
                .query_row(has_old, [], |row| row.get(0))
                .unwrap();
            if n_old == 1 && !is_filled {
                is_filled = true;
                let old = "INSERT INTO experiment_metrics (metric_name, experiment_id)
                         VALUES ('buy', 'a'), ('buy', 'b');
                     INSERT INTO experiment_surfaces (surface, experiment_id)
                         VALUES ('buy', 'b');";
                transaction.execute_batch(old).unwrap();
            }
        }
        let linked = |kind| experiments(&Connection::Sqlite(&transaction), kind, "buy").unwrap();
        let ids = |ids: &[&str]| -> Vec<ExperimentId> {
            ids.iter()
                .map(|id| ExperimentId::new(*id).unwrap())
                .collect()
        };
        assert_eq!(linked(LinkKind::Metric), ids(&["a", "b"]));
        assert_eq!(linked(LinkKind::Surface), ids(&["b"]));
    }
}
