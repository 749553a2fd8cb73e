//! `POST /v1/assign`: which variant a unit gets, in one experiment or in many.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::audit::Subject;
use trialog_model::assignment::{Context, Decision, Rules, Step};
use trialog_model::document;
use trialog_model::ids::ExperimentId;
use trialog_pipeline::ingest::Judged;

use super::exposures;
use super::{DECISIONS, MAX_INLINE, ruleset, unit};
use crate::api::events::keep;
use crate::app::App;
use crate::body::in_turn;
use crate::body::received;
use crate::limits::Who;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::rulesets::Prepared;

/// The most experiments that a request may name.
const MAX_EXPERIMENTS: usize = 1_000;

pub(super) fn operation() -> Operation {
    let example = json!({
        "user_id": "42", "experiment_id": "checkout", "context": { "platform": "ios" }, "why": true,
    });
    Operation::new(
        Method::POST,
        "/v1/assign",
        "assign",
        "Says which variant a unit gets",
    )
    .describe("In one experiment, in those that `experiment_ids` lists, or in every one that runs or ships a variant.")
    .body(schema::reference("AssignmentRequest"), example)
    .answers::<AssignmentAnswer<'_>>(StatusCode::OK, "What becomes of the unit.")
    .problems(&[404, 422])
}

/// The schema of a request.
pub(super) fn request() -> Schema {
    let ids = json!({
        "type": ["array", "null"], "items": schema::name(ExperimentId::MAX_CHARS), "maxItems": MAX_EXPERIMENTS,
    });
    schema::closed(schema::object([
        schema::field(
            "user_id",
            json!({ "type": ["string", "integer"] }),
            "The unit: text, or an integer within BIGINT.",
        ),
        schema::optional(
            "experiment_id",
            schema::nullable(schema::name(ExperimentId::MAX_CHARS)),
            "The experiment.",
        ),
        schema::optional(
            "experiment_ids",
            ids,
            "Experiments, instead of `experiment_id`; without both, every one that runs or ships a variant.",
        ),
        schema::optional(
            "context",
            schema::any_object(),
            "What is known about the unit.",
        ),
        schema::optional(
            "log_exposure",
            schema::with(schema::boolean(), "default", false),
            "Whether the answer counts as an exposure; it is durable before the answer.",
        ),
        schema::optional(
            "why",
            schema::with(schema::boolean(), "default", false),
            "Whether to show the path of the decision.",
        ),
    ]))
}

/// What the body says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    user_id: Option<Value>,
    #[serde(default)]
    experiment_id: Option<ExperimentId>,
    #[serde(default)]
    experiment_ids: Option<Vec<ExperimentId>>,
    #[serde(default)]
    context: Context,
    #[serde(default)]
    log_exposure: bool,
    #[serde(default)]
    why: bool,
}

/// What becomes of a unit in one experiment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AssignedVariant")]
struct Assigned<'a> {
    /// The experiment.
    experiment_id: &'a str,
    /// What becomes of the unit.
    #[schemars(extend("enum" = DECISIONS))]
    decision: &'a str,
    /// The variant, if the unit gets one.
    variant: Option<&'a str>,
    /// What the variant stands for: its name unless the definition says otherwise; null
    /// without a variant.
    value: Option<Value>,
    /// The holdout that keeps the unit out.
    holdout: Option<&'a str>,
    /// The steps that led to the decision, each with its numbers and a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Map<String, Value>>")]
    why: Option<Vec<ShownStep>>,
}

/// A step with its sentence.
#[derive(Serialize)]
struct ShownStep {
    #[serde(flatten)]
    step: Step,
    text: String,
}

impl From<Step> for ShownStep {
    fn from(step: Step) -> Self {
        Self {
            text: step.to_string(),
            step,
        }
    }
}

/// One assignment, or a list of them.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum AssignmentAnswer<'a> {
    /// In the experiment that the request names.
    One {
        /// The unit.
        user_id: &'a str,
        #[serde(flatten)]
        assigned: Assigned<'a>,
        /// Whether exposures were logged.
        exposure_logged: bool,
    },
    /// In several experiments.
    Many {
        /// The unit.
        user_id: &'a str,
        /// One for each experiment.
        assignments: Vec<Assigned<'a>>,
        /// Whether exposures were logged.
        exposure_logged: bool,
    },
}

impl IntoResponse for AssignmentAnswer<'_> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

pub(crate) async fn assign(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let request: Request = document::from_slice(&received(body)?).map_err(Problem::unreadable)?;
    let unit = unit(request.user_id.as_ref(), "user_id")?;
    let subject = exposures::Subject {
        unit: &unit,
        context: &request.context,
    };
    let prepared = ruleset(&app).await?;
    match (&request.experiment_id, &request.experiment_ids) {
        (Some(_), Some(_)) => Err(Problem::broken_rule(
            "experiment_ids",
            "stands beside `experiment_id`: give one of the two, or none for every experiment that runs",
        )),
        (Some(id), None) => {
            let Some(rules) = prepared.ruleset.experiment(id.as_str()) else {
                let status = status_of(&app, id).await?;
                let assigned = not_running(id, status);
                return Ok(one(&unit, assigned, false));
            };
            let evaluated = [evaluate(&prepared, rules, subject)];
            let logged = request.log_exposure
                && exposures::log(&app, &prepared.ruleset, subject, &evaluated).await?;
            let assigned = shown(&prepared, rules, subject, request.why);
            Ok(one(&unit, assigned, logged))
        }
        (None, ids) => {
            if ids.as_ref().is_some_and(|ids| ids.len() > MAX_EXPERIMENTS) {
                let reason = format!(
                    "names more than {MAX_EXPERIMENTS} experiments: ask in several requests"
                );
                return Err(Problem::broken_rule("experiment_ids", &reason));
            }
            let unit = unit.into_owned();
            assign_many(app, &who, prepared, request, unit).await
        }
    }
}

