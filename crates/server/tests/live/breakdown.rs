//! Results by the values of context keys: each segment is what a filter chooses.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::service::Service;

const N_USERS: i64 = 600;

/// One user in three has no platform; there are more shops than segments.
fn context(user: i64) -> Value {
    let mut context = json!({"shop": user % 60, "vip": user % 2 == 0});
    match user % 3 {
        0 => context["platform"] = json!("ios"),
        1 => context["platform"] = json!("android, \"old\""),
        _ => context["platform"] = Value::Null,
    }
    context
}

fn filled() -> Service {
    let service = Service::new();
    let metrics = [
        json!({"name": "spend", "kind": "sum", "event_type": "buy", "winsorise": {"upper": 0.9}}),
        json!({"name": "median", "kind": "quantile", "event_type": "buy", "quantile": 0.5}),
        json!({"name": "per_visit", "kind": "ratio", "event_type": "buy", "denominator": "visit"}),
        json!({"name": "adjusted", "kind": "sum", "event_type": "buy", "covariate": {"period": "7d"}}),
        json!({"name": "came_back", "kind": "retention", "event_type": "visit", "retention": {"from": "1d", "to": "2d"}}),
    ];
    for metric in metrics {
        let answer = service.post("/v1/metrics", metric);
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    }
    let experiment = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}],
                            "metrics": {"primary": ["buy:conversion"], "secondary": ["spend", "median", "per_visit", "adjusted", "came_back"]}});
    service.post("/v1/experiments", experiment);
    let assignment = |user: i64| {
        let variant = if user % 4 < 2 { "a" } else { "b" };
        json!({"user_id": user, "experiment_id": "gate", "variant": variant, "assigned_at": "2025-09-10T00:00:00Z", "context": context(user)})
    };
    let mut assignments: Vec<Value> = (0..N_USERS).map(assignment).collect();
    // A crossover and a forced user, of values that nobody else has.
    for (variant, forced) in [("a", false), ("b", true)] {
        assignments.push(json!({"user_id": -1, "experiment_id": "gate", "variant": variant, "forced": forced,
                                "assigned_at": "2025-09-10T00:00:00Z", "context": {"platform": "tv"}}));
    }
    service.post("/v1/events/assignments", json!(assignments));
    let event = |user: i64, event_type: &str, value: i64, at: &str| {
        json!({"user_id": user, "experiment_id": "gate", "event_type": event_type, "value": value, "timestamp": at,
               "event_id": format!("{user} {event_type} {at}")})
    };
    let events = (0..N_USERS).flat_map(|user| {
        [
            event(user, "buy", user * 7919 % 11, "2025-09-08T00:00:00Z"),
            event(
                user,
                "buy",
                user * 7907 % 13 + user % 2,
                "2025-09-11T00:00:00Z",
            ),
            event(user, "visit", 1 + user % 3, "2025-09-11T12:00:00Z"),
        ]
    });
    service.post("/v1/events/metrics", json!(events.collect::<Vec<_>>()));
    service.post("/v1/pipeline/run", "");
    service
}

