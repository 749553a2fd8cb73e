//! Cohorts over HTTP: days of exposure against filtered results, days since the exposure against
//! counts that are known, verdicts, and what is refused.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::service::Service;

/// Users of each variant who are exposed on each day.
const N_USERS: usize = 150;

/// Registers an experiment with a conversion, a count and a metric whose window is longer.
fn registered() -> Service {
    let service = Service::new();
    let long =
        json!({"name": "stays", "kind": "conversion", "event_type": "visit", "window": "3650d"});
    assert_eq!(
        service.post("/v1/metrics", long).status,
        StatusCode::CREATED
    );
    let experiment = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}],
                            "metrics": {"primary": ["buy:conversion", "visit:count"], "secondary": ["buy:sum"], "guardrail": ["stays"]}});
    let answer = service.post("/v1/experiments", experiment);
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    service
}

/// On each of four days 150 users of each variant are exposed. Of the control 30 buy, of the
/// treatment 10 more on each day than on the day before. All users visit on each of four days since
/// the exposure: those of the control twice, those of the treatment eight, four, three and two
/// times.
fn filled() -> Service {
    let service = registered();
    let mut assignments = Vec::new();
    let mut events = Vec::new();
    for (place, variant) in ["a", "b"].into_iter().enumerate() {
        for number in 0..4 * N_USERS {
            let (day, within) = (number / N_USERS, number % N_USERS);
            let user = place * 10_000 + number;
            let time =
                |day: usize, second: usize| format!("2025-09-{:02}T23:59:{second:02}Z", 10 + day);
            assignments.push(json!({"user_id": user, "experiment_id": "gate", "variant": variant, "assigned_at": time(day, 0),
                                    "context": {"platform": if within < 50 { "ios" } else { "web" }}}));
            let mut event = |event_type: &str, at: String, value: u64, copy: usize| {
                events.push(json!({"user_id": user, "experiment_id": "gate", "event_type": event_type, "timestamp": at, "value": value,
                                   "event_id": format!("{user} {event_type} {at} {copy}")}));
            };
            let n_buyers = if place == 0 { 30 } else { 30 + 10 * day };
            if within < n_buyers {
                event("buy", time(day, 1), 3, 0);
            }
            for (later, visits) in [8, 4, 3, 2].into_iter().enumerate() {
                let visits = if place == 0 { 2 } else { visits };
                // Not all users visit equally often, and those who do do so on every day.
                let visits = if within % 2 == 0 { visits + 1 } else { visits };
                for copy in 0..visits {
                    event("visit", time(day + later, 2), 1, copy);
                }
            }
        }
    }
    for (path, all) in [("assignments", assignments), ("metrics", events)] {
        for some in all.chunks(5_000) {
            let answer = service.post(&format!("/v1/events/{path}"), json!(some));
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        }
    }
    service.post("/v1/pipeline/run", "");
    service
}

