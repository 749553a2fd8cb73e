//! `/v1/metrics`: metric definitions.

mod definition;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::metrics::{Metric, MetricListing};
use trialog_model::document;
use trialog_model::ids::MetricName;
use trialog_model::metric_definition::{MetricDefinition, NotAMetric};
use trialog_model::percent;

use super::types::Time;
use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch, take_confirmation};
use crate::named::named;
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::page::{MAX_SEARCH, PAGE, limit, next, search};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;

const PATH: &str = "/v1/metrics";
const TAG: &str = "Stands for this state of it; changes with each change.";

pub(crate) fn operations() -> Vec<Operation> {
    let all = Operation::new(Method::GET, PATH, "listMetrics", "Lists metric definitions")
        .query(
            "q",
            schema::chars(0, MAX_SEARCH),
            "Only those with this text in their name, event type, owner or description.",
        )
        .query("after", schema::text(), "The `next` of the page before.")
        .query("limit", schema::page_limit(), "Definitions on a page.")
        .answers::<MetricPage>(StatusCode::OK, "A page, in the order of names.");
    let created = Operation::new(Method::POST, PATH, "defineMetric", "Defines a metric")
        .describe(
            "It stands before an event type of the same name in every experiment that names it; where one that has started is decided by it, that takes `confirm`.",
        )
        .body(schema::reference("MetricDefinition"), example())
        .answers::<ShownMetric>(StatusCode::CREATED, "It is defined.")
        .answer_header(StatusCode::CREATED, "Location", "Where it is.")
        .answer_header(StatusCode::CREATED, "ETag", TAG)
        .problems(&[409, 422]);
    let read = of_one(Method::GET, "getMetric", "Reads a metric definition").answer_header(
        StatusCode::OK,
        "ETag",
        TAG,
    );
    let changed = of_one(
        Method::PATCH,
        "changeMetric",
        "Changes the members that the body names",
    )
    .describe("Null puts a member back to its default. Experiments that name it are computed anew with the next run. Where it decides an experiment that has started, only `owner` and `description` change without `confirm`.")
    .body(schema::reference("MetricChange"), json!({ "window": "14d", "owner": null }))
    .answer_header(StatusCode::OK, "ETag", TAG)
    .if_match()
    .problems(&[409, 422]);
    let deleted = of_one(
        Method::DELETE,
        "deleteMetric",
        "Deletes a definition that no experiment names",
    )
    .if_match()
    .problems(&[409]);
    [all, created, read, changed, deleted]
        .map(|operation| operation.tag("metrics"))
        .into()
}

fn of_one(method: Method, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, "/v1/metrics/{name}", id, summary)
        .segment(
            "name",
            schema::name(MetricName::MAX_CHARS),
            "revenue",
            "The metric's name, percent-encoded.",
        )
        .answers::<ShownMetric>(StatusCode::OK, "The definition.")
        .problems(&[404])
}

fn example() -> Value {
    json!({
        "name": "revenue", "kind": "sum", "event_type": "purchase", "window": "7d",
        "direction": "increase", "description": "net of returns", "owner": "finance",
    })
}

/// The schemas of what clients send.
pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    definition::schemas()
}

/// A metric definition.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Metric")]
struct ShownMetric {
    #[serde(flatten)]
    #[schemars(schema_with = "definition_part")]
    definition: MetricDefinition,
    /// When it was defined.
    created_at: Time,
    /// When it changed last.
    updated_at: Time,
}

fn definition_part(_: &mut SchemaGenerator) -> schemars::Schema {
    derived::written(definition::definition())
}

/// A page of metric definitions.
#[derive(Serialize, JsonSchema)]
struct MetricPage {
    /// The definitions.
    metrics: Vec<ShownMetric>,
    /// What `after` takes for the next page; null on the last.
    next: Option<String>,
}

impl From<Metric> for ShownMetric {
    fn from(metric: Metric) -> Self {
        Self {
            definition: metric.definition,
            created_at: metric.created_at.into(),
            updated_at: metric.updated_at.into(),
        }
    }
}

/// A metric definition with its entity tag.
fn answer(metric: Metric) -> Response {
    let tag = etag(metric.revision);
    ([(header::ETAG, tag)], Json(ShownMetric::from(metric))).into_response()
}

/// The name in a path; a name that cannot exist is not found.
fn name(path: Result<Path<String>, PathRejection>) -> Answer<MetricName> {
    named(path, "metric has such a name", MetricName::new)
}

fn read_definition(fields: Value) -> Answer<MetricDefinition> {
    MetricDefinition::from_json(fields).map_err(|error| match error {
        NotAMetric::Rule(error) => error.into(),
        NotAMetric::Shape(error) => Problem::unreadable(error),
        other => Problem::bad_request(other.to_string()),
    })
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Editing(mut edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let mut fields = document::value(&received(body)?).map_err(Problem::unreadable)?;
    if let Value::Object(fields) = &mut fields {
        take_confirmation(&mut edit, fields)?;
    }
    let definition = read_definition(fields)?;
    let created = pools::change(&app, move |app| {
        Ok(app.catalog.create::<Metric>(&definition, &edit)?)
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
    let found = pools::query(&app, move |app| Ok(app.catalog.get::<Metric>(&name)?)).await?;
    Ok(answer(found))
}

/// Replaces the fields that the body names; null puts one back to its default.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(mut edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let name = name(path)?;
    let mut patch = patch(&received(body)?)?;
    take_confirmation(&mut edit, &mut patch)?;
    let changed = |known: &Metric| {
        let changed = read_definition(merged(&known.definition, patch)?)?;
        if changed.name == known.definition.name {
            Ok(changed)
        } else {
            let reason = "cannot change: define another metric";
            Err(Problem::broken_rule("name", reason))
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
        Ok(app.catalog.delete::<Metric>(&name, &edit)?)
    })
    .await?;
    Ok(Json(ShownMetric::from(deleted)).into_response())
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let listing = listing(query.as_deref().unwrap_or_default())?;
    let limit = listing.limit;
    let found = pools::query(&app, move |app| Ok(app.catalog.list_metrics(&listing)?)).await?;
    let next = next(&found, limit, |metric| metric.definition.name.to_string());
    let metrics = found.into_iter().map(ShownMetric::from).collect();
    Ok(Json(MetricPage { metrics, next }).into_response())
}

fn listing(query: &str) -> Answer<MetricListing> {
    let mut listing = MetricListing {
        limit: PAGE,
        ..MetricListing::default()
    };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "q" => listing.search = Some(search(value)?),
            "after" => listing.after = Some(value),
            "limit" => listing.limit = limit(&value)?,
            other => {
                return Err(Problem::bad_field(
                    other,
                    "is no parameter here: use q, after or limit",
                ));
            }
        }
    }
    Ok(listing)
}
