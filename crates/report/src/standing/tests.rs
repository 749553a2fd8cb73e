//! Tests standings of successive looks, and the planned look.

use serde_json::{Value, json};
use trialog_model::experiment::Status;
use trialog_model::published::VariantExposures;
use trialog_model::sequence::{Break, BreakReason, PastLook};

use super::*;

const NOW: i64 = 1_760_000_000_000_000;
const DAY: i64 = 86_400_000_000;

fn subject(more: &Value) -> Subject<'static> {
    let mut definition = json!({"experiment_id": "gate", "attribution_window": "1d",
        "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy:conversion"]}});
    for (field, value) in more.as_object().into_iter().flatten() {
        definition[field] = value.clone();
    }
    let definition: Definition = serde_json::from_value(definition).expect("a definition");
    Subject {
        status: Status::Running,
        started_at: Some(UnixMicros(NOW)),
        ..Subject::from_definition(Box::leak(Box::new(definition)))
    }
}

/// 1,000 users an arm, of whom so many converted.
fn computation(converted: [u64; 2]) -> Computation {
    let row = |(variant, converted): (&str, u64)| VariantMetric {
        variant: variant.to_owned(),
        metric_name: "buy".to_owned(),
        user_count: 1_000,
        event_count: converted,
        total: i128::from(converted) * 10_000,
        conversion_rate: converted as f64 / 1e3,
        mean_value: converted as f64 / 1e3,
        variance: None,
        converted_users: converted,
        squared_total: i128::from(converted) * 100_000_000,
        squared_events: u128::from(converted),
        more: None,
    };
    let exposed = |variant: &str| VariantExposures {
        variant: variant.to_owned(),
        user_count: 1_000,
        crossover_users: 0,
    };
    Computation {
        exposures: vec![exposed("a"), exposed("b")],
        metrics: ["a", "b"].into_iter().zip(converted).map(row).collect(),
        ..Computation::empty(subject(&Value::Null).definition.experiment_id.clone())
    }
}

fn next(
    previous: Option<&Standing>,
    subject: &Subject<'_>,
    converted: [u64; 2],
    day: i64,
    is_planned: bool,
) -> Standing {
    let look = Look {
        subject: *subject,
        computation: &computation(converted),
        at: UnixMicros(NOW + day * DAY),
        is_planned,
    };
    Standing::next(previous, &look)
}

fn smallest(standing: &Standing) -> (f64, f64, u64) {
    let test = &standing.tests[0];
    (test.p_value, test.difference, test.looks)
}

#[test]
fn a_standing_keeps_the_smallest_p_value_with_its_difference() {
    let gate = subject(&Value::Null);
    let first = next(None, &gate, [100, 150], 1, false);
    let second = next(Some(&first), &gate, [150, 150], 2, false);
    let (p_value, difference, _) = smallest(&first);
    assert!((difference - 0.05).abs() < 1e-12);
    assert_eq!(smallest(&second), (p_value, difference, 2));
    let third = next(Some(&second), &gate, [100, 180], 3, false);
    assert!(smallest(&third).0 < p_value);
    assert_eq!(Standing::parse(&third.to_json()), Some(third.clone()));
    assert_eq!(third.since(), Some(UnixMicros(NOW + DAY)));
    let looks: Vec<(UnixMicros, Vec<VariantMetric>)> = [[100, 180], [150, 150], [100, 150]]
        .into_iter()
        .zip([3, 2, 1])
        .map(|(converted, day)| (UnixMicros(NOW + day * DAY), computation(converted).metrics))
        .collect();
    let of_rows = Standing::of_looks(&gate, &looks).expect("looks");
    assert_eq!(of_rows.tests, third.tests);
}

#[test]
fn what_a_test_is_made_of_starts_it_anew_and_the_rest_does_not() {
    let first = next(None, &subject(&Value::Null), [100, 150], 1, false);
    let looks = |more: Value| {
        let second = next(Some(&first), &subject(&more), [150, 150], 2, false);
        smallest(&second).2
    };
    for anew in [
        json!({"alpha": 0.1}),
        json!({"attribution_window": "2d"}),
        json!({"start_at": "2025-01-01T00:00:00Z"}),
        json!({"plan": {"sample_size_per_variant": 10}}),
        json!({"end_at": "2025-10-01T00:00:00Z"}),
    ] {
        assert_eq!(looks(anew.clone()), 1, "{anew}");
    }
    for same in [
        json!({"owner": "games"}),
        json!({"allocation": 0.5}),
        json!({"end_at": "2026-10-01T00:00:00Z"}),
        json!({"metrics": {"primary": ["buy:conversion"], "secondary": ["visit"]}}),
    ] {
        assert_eq!(looks(same.clone()), 2, "{same}");
    }
}

