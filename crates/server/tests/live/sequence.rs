//! Looks at an experiment while it runs: which count, the planned one, what is locked.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::service::Service;

const DAY: i64 = 86_400_000_000;
/// The clock begins at 2025-10-09T08:53:20Z.
const FIRST_DAY: u32 = 9;

fn at(day: u32) -> String {
    format!("2025-10-{:02}T10:00:00Z", FIRST_DAY + day)
}

fn send(service: &Service, kind: &str, rows: &[Value]) {
    let answer = service.post(&format!("/v1/events/{kind}"), json!(rows));
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    assert_eq!(answer.body["rejected"], json!([]));
}

/// Exposes these users on a day; those of `b` who are not a multiple of 16 buy, and a
/// quarter of those of `a`.
fn expose(service: &Service, users: std::ops::Range<u32>, day: u32) {
    let user = |user: u32| {
        json!({"user_id": format!("u{user}"), "experiment_id": "gate",
               "variant": if user.is_multiple_of(2) { "a" } else { "b" }, "assigned_at": at(day)})
    };
    send(
        service,
        "assignments",
        &users.clone().map(user).collect::<Vec<_>>(),
    );
    let buys = |user: &u32| {
        if user.is_multiple_of(2) {
            user.is_multiple_of(8)
        } else {
            user % 16 != 1
        }
    };
    let buyers = users.filter(buys).map(|user| buy(user, day));
    send(service, "metrics", &buyers.collect::<Vec<_>>());
}

fn buy(user: u32, day: u32) -> Value {
    json!({"user_id": format!("u{user}"), "experiment_id": "gate", "event_type": "buy", "value": 1,
           "timestamp": at(day).replace("10:00", "11:00"), "event_id": format!("{user} {day}")})
}

fn started(service: &Service, more: &Value) {
    let mut experiment = json!({"experiment_id": "gate", "attribution_window": "1d",
        "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy:conversion"]}});
    for (field, value) in more.as_object().unwrap() {
        experiment[field] = value.clone();
    }
    assert_eq!(
        service.post("/v1/experiments", experiment).status,
        StatusCode::CREATED
    );
    assert_eq!(
        service.post("/v1/experiments/gate/start", "").status,
        StatusCode::OK
    );
}

fn report(service: &Service, query: &str) -> Value {
    let answer = service.get(&format!("/v1/experiments/gate/results?{query}"));
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body
}

fn run(service: &Service) -> Value {
    assert_eq!(service.post("/v1/pipeline/run", "").status, StatusCode::OK);
    report(service, "")
}

fn comparison(report: &Value) -> &Value {
    &report["metrics"][0]["comparisons"][0]
}

fn codes(report: &Value) -> Vec<&str> {
    let warnings = report["health"]["warnings"].as_array().unwrap();
    warnings
        .iter()
        .map(|warning| warning["code"].as_str().unwrap())
        .collect()
}

#[test]
fn the_planned_look_is_the_first_with_enough_mature_users_and_its_outcome_stands() {
    let service = Service::new();
    let plan = json!({"plan": {"sample_size_per_variant": 40, "power": 0.8}});
    started(&service, &plan);
    expose(&service, 0..100, 0);
    service.pass(DAY / 2);
    let early = run(&service);
    let headline = &comparison(&early)["headline"];
    assert_eq!(headline["test"], "always_valid");
    assert_eq!(headline["alpha"], 0.01);
    assert_eq!(
        early["sequence"]["planned"],
        json!({"sample_size_per_variant": 40, "alpha": 0.04, "at": null})
    );
    // The windows have closed, and a week has not passed.
    service.pass(2 * DAY);
    assert_eq!(run(&service)["sequence"]["planned"]["at"], Value::Null);
    // Nobody comes in any more: the passing of time alone makes it due.
    service.pass(5 * DAY);
    let planned = run(&service);
    let at = planned["computed_at"].clone();
    assert_eq!(planned["sequence"]["planned"]["at"], at);
    let headline = comparison(&planned)["headline"].clone();
    assert_eq!(
        (
            &headline["test"],
            &headline["alpha"],
            &headline["at"],
            &headline["flag"],
            &headline["desirable"]
        ),
        (
            &json!("fixed_horizon"),
            &json!(0.04),
            &at,
            &json!("significant"),
            &json!(true)
        )
    );
    assert_eq!(headline["p_value"], comparison(&planned)["p_value"]);
    // Later data change the numbers of this look, and not the outcome.
    expose(&service, 100..200, 7);
    let late: Vec<Value> = (0..100).step_by(2).map(|user| buy(user, 0)).collect();
    send(&service, "metrics", &late);
    let later = run(&service);
    assert_eq!(comparison(&later)["headline"], headline);
    assert!(comparison(&later)["p_value"].as_f64() > comparison(&planned)["p_value"].as_f64());
    // Asked otherwise than planned, it is not the planned look's answer.
    for query in ["alpha=0.1", "correction=none", "control=b"] {
        let other = report(&service, query);
        assert_eq!(
            comparison(&other)["headline"]["test"],
            "always_valid",
            "{query}"
        );
    }
}

