//! Saved funnels on the command line: declared in a file, computed by a run, shown by name.

use crate::fixture::Fixture;

#[test]
fn a_saved_funnel_is_applied_computed_and_shown() {
    let fixture = Fixture::empty();
    let experiment = |steps: &str| {
        format!(
            r#"{{"experiment_id":"gate","variants":[{{"variant":"old"}},{{"variant":"new"}}],
                "funnels":[{{"name":"checkout","steps":[{steps}],"limits":[null,"2h"]}}]}}"#
        )
    };
    fixture.write("gate.json", experiment(r#""view","buy""#));
    fixture.good("experiments apply gate.json");
    let mut assignments = "user_id,experiment_id,variant,assigned_at\n".to_owned();
    let mut events = "user_id,experiment_id,event_type,timestamp\n".to_owned();
    for user in 0..40 {
        let variant = ["old", "new"][user % 2];
        assignments.push_str(&format!("{user},gate,{variant},2026-01-01T00:00:00Z\n"));
        events.push_str(&format!("{user},gate,view,2026-01-01T01:00:00Z\n"));
        if user < 10 {
            events.push_str(&format!("{user},gate,buy,2026-01-01T02:00:00Z\n"));
        }
    }
    fixture.write("a.csv", assignments);
    fixture.write("m.csv", events);
    fixture.good("import assignments a.csv");
    fixture.good("import metrics m.csv");
    let waiting = fixture.error("funnel gate --name checkout");
    assert!(waiting.contains("no run has computed yet"), "{waiting}");
    fixture.good("aggregate");

    let shown = fixture.good("funnel gate --name checkout");
    assert!(
        shown.starts_with("gate: view, buy (2h) within 7d"),
        "{shown}"
    );
    assert!(shown.contains("25.00 %"), "{shown}");
    let saved = fixture.json("funnel gate --name checkout");
    assert_eq!(
        saved,
        fixture.json("funnel gate --steps view,buy --limits ,2h")
    );
    assert_eq!(saved["variants"][0]["steps"][1]["users"], 5);

    fixture.write("gate.json", experiment(r#""buy","view""#));
    fixture.good("experiments apply gate.json");
    let changed = fixture.error("funnel gate --name checkout");
    assert!(changed.contains("was changed"), "{changed}");
    let unknown = fixture.error("funnel gate --name chekout");
    assert!(unknown.contains("did you mean `checkout`?"), "{unknown}");
    let both = fixture.error("funnel gate --name checkout --steps view,buy");
    assert!(both.contains("cannot be used with"), "{both}");
    let neither = fixture.error("funnel gate");
    assert!(neither.contains("--steps"), "{neither}");
}
