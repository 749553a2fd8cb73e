//! The audit trail: `/v1/audit`, and that of one experiment.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use trialog_catalog::audit::{Entry, Subject};

use crate::api::experiments::id;
use crate::app::App;
use crate::page::{PAGE, limit, next};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;

pub(crate) async fn all(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let page = page(query.as_deref().unwrap_or_default())?;
    pools::query(&app, move |app| {
        Ok(show(
            &app.catalog.audit(None, page.after, page.limit)?,
            &page,
        ))
    })
    .await
}

pub(crate) async fn of_experiment(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let id = id(path)?;
    let page = page(query.as_deref().unwrap_or_default())?;
    pools::query(&app, move |app| {
        app.catalog.experiment(&id)?;
        let about = Some((Subject::Experiment, id.as_str()));
        Ok(show(
            &app.catalog.audit(about, page.after, page.limit)?,
            &page,
        ))
    })
    .await
}

struct Page {
    after: i64,
    limit: u32,
}

fn page(query: &str) -> Answer<Page> {
    let mut page = Page {
        after: 0,
        limit: PAGE,
    };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "after" => {
                let number = value.parse().ok().filter(|number| *number >= 0);
                page.after = number
                    .ok_or_else(|| Problem::bad_field("after", "is not the number of an entry"))?;
            }
            "limit" => page.limit = limit(&value)?,
            other => {
                return Err(Problem::bad_field(
                    other,
                    "is no parameter here: use after or limit",
                ));
            }
        }
    }
    Ok(page)
}

/// The page, written: it may be long.
fn show(entries: &[Entry], page: &Page) -> Response {
    let next = next(entries, page.limit, |entry| entry.entry.to_string());
    let entries: Vec<Value> = (entries.iter())
        .map(|entry| {
            json!({
                "entry": entry.entry,
                "at": entry.at.to_rfc3339(),
                "actor": entry.actor.as_str(),
                "subject": entry.subject,
                "name": entry.name,
                "action": entry.action,
                "from": entry.from,
                "to": entry.to,
            })
        })
        .collect();
    Json(json!({ "entries": entries, "next": next })).into_response()
}
