//! Funnels that are saved with an experiment: the run stores what a request would fold.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::funnel::{filled, get, users};
use crate::service::Service;

const HOUR: i64 = 3_600_000_000;

/// Changes the saved funnels of the experiment.
fn save(service: &Service, funnels: &Value) {
    let answer = service.patch("/v1/experiments/gate", &json!({ "funnels": funnels }));
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

fn run(service: &Service) {
    let answer = service.post("/v1/pipeline/run", "");
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

fn send(service: &Service, kind: &str, events: &Value) {
    let answer = service.post(&format!("/v1/events/{kind}"), events);
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
}

/// Three funnels, of which the types, the windows and the limits differ.
fn three() -> Value {
    json!([
        {"name": "checkout", "steps": ["view", "add", "buy"], "limits": [null, null, "10m"]},
        {"name": "short <b>", "steps": ["view", "add"], "window": "90m"},
        {"name": "to the end", "steps": ["view", "buy", "return"], "window": "none"},
    ])
}

/// Each saved funnel as a query, and as a query of its steps.
const BOTH: [[&str; 2]; 3] = [
    ["name=checkout", "steps=view,add,buy&limits=,,10m"],
    ["name=short%20%3Cb%3E", "steps=view,add&window=90m"],
    ["name=to+the+end", "steps=view,buy,return&window=none"],
];

/// Checks that each stored funnel is, to the last digit, what a request for its steps folds.
fn compare(service: &Service) {
    for [saved, given] in BOTH {
        for choices in ["", "&control=b", "&alpha=0.2", "&segment.platform=ios"] {
            let saved = get(service, &format!("{saved}{choices}"));
            assert_eq!(saved, get(service, &format!("{given}{choices}")), "{given}");
        }
    }
}

#[test]
fn a_run_stores_what_a_request_for_the_steps_folds() {
    let service = filled();
    let returned = json!([{"user_id": 1, "experiment_id": "gate", "event_type": "return",
                           "timestamp": "2025-09-30T00:00:00Z"}]);
    send(&service, "metrics", &returned);
    save(&service, &three());
    run(&service);
    let checkout = get(&service, "name=checkout");
    assert_eq!(users(&checkout), [[100, 60, 10], [100, 80, 25]]);
    assert_eq!(users(&get(&service, BOTH[1][0])), [[100, 0], [100, 0]]);
    assert_eq!(
        users(&get(&service, BOTH[2][0])),
        [[100, 20, 1], [100, 50, 0]]
    );
    compare(&service);

    // Late events and users.
    let late = json!([{"user_id": 1, "experiment_id": "gate", "event_type": "buy", "timestamp": "2025-09-10T02:06:00Z"},
                      {"user_id": 7_000, "experiment_id": "gate", "event_type": "view", "timestamp": "2025-09-10T02:00:00Z"}]);
    send(&service, "metrics", &late);
    let user = json!([{"user_id": 7_000, "experiment_id": "gate", "variant": "a", "assigned_at": "2025-09-10T00:00:00Z",
                       "context": {"platform": "ios"}}]);
    send(&service, "assignments", &user);
    assert_eq!(
        get(&service, "name=checkout"),
        checkout,
        "late events wait for a run"
    );
    run(&service);
    let later = get(&service, "name=checkout");
    assert_eq!(users(&later), [[101, 60, 11], [100, 80, 25]]);
    compare(&service);

    // A run that has nothing to do with the experiment moves the position only.
    let other = json!([{"user_id": 1, "experiment_id": "other", "variant": "a", "assigned_at": "2025-09-10T00:00:00Z"}]);
    send(&service, "assignments", &other);
    run(&service);
    let after = get(&service, "name=checkout");
    assert_eq!(
        (&after["variants"], &after["computed_at"]),
        (&later["variants"], &later["computed_at"])
    );
    assert_ne!(after["position"], later["position"]);
    compare(&service);
}

#[test]
fn a_run_comes_when_an_event_counts_for_a_funnel_alone() {
    let service = filled();
    // The clock stands in October. The user was exposed in September, so that no metric counts
    // what comes now.
    let soon = json!([{"user_id": 1, "experiment_id": "gate", "event_type": "return", "timestamp": "2025-10-09T09:00:00Z"}]);
    send(&service, "metrics", &soon);
    save(&service, &three());
    run(&service);
    let reached = || users(&get(&service, "name=to+the+end"))[0][2];
    assert_eq!(reached(), 0);
    service.pass(2 * HOUR);
    run(&service);
    assert_eq!(reached(), 1);
    compare(&service);
}

#[test]
fn what_is_not_computed_says_what_to_do() {
    let service = filled();
    let refused = |query: &str, status: StatusCode, said: &str| {
        let answer = service.get(&format!("/v1/experiments/gate/funnel?{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{query}: {detail}");
    };
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    refused("name=checkout", unprocessable, "add one to its `funnels`");
    save(&service, &three());
    refused("name=checkout", StatusCode::CONFLICT, "run the pipeline");
    let folded = get(&service, "name=checkout&segment.platform=ios");
    assert_eq!(users(&folded), [[50, 50, 10], [50, 50, 25]]);
    run(&service);
    refused(
        "name=chekout",
        unprocessable,
        "there are `checkout`, `short <b>`, `to the end`; did you mean `checkout`?",
    );
    for field in ["steps=view,buy", "window=7d", "limits=,1h"] {
        let said = "does not go with `name`";
        refused(&format!("name=checkout&{field}"), unprocessable, said);
    }
    let changed = json!([{"name": "checkout", "steps": ["view", "buy"]}]);
    save(&service, &changed);
    refused("name=checkout", StatusCode::CONFLICT, "was changed");
    run(&service);
    assert_eq!(
        users(&get(&service, "name=checkout")),
        [[100, 20], [100, 50]]
    );
    save(&service, &Value::Null);
    refused("name=checkout", unprocessable, "is no saved funnel");
    let definition = service.body("/v1/experiments/gate");
    assert_eq!(definition.get("funnels"), None);
}

#[test]
fn saved_funnels_are_listed_with_when_they_were_computed() {
    let service = filled();
    let list = || service.body("/v1/experiments/gate/funnels");
    assert_eq!(list(), json!({"experiment_id": "gate", "funnels": []}));
    save(&service, &three());
    let before = list();
    assert_eq!(before["funnels"][0]["name"], "checkout");
    assert_eq!(before["funnels"][0]["limits"], json!([null, null, "10m"]));
    assert_eq!(before["funnels"][1]["limits"], json!([null, null]));
    assert_eq!(before["funnels"][2]["window"], "none");
    assert_eq!(before["funnels"][0]["computed_at"], Value::Null);
    run(&service);
    let computed_at = get(&service, "name=checkout")["computed_at"].clone();
    for funnel in list()["funnels"].as_array().unwrap() {
        assert_eq!(funnel["computed_at"], computed_at);
    }
    // A change of one funnel leaves the others.
    let mut changed = three();
    changed[0]["window"] = json!("2h");
    save(&service, &changed);
    let after = list();
    assert_eq!(after["funnels"][0]["computed_at"], Value::Null);
    assert_eq!(after["funnels"][1]["computed_at"], computed_at);
    let unknown = service.get("/v1/experiments/gaet/funnels");
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[test]
fn an_experiment_is_registered_with_funnels_and_its_bad_ones_are_refused() {
    let service = Service::new();
    let register = |funnels: Value| {
        let experiment = json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}], "funnels": funnels});
        service.post("/v1/experiments", experiment)
    };
    for (funnels, status, field) in [
        (
            json!([{"name": "f", "steps": ["a"]}]),
            422,
            "funnels[0].steps",
        ),
        (
            json!([{"name": "f", "steps": ["a", "b"], "limits": ["1h"]}]),
            422,
            "funnels[0].limits",
        ),
        (
            json!([{"name": "f", "steps": ["a", "b"], "window": "7"}]),
            400,
            "funnels[0].window",
        ),
        (
            json!([{"name": "f", "steps": ["a", "b"]}, {"name": "f", "steps": ["b", "a"]}]),
            422,
            "funnels[1].name",
        ),
    ] {
        let refused = register(funnels);
        assert_eq!(refused.status, status, "{}", refused.body);
        assert_eq!(refused.body["field"], field, "{}", refused.body);
    }
    let funnels = json!([{"name": "f", "steps": ["a", "b"], "window": "7d"}]);
    let registered = register(funnels.clone());
    assert_eq!(
        registered.status,
        StatusCode::CREATED,
        "{}",
        registered.body
    );
    assert_eq!(registered.body["funnels"], funnels);
    run(&service);
    let funnel = get(&service, "name=f");
    assert_eq!(users(&funnel), [[0, 0], [0, 0]]);
    assert_eq!(funnel["comparisons"][0]["always_valid"], Value::Null);
}
