//! Which experiments touch which parts of the product.

use std::ops::ControlFlow;

use trialog_model::experiment::Definition;
use trialog_model::ids::ExperimentId;

use crate::connection::Catalog;
use crate::database::{self, Connection, params};
use crate::documents;
use crate::error::CatalogError;
use crate::experiments;

/// The most experiments that a warning names for one surface.
const MAX_NAMED: u32 = 10;

/// An experiment that runs and touches a part of the product that another one touches
/// too, without a layer that keeps their units apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSurface {
    /// The part of the product.
    pub surface: String,
    /// The experiment that runs.
    pub experiment_id: ExperimentId,
}

/// Brings the table, and fills it from the experiments that are there.
pub(crate) fn create_table(transaction: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE experiment_surfaces (
            surface       TEXT    NOT NULL,
            experiment_id TEXT    NOT NULL,
            seal          INTEGER,
            PRIMARY KEY (surface, experiment_id)
        ) WITHOUT ROWID;",
    )?;
    database::sqlite::fill(transaction, |connection| {
        connection.each("SELECT definition FROM experiments", params![], |row| {
            note(connection, None, &documents::definition(row, 0)?)?;
            Ok(ControlFlow::Continue(()))
        })
    })
}

/// Notes which surfaces an experiment touches, instead of those that it touched before.
pub(crate) fn note(
    connection: &Connection<'_>,
    before: Option<&Definition>,
    definition: &Definition,
) -> database::Result<()> {
    if before.is_some_and(|before| before.surfaces == definition.surfaces) {
        return Ok(());
    }
    let id = definition.experiment_id.as_str();
    for surface in before.into_iter().flat_map(|before| &before.surfaces) {
        connection
            .prepare_cached(
                "DELETE FROM experiment_surfaces WHERE surface = ?1 AND experiment_id = ?2",
            )?
            .execute([surface.as_str(), id])?;
    }
    for surface in &definition.surfaces {
        connection
            .prepare_cached("INSERT INTO experiment_surfaces (surface, experiment_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
            .execute([surface.as_str(), id])?;
    }
    Ok(())
}

/// Removes the notes of which surfaces an experiment touches.
pub(crate) fn forget(connection: &Connection<'_>, experiment: &str) -> database::Result<()> {
    let sql = "DELETE FROM experiment_surfaces WHERE experiment_id = ?1";
    connection.execute(sql, [experiment])?;
    Ok(())
}

impl Catalog {
    /// Experiments that run, touch a surface of `definition` and are not kept apart from
    /// it by a layer.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn shared_surfaces(
        &self,
        definition: &Definition,
    ) -> Result<Vec<SharedSurface>, CatalogError> {
        self.read("look for shared surfaces", |connection| {
            let sql = "SELECT e.experiment_id FROM experiment_surfaces s
                JOIN experiments e ON e.experiment_id = s.experiment_id
                WHERE s.surface = ?1 AND e.status = 'running' AND e.experiment_id <> ?2
                AND NOT EXISTS (SELECT 1 FROM layer_ranges r WHERE r.experiment_id = e.experiment_id AND r.layer = ?3)
                ORDER BY e.experiment_id LIMIT ?4";
            let layer = definition.layer.as_ref().map(|layer| layer.as_str());
            let mut shared = Vec::new();
            for surface in &definition.surfaces {
                let id = definition.experiment_id.as_str();
                let mut statement = connection.prepare_cached(sql)?;
                let found =
                    statement.query_map(params![surface, id, layer, MAX_NAMED], experiments::id)?;
                for experiment_id in found {
                    let surface = surface.clone();
                    shared.push(SharedSurface {
                        surface,
                        experiment_id: experiment_id?,
                    });
                }
            }
            Ok(shared)
        })
    }
}
