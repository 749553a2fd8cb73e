//! Parses query strings.

use axum::extract::Query;
use axum::http::Uri;

use crate::problem::{Answer, Problem};

/// Decodes the names and values of a query string, in the order in which they were sent.
///
/// # Errors
///
/// The query is not percent-encoded text.
pub(crate) fn pairs(query: &str) -> Answer<Vec<(String, String)>> {
    let uri = format!("/?{query}").parse::<Uri>();
    let bad = || Problem::bad_request("the query string cannot be read: percent-encode it");
    let uri = uri.map_err(|_| bad())?;
    let Query(pairs) = Query::try_from_uri(&uri).map_err(|_| bad())?;
    Ok(pairs)
}
