//! What a crash, damage or a full disk may cost: never an acknowledged event,
//! and never a wrong number.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/harness.rs"]
mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::thread;

use proptest::prelude::*;
use rusqlite::Connection;
use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_warehouse::analysis::scorecard::{MetricPlan, MetricSums, Scorecard, Shape};
use trialog_warehouse::batch::Batch;
use trialog_warehouse::embedded::{Options, Refused, Submission, Warehouse};
use trialog_warehouse::fold::split::Split;
use trialog_warehouse::fold::{Names, Plan, UserFilter, fold};
use trialog_warehouse::lock::DirectoryLock;
use trialog_warehouse::snapshot::Snapshot;
use trialog_warehouse::{SourceMark, WarehouseError};

use harness::{Event, assigned, bought, open, store, try_store};

/// Everything stays in the inbox and in memory.
fn unflushed() -> Options {
    Options::default()
}

/// Merges two runs of a size as soon as they are there.
fn eager() -> Options {
    Options {
        flush_bytes: 1_000,
        fan_in: 2,
        ..Options::default()
    }
}

/// `n_users` users who are assigned to `a` and buy twice.
fn shoppers(users: std::ops::Range<i64>) -> Vec<Event> {
    let of_user = |user| {
        [
            assigned("gate", user, 10, "a", user),
            bought("gate", user, 20, user, 0),
            bought("gate", user, 30, -1, 1),
        ]
    };
    users.flat_map(of_user).collect()
}

/// The users of variant `a` and the sums of their purchases.
fn purchases(snapshot: &Snapshot) -> Result<(u64, MetricSums), WarehouseError> {
    let plan = Plan {
        experiment: ExperimentId::new("gate").unwrap(),
        within: None..None,
        variants: Names::new(["a".to_owned()]),
        event_types: Names::new(["buy".to_owned()]),
        data_time: i64::MAX,
        filter: UserFilter::default(),
        left_out: None,
        exposures: None,
        split: Split::Whole,
        n_rows: 1,
    };
    let metric = MetricPlan {
        name: "buy".to_owned(),
        event_type: 0,
        window: Window::UNBOUNDED,
        delay: 0,
        min_value: None,
        shape: Shape::Plain,
    };
    let outcomes = fold(snapshot, &[plan], 1, |plan| {
        Scorecard::new(plan, vec![metric.clone()])
    })?;
    let folded = outcomes[0].as_ref().unwrap();
    Ok((folded.users[0], *folded.accumulator.sums(0, 0)))
}

/// What [`purchases`] gives for the [`shoppers`] of `users`.
fn expected(users: std::ops::Range<i64>) -> (u64, MetricSums) {
    let n_users = (users.end - users.start).unsigned_abs();
    let totals = users.map(|user| i128::from(user - 1));
    let sums = MetricSums {
        converted_users: n_users,
        events: 2 * n_users,
        squared_events: 4 * u128::from(n_users),
        total: totals.clone().sum(),
        squared_total: totals.map(|total| total * total).sum(),
        ..MetricSums::default()
    };
    (n_users, sums)
}

/// What the published results were computed from, and everything there is.
fn both(warehouse: &Warehouse) -> [(u64, MetricSums); 2] {
    [warehouse.published_snapshot(), warehouse.snapshot()]
        .map(|snapshot| purchases(&snapshot).unwrap())
}

fn runs(directory: &Path, kind: EventKind) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("events").join(kind.plural())).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Stores and flushes `events` into one run of each kind, and closes.
fn with_one_run(events: &[Event]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, events);
    warehouse.settle().unwrap();
    directory
}

/// Flips the lowest bit of the byte at `at`.
fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

/// Opens, folds and verifies; gives what the fold gave, if it came so far.
fn attempt(directory: &Path) -> (Option<(u64, MetricSums)>, Result<(), WarehouseError>) {
    let warehouse = match open(directory, &unflushed(), 0) {
        Ok(warehouse) => warehouse,
        Err(error) => return (None, Err(error)),
    };
    match purchases(&warehouse.snapshot()) {
        Ok(found) => (Some(found), warehouse.verify()),
        Err(error) => (None, Err(error)),
    }
}

fn message(outcome: Result<impl Sized, WarehouseError>) -> String {
    outcome.err().expect("it must fail").chain()
}