#[test]
fn an_arm_whose_users_are_not_mature_keeps_the_planned_look_waiting() {
    let service = Service::new();
    started(&service, &json!({"plan": {"sample_size_per_variant": 40}}));
    expose(&service, 0..70, 0);
    service.pass(8 * DAY);
    assert_eq!(
        run(&service)["sequence"]["planned"]["at"],
        Value::Null,
        "35 users an arm"
    );
    expose(&service, 70..90, 8);
    service.pass(DAY / 2);
    assert_eq!(
        run(&service)["sequence"]["planned"]["at"],
        Value::Null,
        "35 mature ones"
    );
    service.pass(DAY);
    assert_ne!(run(&service)["sequence"]["planned"]["at"], Value::Null);
}

#[test]
fn the_smallest_p_value_stays_when_the_rows_that_gave_it_are_gone() {
    let service = Service::keeping(1);
    started(&service, &json!({}));
    expose(&service, 0..200, 0);
    service.pass(DAY / 4);
    let first = run(&service);
    let smallest = comparison(&first)["sequential"]["p_value"].clone();
    let since = first["computed_at"].clone();
    for round in 1..4 {
        let late: Vec<Value> = (0..200)
            .step_by(2)
            .map(|user| buy(user + 1000 * round, 0))
            .collect();
        let late = late.into_iter().map(|mut row| {
            row["user_id"] = json!(
                row["user_id"]
                    .as_str()
                    .unwrap()
                    .replace(&format!("u{round}"), "u")
            );
            row
        });
        send(&service, "metrics", &late.collect::<Vec<_>>());
        let all: Vec<Value> = (0..200).step_by(2).map(|user| buy(user, 0)).collect();
        send(&service, "metrics", &all);
        service.pass(1_000_000);
        let report = run(&service);
        let sequential = &comparison(&report)["sequential"];
        assert_eq!(sequential["p_value"], smallest, "{sequential}");
        assert_eq!(sequential["since"], since);
    }
    let gone = service.get(&format!(
        "/v1/experiments/gate/results?as_of={}",
        since.as_str().unwrap()
    ));
    assert_eq!(
        gone.body["computed_at"],
        Value::Null,
        "the first look is gone"
    );
}