fn get(service: &Service, query: &str) -> Value {
    service.body(&format!("/v1/experiments/gate/cohorts?{query}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn each_day_of_exposure_has_the_results_of_its_users() {
    let service = filled();
    let cohorts = get(&service, "by=exposure_day");
    let days = list(&cohorts["exposure_days"]["days"]);
    let dates: Vec<&str> = days
        .iter()
        .map(|day| day["day"].as_str().unwrap())
        .collect();
    assert_eq!(
        dates,
        ["2025-09-10", "2025-09-11", "2025-09-12", "2025-09-13"]
    );
    for (at, day) in days.iter().enumerate() {
        let (from, to) = (10 + at, 11 + at);
        let range = format!("from=2025-09-{from}T00:00:00Z&to=2025-09-{to}T00:00:00Z");
        let filtered = service.body(&format!("/v1/experiments/gate/results?{range}"));
        for same in ["health", "variants"] {
            assert_eq!(day[same], filtered[same], "{same} of {from}");
        }
        // Of ten years nobody's window has closed.
        let closed = list(&filtered["metrics"]).iter();
        let closed: Vec<&Value> = closed
            .filter(|metric| metric["metric"] != "stays")
            .collect();
        assert_eq!(list(&day["metrics"]).iter().collect::<Vec<_>>(), closed);
        assert_eq!(day["open_metrics"], json!(["stays"]));
        assert_eq!(day["users"], 2 * N_USERS);
        let b = &day["metrics"][0]["variants"][1];
        assert_eq!(b["converted_users"], 30 + 10 * at);
        assert_eq!(day["health"]["srm"]["failed"], false);
    }
    let drift = list(&cohorts["exposure_days"]["drift"]);
    assert_eq!(drift.len(), 2, "two primary metrics, one treatment");
    let buy = &drift[0];
    assert_eq!((&buy["metric"], &buy["days"]), (&json!("buy"), &json!(4)));
    assert_eq!(buy["drifts"], true, "{buy}");
    // 10 of 150 more on each day.
    let slope = buy["slope"].as_f64().unwrap();
    assert!((slope - 10.0 / 150.0).abs() < 1e-3, "{slope}");
    assert!(buy["adjusted_p_value"].as_f64() > buy["p_value"].as_f64());
    assert_eq!(drift[1]["drifts"], false, "every day has the same visits");

    let web = get(
        &service,
        "by=exposure_day&segment.platform=web&metric=buy:conversion",
    );
    let days = &web["exposure_days"]["days"];
    assert_eq!(
        (&days[0]["users"], list(&days[0]["metrics"]).len()),
        (&json!(200), 1)
    );
    assert_eq!(web["filter"]["segment"], json!({"platform": "web"}));
    let drift = list(&web["exposure_days"]["drift"]);
    assert_eq!((drift.len(), &drift[0]["drifts"]), (1, &Value::Null));
    assert!(
        drift[0]["reason"]
            .as_str()
            .unwrap()
            .contains("two are needed"),
        "none buys: {drift:?}"
    );
    let one = get(&service, "by=exposure_day&from=2025-09-12T00:00:00Z");
    assert_eq!(list(&one["exposure_days"]["days"]).len(), 2);
    // No window of ten years has closed, so there is no day yet.
    let open = get(&service, "by=exposure_day&metric=stays");
    assert_eq!(open["exposure_days"]["days"], json!([]));
    assert_eq!(open["exposure_days"]["open_users"], 8 * N_USERS);
}

#[test]
fn a_fixed_cohort_is_followed_from_day_to_day() {
    let service = filled();
    let cohorts = get(&service, "by=days_since_exposure&days=4");
    let since = &cohorts["days_since_exposure"];
    assert_eq!(since["users"], json!({"a": 600, "b": 600}));
    assert_eq!(
        (&since["days"], &since["open_users"]),
        (&json!(4), &json!(0))
    );
    let metrics = list(&since["metrics"]);
    let names: Vec<_> = metrics
        .iter()
        .map(|metric| metric["metric"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["buy", "visit"], "primary metrics alone");

    let visits = &metrics[1];
    let days = |variant: usize, field: &str| -> Vec<Value> {
        let days = list(&visits["variants"][variant]["days"]).iter();
        days.map(|day| day[field].clone()).collect()
    };
    assert_eq!(visits["variants"][0]["variant"], "a");
    assert_eq!(days(0, "total"), ["1500.0000"; 4]);
    assert_eq!(
        days(1, "total"),
        ["5100.0000", "2700.0000", "2100.0000", "1500.0000"]
    );
    assert_eq!(days(1, "mean"), [8.5, 4.5, 3.5, 2.5]);
    assert_eq!(days(1, "active_users"), [600; 4]);
    let novelty = &visits["comparisons"][0];
    assert_eq!(novelty["verdict"], "fading", "{novelty}");
    assert!(novelty["slope"].as_f64().unwrap() < 0.0);
    let first = novelty["days"][0]["log_ratio"].as_f64().unwrap();
    assert!((first - (8.5_f64 / 2.5).ln()).abs() < 1e-12);

    let buys = &metrics[0]["comparisons"][0];
    assert_eq!(
        (&buys["verdict"], &buys["p_value"]),
        (&Value::Null, &Value::Null)
    );
    let reason = buys["reason"].as_str().unwrap();
    assert!(reason.contains("on two days"), "{reason}");

    let secondary = get(&service, "by=days_since_exposure&days=3&metric=buy:sum");
    let metrics = list(&secondary["days_since_exposure"]["metrics"]);
    assert_eq!(
        (metrics.len(), &metrics[0]["role"]),
        (1, &json!("secondary"))
    );
    let total = &metrics[0]["variants"][0]["days"][0]["total"];
    assert_eq!(total, "360.0000", "120 buy for 3 each");
    let few = get(
        &service,
        "by=days_since_exposure&days=4&segment.platform=ios&from=2025-09-13T00:00:00Z",
    );
    let reason = few["days_since_exposure"]["metrics"][1]["comparisons"][0]["reason"].as_str();
    assert!(reason.unwrap().contains("has 50 users"), "{reason:?}");
    let short = get(&service, "by=days_since_exposure&days=2&metric=visit");
    let reason = short["days_since_exposure"]["metrics"][0]["comparisons"][0]["reason"].as_str();
    assert!(
        reason.unwrap().contains("a trend needs 3 days"),
        "{reason:?}"
    );
}

#[test]
fn what_cannot_be_a_cohort_is_refused_with_what_is_missing() {
    let service = filled();
    let refused = |query: &str, status: StatusCode, said: &str| {
        let answer = service.get(&format!("/v1/experiments/gate/cohorts?{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        let body = answer.body.to_string();
        assert!(body.contains(said), "{query}: {body}");
    };
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    let bad = StatusCode::BAD_REQUEST;
    refused("", unprocessable, "is missing");
    refused("by=week", bad, "exposure_day or days_since_exposure");
    refused("by=days_since_exposure&days=0", bad, "from 1 to 14");
    refused("by=days_since_exposure&days=15", bad, "from 1 to 14");
    refused(
        "by=exposure_day&days=3",
        unprocessable,
        "days_since_exposure",
    );
    for by in ["exposure_day", "days_since_exposure"] {
        let metric = format!("by={by}&metric=visitt");
        refused(&metric, unprocessable, "did you mean `visit`?");
        refused(
            &format!("by={by}&control=z"),
            unprocessable,
            "is no variant",
        );
        refused(&format!("by={by}&segment.plattform=ios"), bad, "plattform");
    }
    let unknown = service.get("/v1/experiments/gaet/cohorts?by=exposure_day");
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{}", unknown.body);
}

#[test]
fn an_experiment_without_data_has_no_cohorts() {
    let service = registered();
    for has_run in [false, true] {
        let days = get(&service, "by=exposure_day");
        assert_eq!(days["computed_at"].is_null(), !has_run);
        assert_eq!(days["exposure_days"]["days"], json!([]));
        assert_eq!(days["exposure_days"]["drift"], json!([]));
        assert_eq!(days["days_since_exposure"], Value::Null);
        let since = get(&service, "by=days_since_exposure");
        assert_eq!(since["days_since_exposure"]["days"], 7);
        assert_eq!(since["days_since_exposure"]["open_users"], 0);
        for metric in list(&since["days_since_exposure"]["metrics"]) {
            let reason = metric["comparisons"][0]["reason"].as_str().unwrap();
            assert!(reason.contains("has 0 users"), "{reason}");
        }
        service.post("/v1/pipeline/run", "");
    }
}
