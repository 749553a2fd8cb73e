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

#[path = "common/both.rs"]
mod both;
#[path = "common/cohorts.rs"]
mod cohorts;
#[path = "common/funnels.rs"]
mod funnels;
#[path = "common/harness.rs"]
mod harness;
#[path = "common/pasts.rs"]
mod pasts;
#[path = "common/questions.rs"]
mod questions;
#[path = "common/reference.rs"]
mod reference;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_stats::RankSearch;
use trialog_warehouse::analysis::Analysis;
use trialog_warehouse::analysis::arrivals::TypeArrivals;
use trialog_warehouse::analysis::cohorts::{DaysQuestion, DaysSince, ExposureDays};
use trialog_warehouse::analysis::funnel::Funnel;
use trialog_warehouse::analysis::funnel::several::Funnels;
use trialog_warehouse::analysis::ranks::{ClippedSums, Pass, RankedPlan, Ranks, Users};
use trialog_warehouse::analysis::scorecard::by_keys::{ByKeys, ByKeysQuestion};
use trialog_warehouse::analysis::scorecard::history::{History, HistoryPlan};
use trialog_warehouse::analysis::scorecard::{MetricPlan, Quantity, Scorecard, Shape};
use trialog_warehouse::analysis::values::{Found, KeyQuestion, Values};
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::clickhouse::ClickHouse;
use trialog_warehouse::embedded::Options;
use trialog_warehouse::export::Selection;
use trialog_warehouse::fold::split::{CellValues, KeyCells, Split, day_number};
use trialog_warehouse::fold::{Accumulator, Exposure, Folded, LeftOut, Plan, Row};
use trialog_warehouse::view as warehouse;
use trialog_warehouse::{FoldError, WarehouseError};

use both::{Both, address, database, insert};
use harness::{Event, assigned, bought, open, store};
use questions::{
    EXPERIMENTS, LARGEST, START, Work, events, everything, expected, plans, questions, scorecard,
};
use reference::Question;

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

fn said(folded: Folded<Scorecard>) -> Said {
    let scorecard = &folded.accumulator;
    let n_metrics = scorecard.metrics().len();
    let sums = (0..folded.users.len())
        .flat_map(|variant| (0..n_metrics).map(move |metric| (variant, metric)));
    Said {
        users: folded.users,
        crossovers: folded.crossovers,
        forced: folded.forced,
        unknown_variant: folded.unknown_variant,
        not_aggregated: scorecard.not_aggregated.clone(),
        next_user_at: scorecard.next_user_at,
        sums: sums
            .map(|(variant, metric)| format!("{:?}", scorecard.sums(variant, metric)))
            .collect(),
        arrivals: scorecard.arrivals().to_vec(),
    }
}

/// Checks that both warehouses find the same values of keys and the same scorecards by them.
fn check_cells(
    both: &Both,
    n_events: usize,
    plans: &[Plan],
    metrics: &[Vec<MetricPlan>],
) -> Result<(), TestCaseError> {
    // A statement takes a while, so one plan and one list of keys is asked for each stream.
    let (Some(plan), Some(metrics)) = (plans.first(), metrics.first()) else {
        return Ok(());
    };
    let keys: &[&str] = match n_events % 2 {
        0 => &["platform"],
        _ => &["new", "platform"],
    };
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let question = KeyQuestion {
        groups: vec![keys.clone()],
        limit: 2,
        spill: std::env::temp_dir(),
    };
    let plans = std::slice::from_ref(plan);
    let values = |found: Result<Found, WarehouseError>| found.unwrap().values;
    let found = both.both_warehouses_agree::<Values, _>(plans, &[question], values)?;
    let Some(found) = found.into_iter().flatten().flatten().next() else {
        return Ok(());
    };
    let mut values: Vec<CellValues> = (found.largest.into_iter())
        .map(|value| value.values)
        .collect();
    values.truncate(1);
    values.push(vec![None; keys.len()]);
    let plan = Plan {
        split: Split::Keys(KeyCells::from_values(keys, values)),
        ..plans[0].clone()
    };
    let both_keys = ["platform", "new"].map(|key| {
        let values = vec![vec![Some("ios".to_owned())], vec![None]];
        KeyCells::from_values(vec![key.to_owned()], values)
    });
    let question = ByKeysQuestion {
        metrics: metrics.clone(),
        groups: both_keys.into(),
    };
    let each = |groups: Vec<Folded<Scorecard>>| groups.into_iter().map(said).collect::<Vec<_>>();
    both.both_warehouses_agree::<ByKeys, _>(plans, &[question], each)?;
    let metrics = std::slice::from_ref(metrics);
    both.both_warehouses_agree::<Scorecard, _>(&[plan], metrics, said)?;
    Ok(())
}

