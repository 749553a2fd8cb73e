//! Builds the outputs that several families share.

use serde_json::{Value, json};

use crate::{Alpha, Interval, Welch};

/// Returns the word that says whether there is a result.
pub(super) fn status(result: Option<f64>) -> &'static str {
    if result.is_some() { "ok" } else { "undefined" }
}

pub(super) fn interval(interval: Option<Interval>) -> Value {
    interval.map_or(
        Value::Null,
        |ends| json!({"low": ends.low, "high": ends.high}),
    )
}

/// Returns one interval for each level, or null if an interval is missing at any level.
pub(super) fn intervals(alphas: &[Alpha], of: impl Fn(Alpha) -> Option<Interval>) -> Value {
    let entry = |alpha: &Alpha| {
        let Interval { low, high } = of(*alpha)?;
        Some(json!({"alpha": alpha.get(), "low": low, "high": high}))
    };
    let entries: Option<Vec<Value>> = alphas.iter().map(entry).collect();
    entries.map_or(Value::Null, Value::Array)
}

/// Returns the fields that every test based on Welch's has.
pub(super) fn welch(test: &Welch, alphas: &[Alpha]) -> Value {
    json!({
        "status": status(test.p_value),
        "diff": test.difference,
        "se": test.standard_error,
        "t": test.t,
        "df": test.df,
        "p_value": test.p_value,
        "ci": intervals(alphas, |alpha| test.interval(alpha)),
        "relative": relative(test, alphas),
    })
}

pub(super) fn relative(test: &Welch, alphas: &[Alpha]) -> Value {
    test.relative.map_or(Value::Null, |relative| {
        json!({
            "lift": relative.lift,
            "se": relative.standard_error,
            "ci": intervals(alphas, |alpha| test.relative_interval(alpha)),
        })
    })
}

/// Adds the members of `more` to `base`.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}
