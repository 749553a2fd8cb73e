//! `POST /v1/assign`: which variant a unit gets, in one experiment or in many.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::audit::Subject;
use trialog_model::assignment::{Context, Decision, Rules, Step};
use trialog_model::document;
use trialog_model::ids::ExperimentId;

use super::exposures;
use super::{MAX_INLINE, ruleset, unit};
use crate::api::events::keep;
use crate::app::App;
use crate::body::in_turn;
use crate::body::received;
use crate::limits::Who;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::rulesets::Prepared;

/// The most experiments that a request may name.
pub(crate) const MAX_EXPERIMENTS: usize = 1_000;

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
#[derive(Serialize)]
struct Assigned<'a> {
    experiment_id: &'a str,
    decision: &'a str,
    variant: Option<&'a str>,
    /// What the variant stands for: its name unless the definition says otherwise.
    value: Option<Value>,
    holdout: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Vec<Value>>,
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
                return Ok(answer(&unit, json!(not_running(id, status)), false));
            };
            let evaluated = [evaluate(&prepared, rules, subject)];
            let logged = request.log_exposure
                && exposures::log(&app, &prepared.ruleset, subject, &evaluated).await?;
            Ok(answer(
                &unit,
                json!(shown(&prepared, rules, subject, request.why)),
                logged,
            ))
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
    let own = Arc::clone(&app);
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
                &own,
                &prepared.ruleset,
                subject,
                &evaluated,
                now,
            )?),
            false => None,
        };
        let mut all: Vec<_> = (running.iter())
            .map(|rules| shown(&prepared, rules, subject, request.why))
            .collect();
        all.extend(others.into_iter().map(|id| not_running(id, "not_running")));
        let logged = exposures.as_ref().is_some_and(|own| !own.batch.is_empty());
        Ok((
            exposures,
            answer(&unit, json!({ "assignments": all }), logged),
        ))
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
                .map(|own| (**own).clone())
                .unwrap_or_else(|| arm.variant().as_str().into())
        }),
        holdout: match decision {
            Decision::HeldOut(holdout) => Some(holdout.name()),
            _ => None,
        },
        why: with_path.then(|| steps.iter().map(step).collect()),
    }
}

/// A step with its sentence.
fn step(step: &Step) -> Value {
    let mut shown = json!(step);
    shown["text"] = step.to_string().into();
    shown
}

fn answer(unit: &str, shown: Value, logged: bool) -> Response {
    let mut members = Map::new();
    members.insert("user_id".to_owned(), unit.into());
    if let Value::Object(shown) = shown {
        members.extend(shown);
    }
    members.insert("exposure_logged".to_owned(), logged.into());
    Json(members).into_response()
}
