//! Backup, restore, verification, erasure and export through the real binary,
//! beside a running server and without one.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::fixture::{Fixture, SERVE, text};

/// 40 users in two variants, every row twice; users 0 and 1 have several events.
fn assignments() -> String {
    let mut text = "user_id,experiment_id,variant,assigned_at,context,event_id\n".to_owned();
    for user in 0..40 {
        let variant = ["a", "b"][user % 2];
        let platform = ["ios", "web"][user / 2 % 2];
        let row = format!(
            "u{user},gate,{variant},2026-01-0{}T00:00:00.123456Z,\"{{\"\"platform\"\":\"\"{platform}\"\",\"\"note\"\":\"\"a, b\"\"}}\",a{user}\n",
            1 + user % 9
        );
        text.push_str(&row);
        text.push_str(&row);
    }
    text
}

fn metrics() -> String {
    let mut text = "user_id,experiment_id,event_type,value,timestamp,event_id\n".to_owned();
    for user in (0..40).step_by(3) {
        for copy in 0..3 {
            text.push_str(&format!(
                "u{user},gate,buy,{user}.{copy}5,2026-01-1{copy}T00:00:00Z,m{user}\n"
            ));
        }
        text.push_str(&format!("u{user},gate,buy,-1,2026-01-11T00:00:00Z,\n"));
    }
    text
}

/// How often and when results were published is no result.
fn forget_looks(results: &mut Value) {
    results["sequence"].take();
    if let Some(warnings) = results["health"]["warnings"].as_array_mut() {
        warnings.retain(|warning| warning["code"] != "looks_before_erasure");
    }
    let metrics = results["metrics"].as_array_mut().into_iter().flatten();
    for comparison in metrics.flat_map(|metric| metric["comparisons"].as_array_mut().unwrap()) {
        comparison["sequential"]["looks"].take();
        comparison["sequential"]["since"].take();
    }
}

/// A directory with the events and their results.
fn filled() -> Fixture {
    let fixture = Fixture::empty();
    fixture.write("assignments.csv", assignments());
    fixture.write("metrics.csv", metrics());
    fixture.good("import assignments assignments.csv");
    fixture.good("import metrics metrics.csv");
    fixture.good("aggregate");
    fixture
}

/// Everything that the results say, but when and up to where they were computed.
fn results(fixture: &Fixture) -> [Value; 2] {
    fixture.good("aggregate");
    ["", " --segment platform=ios"].map(|filter| {
        let mut results = fixture.json(&format!("results gate{filter}"));
        for told in ["computed_at", "data_time", "position"] {
            results[told].take();
        }
        forget_looks(&mut results);
        results
    })
}

/// The first run of metric events below a data directory or a backup.
fn a_run(directory: &Path) -> PathBuf {
    let mut runs = std::fs::read_dir(directory.join("events/metrics")).unwrap();
    runs.next().unwrap().unwrap().path()
}

#[test]
fn a_backup_made_beside_a_server_starts_elsewhere_with_the_same_results() {
    let fixture = filled();
    fixture.good("bench settle");
    let before = results(&fixture);
    let server = fixture.serve(SERVE);
    let outside = fixture.error("backup elsewhere");
    assert!(
        outside.contains("does not lie below the server's directory for backups"),
        "{outside}"
    );
    assert!(!fixture.path("elsewhere").exists());
    let report = fixture.json("backup data/backups/nightly");
    assert_eq!(report["position"], report["published_position"]);
    assert_eq!(
        fixture.run("backup data/backups/nightly").status.code(),
        Some(1)
    );
    drop(server);
    let refused = fixture.error("restore data/backups/nightly");
    assert!(refused.contains("holds data already"), "{refused}");
    let restored = fixture.good("restore data/backups/nightly --data-dir other");
    assert!(restored.contains("every byte was checked"), "{restored}");
    let mut other = fixture.json("results gate --data-dir other");
    forget_looks(&mut other);
    assert_eq!(other["metrics"], before[0]["metrics"]);
    assert!(
        fixture
            .good("verify --data-dir other")
            .contains("all is as it was written")
    );
}

#[test]
fn a_damaged_backup_is_refused_and_names_the_file() {
    let fixture = filled();
    fixture.good("bench settle");
    fixture.good("backup saved");
    let run = a_run(&fixture.path("saved"));
    let mut bytes = std::fs::read(&run).unwrap();
    bytes[20] ^= 1;
    std::fs::remove_file(&run).unwrap();
    std::fs::write(&run, bytes).unwrap();
    let refused = fixture.run("restore saved --data-dir other");
    assert_eq!(refused.status.code(), Some(1));
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(text(&refused).contains(name), "{}", text(&refused));
    assert!(!fixture.path("other").exists());
}

#[test]
fn verify_says_by_its_exit_code_what_it_found() {
    let fixture = filled();
    fixture.good("bench settle");
    assert_eq!(fixture.json("verify")["recomputed"], 1);
    let server = fixture.serve(SERVE);
    assert_eq!(fixture.json("verify")["sound"], true);
    drop(server);
    assert_eq!(
        fixture.run("verify --data-dir nowhere").status.code(),
        Some(1)
    );
    assert!(!fixture.path("nowhere").exists());
    let run = a_run(&fixture.path("data"));
    let mut bytes = std::fs::read(&run).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&run, bytes).unwrap();
    let output = fixture.run("verify --format json");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["damage"][0]["part"], "run");
}

