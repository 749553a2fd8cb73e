//! The host is never hurt: whatever becomes of the other side, calls return, nothing
//! panics, and the counters add up.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod calls;
mod configuration;
mod faults;
mod sink;

use std::time::Duration;

use serde_json::json;
use trialog_sdk::{Builder, Client, Counters};

/// Longer than anything here takes, unless it hangs.
const LONG: Duration = Duration::from_secs(60);

/// Two experiments; `gate` lists `purchase`, and both list `visit`.
fn rules() -> Vec<u8> {
    let variants = json!([{"variant": "a"}, {"variant": "b"}]);
    let experiments = json!([
        {"experiment_id": "gate", "variants": variants, "event_types": ["purchase", "visit", "bad"]},
        {"experiment_id": "page", "variants": variants, "event_types": ["visit"],
         "targeting": [{"key": "platform", "op": "eq", "value": "ios"}]},
    ]);
    json!({ "experiments": experiments })
        .to_string()
        .into_bytes()
}

fn builder() -> Builder {
    Client::builder()
        .configuration(rules())
        .retries(Duration::from_millis(1), Duration::from_millis(20))
        .batches(100, Duration::from_millis(20))
}

/// `offered = delivered + dropped + queued`.
fn assert_adds_up(counters: &Counters) {
    let accounted = counters.delivered + counters.dropped.total() + counters.queued;
    assert_eq!(counters.offered, accounted, "{counters:?}");
}