#[test]
fn looks_at_users_who_were_erased_no_longer_count() {
    let service = Service::new();
    started(&service, &json!({}));
    expose(&service, 0..200, 0);
    service.pass(DAY / 4);
    let before = run(&service);
    let smallest = comparison(&before)["sequential"]["p_value"]
        .as_f64()
        .unwrap();
    let all: Vec<Value> = (0..200).step_by(2).map(|user| buy(user, 0)).collect();
    send(&service, "metrics", &all);
    assert_eq!(
        comparison(&run(&service))["sequential"]["p_value"].as_f64(),
        Some(smallest)
    );
    assert_eq!(service.delete("/v1/users/u3").status, StatusCode::OK);
    let after = report(&service, "");
    let sequential = &comparison(&after)["sequential"];
    assert_eq!(sequential["looks"], 1);
    assert!(
        sequential["p_value"].as_f64().unwrap() > 10.0 * smallest,
        "{sequential}"
    );
    assert!(codes(&after).contains(&"looks_before_erasure"));
    let breaks = &after["sequence"]["breaks"];
    assert_eq!(
        (&breaks[0]["reason"], breaks.as_array().unwrap().len()),
        (&json!("erasure"), 1)
    );
    // What was published before stays as it was.
    let then = report(
        &service,
        &format!("as_of={}", before["computed_at"].as_str().unwrap()),
    );
    assert_eq!(
        comparison(&then)["sequential"],
        comparison(&before)["sequential"]
    );
    service.pass(1);
    assert_eq!(
        comparison(&run(&service))["sequential"]["looks"],
        1,
        "nothing touched it"
    );
    send(&service, "metrics", &[buy(5, 0)]);
    expose(&service, 200..210, 0);
    assert_eq!(comparison(&run(&service))["sequential"]["looks"], 2);
}

#[test]
fn what_results_are_tested_with_is_locked_after_the_start() {
    let service = Service::new();
    let revenue = json!({"name": "revenue", "kind": "sum", "event_type": "buy"});
    assert_eq!(
        service.post("/v1/metrics", &revenue).status,
        StatusCode::CREATED
    );
    let plan = json!({"sample_size_per_variant": 40});
    let metrics = json!({"primary": ["buy:conversion", "revenue"], "secondary": ["visit"]});
    started(&service, &json!({"plan": plan, "metrics": metrics}));
    expose(&service, 0..100, 0);
    service.pass(DAY / 2);
    let first = run(&service);
    assert_eq!(comparison(&first)["headline"]["flag"], "significant");
    let changes = [
        ("alpha", json!({"alpha": 0.1})),
        ("attribution_window", json!({"attribution_window": "2d"})),
        ("control", json!({"control": "b"})),
        ("plan", json!({"plan": null})),
        ("start_at", json!({"start_at": "2025-10-09T00:00:00Z"})),
    ];
    for (field, change) in &changes {
        let refused = service.patch("/v1/experiments/gate", change);
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
        assert_eq!(
            (&refused.body["field"], &refused.body["fields"]),
            (&json!(field), &json!([field]))
        );
        assert!(
            refused.body["detail"].as_str().unwrap().contains("confirm"),
            "{}",
            refused.body
        );
    }
    for change in [
        json!({"window": "3d"}),
        json!({"direction": "decrease"}),
        json!({"winsorise": {"upper": 0.99}}),
    ] {
        let refused = service.patch("/v1/metrics/revenue", &change);
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
        assert!(
            refused.body["field"]
                .as_str()
                .unwrap()
                .starts_with("revenue.")
        );
    }
    // A definition of this name would stand before the event type that was meant.
    let taken = json!({"name": "buy", "kind": "conversion", "event_type": "other"});
    assert_eq!(
        service.post("/v1/metrics", &taken).status,
        StatusCode::CONFLICT
    );
    // The rest changes as before, and so do metrics that decide nothing.
    let free = json!({"name": "visit", "kind": "count", "event_type": "visit"});
    assert_eq!(
        service.post("/v1/metrics", &free).status,
        StatusCode::CREATED
    );
    for (path, change) in [
        ("/v1/metrics/visit", json!({"window": "3d"})),
        ("/v1/metrics/revenue", json!({"owner": "shop"})),
        (
            "/v1/experiments/gate",
            json!({"owner": "shop", "control": "a"}),
        ),
    ] {
        assert_eq!(
            service.patch(path, &change).status,
            StatusCode::OK,
            "{change}"
        );
    }
    let refused = service.post("/v1/experiments/gate/confirm", "");
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.body);
    assert_eq!(run(&service)["sequence"]["breaks"], json!([]));
}

