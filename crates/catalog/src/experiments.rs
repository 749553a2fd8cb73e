//! The registry: experiments, their definitions and where they are in life.

use rusqlite::{Connection, OptionalExtension, Row, params};
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_sqlite::seal;

use crate::connection::Catalog;
use crate::error::{CatalogError, corrupt};

/// An experiment as the registry knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// What it is.
    pub definition: Definition,
    /// Where it is in its life.
    pub status: Status,
    /// When it was first known.
    pub created_at: UnixMicros,
    /// When its definition or status last changed.
    pub updated_at: UnixMicros,
    /// When it was started.
    pub started_at: Option<UnixMicros>,
    /// When it was stopped.
    pub stopped_at: Option<UnixMicros>,
    /// Counts the changes of its definition.
    pub revision: i64,
    /// Why its last computation failed, until one succeeds.
    pub failure: Option<String>,
}

/// All columns of `experiments` in the table's order, then the seal.
const COLUMNS: &str = "experiment_id, status, definition, created_at, updated_at, started_at, stopped_at, revision, computed_revision, recompute_at, failure, seal";
const N_COLUMNS: usize = 11;

fn experiment(row: &Row<'_>) -> rusqlite::Result<Experiment> {
    if !seal::is_sound(row, N_COLUMNS)? {
        let id: String = row.get(0)?;
        return Err(corrupt(format!(
            "the definition of `{id}` does not match its checksum"
        )));
    }
    let bad = |column: usize, error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error)
    };
    let status: String = row.get(1)?;
    let definition: String = row.get(2)?;
    Ok(Experiment {
        status: Status::parse(&status)
            .ok_or_else(|| bad(1, format!("`{status}` is no status").into()))?,
        definition: serde_json::from_str(&definition).map_err(|error| bad(2, error.into()))?,
        created_at: UnixMicros(row.get(3)?),
        updated_at: UnixMicros(row.get(4)?),
        started_at: row.get::<_, Option<i64>>(5)?.map(UnixMicros),
        stopped_at: row.get::<_, Option<i64>>(6)?.map(UnixMicros),
        revision: row.get(7)?,
        failure: row.get(10)?,
    })
}

fn find(connection: &Connection, id: &ExperimentId) -> rusqlite::Result<Option<Experiment>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM experiments WHERE experiment_id = ?1"
        ))?
        .query_row([id.as_str()], experiment)
        .optional()
}

/// Which experiments to list, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only experiments of this status.
    pub status: Option<Status>,
    /// Only experiments whose id comes after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: u32,
}

impl Catalog {
    /// The experiment `id`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoExperiment`] where it is not known.
    pub fn experiment(&self, id: &ExperimentId) -> Result<Experiment, CatalogError> {
        self.read("read an experiment", |connection| find(connection, id))?
            .ok_or_else(|| CatalogError::NoExperiment(id.clone()))
    }

