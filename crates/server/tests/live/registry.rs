//! The registry over HTTP: the life of an experiment, its audit trail, lists.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use trialog_server::InProcess;

use crate::service::Service;

fn gate() -> Value {
    json!({"experiment_id": "gate", "owner": "games", "allocation": 0.5,
           "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy"]}})
}

fn with_gate() -> Service {
    let service = Service::new();
    let created = service.post("/v1/experiments", gate());
    assert_eq!(created.status, StatusCode::CREATED);
    service
}

#[test]
fn an_archived_experiment_can_be_read_and_no_longer_changed() {
    let service = with_gate();
    service.post("/v1/experiments/gate/start", "");
    let running = service.post("/v1/experiments/gate/archive", "");
    assert_eq!(running.status, StatusCode::CONFLICT);
    assert_eq!(
        running.body["detail"],
        "experiment `gate` is running: stop it first"
    );
    service.post("/v1/experiments/gate/stop", "");
    let archived = service.post("/v1/experiments/gate/archive", "").body;
    assert_eq!(archived["status"], "archived");
    assert!(archived["archived_at"].is_string());
    assert_eq!(service.get("/v1/experiments/gate").body, archived);
    assert_eq!(
        service.get("/v1/experiments/gate/results").status,
        StatusCode::OK
    );
    let refused = service.patch("/v1/experiments/gate", &json!({"owner": "me"}));
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let again = service.post("/v1/experiments", gate());
    assert_eq!(again.status, StatusCode::CONFLICT, "the id stays taken");
    let listed =
        |query: &str| service.get(&format!("/v1/experiments{query}")).body["experiments"].clone();
    assert_eq!(listed(""), json!([]));
    assert_eq!(listed("?status=archived")[0]["experiment_id"], "gate");
}

/// `gate`, started and stopped again.
fn with_stopped_gate() -> Service {
    let service = with_gate();
    service.post("/v1/experiments/gate/start", "");
    let stopped = service.post("/v1/experiments/gate/stop", "");
    assert_eq!(stopped.status, StatusCode::OK);
    service
}

#[test]
fn a_decision_is_shown_with_the_experiment_and_its_results() {
    let service = with_stopped_gate();
    let decide = |body: Value| service.post("/v1/experiments/gate/decide", body);
    let before = service.get("/v1/experiments/gate").body;
    assert_eq!(
        (&before["decision"], &before["pauses"]),
        (&Value::Null, &json!([]))
    );
    for (field, body) in [
        ("ship", json!({"reason": "x"})),
        ("reason", json!({"ship": "b"})),
        ("reason", json!({"ship": "b", "reason": "  "})),
        ("reason", json!({"ship": "b", "reason": "x".repeat(4_001)})),
        ("ship", json!({"ship": "c", "reason": "x"})),
    ] {
        let refused = decide(body.clone());
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(refused.body["field"], field, "{body}");
    }
    let decided = decide(json!({"ship": "b", "reason": " sells more "}));
    assert_eq!(decided.status, StatusCode::OK);
    let decision = &decided.body["decision"];
    assert_eq!(
        (&decision["ship"], &decision["reason"], &decision["by"]),
        (&json!("b"), &json!("sells more"), &json!("anonymous"))
    );
    assert!(decision["at"].is_string());
    assert_eq!(service.get("/v1/experiments/gate").body, decided.body);
    let results = service.get("/v1/experiments/gate/results").body;
    assert_eq!(&results["decision"], decision);
    let stale = Request::post("/v1/experiments/gate/decide")
        .header("if-match", "\"1\"")
        .body(Body::from(r#"{"ship":null,"reason":"x"}"#));
    let stale = service.send(stale.unwrap());
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let refused = service.post("/v1/experiments/gate/resume", "");
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let entries = service.get("/v1/experiments/gate/audit").body["entries"].clone();
    let last = entries.as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["action"], &last["to"]["decision"]["ship"]),
        (&json!("decide"), &json!("b"))
    );
}

#[test]
fn a_running_experiment_is_stopped_before_it_is_decided() {
    let service = with_gate();
    service.post("/v1/experiments/gate/start", "");
    let refused = service.post(
        "/v1/experiments/gate/decide",
        json!({"ship": "b", "reason": "sells more"}),
    );
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("`trialog experiments stop`"), "{detail}");
}