#[test]
fn an_export_imported_again_gives_the_same_results() {
    let fixture = filled();
    let expected = results(&fixture);
    for (form, with_server) in [
        ("parquet", false),
        ("csv", false),
        ("csv", true),
        ("parquet", true),
    ] {
        let server = with_server.then(|| fixture.serve(SERVE));
        let copy = Fixture::empty();
        for table in ["assignments", "metrics"] {
            let file = copy.path(&format!("{table}.{form}"));
            fixture.good(&format!("export {table} {}", file.display()));
        }
        let other = with_server.then(|| copy.serve(SERVE));
        // Twice: what an exported event is a copy of, it stays a copy of.
        for repetition in 0..2 {
            for table in ["assignments", "metrics"] {
                copy.good(&format!("import {table} {table}.{form}"));
            }
            for table in ["assignments", "metrics"] {
                copy.good(&format!("export {table} again.csv"));
                let content = copy.read("again.csv");
                let mut lines = content.lines().skip(1);
                assert!(lines.all(|line| line.starts_with('u')), "{content}");
            }
            assert_eq!(
                results(&copy),
                expected,
                "{form}, {with_server}, {repetition}"
            );
        }
        drop((server, other));
    }
    // Beside the original file the exported one adds nothing.
    fixture.good(&format!(
        "export metrics {}",
        fixture.path("again.csv").display()
    ));
    fixture.good("import metrics again.csv");
    assert_eq!(results(&fixture), expected);
}

#[test]
fn an_export_has_each_event_once_and_what_was_asked_for() {
    let fixture = filled();
    let lines = |arguments: &str| -> Vec<String> {
        fixture.good(&format!("export {arguments}"));
        let name = arguments.split(' ').nth(1).unwrap();
        fixture.read(name).lines().map(str::to_owned).collect()
    };
    let all = lines("assignments a.csv --experiment gate");
    assert_eq!(all.len(), 41);
    assert_eq!(
        all[0],
        "user_id,experiment_id,variant,assigned_at,forced,context,event_fingerprint,user_key"
    );
    assert!(all[1].contains(",gate,") && all[1].contains(".123456Z,false,\"{\"\"platform\"\""));
    // 14 users with three copies of one event and one more.
    assert_eq!(lines("metrics m.csv").len(), 1 + 14 * 2);
    assert_eq!(
        lines("metrics early.csv --to 2026-01-11T00:00:00Z").len(),
        1 + 14
    );
    assert_eq!(lines("results r.csv").len(), 1 + 2);
    for (arguments, reason) in [
        ("metrics m.xlsx", "end the name with .parquet or .csv"),
        (
            "metrics m.csv --experiment nope",
            "experiment `nope` does not exist",
        ),
        ("metrics m.csv --from today", "`from`"),
    ] {
        let output = fixture.run(&format!("export {arguments}"));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(reason), "{}", text(&output));
    }
    let left = std::fs::read_dir(fixture.path("")).unwrap();
    assert!(
        left.map(|entry| entry.unwrap().file_name())
            .all(|name| !name.to_string_lossy().ends_with("incomplete"))
    );
}

#[test]
fn a_forgotten_user_is_in_no_export_and_in_no_result() {
    let fixture = filled();
    let users = |fixture: &Fixture| results(fixture)[0]["variants"][1]["users"].clone();
    assert_eq!(users(&fixture), 20);
    let report = fixture.json("forget u3");
    // Two rows of the same assignment, three copies of an event and one more.
    assert_eq!(report["events"], 6);
    assert!(report["notes"][0].as_str().unwrap().contains("backups"));
    assert_eq!(users(&fixture), 19);
    let server = fixture.serve(SERVE);
    assert_eq!(
        fixture.json("forget u5")["experiments"],
        serde_json::json!(["gate"])
    );
    assert_eq!(fixture.json("forget u5")["events"], 0);
    drop(server);
    assert_eq!(users(&fixture), 18);
    fixture.good("export assignments a.csv");
    let left = fixture.read("a.csv");
    let id = fixture.good("user-id u3");
    assert!(!left.contains(&id) && !left.contains("\nu3,") && left.contains("\nu4,"));
    assert_eq!(fixture.json("verify")["sound"], true);
}

/// Every file below a directory.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).into_iter().flatten();
    let mut files = Vec::new();
    // A file that is renamed or deleted meanwhile is met or not; either is fine.
    for path in listed.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => files.extend(files_in(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

#[test]
fn an_erasure_that_was_killed_can_be_repeated_and_nothing_else_is_lost() {
    let expected = {
        let fixture = filled();
        fixture.good("forget u3");
        results(&fixture)
    };
    // Killed when the first file has changed, the second, and so on.
    for n_changes in 1..6 {
        let fixture = filled();
        fixture.good("bench settle");
        let events = fixture.path("data/events");
        let mut erasure = fixture
            .command("forget u3")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (mut seen, mut changes) = (files_in(&events), 0);
        while changes < n_changes && erasure.try_wait().unwrap().is_none() {
            let now = files_in(&events);
            changes += usize::from(now != seen);
            seen = now;
        }
        let _ = erasure.kill();
        erasure.wait().unwrap();
        assert_eq!(fixture.json("verify")["damage"], serde_json::json!([]));
        fixture.good("forget u3");
        assert_eq!(results(&fixture), expected, "{n_changes} changes");
        fixture.good("export metrics left.csv");
        let left = fixture.read("left.csv");
        assert!(!left.contains(&fixture.good("user-id u3")));
    }
}
