//! `/ofrep/v1/evaluate/flags`: the OpenFeature remote evaluation protocol, 0.3.0.
//!
//! A flag is a registered experiment; its value is the variant's, or the variant's name.
//! A unit that gets no variant is answered with the control's value and the decision in
//! place of the variant's name, since most published clients report an error where either
//! is missing. An evaluation is no exposure by itself: the header
//! `Trialog-Exposure: log` makes one of it.

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::configuration::Control;
use trialog_model::assignment::{Context, Decision, NOT_RUNNING, Rules};
use trialog_model::document;
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::experiment::Status;
use trialog_model::ids::{ExperimentId, HoldoutName};

use super::exposures::{self, Subject};
use super::{MAX_INLINE, has_tag, ruleset};
use crate::app::App;
use crate::body::in_turn;
use crate::limits::Who;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::rulesets::{Prepared, fingerprint};

/// What a request that wants its evaluation logged as an exposure says.
const EXPOSURE: HeaderName = HeaderName::from_static("trialog-exposure");
const TARGETING_KEY: &str = "targetingKey";

/// What OpenFeature clients get for a unit without a variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WithoutVariant {
    /// The control's value, and the decision as the variant's name.
    #[default]
    Control,
    /// Neither, which means the default of the code.
    Omit,
}

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

impl<'a> Text<'a> {
    fn new(variant: &'a str, value: Option<&'a Value>) -> Self {
        value.map_or(Self::Name(variant), Self::Value)
    }
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
    let Given { unit, context } = &context;
    let flags = Flags::new(&app, &prepared, unit);
    let Some(rules) = prepared.ruleset.experiment(&key) else {
        return not_running(&app, &flags, &key).await;
    };
    let subject = Subject { unit, context };
    let decision = prepared.ruleset.decide(rules, unit, context);
    if is_exposure {
        exposures::log(&app, &prepared.ruleset, subject, &[(rules, decision)]).await?;
    }
    Ok(Json(flags.of_unit(rules, decision)).into_response())
}

/// Evaluates every flag.
pub(crate) async fn evaluate_all(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
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
    let n_flags = prepared.ruleset.experiments().len() + prepared.stopped.len();
    let body = if n_flags <= MAX_INLINE {
        all_flags(&Flags::new(&app, &prepared, &given.unit), &given.context)
    } else {
        let own = Arc::clone(&app);
        in_turn(&app, &who, move || {
            let flags = Flags::new(&own, &prepared, &given.unit);
            Ok(all_flags(&flags, &given.context))
        })
        .await?
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

/// What runs, what ships a variant, and what was stopped: a client may still ask for it.
/// Drafts are left out, since every visitor of a page can read this answer.
fn all_flags(flags: &Flags<'_>, context: &Context) -> String {
    let Flags { prepared, unit, .. } = *flags;
    let running = prepared.ruleset.experiments().iter().map(|rules| {
        let decision = prepared.ruleset.decide(rules, unit, context);
        flags.of_unit(rules, decision)
    });
    let stopped = (prepared.stopped.iter()).map(|control| flags.not_running(control));
    let all: Vec<_> = running.chain(stopped).collect();
    json!({ "flags": all, "metadata": { "version": prepared.version } }).to_string()
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
    let parsed = document::value(&body)
        .map_err(|error| Failure::bad("PARSE_ERROR", format!("the body {}", error.reason)))?;
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

/// An experiment that does not run: one that was stopped, or a draft, is off; any other is
/// no flag.
async fn not_running(app: &Arc<App>, flags: &Flags<'_>, key: &str) -> Answer<Response> {
    if let Some(control) = flags.prepared.stopped(key) {
        return Ok(Json(flags.not_running(control)).into_response());
    }
    let Ok(id) = ExperimentId::new(key) else {
        return Ok(not_found(
            key,
            format!("no experiment `{key}` is registered"),
        ));
    };
    let found = pools::query(app, move |app| Ok(app.catalog.known_experiments(&[id])?)).await?;
    let details = match found.first() {
        Some(_) if key.starts_with(HoldoutName::PREFIX) => {
            format!("`{key}` measures a holdout and is no flag: ask for an experiment")
        }
        Some(known) if known.status == Status::Archived => {
            format!("the experiment `{key}` is archived: take the flag out of the code")
        }
        Some(known) if known.status != Status::Unregistered => {
            if let Some(control) = Control::of(&known.definition) {
                return Ok(Json(flags.not_running(&control)).into_response());
            }
            format!("the experiment `{key}` has no variants")
        }
        _ => format!("no experiment `{key}` is registered"),
    };
    Ok(not_found(key, details))
}

fn not_found(key: &str, details: String) -> Response {
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

/// What a unit is answered about flags.
#[derive(Clone, Copy)]
struct Flags<'a> {
    prepared: &'a Prepared,
    unit: &'a str,
    without_variant: WithoutVariant,
}

impl<'a> Flags<'a> {
    fn new(app: &App, prepared: &'a Prepared, unit: &'a str) -> Self {
        Self {
            prepared,
            unit,
            without_variant: app.settings.without_variant,
        }
    }

    /// The answer about an experiment that decided.
    fn of_unit(&self, rules: &'a Rules, decision: Decision<'a>) -> Success<'a> {
        let key = rules.experiment_id().as_str();
        let answer = self.answer(key, decision.as_str());
        if let Some(arm) = decision.arm() {
            let name = arm.variant().as_str();
            return Success {
                reason: match decision {
                    Decision::Forced(_) => "TARGETING_MATCH",
                    Decision::Shipped(_) => "STATIC",
                    _ if rules.arms().len() == 1 => "STATIC",
                    _ => "SPLIT",
                },
                variant: Some(name),
                value: Some(Text::new(name, arm.value().map(|value| &**value))),
                ..answer
            };
        }
        let control = self.prepared.control(rules);
        let value = control.map(|arm| {
            let name = arm.variant().as_str();
            Text::new(name, arm.value().map(|value| &**value))
        });
        let mut answer = self.with_control(answer, value);
        if let Decision::HeldOut(holdout) = decision {
            answer.metadata.holdout = Some(holdout.name());
        }
        answer
    }

    /// The answer about an experiment that does not run.
    fn not_running<'c>(&self, control: &'c Control) -> Success<'c>
    where
        'a: 'c,
    {
        let answer = Success {
            reason: "DISABLED",
            ..self.answer(control.experiment_id.as_str(), NOT_RUNNING)
        };
        let value = Text::new(control.variant.as_str(), control.value.as_ref());
        self.with_control(answer, Some(value))
    }

    /// An answer without a variant.
    fn answer<'c>(&self, key: &'c str, decision: &'c str) -> Success<'c>
    where
        'a: 'c,
    {
        Success {
            key,
            reason: "DEFAULT",
            variant: None,
            value: None,
            metadata: Metadata {
                context_id: Some(self.unit),
                flag_set_id: FLAG_SET,
                version: &self.prepared.version,
                decision,
                holdout: None,
            },
        }
    }

    /// Adds what a unit without a variant gets: the control's `value`, and the decision in
    /// place of the variant's name, which tells readers that it is no variant.
    fn with_control<'c>(&self, answer: Success<'c>, value: Option<Text<'c>>) -> Success<'c> {
        match self.without_variant {
            WithoutVariant::Omit => answer,
            WithoutVariant::Control => Success {
                variant: Some(answer.metadata.decision),
                value,
                ..answer
            },
        }
    }
}