#[test]
fn reopening_gives_the_same_events() {
    for options in [unflushed(), eager()] {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..4 {
            let warehouse = open(directory.path(), &options, 0).unwrap();
            assert_eq!(
                purchases(&warehouse.snapshot()).unwrap(),
                expected(0..round * 20)
            );
            store(&warehouse, &shoppers(round * 20..round * 20 + 20));
            assert_eq!(
                purchases(&warehouse.snapshot()).unwrap(),
                expected(0..round * 20 + 20)
            );
        }
    }
}

/// A large batch of assignments and one metric event lie under one sequence. Flushing the first
/// alone would take both out of the inbox.
#[test]
fn both_kinds_of_one_commit_stay_together_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    let writer = hold_writer(&warehouse);
    let (stored, outcomes) = channel();
    let mut assignments = Batch::new(EventKind::Assignment);
    for user in 0..200 {
        assignments.push(&assigned("gate", user, 10, "a", user).1);
    }
    for batch in [assignments, one_event().batch] {
        let stored = stored.clone();
        let reply = Box::new(move |outcome| stored.send(outcome).expect("the test waits"));
        let submission = Submission {
            batch,
            reply,
            ..one_event()
        };
        warehouse.submit(submission).unwrap();
    }
    drop((writer, stored));
    outcomes.iter().for_each(|outcome| outcome.unwrap());
    assert_eq!(warehouse.position(), 2, "two commits");
    drop(warehouse);

    let rows = |warehouse: &Warehouse| {
        EventKind::ALL.map(|kind| {
            let entry = warehouse.snapshot().contents_of(kind, "gate");
            entry.map(|entry| entry.rows)
        })
    };
    let small = Options {
        flush_bytes: 4_000,
        ..Options::default()
    };
    let recovered = open(directory.path(), &small, 0).unwrap();
    while recovered.usage().n_runs == 0 {
        thread::yield_now();
    }
    drop(recovered);
    let again = open(directory.path(), &unflushed(), 0).unwrap();
    assert_eq!(rows(&again), [Some(200), Some(2)]);
}

#[test]
fn acknowledged_events_survive_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &shoppers(0..10));
    warehouse.settle().unwrap();
    store(&warehouse, &shoppers(10..20));
    // Nothing runs now, so a copy is what a killed process leaves behind.
    let crashed = tempfile::tempdir().unwrap();
    copy_all(directory.path(), crashed.path());
    let recovered = open(crashed.path(), &unflushed(), 0).unwrap();
    assert_eq!(purchases(&recovered.snapshot()).unwrap(), expected(0..20));
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_all(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn the_published_events_stay_apart_from_later_ones_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &shoppers(0..5));
    let position = warehouse.snapshot().position;
    warehouse.publish(position);
    drop(warehouse);
    let warehouse = open(directory.path(), &unflushed(), position).unwrap();
    assert_eq!(
        purchases(&warehouse.published_snapshot()).unwrap(),
        expected(0..5)
    );
    store(&warehouse, &shoppers(5..9));
    assert_eq!(both(&warehouse), [expected(0..5), expected(0..9)]);
    warehouse.settle().unwrap();
    assert_eq!(both(&warehouse), [expected(0..5), expected(0..9)]);
    drop(warehouse);
    let warehouse = open(directory.path(), &eager(), position).unwrap();
    warehouse.settle().unwrap();
    assert_eq!(both(&warehouse), [expected(0..5), expected(0..9)]);
}

#[test]
fn what_is_about_to_be_published_stays_apart_from_later_events() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &eager(), 0).unwrap();
    for before in 1..4 {
        store(&warehouse, &shoppers(10 * before - 7..10 * before));
        let snapshot = warehouse.snapshot();
        store(&warehouse, &shoppers(10 * before..10 * before + 3));
        warehouse.settle().unwrap();
        warehouse.publish(snapshot.position);
        assert_eq!(
            both(&warehouse),
            [expected(3..10 * before), expected(3..10 * before + 3)]
        );
    }
}

#[test]
fn files_that_nothing_registers_are_removed() {
    let directory = with_one_run(&shoppers(0..10));
    let live = EventKind::ALL.map(|kind| runs(directory.path(), kind));
    for path in live.iter().flatten() {
        fs::copy(
            path,
            path.with_file_name("000000000001-000000000001-9.parquet"),
        )
        .unwrap();
        fs::write(path.with_extension("parquet.tmp"), "half a file").unwrap();
    }
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    assert_eq!(
        EventKind::ALL.map(|kind| runs(directory.path(), kind)),
        live
    );
    assert_eq!(purchases(&warehouse.snapshot()).unwrap(), expected(0..10));
}

