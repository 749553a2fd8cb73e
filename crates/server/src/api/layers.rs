//! `/v1/layers`: layers, and which of their buckets are free.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::json;
use trialog_catalog::layers::Layer;
use trialog_model::bucket::N_BUCKETS;
use trialog_model::document;
use trialog_model::holdout::LayerDefinition;
use trialog_model::ids::LayerName;
use trialog_model::percent;
use trialog_model::ranges::n_buckets;

use super::types::{BucketRange, Time, bucket_range};
use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch};
use crate::named::named;
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::page::{next, plain_page};
use crate::pools;
use crate::problem::{Answer, Problem};

const PATH: &str = "/v1/layers";
const TAG: &str = "Stands for this state of its definition.";

pub(crate) fn operations() -> Vec<Operation> {
    let all = Operation::new(Method::GET, PATH, "listLayers", "Lists layers")
        .query("after", schema::text(), "The `next` of the page before.")
        .query("limit", schema::page_limit(), "Layers on a page.")
        .answers::<LayerPage>(StatusCode::OK, "A page, in the order of names.");
    let created = Operation::new(Method::POST, PATH, "registerLayer", "Registers a layer")
        .describe("Experiments of a layer own disjoint shares of its 10,000 buckets, so no unit is in two of them.")
        .body(schema::reference("LayerDefinition"), json!({ "name": "checkout", "description": "one test at a time on the way to pay", "owner": "shop" }))
        .answers::<ShownLayer>(StatusCode::CREATED, "It is registered.")
        .answer_header(StatusCode::CREATED, "Location", "Where it is.")
        .answer_header(StatusCode::CREATED, "ETag", TAG)
        .problems(&[409, 422]);
    let read = of_one(
        Method::GET,
        "getLayer",
        "Reads a layer with its free buckets",
    )
    .answer_header(StatusCode::OK, "ETag", TAG);
    let changed = of_one(
        Method::PATCH,
        "changeLayer",
        "Changes the members that the body names",
    )
    .body(
        schema::reference("LayerChange"),
        json!({ "owner": "payments" }),
    )
    .answer_header(StatusCode::OK, "ETag", TAG)
    .if_match()
    .problems(&[422]);
    let deleted = of_one(
        Method::DELETE,
        "deleteLayer",
        "Deletes a layer in which no draft or running experiment is",
    )
    .if_match()
    .problems(&[409]);
    [all, created, read, changed, deleted]
        .map(|operation| operation.tag("layers"))
        .into()
}

fn of_one(method: Method, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, "/v1/layers/{name}", id, summary)
        .segment(
            "name",
            schema::name(LayerName::MAX_CHARS),
            "checkout",
            "The layer's name, percent-encoded.",
        )
        .answers::<ShownLayer>(StatusCode::OK, "The layer.")
        .problems(&[404])
}

pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("LayerDefinition", schema::closed(definition())),
        (
            "LayerChange",
            schema::closed(schema::resettable(definition())),
        ),
    ]
}

fn definition() -> Schema {
    let free = |name, description: &str| {
        schema::optional(name, schema::nullable(schema::chars(0, 4096)), description)
    };
    schema::object([
        schema::field(
            "name",
            schema::name(LayerName::MAX_CHARS),
            "The name by which experiments name it; it seeds the buckets.",
        ),
        free("description", "What it is for people."),
        free("owner", "Who answers for it."),
    ])
}

/// A layer: who owns which buckets, and what is free.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Layer")]
struct ShownLayer {
    #[serde(flatten)]
    #[schemars(schema_with = "definition_part")]
    definition: LayerDefinition,
    /// When it was registered.
    created_at: Time,
    /// When it changed last.
    updated_at: Time,
    /// Who owns which buckets: drafts and running experiments.
    experiments: Vec<Owner>,
    /// The buckets that nobody owns.
    free: Vec<BucketRange>,
    /// Their share: the largest allocation that fits.
    #[schemars(range(min = 0, max = 1))]
    free_share: f64,
}

fn definition_part(_: &mut SchemaGenerator) -> schemars::Schema {
    derived::written(definition())
}

/// An experiment and its buckets.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Owner {
    /// The experiment.
    experiment_id: String,
    /// Its buckets, from the first on and before the second.
    ranges: Vec<BucketRange>,
}

/// A page of layers.
#[derive(Serialize, JsonSchema)]
struct LayerPage {
    /// The layers.
    layers: Vec<ShownLayer>,
    /// What `after` takes for the next page; null on the last.
    next: Option<String>,
}

impl From<Layer> for ShownLayer {
    fn from(layer: Layer) -> Self {
        let free = layer.free();
        Self {
            created_at: layer.created_at.into(),
            updated_at: layer.updated_at.into(),
            experiments: owners(&layer),
            free_share: f64::from(n_buckets(&free)) / f64::from(N_BUCKETS),
            free: free.iter().map(bucket_range).collect(),
            definition: layer.definition,
        }
    }
}

/// The experiments of `layer`, each once with all its buckets, in the order of their first ones.
fn owners(layer: &Layer) -> Vec<Owner> {
    let mut owners: Vec<Owner> = Vec::new();
    for (id, range) in &layer.owned {
        let range = bucket_range(range);
        let known = owners
            .iter_mut()
            .find(|owner| owner.experiment_id == id.as_str());
        match known {
            Some(owner) => owner.ranges.push(range),
            None => owners.push(Owner {
                experiment_id: id.to_string(),
                ranges: vec![range],
            }),
        }
    }
    owners
}

/// A layer with its entity tag.
fn answer(layer: Layer) -> Response {
    let tag = [(header::ETAG, etag(layer.revision))];
    (tag, Json(ShownLayer::from(layer))).into_response()
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
    let name = percent::encode(created.definition.name.as_str());
    let location = [(header::LOCATION, format!("{PATH}/{name}"))];
    Ok((StatusCode::CREATED, location, answer(created)).into_response())
}

pub(crate) async fn read(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let name = name(path)?;
    let found = pools::query(&app, move |app| Ok(app.catalog.get::<Layer>(&name)?)).await?;
    Ok(answer(found))
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
    Ok(answer(changed))
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
    Ok(Json(ShownLayer::from(deleted)).into_response())
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
    let layers = found.into_iter().map(ShownLayer::from).collect();
    Ok(Json(LayerPage { layers, next }).into_response())
}
