//! Layers, and which experiments own which of their buckets.
//!
//! Drafts and running experiments own buckets; one that is stopped or archived gives
//! them up.

use std::ops::{ControlFlow, Range};

use trialog_model::bucket::n_of_share;
use trialog_model::experiment::{Definition, Status};
use trialog_model::holdout::LayerDefinition;
use trialog_model::ids::{ExperimentId, LayerName};
use trialog_model::ranges::{free, n_buckets, resized};
use trialog_model::time::UnixMicros;

use crate::audit::{self, Edit, Event, Subject};
use crate::connection::Catalog;
use crate::database::{self, Connection, DatabaseError, Optional, Row, corrupt, params};
use crate::error::CatalogError;
use crate::experiments::{self, to_json};
use crate::neighbours::Names;

/// A layer as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub definition: LayerDefinition,
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was changed last.
    pub updated_at: UnixMicros,
    /// Counts its states.
    pub revision: i64,
    /// Which experiment owns which buckets, in the order of the buckets.
    pub owned: Vec<(ExperimentId, Range<u16>)>,
}

impl Layer {
    /// The buckets that no experiment owns.
    pub fn free(&self) -> Vec<Range<u16>> {
        let taken: Vec<_> = self.owned.iter().map(|(_, range)| range.clone()).collect();
        free(&taken)
    }
}

/// Brings the tables; a layer that an experiment names so far is created, and its
/// experiments get buckets in the order of their ids as far as these go.
pub(crate) fn create_tables(transaction: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE layers (
            name       TEXT    PRIMARY KEY,
            definition TEXT    NOT NULL,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            revision   INTEGER NOT NULL,
            seal       INTEGER
        ) WITHOUT ROWID;
        CREATE TABLE layer_ranges (
            layer         TEXT    NOT NULL,
            first         INTEGER NOT NULL,
            past          INTEGER NOT NULL,
            experiment_id TEXT    NOT NULL,
            seal          INTEGER,
            PRIMARY KEY (layer, first)
        ) WITHOUT ROWID;
        CREATE INDEX layer_ranges_by_experiment ON layer_ranges (experiment_id);",
    )?;
    let sql = "SELECT definition, created_at FROM experiments
        WHERE status IN ('draft', 'running') AND json_extract(definition, '$.layer') IS NOT NULL
        ORDER BY experiment_id";
    database::sqlite::fill(transaction, |connection| {
        connection.each(sql, params![], |row| {
            share_out(connection, &experiments::definition(row, 0)?, row.get(1)?)?;
            Ok(ControlFlow::Continue(()))
        })
    })
}

/// Creates the layer that an experiment of an older version names, and gives it buckets.
fn share_out(
    connection: &Connection<'_>,
    definition: &Definition,
    created_at: i64,
) -> database::Result<()> {
    let Some(layer) = &definition.layer else {
        return Ok(());
    };
    let named = LayerDefinition {
        name: layer.clone(),
        description: None,
        owner: None,
    };
    connection.execute(
        "INSERT INTO layers (name, definition, created_at, updated_at, revision) VALUES (?1, ?2, ?3, ?3, 1) ON CONFLICT DO NOTHING",
        params![layer.as_str(), to_json(&named), created_at],
    )?;
    let taken = taken(connection, layer, &definition.experiment_id)?;
    let wanted = n_of_share(definition.allocation);
    match resized(&[], &free(&taken), wanted) {
        Some(ranges) => own(connection, layer, &definition.experiment_id, &ranges),
        None => Ok(()),
    }
}

/// The buckets that `experiment` owns.
pub(crate) fn ranges_of(
    connection: &Connection<'_>,
    experiment: &ExperimentId,
) -> database::Result<Vec<Range<u16>>> {
    connection
        .prepare_cached(
            "SELECT first, past FROM layer_ranges WHERE experiment_id = ?1 ORDER BY first",
        )?
        .query_map([experiment.as_str()], |row| Ok(row.get(0)?..row.get(1)?))?
        .collect()
}

/// The buckets of `layer` that others than `experiment` own.
fn taken(
    connection: &Connection<'_>,
    layer: &LayerName,
    experiment: &ExperimentId,
) -> database::Result<Vec<Range<u16>>> {
    connection
        .prepare_cached(
            "SELECT first, past FROM layer_ranges WHERE layer = ?1 AND experiment_id <> ?2",
        )?
        .query_map([layer.as_str(), experiment.as_str()], |row| {
            Ok(row.get(0)?..row.get(1)?)
        })?
        .collect()
}

fn own(
    transaction: &Connection<'_>,
    layer: &LayerName,
    experiment: &ExperimentId,
    ranges: &[Range<u16>],
) -> database::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO layer_ranges (layer, first, past, experiment_id) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for range in ranges {
        statement.execute(params![
            layer.as_str(),
            range.start,
            range.end,
            experiment.as_str()
        ])?;
    }
    Ok(())
}