#[test]
fn each_primary_metric_has_its_planned_effect_and_tests_share_alpha_and_power() {
    let service = Service::new();
    let slow = json!({"name": "slow", "kind": "sum", "event_type": "buy", "margin": 0.01, "direction": "decrease"});
    assert_eq!(
        service.post("/v1/metrics", &slow).status,
        StatusCode::CREATED
    );
    let plan = |mdes: Value| json!({"sample_size_per_variant": 40, "mde": 0.1, "power": 0.8, "mdes": mdes});
    let metrics = json!({"primary": ["buy:conversion", "buy:sum"], "guardrail": ["slow"]});
    for (mdes, field) in [
        (json!({"visit": 1.0}), "plan.mdes.visit"),
        (json!({"buy:count": 1.0}), "plan.mdes.buy:count"),
        (json!({"buy:sum": 0.0}), "plan.mdes.buy:sum"),
    ] {
        let refused = service.post(
            "/v1/experiments",
            json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}],
                   "metrics": metrics, "plan": plan(mdes)}),
        );
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.body["field"], field, "{}", refused.body);
    }
    let planned = json!({"metrics": metrics, "plan": plan(json!({"buy:sum": 0.5}))});
    started(&service, &planned);
    expose(&service, 0..200, 0);
    service.pass(DAY / 2);
    let report = run(&service);
    let power = |metric: usize| report["metrics"][metric]["comparisons"][0]["power"].clone();
    let expected = [
        (json!(0.1), json!(0.02), json!(0.9)),
        (json!(0.5), json!(0.02), json!(0.9)),
        (Value::Null, json!(0.04), json!(0.9)),
    ];
    for (metric, (mde, alpha, of_a_test)) in expected.into_iter().enumerate() {
        let block = power(metric);
        assert_eq!(
            (&block["planned_mde"], &block["alpha"], &block["power"]),
            (&mde, &alpha, &of_a_test),
            "{block}"
        );
    }
}

#[test]
fn a_guardrail_with_a_margin_is_locked_and_may_be_told_which_way_is_good() {
    let service = Service::new();
    for guardrail in [
        json!({"name": "slow", "kind": "sum", "event_type": "wait", "margin": 0.01}),
        json!({"name": "free", "kind": "sum", "event_type": "wait"}),
    ] {
        assert_eq!(
            service.post("/v1/metrics", &guardrail).status,
            StatusCode::CREATED
        );
    }
    let metrics = json!({"primary": ["buy:conversion"], "guardrail": ["slow", "free"]});
    started(&service, &json!({"metrics": metrics}));
    for (name, change, status) in [
        ("slow", json!({"margin": 0.05}), StatusCode::CONFLICT),
        ("slow", json!({"window": "3d"}), StatusCode::CONFLICT),
        ("slow", json!({"direction": "decrease"}), StatusCode::OK),
        (
            "slow",
            json!({"direction": "increase"}),
            StatusCode::CONFLICT,
        ),
        ("free", json!({"margin": 0.05}), StatusCode::OK),
    ] {
        let answer = service.patch(&format!("/v1/metrics/{name}"), &change);
        assert_eq!(answer.status, status, "{name} {change}: {}", answer.body);
    }
}

#[test]
fn an_erasure_leaves_the_outcome_of_the_planned_look_and_takes_none_again() {
    let service = Service::new();
    started(&service, &json!({"plan": {"sample_size_per_variant": 40}}));
    expose(&service, 0..100, 0);
    service.pass(8 * DAY);
    let planned = run(&service);
    let headline = comparison(&planned)["headline"].clone();
    assert_eq!(headline["test"], "fixed_horizon");
    assert_eq!(service.delete("/v1/users/u3").status, StatusCode::OK);
    expose(&service, 100..200, 8);
    service.pass(2 * DAY);
    let later = run(&service);
    assert_eq!(comparison(&later)["headline"], headline);
    assert_eq!(
        later["sequence"]["planned"]["at"],
        planned["sequence"]["planned"]["at"]
    );
    assert!(codes(&later).contains(&"looks_before_erasure"));
}

