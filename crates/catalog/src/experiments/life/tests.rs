//! Decisions, resuming and deleting.

use trialog_model::holdout::HoldoutDefinition;
use trialog_model::ids::{ExperimentId, LayerName};

use super::*;
use crate::audit::{Actor, Edit, Subject};
use crate::database::params;
use crate::holdouts::Holdout;
use crate::layers::Layer;
use crate::{Catalog, CatalogError};

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

fn at(seconds: i64) -> Edit {
    let time = UnixMicros(NOW.0 + seconds * 1_000_000);
    Edit::new(Actor::new("mia"), time)
}

fn definition(id: &str, more: &str) -> Definition {
    serde_json::from_str(&format!(
        r#"{{"experiment_id":"{id}","variants":[{{"variant":"a"}},{{"variant":"b"}}]{more}}}"#
    ))
    .unwrap()
}

fn variant(name: &str) -> Option<Variant> {
    Some(Variant::new(name).unwrap())
}

/// A catalog with `gate`, which was started at 10 s and stopped at 20 s.
fn stopped(more: &str) -> (tempfile::TempDir, Catalog, ExperimentId) {
    let directory = tempfile::tempdir().unwrap();
    let catalog = crate::testing::open(directory.path()).unwrap();
    let page = serde_json::from_str(r#"{"name":"page"}"#).unwrap();
    catalog.create::<Layer>(&page, &at(0)).unwrap();
    let gate = definition("gate", more);
    let id = gate.experiment_id.clone();
    catalog.create_experiment(&gate, &at(0)).unwrap();
    catalog.start_experiment(&id, &at(10)).unwrap();
    catalog.stop_experiment(&id, &at(20)).unwrap();
    (directory, catalog, id)
}

fn shipped(catalog: &Catalog) -> Vec<(String, String)> {
    let rules = catalog.configuration().unwrap().rules;
    let text = |rules: &trialog_model::configuration::ShippedRules| {
        (rules.experiment_id.to_string(), rules.ship.to_string())
    };
    rules.shipped.iter().map(text).collect()
}

fn resumed(catalog: &Catalog, id: &ExperimentId) -> Result<Experiment, String> {
    let outcome = catalog.resume_experiment(id, &at(30));
    outcome.map_err(|error| error.to_string())
}

#[test]
fn a_decided_variant_is_in_the_configuration_until_it_is_archived() {
    let (directory, catalog, id) = stopped("");
    let before = catalog.configuration_version().unwrap();
    let decided = catalog.decide_experiment(&id, variant("b"), "more sales", &at(30));
    let decided = decided.unwrap();
    let expected = Decision {
        ship: variant("b"),
        reason: "more sales".to_owned(),
        by: "mia".to_owned(),
        at: at(30).at,
    };
    assert_eq!(decided.decision, Some(expected));
    assert_eq!(decided.status, Status::Stopped);
    assert_eq!(decided.revision, 1, "its results stay what they are");
    assert!(catalog.configuration_version().unwrap() > before);
    assert_eq!(shipped(&catalog), [("gate".to_owned(), "b".to_owned())]);
    assert!(
        catalog
            .configuration()
            .unwrap()
            .rules
            .experiments
            .is_empty()
    );
    drop(catalog);
    let catalog = crate::testing::open(directory.path()).unwrap();
    assert_eq!(catalog.experiment(&id).unwrap(), decided);
    // A decision may be changed; the trail keeps both.
    catalog
        .decide_experiment(&id, variant("a"), "too slow", &at(40))
        .unwrap();
    assert_eq!(shipped(&catalog), [("gate".to_owned(), "a".to_owned())]);
    catalog
        .decide_experiment(&id, None, "neither", &at(50))
        .unwrap();
    assert_eq!(shipped(&catalog), []);
    catalog
        .decide_experiment(&id, variant("b"), "after all", &at(60))
        .unwrap();
    let archived = catalog.archive_experiment(&id, &at(70)).unwrap();
    assert_eq!(shipped(&catalog), []);
    assert_eq!(
        archived.decision.unwrap().ship,
        variant("b"),
        "it stays known"
    );
    let entries = catalog
        .audit(Some((Subject::Experiment, "gate")), 0, 99)
        .unwrap();
    let decides = entries.iter().filter(|entry| entry.action == "decide");
    let ships: Vec<_> = decides
        .map(|entry| entry.to.as_ref().unwrap()["decision"]["ship"].clone())
        .collect();
    assert_eq!(
        ships,
        [Value::from("b"), "a".into(), Value::Null, "b".into()]
    );
}

#[test]
fn only_a_stopped_experiment_is_decided_and_only_for_a_variant_of_its_own() {
    let (_directory, catalog, id) = stopped("");
    let refused = |id: &ExperimentId, ship: Option<Variant>| {
        let outcome = catalog.decide_experiment(id, ship, "why", &at(30));
        outcome.unwrap_err().to_string()
    };
    let unknown = refused(&id, variant("c"));
    assert!(
        unknown.contains("no variant `c`; there are `a`, `b`"),
        "{unknown}"
    );
    let other = definition("other", "");
    let other_id = other.experiment_id.clone();
    catalog.create_experiment(&other, &at(0)).unwrap();
    assert!(refused(&other_id, variant("a")).contains("it never ran"));
    catalog.start_experiment(&other_id, &at(1)).unwrap();
    assert!(refused(&other_id, variant("a")).contains("trialog experiments stop"));
    catalog.archive_experiment(&id, &at(40)).unwrap();
    assert!(refused(&id, None).contains("put away for good"));
    let stale = Edit {
        if_match: Some(vec![1]),
        ..at(50)
    };
    catalog.stop_experiment(&other_id, &at(45)).unwrap();
    let stale = catalog.decide_experiment(&other_id, None, "why", &stale);
    assert!(matches!(stale, Err(CatalogError::Stale { .. })));
}

#[test]
fn a_resumed_experiment_goes_on_with_its_buckets_and_keeps_its_pause() {
    let (directory, catalog, id) = stopped(r#","layer":"page","allocation":0.3"#);
    // Others take what is free before and after its buckets, and give back the first.
    let small = definition("small", r#","layer":"page","allocation":0.2"#);
    catalog.create_experiment(&small, &at(21)).unwrap();
    let running = resumed(&catalog, &id).unwrap_err();
    assert!(
        running.contains("`small` owns buckets of the layer `page`"),
        "{running}"
    );
    catalog
        .delete::<Experiment>(&small.experiment_id, &at(22))
        .unwrap();
    let running = resumed(&catalog, &id).unwrap();
    assert_eq!(
        (running.status, running.ranges.clone()),
        (Status::Running, std::iter::once(0..3_000).collect())
    );
    assert_eq!(
        (running.started_at, running.stopped_at),
        (Some(at(10).at), None)
    );
    let pause = Pause {
        from: at(20).at,
        to: at(30).at,
    };
    assert_eq!(running.pauses, [pause]);
    drop(catalog);
    let catalog = crate::testing::open(directory.path()).unwrap();
    assert_eq!(catalog.experiment(&id).unwrap(), running);
    let rules = catalog.configuration().unwrap().rules;
    assert_eq!(rules.experiments[0].ranges, [[0, 3_000]]);
    let again = resumed(&catalog, &id).unwrap_err();
    assert!(again.contains("it runs already"), "{again}");
    let entries = catalog
        .audit(Some((Subject::Experiment, "gate")), 0, 99)
        .unwrap();
    assert_eq!(entries.last().unwrap().action, "resume");
}

#[test]
fn an_experiment_does_not_resume_after_a_decision_or_too_many_pauses() {
    let (_directory, catalog, id) = stopped("");
    for _ in 0..MAX_PAUSES {
        resumed(&catalog, &id).unwrap();
        catalog.stop_experiment(&id, &at(31)).unwrap();
    }
    let refused = resumed(&catalog, &id).unwrap_err();
    assert!(refused.contains("resumed 20 times"), "{refused}");
    let (_directory, catalog, id) = stopped("");
    catalog
        .decide_experiment(&id, None, "no effect", &at(25))
        .unwrap();
    let refused = resumed(&catalog, &id).unwrap_err();
    assert!(
        refused.contains("a decision about it is recorded"),
        "{refused}"
    );
}

#[test]
fn an_experiment_resumes_only_with_the_definition_that_it_was_stopped_with() {
    let (_directory, catalog, id) = stopped(r#","allocation":0.5"#);
    let set = |change: &dyn Fn(&mut Definition)| {
        let changed = |known: &Experiment| {
            let mut definition = known.definition.clone();
            change(&mut definition);
            Ok::<_, CatalogError>(definition)
        };
        catalog
            .change::<Experiment, _>(&id, &at(25), changed)
            .unwrap();
    };
    set(&|definition| definition.allocation = 0.6);
    let refused = resumed(&catalog, &id).unwrap_err();
    assert!(
        refused.contains("`allocation` was changed since the stop"),
        "{refused}"
    );
    set(&|definition| definition.allocation = 0.5);
    set(&|definition| definition.end_at = Some(NOW));
    assert!(resumed(&catalog, &id).unwrap_err().contains("`end_at`"));
    set(&|definition| definition.end_at = None);
    set(&|own| own.owner = Some("games".to_owned()));
    resumed(&catalog, &id).unwrap();
}

#[test]
fn an_experiment_resumes_only_with_the_holdouts_that_it_was_stopped_with() {
    let q3: HoldoutDefinition = serde_json::from_str(r#"{"name":"q3","size":0.05}"#).unwrap();
    let (_directory, catalog, id) = stopped("");
    catalog.create::<Holdout>(&q3, &at(1)).unwrap();
    catalog.start_holdout(&q3.name, &at(21)).unwrap();
    let refused = resumed(&catalog, &id).unwrap_err();
    assert!(
        refused.contains("the holdout `q3` came to hold out"),
        "{refused}"
    );
    let (_directory, catalog, id) = stopped("");
    catalog.create::<Holdout>(&q3, &at(1)).unwrap();
    catalog.start_holdout(&q3.name, &at(1)).unwrap();
    assert!(resumed(&catalog, &id).is_err());
    let later = definition("later", "");
    catalog.create_experiment(&later, &at(2)).unwrap();
    catalog
        .start_experiment(&later.experiment_id, &at(3))
        .unwrap();
    catalog
        .stop_experiment(&later.experiment_id, &at(4))
        .unwrap();
    resumed(&catalog, &later.experiment_id).unwrap();
    catalog
        .stop_experiment(&later.experiment_id, &at(31))
        .unwrap();
    catalog.stop_holdout(&q3.name, &at(32)).unwrap();
    let refused = resumed(&catalog, &later.experiment_id).unwrap_err();
    assert!(
        refused.contains("the holdout `q3` let units in"),
        "{refused}"
    );
}

#[test]
fn a_deleted_experiment_leaves_its_audit_trail_alone() {
    let (directory, catalog, _) = stopped("");
    let draft = definition(
        "draft",
        r#","layer":"page","surfaces":["cart"],"metrics":{"primary":["purchase"]},"hypothesis":"rarely written""#,
    );
    let id = draft.experiment_id.clone();
    let created = catalog.create_experiment(&draft, &at(1)).unwrap();
    let stale = Edit {
        if_match: Some(vec![created.change - 1]),
        ..at(2)
    };
    let refused = catalog.delete::<Experiment>(&id, &stale);
    assert!(matches!(refused, Err(CatalogError::Stale { .. })));
    let deleted = catalog.delete::<Experiment>(&id, &at(3)).unwrap();
    assert_eq!(deleted, created);
    assert!(matches!(
        catalog.experiment(&id),
        Err(CatalogError::NotFound { .. })
    ));
    let page = catalog
        .get::<Layer>(&LayerName::new("page").unwrap())
        .unwrap();
    assert_eq!(page.owned, []);
    for table in ["links", "layer_ranges", "experiments"] {
        let left = catalog.read("count rows", |connection| {
            let sql = format!("SELECT count(*) FROM {table} WHERE experiment_id = 'draft'");
            connection.query_row(&sql, params![], |row| row.get::<i64>(0))
        });
        assert_eq!(left.unwrap(), 0, "{table}");
    }
    let listing = super::super::Listing {
        search: Some("rarely".to_owned()),
        limit: 9,
        ..Default::default()
    };
    assert_eq!(catalog.list_experiments(&listing).unwrap(), []);
    let entries = catalog
        .audit(Some((Subject::Experiment, "draft")), 0, 9)
        .unwrap();
    let last = entries.last().unwrap();
    assert_eq!((last.action.as_str(), &last.to), ("delete", &None));
    assert_eq!(last.from.as_ref().unwrap()["hypothesis"], "rarely written");
    drop(catalog);
    // The same id again: no state of it has a number that the deleted one had.
    let catalog = crate::testing::open(directory.path()).unwrap();
    let again = catalog.create_experiment(&draft, &at(4)).unwrap();
    assert!(again.change > deleted.change && again.revision > deleted.revision);
}

#[test]
fn an_unregistered_experiment_is_deleted_and_comes_again_with_its_events() {
    let (_directory, catalog, gate) = stopped("");
    let stray = ExperimentId::new("holdout:stray").unwrap();
    let add = || catalog.add_unregistered(std::slice::from_ref(&stray), 9, NOW);
    add().unwrap();
    catalog.delete::<Experiment>(&stray, &at(1)).unwrap();
    assert!(catalog.experiment(&stray).is_err());
    add().unwrap();
    assert_eq!(
        catalog.experiment(&stray).unwrap().status,
        Status::Unregistered
    );
    let refused = |id: &ExperimentId| {
        let outcome = catalog.delete::<Experiment>(id, &at(2));
        outcome.unwrap_err().to_string()
    };
    assert!(refused(&gate).contains("is stopped: only drafts and unregistered"));
    assert!(refused(&gate).contains("archive it"));
    resumed(&catalog, &gate).unwrap();
    assert!(refused(&gate).contains("stop it first, then archive it"));
}

#[test]
fn no_more_experiments_ship_a_variant_than_sdks_should_fetch() {
    let (_directory, catalog, id) = stopped("");
    let fill = "INSERT INTO experiments (experiment_id, status, definition, created_at, updated_at, revision, computed_revision, change, ship)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        SELECT 'other' || CAST(i AS TEXT), 'stopped', '{}', 0, 0, 1, 0, 1000 + i, 'a' FROM n";
    let filled = catalog.write::<_, CatalogError>("fill the registry", |connection| {
        let n_others = i64::try_from(MAX_SHIPPED).unwrap();
        Ok(connection.execute(fill, params![n_others]).unwrap())
    });
    assert_eq!(filled.unwrap() as u64, MAX_SHIPPED);
    let refused = catalog.decide_experiment(&id, variant("b"), "why", &at(30));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("10000 experiments ship a variant already"),
        "{refused}"
    );
    catalog
        .decide_experiment(&id, None, "why", &at(40))
        .unwrap();
}
