//! The steps in the life of an experiment: start, stop, resume, confirm, archive.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::Response;

use super::{answer_with, id, of_one, step};
use crate::app::App;
use crate::edit::Editing;
use crate::openapi::operation::Operation;
use crate::pools;
use crate::problem::Answer;

pub(super) fn operations() -> [Operation; 5] {
    [
        change_of_life(
            "/v1/experiments/{id}/start",
            "startExperiment",
            "Starts a draft",
        ),
        change_of_life(
            "/v1/experiments/{id}/stop",
            "stopExperiment",
            "Stops a running experiment",
        ),
        change_of_life(
            "/v1/experiments/{id}/resume",
            "resumeExperiment",
            "Resumes a stopped experiment",
        )
        .describe("Only without a decision, and while its buckets are free and definition and holdouts are as they were when it was stopped. `pauses` keeps the time, since exposed users saw the control meanwhile."),
        change_of_life(
            "/v1/experiments/{id}/archive",
            "archiveExperiment",
            "Puts away a draft or a stopped experiment, for good",
        ),
        change_of_life(
            "/v1/experiments/{id}/confirm",
            "confirmChange",
            "Confirms what was changed after the start",
        )
        .describe("Until somebody does, results have no verdict: what they are tested with was changed with `confirm` after people could see them. Only looks since the change count."),
    ]
}

/// A step of one experiment, which its state may not allow.
pub(super) fn change_of_life(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    of_one(Method::POST, path, id, summary)
        .if_match()
        .problems(&[409])
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
