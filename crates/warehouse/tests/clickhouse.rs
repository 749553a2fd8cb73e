//! ClickHouse against the embedded warehouse and the plain reference: on the same
//! random streams the same numbers, to the last digit.
//!
//! Runs where `TRIALOG_TEST_CLICKHOUSE` has the address of a server, as
//! `scripts/services start` prints it; otherwise it says that it did not.
#![cfg(feature = "clickhouse")]
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the variables are the tests' own"
)]

#[path = "common/harness.rs"]
mod harness;
#[path = "common/questions.rs"]
mod questions;
#[path = "common/reference.rs"]
mod reference;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_stats::RankSearch;
use trialog_warehouse::analysis::arrivals::TypeArrivals;
use trialog_warehouse::analysis::ranks::{ClippedSums, Pass, RankedPlan, Ranks, Users};
use trialog_warehouse::analysis::scorecard::{MetricPlan, Quantity, Scorecard, Shape};
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::clickhouse::{Address, ClickHouse, View};
use trialog_warehouse::embedded::Options;
use trialog_warehouse::fold::split::{CellValues, KeyCells, Split};
use trialog_warehouse::fold::{Folded, Plan, fold};

use harness::{Event, assigned, bought, open, store};
use questions::{
    EXPERIMENTS, LARGEST, START, Work, events, everything, expected, plans, questions, scorecard,
};

/// Numbers the databases of this process.
static N_DATABASES: AtomicU64 = AtomicU64::new(0);

/// An empty database; none where there is no server to ask.
fn database() -> Option<ClickHouse> {
    address().map(|address| ClickHouse::connect(address).unwrap())
}

/// The address of a database without tables; none where there is no server to ask.
fn address() -> Option<Address> {
    let Ok(url) = std::env::var("TRIALOG_TEST_CLICKHOUSE") else {
        // Past what the test harness captures, so that it is seen.
        let said =
            b"not run: TRIALOG_TEST_CLICKHOUSE is not set; scripts/services start prints it\n";
        std::io::stderr().write_all(said).unwrap();
        return None;
    };
    let number = N_DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    let address: Address = url.parse().unwrap();
    let create = format!("CREATE DATABASE {name}");
    ClickHouse::connect(address)
        .unwrap()
        .execute_in_tests(&create);
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}").parse().unwrap())
}

/// Inserts events, `n_at_once` in a batch of each kind, and gives the last number.
fn insert(clickhouse: &ClickHouse, events: &[Event], n_at_once: usize) -> u64 {
    let mut number = 0;
    for events in events.chunks(n_at_once) {
        for kind in EventKind::ALL {
            let mut batch = Batch::new(kind);
            (events.iter().filter(|event| event.0 == kind)).for_each(|(_, row)| batch.push(row));
            if !batch.is_empty() {
                number += 1;
                clickhouse.insert(&batch, number).unwrap();
            }
        }
    }
    number
}

/// Everything that a scorecard says.
#[derive(Debug, PartialEq)]
struct Said {
    users: Vec<u64>,
    crossovers: Vec<u64>,
    forced: Vec<u64>,
    unknown_variant: Vec<u64>,
    not_aggregated: Vec<u64>,
    next_user_at: Option<i64>,
    sums: Vec<String>,
    arrivals: Vec<TypeArrivals>,
}

fn said(folded: &Folded<Scorecard>) -> Said {
    let scorecard = &folded.accumulator;
    let n_metrics = scorecard.metrics().len();
    let sums = (0..folded.users.len())
        .flat_map(|variant| (0..n_metrics).map(move |metric| (variant, metric)));
    Said {
        users: folded.users.clone(),
        crossovers: folded.crossovers.clone(),
        forced: folded.forced.clone(),
        unknown_variant: folded.unknown_variant.clone(),
        not_aggregated: scorecard.not_aggregated.clone(),
        next_user_at: scorecard.next_user_at,
        sums: sums
            .map(|(variant, metric)| format!("{:?}", scorecard.sums(variant, metric)))
            .collect(),
        arrivals: scorecard.arrivals().to_vec(),
    }
}

fn in_clickhouse(view: &View, plans: &[Plan], metrics: &[Vec<MetricPlan>]) -> Vec<Option<Said>> {
    let outcomes = view.scorecards(plans, metrics).unwrap();
    outcomes
        .iter()
        .map(|outcome| outcome.as_ref().ok().map(said))
        .collect()
}

