//! The warehouse against a plain reference: whatever the arrival order, the
//! batches, the flushes, merges and restarts, the scorecard is the same.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/cells.rs"]
mod cells;
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

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use trialog_model::event::EventKind;
use trialog_warehouse::analysis::cohorts::{DaysQuestion, DaysSince, ExposureDays};
use trialog_warehouse::analysis::funnel::Funnel;
use trialog_warehouse::analysis::funnel::several::Funnels;
use trialog_warehouse::analysis::scorecard::Scorecard;
use trialog_warehouse::analysis::scorecard::history::{History, HistoryPlan};
use trialog_warehouse::batch::EventRow;
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::fold::split::day_number;
use trialog_warehouse::fold::{Folded, Plan, fold};
use trialog_warehouse::snapshot::Snapshot;
use trialog_warehouse::view::View;

use harness::{Event, assigned, bought, open, store};
use questions::{
    CONTEXTS, EXPERIMENTS, LARGEST, START, VARIANTS, Work, as_answer, events, everything, expected,
    names, plans, questions, scorecard,
};
use reference::{Answer, Question, answer};

fn options() -> impl Strategy<Value = Options> {
    let flush_bytes = prop_oneof![2 => 200usize..4_000, 1 => Just(1 << 20)];
    (flush_bytes, 2usize..5).prop_map(|(flush_bytes, fan_in)| Options {
        flush_bytes,
        fan_in,
        ..Options::default()
    })
}

/// What the fold gives for each question; `None` where a sum leaves its range.
fn folded(
    snapshot: &Snapshot,
    questions: &[Question],
    n_threads: usize,
    work: Work,
) -> Vec<Option<Folded<Scorecard>>> {
    let plans = plans(questions, work);
    let make = |plan: &Plan| {
        let question = questions
            .iter()
            .find(|question| question.experiment == plan.experiment.as_str())
            .unwrap();
        scorecard(question, plan)
    };
    fold(snapshot, &plans, n_threads, make)
        .unwrap()
        .into_iter()
        .map(Result::ok)
        .collect()
}

/// The answers of the warehouse, with `n_threads` threads.
fn answers(snapshot: &Snapshot, questions: &[Question], n_threads: usize) -> Vec<Option<Answer>> {
    let work = [Work::Apart, Work::Together, Work::CutByUsers][n_threads % 3];
    let folded = folded(snapshot, questions, n_threads, work);
    questions
        .iter()
        .zip(folded)
        .map(|(question, folded)| folded.map(|folded| as_answer(question, &folded)))
        .collect()
}

/// What one does with a warehouse between two submissions.
#[derive(Debug, Clone, Copy)]
enum Action {
    Nothing,
    Snapshot,
    Hold,
    Publish,
    Settle,
    Reopen,
    AskPublished,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Action)>> {
    let action = prop::sample::select(vec![
        Action::Nothing,
        Action::Snapshot,
        Action::Hold,
        Action::Publish,
        Action::Publish,
        Action::Settle,
        Action::Reopen,
        Action::AskPublished,
    ]);
    prop::collection::vec((0..20usize, action), 0..16)
}

/// A warehouse, and what should be in it.
struct Trial<'t> {
    directory: tempfile::TempDir,
    options: Options,
    questions: &'t [Question],
    warehouse: Option<Warehouse>,
    stored: Vec<Event>,
    /// A position, and how many of the stored events it covers.
    published: (u64, usize),
    pending: Option<(u64, usize)>,
    held: Vec<(Snapshot, usize)>,
}

impl<'t> Trial<'t> {
    fn new(options: Options, questions: &'t [Question]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let warehouse = Some(open(directory.path(), &options, 0).unwrap());
        let published = (0, 0);
        Self {
            directory,
            options,
            questions,
            warehouse,
            stored: Vec::new(),
            published,
            pending: None,
            held: Vec::new(),
        }
    }

    fn warehouse(&self) -> &Warehouse {
        self.warehouse.as_ref().unwrap()
    }

    fn store(&mut self, events: &[Event]) {
        store(self.warehouse(), events);
        self.stored.extend_from_slice(events);
    }

