//! Every case of `testdata/reference/` that belongs to this crate, compared by the
//! rule of the vectors: `|got - want| <= max(abs, rel * |want|)`, with the pair of
//! the nearest enclosing key that the case lists. A number without such an entry
//! that is an integer in the file must match exactly, as must text, booleans and
//! nulls.

#![expect(clippy::print_stdout, reason = "reports the worst error per family")]
#![expect(
    clippy::unwrap_used,
    reason = "a malformed vector file is a failed test"
)]

use serde_json::{Value, json};
use trialog_stats::{
    Alpha, Correction, Interval, Proportion, Summary, adjust, effect_size, sample_ratio_mismatch,
    two_proportion_z, welch,
};

#[test]
fn welch_t() {
    check_family("welch_t", 43, |input| {
        let (a, b) = (summary(&input["a"]), summary(&input["b"]));
        let test = welch(&a, &b);
        json!({
            "status": status(test.p_value),
            "diff": test.difference,
            "se": test.standard_error,
            "t": test.t,
            "df": test.df,
            "p_value": test.p_value,
            "ci": intervals(input, |alpha| test.interval(alpha)),
            "relative": test.relative.map(|relative| json!({
                "lift": relative.lift,
                "se": relative.standard_error,
                "ci": intervals(input, |alpha| test.relative_interval(alpha)),
            })),
        })
    });
}

#[test]
fn cohens_d() {
    check_family("cohens_d", 22, |input| {
        let effect = effect_size(&summary(&input["a"]), &summary(&input["b"]));
        json!({
            "status": status(effect.cohens_d),
            "pooled_sd": effect.pooled_sd,
            "cohens_d": effect.cohens_d,
            "hedges_g": effect.hedges_g,
            "hedges_g_exact": effect.hedges_g_exact,
        })
    });
}

#[test]
fn two_proportions() {
    check_family("two_proportion_z", 30, |input| {
        let test = two_proportion_z(&proportion(&input["a"]), &proportion(&input["b"]));
        let pair = |interval: Interval| [interval.low, interval.high];
        let wilson = alphas(input).into_iter().map(|alpha| {
            let (a, b) = (test.a.wilson(alpha), test.b.wilson(alpha));
            json!({"alpha": alpha.get(), "a": pair(a), "b": pair(b)})
        });
        json!({
            "status": status(test.p_value),
            "diff": test.difference,
            "rate_a": test.a.rate(),
            "rate_b": test.b.rate(),
            "rate_pooled": test.rate_pooled,
            "se_pooled": test.standard_error_pooled,
            "se_unpooled": test.standard_error_unpooled,
            "z": test.z,
            "p_value": test.p_value,
            "ci_wald": intervals(input, |alpha| Some(test.wald(alpha))),
            "ci_newcombe": intervals(input, |alpha| Some(test.newcombe(alpha))),
            "ci_wilson_arms": wilson.collect::<Value>(),
        })
    });
}

#[test]
fn srm_chi2() {
    check_family("srm_chi2", 25, |input| {
        let counts: Vec<u64> = list(&input["counts"], Value::as_u64);
        let weights: Vec<f64> = list(&input["weights"], Value::as_f64);
        let srm = sample_ratio_mismatch(&counts, &weights).unwrap();
        json!({
            "status": status(srm.p_value),
            "chi2": srm.chi_squared,
            "df": srm.df,
            "p_value": srm.p_value,
            "expected_counts": srm.expected_counts,
        })
    });
}

#[test]
fn multiple_comparisons() {
    check_family("multiple_comparisons", 35, |input| {
        let p_values: Vec<f64> = list(&input["p_values"], Value::as_f64);
        let alpha = input["alpha"].as_f64().unwrap();
        let adjusted_by = |correction| {
            let adjusted = adjust(correction, &p_values).unwrap();
            let rejected: Vec<bool> = adjusted.iter().map(|p| *p <= alpha).collect();
            json!({"adjusted": adjusted, "rejected": rejected})
        };
        json!({
            "status": "ok",
            "bonferroni": adjusted_by(Correction::Bonferroni),
            "holm": adjusted_by(Correction::Holm),
            "bh": adjusted_by(Correction::BenjaminiHochberg),
            "by": adjusted_by(Correction::BenjaminiYekutieli),
        })
    });
}

fn summary(arm: &Value) -> Summary {
    let n = arm["n"].as_u64().unwrap();
    // The vectors write the variance of a single unit as 0.
    let variance = arm["var"].as_f64().filter(|_| n >= 2);
    Summary::new(n, arm["mean"].as_f64().unwrap(), variance).unwrap()
}

fn proportion(arm: &Value) -> Proportion {
    let conversions = arm["conversions"].as_u64().unwrap();
    Proportion::new(conversions, arm["n"].as_u64().unwrap()).unwrap()
}

