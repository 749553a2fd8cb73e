//! Funnels over HTTP: counts that are known, tests, and what is refused.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::service::Service;

/// Of each variant 100 users view, `adds` of them add, and `buys` of those buy: within 5 minutes
/// the even ones, after an hour the odd ones.
pub(crate) fn filled() -> Service {
    let service = Service::new();
    let experiment = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}],
                            "metrics": {"primary": ["buy:conversion"]}});
    assert_eq!(
        service.post("/v1/experiments", experiment).status,
        StatusCode::CREATED
    );
    let mut assignments = Vec::new();
    let mut events = Vec::new();
    for (variant, first, adds, buys) in [("a", 0, 60, 20), ("b", 1_000, 80, 50)] {
        for number in 0..100 {
            let user = first + number;
            assignments.push(json!({"user_id": user, "experiment_id": "gate", "variant": variant,
                                    "assigned_at": "2025-09-10T00:00:00Z", "context": {"platform": if number < 50 { "ios" } else { "web" }}}));
            let mut event = |event_type: &str, at: &str| {
                events.push(json!({"user_id": user, "experiment_id": "gate", "event_type": event_type, "timestamp": at,
                                   "event_id": format!("{user} {event_type}")}));
            };
            event("view", "2025-09-10T01:00:00Z");
            if number < adds {
                event("add", "2025-09-10T02:00:00Z");
            }
            if number < buys {
                event(
                    "buy",
                    if number % 2 == 0 {
                        "2025-09-10T02:05:00Z"
                    } else {
                        "2025-09-10T03:00:00Z"
                    },
                );
            }
        }
    }
    service.post("/v1/events/assignments", json!(assignments));
    service.post("/v1/events/metrics", json!(events));
    service.post("/v1/pipeline/run", "");
    service
}

pub(crate) fn get(service: &Service, query: &str) -> Value {
    service.body(&format!("/v1/experiments/gate/funnel?{query}"))
}

/// The users of each step, by variant.
pub(crate) fn users(funnel: &Value) -> Vec<Vec<u64>> {
    let variants = funnel["variants"].as_array().unwrap().iter();
    let steps = |variant: &Value| {
        let steps = variant["steps"].as_array().unwrap().iter();
        steps.map(|step| step["users"].as_u64().unwrap()).collect()
    };
    variants.map(steps).collect()
}

#[test]
fn a_funnel_has_the_users_of_each_step_and_says_where_a_difference_arises() {
    let service = filled();
    let funnel = get(&service, "steps=view,add,buy");
    assert_eq!(users(&funnel), [[100, 60, 20], [100, 80, 50]]);
    assert_eq!(
        (&funnel["control"], &funnel["filter"]),
        (&json!("a"), &Value::Null)
    );
    assert_eq!(funnel["variants"][1]["steps"][2]["from_previous"], 0.625);
    assert_eq!(funnel["variants"][1]["steps"][2]["lost"], 30);
    let steps = funnel["comparisons"][0]["steps"].as_array().unwrap();
    assert_eq!(steps[2]["difference"], 0.3);
    assert_eq!(steps[2]["significant"], true);
    assert_eq!(
        steps[0]["p_value"],
        Value::Null,
        "all users of both variants view"
    );
    let of_steps: f64 = steps
        .iter()
        .map(|step| step["step_log_ratio"].as_f64().unwrap())
        .sum();
    assert!((of_steps - steps[2]["log_ratio"].as_f64().unwrap()).abs() < 1e-12);
    assert!((of_steps - 2.5_f64.ln()).abs() < 1e-12);
    assert_eq!(funnel["health"]["srm"]["failed"], false);

    // Within 10 minutes of the step before, only the even ones buy.
    let limited = get(&service, "steps=view,add,buy&limits=,,10m");
    assert_eq!(users(&limited), [[100, 60, 10], [100, 80, 25]]);
    assert_eq!(limited["limits"], json!([null, null, "10m"]));
    let short = get(&service, "steps=view,add,buy&window=2h");
    assert_eq!(users(&short), [[100, 0, 0], [100, 0, 0]]);
    let of_segment = get(&service, "steps=view,buy&segment.platform=web");
    assert_eq!(users(&of_segment), [[50, 0], [50, 0]]);
    let other = get(&service, "steps=view,buy&control=b");
    assert_eq!(other["variants"][0]["variant"], "b");
    assert_eq!(
        users(&get(&service, "steps=buy,add")),
        [[20, 0], [50, 0]],
        "no add follows a purchase"
    );
}

#[test]
fn what_cannot_be_a_funnel_is_refused_with_what_is_missing() {
    let service = filled();
    let refused = |query: &str, status: StatusCode, said: &str| {
        let answer = service.get(&format!("/v1/experiments/gate/funnel?{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        let body = answer.body.to_string();
        assert!(body.contains(said), "{query}: {body}");
    };
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    refused("", unprocessable, "is missing");
    refused("steps=view", unprocessable, "2 to 20");
    refused("steps=view,ad", unprocessable, "did you mean `add`?");
    refused(
        "steps=view,buy&limits=1h",
        unprocessable,
        "one for each step",
    );
    let bad = StatusCode::BAD_REQUEST;
    refused("steps=view,buy&window=0d", bad, "window");
    refused("steps=view,buy&limits=,0m", bad, "limits");
    refused("steps=view,buy&platform=ios", bad, "platform");
    refused("steps=view,buy&segment.plattform=ios", bad, "plattform");
    let unknown = service.get("/v1/experiments/gaet/funnel?steps=view,buy");
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.body);
}

#[test]
fn an_experiment_without_data_has_an_empty_funnel() {
    let service = Service::new();
    let experiment = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}],
                            "metrics": {"primary": ["buy:conversion"]}});
    service.post("/v1/experiments", experiment);
    let before = get(&service, "steps=view,buy");
    assert_eq!(
        (&before["computed_at"], users(&before)),
        (&Value::Null, vec![vec![0, 0]; 2])
    );
    service.post("/v1/pipeline/run", "");
    let after = get(&service, "steps=view,buy");
    assert_eq!(users(&after), [[0, 0], [0, 0]]);
    assert_eq!(after["variants"][0]["steps"][0]["rate"], Value::Null);
    assert_eq!(after["comparisons"][0]["steps"][0]["p_value"], Value::Null);
}
