//! Whether a condition holds for a context.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::semver::compare;
use crate::experiment::{Condition, Operator};

/// Keys that stand for the unit itself where the context has no such key of its own.
const UNIT_KEYS: [&str; 2] = ["targetingKey", "user_id"];

/// What is known under the key of a condition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'g> {
    Nothing,
    Value(&'g Value),
    /// The unit's own id.
    Unit(&'g str),
}

/// What a unit and its context have under the key of `condition`.
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
    pub(super) fn value(self) -> Option<Value> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(value.clone()),
            Self::Unit(unit) => Some(unit.into()),
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
            Self::Value(own) => equal(own, wanted),
            _ => self.text().is_some_and(|own| wanted.as_str() == Some(own)),
        }
    }

    fn is_among(self, wanted: &Value) -> bool {
        (wanted.as_array()).is_some_and(|all| all.iter().any(|one| self.equals(one)))
    }

    fn order(self, wanted: &Value) -> Option<Ordering> {
        match self {
            Self::Value(own) => order(own, wanted),
            _ => Some(self.text()?.cmp(wanted.as_str()?)),
        }
    }
}

/// A key that is missing or null fails every condition but `neq`, `not_in` and
/// `present: false`; so does a value of another type than the condition's.
pub(super) fn holds(condition: &Condition, own: Given<'_>) -> bool {
    let wanted = &condition.value;
    match condition.op {
        Operator::Present => !matches!(own, Given::Nothing) == wanted.as_bool().unwrap_or(true),
        Operator::Eq => own.equals(wanted),
        Operator::Neq => !own.equals(wanted),
        Operator::In => own.is_among(wanted),
        Operator::NotIn => !own.is_among(wanted),
        Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte => own
            .order(wanted)
            .is_some_and(|order| agrees(condition.op, order)),
        Operator::SemverLt
        | Operator::SemverLte
        | Operator::SemverEq
        | Operator::SemverGt
        | Operator::SemverGte => (own.text())
            .zip(wanted.as_str())
            .and_then(|(own, wanted)| compare(own, wanted))
            .is_some_and(|order| agrees(condition.op, order)),
    }
}

/// Numbers are equal by their values, whatever their notation.
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
