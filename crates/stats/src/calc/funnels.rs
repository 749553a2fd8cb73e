//! Families about users on their way through ordered steps.

use serde_json::{Value, json};

use super::fields::{Fields, NO_COUNT, count, number};
use super::output::{interval, status};
use super::{CalcError, Family};
use crate::{
    Alpha, Estimate, FunnelComparison, FunnelCounts, FunnelMatcher, FunnelStep, FunnelSteps,
    MAX_FUNNEL_STEPS, Proportion, ReachedBy, TimeToStep, compare_funnels,
};

pub(super) const MATCH: Family = Family {
    name: "funnel_match",
    summary: "how far a user got through ordered steps, and when: the longest chain of events",
    example: r#"{"exposure": 0, "window": 1000, "steps": ["view", "add", "purchase"], "gaps": [null, null, 5], "events": [{"type": "view", "time": 0}, {"type": "add", "time": 1}, {"type": "add", "time": 10}, {"type": "purchase", "time": 12}]}"#,
    compute: |input| {
        let known = ["exposure", "window", "steps", "gaps", "events"];
        let fields = Fields::new(input, &known)?;
        let steps = fields.texts("steps")?;
        if steps.len() > MAX_FUNNEL_STEPS {
            return Err(fields.fault("steps", "must be 1 to 20"));
        }
        // A type has the number of the first step that it occurs in.
        let code_of = |kind: &str| {
            let first = steps.iter().position(|step| *step == kind);
            first.map(|step| step as u8)
        };
        let codes: Vec<u8> = steps.iter().filter_map(|step| code_of(step)).collect();
        let funnel = FunnelSteps::new(&codes, &limits(&fields)?, fields.count("window")?);
        let mut matcher = FunnelMatcher::new(fields.check(funnel)?);
        let mut events = Vec::new();
        for event in fields.objects("events", &["type", "time"])? {
            let time = event.integer("time")?;
            if let Some(code) = code_of(event.text("type")?) {
                events.push((time, code));
            }
        }
        events.sort_unstable();
        matcher.start(fields.integer("exposure")?);
        for (time, code) in events {
            fields.check(matcher.push(code, time))?;
        }
        let times = matcher.finish();
        Ok(json!({"status": "ok", "depth": times.len(), "times": times}))
    },
};

/// None, or one for each step, of which each may be null.
fn limits(fields: &Fields<'_>) -> Result<Vec<Option<u64>>, CalcError> {
    if !fields.has("gaps") {
        return Ok(Vec::new());
    }
    let limit = |value: &Value| match value {
        Value::Null => Some(None),
        other => count(other).map(Some),
    };
    fields.each("gaps", limit, NO_COUNT)
}

pub(super) const FUNNEL: Family = Family {
    name: "funnel",
    summary: "users at each step of a funnel, and where treatments differ from the control",
    example: r#"{"variants": [{"variant": "control", "users": 1000, "steps": [600, 300, 100]}, {"variant": "treatment", "users": 1010, "steps": [610, 340, 130]}], "alpha": 0.05}"#,
    compute: |input| {
        let fields = Fields::new(input, &["variants", "alpha"])?;
        let alpha = fields.alpha()?;
        let given = fields.objects("variants", &["variant", "users", "steps"])?;
        let mut names = Vec::new();
        let mut arms = Vec::new();
        for arm in &given {
            names.push(arm.text("variant")?);
            let counts = FunnelCounts::new(arm.count("users")?, arm.counts("steps")?);
            arms.push(arm.check(counts)?);
        }
        let Some((control, treatments)) = arms.split_first() else {
            return Err(fields.fault("variants", "must have the control at least"));
        };
        let compared = fields.check(compare_funnels(control, treatments))?;
        let mut steps = compared.iter().flatten();
        let is_tested = steps.any(|step| step.adjusted_p_value.is_some());
        let variants = names.iter().zip(&arms).map(|(name, arm)| {
            let steps = arm.steps().into_iter();
            json!({
                "variant": name,
                "steps": steps.map(|step| step_output(&step, alpha)).collect::<Value>(),
            })
        });
        let comparisons = names.iter().skip(1).zip(&compared).map(|(name, steps)| {
            let steps = steps.iter();
            json!({
                "treatment": name,
                "steps": steps.map(|step| comparison_output(step, alpha)).collect::<Value>(),
            })
        });
        Ok(json!({
            "status": if is_tested { "ok" } else { "undefined" },
            "variants": variants.collect::<Value>(),
            "comparisons": comparisons.collect::<Value>(),
        }))
    },
};

fn step_output(step: &FunnelStep, alpha: Alpha) -> Value {
    let wilson = |rate: Option<Proportion>| interval(rate.map(|rate| rate.wilson(alpha)));
    json!({
        "users": step.users,
        "lost": step.lost,
        "rate": step.of_exposed.map(|rate| rate.rate()),
        "rate_ci": wilson(step.of_exposed),
        "from_previous": step.of_previous.map(|rate| rate.rate()),
        "from_previous_ci": wilson(step.of_previous),
    })
}

fn comparison_output(step: &FunnelComparison, alpha: Alpha) -> Value {
    let test = step.test;
    let ratio = |ratio: Option<Estimate>| {
        let standard_error = ratio.map(|ratio| ratio.variance.sqrt());
        (ratio.map(|ratio| ratio.value), standard_error)
    };
    let (log_ratio, log_ratio_se) = ratio(step.log_ratio);
    let (step_log_ratio, step_log_ratio_se) = ratio(step.step_log_ratio);
    json!({
        "diff": test.map(|test| test.difference),
        "z": test.and_then(|test| test.z),
        "p_value": test.and_then(|test| test.p_value),
        "adjusted_p_value": step.adjusted_p_value,
        "ci": interval(test.map(|test| test.newcombe(alpha))),
        "lift": test.and_then(|test| test.relative).map(|relative| relative.lift),
        "log_ratio": log_ratio,
        "log_ratio_se": log_ratio_se,
        "step_log_ratio": step_log_ratio,
        "step_log_ratio_se": step_log_ratio_se,
    })
}