fn embedded(events: &[Event], plans: &[Plan], metrics: &[Vec<MetricPlan>]) -> Vec<Option<Said>> {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &Options::default(), 0).unwrap();
    store(&warehouse, events);
    let outcomes = fold(&warehouse.snapshot(), plans, 1, |plan| {
        let at = plans
            .iter()
            .position(|own| own.experiment == plan.experiment)
            .unwrap();
        Scorecard::new(plan, metrics[at].clone())
    });
    outcomes
        .unwrap()
        .iter()
        .map(|outcome| outcome.as_ref().ok().map(said))
        .collect()
}

/// Checks that both warehouses find the same values of keys and the same scorecards by them.
fn check_cells(
    view: &View,
    events: &[Event],
    plans: &[Plan],
    metrics: &[Vec<MetricPlan>],
) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &Options::default(), 0).unwrap();
    store(&warehouse, events);
    let embedded_view = trialog_warehouse::view::View::from(warehouse.snapshot());
    // A statement takes a while, so one plan and one list of keys is asked for each stream.
    let (Some(plan), Some(metrics)) = (plans.first(), metrics.first()) else {
        return Ok(());
    };
    let keys: &[&str] = match events.len() % 2 {
        0 => &["platform"],
        _ => &["new", "platform"],
    };
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let large = Plan {
        n_rows: 35_000_000,
        ..plan.clone()
    };
    let found = embedded_view.key_values(plan, &keys, 2, 1).unwrap();
    prop_assert_eq!(&view.key_values(&large, &keys, 2).unwrap(), &found);
    let mut values: Vec<CellValues> = (found.largest.into_iter())
        .map(|value| value.values)
        .collect();
    values.truncate(1);
    values.push(vec![None; keys.len()]);
    let split = |plan: &Plan| Plan {
        split: Split::Keys(KeyCells::from_values(keys.clone(), values.clone())),
        ..plan.clone()
    };
    let metrics = std::slice::from_ref(metrics);
    let expected = embedded(events, &[split(plan)], metrics);
    for asked in [plan, &large] {
        prop_assert_eq!(&in_clickhouse(view, &[split(asked)], metrics), &expected);
    }
    Ok(())
}

fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    TestRunner::new(config)
}

/// More kinds of metrics over the event types of `plan`.
fn shapes(plan: &Plan) -> impl Strategy<Value = Vec<MetricPlan>> + use<> {
    let n_types = plan.event_types.len() as u32;
    let window = prop::option::of(1..4i64).prop_map(|seconds| {
        seconds.map_or(Window::UNBOUNDED, |seconds| {
            Window::parse(&format!("{seconds}s")).unwrap()
        })
    });
    let quantity =
        prop::sample::select(vec![Quantity::Converted, Quantity::Events, Quantity::Total]);
    let metric = (
        0..n_types.max(1),
        0..n_types.max(1),
        window,
        0..4u8,
        0..3i64,
        quantity,
        (questions::delay(), questions::min_value()),
    )
        .prop_map(
            |(event_type, other, window, shape, seconds, quantity, events)| {
                let (delay, min_value) = events;
                let micros = seconds * 1_000_000;
                let shape = match shape {
                    0 => Shape::Plain,
                    1 => Shape::Denominator { event_type: other },
                    2 => Shape::Covariate {
                        event_type: other,
                        period: micros,
                        quantity,
                    },
                    _ => Shape::Retention { from: micros / 2 },
                };
                MetricPlan {
                    name: String::new(),
                    event_type,
                    window,
                    delay,
                    min_value,
                    shape,
                }
            },
        );
    let most = if n_types == 0 { 0 } else { 4 };
    prop::collection::vec(metric, 0..=most).prop_map(|mut metrics| {
        (metrics.iter_mut().enumerate()).for_each(|(at, metric)| metric.name = format!("m{at}"));
        metrics
    })
}

