//! `/v1/holdouts`: create, read, list, change, start, stop.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::json;
use trialog_catalog::CatalogError;
use trialog_catalog::holdouts::{Holdout, InScope};
use trialog_model::document;
use trialog_model::experiment::Status;
use trialog_model::holdout::{HoldoutDefinition, MAX_SCOPE};
use trialog_model::ids::{ExperimentId, HoldoutName};
use trialog_model::percent;

use super::types::Time;
use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch};
use crate::named::named;
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::page::{next, plain_page};
use crate::pools;
use crate::problem::{Answer, Problem};

/// The most experiments that a warning names.
const MAX_NAMED: usize = 10;

const PATH: &str = "/v1/holdouts";
const TAG: &str = "Stands for this state of it; changes with each change.";

pub(crate) fn operations() -> Vec<Operation> {
    let all = Operation::new(Method::GET, PATH, "listHoldouts", "Lists holdouts")
        .query("after", schema::text(), "The `next` of the page before.")
        .query("limit", schema::page_limit(), "Holdouts on a page.")
        .answers::<HoldoutPage>(StatusCode::OK, "A page, in the order of names.");
    let created = Operation::new(Method::POST, PATH, "registerHoldout", "Registers a holdout")
        .describe("Makes a draft, and the experiment `holdout:<name>` that measures it.")
        .body(
            schema::reference("HoldoutDefinition"),
            json!({ "name": "q3", "size": 0.05, "metrics": { "primary": ["purchase:sum"] }, "owner": "growth" }),
        )
        .answers::<ShownHoldout>(StatusCode::CREATED, "It is registered.")
        .answer_header(StatusCode::CREATED, "Location", "Where it is.")
        .answer_header(StatusCode::CREATED, "ETag", TAG)
        .problems(&[409, 422]);
    let changed = of_one(
        Method::PATCH,
        "/v1/holdouts/{name}",
        "changeHoldout",
        "Changes the members that the body names",
    )
    .describe("After the start its size cannot grow, nor its scope by an experiment that runs.")
    .body(
        schema::reference("HoldoutChange"),
        json!({ "size": 0.04, "description": "everything of the quarter" }),
    )
    .if_match()
    .problems(&[409, 422]);
    let step = |path, id, summary| {
        of_one(Method::POST, path, id, summary)
            .if_match()
            .problems(&[409])
    };
    [
        all,
        created,
        of_one(
            Method::GET,
            "/v1/holdouts/{name}",
            "getHoldout",
            "Reads a holdout",
        ),
        changed,
        step(
            "/v1/holdouts/{name}/start",
            "startHoldout",
            "Starts a draft: its units are held out from now on",
        ),
        step(
            "/v1/holdouts/{name}/stop",
            "stopHoldout",
            "Stops a holdout, for good: its units are let in",
        ),
    ]
    .map(|operation| operation.tag("holdouts"))
    .into()
}

fn of_one(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    Operation::new(method, path, id, summary)
        .segment(
            "name",
            schema::name(HoldoutName::MAX_CHARS),
            "q3",
            "The holdout's name, percent-encoded.",
        )
        .answers::<ShownHoldout>(StatusCode::OK, "The holdout.")
        .answer_header(StatusCode::OK, "ETag", TAG)
        .problems(&[404])
}

pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("HoldoutDefinition", schema::closed(definition())),
        (
            "HoldoutChange",
            schema::closed(schema::resettable(definition())),
        ),
    ]
}

fn definition() -> Schema {
    let free = |name, description: &str| {
        schema::optional(name, schema::nullable(schema::chars(0, 4096)), description)
    };
    let ids = json!({
        "type": ["array", "null"], "items": schema::name(ExperimentId::MAX_CHARS), "maxItems": MAX_SCOPE,
    });
    schema::object([
        schema::field(
            "name",
            schema::name(HoldoutName::MAX_CHARS),
            "Its name, which seeds the buckets.",
        ),
        schema::field(
            "size",
            json!({ "type": "number", "minimum": 0.0001, "maximum": 0.9999 }),
            "The share of units that are held out.",
        ),
        schema::optional(
            "experiments",
            ids,
            "The experiments in its scope; every one if absent.",
        ),
        schema::optional(
            "metrics",
            schema::reference("Metrics"),
            "The metrics by which it is measured.",
        ),
        free("description", "What it is for people."),
        free("owner", "Who answers for it."),
    ])
}

/// A holdout: what it is, and where it is in its life.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Holdout")]
struct ShownHoldout {
    #[serde(flatten)]
    #[schemars(schema_with = "definition_part")]
    definition: HoldoutDefinition,
    /// The experiment that measures it: its results are there.
    experiment_id: String,
    /// Where it is in its life.
    #[schemars(
        with = "String",
        extend("enum" = [Status::Draft, Status::Running, Status::Stopped])
    )]
    status: Status,
    /// When it was registered.
    created_at: Time,
    /// When it changed last.
    updated_at: Time,
    /// When it was started.
    started_at: Option<Time>,
    /// When it was stopped.
    stopped_at: Option<Time>,
    /// Of an answer to the start: experiments in the scope that run already.
    warnings: Vec<LosesUnits>,
}

fn definition_part(_: &mut SchemaGenerator) -> schemars::Schema {
    derived::written(definition())
}

/// An experiment that loses units to a holdout.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct LosesUnits {
    /// What it is about.
    #[schemars(extend("enum" = ["loses_units"]))]
    code: &'static str,
    /// The experiment that runs.
    experiment_id: String,
    /// What happens to it.
    message: String,
}

