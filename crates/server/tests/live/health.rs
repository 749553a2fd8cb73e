//! What results say about an integration that is wrong, on every way to a reader.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::harness::Api;

fn post(api: &Api, path: &str, body: &Value) -> Value {
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    let (status, answer) = api.send(Request::post(path).body(body).unwrap());
    assert!(status.is_success(), "{path}: {answer}");
    answer
}

/// The text of an answer, a page or the metrics.
fn text(api: &Api, path: &str) -> String {
    let response = api.answer(Request::get(path).body(Body::empty()).unwrap());
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24);
    String::from_utf8(api.runtime.block_on(bytes).unwrap().to_vec()).unwrap()
}

fn health(api: &Api, query: &str) -> Value {
    let path = format!("/v1/experiments/gate/results?{query}");
    let report: Value = serde_json::from_str(&text(api, &path)).unwrap();
    report["health"].clone()
}

fn codes(health: &Value) -> Vec<&str> {
    let warnings = health["warnings"].as_array().unwrap().iter();
    warnings.map(|own| own["code"].as_str().unwrap()).collect()
}

fn experiment(api: &Api, metrics: &Value) {
    let gate = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}],
                      "metrics": {"primary": metrics}});
    post(api, "/v1/experiments", &gate);
}

fn assign(api: &Api, users: std::ops::Range<i64>, variant: impl Fn(i64) -> &'static str) {
    let event = |user: i64| json!({"user_id": user, "experiment_id": "gate", "variant": variant(user), "assigned_at": "2025-09-10T00:00:00Z"});
    post(api, "/v1/events/assignments", &users.map(event).collect());
}

fn send(api: &Api, users: std::ops::Range<i64>, at: &str, value: impl Fn(i64) -> i64) {
    let event = |user: i64| {
        json!({"user_id": user, "experiment_id": "gate", "event_type": "buy", "value": value(user), "timestamp": at,
               "event_id": format!("{user} {at}")})
    };
    post(api, "/v1/events/metrics", &users.map(event).collect());
}

fn run(api: &Api) -> Value {
    post(api, "/v1/pipeline/run", &Value::Null)
}

fn by_turns(user: i64) -> &'static str {
    if user % 2 == 0 { "a" } else { "b" }
}

/// The value of `trialog_experiments_with_warning` for `code`.
fn gauge(api: &Api, code: &str) -> u64 {
    let metrics = text(api, "/metrics");
    let line = format!("trialog_experiments_with_warning{{code=\"{code}\"}} ");
    let value = metrics.lines().find_map(|own| own.strip_prefix(&line));
    value
        .unwrap_or_else(|| panic!("{metrics}"))
        .parse()
        .unwrap()
}

#[test]
fn a_sample_ratio_without_users_has_no_verdict() {
    let api = Api::new();
    experiment(&api, &json!(["buy"]));
    for run_first in [false, true] {
        if run_first {
            run(&api);
        }
        let health = health(&api, "");
        assert_eq!(health["srm"], Value::Null);
        assert_eq!(health["srm_reason"], "no user is exposed yet");
        let page = text(&api, "/experiments/gate");
        assert!(page.contains("Not measured yet: no user is exposed yet."));
        assert!(!page.contains("passed"), "nothing measured has not passed");
    }
}

#[test]
fn users_of_one_arm_only_are_an_error_everywhere() {
    let api = Api::new();
    experiment(&api, &json!(["buy"]));
    assign(&api, 0..40, |_| "a");
    assert_eq!(gauge(&api, "one_arm"), 0);
    let report = run(&api);
    assert_eq!(
        report["warnings"]["one_arm"],
        json!({"experiments": 1, "first": ["gate"]})
    );
    let shown = health(&api, "");
    assert!(codes(&shown).contains(&"one_arm"), "{shown}");
    let warnings = shown["warnings"].as_array().unwrap();
    let one_arm = warnings
        .iter()
        .find(|own| own["code"] == "one_arm")
        .unwrap();
    assert_eq!(one_arm["severity"], "error");
    assert_eq!(one_arm["numbers"]["users"], 40.0);
    let page = text(&api, "/experiments/gate");
    assert!(page.contains(r#"<p class="warning severe" role="note" data-warning="one_arm">"#));
    assert_eq!(gauge(&api, "one_arm"), 1);
    assign(&api, 40..80, |_| "b");
    run(&api);
    assert_eq!(codes(&health(&api, "")), [""; 0]);
    assert_eq!(gauge(&api, "one_arm"), 0);
}

#[test]
fn arms_that_differed_before_the_exposure_are_an_error() {
    let api = Api::new();
    let metric = json!({"name": "adjusted", "kind": "sum", "event_type": "buy", "covariate": {"period": "7d"}});
    post(&api, "/v1/metrics", &metric);
    experiment(&api, &json!(["adjusted"]));
    assign(&api, 0..400, by_turns);
    send(&api, 0..400, "2025-09-08T00:00:00Z", |user| {
        10 + user * 7 % 11 + 2 * (user % 2)
    });
    send(&api, 0..400, "2025-09-11T00:00:00Z", |user| 10 + user % 5);
    let report = run(&api);
    assert_eq!(report["warnings"]["covariate_imbalance"]["experiments"], 1);
    let shown = health(&api, "");
    assert_eq!(codes(&shown), ["covariate_imbalance"], "{shown}");
    let numbers = &shown["warnings"][0]["numbers"];
    let number = |name: &str| numbers[name].as_f64().unwrap();
    assert!((number("treatment_mean") - number("control_mean") - 2.0).abs() < 0.2);
    assert!(number("p_value") < 0.001);
    assert_eq!(shown["warnings"][0]["metric"], "adjusted");
    let page = text(&api, "/experiments/gate");
    assert!(page.contains(r#"data-warning="covariate_imbalance""#));
    assert_eq!(gauge(&api, "covariate_imbalance"), 1);
}

#[test]
fn ids_that_stand_for_nobody_are_counted_by_their_fault() {
    let api = Api::new();
    let events = ["null", "undefined", "NaN"].map(|id| {
        json!({"user_id": id, "experiment_id": "gate", "event_type": "buy", "timestamp": "2025-09-08T00:00:00Z"})
    });
    let (_, answer) = api.send(
        Request::post("/v1/events/metrics")
            .body(Body::from(json!(events).to_string()))
            .unwrap(),
    );
    assert_eq!(answer["accepted"], 0, "{answer}");
    let metrics = text(&api, "/metrics");
    let line = metrics
        .lines()
        .find(|line| line.contains("placeholder_id"))
        .unwrap();
    assert!(
        line.starts_with("trialog_ingest_rejected_events_total{") && line.ends_with(" 3"),
        "{line}"
    );
}