#[test]
fn a_resumed_experiment_runs_again_and_its_results_warn_of_the_pause() {
    let service = with_stopped_gate();
    let resumed = service.post("/v1/experiments/gate/resume", "");
    assert_eq!(resumed.status, StatusCode::OK, "{}", resumed.body);
    assert_eq!(resumed.body["status"], "running");
    assert_eq!(resumed.body["stopped_at"], Value::Null);
    let pauses = resumed.body["pauses"].as_array().unwrap();
    assert!(pauses[0]["from"].is_string() && pauses[0]["to"].is_string());
    let results = service.get("/v1/experiments/gate/results").body;
    assert_eq!(results["pauses"], resumed.body["pauses"]);
    let warnings = results["health"]["warnings"].as_array().unwrap();
    let paused: Vec<_> = warnings
        .iter()
        .filter(|warning| warning["code"] == "paused")
        .collect();
    assert_eq!(paused.len(), 1, "{warnings:?}");
    let text = service.page("/experiments/gate");
    assert!(text.contains("data-warning=\"paused\""));
    service.post("/v1/experiments/gate/stop", "");
    service.patch("/v1/experiments/gate", &json!({"allocation": 0.9}));
    let refused = service.post("/v1/experiments/gate/resume", "");
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("`allocation` was changed since the stop"),
        "{detail}"
    );
}

#[test]
fn the_page_of_a_stopped_experiment_says_what_to_do_next() {
    let service = with_stopped_gate();
    let page = service.page("/experiments/gate");
    assert!(page.contains("/v1/experiments/gate/decide"), "{page}");
    let decision = json!({"ship": "b", "reason": "sells <more>"});
    service.post("/v1/experiments/gate/decide", decision);
    let page = service.page("/experiments/gate");
    assert!(page.contains("ship `b`: sells &#60;more&#62;"), "{page}");
    assert!(page.contains("/v1/experiments/gate/archive"), "{page}");
    assert!(service.page("/").contains("ships b"));
    service.post("/v1/experiments/gate/archive", "");
    let page = service.page("/experiments/gate");
    assert!(
        page.contains("ship `b`") && !page.contains("gate/archive"),
        "{page}"
    );
}

#[test]
fn drafts_are_deleted_and_what_was_started_is_archived() {
    let service = with_gate();
    let delete = || {
        let request = Request::delete("/v1/experiments/gate");
        service.send(request.body(Body::empty()).unwrap())
    };
    let deleted = delete();
    assert_eq!(
        (deleted.status, &deleted.body["status"]),
        (StatusCode::OK, &json!("draft"))
    );
    assert_eq!(
        service.get("/v1/experiments/gate").status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(delete().status, StatusCode::NOT_FOUND);
    let entries = service.get("/v1/audit").body["entries"].clone();
    assert_eq!(
        entries.as_array().unwrap().last().unwrap()["action"],
        "delete"
    );
    let again = service.post("/v1/experiments", gate());
    assert_eq!(again.status, StatusCode::CREATED);
    service.post("/v1/experiments/gate/start", "");
    service.post("/v1/experiments/gate/stop", "");
    let refused = delete();
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("archive it, which keeps its results"),
        "{detail}"
    );
}

#[test]
fn a_patch_merges_fields_and_null_puts_one_back() {
    let service = with_gate();
    let patch = |fields: Value| service.patch("/v1/experiments/gate", &fields);
    let changed = patch(json!({"owner": null, "allocation": null, "hypothesis": "x"})).body;
    assert_eq!(changed["owner"], Value::Null);
    assert_eq!(changed["allocation"], 1.0);
    assert_eq!(changed["hypothesis"], "x");
    assert_eq!(changed["metrics"]["primary"], json!(["buy"]));
    let required = patch(json!({"variants": null}));
    assert_eq!(required.status, StatusCode::BAD_REQUEST);
    let unknown = patch(json!({"ownr": null}));
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}

