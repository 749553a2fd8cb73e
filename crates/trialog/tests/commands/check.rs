//! `trialog check` and `trialog pipeline` through the real binary.

use std::process::Output;

use serde_json::Value;

use crate::fixture::Fixture;

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
    let fixture = Fixture::empty();
    fixture.good("aggregate");
    let listing = || {
        let mut names: Vec<_> = std::fs::read_dir(fixture.path("data"))
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
    let output = fixture.run("check --format json --min-free-disk 1");
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
    let fixture = Fixture::empty();
    fixture.good("aggregate");
    let free = trialog_warehouse::disk::space(&fixture.path(""))
        .unwrap()
        .free_bytes;
    let check = |least: u64, strict: bool| {
        let strict = if strict { " --strict" } else { "" };
        let output = fixture.run(&format!(
            "check --format json --min-free-disk {least}{strict}"
        ));
        let severity = severity(&report(&output), "disk_space").to_owned();
        (output.status.code().unwrap(), severity)
    };
    assert_eq!(check(free / 2, false), (0, "warning".to_owned()));
    assert_eq!(check(free / 2, true), (1, "warning".to_owned()));
    assert_eq!(check(u64::MAX, false), (2, "failed".to_owned()));
}

#[test]
fn settings_that_cannot_be_used_are_a_finding_and_every_value_tells_its_source() {
    let fixture = Fixture::empty();
    fixture.write("settings.toml", "intervall = \"1h\"");
    let check = "check --format json --config settings.toml";
    let output = fixture.run(check);
    assert_eq!(output.status.code(), Some(2));
    let found = report(&output);
    let detail = found["checks"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("`intervall`") && detail.contains("did you mean `interval`?"),
        "{detail}"
    );

    fixture.write("settings.toml", "interval = \"2h\"");
    let found = report(&fixture.run(check));
    let settings = found["settings"].as_array().unwrap();
    let interval = settings
        .iter()
        .find(|setting| setting["key"] == "interval")
        .unwrap();
    assert_eq!(
        (interval["value"].as_str(), interval["source"].as_str()),
        (Some("2h"), Some("settings.toml"))
    );
}

#[test]
fn the_pipeline_can_be_run_and_shown_from_the_command_line() {
    let fixture = Fixture::empty();
    assert_eq!(fixture.json("pipeline run")["run_id"], 1);
    let shown = fixture.json("pipeline");
    assert_eq!(shown["runs"][0]["status"], "succeeded");
    assert_eq!(shown["published"]["run_id"], 1);
    let table = fixture.good("pipeline status");
    assert!(
        table.contains("published up to position 0 by run 1"),
        "{table}"
    );
}

#[test]
fn an_address_that_others_reach_takes_a_key_and_a_certificate() {
    let fixture = Fixture::empty();
    let check = |more: &str| {
        let everywhere = "check --format json --listen 0.0.0.0:8080";
        let report = report(&fixture.run(&format!("{everywhere}{more}")));
        let checks = report["checks"].as_array().unwrap();
        let found = checks
            .iter()
            .find(|line| line["check"] == "listen")
            .unwrap();
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (text("severity"), text("detail"))
    };
    let (found, detail) = check(" --insecure-http");
    assert_eq!(found, "failed");
    assert!(detail.contains("there is no API key"), "{detail}");
    fixture.good("keys create me --scope admin");
    let (found, detail) = check("");
    assert_eq!(found, "failed");
    assert!(detail.contains("--tls-cert"), "{detail}");
    let (found, detail) = check(" --insecure-http");
    assert_eq!(found, "good", "{detail}");
    assert!(detail.contains("1 API keys"), "{detail}");
    let output = fixture.run("check --format json --tls-cert none.pem --tls-key none.pem");
    assert_eq!(severity(&report(&output), "tls"), "failed");
}
