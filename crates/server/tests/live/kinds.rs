//! Metrics of every kind, sequential tests and guardrails in the results of an experiment.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::service::Service;

const N_USERS: i64 = 400;

fn assignment(user: i64) -> Value {
    let variant = if user % 2 == 0 { "a" } else { "b" };
    json!({"user_id": user, "experiment_id": "gate", "variant": variant, "assigned_at": "2025-09-10T00:00:00Z"})
}

fn event(user: i64, event_type: &str, value: i64, at: &str) -> Value {
    let event_id = format!("{user} {event_type} {at}");
    json!({"user_id": user, "experiment_id": "gate", "event_type": event_type, "value": value, "timestamp": at, "event_id": event_id})
}

/// Users of `b` buy for 1 more, and were about to do so before.
fn with_events(metrics: &[Value], named: &Value) -> Service {
    let service = Service::new();
    for metric in metrics {
        assert_eq!(
            service.post("/v1/metrics", metric.clone()).status,
            StatusCode::CREATED
        );
    }
    let experiment = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": named,
                            "plan": {"sample_size_per_variant": 1000, "mde": 0.5, "power": 0.9}});
    assert_eq!(
        service.post("/v1/experiments", experiment).status,
        StatusCode::CREATED
    );
    let users = 0..N_USERS;
    service.post(
        "/v1/events/assignments",
        json!(users.clone().map(assignment).collect::<Vec<_>>()),
    );
    let of_user = |user: i64| {
        let habit = user * 7919 % 11;
        [
            event(user, "buy", habit + 4, "2025-09-08T00:00:00Z"),
            event(user, "buy", habit + 5 + user % 2, "2025-09-11T00:00:00Z"),
            event(user, "visit", 1 + user % 3, "2025-09-11T00:00:00Z"),
        ]
    };
    service.post(
        "/v1/events/metrics",
        json!(users.flat_map(of_user).collect::<Vec<_>>()),
    );
    service.post("/v1/pipeline/run", "");
    service
}

fn results(service: &Service, query: &str) -> Value {
    service.body(&format!("/v1/experiments/gate/results?{query}"))
}

