//! `POST /v1/calc/{family}`: what comes back, and what is refused.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use crate::harness::Api;

fn post(family: &str, media: &str, body: &str) -> Request<Body> {
    let request = Request::post(format!("/v1/calc/{family}")).header("content-type", media);
    request.body(Body::from(body.to_owned())).unwrap()
}

const SRM: &str = r#"{"counts": [4900, 5100], "weights": [1, 1]}"#;

#[test]
fn as_many_objects_come_back_as_were_sent() {
    let api = Api::new();
    let (status, answer) = api.send(post("srm_chi2", "application/json", SRM));
    assert_eq!((status, &answer["chi2"]), (StatusCode::OK, &json!(4.0)));
    let lines = format!("{SRM}\n{SRM}\n");
    let answer = api.answer(post("srm_chi2", "application/x-ndjson", &lines));
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let body = axum::body::to_bytes(answer.into_body(), 1 << 16);
    let body = api.runtime.block_on(body).unwrap();
    assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 2);
}

#[test]
fn what_cannot_be_used_is_named() {
    let api = Api::new();
    let (status, _) = api.send(post("srm", "application/json", SRM));
    assert_eq!(status, StatusCode::NOT_FOUND);
    let bad = format!("{SRM}\n{{\"counts\": [1, 2], \"weights\": [1]}}");
    let (status, answer) = api.send(post("srm_chi2", "application/x-ndjson", &bad));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        (&answer["field"], &answer["index"]),
        (&json!("weights"), &json!(1))
    );
    for (media, body) in [
        ("application/json", ""),
        ("application/x-ndjson", ""),
        ("application/json", "{"),
    ] {
        let (status, _) = api.send(post("srm_chi2", media, body));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{media} {body}");
    }
    let many = format!("{SRM}\n").repeat(1_001);
    let (status, _) = api.send(post("srm_chi2", "application/x-ndjson", &many));
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}
