//! Maps each route to the scope that it requires.
//!
//! What the table does not name takes `read` where it only reads (`GET`,
//! `HEAD`) and `admin` where it does not, so a new route is never open by
//! oversight.

use axum::http::Method;
use trialog_catalog::keys::Scope;

/// The requirement of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it is answered to anybody.
    Nothing,
    /// A key with this scope, or one that includes it.
    Scope(Scope),
    /// Any key: there is nothing at this path.
    AnyKey,
}

const TABLE: &[(&str, &str, Need)] = &[
    ("GET", "/healthz", Need::Nothing),
    ("GET", "/readyz", Need::Nothing),
    ("GET", "/openapi.json", Need::Nothing),
    ("POST", "/v1/events/assignments", Need::Scope(Scope::Ingest)),
    ("POST", "/v1/events/metrics", Need::Scope(Scope::Ingest)),
    ("GET", "/v1/sdk/config", Need::Scope(Scope::Sdk)),
    ("POST", "/v1/assign", Need::Scope(Scope::Sdk)),
    ("POST", "/v1/track", Need::Scope(Scope::Ingest)),
    ("POST", "/ofrep/v1/evaluate/flags", Need::Scope(Scope::Sdk)),
    ("POST", "/ofrep/v1/evaluate/flags/", Need::Scope(Scope::Sdk)),
    (
        "POST",
        "/ofrep/v1/evaluate/flags/{key}",
        Need::Scope(Scope::Sdk),
    ),
    // A calculation with the numbers of the request.
    ("POST", "/v1/calc/{family}", Need::Scope(Scope::Read)),
    ("GET", "/v1/keys", Need::Scope(Scope::Admin)),
    // Single events with their users, and who was erased by whom.
    ("GET", "/v1/export/{table}", Need::Scope(Scope::Admin)),
    ("GET", "/v1/erasures", Need::Scope(Scope::Admin)),
    // It reads all there is.
    ("GET", "/v1/verify", Need::Scope(Scope::Admin)),
];

/// Returns what a request of `method` to the route `path` requires.
pub(crate) fn need(method: &Method, path: Option<&str>) -> Need {
    let Some(path) = path else {
        return Need::AnyKey;
    };
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let named = TABLE
        .iter()
        .find(|(own_method, own_path, _)| *own_method == method.as_str() && *own_path == path);
    match named {
        Some((_, _, need)) => *need,
        None if method == Method::GET => Need::Scope(Scope::Read),
        None => Need::Scope(Scope::Admin),
    }
}

/// Returns whether a key with `scopes` satisfies `needed`.
pub(crate) fn allow(scopes: &[Scope], needed: Scope) -> bool {
    scopes.iter().any(|scope| match scope {
        Scope::Admin => true,
        Scope::Sdk => matches!(needed, Scope::Sdk | Scope::Ingest),
        other => *other == needed,
    })
}

/// Returns whether pages of other origins may call `path` if they are allowed to: the routes that
/// an SDK in a browser needs.
pub(crate) fn is_for_browsers(path: &str) -> bool {
    path.starts_with("/v1/events/")
        || path.starts_with("/ofrep/")
        || ["/v1/sdk/config", "/v1/assign", "/v1/track"].contains(&path)
}