/// A page of holdouts.
#[derive(Serialize, JsonSchema)]
struct HoldoutPage {
    /// The holdouts.
    holdouts: Vec<ShownHoldout>,
    /// What `after` takes for the next page; null on the last.
    next: Option<String>,
}

impl ShownHoldout {
    fn new(holdout: Holdout, warnings: Vec<LosesUnits>) -> Self {
        Self {
            experiment_id: holdout.definition.name.experiment_id().to_string(),
            definition: holdout.definition,
            status: holdout.status,
            created_at: holdout.created_at.into(),
            updated_at: holdout.updated_at.into(),
            started_at: holdout.started_at.map(Time::from),
            stopped_at: holdout.stopped_at.map(Time::from),
            warnings,
        }
    }
}

/// A holdout with its entity tag.
fn answer(holdout: Holdout, warnings: Vec<LosesUnits>) -> Response {
    let tag = [(header::ETAG, etag(holdout.revision))];
    (tag, Json(ShownHoldout::new(holdout, warnings))).into_response()
}

/// The name in a path; a name that cannot exist is not found.
fn name(path: Result<Path<String>, PathRejection>) -> Answer<HoldoutName> {
    named(path, "holdout has such a name", HoldoutName::new)
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Editing(edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let definition: HoldoutDefinition =
        document::from_slice(&received(body)?).map_err(Problem::unreadable)?;
    definition.check()?;
    let created = pools::change(&app, move |app| {
        Ok(app.catalog.create::<Holdout>(&definition, &edit)?)
    })
    .await?;
    let name = percent::encode(created.definition.name.as_str());
    let location = [(header::LOCATION, format!("/v1/holdouts/{name}"))];
    Ok((StatusCode::CREATED, location, answer(created, Vec::new())).into_response())
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let name = name(path)?;
    let found = pools::query(&app, move |app| Ok(app.catalog.get::<Holdout>(&name)?)).await?;
    Ok(answer(found, Vec::new()))
}

/// Replaces the fields that the body names; null puts one back to its default.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let name = name(path)?;
    let patch = patch(&received(body)?)?;
    let changed = pools::change(&app, move |app| {
        let rules = app.catalog.configuration()?.rules;
        app.catalog.change(&name, &edit, |known: &Holdout| {
            let changed: HoldoutDefinition =
                document::from_value(merged(&known.definition, patch)?)
                    .map_err(Problem::unreadable)?;
            changed.check()?;
            if changed.name != known.definition.name {
                let reason = "cannot change: it seeds the buckets, register another holdout";
                return Err(Problem::broken_rule("name", reason));
            }
            if known.status != Status::Draft {
                (known.definition.check_change_after_start(&changed))
                    .map_err(|error| Problem::from(error).with_status(StatusCode::CONFLICT))?;
            }
            let running = rules.experiments.iter().map(|rules| &rules.experiment_id);
            let shipped = rules.shipped.iter().map(|rules| &rules.experiment_id);
            let joins = (running.chain(shipped))
                .find(|id| changed.covers(id) && !known.definition.covers(id));
            match joins {
                Some(id) if known.status == Status::Running => {
                    Err(joins_while_running(id.as_str()))
                }
                _ => Ok(changed),
            }
        })
    })
    .await?;
    Ok(answer(changed, Vec::new()))
}

fn joins_while_running(experiment: &str) -> Problem {
    let reason = format!(
        "cannot gain `{experiment}`, which runs or ships a variant: its units that are held out would lose the variant; archive it first, or wait until it has ended"
    );
    Problem::broken_rule("experiments", &reason).with_status(StatusCode::CONFLICT)
}

pub(crate) async fn start(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    let name = name(path)?;
    let (started, warnings) = pools::change(&app, move |app| {
        let started = app.catalog.start_holdout(&name, &edit)?;
        let warnings = warnings(app, &started)?;
        Ok((started, warnings))
    })
    .await?;
    Ok(answer(started, warnings))
}

/// Names experiments that run or ship a variant already and lose units to the holdout.
fn warnings(app: &App, started: &Holdout) -> Result<Vec<LosesUnits>, CatalogError> {
    let in_scope = app.catalog.in_scope(&started.definition, MAX_NAMED)?;
    let warning = |covered: InScope| {
        let id = covered.experiment_id;
        let state = if covered.ships {
            "ships a variant"
        } else {
            "runs"
        };
        LosesUnits {
            code: "loses_units",
            message: format!(
                "`{id}` {state} already: its units that are held out now get no variant any more"
            ),
            experiment_id: id.to_string(),
        }
    };
    Ok(in_scope.into_iter().map(warning).collect())
}

pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    let name = name(path)?;
    let stopped = pools::change(&app, move |app| {
        Ok(app.catalog.stop_holdout(&name, &edit)?)
    })
    .await?;
    Ok(answer(stopped, Vec::new()))
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let (after, limit) = plain_page(query.as_deref().unwrap_or_default())?;
    let found = pools::query(&app, move |app| {
        Ok(app.catalog.list::<Holdout>(after.as_deref(), limit)?)
    })
    .await?;
    let next = next(&found, limit, |holdout| holdout.definition.name.to_string());
    let holdouts = found
        .into_iter()
        .map(|holdout| ShownHoldout::new(holdout, Vec::new()));
    let holdouts = holdouts.collect();
    Ok(Json(HoldoutPage { holdouts, next }).into_response())
}