#[test]
fn a_change_after_the_start_takes_the_verdict_away_until_it_is_confirmed() {
    let service = Service::new();
    let revenue = json!({"name": "revenue", "kind": "sum", "event_type": "buy"});
    assert_eq!(
        service.post("/v1/metrics", &revenue).status,
        StatusCode::CREATED
    );
    started(
        &service,
        &json!({"metrics": {"primary": ["buy:conversion", "revenue"]}}),
    );
    expose(&service, 0..300, 0);
    service.pass(DAY / 2);
    run(&service);
    let bad = service.patch(
        "/v1/experiments/gate",
        &json!({"alpha": 0.1, "confirm": "yes"}),
    );
    assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{}", bad.body);
    for (path, change) in [
        (
            "/v1/experiments/gate",
            json!({"alpha": 0.1, "confirm": true}),
        ),
        (
            "/v1/metrics/revenue",
            json!({"window": "3d", "confirm": true}),
        ),
    ] {
        assert_eq!(
            service.patch(path, &change).status,
            StatusCode::OK,
            "{change}"
        );
        service.pass(1);
    }
    let changed = run(&service);
    let buy = comparison(&changed);
    assert_eq!(buy["headline"]["flag"], Value::Null, "{buy}");
    assert!(
        buy["headline"]["p_value"].is_number()
            && buy["headline"]["reason"]
                .as_str()
                .unwrap()
                .contains("confirm")
    );
    assert_eq!(buy["sequential"]["looks"], 1);
    assert!(codes(&changed).contains(&"changed_after_start"));
    let breaks = &changed["sequence"]["breaks"][0];
    assert_eq!(
        (&breaks["reason"], &breaks["fields"]),
        (&json!("definition"), &json!(["alpha", "revenue.window"]))
    );
    let by_segment = report(&service, "from=2025-01-01T00:00:00Z");
    assert_eq!(comparison(&by_segment)["headline"]["flag"], Value::Null);
    assert_eq!(
        service.post("/v1/experiments/gate/confirm", "").status,
        StatusCode::OK
    );
    let confirmed = report(&service, "");
    assert_eq!(comparison(&confirmed)["headline"]["flag"], "significant");
    assert!(confirmed["sequence"]["breaks"][0]["confirmed_at"].is_string());
    let audit = service.get("/v1/experiments/gate/audit");
    let actions: Vec<&str> = audit.body["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    for action in ["change_after_start", "confirm"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
}

#[test]
fn the_sample_ratio_is_checked_at_every_look_while_it_runs_and_once_when_it_is_stopped() {
    let service = Service::new();
    started(&service, &json!({}));
    // 700 against 300 users: the sequential test sees it, and keeps seeing it.
    let users: Vec<Value> = (0..1000)
        .map(|user| {
            json!({"user_id": format!("u{user}"), "experiment_id": "gate",
            "variant": if user % 10 < 7 { "a" } else { "b" }, "assigned_at": at(0)})
        })
        .collect();
    send(&service, "assignments", &users);
    service.pass(DAY / 2);
    let first = run(&service);
    let srm = &first["health"]["srm"];
    assert_eq!(
        (&srm["test"], &srm["failed"]),
        (&json!("sequential"), &json!(true)),
        "{srm}"
    );
    let smallest = srm["sequential_p_value"].as_f64().unwrap();
    assert!(smallest < 0.01 && srm["chi_squared"].is_number());
    let others: Vec<Value> = (1000..1400)
        .map(|user| json!({"user_id": format!("u{user}"), "experiment_id": "gate", "variant": "b", "assigned_at": at(0)}))
        .collect();
    send(&service, "assignments", &others);
    let second = run(&service);
    let srm = &second["health"]["srm"];
    assert_eq!(
        (&srm["sequential_p_value"], &srm["failed"]),
        (&json!(smallest), &json!(true))
    );
    assert!(codes(&second).contains(&"srm"));
    assert_eq!(
        service.post("/v1/experiments/gate/stop", "").status,
        StatusCode::OK
    );
    let stopped = report(&service, "");
    let srm = &stopped["health"]["srm"];
    assert_eq!(
        (&srm["test"], &srm["failed"]),
        (&json!("chi_squared"), &json!(false)),
        "{srm}"
    );
}
