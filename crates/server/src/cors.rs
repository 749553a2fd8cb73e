//! Admits pages of other origins: only listed ones, and only for the routes that an SDK in a
//! browser calls.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::access::scopes::is_for_browsers;
use crate::app::App;

/// What a page may send and read beyond the usual.
const REQUEST_HEADERS: &str = "authorization, x-api-key, content-type, content-encoding, idempotency-key, if-none-match, trialog-exposure, x-request-id";
const ANSWER_HEADERS: &str = "etag, retry-after, x-request-id";
/// How long a browser may remember the answer to its question, in seconds.
const MAX_AGE: &str = "7200";

/// Returns whether `origin` is one of `allowed`; `*` is any.
pub(crate) fn is_listed(allowed: &[String], origin: &str) -> bool {
    let is_any = |listed: &String| listed == "*" && origin != "null";
    (allowed.iter()).any(|listed| is_any(listed) || listed.eq_ignore_ascii_case(origin))
}

/// Answers preflight requests, and adds the headers that let a page read the response.
pub(crate) async fn share(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let allowed = &app.settings.cors_origins;
    if allowed.is_empty() || !is_for_browsers(request.uri().path()) {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let origin = origin.filter(|value| value.to_str().is_ok_and(|text| is_listed(allowed, text)));
    let is_question = request.method() == Method::OPTIONS
        && (request.headers()).contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_question && origin.is_some() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        put(
            headers,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            ANSWER_HEADERS,
        );
        let readable = HeaderName::from_static("cross-origin-resource-policy");
        put(headers, readable, "cross-origin");
        if is_question {
            put(headers, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
            put(
                headers,
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                REQUEST_HEADERS,
            );
            put(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
    }
    response
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_whole() {
        let allowed = ["https://shop.example".to_owned()];
        assert!(is_listed(&allowed, "https://SHOP.example"));
        for origin in [
            "https://shop.example.evil",
            "http://shop.example",
            "null",
            "",
        ] {
            assert!(!is_listed(&allowed, origin), "{origin}");
        }
        assert!(is_listed(&["*".to_owned()], "https://any.example"));
        assert!(!is_listed(&["*".to_owned()], "null"));
    }
}
