//! Timelines over HTTP: each point against the results of its time, metrics that came later, and
//! what is refused.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::service::Service;

const DAY: i64 = 86_400_000_000;
/// The clock begins at 2025-10-09T08:53:20Z.
const FIRST_DAY: usize = 9;

fn registered() -> Service {
    let service = Service::new();
    let experiment = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}],
                            "metrics": {"primary": ["buy:conversion"]},
                            "plan": {"sample_size_per_variant": 5_000, "mde": 0.4}});
    let answer = service.post("/v1/experiments", experiment);
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    service
}

/// On a day 100 users of each variant are exposed; 20 of the control buy, and 40 of the treatment.
/// A user of the first day becomes one of both variants on the third.
fn expose(service: &Service, day: usize) {
    let at = |hour: usize| format!("2025-10-{:02}T{hour:02}:00:00Z", FIRST_DAY + day);
    let mut assignments = Vec::new();
    let mut events = Vec::new();
    let mut assign = |user: usize, variant: &str| {
        assignments.push(json!({"user_id": user, "experiment_id": "gate", "variant": variant, "assigned_at": at(10)}));
    };
    for (first, variant, buyers) in [(0, "a", 20), (100, "b", 40)] {
        for number in 0..100 {
            let user = 1_000 * day + first + number;
            assign(user, variant);
            if number < buyers {
                events.push(json!({"user_id": user, "experiment_id": "gate", "event_type": "buy", "value": 2,
                                   "timestamp": at(11), "event_id": user.to_string()}));
            }
        }
    }
    if day == 2 {
        assign(0, "b");
    }
    for (path, all) in [("assignments", assignments), ("metrics", events)] {
        let answer = service.post(&format!("/v1/events/{path}"), json!(all));
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    }
}

/// Runs on four days. After the second, two more metrics are defined.
fn looked_at() -> Service {
    let service = registered();
    for day in 0..4 {
        expose(&service, day);
        service.pass(DAY);
        if day == 2 {
            define_more(&service);
        }
        let run = service.post("/v1/pipeline/run", "");
        assert_eq!(run.status, StatusCode::OK, "{}", run.body);
    }
    service
}

fn define_more(service: &Service) {
    for metric in [
        json!({"name": "spend", "kind": "sum", "event_type": "buy"}),
        json!({"name": "capped", "kind": "sum", "event_type": "buy", "winsorise": {"upper": 0.99}}),
    ] {
        let answer = service.post("/v1/metrics", metric);
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    }
    let metrics =
        json!({"metrics": {"primary": ["buy:conversion"], "secondary": ["spend", "capped"]}});
    let changed = service.patch("/v1/experiments/gate", &metrics);
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
}

