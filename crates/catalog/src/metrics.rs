//! Metric definitions, and which experiments name them.

use serde_json::Value;
use std::ops::ControlFlow;
use trialog_model::experiment::Definition;
use trialog_model::ids::{HoldoutName, MetricName};
use trialog_model::metric::MetricRef;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::time::UnixMicros;

use crate::audit::{self, Edit, Event, Subject};
use crate::connection::Catalog;
use crate::database::{
    self, Connection, DatabaseError, Optional, Row, corrupt, params, unreadable,
};
use crate::error::CatalogError;
use crate::experiments::{self, Experiment};
use crate::neighbours::Names;

/// A metric definition as the catalog knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// What it is.
    pub definition: MetricDefinition,
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was changed last.
    pub updated_at: UnixMicros,
    /// Counts its states.
    pub revision: i64,
}

/// Which definitions to list, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricListing {
    /// Only those with this in their name, event type, owner or description, in any case.
    pub search: Option<String>,
    /// Only those whose name comes after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

const TABLES: &str = "
CREATE TABLE metric_definitions (
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
) WITHOUT ROWID;
";

/// Brings the tables, and notes which metrics the experiments that are there name.
pub(crate) fn create_tables(transaction: &rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    database::sqlite::fill(transaction, |connection| {
        connection.each("SELECT definition FROM experiments", params![], |row| {
            note_names(connection, None, &crate::experiments::definition(row, 0)?)?;
            Ok(ControlFlow::Continue(()))
        })
    })
}

/// Notes which metrics an experiment names, instead of those that it named before.
pub(crate) fn note_names(
    connection: &Connection<'_>,
    before: Option<&Definition>,
    definition: &Definition,
) -> database::Result<()> {
    if before.is_some_and(|before| before.metrics == definition.metrics) {
        return Ok(());
    }
    let id = definition.experiment_id.as_str();
    for (metric, _) in before.into_iter().flat_map(|before| before.metrics.iter()) {
        connection
            .prepare_cached(
                "DELETE FROM experiment_metrics WHERE metric_name = ?1 AND experiment_id = ?2",
            )?
            .execute([metric.name.as_str(), id])?;
    }
    for (metric, _) in definition.metrics.iter() {
        connection
            .prepare_cached(
                "INSERT INTO experiment_metrics (metric_name, experiment_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute([metric.name.as_str(), id])?;
    }
    Ok(())
}

/// Removes the notes of which metrics an experiment names.
pub(crate) fn forget_names(connection: &Connection<'_>, experiment: &str) -> database::Result<()> {
    let sql = "DELETE FROM experiment_metrics WHERE experiment_id = ?1";
    connection.execute(sql, [experiment])?;
    Ok(())
}

/// All columns of `metric_definitions` in the table's order, then the seal.
const COLUMNS: &str = "name, definition, created_at, updated_at, revision, seal";
const N_COLUMNS: usize = 5;

fn metric(row: &Row<'_>) -> database::Result<Metric> {
    if !row.is_sound(N_COLUMNS)? {
        let name: String = row.get(0)?;
        return Err(corrupt(format!(
            "the definition of the metric `{name}` does not match its checksum"
        )));
    }
    let text: String = row.get(1)?;
    Ok(Metric {
        definition: serde_json::from_str(&text).map_err(|error| unreadable(1, error))?,
        created_at: UnixMicros(row.get(2)?),
        updated_at: UnixMicros(row.get(3)?),
        revision: row.get(4)?,
    })
}

fn find(connection: &Connection<'_>, name: &str) -> database::Result<Option<Metric>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM metric_definitions WHERE name = ?1"
        ))?
        .query_row([name], metric)
        .optional()
}

/// The definitions that stand behind the names in `definition`, each once.
pub(crate) fn defined(
    connection: &Connection<'_>,
    definition: &Definition,
) -> database::Result<Vec<MetricDefinition>> {
    let mut defined: Vec<MetricDefinition> = Vec::new();
    for (named, _) in definition.metrics.iter() {
        if defined.iter().any(|own| own.name == named.name) {
            continue;
        }
        defined.extend(find(connection, named.name.as_str())?.map(|found| found.definition));
    }
    Ok(defined)
}

impl Catalog {
    /// The metric definition `name`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoMetric`] where there is none.
    pub fn metric(&self, name: &MetricName) -> Result<Metric, CatalogError> {
        let found = self.read("read a metric definition", |connection| {
            match find(connection, name.as_str())? {
                Some(found) => Ok(Ok(found)),
                None => Names::METRICS
                    .instead_of(connection, name.as_str())
                    .map(Err),
            }
        })?;
        found.map_err(|there_are| CatalogError::NoMetric(name.clone(), there_are))
    }

