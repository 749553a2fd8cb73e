//! `POST /v1/calc/{family}`: a statistic of the numbers in the request.

use axum::extract::Path;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use trialog_model::document::not_json;
use trialog_model::nearest::there_are;
use trialog_stats::calc::{CalcError, FAMILIES, calc};

use crate::app::blocking;
use crate::problem::{Answer, Problem};

const NDJSON: &str = "application/x-ndjson";
/// The most objects of a request: some take milliseconds.
const MAX_OBJECTS: usize = 1_000;

/// One object, or one object per line; as many come back.
pub(crate) async fn compute(
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let Path(family) =
        path.map_err(|error| Problem::bad_request(format!("the path cannot be read: {error}")))?;
    let body = body.map_err(|error| Problem::new(error.status(), "the body cannot be read"))?;
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|own| own.to_str().ok());
    let has_lines = media.is_some_and(|own| own.starts_with(NDJSON));
    let answers = blocking(move || answers(&family, &body)).await?;
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

fn answers(family: &str, body: &[u8]) -> Answer<Vec<Value>> {
    let inputs = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let answer = |(index, input): (usize, serde_json::Result<Value>)| {
        if index >= MAX_OBJECTS {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the body has more than {MAX_OBJECTS} objects: send them in several requests"
                ),
            ));
        }
        let input = input.map_err(|error| {
            Problem::bad_request(format!("object {} {}", index + 1, not_json(&error)))
        })?;
        calc(family, &input).map_err(|error| refused(&error, index))
    };
    inputs.enumerate().map(answer).collect()
}

/// What is said of the family `name`, which does not exist.
pub fn no_family(name: &str) -> String {
    let families: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
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
