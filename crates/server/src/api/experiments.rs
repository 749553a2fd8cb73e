//! `/v1/experiments`: create, read, list, change, delete, and the steps of their lives.

mod decide;
mod definition;
mod life;
mod list;

pub(crate) use decide::decide;
pub(crate) use definition::{confirmable, metric_name};
pub(crate) use life::{archive, confirm, resume, start, stop};
pub(crate) use list::{list, listing, next_page};

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::experiments::Experiment;
use trialog_catalog::surfaces::SharedSurface;
use trialog_model::document;
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::ExperimentId;
use trialog_model::percent;
use trialog_report::{Decided, Paused};

use super::types::{BucketRange, Time, bucket_range};
use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch, take_confirmation};
use crate::named::named;
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::pools;
use crate::problem::{Answer, Problem};

/// What an `ETag` is.
const TAG: &str = "Stands for this state of it; changes with each change.";

const PATH: &str = "/v1/experiments";

pub(crate) fn operations() -> Vec<Operation> {
    let read = of_one(
        Method::GET,
        "/v1/experiments/{id}",
        "getExperiment",
        "Reads an experiment",
    );
    let registry = [
        list::operation(),
        create_operation(),
        read,
        change_operation(),
        delete_operation(),
        decide::operation(),
    ];
    registry.into_iter().chain(life::operations()).collect()
}

fn create_operation() -> Operation {
    Operation::new(
        Method::POST,
        PATH,
        "registerExperiment",
        "Registers an experiment",
    )
    .tag("experiments")
    .describe("Makes a draft. Events of the experiment that came before stay.")
    .body(
        schema::reference("ExperimentDefinition"),
        definition_example(),
    )
    .answers::<ShownExperiment>(StatusCode::CREATED, "It is registered.")
    .answer_header(StatusCode::CREATED, "Location", "Where it is.")
    .answer_header(StatusCode::CREATED, "ETag", TAG)
    .problems(&[409, 422])
}

fn definition_example() -> Value {
    json!({
        "experiment_id": "checkout", "hypothesis": "fewer steps sell more", "owner": "shop",
        "control": "old",
        "variants": [{ "variant": "old", "weight": 0.5 }, { "variant": "new", "weight": 0.5 }],
        "targeting": [{ "key": "platform", "op": "in", "value": ["ios", "android"] }],
        "surfaces": ["cart"], "attribution_window": "7d", "alpha": 0.05,
        "plan": { "sample_size_per_variant": 40000, "baseline": 0.19, "mde": 0.01, "power": 0.8 },
        "metrics": { "primary": ["purchase:conversion"], "secondary": ["purchase:sum"] },
    })
}

fn change_operation() -> Operation {
    of_one(Method::PATCH, "/v1/experiments/{id}", "changeExperiment", "Changes the members that the body names")
        .describe("Null puts a member back to its default. After the start, salt, variants and layer are frozen, allocation may only grow, and primary metrics stay as they are. A change of `alpha`, `attribution_window`, `control`, `plan` or `start_at` is refused then, as results are tested with them; with `confirm` the sequence of looks starts anew, and there is no verdict until somebody confirms it. A change takes effect with the next run.")
        .body(schema::reference("ExperimentChange"), json!({ "owner": "checkout team", "hypothesis": null }))
        .if_match()
        .problems(&[409, 422])
}

fn delete_operation() -> Operation {
    of_one(
        Method::DELETE,
        "/v1/experiments/{id}",
        "deleteExperiment",
        "Deletes a draft or an unregistered experiment",
    )
    .describe("With its results, and answers with it as it was. Its events and its audit trail stay: if more events come in, it is unregistered again. One that was started is archived instead.")
    .if_match()
    .problems(&[409])
}

/// An operation on one experiment that answers with it.
fn of_one(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    experiment_segment(Operation::new(method, path, id, summary))
        .tag("experiments")
        .answers::<ShownExperiment>(StatusCode::OK, "The experiment.")
        .answer_header(StatusCode::OK, "ETag", TAG)
        .problems(&[404])
}

/// The experiment in a path.
pub(crate) fn experiment_segment(operation: Operation) -> Operation {
    operation.segment(
        "id",
        schema::name(ExperimentId::MAX_CHARS),
        "checkout",
        "The experiment's id, percent-encoded.",
    )
}

/// The schemas of what clients send.
pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    definition::schemas()
}

/// An experiment: its definition, and where it is in its life.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Experiment")]
pub(super) struct ShownExperiment {
    #[serde(flatten)]
    #[schemars(schema_with = "definition_part")]
    definition: Definition,
    /// Where it is in its life.
    status: Status,
    /// When it became known.
    created_at: Time,
    /// When it changed last.
    updated_at: Time,
    /// When it was started.
    started_at: Option<Time>,
    /// When it was stopped.
    stopped_at: Option<Time>,
    /// When it was put away.
    archived_at: Option<Time>,
    /// What was decided after it; null while nothing is.
    decision: Option<Decided>,
    /// The times in which it was stopped before it was resumed, oldest first.
    pauses: Vec<Paused>,
    /// Why the last computation of it failed.
    failure: Option<String>,
    /// The buckets of its layer that it owns, from the first on and before the second.
    ranges: Vec<BucketRange>,
    /// Of an answer to a change: experiments that run and touch the same surface without a
    /// layer that keeps them apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<SurfaceWarning>,
}

fn definition_part(_: &mut SchemaGenerator) -> schemars::Schema {
    derived::written(definition::shown())
}