#[test]
fn the_planned_look_is_taken_once() {
    let gate = subject(&json!({"plan": {"sample_size_per_variant": 900}}));
    let first = next(None, &gate, [100, 150], 1, true);
    let key = ("buy", MetricKind::Conversion, "b");
    let basis = |standing: &Standing| {
        (standing.planned.as_ref()).map(|planned| planned.results[0].basis.clone())
    };
    let verdict = basis(&first).expect("a look");
    let planned = first
        .planned_headline(key, &verdict)
        .expect("an outcome")
        .clone();
    assert_eq!(
        (planned.test.as_deref(), planned.alpha),
        (Some("fixed_horizon"), Some(0.04))
    );
    let second = next(Some(&first), &gate, [150, 150], 2, true);
    assert_eq!(second.planned_headline(key, &verdict), Some(&planned));
    assert_eq!(second.planned_headline(key, "another meaning"), None);
    let computation = computation([150, 150]);
    let when = |previous| when_planned(&gate, &computation, previous, UnixMicros(NOW + 2 * DAY));
    assert_eq!(when(Some(&second)), Planned::No);
    let week_ago = NOW - 5 * DAY;
    let expected = Planned::If {
        mature: NOW + DAY + 1,
        first: Some(week_ago + 1),
        users: 900,
    };
    assert_eq!(when(None), expected);
    let draft = Subject {
        status: Status::Draft,
        ..gate
    };
    assert_eq!(
        when_planned(&draft, &computation, None, UnixMicros(NOW)),
        Planned::No
    );
}

#[test]
fn what_is_gone_takes_the_smallest_p_values_and_leaves_the_planned_outcome() {
    let gate = subject(&json!({"plan": {"sample_size_per_variant": 900}}));
    let standing = next(None, &gate, [100, 150], 1, true);
    let sequence = |reason, day: i64| Sequence {
        looked_at: Some(PastLook {
            at: UnixMicros(NOW + DAY),
            run_id: 1,
        }),
        standing: Some(standing.to_json()),
        breaks: vec![Break {
            reason,
            at: UnixMicros(NOW + day * DAY),
            after_run: None,
            actor: "mia".to_owned(),
            fields: Vec::new(),
            confirmed: None,
        }],
    };
    let earlier = Standing::from_sequence(&sequence(BreakReason::Erasure, 0));
    assert_eq!(earlier.as_ref(), Some(&standing));
    for reason in [BreakReason::Erasure, BreakReason::Retention] {
        let kept = Standing::from_sequence(&sequence(reason, 2)).expect("the planned look");
        assert_eq!((kept.tests.len(), kept.since()), (0, None));
        assert_eq!(kept.planned, standing.planned);
        // It is never taken again, whatever comes in.
        let after = next(Some(&kept), &gate, [100, 180], 3, true);
        assert_eq!((&after.planned, after.looks), (&standing.planned, 1));
    }
    // Another end takes users out, and no second chance comes of it.
    let ended = subject(
        &json!({"plan": {"sample_size_per_variant": 900}, "end_at": "2025-10-01T00:00:00Z"}),
    );
    let after = next(Some(&standing), &ended, [90, 150], 3, true);
    assert_eq!((&after.planned, after.looks), (&standing.planned, 1));
    // By another plan it is another look.
    let other = subject(&json!({"plan": {"sample_size_per_variant": 950}}));
    assert_eq!(
        next(Some(&standing), &other, [90, 150], 3, false).planned,
        None
    );
}

#[test]
fn the_sample_ratio_is_tested_anew_against_other_weights() {
    let gate = subject(&Value::Null);
    let wrong = subject(&json!({"variants": [{"variant": "a", "weight": 9}, {"variant": "b"}]}));
    let first = next(None, &wrong, [100, 100], 1, false);
    assert!(first.srm.is_some_and(|p| p < 1e-10));
    let second = next(Some(&first), &gate, [100, 100], 2, false);
    assert!(second.srm.is_some_and(|p| p > 0.5), "{:?}", second.srm);
    assert_eq!(smallest(&second).2, 2);
}
