//! The steps in the life of an experiment: start, stop, resume, confirm, archive.

use std::sync::Arc;

use axum::routing::MethodRouter;
use trialog_catalog::Catalog;
use trialog_catalog::experiments::Experiment;

use crate::api::resource::{Resource, operations, plain, step};
use crate::app::App;
use crate::openapi::operation::Operation;

pub(super) fn operations() -> [Operation; 5] {
    [
        operations::step::<Experiment>(
            "/v1/experiments/{id}/start",
            "startExperiment",
            "Starts a draft",
        ),
        operations::step::<Experiment>(
            "/v1/experiments/{id}/stop",
            "stopExperiment",
            "Stops a running experiment",
        ),
        operations::step::<Experiment>(
            "/v1/experiments/{id}/resume",
            "resumeExperiment",
            "Resumes a stopped experiment",
        )
        .describe("Only without a decision, and while its buckets are free and definition and holdouts are as they were when it was stopped. `pauses` keeps the time, since exposed users saw the control meanwhile."),
        operations::step::<Experiment>(
            "/v1/experiments/{id}/archive",
            "archiveExperiment",
            "Puts away a draft or a stopped experiment, for good",
        ),
        operations::step::<Experiment>(
            "/v1/experiments/{id}/confirm",
            "confirmChange",
            "Confirms what was changed after the start",
        )
        .describe("Until somebody does, results have no verdict: what they are tested with was changed with `confirm` after people could see them. Only looks since the change count."),
    ]
}

pub(crate) fn start() -> MethodRouter<Arc<App>> {
    step(Catalog::start_experiment, Experiment::with_warnings)
}

pub(crate) fn stop() -> MethodRouter<Arc<App>> {
    step(Catalog::stop_experiment, plain)
}

pub(crate) fn resume() -> MethodRouter<Arc<App>> {
    step(Catalog::resume_experiment, Experiment::with_warnings)
}

pub(crate) fn archive() -> MethodRouter<Arc<App>> {
    step(Catalog::archive_experiment, plain)
}

/// Confirms what was changed after the start.
pub(crate) fn confirm() -> MethodRouter<Arc<App>> {
    step(Catalog::confirm_change, plain)
}
