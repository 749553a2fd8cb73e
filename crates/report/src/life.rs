//! Shows the decision about an experiment and its pauses as JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::ids::Variant;
use trialog_model::life::{Decision, Pause};

use super::Subject;
use super::warnings::{Severity, Warning};

/// The decision after an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decided {
    /// The variant that everybody gets until the experiment is archived; null where nothing
    /// is shipped.
    pub ship: Option<String>,
    /// The reason for the decision.
    pub reason: String,
    /// Who decided: the name of an access key.
    pub by: String,
    /// When it was decided, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
}

/// A time in which a started experiment was stopped, before it was resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Pause")]
pub struct Paused {
    /// When the experiment was stopped, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    /// When the experiment was resumed, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub to: String,
}

impl Decided {
    /// Formats `decision`.
    pub fn from_decision(decision: &Decision) -> Self {
        Self {
            ship: decision.ship.as_ref().map(Variant::to_string),
            reason: decision.reason.clone(),
            by: decision.by.clone(),
            at: decision.at.to_rfc3339(),
        }
    }

    /// Describes what is shipped, in words.
    pub fn outcome(&self) -> String {
        match &self.ship {
            Some(variant) => format!("ship `{variant}`"),
            None => "ship nothing".to_owned(),
        }
    }
}

impl Paused {
    /// Formats `pause`.
    pub fn from_pause(pause: &Pause) -> Self {
        Self {
            from: pause.from.to_rfc3339(),
            to: pause.to.to_rfc3339(),
        }
    }
}

/// Warns that exposed users saw no variant in the pauses.
pub(super) fn warn_of_pauses(warnings: &mut Vec<Warning>, subject: &Subject<'_>) {
    let Some(last) = subject.pauses.last() else {
        return;
    };
    let between = |pause: &Pause| {
        let Paused { from, to } = Paused::from_pause(pause);
        format!("{from} and {to}")
    };
    let times: Vec<String> = subject.pauses.iter().map(between).collect();
    let message = format!(
        "it was stopped and resumed: exposed users saw the control between {}, so effects on them are most likely too small",
        times.join(", between ")
    );
    let seconds: i64 = (subject.pauses.iter())
        .map(|pause| pause.to.0.saturating_sub(pause.from.0) / 1_000_000)
        .sum();
    warnings.push(
        Warning::new(Severity::Warning, "paused", message)
            .action(format!(
                "look also at the users who were exposed after it: `from={}`",
                last.to.to_rfc3339()
            ))
            .number("pauses", subject.pauses.len() as f64)
            .number("paused_seconds", seconds as f64),
    );
}

#[cfg(test)]
mod tests {
    use trialog_model::experiment::Definition;
    use trialog_model::time::UnixMicros;

    use super::*;

    #[test]
    fn a_reader_is_told_of_every_pause_and_of_none_where_there_was_none() {
        let text = r#"{"experiment_id":"gate","variants":[{"variant":"a"},{"variant":"b"}]}"#;
        let definition: Definition = serde_json::from_str(text).unwrap();
        let subject = Subject::from_definition(&definition);
        let warned = |subject: &Subject<'_>| {
            let mut warnings = Vec::new();
            warn_of_pauses(&mut warnings, subject);
            warnings
        };
        assert_eq!(warned(&subject), []);
        let pause = |from: i64, to: i64| Pause {
            from: UnixMicros(from * 1_000_000),
            to: UnixMicros(to * 1_000_000),
        };
        let paused = Subject {
            pauses: &[pause(0, 60), pause(3_600, 3_630)],
            ..subject
        };
        let [warning] = <[Warning; 1]>::try_from(warned(&paused)).unwrap();
        let text = warning.text();
        assert!(text.contains("between 1970-01-01T00:00:00Z and 1970-01-01T00:01:00Z, between"));
        assert!(text.contains("from=1970-01-01T01:00:30Z"), "{text}");
        assert!((warning.numbers["paused_seconds"] - 90.0).abs() < 1e-9);
    }
}
