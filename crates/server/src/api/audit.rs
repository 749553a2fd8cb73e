//! The audit trail: `/v1/audit`, and that of one experiment.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use trialog_catalog::audit::{Entry, Subject};

use super::experiments::{experiment_segment, id};
use super::types::Time;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::page::{PAGE, limit, next};
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;

const SUBJECTS: [&str; 4] = ["experiment", "metric", "layer", "holdout"];
const ACTIONS: [&str; 11] = [
    "create",
    "register",
    "change",
    "change_after_start",
    "confirm",
    "start",
    "stop",
    "resume",
    "decide",
    "archive",
    "delete",
];

pub(crate) fn operations() -> Vec<Operation> {
    let all = Operation::new(
        Method::GET,
        "/v1/audit",
        "listChanges",
        "Lists who changed what, page by page",
    );
    let of_experiment = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/audit",
        "listChangesOfExperiment",
        "Lists who changed what of an experiment",
    );
    let of_experiment = experiment_segment(of_experiment).problems(&[404]);
    let paged = |operation: Operation| {
        operation
            .tag("audit")
            .query(
                "after",
                schema::integer(0),
                "The number of an entry, after which the page begins.",
            )
            .query("limit", schema::page_limit(), "Entries on a page.")
            .answers::<AuditPage>(StatusCode::OK, "A page, the oldest first.")
    };
    [all, of_experiment].map(paged).into()
}

/// A page of the audit trail.
#[derive(Serialize, JsonSchema)]
pub(crate) struct AuditPage {
    /// The entries.
    entries: Vec<AuditEntry>,
    /// What `after` takes for the next page; null on the last.
    next: Option<String>,
}

impl AuditPage {
    fn new(entries: Vec<Entry>, limit: u32) -> Self {
        Self {
            next: next(&entries, limit, |entry| entry.entry.to_string()),
            entries: entries.into_iter().map(AuditEntry::from).collect(),
        }
    }

    /// Writes the page where it was read, on a blocking thread: it may be long.
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// A change: who made it, when, and what it changed.
#[derive(Serialize, JsonSchema)]
struct AuditEntry {
    /// Its number, which grows.
    #[schemars(range(min = 1))]
    entry: i64,
    /// When.
    at: Time,
    /// Who: the name of a key, `anonymous` or `local`.
    actor: String,
    /// What was changed.
    #[schemars(extend("enum" = SUBJECTS))]
    subject: String,
    /// Which.
    name: String,
    /// How.
    #[schemars(extend("enum" = ACTIONS))]
    action: String,
    /// The members that differ, before; null where there was nothing.
    #[schemars(with = "Option<Map<String, Value>>")]
    from: Option<Value>,
    /// The same after; null where nothing is left.
    #[schemars(with = "Option<Map<String, Value>>")]
    to: Option<Value>,
}

impl From<Entry> for AuditEntry {
    fn from(entry: Entry) -> Self {
        Self {
            entry: entry.entry,
            at: entry.at.into(),
            actor: entry.actor.to_string(),
            subject: entry.subject,
            name: entry.name,
            action: entry.action,
            from: entry.from,
            to: entry.to,
        }
    }
}

pub(crate) async fn all(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let page = page(query.as_deref().unwrap_or_default())?;
    pools::query(&app, move |app| {
        let entries = app.catalog.audit(None, page.after, page.limit)?;
        Ok(AuditPage::new(entries, page.limit).into_response())
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
        let entries = app.catalog.audit(about, page.after, page.limit)?;
        Ok(AuditPage::new(entries, page.limit).into_response())
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
