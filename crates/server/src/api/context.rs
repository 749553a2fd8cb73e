//! `GET /v1/experiments/{id}/context`: the keys of contexts with their values.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use trialog_model::ids::ExperimentId;
use trialog_pipeline::ContextKeys;
use trialog_report::{Context, ContextKey, ContextValue};

use crate::api::experiments::{experiment_segment, id};
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::problem::Answer;
use crate::work::Flag;

pub(crate) fn operations() -> Vec<Operation> {
    let context = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/context",
        "getContext",
        "The keys of contexts with their values",
    );
    let context = experiment_segment(context)
        .tag("results")
        .describe("What users can be told apart by, as in a breakdown or with `segment.<key>`. Counted on request among the exposed users of the last published run: each user once, by the context at the exposure.")
        .answers::<Context>(StatusCode::OK, "The keys, those with the most users first.")
        .problems(&[404, 409]);
    vec![context]
}

/// Answers with the keys of contexts.
pub(crate) async fn context(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Json<Context>> {
    let id = id(path)?;
    let pools = Arc::clone(&app.pools);
    let count = move |flag: &Flag| count(&app, &id, flag);
    Ok(Json(pools.folds.run(count).await?))
}

fn count(app: &App, id: &ExperimentId, flag: &Flag) -> Answer<Context> {
    let experiment = app.catalog.experiment(id)?;
    let mut context = Context {
        experiment_id: id.to_string(),
        computed_at: None,
        position: None,
        data_time: None,
        users: 0,
        n_keys: 0,
        has_more_keys: false,
        keys: Vec::new(),
    };
    if let Some(latest) = app.catalog.published(id, None)? {
        let (found, mark) = app.aggregator.context(id, flag)?;
        context.computed_at = Some(latest.computed_at.to_rfc3339());
        context.position = Some(mark.position);
        context.data_time = Some(mark.data_time.to_rfc3339());
        context.users = found.found.users;
        context.n_keys = found.found.keys.len() as u64;
        context.has_more_keys = found.found.has_more;
        context.keys = keys(found, &experiment.definition.segments);
    }
    Ok(context)
}

/// Joins the keys with their values.
fn keys(found: ContextKeys, declared: &[String]) -> Vec<ContextKey> {
    let keys = found.found.keys.into_iter().zip(found.values);
    keys.map(|(key, values)| {
        let largest = values.largest.into_iter();
        let value = |value: Option<String>| value.unwrap_or_default();
        ContextKey {
            users: key.users,
            n_values: values.n_values,
            is_declared: declared.contains(&key.key),
            values: largest
                .map(|counted| ContextValue {
                    value: counted
                        .values
                        .into_iter()
                        .next()
                        .map_or_else(String::new, value),
                    users: counted.users,
                })
                .collect(),
            key: key.key,
        }
    })
    .collect()
}