    fn snapshot(&mut self) -> Snapshot {
        let snapshot = self.warehouse().snapshot();
        self.pending = Some((snapshot.position, self.stored.len()));
        snapshot
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Nothing => {}
            Action::Snapshot => drop(self.snapshot()),
            Action::Hold => {
                let snapshot = self.snapshot();
                self.held.push((snapshot, self.stored.len()));
            }
            Action::Publish => {
                if self.pending.is_none() {
                    self.snapshot();
                }
                if let Some(pending) = self.pending.take() {
                    self.warehouse().publish(pending.0);
                    self.published = pending;
                }
            }
            Action::Settle => self.warehouse().settle().unwrap(),
            Action::Reopen => {
                // First let go, then take again.
                self.warehouse = None;
                self.pending = None;
                self.warehouse =
                    Some(open(self.directory.path(), &self.options, self.published.0).unwrap());
            }
            Action::AskPublished => self.check_published(),
        }
    }

    fn check_published(&self) {
        let snapshot = self.warehouse().published_snapshot();
        assert_eq!(
            answers(&snapshot, self.questions, 2),
            expected(self.questions, &self.stored[..self.published.1]),
            "of the published snapshot"
        );
    }

    fn check(&mut self) {
        self.check_published();
        for (snapshot, n_events) in &self.held {
            let expected = expected(self.questions, &self.stored[..*n_events]);
            assert_eq!(
                answers(snapshot, self.questions, 1),
                expected,
                "of a snapshot that was held"
            );
        }
        let snapshot = self.snapshot();
        let expected = expected(self.questions, &self.stored);
        for n_threads in 1..=3 {
            assert_eq!(
                answers(&snapshot, self.questions, n_threads),
                expected,
                "with {n_threads} threads"
            );
        }
        check_contents(&snapshot, 0, &self.stored);
        check_contents(
            &snapshot,
            self.published.0,
            &self.stored[self.published.1..],
        );
    }
}

/// What `snapshot` says that it holds since the position `after` is `events`.
fn check_contents(snapshot: &Snapshot, after: u64, events: &[Event]) {
    for kind in EventKind::ALL {
        let mut expected: BTreeMap<String, (u64, i64, BTreeSet<String>)> = BTreeMap::new();
        for (_, row) in events.iter().filter(|event| event.0 == kind) {
            let entry =
                expected
                    .entry(row.experiment.to_owned())
                    .or_insert((0, i64::MIN, BTreeSet::new()));
            entry.0 += 1;
            entry.1 = entry.1.max(row.timestamp);
            entry.2.insert(row.name.to_owned());
        }
        let found = snapshot.experiments_after(kind, after);
        let wanted: Vec<&str> = expected.keys().map(String::as_str).collect();
        assert_eq!(found, wanted, "{kind:?} events after position {after}");
        for experiment in EXPERIMENTS.iter().filter(|_| after == 0) {
            let entry = snapshot.contents_of(kind, experiment);
            let found = entry.map(|contents| {
                (
                    contents.rows,
                    contents.max_timestamp,
                    contents.names.into_iter().collect(),
                )
            });
            assert_eq!(
                found,
                expected.get(*experiment).cloned(),
                "{kind:?} {experiment}"
            );
        }
    }
}

/// A warehouse that got `events` in their order, `n_at_once` at a time.
fn filled(options: &Options, events: &[Event], n_at_once: usize) -> (tempfile::TempDir, Warehouse) {
    let directory = tempfile::tempdir().unwrap();
    let warehouse = open(directory.path(), options, 0).unwrap();
    events
        .chunks(n_at_once)
        .for_each(|events| store(&warehouse, events));
    (directory, warehouse)
}