/// Gives the experiment the buckets of its layer that its definition asks for, and keeps
/// those that it has in this layer.
///
/// # Errors
///
/// There is no such layer, or it has too few free buckets.
pub(crate) fn fit(
    transaction: &Connection<'_>,
    status: Status,
    definition: &Definition,
    failed: &impl Fn(DatabaseError) -> CatalogError,
) -> Result<(), CatalogError> {
    let id = &definition.experiment_id;
    let Some(layer) = definition.layer.as_ref().filter(|_| owns(status)) else {
        return release(transaction, id).map_err(failed);
    };
    if find(transaction, layer.as_str()).map_err(failed)?.is_none() {
        let there_are = Names::LAYERS.instead_of(transaction, layer.as_str());
        return Err(CatalogError::UnknownLayer(
            layer.clone(),
            there_are.map_err(failed)?,
        ));
    }
    let present = (transaction.prepare_cached("SELECT first, past FROM layer_ranges WHERE experiment_id = ?1 AND layer = ?2 ORDER BY first"))
        .and_then(|mut statement| {
            statement
                .query_map([id.as_str(), layer.as_str()], |row| Ok(row.get(0)?..row.get(1)?))?
                .collect::<database::Result<Vec<Range<u16>>>>()
        })
        .map_err(failed)?;
    let mut taken = taken(transaction, layer, id).map_err(failed)?;
    taken.extend(present.iter().cloned());
    let free = free(&taken);
    let wanted = n_of_share(definition.allocation);
    let Some(ranges) = resized(&present, &free, wanted) else {
        return Err(CatalogError::LayerFull {
            layer: layer.clone(),
            n_wanted: wanted,
            n_free: n_buckets(&free) + n_buckets(&present),
            free,
        });
    };
    release(transaction, id).map_err(failed)?;
    own(transaction, layer, id, &ranges).map_err(failed)
}

/// Whether an experiment of this status owns buckets of its layer.
fn owns(status: Status) -> bool {
    matches!(status, Status::Draft | Status::Running)
}

/// Gives `experiment` exactly these buckets of `layer`, or tells whose some of them are.
pub(crate) fn claim(
    transaction: &Connection<'_>,
    layer: &LayerName,
    experiment: &ExperimentId,
    ranges: &[[u16; 2]],
) -> database::Result<Option<ExperimentId>> {
    for [first, past] in ranges {
        let owner = transaction
            .prepare_cached("SELECT experiment_id FROM layer_ranges WHERE layer = ?1 AND first < ?3 AND past > ?2 ORDER BY first LIMIT 1")?
            .query_row(params![layer.as_str(), *first, *past], experiments::id)
            .optional()?;
        if owner.is_some() {
            return Ok(owner);
        }
    }
    let ranges: Vec<_> = ranges.iter().map(|[first, past]| *first..*past).collect();
    own(transaction, layer, experiment, &ranges)?;
    Ok(None)
}

pub(crate) fn release(
    transaction: &Connection<'_>,
    experiment: &ExperimentId,
) -> database::Result<()> {
    transaction
        .prepare_cached("DELETE FROM layer_ranges WHERE experiment_id = ?1")?
        .execute([experiment.as_str()])?;
    Ok(())
}

/// All columns of `layers` in the table's order, then the seal.
const COLUMNS: &str = "name, definition, created_at, updated_at, revision, seal";
const N_COLUMNS: usize = 5;

fn layer(row: &Row<'_>) -> database::Result<Layer> {
    if !row.is_sound(N_COLUMNS)? {
        let name: String = row.get(0)?;
        return Err(corrupt(format!(
            "the layer `{name}` does not match its checksum"
        )));
    }
    let text: String = row.get(1)?;
    let definition = serde_json::from_str(&text)
        .map_err(|error| corrupt(format!("a layer cannot be read: {error}")))?;
    Ok(Layer {
        definition,
        created_at: UnixMicros(row.get(2)?),
        updated_at: UnixMicros(row.get(3)?),
        revision: row.get(4)?,
        owned: Vec::new(),
    })
}

fn find(connection: &Connection<'_>, name: &str) -> database::Result<Option<Layer>> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM layers WHERE name = ?1"))?
        .query_row([name], layer)
        .optional()?;
    found
        .map(|found| with_owners(connection, found))
        .transpose()
}

