//! Counts every request and, at debug level, logs it: one line, without its body, its query or its
//! headers.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::telemetry::RequestLabels;

/// Counts and logs a request. Layers inside of this one are seen, those outside are not.
pub(crate) async fn observe(
    State(app): State<Arc<App>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = method(request.method());
    let response = next.run(request).await;
    let taken = begun.elapsed();
    let labels = RequestLabels {
        // What nobody routes is whatever a client makes up: one name for all of it.
        route: route.map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned()),
        method,
        status: class(response.status()),
    };
    app.metrics.note_request(&labels, taken);
    // The span around it has the request's id.
    tracing::debug!(
        http.method = method,
        http.route = labels.route,
        http.status = response.status().as_u16(),
        duration_ms = taken.as_secs_f64() * 1e3,
        "answered {method} {} with {}",
        labels.route,
        response.status().as_u16()
    );
    response
}

/// One of the methods that have a meaning here.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
