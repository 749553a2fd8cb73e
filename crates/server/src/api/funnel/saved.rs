//! Funnels that are saved with an experiment: what the last run stored of them, and
//! `GET /v1/experiments/{id}/funnels`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::experiments::Experiment;
use trialog_model::duration::Window;
use trialog_model::experiment::Definition;
use trialog_model::funnel::SavedFunnel;
use trialog_model::ids::{EventType, ExperimentId, FunnelName};
use trialog_model::nearest::there_are;
use trialog_model::published::{AnalysisRow, Published};
use trialog_report::stored_funnel::{FUNNEL, StoredFunnel};
use trialog_report::{Choices, Funnel};

use crate::api::experiments::{experiment_segment, id};
use crate::api::funnel::report;
use crate::api::results;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::pools;
use crate::problem::{Answer, Problem};

/// The funnels that are saved with an experiment.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SavedFunnels {
    /// The experiment.
    experiment_id: String,
    /// Each, in the order of the definition.
    funnels: Vec<ShownFunnel>,
}

/// A funnel that is saved with an experiment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SavedFunnelState")]
struct ShownFunnel {
    /// Its name.
    name: String,
    /// The types of events of the steps, in order.
    steps: Vec<String>,
    /// How long after the exposure events count.
    window: Window,
    /// For each step how long after the step before it may come; for the first step, after the
    /// exposure. Null for no limit.
    limits: Vec<Option<Window>>,
    /// When it was computed as it is defined now; null if it waits for the next run.
    #[schemars(extend("format" = "date-time"))]
    computed_at: Option<String>,
}

/// What there is of a saved funnel.
pub(crate) enum Stored {
    /// What the last run computed.
    Computed(Box<Funnel>),
    /// No run has computed it.
    Waits,
    /// The last run computed it as it was defined before.
    Changed,
}

pub(super) fn operation() -> Operation {
    let funnels = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/funnels",
        "listFunnels",
        "The saved funnels of an experiment",
    );
    experiment_segment(funnels)
        .tag("results")
        .describe("`funnels` of the experiment defines them, and every run computes them. `getFunnel` with `name` answers with the numbers.")
        .answers::<SavedFunnels>(StatusCode::OK, "The funnels, in the order of the definition.")
        .problems(&[404])
}

/// Answers with the saved funnels of an experiment, and whether they are computed.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Json<SavedFunnels>> {
    let id = id(path)?;
    Ok(Json(pools::query(&app, move |app| listed(app, &id)).await?))
}

fn listed(app: &App, id: &ExperimentId) -> Answer<SavedFunnels> {
    let experiment = app.catalog.experiment(id)?;
    let saved = &experiment.definition.funnels;
    let published = match saved.is_empty() {
        true => None,
        false => app.catalog.published(id, None)?,
    };
    let rows = published.as_ref().map(|published| rows(app, id, published));
    let rows = rows.transpose()?.unwrap_or_default();
    let funnels = saved.iter().map(|funnel| {
        let definition = funnel.definition();
        let mut rows = rows.iter();
        let is_current = rows
            .any(|(name, stored)| *name == funnel.name.as_str() && stored.definition == definition);
        let published = published.as_ref().filter(|_| is_current);
        ShownFunnel {
            name: funnel.name.to_string(),
            steps: funnel.steps.iter().map(EventType::to_string).collect(),
            window: funnel.window,
            limits: definition.limits_of_steps(),
            computed_at: published.map(|published| published.computed_at.to_rfc3339()),
        }
    });
    Ok(SavedFunnels {
        funnels: funnels.collect(),
        experiment_id: id.to_string(),
    })
}

/// Answers with the saved funnel called `name`, from what the last run stored.
pub(super) fn stored(
    app: &App,
    id: &ExperimentId,
    name: &str,
    choices: &Choices,
) -> Answer<Funnel> {
    let experiment = app.catalog.experiment(id)?;
    let saved = find(&experiment.definition, name)?;
    let only = std::slice::from_ref(saved);
    let state = states(app, &experiment, only, choices)?.pop();
    let refused = |what: &str| {
        let reason = format!("is `{name}`, {what}: run the pipeline, or wait for its next run");
        Err(Problem::broken_rule("name", &reason).with_status(StatusCode::CONFLICT))
    };
    match state {
        Some(Stored::Computed(funnel)) => Ok(*funnel),
        Some(Stored::Changed) => refused("which was changed after the last run computed it"),
        Some(Stored::Waits) | None => refused("which no run has computed yet"),
    }
}

/// Finds the saved funnel called `name`.
pub(super) fn find<'a>(definition: &'a Definition, name: &str) -> Answer<&'a SavedFunnel> {
    let funnels = &definition.funnels;
    let found = funnels.iter().find(|funnel| funnel.name.as_str() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = funnels.iter().map(|funnel| funnel.name.as_str()).collect();
        let others = match names.is_empty() {
            true => ": it has none, so add one to its `funnels`, or ask for `steps`".to_owned(),
            false => there_are(name, &names, false),
        };
        let shown: String = name.chars().take(FunnelName::MAX_CHARS).collect();
        let reason = format!("is `{shown}`, which is no saved funnel of this experiment{others}");
        Problem::broken_rule("name", &reason)
    })
}

/// Reads what the last run stored of `saved`, which are funnels of `experiment`.
pub(crate) fn states(
    app: &App,
    experiment: &Experiment,
    saved: &[SavedFunnel],
    choices: &Choices,
) -> Answer<Vec<Stored>> {
    let id = &experiment.definition.experiment_id;
    let Some(published) = app.catalog.published(id, None)? else {
        return Ok(saved.iter().map(|_| Stored::Waits).collect());
    };
    let rows = rows(app, id, &published)?;
    let dropped = app.catalog.dropped(id)?;
    let state = |funnel: &SavedFunnel| {
        let mut rows = rows.iter();
        let Some((_, stored)) = rows.find(|(name, _)| *name == funnel.name.as_str()) else {
            return Ok(Stored::Waits);
        };
        let definition = funnel.definition();
        if stored.definition != definition {
            return Ok(Stored::Changed);
        }
        let Some(computation) = stored.users_of(&published.computation) else {
            return Ok(Stored::Waits);
        };
        let published = Published {
            computation,
            ..published.clone()
        };
        let query = results::Query {
            choices: choices.clone(),
            ..results::Query::default()
        };
        let mut report = report(app, experiment, Some(&published), &query)?;
        if let Some(dropped) = &dropped {
            report.health.freeze(dropped.before);
        }
        let definition_of = &experiment.definition;
        let funnel = Funnel::from_report(definition_of, report, &definition, &stored.reached);
        Ok(Stored::Computed(Box::new(funnel)))
    };
    saved.iter().map(state).collect()
}

/// Reads the rows of saved funnels that were published with `published`, by name.
fn rows(
    app: &App,
    id: &ExperimentId,
    published: &Published,
) -> Answer<Vec<(String, StoredFunnel)>> {
    let rows = app.catalog.analysis(id, published.computed_at, FUNNEL)?;
    let read = |row: AnalysisRow| Some((row.key, StoredFunnel::from_json(&row.body)?));
    Ok(rows.into_iter().filter_map(read).collect())
}
