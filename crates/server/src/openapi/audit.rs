//! The audit trail in the document.

use axum::http::{Method, StatusCode};

use super::experiments::experiment_segment;
use super::operation::Operation;
use super::schema::{
    Schema, any_object, field, integer, list, nullable, object, one_of, page_limit, reference,
    text, time,
};

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

pub(super) fn operations() -> Vec<Operation> {
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
                integer(0),
                "The number of an entry, after which the page begins.",
            )
            .query("limit", page_limit(), "Entries on a page.")
            .answer(
                StatusCode::OK,
                reference("AuditPage"),
                "A page, the oldest first.",
            )
    };
    [all, of_experiment].into_iter().map(paged).collect()
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let page = object([
        field("entries", list(reference("AuditEntry")), "The entries."),
        field(
            "next",
            nullable(text()),
            "What `after` takes for the next page; null on the last.",
        ),
    ]);
    vec![("AuditEntry", entry()), ("AuditPage", page)]
}

fn entry() -> Schema {
    object([
        field("entry", integer(1), "Its number, which grows."),
        field("at", time(), "When."),
        field(
            "actor",
            text(),
            "Who: the name of a key, `anonymous` or `local`.",
        ),
        field(
            "subject",
            one_of(&["experiment", "metric", "layer", "holdout"]),
            "What was changed.",
        ),
        field("name", text(), "Which."),
        field("action", one_of(&ACTIONS), "How."),
        field(
            "from",
            nullable(any_object()),
            "The members that differ, before; null where there was nothing.",
        ),
        field(
            "to",
            nullable(any_object()),
            "The same after; null where nothing is left.",
        ),
    ])
}
