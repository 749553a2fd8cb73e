//! Who gets in: scopes, keys, origins, limits per caller, headers of answers.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use trialog_server::{InProcess, Settings};

use crate::harness::{Api, settings};

/// What a route takes; every other route takes `read` to read, and `admin` else.
const TAKES: &[(&str, &str, &str)] = &[
    ("GET", "/healthz", "nothing"),
    ("GET", "/readyz", "nothing"),
    ("GET", "/openapi.json", "nothing"),
    ("POST", "/v1/events/assignments", "ingest"),
    ("POST", "/v1/events/metrics", "ingest"),
    ("POST", "/v1/track", "ingest"),
    ("GET", "/v1/sdk/config", "sdk"),
    ("POST", "/v1/assign", "sdk"),
    ("POST", "/ofrep/v1/evaluate/flags", "sdk"),
    ("POST", "/ofrep/v1/evaluate/flags/{key}", "sdk"),
    ("POST", "/v1/calc/{family}", "read"),
    ("GET", "/v1/keys", "admin"),
    ("GET", "/v1/export/{table}", "admin"),
    ("GET", "/v1/erasures", "admin"),
    ("GET", "/v1/verify", "admin"),
];

const SCOPES: [&str; 4] = ["sdk", "ingest", "read", "admin"];
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

fn takes(method: &str, path: &str) -> &'static str {
    let method = if method == "HEAD" { "GET" } else { method };
    match TAKES
        .iter()
        .find(|taken| taken.0 == method && taken.1 == path)
    {
        Some(taken) => taken.2,
        None if method == "GET" => "read",
        None => "admin",
    }
}

fn suffices(scope: &str, needed: &str) -> bool {
    scope == needed || scope == "admin" || (scope, needed) == ("sdk", "ingest")
}

/// A request as it comes from outside, with `key`.
fn request(method: &str, path: &str, key: Option<&str>) -> Request<Body> {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path.replace(['{', '}'], ""));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.body(Body::empty()).unwrap()
}

#[test]
fn no_endpoint_answers_without_its_scope() {
    let api = Api::new();
    let keys: Vec<(&str, String)> = SCOPES
        .iter()
        .map(|scope| (*scope, api.make_key(scope, &[scope])))
        .collect();
    let paths = trialog_server::paths();
    assert!(paths.len() > 10, "the router tells its paths");
    for path in paths {
        for method in METHODS {
            let needed = takes(method, path);
            let what = format!("{method} {path}, which takes {needed}");
            let status = api.status(request(method, path, None));
            if needed == "nothing" {
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{what}");
                continue;
            }
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}, without a key");
            let wrong = format!("{}0", keys[3].1);
            let status = api.status(request(method, path, Some(&wrong)));
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{what}, with a wrong key");
            for (scope, key) in &keys {
                // A revoked key is not wanted here, and the last one may do it.
                let status = api.status(request(method, path, Some(key)));
                if suffices(scope, needed) {
                    assert_ne!(status, StatusCode::FORBIDDEN, "{what}, with {scope}");
                    assert_ne!(status, StatusCode::UNAUTHORIZED, "{what}, with {scope}");
                } else {
                    assert_eq!(status, StatusCode::FORBIDDEN, "{what}, with {scope}");
                }
            }
        }
    }
    let nowhere = request("GET", "/v1/nowhere", None);
    assert_eq!(api.status(nowhere), StatusCode::UNAUTHORIZED);
    let nowhere = request("GET", "/v1/nowhere", Some(&keys[1].1));
    assert_eq!(api.status(nowhere), StatusCode::NOT_FOUND);
}

