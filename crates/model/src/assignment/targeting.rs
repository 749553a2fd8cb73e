//! Tests whether a targeting condition holds for a context.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::experiment::{Condition, Operator};
use crate::semver::compare;

/// Keys that name the unit itself if the context has no such key.
const UNIT_KEYS: [&str; 2] = ["targetingKey", "user_id"];

/// Characters of a text that a step shows, and about as many of anything else.
const MAX_SHOWN: usize = 256;
/// No version is longer: comparing would read all of it for each condition.
const MAX_VERSION_BYTES: usize = 1_024;

/// What the context holds under the key of a condition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'g> {
    Nothing,
    Value(&'g Value),
    /// The id of the unit.
    Unit(&'g str),
}

/// Looks up the key of `condition` in the context, then in the unit.
pub(super) fn given<'g>(
    condition: &Condition,
    unit: &'g str,
    context: &'g Map<String, Value>,
) -> Given<'g> {
    match context.get(&condition.key) {
        Some(Value::Null) => Given::Nothing,
        Some(value) => Given::Value(value),
        None if UNIT_KEYS.contains(&condition.key.as_str()) => Given::Unit(unit),
        None => Given::Nothing,
    }
}

impl<'g> Given<'g> {
    /// Returns the value as a step shows it. A request can ask for many experiments with many
    /// conditions each, so long values are not repeated in every step: texts are cut, and other
    /// long values are described by their type.
    pub(super) fn shown(self) -> Option<Value> {
        match self {
            Self::Nothing => None,
            Self::Unit(unit) => Some(cut(unit).into()),
            Self::Value(Value::String(text)) => Some(cut(text).into()),
            Self::Value(value) if is_longer(value, &mut { MAX_SHOWN }) => Some(match value {
                Value::Array(all) => format!("an array of {} elements", all.len()).into(),
                _ => "a long object".into(),
            }),
            Self::Value(value) => Some(value.clone()),
        }
    }

    fn text(self) -> Option<&'g str> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => value.as_str(),
            Self::Unit(unit) => Some(unit),
        }
    }

    fn equals(self, wanted: &Value) -> bool {
        match self {
            Self::Value(value) => equal(value, wanted),
            _ => self
                .text()
                .is_some_and(|text| wanted.as_str() == Some(text)),
        }
    }

    fn is_among(self, wanted: &Value) -> bool {
        (wanted.as_array()).is_some_and(|all| all.iter().any(|one| self.equals(one)))
    }

    fn order(self, wanted: &Value) -> Option<Ordering> {
        match self {
            Self::Value(value) => order(value, wanted),
            _ => Some(self.text()?.cmp(wanted.as_str()?)),
        }
    }
}

/// Tests a condition. A key that is missing or null fails every condition but `neq`, `not_in` and
/// `present: false`; so does a value of another type than the condition's.
pub(super) fn holds(condition: &Condition, given: Given<'_>) -> bool {
    let wanted = &condition.value;
    match condition.op {
        Operator::Present => !matches!(given, Given::Nothing) == wanted.as_bool().unwrap_or(true),
        Operator::Eq => given.equals(wanted),
        Operator::Neq => !given.equals(wanted),
        Operator::In => given.is_among(wanted),
        Operator::NotIn => !given.is_among(wanted),
        Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte => given
            .order(wanted)
            .is_some_and(|order| agrees(condition.op, order)),
        Operator::SemverLt
        | Operator::SemverLte
        | Operator::SemverEq
        | Operator::SemverGt
        | Operator::SemverGte => (given.text())
            .filter(|version| version.len() <= MAX_VERSION_BYTES)
            .zip(wanted.as_str())
            .and_then(|(version, wanted)| compare(version, wanted))
            .is_some_and(|order| agrees(condition.op, order)),
    }
}

/// The first characters of `text`, with an ellipsis where there are more.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns whether `value` has more than `left` characters. The function stops reading there.
fn is_longer(value: &Value, left: &mut usize) -> bool {
    let length = match value {
        Value::String(text) => text.len(),
        Value::Object(members) if members.len() > *left => return true,
        Value::Object(members) => members.keys().map(String::len).sum(),
        _ => 0,
    };
    let Some(rest) = left.checked_sub(length + 2) else {
        return true;
    };
    *left = rest;
    match value {
        Value::Array(elements) => elements.iter().any(|element| is_longer(element, left)),
        Value::Object(members) => members.values().any(|member| is_longer(member, left)),
        _ => false,
    }
}

/// Compares numbers by value, whatever their notation.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => order(a, b) == Some(Ordering::Equal),
        _ => a == b,
    }
}

/// Numbers by value and texts by their characters; nothing else has an order.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        return Some(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        return a.partial_cmp(&b);
    }
    Some(a.as_str()?.cmp(b.as_str()?))
}

