//! Random streams of events, questions about them, and the plans that ask these.
#![allow(dead_code, reason = "not every test asks in all ways")]

use proptest::prelude::*;
use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_warehouse::analysis::scorecard::{MetricPlan, Scorecard, Shape};
use trialog_warehouse::batch::EventRow;
use trialog_warehouse::fold::split::Split;
use trialog_warehouse::fold::{Folded, LeftOutUnits, Names, Plan, UserFilter};

use crate::harness::Event;
use crate::reference::{Answer, IGNORED, MetricQuestion, Question, SALT, answer};

pub(crate) const SECOND: i64 = 1_000_000;
/// Every time is this plus a few quarters of a second, so that ties abound.
pub(crate) const START: i64 = 1_700_000_000 * SECOND;
pub(crate) const QUARTER: i64 = SECOND / 4;
pub(crate) const N_QUARTERS: i64 = 24;

/// The last one has no events.
pub(crate) const EXPERIMENTS: [&str; 4] = ["gate", "gate-2", "price", "silent"];
pub(crate) const VARIANTS: [&str; 3] = ["a", "b", "c"];
pub(crate) const EVENT_TYPES: [&str; 3] = ["buy", "click", "view"];
pub(crate) const USERS: [i64; 6] = [i64::MIN, -5, 0, 1, 2, i64::MAX];
pub(crate) const CONTEXTS: [&str; 5] = [
    "",
    "{}",
    r#"{"platform":"ios","age":7}"#,
    r#"{"platform":"android","new":true}"#,
    r#"{"platform":null}"#,
];
pub(crate) const LARGEST: i64 = 999_999_999_999_999_999;

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let event_id = prop_oneof![2 => 0i64..8, 3 => any::<i64>()];
    let place = (0..3usize, 0..USERS.len(), 0..N_QUARTERS);
    let value = prop_oneof![8 => -3i64..4, 1 => Just(LARGEST), 1 => Just(-LARGEST)];
    let event = (any::<bool>(), place, 0..11u8, value, event_id).prop_map(
        |(is_metric, place, name, value, event_id)| {
            let (experiment, user, quarter) = place;
            let row = EventRow {
                experiment: EXPERIMENTS[experiment],
                user: USERS[user],
                timestamp: START + quarter * QUARTER,
                name: EVENT_TYPES[usize::from(name) % 3],
                value,
                event_id,
                context: "",
                user_text: "",
            };
            if is_metric {
                return (EventKind::Metric, row);
            }
            // Most users stay with the variant of their number, few are forced.
            let variant = match name {
                0..7 => VARIANTS[user % 3],
                10 => IGNORED,
                _ => VARIANTS[usize::from(name) % 3],
            };
            let forced = i64::from(name == 9);
            // A function of what breaks ties, so that every exposure has one context.
            let context = CONTEXTS[(event_id ^ quarter ^ forced).rem_euclid(5) as usize];
            (
                EventKind::Assignment,
                EventRow {
                    name: variant,
                    value: forced,
                    context,
                    // Not of the same users or events as what the answers depend on.
                    user_text: ["", "ann", "bob"][(event_id + quarter).rem_euclid(3) as usize],
                    ..row
                },
            )
        },
    );
    prop::collection::vec(event, 0..150)
}

pub(crate) fn time() -> impl Strategy<Value = Option<i64>> {
    prop::option::of((0..N_QUARTERS).prop_map(|quarter| START + quarter * QUARTER))
}

pub(crate) fn names(all: [&'static str; 3]) -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        Just(all.to_vec()),
        prop::sample::subsequence(all.to_vec(), 0..=3)
    ]
}

/// Mostly none; some windows begin late, some end before the exposure.
pub(crate) fn delay() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 1 => (-8..8i64).prop_map(|quarters| quarters * QUARTER)]
}

/// Values are small integers, a few of them huge.
pub(crate) fn min_value() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        2 => Just(None),
        1 => (-2i64..3).prop_map(Some),
        1 => prop::sample::select(vec![Some(LARGEST), Some(-LARGEST)]),
    ]
}

