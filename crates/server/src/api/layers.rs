//! `/v1/layers`: layers, and which of their buckets are free.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use trialog_catalog::layers::Layer;
use trialog_model::bucket::N_BUCKETS;
use trialog_model::document;
use trialog_model::holdout::LayerDefinition;
use trialog_model::ids::LayerName;
use trialog_model::ranges::n_buckets;

use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch};
use crate::named::named;
use crate::page::{next, plain_page};
use crate::pools;
use crate::problem::{Answer, Problem};
use trialog_model::percent;

/// A layer as the API shows it: who owns which buckets, and what is free.
fn show(layer: &Layer) -> Value {
    let free = layer.free();
    let pair = |range: &std::ops::Range<u16>| [range.start, range.end];
    let mut experiments: Vec<Value> = Vec::new();
    for (id, range) in &layer.owned {
        let known = (experiments.iter_mut()).find(|own| own["experiment_id"] == id.as_str());
        match known.and_then(|own| own["ranges"].as_array_mut()) {
            Some(ranges) => ranges.push(json!(pair(range))),
            None => experiments.push(json!({ "experiment_id": id, "ranges": [pair(range)] })),
        }
    }
    json!({
        "name": layer.definition.name,
        "description": layer.definition.description,
        "owner": layer.definition.owner,
        "created_at": layer.created_at.to_rfc3339(),
        "updated_at": layer.updated_at.to_rfc3339(),
        "experiments": experiments,
        "free": free.iter().map(pair).collect::<Vec<_>>(),
        "free_share": f64::from(n_buckets(&free)) / f64::from(N_BUCKETS),
    })
}

/// A layer with its entity tag.
fn answer(layer: &Layer) -> Response {
    ([(header::ETAG, etag(layer.revision))], Json(show(layer))).into_response()
}

/// The name in a path; a name that cannot exist is not found.
fn name(path: Result<Path<String>, PathRejection>) -> Answer<LayerName> {
    named(path, "layer has such a name", LayerName::new)
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Editing(edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let definition: LayerDefinition =
        document::from_slice(&received(body)?).map_err(Problem::unreadable)?;
    definition.check()?;
    let created = pools::change(&app, move |app| {
        Ok(app.catalog.create::<Layer>(&definition, &edit)?)
    })
    .await?;
    let name = created.definition.name.as_str();
    let location = [(
        header::LOCATION,
        format!("/v1/layers/{}", percent::encode(name)),
    )];
    Ok((StatusCode::CREATED, location, answer(&created)).into_response())
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let name = name(path)?;
    let found = pools::query(&app, move |app| Ok(app.catalog.get::<Layer>(&name)?)).await?;
    Ok(answer(&found))
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
    let changed = |known: &Layer| {
        let changed: LayerDefinition =
            document::from_value(merged(&known.definition, patch)?).map_err(Problem::unreadable)?;
        changed.check()?;
        if changed.name == known.definition.name {
            Ok(changed)
        } else {
            Err(Problem::broken_rule(
                "name",
                "cannot change: it seeds the buckets, register another layer",
            ))
        }
    };
    let changed = pools::change(&app, move |app| app.catalog.change(&name, &edit, changed)).await?;
    Ok(answer(&changed))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    let name = name(path)?;
    let deleted = pools::change(&app, move |app| {
        Ok(app.catalog.delete::<Layer>(&name, &edit)?)
    })
    .await?;
    Ok(Json(show(&deleted)).into_response())
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let (after, limit) = plain_page(query.as_deref().unwrap_or_default())?;
    let found = pools::query(&app, move |app| {
        Ok(app.catalog.list::<Layer>(after.as_deref(), limit)?)
    })
    .await?;
    let next = next(&found, limit, |layer| layer.definition.name.to_string());
    let layers: Vec<Value> = found.iter().map(show).collect();
    Ok(Json(json!({ "layers": layers, "next": next })).into_response())
}
