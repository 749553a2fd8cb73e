//! Tests that files from before users had texts are read beside new ones.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::mpsc::channel;

use arrow_ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriter;

use super::*;
use crate::batch::{Batch, EventRow};
use crate::checked_file::ChecksumWriter;
use crate::database::Database;
use crate::embedded::{Options, Submission, Warehouse};
use crate::erase::Doomed;
use crate::export::Selection;
use crate::lock::DirectoryLock;
use crate::pin::Pinned;
use crate::run::{Run, RunRecord};

/// The columns that assignments had before.
const N_BEFORE: usize = 7;

fn open(directory: &Path, options: &Options) -> Warehouse {
    let lock = DirectoryLock::acquire(directory).unwrap();
    Warehouse::open(directory, lock, options.clone(), 0).unwrap()
}

/// Returns options that merge two runs of a size immediately.
fn eager() -> Options {
    Options {
        fan_in: 2,
        ..Options::default()
    }
}

fn assigned(user: i64, event_id: i64, user_text: &'static str) -> EventRow<'static> {
    EventRow {
        experiment: "gate",
        user,
        timestamp: 10 * event_id,
        name: "a",
        value: 0,
        event_id,
        context: r#"{"platform":"ios"}"#,
        user_text,
    }
}

fn store(warehouse: &Warehouse, rows: &[EventRow<'_>]) {
    let mut batch = Batch::new(EventKind::Assignment);
    rows.iter().for_each(|row| batch.push(row));
    let (done, outcome) = channel();
    let submission = Submission {
        batch,
        mark: None,
        received_at: 0,
        reply: Box::new(move |stored| done.send(stored.is_ok()).unwrap()),
    };
    warehouse.submit(submission).unwrap();
    assert!(outcome.recv().unwrap());
}

/// Every assignment: its user, its id, its context and the text of its user.
fn texts(snapshot: &Snapshot) -> Vec<(i64, i64, String, String)> {
    let mut rows = Vec::new();
    let each = |row: &EventRow<'_>| -> Result<(), WarehouseError> {
        let (context, user_text) = (row.context.to_owned(), row.user_text.to_owned());
        rows.push((row.user, row.event_id, context, user_text));
        Ok(())
    };
    snapshot
        .each_event(EventKind::Assignment, &Selection::default(), each)
        .unwrap();
    rows
}

/// Replaces the runs by files without the newest column, as earlier versions wrote them.
fn as_before(directory: &Path) {
    let events = directory.join("events");
    let mut database = Database::open(directory).unwrap();
    for record in database.runs().unwrap() {
        let old = events.join(record.kind.plural()).join(&record.file);
        let file = Run::file_name(record.sequences, record.id + 1_000);
        let new = events.join(record.kind.plural()).join(&file);
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&old).unwrap()).unwrap();
        let before: Vec<usize> = (0..N_BEFORE).collect();
        let schema = builder.schema().project(&before).unwrap();
        let out = ChecksumWriter::new(BufWriter::new(File::create(new).unwrap()));
        let mut writer = ArrowWriter::try_new(out, schema.into(), None).unwrap();
        for columns in builder.build().unwrap() {
            let columns = columns.unwrap().project(&before).unwrap();
            writer.write(&columns).unwrap();
        }
        let (_, bytes, checksums) = writer.into_inner().unwrap().finish();
        let replaced = record.id;
        let record = RunRecord {
            file,
            bytes,
            checksums,
            ..record
        };
        database.swap_runs(&[record], &[replaced], None).unwrap();
        std::fs::remove_file(old).unwrap();
    }
}

/// How many columns the payloads of the inbox have.
fn columns_in_inbox(directory: &Path) -> Vec<usize> {
    let database = Database::open(directory).unwrap();
    let mut found = Vec::new();
    let each = |stored: crate::database::StoredPayload| {
        let stream = StreamReader::try_new(stored.payload.as_slice(), None).unwrap();
        found.push(stream.schema().fields().len());
        Ok(())
    };
    database.each_payload(each).unwrap();
    found
}

#[test]
fn runs_and_inboxes_from_before_users_had_texts_are_read_flushed_merged_and_erased() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let warehouse = open(path, &Options::default());
    store(&warehouse, &[assigned(1, 1, ""), assigned(5, 2, "")]);
    warehouse.settle().unwrap();
    store(&warehouse, &[assigned(5, 4, "")]);
    drop(warehouse);
    as_before(path);
    // An entry without texts is as entries were before.
    assert_eq!(columns_in_inbox(path), [N_BEFORE]);

    let warehouse = open(path, &Options::default());
    store(&warehouse, &[assigned(5, 5, "ann"), assigned(9, 6, "bob")]);
    let ios = || r#"{"platform":"ios"}"#.to_owned();
    let expected = vec![
        (1, 1, ios(), String::new()),
        // What is known of a user goes for the events from before, too.
        (5, 2, ios(), "ann".to_owned()),
        (5, 4, ios(), "ann".to_owned()),
        (5, 5, ios(), "ann".to_owned()),
        (9, 6, ios(), "bob".to_owned()),
    ];
    assert_eq!(texts(&warehouse.reading_snapshot()), expected);
    drop(warehouse);
    assert_eq!(columns_in_inbox(path), [N_BEFORE, N_BEFORE + 1]);
    let pinned = Pinned::open(path).unwrap();
    assert_eq!(pinned.verify_inbox().unwrap(), 2);
    assert_eq!(texts(&pinned.snapshot(9).unwrap()), expected);
    drop(pinned);

    let warehouse = open(path, &Options::default());
    warehouse.settle().unwrap();
    assert_eq!(warehouse.usage().n_runs, 2, "one from before, one of now");
    assert_eq!(texts(&warehouse.reading_snapshot()), expected);
    drop(warehouse);
    let warehouse = open(path, &eager());
    warehouse.settle().unwrap();
    assert_eq!(warehouse.usage().n_runs, 1, "merged");
    assert_eq!(texts(&warehouse.reading_snapshot()), expected);
    warehouse.verify().unwrap();

    let doomed = Doomed::User {
        user: 5,
        experiment: None,
    };
    assert_eq!(warehouse.erase(&doomed, u64::MAX).unwrap().events, 3);
    let rest: Vec<_> = expected.into_iter().filter(|row| row.0 != 5).collect();
    assert_eq!(texts(&warehouse.reading_snapshot()), rest);
}

#[test]
fn a_run_from_before_is_erased_from_without_a_merge() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let warehouse = open(path, &Options::default());
    store(&warehouse, &[assigned(1, 1, ""), assigned(5, 2, "")]);
    warehouse.settle().unwrap();
    drop(warehouse);
    as_before(path);
    let warehouse = open(path, &Options::default());
    let doomed = Doomed::User {
        user: 1,
        experiment: None,
    };
    assert_eq!(
        warehouse.erase(&doomed, u64::MAX).unwrap().runs_rewritten,
        1
    );
    let left = texts(&warehouse.reading_snapshot());
    assert_eq!(
        left,
        [(5, 2, r#"{"platform":"ios"}"#.to_owned(), String::new())]
    );
}