fn get(service: &Service, query: &str) -> Value {
    service.body(&format!("/v1/experiments/gate/timeline?{query}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The times of the points of a line, to the day.
fn days(line: &Value) -> Vec<&str> {
    let points = list(&line["points"]).iter();
    points
        .map(|point| &point["at"].as_str().unwrap()[..10])
        .collect()
}

#[test]
fn each_point_is_what_the_results_of_its_time_say() {
    let service = looked_at();
    let timeline = get(&service, "");
    assert_eq!(
        (&timeline["looks"], &timeline["control"]),
        (&json!(4), &json!("a"))
    );
    let metrics = list(&timeline["metrics"]);
    assert_eq!((metrics.len(), &metrics[0]["metric"]), (1, &json!("buy")));
    let lines = list(&metrics[0]["lines"]);
    assert_eq!(days(&lines[0]), ["2025-10-10", "2025-10-11"]);
    assert_eq!(days(&lines[1]), ["2025-10-12", "2025-10-13"]);
    assert_eq!(
        (&lines[0]["current"], &lines[1]["current"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(metrics[0]["not_backfilled"], Value::Null);
    for point in lines.iter().flat_map(|line| list(&line["points"])) {
        let at = point["at"].as_str().unwrap();
        let results = service.body(&format!(
            "/v1/experiments/gate/results?metric=buy&as_of={at}"
        ));
        let metric = &results["metrics"][0];
        for (shown, variant) in list(&point["variants"])
            .iter()
            .zip(list(&metric["variants"]))
        {
            assert_eq!(shown["variant"], variant["variant"]);
            assert_eq!(shown["users"], variant["users"], "{at}");
            assert_eq!(shown["mean"], variant["mean"]);
        }
        let (shown, comparison) = (&point["comparisons"][0], &metric["comparisons"][0]);
        assert_eq!(shown["difference"], comparison["difference"]);
        assert_eq!(shown["ci"], comparison["ci"]);
        assert_eq!(shown["always_valid_ci"], comparison["sequential"]["ci"]);
        assert_eq!(point["backfilled"], false);
    }
    let stability = &metrics[0]["stability"][0];
    assert_eq!(
        (&stability["treatment"], &stability["looks"]),
        (&json!("b"), &json!(2))
    );
    assert_eq!(stability["constant_rejected"], false);
    assert_eq!(stability["stable_since"], lines[1]["points"][0]["at"]);
    assert_eq!(stability["mde"], 0.4);
    assert_eq!(
        stability["precise_since"], lines[1]["points"][0]["at"],
        "{stability}"
    );
}

#[test]
fn a_metric_that_was_defined_later_has_its_past_days() {
    let service = looked_at();
    let spend = get(&service, "metric=spend");
    let metric = &spend["metrics"][0];
    assert_eq!(list(&metric["lines"]).len(), 1);
    let line = &metric["lines"][0];
    // The first publication with the metric is of the morning of the 12th.
    assert_eq!(
        days(line),
        [
            "2025-10-10",
            "2025-10-11",
            "2025-10-12",
            "2025-10-12",
            "2025-10-13"
        ]
    );
    let points = list(&line["points"]);
    let backfilled: Vec<_> = points
        .iter()
        .map(|point| point["backfilled"] == true)
        .collect();
    assert_eq!(backfilled, [true, true, true, false, false]);
    // One user of `a` came to both variants later, and bought.
    let users: Vec<_> = points
        .iter()
        .map(|point| &point["variants"][0]["users"])
        .collect();
    assert_eq!(users, [99, 199, 299, 299, 399]);
    let mean = points[0]["variants"][0]["mean"].as_f64().unwrap();
    assert!((mean - 2.0 * 19.0 / 99.0).abs() < 1e-12);
    // Nothing came between the end of the 11th and the run.
    assert_eq!(points[2]["variants"], points[3]["variants"]);
    assert_eq!(points[2]["comparisons"], points[3]["comparisons"]);
    assert_eq!(metric["stability"][0]["looks"], 5);

    let none = get(&service, "metric=spend&backfill=none");
    assert_eq!(
        days(&none["metrics"][0]["lines"][0]),
        ["2025-10-12", "2025-10-13"]
    );
    let all = get(&service, "backfill=all");
    assert_eq!(days(&all["metrics"][0]["lines"][1]).len(), 5);
    let capped = get(&service, "metric=capped");
    let reason = capped["metrics"][0]["not_backfilled"].as_str().unwrap();
    assert!(reason.contains("winsorised"), "{reason}");
}

#[test]
fn what_is_no_timeline_is_refused_and_without_data_there_is_an_empty_one() {
    let service = registered();
    for _ in 0..2 {
        let timeline = get(&service, "backfill=all");
        assert_eq!(timeline["metrics"][0]["stability"], json!([]));
        assert_eq!(timeline["metrics"][0]["metric"], "buy");
        service.post("/v1/pipeline/run", "");
    }
    let refused = |query: &str, status: StatusCode, said: &str| {
        let answer = service.get(&format!("/v1/experiments/gate/timeline?{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        let body = answer.body.to_string();
        assert!(body.contains(said), "{query}: {body}");
    };
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    refused("metric=byu", unprocessable, "did you mean `buy`?");
    refused(
        "metric=buy:sum",
        unprocessable,
        "measures `buy` as conversion",
    );
    refused("control=z", unprocessable, "is no variant");
    refused(
        "from=2025-01-01T00:00:00Z",
        StatusCode::BAD_REQUEST,
        "use metric, control, alpha or backfill",
    );
    refused(
        "backfill=some",
        StatusCode::BAD_REQUEST,
        "missing, all or none",
    );
    let unknown = service.get("/v1/experiments/gaet/timeline");
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.body);
}
