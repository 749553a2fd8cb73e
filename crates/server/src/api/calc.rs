//! `POST /v1/calc/{family}`: a statistic of the numbers in the request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use trialog_model::document::not_json;
use trialog_model::nearest::there_are;
use trialog_report::calc::{calc, families};
use trialog_stats::calc::{CalcError, cost_micros};

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::problem::{Answer, Problem};
use crate::work::Flag;

const NDJSON: &str = "application/x-ndjson";
/// The most objects of a request.
const MAX_OBJECTS: usize = 1_000;
/// How long the objects of a request may take together, on one core.
const MAX_COST_MICROS: u64 = 3_000_000;

/// The family whose example the document has.
const EXAMPLE: &str = "srm_chi2";

pub(crate) fn operations() -> Vec<Operation> {
    let names: Vec<&str> = families().map(|family| family.name).collect();
    let example = families().find(|family| family.name == EXAMPLE);
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
    .segment("family", schema::one_of(&names), EXAMPLE, "What to compute.")
    .body(schema::any_object(), input)
    .or_body("application/x-ndjson", "One object per line.", text)
    .answer(
        StatusCode::OK,
        schema::reference("Statistic"),
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

pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    let status = schema::one_of(&["ok", "undefined"]);
    let answer = schema::object([schema::field(
        "status",
        status,
        "Whether there is a result.",
    )]);
    vec![(
        "Statistic",
        schema::with(answer, "additionalProperties", true),
    )]
}

/// One object, or one object per line; as many come back.
pub(crate) async fn compute(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let Path(family) =
        path.map_err(|error| Problem::bad_request(format!("the path cannot be read: {error}")))?;
    let body = body.map_err(|error| Problem::new(error.status(), "the body cannot be read"))?;
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let has_lines = media.is_some_and(|media| media.starts_with(NDJSON));
    let answers = app
        .pools
        .calc
        .run(move |flag| answers(&family, &body, flag))
        .await?;
    if has_lines && !answers.is_empty() {
        let text: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
        return Ok(([(header::CONTENT_TYPE, NDJSON)], text).into_response());
    }
    match answers.as_slice() {
        [answer] => Ok(axum::Json(answer).into_response()),
        others => Err(Problem::bad_request(format!(
            "the body has {} objects: send one, or one per line as {NDJSON}",
            others.len()
        ))),
    }
}

fn answers(family: &str, body: &[u8], flag: &Flag) -> Answer<Vec<Value>> {
    let inputs = inputs(body)?;
    check_cost(family, &inputs)?;
    let answer = |(index, input): (usize, &Value)| {
        if flag.load(Ordering::Relaxed) {
            let early = "the calculation was ended before its time: ask again shortly";
            return Err(Problem::unavailable(early, 5));
        }
        calc(family, input).map_err(|error| refused(&error, index))
    };
    inputs.iter().enumerate().map(answer).collect()
}

/// The objects of a request, of which there may be so many.
fn inputs(body: &[u8]) -> Answer<Vec<Value>> {
    let inputs = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let read = |(index, input): (usize, serde_json::Result<Value>)| {
        if index >= MAX_OBJECTS {
            let detail = format!(
                "the body has more than {MAX_OBJECTS} objects: send them in several requests"
            );
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        input.map_err(|error| {
            Problem::bad_request(format!("object {} {}", index + 1, not_json(&error)))
        })
    };
    inputs.enumerate().map(read).collect()
}

/// Refuses a request that would take long before any of it is computed.
fn check_cost(family: &str, inputs: &[Value]) -> Answer<()> {
    let cost: u64 = inputs.iter().map(|input| cost_micros(family, input)).sum();
    if cost <= MAX_COST_MICROS {
        return Ok(());
    }
    let (seconds, most) = (cost.div_ceil(1_000_000), MAX_COST_MICROS / 1_000_000);
    let detail = format!(
        "the request would compute for about {seconds} s, and may for {most} s: send fewer objects in a request, or less in an object; `trialog calc` has no limit"
    );
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
}

/// What is said of the family `name`, which does not exist.
pub fn no_family(name: &str) -> String {
    let families: Vec<&str> = families().map(|family| family.name).collect();
    format!(
        "there is no family `{name}`{}",
        there_are(name, &families, false)
    )
}

/// A family that does not exist is 404; an input that cannot be used is 422.
fn refused(error: &CalcError, index: usize) -> Problem {
    match error {
        CalcError::Field { field, reason } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
                .with("field", json!(field))
                .with("reason", json!(reason))
                .with("index", json!(index))
        }
        CalcError::Family(name) => Problem::new(StatusCode::NOT_FOUND, no_family(name)),
        _ => Problem::bad_request(error.to_string()),
    }
}
