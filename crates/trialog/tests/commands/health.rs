//! Warnings about integrations on the command line, and none that the demo does not intend.

use crate::fixture::Fixture;

#[test]
fn the_command_line_says_that_no_event_is_from_an_exposed_user() {
    let fixture = Fixture::empty();
    let write = |name: &str, head: &str, line: &dyn Fn(usize) -> String| {
        let lines: String = (0..400).map(line).collect();
        fixture.write(name, format!("{head}\n{lines}"));
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
    fixture.good("import assignments a.csv");
    fixture.good("import metrics m.csv");
    let ran = fixture.good("aggregate");
    assert!(
        ran.contains("1 experiment has events of users without an exposure: gate"),
        "{ran}"
    );
    let shown = fixture.good("results gate");
    let told = "error: 400 `purchase` events of 400 users, none from an exposed user: the events most likely carry another kind of id";
    assert!(shown.contains(told), "{shown}");
    assert!(shown.contains("without exposure"), "{shown}");
    let json = fixture.json("results gate");
    assert_eq!(json["health"]["events"][0]["unexposed"], 400);
}

#[test]
fn the_demo_shows_the_warnings_that_its_stories_intend_and_no_other() {
    let fixture = Fixture::empty();
    fixture.good("demo --seed 1 --exit --listen 127.0.0.1:0");
    let listed = fixture.json("experiments list");
    let listed = listed["experiments"]
        .as_array()
        .unwrap_or_else(|| listed.as_array().unwrap());
    let mut warned = Vec::new();
    for experiment in listed {
        let id = experiment["experiment_id"].as_str().unwrap();
        let report = fixture.json(&format!("results {id}"));
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
