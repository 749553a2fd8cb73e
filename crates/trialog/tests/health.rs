//! Warnings about integrations on the command line, and none that the demo does not intend.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Runs the binary in `directory`, and gives what it printed.
fn run(directory: &Path, arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_trialog"))
        .current_dir(directory)
        .args(arguments.split(' '))
        .env("TRIALOG_DATA_DIR", "data")
        .env("TRIALOG_LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_command_line_says_that_no_event_is_from_an_exposed_user() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, head: &str, line: &dyn Fn(usize) -> String| {
        let lines: String = (0..400).map(line).collect();
        std::fs::write(directory.path().join(name), format!("{head}\n{lines}")).unwrap();
    };
    write("a.csv", "user_id,experiment_id,variant,assigned_at", &|n| {
        let variant = ["old", "new"][n % 2];
        format!("device-{n},gate,{variant},2026-01-01T00:00:00Z\n")
    });
    write(
        "m.csv",
        "user_id,experiment_id,event_type,timestamp",
        &|n| format!("account-{n},gate,purchase,2026-01-01T01:00:00Z\n"),
    );
    run(directory.path(), "import assignments a.csv");
    run(directory.path(), "import metrics m.csv");
    let ran = run(directory.path(), "aggregate");
    assert!(
        ran.contains("1 experiment has events of users without an exposure: gate"),
        "{ran}"
    );
    let shown = run(directory.path(), "results gate");
    let told = "error: 400 `purchase` events of 400 users, none from an exposed user: the events most likely carry another kind of id";
    assert!(shown.contains(told), "{shown}");
    assert!(shown.contains("without exposure"), "{shown}");
    let json: Value =
        serde_json::from_str(&run(directory.path(), "results gate --format json")).unwrap();
    assert_eq!(json["health"]["events"][0]["unexposed"], 400);
}

#[test]
fn the_demo_shows_the_warnings_that_its_stories_intend_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), "demo --seed 1 --exit");
    let listed: Value =
        serde_json::from_str(&run(directory.path(), "experiments list --format json")).unwrap();
    let listed = listed["experiments"]
        .as_array()
        .unwrap_or_else(|| listed.as_array().unwrap());
    let mut warned = Vec::new();
    for experiment in listed {
        let id = experiment["experiment_id"].as_str().unwrap();
        let report = run(directory.path(), &format!("results {id} --format json"));
        let report: Value = serde_json::from_str(&report).unwrap();
        for warning in report["health"]["warnings"].as_array().unwrap() {
            warned.push(format!("{id}: {}", warning["code"].as_str().unwrap()));
        }
        assert!(report["health"]["events"].is_array(), "{id}");
    }
    warned.sort();
    assert_eq!(
        warned,
        ["landing_redirect: srm", "trial_length: stopped_early"]
    );
}
