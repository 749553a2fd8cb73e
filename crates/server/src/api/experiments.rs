//! `/v1/experiments`: create, read, list, change, delete, and the steps of their lives.

mod decide;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::experiments::{Experiment, Listing, Order};
use trialog_catalog::surfaces::SharedSurface;
use trialog_model::document;
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::ExperimentId;

use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch, take_confirmation};
use crate::named::named;
use crate::page::{PAGE, limit, next, search};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use trialog_model::percent;
use trialog_report::{Decided, Paused};

pub(crate) use decide::decide;

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
    archived_at: Option<String>,
    decision: Option<Decided>,
    pauses: Vec<Paused>,
    failure: Option<String>,
    /// The buckets of its layer that it owns.
    ranges: Vec<[u16; 2]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Value>,
}

fn show(experiment: Experiment) -> Shown {
    let text = |time: trialog_model::time::UnixMicros| time.to_rfc3339();
    Shown {
        status: experiment.status,
        created_at: text(experiment.created_at),
        updated_at: text(experiment.updated_at),
        started_at: experiment.started_at.map(text),
        stopped_at: experiment.stopped_at.map(text),
        archived_at: experiment.archived_at.map(text),
        decision: experiment.decision.as_ref().map(Decided::from_decision),
        pauses: experiment.pauses.iter().map(Paused::from_pause).collect(),
        failure: experiment.failure,
        ranges: (experiment.ranges.iter())
            .map(|range| [range.start, range.end])
            .collect(),
        warnings: Vec::new(),
        definition: experiment.definition,
    }
}

/// The id in a path; an id that cannot exist is not found.
pub(crate) fn id(path: Result<Path<String>, PathRejection>) -> Answer<ExperimentId> {
    named(path, "experiment has such an id", ExperimentId::new)
}

/// An experiment with its entity tag.
fn answer(experiment: Experiment) -> Response {
    let tag = etag(experiment.change);
    ([(header::ETAG, tag)], Json(show(experiment))).into_response()
}

/// An experiment with its entity tag and what its owner should know.
fn answer_with(experiment: Experiment, shared: &[SharedSurface]) -> Response {
    let tag = etag(experiment.change);
    let warning = |own: &SharedSurface| {
        let SharedSurface {
            surface,
            experiment_id,
        } = own;
        json!({
            "code": "shared_surface", "surface": surface, "experiment_id": experiment_id,
            "message": format!("`{experiment_id}` runs and touches `{surface}` too: put both into one layer where they must not meet"),
        })
    };
    let mut shown = show(experiment);
    shown.warnings = shared.iter().map(warning).collect();
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
    let location = format!(
        "/v1/experiments/{}",
        percent::encode(created.definition.experiment_id.as_str())
    );
    let location = [(header::LOCATION, location)];
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

pub(crate) async fn start(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    let id = id(path)?;
    let (started, shared) = pools::change(&app, move |app| {
        let started = app.catalog.start_experiment(&id, &edit)?;
        let shared = app.catalog.shared_surfaces(&started.definition)?;
        Ok((started, shared))
    })
    .await?;
    Ok(answer_with(started, &shared))
}

pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    let id = id(path)?;
    let (resumed, shared) = pools::change(&app, move |app| {
        let resumed = app.catalog.resume_experiment(&id, &edit)?;
        let shared = app.catalog.shared_surfaces(&resumed.definition)?;
        Ok((resumed, shared))
    })
    .await?;
    Ok(answer_with(resumed, &shared))
}

pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    step(&app, path, move |app, id| {
        Ok(app.catalog.stop_experiment(&id, &edit)?)
    })
    .await
}

/// Confirms what was changed after the start.
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    step(&app, path, move |app, id| {
        Ok(app.catalog.confirm_change(&id, &edit)?)
    })
    .await
}

pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    step(&app, path, move |app, id| {
        Ok(app.catalog.archive_experiment(&id, &edit)?)
    })
    .await
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

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let listing = listing(query.as_deref().unwrap_or_default())?;
    // A long page is written here too, so that no other connection waits for it.
    pools::query(&app, move |app| {
        let found = app.catalog.list_experiments(&listing)?;
        let next = next_page(&found, &listing);
        let experiments: Vec<Shown> = found.into_iter().map(show).collect();
        Ok(Json(json!({ "experiments": experiments, "next": next })).into_response())
    })
    .await
}

/// Where the page after `page` begins.
pub(crate) fn next_page(page: &[Experiment], listing: &Listing) -> Option<String> {
    next(page, listing.limit, |last| match listing.order {
        Order::Id => last.definition.experiment_id.to_string(),
        Order::Change => last.change.to_string(),
    })
}

pub(crate) fn listing(query: &str) -> Answer<Listing> {
    let mut order = None;
    let mut listing = Listing {
        limit: PAGE,
        ..Listing::default()
    };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "status" => listing.statuses.push(Status::parse(&value).ok_or_else(|| {
                Problem::bad_field(
                    "status",
                    "is not a status: use unregistered, draft, running, stopped or archived",
                )
            })?),
            "owner" => listing.owner = Some(value),
            "q" => listing.search = Some(search(value)?).filter(|text| !text.trim().is_empty()),
            "sort" => {
                order = Some(match value.as_str() {
                    "id" => Order::Id,
                    "updated_at" => Order::Change,
                    _ => return Err(Problem::bad_field("sort", "is neither id nor updated_at")),
                });
            }
            "after" => listing.after = Some(value),
            "limit" => listing.limit = limit(&value)?,
            other => {
                return Err(Problem::bad_field(
                    other,
                    "is no parameter here: use status, owner, q, sort, after or limit",
                ));
            }
        }
    }
    listing.order = match (&listing.search, order) {
        (Some(_), Some(Order::Id)) => {
            let reason =
                "cannot be id together with q: what is found comes with the last change first";
            return Err(Problem::broken_rule("sort", reason));
        }
        (Some(_), None) => Order::Change,
        (_, order) => order.unwrap_or_default(),
    };
    if let (Order::Change, Some(after)) = (listing.order, &listing.after) {
        after.parse::<i64>().map_err(|_| {
            Problem::broken_rule("after", "is not the `next` of a page in this order")
        })?;
    }
    Ok(listing)
}
