//! Families about users on their way through ordered steps.

use serde_json::{Value, json};

use super::fields::{Fields, NO_COUNT, count};
use super::{CalcError, Family};
use crate::{FunnelMatcher, FunnelSteps, MAX_FUNNEL_STEPS};

pub(super) const MATCH: Family = Family {
    name: "funnel_match",
    summary: "how far a user got through ordered steps, and when: the longest chain of events",
    example: r#"{"exposure": 0, "window": 1000, "steps": ["view", "add", "purchase"], "gaps": [null, null, 5], "events": [{"type": "view", "time": 0}, {"type": "add", "time": 1}, {"type": "add", "time": 10}, {"type": "purchase", "time": 12}]}"#,
    compute: |input| {
        let known = ["exposure", "window", "steps", "gaps", "events"];
        let fields = Fields::new(input, &known)?;
        let steps = fields.texts("steps")?;
        if steps.len() > MAX_FUNNEL_STEPS {
            return Err(fields.fault("steps", "must be 1 to 20"));
        }
        // A type has the number of the first step that it occurs in.
        let code_of = |kind: &str| {
            let first = steps.iter().position(|step| *step == kind);
            first.map(|step| step as u8)
        };
        let codes: Vec<u8> = steps.iter().filter_map(|step| code_of(step)).collect();
        let funnel = FunnelSteps::new(&codes, &limits(&fields)?, fields.count("window")?);
        let mut matcher = FunnelMatcher::new(fields.check(funnel)?);
        let mut events = Vec::new();
        for event in fields.objects("events", &["type", "time"])? {
            let time = event.integer("time")?;
            if let Some(code) = code_of(event.text("type")?) {
                events.push((time, code));
            }
        }
        events.sort_unstable();
        matcher.start(fields.integer("exposure")?);
        for (time, code) in events {
            fields.check(matcher.push(code, time))?;
        }
        let times = matcher.finish();
        Ok(json!({"status": "ok", "depth": times.len(), "times": times}))
    },
};

/// None, or one for each step, of which each may be null.
fn limits(fields: &Fields<'_>) -> Result<Vec<Option<u64>>, CalcError> {
    if !fields.has("gaps") {
        return Ok(Vec::new());
    }
    let limit = |value: &Value| match value {
        Value::Null => Some(None),
        other => count(other).map(Some),
    };
    fields.each("gaps", limit, NO_COUNT)
}

#[cfg(test)]
mod tests {
    use super::super::calc;
    use super::*;

    fn error(family: &str, input: &Value) -> String {
        calc(family, input).unwrap_err().to_string()
    }

    #[test]
    fn a_funnel_that_cannot_be_is_refused_at_its_field() {
        let history = |steps: Value, gaps: Value, window: u64| json!({"exposure": 0, "window": window, "steps": steps, "gaps": gaps, "events": []});
        for (input, field) in [
            (history(json!([]), json!(null), 9), "`steps` "),
            (history(json!(vec!["a"; 21]), json!(null), 9), "`steps` "),
            (history(json!(["a", "b"]), json!([1]), 9), "`gaps` "),
            (history(json!(["a", "b"]), json!([null, 0]), 9), "`gaps` "),
            (history(json!(["a", "b"]), json!([1, -1]), 9), "`gaps[1]` "),
            (history(json!(["a", 3]), json!(null), 9), "`steps[1]` "),
            (history(json!(["a"]), json!(null), 0), "`window` "),
        ] {
            let error = error("funnel_match", &input);
            assert!(error.starts_with(field), "{error}");
        }
    }
}
