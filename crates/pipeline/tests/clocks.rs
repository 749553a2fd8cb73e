//! Runs by a clock that is wrong, and then right again.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/system.rs"]
mod system;

use system::{EXPERIMENTS, HOUR, NOW, System, events, restored};
use trialog_model::ids::ExperimentId;
use trialog_model::published::{Computation, Published};
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{RunReport, Scope};

const DAY: i64 = 24 * HOUR;
const ROUNDS: i64 = 12;

fn run(system: &System) -> RunReport {
    system.aggregator.run("request", 1, Scope::Touched).unwrap()
}

fn shown(system: &System, id: &str, as_of: Option<UnixMicros>) -> Option<Published> {
    let id = ExperimentId::new(id).unwrap();
    system.catalog.published(&id, as_of).unwrap()
}

fn all(system: &System) -> Vec<Option<Computation>> {
    (EXPERIMENTS.iter())
        .map(|id| shown(system, id, None).map(|published| published.computation))
        .collect()
}

#[test]
fn what_a_run_publishes_is_shown_although_an_earlier_clock_was_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    (0..4).for_each(|round| system.send(&events(round)));
    run(&system);
    system.advance(2 * DAY);
    (4..8).for_each(|round| system.send(&events(round)));
    let ahead = run(&system);
    assert_eq!(ahead.before_last, None);
    system.advance(-2 * DAY);
    (8..ROUNDS).for_each(|round| system.send(&events(round)));
    let right = run(&system);
    assert_eq!(right.before_last.as_ref(), Some(&ahead.computed_at));
    assert_eq!(
        right.experiments,
        EXPERIMENTS.len(),
        "all are computed anew"
    );
    assert_eq!(all(&system), restored(ROUNDS as u64));
    // What was shown at a time is still told of it.
    let last = shown(&system, "a", None).unwrap();
    let at = shown(&system, "a", Some(last.computed_at)).unwrap();
    assert_eq!(at.run_id, last.run_id);
    let later = shown(&system, "a", Some(UnixMicros(NOW + 10 * DAY))).unwrap();
    assert_eq!(later.run_id, last.run_id, "the run that came last");
    // The next run follows the one by the right clock, which is the last one.
    system.send(&events(ROUNDS));
    assert_eq!(run(&system).before_last, None);
    let sound = system.maintenance.verify(&mut |_, _| {}).unwrap();
    assert!(sound.sound, "{:?}", sound.damage);
}

#[test]
fn a_look_after_a_break_counts_whatever_the_clock_said_at_the_break() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    (0..4).for_each(|round| system.send(&events(round)));
    run(&system);
    system.advance(2 * DAY);
    let user = trialog_model::user_id::user_id_from_text("7");
    system.maintenance.forget(user, None, "mia").unwrap();
    system.advance(-2 * DAY);
    run(&system);
    let id = ExperimentId::new("a").unwrap();
    let ids: Vec<ExperimentId> = EXPERIMENTS
        .iter()
        .map(|id| ExperimentId::new(*id).unwrap())
        .collect();
    let all: Vec<&ExperimentId> = ids.iter().collect();
    let sequences = system.catalog.sequences(&all).unwrap();
    let broken: Vec<_> = sequences
        .iter()
        .filter(|sequence| !sequence.breaks.is_empty())
        .collect();
    assert!(!broken.is_empty(), "{id}");
    for sequence in broken {
        assert!(sequence.counts(sequence.looked_at.unwrap()));
    }
}

#[test]
fn results_after_drawn_jumps_equal_those_of_a_clock_that_was_right() {
    let expected = restored(ROUNDS as u64);
    for seed in 0..6 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let directory = tempfile::tempdir().unwrap();
        let system = System::open(directory.path());
        for round in 0..ROUNDS {
            let jump = match chance.bool() {
                true => chance.i64(-3 * 365 * 24..3 * 365 * 24) * HOUR,
                false => 0,
            };
            system.advance(jump);
            system.send(&events(round));
            // A clock far behind sees events of the future, and may refuse.
            let refused = system.aggregator.run("request", 1, Scope::Touched).err();
            if let Some(error) = refused {
                assert!(
                    error.to_string().contains("set the clock right"),
                    "seed {seed}: {error}"
                );
            }
            system.advance(-jump);
        }
        run(&system);
        assert_eq!(all(&system), expected, "seed {seed}");
    }
}

#[test]
fn a_run_ends_in_order_whatever_the_clock_says() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    system.send(&events(0));
    let wanted = run(&system).position;
    for time in [i64::MIN + NOW, -1, 0, 253_402_300_800_000_000, i64::MAX / 2] {
        system.advance(time.wrapping_sub(NOW));
        match system.aggregator.run("request", 1, Scope::Full) {
            Ok(report) => assert_eq!(report.position, wanted),
            Err(error) => assert!(error.to_string().contains("clock"), "{error}"),
        }
        system.advance(NOW.wrapping_sub(time));
    }
    run(&system);
}