/// An experiment that runs and touches the same part of the product.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SharedSurface")]
struct SurfaceWarning {
    /// What it is about.
    #[schemars(extend("enum" = ["shared_surface"]))]
    code: &'static str,
    /// The part of the product.
    surface: String,
    /// The experiment that runs.
    experiment_id: String,
    /// What to do about it.
    message: String,
}

impl From<Experiment> for ShownExperiment {
    fn from(experiment: Experiment) -> Self {
        Self {
            status: experiment.status,
            created_at: experiment.created_at.into(),
            updated_at: experiment.updated_at.into(),
            started_at: experiment.started_at.map(Time::from),
            stopped_at: experiment.stopped_at.map(Time::from),
            archived_at: experiment.archived_at.map(Time::from),
            decision: experiment.decision.as_ref().map(Decided::from_decision),
            pauses: experiment.pauses.iter().map(Paused::from_pause).collect(),
            failure: experiment.failure,
            ranges: experiment.ranges.iter().map(bucket_range).collect(),
            warnings: Vec::new(),
            definition: experiment.definition,
        }
    }
}

impl From<&SharedSurface> for SurfaceWarning {
    fn from(shared: &SharedSurface) -> Self {
        let (surface, id) = (&shared.surface, &shared.experiment_id);
        Self {
            code: "shared_surface",
            message: format!(
                "`{id}` runs and touches `{surface}` too: put both into one layer where they must not meet"
            ),
            surface: surface.clone(),
            experiment_id: id.to_string(),
        }
    }
}

/// The id in a path; an id that cannot exist is not found.
pub(crate) fn id(path: Result<Path<String>, PathRejection>) -> Answer<ExperimentId> {
    named(path, "experiment has such an id", ExperimentId::new)
}

/// An experiment with its entity tag.
fn answer(experiment: Experiment) -> Response {
    let tag = etag(experiment.change);
    (
        [(header::ETAG, tag)],
        Json(ShownExperiment::from(experiment)),
    )
        .into_response()
}

/// An experiment with its entity tag and what its owner should know.
fn answer_with(experiment: Experiment, shared: &[SharedSurface]) -> Response {
    let tag = etag(experiment.change);
    let mut shown = ShownExperiment::from(experiment);
    shown.warnings = shared.iter().map(SurfaceWarning::from).collect();
    ([(header::ETAG, tag)], Json(shown)).into_response()
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Editing(edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let definition: Definition =
        document::from_slice(&received(body)?).map_err(Problem::unreadable)?;
    definition.check()?;
    definition.check_variant_names(&[])?;
    let (created, shared) = pools::change(&app, move |app| {
        let created = app.catalog.create_experiment(&definition, &edit)?;
        let shared = app.catalog.shared_surfaces(&definition)?;
        Ok((created, shared))
    })
    .await?;
    let id = percent::encode(created.definition.experiment_id.as_str());
    let location = [(header::LOCATION, format!("{PATH}/{id}"))];
    Ok((StatusCode::CREATED, location, answer_with(created, &shared)).into_response())
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let id = id(path)?;
    let found = pools::query(&app, move |app| Ok(app.catalog.experiment(&id)?)).await?;
    Ok(answer(found))
}

/// Replaces the fields that the body names; null puts one back to its default.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(mut edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let id = id(path)?;
    let mut patch = patch(&received(body)?)?;
    take_confirmation(&mut edit, &mut patch)?;
    let (changed, shared) = pools::change(&app, move |app| {
        let changed = (app.catalog).change(&id, &edit, |known| changed(known, patch))?;
        let shared = app.catalog.shared_surfaces(&changed.definition)?;
        Ok((changed, shared))
    })
    .await?;
    Ok(answer_with(changed, &shared))
}

fn changed(known: &Experiment, patch: Map<String, Value>) -> Answer<Definition> {
    let id = &known.definition.experiment_id;
    let mend = match known.status {
        Status::Unregistered => Some("register it first"),
        Status::Archived => Some("it is put away for good and cannot change"),
        Status::Draft | Status::Running | Status::Stopped => None,
    };
    if let Some(mend) = mend {
        return Err(CatalogError::WrongStatus {
            experiment: id.clone(),
            status: known.status,
            mend,
        }
        .into());
    }
    let definition: Definition =
        document::from_value(merged(&known.definition, patch)?).map_err(Problem::unreadable)?;
    if definition.experiment_id != *id {
        return Err(Problem::broken_rule(
            "experiment_id",
            "cannot change: register a new experiment",
        ));
    }
    definition.check()?;
    definition.check_variant_names(&known.definition.variants)?;
    if known.status != Status::Draft {
        known
            .definition
            .check_change_after_start(&definition)
            .map_err(|error| Problem::from(error).with_status(StatusCode::CONFLICT))?;
    }
    Ok(definition)
}

/// Deletes a draft or an unregistered experiment, and answers with it as it was.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    step(&app, path, move |app, id| {
        Ok(app.catalog.delete::<Experiment>(&id, &edit)?)
    })
    .await
}

async fn step(
    app: &Arc<App>,
    path: Result<Path<String>, PathRejection>,
    step: impl FnOnce(&App, ExperimentId) -> Answer<Experiment> + Send + 'static,
) -> Answer<Response> {
    let id = id(path)?;
    let stepped = pools::change(app, move |app| step(app, id)).await?;
    Ok(answer(stepped))
}