    /// Experiments in the order of their ids.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn list_experiments(&self, listing: &Listing) -> Result<Vec<Experiment>, CatalogError> {
        let after = listing.after.as_deref().unwrap_or_default();
        self.read("list experiments", |connection| {
            let condition = if listing.status.is_some() { "status = ?1 AND" } else { "?1 = '' AND" };
            let sql = format!(
                "SELECT {COLUMNS} FROM experiments WHERE {condition} experiment_id > ?2 ORDER BY experiment_id LIMIT ?3"
            );
            let status = listing.status.map_or("", Status::as_str);
            connection.prepare_cached(&sql)?.query_map(params![status, after, listing.limit], experiment)?.collect()
        })
    }

    /// Registers an experiment; one that was `unregistered` becomes a draft.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Exists`] where the id is taken.
    pub fn create_experiment(
        &self,
        definition: &Definition,
        now: UnixMicros,
    ) -> Result<Experiment, CatalogError> {
        let id = &definition.experiment_id;
        self.write("create an experiment", |transaction| {
            let failed = CatalogError::database("create an experiment", self.path());
            let text = to_json(definition);
            match find(transaction, id).map_err(&failed)? {
                Some(known) if known.status != Status::Unregistered => return Err(CatalogError::Exists(id.clone())),
                Some(_) => transaction.execute(
                    "UPDATE experiments SET status = 'draft', definition = ?2, updated_at = ?3, revision = revision + 1 WHERE experiment_id = ?1",
                    params![id.as_str(), text, now.0],
                ),
                None => transaction.execute(
                    "INSERT INTO experiments (experiment_id, status, definition, created_at, updated_at, revision, computed_revision) VALUES (?1, 'draft', ?2, ?3, ?3, 1, 0)",
                    params![id.as_str(), text, now.0],
                ),
            }
            .map_err(&failed)?;
            find(transaction, id).map_err(&failed)?.ok_or_else(|| CatalogError::NoExperiment(id.clone()))
        })
    }

    /// Replaces a definition with what `change` makes of the present one.
    ///
    /// # Errors
    ///
    /// The experiment is not known, or what `change` says.
    pub fn change_experiment<E: From<CatalogError>>(
        &self,
        id: &ExperimentId,
        now: UnixMicros,
        change: impl FnOnce(&Experiment) -> Result<Definition, E>,
    ) -> Result<Experiment, E> {
        let failed = CatalogError::database("change an experiment", self.path());
        let mut refused = None;
        let outcome = self.write("change an experiment", |transaction| {
            let known = find(transaction, id).map_err(&failed)?.ok_or_else(|| CatalogError::NoExperiment(id.clone()))?;
            let definition = match change(&known) {
                Ok(definition) if definition == known.definition => return Ok(known),
                Ok(definition) => definition,
                Err(error) => {
                    refused = Some(error);
                    return Ok(known);
                }
            };
            transaction
                .execute(
                    "UPDATE experiments SET definition = ?2, updated_at = ?3, revision = revision + 1 WHERE experiment_id = ?1",
                    params![id.as_str(), to_json(&definition), now.0],
                )
                .map_err(&failed)?;
            find(transaction, id).map_err(&failed)?.ok_or_else(|| CatalogError::NoExperiment(id.clone()))
        })?;
        refused.map_or(Ok(outcome), Err)
    }

    /// Starts a draft.
    ///
    /// # Errors
    ///
    /// The experiment is not known or not a draft.
    pub fn start_experiment(
        &self,
        id: &ExperimentId,
        now: UnixMicros,
    ) -> Result<Experiment, CatalogError> {
        let mend = |status| match status {
            Status::Running => Some("it was started already"),
            Status::Stopped => {
                Some("a stopped experiment does not start again, register a new one")
            }
            Status::Unregistered => Some("register it first with POST /v1/experiments"),
            Status::Draft => None,
        };
        self.step(id, now, "UPDATE experiments SET status = 'running', started_at = ?2, updated_at = ?2 WHERE experiment_id = ?1", mend)
    }

    /// Stops a running experiment; events still count by their own times.
    ///
    /// # Errors
    ///
    /// The experiment is not known or not running.
    pub fn stop_experiment(
        &self,
        id: &ExperimentId,
        now: UnixMicros,
    ) -> Result<Experiment, CatalogError> {
        let mend = |status| match status {
            Status::Running => None,
            Status::Stopped => Some("it was stopped already"),
            Status::Draft | Status::Unregistered => Some("start it first"),
        };
        self.step(id, now, "UPDATE experiments SET status = 'stopped', stopped_at = ?2, updated_at = ?2 WHERE experiment_id = ?1", mend)
    }

    fn step(
        &self,
        id: &ExperimentId,
        now: UnixMicros,
        sql: &str,
        mend: impl Fn(Status) -> Option<&'static str>,
    ) -> Result<Experiment, CatalogError> {
        let failed = CatalogError::database("change an experiment's status", self.path());
        self.write("change an experiment's status", |transaction| {
            let known = find(transaction, id)
                .map_err(&failed)?
                .ok_or_else(|| CatalogError::NoExperiment(id.clone()))?;
            if let Some(mend) = mend(known.status) {
                return Err(CatalogError::WrongStatus {
                    experiment: id.clone(),
                    status: known.status,
                    mend,
                });
            }
            transaction
                .execute(sql, params![id.as_str(), now.0])
                .map_err(&failed)?;
            find(transaction, id)
                .map_err(&failed)?
                .ok_or_else(|| CatalogError::NoExperiment(id.clone()))
        })
    }

    /// Adds those of `ids` that are not known yet as `unregistered`, in their
    /// order, while there are fewer than `limit` such experiments. Gives the
    /// number of those left out.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn add_unregistered(
        &self,
        ids: &[ExperimentId],
        limit: u64,
        now: UnixMicros,
    ) -> Result<u64, CatalogError> {
        let failed = CatalogError::database("note new experiments", self.path());
        self.write("note new experiments", |transaction| {
            let mut n_present: u64 = transaction
                .query_row("SELECT count(*) FROM experiments WHERE status = 'unregistered'", [], |row| row.get(0))
                .map_err(&failed)?;
            let mut n_left_out = 0;
            for id in ids {
                if find(transaction, id).map_err(&failed)?.is_some() {
                    continue;
                }
                if n_present >= limit {
                    n_left_out += 1;
                    continue;
                }
                n_present += 1;
                let text = to_json(&Definition::unregistered(id.clone()));
                transaction
                    .execute(
                        "INSERT INTO experiments (experiment_id, status, definition, created_at, updated_at, revision, computed_revision) VALUES (?1, 'unregistered', ?2, ?3, ?3, 1, 0)",
                        params![id.as_str(), text, now.0],
                    )
                    .map_err(&failed)?;
            }
            Ok(n_left_out)
        })
    }

    /// Experiments to recompute without new events: their definition changed,
    /// their last computation failed, or an event's time has come.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn due_experiments(
        &self,
        data_time: UnixMicros,
    ) -> Result<Vec<ExperimentId>, CatalogError> {
        self.read("find the experiments to recompute", |connection| {
            let sql = "SELECT experiment_id FROM experiments WHERE revision <> computed_revision
                       UNION SELECT experiment_id FROM experiments WHERE failure IS NOT NULL
                       UNION SELECT experiment_id FROM experiments WHERE recompute_at IS NOT NULL AND recompute_at <= ?1
                       ORDER BY experiment_id";
            connection.prepare_cached(sql)?.query_map([data_time.0], id)?.collect()
        })
    }

    /// How many experiments there are of each status.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn count_experiments(&self) -> Result<Vec<(Status, u64)>, CatalogError> {
        self.read("count experiments", |connection| {
            let sql = "SELECT count(*) FROM experiments WHERE status = ?1";
            let count = |status: Status| {
                Ok((
                    status,
                    connection
                        .prepare_cached(sql)?
                        .query_row([status.as_str()], |row| row.get(0))?,
                ))
            };
            Status::ALL.into_iter().map(count).collect()
        })
    }
}

