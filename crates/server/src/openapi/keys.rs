//! `/v1/keys` in the document.

use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_catalog::keys::Scope;

use super::operation::Operation;
use super::schema::{
    Field, Schema, closed, extended, field, list, name, nullable, object, one_of, optional,
    reference, text, time, with,
};
use crate::api::keys::MAX_NAME_CHARS;

const PATH: &str = "/v1/keys";

pub(super) fn operations() -> Vec<Operation> {
    let listed = Operation::new(Method::GET, PATH, "listKeys", "Lists all API keys").answer(
        StatusCode::OK,
        reference("Keys"),
        "The keys, without their secrets, the oldest first.",
    );
    let wanted = json!({ "name": "warehouse job", "scopes": ["read"], "expires_at": "2035-01-01T00:00:00Z" });
    let created = Operation::new(Method::POST, PATH, "createKey", "Makes an API key")
        .describe("From the first key on, every request needs one. The answer is the only place where the key stands whole.")
        .body(reference("WantedKey"), wanted)
        .answer(StatusCode::CREATED, reference("NewKey"), "The key.")
        .problems(&[409, 422]);
    let revoked = Operation::new(
        Method::DELETE,
        "/v1/keys/{id}",
        "revokeKey",
        "Ends an API key at once",
    )
    .segment("id", text(), "0123456789ab", "The key's id.")
    .answer(
        StatusCode::OK,
        reference("Key"),
        "The key; one that was revoked before stays as it was.",
    )
    .problems(&[404]);
    [listed, created, revoked]
        .into_iter()
        .map(|operation| operation.tag("keys"))
        .collect()
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let whole = field("key", text(), "The key: keep it, it is not shown again.");
    vec![
        ("Key", object(key())),
        ("NewKey", extended(object(key()), [whole])),
        (
            "Keys",
            object([field("keys", list(reference("Key")), "The keys.")]),
        ),
        ("WantedKey", wanted()),
    ]
}

fn scopes() -> Schema {
    list(one_of(&Scope::ALL))
}

fn key() -> [Field; 8] {
    [
        field("id", text(), "The part of it that is no secret."),
        field("name", text(), "Who uses it."),
        field("scopes", scopes(), "What it may do."),
        field("created_at", time(), "When it was made."),
        field("created_by", text(), "Who made it."),
        field(
            "expires_at",
            nullable(time()),
            "From when on it is refused; null for never.",
        ),
        field("revoked_at", nullable(time()), "When it was revoked."),
        field("last_used_at", nullable(time()), "When it was used last."),
    ]
}

fn wanted() -> Schema {
    closed(object([
        field("name", name(MAX_NAME_CHARS), "Who will use it."),
        field(
            "scopes",
            with(scopes(), "minItems", 1),
            "What it may do; `admin` may do all, `sdk` includes `ingest`.",
        ),
        optional(
            "expires_at",
            nullable(time()),
            "From when on it is refused: a time to come.",
        ),
    ]))
}
