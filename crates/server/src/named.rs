//! Parses names in paths.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use trialog_model::ids::NameError;

use crate::problem::{Answer, Problem};

/// Parses a name in a path with `new`. A name that cannot exist is not found. `what` completes the
/// message, as in `no layer has such a name`.
pub(crate) fn named<T>(
    path: Result<Path<String>, PathRejection>,
    what: &str,
    new: impl FnOnce(String) -> Result<T, NameError>,
) -> Answer<T> {
    let Path(text) =
        path.map_err(|error| Problem::bad_request(format!("the path cannot be read: {error}")))?;
    new(text).map_err(|error| {
        let detail = format!("no {what}: it {error}");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}
