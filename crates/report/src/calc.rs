//! Computes every family that takes JSON: those of `trialog_stats`, and interleaved lists.
//!
//! A list is made of hashes of `trialog_model`, which the statistics do not know.

use serde_json::{Value, json};
use trialog_model::interleave::{Impression, Team, interleave};
use trialog_stats::calc::{CalcError, FAMILIES, Family, Fields};

/// The family that makes a list of two rankings.
const INTERLEAVE: Family = Family::new(
    "interleave",
    "the list that two rankings make for a unit and a query: team draft with deterministic coins",
    r#"{"unit": "42", "salt": "ranker", "query": "shoes", "ranking_a": ["a", "b", "c"], "ranking_b": ["x", "y", "z"], "limit": 4}"#,
    interleaved,
);

static LISTS: [Family; 1] = [INTERLEAVE];

/// Returns every family, in the order of the documentation.
///
/// ```
/// let mut names = trialog_report::calc::families().map(|family| family.name);
/// assert!(names.any(|name| name == "interleave"));
/// ```
pub fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(&LISTS)
}

/// Computes `input` by the family called `name`.
///
/// # Errors
///
/// [`CalcError::Family`] for a name that no family has; [`CalcError::Field`] for an input that it
/// cannot be computed from.
///
/// ```
/// use serde_json::json;
/// let rankings = json!({"unit": "42", "salt": "ranker", "query": "shoes",
///     "ranking_a": ["a", "b"], "ranking_b": ["x", "y"]});
/// let list = trialog_report::calc::calc("interleave", &rankings)?;
/// assert_eq!(list["items"], json!(["x", "a", "b", "y"]));
/// # Ok::<(), trialog_stats::calc::CalcError>(())
/// ```
pub fn calc(name: &str, input: &Value) -> Result<Value, CalcError> {
    let family = families().find(|family| family.name == name);
    let family = family.ok_or_else(|| CalcError::Family(name.to_owned()))?;
    family.compute(input)
}

fn interleaved(input: &Value) -> Result<Value, CalcError> {
    let known = ["unit", "salt", "query", "ranking_a", "ranking_b", "limit"];
    let fields = Fields::new(input, &known)?;
    let impression = Impression {
        unit: fields.text("unit")?,
        salt: fields.text("salt")?,
        query: match fields.has("query") {
            true => fields.text("query")?,
            false => "",
        },
    };
    let limit = match fields.has("limit") {
        true => Some(usize::try_from(fields.count("limit")?).unwrap_or(usize::MAX)),
        false => None,
    };
    let (a, b) = (fields.texts("ranking_a")?, fields.texts("ranking_b")?);
    let list = interleave(&impression, &a, &b, limit);
    let teams: Vec<&str> = list.teams.iter().copied().map(Team::as_str).collect();
    Ok(json!({
        "status": "ok",
        "items": list.items,
        "teams": teams,
        "flips": list.tosses,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_golden_list_is_computed() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../testdata/reference/interleave.json"
        );
        let golden: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 37);
        for case in cases {
            let computed = calc("interleave", &case["input"]).unwrap();
            assert_eq!(computed, case["expected"], "{}", case["id"]);
        }
    }

    #[test]
    fn a_field_that_cannot_be_used_is_named() {
        let error = |input: Value| calc("interleave", &input).unwrap_err().to_string();
        assert_eq!(error(json!({"salt": "s"})), "`unit` is missing");
        let rankings = |a: Value, limit: Value| json!({"unit": "1", "salt": "s", "ranking_a": a, "ranking_b": [], "limit": limit});
        let wrong = error(rankings(json!(["a", 1]), Value::Null));
        assert!(wrong.starts_with("`ranking_a[1]`"), "{wrong}");
        let wrong = error(rankings(json!(["a"]), json!(-1)));
        assert!(wrong.starts_with("`limit`"), "{wrong}");
    }
}
