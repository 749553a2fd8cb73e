//! `GET /v1/experiments`: experiments page by page, and finding them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::experiments::{Experiment, Listing, Order};
use trialog_model::experiment::Status;

use super::ShownExperiment;
use crate::api::resource::Resource;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::page::{MAX_SEARCH, PAGE, limit, next, search};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;

pub(super) fn operation() -> Operation {
    Operation::new(
        Method::GET,
        "/v1/experiments",
        "listExperiments",
        "Lists experiments, page by page",
    )
    .tag("experiments")
    .queries(
        "status",
        schema::one_of(&Status::ALL),
        "Only those with one of these; without it, all but archived ones.",
    )
    .query("owner", schema::text(), "Only those of this owner.")
    .query(
        "q",
        schema::chars(0, MAX_SEARCH),
        "Only those that have each of these words anywhere in their id, owner or hypothesis, in any case; the last change comes first.",
    )
    .query(
        "sort",
        schema::one_of(&["id", "updated_at"]),
        "By id, which does not go with `q`, or the last change first.",
    )
    .query("after", schema::text(), "The `next` of the page before.")
    .query("limit", schema::page_limit(), "Experiments on a page.")
    .answers::<ExperimentPage>(StatusCode::OK, "A page.")
        .problems(&[422])
}

/// A page of experiments.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ExperimentPage {
    /// The experiments.
    pub(super) experiments: Vec<ShownExperiment>,
    /// What `after` takes for the next page; null on the last.
    pub(super) next: Option<String>,
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let listing = listing(query.as_deref().unwrap_or_default())?;
    // A long page is written here too, so that no other connection waits for it.
    pools::query(&app, move |app| {
        let found = app.catalog.list_experiments(&listing)?;
        let next = next_page(&found, &listing);
        let experiments = found.into_iter().map(ShownExperiment::from).collect();
        Ok(Json(Experiment::page(experiments, next)).into_response())
    })
    .await
}

/// Where the page after `page` begins.
pub(crate) fn next_page(page: &[Experiment], listing: &Listing) -> Option<String> {
    next(page, listing.limit, |last| match listing.order {
        Order::Id => last.definition.experiment_id.to_string(),
        Order::Change => last.change.to_string(),
    })
}

pub(crate) fn listing(query: &str) -> Answer<Listing> {
    let mut order = None;
    let mut listing = Listing {
        limit: PAGE,
        ..Listing::default()
    };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "status" => listing.statuses.push(Status::parse(&value).ok_or_else(|| {
                Problem::bad_field(
                    "status",
                    "is not a status: use unregistered, draft, running, stopped or archived",
                )
            })?),
            "owner" => listing.owner = Some(value),
            "q" => listing.search = Some(search(value)?).filter(|text| !text.trim().is_empty()),
            "sort" => {
                order = Some(match value.as_str() {
                    "id" => Order::Id,
                    "updated_at" => Order::Change,
                    _ => return Err(Problem::bad_field("sort", "is neither id nor updated_at")),
                });
            }
            "after" => listing.after = Some(value),
            "limit" => listing.limit = limit(&value)?,
            other => {
                return Err(Problem::bad_field(
                    other,
                    "is no parameter here: use status, owner, q, sort, after or limit",
                ));
            }
        }
    }
    listing.order = match (&listing.search, order) {
        (Some(_), Some(Order::Id)) => {
            let reason =
                "cannot be id together with q: what is found comes with the last change first";
            return Err(Problem::broken_rule("sort", reason));
        }
        (Some(_), None) => Order::Change,
        (_, order) => order.unwrap_or_default(),
    };
    if let (Order::Change, Some(after)) = (listing.order, &listing.after) {
        after.parse::<i64>().map_err(|_| {
            Problem::broken_rule("after", "is not the `next` of a page in this order")
        })?;
    }
    Ok(listing)
}