pub(crate) fn id(row: &Row<'_>) -> rusqlite::Result<ExperimentId> {
    let text: String = row.get(0)?;
    ExperimentId::new(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

fn to_json(definition: &Definition) -> String {
    serde_json::to_string(definition).expect("a definition has text keys and finite numbers only")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(id: &str) -> Definition {
        serde_json::from_str(&format!(
            r#"{{"experiment_id":"{id}","variants":[{{"variant":"a"}},{{"variant":"b"}}]}}"#
        ))
        .unwrap()
    }

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        (directory, catalog)
    }

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    #[test]
    fn an_experiment_goes_from_draft_to_running_to_stopped() {
        let (_directory, catalog) = catalog();
        let gate = definition("gate");
        let id = gate.experiment_id.clone();
        assert_eq!(
            catalog.create_experiment(&gate, NOW).unwrap().status,
            Status::Draft
        );
        assert!(matches!(
            catalog.create_experiment(&gate, NOW),
            Err(CatalogError::Exists(_))
        ));
        assert!(
            catalog
                .stop_experiment(&id, NOW)
                .unwrap_err()
                .to_string()
                .contains("is draft: start it first")
        );
        assert_eq!(
            catalog.start_experiment(&id, NOW).unwrap().started_at,
            Some(NOW)
        );
        assert!(matches!(
            catalog.start_experiment(&id, NOW),
            Err(CatalogError::WrongStatus { .. })
        ));
        assert_eq!(
            catalog.stop_experiment(&id, NOW).unwrap().status,
            Status::Stopped
        );
    }

    #[test]
    fn unregistered_experiments_are_limited_and_can_be_completed() {
        let (_directory, catalog) = catalog();
        let ids: Vec<_> = ["a", "b", "c"]
            .map(|id| ExperimentId::new(id).unwrap())
            .into();
        assert_eq!(catalog.add_unregistered(&ids, 2, NOW).unwrap(), 1);
        assert_eq!(catalog.add_unregistered(&ids, 2, NOW).unwrap(), 1);
        assert_eq!(
            catalog.experiment(&ids[0]).unwrap().status,
            Status::Unregistered
        );
        assert_eq!(
            catalog
                .create_experiment(&definition("a"), NOW)
                .unwrap()
                .status,
            Status::Draft
        );
        assert_eq!(catalog.add_unregistered(&ids, 2, NOW).unwrap(), 0);
    }

    #[test]
    fn a_changed_definition_is_due_and_an_equal_one_is_not_a_change() {
        let (_directory, catalog) = catalog();
        let gate = definition("gate");
        let id = gate.experiment_id.clone();
        catalog.create_experiment(&gate, NOW).unwrap();
        let same = catalog
            .change_experiment(&id, NOW, |known| {
                Ok::<_, CatalogError>(known.definition.clone())
            })
            .unwrap();
        assert_eq!(same.revision, 1);
        let longer = catalog
            .change_experiment(&id, NOW, |known| {
                Ok::<_, CatalogError>(Definition {
                    owner: Some("me".into()),
                    ..known.definition.clone()
                })
            })
            .unwrap();
        assert_eq!(longer.revision, 2);
        assert_eq!(catalog.due_experiments(NOW).unwrap(), [id]);
    }

    #[test]
    fn listing_pages_by_id_and_filters_by_status() {
        let (_directory, catalog) = catalog();
        for id in ["c", "a", "b"] {
            catalog.create_experiment(&definition(id), NOW).unwrap();
        }
        catalog
            .start_experiment(&ExperimentId::new("b").unwrap(), NOW)
            .unwrap();
        let ids = |listing: &Listing| -> Vec<String> {
            catalog
                .list_experiments(listing)
                .unwrap()
                .into_iter()
                .map(|e| e.definition.experiment_id.into())
                .collect()
        };
        assert_eq!(
            ids(&Listing {
                limit: 2,
                ..Listing::default()
            }),
            ["a", "b"]
        );
        assert_eq!(
            ids(&Listing {
                limit: 2,
                after: Some("b".into()),
                ..Listing::default()
            }),
            ["c"]
        );
        assert_eq!(
            ids(&Listing {
                limit: 9,
                status: Some(Status::Running),
                ..Listing::default()
            }),
            ["b"]
        );
    }
}
