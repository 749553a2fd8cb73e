//! Whether a condition holds for a context.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::semver::compare;
use crate::experiment::{Condition, Operator};

/// A key that is missing or null fails every condition but `neq`, `not_in` and
/// `present: false`; so does a value of another type than the condition's.
pub(super) fn holds(condition: &Condition, context: &Map<String, Value>) -> bool {
    let own = context.get(&condition.key).filter(|own| !own.is_null());
    let wanted = &condition.value;
    match condition.op {
        Operator::Present => own.is_some() == wanted.as_bool().unwrap_or(true),
        Operator::Eq => own.is_some_and(|own| equal(own, wanted)),
        Operator::Neq => !own.is_some_and(|own| equal(own, wanted)),
        Operator::In => own.is_some_and(|own| is_among(own, wanted)),
        Operator::NotIn => !own.is_some_and(|own| is_among(own, wanted)),
        Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte => own
            .and_then(|own| order(own, wanted))
            .is_some_and(|order| agrees(condition.op, order)),
        Operator::SemverLt
        | Operator::SemverLte
        | Operator::SemverEq
        | Operator::SemverGt
        | Operator::SemverGte => own
            .and_then(Value::as_str)
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

fn is_among(own: &Value, wanted: &Value) -> bool {
    (wanted.as_array()).is_some_and(|all| all.iter().any(|one| equal(own, one)))
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
        holds(&condition, context.as_object().unwrap())
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
