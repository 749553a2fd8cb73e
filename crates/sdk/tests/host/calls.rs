//! What each call logs, and what it tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};
use trialog_sdk::{BuildError, Client, Context, MemoryTransport, Outcome, UnixMicros};

use crate::{LONG, assert_adds_up, builder, rules};

fn client() -> (Client, MemoryTransport) {
    let events = MemoryTransport::new();
    (builder().transport(events.clone()).build().unwrap(), events)
}

/// Flushes and takes the events out.
fn sent(client: &Client, events: &MemoryTransport) -> Vec<Value> {
    assert_eq!(client.flush(LONG).queued, 0);
    events.take()
}

#[test]
fn an_exposure_is_logged_once_for_each_unit_experiment_and_variant() {
    let (client, events) = client();
    let player = Context::new().with("platform", "ios");
    for _ in 0..10 {
        for unit in ["1", "2"] {
            client.assign(unit, "gate", &player);
            client.assign(unit, "page", &player);
        }
    }
    let sent = sent(&client, &events);
    assert_eq!(sent.len(), 4);
    let first = &sent[0];
    assert_eq!(
        (&first["user_id"], &first["experiment_id"]),
        (&json!("1"), &json!("gate"))
    );
    assert_eq!(first["context"], json!({"platform": "ios"}));
    assert_eq!(
        first["variant"].as_str(),
        client.decide("1", "gate", &player).variant()
    );
    let id = first["event_id"].as_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "7"));
}

#[test]
fn an_exposure_that_was_dropped_is_logged_by_the_next_call() {
    let events = MemoryTransport::new();
    let client = builder()
        .transport(events.clone())
        .buffer(1, 1 << 16)
        .batches(1_000, LONG)
        .build()
        .unwrap();
    for unit in ["1", "2"] {
        client.assign(unit, "gate", &Context::new());
    }
    let counters = client.counters();
    assert_adds_up(&counters);
    assert_eq!(
        sent(&client, &events).len() as u64,
        2 - counters.dropped.full
    );
    client.assign("2", "gate", &Context::new());
    assert_eq!(sent(&client, &events).len() as u64, counters.dropped.full);
}

#[test]
fn an_exposure_from_before_the_start_of_the_analysis_is_logged_again_after_it() {
    let now = Arc::new(AtomicI64::new(1_760_000_000_000_000));
    let clock = Arc::clone(&now);
    let events = MemoryTransport::new();
    let later = json!({"experiments": [{
        "experiment_id": "later", "start_at": "2025-10-10T00:00:00Z", "variants": [{"variant": "a"}],
    }]});
    let client = Client::builder()
        .configuration(later.to_string())
        .transport(events.clone())
        .clock(Arc::new(move || UnixMicros(clock.load(Ordering::SeqCst))))
        .build()
        .unwrap();
    for (at, n_sent) in [
        (1_760_000_000_000_000, 1),
        (1_760_000_000_000_001, 0),
        (1_770_000_000_000_000, 1),
        (1_770_000_000_000_001, 0),
    ] {
        now.store(at, Ordering::SeqCst);
        client.assign("1", "later", &Context::new());
        assert_eq!(sent(&client, &events).len(), n_sent, "{at}");
    }
}

#[test]
fn a_metric_is_logged_for_each_experiment_in_which_it_counts() {
    let (client, events) = client();
    let count = |context: &Context, event_type: &str| {
        client.log_metric("1", context, event_type, 2.5);
        let mut found: Vec<String> = (sent(&client, &events).iter())
            .map(|event| {
                format!(
                    "{}={}",
                    event["experiment_id"].as_str().unwrap(),
                    event["value"].as_str().unwrap()
                )
            })
            .collect();
        found.sort();
        found
    };
    let ios = Context::new().with("platform", "ios");
    assert_eq!(count(&ios, "visit"), ["gate=2.5000", "page=2.5000"]);
    assert_eq!(count(&Context::new(), "visit"), ["gate=2.5000"]);
    assert_eq!(count(&ios, "purchase"), ["gate=2.5000"]);
    assert_eq!(count(&ios, "unheard of"), [""; 0]);
    client.log_metric_for("elsewhere", "1", "unheard of", "0.0001");
    let exposure = &sent(&client, &events)[0];
    assert_eq!(
        (&exposure["experiment_id"], &exposure["value"]),
        (&json!("elsewhere"), &json!("0.0001"))
    );
}

#[test]
fn what_breaks_a_rule_is_dropped_and_counted() {
    let (client, events) = client();
    let none = Context::new();
    client.log_metric("1", &none, "purchase", f64::NAN);
    client.log_metric("", &none, "purchase", 1);
    client.log_metric_for("", "1", "purchase", 1);
    client.log_metric_for("gate", "1", &"x".repeat(65), 1);
    client.log_metric_for("gate", &"u".repeat(1_025), "purchase", 1);
    client.assign("", "gate", &none);
    assert!(
        client
            .assign(&"u".repeat(5_000), "gate", &none)
            .variant()
            .is_some()
    );
    assert_eq!(sent(&client, &events).len(), 0);
    assert_eq!(client.counters().dropped.invalid, 7);
    assert_adds_up(&client.counters());
}

