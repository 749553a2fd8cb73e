//! Every case of `testdata/reference/` that belongs to this crate, computed as
//! `trialog calc` does and compared by the rule of the vectors:
//! `|got - want| <= max(abs, rel * |want|)`, with the pair of the nearest enclosing
//! key that the case lists. A number without such an entry that is an integer in the
//! file must match exactly, as must text, booleans and nulls.

#![expect(clippy::print_stdout, reason = "reports the worst error per family")]
#![expect(
    clippy::unwrap_used,
    reason = "a malformed vector file is a failed test"
)]

use serde_json::Value;
use trialog_stats::calc::{FAMILIES, calc};

/// How many cases each family has, so that none goes missing.
const CASES: [(&str, usize); 32] = [
    ("always_valid_guarded", 27),
    ("anova_2x2", 28),
    ("bayesian_beta_binomial", 22),
    ("bayesian_normal", 39),
    ("chi2_contingency", 28),
    ("cohens_d", 22),
    ("cuped", 30),
    ("fisher_exact", 23),
    ("funnel", 28),
    ("funnel_match", 73),
    ("heterogeneity", 32),
    ("holdout_accounting", 17),
    ("interaction", 34),
    ("interleaving_preference", 23),
    ("moments", 36),
    ("multiple_comparisons", 35),
    ("non_inferiority", 29),
    ("novelty", 29),
    ("power", 137),
    ("quantile_metric", 22),
    ("ratio_metric", 27),
    ("sequential_asymptotic_cs", 34),
    ("sequential_group", 41),
    ("sequential_msprt", 30),
    ("sequential_sprt_bernoulli", 25),
    ("sequential_srm", 35),
    ("srm_chi2", 25),
    ("stability", 16),
    ("time_to_step", 24),
    ("two_proportion_z", 30),
    ("welch_t", 43),
    ("winsorize", 18),
];

#[test]
fn every_case_of_every_family_is_within_its_tolerance() {
    let mut named: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    named.sort_unstable();
    assert_eq!(named, CASES.map(|(family, _)| family));
    println!("| family | cases | most of a tolerance used | largest relative error |");
    println!("| --- | --- | --- | --- |");
    let mismatches: Vec<String> = (CASES.into_iter())
        .flat_map(|(family, n_cases)| check_family(family, n_cases))
        .collect();
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
}

/// Runs all cases of a family; prints the worst error and gives every mismatch.
fn check_family(family: &str, n_cases: usize) -> Vec<String> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/reference");
    let text = std::fs::read_to_string(format!("{root}/{family}.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), n_cases, "{family}: cases are missing");
    let mut comparer = Comparer::default();
    for case in cases {
        match calc(family, &case["input"]) {
            Ok(got) => comparer.check_case(case, &got),
            Err(error) => comparer.mismatches.push(format!("{}: {error}", case["id"])),
        }
    }
    let (share, place) = &comparer.worst_share;
    println!(
        "| {family} | {n_cases} | {share:.1e} at {place} | {:.1e} |",
        comparer.worst_error
    );
    comparer.mismatches
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
    worst_error: f64,
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
        let share = if error > 0.0 { error / allowed } else { 0.0 };
        if share > self.worst_share.0 {
            self.worst_share = (share, path.to_owned());
        }
        // Where the absolute slack rules, the value crosses zero and has no
        // relative accuracy to speak of.
        if tolerance.relative * want.abs() > tolerance.absolute {
            self.worst_error = self.worst_error.max(error / want.abs());
        }
    }
}
