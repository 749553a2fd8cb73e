//! `/v1/experiments`: create, read, list, change, start, stop.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::experiments::{Experiment, Listing};
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::ExperimentId;

use crate::app::{App, blocking};
use crate::percent_encode;
use crate::problem::{Answer, Problem};
use crate::results::pairs;

/// How many experiments a page has unless asked otherwise, and at most.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

/// An experiment as the API shows it: its definition and where it is in life.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    definition: Definition,
    status: Status,
    created_at: String,
    updated_at: String,
    started_at: Option<String>,
    stopped_at: Option<String>,
    failure: Option<String>,
}

fn show(experiment: Experiment) -> Shown {
    let text = |time: trialog_model::time::UnixMicros| time.to_rfc3339();
    Shown {
        status: experiment.status,
        created_at: text(experiment.created_at),
        updated_at: text(experiment.updated_at),
        started_at: experiment.started_at.map(text),
        stopped_at: experiment.stopped_at.map(text),
        failure: experiment.failure,
        definition: experiment.definition,
    }
}

/// The id in a path; an id that cannot exist is not found.
pub(crate) fn id(path: Result<Path<String>, PathRejection>) -> Answer<ExperimentId> {
    let Path(text) =
        path.map_err(|error| Problem::bad_request(format!("the path cannot be read: {error}")))?;
    ExperimentId::new(text).map_err(|error| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("no experiment has such an id: it {error}"),
        )
    })
}

fn received(body: Result<Bytes, BytesRejection>) -> Answer<Bytes> {
    body.map_err(|error| {
        Problem::new(
            error.status(),
            format!("the definition cannot be read: {error}"),
        )
    })
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let definition: Definition = serde_json::from_slice(&received(body)?)
        .map_err(|error| Problem::bad_request(format!("not an experiment: {error}")))?;
    definition.check()?;
    let now = (app.clock)();
    let created = blocking(move || Ok(app.catalog.create_experiment(&definition, now)?)).await?;
    let location = format!(
        "/v1/experiments/{}",
        percent_encode(created.definition.experiment_id.as_str())
    );
    let mut headers = HeaderMap::new();
    headers.extend(
        location
            .parse()
            .ok()
            .map(|location| (header::LOCATION, location)),
    );
    Ok((StatusCode::CREATED, headers, Json(show(created))).into_response())
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let id = id(path)?;
    let found = blocking(move || Ok(app.catalog.experiment(&id)?)).await?;
    Ok(Json(show(found)).into_response())
}

/// Replaces the fields that the body names.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let id = id(path)?;
    let patch: serde_json::Map<String, Value> =
        serde_json::from_slice(&received(body)?).map_err(|error| {
            Problem::bad_request(format!("not an object of fields to change: {error}"))
        })?;
    let now = (app.clock)();
    let changed = blocking(move || {
        app.catalog
            .change_experiment(&id, now, |known| changed(known, patch))
    })
    .await?;
    Ok(Json(show(changed)).into_response())
}

fn changed(known: &Experiment, patch: serde_json::Map<String, Value>) -> Answer<Definition> {
    let id = &known.definition.experiment_id;
    if known.status == Status::Unregistered {
        let mend = "register it first with POST /v1/experiments";
        return Err(CatalogError::WrongStatus {
            experiment: id.clone(),
            status: known.status,
            mend,
        }
        .into());
    }
    let mut fields = serde_json::to_value(&known.definition)
        .map_err(|error| Problem::internal(error.to_string()))?;
    if let Value::Object(fields) = &mut fields {
        fields.extend(patch);
    }
    let definition: Definition = serde_json::from_value(fields)
        .map_err(|error| Problem::bad_request(format!("not an experiment: {error}")))?;
    if definition.experiment_id != *id {
        return Err(Problem::bad_field(
            "experiment_id",
            "cannot change: register a new experiment",
        ));
    }
    definition.check()?;
    if known.status != Status::Draft {
        known
            .definition
            .check_change_after_start(&definition)
            .map_err(|error| {
                Problem::new(StatusCode::CONFLICT, error.to_string())
                    .with("field", json!(error.field))
                    .with("reason", json!(error.reason))
            })?;
    }
    Ok(definition)
}

pub(crate) async fn start(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let id = id(path)?;
    let now = (app.clock)();
    let started = blocking(move || Ok(app.catalog.start_experiment(&id, now)?)).await?;
    Ok(Json(show(started)).into_response())
}

pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let id = id(path)?;
    let now = (app.clock)();
    let stopped = blocking(move || Ok(app.catalog.stop_experiment(&id, now)?)).await?;
    Ok(Json(show(stopped)).into_response())
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let listing = listing(query.as_deref().unwrap_or_default())?;
    let limit = listing.limit;
    let found = blocking(move || Ok(app.catalog.list_experiments(&listing)?)).await?;
    let is_full = found.len() as u64 >= u64::from(limit);
    let next = found
        .last()
        .filter(|_| is_full)
        .map(|last| last.definition.experiment_id.to_string());
    let experiments: Vec<Shown> = found.into_iter().map(show).collect();
    Ok(Json(json!({ "experiments": experiments, "next": next })).into_response())
}

pub(crate) fn listing(query: &str) -> Answer<Listing> {
    let mut listing = Listing {
        limit: PAGE,
        ..Listing::default()
    };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "status" => {
                let status = Status::parse(&value).ok_or_else(|| {
                    Problem::bad_field(
                        "status",
                        "is not a status: use unregistered, draft, running or stopped",
                    )
                })?;
                listing.status = Some(status);
            }
            "after" => listing.after = Some(value),
            "limit" => {
                let limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=MAX_PAGE).contains(limit));
                listing.limit = limit
                    .ok_or_else(|| Problem::bad_field("limit", "is not a number from 1 to 1000"))?;
            }
            other => {
                return Err(Problem::bad_field(
                    other,
                    "is no parameter here: use status, after or limit",
                ));
            }
        }
    }
    Ok(listing)
}