fn with_owners(connection: &Connection<'_>, mut layer: Layer) -> database::Result<Layer> {
    let sql = "SELECT experiment_id, first, past FROM layer_ranges WHERE layer = ?1 ORDER BY first";
    let mut statement = connection.prepare_cached(sql)?;
    let owned = |row: &Row<'_>| Ok((crate::experiments::id(row)?, row.get(1)?..row.get(2)?));
    layer.owned = statement
        .query_map([layer.definition.name.as_str()], owned)?
        .collect::<database::Result<_>>()?;
    Ok(layer)
}

impl Catalog {
    /// The layer `name`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoLayer`] where there is none.
    pub fn layer(&self, name: &LayerName) -> Result<Layer, CatalogError> {
        let found = self.read("read a layer", |connection| {
            match find(connection, name.as_str())? {
                Some(found) => Ok(Ok(found)),
                None => Names::LAYERS.instead_of(connection, name.as_str()).map(Err),
            }
        })?;
        found.map_err(|there_are| CatalogError::NoLayer(name.clone(), there_are))
    }

    /// At most `limit` layers in the order of their names, those after `after`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn list_layers(&self, after: Option<&str>, limit: u32) -> Result<Vec<Layer>, CatalogError> {
        self.read("list layers", |connection| {
            let sql =
                format!("SELECT {COLUMNS} FROM layers WHERE name > ?1 ORDER BY name LIMIT ?2");
            let mut statement = connection.prepare_cached(&sql)?;
            let found = statement.query_map(params![after.unwrap_or_default(), limit], layer)?;
            found.map(|found| with_owners(connection, found?)).collect()
        })
    }

    /// Creates a layer.
    ///
    /// # Errors
    ///
    /// [`CatalogError::LayerExists`] where the name is taken.
    pub fn create_layer(
        &self,
        definition: &LayerDefinition,
        edit: &Edit,
    ) -> Result<Layer, CatalogError> {
        let failed = CatalogError::database("create a layer", self.place());
        let name = &definition.name;
        self.write("create a layer", |transaction| {
            if find(transaction, name.as_str()).map_err(&failed)?.is_some() {
                return Err(CatalogError::LayerExists(name.clone()));
            }
            let created = Layer {
                definition: definition.clone(),
                created_at: edit.at,
                updated_at: edit.at,
                revision: 1,
                owned: Vec::new(),
            };
            store(transaction, edit, None, &created).map_err(&failed)?;
            Ok(created)
        })
    }

    /// Replaces a layer's definition with what `change` makes of the present one.
    ///
    /// # Errors
    ///
    /// There is no such layer, `edit` names another state of it, or what `change` says.
    pub fn change_layer<E: From<CatalogError>>(
        &self,
        name: &LayerName,
        edit: &Edit,
        change: impl FnOnce(&Layer) -> Result<LayerDefinition, E>,
    ) -> Result<Layer, E> {
        let failed = CatalogError::database("change a layer", self.place());
        let mut refused = None;
        let outcome = self.write("change a layer", |transaction| {
            let known = self.layer_to_edit(transaction, name, edit)?;
            match change(&known) {
                Ok(definition) if definition == known.definition => Ok(known),
                Ok(definition) => {
                    let changed = Layer {
                        definition,
                        updated_at: edit.at,
                        revision: known.revision + 1,
                        ..known.clone()
                    };
                    store(transaction, edit, Some(&known), &changed).map_err(&failed)?;
                    Ok(changed)
                }
                Err(error) => {
                    refused = Some(error);
                    Ok(known)
                }
            }
        })?;
        refused.map_or(Ok(outcome), Err)
    }

    /// Deletes a layer in which no experiment owns buckets, and gives it as it was.
    ///
    /// # Errors
    ///
    /// There is no such layer, `edit` names another state of it, or an experiment owns
    /// buckets of it.
    pub fn delete_layer(&self, name: &LayerName, edit: &Edit) -> Result<Layer, CatalogError> {
        let failed = CatalogError::database("delete a layer", self.place());
        self.write("delete a layer", |transaction| {
            let known = self.layer_to_edit(transaction, name, edit)?;
            if let Some((experiment, _)) = known.owned.first() {
                return Err(CatalogError::LayerInUse {
                    layer: name.clone(),
                    experiment: experiment.clone(),
                });
            }
            remove(transaction, edit, &known).map_err(&failed)?;
            Ok(known)
        })
    }

    /// The layer `name`, in a state that `edit` may change.
    fn layer_to_edit(
        &self,
        transaction: &Connection<'_>,
        name: &LayerName,
        edit: &Edit,
    ) -> Result<Layer, CatalogError> {
        let failed = CatalogError::database("read a layer", self.place());
        let Some(known) = find(transaction, name.as_str()).map_err(&failed)? else {
            let there_are = Names::LAYERS.instead_of(transaction, name.as_str());
            return Err(CatalogError::NoLayer(
                name.clone(),
                there_are.map_err(failed)?,
            ));
        };
        edit.check(|| format!("layer `{name}`"), known.revision)?;
        Ok(known)
    }
}

