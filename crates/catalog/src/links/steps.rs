//! Keeps released steps of the schema from before there was one table of links.

use std::ops::ControlFlow;

use rusqlite::Transaction;
use trialog_model::experiment::Definition;

use crate::database::{self, params};
use crate::documents;

/// Creates the table of metric definitions, and links the existing experiments with their metrics.
pub(crate) fn create_metrics(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE metric_definitions (
            name       TEXT    PRIMARY KEY,
            definition TEXT    NOT NULL,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            revision   INTEGER NOT NULL,
            seal       INTEGER
        ) WITHOUT ROWID;
        CREATE TABLE experiment_metrics (
            metric_name   TEXT    NOT NULL,
            experiment_id TEXT    NOT NULL,
            seal          INTEGER,
            PRIMARY KEY (metric_name, experiment_id)
        ) WITHOUT ROWID;",
    )?;
    let insert = "INSERT INTO experiment_metrics (metric_name, experiment_id) VALUES (?1, ?2)
        ON CONFLICT DO NOTHING";
    fill(transaction, insert, |definition| {
        let metrics = definition.metrics.iter();
        metrics.map(|(metric, _)| metric.name.to_string()).collect()
    })
}

/// Links the existing experiments with their surfaces.
pub(crate) fn create_surfaces(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE experiment_surfaces (
            surface       TEXT    NOT NULL,
            experiment_id TEXT    NOT NULL,
            seal          INTEGER,
            PRIMARY KEY (surface, experiment_id)
        ) WITHOUT ROWID;",
    )?;
    let insert = "INSERT INTO experiment_surfaces (surface, experiment_id) VALUES (?1, ?2)
        ON CONFLICT DO NOTHING";
    fill(transaction, insert, |definition| {
        definition.surfaces.clone()
    })
}

/// Inserts what each experiment names.
fn fill(
    transaction: &Transaction<'_>,
    insert: &str,
    named: impl Fn(&Definition) -> Vec<String>,
) -> rusqlite::Result<()> {
    database::sqlite::fill(transaction, |connection| {
        connection.each("SELECT definition FROM experiments", params![], |row| {
            let definition: Definition = documents::definition(row, 0)?;
            for name in named(&definition) {
                connection.execute(insert, params![name, definition.experiment_id.as_str()])?;
            }
            Ok(ControlFlow::Continue(()))
        })
    })
}
