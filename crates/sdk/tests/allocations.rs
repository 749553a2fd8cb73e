//! Calls on the hot path allocate nothing.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::time::Duration;

use serde_json::json;
use trialog_sdk::{Client, Context, MemoryTransport};

/// A hundred experiments with targeting, one holdout, and values.
fn client() -> Client {
    let experiment = |n: usize| {
        json!({
            "experiment_id": format!("experiment-{n}"), "event_types": ["purchase"],
            "variants": [{"variant": "a", "value": {"colour": "red"}}, {"variant": "b"}],
            "targeting": [{"key": "platform", "op": "in", "value": ["ios", "android"]},
                          {"key": "version", "op": "semver_gte", "value": "2.1.0"}],
            "forced": [{"user_id": "qa", "variant": "a"}],
        })
    };
    let experiments: Vec<_> = (0..100).map(experiment).collect();
    let rules = json!({"experiments": experiments, "holdouts": [{"name": "h", "size": 0.1}]});
    Client::builder()
        .configuration(rules.to_string())
        .transport(MemoryTransport::new())
        .batches(100_000, Duration::from_secs(3_600))
        .build()
        .unwrap()
}

#[test]
fn an_assignment_whose_exposure_is_known_allocates_nothing() {
    let client = client();
    let context = Context::new()
        .with("platform", "ios")
        .with("version", "2.10.0");
    let units: Vec<String> = (0..50)
        .map(|unit| unit.to_string())
        .chain(["qa".to_owned()])
        .collect();
    let ids: Vec<String> = (0..100).map(|n| format!("experiment-{n}")).collect();
    let ask = || {
        for unit in &units {
            for id in &ids {
                let assignment = client.assign(unit, id, &context);
                std::hint::black_box((assignment.variant(), assignment.value()));
                std::hint::black_box(client.decide(unit, id, &context));
            }
        }
    };
    // The first time exposures are logged.
    ask();
    let allocated = allocation_counter::measure(ask);
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    let unknown = allocation_counter::measure(|| {
        std::hint::black_box(client.assign("1", "none", &context));
    });
    assert_eq!(unknown.count_total, 0, "{unknown:?}");
}

#[test]
fn a_log_call_allocates_the_unit_once_for_all_its_events() {
    let client = client();
    let context = Context::new()
        .with("platform", "ios")
        .with("version", "2.10.0");
    let log = || client.log_metric("42", &context, "purchase", 4.99);
    log();
    let before = client.counters().offered;
    let allocated = allocation_counter::measure(log);
    let n_events = client.counters().offered - before;
    assert!(n_events > 50, "{n_events}");
    assert_eq!(allocated.count_total, 1, "{allocated:?}");
}
