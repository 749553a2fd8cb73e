//! `/v1/metrics`: metric definitions.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::metrics::{Metric, MetricListing};
use trialog_model::document;
use trialog_model::ids::MetricName;
use trialog_model::metric_definition::{MetricDefinition, NotAMetric};

use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch, take_confirmation};
use crate::named::named;
use crate::page::{PAGE, limit, next, search};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use trialog_model::percent;

/// A metric definition as the API shows it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    definition: MetricDefinition,
    created_at: String,
    updated_at: String,
}

fn show(metric: Metric) -> Shown {
    Shown {
        definition: metric.definition,
        created_at: metric.created_at.to_rfc3339(),
        updated_at: metric.updated_at.to_rfc3339(),
    }
}

/// A metric definition with its entity tag.
fn answer(metric: Metric) -> Response {
    let tag = etag(metric.revision);
    ([(header::ETAG, tag)], Json(show(metric))).into_response()
}

/// The name in a path; a name that cannot exist is not found.
fn name(path: Result<Path<String>, PathRejection>) -> Answer<MetricName> {
    named(path, "metric has such a name", MetricName::new)
}

fn definition(fields: Value) -> Answer<MetricDefinition> {
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
    let definition = definition(fields)?;
    let created = pools::change(&app, move |app| {
        Ok(app.catalog.create::<Metric>(&definition, &edit)?)
    })
    .await?;
    let name = created.definition.name.as_str();
    let location = format!("/v1/metrics/{}", percent::encode(name));
    let location = [(header::LOCATION, location)];
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
        let changed = definition(merged(&known.definition, patch)?)?;
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
    Ok(Json(show(deleted)).into_response())
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let listing = listing(query.as_deref().unwrap_or_default())?;
    let limit = listing.limit;
    let found = pools::query(&app, move |app| Ok(app.catalog.list_metrics(&listing)?)).await?;
    let next = next(&found, limit, |metric| metric.definition.name.to_string());
    let metrics: Vec<Shown> = found.into_iter().map(show).collect();
    Ok(Json(json!({ "metrics": metrics, "next": next })).into_response())
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
