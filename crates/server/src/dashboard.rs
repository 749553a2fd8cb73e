//! Serves the dashboard: pages that are rendered on the server and work without JavaScript.
//!
//! Every number comes from the results report, which the API answers too. A
//! handler reads what a page needs; the page itself is a value made from that,
//! and its template turns it into HTML.

mod assets;
mod pages;
mod parts;
mod query;
mod summaries;

pub use pages::report::report_page;

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use trialog_catalog::experiments::{Experiment, Listing};
use trialog_model::funnel::SavedFunnel;
use trialog_model::time::UnixMicros;
use trialog_report::Choices;
use trialog_warehouse::fold::UserFilter;

use self::pages::error::ErrorPage;
use self::pages::experiment::{ExperimentPage, Parts};
use self::pages::list::{Around, ListPage, Listed};
use self::parts::freshness::Freshness;
use self::parts::next_step::Origin;
use self::query::Pairs;
use crate::api::funnel::{self, Stored};
use crate::api::{experiments, results};
use crate::app::App;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::routes::Routes;
use trialog_model::percent;

/// Experiments on a page of the list.
const PAGE: u32 = 50;

/// Returns the dashboard's routes.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .route("/", get(list))
        .route("/experiments", get(Redirect::permanent("/")))
        .route("/experiments/{id}", get(experiment))
        .route("/static/{version}/{file}", get(assets::file))
}

/// Renders the page for an address that does not exist, if a browser requests it.
pub(crate) fn not_found(problem: Problem, headers: &HeaderMap) -> Response {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|media| media.contains("text/html")) {
        ErrorPage::from(problem).into_response()
    } else {
        problem.into_response()
    }
}

/// Renders `page` as a response that must not be cached.
fn html(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let mut response = Html(text).into_response();
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => Problem::internal(format!("a page cannot be made: {error}")).into_response(),
    }
}

fn freshness(app: &App, now: UnixMicros) -> Answer<Freshness> {
    let mark = app.catalog.high_water_mark()?;
    let runs = app.catalog.runs(1)?;
    Ok(Freshness::new(
        &mark,
        app.store.position()?,
        runs.first(),
        now,
    ))
}

async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    origin: Origin,
) -> Result<Response, ErrorPage> {
    let answer = async {
        let query = query::canonical(&pairs(query.as_deref().unwrap_or_default())?)?;
        let now = (app.clock)();
        pools::query(&app, move |app| list_page(app, query, origin, now)).await
    };
    let page = answer
        .await
        .map_err(|problem| ErrorPage::from(problem).or("/".to_owned(), "All experiments"))?;
    Ok(html(&page))
}

/// Returns the listing of the API with a shorter page.
fn listing(query: &Pairs) -> Answer<Listing> {
    let mut query = query.clone();
    if query::value(&query, "limit").is_empty() {
        query.push(("limit".to_owned(), PAGE.to_string()));
    }
    experiments::listing(&query::encode(&query))
}

fn list_page(app: &App, query: Pairs, origin: Origin, now: UnixMicros) -> Answer<ListPage> {
    let listing = listing(&query)?;
    let found = app.catalog.list_experiments(&listing)?;
    let next = experiments::next_page(&found, &listing);
    let listed = found.into_iter().map(|experiment| Listed {
        summary: summaries::read(app, &experiment).map_err(|problem| problem.detail().to_owned()),
        experiment,
    });
    let listed = listed.collect();
    let freshness = freshness(app, now)?;
    Ok(ListPage::new(
        listed,
        Around {
            query,
            next,
            freshness,
            origin,
            now,
        },
    ))
}

/// Returns how the saved funnels of a page are compared; none where the page is of other users
/// than those whom the last run counted.
fn funnel_choices(query: &results::Query) -> Option<Choices> {
    let is_latest = query.filter == UserFilter::default() && query.as_of.is_none();
    is_latest.then(|| Choices {
        control: query.choices.control.clone(),
        alpha: query.choices.alpha,
        ..Choices::default()
    })
}

/// Reads the saved funnels of `experiment`.
fn funnels(
    app: &App,
    experiment: &Experiment,
    choices: &Choices,
) -> Answer<Vec<(SavedFunnel, Stored)>> {
    let saved = &experiment.definition.funnels;
    if saved.is_empty() {
        return Ok(Vec::new());
    }
    let stored = funnel::states(app, experiment, saved, choices)?;
    Ok(saved.iter().cloned().zip(stored).collect())
}

async fn experiment(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    origin: Origin,
) -> Result<Response, ErrorPage> {
    let listed = |problem: Problem| ErrorPage::from(problem).or("/".to_owned(), "All experiments");
    let id = experiments::id(path).map_err(listed)?;
    let plain = format!("/experiments/{}", percent::encode(id.as_str()));
    let answer = async {
        let sent = pairs(query.as_deref().unwrap_or_default())?;
        let query = query::canonical(&sent)?;
        if query != sent {
            return Ok(Redirect::to(&query::address(&plain, &query)).into_response());
        }
        let asked = results::parse(&query::encode(&query))?;
        let choices = funnel_choices(&asked);
        let report = results::report(Arc::clone(&app), id.clone(), asked).await?;
        let now = (app.clock)();
        let page = pools::query(&app, move |app| {
            let experiment = app.catalog.experiment(&id)?;
            let funnels = choices.map(|choices| funnels(app, &experiment, &choices));
            let funnels = funnels.transpose()?;
            let parts = Parts {
                experiment: &experiment,
                report: &report,
                funnels: funnels.as_deref(),
                query: &query,
                freshness: freshness(app, now)?,
                origin: &origin,
                now,
            };
            Ok(ExperimentPage::new(parts))
        });
        Ok(html(&page.await?))
    };
    answer.await.map_err(|problem| {
        let page = listed(problem);
        if page.is_of_the_request() {
            page.or(plain.clone(), "This experiment without filters")
        } else {
            page
        }
    })
}
