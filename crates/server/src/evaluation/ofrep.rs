//! `/ofrep/v1/evaluate/flags`: the OpenFeature remote evaluation protocol, 0.3.0.
//!
//! A flag is an experiment that runs; its value is the variant's, or the variant's name.
//! A unit that gets no variant is answered without a value, which means the default of
//! the code. An evaluation is no exposure by itself: the header
//! `Trialog-Exposure: log` makes one of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use trialog_model::assignment::{Context, Decision, Rules};
use trialog_model::document::not_json;
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::ids::ExperimentId;

use super::exposures::{self, Subject};
use super::{has_tag, ruleset};
use crate::app::App;
use crate::app::blocking;
use crate::problem::{Answer, Problem};
use crate::rulesets::{Prepared, fingerprint};

/// What a request that wants its evaluation logged as an exposure says.
const EXPOSURE: HeaderName = HeaderName::from_static("trialog-exposure");
/// So many flags are evaluated where the request is read; more on a thread for such work.
const MAX_INLINE: usize = 500;
const TARGETING_KEY: &str = "targetingKey";

/// An evaluation that was made.
#[derive(Serialize)]
struct Success<'a> {
    key: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Text<'a>>,
    metadata: Metadata<'a>,
}

/// The variant's value, or its name.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Name(&'a str),
    Value(&'a Value),
}

/// What the OpenTelemetry conventions for feature flags ask for, and the decision.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    context_id: Option<&'a str>,
    flag_set_id: &'a str,
    version: &'a str,
    decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    holdout: Option<&'a str>,
}

/// An evaluation that could not be made.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    code: &'static str,
    details: String,
}

impl Failure {
    fn bad(code: &'static str, details: impl Into<String>) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self {
            status,
            code,
            details: details.into(),
        }
    }

    fn respond(self, key: Option<&str>) -> Response {
        let mut body = json!({ "errorCode": self.code, "errorDetails": self.details });
        if let Some(key) = key {
            body["key"] = key.into();
        }
        (self.status, Json(body)).into_response()
    }
}

/// Evaluates one flag.
pub(crate) async fn evaluate(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let Path(key) =
        path.map_err(|error| Problem::bad_request(format!("the path cannot be read: {error}")))?;
    let is_exposure = is_exposure(&headers)?;
    let context = match context(body) {
        Ok(context) => context,
        Err(failure) => return Ok(failure.respond(Some(&key))),
    };
    let prepared = ruleset(&app).await?;
    let Some(rules) = prepared.ruleset.experiment(&key) else {
        return not_running(&app, &prepared, key).await;
    };
    let Given { unit, context } = &context;
    let subject = Subject { unit, context };
    let decision = prepared.ruleset.decide(rules, unit, context);
    if is_exposure {
        exposures::log(&app, &prepared.ruleset, subject, &[(rules, decision)]).await?;
    }
    Ok(Json(success(&prepared, rules, unit, decision)).into_response())
}

/// Evaluates every flag.
pub(crate) async fn evaluate_all(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    if is_exposure(&headers)? {
        let details = "an evaluation of all flags is no exposure: leave the header `Trialog-Exposure` out, and send POST /v1/events/assignments when a variant is shown";
        return Ok(Failure::bad("GENERAL", details).respond(None));
    }
    let given = match context(body) {
        Ok(given) => given,
        Err(failure) => return Ok(failure.respond(None)),
    };
    let prepared = ruleset(&app).await?;
    let body = if prepared.ruleset.experiments().len() <= MAX_INLINE {
        all_flags(&prepared, &given)
    } else {
        blocking(move || Ok(all_flags(&prepared, &given))).await?
    };
    // Of the answer and not of the configuration: it depends on the context as well.
    let version = fingerprint(body.as_bytes());
    let tag = [(header::ETAG, format!("\"{version}\""))];
    if has_tag(&headers, &version) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((tag, json, body).into_response())
}

fn all_flags(prepared: &Prepared, given: &Given) -> String {
    let Given { unit, context } = given;
    let flags: Vec<_> = (prepared.ruleset.experiments().iter())
        .map(|rules| {
            let decision = prepared.ruleset.decide(rules, unit, context);
            success(prepared, rules, unit, decision)
        })
        .collect();
    json!({ "flags": flags, "metadata": { "version": prepared.version } }).to_string()
}

