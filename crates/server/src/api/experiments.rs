//! `/v1/experiments`: create, read, list, change, delete, and the steps of their lives.

mod decide;
mod definition;
mod life;
mod list;

pub(crate) use decide::decide;
pub(crate) use definition::{confirmable, metric_name};
pub(crate) use life::{archive, confirm, resume, start, stop};
pub(crate) use list::{ExperimentPage, list, listing, next_page};

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::CatalogError;
use trialog_catalog::experiments::Experiment;
use trialog_catalog::surfaces::SharedSurface;
use trialog_model::document;
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::ExperimentId;
use trialog_report::{Decided, Paused};

use super::resource::{self, Resource, Words, answer, operations};
use super::types::{BucketRange, Time, bucket_range};
use crate::app::App;
use crate::edit::Editing;
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::Schema;
use crate::pools;
use crate::problem::{Answer, Problem};

impl Resource for Experiment {
    type Shown = ShownExperiment;
    type Page = ExperimentPage;

    const WORDS: Words = Words {
        path: "/v1/experiments",
        path_of_one: "/v1/experiments/{id}",
        segment: "id",
        max_chars: ExperimentId::MAX_CHARS,
        example: "checkout",
        member: "experiment_id",
        renaming: "register a new experiment",
        tag: "experiments",
        many: "Experiments",
        one: "The experiment.",
        created: "It is registered.",
        entity_tag: "Stands for this state of it; changes with each change.",
    };
    const CONFIRMS_CHANGE: bool = true;

    fn read(fields: Value) -> Answer<Definition> {
        let definition: Definition = document::from_value(fields).map_err(Problem::unreadable)?;
        definition.check()?;
        definition.check_variant_names(&[])?;
        Ok(definition)
    }

    fn read_change(&self, fields: Value) -> Answer<Definition> {
        let mend = match self.status {
            Status::Unregistered => Some("register it first"),
            Status::Archived => Some("it is put away for good and cannot change"),
            Status::Draft | Status::Running | Status::Stopped => None,
        };
        if let Some(mend) = mend {
            let refused = CatalogError::WrongStatus {
                experiment: self.definition.experiment_id.clone(),
                status: self.status,
                mend,
            };
            return Err(refused.into());
        }
        let changed: Definition = document::from_value(fields).map_err(Problem::unreadable)?;
        self.keep_name(&changed)?;
        changed.check()?;
        changed.check_variant_names(&self.definition.variants)?;
        if self.status != Status::Draft {
            (self.definition.check_change_after_start(&changed))
                .map_err(|error| Problem::from(error).with_status(StatusCode::CONFLICT))?;
        }
        Ok(changed)
    }

    /// Shows it with the experiments that touch the same surfaces.
    fn with_warnings(self, app: &App) -> Answer<ShownExperiment> {
        let shared = app.catalog.shared_surfaces(&self.definition)?;
        Ok(ShownExperiment {
            warnings: shared.iter().map(SurfaceWarning::from).collect(),
            ..self.into()
        })
    }

    fn page(experiments: Vec<ShownExperiment>, next: Option<String>) -> ExperimentPage {
        ExperimentPage { experiments, next }
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let change = json!({ "owner": "checkout team", "hypothesis": null });
    let registry = [
        list::operation(),
        operations::create::<Experiment>(
            "registerExperiment",
            "Registers an experiment",
            definition_example(),
        )
        .describe("Makes a draft. Events of the experiment that came before stay."),
        operations::read::<Experiment>("getExperiment", "Reads an experiment"),
        operations::change::<Experiment>("changeExperiment", change)
            .describe("Null puts a member back to its default. After the start, salt, variants and layer are frozen, allocation may only grow, and primary metrics stay as they are. A change of `alpha`, `attribution_window`, `control`, `plan` or `start_at` is refused then, as results are tested with them; with `confirm` the sequence of looks starts anew, and there is no verdict until somebody confirms it. A change takes effect with the next run.")
            .problems(&[409]),
        operations::one::<Experiment>(
            Method::DELETE,
            Experiment::WORDS.path_of_one,
            "deleteExperiment",
            "Deletes a draft or an unregistered experiment",
        )
        .describe("With its results, and answers with it as it was. Its events and its audit trail stay: if more events come in, it is unregistered again. One that was started is archived instead.")
        .if_match()
        .problems(&[409]),
        decide::operation(),
    ];
    registry.into_iter().chain(life::operations()).collect()
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
        "funnels": [{ "name": "second purchase", "steps": ["purchase", "purchase"], "limits": [null, "1h"] }],
    })
}

/// Describes the experiment in a path.
pub(crate) fn experiment_segment(operation: Operation) -> Operation {
    operations::segment::<Experiment>(operation)
}

/// The schemas of what clients send.
pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    definition::schemas()
}

/// An experiment: its definition, and where it is in its life.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Experiment")]
pub(crate) struct ShownExperiment {
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

/// Reads the id in a path; an id that cannot exist is not found.
pub(crate) fn id(path: Result<Path<String>, PathRejection>) -> Answer<ExperimentId> {
    resource::name::<Experiment>(path)
}

/// Deletes a draft or an unregistered experiment, and answers with it as it was.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    let id = id(path)?;
    pools::change(&app, move |app| {
        let deleted: Experiment = app.catalog.delete(&id, &edit)?;
        answer(deleted, app, resource::plain)
    })
    .await
}