/// Up to here a double holds every integer.
const LARGEST_INTEGER: f64 = 9_007_199_254_740_992.0;

pub(super) const TIME_TO_STEP: Family = Family {
    name: "time_to_step",
    summary: "how long users took to a step: median with an exact interval, curve with open windows",
    example: r#"{"window": 10, "times": [1, 2, 3, 4, 5, 6, null, null, 2.5, null], "observed": [10, 10, 10, 10, 10, 10, 10, 10, 4, 3], "grid": [1, 5], "levels": [0.25], "alpha": 0.05}"#,
    compute: |input| {
        let known = ["window", "times", "observed", "grid", "levels", "alpha"];
        let fields = Fields::new(input, &known)?;
        let alpha = fields.alpha()?;
        let times = fields.each("times", number_or_null, "is not a number")?;
        let observed = fields.numbers("observed")?;
        if times.len() != observed.len() {
            return Err(fields.fault("observed", "must be as many as `times`"));
        }
        let users = times.into_iter().zip(observed);
        let found = fields.check(TimeToStep::from_users(users, fields.number("window")?))?;
        // Times that were given as integers are answered as integers.
        let has_fractions = fields.items("times")?.iter().any(Value::is_f64);
        let time = |time: Option<f64>| match time {
            Some(time) if !has_fractions && time <= LARGEST_INTEGER => json!(time as i64),
            other => json!(other),
        };
        let ends = |(low, high)| json!({"low": time(low), "high": time(high)});
        let median = found.median();
        let quantile = |(index, level): (usize, &f64)| {
            let quantile = found.quantile(*level, alpha).map_err(|_| {
                let reason = "must lie between 0 and 1, both excluded";
                fields.fault(&format!("levels[{index}]"), reason)
            })?;
            let ci = ends((quantile.low, quantile.high));
            Ok(json!({"level": level, "time": time(quantile.time), "ci": ci}))
        };
        let grid = fields.numbers("grid")?;
        let curve = (fields.items("grid")?.iter().zip(&grid))
            .map(|(given, time)| point_output(given, &found.at(*time), alpha));
        let levels = fields.numbers("levels")?;
        let quantiles = levels.iter().enumerate().map(quantile);
        Ok(json!({
            "status": status(median),
            "users": found.users(),
            "reached": found.reached(),
            "mature": found.mature(),
            "mature_reached": found.mature_reached(),
            "median": median,
            "median_ci": median.map(|_| ends(found.median_interval(alpha))),
            "curve": curve.collect::<Value>(),
            "quantiles": quantiles.collect::<Result<Value, CalcError>>()?,
        }))
    },
};

fn point_output(time: &Value, point: &ReachedBy, alpha: Alpha) -> Value {
    json!({
        "time": time,
        "reached": point.reached,
        "se": point.standard_error,
        "ci": interval(point.interval(alpha)),
        "at_risk": point.at_risk,
    })
}

fn number_or_null(value: &Value) -> Option<Option<f64>> {
    match value {
        Value::Null => Some(None),
        other => number(other).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::super::calc;
    use super::*;

    fn error(family: &str, input: &Value) -> String {
        calc(family, input).unwrap_err().to_string()
    }

    #[test]
    fn a_funnel_that_cannot_be_is_refused_at_its_field() {
        let history = |steps: Value, gaps: Value, window: u64| json!({"exposure": 0, "window": window, "steps": steps, "gaps": gaps, "events": []});
        for (input, field) in [
            (history(json!([]), json!(null), 9), "`steps` "),
            (history(json!(vec!["a"; 21]), json!(null), 9), "`steps` "),
            (history(json!(["a", "b"]), json!([1]), 9), "`gaps` "),
            (history(json!(["a", "b"]), json!([null, 0]), 9), "`gaps` "),
            (history(json!(["a", "b"]), json!([1, -1]), 9), "`gaps[1]` "),
            (history(json!(["a", 3]), json!(null), 9), "`steps[1]` "),
            (history(json!(["a"]), json!(null), 0), "`window` "),
        ] {
            let error = error("funnel_match", &input);
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn counts_that_rise_are_refused_at_their_variant() {
        let variants = |steps: &[u64]| {
            let control = json!({"variant": "a", "users": 9, "steps": [5, 2]});
            json!({"variants": [control, {"variant": "b", "users": 9, "steps": steps}]})
        };
        assert!(error("funnel", &variants(&[2, 5])).starts_with("`variants[1].steps` "));
        assert!(error("funnel", &variants(&[10, 5])).starts_with("`variants[1].steps` "));
        assert!(error("funnel", &variants(&[5])).starts_with("`variants` "));
        assert!(error("funnel", &json!({"variants": []})).starts_with("`variants` "));
    }

    #[test]
    fn times_are_answered_in_the_form_in_which_they_are_given() {
        let answer = |time: Value| {
            let input = json!({
                "window": 10, "times": [time, null], "observed": [10, 10], "grid": [4], "levels": [0.5],
            });
            calc("time_to_step", &input).unwrap()["quantiles"][0]["time"].clone()
        };
        assert_eq!(answer(json!(3)), json!(3));
        assert_eq!(answer(json!(3.0)), json!(3.0));
        let short = json!({"window": 1, "times": [1], "observed": [], "grid": [], "levels": []});
        assert!(error("time_to_step", &short).starts_with("`observed` "));
    }
}
