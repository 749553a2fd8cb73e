//! `POST /v1/experiments/{id}/decide`: what becomes of the product after an experiment.

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use trialog_catalog::experiments::{Experiment, MAX_REASON_CHARS};
use trialog_model::document;
use trialog_model::ids::Variant;

use super::id;
use crate::api::resource::{answer, operations, plain};
use crate::app::App;
use crate::body::received;
use crate::edit::Editing;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::pools;
use crate::problem::{Answer, Problem};

pub(super) fn operation() -> Operation {
    let example = json!({ "ship": "new", "reason": "sells 4 % more at the planned sample" });
    operations::step::<Experiment>(
        "/v1/experiments/{id}/decide",
        "decideExperiment",
        "Records what was decided after a stopped experiment",
    )
    .describe("Until the experiment is archived, every evaluation answers with the variant `ship`, and logs no exposure to it; with null nothing is shipped. A later decision takes the place of this one.")
    .body(schema::reference("Decision"), example)
    .problems(&[422])
}

/// What the body says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// `Some(None)` where it is null: nothing is shipped.
    #[serde(default, deserialize_with = "present")]
    ship: Option<Option<Variant>>,
    #[serde(default)]
    reason: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<Variant>>, D::Error> {
    Option::deserialize(value).map(Some)
}

pub(crate) async fn decide(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let id = id(path)?;
    let request: Request = document::from_slice(&received(body)?).map_err(Problem::unreadable)?;
    let Some(ship) = request.ship else {
        let reason = "is missing: name the variant that everybody gets, or give null for none";
        return Err(Problem::broken_rule("ship", reason));
    };
    let reason = check_reason(request.reason.as_deref().unwrap_or_default())?.to_owned();
    pools::change(&app, move |app| {
        let decided = app.catalog.decide_experiment(&id, ship, &reason, &edit)?;
        answer(decided, app, plain)
    })
    .await
}

/// The reason without spaces around it, if it is one.
fn check_reason(reason: &str) -> Answer<&str> {
    let reason = reason.trim();
    if reason.is_empty() {
        let broken = "is missing: say why, for those who ask in a year";
        return Err(Problem::broken_rule("reason", broken));
    }
    let n_chars = reason.chars().count();
    if n_chars > MAX_REASON_CHARS {
        let broken =
            format!("has {n_chars} characters: give at most {MAX_REASON_CHARS}, or a link");
        return Err(Problem::broken_rule("reason", &broken));
    }
    let is_bad = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t');
    if reason.contains(is_bad) {
        let broken = "has control characters: give text of letters, spaces and line breaks";
        return Err(Problem::broken_rule("reason", broken));
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_text_of_bounded_length() {
        let check = |reason: &str| check_reason(reason).ok().map(str::to_owned);
        assert_eq!(
            check(" more sales\n at p = 0.01 "),
            Some("more sales\n at p = 0.01".into())
        );
        let longest = "ä".repeat(MAX_REASON_CHARS);
        assert_eq!(check(&longest), Some(longest.clone()));
        for bad in ["", " \n ", "\u{1b}[31m", &format!("{longest}x")] {
            assert_eq!(check(bad), None, "{bad:?}");
        }
    }
}
