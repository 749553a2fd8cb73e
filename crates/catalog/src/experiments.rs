//! The registry: experiments, their definitions and where they are in life.

mod document;
mod holdout;
mod life;
mod list;
mod search;
mod steps;
mod unregistered;

use std::ops::{ControlFlow, Range};

use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::{ExperimentId, HoldoutName};
use trialog_model::life::{Decision, Pause};
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::time::UnixMicros;

use crate::connection::Catalog;
use crate::database::{self, Connection, Row, params, unreadable};
use crate::documents::{self, Document};
use crate::error::CatalogError;

pub(crate) use document::{note_fields, note_locked_fields};
pub(crate) use holdout::sync_holdout_experiment;
pub use life::{AtStop, MAX_PAUSES, MAX_REASON_CHARS};
pub use list::{Listing, Order};
pub(crate) use search::create_index;
pub use unregistered::Unregistered;

/// An experiment as the registry knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// What it is.
    pub definition: Definition,
    /// The definitions of the metrics that it names, as far as they have one.
    pub defined_metrics: Vec<MetricDefinition>,
    /// The buckets of its layer that it owns.
    pub ranges: Vec<Range<u16>>,
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
    /// When it was put away.
    pub archived_at: Option<UnixMicros>,
    /// What was decided after it.
    pub decision: Option<Decision>,
    /// The times in which it was stopped before it was resumed, oldest first.
    pub pauses: Vec<Pause>,
    /// What assignment depended on when it was stopped last.
    pub at_stop: Option<AtStop>,
    /// Counts the changes of what its results mean.
    pub revision: i64,
    /// Numbers this state of it among the states of all experiments.
    pub change: i64,
    /// Why its last computation failed, until one succeeds.
    pub failure: Option<String>,
}

impl Experiment {
    /// An experiment with a definition and no life yet, before it is stored.
    fn from_definition(definition: Definition) -> Self {
        Self {
            definition,
            defined_metrics: Vec::new(),
            ranges: Vec::new(),
            status: Status::Unregistered,
            created_at: UnixMicros(0),
            updated_at: UnixMicros(0),
            started_at: None,
            stopped_at: None,
            archived_at: None,
            decision: None,
            pauses: Vec::new(),
            at_stop: None,
            revision: 0,
            change: 0,
            failure: None,
        }
    }

    /// Whether somebody may have seen results of it that can still change.
    pub fn is_started(&self) -> bool {
        matches!(self.status, Status::Running | Status::Stopped)
    }

    /// The definition of the metric called `name`, if it has one.
    pub fn defined_metric(&self, name: &str) -> Option<&MetricDefinition> {
        (self.defined_metrics.iter()).find(|metric| metric.name.as_str() == name)
    }
}

/// Every experiment that runs.
pub(crate) fn running(connection: &Connection<'_>) -> database::Result<Vec<Experiment>> {
    let running = "WHERE status = 'running' ORDER BY experiment_id";
    documents::select(connection, running, params![])
}

