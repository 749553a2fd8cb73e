//! Holdouts, each with the experiment that measures it.

use serde_json::{Map, Value, json};
use trialog_model::experiment::Status;
use trialog_model::holdout::HoldoutDefinition;
use trialog_model::ids::{ExperimentId, HoldoutName};
use trialog_model::time::UnixMicros;
use trialog_sqlite::{Migration, sql};

use crate::audit::{self, Edit, Subject};
use crate::connection::Catalog;
use crate::database::{self, Cells, Connection, Row, cells, corrupt, params};
use crate::documents::{self, Document, Table};
use crate::error::CatalogError;
use crate::experiments::sync_holdout_experiment;

/// A holdout as the catalog knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    /// What it is.
    pub definition: HoldoutDefinition,
    /// Draft, running or stopped.
    pub status: Status,
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was changed last.
    pub updated_at: UnixMicros,
    /// When it was started.
    pub started_at: Option<UnixMicros>,
    /// When it was stopped.
    pub stopped_at: Option<UnixMicros>,
    /// Counts its states.
    pub revision: i64,
}

/// An experiment that a holdout keeps units out of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InScope {
    /// The experiment.
    pub experiment_id: ExperimentId,
    /// Whether it ended and ships a variant; else it runs.
    pub ships: bool,
}

pub(crate) const CREATE_TABLE: Migration = sql!(
    "CREATE TABLE holdouts (
        name       TEXT    PRIMARY KEY,
        status     TEXT    NOT NULL,
        definition TEXT    NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        started_at INTEGER,
        stopped_at INTEGER,
        revision   INTEGER NOT NULL,
        seal       INTEGER
    ) WITHOUT ROWID;"
);

impl Document for Holdout {
    type Name = HoldoutName;
    type Definition = HoldoutDefinition;

    const SUBJECT: Subject = Subject::Holdout;
    const TABLE: Table = Table {
        name: "holdouts",
        columns: &[
            "name",
            "status",
            "definition",
            "created_at",
            "updated_at",
            "started_at",
            "stopped_at",
            "revision",
        ],
    };
    const FURTHER: &[&str] = &["status", "started_at", "stopped_at"];

    documents::common_fields!(revision);

    fn name_of(definition: &HoldoutDefinition) -> &HoldoutName {
        &definition.name
    }

    fn read_further(&mut self, row: &Row<'_>) -> database::Result<()> {
        let status: String = row.get(1)?;
        self.status =
            Status::parse(&status).ok_or_else(|| corrupt(format!("`{status}` is no status")))?;
        self.started_at = row.get(5)?;
        self.stopped_at = row.get(6)?;
        Ok(())
    }

    fn further(&self) -> Cells<'static> {
        cells![self.status.as_str(), self.started_at, self.stopped_at]
    }

    fn created(definition: HoldoutDefinition, at: UnixMicros, _placeholder: Option<&Self>) -> Self {
        Self {
            definition,
            status: Status::Draft,
            created_at: at,
            updated_at: at,
            started_at: None,
            stopped_at: None,
            revision: 1,
        }
    }

    fn follow_up(
        &self,
        transaction: &Connection<'_>,
        edit: &Edit,
        action: &'static str,
        _known: Option<&Self>,
    ) -> database::Result<()> {
        sync_holdout_experiment(transaction, edit, action, self)
    }

    fn fields(&self) -> Map<String, Value> {
        let text = |time: Option<UnixMicros>| json!(time.map(UnixMicros::to_rfc3339));
        let mut fields = audit::fields(&self.definition);
        fields.insert("status".to_owned(), json!(self.status));
        fields.insert("started_at".to_owned(), text(self.started_at));
        fields.insert("stopped_at".to_owned(), text(self.stopped_at));
        fields
    }
}

/// The holdouts that run.
pub(crate) fn running(connection: &Connection<'_>) -> database::Result<Vec<Holdout>> {
    documents::select(
        connection,
        "WHERE status = 'running' ORDER BY name",
        params![],
    )
}

