//! Finds experiments that touch the same parts of the product.

use trialog_model::experiment::Definition;
use trialog_model::ids::ExperimentId;

use crate::connection::Catalog;
use crate::database::params;
use crate::error::CatalogError;
use crate::experiments;

/// The most experiments that a warning names for one surface.
const MAX_NAMED: u32 = 10;

/// A running experiment that touches a part of the product that another one touches too, without a
/// layer that keeps their units apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSurface {
    /// The part of the product.
    pub surface: String,
    /// The experiment that runs.
    pub experiment_id: ExperimentId,
}

impl Catalog {
    /// Lists experiments that run, touch a surface of `definition` and are not kept apart from
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
            let sql = "SELECT e.experiment_id FROM links l
                JOIN experiments e ON e.experiment_id = l.experiment_id
                WHERE l.kind = 'surface' AND l.name = ?1
                AND e.status = 'running' AND e.experiment_id <> ?2
                AND NOT EXISTS (SELECT 1 FROM layer_ranges r
                    WHERE r.experiment_id = e.experiment_id AND r.layer = ?3)
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