/// Who is evaluated, and what is known about them beside their key.
struct Given {
    unit: String,
    context: Context,
}

fn context(body: Result<Bytes, BytesRejection>) -> Result<Given, Failure> {
    let body = body.map_err(|error| {
        Failure::bad("PARSE_ERROR", format!("the body cannot be read: {error}"))
    })?;
    let parsed: Value = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad("PARSE_ERROR", format!("the body {}", not_json(&error))))?;
    let Value::Object(mut members) = parsed else {
        return Err(Failure::bad(
            "INVALID_CONTEXT",
            "the body is not an object with a `context`",
        ));
    };
    let Some(Value::Object(mut context)) = members.remove("context") else {
        return Err(Failure::bad(
            "INVALID_CONTEXT",
            "`context` is not an object: give one with a `targetingKey`",
        ));
    };
    let unit = match context.remove(TARGETING_KEY) {
        Some(Value::String(unit)) if unit.len() > MAX_USER_ID_BYTES => {
            let details = format!(
                "`targetingKey` has {} bytes: at most {MAX_USER_ID_BYTES} are allowed",
                unit.len()
            );
            return Err(Failure::bad("INVALID_CONTEXT", details));
        }
        Some(Value::String(unit)) if !unit.is_empty() => unit,
        None | Some(Value::Null | Value::String(_)) => {
            return Err(Failure::bad(
                "TARGETING_KEY_MISSING",
                "`context.targetingKey` is missing: give the user id as text",
            ));
        }
        Some(_) => {
            return Err(Failure::bad(
                "INVALID_CONTEXT",
                "`context.targetingKey` is not a text",
            ));
        }
    };
    Ok(Given { unit, context })
}

fn is_exposure(headers: &HeaderMap) -> Answer<bool> {
    match headers.get(EXPOSURE).map(HeaderValue::as_bytes) {
        None => Ok(false),
        Some(b"log") => Ok(true),
        Some(_) => Err(Problem::bad_request(
            "the header `Trialog-Exposure` is not `log`: leave it out, or say `log`",
        )),
    }
}

/// A flag that is registered is off; any other is not found.
async fn not_running(app: &Arc<App>, prepared: &Prepared, key: String) -> Answer<Response> {
    let Ok(id) = ExperimentId::new(&key) else {
        return Ok(not_found(&key));
    };
    let asked = Arc::clone(app);
    let found = blocking(move || Ok(!asked.catalog.known_experiments(&[id])?.is_empty()));
    if !found.await? {
        return Ok(not_found(&key));
    }
    let metadata = Metadata {
        context_id: None,
        flag_set_id: FLAG_SET,
        version: &prepared.version,
        decision: "not_running",
        holdout: None,
    };
    let disabled = Success {
        key: &key,
        reason: "DISABLED",
        variant: None,
        value: None,
        metadata,
    };
    Ok(Json(disabled).into_response())
}

fn not_found(key: &str) -> Response {
    let details = format!("no experiment `{key}` is registered");
    let status = StatusCode::NOT_FOUND;
    Failure {
        status,
        code: "FLAG_NOT_FOUND",
        details,
    }
    .respond(Some(key))
}

/// The one set of flags that a server has.
const FLAG_SET: &str = "trialog";

fn success<'a>(
    prepared: &'a Prepared,
    rules: &'a Rules,
    unit: &'a str,
    decision: Decision<'a>,
) -> Success<'a> {
    let arm = decision.arm();
    Success {
        key: rules.experiment_id().as_str(),
        reason: match decision {
            Decision::Forced(_) => "TARGETING_MATCH",
            Decision::Assigned(_) if rules.arms().len() == 1 => "STATIC",
            Decision::Shipped(_) => "STATIC",
            Decision::Assigned(_) => "SPLIT",
            Decision::HeldOut(_) | Decision::NotEnrolled | Decision::NotTargeted => "DEFAULT",
        },
        variant: arm.map(|arm| arm.variant().as_str()),
        value: arm.map(|arm| {
            arm.value()
                .map_or(Text::Name(arm.variant().as_str()), |own| Text::Value(own))
        }),
        metadata: Metadata {
            context_id: Some(unit),
            flag_set_id: FLAG_SET,
            version: &prepared.version,
            decision: decision.as_str(),
            holdout: match decision {
                Decision::HeldOut(holdout) => Some(holdout.name()),
                _ => None,
            },
        },
    }
}