#[test]
fn a_lost_or_older_database_costs_no_run_that_it_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("warehouse.sqlite");
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &shoppers(0..5));
    warehouse.settle().unwrap();
    drop(warehouse);
    let older = fs::read(&database).unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &shoppers(5..10));
    warehouse.settle().unwrap();
    drop(warehouse);
    let newest = fs::read(&database).unwrap();
    for content in [None, Some(&older)] {
        fs::remove_file(&database).unwrap();
        if let Some(content) = content {
            fs::write(&database, content).unwrap();
        }
        let refused = || message(open(directory.path(), &unflushed(), 0));
        let message = refused();
        assert!(
            message.contains("warehouse.sqlite` is damaged: it ")
                && message.contains("were acknowledged"),
            "{message}"
        );
        // Without that file, too, no run is taken for what a crash left.
        let position = fs::read(directory.path().join("POSITION")).unwrap();
        fs::remove_file(directory.path().join("POSITION")).unwrap();
        let message = refused();
        assert!(
            message.contains("warehouse.sqlite` is damaged: it does not know of the events in"),
            "{message}"
        );
        fs::write(directory.path().join("POSITION"), position).unwrap();
    }
    fs::write(&database, newest).unwrap();
    assert_eq!(attempt(directory.path()).0, Some(expected(0..10)));
}

#[test]
fn merged_runs_are_deleted_once_nobody_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &eager(), 0).unwrap();
    store(&warehouse, &shoppers(0..30));
    warehouse.settle().unwrap();
    let held = warehouse.snapshot();
    warehouse.publish(held.position);
    for users in [30..60, 60..90] {
        store(&warehouse, &shoppers(users));
        warehouse.settle().unwrap();
        warehouse.publish(warehouse.snapshot().position);
    }
    warehouse.settle().unwrap();
    assert_eq!(purchases(&held).unwrap(), expected(0..30));
    let n_files = || {
        EventKind::ALL
            .map(|kind| runs(directory.path(), kind).len())
            .iter()
            .sum::<usize>()
    };
    assert!(
        n_files() > warehouse.usage().n_runs,
        "a file that is read is kept"
    );
    drop(held);
    // The threads let go of merged runs when they end.
    warehouse.close();
    assert_eq!(n_files(), warehouse.usage().n_runs);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_byte_in_a_run_is_reported_and_never_counted(flips in prop::collection::vec(any::<(bool, usize)>(), 4)) {
        let directory = with_one_run(&shoppers(0..3_000));
        for (is_metric, at) in flips {
            let kind = EventKind::ALL[usize::from(is_metric)];
            let path = runs(directory.path(), kind).remove(0);
            let at = at % fs::metadata(&path).unwrap().len() as usize;
            flip(&path, at);
            let (found, outcome) = attempt(directory.path());
            // A fold that does not read the byte may give the right answer.
            prop_assert!(found.is_none_or(|found| found == expected(0..3_000)));
            let message = message(outcome);
            prop_assert!(message.contains(path.to_str().unwrap()), "{}", message);
            prop_assert!(message.contains("is damaged: the checksum"), "{}", message);
            flip(&path, at);
        }
        prop_assert_eq!(attempt(directory.path()).0, Some(expected(0..3_000)));
    }
}

#[test]
fn a_byte_that_flips_while_the_warehouse_is_open_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &shoppers(0..100));
    warehouse.settle().unwrap();
    let path = runs(directory.path(), EventKind::Metric).remove(0);
    flip(&path, 10);
    let message = message(purchases(&warehouse.snapshot()));
    assert!(
        message.contains(path.to_str().unwrap()) && message.contains("checksum"),
        "{message}"
    );
}

#[test]
fn a_truncated_or_lost_run_is_reported() {
    let directory = with_one_run(&shoppers(0..10));
    let path = runs(directory.path(), EventKind::Metric).remove(0);
    let content = fs::read(&path).unwrap();
    for length in [0, 4, content.len() - 1] {
        fs::write(&path, &content[..length]).unwrap();
        let message = message(attempt(directory.path()).1);
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(
            message.contains(&format!("it has {length} bytes where {}", content.len())),
            "{message}"
        );
    }
    fs::remove_file(&path).unwrap();
    let lost = message(attempt(directory.path()).1);
    assert!(
        lost.contains(&format!("cannot open `{}`", path.display())),
        "{lost}"
    );
    fs::write(&path, &content).unwrap();
    assert_eq!(attempt(directory.path()).0, Some(expected(0..10)));
}