/// The definitions of experiments that were stopped, ship nothing and are not archived, the
/// last change first, at most `limit`; without those that measure holdouts.
pub(crate) fn stopped(
    connection: &Connection<'_>,
    limit: usize,
) -> database::Result<Vec<Definition>> {
    let mut stopped = Vec::new();
    let sql =
        Experiment::TABLE.select("WHERE status = 'stopped' AND ship IS NULL ORDER BY change DESC");
    connection.each(&sql, params![], |row| {
        let definition = documents::read_row::<Experiment>(row)?.definition;
        if stopped.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        if !definition
            .experiment_id
            .as_str()
            .starts_with(HoldoutName::PREFIX)
        {
            stopped.push(definition);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(stopped)
}

/// Every experiment that ships a variant, without what other tables have about it.
pub(crate) fn shipping(connection: &Connection<'_>) -> database::Result<Vec<Experiment>> {
    let shipping = "WHERE ship IS NOT NULL ORDER BY experiment_id";
    documents::rows(connection, shipping, params![])
}

/// The number of the next state that an experiment takes: one that none had, deleted ones
/// included.
fn next_change(connection: &Connection<'_>) -> database::Result<i64> {
    let newest: i64 = connection
        .prepare_cached("SELECT coalesce(max(change), 0) FROM experiments")?
        .query_row(params![], |row| row.get(0))?;
    let deleted: i64 = connection
        .prepare_cached("SELECT deleted_change FROM configuration")?
        .query_row(params![], |row| row.get(0))?;
    Ok(newest.max(deleted) + 1)
}

impl Catalog {
    /// Reads the experiment `id`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] where it is not known.
    pub fn experiment(&self, id: &ExperimentId) -> Result<Experiment, CatalogError> {
        self.get(id)
    }

    /// The experiments of `ids` that are known, in the same order.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn known_experiments(&self, ids: &[ExperimentId]) -> Result<Vec<Experiment>, CatalogError> {
        self.read("read experiments", |connection| {
            let mut known = Vec::with_capacity(ids.len());
            for id in ids {
                known.extend(documents::find::<Experiment>(connection, id.as_str())?);
            }
            Ok(known)
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
                       UNION SELECT experiment_id FROM experiments
                       WHERE recompute_at IS NOT NULL AND recompute_at <= ?1
                       ORDER BY experiment_id";
            (connection.prepare_cached(sql)?)
                .query_map([data_time.0], id)?
                .collect()
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

pub(crate) fn id(row: &Row<'_>) -> database::Result<ExperimentId> {
    let text: String = row.get(0)?;
    ExperimentId::new(text).map_err(|error| unreadable(0, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Actor, Edit, Subject};
    use crate::documents::to_json;

    fn definition(id: &str) -> Definition {
        serde_json::from_str(&format!(
            r#"{{"experiment_id":"{id}","variants":[{{"variant":"a"}},{{"variant":"b"}}]}}"#
        ))
        .unwrap()
    }

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        (directory, catalog)
    }

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    fn edit() -> Edit {
        Edit::new(Actor::new("mia"), NOW)
    }

    #[test]
    fn an_experiment_goes_from_draft_to_running_to_stopped_to_archived() {
        let (_directory, catalog) = catalog();
        let gate = definition("gate");
        let id = gate.experiment_id.clone();
        assert_eq!(
            catalog.create_experiment(&gate, &edit()).unwrap().status,
            Status::Draft
        );
        assert!(matches!(
            catalog.create_experiment(&gate, &edit()),
            Err(CatalogError::Exists { .. })
        ));
        assert!(
            catalog
                .stop_experiment(&id, &edit())
                .unwrap_err()
                .to_string()
                .contains("is draft: start it first")
        );
        assert_eq!(
            catalog.start_experiment(&id, &edit()).unwrap().started_at,
            Some(NOW)
        );
        assert!(matches!(
            catalog.start_experiment(&id, &edit()),
            Err(CatalogError::WrongStatus { .. })
        ));
        assert!(
            catalog
                .archive_experiment(&id, &edit())
                .unwrap_err()
                .to_string()
                .contains("is running: stop it first")
        );
        assert_eq!(
            catalog.stop_experiment(&id, &edit()).unwrap().status,
            Status::Stopped
        );
        let archived = catalog.archive_experiment(&id, &edit()).unwrap();
        assert_eq!(
            (archived.status, archived.archived_at),
            (Status::Archived, Some(NOW))
        );
        assert_eq!(catalog.experiment(&id).unwrap(), archived);
        for again in [
            catalog.start_experiment(&id, &edit()),
            catalog.stop_experiment(&id, &edit()),
            catalog.archive_experiment(&id, &edit()),
        ] {
            assert!(matches!(again, Err(CatalogError::WrongStatus { .. })));
        }
    }

    #[test]
    fn of_what_was_stopped_the_last_changes_are_read() {
        let (_directory, catalog) = catalog();
        for id in ["first", "second", "third", "archived", "running"] {
            let id = definition(id).experiment_id;
            (catalog.create_experiment(&definition(id.as_str()), &edit())).unwrap();
            catalog.start_experiment(&id, &edit()).unwrap();
            if id.as_str() != "running" {
                catalog.stop_experiment(&id, &edit()).unwrap();
            }
        }
        let archived = definition("archived").experiment_id;
        catalog.archive_experiment(&archived, &edit()).unwrap();
        let newest = |limit| {
            let read = catalog.read("read", |connection| stopped(connection, limit));
            let ids = read.unwrap().into_iter();
            ids.map(|experiment| experiment.experiment_id.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(newest(9), ["third", "second", "first"]);
        assert_eq!(newest(2), ["third", "second"]);
    }

    #[test]
    fn every_change_is_in_the_audit_trail_and_a_refused_one_is_not() {
        let (_directory, catalog) = catalog();
        let gate = definition("gate");
        let id = gate.experiment_id.clone();
        catalog
            .add_unregistered(std::slice::from_ref(&id), 1, NOW)
            .unwrap();
        catalog.create_experiment(&gate, &edit()).unwrap();
        let owned = |known: &Experiment| {
            Ok::<_, CatalogError>(Definition {
                owner: Some("games".into()),
                ..known.definition.clone()
            })
        };
        catalog
            .change::<Experiment, _>(&id, &edit(), owned)
            .unwrap();
        catalog
            .change::<Experiment, _>(&id, &edit(), owned)
            .unwrap();
        catalog.stop_experiment(&id, &edit()).unwrap_err();
        catalog.start_experiment(&id, &edit()).unwrap();
        catalog
            .create_experiment(&definition("other"), &edit())
            .unwrap();
        let about = Some((Subject::Experiment, "gate"));
        let entries = catalog.audit(about, 0, 10).unwrap();
        let actions: Vec<&str> = (entries.iter())
            .map(|entry| entry.action.as_str())
            .collect();
        assert_eq!(actions, ["register", "change", "start"]);
        let change = &entries[1];
        assert_eq!((change.actor.as_str(), change.at), ("mia", NOW));
        assert_eq!(change.from, Some(serde_json::json!({"owner": null})));
        assert_eq!(change.to, Some(serde_json::json!({"owner": "games"})));
        assert_eq!(entries[2].from.as_ref().unwrap()["status"], "draft");
        let all = catalog.audit(None, entries[0].entry, 10).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!((all[2].action.as_str(), &all[2].from), ("create", &None));
    }

    #[test]
    fn a_change_to_a_state_that_is_gone_is_refused() {
        let (_directory, catalog) = catalog();
        let id = definition("gate").experiment_id;
        let first = catalog
            .create_experiment(&definition("gate"), &edit())
            .unwrap();
        let seen = Edit {
            if_match: Some(vec![first.change]),
            ..edit()
        };
        let second = catalog.start_experiment(&id, &seen).unwrap();
        let refused = catalog.stop_experiment(&id, &seen).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("now `\"{}\"`", second.change)),
            "{refused}"
        );
        assert_eq!(catalog.experiment(&id).unwrap().status, Status::Running);
    }

    #[test]
    fn a_registry_of_an_older_version_is_numbered_and_sealed_anew() {
        let directory = tempfile::tempdir().unwrap();
        let older = trialog_sqlite::Opening {
            path: &directory.path().join("catalog.sqlite"),
            pragmas: "",
            migrations: &crate::schema::MIGRATIONS[..2],
            reach: None,
        };
        let connection = older.open().unwrap();
        for (id, updated_at) in [("late", 2), ("early", 1)] {
            let text = to_json(&Definition {
                owner: Some("games".into()),
                ..definition(id)
            });
            connection
                .execute(
                    "INSERT INTO experiments (experiment_id, status, definition, created_at, updated_at, revision, computed_revision) VALUES (?1, 'draft', ?2, 1, ?3, 1, 0)",
                    rusqlite::params![id, text, updated_at],
                )
                .unwrap();
        }
        drop(connection);
        let catalog = Catalog::open(directory.path()).unwrap();
        let listing = Listing {
            owner: Some("games".into()),
            order: Order::Change,
            limit: 9,
            ..Listing::default()
        };
        let found = catalog.list_experiments(&Listing {
            search: Some("arl".into()),
            ..listing.clone()
        });
        assert_eq!(found.unwrap().len(), 1, "older experiments can be found");
        let listed: Vec<(String, i64)> = (catalog.list_experiments(&listing).unwrap())
            .into_iter()
            .map(|experiment| {
                (
                    experiment.definition.experiment_id.into(),
                    experiment.change,
                )
            })
            .collect();
        assert_eq!(listed, [("late".to_owned(), 2), ("early".to_owned(), 1)]);
    }

    #[test]
    fn unregistered_experiments_are_limited_and_can_be_completed() {
        let (_directory, catalog) = catalog();
        let ids: Vec<_> = ["a", "b", "c"]
            .map(|id| ExperimentId::new(id).unwrap())
            .into();
        let add = || catalog.add_unregistered(&ids, 2, NOW).unwrap();
        // Nobody gives way to another of the same run.
        assert_eq!((add().left_out, add().left_out, add().gave_way), (1, 1, 0));
        assert_eq!(
            catalog.experiment(&ids[0]).unwrap().status,
            Status::Unregistered
        );
        assert_eq!(
            catalog
                .create_experiment(&definition("a"), &edit())
                .unwrap()
                .status,
            Status::Draft
        );
        assert_eq!((add().left_out, add().n_present), (0, 2));
    }

    #[test]
    fn those_without_events_for_the_longest_give_way_and_come_again() {
        let (_directory, catalog) = catalog();
        let id = |name: &str| ExperimentId::new(name).unwrap();
        let add = |names: &[&str], at: i64| {
            let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
            let added = catalog.add_unregistered(&ids, 3, UnixMicros(at)).unwrap();
            (added.left_out, added.gave_way, added.n_present)
        };
        assert_eq!(add(&["b", "c"], 1), (0, 0, 2));
        assert_eq!(add(&["a"], 2), (0, 0, 3));
        // The oldest goes, unless it has events now.
        assert_eq!(add(&["b", "d"], 3), (0, 1, 3));
        assert!(catalog.experiment(&id("c")).is_err());
        assert_eq!(add(&["c"], 4), (0, 1, 3));
        assert!(catalog.experiment(&id("b")).is_err());
        // More newcomers than places: all of them take part, and the last are left out.
        assert_eq!(add(&["p", "q", "r", "s"], 5), (1, 3, 3));
        assert!(catalog.experiment(&id("s")).is_err());
        // One that is registered keeps its place, and frees one for others.
        catalog
            .create_experiment(&definition("p"), &edit())
            .unwrap();
        assert_eq!(add(&["t"], 6), (0, 0, 3));
        assert_eq!(add(&["u", "v", "w"], 7), (0, 3, 3));
        assert_eq!(catalog.experiment(&id("p")).unwrap().status, Status::Draft);
    }

    #[test]
    fn places_go_by_the_sender_that_first_named_an_experiment() {
        const DAY: i64 = 86_400_000_000;
        let (_directory, catalog) = catalog();
        let ids = |names: &[&str]| -> Vec<ExperimentId> {
            names
                .iter()
                .map(|name| ExperimentId::new(*name).unwrap())
                .collect()
        };
        let note = |sender: &str, names: &[&str], at: i64| {
            let at = UnixMicros(at);
            catalog.note_sender(sender, &ids(names), at).unwrap();
        };
        note("page", &["a", "b", "c", "d", "e", "f"], 1);
        note("till", &["t", "a"], 1);
        let add = |names: &[&str], at: i64| {
            let added = catalog.add_unregistered(&ids(names), 3, UnixMicros(at));
            let added = added.unwrap();
            (added.left_out, added.gave_way, added.largest)
        };
        let page = |n_places| Some(("page".to_owned(), n_places));
        assert_eq!(add(&["a", "b", "c"], 2), (0, 0, page(3)));
        // The sender with fewer places takes one, though the others have new events, too.
        assert_eq!(add(&["a", "b", "c", "t"], 3), (0, 1, page(2)));
        assert!(catalog.experiment(&ids(&["t"])[0]).is_ok());
        // Whoever has the most replaces its own: `t` stays without new events.
        assert_eq!(add(&["d", "e"], 4), (0, 2, page(2)));
        assert_eq!(add(&["f"], 5), (0, 1, page(2)));
        assert!(catalog.experiment(&ids(&["t"])[0]).is_ok());
        // A note without an experiment goes after a day, one in use stays.
        assert_eq!(add(&["f"], 5 + 2 * DAY), (0, 0, page(2)));
        note("till", &["a", "t", "f"], 5 + 2 * DAY);
        assert_eq!(
            add(&["a"], 6 + 2 * DAY),
            (0, 1, Some(("till".to_owned(), 2)))
        );
    }

    #[test]
    fn a_lower_limit_takes_nobodys_place() {
        let (_directory, catalog) = catalog();
        let ids = ["a", "b", "c"].map(|id| ExperimentId::new(id).unwrap());
        catalog.add_unregistered(&ids, 3, NOW).unwrap();
        let new = [ExperimentId::new("d").unwrap()];
        let added = catalog.add_unregistered(&new, 1, NOW).unwrap();
        assert_eq!((added.left_out, added.gave_way, added.n_present), (1, 0, 3));
    }

    #[test]
    fn a_changed_definition_is_due_and_an_equal_one_is_not_a_change() {
        let (_directory, catalog) = catalog();
        let gate = definition("gate");
        let id = gate.experiment_id.clone();
        catalog.create_experiment(&gate, &edit()).unwrap();
        let same = catalog
            .change::<Experiment, _>(&id, &edit(), |known| {
                Ok::<_, CatalogError>(known.definition.clone())
            })
            .unwrap();
        assert_eq!(same.revision, 1);
        let longer = catalog
            .change::<Experiment, _>(&id, &edit(), |known| {
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
    fn listing_pages_by_id_or_change_and_filters_by_status() {
        let (_directory, catalog) = catalog();
        for id in ["c", "a", "b"] {
            catalog.create_experiment(&definition(id), &edit()).unwrap();
        }
        catalog
            .start_experiment(&ExperimentId::new("b").unwrap(), &edit())
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
                statuses: vec![Status::Running],
                ..Listing::default()
            }),
            ["b"]
        );
        let by_change = |after: Option<&str>| Listing {
            limit: 2,
            order: Order::Change,
            after: after.map(str::to_owned),
            ..Listing::default()
        };
        assert_eq!(ids(&by_change(None)), ["b", "a"], "`b` was started last");
        let of_a = catalog
            .experiment(&ExperimentId::new("a").unwrap())
            .unwrap();
        assert_eq!(ids(&by_change(Some(&of_a.change.to_string()))), ["c"]);
        catalog
            .archive_experiment(&ExperimentId::new("c").unwrap(), &edit())
            .unwrap();
        assert_eq!(ids(&by_change(None)), ["b", "a"], "`c` is archived");
        assert_eq!(
            ids(&Listing {
                limit: 9,
                statuses: vec![Status::Archived, Status::Draft],
                ..Listing::default()
            }),
            ["a", "c"]
        );
    }

    #[test]
    fn a_name_among_many_that_does_not_occur_is_told_with_the_nearest() {
        let (_directory, catalog) = catalog();
        let id = |text: &str| ExperimentId::new(text).unwrap();
        let refused = |text: &str| catalog.experiment(&id(text)).unwrap_err().to_string();
        assert!(refused("gate").ends_with("does not exist"));
        catalog
            .create_experiment(&definition("gate"), &edit())
            .unwrap();
        catalog
            .create_experiment(&definition("shop"), &edit())
            .unwrap();
        let said = refused("gaet");
        assert!(
            said.ends_with("; there are `gate`, `shop`; did you mean `gate`?"),
            "{said}"
        );

        let many: Vec<ExperimentId> = (0..3_000).map(|n| id(&format!("exp_{n:05}"))).collect();
        catalog
            .add_unregistered(&many, 10_000, UnixMicros(0))
            .unwrap();
        for (slip, meant) in [
            ("exp_015000", "`exp_01500`"),
            ("exp_10500", "`exp_01500`"),
            ("xgate", "`gate`"),
            ("gaet", "`gate`"),
        ] {
            let said = refused(slip);
            assert!(said.contains(" and others"), "{said}");
            assert!(said.matches('`').count() <= 2 * 12, "{said}");
            let question = said.split("did you mean ").nth(1).unwrap_or_default();
            assert!(
                question.contains(meant) || said.contains(meant),
                "{slip}: {said}"
            );
        }
        let changed = catalog.stop_experiment(&id("gaet"), &edit()).unwrap_err();
        assert!(
            changed.to_string().contains("did you mean `gate`?"),
            "{changed}"
        );
    }

    #[test]
    fn a_search_finds_any_substring_in_any_case_last_change_first() {
        let (_directory, catalog) = catalog();
        for (id, owner, hypothesis) in [
            ("checkout-1", "Games", "A later GATE keeps players"),
            ("checkout-2", "shop", "Größe zählt"),
            ("banner", "shop", "100% _new_ \"quotes\" AND more"),
        ] {
            let experiment = Definition {
                owner: Some(owner.into()),
                hypothesis: Some(hypothesis.into()),
                ..definition(id)
            };
            catalog.create_experiment(&experiment, &edit()).unwrap();
        }
        let find = |text: &str, owner: Option<&str>| -> Vec<String> {
            let listing = Listing {
                search: Some(text.into()),
                owner: owner.map(str::to_owned),
                limit: 9,
                ..Listing::default()
            };
            (catalog.list_experiments(&listing).unwrap())
                .into_iter()
                .map(|experiment| experiment.definition.experiment_id.into())
                .collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(find("checkout", None), ["checkout-2", "checkout-1"]);
        assert_eq!(find("gate keeps", None), ["checkout-1"]);
        assert_eq!(find("GRÖSSE", None), none);
        assert_eq!(find("GRÖßE Z", None), ["checkout-2"]);
        assert_eq!(find("-1", None), ["checkout-1"]);
        assert_eq!(find("%", None), ["banner"]);
        assert_eq!(find("\"quotes\" and", None), ["banner"]);
        assert_eq!(find("checkout", Some("shop")), ["checkout-2"]);
        assert_eq!(find("checkout-3", None), none);
        assert_eq!(
            find("players CHECKOUT", None),
            ["checkout-1"],
            "in any order"
        );
        assert_eq!(
            find("players CHECKOUT", None),
            ["checkout-1"],
            "in any order"
        );
        let id = ExperimentId::new("checkout-1").unwrap();
        let renamed = |known: &Experiment| {
            Ok::<_, CatalogError>(Definition {
                owner: Some("other".into()),
                ..known.definition.clone()
            })
        };
        catalog
            .change::<Experiment, _>(&id, &edit(), renamed)
            .unwrap();
        assert_eq!(find("checkout", None), ["checkout-1", "checkout-2"]);
        assert_eq!(find("games", None), none, "the old text is gone");
        catalog.archive_experiment(&id, &edit()).unwrap();
        assert_eq!(find("checkout", None), ["checkout-2"]);
    }
}