fn shuffled(events: &[Event], seed: u64) -> Vec<Event> {
    let mut events = events.to_vec();
    fastrand::Rng::with_seed(seed).shuffle(&mut events);
    events
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_between_submissions_the_scorecard_is_that_of_the_reference(
        events in events(),
        questions in questions(),
        steps in steps(),
        options in options(),
    ) {
        let mut trial = Trial::new(options, &questions);
        let mut rest = events.as_slice();
        for (n_events, action) in steps {
            let (next, later) = rest.split_at(n_events.min(rest.len()));
            trial.store(next);
            trial.act(action);
            rest = later;
        }
        trial.store(rest);
        trial.check();
        trial.act(Action::Reopen);
        trial.check();
        trial.act(Action::Settle);
        trial.check();
    }

    #[test]
    fn events_in_another_order_give_the_same_scorecard(
        events in events(),
        questions in questions(),
        options in options(),
        seed in any::<u64>(),
        n_at_once in 1..40usize,
    ) {
        let (_left, in_order) = filled(&options, &events, 40);
        let (_right, shuffled) = filled(&options, &shuffled(&events, seed), n_at_once);
        let all = |warehouse: &Warehouse| {
            (folded(&warehouse.snapshot(), &questions, 1, Work::Together).into_iter())
                .map(|folded| folded.map(|folded| (folded.users.clone(), folded.accumulator.not_aggregated)))
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(all(&in_order), all(&shuffled));
        shuffled.settle().unwrap();
        prop_assert_eq!(all(&in_order), all(&shuffled));
        prop_assert_eq!(answers(&shuffled.snapshot(), &questions, 2), expected(&questions, &events));
    }

    #[test]
    fn no_answer_changes_before_the_next_event_that_waits(
        events in events(),
        mut questions in questions(),
    ) {
        let (_directory, warehouse) = filled(&Options::default(), &events, 50);
        let snapshot = warehouse.snapshot();
        let now = folded(&snapshot, &questions, 1, Work::Together);
        for (question, now) in questions.iter_mut().zip(&now) {
            let Some(now) = now else { continue };
            let waits_until = now.next_event_at;
            prop_assert!(waits_until.is_none_or(|time| time > question.data_time));
            let before = as_answer(question, now);
            question.data_time = waits_until.map_or(i64::MAX, |time| time - 1);
            prop_assert_eq!(answer(question, &events), Some(before));
        }
    }

    /// Copies of one assignment may differ in nothing but their context.
    #[test]
    fn a_user_is_in_one_segment_whichever_copy_came_first(
        copies in prop::collection::vec((0..3i64, 0..2i64, 0..2usize), 1..20),
        seed in any::<u64>(),
        options in options(),
    ) {
        let copies: Vec<Event> = (copies.into_iter().enumerate())
            .map(|(at, (user, event_id, context))| {
                let (kind, row) = assigned("gate", user, START + (at % 2) as i64, "a", event_id);
                (kind, EventRow { context: [CONTEXTS[2], CONTEXTS[3]][context], ..row })
            })
            .collect();
        let question = Question { segment: vec![], ..everything("gate") };
        let users = |warehouse: &Warehouse, platform: Option<&'static str>| {
            let segment = platform.map(|platform| ("platform", platform)).into_iter().collect();
            let question = Question { segment, ..question.clone() };
            answers(&warehouse.snapshot(), &[question], 1)[0].as_ref().unwrap().users[0]
        };
        let per_segment = |warehouse: &Warehouse| [Some("ios"), Some("android"), None].map(|platform| users(warehouse, platform));
        let (_left, in_order) = filled(&options, &copies, 5);
        let (_right, other) = filled(&options, &shuffled(&copies, seed), 1);
        let [ios, android, all] = per_segment(&in_order);
        prop_assert_eq!(ios + android, all);
        prop_assert_eq!(per_segment(&other), [ios, android, all]);
        other.settle().unwrap();
        prop_assert_eq!(per_segment(&other), [ios, android, all]);
    }

    #[test]
    fn a_funnel_counts_the_users_for_whom_there_is_a_chain_of_events(
        events in events(),
        questions in questions(),
        wanted in funnels::wanted(),
        n_threads in 1..4usize,
        options in options(),
    ) {
        let (_directory, warehouse) = filled(&options, &events, 50);
        for question in &questions {
            let (plan, funnel) = wanted.asked(question, 9 << 20);
            let view = View::from(warehouse.snapshot());
            let folded = view.run::<Funnel>(&[plan], &[funnel], n_threads).unwrap().remove(0).unwrap();
            let (users, reached) = funnels::found(folded);
            prop_assert_eq!(&reached, &wanted.expected(question, &events));
            if let Some(answer) = answer(question, &events) {
                prop_assert_eq!(users, answer.users);
            }
        }
    }

    /// By day of exposure, and by the days since it.
    #[test]
    fn cohorts_have_the_users_and_sums_of_their_days(
        events in events(),
        questions in questions(),
        followed in cohorts::followed(),
        asked in (0..8i64, 1..5usize),
        n_threads in 1..4usize,
        options in options(),
    ) {
        let events = cohorts::stretched(&events);
        let (_directory, warehouse) = filled(&options, &events, 50);
        let view = View::from(warehouse.snapshot());
        let asked = DaysQuestion { last: day_number(START) + asked.0, limit: asked.1 };
        for question in questions.iter().map(cohorts::stretched_question) {
            let (plan, cohort) = followed.asked(&question, 9 << 20);
            let plans = [plan];
            let found = view.run::<ExposureDays>(&plans, &[asked], n_threads).unwrap().remove(0).unwrap();
            let days = cohorts::found_days(found);
            prop_assert_eq!(&days, &cohorts::expected_days(&question, &events, asked));

            let folded = view.run::<DaysSince>(&plans, &[cohort], n_threads).unwrap().remove(0).ok();
            let found = folded.map(|folded| followed.found(&folded));
            prop_assert_eq!(found, followed.expected(&question, &events));

            let by_day = cohorts::by_day(&question, days.0.into_keys().collect(), 9 << 20);
            cohorts::check_cells(&by_day, |plan| {
                let outcome = fold(&warehouse.snapshot(), std::slice::from_ref(plan), n_threads, |plan| scorecard(&question, plan));
                outcome.unwrap().remove(0).ok()
            })?;
        }
    }

    /// Of the users who count in the end.
    #[test]
    fn past_scorecards_are_those_of_the_events_up_to_each_time(
        events in events(),
        questions in questions(),
        times in pasts::times(),
        n_threads in 1..4usize,
        options in options(),
    ) {
        for question in questions.into_iter().map(|question| Question { left_out: None, ..question }) {
            let events = pasts::of_counted_users(&question, &events);
            let (_directory, warehouse) = filled(&options, &events, 50);
            let view = View::from(warehouse.snapshot());
            let plan = questions::plan(&question, 9 << 20);
            let metrics = pasts::in_every_shape(scorecard(&question, &plan).metrics());
            let times: Vec<i64> = times.iter().copied().filter(|time| *time <= plan.data_time).collect();
            let asked = HistoryPlan { times: times.clone(), metrics: metrics.clone() };
            let found = view.run::<History>(std::slice::from_ref(&plan), &[asked], n_threads).unwrap().remove(0);
            let Ok(found) = found else { continue };
            for (at, time) in times.iter().enumerate() {
                let then = Plan { data_time: *time, ..plan.clone() };
                let scorecard = view.run::<Scorecard>(&[then], std::slice::from_ref(&metrics), 1).unwrap().remove(0);
                let Ok(scorecard) = scorecard else { continue };
                prop_assert_eq!(pasts::found(&found, metrics.len(), at), pasts::expected(&scorecard));
            }
        }
    }

    #[test]
    fn several_funnels_in_one_pass_count_what_each_counts_alone(
        events in events(),
        questions in questions(),
        wanted in prop::collection::vec(funnels::wanted(), 1..5),
        n_threads in 1..4usize,
        options in options(),
    ) {
        let (_directory, warehouse) = filled(&options, &events, 50);
        for question in &questions {
            let (plan, asked) = funnels::asked_together(&wanted, question, 9 << 20);
            let view = View::from(warehouse.snapshot());
            let folded = view.run::<Funnels>(&[plan], &[asked], n_threads).unwrap().remove(0).unwrap();
            let found = funnels::found_together(&folded, wanted.len());
            for (wanted, found) in wanted.iter().zip(found) {
                prop_assert_eq!(found, wanted.expected(question, &events).users);
            }
        }
    }

    /// Cells are what filters choose, and together they are everybody.
    #[test]
    fn each_cell_has_the_numbers_of_the_results_that_are_filtered_by_its_values(
        events in events(),
        questions in questions(),
        n_threads in 1..4usize,
        crossed in any::<bool>(),
        limit in 0..4usize,
    ) {
        let (_directory, warehouse) = filled(&Options::default(), &events, 50);
        let keys: &[&str] = if crossed { &["platform", "new"] } else { &["platform"] };
        for question in &questions {
            cells::check(&warehouse.snapshot(), question, keys, limit, n_threads)?;
        }
    }

    /// Several groups of keys are one pass.
    #[test]
    fn groups_of_keys_in_one_pass_have_the_numbers_of_a_pass_for_each(
        events in events(),
        questions in questions(),
        n_threads in 1..4usize,
        limit in 0..4usize,
    ) {
        let (_directory, warehouse) = filled(&Options::default(), &events, 50);
        let groups: &[&[&str]] = &[&["platform"], &["new", "platform"], &["new"], &["nowhere"]];
        for question in &questions {
            cells::check_groups(&warehouse.snapshot(), question, groups, limit, n_threads)?;
        }
    }

    /// Also where none of the variants is known.
    #[test]
    fn copies_that_tie_in_time_give_the_same_counts_in_every_order(
        copies in prop::collection::vec((0..2i64, 0..3usize, 0..2i64, 0..5usize), 1..20),
        variants in names(VARIANTS),
        seed in any::<u64>(),
        options in options(),
    ) {
        let copies: Vec<Event> = (copies.into_iter())
            .map(|(event_id, variant, forced, context)| {
                let (kind, row) = assigned("gate", 1, START, VARIANTS[variant], event_id);
                (kind, EventRow { value: forced, context: CONTEXTS[context], ..row })
            })
            .collect();
        for segment in [vec![], vec![("platform", "ios")]] {
            let question = [Question { variants: variants.clone(), segment, ..everything("gate") }];
            let (_left, in_order) = filled(&options, &copies, 20);
            let (_right, other) = filled(&options, &shuffled(&copies, seed), 2);
            let first = answers(&in_order.snapshot(), &question, 1);
            prop_assert_eq!(&answers(&other.snapshot(), &question, 1), &first);
            other.settle().unwrap();
            prop_assert_eq!(&answers(&other.snapshot(), &question, 1), &first);
        }
    }
}

