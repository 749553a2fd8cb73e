//! `/v1/holdouts`: create, read, list, change, start, stop.

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::MethodRouter;
use bytes::Bytes;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::Catalog;
use trialog_catalog::holdouts::{Holdout, InScope};
use trialog_model::document;
use trialog_model::experiment::Status;
use trialog_model::holdout::{HoldoutDefinition, MAX_SCOPE};
use trialog_model::ids::{ExperimentId, HoldoutName};

use super::resource::{Resource, Words, answer, name, operations, plain, step};
use super::types::Time;
use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, merged, patch};
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema, free};
use crate::pools;
use crate::problem::{Answer, Problem};

/// The most experiments that a warning names.
const MAX_NAMED: usize = 10;

impl Resource for Holdout {
    type Shown = ShownHoldout;
    type Page = HoldoutPage;

    const WORDS: Words = Words {
        path: "/v1/holdouts",
        path_of_one: "/v1/holdouts/{name}",
        segment: "name",
        max_chars: HoldoutName::MAX_CHARS,
        example: "q3",
        member: "name",
        renaming: "it seeds the buckets, register another holdout",
        tag: "holdouts",
        many: "Holdouts",
        one: "The holdout.",
        created: "It is registered.",
        entity_tag: "Stands for this state of it; changes with each change.",
    };

    fn read(fields: Value) -> Answer<HoldoutDefinition> {
        let definition: HoldoutDefinition =
            document::from_value(fields).map_err(Problem::unreadable)?;
        definition.check()?;
        Ok(definition)
    }

    fn read_change(&self, fields: Value) -> Answer<HoldoutDefinition> {
        let changed = Self::read(fields)?;
        self.keep_name(&changed)?;
        if self.status != Status::Draft {
            (self.definition.check_change_after_start(&changed))
                .map_err(|error| Problem::from(error).with_status(StatusCode::CONFLICT))?;
        }
        Ok(changed)
    }

    fn page(holdouts: Vec<ShownHoldout>, next: Option<String>) -> HoldoutPage {
        HoldoutPage { holdouts, next }
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let example = json!({
        "name": "q3", "size": 0.05, "metrics": { "primary": ["purchase:sum"] }, "owner": "growth",
    });
    let change = json!({ "size": 0.04, "description": "everything of the quarter" });
    vec![
        operations::list::<Holdout>("listHoldouts", "Lists holdouts"),
        operations::create::<Holdout>("registerHoldout", "Registers a holdout", example)
            .describe("Makes a draft, and the experiment `holdout:<name>` that measures it."),
        operations::read::<Holdout>("getHoldout", "Reads a holdout"),
        operations::change::<Holdout>("changeHoldout", change)
            .describe(
                "After the start its size cannot grow, nor its scope by an experiment that runs.",
            )
            .problems(&[409]),
        operations::step::<Holdout>(
            "/v1/holdouts/{name}/start",
            "startHoldout",
            "Starts a draft: its units are held out from now on",
        ),
        operations::step::<Holdout>(
            "/v1/holdouts/{name}/stop",
            "stopHoldout",
            "Stops a holdout, for good: its units are let in",
        ),
    ]
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
pub(crate) struct ShownHoldout {
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
pub(crate) struct HoldoutPage {
    /// The holdouts.
    holdouts: Vec<ShownHoldout>,
    /// What `after` takes for the next page; null on the last.
    next: Option<String>,
}

impl From<Holdout> for ShownHoldout {
    fn from(holdout: Holdout) -> Self {
        Self {
            experiment_id: holdout.definition.name.experiment_id().to_string(),
            definition: holdout.definition,
            status: holdout.status,
            created_at: holdout.created_at.into(),
            updated_at: holdout.updated_at.into(),
            started_at: holdout.started_at.map(Time::from),
            stopped_at: holdout.stopped_at.map(Time::from),
            warnings: Vec::new(),
        }
    }
}

/// Replaces the fields that the body names; null puts one back to its default. A holdout that
/// runs gains no experiment that runs or ships a variant.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let name = name::<Holdout>(path)?;
    let patch = patch(&received(body)?)?;
    pools::change(&app, move |app| {
        let rules = app.catalog.configuration()?.rules;
        let changed = app.catalog.change(&name, &edit, |known: &Holdout| {
            let changed = known.read_change(merged(&known.definition, patch)?)?;
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
        })?;
        answer(changed, app, plain)
    })
    .await
}

fn joins_while_running(experiment: &str) -> Problem {
    let reason = format!(
        "cannot gain `{experiment}`, which runs or ships a variant: its units that are held out would lose the variant; archive it first, or wait until it has ended"
    );
    Problem::broken_rule("experiments", &reason).with_status(StatusCode::CONFLICT)
}

pub(crate) fn start() -> MethodRouter<Arc<App>> {
    step(Catalog::start_holdout, show_started)
}

pub(crate) fn stop() -> MethodRouter<Arc<App>> {
    step(Catalog::stop_holdout, plain)
}

/// Shows a holdout with the experiments that run or ship a variant already and lose units to it.
fn show_started(started: Holdout, app: &App) -> Answer<ShownHoldout> {
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
    Ok(ShownHoldout {
        warnings: in_scope.into_iter().map(warning).collect(),
        ..started.into()
    })
}