fn agrees(op: Operator, order: Ordering) -> bool {
    match op {
        Operator::Lt | Operator::SemverLt => order.is_lt(),
        Operator::Lte | Operator::SemverLte => order.is_le(),
        Operator::Gt | Operator::SemverGt => order.is_gt(),
        Operator::Gte | Operator::SemverGte => order.is_ge(),
        _ => order.is_eq(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(op: &str, value: &Value, context: &Value) -> bool {
        let condition = json!({"key": "k", "op": op, "value": value});
        let condition: Condition = serde_json::from_value(condition).unwrap();
        holds(
            &condition,
            given(&condition, "alice", context.as_object().unwrap()),
        )
    }

    #[test]
    fn a_step_shows_what_is_long_by_its_beginning_or_its_kind() {
        let shown = |value: &Value| Given::Value(value).shown().unwrap();
        for short in [
            json!("ab"),
            json!(1.5),
            json!([1, "b"]),
            json!({"a": [true]}),
        ] {
            assert_eq!(shown(&short), short);
        }
        let long = "é".repeat(1_000);
        let cut: Value = format!("{}…", "é".repeat(MAX_SHOWN)).into();
        assert_eq!(shown(&json!(long)), cut);
        assert_eq!(Given::Unit(&long).shown(), Some(cut));
        assert_eq!(
            shown(&json!(vec![1; 1_000])),
            json!("an array of 1000 elements")
        );
        assert_eq!(shown(&json!([[long]])), json!("an array of 1 elements"));
        assert_eq!(shown(&json!({ long: 1 })), json!("a long object"));
    }

    #[test]
    fn a_text_that_is_longer_than_any_version_is_none() {
        let version = |length: usize| json!({ "k": format!("1.0.0+{}", "b".repeat(length)) });
        let wanted = json!("1.0.0");
        assert!(says("semver_eq", &wanted, &version(MAX_VERSION_BYTES - 6)));
        assert!(!says("semver_eq", &wanted, &version(MAX_VERSION_BYTES)));
    }

    #[test]
    fn the_units_own_id_stands_under_its_names_unless_the_context_has_them() {
        let says = |key: &str, op: &str, value: &Value, context: &Value| {
            let condition = json!({"key": key, "op": op, "value": value});
            let condition: Condition = serde_json::from_value(condition).unwrap();
            holds(
                &condition,
                given(&condition, "alice", context.as_object().unwrap()),
            )
        };
        for key in ["targetingKey", "user_id"] {
            assert!(says(key, "in", &json!(["alice", "bob"]), &json!({})));
            assert!(!says(key, "not_in", &json!(["alice"]), &json!({})));
            assert!(says(key, "eq", &json!("alice"), &json!({})));
            assert!(!says(key, "eq", &json!(7), &json!({})));
            assert!(says(key, "lt", &json!("b"), &json!({})));
            assert!(says(key, "present", &json!(true), &json!({})));
            assert!(!says(key, "eq", &json!("alice"), &json!({key: "eve"})));
            assert!(says(key, "present", &json!(false), &json!({key: null})));
        }
        assert!(!says("user", "eq", &json!("alice"), &json!({})));
    }

    #[test]
    fn a_missing_key_fails_all_but_what_says_so() {
        for absent in [json!({}), json!({"k": null})] {
            let all = [
                ("eq", json!(1), false),
                ("neq", json!(1), true),
                ("in", json!([1]), false),
                ("not_in", json!([1]), true),
                ("lt", json!(1), false),
                ("gte", json!(1), false),
                ("semver_eq", json!("1.0.0"), false),
                ("present", json!(true), false),
                ("present", json!(false), true),
            ];
            for (op, value, expected) in all {
                assert_eq!(says(op, &value, &absent), expected, "{op} {absent}");
            }
        }
    }

    #[test]
    fn values_are_compared_within_their_type() {
        assert!(says("eq", &json!(1), &json!({"k": 1.0})));
        assert!(!says("eq", &json!("1"), &json!({"k": 1})));
        assert!(says("in", &json!(["a", 2]), &json!({"k": 2})));
        assert!(says("gte", &json!(18), &json!({"k": 18})));
        assert!(!says("gt", &json!(18), &json!({"k": "19"})));
        assert!(says("lt", &json!("b"), &json!({"k": "a"})));
        assert!(says(
            "gt",
            &json!(9_007_199_254_740_992_i64),
            &json!({"k": 9_007_199_254_740_993_i64})
        ));
        assert!(!says("lt", &json!(true), &json!({"k": false})));
    }

    #[test]
    fn versions_are_compared_as_versions() {
        assert!(says("semver_lt", &json!("1.10.0"), &json!({"k": "1.9.0"})));
        assert!(says(
            "semver_gte",
            &json!("2.0.0-rc.1"),
            &json!({"k": "2.0.0"})
        ));
        assert!(says(
            "semver_eq",
            &json!("1.0.0+a"),
            &json!({"k": "1.0.0+b"})
        ));
        assert!(!says("semver_gt", &json!("1.0.0"), &json!({"k": "newest"})));
    }
}
