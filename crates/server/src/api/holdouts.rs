//! `/v1/holdouts`: create, read, list, change, start, stop.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::holdouts::{Holdout, InScope};
use trialog_model::document;
use trialog_model::experiment::Status;
use trialog_model::holdout::HoldoutDefinition;
use trialog_model::ids::HoldoutName;

use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch};
use crate::named::named;
use crate::page::{next, plain_page};
use crate::pools;
use crate::problem::{Answer, Problem};
use trialog_model::percent;

/// The most experiments that a warning names.
const MAX_NAMED: usize = 10;

/// A holdout as the API shows it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    definition: HoldoutDefinition,
    /// The id under which its results are found.
    experiment_id: String,
    status: Status,
    created_at: String,
    updated_at: String,
    started_at: Option<String>,
    stopped_at: Option<String>,
    warnings: Vec<Value>,
}

fn show(holdout: Holdout, warnings: Vec<Value>) -> Shown {
    let text = |time: trialog_model::time::UnixMicros| time.to_rfc3339();
    Shown {
        experiment_id: holdout.definition.name.experiment_id().to_string(),
        definition: holdout.definition,
        status: holdout.status,
        created_at: text(holdout.created_at),
        updated_at: text(holdout.updated_at),
        started_at: holdout.started_at.map(text),
        stopped_at: holdout.stopped_at.map(text),
        warnings,
    }
}

/// A holdout with its entity tag.
fn answer(holdout: Holdout, warnings: Vec<Value>) -> Response {
    let tag = [(header::ETAG, etag(holdout.revision))];
    (tag, Json(show(holdout, warnings))).into_response()
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
            let running = rules.experiments.iter().map(|own| &own.experiment_id);
            let shipped = rules.shipped.iter().map(|own| &own.experiment_id);
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
fn warnings(app: &App, started: &Holdout) -> Result<Vec<Value>, CatalogError> {
    let in_scope = app.catalog.in_scope(&started.definition, MAX_NAMED)?;
    let warning = |covered: InScope| {
        let id = covered.experiment_id;
        let state = if covered.ships {
            "ships a variant"
        } else {
            "runs"
        };
        json!({
            "code": "loses_units",
            "experiment_id": id,
            "message": format!("`{id}` {state} already: its units that are held out now get no variant any more"),
        })
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
    let holdouts: Vec<Shown> = found.into_iter().map(|own| show(own, Vec::new())).collect();
    Ok(Json(json!({ "holdouts": holdouts, "next": next })).into_response())
}
