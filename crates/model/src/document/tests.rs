//! Tests the messages about documents that cannot be used.

use serde_json::json;

use super::*;
use crate::experiment::Definition;
use crate::holdout::HoldoutDefinition;
use crate::metric_definition::MetricDefinition;

/// Words that a reader who does not know Rust or serde does not understand.
const RUST_WORDS: [&str; 13] = [
    "struct",
    "sequence",
    "expected",
    "invalid type",
    "invalid value",
    "f64",
    "u64",
    "i64",
    "usize",
    "enum",
    "variant identifier",
    "EOF",
    "Some(",
];

fn said<T: DeserializeOwned>(value: Value) -> (String, String) {
    let shown = value.to_string();
    let error = from_value::<T>(value).err().expect(&shown);
    for word in RUST_WORDS {
        assert!(!error.to_string().contains(word), "{word}: {error}");
    }
    (error.field, error.reason)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn each_error_of_an_experiment_names_its_field_in_plain_words() {
    let valid = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}]});
    let cases = [
        ("", json!(3), "", "is the number 3: give an object"),
        ("", json!([]), "", "is an array: give an object"),
        (
            "variants",
            json!("a,b"),
            "variants",
            "is the text `a,b`: give an array",
        ),
        (
            "variants",
            json!(["a"]),
            "variants[0]",
            "is the text `a`: give an object",
        ),
        (
            "variants",
            json!([{"variant": 1}]),
            "variants[0].variant",
            "is the number 1: give a text",
        ),
        (
            "variants",
            json!([{"weight": 1}]),
            "variants[0].variant",
            "is missing",
        ),
        (
            "variants",
            json!([{"variant": ""}]),
            "variants[0].variant",
            "is empty: give it 1 to 32 characters",
        ),
        (
            "variants",
            json!([{"variant": "a"}, {"variant": "b", "weight": true}]),
            "variants[1].weight",
            "is `true`: give a number",
        ),
        (
            "variants",
            json!([{"variant": "a", "wieght": 1}]),
            "variants[0].wieght",
            "is no field here; there are `variant`, `weight`, `value`; did you mean `weight`?",
        ),
        (
            "allocation",
            json!(null),
            "allocation",
            "is null: give a number",
        ),
        (
            "owner",
            json!({"a": 1}),
            "owner",
            "is an object: give a text",
        ),
        (
            "targeting",
            json!([{"key": "a", "op": "is", "value": 1}]),
            "targeting[0].op",
            "is `is`, which is not known here",
        ),
        (
            "targeting",
            json!([{"key": "a", "op": 1, "value": 1}]),
            "targeting[0].op",
            "is the number 1: give `eq` or",
        ),
        (
            "plan",
            json!({"sample_size_per_variant": 1.5}),
            "plan.sample_size_per_variant",
            "is 1.5",
        ),
        (
            "metrics",
            json!({"primary": "buy"}),
            "metrics.primary",
            "is the text `buy`: give an array",
        ),
        (
            "metrics",
            json!({"primary": [1]}),
            "metrics.primary[0]",
            "is the number 1: give a text",
        ),
        (
            "attribution_window",
            json!(7),
            "attribution_window",
            "is the number 7: give a text",
        ),
        (
            "attribution_window",
            json!("7 days"),
            "attribution_window",
            "`7 days`",
        ),
        (
            "start_at",
            json!("tomorrow"),
            "start_at",
            "is not an RFC 3339 time",
        ),
        (
            "surfaces",
            json!({}),
            "surfaces",
            "is an object: give an array",
        ),
    ];
    for (field, value, expected_field, expected_reason) in cases {
        let mut document = valid.clone();
        match field {
            "" => document = value,
            field => document[field] = value,
        }
        let shown = document.to_string();
        let (said_field, reason) = said::<Definition>(document);
        assert_eq!(said_field, expected_field, "{shown}: {reason}");
        assert!(reason.contains(expected_reason), "{shown}: {reason}");
    }
}

#[test]
fn a_valid_document_is_read_as_serde_json_reads_it() {
    let experiment = json!({
        "experiment_id": "gate", "control": "b", "allocation": 1, "salt": null,
        "variants": [{"variant": "a", "value": {"x": [1, null]}}, {"variant": "b", "weight": 2}],
        "targeting": [{"key": "version", "op": "semver_gte", "value": "1.2.3"}],
        "forced": [{"user_id": "7", "variant": "a"}],
        "start_at": "2026-06-01T00:00:00Z", "attribution_window": "7d",
        "plan": {"sample_size_per_variant": 100.0, "mde": 1},
        "metrics": {"primary": ["buy:sum"], "guardrail": []},
    });
    let expected: Definition = serde_json::from_value(experiment.clone()).unwrap();
    assert_eq!(from_value::<Definition>(experiment).unwrap(), expected);

    let metric = json!({"name": "slow", "kind": "quantile", "event_type": "load", "quantile": 0.9, "direction": "decrease"});
    let expected: MetricDefinition = serde_json::from_value(metric.clone()).unwrap();
    assert_eq!(from_value::<MetricDefinition>(metric).unwrap(), expected);
}

#[test]
fn other_definitions_name_their_fields_too() {
    let (field, reason) =
        said::<MetricDefinition>(json!({"name": "a", "kind": "mean", "event_type": "b"}));
    assert_eq!(field, "kind", "{reason}");
    let (field, _) = said::<HoldoutDefinition>(json!({"name": "a", "size": "5%"}));
    assert_eq!(field, "size");
}

#[test]
fn what_is_not_json_is_told_with_its_place() {
    for (text, expected) in [
        ("", "is empty: give a JSON object"),
        ("{", "it ends in the middle of a value, at line 1, column 1"),
        (
            "{\n  a: 1}",
            "line 2, column 3 has a key that is not in double quotes",
        ),
        ("{\"a\" 1}", "line 1, column 6 has no colon after a key"),
        ("[1 2]", "line 1, column 4 has no comma where one belongs"),
        ("[1,]", "has a comma too many"),
        (
            "{\"a\": 1,\n \"a\": 2}",
            "cannot be used: line 2, column 4: `a` stands twice",
        ),
        ("{} {}", "has something after the end of the value"),
        ("nonsense", "has what is no JSON value"),
        ("\"a\nb\"", "write it as \\n"),
    ] {
        let error = value(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        for word in RUST_WORDS {
            assert!(!error.contains(word), "{text}: {error}");
        }
    }
}