fn metric<'r>(report: &'r Value, name: &str) -> &'r Value {
    let found = report["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|metric| metric["metric"] == name);
    found.unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn every_kind_is_tested_by_its_own_family() {
    let metrics = [
        json!({"name": "per_visit", "kind": "ratio", "event_type": "buy", "denominator": "visit"}),
        json!({"name": "p75", "kind": "quantile", "event_type": "buy", "quantile": 0.75}),
        json!({"name": "adjusted", "kind": "sum", "event_type": "buy", "covariate": {"period": "7d"}}),
        json!({"name": "capped", "kind": "sum", "event_type": "buy", "winsorise": {"upper": 0.9}}),
        json!({"name": "back", "kind": "retention", "event_type": "visit", "retention": {"to": "2d"}}),
    ];
    let named = json!({"primary": ["per_visit", "p75", "adjusted", "capped", "back", "buy:sum"]});
    let service = with_events(&metrics, &named);
    let report = results(&service, "");
    let comparison = |name: &str| metric(&report, name)["comparisons"][0].clone();
    let tests = ["per_visit", "p75", "adjusted", "capped", "back", "buy"]
        .map(|name| comparison(name)["test"].clone());
    let expected = [
        "ratio_metric",
        "quantile_metric",
        "cuped",
        "welch_t",
        // Fewer than 5 users did not come back.
        "fisher_exact",
        "welch_t",
    ];
    assert_eq!(tests, expected);

    let ratio = metric(&report, "per_visit");
    for variant in ratio["variants"].as_array().unwrap() {
        let [total, visits] = ["total", "second_total"]
            .map(|field| variant[field].as_str().unwrap().parse::<f64>().unwrap());
        assert!(
            (number(&variant["mean"]) - total / visits).abs() < 1e-12,
            "{variant}"
        );
    }
    // What users did before tells nearly everything, so that little noise is left.
    let [plain, adjusted] = ["buy", "adjusted"].map(|name| {
        let compared = comparison(name);
        number(&compared["difference"]) / number(&compared["statistic"])
    });
    assert!(adjusted < plain / 5.0, "{adjusted} {plain}");
    assert!((number(&comparison("adjusted")["difference"]) - 1.0).abs() < 0.1);
    let capped = &metric(&report, "capped")["variants"][1];
    assert!(number(&capped["winsorised"]["users"]) > 0.0);
    assert!(
        number(&capped["mean"]) < capped["total"].as_str().unwrap().parse::<f64>().unwrap() / 200.0
    );
    assert_eq!(comparison("back")["difference"], json!(0.0));
}

#[test]
fn adjusted_intervals_share_the_level_of_their_family() {
    let named = json!({"primary": ["buy:sum", "buy:conversion", "visit:sum"]});
    let service = with_events(&[], &named);
    let report = results(&service, "");
    // The conversion of everybody has no test, and keeps its place.
    let alone = results(&service, "alpha=0.016666666666666666&correction=none");
    for (together, alone) in
        (report["metrics"].as_array().unwrap().iter()).zip(alone["metrics"].as_array().unwrap())
    {
        let (together, alone) = (&together["comparisons"][0], &alone["comparisons"][0]);
        assert_eq!(together["adjusted_ci"], alone["ci"], "{together}");
        if let Some(p_value) = together["p_value"].as_f64().filter(|p| *p < 0.01) {
            assert!(
                (number(&together["adjusted_p_value"]) / p_value - 3.0).abs() < 1e-9,
                "{together}"
            );
        }
    }
}

/// A small arm that has missed the rare large values, and a variant of weight 0.
fn with_a_small_arm() -> Service {
    let service = Service::new();
    for metric in [
        json!({"name": "p75", "kind": "quantile", "event_type": "big", "quantile": 0.75}),
        json!({"name": "loss", "kind": "sum", "event_type": "lose", "direction": "increase", "margin": 0.1}),
    ] {
        assert_eq!(
            service.post("/v1/metrics", metric).status,
            StatusCode::CREATED
        );
    }
    let experiment = json!({"experiment_id": "gate", "control": "a",
        "variants": [{"variant": "a", "weight": 9}, {"variant": "b"}, {"variant": "c", "weight": 0}],
        "metrics": {"primary": ["big:sum", "big:conversion", "p75"], "guardrail": ["loss", "big:count"]}});
    assert_eq!(
        service.post("/v1/experiments", experiment).status,
        StatusCode::CREATED
    );
    let variant = |user: i64| match user {
        0..180 => "a",
        180..200 => "b",
        _ => "c",
    };
    let assignments = (0..203).map(|user| {
        let mut event = assignment(user);
        event["variant"] = json!(variant(user));
        event
    });
    service.post(
        "/v1/events/assignments",
        json!(assignments.collect::<Vec<_>>()),
    );
    // Nobody of the small arm has one of the rare large values, and everybody loses.
    let of_user = |user: i64| {
        let at = "2025-09-11T00:00:00Z";
        let lost = if user < 180 { -10 } else { -5 };
        let mut events = vec![event(user, "lose", lost - user % 3, at)];
        if user < 180 && user % 9 == 0 {
            events.push(event(user, "big", 1_000, at));
        }
        events
    };
    let events: Vec<Value> = (0..203).flat_map(of_user).collect();
    service.post("/v1/events/metrics", json!(events));
    service.post("/v1/pipeline/run", "");
    service
}

#[test]
fn what_has_no_verdict_says_why_and_is_warned_of() {
    let service = with_a_small_arm();
    let report = results(&service, "");
    let comparison = |name: &str, kind: &str| {
        let all = report["metrics"].as_array().unwrap().iter();
        let mut found = all.filter(|metric| metric["metric"] == name && metric["kind"] == kind);
        found.next().unwrap()["comparisons"][0].clone()
    };

    let sum = comparison("big", "sum");
    assert_eq!(
        (&sum["sparse"], &sum["flag"]),
        (&json!(true), &Value::Null),
        "{sum}"
    );
    assert!(
        sum["flag_reason"]
            .as_str()
            .unwrap()
            .contains("rare large values")
    );
    assert_eq!(sum["adjusted_p_value"], Value::Null);
    assert_eq!(sum["headline"]["flag"], "not_significant");
    let rate = comparison("big", "conversion");
    assert_eq!(
        (&rate["test"], &rate["flag"]),
        (&json!("fisher_exact"), &json!("not_significant"))
    );
    let quantile = comparison("p75", "quantile");
    assert!(
        quantile["flag_reason"]
            .as_str()
            .unwrap()
            .contains("share one value"),
        "{quantile}"
    );
    assert_eq!(quantile["headline"]["test"], Value::Null);
    // A control below 0: what is larger is better, by a half of it.
    let loss = comparison("loss", "sum");
    assert!(number(&loss["relative_difference"]) > 0.3, "{loss}");
    assert_eq!(loss["non_inferiority"]["verdict"], "kept", "{loss}");
    assert_eq!(loss["headline"]["desirable"], true, "{loss}");

    let warnings = report["health"]["warnings"].as_array().unwrap();
    for (code, metric) in [
        ("sparse", json!("big")),
        ("few_events", json!("big")),
        ("tied_quantile", json!("p75")),
        ("guardrail_without_direction", json!("big")),
        ("exposed_at_weight_0", Value::Null),
    ] {
        let found = warnings.iter().find(|warning| warning["code"] == code);
        assert_eq!(
            found.unwrap_or_else(|| panic!("{code}: {warnings:?}"))["metric"],
            metric
        );
    }
    assert_eq!(
        report["health"]["srm"]["df"], 1,
        "the variant of weight 0 has no part in it"
    );
}

#[test]
fn the_always_valid_p_value_is_the_smallest_of_all_looks() {
    let service = with_events(&[], &json!({"primary": ["buy:sum"]}));
    let sequential = |query: &str| {
        metric(&results(&service, query), "buy")["comparisons"][0]["sequential"].clone()
    };
    let first = sequential("");
    assert_eq!(
        (&first["looks"], &first["tuning"]),
        (&json!(1), &json!(2000.0))
    );
    assert!(number(&first["p_value"]) < 0.1, "{first}");
    let computed_at = results(&service, "")["computed_at"]
        .as_str()
        .unwrap()
        .to_owned();
    // Users of `a` catch up, and the difference is gone.
    let late: Vec<Value> = (0..N_USERS)
        .step_by(2)
        .map(|user| event(user, "buy", 1, "2025-09-12T00:00:00Z"))
        .collect();
    service.post("/v1/events/metrics", json!(late));
    service.post("/v1/pipeline/run", "");
    let second = sequential("");
    assert_eq!(
        (&second["looks"], &second["p_value"]),
        (&json!(2), &first["p_value"])
    );
    assert!(
        number(&second["ci"][0]) < 0.0,
        "the interval is that of this look: {second}"
    );
    assert_eq!(sequential(&format!("as_of={computed_at}")), first);
    // A drill-down was never published: it has this look only.
    let now = sequential("from=2020-01-01T00:00:00Z");
    assert_eq!(now["looks"], 1);
    assert!(number(&now["p_value"]) > number(&second["p_value"]));
    // Another meaning of the metric is another test.
    service.patch(
        "/v1/experiments/gate",
        &json!({"attribution_window": "36h"}),
    );
    service.post("/v1/pipeline/run", "");
    assert_eq!(sequential("")["looks"], 1);
}

#[test]
fn a_guardrail_is_kept_violated_or_cannot_be_told_yet() {
    let define = |name: &str, direction: &str, margin: f64| json!({"name": name, "kind": "sum", "event_type": "buy", "direction": direction, "margin": margin});
    // Users of `b` buy for about a tenth more.
    let metrics = [
        define("more_is_good", "increase", 0.02),
        define("less_is_good", "decrease", 0.5),
        define("less_is_very_good", "decrease", 0.01),
        define("cannot_tell", "decrease", 0.1),
    ];
    let names: Vec<&Value> = metrics.iter().map(|metric| &metric["name"]).collect();
    let service = with_events(&metrics, &json!({"guardrail": names}));
    let report = results(&service, "");
    let verdict =
        |name: &str| metric(&report, name)["comparisons"][0]["non_inferiority"]["verdict"].clone();
    let verdicts = [
        "more_is_good",
        "less_is_good",
        "less_is_very_good",
        "cannot_tell",
    ]
    .map(verdict);
    assert_eq!(verdicts, ["kept", "kept", "violated", "inconclusive"]);
}

#[test]
fn the_power_block_says_what_the_users_are_enough_for() {
    let service = with_events(
        &[],
        &json!({"primary": ["buy:sum"], "secondary": ["visit:sum"]}),
    );
    let report = results(&service, "");
    let buy = &metric(&report, "buy")["comparisons"][0];
    let power = &buy["power"];
    assert_eq!(
        (&power["power"], &power["planned_mde"]),
        (&json!(0.9), &json!(0.5))
    );
    // (2.053749 + 1.281552) standard errors: four fifths of alpha are for the planned look.
    let standard_error = number(&buy["difference"]) / number(&buy["statistic"]);
    let detectable = 3.335_300_5 * standard_error;
    assert!(
        (number(&power["detectable_effect"]) / detectable - 1.0).abs() < 1e-6,
        "{power}"
    );
    let needed = 400.0 * (detectable / 0.5).powi(2) - 400.0;
    assert!(
        (number(&power["users_needed"]) - needed).abs() <= 1.0,
        "{power} {needed}"
    );
    assert_eq!(report["plan"]["share"], json!(0.2));
    let secondary = &metric(&report, "visit")["comparisons"][0]["power"];
    assert_eq!(secondary["planned_mde"], Value::Null);
}

#[test]
fn a_kind_without_its_definition_is_named_in_a_warning() {
    let service = with_events(&[], &json!({"primary": ["buy:ratio", "buy:sum"]}));
    let report = results(&service, "");
    let warnings = report["health"]["warnings"].as_array().unwrap();
    let found = warnings
        .iter()
        .find(|warning| warning["code"] == "metric_not_defined");
    let message = found.unwrap()["message"].as_str().unwrap();
    assert!(message.contains("buy:ratio"), "{message}");
    let asked = service.get("/v1/experiments/gate/results?metric=buy:quantile");
    assert_eq!(
        asked.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        asked.body
    );
}

#[test]
fn a_cap_of_0_is_warned_of() {
    let capped = |over: &str| {
        let large = json!({"name": "large", "kind": "sum", "event_type": "buy", "min_value": "15",
                           "winsorise": {"upper": 0.8, "of": over}});
        let service = with_events(&[large], &json!({"primary": ["large", "buy:sum"]}));
        let report = results(&service, "");
        let warnings = report["health"]["warnings"].as_array().unwrap();
        let found = warnings
            .iter()
            .find(|warning| warning["code"] == "cap_of_zero");
        let message = found.map(|warning| warning["message"].as_str().unwrap().to_owned());
        let action = found.map(|warning| warning["action"].as_str().unwrap_or_default().to_owned());
        let message = message.map(|message| format!("{message}: {}", action.unwrap_or_default()));
        (message, metric(&report, "large")["variants"].clone())
    };
    let (message, variants) = capped("all_users");
    let message = message.unwrap();
    assert!(
        message.contains("`large`") && message.contains("users_with_event"),
        "{message}"
    );
    assert_eq!(variants[1]["winsorised"]["upper"], "0.0000");
    assert_eq!(variants[1]["mean"], 0.0);
    let (message, variants) = capped("users_with_event");
    assert_eq!(message, None);
    assert_eq!(variants[1]["winsorised"]["upper"], "16.0000");
    assert!(number(&variants[1]["mean"]) > 0.0, "{variants}");
}
