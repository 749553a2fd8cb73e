//! Erasure of a user over a real catalog and a real warehouse.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/system.rs"]
mod system;

use std::path::Path;

use system::{Row, System, events, files, restored, results_of};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::published::Computation;
use trialog_pipeline::aggregation::Scope;
use trialog_pipeline::maintenance::MaintenanceError;

const USER: i64 = 4_815_162_342;
/// Texts that occur in this user's events only; too odd to be compressed away.
const MARKS: [&str; 3] = ["qX7_kW93vbZ", "Jf4hTz81mRpY", "Vn2-gD60xLsC"];

/// Events of the user in experiments `a` and `b`.
fn of_user(round: i64) -> Vec<Row> {
    let row = |kind, experiment, name, context| Row {
        kind,
        experiment,
        user: USER,
        hour: round - 300,
        name,
        value: match kind {
            EventKind::Assignment => 0,
            EventKind::Metric => 70_000,
        },
        event_id: 10_000 + round,
        context,
        user_text: "Vn2-gD60xLsC",
    };
    let context = r#"{"s":"qX7_kW93vbZ"}"#;
    match round % 4 {
        0 => vec![row(EventKind::Assignment, "a", "x", context)],
        1 => vec![row(EventKind::Metric, "a", "Jf4hTz81mRpY", "")],
        2 => vec![row(EventKind::Assignment, "b", "y", context)],
        _ => vec![row(EventKind::Metric, "b", "buy", "")],
    }
}

/// `n` positions with the user's events among them, in runs, in the inbox and in memory.
fn filled(directory: &Path, n: i64) -> System {
    let system = System::open(directory);
    for round in 0..n {
        let mut rows = events(round);
        rows.extend(of_user(round));
        system.send(&rows);
        if round == n / 2 {
            system.aggregator.run("request", 1, Scope::Touched).unwrap();
        }
    }
    system
}

/// The event files and the database of events that hold one of the user's marks.
fn files_with_marks(directory: &Path) -> Vec<String> {
    let holds = |path: &Path| {
        let bytes = match std::fs::read(path) {
            // A merge has just replaced it; what replaced it is looked at.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            read => read.unwrap(),
        };
        let mut marks = MARKS.iter();
        marks.any(|mark| {
            bytes
                .windows(mark.len())
                .any(|window| window == mark.as_bytes())
        })
    };
    // Names of event types stand in the results, which are kept.
    files(directory)
        .iter()
        .filter(|path| !path.ends_with("catalog.sqlite") && !path.ends_with("catalog.sqlite-wal"))
        .filter(|path| holds(path))
        .map(|path| path.display().to_string())
        .collect()
}

/// Without metrics that have no events: those of event types that only the user had.
fn counted(results: Vec<Option<Computation>>) -> Vec<Option<Computation>> {
    results
        .into_iter()
        .map(|computation| {
            computation.map(|mut computation| {
                computation.metrics.retain(|row| row.event_count > 0);
                computation
            })
        })
        .collect()
}

#[test]
fn no_file_holds_the_user_and_the_results_are_those_without_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(directory.path(), 80);
    system.aggregator.run("request", 1, Scope::Touched).unwrap();
    assert!(
        files_with_marks(directory.path()).len() >= 2,
        "the marks can be found"
    );
    let report = system.maintenance.forget(USER, None, "test").unwrap();
    assert_eq!((report.events, report.experiments.len()), (80, 2));
    assert_eq!(report.recomputed.as_ref().unwrap().experiments, 2);
    assert_eq!(files_with_marks(directory.path()), Vec::<String>::new());
    let published = |id: &str| {
        let id = ExperimentId::new(id).unwrap();
        system
            .catalog
            .published(&id, None)
            .unwrap()
            .map(|published| published.computation)
    };
    let shown = ["a", "b", "c"].map(published).to_vec();
    assert_eq!(counted(shown), counted(restored(80)));
    assert!(system.maintenance.verify(&mut |_, _| {}).unwrap().sound);
    system.warehouse.settle().unwrap();
    system.warehouse.close();
    drop(system);
    let again = System::open(directory.path());
    assert_eq!(counted(results_of(&again)), counted(restored(80)));
    assert_eq!(files_with_marks(directory.path()), Vec::<String>::new());
}

#[test]
fn nothing_else_is_lost_while_events_come_in_and_runs_are_published() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(directory.path(), 40);
    std::thread::scope(|scope| {
        scope.spawn(|| (40..240).for_each(|round| system.send(&events(round))));
        scope.spawn(|| {
            for _ in 0..10 {
                system.aggregator.run("request", 1, Scope::Touched).unwrap();
            }
        });
        let mut events = 0;
        for _ in 0..5 {
            events += system
                .maintenance
                .forget(USER, None, "test")
                .unwrap()
                .events;
        }
        assert_eq!(events, 40);
    });
    assert_eq!(counted(results_of(&system)), counted(restored(240)));
    assert_eq!(files_with_marks(directory.path()), Vec::<String>::new());
}