    /// Metric definitions in the order of their names.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn list_metrics(&self, listing: &MetricListing) -> Result<Vec<Metric>, CatalogError> {
        let needle = (listing.search.as_deref()).map_or_else(String::new, str::to_lowercase);
        self.read("list metric definitions", |connection| {
            let sql =
                format!("SELECT {COLUMNS} FROM metric_definitions WHERE name > ?1 ORDER BY name");
            let mut statement = connection.prepare_cached(&sql)?;
            let after = listing.after.as_deref().unwrap_or_default();
            let mut page = Vec::new();
            for found in statement.query_map([after], metric)? {
                if page.len() >= listing.limit as usize {
                    break;
                }
                let found = found?;
                if has(&found.definition, &needle) {
                    page.push(found);
                }
            }
            Ok(page)
        })
    }

    /// Creates a metric definition. Experiments that name an event type of
    /// this name mean the definition from now on, and are due.
    ///
    /// # Errors
    ///
    /// [`CatalogError::MetricExists`] where the name is taken.
    pub fn create_metric(
        &self,
        definition: &MetricDefinition,
        edit: &Edit,
    ) -> Result<Metric, CatalogError> {
        let failed = CatalogError::database("create a metric definition", self.place());
        let name = &definition.name;
        self.write("create a metric definition", |transaction| {
            if find(transaction, name.as_str()).map_err(&failed)?.is_some() {
                return Err(CatalogError::MetricExists(name.clone()));
            }
            lock(transaction, edit, None, definition, &failed)?;
            let created = Metric {
                definition: definition.clone(),
                created_at: edit.at,
                updated_at: edit.at,
                revision: 1,
            };
            store(transaction, edit, None, &created).map_err(&failed)?;
            Ok(created)
        })
    }

    /// Replaces a definition with what `change` makes of the present one.
    /// Experiments that name it are due if it means something else now.
    ///
    /// # Errors
    ///
    /// There is no such definition, `edit` names another state of it, or what
    /// `change` says.
    pub fn change_metric<E: From<CatalogError>>(
        &self,
        name: &MetricName,
        edit: &Edit,
        change: impl FnOnce(&Metric) -> Result<MetricDefinition, E>,
    ) -> Result<Metric, E> {
        let failed = CatalogError::database("change a metric definition", self.place());
        let mut refused = None;
        let outcome = self.write("change a metric definition", |transaction| {
            let known = self.metric_to_edit(transaction, name, edit)?;
            match change(&known) {
                Ok(definition) if definition == known.definition => Ok(known),
                Ok(definition) => {
                    lock(
                        transaction,
                        edit,
                        Some(&known.definition),
                        &definition,
                        &failed,
                    )?;
                    let changed = Metric {
                        definition,
                        updated_at: edit.at,
                        revision: known.revision + 1,
                        ..known
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

    /// Deletes a definition that no experiment names, and gives it as it was.
    ///
    /// # Errors
    ///
    /// There is no such definition, `edit` names another state of it, or an
    /// experiment names it.
    pub fn delete_metric(&self, name: &MetricName, edit: &Edit) -> Result<Metric, CatalogError> {
        let failed = CatalogError::database("delete a metric definition", self.place());
        self.write("delete a metric definition", |transaction| {
            let known = self.metric_to_edit(transaction, name, edit)?;
            let naming = transaction.query_row(
                "SELECT min(experiment_id), count(*) FROM experiment_metrics WHERE metric_name = ?1",
                [name.as_str()],
                |row| Ok((row.get::<Option<String>>(0)?, row.get::<u64>(1)?)),
            );
            if let (Some(experiment), n_experiments) = naming.map_err(&failed)? {
                return Err(CatalogError::MetricNamed {
                    metric: name.clone(),
                    experiment,
                    n_others: n_experiments - 1,
                });
            }
            remove(transaction, edit, &known).map_err(&failed)?;
            Ok(known)
        })
    }

    /// The metric definition `name`, in a state that `edit` may change.
    fn metric_to_edit(
        &self,
        transaction: &Connection<'_>,
        name: &MetricName,
        edit: &Edit,
    ) -> Result<Metric, CatalogError> {
        let failed = CatalogError::database("read a metric definition", self.place());
        let Some(known) = find(transaction, name.as_str()).map_err(&failed)? else {
            let there_are = Names::METRICS.instead_of(transaction, name.as_str());
            return Err(CatalogError::NoMetric(
                name.clone(),
                there_are.map_err(failed)?,
            ));
        };
        edit.check(|| format!("metric `{name}`"), known.revision)?;
        Ok(known)
    }
}

/// Notes what changes of the metric that `changed` defines for the started experiments that it
/// decides, if that is confirmed; `before` is what it was.
fn lock(
    transaction: &Connection<'_>,
    edit: &Edit,
    before: Option<&MetricDefinition>,
    changed: &MetricDefinition,
    failed: &impl Fn(DatabaseError) -> CatalogError,
) -> Result<(), CatalogError> {
    let name = &changed.name;
    let naming: Vec<String> = transaction
        .prepare_cached(
            "SELECT experiment_id FROM experiment_metrics WHERE metric_name = ?1 ORDER BY experiment_id",
        )
        .and_then(|mut statement| {
            statement
                .query_map([name.as_str()], |row| row.get(0))?
                .collect()
        })
        .map_err(failed)?;
    for id in naming {
        // A holdout is measured as long as it lasts, with whatever its metrics mean.
        if id.starts_with(HoldoutName::PREFIX) {
            continue;
        }
        let Some(known) = experiments::find(transaction, &id).map_err(failed)? else {
            continue;
        };
        let fields = locked_fields(&known, before, changed);
        if known.is_started() && !fields.is_empty() {
            experiments::note_locked_fields(transaction, edit, &known, fields.clone(), failed)?;
            let action = "change_after_start";
            experiments::note_fields(transaction, edit, action, &known, &fields).map_err(failed)?;
        }
    }
    Ok(())
}

/// The fields that differ of a metric on which the verdict of `experiment` rests: a primary
/// one, or a guardrail with a margin. A guardrail may still be told which way is good.
fn locked_fields(
    experiment: &Experiment,
    before: Option<&MetricDefinition>,
    changed: &MetricDefinition,
) -> Vec<String> {
    let name = &changed.name;
    let names = |metrics: &[MetricRef]| metrics.iter().any(|own| own.name == *name);
    let metrics = &experiment.definition.metrics;
    let is_primary = names(&metrics.primary);
    let Some(before) = before else {
        return is_primary.then(|| name.to_string()).into_iter().collect();
    };
    let is_guarded = names(&metrics.guardrail) && before.margin.is_some();
    if !is_primary && !is_guarded {
        return Vec::new();
    }
    let is_free = |field: &str| !is_primary && field == "direction" && before.direction.is_none();
    let fields = before.locked_changes(changed).into_iter();
    fields
        .filter(|field| !is_free(field))
        .map(|field| format!("{name}.{field}"))
        .collect()
}

fn has(definition: &MetricDefinition, needle: &str) -> bool {
    let texts = [
        Some(definition.name.as_str()),
        Some(definition.event_type.as_str()),
        definition.owner.as_deref(),
        definition.description.as_deref(),
    ];
    (texts.into_iter().flatten()).any(|text| text.to_lowercase().contains(needle))
}

/// Writes `current` instead of `before`, with its entry in the audit trail.
fn store(
    transaction: &Connection<'_>,
    edit: &Edit,
    before: Option<&Metric>,
    current: &Metric,
) -> database::Result<()> {
    let definition = &current.definition;
    let text = Value::Object(audit::fields(definition)).to_string();
    transaction.execute(
        "INSERT INTO metric_definitions (name, definition, created_at, updated_at, revision) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at, revision = excluded.revision",
        params![
            definition.name.as_str(),
            text,
            current.created_at.0,
            current.updated_at.0,
            current.revision
        ],
    )?;
    let event = Event {
        subject: Subject::Metric,
        name: definition.name.as_str(),
        action: if before.is_some() { "change" } else { "create" },
    };
    crate::configuration::touch(transaction)?;
    let known = before.map(|before| audit::fields(&before.definition));
    audit::record(
        transaction,
        edit,
        event,
        known.as_ref(),
        Some(&audit::fields(definition)),
    )?;
    if before.is_none_or(|before| !before.definition.means_the_same(definition)) {
        transaction.execute(
            "UPDATE experiments SET revision = revision + 1
             WHERE experiment_id IN (SELECT experiment_id FROM experiment_metrics WHERE metric_name = ?1)",
            [definition.name.as_str()],
        )?;
    }
    Ok(())
}

fn remove(transaction: &Connection<'_>, edit: &Edit, known: &Metric) -> database::Result<()> {
    let name = known.definition.name.as_str();
    transaction.execute("DELETE FROM metric_definitions WHERE name = ?1", [name])?;
    let event = Event {
        subject: Subject::Metric,
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
    use serde_json::json;
    use trialog_model::ids::ExperimentId;

    use super::*;
    use crate::audit::Actor;

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    fn edit() -> Edit {
        Edit::new(Actor::local(), NOW)
    }

    fn revenue() -> MetricDefinition {
        let fields = json!({"name": "revenue", "kind": "sum", "event_type": "purchase"});
        MetricDefinition::from_json(fields).unwrap()
    }

    /// A catalog with the experiments `gate`, which names `revenue`, and `other`, computed.
    fn catalog() -> (tempfile::TempDir, Catalog) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        for (id, primary) in [("gate", "revenue:count"), ("other", "purchase")] {
            let fields = json!({"experiment_id": id, "variants": [{"variant": "a"}], "metrics": {"primary": [primary]}});
            let definition = serde_json::from_value(fields).unwrap();
            catalog.create_experiment(&definition, &edit()).unwrap();
        }
        settle(&catalog);
        (directory, catalog)
    }

    /// Lets every experiment pass as computed.
    fn settle(catalog: &Catalog) {
        let failed = CatalogError::database("settle", catalog.place());
        let settled = catalog.write("settle", |transaction| {
            transaction
                .execute(
                    "UPDATE experiments SET computed_revision = revision",
                    crate::database::params![],
                )
                .map_err(&failed)
        });
        settled.unwrap();
    }

    fn due(catalog: &Catalog) -> Vec<String> {
        let due = catalog.due_experiments(NOW).unwrap();
        due.into_iter().map(String::from).collect()
    }

    #[test]
    fn experiments_that_name_a_changed_definition_are_due_and_no_others() {
        let (_directory, catalog) = catalog();
        let name = revenue().name;
        catalog.create_metric(&revenue(), &edit()).unwrap();
        assert_eq!(due(&catalog), ["gate"], "the name means something else now");
        let gate = ExperimentId::new("gate").unwrap();
        assert_eq!(
            catalog.experiment(&gate).unwrap().defined_metrics,
            [revenue()]
        );
        settle(&catalog);
        let change = |change: fn(&mut MetricDefinition)| {
            let changed = |known: &Metric| {
                let mut definition = known.definition.clone();
                change(&mut definition);
                Ok::<_, CatalogError>(definition)
            };
            catalog.change_metric(&name, &edit(), changed).unwrap()
        };
        let described = change(|metric| metric.description = Some("net of returns".into()));
        assert_eq!(described.revision, 2);
        assert!(due(&catalog).is_empty(), "it means the same");
        change(|metric| metric.window = "1d".parse().ok());
        assert_eq!(due(&catalog), ["gate"]);
    }

    #[test]
    fn a_definition_stays_while_an_experiment_names_it() {
        let (_directory, catalog) = catalog();
        let name = revenue().name;
        catalog.create_metric(&revenue(), &edit()).unwrap();
        assert!(matches!(
            catalog.create_metric(&revenue(), &edit()),
            Err(CatalogError::MetricExists(_))
        ));
        let refused = catalog.delete_metric(&name, &edit()).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("named by experiment `gate`: take"),
            "{refused}"
        );
        let without = |known: &crate::experiments::Experiment| {
            let mut definition = known.definition.clone();
            definition.metrics.primary.clear();
            Ok::<_, CatalogError>(definition)
        };
        let gate = ExperimentId::new("gate").unwrap();
        catalog.change_experiment(&gate, &edit(), without).unwrap();
        catalog.delete_metric(&name, &edit()).unwrap();
        assert!(matches!(
            catalog.metric(&name),
            Err(CatalogError::NoMetric(..))
        ));
        let entries = catalog
            .audit(Some((Subject::Metric, "revenue")), 0, 9)
            .unwrap();
        let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["create", "delete"]);
        assert_eq!((&entries[0].from, &entries[1].to), (&None, &None));
    }

    #[test]
    fn definitions_are_listed_by_name_and_found_by_their_texts() {
        let (_directory, catalog) = catalog();
        for (name, event_type) in [
            ("revenue", "purchase"),
            ("visits", "visit"),
            ("buyers", "Purchase"),
        ] {
            let fields = json!({"name": name, "kind": "count", "event_type": event_type});
            let definition = MetricDefinition::from_json(fields).unwrap();
            catalog.create_metric(&definition, &edit()).unwrap();
        }
        let names = |search: Option<&str>, after: Option<&str>| -> Vec<String> {
            let listing = MetricListing {
                search: search.map(str::to_owned),
                after: after.map(str::to_owned),
                limit: 2,
            };
            let listed = catalog.list_metrics(&listing).unwrap();
            (listed.into_iter())
                .map(|own| own.definition.name.into())
                .collect()
        };
        assert_eq!(names(None, None), ["buyers", "revenue"]);
        assert_eq!(names(None, Some("revenue")), ["visits"]);
        assert_eq!(names(Some("PURCHASE"), None), ["buyers", "revenue"]);
        assert_eq!(names(Some("zzz"), None), Vec::<String>::new());
    }
}