/// Writes `current` instead of `before`, with its entry in the audit trail.
fn store(
    transaction: &Connection<'_>,
    edit: &Edit,
    before: Option<&Layer>,
    current: &Layer,
) -> database::Result<()> {
    let definition = &current.definition;
    transaction.execute(
        "INSERT INTO layers (name, definition, created_at, updated_at, revision) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at, revision = excluded.revision",
        params![
            definition.name.as_str(),
            to_json(definition),
            current.created_at.0,
            current.updated_at.0,
            current.revision
        ],
    )?;
    let event = Event {
        subject: Subject::Layer,
        name: definition.name.as_str(),
        action: if before.is_some() { "change" } else { "create" },
    };
    let known = before.map(|before| audit::fields(&before.definition));
    audit::record(
        transaction,
        edit,
        event,
        known.as_ref(),
        Some(&audit::fields(definition)),
    )
}

fn remove(transaction: &Connection<'_>, edit: &Edit, known: &Layer) -> database::Result<()> {
    let name = known.definition.name.as_str();
    transaction.execute("DELETE FROM layers WHERE name = ?1", [name])?;
    let event = Event {
        subject: Subject::Layer,
        name,
        action: "delete",
    };
    audit::record(
        transaction,
        edit,
        event,
        Some(&audit::fields(&known.definition)),
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Actor;

    fn edit() -> Edit {
        Edit::new(Actor::new("mia"), UnixMicros(1_700_000_000_000_000))
    }

    fn definition(id: &str, allocation: f64) -> Definition {
        let text = format!(
            r#"{{"experiment_id":"{id}","layer":"page","allocation":{allocation},"variants":[{{"variant":"a"}},{{"variant":"b"}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let page = serde_json::from_str(r#"{"name":"page"}"#).unwrap();
        catalog.create_layer(&page, &edit()).unwrap();
        (directory, catalog)
    }

    fn owned(catalog: &Catalog) -> Vec<(String, Range<u16>)> {
        let layer = catalog.layer(&LayerName::new("page").unwrap()).unwrap();
        layer
            .owned
            .into_iter()
            .map(|(id, range)| (id.to_string(), range))
            .collect()
    }

    #[test]
    fn experiments_of_a_layer_get_buckets_of_their_own_until_there_are_none_left() {
        let (_directory, catalog) = catalog();
        catalog
            .create_experiment(&definition("a", 0.5), &edit())
            .unwrap();
        catalog
            .create_experiment(&definition("b", 0.3), &edit())
            .unwrap();
        let refused = catalog
            .create_experiment(&definition("c", 0.25), &edit())
            .unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("2000 are free: 8000 to below 10000"),
            "{refused}"
        );
        assert!(refused.contains("at most 0.2"), "{refused}");
        assert_eq!(
            owned(&catalog),
            [("a".to_owned(), 0..5_000), ("b".to_owned(), 5_000..8_000)]
        );
        assert!(matches!(
            catalog.experiment(&ExperimentId::new("c").unwrap()),
            Err(CatalogError::NoExperiment(..))
        ));
    }

    #[test]
    fn growing_keeps_the_buckets_and_stopping_frees_them() {
        let (_directory, catalog) = catalog();
        for id in ["a", "b"] {
            catalog
                .create_experiment(&definition(id, 0.3), &edit())
                .unwrap();
        }
        let a = ExperimentId::new("a").unwrap();
        catalog.start_experiment(&a, &edit()).unwrap();
        let grown =
            |_: &crate::experiments::Experiment| Ok::<_, CatalogError>(definition("a", 0.5));
        let grown = catalog.change_experiment(&a, &edit(), grown).unwrap();
        assert_eq!(grown.ranges, [0..3_000, 6_000..8_000]);
        catalog.stop_experiment(&a, &edit()).unwrap();
        assert_eq!(owned(&catalog), [("b".to_owned(), 3_000..6_000)]);
        let page = LayerName::new("page").unwrap();
        let refused = catalog
            .delete_layer(&page, &edit())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("`b`"), "{refused}");
        catalog
            .archive_experiment(&ExperimentId::new("b").unwrap(), &edit())
            .unwrap();
        catalog.delete_layer(&page, &edit()).unwrap();
        assert!(matches!(
            catalog.layer(&page),
            Err(CatalogError::NoLayer(..))
        ));
    }

    #[test]
    fn an_experiment_of_an_unknown_layer_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let refused = catalog
            .create_experiment(&definition("a", 0.5), &edit())
            .unwrap_err();
        assert!(refused.to_string().contains("POST /v1/layers"), "{refused}");
    }
}
