//! Exports of the same events from files and from ClickHouse are the same, to the last byte.
//!
//! Runs where `TRIALOG_TEST_CLICKHOUSE` has the address of a server, with the catalog in
//! PostgreSQL where `TRIALOG_TEST_CATALOG` names one.

#![cfg(feature = "clickhouse")]
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, mpsc};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use trialog_catalog::Catalog;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{Aggregator, Settings};
use trialog_pipeline::clickhouse::Journaled;
use trialog_pipeline::clock::Clock;
use trialog_pipeline::ingest::Destination;
use trialog_pipeline::maintenance::Maintenance;
use trialog_pipeline::maintenance::export::{ExportRequest, Form, Formulas, Table};
use trialog_pipeline::store::Store;
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::embedded::{Options, Submission, Warehouse};
use trialog_warehouse::lock::DirectoryLock;

#[path = "common/clickhouse.rs"]
mod clickhouse;

const NOW: i64 = 1_760_000_000_000_000;
const EXPERIMENTS: [&str; 3] = ["a", "a-b", "c"];
const NAMES: [&str; 3] = ["v0", "=v1", "vé"];
const TEXTS: [&str; 3] = ["", "ann", "bob\n\"b\""];
const CONTEXTS: [&str; 3] = ["", r#"{"platform":"ios"}"#, r#"{"age":7.50}"#];

type Event = (EventKind, EventRow<'static>);

/// Events of few users at few times, so that copies and ties abound.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (
        any::<bool>(),
        (0..3usize, -3..3i64, 0..4i64),
        (0..3usize, 0..3usize, 0..3usize),
        (-2..3i64, 0..6i64),
    );
    let event = event.prop_map(|(is_metric, place, texts, (value, event_id))| {
        let (experiment, user, hour) = place;
        let (name, context, user_text) = texts;
        let row = EventRow {
            experiment: EXPERIMENTS[experiment],
            user,
            timestamp: NOW + hour,
            name: NAMES[name],
            value,
            event_id,
            context: "",
            user_text: "",
        };
        match is_metric {
            true => (EventKind::Metric, row),
            false => (
                EventKind::Assignment,
                EventRow {
                    value: i64::from(value == 2),
                    context: CONTEXTS[context],
                    user_text: TEXTS[user_text],
                    ..row
                },
            ),
        }
    });
    prop::collection::vec(event, 1..120)
}

/// Takes in `events`, and gives what exports them.
fn stored(catalog: Arc<Catalog>, store: Store, events: &[Event]) -> Maintenance {
    for events in events.chunks(50) {
        let (done, outcomes) = mpsc::channel();
        for kind in EventKind::ALL {
            let mut batch = Batch::new(kind);
            (events.iter().filter(|event| event.0 == kind)).for_each(|event| batch.push(&event.1));
            let done = done.clone();
            let submission = Submission {
                batch,
                mark: None,
                received_at: NOW,
                reply: Box::new(move |outcome| done.send(outcome).unwrap()),
            };
            assert!(Destination::from(&store).submit(submission).is_ok());
        }
        drop(done);
        outcomes.iter().for_each(|outcome| outcome.unwrap());
    }
    let settings = Settings::default();
    let aggregator = Aggregator::new(Arc::clone(&catalog), store.clone(), clock(), settings);
    Maintenance::new(catalog, store, Arc::new(aggregator), clock())
}

fn clock() -> Clock {
    Arc::new(|| UnixMicros(NOW))
}

fn in_files(directory: &Path, events: &[Event]) -> Maintenance {
    let catalog = Arc::new(trialog_catalog::testing::open(directory).unwrap());
    let lock = DirectoryLock::acquire(directory).unwrap();
    let options = Options {
        flush_bytes: 2_000,
        ..Options::default()
    };
    let warehouse = Arc::new(Warehouse::open(directory, lock, options, 0).unwrap());
    stored(catalog, warehouse.into(), events)
}

fn in_clickhouse(directory: &Path, events: &[Event]) -> Option<Maintenance> {
    let server = clickhouse::database()?;
    let catalog = Arc::new(trialog_catalog::testing::open(directory).unwrap());
    let journaled = Journaled::new(server, Arc::clone(&catalog), clock());
    Some(stored(catalog, Store::ClickHouse(journaled), events))
}

fn bytes(maintenance: &Maintenance, request: &ExportRequest) -> (u64, Vec<u8>) {
    let mut bytes = Vec::new();
    let export = maintenance.export(request.clone()).unwrap();
    let n_rows = export.write(&mut bytes).unwrap();
    (n_rows, bytes)
}

fn requests() -> Vec<ExportRequest> {
    let csv = Form::Csv(Formulas::Escaped);
    let mut requests = Vec::new();
    for kind in EventKind::ALL {
        for form in [csv, Form::Parquet] {
            requests.push(ExportRequest {
                table: Table::Events(kind),
                form,
                experiments: Vec::new(),
                within: None..None,
            });
        }
        requests.push(ExportRequest {
            table: Table::Events(kind),
            form: csv,
            experiments: vec![ExperimentId::new("a-b").unwrap()],
            within: Some(NOW + 1)..Some(NOW + 3),
        });
    }
    requests
}

#[test]
fn an_export_from_clickhouse_has_the_bytes_of_one_from_files() {
    let directory = tempfile::tempdir().unwrap();
    if in_clickhouse(directory.path(), &[]).is_none() {
        let said =
            b"not run: TRIALOG_TEST_CLICKHOUSE is not set; scripts/services start prints it\n";
        std::io::stderr().write_all(said).unwrap();
        return;
    }
    let config = Config {
        cases: 12,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&events(), |mut events| {
        // Each experiment has events, so that none of those asked for is unknown.
        let (kind, row) = events[0];
        events.extend(EXPERIMENTS.map(|experiment| (kind, EventRow { experiment, ..row })));
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let files = in_files(directories[0].path(), &events);
        let server = in_clickhouse(directories[1].path(), &events).unwrap();
        for request in requests() {
            prop_assert!(
                bytes(&server, &request) == bytes(&files, &request),
                "{request:?}"
            );
        }
        let unknown = ExportRequest {
            experiments: vec![ExperimentId::new("nobody").unwrap()],
            ..requests().remove(0)
        };
        let error = server.export(unknown).err().unwrap().to_string();
        prop_assert!(error.contains("nobody"), "{error}");
        Ok(())
    });
    outcome.unwrap();
}