#[test]
fn a_flipped_byte_in_the_inbox_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    store(
        &open(directory.path(), &unflushed(), 0).unwrap(),
        &shoppers(0..10),
    );
    let database = Connection::open(directory.path().join("warehouse.sqlite")).unwrap();
    let payload: Vec<u8> = database
        .query_row(
            "SELECT payload FROM inbox WHERE kind = 'metrics'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let replace = |payload: &[u8]| {
        database
            .execute(
                "UPDATE inbox SET payload = ?1 WHERE kind = 'metrics'",
                [payload],
            )
            .unwrap();
    };
    for at in (0..payload.len()).step_by(payload.len() / 10) {
        let mut flipped = payload.clone();
        flipped[at] ^= 1;
        replace(&flipped);
        let message = message(open(directory.path(), &unflushed(), 0));
        assert!(
            message.contains("warehouse.sqlite` is damaged: the checksum of inbox entry"),
            "{message}"
        );
    }
    replace(&payload);
    assert_eq!(attempt(directory.path()).0, Some(expected(0..10)));
}

#[test]
fn a_changed_entry_of_the_register_is_reported() {
    let directory = with_one_run(&shoppers(0..10));
    let database = Connection::open(directory.path().join("warehouse.sqlite")).unwrap();
    for column in ["bytes", "first_sequence", "last_sequence", "checksum"] {
        database
            .execute(&format!("UPDATE runs SET {column} = {column} + 1"), [])
            .unwrap();
        let message = message(open(directory.path(), &unflushed(), 0));
        assert!(
            message.contains("warehouse.sqlite` is damaged: the register entry"),
            "{message}"
        );
        database
            .execute(&format!("UPDATE runs SET {column} = {column} - 1"), [])
            .unwrap();
    }
    assert_eq!(attempt(directory.path()).0, Some(expected(0..10)));
}

#[test]
fn a_second_warehouse_in_one_directory_is_refused_until_the_first_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), &unflushed(), 0).unwrap();
    first.publish_address("http://127.0.0.1:1").unwrap();
    let refused = message(open(directory.path(), &unflushed(), 0));
    assert!(
        refused.contains("in use by another trialog process that serves http://127.0.0.1:1"),
        "{refused}"
    );
    first.close();
    assert!(matches!(
        first.publish_address("http://127.0.0.1:1"),
        Err(WarehouseError::Closed)
    ));
    DirectoryLock::acquire(directory.path()).unwrap();
}

#[test]
fn a_source_is_marked_exactly_as_far_as_its_events_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let mark = |position| SourceMark {
        source: "import:x".to_owned(),
        position,
        once: false,
    };
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    assert_eq!(warehouse.source_position("import:x").unwrap(), None);
    try_store(&warehouse, &shoppers(0..5), Some(&mark(5))).unwrap();
    try_store(&warehouse, &shoppers(5..9), Some(&mark(9))).unwrap();
    let database = Connection::open(directory.path().join("warehouse.sqlite")).unwrap();
    // A commit that fails leaves neither its events nor its mark.
    database
        .execute("ALTER TABLE inbox RENAME TO elsewhere", [])
        .unwrap();
    let failure = try_store(&warehouse, &shoppers(9..12), Some(&mark(12))).unwrap_err();
    assert!(
        failure.chain().contains("warehouse.sqlite"),
        "{}",
        failure.chain()
    );
    database
        .execute("ALTER TABLE elsewhere RENAME TO inbox", [])
        .unwrap();
    drop(warehouse);
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    assert_eq!(warehouse.source_position("import:x").unwrap(), Some(9));
    assert_eq!(warehouse.source_position("import:y").unwrap(), None);
    assert_eq!(purchases(&warehouse.snapshot()).unwrap(), expected(0..9));
}

#[test]
fn request_keys_are_forgotten_by_age_and_imports_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    for (source, received_at) in [("key:old", 10), ("key:new", 20), ("import:old", 10)] {
        let mark = SourceMark {
            source: source.to_owned(),
            position: 1,
            once: source.starts_with("key:"),
        };
        let (done, outcome) = channel();
        let reply = Box::new(move |stored| done.send(stored).expect("the test waits"));
        let batch = Batch::new(EventKind::Metric);
        warehouse
            .submit(Submission {
                batch,
                mark: Some(mark),
                received_at,
                reply,
            })
            .unwrap();
        outcome.recv().unwrap().unwrap();
    }
    assert_eq!(warehouse.forget_keys(20).unwrap(), 1);
    let positions = ["key:old", "key:new", "import:old"]
        .map(|source| warehouse.source_position(source).unwrap());
    assert_eq!(positions, [None, Some(1), Some(1)]);
}

