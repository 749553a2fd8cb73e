//! Adds to every response its request's id, and headers that restrict what browsers do with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use trialog_model::time::UnixMicros;

use crate::answers;
use crate::app::App;
use crate::problem::Document;
use crate::serving::Peer;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_BYTES: usize = 64;

/// Pages are rendered here, with our stylesheet and scripts and nothing inline; images may be
/// data.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const FIXED: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// A year, once a browser has seen this server with TLS.
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// The id of a request, in its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

/// Creates ids that are unique among all processes of this directory.
pub(crate) struct RequestIds {
    started_at: UnixMicros,
    n_requests: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(started_at: UnixMicros) -> Self {
        Self {
            started_at,
            n_requests: AtomicU64::new(0),
        }
    }

    /// Returns the client's request id if it is sane, else a new one.
    fn id_from_headers(&self, headers: &HeaderMap) -> RequestId {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        let id = match given.filter(|id| is_sane(id)) {
            Some(given) => given.to_owned(),
            None => {
                let n = self.n_requests.fetch_add(1, Ordering::Relaxed);
                format!("{:x}-{n:x}", self.started_at.0)
            }
        };
        RequestId(id.into())
    }
}

/// Ids go to logs and answers: nothing but letters, digits, `-`, `_` and `.`,
/// and nothing that could be a key.
fn is_sane(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(is_plain)
        && !id.contains(crate::access::secret::PREFIX)
}

/// Adds the id to the request, and the headers to the response.
pub(crate) async fn add_response_headers(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = app.request_ids.id_from_headers(request.headers());
    let path = request.uri().path();
    let context = ResponseContext {
        id: id.clone(),
        is_ofrep: path.starts_with("/ofrep/"),
        is_tls: (request.extensions().get::<Peer>()).is_some_and(|peer| peer.is_tls),
    };
    let is_repeatable = answers::is_repeatable(request.method(), path);
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("request", id = %id.0);
    let response = next.run(request).instrument(span).await;
    let response = context.add_to(response);
    let mut response = match app.answers.count(response, is_repeatable).await {
        Ok(response) => response,
        Err(problem) => context.add_to(problem.into_response()),
    };
    if let Ok(value) = HeaderValue::from_str(&(app.clock)().to_http_date()) {
        response.headers_mut().insert(header::DATE, value);
    }
    response
}

/// The request's properties that the headers of its response depend on.
struct ResponseContext {
    id: RequestId,
    is_ofrep: bool,
    is_tls: bool,
}

impl ResponseContext {
    fn add_to(&self, mut response: Response) -> Response {
        if let Some(Document(mut members)) = response.extensions_mut().remove() {
            members.insert("request_id".to_owned(), (*self.id.0).into());
            if let (true, Some(detail)) = (self.is_ofrep, members.get("detail").cloned()) {
                members.insert("errorCode".to_owned(), "GENERAL".into());
                members.insert("errorDetails".to_owned(), detail);
            }
            response = with_body(response, Json(members).into_response());
        }
        put_headers(response.headers_mut(), self.is_tls);
        if let Ok(value) = HeaderValue::from_str(&self.id.0) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }
}

/// The status and headers of `response` with the body of `other`.
fn with_body(response: Response, other: Response) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, other.into_body())
}

pub(crate) fn put_headers(headers: &mut HeaderMap, is_tls: bool) {
    for (name, value) in FIXED {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    // What a handler says about caching goes before.
    (headers.entry(header::CACHE_CONTROL)).or_insert(HeaderValue::from_static("no-store"));
    if is_tls {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static(STRICT_TRANSPORT_SECURITY),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(given: Option<&str>) -> String {
        let ids = RequestIds::new(UnixMicros(0xabc));
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(REQUEST_ID, given.parse().unwrap());
        }
        ids.id_from_headers(&headers).0.to_string()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        assert_eq!(id(Some("trace-7f.3_A")), "trace-7f.3_A");
        let long = "a".repeat(MAX_ID_BYTES + 1);
        let key = format!("tlk_{}", "a".repeat(40));
        for bad in ["", "a b", "a\"b", "{}", &long, &key] {
            assert_eq!(id(Some(bad)), "abc-0", "{bad}");
        }
        assert_eq!(id(None), "abc-0");
    }

    #[test]
    fn no_two_requests_share_an_id() {
        let ids = RequestIds::new(UnixMicros(1));
        let none = HeaderMap::new();
        assert_ne!(ids.id_from_headers(&none), ids.id_from_headers(&none));
    }

    #[test]
    fn what_a_handler_says_about_caching_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("max-age=60"),
        );
        put_headers(&mut headers, true);
        assert_eq!(headers[header::CACHE_CONTROL], "max-age=60");
        assert!(headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
        let mut headers = HeaderMap::new();
        put_headers(&mut headers, false);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert!(!headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    }
}
