//! The buckets of layers: which experiments own them.
//!
//! Drafts and running experiments own buckets; one that is stopped or archived gives
//! them up.

use std::ops::{ControlFlow, Range};

use trialog_model::bucket::n_of_share;
use trialog_model::experiment::{Definition, Status};
use trialog_model::holdout::LayerDefinition;
use trialog_model::ids::{ExperimentId, LayerName};
use trialog_model::ranges::{free, n_buckets, resized};

use super::Layer;
use crate::database::{self, Abort, Connection, Optional, params};
use crate::documents::{self, Document};
use crate::error::CatalogError;
use crate::experiments;

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
            migrate_layer(connection, &documents::definition(row, 0)?, row.get(1)?)?;
            Ok(ControlFlow::Continue(()))
        })
    })
}

/// Creates the layer that an experiment of an older version names, and gives it buckets.
fn migrate_layer(
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
        "INSERT INTO layers (name, definition, created_at, updated_at, revision)
         VALUES (?1, ?2, ?3, ?3, 1) ON CONFLICT DO NOTHING",
        params![layer.as_str(), documents::to_json(&named), created_at],
    )?;
    let taken = taken(connection, layer, &definition.experiment_id)?;
    let wanted = n_of_share(definition.allocation);
    match resized(&[], &free(&taken), wanted) {
        Some(ranges) => insert_ranges(connection, layer, &definition.experiment_id, &ranges),
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

/// The buckets of `layer` that `experiment` owns.
fn present(
    connection: &Connection<'_>,
    layer: &LayerName,
    experiment: &ExperimentId,
) -> database::Result<Vec<Range<u16>>> {
    let sql = "SELECT first, past FROM layer_ranges
        WHERE experiment_id = ?1 AND layer = ?2 ORDER BY first";
    (connection.prepare_cached(sql)?)
        .query_map([experiment.as_str(), layer.as_str()], |row| {
            Ok(row.get(0)?..row.get(1)?)
        })?
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

fn insert_ranges(
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
pub(crate) fn allocate_buckets(
    transaction: &Connection<'_>,
    status: Status,
    definition: &Definition,
) -> Result<(), Abort> {
    let id = &definition.experiment_id;
    let Some(layer) = definition.layer.as_ref().filter(|_| owns(status)) else {
        return Ok(release(transaction, id)?);
    };
    if documents::find::<Layer>(transaction, layer.as_str())?.is_none() {
        let there_are = Layer::TABLE.instead_of(transaction, layer.as_str())?;
        return Err(CatalogError::UnknownLayer(layer.clone(), there_are).into());
    }
    let present = present(transaction, layer, id)?;
    let mut taken = taken(transaction, layer, id)?;
    taken.extend(present.iter().cloned());
    let free = free(&taken);
    let wanted = n_of_share(definition.allocation);
    let Some(ranges) = resized(&present, &free, wanted) else {
        let full = CatalogError::LayerFull {
            layer: layer.clone(),
            n_wanted: wanted,
            n_free: n_buckets(&free) + n_buckets(&present),
            free,
        };
        return Err(full.into());
    };
    release(transaction, id)?;
    Ok(insert_ranges(transaction, layer, id, &ranges)?)
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
            .prepare_cached(
                "SELECT experiment_id FROM layer_ranges
                 WHERE layer = ?1 AND first < ?3 AND past > ?2 ORDER BY first LIMIT 1",
            )?
            .query_row(params![layer.as_str(), *first, *past], experiments::id)
            .optional()?;
        if owner.is_some() {
            return Ok(owner);
        }
    }
    let ranges: Vec<_> = ranges.iter().map(|[first, past]| *first..*past).collect();
    insert_ranges(transaction, layer, experiment, &ranges)?;
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