#[test]
fn what_is_frozen_after_the_start_names_its_field() {
    let service = with_gate();
    service.post("/v1/experiments/gate/start", "");
    let weights = json!([{"variant": "a", "weight": 2}, {"variant": "b"}]);
    for (field, patch) in [
        ("salt", json!({"salt": "x"})),
        ("variants", json!({"variants": weights})),
        ("layer", json!({"layer": "x"})),
        ("allocation", json!({"allocation": 0.4})),
        ("metrics.primary", json!({"metrics": {"primary": ["sell"]}})),
    ] {
        let refused = service.patch("/v1/experiments/gate", &patch);
        assert_eq!(refused.status, StatusCode::CONFLICT, "{patch}");
        assert_eq!(refused.body["field"], field);
        assert!(refused.body["reason"].is_string());
    }
    for patch in [
        json!({"allocation": 0.6}),
        json!({"metrics": {"primary": ["buy"], "secondary": ["sell"]}}),
    ] {
        let allowed = service.patch("/v1/experiments/gate", &patch);
        assert_eq!(allowed.status, StatusCode::OK, "{patch}");
    }
}

#[test]
fn a_change_to_what_somebody_else_changed_is_412() {
    let service = with_gate();
    let tag = service.get("/v1/experiments/gate").headers["etag"].clone();
    let start = |tag: &axum::http::HeaderValue| {
        let request = Request::post("/v1/experiments/gate/start").header("if-match", tag);
        service.send(request.body(Body::empty()).unwrap())
    };
    service.patch("/v1/experiments/gate", &json!({"owner": "other"}));
    let stale = start(&tag);
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let fresh = service.get("/v1/experiments/gate").headers["etag"].clone();
    assert!(
        stale.body["detail"]
            .as_str()
            .unwrap()
            .contains(fresh.to_str().unwrap())
    );
    assert_eq!(start(&fresh).status, StatusCode::OK);
}