#[test]
fn events_of_two_types_under_one_id_are_two_whether_expected_or_not() {
    let typed = |name: &'static str, event_id| {
        (
            EventKind::Metric,
            EventRow {
                name,
                ..bought("gate", 1, START, 5, event_id).1
            },
        )
    };
    let variant = |user, name: &'static str| assigned("gate", user, START, name, 1);
    // `another` and `anything` stand in the same place among the expected names.
    let purchases = [
        typed("buy", 1),
        typed("buy", 1),
        typed("another", 1),
        typed("anything", 1),
        typed("anything", 1),
        typed("buy", 2),
        typed("click", 2),
    ];
    // User 2's only assignment is one to `a`, which is not expected; user 3's one to `b`.
    let assignments = [
        variant(1, "b"),
        variant(2, "b"),
        variant(2, "a"),
        variant(3, "c"),
        variant(3, "b"),
    ];
    let events: Vec<Event> = purchases.into_iter().chain(assignments).collect();
    let question = [Question {
        variants: vec!["b"],
        ..everything("gate")
    }];
    // Either all lie in one sorted segment, or each in its own run.
    for (n_at_once, flush_bytes) in [(events.len(), 1 << 20), (1, 1)] {
        let options = Options {
            flush_bytes,
            fan_in: 100,
            ..Options::default()
        };
        let (_directory, warehouse) = filled(&options, &events, n_at_once);
        let answers = answers(&warehouse.snapshot(), &question, 1);
        assert_eq!(answers, expected(&question, &events));
        let folded = folded(&warehouse.snapshot(), &question, 1, Work::Apart);
        let not_aggregated = &folded[0].as_ref().unwrap().accumulator.not_aggregated;
        assert_eq!(
            not_aggregated,
            &[3],
            "`another`, `anything` and `click`, each once"
        );
        let answer = answers[0].as_ref().unwrap();
        assert_eq!(
            (
                answer.users[0],
                answer.unknown_variant,
                answer.sums[0][0].events
            ),
            (2, 1, 2)
        );
    }
}