#[test]
fn the_first_key_closes_the_door_at_once_and_for_good() {
    let api = Api::new();
    let open = request("GET", "/v1/experiments", None);
    assert_eq!(api.status(open), StatusCode::OK);
    let wanted = json!({"name": "ops", "scopes": ["admin"]});
    let first = Request::post("/v1/keys")
        .body(Body::from(wanted.to_string()))
        .unwrap();
    let (status, made) = api.send(first);
    assert_eq!(status, StatusCode::CREATED);
    let closed = request("GET", "/v1/experiments", None);
    let answer = api.answer(closed);
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Bearer"), "{challenge}");
    let key = made["key"].as_str().unwrap();
    assert_eq!(
        api.status(request("GET", "/v1/experiments", Some(key))),
        StatusCode::OK
    );
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(
        api.status(request("DELETE", &path, Some(key))),
        StatusCode::OK
    );
    let (status, problem) = api.send(request("GET", "/v1/experiments", Some(key)));
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("`ops` was revoked"),
        "{problem}"
    );
    let (status, _) = api.send(request("GET", "/v1/experiments", None));
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[test]
fn a_key_is_shown_once_and_listed_without_its_secret() {
    let api = Api::new();
    let key = api.make_key("reader", &["read", "ingest", "read"]);
    assert_eq!(
        api.status(request("GET", "/v1/experiments", Some(&key))),
        StatusCode::OK
    );
    let mut list = request("GET", "/v1/keys", None);
    list.extensions_mut().insert(InProcess);
    let (_, list) = api.send(list);
    assert!(!list.to_string().contains(&key));
    let shown = &list["keys"][0];
    assert_eq!(
        (&shown["name"], &shown["scopes"], &shown["created_by"]),
        (
            &json!("reader"),
            &json!(["ingest", "read"]),
            &json!("local")
        )
    );
    assert!(shown["last_used_at"].is_string(), "{shown}");
    assert!(key.contains(shown["id"].as_str().unwrap()));
}

#[test]
fn a_refusal_names_the_missing_scope() {
    let api = Api::new();
    let key = api.make_key("reader", &["read"]);
    let (status, problem) = api.send(request("POST", "/v1/pipeline/run", Some(&key)));
    assert_eq!(
        (status, &problem["scope"]),
        (StatusCode::FORBIDDEN, &json!("admin"))
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("`admin`") && detail.contains("`reader`"),
        "{detail}"
    );
}

#[test]
fn a_key_is_taken_from_each_of_its_headers() {
    use base64::Engine;
    let api = Api::new();
    let key = api.make_key("reader", &["read"]);
    let basic = base64::prelude::BASE64_STANDARD.encode(format!("me:{key}"));
    for (name, value) in [
        ("authorization", format!("Bearer {key}")),
        ("authorization", format!("Basic {basic}")),
        ("x-api-key", key),
    ] {
        let request = Request::get("/v1/pipeline")
            .header(name, value)
            .body(Body::empty());
        assert_eq!(api.status(request.unwrap()), StatusCode::OK, "{name}");
    }
}

