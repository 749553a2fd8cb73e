//! How long an input takes, told from the input alone.
//!
//! The numbers are microseconds of one core, measured in November 2026 on the slowest inputs
//! that were found for each family and rounded up. They keep a request from taking a core for
//! long; a machine that is twice as slow takes twice as long.

use serde_json::Value;

/// What any object takes.
const OBJECT: f64 = 20.0;
/// What a number of a list takes that every family reads once or a few times.
const VALUE: f64 = 2.0;
/// What a level takes: intervals are computed anew for each.
const LEVEL: f64 = 10.0;
/// What a step of a variant takes: six intervals and a test.
const STEP: f64 = 10.0;

/// Returns about how many microseconds `calc` takes for `input`; for what it refuses, any number.
///
/// ```
/// use serde_json::json;
/// use trialog_stats::calc::cost_micros;
/// let few = cost_micros("srm_chi2", &json!({"counts": [49, 51], "weights": [1, 1]}));
/// let looks: Vec<f64> = (1..=100).map(|look| f64::from(look) / 100.0).collect();
/// let classical = json!({"type": "classical", "information_fractions": looks});
/// assert!(few < 100 && cost_micros("sequential_group", &classical) > 1_000_000);
/// ```
#[must_use]
pub fn cost_micros(family: &str, input: &Value) -> u64 {
    let own = match family {
        "bayesian_beta_binomial" => bayes_rate(input),
        "sequential_group" => group(input),
        "fisher_exact" => 0.03 * sum(&input["table"]).sqrt(),
        "power" => power(input),
        "funnel" => STEP * n_values(&input["variants"]),
        "time_to_step" => 0.1 * n_values(&input["times"]) * n_values(&input["levels"]),
        _ => 0.0,
    };
    let levels = LEVEL
        * input["alphas"]
            .as_array()
            .map_or(0.0, |list| list.len() as f64);
    (OBJECT + VALUE * n_values(input) + levels + own) as u64
}

/// Tails of Beta distributions, whose cost grows with the cube root of the units.
fn bayes_rate(input: &Value) -> f64 {
    let units = |arm: &str| input[arm]["n"].as_f64().unwrap_or_default().max(0.0);
    800.0 + 40.0 * units("a").max(units("b")).cbrt()
}

/// A density carried from look to look; a classical plan is solved by carrying it many times.
fn group(input: &Value) -> f64 {
    let n_looks = input["information_fractions"]
        .as_array()
        .map_or(0, Vec::len) as f64;
    let each = if input["type"] == "classical" {
        180.0
    } else {
        60.0
    };
    each * n_looks * n_looks
}

/// Student's test is solved by bisection over noncentral tails.
fn power(input: &Value) -> f64 {
    match (input["method"].as_str(), input["solve_for"].as_str()) {
        (Some("t_means"), Some("power")) => 100.0,
        (Some("t_means"), _) => 2_000.0,
        _ => 50.0,
    }
}

fn n_values(input: &Value) -> f64 {
    match input {
        Value::Array(items) => items.iter().map(n_values).sum(),
        Value::Object(members) => members.values().map(n_values).sum(),
        _ => 1.0,
    }
}

fn sum(input: &Value) -> f64 {
    match input {
        Value::Array(items) => items.iter().map(sum).sum(),
        other => other.as_f64().unwrap_or_default().max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{FAMILIES, calc};
    use super::*;

    #[test]
    fn every_example_is_cheap() {
        for family in &FAMILIES {
            let input = serde_json::from_str(family.example).unwrap();
            let cost = cost_micros(family.name, &input);
            assert!((20..4_000).contains(&cost), "{}: {cost}", family.name);
        }
    }

    #[test]
    fn what_makes_an_input_slow_makes_it_cost_more() {
        let looks = |n: u32, kind: &str| {
            let fractions: Vec<f64> = (1..=n).map(|look| f64::from(look) / f64::from(n)).collect();
            json!({"type": kind, "boundary": "pocock", "information_fractions": fractions})
        };
        let arm = |n: u64| json!({"conversions": n / 2, "n": n});
        let rates = |n: u64| json!({"a": arm(n), "b": arm(n)});
        let levels = |n: usize| json!({"a": arm(100), "b": arm(100), "alphas": vec![0.05; n]});
        let exact = |n: u64| json!({"table": [[n, n], [n, n]]});
        let variants = |n: usize| json!({"variants": vec![json!({"steps": [2, 1]}); n]});
        let levelled = |n: usize| json!({"times": vec![1; 1_000], "levels": vec![0.5; n]});
        let design = |method: &str| json!({"method": method, "solve_for": "n"});
        for (family, cheap, dear) in [
            (
                "sequential_group",
                looks(10, "classical"),
                looks(100, "classical"),
            ),
            (
                "sequential_group",
                looks(90, "spending"),
                looks(90, "classical"),
            ),
            ("bayesian_beta_binomial", rates(100), rates(1_000_000_000)),
            ("two_proportion_z", levels(1), levels(1_000)),
            ("fisher_exact", exact(10), exact(1_000_000_000)),
            ("power", design("z_means"), design("t_means")),
            ("funnel", variants(10), variants(100)),
            ("time_to_step", levelled(1), levelled(1_000)),
            (
                "moments",
                json!({"values": [1]}),
                json!({"values": vec![1; 1_000]}),
            ),
        ] {
            let (cheap, dear) = (cost_micros(family, &cheap), cost_micros(family, &dear));
            assert!(dear > 2 * cheap, "{family}: {cheap} and {dear}");
        }
    }

    #[test]
    fn an_input_that_is_refused_has_a_cost_as_well() {
        for input in [
            json!(null),
            json!([1, "a"]),
            json!({"a": {"n": -5}, "table": "x"}),
        ] {
            for family in &FAMILIES {
                assert!(calc(family.name, &input).is_err());
                assert!(cost_micros(family.name, &input) < 10_000, "{}", family.name);
            }
        }
    }
}
