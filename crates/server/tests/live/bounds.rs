//! Work and memory are bounded before they begin, and shared out between callers.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use trialog_pipeline::ingest::IngestSettings;
use trialog_server::{Settings, router};

use crate::harness::{Api, settings};

const METRICS: &str = "/v1/events/metrics";

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).body(body.into()).unwrap()
}

fn event(user: i64) -> Value {
    json!({"user_id": user, "experiment_id": "gate", "event_type": "buy", "timestamp": 1_759_990_000_000i64})
}

/// Experiments that run and list `buy`.
fn started(api: &Api, n_experiments: usize) {
    for number in 0..n_experiments {
        let id = format!("e{number}");
        let definition = json!({"experiment_id": id, "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy"]}});
        let made = api.status(post("/v1/experiments", definition.to_string()));
        assert_eq!(made, StatusCode::CREATED);
        let begun = api.status(post(&format!("/v1/experiments/{id}/start"), ""));
        assert_eq!(begun, StatusCode::OK);
    }
}

/// Metric events of `experiments` that are stored, as the next run finds them.
fn n_stored(api: &Api, experiments: &[&str]) -> u64 {
    let (status, run) = api.send(post("/v1/pipeline/run", ""));
    assert_eq!(status, StatusCode::OK, "{run}");
    let stored = |id: &&str| {
        let path = format!("/v1/experiments/{id}/results");
        let (_, report) = api.send(Request::get(path).body(Body::empty()).unwrap());
        let types = report["health"]["events"].as_array().unwrap().clone();
        types
            .iter()
            .filter_map(|of_type| of_type["events"].as_u64())
            .sum::<u64>()
    };
    experiments.iter().map(stored).sum()
}

fn tracked(n_events: usize) -> String {
    let event = |number| json!({"name": "buy", "context": {"targetingKey": format!("u{number}")}});
    json!({ "events": (0..n_events).map(event).collect::<Vec<_>>() }).to_string()
}

#[test]
fn what_tracked_events_make_is_counted_before_any_of_it_is_made() {
    let api = Api::with(Settings {
        ingest: IngestSettings {
            max_events: 5,
            ..IngestSettings::default()
        },
        ..settings()
    });
    started(&api, 3);
    let (status, refused) = api.send(post("/v1/track", tracked(20)));
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{refused}");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("at most 50 events"), "{detail}");
    assert!(
        detail.ends_with("send at most 16 events at a time"),
        "{detail}"
    );
    let (status, taken) = api.send(post("/v1/track", tracked(16)));
    assert_eq!(
        (status, &taken["logged"]),
        (StatusCode::ACCEPTED, &json!(48)),
        "in pieces of what a request may bring"
    );
    assert_eq!(n_stored(&api, &["e0", "e1", "e2"]), 48);
}

#[test]
fn an_experiment_that_is_named_twice_is_answered_once() {
    let api = Api::new();
    started(&api, 2);
    let asked = json!({"user_id": "u", "experiment_ids": ["e1", "e0", "e1", "none", "none"]});
    let (status, answer) = api.send(post("/v1/assign", asked.to_string()));
    assert_eq!(status, StatusCode::OK, "{answer}");
    let ids: Vec<_> = (answer["assignments"].as_array().unwrap().iter())
        .map(|assignment| assignment["experiment_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["e1", "e0", "none"]);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_body_has_so_many_parts() {
    let api = Api::new();
    let send = |n_empty: usize| {
        let body = [
            gzip(event(1).to_string().as_bytes()),
            gzip(b"").repeat(n_empty),
        ]
        .concat();
        let request = Request::post(METRICS).header("content-encoding", "gzip");
        api.send(request.body(Body::from(body)).unwrap())
    };
    assert_eq!(send(1_023).0, StatusCode::ACCEPTED);
    let (status, refused) = send(1_024);
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("more than 1024 parts"),
        "{refused}"
    );
}

#[test]
fn of_several_bodies_with_one_key_at_once_exactly_one_is_accepted() {
    let api = Api::new();
    let routes = router(Arc::clone(&api.app));
    let send = |key: String, user: i64| {
        let request = Request::post(METRICS).header("idempotency-key", key);
        let body = Body::from(event(user).to_string());
        let sent = routes.clone().oneshot(request.body(body).unwrap());
        api.runtime
            .spawn(async move { sent.await.unwrap().status() })
    };
    let all = |sent: Vec<tokio::task::JoinHandle<StatusCode>>| {
        let mut statuses: Vec<_> = (sent.into_iter())
            .map(|task| api.runtime.block_on(task).unwrap())
            .collect();
        statuses.sort_unstable();
        statuses
    };
    let (accepted, used) = (StatusCode::ACCEPTED, StatusCode::UNPROCESSABLE_ENTITY);
    for round in 0..50 {
        let different = (0..4).map(|user| send(format!("d{round}"), round * 10 + user));
        assert_eq!(all(different.collect()), [accepted, used, used, used]);
        let same = (0..4).map(|_| send(format!("s{round}"), 1_000 + round));
        assert_eq!(all(same.collect()), [accepted; 4]);
    }
    assert_eq!(n_stored(&api, &["gate"]), 100, "what was accepted, once");
}
