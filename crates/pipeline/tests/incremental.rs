//! Incremental equals full, exactly, and neither depends on the order of arrival.
//!
//! Random streams go through a real catalog and a real warehouse in several
//! rounds with runs in between, definitions that change and times that pass.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use proptest::prelude::*;
use trialog_catalog::Catalog;
use trialog_catalog::audit::{Actor, Edit};
use trialog_model::event::EventKind;
use trialog_model::experiment::Definition;
use trialog_model::ids::ExperimentId;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{Aggregator, Scope, Settings};
#[cfg(feature = "clickhouse")]
use trialog_pipeline::clickhouse::Journaled;
#[cfg(feature = "clickhouse")]
use trialog_pipeline::clock::Clock;
use trialog_pipeline::ingest::Destination;
use trialog_pipeline::store::Store;
use trialog_pipeline::{Limits, PipelineError};
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::embedded::{Options, Submission, Warehouse};
use trialog_warehouse::fold::UserFilter;
use trialog_warehouse::lock::DirectoryLock;

#[cfg(feature = "clickhouse")]
#[path = "common/clickhouse.rs"]
mod clickhouse;

/// Where the clock starts, unless a database server has its own.
const START: i64 = 1_760_000_000_000_000;
const HOUR: i64 = 3_600_000_000;
const EXPERIMENTS: [&str; 3] = ["a", "b", "c"];
const NAMES: [&str; 3] = ["v0", "v1", "v2"];

#[derive(Debug, Clone)]
struct Event {
    is_assignment: bool,
    experiment: usize,
    user: i64,
    /// Hours from the start; a few lie ahead of it.
    hour: i64,
    name: usize,
    value: i64,
    event_id: i64,
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<Event>),
    Run,
    Wait(i64),
    Define {
        experiment: usize,
        window_hours: i64,
        start_hour: Option<i64>,
    },
}