/// Checks that both warehouses count the users of a funnel for whom there is a chain of events.
fn check_funnel(
    both: &Both,
    events: &[Event],
    question: &Question,
    wanted: &funnels::Wanted,
) -> Result<(), TestCaseError> {
    let (plan, funnel) = wanted.asked(question, 1);
    let found = both.both_warehouses_agree::<Funnel, _>(&[plan], &[funnel], funnels::found)?;
    let reached = found.into_iter().flatten().map(|(_, reached)| reached);
    prop_assert_eq!(
        reached.collect::<Vec<_>>(),
        [wanted.expected(question, events)]
    );
    let shorter = funnels::Wanted {
        window: Some(1),
        ..wanted.clone()
    };
    let wanted = [wanted.clone(), shorter];
    let (plan, funnels) = funnels::asked_together(&wanted, question, 1);
    let found = both.both_warehouses_agree::<Funnels, _>(&[plan], &[funnels], |folded| {
        funnels::found_together(&folded, wanted.len())
    })?;
    let expected = wanted.map(|wanted| wanted.expected(question, events).users);
    prop_assert_eq!(
        found.into_iter().flatten().collect::<Vec<_>>(),
        [expected.to_vec()]
    );
    Ok(())
}

#[test]
fn cohorts_are_the_same_in_both_warehouses_and_in_the_reference() {
    let Some(_) = database() else { return };
    let asked = (
        events(),
        questions::question("gate"),
        cohorts::followed(),
        (0..8i64, 1..5usize),
        1..60usize,
    );
    let outcome = runner(6).run(&asked, |(events, question, followed, asked, n_at_once)| {
        let events = cohorts::stretched(&events);
        let question = cohorts::stretched_question(&question);
        let both = Both::store(&events, n_at_once);
        let (plan, cohort) = followed.asked(&question, 1);
        let plans = [plan];
        let asked = DaysQuestion {
            last: day_number(START) + asked.0,
            limit: asked.1,
        };
        let days =
            both.both_warehouses_agree::<ExposureDays, _>(&plans, &[asked], cohorts::found_days)?;
        let expected = cohorts::expected_days(&question, &events, asked);
        prop_assert_eq!(&days, &[Some(expected.clone())]);
        let sums = both.both_warehouses_agree::<DaysSince, _>(&plans, &[cohort], |folded| {
            followed.found(&folded)
        })?;
        prop_assert_eq!(sums, [followed.expected(&question, &events)]);
        let by_day = cohorts::by_day(&question, expected.0.into_keys().collect(), 1);
        let metrics = scorecard(&question, &by_day).metrics().to_vec();
        both.both_warehouses_agree::<Scorecard, _>(&[by_day], &[metrics], said)?;
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn past_scorecards_are_the_same_in_both_warehouses() {
    let Some(_) = database() else { return };
    let asked = (
        events(),
        questions::question("gate"),
        pasts::times(),
        1..60usize,
    );
    let outcome = runner(4).run(&asked, |(events, question, times, n_at_once)| {
        let both = Both::store(&events, n_at_once);
        let plan = questions::plan(&question, 1);
        let metrics = pasts::in_every_shape(scorecard(&question, &plan).metrics());
        let (n_times, n_metrics) = (times.len(), metrics.len());
        let asked = HistoryPlan { times, metrics };
        both.both_warehouses_agree::<History, _>(&[plan], &[asked], |folded| {
            let times = 0..n_times;
            times
                .map(|at| pasts::found(&folded, n_metrics, at))
                .collect::<Vec<_>>()
        })?;
        Ok(())
    });
    outcome.unwrap();
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
    let cases = std::env::var("TRIALOG_CLICKHOUSE_CASES").map_or(8, |cases| cases.parse().unwrap());
    if database().is_none() {
        return;
    }
    let asked = (events(), questions(), 1..60usize, funnels::wanted()).prop_flat_map(
        |(events, mut questions, n_at_once, wanted)| {
            // Statements ask about experiments that have one data time and one segment.
            let (data_time, segment) = (questions[0].data_time, questions[0].segment.clone());
            for question in &mut questions {
                question.data_time = data_time;
                question.segment = segment.clone();
            }
            let plans = plans(&questions, Work::Together);
            let more: Vec<_> = plans.iter().map(shapes).collect();
            (
                Just(events),
                Just(questions),
                Just(n_at_once),
                more,
                Just(wanted),
            )
        },
    );
    let outcome = runner(cases).run(&asked, |(events, questions, n_at_once, more, wanted)| {
        let both = Both::store(&events, n_at_once);
        check_funnel(&both, &events, &questions[0], &wanted)?;
        let mut plans = plans(&questions, Work::Together);
        plans.sort_by(|a, b| a.experiment.cmp(&b.experiment));
        let plain: Vec<Vec<MetricPlan>> = (plans.iter())
            .map(|plan| {
                let question = questions
                    .iter()
                    .find(|question| question.experiment == plan.experiment.as_str())
                    .unwrap();
                scorecard(question, plan).metrics().to_vec()
            })
            .collect();
        both.both_warehouses_agree::<Scorecard, _>(&plans, &more, said)?;
        check_cells(&both, events.len(), &plans, &more)?;
        let counted = both.both_warehouses_agree::<Scorecard, _>(&plans, &plain, said)?;
        let counted: Vec<_> = (counted.into_iter())
            .map(|said| said.map(|said| said.users))
            .collect();
        let expected: Vec<_> = (expected(&questions, &events).into_iter())
            .map(|answer| answer.map(|answer| answer.users))
            .collect();
        prop_assert_eq!(counted, expected);
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn copies_of_assignments_that_tie_are_told_apart_in_the_same_order() {
    let Some(_) = database() else { return };
    let copies = prop::collection::vec((0..3i64, 0..2i64, 0..3usize, 0..2i64, 0..5usize), 1..40);
    let variants = questions::names(questions::VARIANTS);
    let outcome = runner(6).run(
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
            let both = Both::store(&events, 7);
            both.both_warehouses_agree::<Scorecard, _>(&plans, &metrics, said)?;
            Ok(())
        },
    );
    outcome.unwrap();
}

/// The passes of the order of users, in both.
#[test]
fn the_order_of_users_is_the_same() {
    let Some(_) = database() else { return };
    let outcome = runner(4).run(
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
                        ends: [Some(low), Some(low + 20_000)],
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
            let both = Both::store(&events, n_at_once);
            let ranked_plans = |ranked: Vec<RankedPlan>| ranked;
            both.both_warehouses_agree::<Ranks, _>(&[plan], &[ranked], ranked_plans)?;
            Ok(())
        },
    );
    outcome.unwrap();
}

/// What became of events, apart from the rest of the scorecard: of all users, in experiments
/// whose users have what leaves events out.
#[test]
fn what_became_of_events_is_the_same() {
    let Some(_) = database() else { return };
    let outcome = runner(4).run(&(events(), 1..60usize), |(events, n_at_once)| {
        let questions = ["gate", "gate-2"].map(everything);
        let plans = plans(&questions, Work::Together);
        let metrics: Vec<_> = (plans.iter().zip(&questions))
            .map(|(plan, question)| scorecard(question, plan).metrics().to_vec())
            .collect();
        let both = Both::store(&events, n_at_once);
        let arrivals = |folded: Folded<Scorecard>| folded.accumulator.arrivals().to_vec();
        both.both_warehouses_agree::<Scorecard, _>(&plans, &metrics, arrivals)?;
        Ok(())
    });
    outcome.unwrap();
}

/// Notes all that an accumulator is told; it has no SQL.
struct Trace {
    user: i64,
    lines: Vec<String>,
}

impl Trace {
    fn note(&mut self, who: &str, events: &[Row]) {
        self.lines.extend(events.iter().map(|event| {
            let (code, id) = (event.name.code(), event.event_id);
            format!("{who}: {} {code:?} {} {id}", event.timestamp, event.value)
        }));
    }
}

impl Accumulator for Trace {
    fn horizon(&self, exposure: i64) -> i64 {
        exposure + 3 * questions::SECOND
    }

    fn sees_left_out(&self) -> bool {
        true
    }

    fn left_out(&mut self, user: i64, why: LeftOut, events: &[Row]) {
        self.note(&format!("{user} {why:?}"), events);
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.user = exposure.user;
        self.lines.push(format!("{exposure:?}"));
    }

    fn events(&mut self, events: &[Row]) {
        self.note(&self.user.to_string(), events);
    }

    fn end(&mut self) -> Result<(), FoldError> {
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        self.lines.extend(other.lines);
        Ok(())
    }
}

impl Analysis for Trace {
    type Question = ();
    type Answer = Vec<String>;

    fn for_plan(_: &Plan, (): &()) -> Self {
        Self {
            user: 0,
            lines: Vec::new(),
        }
    }

    fn answer(folded: Folded<Self>) -> Vec<String> {
        let mut lines = folded.accumulator.lines;
        let counts = (folded.users, folded.crossovers, folded.forced);
        lines.push(format!("{counts:?} {:?}", folded.unknown_variant));
        lines
    }
}

#[test]
fn an_analysis_without_sql_is_told_the_same_users_and_events_in_the_same_order() {
    let Some(_) = database() else { return };
    let outcome = runner(6).run(
        &(events(), questions(), 1..60usize),
        |(events, mut questions, n_at_once)| {
            // Pushing down would want one data time and one segment, the stream does not.
            questions.sort_by_key(|question| question.experiment);
            let plans = plans(&questions, Work::Together);
            let both = Both::store(&events, n_at_once);
            let whole = both
                .embedded
                .fold::<Trace>(&plans, &[(); 4], 1)
                .unwrap()
                .into_iter()
                .map(Result::unwrap)
                .collect::<Vec<_>>();
            let streamed = both.clickhouse.fold::<Trace>(&plans, &[(); 4], 1).unwrap();
            let streamed: Vec<_> = streamed.into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(&streamed, &whole, "in order");
            // Pieces of users come in any order.
            let sorted = |mut lines: Vec<String>| {
                lines.sort();
                lines
            };
            both.both_warehouses_agree::<Trace, _>(&plans, &[(); 4], sorted)?;
            Ok(())
        },
    );
    outcome.unwrap();
}

/// All that an export is told of the events of a kind.
fn exported(view: &warehouse::View, kind: EventKind, selection: &Selection) -> Vec<String> {
    let mut lines = Vec::new();
    view.each_event(kind, selection, |event| -> Result<(), WarehouseError> {
        lines.push(format!("{event:?}"));
        Ok(())
    })
    .unwrap();
    lines
}

#[test]
fn every_event_comes_once_and_in_the_same_order() {
    let Some(_) = database() else { return };
    let outcome = runner(6).run(
        &(events(), questions::time(), questions::time(), 1..60usize),
        |(mut events, start, end, n_at_once)| {
            // Copies with another context or text of the user.
            let copies: Vec<Event> = (events.iter().step_by(3))
                .map(|&(kind, row)| match kind {
                    EventKind::Metric => (kind, row),
                    EventKind::Assignment => {
                        let (context, user_text) = (questions::CONTEXTS[2], "aaron");
                        (
                            kind,
                            EventRow {
                                context,
                                user_text,
                                ..row
                            },
                        )
                    }
                })
                .collect();
            events.extend(copies);
            let both = Both::store(&events, n_at_once);
            let some = Selection {
                experiments: vec!["gate-2".to_owned(), "silent".to_owned()],
                within: start..end,
            };
            for selection in [Selection::default(), some] {
                for kind in EventKind::ALL {
                    prop_assert_eq!(
                        exported(&both.clickhouse, kind, &selection),
                        exported(&both.embedded, kind, &selection)
                    );
                }
            }
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
    let total = |last, unreadable: &[u64]| {
        let question = [everything("gate")];
        let plans = plans(&question, Work::Together);
        let metrics = vec![scorecard(&question[0], &plans[0]).metrics().to_vec()];
        let view = warehouse::View::from(clickhouse.view(last, unreadable.to_vec()));
        let answers = [
            view.run::<Scorecard>(&plans, &metrics, 1).unwrap(),
            view.fold::<Scorecard>(&plans, &metrics, 1).unwrap(),
        ];
        let [sql, stream] = answers.map(|answers| {
            let folded = answers[0].as_ref().unwrap();
            (folded.users[0], folded.accumulator.sums(0, 0).total)
        });
        assert_eq!(sql, stream);
        sql
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
        .map(|(plan, question)| scorecard(question, plan).metrics().to_vec())
        .collect();
    let view = warehouse::View::from(clickhouse.view(last, Vec::new()));
    for outcomes in [
        view.run::<Scorecard>(&plans, &metrics, 1).unwrap(),
        view.fold::<Scorecard>(&plans, &metrics, 1).unwrap(),
    ] {
        let error = outcomes[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("`buy` in experiment `gate`"), "{error}");
        assert_eq!(
            outcomes[1].as_ref().unwrap().accumulator.sums(0, 0).total,
            120
        );
    }
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
