//! The HTTP interface over a real catalog and a real warehouse, without a socket.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::io::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::Settings as Aggregation;
use trialog_pipeline::testing;
use trialog_server::{App, Settings, router};
use trialog_warehouse::embedded::Options;

const NOW: i64 = 1_760_000_000_000_000;

struct Api {
    router: Router,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Api {
    fn new() -> Self {
        Self::with(Settings::default(), Options::default())
    }

    fn with(settings: Settings, options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let parts = testing::open(
            directory.path(),
            options,
            Aggregation::default(),
            UnixMicros(NOW),
        )
        .unwrap();
        let app = App::new(
            parts.catalog,
            parts.warehouse,
            parts.aggregator,
            parts.clock,
            settings,
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            router: router(Arc::new(app)),
            runtime,
            _directory: directory,
        }
    }

    fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 24)
                .await
                .unwrap();
            (status, serde_json::from_slice(&bytes).unwrap())
        })
    }

    fn post(&self, path: &str, body: impl std::fmt::Display) -> (StatusCode, Value) {
        self.send(
            Request::post(path)
                .body(Body::from(body.to_string()))
                .unwrap(),
        )
    }

    fn text(&self, path: &str) -> String {
        self.runtime.block_on(async {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = self.router.clone().oneshot(request).await.unwrap();
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await;
            String::from_utf8(bytes.unwrap().to_vec()).unwrap()
        })
    }

    fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Request::get(path).body(Body::empty()).unwrap())
    }

    fn patch(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(
            Request::patch(path)
                .body(Body::from(body.to_string()))
                .unwrap(),
        )
    }
}

fn metric(user: i64) -> Value {
    json!({"user_id": user, "experiment_id": "gate", "event_type": "buy", "value": "2.5", "timestamp": 1_759_990_000_000i64})
}

fn assignment(user: i64, variant: &str, platform: &str) -> Value {
    json!({"user_id": user, "experiment_id": "gate", "variant": variant, "assigned_at": "2025-10-09T00:00:00Z",
           "context": {"platform": platform}, "event_id": format!("a{user}")})
}

fn gate() -> Value {
    json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy"]}})
}

/// 40 users in two variants, half of each on ios; users 1, 3, 5, 7 of `b` buy.
fn filled() -> Api {
    let api = Api::new();
    let platform = |user| if user % 4 < 2 { "ios" } else { "web" };
    let variant = |user| if user % 2 == 0 { "a" } else { "b" };
    let assignments: Vec<Value> = (0..40)
        .map(|user| assignment(user, variant(user), platform(user)))
        .collect();
    assert_eq!(
        api.post("/v1/events/assignments", json!(assignments)).0,
        StatusCode::ACCEPTED
    );
    let metrics: Vec<Value> = [1, 3, 5, 7].into_iter().map(metric).collect();
    assert_eq!(
        api.post("/v1/events/metrics", json!(metrics)).0,
        StatusCode::ACCEPTED
    );
    assert_eq!(api.post("/v1/pipeline/run", "").0, StatusCode::OK);
    api
}

#[test]
fn good_events_are_kept_and_bad_ones_named() {
    let api = Api::new();
    let (status, answer) = api.post(
        "/v1/events/metrics",
        json!([metric(1), {"user_id": 1}, metric(2)]),
    );
    assert_eq!(
        (status, &answer["accepted"]),
        (StatusCode::ACCEPTED, &json!(2))
    );
    let rejected = &answer["rejected"][0];
    assert_eq!(
        (&rejected["index"], &rejected["field"]),
        (&json!(1), &json!("experiment_id"))
    );
    let (status, answer) = api.post("/v1/events/metrics", json!({"user_id": 1}));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer["rejected"][0]["field"], "experiment_id");
    assert!(
        answer["detail"]
            .as_str()
            .unwrap()
            .contains("names its experiment")
    );
}

