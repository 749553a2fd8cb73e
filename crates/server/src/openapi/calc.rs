//! `/v1/calc/{family}` in the document.

use axum::http::{Method, StatusCode};
use serde_json::Value;
use trialog_stats::calc::FAMILIES;

use super::operation::Operation;
use super::schema::{Schema, any_object, field, object, one_of, reference, with};

/// The family whose example the document has.
const EXAMPLE: &str = "srm_chi2";

pub(super) fn operations() -> Vec<Operation> {
    let names = FAMILIES.map(|family| family.name);
    let example = (FAMILIES.iter()).find(|family| family.name == EXAMPLE);
    let text = example.map_or("{}", |family| family.example);
    let input: Value = serde_json::from_str(text).unwrap_or_default();
    let operation = Operation::new(
        Method::POST,
        "/v1/calc/{family}",
        "calculate",
        "Computes a statistic from the numbers of the request",
    )
    .tag("statistics")
    .describe("The families, their fields, formulas and sources stand in `docs/statistics.md`. With one object per line, as many lines come back; the first one that cannot be used refuses the request, and `index` tells which it was.")
    .segment("family", one_of(&names), EXAMPLE, "What to compute.")
    .body(any_object(), input)
    .or_body("application/x-ndjson", "One object per line.", text)
    .answer(
        StatusCode::OK,
        reference("Statistic"),
        "What was computed; what does not exist for the input is null, and `status` is then `undefined`.",
    )
    .answer_as(
        StatusCode::OK,
        "application/x-ndjson",
        "An answer per line.",
    )
    .problems(&[404, 422]);
    vec![operation]
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let status = one_of(&["ok", "undefined"]);
    let answer = object([field("status", status, "Whether there is a result.")]);
    vec![("Statistic", with(answer, "additionalProperties", true))]
}
