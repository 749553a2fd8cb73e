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

/// Without the one that there are few users, as makes a test quick.
fn codes(health: &Value) -> Vec<&str> {
    let warnings = health["warnings"].as_array().unwrap().iter();
    let codes = warnings.map(|warning| warning["code"].as_str().unwrap());
    codes.filter(|code| *code != "few_events").collect()
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
    let value = metrics.lines().find_map(|shown| shown.strip_prefix(&line));
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
        .find(|warning| warning["code"] == "one_arm")
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

#[test]
fn events_under_another_kind_of_id_are_an_error_everywhere() {
    let api = Api::new();
    experiment(&api, &json!(["buy"]));
    assign(&api, 0..40, by_turns);
    send(&api, 1_000..1_400, "2025-09-11T00:00:00Z", |_| 1);
    let report = run(&api);
    let warned = json!({"experiments": 1, "first": ["gate"]});
    assert_eq!(report["warnings"]["events_without_exposure"], warned);
    let shown = health(&api, "");
    assert_eq!(codes(&shown), ["events_without_exposure"]);
    let warning = &shown["warnings"][0];
    assert_eq!(warning["severity"], "error");
    assert_eq!(warning["event_type"], "buy");
    assert_eq!(
        warning["message"],
        "400 `buy` events of 400 users, none from an exposed user"
    );
    let action = warning["action"].as_str().unwrap();
    assert!(action.contains("another kind of id"), "{action}");
    assert!(action.contains("`1000`, `1001`"), "{action}");
    let counts = &shown["events"][0];
    assert_eq!(
        (&counts["events"], &counts["unexposed"]),
        (&json!(400), &json!(400))
    );
    assert_eq!(counts["unexposed_sample"][0], "1000");
    let page = text(&api, "/experiments/gate");
    let severe = r#"<p class="warning severe" role="note" data-warning="events_without_exposure">"#;
    assert!(page.contains(severe) && page.contains("none from an exposed user"));
    assert!(text(&api, "/").contains("events without exposure"));
    assert_eq!(gauge(&api, "events_without_exposure"), 1);

    let filtered = health(&api, "from=2025-01-01T00:00:00Z");
    assert_eq!(filtered["events"], Value::Null);
    assert_eq!(
        codes(&filtered),
        [""; 0],
        "a filter says nothing of arrivals"
    );

    for step in ["start", "stop"] {
        post(&api, &format!("/v1/experiments/gate/{step}"), &Value::Null);
    }
    run(&api);
    assert_eq!(gauge(&api, "events_without_exposure"), 0, "it was stopped");
}

#[test]
fn no_exposure_at_all_and_exposures_that_are_missing_or_late_are_told_apart() {
    let action = |exposed: i64, early: i64, late: i64| {
        let api = Api::new();
        experiment(&api, &json!(["buy"]));
        if exposed > 0 {
            assign(&api, 0..exposed, by_turns);
        }
        send(&api, 0..early, "2025-09-09T23:00:00Z", |_| 1);
        send(&api, early..late, "2025-09-10T01:00:00Z", |_| 1);
        run(&api);
        let shown = health(&api, "");
        let warnings = shown["warnings"].as_array().unwrap().clone();
        let found = warnings
            .into_iter()
            .find(|warning| warning["code"] == "events_without_exposure");
        let found = found.unwrap_or_else(|| panic!("{shown}"));
        let severity = found["severity"].as_str().unwrap().to_owned();
        (severity, found["action"].as_str().unwrap().to_owned())
    };
    let (severity, none) = action(0, 0, 100);
    assert!(none.contains("no exposure came in"), "{none}");
    assert_eq!(severity, "error");
    let (severity, never) = action(100, 0, 140);
    assert!(never.contains("never logged"), "{never}");
    assert_eq!(severity, "warning");
    let (_, late) = action(100, 30, 140);
    assert!(late.contains("logged late, as 30 more"), "{late}");
}

#[test]
fn events_before_the_exposure_and_after_the_window_are_warned_of() {
    let api = Api::new();
    experiment(&api, &json!(["buy"]));
    assign(&api, 0..200, by_turns);
    send(&api, 0..100, "2025-09-09T23:59:00Z", |_| 1);
    send(&api, 0..100, "2025-09-25T00:00:00Z", |_| 1);
    run(&api);
    let shown = health(&api, "");
    assert_eq!(
        codes(&shown),
        ["events_before_exposure", "events_after_window"]
    );
    let counts = &shown["events"][0];
    assert_eq!(
        (&counts["before_exposure"], &counts["after_window"]),
        (&json!(100), &json!(100))
    );
    assert_eq!(gauge(&api, "events_before_exposure"), 1);
    assert_eq!(gauge(&api, "events_after_window"), 1);
    let page = text(&api, "/experiments/gate");
    assert!(page.contains("(50 %) happened before the user"), "{page}");
}