/// A submission of one event that does nothing when it is stored.
fn one_event() -> Submission {
    let mut batch = Batch::new(EventKind::Metric);
    batch.push(&bought("gate", 1, 1, 1, 1).1);
    Submission {
        batch,
        mark: None,
        received_at: 0,
        reply: Box::new(|_| {}),
    }
}

/// Stores one event and keeps the writer in its reply, until what is returned is dropped.
fn hold_writer(warehouse: &Warehouse) -> SyncSender<()> {
    let (arrived, has_arrived) = channel();
    let (go_on, may_go_on) = sync_channel::<()>(0);
    let reply = Box::new(move |_| {
        arrived.send(()).expect("the test waits");
        let _ = may_go_on.recv();
    });
    warehouse
        .submit(Submission {
            reply,
            ..one_event()
        })
        .unwrap();
    has_arrived.recv().unwrap();
    go_on
}

#[test]
fn a_full_queue_refuses_and_takes_again_what_it_has_room_for() {
    let event_bytes = one_event().batch.size_bytes();
    let by_length = Options {
        queue_length: 3,
        ..unflushed()
    };
    let by_bytes = Options {
        queue_bytes: 3 * event_bytes,
        ..unflushed()
    };
    for options in [by_length, by_bytes] {
        let directory = tempfile::tempdir().unwrap();
        let warehouse = open(directory.path(), &options, 0).unwrap();
        let writer = hold_writer(&warehouse);
        for _ in 0..3 {
            warehouse.submit(one_event()).unwrap();
        }
        for _ in 0..2 {
            assert!(matches!(warehouse.submit(one_event()), Err(Refused::Full)));
        }
        drop(writer);
        warehouse.close();
        assert!(matches!(
            warehouse.submit(one_event()),
            Err(Refused::Closed)
        ));
        assert_eq!(
            warehouse.position(),
            2,
            "what was taken is stored, in two commits"
        );
        let rows = warehouse
            .snapshot()
            .contents_of(EventKind::Metric, "gate")
            .map(|entry| entry.rows);
        assert_eq!(rows, Some(4));
    }
}

#[test]
fn an_empty_submission_is_acknowledged_and_takes_no_position() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &[]);
    assert_eq!(
        (warehouse.position(), warehouse.usage().unflushed_bytes),
        (0, 0)
    );
    warehouse.settle().unwrap();
    assert_eq!(warehouse.usage().n_runs, 0);
}

/// Puts a file where the runs of metric events belong; gives back how to undo it.
fn obstruct(directory: &Path) -> impl FnOnce() {
    let runs = directory.join("events/metrics");
    let aside = directory.join("aside");
    fs::rename(&runs, &aside).unwrap();
    fs::write(&runs, "in the way").unwrap();
    move || {
        fs::remove_file(&runs).unwrap();
        fs::rename(&aside, &runs).unwrap();
    }
}

#[test]
fn a_flush_that_fails_is_reported_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &shoppers(0..10));
    warehouse.settle().unwrap();
    let clear = obstruct(directory.path());
    store(&warehouse, &shoppers(10..20));
    assert_eq!(warehouse.flush_failure(), None);
    let failure = message(warehouse.settle());
    assert!(
        failure.contains("cannot create") && failure.contains("events/metrics/"),
        "{failure}"
    );
    assert!(
        warehouse
            .flush_failure()
            .unwrap()
            .contains("events/metrics/")
    );
    assert!(
        message(warehouse.settle()).contains("events/metrics/"),
        "as long as it fails"
    );
    clear();
    assert_eq!(purchases(&warehouse.snapshot()).unwrap(), expected(0..20));
    warehouse.settle().unwrap();
    assert_eq!(
        (warehouse.flush_failure(), warehouse.usage().unflushed_bytes),
        (None, 0)
    );
    assert_eq!(purchases(&warehouse.snapshot()).unwrap(), expected(0..20));
}

