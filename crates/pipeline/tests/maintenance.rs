//! Backup, restore and verification over a real catalog and a real warehouse.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/system.rs"]
mod system;

use std::path::Path;
use std::sync::atomic::Ordering;

use system::{System, events, files, restored, results_of};
use trialog_catalog::runs::{FinishedRun, Outcome};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{Scope, Settings};
use trialog_pipeline::maintenance::export::{ExportRequest, Form, Formulas, Table};
use trialog_pipeline::maintenance::manifest::Manifest;
use trialog_pipeline::maintenance::restore::{check_complete, restore};
use trialog_pipeline::maintenance::verify::{VerifyReport, verify_directory};
use trialog_pipeline::maintenance::{Flag, MaintenanceError};
use trialog_warehouse::fold::UserFilter;

fn silent(_: u64, _: u64) {}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // A linked file is another name of the original: it is replaced, not written over.
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn verify(directory: &Path) -> VerifyReport {
    verify_directory(directory, &system::settings(), &mut silent).unwrap()
}

/// A system whose events lie in runs, in the inbox and in memory, with published results.
fn filled(directory: &Path) -> System {
    let system = System::with_flush_bytes(directory, 1 << 20);
    for round in 0..40 {
        system.send(&events(round));
    }
    system.aggregator.run("request", 1, Scope::Touched).unwrap();
    system.warehouse.settle().unwrap();
    for round in 40..50 {
        system.send(&events(round));
    }
    system
}

#[test]
fn a_backup_under_ingest_gives_exactly_the_results_of_its_position() {
    let directory = tempfile::tempdir().unwrap();
    let places = tempfile::tempdir().unwrap();
    let system = System::open(&directory.path().join("data"));
    let mut backups = Vec::new();
    std::thread::scope(|scope| {
        let ingest = scope.spawn(|| (0..400).for_each(|round| system.send(&events(round))));
        let mut number = 0;
        while !ingest.is_finished() {
            system.aggregator.run("request", 1, Scope::Touched).unwrap();
            let place = places.path().join(format!("{number}"));
            backups.push(system.maintenance.backup(&place, &mut silent).unwrap());
            number += 1;
        }
    });
    assert!(backups.len() > 1, "several backups were made meanwhile");
    let shown = [0, backups.len() / 2, backups.len() - 1];
    for report in shown.map(|at| &backups[at]) {
        assert!(report.published_position <= report.position);
        let into = places.path().join(format!("restored-{}", report.position));
        let from = restore(&report.directory, &into, &mut silent).unwrap();
        assert_eq!(from.position, report.position);
        assert!(verify(&into).sound, "{:?}", verify(&into).damage);
        let again = System::open(&into);
        assert_eq!(again.warehouse.position(), report.position);
        assert_eq!(results_of(&again), restored(report.position));
    }
}

#[test]
fn a_run_that_is_merged_meanwhile_is_in_the_backup_and_deleted_later() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(&directory.path().join("data"));
    let place = directory.path().join("backup");
    let report = system.maintenance.backup(&place, &mut silent).unwrap();
    assert!(report.linked_bytes > 0 && report.position == 50);
    let before = files(&place.join("events"));
    for round in 50..90 {
        system.send(&events(round));
    }
    system.aggregator.run("request", 1, Scope::Touched).unwrap();
    system.warehouse.settle().unwrap();
    assert_eq!(files(&place.join("events")), before);
    let into = directory.path().join("restored");
    restore(&place, &into, &mut silent).unwrap();
    assert_eq!(results_of(&System::open(&into)), restored(50));
}

#[test]
fn a_flipped_byte_in_a_backup_is_named_and_nothing_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(&directory.path().join("data"));
    let place = directory.path().join("backup");
    system.maintenance.backup(&place, &mut silent).unwrap();
    for file in files(&place) {
        let good = std::fs::read(&file).unwrap();
        flip(&file);
        let into = directory.path().join("restored");
        let error = restore(&place, &into, &mut silent).unwrap_err().to_string();
        let name = file.strip_prefix(&place).unwrap().to_str().unwrap();
        assert!(error.contains(&format!("`{name}`")), "{name}: {error}");
        assert!(!into.exists());
        std::fs::write(&file, good).unwrap();
    }
}

#[test]
fn half_a_backup_is_refused_and_a_failed_one_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(&directory.path().join("data"));
    let place = directory.path().join("backup");
    system.maintenance.backup(&place, &mut silent).unwrap();
    let into = directory.path().join("restored");
    std::fs::remove_file(place.join("backup.json")).unwrap();
    let error = restore(&place, &into, &mut silent).unwrap_err();
    assert!(
        matches!(error, MaintenanceError::NoBackup { .. }),
        "{error}"
    );
    let error = system.maintenance.backup(&place, &mut silent).unwrap_err();
    assert!(matches!(error, MaintenanceError::Exists(_)), "{error}");
    let run = &files(&directory.path().join("data/events"))[0];
    let good = std::fs::read(run).unwrap();
    // In place, as the disk would do it.
    std::fs::write(run, good.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    let other = directory.path().join("other/backup");
    let error = system.maintenance.backup(&other, &mut silent).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert!(files(&directory.path().join("other")).is_empty());
}

