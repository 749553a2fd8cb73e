//! Layers, holdouts, and evaluation over HTTP.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use trialog_model::assignment::WITHOUT_VARIANT;
use trialog_model::bucket::bucket;
use trialog_server::WithoutVariant;

use crate::harness::{Api, settings};

fn request(method: &str, path: &str, body: &Value) -> Request<Body> {
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    Request::builder()
        .method(method)
        .uri(path)
        .body(body)
        .unwrap()
}

fn post(api: &Api, path: &str, body: &Value) -> (StatusCode, Value) {
    api.send(request("POST", path, body))
}

fn get(api: &Api, path: &str) -> Value {
    let (status, answer) = api.send(request("GET", path, &Value::Null));
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

/// Registers and starts an experiment with two variants, and what `more` says.
fn run(api: &Api, id: &str, more: &Value) -> Value {
    let mut definition =
        json!({"experiment_id": id, "variants": [{"variant": "a"}, {"variant": "b"}]});
    for (field, value) in more.as_object().unwrap() {
        definition[field] = value.clone();
    }
    let (status, answer) = post(api, "/v1/experiments", &definition);
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let (status, answer) = post(api, &format!("/v1/experiments/{id}/start"), &Value::Null);
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

fn ofrep(api: &Api, key: &str, context: &Value) -> (StatusCode, Value) {
    post(
        api,
        &format!("/ofrep/v1/evaluate/flags/{key}"),
        &json!({ "context": context }),
    )
}

/// The rows of an export.
fn exported(api: &Api, table: &str) -> Vec<String> {
    let path = format!("/v1/export/{table}?format=csv");
    let answer = api.answer(request("GET", &path, &Value::Null));
    assert_eq!(answer.status(), StatusCode::OK);
    let body = axum::body::to_bytes(answer.into_body(), 1 << 24);
    let body = api.runtime.block_on(body).unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn an_experiment_that_does_not_fit_into_its_layer_is_told_what_is_free() {
    let api = Api::new();
    let (status, refused) = post(
        &api,
        "/v1/experiments",
        &json!({
            "experiment_id": "x", "layer": "page", "variants": [{"variant": "a"}],
        }),
    );
    assert_eq!(
        (status, &refused["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("layer"))
    );
    post(&api, "/v1/layers", &json!({"name": "page"}));
    let first = run(&api, "first", &json!({"layer": "page", "allocation": 0.7}));
    assert_eq!(first["ranges"], json!([[0, 7000]]));
    let (status, refused) = post(
        &api,
        "/v1/experiments",
        &json!({
            "experiment_id": "x", "layer": "page", "allocation": 0.4, "variants": [{"variant": "a"}],
        }),
    );
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        (&refused["free"], &refused["free_share"]),
        (&json!([[7000, 10000]]), &json!(0.3))
    );
    run(&api, "second", &json!({"layer": "page", "allocation": 0.3}));
    let layer = get(&api, "/v1/layers/page");
    assert_eq!(
        (&layer["free"], &layer["free_share"]),
        (&json!([]), &json!(0.0))
    );
    assert_eq!(
        layer["experiments"][1],
        json!({"experiment_id": "second", "ranges": [[7000, 10000]]})
    );
    for unit in 0..200 {
        let (_, answer) = post(&api, "/v1/assign", &json!({"user_id": unit}));
        let decisions: Vec<_> = answer["assignments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|assignment| assignment["decision"].as_str().unwrap())
            .collect();
        assert_eq!(
            decisions
                .iter()
                .filter(|decision| **decision == "assigned")
                .count(),
            1,
            "{answer}"
        );
    }
    post(&api, "/v1/experiments/first/stop", &Value::Null);
    assert_eq!(get(&api, "/v1/layers/page")["free"], json!([[0, 7000]]));
}

#[test]
fn a_surface_that_is_shared_outside_a_layer_is_warned_of() {
    let api = Api::new();
    post(&api, "/v1/layers", &json!({"name": "page"}));
    run(
        &api,
        "first",
        &json!({"surfaces": ["cart", "menu"], "layer": "page", "allocation": 0.5}),
    );
    let create = |id: &str, more: Value| {
        let mut definition =
            json!({"experiment_id": id, "surfaces": ["cart"], "variants": [{"variant": "a"}]});
        for (field, value) in more.as_object().unwrap() {
            definition[field] = value.clone();
        }
        post(&api, "/v1/experiments", &definition).1
    };
    let outside = create("outside", json!({}));
    let warning = &outside["warnings"][0];
    assert_eq!(
        (
            &warning["code"],
            &warning["experiment_id"],
            &warning["surface"]
        ),
        (&json!("shared_surface"), &json!("first"), &json!("cart"))
    );
    assert_eq!(
        create("inside", json!({"layer": "page", "allocation": 0.5}))["warnings"],
        Value::Null
    );
    assert_eq!(
        create("elsewhere", json!({"surfaces": ["foot"]}))["warnings"],
        Value::Null
    );
}

#[test]
fn a_holdout_keeps_units_out_is_measured_and_cannot_grow() {
    let api = Api::new();
    run(&api, "gate", &json!({"metrics": {"primary": ["purchase"]}}));
    let (status, holdout) = post(
        &api,
        "/v1/holdouts",
        &json!({
            "name": "q3", "size": 0.5, "metrics": {"primary": ["purchase"]},
        }),
    );
    assert_eq!(
        (status, &holdout["status"]),
        (StatusCode::CREATED, &json!("draft"))
    );
    let (_, started) = post(&api, "/v1/holdouts/q3/start", &Value::Null);
    assert_eq!(started["warnings"][0]["experiment_id"], "gate");
    for (patch, status) in [(json!({"size": 0.6}), 409), (json!({"name": "x"}), 422)] {
        let (answered, answer) = api.send(request("PATCH", "/v1/holdouts/q3", &patch));
        assert_eq!(answered.as_u16(), status, "{answer}");
    }
    let (status, refused) = post(&api, "/v1/experiments/holdout:q3/stop", &Value::Null);
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    let (status, refused) = post(
        &api,
        "/v1/experiments",
        &json!({"experiment_id": "holdout:x", "variants": [{"variant": "a"}]}),
    );
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let mut n_held_out = 0;
    for unit in 0..100 {
        let asked =
            json!({"user_id": unit, "experiment_id": "gate", "log_exposure": true, "why": true});
        let (_, answer) = post(&api, "/v1/assign", &asked);
        let held_out = answer["decision"] == "held_out";
        assert_eq!(answer["holdout"] == "q3", held_out);
        assert_eq!(
            answer["why"].as_array().unwrap().len(),
            if held_out { 1 } else { 3 },
            "{answer}"
        );
        n_held_out += usize::from(held_out);
        let event = json!({"name": "purchase", "context": {"targetingKey": unit.to_string()}, "details": {"value": 2.5}});
        let (status, tracked) = post(&api, "/v1/track", &json!({"events": [event]}));
        let n_logged = if held_out { 1 } else { 2 };
        assert_eq!(
            (status, &tracked["logged"]),
            (StatusCode::ACCEPTED, &json!(n_logged)),
            "{tracked}"
        );
    }
    assert!((25..55).contains(&n_held_out), "{n_held_out}");
    post(&api, "/v1/pipeline/run", &Value::Null);
    let measured = get(&api, "/v1/experiments/holdout:q3/results");
    assert_eq!(measured["variants"][0]["variant"], "held_out");
    assert_eq!(measured["variants"][0]["users"], n_held_out);
    assert_eq!(measured["variants"][1]["users"], 100 - n_held_out);
    assert_eq!(
        measured["metrics"][0]["variants"][1]["total"],
        format!(
            "{}.{}000",
            (100 - n_held_out) * 5 / 2,
            (100 - n_held_out) * 25 % 10
        )
    );
    let results = get(&api, "/v1/experiments/gate/results");
    let users: u64 = results["variants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variant| variant["users"].as_u64().unwrap())
        .sum();
    assert_eq!(users, 100 - n_held_out as u64);
}

#[test]
fn the_path_of_a_decision_says_what_was_compared_with_what() {
    let api = Api::new();
    run(
        &api,
        "gate",
        &json!({
            "targeting": [{"key": "platform", "op": "in", "value": ["ios"]}],
            "forced": [{"user_id": "qa", "variant": "b"}],
        }),
    );
    let why = |unit: &str, platform: &str| {
        let asked = json!({"user_id": unit, "experiment_id": "gate", "why": true, "context": {"platform": platform}});
        let (_, answer) = post(&api, "/v1/assign", &asked);
        let text = |step: &Value| step["text"].as_str().unwrap().to_owned();
        (
            answer["decision"].as_str().unwrap().to_owned(),
            answer["why"]
                .as_array()
                .unwrap()
                .iter()
                .map(text)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        why("qa", "web"),
        (
            "forced".to_owned(),
            vec!["forced: the unit is listed with `b`".to_owned()]
        )
    );
    let (decision, steps) = why("42", "web");
    assert_eq!(decision, "not_targeted");
    assert_eq!(
        steps[1],
        "targeting: `platform` is \"web\": `in [\"ios\"]` does not hold"
    );
    let (decision, steps) = why("42", "ios");
    assert_eq!((decision.as_str(), steps.len()), ("assigned", 3));
    assert!(
        steps[0].contains("`enrol:gate` is in 0 to below 10000: enrolled"),
        "{steps:?}"
    );
}

#[test]
fn assignments_are_refused_with_the_field_that_is_to_blame() {
    let api = Api::new();
    run(&api, "gate", &json!({}));
    let cases = [
        (json!({"experiment_id": "gate"}), 422, "user_id"),
        (
            json!({"user_id": 1.5, "experiment_id": "gate"}),
            422,
            "user_id",
        ),
        (
            json!({"user_id": "", "experiment_id": "gate"}),
            422,
            "user_id",
        ),
        (
            json!({"user_id": "1", "experiment_id": "gate", "experiment_ids": ["gate"]}),
            422,
            "experiment_ids",
        ),
        (json!({"user_id": "1", "experiment_id": "none"}), 404, ""),
        (
            json!({"user_id": "1", "experiment": "gate"}),
            400,
            "experiment",
        ),
        (
            json!({"user_id": "1", "experiment_id": "gate", "log_exposure": true, "context": {"long": "x".repeat(5000)}}),
            422,
            "context",
        ),
    ];
    for (body, status, field) in cases {
        let (answered, answer) = post(&api, "/v1/assign", &body);
        assert_eq!(
            (
                answered.as_u16(),
                answer["field"].as_str().unwrap_or_default()
            ),
            (status, field),
            "{answer}"
        );
    }
    let draft = json!({"experiment_id": "draft", "variants": [{"variant": "a"}]});
    post(&api, "/v1/experiments", &draft);
    let (status, answer) = post(
        &api,
        "/v1/assign",
        &json!({"user_id": 1, "experiment_ids": ["gate", "draft", "none"]}),
    );
    assert_eq!(status, StatusCode::OK);
    let decisions: Vec<_> = answer["assignments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|assignment| assignment["decision"].clone())
        .collect();
    assert_eq!(decisions, ["assigned", "not_running", "not_running"]);
}

#[test]
fn the_configuration_holds_what_runs_and_nothing_internal() {
    let api = Api::new();
    let secret = json!({
        "hypothesis": "people buy more", "owner": "mia", "plan": {"sample_size_per_variant": 5},
        "metrics": {"primary": ["revenue"], "secondary": ["visit"]},
    });
    let revenue = json!({"name": "revenue", "kind": "ratio", "event_type": "purchase", "denominator": "order"});
    post(&api, "/v1/metrics", &revenue);
    let answer = api.answer(request("GET", "/v1/sdk/config", &Value::Null));
    let empty = answer.headers()[header::ETAG].to_str().unwrap().to_owned();
    run(&api, "gate", &secret);
    let answer = api.answer(request("GET", "/v1/sdk/config", &Value::Null));
    let tag = answer.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_ne!(tag, empty, "a change is seen at once");
    assert_eq!(
        api.json(answer),
        json!({
            "experiments": [{
                "experiment_id": "gate", "allocation": 1.0,
                "variants": [{"variant": "a", "weight": 1.0}, {"variant": "b", "weight": 1.0}],
                "event_types": ["order", "purchase", "visit"],
            }],
            "holdouts": [],
        })
    );
    for same in [
        tag.clone(),
        tag.trim_matches('"').to_owned(),
        format!("W/{tag}"),
    ] {
        let mut again = request("GET", "/v1/sdk/config", &Value::Null);
        again
            .headers_mut()
            .insert(header::IF_NONE_MATCH, same.parse().unwrap());
        let answer = api.answer(again);
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers()[header::ETAG], tag);
    }
    post(&api, "/v1/experiments/gate/stop", &Value::Null);
    assert_eq!(get(&api, "/v1/sdk/config")["experiments"], json!([]));
}

#[test]
fn a_shipped_variant_is_answered_to_everybody_without_an_exposure() {
    let api = Api::new();
    let variants = json!([{"variant": "a"}, {"variant": "b", "value": {"depth": 2}}]);
    let more = json!({"variants": variants, "allocation": 0.01});
    run(&api, "gate", &more);
    post(&api, "/v1/experiments/gate/stop", &Value::Null);
    let tag = || {
        let answer = api.answer(request("GET", "/v1/sdk/config", &Value::Null));
        answer.headers()[header::ETAG].to_str().unwrap().to_owned()
    };
    let before = tag();
    let asked =
        json!({"user_id": "42", "experiment_id": "gate", "log_exposure": true, "why": true});
    assert_eq!(
        post(&api, "/v1/assign", &asked).1["decision"],
        "not_running"
    );
    let decision = json!({"ship": "b", "reason": "sells more"});
    let (status, _) = post(&api, "/v1/experiments/gate/decide", &decision);
    assert_eq!(status, StatusCode::OK);
    assert_ne!(tag(), before);
    let configuration = get(&api, "/v1/sdk/config");
    assert_eq!(configuration["experiments"], json!([]));
    assert_eq!(configuration["shipped"][0]["ship"], "b");
    let (_, answer) = post(&api, "/v1/assign", &asked);
    assert_eq!(
        (&answer["decision"], &answer["variant"], &answer["value"]),
        (&json!("shipped"), &json!("b"), &json!({"depth": 2}))
    );
    assert_eq!(answer["exposure_logged"], false);
    let all = post(&api, "/v1/assign", &json!({"user_id": "42"})).1;
    assert_eq!(all["assignments"][0]["decision"], "shipped");
    let mut logged = request(
        "POST",
        "/ofrep/v1/evaluate/flags/gate",
        &json!({"context": {"targetingKey": "42"}}),
    );
    let exposure = "log".parse().unwrap();
    logged.headers_mut().insert("trialog-exposure", exposure);
    let (status, flag) = api.send(logged);
    assert_eq!(
        (status, &flag["reason"], &flag["variant"], &flag["value"]),
        (
            StatusCode::OK,
            &json!("STATIC"),
            &json!("b"),
            &json!({"depth": 2})
        )
    );
    let flags = json!({"context": {"targetingKey": "42"}});
    let (_, flags) = post(&api, "/ofrep/v1/evaluate/flags", &flags);
    assert_eq!(flags["flags"][0]["metadata"]["decision"], "shipped");
    post(&api, "/v1/experiments/gate/archive", &Value::Null);
    assert_eq!(
        post(&api, "/v1/assign", &asked).1["decision"],
        "not_running"
    );
    assert_eq!(get(&api, "/v1/sdk/config").get("shipped"), None);
}

/// `gate`, which ended and ships `b`.
fn ship_gate(api: &Api) {
    run(api, "gate", &json!({}));
    post(api, "/v1/experiments/gate/stop", &Value::Null);
    let decision = json!({"ship": "b", "reason": "sells more"});
    let (status, _) = post(api, "/v1/experiments/gate/decide", &decision);
    assert_eq!(status, StatusCode::OK);
}

#[test]
fn units_that_a_smaller_holdout_lets_in_are_left_out_of_what_measures_it() {
    let api = Api::new();
    run(&api, "gate", &json!({"metrics": {"primary": ["purchase"]}}));
    let holdout =
        json!({"name": "q3", "size": 0.5, "metrics": {"primary": ["purchase:conversion"]}});
    post(&api, "/v1/holdouts", &holdout);
    post(&api, "/v1/holdouts/q3/start", &Value::Null);
    // Numbers and texts are units alike.
    let units: Vec<Value> = (0..100)
        .map(|n| json!(n))
        .chain((0..100).map(|n| json!(format!("née {n}"))))
        .collect();
    let see = |units: &[Value]| {
        for unit in units {
            let asked = json!({"user_id": unit, "experiment_id": "gate", "log_exposure": true});
            post(&api, "/v1/assign", &asked);
            let event = json!({"experiment_id": "holdout:q3", "user_id": unit, "event_type": "purchase", "event_id": unit.to_string()});
            post(&api, "/v1/events/metrics", &event);
        }
    };
    let measured = || {
        post(&api, "/v1/pipeline/run", &Value::Null);
        get(&api, "/v1/experiments/holdout:q3/results")
    };
    let n_users =
        |report: &Value| [0, 1].map(|arm| report["variants"][arm]["users"].as_u64().unwrap());
    let among = |from: u16, to: u16| {
        let text = |unit: &Value| unit.as_str().map_or(unit.to_string(), str::to_owned);
        let buckets = units.iter().map(|unit| bucket(&text(unit), "holdout:q3"));
        buckets.filter(|bucket| (from..to).contains(bucket)).count() as u64
    };
    see(&units);
    let before = measured();
    assert_eq!(n_users(&before), [among(0, 5_000), among(5_000, 10_000)]);

    let (status, _) = api.send(request("PATCH", "/v1/holdouts/q3", &json!({"size": 0.4})));
    assert_eq!(status, StatusCode::OK);
    // Some come back, and see the other side.
    see(&units[..150]);
    let after = measured();
    assert_eq!(n_users(&after), [among(0, 4_000), among(5_000, 10_000)]);
    assert_eq!(after["health"]["crossovers"], 0, "{after}");
    assert_eq!(after["variants"][0]["weight"], 0.4);
    assert_eq!(after["variants"][1]["weight"], 0.5);
    let has = |code: &str| {
        (after["health"]["warnings"].as_array().unwrap().iter())
            .any(|warning| warning["code"] == code)
    };
    assert!(has("looks_before_holdout_shrank"), "{after}");
    assert!(!has("events_without_exposure"), "{after}");
}

#[test]
fn a_holdout_measures_what_is_shipped_and_its_units_stay_without() {
    let api = Api::new();
    ship_gate(&api);
    let holdout = json!({"name": "q3", "size": 0.5});
    post(&api, "/v1/holdouts", &holdout);
    let (_, started) = post(&api, "/v1/holdouts/q3/start", &Value::Null);
    let warning = started["warnings"][0]["message"].as_str().unwrap();
    assert!(
        warning.contains("`gate` ships a variant already"),
        "{warning}"
    );
    let mut decisions = std::collections::BTreeMap::new();
    for unit in 0..40 {
        let asked =
            json!({"user_id": unit.to_string(), "experiment_id": "gate", "log_exposure": true});
        let (_, answer) = post(&api, "/v1/assign", &asked);
        let decision = answer["decision"].as_str().unwrap().to_owned();
        *decisions.entry(decision).or_insert(0) += 1;
    }
    assert_eq!(decisions["held_out"] + decisions["shipped"], 40);
    post(&api, "/v1/pipeline/run", &Value::Null);
    let n_users = |id: &str| -> u64 {
        let results = get(&api, &format!("/v1/experiments/{id}/results"));
        let variants = results["variants"].as_array().unwrap();
        variants
            .iter()
            .map(|variant| variant["users"].as_u64().unwrap())
            .sum()
    };
    assert_eq!((n_users("gate"), n_users("holdout:q3")), (0, 40));
    let q4 = json!({"name": "q4", "size": 0.1, "experiments": []});
    post(&api, "/v1/holdouts", &q4);
    post(&api, "/v1/holdouts/q4/start", &Value::Null);
    let joins = json!({"experiments": ["gate"]});
    let (status, refused) = api.send(request("PATCH", "/v1/holdouts/q4", &joins));
    assert_eq!(
        (status, &refused["field"]),
        (StatusCode::CONFLICT, &json!("experiments"))
    );
}

#[test]
fn a_flag_has_the_value_of_its_variant() {
    let api = Api::new();
    let values =
        json!([{"variant": "off", "value": false}, {"variant": "on", "value": {"steps": 1}}]);
    run(
        &api,
        "valued",
        &json!({"variants": values, "forced": [{"user_id": "qa", "variant": "on"}]}),
    );
    run(&api, "named", &json!({}));
    run(&api, "narrow", &json!({"allocation": 0.0001}));
    let (status, flag) = ofrep(&api, "valued", &json!({"targetingKey": "qa"}));
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&flag["value"], &flag["variant"], &flag["reason"]),
        (
            &json!({"steps": 1}),
            &json!("on"),
            &json!("TARGETING_MATCH")
        )
    );
    let (_, flag) = ofrep(&api, "named", &json!({"targetingKey": "1"}));
    assert_eq!(
        (&flag["value"], &flag["reason"]),
        (&flag["variant"], &json!("SPLIT"))
    );
    assert_eq!(flag["metadata"]["contextId"], "1");
    let (_, flag) = ofrep(&api, "narrow", &json!({"targetingKey": "1"}));
    assert_eq!(without_variant(&flag), ("a", "not_enrolled", "DEFAULT"));
    assert_eq!(flag["metadata"]["decision"], "not_enrolled");
    post(&api, "/v1/experiments/named/stop", &Value::Null);
    let (status, flag) = ofrep(&api, "named", &json!({"targetingKey": "1"}));
    assert_eq!(status, StatusCode::OK);
    assert_eq!(without_variant(&flag), ("a", "not_running", "DISABLED"));
    assert_eq!(flag["metadata"]["contextId"], "1");
}

/// The value, the variant and the reason of an answer whose value is a text.
fn without_variant(answer: &Value) -> (&str, &str, &str) {
    let text = |member: &str| answer[member].as_str().unwrap_or_default();
    (text("value"), text("variant"), text("reason"))
}

/// Registers an experiment whose control is its second variant, and that enrols nobody.
fn draft(api: &Api, id: &str) {
    let definition = json!({
        "experiment_id": id, "control": "old", "allocation": 0.0001,
        "variants": [{"variant": "new", "value": 2}, {"variant": "old", "value": {"steps": 3}}],
    });
    let (status, answer) = post(api, "/v1/experiments", &definition);
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

fn step(api: &Api, id: &str, step: &str) {
    let path = format!("/v1/experiments/{id}/{step}");
    let (status, answer) = post(api, &path, &Value::Null);
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[test]
fn an_experiment_gives_the_value_of_its_control_from_draft_to_stop() {
    let api = Api::new();
    draft(&api, "page");
    let context = json!({"targetingKey": "1"});
    for (next, variant, reason) in [
        ("start", "not_running", "DISABLED"),
        ("stop", "not_enrolled", "DEFAULT"),
        ("archive", "not_running", "DISABLED"),
    ] {
        let (status, flag) = ofrep(&api, "page", &context);
        assert_eq!(status, StatusCode::OK, "{flag}");
        assert_eq!(
            (&flag["value"], &flag["variant"], &flag["reason"]),
            (&json!({"steps": 3}), &json!(variant), &json!(reason)),
            "{flag}"
        );
        step(&api, "page", next);
    }
    let (status, flag) = ofrep(&api, "page", &context);
    assert_eq!(
        (status, &flag["errorCode"]),
        (StatusCode::NOT_FOUND, &json!("FLAG_NOT_FOUND"))
    );
    let details = flag["errorDetails"].as_str().unwrap();
    assert!(details.contains("archived"), "{details}");
}

#[test]
fn what_nobody_registered_is_no_flag_nor_is_what_measures_a_holdout() {
    let api = Api::new();
    post(&api, "/v1/holdouts", &json!({"name": "q3", "size": 0.5}));
    post(&api, "/v1/holdouts/q3/start", &Value::Null);
    let stray = json!({"user_id": "1", "experiment_id": "stray", "variant": "a"});
    post(&api, "/v1/events/assignments", &stray);
    post(&api, "/v1/pipeline/run", &Value::Null);
    let listed = get(&api, "/v1/experiments/stray");
    assert_eq!(listed["status"], "unregistered");
    for key in ["stray", "holdout:q3"] {
        let (status, flag) = ofrep(&api, key, &json!({"targetingKey": "1"}));
        assert_eq!(status, StatusCode::NOT_FOUND, "{flag}");
        assert_eq!(flag["errorCode"], "FLAG_NOT_FOUND", "{flag}");
    }
    post(&api, "/v1/holdouts/q3/stop", &Value::Null);
    let all = json!({"context": {"targetingKey": "1"}});
    let (_, all) = post(&api, "/ofrep/v1/evaluate/flags", &all);
    assert_eq!(all["flags"], json!([]));
}

#[test]
fn all_flags_are_those_that_run_or_were_stopped() {
    let api = Api::new();
    for id in ["archived", "draft", "running", "stopped", "stopping"] {
        draft(&api, id);
    }
    for id in ["archived", "running", "stopped", "stopping"] {
        step(&api, id, "start");
    }
    for id in ["archived", "stopped"] {
        step(&api, id, "stop");
    }
    step(&api, "archived", "archive");
    let ask = || {
        let body = json!({"context": {"targetingKey": "1"}});
        let answer = api.answer(request("POST", "/ofrep/v1/evaluate/flags", &body));
        let tag = answer.headers()[header::ETAG].to_str().unwrap().to_owned();
        let flags = api.json(answer)["flags"].clone();
        let shown = |flag: &Value| {
            assert_eq!(flag["value"], json!({"steps": 3}), "{flag}");
            let text = |member: &str| flag[member].as_str().unwrap().to_owned();
            (text("key"), text("variant"))
        };
        let shown: Vec<_> = flags.as_array().unwrap().iter().map(shown).collect();
        (tag, shown)
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<_> {
        (pairs.iter())
            .map(|(key, variant)| ((*key).to_owned(), (*variant).to_owned()))
            .collect()
    };
    let (before, flags) = ask();
    assert_eq!(
        flags,
        pairs(&[
            ("running", "not_enrolled"),
            ("stopping", "not_enrolled"),
            ("stopped", "not_running"),
        ])
    );
    step(&api, "stopping", "stop");
    let (after, flags) = ask();
    assert_ne!(before, after, "a stop is another answer");
    assert_eq!(
        flags,
        pairs(&[
            ("running", "not_enrolled"),
            ("stopped", "not_running"),
            ("stopping", "not_running"),
        ])
    );
    assert_eq!(
        get(&api, "/v1/sdk/config")["experiments"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "what SDKs fetch does not grow by what was stopped"
    );
    let decision = json!({"ship": "new", "reason": "sells more"});
    post(&api, "/v1/experiments/stopped/decide", &decision);
    let all = json!({"context": {"targetingKey": "1"}});
    let (_, all) = post(&api, "/ofrep/v1/evaluate/flags", &all);
    let variants: Vec<_> = (all["flags"].as_array().unwrap().iter())
        .map(|flag| (&flag["key"], &flag["variant"], &flag["value"]))
        .collect();
    assert_eq!(
        json!(variants),
        json!([
            ["running", "not_enrolled", {"steps": 3}],
            ["stopped", "new", 2],
            ["stopping", "not_running", {"steps": 3}],
        ]),
        "what ships a variant is there once"
    );
}

#[test]
fn the_setting_leaves_value_and_variant_out() {
    let mut settings = settings();
    settings.without_variant = WithoutVariant::Omit;
    let api = Api::with(settings);
    draft(&api, "page");
    let context = json!({"targetingKey": "1"});
    for (next, decision, reason) in [
        ("start", "not_running", "DISABLED"),
        ("stop", "not_enrolled", "DEFAULT"),
        ("archive", "not_running", "DISABLED"),
    ] {
        let (_, flag) = ofrep(&api, "page", &context);
        assert_eq!(without_variant(&flag), ("", "", reason), "{flag}");
        assert_eq!(flag["metadata"]["decision"], decision);
        step(&api, "page", next);
    }
}

#[test]
fn a_decision_is_no_name_of_a_variant() {
    let api = Api::new();
    for word in WITHOUT_VARIANT {
        let named = json!([{"variant": "a"}, {"variant": word}]);
        let definition = json!({"experiment_id": "page", "variants": named});
        let (status, refused) = post(&api, "/v1/experiments", &definition);
        assert_eq!(
            (status, &refused["field"]),
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!("variants[1].variant")
            ),
            "{refused}"
        );
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("another name"), "{detail}");
    }
    draft(&api, "page");
    let patch = json!({"control": null, "variants": [{"variant": "held_out"}]});
    let (status, refused) = api.send(request("PATCH", "/v1/experiments/page", &patch));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
}

#[test]
fn an_assignment_that_names_a_decision_is_no_exposure_of_a_registered_experiment() {
    let api = Api::new();
    run(&api, "gate", &json!({}));
    post(&api, "/v1/holdouts", &json!({"name": "q3", "size": 0.5}));
    post(&api, "/v1/holdouts/q3/start", &Value::Null);
    let mut events = Vec::new();
    for experiment in ["gate", "stray", "holdout:q3"] {
        // The first is no exposure, so the second is the first.
        for (unit, variant) in [("1", "not_enrolled"), ("1", "a"), ("2", "held_out")] {
            events.push(json!({"experiment_id": experiment, "user_id": unit, "variant": variant}));
        }
        events.push(json!({
            "experiment_id": experiment, "user_id": "3", "variant": "not_targeted", "forced": true,
        }));
    }
    let (status, answer) = post(&api, "/v1/events/assignments", &json!(events));
    assert_eq!(
        (status, &answer["accepted"]),
        (StatusCode::ACCEPTED, &json!(12))
    );
    post(&api, "/v1/pipeline/run", &Value::Null);
    let users = |experiment: &str| {
        let report = get(&api, &format!("/v1/experiments/{experiment}/results"));
        let variants = report["variants"].as_array().unwrap().clone();
        let counted: Vec<_> = (variants.iter())
            .filter(|row| row["users"] != 0)
            .map(|row| (row["variant"].clone(), row["users"].clone()))
            .collect();
        let health = &report["health"];
        (
            json!(counted),
            health["crossovers"].clone(),
            health["forced"].clone(),
        )
    };
    assert_eq!(users("gate"), (json!([["a", 1]]), json!(0), json!(0)));
    assert_eq!(
        users("stray"),
        (json!([["held_out", 1]]), json!(1), json!(1)),
        "nobody says which names are variants"
    );
    assert_eq!(
        users("holdout:q3"),
        (json!([["held_out", 1], ["a", 1]]), json!(0), json!(0)),
        "a holdout keeps its own variant"
    );
}

#[test]
fn flags_fail_as_the_protocol_says() {
    let api = Api::new();
    run(&api, "gate", &json!({}));
    let one = "/ofrep/v1/evaluate/flags/gate";
    let cases = [
        (one, "", 400, "PARSE_ERROR"),
        (one, "{", 400, "PARSE_ERROR"),
        (one, "[]", 400, "INVALID_CONTEXT"),
        (one, r#"{"context":null}"#, 400, "INVALID_CONTEXT"),
        (one, r#"{"context":{}}"#, 400, "TARGETING_KEY_MISSING"),
        (
            one,
            r#"{"context":{"targetingKey":""}}"#,
            400,
            "TARGETING_KEY_MISSING",
        ),
        (
            one,
            r#"{"context":{"targetingKey":5}}"#,
            400,
            "INVALID_CONTEXT",
        ),
        (
            "/ofrep/v1/evaluate/flags/none",
            r#"{"context":{"targetingKey":"1"}}"#,
            404,
            "FLAG_NOT_FOUND",
        ),
        (
            "/ofrep/v1/evaluate/flags",
            r#"{"context":{}}"#,
            400,
            "TARGETING_KEY_MISSING",
        ),
    ];
    for (path, body, status, code) in cases {
        let asked = Request::post(path).body(Body::from(body)).unwrap();
        let (answered, answer) = api.send(asked);
        assert_eq!(
            (answered.as_u16(), answer["errorCode"].as_str().unwrap()),
            (status, code),
            "{body}"
        );
        assert!(answer["errorDetails"].is_string());
        let key = path.strip_prefix("/ofrep/v1/evaluate/flags/");
        assert_eq!(answer["key"].as_str(), key, "{answer}");
    }
    let large = json!({"context": {"targetingKey": "1", "more": "x".repeat(3 << 20)}});
    let (status, answer) = post(&api, one, &large);
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        answer["errorDetails"].as_str().unwrap().contains("bytes"),
        "{answer}"
    );
}

#[test]
fn all_flags_have_a_tag_of_the_answer_and_not_of_the_configuration_alone() {
    let api = Api::new();
    run(&api, "gate", &json!({}));
    run(
        &api,
        "ios",
        &json!({"targeting": [{"key": "platform", "op": "eq", "value": "ios"}]}),
    );
    let ask = |platform: &str, tag: Option<&str>| {
        let body = json!({"context": {"targetingKey": "7", "platform": platform}});
        let mut asked = request("POST", "/ofrep/v1/evaluate/flags/", &body);
        if let Some(tag) = tag {
            asked
                .headers_mut()
                .insert(header::IF_NONE_MATCH, tag.parse().unwrap());
        }
        let answer = api.answer(asked);
        (
            answer.status(),
            answer.headers()[header::ETAG].to_str().unwrap().to_owned(),
            answer,
        )
    };
    let (status, tag, answer) = ask("ios", None);
    assert_eq!(status, StatusCode::OK);
    assert_eq!(api.json(answer)["flags"].as_array().unwrap().len(), 2);
    assert_eq!(ask("ios", Some(&tag)).0, StatusCode::NOT_MODIFIED);
    let (status, other, _) = ask("web", Some(&tag));
    assert_eq!(status, StatusCode::OK, "another context, another answer");
    assert_ne!(tag, other);
}

#[test]
fn an_evaluation_is_an_exposure_where_the_header_says_so() {
    let api = Api::new();
    run(&api, "gate", &json!({}));
    let ask = |path: &str, wish: Option<&str>| {
        let body = json!({"context": {"targetingKey": "7", "platform": "ios"}});
        let mut asked = request("POST", path, &body);
        if let Some(wish) = wish {
            asked
                .headers_mut()
                .insert("trialog-exposure", wish.parse().unwrap());
        }
        api.status(asked)
    };
    let one = "/ofrep/v1/evaluate/flags/gate";
    assert_eq!(ask(one, None), StatusCode::OK);
    assert_eq!(ask(one, Some("yes")), StatusCode::BAD_REQUEST);
    assert_eq!(
        ask("/ofrep/v1/evaluate/flags", Some("log")),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(exported(&api, "assignments").len(), 0);
    assert_eq!(ask(one, Some("log")), StatusCode::OK);
    let rows = exported(&api, "assignments");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert!(row.contains("7,gate,") && row.contains("ios"), "{row}");
    assert!(!row.contains("targetingKey"), "{row}");
}

#[test]
fn tracking_is_judged_event_by_event_and_may_be_repeated() {
    let api = Api::new();
    run(&api, "gate", &json!({"metrics": {"primary": ["purchase"]}}));
    let event = |more: Value| {
        let mut event =
            json!({"name": "purchase", "context": {"targetingKey": "7"}, "event_id": "one"});
        for (field, value) in more.as_object().unwrap() {
            event[field] = value.clone();
        }
        event
    };
    let events = json!({"events": [
        event(json!({})),
        event(json!({"name": "unheard of"})),
        event(json!({"context": {}})),
        event(json!({"details": {"value": "much"}})),
        event(json!({"timestamp": "yesterday"})),
        7,
        {"context": {"targetingKey": "7"}},
    ]});
    for _ in 0..2 {
        let (status, answer) = post(&api, "/v1/track", &events);
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        assert_eq!(
            (&answer["accepted"], &answer["logged"], &answer["unlisted"]),
            (&json!(2), &json!(1), &json!(1))
        );
        let fields: Vec<_> = answer["rejected"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rejection| {
                (
                    rejection["index"].as_u64().unwrap(),
                    rejection["field"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            fields,
            [
                (2, "context"),
                (3, "value"),
                (4, "timestamp"),
                (5, "event"),
                (6, "name")
            ]
        );
    }
    let (status, answer) = post(&api, "/v1/track", &json!({"events": [7]}));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert_eq!(exported(&api, "metrics").len(), 1, "a copy is counted once");
}

#[test]
fn one_tracked_event_that_is_not_json_spoils_no_other() {
    let api = Api::new();
    run(&api, "gate", &json!({"metrics": {"primary": ["purchase"]}}));
    let good = r#"{"name":"purchase","context":{"targetingKey":"7"},"details":{"value":3}}"#;
    let bad = [
        (good.replace('3', "NaN"), "event", "no JSON value"),
        (
            good.replace('3', "-Infinity"),
            "event",
            "not written as JSON",
        ),
        (good.replace(r#""purchase""#, "7"), "name", "no text"),
        (
            good.replace(r#"{"targetingKey":"7"}"#, "[]"),
            "context",
            "not a JSON object",
        ),
        (
            good.replace(r#"{"value":3}"#, "5"),
            "details",
            "not a JSON object",
        ),
        (good.replace('3', "null"), "value", "is empty"),
        ("7".to_owned(), "event", "not a JSON object"),
    ];
    let sent: Vec<_> = bad.iter().map(|case| case.0.clone()).collect();
    let body = format!(r#"{{"events": [{good}, {}, {good}]}}"#, sent.join(",\n"));
    let (status, answer) = api.send(Request::post("/v1/track").body(Body::from(body)).unwrap());
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    assert_eq!(answer["accepted"], 2, "{answer}");
    for ((_, field, reason), seen) in bad.iter().zip(answer["rejected"].as_array().unwrap()) {
        assert_eq!(seen["field"], *field, "{seen}");
        assert!(seen["reason"].as_str().unwrap().contains(reason), "{seen}");
        assert!(!seen.to_string().contains("expected "), "{seen}");
    }
    for cut in [
        r#"{"events": [{}"#,
        r#"{"events": {}}"#,
        "[]",
        "{}",
        r#"{"events": []} x"#,
    ] {
        let (status, answer) = api.send(Request::post("/v1/track").body(Body::from(cut)).unwrap());
        assert_eq!(status, StatusCode::BAD_REQUEST, "{cut}: {answer}");
    }
}

#[test]
fn pages_of_listed_origins_may_evaluate_and_read_the_tag() {
    let mut settings = settings();
    settings.cors_origins = vec!["https://shop.example".to_owned()];
    let api = Api::with(settings);
    run(&api, "gate", &json!({}));
    let mut asked = request("OPTIONS", "/ofrep/v1/evaluate/flags", &Value::Null);
    let headers = asked.headers_mut();
    headers.insert(header::ORIGIN, "https://shop.example".parse().unwrap());
    headers.insert(
        header::ACCESS_CONTROL_REQUEST_METHOD,
        "POST".parse().unwrap(),
    );
    let answer = api.answer(asked);
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let allowed = answer.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS]
        .to_str()
        .unwrap();
    for name in [
        "if-none-match",
        "x-api-key",
        "authorization",
        "content-type",
        "trialog-exposure",
    ] {
        assert!(allowed.contains(name), "{allowed}");
    }
    let mut asked = request(
        "POST",
        "/ofrep/v1/evaluate/flags",
        &json!({"context": {"targetingKey": "1"}}),
    );
    asked
        .headers_mut()
        .insert(header::ORIGIN, "https://shop.example".parse().unwrap());
    let answer = api.answer(asked);
    assert_eq!(
        answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN],
        "https://shop.example"
    );
    let exposed = answer.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS]
        .to_str()
        .unwrap();
    assert!(
        exposed.contains("etag") && exposed.contains("retry-after"),
        "{exposed}"
    );
}