#[test]
fn while_flushing_fails_events_are_taken_only_up_to_the_limit_of_memory() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &eager(), 0).unwrap();
    let clear = obstruct(directory.path());
    let mut n_taken = 0;
    let refusal = loop {
        match try_store(&warehouse, &shoppers(n_taken..n_taken + 5), None) {
            Ok(()) => n_taken += 5,
            Err(error) => break error.chain(),
        }
        assert!(n_taken < 1_000, "memory is bounded");
    };
    assert!(
        refusal.contains("the warehouse cannot write") && refusal.contains("events/metrics/"),
        "{refusal}"
    );
    drop(warehouse);
    clear();
    let warehouse = open(directory.path(), &eager(), 0).unwrap();
    warehouse.settle().unwrap();
    // Of the refused submissions one may have been stored; its source repeats it.
    store(&warehouse, &shoppers(n_taken..n_taken + 5));
    assert_eq!(
        purchases(&warehouse.snapshot()).unwrap(),
        expected(0..n_taken + 5)
    );
}

#[test]
fn a_merge_that_fails_is_reported_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &eager(), 0).unwrap();
    store(&warehouse, &shoppers(0..10));
    warehouse.settle().unwrap();
    let path = runs(directory.path(), EventKind::Metric).remove(0);
    flip(&path, 10);
    store(&warehouse, &shoppers(10..20));
    let failure = message(warehouse.settle());
    assert!(
        failure.contains(path.to_str().unwrap()) && failure.contains("checksum"),
        "{failure}"
    );
    flip(&path, 10);
    warehouse.settle().unwrap();
    assert_eq!(purchases(&warehouse.snapshot()).unwrap(), expected(0..20));
    assert_eq!(warehouse.usage().n_runs, 2, "one of each kind");
}

#[test]
fn a_damaged_run_does_not_keep_the_others_from_being_merged() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &eager(), 0).unwrap();
    store(&warehouse, &shoppers(0..10));
    warehouse.settle().unwrap();
    let damaged = runs(directory.path(), EventKind::Metric).remove(0);
    flip(&damaged, 10);
    store(&warehouse, &shoppers(10..20));
    message(warehouse.settle());
    let rows_before = warehouse.usage().run_rows;
    store(&warehouse, &shoppers(20..30));
    store(&warehouse, &shoppers(30..40));
    let message = message(warehouse.settle());
    assert!(message.contains(damaged.to_str().unwrap()), "{message}");
    assert_eq!(warehouse.usage().run_rows, 2 * rows_before);
    let metrics = runs(directory.path(), EventKind::Metric);
    // Of the three sound ones, two are of one size class and were merged.
    assert!(
        metrics.contains(&damaged) && metrics.len() == 3,
        "{metrics:?}"
    );
}

#[test]
fn a_flipped_byte_in_the_last_commit_of_the_log_is_told_apart_from_a_torn_end() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    store(&warehouse, &shoppers(0..5));
    store(&warehouse, &shoppers(5..10));
    // As a process that is killed leaves them.
    let copy = tempfile::tempdir().unwrap();
    for name in ["warehouse.sqlite", "warehouse.sqlite-wal", "POSITION"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    let log = copy.path().join("warehouse.sqlite-wal");
    let sound = fs::read(&log).unwrap();
    for from_end in [1, 5_000, 16_000] {
        let mut flipped = sound.clone();
        let at = flipped.len() - from_end;
        flipped[at] ^= 1;
        fs::write(&log, flipped).unwrap();
        let message = message(open(copy.path(), &unflushed(), 0));
        assert!(message.contains("warehouse.sqlite"), "{message}");
        assert!(message.contains("were acknowledged"), "{message}");
        for name in ["warehouse.sqlite", "warehouse.sqlite-wal", "POSITION"] {
            fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
        }
    }
    // After a loss of power the position may be older than the log, and the end torn.
    fs::write(copy.path().join("POSITION"), "").unwrap();
    fs::write(&log, &sound[..sound.len() - 100]).unwrap();
    open(copy.path(), &unflushed(), 0).unwrap();
}

#[test]
fn any_number_of_threads_may_settle_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &unflushed(), 0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let warehouse = &warehouse;
            scope.spawn(move || {
                for round in 0..10 {
                    let user = thread * 10 + round;
                    store(warehouse, &shoppers(user..user + 1));
                    warehouse.settle().unwrap();
                }
            });
        }
    });
    assert_eq!(purchases(&warehouse.snapshot()).unwrap(), expected(0..40));
    assert_eq!(warehouse.usage().unflushed_bytes, 0);
}

#[test]
fn data_of_a_newer_version_is_refused() {
    let directory = with_one_run(&shoppers(0..1));
    let database = Connection::open(directory.path().join("warehouse.sqlite")).unwrap();
    database.execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(message(open(directory.path(), &unflushed(), 0)).contains("schema version 99"));
}