/// Whether the work ended since nobody waited for it.
fn was_abandoned<T>(outcome: Result<T, MaintenanceError>) -> bool {
    matches!(outcome, Err(MaintenanceError::Pipeline(error)) if error.is_stopping())
}

#[test]
fn work_that_nobody_waits_for_ends_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(&directory.path().join("data"));
    let n_runs = files(&directory.path().join("data/events")).len();
    let flag = Flag::default();
    let mut n_told = 0;
    let mut leave = |_, _| {
        n_told += 1;
        flag.store(true, Ordering::Relaxed);
    };
    assert!(was_abandoned(
        system.maintenance.verify_until(&flag, &mut leave)
    ));
    assert!(n_told == 1 && n_runs > 1, "{n_told} of {n_runs} runs");
    let place = directory.path().join("backups/one");
    flag.store(false, Ordering::Relaxed);
    let mut leave = |_, _| flag.store(true, Ordering::Relaxed);
    let backup = system.maintenance.backup_until(&flag, &place, &mut leave);
    assert!(was_abandoned(backup));
    assert!(files(&directory.path().join("backups")).is_empty());
    let request = ExportRequest {
        table: Table::Events(EventKind::Assignment),
        form: Form::Csv(Formulas::Escaped),
        experiments: Vec::new(),
        within: None..None,
    };
    let export = system.maintenance.export_until(&flag, request).unwrap();
    assert!(was_abandoned(export.write(std::io::sink())));
    let id = ExperimentId::new(system::EXPERIMENTS[0]).unwrap();
    let folded = (system.aggregator).query(&id, &UserFilter::default(), &flag);
    assert!(folded.is_err_and(|error| error.is_stopping()));
    assert!(system.maintenance.verify(&mut silent).unwrap().sound);
}

#[test]
fn an_interrupted_restore_is_not_started_from_and_can_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(&directory.path().join("data"));
    let place = directory.path().join("backup");
    system.maintenance.backup(&place, &mut silent).unwrap();
    let into = directory.path().join("restored");
    restore(&place, &into, &mut silent).unwrap();
    let error = restore(&place, &into, &mut silent).unwrap_err();
    assert!(
        matches!(error, MaintenanceError::HoldsData { .. }),
        "{error}"
    );
    // What a restore that was killed half-way leaves.
    std::fs::write(into.join("RESTORING"), "").unwrap();
    std::fs::remove_file(into.join("catalog.sqlite")).unwrap();
    assert!(check_complete(&into).is_err());
    assert!(verify_directory(&into, &Settings::default(), &mut silent).is_err());
    restore(&place, &into, &mut silent).unwrap();
    check_complete(&into).unwrap();
    assert_eq!(results_of(&System::open(&into)), restored(50));
}

#[test]
fn a_sound_directory_is_sound_with_a_server_and_without() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let system = filled(&data);
    let live = system.maintenance.verify(&mut silent).unwrap();
    assert!(live.sound && live.recomputed == 3, "{live:?}");
    system.warehouse.close();
    drop(system);
    let before = files(&data);
    let report = verify(&data);
    assert_eq!(report, VerifyReport { ..live });
    assert_eq!(report.published_position, 40);
    assert_eq!(report.inbox_entries, 10);
    let names: Vec<_> = files(&data);
    assert!(before.iter().all(|file| names.contains(file)));
}

#[test]
fn every_kind_of_damage_is_found_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let system = filled(&data);
    system.warehouse.close();
    drop(system);
    let parts = |report: &VerifyReport| -> Vec<&'static str> {
        report.damage.iter().map(|damage| damage.part).collect()
    };
    let run = files(&data.join("events"))[0].clone();
    let good = std::fs::read(&run).unwrap();
    flip(&run);
    let report = verify(&data);
    assert_eq!(parts(&report), ["run"]);
    assert!(report.damage[0].message.contains(run.to_str().unwrap()));
    std::fs::remove_file(&run).unwrap();
    assert!(verify_directory(&data, &system::settings(), &mut silent).is_ok());
    std::fs::write(&run, &good).unwrap();
    // A database that is older than what was acknowledged.
    let told = std::fs::read(data.join("POSITION")).unwrap();
    let mut later = 51u64.to_le_bytes().to_vec();
    later.extend(crc32fast::hash(&51u64.to_le_bytes()).to_le_bytes());
    std::fs::write(data.join("POSITION"), later).unwrap();
    assert_eq!(parts(&verify(&data)), ["position"]);
    std::fs::write(data.join("POSITION"), told).unwrap();
    // A file that no run names: harmless, unless its events are from later.
    let orphan = run.with_file_name("000000000001-000000000002-9.parquet");
    std::fs::write(&orphan, b"x").unwrap();
    let report = verify(&data);
    assert!(report.sound && report.notes.len() == 1, "{report:?}");
    std::fs::rename(
        &orphan,
        run.with_file_name("000000000001-000000000099-0.parquet"),
    )
    .unwrap();
    assert_eq!(parts(&verify(&data)), ["orphan"]);
}