#[test]
fn bad_keys_are_refused_with_the_field() {
    let api = Api::new();
    api.make_key("taken", &["read"]);
    for (wanted, status, field) in [
        (
            json!({"name": "", "scopes": ["read"]}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "name",
        ),
        (
            json!({"name": "Local ", "scopes": ["read"]}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "name",
        ),
        (
            json!({"name": "key:local", "scopes": ["read"]}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "name",
        ),
        (
            json!({"name": "a\u{202e}b", "scopes": ["read"]}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "name",
        ),
        (
            json!({"name": "a", "scopes": []}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "scopes",
        ),
        (
            json!({"name": "a", "scopes": ["read"], "expires_at": "2000-01-01T00:00:00Z"}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "expires_at",
        ),
        (
            json!({"name": "a", "scopes": ["root"]}),
            StatusCode::BAD_REQUEST,
            "",
        ),
        (
            json!({"name": "a", "scopes": ["read"], "secret": "x"}),
            StatusCode::BAD_REQUEST,
            "",
        ),
        (
            json!({"name": "taken", "scopes": ["read"]}),
            StatusCode::CONFLICT,
            "",
        ),
    ] {
        let mut request = Request::post("/v1/keys")
            .body(Body::from(wanted.to_string()))
            .unwrap();
        request.extensions_mut().insert(InProcess);
        let (actual, problem) = api.send(request);
        assert_eq!(actual, status, "{wanted}: {problem}");
        assert_eq!(
            problem["field"].as_str().unwrap_or_default(),
            field,
            "{wanted}"
        );
    }
}

#[test]
fn a_key_in_the_address_is_refused_and_not_repeated() {
    let api = Api::new();
    let key = api.make_key("reader", &["read"]);
    for path in [
        format!("/v1/experiments?api_key={key}"),
        format!("/v1/keys/{key}"),
        format!("/{key}"),
    ] {
        let (status, problem) = api.send(request("GET", &path, Some(&key)));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
        assert!(!problem.to_string().contains(&key), "{problem}");
    }
}

#[test]
fn too_many_requests_of_a_key_wait_and_other_keys_do_not() {
    let settings = Settings {
        requests_per_second: 3,
        ..settings()
    };
    let api = Api::with(settings);
    let (busy, idle) = (
        api.make_key("busy", &["read"]),
        api.make_key("idle", &["read"]),
    );
    // The test's clock moves by a microsecond each time it is read.
    for _ in 0..3 {
        assert_eq!(
            api.status(request("GET", "/v1/keys", Some(&busy))),
            StatusCode::FORBIDDEN
        );
    }
    let answer = api.answer(request("GET", "/v1/keys", Some(&busy)));
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(
        api.status(request("GET", "/v1/pipeline", Some(&idle))),
        StatusCode::OK
    );
    assert_eq!(api.status(request("GET", "/healthz", None)), StatusCode::OK);
}

#[test]
fn without_keys_another_hosts_name_and_another_origins_page_get_nothing() {
    let api = Api::new();
    let foreign = |name: &str, value: &str, method: &str| {
        let mut request = request(method, "/v1/pipeline/run", None);
        request
            .headers_mut()
            .insert("host", "localhost".parse().unwrap());
        let name: axum::http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        api.status(request)
    };
    assert_eq!(
        foreign("host", "rebound.example", "GET"),
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        foreign("origin", "https://evil.example", "POST"),
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        foreign("origin", "http://localhost", "POST"),
        StatusCode::OK
    );
}

#[test]
fn every_answer_carries_its_headers_and_a_problem_the_id_of_its_request() {
    let api = Api::new();
    for path in ["/healthz", "/v1/experiments", "/v1/nowhere"] {
        let answer = api.answer(request("GET", path, None));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.headers()[name], value, "{path}");
        }
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe-inline"), "{policy}");
        assert!(!answer.headers().contains_key("strict-transport-security"));
        assert!(answer.headers().contains_key("x-request-id"));
    }
    let mut named = request("GET", "/v1/nowhere", None);
    named
        .headers_mut()
        .insert("x-request-id", "mine-1".parse().unwrap());
    let answer = api.answer(named);
    assert_eq!(answer.headers()["x-request-id"], "mine-1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(api.json(answer)["request_id"], "mine-1");
}

#[test]
fn a_listed_origin_may_send_events_and_nothing_else() {
    let shop = "https://shop.example";
    let settings = Settings {
        cors_origins: vec![shop.to_owned()],
        ..settings()
    };
    let api = Api::with(settings);
    let key = api.make_key("shop", &["sdk"]);
    let ask = |path: &str, origin: &str| {
        let request = Request::options(path)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .body(Body::empty());
        api.answer(request.unwrap())
    };
    let answer = ask("/v1/events/metrics", shop);
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["access-control-allow-origin"], shop);
    for (path, origin) in [
        ("/v1/experiments", shop),
        ("/v1/events/metrics", "https://evil.example"),
    ] {
        let answer = ask(path, origin);
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path} {origin}");
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
    let mut send = request("POST", "/v1/events/metrics", Some(&key));
    *send.body_mut() = Body::from("[]");
    send.headers_mut().insert("origin", shop.parse().unwrap());
    let answer = api.answer(send);
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers()["access-control-allow-origin"], shop);
    assert_eq!(
        answer.headers()["cross-origin-resource-policy"],
        "cross-origin"
    );
}

#[test]
fn the_most_events_and_bytes_of_a_request_can_be_set() {
    let settings = Settings {
        ingest: trialog_pipeline::ingest::IngestSettings {
            max_events: 2,
            ..Default::default()
        },
        max_body_bytes: 1_024,
        ..settings()
    };
    let api = Api::with(settings);
    let send = |body: String| {
        api.send(
            Request::post("/v1/events/metrics")
                .body(Body::from(body))
                .unwrap(),
        )
    };
    let (status, problem) = send(json!([{}, {}, {}]).to_string());
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("more than 2 events"),
        "{problem}"
    );
    let (status, problem) = send(" ".repeat(1_025));
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        problem["detail"].as_str().unwrap().contains("1024 bytes"),
        "{problem}"
    );
    let big = Value::String("x".repeat(2_000)).to_string();
    let (status, _) = api.send(
        Request::post("/v1/experiments")
            .body(Body::from(big))
            .unwrap(),
    );
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}