/// Percent-encodes a value of a query.
fn encode(text: &str) -> String {
    let bytes = text.bytes();
    bytes.map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn each_segment_equals_the_results_that_are_filtered_by_its_values() {
    let service = filled();
    for by in ["platform", "shop", "vip", "platform,vip", "shop,platform"] {
        let breakdown = service.body(&format!("/v1/experiments/gate/breakdown?by={by}"));
        let segments = breakdown["segments"].as_array().unwrap();
        let mut n_compared = 0;
        for segment in segments {
            let Some(values) = segment["values"].as_object() else {
                continue;
            };
            let pairs: Option<Vec<String>> = (values.iter())
                .map(|(key, value)| Some(format!("segment.{key}={}", encode(value.as_str()?))))
                .collect();
            // No filter chooses users without a value.
            let Some(pairs) = pairs else { continue };
            let path = format!("/v1/experiments/gate/results?{}", pairs.join("&"));
            let filtered = service.body(&path);
            for part in ["variants", "metrics"] {
                assert_eq!(segment[part], filtered[part], "{by}: {}", segment["label"]);
            }
            assert_eq!(segment["health"]["srm"], filtered["health"]["srm"]);
            n_compared += 1;
        }
        assert!(n_compared >= 2, "{by}: {n_compared}");
        let users = segments
            .iter()
            .map(|segment| segment["users"].as_i64().unwrap());
        assert_eq!(users.sum::<i64>(), N_USERS, "{by}");
    }
}

#[test]
fn the_largest_values_come_first_then_the_missing_and_the_others() {
    let service = filled();
    let labels = |by: &str| -> Vec<String> {
        let breakdown = service.body(&format!("/v1/experiments/gate/breakdown?by={by}"));
        let segments = breakdown["segments"].as_array().unwrap().iter();
        segments
            .map(|segment| segment["label"].as_str().unwrap().to_owned())
            .collect()
    };
    // The crossover has a value that no exposed user has.
    assert_eq!(
        labels("platform"),
        ["android, \"old\"", "ios", "(missing)", "(other)"]
    );
    // Everybody has a shop but the crossover, who counts in no segment.
    let shops = labels("shop");
    assert_eq!((shops.len(), shops[50].as_str()), (51, "(other)"));
    assert_eq!(
        labels("vip,platform")[..2],
        ["false, android, \"old\"", "false, ios"]
    );
    let breakdown = service.body("/v1/experiments/gate/breakdown?by=shop&segment.vip=true");
    assert_eq!(breakdown["n_values"], 30);
    assert_eq!(breakdown["filter"]["segment"]["vip"], "true");
}

#[test]
fn what_cannot_be_broken_down_is_said() {
    let service = filled();
    let refused = |path: &str| {
        let answer = service.get(&format!("/v1/experiments/{path}"));
        (
            answer.status,
            answer.body["detail"].as_str().unwrap().to_owned(),
        )
    };
    let (status, detail) = refused("gate/breakdown");
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(detail.contains("by=platform"), "{detail}");
    let (status, detail) = refused("gate/breakdown?by=platfrom");
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(detail.contains("`platform`"), "{detail}");
    let (status, detail) = refused("gate/breakdown?by=vip,platfrom");
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(detail.contains("`platfrom`"), "{detail}");
    assert_eq!(
        refused("gate/breakdown?by=a,b,c").0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(refused("nobody/breakdown?by=a").0, StatusCode::NOT_FOUND);
    service.post(
        "/v1/experiments",
        json!({"experiment_id": "draft", "variants": [{"variant": "a"}, {"variant": "b"}]}),
    );
    let draft = service.body("/v1/experiments/draft/breakdown?by=platform");
    assert_eq!(
        (&draft["segments"], &draft["computed_at"]),
        (&json!([]), &Value::Null)
    );
}

#[test]
fn several_keys_give_what_each_gives_by_itself() {
    let service = filled();
    let groups = ["platform", "shop", "vip", "platform,vip"];
    let path = |name: &str, query: &str| format!("/v1/experiments/gate/{name}?{query}");
    let query = groups.map(|by| format!("by={by}")).join("&");
    let together = service.body(&path("breakdowns", &query));
    let together = together["breakdowns"].as_array().unwrap();
    assert_eq!(together.len(), groups.len());
    for (by, breakdown) in groups.iter().zip(together) {
        let alone = service.body(&path("breakdown", &format!("by={by}")));
        assert_eq!(*breakdown, alone, "{by}");
        assert!(breakdown["segments"].as_array().unwrap().len() > 2, "{by}");
    }
    let filtered = "by=platform&by=vip&segment.shop=7&metric=spend";
    let together = service.body(&path("breakdowns", filtered));
    let alone = service.body(&path("breakdown", "by=vip&segment.shop=7&metric=spend"));
    assert_eq!(together["breakdowns"][1], alone);
    let slip = service.get(&path("breakdowns", "by=platform&by=vipp"));
    assert_eq!(slip.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(slip.body.to_string().contains("vip"), "{}", slip.body);
}

/// A number that nothing else about the user goes with.
fn draw(user: i64) -> u64 {
    user.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}

/// The treatment works on phones alone. Every user has a shop of their own but for the first
/// hundreds, and one in twenty no platform.
fn with_an_effect_on_phones(segments: &Value) -> Service {
    let service = Service::new();
    let experiment = json!({"experiment_id": "pay", "variants": [{"variant": "a"}, {"variant": "b"}, {"variant": "c"}],
                            "metrics": {"primary": ["buy:conversion", "buy:count"], "secondary": ["visit:conversion"]},
                            "segments": segments});
    let created = service.post("/v1/experiments", experiment);
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
    let platform = |user: i64| match user % 20 {
        0 => Value::Null,
        1..7 => json!("phone"),
        7..13 => json!("web"),
        13 => json!("tv"),
        _ => json!("tablet"),
    };
    let variant = |user: i64| ["a", "b", "c"][(user / 20 % 3) as usize];
    let users = 0..9_000;
    let assignments = users.clone().map(|user| {
        json!({"user_id": user, "experiment_id": "pay", "variant": variant(user), "assigned_at": "2025-09-10T00:00:00Z",
               "context": {"platform": platform(user), "shop": user}})
    });
    service.post(
        "/v1/events/assignments",
        json!(assignments.collect::<Vec<_>>()),
    );
    let buys = |user: &i64| {
        let works = variant(*user) == "b" && platform(*user) == "phone";
        draw(*user) % 10 < if works { 4 } else { 2 }
    };
    let events = users.filter(buys).map(|user| {
        json!({"user_id": user, "experiment_id": "pay", "event_type": "buy", "timestamp": "2025-09-11T00:00:00Z"})
    });
    service.post("/v1/events/metrics", json!(events.collect::<Vec<_>>()));
    service.post("/v1/pipeline/run", "");
    service
}

/// The test of `metric` for `treatment`.
fn test_of<'b>(breakdown: &'b Value, metric: &str, kind: &str, treatment: &str) -> &'b Value {
    let tests = breakdown["heterogeneity"].as_array().unwrap();
    let mut tests = tests.iter().filter(|test| {
        test["metric"] == metric && test["kind"] == kind && test["treatment"] == treatment
    });
    tests.next().unwrap()
}

#[test]
fn a_segment_with_an_effect_of_its_own_is_named() {
    let service = with_an_effect_on_phones(&json!(["platform"]));
    let breakdown = service.body("/v1/experiments/pay/breakdown?by=platform");
    assert_eq!(breakdown["evidence"], "confirmatory");
    let test = test_of(&breakdown, "buy", "conversion", "b");
    assert_eq!(test["verdict"], "differs", "{test}");
    let named = |test: &Value| -> Vec<String> {
        let segments = test["segments"].as_array().unwrap().iter();
        let named = segments.filter(|segment| segment["named"] == true);
        named
            .map(|segment| segment["segment"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(named(test), ["phone"]);
    for segment in test["segments"].as_array().unwrap() {
        let (raw, shrunk) = (
            segment["difference"].as_f64().unwrap(),
            segment["shrunk"].as_f64().unwrap(),
        );
        let pooled = test["pooled_difference"].as_f64().unwrap();
        assert!(
            (shrunk - pooled).abs() <= (raw - pooled).abs() + 0.05,
            "{segment}"
        );
    }
    let without = test_of(&breakdown, "buy", "conversion", "c");
    assert_eq!(without["verdict"], "no_difference_found", "{without}");
    assert_eq!(named(without), [""; 0]);
    // Four tests: Holm multiplies the smallest p-value by four.
    let smallest = test["p_value"].as_f64().unwrap().min(
        test_of(&breakdown, "buy", "count", "b")["p_value"]
            .as_f64()
            .unwrap(),
    );
    let adjusted = breakdown["heterogeneity"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|test| test["adjusted_p_value"].as_f64());
    assert!((adjusted.fold(1.0, f64::min) - 4.0 * smallest).abs() <= 1e-12 * smallest);
    let secondary = test_of(&breakdown, "visit", "conversion", "b");
    assert_eq!(secondary["verdict"], Value::Null);
    assert!(secondary["reason"].is_string(), "{secondary}");
}

#[test]
fn keys_asked_for_together_share_the_level_and_later_ones_are_exploratory() {
    let service = with_an_effect_on_phones(&json!([]));
    let both = service.body("/v1/experiments/pay/breakdowns?by=platform&by=shop");
    let alone = service.body("/v1/experiments/pay/breakdown?by=platform");
    assert_eq!(alone["evidence"], "exploratory");
    // Users of a shop are one each: all of them are tested together, so there is no test.
    let shop = &both["breakdowns"][1];
    let test = test_of(shop, "buy", "conversion", "b");
    assert_eq!(
        (&test["verdict"], &test["p_value"]),
        (&Value::Null, &Value::Null)
    );
    assert!(
        test["reason"]
            .as_str()
            .unwrap()
            .contains("fewer than two segments"),
        "{test}"
    );
    assert_eq!(test["small"].as_array().unwrap().len(), 50);
    assert_eq!(
        both["breakdowns"][0]["heterogeneity"],
        alone["heterogeneity"]
    );
}

#[test]
fn declared_segments_are_checked_and_frozen_after_the_start() {
    let service = Service::new();
    let experiment = |segments: Value| json!({"experiment_id": "pay", "variants": [{"variant": "a"}, {"variant": "b"}], "segments": segments});
    let many: Vec<String> = (0..11).map(|key| format!("k{key}")).collect();
    for bad in [
        json!([""]),
        json!(["a,b"]),
        json!(["a", "a"]),
        json!(["a\u{202e}"]),
        json!(many),
    ] {
        let answer = service.post("/v1/experiments", experiment(bad.clone()));
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{bad}: {}",
            answer.body
        );
        assert!(
            answer.body.to_string().contains("segments"),
            "{}",
            answer.body
        );
    }
    let created = service.post("/v1/experiments", experiment(json!(["platform"])));
    assert_eq!(created.body["segments"], json!(["platform"]));
    let draft = service.body("/v1/experiments/pay/breakdown?by=platform");
    assert_eq!(
        (&draft["evidence"], &draft["heterogeneity"]),
        (&json!("confirmatory"), &json!([]))
    );
    let change =
        |segments: Value| service.patch("/v1/experiments/pay", &json!({ "segments": segments }));
    assert_eq!(
        change(json!(["platform", "country"])).status,
        StatusCode::OK
    );
    service.post("/v1/experiments/pay/start", "");
    let late = change(json!(["platform", "country", "age"]));
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.body);
    assert!(
        late.body.to_string().contains("exploratory"),
        "{}",
        late.body
    );
}

#[test]
fn the_context_lists_keys_with_their_values() {
    let service = with_an_effect_on_phones(&json!(["platform"]));
    let context = service.body("/v1/experiments/pay/context");
    assert_eq!(
        (&context["users"], &context["n_keys"]),
        (&json!(9_000), &json!(2))
    );
    let keys = context["keys"].as_array().unwrap();
    assert_eq!(keys[0]["key"], "shop");
    assert_eq!(
        (&keys[0]["users"], &keys[0]["n_values"]),
        (&json!(9_000), &json!(9_000))
    );
    assert_eq!(keys[0]["values"].as_array().unwrap().len(), 50);
    let platform = json!({"key": "platform", "users": 8_550, "n_values": 4, "is_declared": true, "values": [
        {"value": "phone", "users": 2_700}, {"value": "tablet", "users": 2_700}, {"value": "web", "users": 2_700}, {"value": "tv", "users": 450}]});
    assert_eq!(keys[1], platform);
    // Keys of users who do not count are no keys.
    let gate = filled().body("/v1/experiments/gate/context");
    let names: Vec<&str> = gate["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["key"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["shop", "vip", "platform"]);
    assert_eq!(gate["keys"][2]["n_values"], 2);
}

#[test]
fn the_context_of_a_draft_and_of_nothing() {
    let service = Service::new();
    let draft = json!({"experiment_id": "pay", "variants": [{"variant": "a"}, {"variant": "b"}]});
    service.post("/v1/experiments", draft);
    let context = service.body("/v1/experiments/pay/context");
    assert_eq!(
        (&context["computed_at"], &context["keys"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(
        service.get("/v1/experiments/nothing/context").status,
        StatusCode::NOT_FOUND
    );
}