#[test]
fn results_that_do_not_equal_a_recomputation_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(directory.path());
    let id = ExperimentId::new("b").unwrap();
    let published = system.catalog.published(&id, None).unwrap().unwrap();
    let mut wrong = published.computation;
    wrong.metrics[0].total += 1;
    let mark = system.catalog.high_water_mark().unwrap();
    let at = UnixMicros(published.computed_at.0 + 1);
    let run = FinishedRun {
        run_id: system.catalog.begin_run("request", 1, at).unwrap(),
        position: mark.position,
        data_time: mark.data_time,
        computed_at: at,
        thin_out_before: UnixMicros(0),
        outcomes: vec![Outcome {
            experiment: id,
            revision: system
                .catalog
                .experiment(&wrong.experiment)
                .unwrap()
                .revision,
            recompute_at: None,
            computed: Ok(wrong),
            warnings: Vec::new(),
            analyses: Vec::new(),
        }],
        lease: None,
        journal: None,
    };
    system.catalog.publish(&run).unwrap();
    let report = system.maintenance.verify(&mut silent).unwrap();
    assert_eq!((report.damage.len(), report.recomputed), (1, 2));
    let message = &report.damage[0].message;
    assert!(
        message.contains("`b`") && message.contains("sum"),
        "{message}"
    );
}

#[test]
fn a_manifest_of_a_backup_counts_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let system = filled(&directory.path().join("data"));
    let place = directory.path().join("backup");
    let report = system.maintenance.backup(&place, &mut silent).unwrap();
    let manifest = Manifest::read(&place).unwrap();
    assert_eq!(manifest.files.len() + 1, files(&place).len());
    assert_eq!(manifest.bytes(), report.bytes);
    assert_eq!((manifest.position, manifest.published_position), (50, 40));
}

#[test]
fn a_data_directory_of_an_earlier_version_verifies_once_it_was_opened() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/directories");
    let always = ["catalog.sqlite", "warehouse.sqlite", "POSITION"].as_slice();
    // Days from the tests' clock to a time between the newest event and the last run.
    for (name, later_files, days, n_experiments) in [
        ("schema_14", [].as_slice(), 0, 3),
        ("schema_21", &["GENERATION"], 402, 4),
    ] {
        let directory = tempfile::tempdir().unwrap();
        for file in always.iter().chain(later_files) {
            let from = fixtures.join(name).join(file);
            std::fs::copy(from, directory.path().join(file)).unwrap();
        }
        drop(System::open(directory.path()));
        let report = verify(directory.path());
        assert!(report.sound, "{name}: {:?}", report.damage);
        let n_seen = report.recomputed + report.n_skipped;
        assert_eq!(n_seen, n_experiments, "{name}: {report:?}");
        let system = System::open(directory.path());
        system.advance(days * 86_400_000_000);
        // The last run is younger than the tests' clock, which a run says and does not mind.
        let run = system.aggregator.run("request", 1, Scope::Touched).unwrap();
        assert!(run.before_last.is_some(), "{name}: {run:?}");
        assert_eq!(run.experiments as u64, n_experiments, "{name}: {run:?}");
        drop(system);
        assert_eq!(verify(directory.path()).recomputed, n_experiments, "{name}");
    }
}

#[test]
fn texts_of_users_are_in_a_backup_and_two_of_one_user_are_noted() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let system = filled(&data);
    let sent = |event_id, user_text| {
        let assignment = events(0)[0];
        let (user, hour) = (4_242, -1);
        [system::Row {
            user,
            hour,
            event_id,
            user_text,
            ..assignment
        }]
    };
    system.send(&sent(90_001, "ann"));
    assert_eq!(
        system.maintenance.verify(&mut silent).unwrap().notes,
        Vec::<String>::new()
    );
    system.warehouse.settle().unwrap();
    system.send(&sent(90_002, "eve"));
    let report = system.maintenance.verify(&mut silent).unwrap();
    assert!(report.sound);
    let [note] = report.notes.as_slice() else {
        panic!("one note: {:?}", report.notes);
    };
    assert!(
        note.contains("1 users in 1 experiments") && note.contains("user 4242"),
        "{note}"
    );
    let saved = directory.path().join("saved");
    system.maintenance.backup(&saved, &mut silent).unwrap();
    drop(system);
    let other = directory.path().join("other");
    restore(&saved, &other, &mut silent).unwrap();
    assert_eq!(verify(&other).notes, std::slice::from_ref(note));
    let again = System::open(&other);
    let experiment = events(0)[0].experiment;
    let texts = again
        .warehouse
        .reading_snapshot()
        .user_texts(experiment, &[4_242])
        .unwrap();
    assert_eq!(texts[&4_242], "ann");
}