pub(crate) fn question(experiment: &'static str) -> impl Strategy<Value = Question> {
    let window = prop::option::of((1..4i64).prop_map(|seconds| seconds * SECOND));
    let event_type = prop::sample::select(EVENT_TYPES.to_vec());
    let metric = (event_type, window, delay(), min_value()).prop_map(
        |(event_type, window, delay, min_value)| MetricQuestion {
            event_type,
            window,
            delay,
            min_value,
        },
    );
    let segment = prop_oneof![
        3 => Just(vec![]),
        1 => prop::sample::select(vec![
            vec![("platform", "ios")],
            vec![("platform", "ios"), ("age", "7")],
            vec![("new", "true")],
            vec![("platform", "null")],
        ]),
    ];
    let left_out = prop_oneof![
        2 => Just(None),
        1 => (0..10_001u16, 0..10_001u16).prop_map(|(a, b)| Some((a.min(b), a.max(b)))),
    ];
    let bounds = (time(), time());
    let exposed = prop_oneof![2 => Just((None, None)), 1 => (time(), time())];
    // At the time of an event, or just before it.
    let data_time = (0..N_QUARTERS + 4, 0..2i64)
        .prop_map(|(quarter, before)| START + quarter * QUARTER - before);
    (
        bounds,
        names(VARIANTS),
        prop::collection::vec(metric, 0..4),
        data_time,
        exposed,
        (segment, left_out),
    )
        .prop_map(
            move |(
                (start_at, end_at),
                variants,
                metrics,
                data_time,
                (exposed_from, exposed_to),
                (segment, left_out),
            )| Question {
                experiment,
                start_at,
                end_at,
                variants,
                metrics,
                data_time,
                exposed_from,
                exposed_to,
                segment,
                left_out,
            },
        )
}

pub(crate) fn questions() -> impl Strategy<Value = Vec<Question>> {
    EXPERIMENTS.map(question).prop_map(Vec::from)
}

/// How the work is to be cut into pieces: plans pretend to be as large as that takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// All experiments in one piece.
    Together,
    /// One piece for each experiment.
    Apart,
    /// Several pieces for each experiment that has row groups enough.
    CutByUsers,
}

pub(crate) fn plans(questions: &[Question], work: Work) -> Vec<Plan> {
    let n_rows = |at| match work {
        // A piece ends where it has its share of all rows.
        Work::Together if at + 1 < questions.len() => 1,
        Work::Together => 1 << 10,
        Work::Apart => 1 << 20,
        Work::CutByUsers => 9 << 20,
    };
    let plans = questions.iter().enumerate();
    plans
        .map(|(at, question)| plan(question, n_rows(at)))
        .collect()
}

pub(crate) fn plan(question: &Question, n_rows: u64) -> Plan {
    let texts = |texts: Vec<&str>| Names::new(texts.into_iter().map(str::to_owned));
    Plan {
        experiment: ExperimentId::new(question.experiment).unwrap(),
        within: question.start_at..question.end_at,
        variants: texts(question.variants.clone()).ignoring([IGNORED.to_owned()]),
        event_types: texts(
            (question.metrics.iter())
                .map(|metric| metric.event_type)
                .collect(),
        ),
        data_time: question.data_time,
        filter: UserFilter {
            exposed: question.exposed_from..question.exposed_to,
            segment: question
                .segment
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        },
        left_out: question.left_out.map(|(from, to)| LeftOutUnits {
            salt: SALT.to_owned(),
            buckets: from..to,
        }),
        split: Split::Whole,
        exposures: None,
        n_rows,
    }
}

pub(crate) fn window(length: Option<i64>) -> Window {
    length.map_or(Window::UNBOUNDED, |micros| {
        Window::parse(&format!("{}s", micros / SECOND)).unwrap()
    })
}

pub(crate) fn scorecard(question: &Question, plan: &Plan) -> Scorecard {
    let metrics = question.metrics.iter().map(|metric| MetricPlan {
        name: metric.event_type.to_owned(),
        event_type: plan.event_types.code(metric.event_type).unwrap(),
        window: window(metric.window),
        delay: metric.delay,
        min_value: metric.min_value,
        shape: Shape::Plain,
    });
    Scorecard::new(plan, metrics.collect())
}

pub(crate) fn as_answer(question: &Question, folded: &Folded<Scorecard>) -> Answer {
    let sums = |variant| {
        (0..question.metrics.len())
            .map(|metric| *folded.accumulator.sums(variant, metric))
            .collect()
    };
    Answer {
        users: folded.users.clone(),
        crossovers: folded.crossovers.clone(),
        forced: folded.forced[0],
        unknown_variant: folded.unknown_variant[0],
        sums: (0..question.variants.len()).map(sums).collect(),
        arrivals: folded.accumulator.arrivals().to_vec(),
    }
}

pub(crate) fn expected(questions: &[Question], events: &[Event]) -> Vec<Option<Answer>> {
    questions
        .iter()
        .map(|question| answer(question, events))
        .collect()
}

/// All of `experiment`: the variants `a`, `b` and `c`, purchases without end.
pub(crate) fn everything(experiment: &'static str) -> Question {
    Question {
        experiment,
        start_at: None,
        end_at: None,
        variants: VARIANTS.to_vec(),
        metrics: vec![MetricQuestion::every("buy")],
        data_time: i64::MAX,
        exposed_from: None,
        exposed_to: None,
        segment: vec![],
        left_out: None,
    }
}