fn event() -> impl Strategy<Value = Event> {
    (
        any::<bool>(),
        0..3usize,
        0..12i64,
        -60..12i64,
        0..3usize,
        -3..5i64,
        0..90i64,
    )
        .prop_map(
            |(is_assignment, experiment, user, hour, name, value, event_id)| Event {
                is_assignment,
                experiment,
                user,
                hour,
                name,
                value: if is_assignment {
                    i64::from(value == 4)
                } else {
                    value * 10_000
                },
                event_id,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let define = (0..3usize, 1..80i64, prop::option::of(-60..0i64));
    prop_oneof![
        4 => prop::collection::vec(event(), 1..40).prop_map(Step::Send),
        3 => Just(Step::Run),
        1 => (1..8i64).prop_map(Step::Wait),
        1 => define.prop_map(|(experiment, window_hours, start_hour)| Step::Define { experiment, window_hours, start_hour }),
    ]
}

struct System {
    catalog: Arc<Catalog>,
    store: Store,
    aggregator: Aggregator,
    start: i64,
    now: Arc<AtomicI64>,
}

/// When the tests of this process start. Runs compare the clock with that of a server that the
/// catalog is on, so there it is the server's time.
fn start(catalog: &Catalog) -> i64 {
    static OF_SERVER: OnceLock<i64> = OnceLock::new();
    match catalog.is_shared() {
        true => *OF_SERVER.get_or_init(|| catalog.storage_time().unwrap().0),
        false => START,
    }
}

/// Files in `directory`.
fn embedded(directory: &Path, catalog: &Catalog) -> Arc<Warehouse> {
    let published = catalog.high_water_mark().unwrap().position;
    let lock = DirectoryLock::acquire(directory).unwrap();
    let options = Options {
        flush_bytes: 2_000,
        fan_in: 2,
        ..Options::default()
    };
    Arc::new(Warehouse::open(directory, lock, options, published).unwrap())
}

impl System {
    /// In ClickHouse where `TRIALOG_TEST_CLICKHOUSE` names a server, else in files; the
    /// catalog in PostgreSQL where `TRIALOG_TEST_CATALOG` names one.
    fn open(directory: &Path) -> Self {
        let catalog = Arc::new(trialog_catalog::testing::open(directory).unwrap());
        #[cfg(feature = "clickhouse")]
        if let Some(server) = clickhouse::database() {
            let start = start(&catalog);
            let clock: Clock = Arc::new(move || UnixMicros(start));
            let journaled = Journaled::new(server, Arc::clone(&catalog), clock);
            return Self::with(catalog, Store::ClickHouse(journaled));
        }
        let warehouse = embedded(directory, &catalog);
        Self::with(catalog, warehouse.into())
    }

    fn with(catalog: Arc<Catalog>, store: Store) -> Self {
        let start = start(&catalog);
        let now = Arc::new(AtomicI64::new(start));
        let reading = Arc::clone(&now);
        // Every reading is later than the one before, so that no two runs share a time.
        let clock = Arc::new(move || UnixMicros(reading.fetch_add(1, Ordering::Relaxed)));
        let limits = Limits {
            undeclared_event_types: 2,
            ..Limits::default()
        };
        let settings = Settings {
            n_threads: 2,
            limits,
            ..Settings::default()
        };
        let aggregator = Aggregator::new(Arc::clone(&catalog), store.clone(), clock, settings);
        Self {
            catalog,
            store,
            aggregator,
            start,
            now,
        }
    }

    fn send(&self, events: &[Event]) {
        let (done, outcome) = mpsc::channel();
        for kind in EventKind::ALL {
            let mut batch = Batch::new(kind);
            for event in events
                .iter()
                .filter(|event| event.is_assignment == (kind == EventKind::Assignment))
            {
                batch.push(&row(event, self.start));
            }
            let done = done.clone();
            let reply = Box::new(move |outcome| done.send(outcome).unwrap());
            assert!(
                Destination::from(&self.store)
                    .submit(Submission {
                        batch,
                        mark: None,
                        received_at: self.start,
                        reply
                    })
                    .is_ok()
            );
        }
        drop(done);
        outcome.iter().for_each(|outcome| outcome.unwrap());
    }

    /// Moves the clock ahead, by less than a day in all: a server would refuse it beyond that.
    fn wait(&self, micros: i64) {
        let latest = self.start + 23 * HOUR;
        let later = |now: i64| (now + micros <= latest).then_some(now + micros);
        // Where it stays, there was waiting enough.
        let _ = (self.now).fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    fn step(&self, step: &Step) -> Result<(), PipelineError> {
        match step {
            Step::Send(events) => self.send(events),
            Step::Run => drop(self.aggregator.run("test", 1, Scope::Touched)?),
            Step::Wait(hours) => self.wait(hours * HOUR),
            Step::Define {
                experiment,
                window_hours,
                start_hour,
            } => {
                let definition = definition(
                    EXPERIMENTS[*experiment],
                    *window_hours,
                    start_hour.map(|hour| self.start + hour * HOUR),
                );
                let edit = Edit::new(Actor::local(), UnixMicros(self.start));
                if self.catalog.create_experiment(&definition, &edit).is_err() {
                    let change = |_: &_| Ok::<_, PipelineError>(definition.clone());
                    self.catalog
                        .change::<trialog_catalog::experiments::Experiment, _>(
                            &definition.experiment_id,
                            &edit,
                            change,
                        )?;
                }
            }
        }
        Ok(())
    }

    fn published(&self) -> Vec<Option<Computation>> {
        let latest = |id| {
            self.catalog
                .published(&ExperimentId::new(id).unwrap(), None)
                .unwrap()
        };
        EXPERIMENTS
            .into_iter()
            .map(|id| latest(id).map(|published| published.computation))
            .collect()
    }
}

fn definition(id: &str, window_hours: i64, start_at: Option<i64>) -> Definition {
    let start = start_at.map_or("null".to_owned(), |time| {
        format!("\"{}\"", UnixMicros(time))
    });
    let text = format!(
        r#"{{"experiment_id":"{id}","variants":[{{"variant":"v0"}},{{"variant":"v1"}}],
        "attribution_window":"{window_hours}h","start_at":{start},"metrics":{{"primary":["v2"]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn row(event: &Event, start: i64) -> EventRow<'_> {
    EventRow {
        experiment: EXPERIMENTS[event.experiment],
        user: event.user,
        timestamp: start + event.hour * HOUR,
        name: NAMES[event.name],
        value: event.value,
        event_id: event.event_id,
        context: "",
        user_text: "",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_full_in_any_order_of_arrival(
        steps in prop::collection::vec(step(), 1..14),
        seed in any::<u64>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let system = System::open(directory.path());
        for step in &steps {
            system.step(step).unwrap();
        }
        system.aggregator.run("test", 1, Scope::Touched).unwrap();
        let incremental = system.published();
        system.aggregator.run("test", 1, Scope::Full).unwrap();
        prop_assert_eq!(&incremental, &system.published(), "incremental and full differ");

        // A drill-down that leaves nobody out adds up to the scorecard.
        for (id, published) in EXPERIMENTS.iter().zip(&incremental) {
            let everybody = UserFilter { exposed: Some(i64::MIN)..None, ..UserFilter::default() };
            if let Some(published) = published {
                let id = ExperimentId::new(id).unwrap();
                // With a filter nothing tells how events arrived.
                let scorecard = Computation { arrivals: Vec::new(), ..published.clone() };
                prop_assert_eq!(system.aggregator.query(&id, &everybody, &std::sync::Arc::default()).unwrap().0, scorecard);
            }
        }

        // The same events in another order, in one go, under the last definitions.
        let other = tempfile::tempdir().unwrap();
        let shuffled = System::open(other.path());
        let mut events = Vec::new();
        for step in &steps {
            match step {
                Step::Send(sent) => events.extend(sent.clone()),
                Step::Run => {}
                other => shuffled.step(other).unwrap(),
            }
        }
        fastrand::Rng::with_seed(seed).shuffle(&mut events);
        shuffled.send(&events);
        shuffled.aggregator.run("test", 1, Scope::Touched).unwrap();
        prop_assert_eq!(&incremental, &shuffled.published(), "the order of arrival matters");
    }
}

/// Each takes a second where the events are in ClickHouse.
fn cases() -> u32 {
    if std::env::var_os("TRIALOG_TEST_CLICKHOUSE").is_some() {
        10
    } else {
        48
    }
}

fn of_user_1(experiment: usize, is_assignment: bool, value: i64, event_id: i64) -> Event {
    Event {
        is_assignment,
        experiment,
        user: 1,
        hour: if is_assignment { -6 } else { -5 },
        name: 0,
        value,
        event_id,
    }
}

#[test]
fn a_failed_run_publishes_nothing_and_is_in_the_history() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Arc::new(Catalog::open(directory.path()).unwrap());
    let warehouse = embedded(directory.path(), &catalog);
    let system = System::with(catalog, Arc::clone(&warehouse).into());
    system.send(&[of_user_1(0, true, 0, 1), of_user_1(0, false, 1, 2)]);
    warehouse.settle().unwrap();
    let run = std::fs::read_dir(directory.path().join("events/metrics"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&run).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&run, bytes).unwrap();
    let error = system
        .aggregator
        .run("test", 1, Scope::Touched)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&run.display().to_string()) && error.contains("is damaged"),
        "{error}"
    );
    assert_eq!(system.published(), [None, None, None]);
    let runs = system.catalog.runs(5).unwrap();
    assert_eq!(
        (runs.len(), runs[0].error.as_deref()),
        (1, Some(error.as_str()))
    );
    assert_eq!(system.catalog.high_water_mark().unwrap().position, 0);
}

#[test]
fn one_experiments_overflow_is_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    system.send(&[
        of_user_1(0, true, 0, 1),
        of_user_1(1, true, 0, 1),
        of_user_1(1, false, 10_000, 2),
    ]);
    // Each value is in range; the square of their sum is not.
    let large: Vec<Event> = (0..200)
        .map(|id| of_user_1(0, false, 999_999_999_999_999_999, id))
        .collect();
    system.send(&large);
    let report = system.aggregator.run("test", 1, Scope::Touched).unwrap();
    assert_eq!(report.failed.len(), 1);
    assert!(
        report.failed[0]
            .1
            .contains("the sum of `v0` in experiment `a`"),
        "{:?}",
        report.failed
    );
    let published = system.published();
    assert!(published[0].is_none() && published[1].is_some());
    let again = system.aggregator.run("test", 1, Scope::Touched).unwrap();
    assert_eq!(again.failed.len(), 1, "it stays touched");
}