#[test]
fn the_audit_trail_says_who_did_what() {
    let service = with_gate();
    let request = Request::post("/v1/experiments/gate/start").extension(InProcess);
    service.send(request.body(Body::empty()).unwrap());
    service.patch("/v1/experiments/gate", &json!({"salt": "frozen"}));
    let entries = service.get("/v1/experiments/gate/audit").body["entries"].clone();
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert_eq!(
        (
            &entries[0]["actor"],
            &entries[0]["action"],
            &entries[0]["from"]
        ),
        (&json!("anonymous"), &json!("create"), &Value::Null)
    );
    assert_eq!(entries[0]["to"]["owner"], "games");
    assert_eq!(
        (&entries[1]["actor"], &entries[1]["action"]),
        (&json!("local"), &json!("start"))
    );
    assert_eq!(
        entries[1]["from"],
        json!({"status": "draft", "started_at": null})
    );
    assert_eq!(entries[1]["to"]["status"], "running");
    let first = service.get("/v1/audit?limit=1").body;
    assert_eq!(first["entries"], json!([entries[0]]));
    let next = first["next"].as_str().unwrap();
    let second = service.get(&format!("/v1/audit?after={next}")).body;
    assert_eq!(
        (&second["entries"], &second["next"]),
        (&json!([entries[1]]), &Value::Null)
    );
    assert_eq!(
        service.get("/v1/experiments/nobody/audit").status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(service.get("/v1/audit?after=x").body["field"], "after");
}

#[test]
fn lists_are_searched_filtered_and_paged() {
    let service = Service::new();
    for n in 0..5 {
        let experiment = json!({"experiment_id": format!("gate-{n}"), "hypothesis": "Later IS better",
            "owner": if n < 2 { "games" } else { "shop" }, "variants": [{"variant": "a"}]});
        service.post("/v1/experiments", experiment);
    }
    let page = |query: &str| -> (Vec<String>, Value) {
        let body = service.get(&format!("/v1/experiments?{query}")).body;
        let ids = (body["experiments"].as_array().unwrap().iter())
            .map(|experiment| experiment["experiment_id"].as_str().unwrap().to_owned())
            .collect();
        (ids, body["next"].clone())
    };
    assert_eq!(page("owner=games").0, ["gate-0", "gate-1"]);
    assert_eq!(page("sort=updated_at&limit=1").0, ["gate-4"]);
    let (first, next) = page("q=later%20is&limit=3");
    assert_eq!(first, ["gate-4", "gate-3", "gate-2"]);
    let (second, next) = page(&format!(
        "q=later%20is&limit=3&after={}",
        next.as_str().unwrap()
    ));
    assert_eq!(
        (second, next),
        (vec!["gate-1".into(), "gate-0".into()], Value::Null)
    );
    assert_eq!(page("q=E-3").0, ["gate-3"]);
    assert_eq!(page("q=games&owner=shop").0, Vec::<String>::new());
    assert_eq!(page("q=").0.len(), 5);
    for (query, field) in [
        ("q=x&sort=id", "sort"),
        ("sort=owner", "sort"),
        ("q=x&after=gate", "after"),
        ("status=dead", "status"),
        ("limit=0", "limit"),
    ] {
        let refused = service.get(&format!("/v1/experiments?{query}"));
        assert_eq!(refused.body["field"], field, "{query}");
    }
}

fn revenue() -> Value {
    json!({"name": "revenue", "kind": "sum", "event_type": "buy", "description": "net of returns"})
}

#[test]
fn metric_definitions_are_created_changed_listed_and_deleted() {
    let service = Service::new();
    let created = service.post("/v1/metrics", revenue());
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.headers["location"], "/v1/metrics/revenue");
    assert_eq!(
        (&created.body["window"], &created.body["direction"]),
        (&Value::Null, &Value::Null)
    );
    let again = service.post("/v1/metrics", revenue());
    assert_eq!(again.status, StatusCode::CONFLICT);
    let changed = service.patch(
        "/v1/metrics/revenue",
        &json!({"window": "14d", "description": null}),
    );
    assert_eq!(
        (&changed.body["window"], &changed.body["description"]),
        (&json!("14d"), &Value::Null)
    );
    let renamed = service.patch("/v1/metrics/revenue", &json!({"name": "income"}));
    assert_eq!(renamed.body["field"], "name");
    let ratio = json!({"name": "x", "kind": "ratio", "event_type": "buy"});
    let incomplete = service.post("/v1/metrics", ratio);
    assert_eq!(incomplete.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(incomplete.body["field"], "denominator");
    let listed = service.get("/v1/metrics?q=REV").body;
    assert_eq!(listed["metrics"][0]["name"], "revenue");
    let delete = |tag: &str| {
        let request = Request::delete("/v1/metrics/revenue").header("if-match", tag);
        service.send(request.body(Body::empty()).unwrap()).status
    };
    assert_eq!(delete("\"1\""), StatusCode::PRECONDITION_FAILED);
    assert_eq!(delete("\"2\""), StatusCode::OK);
    assert_eq!(
        service.get("/v1/metrics/revenue").status,
        StatusCode::NOT_FOUND
    );
    let actions: Vec<Value> = (service.get("/v1/audit").body["entries"].as_array().unwrap())
        .iter()
        .map(|entry| json!([entry["subject"], entry["action"]]))
        .collect();
    let metric = |action: &str| json!(["metric", action]);
    assert_eq!(actions, ["create", "change", "delete"].map(metric));
}

/// `gate` with its events: of 20 users of each variant, `a` has none who buys,
/// all of `b` buy for 2 at once and for 3 two days later.
fn with_results() -> Service {
    let service = with_gate();
    let assignments: Vec<Value> = (0..40)
        .map(|user| {
            json!({"user_id": user, "experiment_id": "gate", "variant": if user < 20 { "a" } else { "b" },
                   "assigned_at": "2025-09-01T00:00:00Z"})
        })
        .collect();
    service.post("/v1/events/assignments", json!(assignments));
    let buy = |user: i32, day: u32, value: i32| {
        json!({"user_id": user, "experiment_id": "gate", "event_type": "buy", "value": value,
               "timestamp": format!("2025-09-0{day}T00:00:01Z")})
    };
    let events: Vec<Value> = (20..40)
        .flat_map(|user| [buy(user, 1, 2), buy(user, 3, 3)])
        .collect();
    service.post("/v1/events/metrics", json!(events));
    service.post("/v1/pipeline/run", "");
    service
}

/// The metrics of the results of `gate`, as name, kind, role and total of `b`.
fn metrics(service: &Service, query: &str) -> Vec<[String; 4]> {
    let body = service
        .get(&format!("/v1/experiments/gate/results?{query}"))
        .body;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (body["metrics"].as_array().unwrap().iter())
        .map(|metric| {
            let total = &metric["variants"][1]["total"];
            [&metric["metric"], &metric["kind"], &metric["role"], total].map(text)
        })
        .collect()
}

fn row(metric: &str, kind: &str, role: &str, total: &str) -> [String; 4] {
    [metric, kind, role, total].map(str::to_owned)
}

#[test]
fn a_definition_has_a_row_with_its_own_window_and_is_recomputed_when_it_changes() {
    let service = with_results();
    let mut definition = revenue();
    definition["window"] = json!("1d");
    definition["direction"] = json!("decrease");
    service.post("/v1/metrics", definition);
    let metrics_of_gate = json!({"metrics": {"primary": ["revenue"], "guardrail": ["buy"]}});
    service.patch("/v1/experiments/gate", &metrics_of_gate);
    service.post("/v1/pipeline/run", "");
    assert_eq!(
        metrics(&service, ""),
        [
            row("revenue", "sum", "primary", "40.0000"),
            row("buy", "conversion", "guardrail", "100.0000"),
            row("buy", "sum", "guardrail", "100.0000"),
        ]
    );
    // A guardrail that nobody gave a direction has no verdict, and the report asks for one.
    let report = service
        .get("/v1/experiments/gate/results?metric=buy&kind=conversion")
        .body;
    let comparison = &report["metrics"][0]["comparisons"][0];
    assert!(
        comparison["p_value"].as_f64().unwrap() < 0.05,
        "{comparison}"
    );
    for verdict in [
        &comparison["flag"],
        &comparison["desirable"],
        &comparison["headline"]["flag"],
        &comparison["headline"]["p_value"],
    ] {
        assert_eq!(verdict, &Value::Null, "{comparison}");
    }
    assert_eq!(comparison["flag_reason"], comparison["headline"]["reason"]);
    let warnings = report["health"]["warnings"].as_array().unwrap();
    let asks = |warning: &&Value| warning["code"] == "guardrail_without_direction";
    assert_eq!(warnings.iter().find(asks).unwrap()["metric"], "buy");
    let report = service
        .get("/v1/experiments/gate/results?metric=revenue")
        .body;
    let shown = &report["metrics"][0];
    assert_eq!(
        [
            &shown["event_type"],
            &shown["window"],
            &shown["direction"],
            &shown["description"]
        ],
        [
            &json!("buy"),
            &json!("1d"),
            &json!("decrease"),
            &json!("net of returns")
        ]
    );
    let refused = Request::delete("/v1/metrics/revenue")
        .body(Body::empty())
        .unwrap();
    assert_eq!(service.send(refused).status, StatusCode::CONFLICT);

    service.patch("/v1/metrics/revenue", &json!({"window": "5d"}));
    let codes = |service: &Service| -> Vec<Value> {
        let health = &service.get("/v1/experiments/gate/results").body["health"];
        (health["warnings"].as_array().unwrap().iter())
            .map(|warning| warning["code"].clone())
            .filter(|code| code == "definition_changed")
            .collect()
    };
    assert_eq!(codes(&service), ["definition_changed"]);
    let run = service.post("/v1/pipeline/run", "").body;
    assert_eq!(run["experiments"], 1);
    assert_eq!(
        metrics(&service, "metric=revenue"),
        [row("revenue", "sum", "primary", "100.0000")]
    );
    let filtered = metrics(&service, "metric=revenue&from=2025-08-01T00:00:00Z");
    assert_eq!(
        filtered,
        metrics(&service, "metric=revenue"),
        "a fold agrees"
    );
    assert!(codes(&service).is_empty());
}

#[test]
fn any_kind_of_a_row_can_be_asked_for_and_changes_no_verdict() {
    let service = with_results();
    service.patch(
        "/v1/experiments/gate",
        &json!({"metrics": {"primary": ["buy:conversion"]}}),
    );
    let before = service.get("/v1/experiments/gate/results").body["metrics"][0].clone();
    assert_eq!(
        metrics(&service, "metric=buy:count"),
        [row("buy", "count", "exploratory", "100.0000")]
    );
    assert_eq!(metrics(&service, "kind=sum").len(), 1);
    let asked = service
        .get("/v1/experiments/gate/results?kind=conversion")
        .body;
    assert_eq!(asked["metrics"], json!([before]));
    let count = service.get("/v1/experiments/gate/results?kind=count").body;
    assert_eq!(count["metrics"][0]["variants"][1]["mean"], 2.0);
    assert_eq!(count["metrics"][0]["comparisons"][0]["flag"], Value::Null);
}
