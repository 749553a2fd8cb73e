//! Builds the configuration that SDKs and evaluations over HTTP use: running experiments and
//! holdouts, and shipped variants. Also returns the controls that OpenFeature clients receive if a
//! unit has no variant.

use serde_json::Value;
use trialog_model::configuration::{Configuration, ExperimentRules, HoldoutRules, ShippedRules};
use trialog_model::experiment::{Definition, VariantWeight};
use trialog_model::ids::{ExperimentId, HoldoutName, Variant};
use trialog_sqlite::{Migration, sql};

use crate::connection::Catalog;
use crate::database::{self, Connection, params};
use crate::error::CatalogError;
use crate::{experiments, holdouts, metrics};

/// The configuration at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// Grows with each change of what it holds.
    pub version: i64,
    /// Experiments and holdouts that run, and variants that are shipped.
    pub rules: Configuration,
    /// The control of each experiment in `rules` whose control is not its first variant.
    pub controls: Vec<(ExperimentId, Variant)>,
    /// The controls of experiments that were stopped, ship nothing and are not archived, in
    /// the order of their ids: at most [`MAX_STOPPED`], those that changed last.
    pub stopped: Vec<Control>,
}

/// The maximum number of stopped experiments whose controls are read.
///
/// Stopped experiments pile up over the years, and clients that ask for all flags get each
/// of them. What exceeds this is still answered to those who ask for it by name.
pub const MAX_STOPPED: usize = 1_000;

/// The control of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// The experiment.
    pub experiment_id: ExperimentId,
    /// The variant's name.
    pub variant: Variant,
    /// The value of the control in the application, if the definition has one.
    pub value: Option<Value>,
}

impl Control {
    /// Returns the control of `definition`; `None` if it declares no variant.
    pub fn of(definition: &Definition) -> Option<Self> {
        let control = definition.control()?;
        let is_control = |arm: &&VariantWeight| arm.variant == *control;
        let arm = definition.variants.iter().find(is_control)?;
        Some(Self {
            experiment_id: definition.experiment_id.clone(),
            variant: arm.variant.clone(),
            value: arm.value.clone(),
        })
    }
}

pub(crate) const CREATE_TABLE: Migration = sql!(
    "CREATE TABLE configuration (version INTEGER NOT NULL);
     INSERT INTO configuration (version) VALUES (1);"
);

/// Records that the configuration may have changed.
pub(crate) fn touch(transaction: &Connection<'_>) -> database::Result<()> {
    transaction
        .prepare_cached("UPDATE configuration SET version = version + 1")?
        .execute(params![])?;
    Ok(())
}

/// Records the deletion of the experiment whose last state had the number `change`.
pub(crate) fn note_deleted(transaction: &Connection<'_>, change: i64) -> database::Result<()> {
    transaction.execute(
        "UPDATE configuration SET version = version + 1,
             deleted_change = CASE WHEN deleted_change > ?1 THEN deleted_change ELSE ?1 END",
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
    /// Returns the version of the configuration, which changes whenever the configuration may
    /// have.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn configuration_version(&self) -> Result<i64, CatalogError> {
        self.read("read the configuration's version", version)
    }

    /// Returns the configuration.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn configuration(&self) -> Result<Versioned, CatalogError> {
        self.read("read the configuration", |connection| {
            let version = version(connection)?;
            let mut rules = Configuration::default();
            let mut controls = Vec::new();
            for experiment in experiments::running(connection)? {
                if experiment
                    .definition
                    .experiment_id
                    .as_str()
                    .starts_with(HoldoutName::PREFIX)
                {
                    continue;
                }
                let ranges = experiment
                    .ranges
                    .iter()
                    .map(|range| [range.start, range.end])
                    .collect();
                let rule = ExperimentRules::new(
                    &experiment.definition,
                    ranges,
                    &experiment.defined_metrics,
                );
                rules.experiments.push(rule);
                controls.extend(named_control(&experiment.definition));
            }
            for holdout in holdouts::running(connection)? {
                let measured = holdout.definition.measurement();
                let defined = metrics::defined(connection, &measured)?;
                rules.holdouts.push(HoldoutRules {
                    event_types: measured.event_types(&defined),
                    name: holdout.definition.name,
                    size: holdout.definition.size,
                    experiments: holdout.definition.experiments,
                });
            }
            for experiment in experiments::shipping(connection)? {
                if let Some(variant) = experiment.ships() {
                    let rule = ShippedRules::new(&experiment.definition, variant.clone());
                    rules.shipped.push(rule);
                    controls.extend(named_control(&experiment.definition));
                }
            }
            let stopped = experiments::stopped(connection, MAX_STOPPED)?;
            let mut stopped: Vec<_> = stopped.iter().filter_map(Control::of).collect();
            stopped.sort_by(|one, other| one.experiment_id.cmp(&other.experiment_id));
            Ok(Versioned {
                version,
                rules,
                controls,
                stopped,
            })
        })
    }
}

/// The control of `definition`, if it is not the first variant.
fn named_control(definition: &Definition) -> Option<(ExperimentId, Variant)> {
    let first = definition.variants.first().map(|arm| &arm.variant);
    let control = definition.control.as_ref();
    let named = control.filter(|control| Some(*control) != first)?;
    Some((definition.experiment_id.clone(), named.clone()))
}