#[test]
fn random_streams_give_the_scorecards_of_the_embedded_warehouse_and_of_the_reference() {
    let cases =
        std::env::var("TRIALOG_CLICKHOUSE_CASES").map_or(40, |cases| cases.parse().unwrap());
    if database().is_none() {
        return;
    }
    let asked =
        (events(), questions(), 1..60usize).prop_flat_map(|(events, mut questions, n_at_once)| {
            // Statements ask about experiments that have one data time and one segment.
            let (data_time, segment) = (questions[0].data_time, questions[0].segment.clone());
            for question in &mut questions {
                question.data_time = data_time;
                question.segment = segment.clone();
            }
            let plans = plans(&questions, Work::Together);
            let more: Vec<_> = plans.iter().map(shapes).collect();
            (Just(events), Just(questions), Just(n_at_once), more)
        });
    let outcome = runner(cases).run(&asked, |(events, questions, n_at_once, more)| {
        let clickhouse = database().unwrap();
        let last = insert(&clickhouse, &events, n_at_once);
        let view = clickhouse.view(last, Vec::new());
        let mut plans = plans(&questions, Work::Together);
        plans.sort_by(|a, b| a.experiment.cmp(&b.experiment));
        let plain: Vec<Vec<MetricPlan>> = (plans.iter())
            .map(|plan| {
                let question = questions
                    .iter()
                    .find(|own| own.experiment == plan.experiment.as_str())
                    .unwrap();
                scorecard(question, plan).metrics().to_vec()
            })
            .collect();
        // Plans that pretend to be large are cut by users.
        let large: Vec<Plan> = (plans.iter())
            .map(|plan| Plan {
                n_rows: 35_000_000,
                ..plan.clone()
            })
            .collect();
        prop_assert_eq!(
            in_clickhouse(&view, &large, &more),
            embedded(&events, &plans, &more)
        );
        for metrics in [&plain, &more] {
            prop_assert_eq!(
                in_clickhouse(&view, &plans, metrics),
                embedded(&events, &plans, metrics)
            );
        }
        check_cells(&view, &events, &plans, &more)?;
        let expected = expected(&questions, &events);
        let counted: Vec<Option<Vec<u64>>> = in_clickhouse(&view, &plans, &plain)
            .into_iter()
            .map(|own| own.map(|own| own.users))
            .collect();
        prop_assert_eq!(
            counted,
            expected
                .into_iter()
                .map(|own| own.map(|own| own.users))
                .collect::<Vec<_>>()
        );
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn copies_of_assignments_that_tie_are_told_apart_in_the_same_order() {
    let Some(_) = database() else { return };
    let copies = prop::collection::vec((0..3i64, 0..2i64, 0..3usize, 0..2i64, 0..5usize), 1..40);
    let variants = questions::names(questions::VARIANTS);
    let outcome = runner(20).run(
        &(copies, variants, any::<bool>()),
        |(copies, variants, filtered)| {
            let events: Vec<Event> = (copies.into_iter())
                .map(|(user, event_id, variant, forced, context)| {
                    let (kind, row) =
                        assigned("gate", user, START, questions::VARIANTS[variant], event_id);
                    (
                        kind,
                        EventRow {
                            value: forced,
                            context: questions::CONTEXTS[context],
                            ..row
                        },
                    )
                })
                .collect();
            let segment = if filtered {
                vec![("platform", "ios")]
            } else {
                vec![]
            };
            let question = [reference::Question {
                variants,
                segment,
                ..everything("gate")
            }];
            let plans = plans(&question, Work::Together);
            let metrics = vec![scorecard(&question[0], &plans[0]).metrics().to_vec()];
            let clickhouse = database().unwrap();
            let last = insert(&clickhouse, &events, 7);
            let view = clickhouse.view(last, Vec::new());
            prop_assert_eq!(
                in_clickhouse(&view, &plans, &metrics),
                embedded(&events, &plans, &metrics)
            );
            Ok(())
        },
    );
    outcome.unwrap();
}

/// The passes of the order of users, in both.
#[test]
fn the_order_of_users_is_the_same() {
    let Some(_) = database() else { return };
    let outcome = runner(10).run(
        &(
            events(),
            1..60usize,
            -30_000..30_000i128,
            questions::delay(),
            questions::min_value(),
        ),
        |(events, n_at_once, low, delay, min_value)| {
            let question = everything("gate");
            let plan = plans(std::slice::from_ref(&question), Work::Together).remove(0);
            let ranked: Vec<RankedPlan> = [Quantity::Converted, Quantity::Events, Quantity::Total]
                .into_iter()
                .flat_map(|quantity| {
                    let tally = || Pass::Tally(RankSearch::default().tally());
                    let clip = || Pass::Clip {
                        ends: (low, low + 20_000),
                        sums: ClippedSums::default(),
                    };
                    let metric = MetricPlan {
                        delay,
                        min_value,
                        ..scorecard(&question, &plan).metrics()[0].clone()
                    };
                    let ranked = |users, pass: Vec<Pass>| RankedPlan {
                        metric: metric.clone(),
                        quantity,
                        users,
                        pass,
                    };
                    let n_variants = plan.variants.len();
                    let tallies = || (0..n_variants).map(|_| tally()).collect();
                    let clips = || (0..n_variants).map(|_| clip()).collect();
                    [Users::All, Users::WithEvent]
                        .into_iter()
                        .flat_map(|users| [ranked(users, tallies()), ranked(users, clips())])
                        .collect::<Vec<_>>()
                })
                .collect();
            let clickhouse = database().unwrap();
            let last = insert(&clickhouse, &events, n_at_once);
            let there = clickhouse
                .view(last, Vec::new())
                .ranks(&plan, ranked.clone())
                .unwrap();
            let directory = tempfile::tempdir().unwrap();
            let warehouse = open(directory.path(), &Options::default(), 0).unwrap();
            store(&warehouse, &events);
            let here = fold(&warehouse.snapshot(), &[plan], 1, |plan| {
                Ranks::new(plan, ranked.clone())
            })
            .unwrap()
            .remove(0);
            prop_assert_eq!(there, here.map(|folded| folded.accumulator.into_plans()));
            Ok(())
        },
    );
    outcome.unwrap();
}

#[test]
fn a_view_sees_finished_batches_once_however_often_they_were_inserted() {
    let Some(clickhouse) = database() else { return };
    let batch = |kind, events: &[Event]| {
        let mut batch = Batch::new(kind);
        events.iter().for_each(|(_, row)| batch.push(row));
        batch
    };
    let users: Vec<Event> = (0..5)
        .map(|user| assigned("gate", user, START, "a", user))
        .collect();
    let early = batch(EventKind::Metric, &[bought("gate", 0, START + 1, 10, 1)]);
    let abandoned = batch(EventKind::Metric, &[bought("gate", 1, START + 1, 100, 2)]);
    clickhouse
        .insert(&batch(EventKind::Assignment, &users), 1)
        .unwrap();
    for _ in 0..3 {
        clickhouse.insert(&early, 2).unwrap();
    }
    clickhouse.insert(&abandoned, 3).unwrap();
    // The same events, taken in again by somebody else.
    clickhouse.insert(&abandoned, 4).unwrap();
    clickhouse.insert(&early, 5).unwrap();
    let total = |last, except_for: &[u64]| {
        let question = [everything("gate")];
        let plans = plans(&question, Work::Together);
        let metrics = vec![scorecard(&question[0], &plans[0]).metrics().to_vec()];
        let view = clickhouse.view(last, except_for.to_vec());
        let outcomes = view.scorecards(&plans, &metrics).unwrap();
        let folded = outcomes[0].as_ref().unwrap();
        (folded.users[0], folded.accumulator.sums(0, 0).total)
    };
    assert_eq!(total(1, &[]), (5, 0));
    assert_eq!(total(2, &[]), (5, 10));
    assert_eq!(total(3, &[3]), (5, 10));
    assert_eq!(total(4, &[3]), (5, 110));
    assert_eq!(total(5, &[3]), (5, 110));
}

#[test]
fn a_sum_beyond_its_range_costs_only_its_own_experiment() {
    let Some(clickhouse) = database() else { return };
    let mut events = vec![
        assigned("gate", 1, START, "a", 0),
        assigned("gate-2", 1, START, "a", 0),
    ];
    for event_id in 0..16 {
        events.push(bought("gate", 1, START, LARGEST, event_id));
        events.push(bought("gate-2", 1, START, event_id, event_id));
    }
    let last = insert(&clickhouse, &events, 10);
    let questions = [everything("gate"), everything("gate-2")];
    let plans = plans(&questions, Work::Together);
    let metrics: Vec<_> = (plans.iter().zip(&questions))
        .map(|(plan, own)| scorecard(own, plan).metrics().to_vec())
        .collect();
    let outcomes = clickhouse
        .view(last, Vec::new())
        .scorecards(&plans, &metrics)
        .unwrap();
    let error = outcomes[0].as_ref().unwrap_err().to_string();
    assert!(error.contains("`buy` in experiment `gate`"), "{error}");
    assert_eq!(
        outcomes[1].as_ref().unwrap().accumulator.sums(0, 0).total,
        120
    );
}

#[test]
fn contents_are_those_of_the_events() {
    let Some(clickhouse) = database() else { return };
    let events = [
        assigned("gate", 1, START, "b", 0),
        assigned("gate", 2, START + 5, "a", 1),
        assigned("it's {odd}\\", 2, START + 7, "a", 1),
        bought("gate", 1, START + 9, 1, 1),
    ];
    let last = insert(&clickhouse, &events, 4);
    let view = clickhouse.view(last, Vec::new());
    let mut names: Vec<&str> = EXPERIMENTS.to_vec();
    names.push("it's {odd}\\");
    let contents = view.contents(EventKind::Assignment, &names).unwrap();
    assert_eq!(contents.len(), 2);
    let gate = &contents["gate"];
    assert_eq!(
        (gate.rows, gate.max_timestamp, gate.names.join(" ")),
        (2, START + 5, "a b".to_owned())
    );
    assert_eq!(view.experiments(EventKind::Metric).unwrap(), ["gate"]);
}

/// An assignment of a user that is a text.
fn sent(user: i64, event_id: i64, user_text: &'static str) -> Event {
    let (kind, row) = assigned("gate", user, START, "a", event_id);
    (kind, EventRow { user_text, ..row })
}

#[test]
fn texts_of_users_and_those_with_two_are_those_of_the_embedded_warehouse() {
    let Some(clickhouse) = database() else {
        return;
    };
    let events = [
        sent(-7, 1, "ann"),
        sent(2, 1, "bob\n'\"{x}\\"),
        sent(2, 2, ""),
        sent(3, 1, "y"),
        sent(3, 2, "x"),
        assigned("gate", 4, START, "a", 1),
        assigned("other", 5, START, "a", 1),
    ];
    let last = insert(&clickhouse, &events, 3);
    let view = clickhouse.view(last, Vec::new());
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), &Options::default(), 0).unwrap();
    store(&warehouse, &events);
    let snapshot = warehouse.snapshot();
    let users = [4, 3, 2, -7, 99];
    let texts = view.user_texts("gate", &users).unwrap();
    assert_eq!(texts, snapshot.user_texts("gate", &users).unwrap());
    assert_eq!(texts.len(), 3);
    assert_eq!(texts[&2], "bob\n'\"{x}\\");
    let ids = ["gate", "other"];
    let clashing = view.clashing_users(&ids).unwrap();
    assert_eq!(clashing, snapshot.clashing_users(&ids).unwrap());
    assert_eq!(clashing["gate"], [3]);
    // What came in an insertion that is not seen is not told.
    let none = clickhouse.view(0, Vec::new());
    assert!(none.user_texts("gate", &users).unwrap().is_empty());
}

#[test]
fn tables_from_before_users_had_texts_get_the_column_and_keep_their_rows() {
    let Some(address) = address() else {
        return;
    };
    let before = ClickHouse::connect(address.clone()).unwrap();
    insert(&before, &[assigned("gate", 1, START, "a", 1)], 1);
    before.execute_in_tests("ALTER TABLE assignments DROP COLUMN user_text");
    before.execute_in_tests("TRUNCATE TABLE schema_versions");
    before.execute_in_tests("INSERT INTO schema_versions (version, trialog) VALUES (1, '0.1.0')");
    assert_eq!(ClickHouse::inspect(address.clone()).unwrap(), (1, 2));
    for _ in 0..2 {
        let after = ClickHouse::connect(address.clone()).unwrap();
        assert_eq!(ClickHouse::inspect(address.clone()).unwrap(), (2, 2));
        let mut batch = Batch::new(EventKind::Assignment);
        batch.push(&sent(2, 1, "ann").1);
        after.insert(&batch, 2).unwrap();
        let view = after.view(2, Vec::new());
        let texts = view.user_texts("gate", &[1, 2]).unwrap();
        assert_eq!(
            texts.into_iter().collect::<Vec<_>>(),
            [(2, "ann".to_owned())]
        );
        let contents = view.contents(EventKind::Assignment, &["gate"]).unwrap();
        assert!(contents["gate"].rows >= 2);
    }
    let private = ClickHouse::connect(address).unwrap().without_user_texts();
    let mut batch = Batch::new(EventKind::Assignment);
    batch.push(&sent(3, 1, "eve").1);
    private.insert(&batch, 3).unwrap();
    let view = private.view(3, Vec::new());
    assert!(view.user_texts("gate", &[3]).unwrap().is_empty());
}
