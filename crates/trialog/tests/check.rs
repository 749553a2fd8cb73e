//! `trialog check` and `trialog pipeline` through the real binary.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn trialog(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trialog"))
        .args(["--data-dir", directory.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn severity<'a>(report: &'a Value, check: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|line| line["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {report}"))["severity"]
        .as_str()
        .unwrap()
}

#[test]
fn a_sound_directory_is_good_and_is_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert!(trialog(&data, &["aggregate"]).status.success());
    let listing = || {
        let mut names: Vec<_> = std::fs::read_dir(&data)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.file_name(),
                    entry.metadata().unwrap().modified().unwrap(),
                )
            })
            .collect();
        names.sort();
        names
    };
    let before = listing();
    let output = trialog(
        &data,
        &["check", "--format", "json", "--min-free-disk", "1"],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&output);
    for check in [
        "configuration",
        "data_dir",
        "lock",
        "catalog_schema",
        "warehouse_schema",
        "clock",
    ] {
        assert_eq!(severity(&report, check), "good", "{report}");
    }
    assert_eq!(listing(), before);
}

#[test]
fn a_warning_counts_only_when_strict_and_a_failure_always() {
    let directory = tempfile::tempdir().unwrap();
    let free = trialog_warehouse::disk::space(directory.path())
        .unwrap()
        .free_bytes;
    let check = |least: u64, strict: bool| {
        let least = least.to_string();
        let mut arguments = vec!["check", "--format", "json", "--min-free-disk", &least];
        arguments.extend(strict.then_some("--strict"));
        let output = trialog(directory.path(), &arguments);
        let severity = severity(&report(&output), "disk_space").to_owned();
        (output.status.code().unwrap(), severity)
    };
    assert_eq!(check(free / 2, false), (0, "warning".to_owned()));
    assert_eq!(check(free / 2, true), (1, "warning".to_owned()));
    assert_eq!(check(u64::MAX, false), (2, "failed".to_owned()));
}

#[test]
fn settings_that_cannot_be_used_are_a_finding_and_every_value_tells_its_source() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trialog.toml");
    std::fs::write(&file, "intervall = \"1h\"").unwrap();
    let file_text = file.to_str().unwrap();
    let arguments = ["check", "--format", "json", "--config", file_text];
    let output = trialog(directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(2));
    let found = report(&output);
    let detail = found["checks"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("`intervall`") && detail.contains("did you mean `interval`?"),
        "{detail}"
    );

    std::fs::write(&file, "interval = \"2h\"").unwrap();
    let found = report(&trialog(directory.path(), &arguments));
    let settings = found["settings"].as_array().unwrap();
    let interval = settings
        .iter()
        .find(|setting| setting["key"] == "interval")
        .unwrap();
    assert_eq!(
        (interval["value"].as_str(), interval["source"].as_str()),
        (Some("2h"), Some(file_text))
    );
}

#[test]
fn the_pipeline_can_be_run_and_shown_from_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let ran = trialog(directory.path(), &["pipeline", "run", "--format", "json"]);
    assert_eq!(report(&ran)["run_id"], 1, "{ran:?}");
    let shown = trialog(directory.path(), &["pipeline", "--format", "json"]);
    let shown = report(&shown);
    assert_eq!(shown["runs"][0]["status"], "succeeded");
    assert_eq!(shown["published"]["run_id"], 1);
    let table = trialog(directory.path(), &["pipeline", "status"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("published up to position 0 by run 1"),
        "{table}"
    );
}

#[test]
fn an_address_that_others_reach_takes_a_key_and_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let check = |more: &[&str]| {
        let arguments = ["check", "--format", "json", "--listen", "0.0.0.0:8080"];
        let output = trialog(directory.path(), &[&arguments[..], more].concat());
        let report = report(&output);
        let checks = report["checks"].as_array().unwrap();
        let found = checks
            .iter()
            .find(|line| line["check"] == "listen")
            .unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (text("severity"), text("detail"))
    };
    let (found, detail) = check(&["--insecure-http"]);
    assert_eq!(found, "failed");
    assert!(detail.contains("there is no API key"), "{detail}");
    let made = trialog(
        directory.path(),
        &["keys", "create", "me", "--scope", "admin"],
    );
    assert!(made.status.success(), "{made:?}");
    let (found, detail) = check(&[]);
    assert_eq!(found, "failed");
    assert!(detail.contains("--tls-cert"), "{detail}");
    let (found, detail) = check(&["--insecure-http"]);
    assert_eq!(found, "good", "{detail}");
    assert!(detail.contains("1 API keys"), "{detail}");
    let missing = ["--tls-cert", "none.pem", "--tls-key", "none.pem"];
    let output = trialog(
        directory.path(),
        &[&["check", "--format", "json"], &missing[..]].concat(),
    );
    assert_eq!(severity(&report(&output), "tls"), "failed");
}
