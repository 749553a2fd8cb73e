//! No input, however odd, makes a family panic, hang, or answer with a number that
//! is none.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use trialog_stats::calc::{FAMILIES, calc};

/// What may be null although there is a result.
const OPTIONAL: [&str; 30] = [
    "lift_ci",
    "relative",
    "odds_ratio",
    "yates",
    "looks",
    "ci_running",
    "order_statistic_ci95_a",
    "order_statistic_ci95_b",
    "lower_threshold",
    "upper_threshold",
    "stopped_at",
    "llr_at_stop",
    "mde_relative",
    "variance",
    "var_x",
    "var_y",
    "cov_xy",
    "adjusted_var_a",
    "adjusted_var_b",
    "F",
    "unit_variance_a",
    "trend",
    "residual",
    "omnibus",
    "per_doubling_ci",
    "intersection",
    "stable_since",
    "precise_since",
    "lift",
    "kept",
];

/// What else may be null in a family although there is a result.
const OPTIONAL_IN: [(&str, &[&str]); 3] = [
    (
        "funnel",
        &[
            "diff",
            "z",
            "p_value",
            "adjusted_p_value",
            "ci",
            "lift",
            "log_ratio",
            "log_ratio_se",
            "step_log_ratio",
            "step_log_ratio_se",
            "rate",
            "rate_ci",
            "from_previous",
            "from_previous_ci",
        ],
    ),
    (
        "interleaving_preference",
        &["se", "t", "df", "p_value", "ci"],
    ),
    ("time_to_step", &["se", "ci", "time", "low", "high"]),
];

/// Values that a number of an example is replaced by.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-308_i32..308, 1.0..10.0)
            .prop_map(|(exponent, digits): (i32, f64)| json!(digits * 10_f64.powi(exponent))),
        (-308_i32..308, 1.0..10.0)
            .prop_map(|(exponent, digits): (i32, f64)| json!(-digits * 10_f64.powi(exponent))),
        (0_u64..20).prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        (0.0..1.0).prop_map(|share: f64| json!(share)),
        prop::sample::select(vec![
            json!(0.0),
            json!(-0.0),
            json!(5e-324),
            json!(f64::MAX),
            json!(f64::MIN),
            json!(1e18),
            Value::Null,
            json!("1"),
            json!([]),
            json!({}),
            json!(true),
            json!([[1, 2], [3]]),
        ]),
    ]
}

/// The places of all numbers in `value`, as JSON pointers.
fn numbers(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| numbers(member, &format!("{place}/{name}"), found)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, item)| numbers(item, &format!("{place}/{index}"), found)),
        Value::Number(_) => found.push(place.to_owned()),
        _ => {}
    }
}

/// The first null that is not optional.
fn missing(family: &str, value: &Value, place: &str) -> Option<String> {
    let is_optional = |name: &str| {
        let more = OPTIONAL_IN.iter().find(|(other, _)| *other == family);
        OPTIONAL.contains(&name) || more.is_some_and(|(_, names)| names.contains(&name))
    };
    match value {
        Value::Null => Some(place.to_owned()),
        Value::Object(members) => (members.iter())
            .filter(|(name, _)| !is_optional(name))
            .find_map(|(name, member)| missing(family, member, &format!("{place}/{name}"))),
        Value::Array(items) => (items.iter().enumerate())
            .find_map(|(index, item)| missing(family, item, &format!("{place}/{index}"))),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn odd_numbers_give_an_answer_or_an_error_with_a_field(
        family in 0..FAMILIES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..4),
    ) {
        let family = &FAMILIES[family];
        let mut input: Value = serde_json::from_str(family.example).unwrap();
        let mut places = Vec::new();
        numbers(&input, "", &mut places);
        for (place, value) in changes {
            if let Some(slot) = input.pointer_mut(place.get(places.as_slice()).as_str()) {
                *slot = value;
            }
        }
        match calc(family.name, &input) {
            Ok(answer) if answer["status"] == "ok" => {
                let missing = missing(family.name, &answer, "");
                prop_assert_eq!(missing, None, "{} {}: {}", family.name, input, answer);
            }
            Ok(answer) => prop_assert_eq!(&answer["status"], "undefined"),
            Err(error) => prop_assert!(error.to_string().starts_with('`'), "{error}"),
        }
    }
}

#[test]
fn the_longest_plan_of_looks_ends() {
    let close: Vec<f64> = (1..100)
        .map(|look| f64::from(look) * 1.001e-4)
        .chain([1.0])
        .collect();
    let input = json!({"type": "spending", "boundary": "pocock", "information_fractions": close});
    let plan = calc("sequential_group", &input).unwrap();
    let spent = plan["cumulative_alpha_spent"][99].as_f64().unwrap();
    assert!((spent - 0.05).abs() < 1e-12);
}
