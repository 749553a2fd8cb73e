//! `/ofrep/v1/evaluate/flags`: the OpenFeature remote evaluation protocol, 0.3.0.
//!
//! A flag is a registered experiment; its value is the variant's, or the variant's name.
//! A unit that gets no variant is answered with the control's value and the decision in
//! place of the variant's name, since most published clients report an error where either
//! is missing. An evaluation is no exposure by itself: the header
//! `Trialog-Exposure: log` makes one of it.

mod answer;

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Value, json};
use trialog_catalog::configuration::Control;
use trialog_model::assignment::{Context, Decision, NOT_RUNNING, Rules};
use trialog_model::document;
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::experiment::Status;
use trialog_model::ids::{ExperimentId, HoldoutName};

use self::answer::{Evaluations, Failure, FailureBody, Metadata, Success, Text};
use super::exposures::{self, Subject};
use super::{MAX_INLINE, has_tag, ruleset};
use crate::app::App;
use crate::body::in_turn;
use crate::limits::Who;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::rulesets::{Prepared, fingerprint};

const FLAGS: &str = "/ofrep/v1/evaluate/flags";

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

pub(super) fn operations() -> [Operation; 2] {
    [one_flag_operation(), all_flags_operation()]
}

fn one_flag_operation() -> Operation {
    let path = "/ofrep/v1/evaluate/flags/{key}";
    Operation::new(
        Method::POST,
        path,
        "evaluateFlag",
        "Evaluates a flag (OFREP 0.3.0)",
    )
    .describe("A flag is an experiment that is registered and not archived. A unit without a variant gets the control's value, and the decision as the name of the variant.")
    .segment(
        "key",
        schema::name(ExperimentId::MAX_CHARS),
        "checkout",
        "The experiment's id, percent-encoded.",
    )
    .header(
        "Trialog-Exposure",
        schema::one_of(&["log"]),
        "Logs the evaluation as an exposure; the answer comes once that is durable.",
    )
    .body(schema::reference("EvaluationContext"), context_example())
    .answers::<Success<'_>>(StatusCode::OK, "The evaluation.")
    .failure::<FailureBody<'_>>(StatusCode::BAD_REQUEST, "The body or the context cannot be used.")
    .failure::<FailureBody<'_>>(StatusCode::NOT_FOUND, "No such experiment is registered, or it is archived.")
    .problems(&[422])
}

fn all_flags_operation() -> Operation {
    Operation::new(
        Method::POST,
        FLAGS,
        "evaluateFlags",
        "Evaluates every flag (OFREP 0.3.0)",
    )
    .describe("Every experiment that runs or ships a variant, and those that were stopped and not archived (the last 1,000 that changed), for clients whose context stays.")
    .header(
        "If-None-Match",
        schema::text(),
        "The tag of the answer that the client has.",
    )
    .body(schema::reference("EvaluationContext"), context_example())
    .answers::<Evaluations<'_>>(StatusCode::OK, "The evaluations.")
    .answer_header(
        StatusCode::OK,
        "ETag",
        "Stands for this answer, which depends on the context too.",
    )
    .answer_empty(StatusCode::NOT_MODIFIED, "The client has the answer.")
    .failure::<FailureBody<'_>>(StatusCode::BAD_REQUEST, "The body or the context cannot be used.")
}

fn context_example() -> Value {
    json!({ "context": { "targetingKey": "42", "platform": "ios" } })
}

/// The schema of a request.
pub(super) fn request() -> Schema {
    schema::object([schema::field(
        "context",
        super::context(),
        "The unit, and what is known about it.",
    )])
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
        let app_of_work = Arc::clone(&app);
        in_turn(&app, &who, move || {
            let flags = Flags::new(&app_of_work, &prepared, &given.unit);
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
    Evaluations::new(all, &prepared.version).to_json()
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