fn status(result: Option<f64>) -> &'static str {
    if result.is_some() { "ok" } else { "undefined" }
}

fn list<T>(values: &Value, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    let values = values.as_array().unwrap();
    values.iter().map(|value| read(value).unwrap()).collect()
}

fn alphas(input: &Value) -> Vec<Alpha> {
    list(&input["alphas"], |alpha| Alpha::new(alpha.as_f64()?).ok())
}

/// One entry per level, or null when there is no interval at any.
fn intervals(input: &Value, interval: impl Fn(Alpha) -> Option<Interval>) -> Value {
    let entry = |alpha: Alpha| {
        let Interval { low, high } = interval(alpha)?;
        Some(json!({"alpha": alpha.get(), "low": low, "high": high}))
    };
    let entries: Option<Vec<Value>> = alphas(input).into_iter().map(entry).collect();
    entries.map_or(Value::Null, Value::Array)
}

/// Runs all cases of a family; reports every mismatch and the worst error.
fn check_family(family: &str, n_cases: usize, compute: impl Fn(&Value) -> Value) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/reference");
    let text = std::fs::read_to_string(format!("{root}/{family}.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), n_cases, "{family}: cases are missing");

    let mut comparer = Comparer::default();
    for case in cases {
        let got = compute(&case["input"]);
        comparer.check_case(case, &got);
    }
    let Comparer {
        worst_share,
        worst_error,
        mismatches,
    } = comparer;
    println!("{family}: {n_cases} cases");
    println!(
        "  most of a tolerance used: {:.1e} at {}",
        worst_share.0, worst_share.1
    );
    println!(
        "  largest relative error:   {:.1e} at {}",
        worst_error.0, worst_error.1
    );
    assert!(
        mismatches.is_empty(),
        "{family}:\n{}",
        mismatches.join("\n")
    );
}

/// The tolerance in force at one place of a case.
#[derive(Clone, Copy)]
struct Tolerance {
    relative: f64,
    absolute: f64,
    /// Whether a field entry gave it; otherwise integers match exactly.
    is_listed: bool,
}

impl Tolerance {
    fn read(entry: &Value, is_listed: bool) -> Self {
        let number = |key: &str| entry[key].as_f64().unwrap();
        Self {
            relative: number("rel"),
            absolute: number("abs"),
            is_listed,
        }
    }
}

#[derive(Default)]
struct Comparer {
    worst_share: (f64, String),
    worst_error: (f64, String),
    mismatches: Vec<String>,
}

impl Comparer {
    fn check_case(&mut self, case: &Value, got: &Value) {
        let tolerance = &case["tolerance"];
        let path = case["id"].as_str().unwrap();
        let overall = Tolerance::read(tolerance, false);
        self.compare(path, got, &case["expected"], overall, &tolerance["fields"]);
    }

    fn compare(&mut self, path: &str, got: &Value, want: &Value, near: Tolerance, fields: &Value) {
        match (got, want) {
            (Value::Object(got), Value::Object(want)) if got.keys().eq(want.keys()) => {
                for (key, want) in want {
                    let near = fields
                        .get(key)
                        .map_or(near, |entry| Tolerance::read(entry, true));
                    self.compare(&format!("{path}.{key}"), &got[key], want, near, fields);
                }
            }
            (Value::Array(got), Value::Array(want)) if got.len() == want.len() => {
                for (idx, (got, want)) in got.iter().zip(want).enumerate() {
                    self.compare(&format!("{path}[{idx}]"), got, want, near, fields);
                }
            }
            (Value::Number(number), Value::Number(wanted)) if wanted.is_f64() || near.is_listed => {
                let (got, want) = (number.as_f64().unwrap(), wanted.as_f64().unwrap());
                self.compare_numbers(path, got, want, near);
            }
            _ if got == want => {}
            _ => self
                .mismatches
                .push(format!("{path}: got {got}, want {want}")),
        }
    }

    fn compare_numbers(&mut self, path: &str, got: f64, want: f64, tolerance: Tolerance) {
        let error = (got - want).abs();
        let allowed = tolerance.absolute.max(tolerance.relative * want.abs());
        if error > allowed {
            self.mismatches
                .push(format!("{path}: got {got:e}, want {want:e}"));
        }
        if error > 0.0 {
            keep_larger(&mut self.worst_share, error / allowed, path);
        }
        // Where the absolute slack rules, the value crosses zero and has no
        // relative accuracy to speak of.
        if tolerance.relative * want.abs() > tolerance.absolute {
            keep_larger(&mut self.worst_error, error / want.abs(), path);
        }
    }
}

fn keep_larger(worst: &mut (f64, String), value: f64, path: &str) {
    if value > worst.0 {
        *worst = (value, path.to_owned());
    }
}
