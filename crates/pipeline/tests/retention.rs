//! Retention by age over a real catalog and a real warehouse.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/system.rs"]
mod system;

use std::collections::BTreeMap;

use system::{EXPERIMENTS, HOUR, NOW, Row, System, settings};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::published::Computation;
use trialog_pipeline::PipelineError;
use trialog_pipeline::aggregation::{Scope, Settings};
use trialog_pipeline::maintenance::retention::Mode;
use trialog_warehouse::embedded::Warehouse;
use trialog_warehouse::erase::Doomed;
use trialog_warehouse::fold::UserFilter;

fn keeping(days: i64) -> Settings {
    Settings {
        keep_events_micros: Some(days * 24 * HOUR),
        drop_at_most: 1.0,
        ..settings()
    }
}

/// An assignment and a purchase of each of ten users, `hours` ago.
fn send(system: &System, experiment: &'static str, users: i64, hours: i64) {
    for kind in EventKind::ALL {
        let rows: Vec<Row> = (users * 10..users * 10 + 10)
            .map(|user| Row {
                kind,
                experiment,
                user,
                hour: -hours,
                name: match kind {
                    EventKind::Assignment => ["x", "y"][(user % 2) as usize],
                    EventKind::Metric => "buy",
                },
                value: match kind {
                    EventKind::Assignment => 0,
                    EventKind::Metric => 10_000,
                },
                event_id: user,
                context: "",
                user_text: "",
            })
            .collect();
        system.send(&rows);
    }
}

fn published(system: &System, id: &str) -> Option<Computation> {
    let id = ExperimentId::new(id).unwrap();
    let published = system.catalog.published(&id, None).unwrap();
    published.map(|published| published.computation)
}

fn events(warehouse: &Warehouse) -> BTreeMap<String, u64> {
    let all = Doomed::Older {
        than: i64::MAX,
        spared: std::collections::BTreeSet::new(),
    };
    warehouse.count_doomed(&all, u64::MAX).unwrap()
}

fn run(system: &System) -> usize {
    system
        .aggregator
        .run("request", 1, Scope::Touched)
        .unwrap()
        .frozen
}

#[test]
fn old_events_go_after_a_run_and_the_results_stay_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    send(&system, "a", 0, 24 * 40);
    send(&system, "a", 1, 24 * 5);
    send(&system, "b", 0, 24 * 5);
    run(&system);
    let before = EXPERIMENTS.map(|id| published(&system, id));
    system.warehouse.close();
    drop(system);
    let system = System::with_settings(directory.path(), keeping(30));
    system.advance(25 * HOUR);
    send(&system, "a", 2, 1);
    // This run reads all there is; only then the old events go.
    assert_eq!(run(&system), 0);
    let whole = published(&system, "a").unwrap();
    assert_eq!(whole.exposures[0].user_count, 15);
    assert_eq!(published(&system, "b"), before[1]);
    let left = events(&system.warehouse);
    assert_eq!((left["a"], left["b"]), (40, 20));
    // New events, a changed definition and a full run change nothing any more.
    send(&system, "a", 3, 1);
    send(&system, "b", 3, 1);
    assert_eq!(run(&system), 1);
    system.aggregator.run("request", 1, Scope::Full).unwrap();
    assert_eq!(published(&system, "a"), Some(whole));
    assert_eq!(published(&system, "b").unwrap().exposures[0].user_count, 10);
    let id = ExperimentId::new("a").unwrap();
    let error = system
        .aggregator
        .query(&id, &UserFilter::default(), &std::sync::Arc::default());
    assert!(matches!(error, Err(PipelineError::EventsDropped { .. })));
    let report = system.maintenance.verify(&mut |_, _| {}).unwrap();
    assert!(
        report.sound && report.recomputed == 1 && report.n_skipped == 1,
        "{report:?}"
    );
}