#[test]
fn a_holdout_is_measured_and_keeps_its_units_out() {
    let mut rules: Value = serde_json::from_slice(&rules()).unwrap();
    rules["holdouts"] = json!([{"name": "q3", "size": 0.5, "event_types": ["purchase"]}]);
    let events = MemoryTransport::new();
    let client = Client::builder()
        .configuration(rules.to_string())
        .transport(events.clone())
        .build()
        .unwrap();
    let mut expected = BTreeMap::new();
    for unit in 0..100 {
        let unit = unit.to_string();
        let held = client.assign(&unit, "gate", &Context::new()).outcome() == Outcome::HeldOut;
        client.log_metric(&unit, &Context::new(), "purchase", 1);
        let side = if held { "held_out" } else { "in_scope" };
        *expected.entry(side.to_owned()).or_insert(0) += 1;
    }
    let mut sides = BTreeMap::new();
    let mut n_purchases = BTreeMap::new();
    for event in sent(&client, &events) {
        let experiment = event["experiment_id"].as_str().unwrap().to_owned();
        match event["variant"].as_str() {
            Some(variant) if experiment == "holdout:q3" => {
                *sides.entry(variant.to_owned()).or_insert(0) += 1
            }
            Some(_) => {}
            None => *n_purchases.entry(experiment).or_insert(0) += 1,
        }
    }
    assert_eq!(sides, expected);
    assert_eq!(
        (n_purchases["holdout:q3"], n_purchases["gate"]),
        (100, expected["in_scope"])
    );
}

#[test]
fn a_shipped_variant_goes_to_everybody_and_only_the_holdout_is_logged() {
    let mut rules: Value = serde_json::from_slice(&rules()).unwrap();
    rules["holdouts"] = json!([{"name": "q3", "size": 0.5, "experiments": ["ended"]}]);
    rules["shipped"] = json!([{
        "experiment_id": "ended", "ship": "b",
        "variants": [{"variant": "a"}, {"variant": "b", "value": {"depth": 2}}],
    }]);
    let events = MemoryTransport::new();
    let client = Client::builder()
        .configuration(rules.to_string())
        .transport(events.clone())
        .build()
        .unwrap();
    let none = Context::new();
    let mut n_shipped = 0;
    for unit in (0..50).map(|unit| unit.to_string()) {
        let assignment = client.assign(&unit, "ended", &none);
        match assignment.outcome() {
            Outcome::Shipped => {
                n_shipped += 1;
                assert_eq!(assignment.variant(), Some("b"));
                assert_eq!(assignment.value(), Some(&json!({"depth": 2})));
            }
            outcome => assert_eq!((outcome, assignment.variant()), (Outcome::HeldOut, None)),
        }
    }
    assert!((10..40).contains(&n_shipped), "{n_shipped}");
    let logged = sent(&client, &events);
    assert_eq!(logged.len(), 50);
    assert!(
        logged
            .iter()
            .all(|event| event["experiment_id"] == "holdout:q3")
    );
}

#[test]
fn a_forced_unit_gets_its_variant_and_its_exposure_says_so() {
    let events = MemoryTransport::new();
    let client = builder()
        .transport(events.clone())
        .force("qa", "gate", "b")
        .build()
        .unwrap();
    client.force("qa", "nowhere", Some("x"));
    let none = Context::new();
    let assignment = client.assign("qa", "gate", &none);
    assert_eq!(
        (assignment.variant(), assignment.outcome()),
        (Some("b"), Outcome::Forced)
    );
    assert_eq!(client.assign("qa", "nowhere", &none).variant_or("y"), "x");
    assert_eq!(client.decide("qa", "gate", &none).variant(), Some("b"));
    let all = client.decide_all("qa", &none);
    assert_eq!(all[0].1.variant(), Some("b"));
    assert_eq!(
        sent(&client, &events)
            .iter()
            .filter(|event| event["forced"] == true)
            .count(),
        2
    );
    client.force("qa", "gate", None);
    assert_eq!(
        client.assign("qa", "gate", &none).outcome(),
        Outcome::Assigned
    );
}

#[test]
fn a_look_is_no_exposure() {
    let (client, events) = client();
    let ios = Context::new().with("platform", "ios");
    client.decide("1", "gate", &ios);
    assert_eq!(client.decide_all("1", &ios).len(), 2);
    assert!(!client.explain("1", "gate", &ios).is_empty());
    assert_eq!(sent(&client, &events).len(), 0);
    let all = client.assign_all("1", &ios);
    assert!(
        all.iter()
            .all(|(_, assignment)| assignment.variant().is_some())
    );
    assert_eq!(sent(&client, &events).len(), 2);
}

#[test]
fn why_there_is_no_variant() {
    let (client, _) = client();
    let none = Context::new();
    assert_eq!(
        client.assign("1", "page", &none).outcome(),
        Outcome::NotTargeted
    );
    let outcome = client.assign("1", "no such", &none).outcome();
    assert_eq!(outcome, Outcome::NotRunning);
    assert!(client.explain("1", "no such", &none).is_empty());
}

#[test]
fn a_client_is_not_built_of_what_cannot_work() {
    let fails = |builder: trialog_sdk::Builder| builder.build().unwrap_err().to_string();
    assert!(fails(Client::builder()).contains("`server`"));
    assert!(fails(Client::builder().configuration("{}")).contains("experiments"));
    assert!(fails(builder()).contains("`transport`"));
    assert!(fails(Client::builder().server("trialog.example")).contains("https://"));
    assert!(fails(builder().buffer(0, 1 << 20)).contains("`buffer`"));
    let error = builder()
        .transport(MemoryTransport::new())
        .force("qa", "gate", "")
        .build();
    assert!(matches!(error, Err(BuildError::BadVariant(..))));
    let shown = format!("{:?}", Client::builder().api_key("tlk_secret"));
    assert!(!shown.contains("secret"), "{shown}");
}
