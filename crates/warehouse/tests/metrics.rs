//! What a warehouse counts agrees with what it did.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/harness.rs"]
mod harness;

use std::fs;

use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::registry::Registry;
use trialog_warehouse::embedded::{Options, Warehouse};

use harness::{assigned, bought, open, store};

/// The sample `name`, without labels.
fn sample(warehouse: &Warehouse, name: &str) -> f64 {
    let mut registry = Registry::default();
    warehouse.metrics().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let found = text.lines().find_map(|line| {
        let value = line.strip_prefix(&format!("trialog_warehouse_{name} "))?;
        Some(value.parse().unwrap())
    });
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn assert_samples(warehouse: &Warehouse, expected: &[(&str, f64)]) {
    for (name, expected) in expected {
        let actual = sample(warehouse, name);
        assert!(
            (actual - expected).abs() < 1e-9,
            "{name}: {actual} is not {expected}"
        );
    }
}

#[test]
fn commits_flushes_merges_and_their_failures_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        fan_in: 2,
        ..Options::default()
    };
    let warehouse = open(directory.path(), &options, 0).unwrap();
    store(
        &warehouse,
        &[assigned("gate", 1, 10, "a", 1), bought("gate", 1, 20, 5, 2)],
    );
    assert_samples(
        &warehouse,
        &[
            ("durable_batches_total", 2.0),
            ("durable_events_total", 2.0),
            ("group_commit_failures_total", 0.0),
            ("queued_bytes", 0.0),
            ("files", 0.0),
        ],
    );
    assert!(sample(&warehouse, "unflushed_bytes") > 0.0);
    assert!(sample(&warehouse, "group_commit_duration_seconds_count") >= 1.0);

    // A file where a run belongs: the flush fails, and succeeds later.
    let runs = directory.path().join("events/assignments");
    fs::remove_dir(&runs).unwrap();
    fs::write(&runs, "in the way").unwrap();
    warehouse.settle().unwrap_err();
    assert!(sample(&warehouse, "flush_failures_total") >= 1.0);
    fs::remove_file(&runs).unwrap();
    fs::create_dir(&runs).unwrap();
    warehouse.settle().unwrap();
    assert_samples(
        &warehouse,
        &[
            ("flushes_total", 1.0),
            ("merges_total", 0.0),
            ("rows", 2.0),
            ("files", 2.0),
            ("unflushed_bytes", 0.0),
        ],
    );

    store(
        &warehouse,
        &[assigned("gate", 2, 10, "a", 3), bought("gate", 2, 20, 5, 4)],
    );
    warehouse.settle().unwrap();
    // Two runs of each kind became one.
    assert_samples(
        &warehouse,
        &[
            ("flushes_total", 2.0),
            ("merges_total", 2.0),
            ("rows", 4.0),
            ("files", 2.0),
            ("merge_failures_total", 0.0),
        ],
    );
    assert!(sample(&warehouse, "file_bytes") > 0.0);
}