impl Catalog {
    /// Lists experiments, at most `limit`, that `holdout` keeps units out of: those that run,
    /// and those that ship a variant.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn in_scope(
        &self,
        holdout: &HoldoutDefinition,
        limit: usize,
    ) -> Result<Vec<InScope>, CatalogError> {
        self.read("look for experiments in a scope", |connection| {
            let running = "SELECT experiment_id FROM experiments
                WHERE status = 'running' ORDER BY experiment_id";
            let shipping = "SELECT experiment_id FROM experiments
                WHERE ship IS NOT NULL ORDER BY experiment_id";
            let mut covered = Vec::new();
            for (sql, ships) in [(running, false), (shipping, true)] {
                let mut statement = connection.prepare_cached(sql)?;
                for id in statement.query_map(params![], crate::experiments::id)? {
                    let experiment_id = id?;
                    let is_other = !experiment_id.as_str().starts_with(HoldoutName::PREFIX);
                    if is_other && holdout.covers(&experiment_id) && covered.len() < limit {
                        covered.push(InScope {
                            experiment_id,
                            ships,
                        });
                    }
                }
            }
            Ok(covered)
        })
    }

    /// Starts a draft: its units are held out from now on.
    ///
    /// # Errors
    ///
    /// There is no such draft, or `edit` names another state of it.
    pub fn start_holdout(&self, name: &HoldoutName, edit: &Edit) -> Result<Holdout, CatalogError> {
        self.step_holdout(name, edit, "start")
    }

    /// Stops a running holdout: its units are let in from now on.
    ///
    /// # Errors
    ///
    /// There is no such running holdout, or `edit` names another state of it.
    pub fn stop_holdout(&self, name: &HoldoutName, edit: &Edit) -> Result<Holdout, CatalogError> {
        self.step_holdout(name, edit, "stop")
    }

    fn step_holdout(
        &self,
        name: &HoldoutName,
        edit: &Edit,
        action: &'static str,
    ) -> Result<Holdout, CatalogError> {
        self.write("change a holdout's status", |transaction| {
            let known: Holdout = documents::to_edit(transaction, name, edit)?;
            let mut changed = known.clone();
            match (action, known.status) {
                ("start", Status::Draft) => {
                    changed.status = Status::Running;
                    changed.started_at = Some(edit.at);
                }
                ("stop", Status::Running) => {
                    changed.status = Status::Stopped;
                    changed.stopped_at = Some(edit.at);
                }
                (_, status) => {
                    let mend = match (action, status) {
                        ("stop", Status::Draft) => "start it first",
                        ("stop", _) => "it was stopped already",
                        (_, Status::Running) => "it was started already",
                        _ => "it does not start again, register a new one",
                    };
                    let refused = CatalogError::HoldoutStatus {
                        holdout: name.clone(),
                        status,
                        mend,
                    };
                    return Err(refused.into());
                }
            }
            Ok(documents::store(
                transaction,
                edit,
                action,
                Some(&known),
                changed,
            )?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Actor;

    fn edit() -> Edit {
        Edit::new(Actor::new("mia"), UnixMicros(1_700_000_000_000_000))
    }

    fn q3(size: f64) -> HoldoutDefinition {
        let text = format!(r#"{{"name":"q3","size":{size},"metrics":{{"primary":["purchase"]}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_experiment_that_measures_a_holdout_follows_it() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let (name, id) = (q3(0.05).name, q3(0.05).name.experiment_id());
        catalog
            .add_unregistered(std::slice::from_ref(&id), 9, UnixMicros(1))
            .unwrap();
        catalog.create::<Holdout>(&q3(0.05), &edit()).unwrap();
        assert!(matches!(
            catalog.create::<Holdout>(&q3(0.1), &edit()),
            Err(CatalogError::Exists { .. })
        ));
        let measured = catalog.experiment(&id).unwrap();
        assert_eq!(
            (measured.status, measured.definition),
            (Status::Draft, q3(0.05).measurement())
        );
        assert!(
            catalog
                .stop_holdout(&name, &edit())
                .unwrap_err()
                .to_string()
                .contains("start it first")
        );
        let refused = catalog
            .start_experiment(&id, &edit())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("change the holdout `q3`"), "{refused}");
        catalog.start_holdout(&name, &edit()).unwrap();
        assert_eq!(catalog.experiment(&id).unwrap().status, Status::Running);
        let smaller = |_: &Holdout| Ok::<_, CatalogError>(q3(0.01));
        assert_eq!(
            catalog
                .change::<Holdout, _>(&name, &edit(), smaller)
                .unwrap()
                .definition,
            q3(0.01)
        );
        let configuration = catalog.configuration().unwrap();
        assert_eq!(
            configuration.rules.holdouts[0].event_types[0].as_str(),
            "purchase"
        );
        assert!(configuration.rules.experiments.is_empty());
        let stopped = catalog.stop_holdout(&name, &edit()).unwrap();
        assert_eq!(stopped.stopped_at, Some(edit().at));
        assert_eq!(catalog.experiment(&id).unwrap().status, Status::Stopped);
        assert!(catalog.configuration().unwrap().rules.holdouts.is_empty());
        let audit = catalog
            .audit(Some((Subject::Holdout, "q3")), 0, 10)
            .unwrap();
        let actions: Vec<_> = audit.iter().map(|entry| entry.action.as_str()).collect();
        assert_eq!(actions, ["create", "start", "change", "stop"]);
    }
}
