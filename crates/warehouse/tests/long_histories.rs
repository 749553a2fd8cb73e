//! Few users with very many events, and experiments that threads share: what
//! spills to disk, spans row groups and is cut by users gives the same sums.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/reference.rs"]
mod reference;

use std::collections::HashMap;

use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_warehouse::analysis::scorecard::{MetricPlan, MetricSums, Scorecard, Shape};
use trialog_warehouse::batch::EventRow;
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::fold::split::Split;
use trialog_warehouse::fold::{Names, Plan, UserFilter, fold};
use trialog_warehouse::snapshot::Snapshot;

use harness::{Event, assigned, bought, open, store, try_store};
use reference::{MetricQuestion, Question, answer};

/// Purchases without end by users of variant `a`, in any segment or in one.
fn purchases(snapshot: &Snapshot, n_threads: usize, event_type: &str) -> (u64, MetricSums) {
    let plan = Plan {
        experiment: ExperimentId::new("gate").unwrap(),
        within: None..None,
        variants: Names::new(["a".to_owned()]),
        event_types: Names::new([event_type.to_owned()]),
        data_time: i64::MAX,
        filter: UserFilter::default(),
        // So large that it is cut at every row group.
        left_out: None,
        exposures: None,
        split: Split::Whole,
        n_rows: 1 << 32,
    };
    let metric = MetricPlan {
        name: event_type.to_owned(),
        event_type: 0,
        window: Window::UNBOUNDED,
        delay: 0,
        min_value: None,
        shape: Shape::Plain,
    };
    let outcomes = fold(snapshot, &[plan], n_threads, |plan| {
        Scorecard::new(plan, vec![metric.clone()])
    })
    .unwrap();
    let folded = outcomes[0].as_ref().unwrap();
    (folded.users[0], *folded.accumulator.sums(0, 0))
}

fn warehouse() -> (tempfile::TempDir, Warehouse) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        flush_bytes: 16 << 20,
        fan_in: 2,
        ..Options::default()
    };
    let warehouse = open(directory.path(), &options, 0).unwrap();
    (directory, warehouse)
}

#[test]
fn a_user_with_more_events_than_memory_holds_has_the_right_sums() {
    const N_EVENTS: i64 = 1_200_000;
    let (_directory, warehouse) = warehouse();
    store(
        &warehouse,
        &[1, 2, 3].map(|user| assigned("gate", user, 100, "a", user)),
    );
    store(
        &warehouse,
        &[bought("gate", 1, 200, 7, 1), bought("gate", 3, 200, -7, 1)],
    );
    let mut rng = fastrand::Rng::with_seed(7);
    let mut least: HashMap<i64, (i64, i64)> = HashMap::new();
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..N_EVENTS {
        // About a third are copies; some copies lie before the exposure.
        let event = (rng.i64(90..1_000_000), rng.i64(-9..10));
        let event_id = rng
            .i64(0..N_EVENTS)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed());
        least
            .entry(event_id)
            .and_modify(|least| *least = event.min(*least))
            .or_insert(event);
        events.push(bought("gate", 2, event.0, event.1, event_id));
        if events.len() == 100_000 {
            store(&warehouse, &events);
            events.clear();
        }
    }
    let counted = least.values().filter(|event| event.0 >= 100);
    let (n_events, total) = counted.fold((0u64, 0i128), |(n, total), event| {
        (n + 1, total + i128::from(event.1))
    });
    let expected = MetricSums {
        converted_users: 3,
        events: n_events + 2,
        squared_events: u128::from(n_events) * u128::from(n_events) + 2,
        total,
        squared_total: total * total + 2 * 49,
        ..MetricSums::default()
    };
    assert_eq!(purchases(&warehouse.snapshot(), 2, "buy"), (3, expected));
    warehouse.settle().unwrap();
    for n_threads in [1, 2] {
        assert_eq!(
            purchases(&warehouse.snapshot(), n_threads, "buy"),
            (3, expected),
            "{n_threads} threads"
        );
    }
}

#[test]
fn an_experiment_cut_by_users_has_the_same_sums_as_a_whole_one() {
    let (_directory, warehouse) = warehouse();
    let mut rng = fastrand::Rng::with_seed(11);
    let users: Vec<i64> = (0..3_000)
        .map(|_| rng.i64(..))
        .chain([i64::MIN, i64::MAX])
        .collect();
    let mut events: Vec<Event> = users
        .iter()
        .map(|user| assigned("gate", *user, 1_000, "a", *user))
        .collect();
    for _ in 0..500_000 {
        let user = users[rng.usize(..users.len())];
        events.push(bought(
            "gate",
            user,
            rng.i64(900..100_000),
            rng.i64(-999..1_000),
            rng.i64(0..400),
        ));
    }
    rng.shuffle(&mut events);
    events
        .chunks(100_000)
        .for_each(|events| store(&warehouse, events));
    let question = Question {
        experiment: "gate",
        start_at: None,
        end_at: None,
        variants: vec!["a"],
        metrics: vec![MetricQuestion::every("buy")],
        data_time: i64::MAX,
        exposed_from: None,
        exposed_to: None,
        segment: vec![],
        left_out: None,
    };
    let expected = answer(&question, &events).map(|answer| (answer.users[0], answer.sums[0][0]));
    assert_eq!(Some(purchases(&warehouse.snapshot(), 3, "buy")), expected);
    warehouse.settle().unwrap();
    for n_threads in 1..=3 {
        let found = purchases(&warehouse.snapshot(), n_threads, "buy");
        assert_eq!(Some(found), expected, "{n_threads} threads");
    }
}

#[test]
fn a_run_with_more_names_than_a_dictionary_page_holds_reads_back() {
    let (_directory, warehouse) = warehouse();
    // 50,000 names of 60 bytes are three times what a dictionary page takes.
    let names: Vec<String> = (0..50_000).map(|name| format!("{name:060}")).collect();
    let mut batch = trialog_warehouse::batch::Batch::new(EventKind::Metric);
    for (at, name) in names.iter().enumerate() {
        let (user, value) = (at as i64 % 10, at as i64);
        batch.push(&EventRow {
            experiment: "gate",
            user,
            timestamp: 5,
            name,
            value,
            event_id: value,
            context: "",
            user_text: "",
        });
    }
    let (done, outcome) = std::sync::mpsc::channel();
    let reply = Box::new(move |stored| done.send(stored).expect("the test waits"));
    let submission = trialog_warehouse::embedded::Submission {
        batch,
        mark: None,
        received_at: 0,
        reply,
    };
    warehouse.submit(submission).unwrap();
    outcome.recv().unwrap().unwrap();
    let assignments: Vec<Event> = (0..10)
        .map(|user| assigned("gate", user, 1, "a", user))
        .collect();
    try_store(&warehouse, &assignments, None).unwrap();
    warehouse.settle().unwrap();
    for at in [0, 1, 25_000, 49_999] {
        let value = at as i128;
        let expected = MetricSums {
            converted_users: 1,
            events: 1,
            squared_events: 1,
            total: value,
            squared_total: value * value,
            ..MetricSums::default()
        };
        assert_eq!(
            purchases(&warehouse.snapshot(), 1, &names[at]),
            (10, expected),
            "{}",
            names[at]
        );
    }
}
