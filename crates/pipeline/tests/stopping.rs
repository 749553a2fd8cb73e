//! A process that is told to stop in the middle of a run publishes nothing of
//! it, and the next process covers its events.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use trialog_catalog::Catalog;
use trialog_catalog::runs::RunStatus;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_model::wire::Layout;
use trialog_pipeline::PipelineError;
use trialog_pipeline::aggregation::{Aggregator, Scope, Settings};
use trialog_pipeline::ingest::{Ingest, IngestSettings};
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::lock::DirectoryLock;

const NOW: i64 = 1_760_000_000_000_000;
const EVENT: &str =
    r#"{"user_id": 1, "experiment_id": "gate", "variant": "a", "assigned_at": 1759990000000}"#;

struct System {
    catalog: Arc<Catalog>,
    warehouse: Arc<Warehouse>,
    aggregator: Arc<Aggregator>,
}

impl System {
    /// Stops its own aggregator when the clock is read the `stop_at`th time.
    fn open(directory: &Path, stop_at: i64) -> Self {
        let catalog = Arc::new(Catalog::open(directory).unwrap());
        let lock = DirectoryLock::acquire(directory).unwrap();
        let published = catalog.high_water_mark().unwrap().position;
        let options = Options::default();
        let warehouse = Arc::new(Warehouse::open(directory, lock, options, published).unwrap());
        let (readings, stopped) = (
            AtomicI64::new(0),
            Arc::new(OnceLock::<Arc<Aggregator>>::new()),
        );
        let known = Arc::clone(&stopped);
        let clock = Arc::new(move || {
            let reading = readings.fetch_add(1, Ordering::Relaxed);
            if reading == stop_at {
                known.get().unwrap().stop();
            }
            UnixMicros(NOW + reading)
        });
        let aggregator = Arc::new(Aggregator::new(
            Arc::clone(&catalog),
            Arc::clone(&warehouse),
            clock,
            Settings::default(),
        ));
        assert!(stopped.set(Arc::clone(&aggregator)).is_ok());
        Self {
            catalog,
            warehouse,
            aggregator,
        }
    }

    fn send(&self, body: &str) {
        let ingest = Ingest::new(
            Arc::clone(&self.warehouse),
            UnixMicros(NOW),
            IngestSettings::default(),
        );
        let now = UnixMicros(NOW);
        let kind = EventKind::Assignment;
        let judged = ingest.judge(kind, body.as_bytes(), Layout::Detect, None, now);
        let (done, outcome) = mpsc::channel();
        let reply = Box::new(move |outcome: Result<(), _>| done.send(outcome.is_ok()).unwrap());
        assert!(ingest.submit(judged.unwrap(), now, reply).is_ok());
        assert!(outcome.recv().unwrap());
    }
}

#[test]
fn a_run_that_is_told_to_stop_publishes_nothing_and_the_next_one_covers_its_events() {
    let directory = tempfile::tempdir().unwrap();
    let gate = ExperimentId::new("gate").unwrap();
    // Read at 0 when the aggregator is made, at 1 when the run starts, at 2
    // when the touched experiments are known: the fold is what gets stopped.
    let stopped = System::open(directory.path(), 2);
    stopped.send(EVENT);
    let outcome = stopped.aggregator.run("test", 1, Scope::Touched);
    assert!(
        matches!(outcome, Err(PipelineError::Stopping)),
        "{outcome:?}"
    );
    let [run] = stopped.catalog.runs(9).unwrap().try_into().unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.error.unwrap().contains("shutting down"));
    assert_eq!(stopped.catalog.published(&gate, None).unwrap(), None);
    let again = stopped.aggregator.run("test", 1, Scope::Touched);
    assert!(
        matches!(again, Err(PipelineError::Stopping)),
        "none begins any more"
    );
    assert_eq!(stopped.catalog.runs(9).unwrap().len(), 1);
    stopped.warehouse.close();
    drop(stopped);

    let next = System::open(directory.path(), i64::MAX);
    next.aggregator.run("test", 1, Scope::Touched).unwrap();
    let published = next.catalog.published(&gate, None).unwrap().unwrap();
    assert_eq!(published.computation.exposures[0].user_count, 1);
}
