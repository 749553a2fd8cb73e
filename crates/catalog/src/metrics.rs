//! Metric definitions, and which experiments name them.

use trialog_model::experiment::Definition;
use trialog_model::ids::{HoldoutName, MetricName};
use trialog_model::metric::MetricRef;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::time::UnixMicros;

use crate::audit::{Edit, Subject};
use crate::configuration;
use crate::database::{self, Abort, Connection};
use crate::documents::{self, Deletable, Document, Table};
use crate::error::CatalogError;
use crate::experiments::{self, Experiment};
use crate::links::{self, LinkKind};

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

impl Document for Metric {
    type Name = MetricName;
    type Definition = MetricDefinition;

    const SUBJECT: Subject = Subject::Metric;
    const TABLE: Table = Table {
        name: "metric_definitions",
        columns: &documents::COLUMNS,
    };

    documents::common_fields!(revision);

    fn name_of(definition: &MetricDefinition) -> &MetricName {
        &definition.name
    }

    fn created(definition: MetricDefinition, at: UnixMicros, _placeholder: Option<&Self>) -> Self {
        Self {
            definition,
            created_at: at,
            updated_at: at,
            revision: 1,
        }
    }

    fn prepare(
        transaction: &Connection<'_>,
        edit: &Edit,
        known: Option<&Self>,
        current: &Self,
    ) -> Result<&'static str, Abort> {
        let before = known.map(Self::definition);
        note_locked_changes(transaction, edit, before, &current.definition)?;
        Ok(documents::action(known))
    }

    /// Makes the experiments that name it due, if it means something else now.
    fn follow_up(
        &self,
        transaction: &Connection<'_>,
        _edit: &Edit,
        _action: &'static str,
        known: Option<&Self>,
    ) -> database::Result<()> {
        configuration::touch(transaction)?;
        if known.is_some_and(|known| known.definition.means_the_same(&self.definition)) {
            return Ok(());
        }
        let sql = "UPDATE experiments SET revision = revision + 1 WHERE experiment_id IN
            (SELECT experiment_id FROM links WHERE kind = ?1 AND name = ?2)";
        let link = [LinkKind::Metric.as_str(), self.definition.name.as_str()];
        transaction.execute(sql, link).map(drop)
    }

    /// Whether its name, event type, owner or description has `needle`.
    fn has(&self, needle: &str) -> bool {
        let texts = [
            Some(self.definition.name.as_str()),
            Some(self.definition.event_type.as_str()),
            self.definition.owner.as_deref(),
            self.definition.description.as_deref(),
        ];
        (texts.into_iter().flatten()).any(|text| text.to_lowercase().contains(needle))
    }
}

impl Deletable for Metric {
    fn check_deletable(&self, transaction: &Connection<'_>) -> Result<(), Abort> {
        let metric = &self.definition.name;
        let naming = links::experiments(transaction, LinkKind::Metric, metric.as_str())?;
        let Some(experiment) = naming.first() else {
            return Ok(());
        };
        let refused = CatalogError::MetricNamed {
            metric: metric.clone(),
            experiment: experiment.to_string(),
            n_others: naming.len() as u64 - 1,
        };
        Err(refused.into())
    }
}

/// The definitions that stand behind the names in `definition`, each once.
pub(crate) fn defined(
    connection: &Connection<'_>,
    definition: &Definition,
) -> database::Result<Vec<MetricDefinition>> {
    let mut defined: Vec<MetricDefinition> = Vec::new();
    for (named, _) in definition.metrics.iter() {
        if defined.iter().any(|metric| metric.name == named.name) {
            continue;
        }
        let found: Option<Metric> = documents::find(connection, named.name.as_str())?;
        defined.extend(found.map(|metric| metric.definition));
    }
    Ok(defined)
}

/// Notes what changes of the metric that `changed` defines for the started experiments that it
/// decides, if that is confirmed; `before` is what it was.
fn note_locked_changes(
    transaction: &Connection<'_>,
    edit: &Edit,
    before: Option<&MetricDefinition>,
    changed: &MetricDefinition,
) -> Result<(), Abort> {
    let name = &changed.name;
    let naming = links::experiments(transaction, LinkKind::Metric, name.as_str())?;
    for id in naming {
        // A holdout is measured as long as it lasts, with whatever its metrics mean.
        if id.as_str().starts_with(HoldoutName::PREFIX) {
            continue;
        }
        let Some(known) = documents::find::<Experiment>(transaction, id.as_str())? else {
            continue;
        };
        let fields = locked_fields(&known, before, changed);
        if known.is_started() && !fields.is_empty() {
            experiments::note_locked_fields(transaction, edit, &known, fields.clone())?;
            let action = "change_after_start";
            experiments::note_fields(transaction, edit, action, &known, &fields)?;
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
    let names = |metrics: &[MetricRef]| metrics.iter().any(|metric| metric.name == *name);
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trialog_model::ids::ExperimentId;

    use super::*;
    use crate::Catalog;
    use crate::audit::Actor;
    use crate::database::params;
    use crate::documents::Listing;

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
        let settled = catalog.write("settle", |transaction| {
            let sql = "UPDATE experiments SET computed_revision = revision";
            Ok::<_, Abort>(transaction.execute(sql, params![])?)
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
        catalog.create::<Metric>(&revenue(), &edit()).unwrap();
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
            catalog
                .change::<Metric, _>(&name, &edit(), changed)
                .unwrap()
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
        catalog.create::<Metric>(&revenue(), &edit()).unwrap();
        assert!(matches!(
            catalog.create::<Metric>(&revenue(), &edit()),
            Err(CatalogError::Exists { .. })
        ));
        let refused = catalog.delete::<Metric>(&name, &edit()).unwrap_err();
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
        catalog
            .change::<Experiment, _>(&gate, &edit(), without)
            .unwrap();
        catalog.delete::<Metric>(&name, &edit()).unwrap();
        assert!(matches!(
            catalog.get::<Metric>(&name),
            Err(CatalogError::NotFound { .. })
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
            catalog.create::<Metric>(&definition, &edit()).unwrap();
        }
        let names = |search: Option<&str>, after: Option<&str>| -> Vec<String> {
            let listing = Listing {
                search: search.map(str::to_owned),
                after: after.map(str::to_owned),
                limit: 2,
            };
            let listed: Vec<Metric> = catalog.list(&listing).unwrap();
            (listed.into_iter())
                .map(|metric| metric.definition.name.into())
                .collect()
        };
        assert_eq!(names(None, None), ["buyers", "revenue"]);
        assert_eq!(names(None, Some("revenue")), ["visits"]);
        assert_eq!(names(Some("PURCHASE"), None), ["buyers", "revenue"]);
        assert_eq!(names(Some("zzz"), None), Vec::<String>::new());
    }
}