#[test]
fn a_dry_run_says_what_would_go_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    send(&system, "a", 0, 24 * 40);
    run(&system);
    system.warehouse.close();
    drop(system);
    let system = System::with_settings(directory.path(), keeping(30));
    let dry = system.maintenance.retain(Mode::DryRun).unwrap();
    assert_eq!((dry.events, dry.experiments["a"]), (20, 20));
    assert_eq!(events(&system.warehouse)["a"], 20);
    let id = ExperimentId::new("a").unwrap();
    assert_eq!(system.catalog.dropped(&id).unwrap(), None);
    let wet = system.maintenance.retain(Mode::Confirmed).unwrap();
    assert_eq!(wet.experiments, dry.experiments);
    assert!(events(&system.warehouse).is_empty());
    assert_eq!(system.catalog.dropped(&id).unwrap().unwrap().events, 20);
    assert_eq!(
        system.maintenance.retain(Mode::Confirmed).unwrap().events,
        0
    );
}

#[test]
fn events_that_no_published_run_has_read_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::with_settings(directory.path(), keeping(30));
    send(&system, "a", 0, 24 * 40);
    assert_eq!(
        system.maintenance.retain(Mode::Confirmed).unwrap().events,
        0
    );
    run(&system);
    assert_eq!(published(&system, "a").unwrap().exposures[0].user_count, 5);
    system.advance(25 * HOUR);
    run(&system);
    assert!(events(&system.warehouse).is_empty());
}

#[test]
fn a_run_whose_rows_are_all_old_is_dropped_whole() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    send(&system, "a", 0, 24 * 40);
    run(&system);
    system.warehouse.settle().unwrap();
    system.warehouse.close();
    drop(system);
    let system = System::with_settings(directory.path(), keeping(30));
    let report = system.maintenance.retain(Mode::Confirmed).unwrap();
    assert_eq!((report.runs_dropped, report.runs_rewritten), (2, 0));
    assert!(system::files(&directory.path().join("events")).is_empty());
    let midnight = NOW - 30 * 24 * HOUR - (NOW - 30 * 24 * HOUR).rem_euclid(24 * HOUR);
    let id = ExperimentId::new("a").unwrap();
    assert_eq!(
        system.catalog.dropped(&id).unwrap().unwrap().before.0,
        midnight
    );
}

/// What retention says where it drops nothing.
fn refusal(system: &System, mode: Mode) -> String {
    system.maintenance.retain(mode).unwrap_err().to_string()
}

#[test]
fn more_than_a_share_goes_with_a_confirmation_only() {
    let directory = tempfile::tempdir().unwrap();
    let half = Settings {
        drop_at_most: 0.5,
        ..keeping(30)
    };
    let system = System::with_settings(directory.path(), half);
    send(&system, "a", 0, 24 * 40);
    send(&system, "a", 1, 24 * 40);
    send(&system, "b", 0, 24);
    run(&system);
    system.advance(25 * HOUR);
    run(&system);
    let all = events(&system.warehouse);
    assert_eq!((all["a"], all["b"]), (40, 20), "not by itself");
    let message = refusal(&system, Mode::Apply);
    assert!(
        message.contains("40 of 60 events") && message.contains("--confirm"),
        "{message}"
    );
    assert_eq!(system.maintenance.retain(Mode::DryRun).unwrap().events, 40);
    // What comes in makes the share smaller.
    send(&system, "b", 1, 24);
    run(&system);
    assert_eq!(system.maintenance.retain(Mode::Apply).unwrap().events, 40);
}

#[test]
fn a_clock_that_jumped_drops_nothing_until_it_has_run_for_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::with_settings(directory.path(), keeping(30));
    send(&system, "a", 0, 24 * 5);
    run(&system);
    // Forty days ahead for some runs, as far as the file system can tell with it.
    system.advance(40 * 24 * HOUR);
    for _ in 0..3 {
        system.advance(HOUR);
        run(&system);
        assert_eq!(events(&system.warehouse)["a"], 20);
    }
    let message = refusal(&system, Mode::Apply);
    assert!(
        message.contains("may have jumped") && message.contains("--confirm"),
        "{message}"
    );
    system.advance(-40 * 24 * HOUR);
    run(&system);
    assert_eq!(events(&system.warehouse)["a"], 20);
    // A server that was off for forty days waits a day, and goes on by itself.
    system.advance(40 * 24 * HOUR);
    run(&system);
    system.advance(25 * HOUR);
    run(&system);
    assert!(events(&system.warehouse).is_empty());
}
