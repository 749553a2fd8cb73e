//! Users that are texts: kept with their assignments, and given back.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/harness.rs"]
mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use trialog_model::event::EventKind;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::batch::EventRow;
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::erase::Doomed;
use trialog_warehouse::export::Selection;
use trialog_warehouse::snapshot::Snapshot;
use trialog_warehouse::user_texts::MAX_USERS;
use trialog_warehouse::view::View;

use harness::{Event, assigned, bought, open, store};

/// An assignment of a user that is a text.
fn sent(user: i64, event_id: i64, user_text: &'static str) -> Event {
    let (kind, row) = assigned("gate", user, 10, "a", event_id);
    (kind, EventRow { user_text, ..row })
}

/// Merges two runs of a size as soon as they are there.
fn eager() -> Options {
    Options {
        fan_in: 2,
        ..Options::default()
    }
}

/// The users of all events of a kind, with their texts, in order.
fn exported(snapshot: &Snapshot, kind: EventKind) -> Vec<(i64, String)> {
    let mut users = Vec::new();
    let each = |row: &EventRow<'_>| -> Result<(), WarehouseError> {
        users.push((row.user, row.user_text.to_owned()));
        Ok(())
    };
    let all = Selection::default();
    snapshot.each_event(kind, &all, each).unwrap();
    users
}

fn texts<const N: usize>(users: [(i64, &str); N]) -> Vec<(i64, String)> {
    users.map(|(user, text)| (user, text.to_owned())).into()
}

/// Stores `parts` one after the other, each in a run of its own.
fn with_runs(directory: &Path, parts: &[&[Event]]) -> Warehouse {
    let warehouse = open(directory, &Options::default(), 0).unwrap();
    for events in parts {
        store(&warehouse, events);
        warehouse.settle().unwrap();
    }
    assert_eq!(warehouse.usage().n_runs, parts.len());
    warehouse
}

#[test]
fn events_of_metrics_are_told_with_the_texts_of_their_users_where_these_were_assigned() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &Options::default(), 0).unwrap();
    let other = assigned("other", 3, 10, "a", 1);
    store(
        &warehouse,
        &[
            sent(-7, 1, "ann"),
            assigned("gate", 2, 10, "a", 1),
            sent(8, 1, "bob\n\"x\""),
            (
                other.0,
                EventRow {
                    user_text: "elsewhere",
                    ..other.1
                },
            ),
            bought("gate", 8, 20, 1, 1),
            bought("gate", -7, 20, 1, 1),
            bought("gate", -7, 21, 1, 2),
            bought("gate", 2, 20, 1, 1),
            bought("gate", 3, 20, 1, 1),
            bought("third", 8, 20, 1, 1),
        ],
    );
    let metrics = texts([
        (-7, "ann"),
        (-7, "ann"),
        (2, ""),
        (3, ""),
        (8, "bob\n\"x\""),
        (8, ""),
    ]);
    for _ in 0..2 {
        let snapshot = warehouse.reading_snapshot();
        assert_eq!(exported(&snapshot, EventKind::Metric), metrics);
        let assignments = texts([(-7, "ann"), (2, ""), (8, "bob\n\"x\""), (3, "elsewhere")]);
        assert_eq!(exported(&snapshot, EventKind::Assignment), assignments);
        warehouse.settle().unwrap();
    }
}

#[test]
fn copies_that_differ_in_the_text_are_one_event_whatever_came_first() {
    let copies = [sent(7, 1, "bob"), sent(7, 1, ""), sent(7, 1, "ann")];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        let directory = tempfile::tempdir().unwrap();
        let parts = order.map(|at| [copies[at]]);
        let warehouse = with_runs(directory.path(), &[&parts[0], &parts[1], &parts[2]]);
        let snapshot = warehouse.reading_snapshot();
        assert_eq!(
            exported(&snapshot, EventKind::Assignment),
            texts([(7, "ann")])
        );
        let looked_up = snapshot.user_texts("gate", &[7]).unwrap();
        assert_eq!(looked_up, BTreeMap::from([(7, "ann".to_owned())]));
    }
}

#[test]
fn a_lookup_gives_the_texts_that_are_known_of_a_bounded_number_of_users() {
    let directory = tempfile::tempdir().unwrap();
    let many: Vec<Event> = (0..3_000).map(|user| sent(user, user, "many")).collect();
    let parts: [&[Event]; 2] = [
        &many,
        &[sent(5_000, 1, "ann"), assigned("gate", 5_001, 1, "a", 1)],
    ];
    let warehouse = with_runs(directory.path(), &parts);
    store(&warehouse, &[sent(6_000, 1, "in memory")]);
    let view = View::from(warehouse.reading_snapshot());
    let found = view
        .user_texts("gate", &[6_000, 5_000, 5_001, 9_999, 17, 17])
        .unwrap();
    let expected = [(17, "many"), (5_000, "ann"), (6_000, "in memory")];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), texts(expected));
    assert!(view.user_texts("nowhere", &[17]).unwrap().is_empty());
    let all: Vec<i64> = (0..3_000).collect();
    assert_eq!(view.user_texts("gate", &all).unwrap().len(), MAX_USERS);
}

