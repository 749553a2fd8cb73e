//! Evaluation over HTTP: `/v1/assign`, OFREP, `/v1/track`, and what SDKs decide by.

mod assign;
mod config;
mod exposures;
mod ofrep;
mod track;

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use serde_json::Value;
use trialog_model::event::MAX_USER_ID_BYTES;

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::rulesets::Prepared;

pub(crate) use assign::assign;
pub(crate) use config::config;
pub use ofrep::WithoutVariant;
pub(crate) use ofrep::{evaluate, evaluate_all};
pub(crate) use track::track;

/// So many experiments are evaluated where the request is read; more on a thread for such work.
const MAX_INLINE: usize = 500;

/// The words for what becomes of a unit in an experiment.
const DECISIONS: [&str; 7] = [
    "assigned",
    "forced",
    "shipped",
    "held_out",
    "not_enrolled",
    "not_targeted",
    "not_running",
];

pub(crate) fn operations() -> Vec<Operation> {
    let [one_flag, all_flags] = ofrep::operations();
    [
        config::operation(),
        assign::operation(),
        track::operation(),
        one_flag,
        all_flags,
    ]
    .map(|operation| operation.tag("evaluation"))
    .into()
}

/// The schemas of what clients send, and of the configuration that SDKs read.
pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    let mut schemas = config::schemas();
    schemas.extend(track::schemas());
    schemas.extend([
        ("AssignmentRequest", assign::request()),
        ("EvaluationContext", ofrep::request()),
    ]);
    schemas
}

/// A unit, and whatever is known about it.
fn context() -> Schema {
    let key = schema::object([schema::field(
        "targetingKey",
        schema::chars(1, 1024),
        "The unit.",
    )]);
    schema::with(key, "additionalProperties", true)
}

/// The newest ruleset.
async fn ruleset(app: &Arc<App>) -> Answer<Arc<Prepared>> {
    if let Some(current) = app.rulesets.current(&app.catalog) {
        return Ok(current);
    }
    pools::upkeep(app, |app| Ok(app.rulesets.refresh(&app.catalog)?)).await
}

/// A user id as text: a string, or an integer.
fn unit<'v>(value: Option<&'v Value>, field: &'static str) -> Answer<Cow<'v, str>> {
    let unit: Cow<'v, str> = match value {
        Some(Value::String(text)) => text.into(),
        Some(Value::Number(number)) if number.is_i64() => number.to_string().into(),
        None | Some(Value::Null) => {
            return Err(Problem::broken_rule(
                field,
                "is missing: give an integer within BIGINT or a string",
            ));
        }
        Some(_) => {
            return Err(Problem::broken_rule(
                field,
                "is neither an integer within BIGINT nor a string",
            ));
        }
    };
    if !(1..=MAX_USER_ID_BYTES).contains(&unit.len()) {
        let reason = format!("has {} bytes: give 1 to {MAX_USER_ID_BYTES}", unit.len());
        return Err(Problem::broken_rule(field, &reason));
    }
    Ok(unit)
}

/// Whether the client has the state with this tag: quotes and `W/` make no difference,
/// since clients send the tag back in all these forms.
fn has_tag(headers: &HeaderMap, version: &str) -> bool {
    (headers.get_all(header::IF_NONE_MATCH).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_every_form_that_clients_send() {
        let has = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, text.parse().unwrap());
            has_tag(&headers, "abc")
        };
        assert!(has("\"abc\"") && has("abc") && has("W/\"abc\"") && has("\"x\", \"abc\""));
        assert!(!has("*") && !has("\"abcd\"") && !has(""));
        assert!(!has_tag(&HeaderMap::new(), "abc"));
    }

    #[test]
    fn a_unit_is_text_or_an_integer() {
        let unit = |value: Value| unit(Some(&value), "user_id").map(Cow::into_owned).ok();
        assert_eq!(unit("a b".into()), Some("a b".to_owned()));
        assert_eq!(unit((-42).into()), Some("-42".to_owned()));
        for bad in [
            Value::from(1.5),
            Value::from(u64::MAX),
            "".into(),
            true.into(),
            Value::Null,
        ] {
            assert_eq!(unit(bad.clone()), None, "{bad}");
        }
    }
}
