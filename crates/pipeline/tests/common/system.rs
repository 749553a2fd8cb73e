//! A catalog and a warehouse with events whose number is their position.

#![expect(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};

use trialog_catalog::Catalog;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{Aggregator, Scope, Settings};
use trialog_pipeline::maintenance::Maintenance;
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::embedded::{Options, Submission, Warehouse};
use trialog_warehouse::lock::DirectoryLock;

pub(crate) const NOW: i64 = 1_760_000_000_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const EXPERIMENTS: [&str; 3] = ["a", "b", "c"];

/// No two readings are the same, not even of two systems.
static CLOCK: AtomicI64 = AtomicI64::new(NOW);

pub(crate) struct System {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) warehouse: Arc<Warehouse>,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) maintenance: Maintenance,
    /// How far this system's clock was put forward.
    passed: Arc<AtomicI64>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        n_threads: 2,
        ..Settings::default()
    }
}

impl System {
    pub(crate) fn open(directory: &Path) -> Self {
        Self::with_flush_bytes(directory, 6_000)
    }

    pub(crate) fn with_flush_bytes(directory: &Path, flush_bytes: usize) -> Self {
        Self::with(directory, flush_bytes, settings())
    }

    pub(crate) fn with_settings(directory: &Path, settings: Settings) -> Self {
        Self::with(directory, 6_000, settings)
    }

    fn with(directory: &Path, flush_bytes: usize, settings: Settings) -> Self {
        let lock = DirectoryLock::acquire(directory).unwrap();
        let catalog = Arc::new(Catalog::open(directory).unwrap());
        let published = catalog.high_water_mark().unwrap().position;
        let options = Options {
            flush_bytes,
            fan_in: 2,
            ..Options::default()
        };
        let warehouse = Arc::new(Warehouse::open(directory, lock, options, published).unwrap());
        let passed = Arc::new(AtomicI64::new(0));
        let read_passed = Arc::clone(&passed);
        let clock: trialog_pipeline::clock::Clock = Arc::new(move || {
            let reading = CLOCK.fetch_add(1, Ordering::Relaxed);
            UnixMicros(reading + read_passed.load(Ordering::Relaxed))
        });
        let aggregator = Arc::new(Aggregator::new(
            Arc::clone(&catalog),
            Arc::clone(&warehouse),
            Arc::clone(&clock),
            settings,
        ));
        let maintenance = Maintenance::new(
            Arc::clone(&catalog),
            Arc::clone(&warehouse),
            Arc::clone(&aggregator),
            clock,
        );
        Self {
            catalog,
            warehouse,
            aggregator,
            maintenance,
            passed,
        }
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, micros: i64) {
        self.passed.fetch_add(micros, Ordering::Relaxed);
    }

    /// Makes `rows` durable as one position.
    pub(crate) fn send(&self, rows: &[Row]) {
        for kind in EventKind::ALL {
            let mut batch = Batch::new(kind);
            rows.iter()
                .filter(|row| row.kind == kind)
                .for_each(|row| batch.push(&row.event()));
            if batch.is_empty() {
                continue;
            }
            let (done, outcome) = mpsc::channel();
            let submission = Submission {
                batch,
                mark: None,
                received_at: NOW,
                reply: Box::new(move |stored| done.send(stored.is_ok()).unwrap()),
            };
            self.warehouse.submit(submission).ok().unwrap();
            assert!(outcome.recv().unwrap());
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) kind: EventKind,
    pub(crate) experiment: &'static str,
    pub(crate) user: i64,
    pub(crate) hour: i64,
    pub(crate) name: &'static str,
    pub(crate) value: i64,
    pub(crate) event_id: i64,
    pub(crate) context: &'static str,
    pub(crate) user_text: &'static str,
}

impl Row {
    fn event(&self) -> EventRow<'_> {
        EventRow {
            experiment: self.experiment,
            user: self.user,
            timestamp: NOW + self.hour * HOUR,
            name: self.name,
            value: self.value,
            event_id: self.event_id,
            context: self.context,
            user_text: self.user_text,
        }
    }
}

/// The events of position `round + 1`: one kind each, a few of them copies.
pub(crate) fn events(round: i64) -> Vec<Row> {
    let kind = EventKind::ALL[(round % 2) as usize];
    (0..20)
        .map(|n| {
            let user = (round / 2 * 7 + n) % 90;
            Row {
                kind,
                experiment: EXPERIMENTS[(n % 3) as usize],
                user,
                hour: -400 + (round * 13 + n * 5) % 390,
                name: match kind {
                    EventKind::Assignment => ["x", "y"][(user % 2) as usize],
                    EventKind::Metric => ["buy", "visit"][(n % 2) as usize],
                },
                value: match kind {
                    EventKind::Assignment => 0,
                    EventKind::Metric => n * 10_000 + round,
                },
                event_id: (round * 20 + n) % 700,
                context: match kind {
                    EventKind::Assignment => r#"{"platform":"web"}"#,
                    EventKind::Metric => "",
                },
                user_text: "",
            }
        })
        .collect()
}

/// The results of everything that `system` has, computed anew.
pub(crate) fn results_of(system: &System) -> Vec<Option<Computation>> {
    system.aggregator.run("request", 1, Scope::Full).unwrap();
    EXPERIMENTS
        .iter()
        .map(|id| {
            let id = ExperimentId::new(*id).unwrap();
            let published = system.catalog.published(&id, None).unwrap();
            published.map(|published| published.computation)
        })
        .collect()
}

/// All files below `directory`, in order.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// The results of the first `position` positions in a system of their own.
pub(crate) fn restored(position: u64) -> Vec<Option<Computation>> {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    (0..position.cast_signed()).for_each(|round| system.send(&events(round)));
    results_of(&system)
}