#[test]
fn a_metric_without_a_window_ends_with_the_experiment() {
    let events = [
        assigned("gate", 1, START, "a", 1),
        bought("gate", 1, START + 9, 1, 1),
        bought("gate", 1, START + 10, 2, 2),
        bought("gate", 1, START + 11, 4, 3),
    ];
    let (_directory, warehouse) = filled(&Options::default(), &events, 4);
    for (end_at, total) in [(None, 7), (Some(START + 10), 1), (Some(START + 11), 3)] {
        let question = [Question {
            end_at,
            ..everything("gate")
        }];
        let answers = answers(&warehouse.snapshot(), &question, 1);
        assert_eq!(answers, expected(&question, &events));
        assert_eq!(answers[0].as_ref().unwrap().sums[0][0].total, total);
    }
}

#[test]
fn a_sum_beyond_its_range_costs_only_its_own_experiment() {
    let mut events = vec![
        assigned("gate", 1, START, "a", 0),
        assigned("gate-2", 1, START, "a", 0),
    ];
    for event_id in 0..16 {
        events.push(bought("gate", 1, START, LARGEST, event_id));
        events.push(bought("gate-2", 1, START, event_id, event_id));
    }
    let (_directory, warehouse) = filled(&Options::default(), &events, 10);
    let questions = [everything("gate"), everything("gate-2")];
    for work in [Work::Together, Work::Apart] {
        let plans = plans(&questions, work);
        let outcomes = fold(&warehouse.snapshot(), &plans, 1, |plan| {
            scorecard(&questions[0], plan)
        })
        .unwrap();
        let error = outcomes[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("`buy` in experiment `gate`"), "{error}");
        assert_eq!(
            as_answer(&questions[1], outcomes[1].as_ref().unwrap()),
            answer(&questions[1], &events).unwrap()
        );
    }
    assert_eq!(answer(&questions[0], &events), None);
}
