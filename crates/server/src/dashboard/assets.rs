//! Serves the style sheet and the icon, under addresses that change with their content.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use trialog_model::murmur3::murmur3_x86_32;

use super::pages::error::ErrorPage;
use crate::problem::Problem;

pub(super) const STYLE: &str = include_str!("../../static/dashboard.css");
const ICON: &str = include_str!("../../static/icon.svg");

/// The version of the build, and a fingerprint of what is served.
fn version() -> String {
    let fingerprint = murmur3_x86_32(STYLE.as_bytes(), 0) ^ murmur3_x86_32(ICON.as_bytes(), 1);
    format!("{}-{fingerprint:08x}", env!("CARGO_PKG_VERSION"))
}

pub(super) fn style_address() -> String {
    format!("/static/{}/dashboard.css", version())
}

pub(super) fn icon_address() -> String {
    format!("/static/{}/icon.svg", version())
}

/// Serves a file. Browsers may cache the present version for a year. A page of another version
/// gets the file as well, which is not cached then.
pub(super) async fn file(
    Path((asked, name)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let (kind, text) = match name.as_str() {
        "dashboard.css" => ("text/css; charset=utf-8", STYLE),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => {
            return Err(Problem::new(
                axum::http::StatusCode::NOT_FOUND,
                format!("there is no file `{name}`"),
            )
            .into());
        }
    };
    let is_present = asked == version();
    let caching = if is_present {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, caching),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, text).into_response())
}
