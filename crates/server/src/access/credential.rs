//! Extracts the key of a request, and checks where the request came from.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{is_safe, unauthorized};
use crate::problem::{Answer, Problem};

/// A key, and the way in which it was sent.
pub(super) enum Credential {
    /// As a program sends it: `Authorization: Bearer` or `X-API-Key`.
    Header(String),
    /// As a browser sends it: the password of `Authorization: Basic`.
    Password(String),
}

impl Credential {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Header(key) | Self::Password(key) => key,
        }
    }
}

/// Extracts the key from `headers`, if there is one.
pub(super) fn from_headers(headers: &HeaderMap) -> Answer<Option<Credential>> {
    let mut found = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .map(authorization)
        .chain(headers.get_all("x-api-key").iter().map(plain));
    let first = found.next().transpose()?;
    if found.next().is_some() {
        return Err(Problem::bad_request(
            "there are several API keys in the headers: send one, in `Authorization: Bearer` or in `X-API-Key`",
        ));
    }
    Ok(first)
}

fn plain(value: &HeaderValue) -> Answer<Credential> {
    let text = value.to_str().map_err(|_| malformed())?;
    Ok(Credential::Header(text.trim().to_owned()))
}

fn authorization(value: &HeaderValue) -> Answer<Credential> {
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, rest) = text.trim().split_once(' ').ok_or_else(malformed)?;
    let rest = rest.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok(Credential::Header(rest.to_owned())),
        "basic" => {
            let pair = BASE64_STANDARD.decode(rest).map_err(|_| malformed())?;
            let pair = String::from_utf8(pair).map_err(|_| malformed())?;
            let (_user, password) = pair.split_once(':').ok_or_else(malformed)?;
            Ok(Credential::Password(password.to_owned()))
        }
        _ => Err(malformed()),
    }
}

fn malformed() -> Problem {
    unauthorized(
        "the header with the API key cannot be read: send `Authorization: Bearer` and the key",
    )
}

/// Rejects a request that names another machine: without keys, a page whose domain was made to
/// point here (DNS rebinding) must not get in.
pub(super) fn check_host(request: &Request) -> Answer<()> {
    let Some(host) = host(request) else {
        return Ok(());
    };
    let is_ours = host == "localhost"
        || host.ends_with(".localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback());
    if is_ours {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "without API keys only requests to `localhost` are answered, and this one names another host: make a key with `trialog keys create`, or let the proxy send `Host: localhost`",
    ))
}

/// Rejects a change that a page of another origin requests.
pub(super) fn check_origin(request: &Request, allowed: &[String]) -> Answer<()> {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let is_own = (origin.split_once("://"))
        .is_some_and(|(_, authority)| Some(authority) == authority_of(request).as_deref());
    let is_allowed = super::scopes::is_for_browsers(request.uri().path())
        && crate::cors::is_listed(allowed, origin);
    if is_safe(request.method()) || is_own || is_allowed {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "a page of another origin asks for this change: send it without a browser, or with a key in `Authorization: Bearer`",
    ))
}

fn authority_of(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST);
    match named {
        Some(host) => host.to_str().ok().map(str::to_ascii_lowercase),
        None => request
            .uri()
            .authority()
            .map(|authority| authority.as_str().to_ascii_lowercase()),
    }
}

/// The host that a request names, without its port.
fn host(request: &Request) -> Option<String> {
    let authority = authority_of(request)?;
    // An authority that cannot be read is none of ours.
    let uri = Uri::builder()
        .authority(authority.as_str())
        .scheme("http")
        .path_and_query("/");
    let uri = uri.build().ok();
    Some(uri.as_ref().and_then(Uri::host).unwrap_or("?").to_owned())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn found(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        from_headers(&headers)
            .ok()
            .flatten()
            .map(|credential| credential.key().to_owned())
    }

    #[test]
    fn a_key_is_found_in_each_of_its_headers() {
        let basic = format!("Basic {}", BASE64_STANDARD.encode("anybody:tlk_a_b"));
        for (name, value) in [
            ("authorization", "Bearer tlk_a_b"),
            ("authorization", "bearer  tlk_a_b "),
            ("authorization", basic.as_str()),
            ("x-api-key", "tlk_a_b"),
        ] {
            assert_eq!(found(name, value).as_deref(), Some("tlk_a_b"), "{value}");
        }
        for value in ["tlk_a_b", "Digest x", "Basic %%", "Bearer"] {
            assert_eq!(found("authorization", value), None, "{value}");
        }
    }

    #[test]
    fn two_keys_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer a".parse().unwrap());
        headers.insert("x-api-key", "a".parse().unwrap());
        assert!(from_headers(&headers).is_err());
    }

    fn request(host: Option<&str>, origin: Option<&str>) -> Request {
        let mut request = Request::post("/v1/events/metrics");
        for (name, value) in [("host", host), ("origin", origin)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn without_keys_only_this_machines_names_are_answered() {
        for host in [
            None,
            Some("localhost:8080"),
            Some("127.0.0.1"),
            Some("[::1]:80"),
            Some("a.LOCALHOST"),
        ] {
            assert!(check_host(&request(host, None)).is_ok(), "{host:?}");
        }
        for host in [
            "example.com",
            "127.0.0.1.example.com",
            "192.168.0.1:8080",
            "a b",
            "localhost.example.com",
        ] {
            assert!(check_host(&request(Some(host), None)).is_err(), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let allowed = ["https://shop.example".to_owned()];
        let host = Some("localhost:8080");
        for origin in [
            None,
            Some("http://localhost:8080"),
            Some("https://shop.example"),
        ] {
            assert!(
                check_origin(&request(host, origin), &allowed).is_ok(),
                "{origin:?}"
            );
        }
        for origin in ["null", "http://localhost:9090", "https://evil.example"] {
            assert!(
                check_origin(&request(host, Some(origin)), &allowed).is_err(),
                "{origin}"
            );
        }
    }
}