#[test]
fn an_erasure_can_be_repeated_and_is_audited_without_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(directory.path(), 40);
    let first = system.maintenance.forget(USER, None, "somebody").unwrap();
    let second = system.maintenance.forget(USER, None, "somebody").unwrap();
    assert_eq!((second.events, second.recomputed), (0, None));
    let audit = system.catalog.erasures(None, 10).unwrap();
    assert_eq!(audit.len(), 2);
    let entry = &audit[1];
    assert_eq!(entry.erasure_id, first.erasure_id);
    assert_eq!((entry.events, entry.experiments), (40, 2));
    assert_eq!(entry.actor, "somebody");
    assert!(entry.finished_at.is_some());
    assert_eq!(system.catalog.erasures(Some(USER), 10).unwrap(), audit);
    assert!(
        system
            .catalog
            .erasures(Some(USER + 1), 10)
            .unwrap()
            .is_empty()
    );
    assert_ne!(entry.salt, audit[0].salt);
    assert!(
        !serde_json::to_string(&audit)
            .unwrap()
            .contains(&USER.to_string())
    );
}

#[test]
fn one_experiment_can_be_named_and_the_others_keep_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(directory.path(), 40);
    let a = ExperimentId::new("a").unwrap();
    let report = system.maintenance.forget(USER, Some(&a), "test").unwrap();
    assert_eq!(
        (report.events, report.experiments),
        (20, vec!["a".to_owned()])
    );
    let rest = system.maintenance.forget(USER, None, "test").unwrap();
    assert_eq!((rest.events, rest.experiments), (20, vec!["b".to_owned()]));
}

#[test]
fn an_erasure_that_failed_half_way_is_completed_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(directory.path(), 80);
    system.warehouse.settle().unwrap();
    let runs = files(&directory.path().join("events"));
    assert!(runs.len() >= 2);
    // Nothing can be written under any name that the last run may be given.
    let stem = runs.last().unwrap().to_str().unwrap();
    let (sequences, _) = stem.rsplit_once('-').unwrap();
    let blocked = |id| format!("{sequences}-{id}.parquet.tmp");
    (0..2_000).for_each(|id| std::fs::create_dir(blocked(id)).unwrap());
    assert!(system.maintenance.forget(USER, None, "test").is_err());
    // The experiments are due, so no run keeps results with the user.
    let due = system
        .catalog
        .due_experiments(trialog_model::time::UnixMicros(system::NOW));
    assert_eq!(due.unwrap().len(), 2);
    assert_eq!(
        system.catalog.erasures(None, 1).unwrap()[0].finished_at,
        None
    );
    assert!(!files_with_marks(directory.path()).is_empty());
    (0..2_000).for_each(|id| std::fs::remove_dir(blocked(id)).unwrap());
    system.maintenance.forget(USER, None, "test").unwrap();
    assert_eq!(files_with_marks(directory.path()), Vec::<String>::new());
    assert_eq!(counted(results_of(&system)), counted(restored(80)));
}

#[test]
fn an_erased_user_without_an_exposure_is_in_no_sample_and_in_no_byte_of_the_catalog() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(directory.path(), 2);
    system.aggregator.run("request", 1, Scope::Touched).unwrap();
    let event = Row {
        user: USER + 1,
        ..of_user(1).remove(0)
    };
    system.send(&[event]);
    system.aggregator.run("request", 1, Scope::Touched).unwrap();
    let samples = || {
        let id = ExperimentId::new("a").unwrap();
        let published = system.catalog.published(&id, None).unwrap().unwrap();
        let arrivals = published.computation.arrivals.into_iter();
        arrivals
            .flat_map(|row| row.unexposed_sample)
            .collect::<Vec<_>>()
    };
    assert!(samples().contains(&(USER + 1)), "{:?}", samples());
    system.maintenance.forget(USER + 1, None, "test").unwrap();
    assert!(!samples().contains(&(USER + 1)), "{:?}", samples());
    let text = (USER + 1).to_string();
    for name in ["catalog.sqlite", "catalog.sqlite-wal"] {
        let bytes = std::fs::read(directory.path().join(name)).unwrap_or_default();
        let mut windows = bytes.windows(text.len());
        assert!(!windows.any(|window| window == text.as_bytes()), "{name}");
    }
}

#[test]
fn an_erasure_that_is_stopped_is_finished_by_the_same_one_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let system = filled(&data, 40);
    system.warehouse.settle().unwrap();
    system.warehouse.stop_erasing();
    let stopped = system.maintenance.forget(USER, None, "test").unwrap_err();
    assert!(
        matches!(&stopped, MaintenanceError::Pipeline(error) if error.is_stopping()),
        "{stopped}"
    );
    assert!(!files_with_marks(&data).is_empty());
    system.warehouse.close();
    drop(system);
    let system = System::open(&data);
    assert!(
        system
            .maintenance
            .forget(USER, None, "test")
            .unwrap()
            .events
            > 0
    );
    assert_eq!(files_with_marks(&data), Vec::<String>::new());
}