/// In all experiments that run, or in those that are named: each of them once.
async fn assign_many(
    app: Arc<App>,
    who: &Who,
    prepared: Arc<Prepared>,
    request: Request,
    unit: String,
) -> Answer<Response> {
    let now = (app.clock)();
    let n_experiments =
        (request.experiment_ids.as_ref()).map_or(prepared.ruleset.experiments().len(), Vec::len);
    let app_of_work = Arc::clone(&app);
    let work = move || {
        let (running, others) = find(&prepared, request.experiment_ids.as_deref());
        let subject = exposures::Subject {
            unit: &unit,
            context: &request.context,
        };
        let evaluated: Vec<_> = (running.iter())
            .map(|rules| evaluate(&prepared, rules, subject))
            .collect();
        let exposures = match request.log_exposure {
            true => Some(exposures::judge(
                &app_of_work,
                &prepared.ruleset,
                subject,
                &evaluated,
                now,
            )?),
            false => None,
        };
        let mut assignments: Vec<_> = (running.iter())
            .map(|rules| shown(&prepared, rules, subject, request.why))
            .collect();
        assignments.extend(others.into_iter().map(|id| not_running(id, "not_running")));
        let is_any = |exposures: &Judged| !exposures.batch.is_empty();
        let answer = AssignmentAnswer::Many {
            user_id: &unit,
            assignments,
            exposure_logged: exposures.as_ref().is_some_and(is_any),
        };
        let response = answer.into_response();
        Ok((exposures, response))
    };
    let (exposures, answer) = match n_experiments <= MAX_INLINE {
        true => work()?,
        false => in_turn(&app, who, work).await?,
    };
    if let Some(exposures) = exposures {
        keep(&app, exposures, now).await?;
    }
    Ok(answer)
}

fn evaluate<'p>(
    prepared: &'p Prepared,
    rules: &'p Rules,
    subject: exposures::Subject<'_>,
) -> (&'p Rules, Decision<'p>) {
    (
        rules,
        prepared
            .ruleset
            .decide(rules, subject.unit, subject.context),
    )
}

/// Those that run, and the ids that were asked for and do not: each once, however often it is
/// named.
fn find<'p>(
    prepared: &'p Prepared,
    ids: Option<&'p [ExperimentId]>,
) -> (Vec<&'p Rules>, Vec<&'p ExperimentId>) {
    let Some(ids) = ids else {
        return (prepared.ruleset.experiments().iter().collect(), Vec::new());
    };
    let mut running = Vec::new();
    let mut others = Vec::new();
    let mut seen = HashSet::new();
    for id in ids.iter().filter(|id| seen.insert(id.as_str())) {
        match prepared.ruleset.experiment(id.as_str()) {
            Some(rules) => running.push(rules),
            None => others.push(id),
        }
    }
    (running, others)
}

/// The word for an experiment that is registered and does not run. A key that may evaluate
/// need not know what other experiments there are.
async fn status_of(app: &Arc<App>, id: &ExperimentId) -> Answer<&'static str> {
    let asked = id.clone();
    let known = pools::query(app, move |app| {
        Ok(app.catalog.known_experiments(&[asked])?)
    })
    .await?;
    match known.is_empty() {
        true => Err(CatalogError::not_found(Subject::Experiment, id.as_str()).into()),
        false => Ok("not_running"),
    }
}

fn not_running<'a>(id: &'a ExperimentId, decision: &'a str) -> Assigned<'a> {
    Assigned {
        experiment_id: id.as_str(),
        decision,
        variant: None,
        value: None,
        holdout: None,
        why: None,
    }
}

fn shown<'p>(
    prepared: &'p Prepared,
    rules: &'p Rules,
    subject: exposures::Subject<'_>,
    with_path: bool,
) -> Assigned<'p> {
    let (decision, steps) = prepared
        .ruleset
        .explain(rules, subject.unit, subject.context);
    let arm = decision.arm();
    Assigned {
        experiment_id: rules.experiment_id().as_str(),
        decision: decision.as_str(),
        variant: arm.map(|arm| arm.variant().as_str()),
        value: arm.map(|arm| {
            arm.value()
                .map(|value| (**value).clone())
                .unwrap_or_else(|| arm.variant().as_str().into())
        }),
        holdout: match decision {
            Decision::HeldOut(holdout) => Some(holdout.name()),
            _ => None,
        },
        why: with_path.then(|| steps.into_iter().map(ShownStep::from).collect()),
    }
}

/// The answer about one experiment.
fn one(user_id: &str, assigned: Assigned<'_>, exposure_logged: bool) -> Response {
    let answer = AssignmentAnswer::One {
        user_id,
        assigned,
        exposure_logged,
    };
    answer.into_response()
}