#[test]
fn compressed_bodies_are_read_and_bombs_are_not() {
    let api = Api::with(
        Settings {
            max_body_bytes: 4096,
            ..Settings::default()
        },
        Options::default(),
    );
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let send = |body: Vec<u8>, coding: &str| {
        let request = Request::post("/v1/events/metrics").header("content-encoding", coding);
        api.send(request.body(Body::from(body)).unwrap()).0
    };
    assert_eq!(
        send(gzip(&metric(1).to_string()), "gzip"),
        StatusCode::ACCEPTED
    );
    assert_eq!(
        send(gzip(&" ".repeat(100_000)), "gzip"),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(send(b"nonsense".to_vec(), "gzip"), StatusCode::BAD_REQUEST);
    assert_eq!(send(b"nonsense".to_vec(), "zstd"), StatusCode::BAD_REQUEST);
    assert_eq!(
        send(b"{}".to_vec(), "br"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(
        send(vec![b' '; 5000], "identity"),
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[test]
fn a_body_that_is_cut_short_is_refused_whole_in_every_form() {
    let api = Api::new();
    let lines = format!("{}\n{}", metric(1), metric(2));
    let array = json!([metric(1), metric(2)]).to_string();
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |text: &str| {
        ruzstd::encoding::compress_to_vec(
            text.as_bytes(),
            ruzstd::encoding::CompressionLevel::Fastest,
        )
    };
    let first_line = metric(1).to_string().len();
    for (body, coding) in [
        (array.clone().into_bytes(), "identity"),
        (lines.clone().into_bytes(), "identity"),
        (gzip(&array), "gzip"),
        (zstd(&lines), "zstd"),
    ] {
        for length in 1..body.len() {
            let is_whole_line = coding == "identity"
                && body[0] == b'{'
                && (length == first_line || length == first_line + 1);
            let request = Request::post("/v1/events/metrics").header("content-encoding", coding);
            let (status, answer) =
                api.send(request.body(Body::from(body[..length].to_vec())).unwrap());
            let expected = match is_whole_line {
                true => StatusCode::ACCEPTED,
                false => StatusCode::BAD_REQUEST,
            };
            assert_eq!(status, expected, "{coding}, {length} bytes: {answer}");
            let detail = answer["detail"].as_str().unwrap_or("none of it was taken");
            assert!(detail.contains("none of it was taken"), "{detail}");
        }
        let trailing = [&body[..], b"more"].concat();
        let request = Request::post("/v1/events/metrics").header("content-encoding", coding);
        let (status, answer) = api.send(request.body(Body::from(trailing)).unwrap());
        let is_told = status == StatusCode::BAD_REQUEST || answer["rejected_total"] == 1;
        assert!(is_told, "{coding} with more after its end: {answer}");
    }
}

#[test]
fn several_compressed_parts_are_one_body() {
    let api = Api::new();
    let zstd = |text: String| {
        ruzstd::encoding::compress_to_vec(
            text.as_bytes(),
            ruzstd::encoding::CompressionLevel::Fastest,
        )
    };
    let body = [
        zstd(format!("{}\n", metric(1))),
        zstd(metric(2).to_string()),
    ]
    .concat();
    let request = Request::post("/v1/events/metrics").header("content-encoding", "zstd");
    let (_, answer) = api.send(request.body(Body::from(body)).unwrap());
    assert_eq!(answer["accepted"], 2, "{answer}");
}

#[test]
fn rejections_are_listed_up_to_a_thousand_and_counted_by_reason() {
    let api = Api::new();
    let mut bad = metric(1);
    bad["user_id"] = json!("null");
    let mut late = metric(1);
    late["timestamp"] = json!("yesterday");
    let mut events = vec![bad; 1_500];
    events.extend([late, metric(2)]);
    let (status, answer) = api.post("/v1/events/metrics", json!(events));
    assert_eq!(
        (status, &answer["accepted"]),
        (StatusCode::ACCEPTED, &json!(1))
    );
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 1_000);
    assert_eq!(answer["rejected_total"], 1_501);
    assert_eq!(
        answer["rejected_by_reason"],
        json!([
            { "field": "timestamp", "fault": "malformed", "events": 1 },
            { "field": "user_id", "fault": "placeholder_id", "events": 1_500 },
        ])
    );
    let metrics = api.text("/metrics");
    let counted = r#"trialog_ingest_rejected_events_total{kind="metrics",field="user_id",fault="placeholder_id"} 1500"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn a_repeated_key_counts_once_and_a_reused_one_is_refused() {
    let api = filled();
    let send = |body: &Value| {
        let request = Request::post("/v1/events/metrics").header("idempotency-key", "k1");
        api.send(request.body(Body::from(body.to_string())).unwrap())
    };
    assert_eq!(send(&metric(1)), send(&metric(1)));
    assert_eq!(send(&metric(2)).0, StatusCode::UNPROCESSABLE_ENTITY);
    api.post("/v1/pipeline/run", "");
    let (_, report) = api.get("/v1/experiments/gate/results?metric=sell");
    assert_eq!(
        report["detail"],
        "`metric` `sell` does not occur in this experiment; there is `buy`"
    );
    let (_, report) = api.get("/v1/experiments/gate/results?metric=buy:sum");
    assert_eq!(report["metrics"][0]["variants"][1]["events"], 5);
}

#[test]
fn a_full_queue_is_told_with_retry_after() {
    let settings = Settings {
        max_bodies_bytes: 1024,
        ..Settings::default()
    };
    let api = Api::with(settings, Options::default());
    let body = json!((0..100).map(metric).collect::<Vec<_>>()).to_string();
    let request = Request::post("/v1/events/metrics").header("content-length", body.len());
    let response = api
        .runtime
        .block_on(
            api.router
                .clone()
                .oneshot(request.body(Body::from(body)).unwrap()),
        )
        .unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
}

#[test]
fn experiments_are_created_started_changed_and_stopped() {
    let api = Api::new();
    let (status, created) = api.post("/v1/experiments", gate());
    assert_eq!(
        (status, &created["status"]),
        (StatusCode::CREATED, &json!("draft"))
    );
    assert_eq!(api.post("/v1/experiments", gate()).0, StatusCode::CONFLICT);
    assert_eq!(
        api.patch("/v1/experiments/gate", &json!({"salt": "x"})).0,
        StatusCode::OK
    );
    assert_eq!(
        api.post("/v1/experiments/gate/start", "").1["status"],
        "running"
    );
    let (status, refused) = api.patch("/v1/experiments/gate", &json!({"salt": "y"}));
    assert_eq!(
        (status, &refused["field"]),
        (StatusCode::CONFLICT, &json!("salt"))
    );
    assert_eq!(
        api.patch("/v1/experiments/gate", &json!({"owner": "me"})).1["owner"],
        "me"
    );
    assert_eq!(
        api.post("/v1/experiments/gate/stop", "").1["status"],
        "stopped"
    );
    assert_eq!(
        api.post("/v1/experiments/gate/start", "").0,
        StatusCode::CONFLICT
    );
    assert_eq!(
        api.get("/v1/experiments?status=stopped").1["experiments"][0]["experiment_id"],
        "gate"
    );
}

#[test]
fn bad_definitions_name_the_field() {
    let api = Api::new();
    let (status, answer) = api.post(
        "/v1/experiments",
        json!({"experiment_id": "x", "variants": []}),
    );
    assert_eq!(
        (status, &answer["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("variants"))
    );
    let (status, answer) = api.post(
        "/v1/experiments",
        "{\"experiment_id\": \"x\", \"variant\": []}",
    );
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["detail"]
            .as_str()
            .unwrap()
            .starts_with("`variant` is no field here; there are ")
    );
    assert_eq!(answer["field"], "variant");
}

#[test]
fn what_a_definition_has_wrong_is_told_with_the_way_to_it_and_in_plain_words() {
    let api = Api::new();
    let arms = json!([{"variant": "a"}, {"variant": "b"}]);
    let experiment = json!({"experiment_id": "x", "variants": arms});
    assert_eq!(
        api.post("/v1/experiments", &experiment).0,
        StatusCode::CREATED
    );
    for (path, body, status, field) in [
        (
            "/v1/experiments",
            json!({"experiment_id": "y", "variants": ["a"]}),
            400,
            "variants[0]",
        ),
        (
            "/v1/experiments",
            json!({"experiment_id": "y", "variants": [{"variant": "a"}, {"variant": "b", "weight": "1"}]}),
            400,
            "variants[1].weight",
        ),
        (
            "/v1/experiments",
            json!({"experiment_id": "y", "variants": [{"variant": "a"}, {"variant": "b", "weight": -1}]}),
            422,
            "variants[1].weight",
        ),
        (
            "/v1/experiments",
            json!({"variants": [{"variant": "a"}]}),
            400,
            "experiment_id",
        ),
        (
            "/v1/metrics",
            json!({"name": "m", "kind": "mean", "event_type": "e"}),
            400,
            "kind",
        ),
        ("/v1/layers", json!({"name": 7}), 400, "name"),
        (
            "/v1/holdouts",
            json!({"name": "h", "size": "5%"}),
            400,
            "size",
        ),
        ("/v1/holdouts", json!({"name": "h", "size": 5}), 422, "size"),
    ] {
        let (answered, problem) = api.post(path, &body);
        assert_eq!(
            (answered.as_u16(), &problem["field"]),
            (status, &json!(field)),
            "{body}: {problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        for word in ["expected", "struct", "sequence", "invalid type"] {
            assert!(!detail.contains(word), "{detail}");
        }
    }
    let (status, problem) = api.patch("/v1/experiments/x", &json!({"variants": [{"weight": 1}]}));
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("variants[0].variant"))
    );
}

#[test]
fn a_name_that_does_not_occur_is_told_with_those_that_do() {
    let api = Api::new();
    for id in ["gate", "shop"] {
        let arms = json!([{"variant": "a"}, {"variant": "b"}]);
        api.post(
            "/v1/experiments",
            json!({"experiment_id": id, "variants": arms}),
        );
    }
    let detail = |path: &str| api.get(path).1["detail"].as_str().unwrap().to_owned();
    let said = detail("/v1/experiments/gaet");
    assert!(
        said.ends_with("; there are `gate`, `shop`; did you mean `gate`?"),
        "{said}"
    );
    let said = detail("/v1/experiments/gate/results?control=aa");
    assert!(
        said.ends_with("; there are `a`, `b`; did you mean `a`?"),
        "{said}"
    );
    let (_, problem) = api.post(
        "/v1/assign",
        json!({"user_id": "7", "experiment_id": "gaet", "context": {}}),
    );
    let said = problem["detail"].as_str().unwrap();
    assert!(
        !said.contains("gate"),
        "an SDK's key may not list experiments: {said}"
    );
}

#[test]
fn what_is_not_there_is_a_problem_document() {
    let api = Api::new();
    assert_eq!(
        api.get("/v1/experiments/nobody/results").0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(api.get("/nowhere").1["title"], "Not Found");
    assert_eq!(
        api.get("/v1/events/metrics").0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        api.get("/v1/experiments/nobody/results?p=1").1["field"],
        "p"
    );
}

#[test]
fn events_of_an_unregistered_experiment_are_analysed_with_the_defaults() {
    let api = filled();
    let (_, shown) = api.get("/v1/experiments/gate");
    assert_eq!(shown["status"], "unregistered");
    let (_, report) = api.get("/v1/experiments/gate/results");
    assert_eq!(report["health"]["srm"], Value::Null);
    assert_eq!(
        report["variants"][1],
        json!({"variant": "b", "users": 20, "weight": null})
    );
    let kinds: Vec<&Value> = report["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| &metric["kind"])
        .collect();
    assert_eq!(kinds, ["conversion", "sum"]);
    assert_eq!(report["metrics"][0]["comparisons"][0]["flag"], Value::Null);
    assert_eq!(api.post("/v1/experiments", gate()).1["status"], "draft");
}

#[test]
fn segments_add_up_to_the_whole() {
    let api = filled();
    let sums = |query: &str| -> (u64, u64) {
        let (status, report) = api.get(&format!("/v1/experiments/gate/results?kind=sum&{query}"));
        assert_eq!(status, StatusCode::OK, "{report}");
        let row = &report["metrics"][0]["variants"][1];
        (
            row["users"].as_u64().unwrap(),
            row["converted_users"].as_u64().unwrap(),
        )
    };
    let (ios, web) = (sums("segment.platform=ios"), sums("segment.platform=web"));
    assert_eq!((ios.0 + web.0, ios.1 + web.1), sums(""));
    assert_eq!(sums("segment.platform=tv"), (0, 0));
    let (status, problem) = api.get("/v1/experiments/gate/results?segment.platfrom=ios");
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(problem["field"], "segment.platfrom");
    let reason = problem["reason"].as_str().unwrap();
    assert!(reason.contains("`platform`"), "{reason}");
    assert_eq!(
        sums("from=2025-10-09T00:00:00Z&to=2025-10-09T00:00:01Z"),
        (20, 4)
    );
    assert_eq!(sums("from=2025-10-09T00:00:01Z"), (0, 0));
}

#[test]
fn history_is_shown_as_it_was_published() {
    let api = filled();
    let (_, first) = api.get("/v1/experiments/gate/results");
    let then = first["computed_at"].as_str().unwrap();
    api.post("/v1/events/metrics", metric(9));
    api.post("/v1/pipeline/run", "");
    let (_, last) = api.get("/v1/experiments/gate/results");
    let (_, filtered) = api.get("/v1/experiments/gate/results?segment.platform=ios");
    for member in ["position", "data_time"] {
        assert_eq!(
            filtered[member], last[member],
            "a drill-down holds for the same"
        );
        assert_ne!(last[member], first[member]);
        let (_, again) = api.get(&format!("/v1/experiments/gate/results?as_of={then}"));
        assert_eq!(again[member], first[member], "as it was published then");
    }
    let events = |path: &str| api.get(path).1["metrics"][0]["variants"][1]["events"].clone();
    assert_eq!(events("/v1/experiments/gate/results"), 5);
    assert_eq!(
        events(&format!("/v1/experiments/gate/results?as_of={then}")),
        4
    );
    let (_, state) = api.get("/v1/pipeline");
    assert_eq!(
        state["published"]["position"],
        state["ingested"]["position"]
    );
    assert_eq!(state["runs"][0]["status"], "succeeded");
}