#[test]
fn two_texts_of_one_user_are_told_once_they_lie_in_one_run_and_at_once_by_who_reads_all() {
    let directory = tempfile::tempdir().unwrap();
    let parts: [&[Event]; 2] = [
        &[
            sent(1, 1, "ann"),
            sent(2, 1, "bob"),
            sent(4, 1, "x"),
            sent(4, 2, "y"),
        ],
        &[
            sent(1, 2, "eve"),
            sent(2, 2, "bob"),
            assigned("gate", 2, 10, "a", 3),
            sent(5, 1, "z"),
        ],
    ];
    let clashing = |users: &[i64]| BTreeMap::from([("gate".to_owned(), users.to_vec())]);
    let warehouse = with_runs(directory.path(), &parts);
    let gauge = |warehouse: &Warehouse| {
        let mut registry = prometheus_client::registry::Registry::default();
        warehouse.metrics().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("trialog_warehouse_clashing_users"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    let snapshot = warehouse.reading_snapshot();
    assert_eq!(
        snapshot.clashing_users(&["gate", "other"]).unwrap(),
        clashing(&[1, 4])
    );
    let view = View::from(snapshot);
    assert_eq!(
        view.clashing_users(&["gate", "other"]).unwrap(),
        clashing(&[4])
    );
    assert_eq!(gauge(&warehouse), "1");
    drop(warehouse);

    let warehouse = open(directory.path(), &eager(), 0).unwrap();
    warehouse.settle().unwrap();
    let view = View::from(warehouse.reading_snapshot());
    assert_eq!(
        view.clashing_users(&["gate", "other"]).unwrap(),
        clashing(&[1, 4])
    );
    assert_eq!(gauge(&warehouse), "2");
    let doomed = Doomed::User {
        user: 4,
        experiment: None,
    };
    warehouse.erase(&doomed, u64::MAX).unwrap();
    let view = View::from(warehouse.reading_snapshot());
    assert_eq!(view.clashing_users(&["gate"]).unwrap(), clashing(&[1]));
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The files that hold `text` as it is.
fn with_text(directory: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes
            .windows(text.len())
            .any(|some| some == text.as_bytes())
    };
    files(directory).into_iter().filter(holds).collect()
}

#[test]
fn where_texts_are_not_kept_none_reaches_a_file_and_those_from_before_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let warehouse = open(path, &Options::default(), 0).unwrap();
    store(&warehouse, &[sent(1, 1, "qX7_kW93vbZ")]);
    drop(warehouse);
    let private = Options {
        keep_user_ids: false,
        ..Options::default()
    };
    let warehouse = open(path, &private, 0).unwrap();
    store(
        &warehouse,
        &[sent(2, 1, "Jf4hTz81mRpY"), sent(1, 2, "qX7_kW93vbZ")],
    );
    let users = texts([(1, "qX7_kW93vbZ"), (1, "qX7_kW93vbZ"), (2, "")]);
    assert_eq!(
        exported(&warehouse.reading_snapshot(), EventKind::Assignment),
        users
    );
    warehouse.settle().unwrap();
    assert_eq!(
        exported(&warehouse.reading_snapshot(), EventKind::Assignment),
        users
    );
    drop(warehouse);
    assert_eq!(with_text(path, "Jf4hTz81mRpY"), Vec::<PathBuf>::new());
    assert!(!with_text(path, "qX7_kW93vbZ").is_empty());
}

#[test]
fn an_erased_user_leaves_no_text_in_any_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let parts: [&[Event]; 2] = [
        &[sent(1, 1, "qX7_kW93vbZ"), sent(2, 1, "Jf4hTz81mRpY")],
        &[sent(1, 2, "qX7_kW93vbZ")],
    ];
    let warehouse = with_runs(path, &parts);
    store(
        &warehouse,
        &[sent(1, 3, "qX7_kW93vbZ"), sent(2, 2, "Jf4hTz81mRpY")],
    );
    assert_eq!(
        with_text(path, "qX7_kW93vbZ").len(),
        3,
        "two runs and the inbox"
    );
    let doomed = Doomed::User {
        user: 1,
        experiment: None,
    };
    assert_eq!(warehouse.erase(&doomed, u64::MAX).unwrap().events, 3);
    warehouse.scrub().unwrap();
    drop(warehouse);
    assert_eq!(with_text(path, "qX7_kW93vbZ"), Vec::<PathBuf>::new());
    assert!(!with_text(path, "Jf4hTz81mRpY").is_empty());
}
