//! What SDKs and the evaluation over HTTP decide by: experiments and holdouts that run, and
//! variants that are shipped.

use trialog_model::configuration::{Configuration, ExperimentRules, HoldoutRules, ShippedRules};
use trialog_model::ids::HoldoutName;
use trialog_sqlite::{Migration, sql};

use crate::connection::Catalog;
use crate::database::{self, Connection, params};
use crate::error::CatalogError;
use crate::{experiments, holdouts, metrics};

/// The configuration at one version of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// Grows with each change of what it holds.
    pub version: i64,
    /// Experiments and holdouts that run, and variants that are shipped.
    pub rules: Configuration,
}

pub(crate) const CREATE_TABLE: Migration = sql!(
    "CREATE TABLE configuration (version INTEGER NOT NULL);
     INSERT INTO configuration (version) VALUES (1);"
);

/// Notes that the configuration may be another one.
pub(crate) fn touch(transaction: &Connection<'_>) -> database::Result<()> {
    transaction
        .prepare_cached("UPDATE configuration SET version = version + 1")?
        .execute(params![])?;
    Ok(())
}

/// Notes that the experiment whose last state had the number `change` is deleted.
pub(crate) fn note_deleted(transaction: &Connection<'_>, change: i64) -> database::Result<()> {
    transaction.execute(
        "UPDATE configuration SET version = version + 1, deleted_change = CASE WHEN deleted_change > ?1 THEN deleted_change ELSE ?1 END",
        [change],
    )?;
    Ok(())
}

fn version(connection: &Connection<'_>) -> database::Result<i64> {
    connection
        .prepare_cached("SELECT version FROM configuration")?
        .query_row(params![], |row| row.get(0))
}

impl Catalog {
    /// The version of the configuration: another one wherever it may have changed.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn configuration_version(&self) -> Result<i64, CatalogError> {
        self.read("read the configuration's version", version)
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn configuration(&self) -> Result<Versioned, CatalogError> {
        self.read("read the configuration", |connection| {
            let version = version(connection)?;
            let mut rules = Configuration::default();
            for own in experiments::running(connection)? {
                if own
                    .definition
                    .experiment_id
                    .as_str()
                    .starts_with(HoldoutName::PREFIX)
                {
                    continue;
                }
                let ranges = own
                    .ranges
                    .iter()
                    .map(|range| [range.start, range.end])
                    .collect();
                let rule = ExperimentRules::new(&own.definition, ranges, &own.defined_metrics);
                rules.experiments.push(rule);
            }
            for own in holdouts::running(connection)? {
                let measured = own.definition.measurement();
                let defined = metrics::defined(connection, &measured)?;
                rules.holdouts.push(HoldoutRules {
                    event_types: measured.event_types(&defined),
                    name: own.definition.name,
                    size: own.definition.size,
                    experiments: own.definition.experiments,
                });
            }
            for experiment in experiments::shipping(connection)? {
                if let Some(variant) = experiment.ships() {
                    let rule = ShippedRules::new(&experiment.definition, variant.clone());
                    rules.shipped.push(rule);
                }
            }
            Ok(Versioned { version, rules })
        })
    }
}
