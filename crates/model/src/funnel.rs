//! Defines a funnel: ordered steps, and how long they may take.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::document::DocumentError;
use crate::duration::Window;
use crate::experiment::{check_new, require};
use crate::ids::{EventType, FunnelName};

/// The fewest steps of a funnel.
pub const MIN_STEPS: usize = 2;
/// The maximum number of steps of a funnel.
pub const MAX_STEPS: usize = 20;
/// The maximum number of funnels that are saved with an experiment.
pub const MAX_FUNNELS: usize = 10;

/// The steps of a funnel, and how long they may take.
///
/// ```
/// use trialog_model::{duration::Window, funnel::FunnelDefinition, ids::EventType};
/// let steps = vec![EventType::new("view")?, EventType::new("purchase")?];
/// let funnel = FunnelDefinition::new(steps, Window::DEFAULT, vec![None, Some(Window::UNBOUNDED)]);
/// assert!(funnel.check().is_ok() && funnel.limits.is_empty());
/// # Ok::<(), trialog_model::ids::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunnelDefinition {
    /// The types of events, in order; a type may repeat.
    pub steps: Vec<EventType>,
    /// How long after the exposure events count.
    pub window: Window,
    /// Empty, or for each step how long after the step before it may come; for the first step,
    /// after the exposure. `None` is no limit.
    pub limits: Vec<Option<Window>>,
}

/// A funnel that is saved with an experiment, so that every run computes it.
///
/// ```
/// use trialog_model::{duration::Window, funnel::SavedFunnel};
/// let text = r#"{"name":"checkout","steps":["view","add","purchase"],"limits":[null,"1h",null]}"#;
/// let funnel: SavedFunnel = serde_json::from_str(text)?;
/// assert_eq!(funnel.definition().window, Window::DEFAULT);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedFunnel {
    /// Its name, which no other funnel of the experiment has.
    pub name: FunnelName,
    /// The types of events, in order; a type may repeat.
    pub steps: Vec<EventType>,
    /// How long after the exposure events count.
    #[serde(default)]
    pub window: Window,
    /// Empty, or for each step how long after the step before it may come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Option<Window>>,
}

impl FunnelDefinition {
    /// Builds the funnel. Limits that limit nothing are left out, so that equal funnels have equal
    /// definitions.
    pub fn new(steps: Vec<EventType>, window: Window, limits: Vec<Option<Window>>) -> Self {
        let is_limit = |limit: &Window| *limit != Window::UNBOUNDED;
        let limits = limits.into_iter().map(|limit| limit.filter(is_limit));
        let mut limits: Vec<Option<Window>> = limits.collect();
        if limits.len() == steps.len() && limits.iter().all(Option::is_none) {
            limits.clear();
        }
        Self {
            steps,
            window,
            limits,
        }
    }

    /// Checks the number of steps and of limits.
    ///
    /// # Errors
    ///
    /// The field that breaks a rule, with the remedy.
    pub fn check(&self) -> Result<(), DocumentError> {
        check_counts(self.steps.len(), self.limits.len())
    }

    /// Returns the limit of each step; `None` is no limit.
    pub fn limits_of_steps(&self) -> Vec<Option<Window>> {
        let mut limits = self.limits.clone();
        limits.resize(self.steps.len(), None);
        limits
    }
}

impl SavedFunnel {
    /// Returns the funnel without its name.
    pub fn definition(&self) -> FunnelDefinition {
        FunnelDefinition::new(self.steps.clone(), self.window, self.limits.clone())
    }

    fn check(&self) -> Result<(), DocumentError> {
        check_new("name", self.name.check_new())?;
        for (at, step) in self.steps.iter().enumerate() {
            check_new(format!("steps[{at}]"), step.check_new())?;
        }
        check_counts(self.steps.len(), self.limits.len())
    }
}

/// Checks the funnels of an experiment.
pub(crate) fn check_funnels(funnels: &[SavedFunnel]) -> Result<(), DocumentError> {
    let n_funnels = funnels.len();
    require(n_funnels <= MAX_FUNNELS, "funnels", || {
        format!("has {n_funnels} entries: at most {MAX_FUNNELS} are allowed")
    })?;
    let mut seen = BTreeSet::new();
    for (at, funnel) in funnels.iter().enumerate() {
        let at = format!("funnels[{at}]");
        funnel.check().map_err(|error| error.inside(&at))?;
        require(seen.insert(&funnel.name), format!("{at}.name"), || {
            format!(
                "is `{}`, as another funnel is: give each its own name",
                funnel.name
            )
        })?;
    }
    Ok(())
}

fn check_counts(n_steps: usize, n_limits: usize) -> Result<(), DocumentError> {
    require((MIN_STEPS..=MAX_STEPS).contains(&n_steps), "steps", || {
        format!(
            "has {}: give {MIN_STEPS} to {MAX_STEPS} types of events",
            count(n_steps, "step")
        )
    })?;
    require(n_limits == 0 || n_limits == n_steps, "limits", || {
        format!(
            "has {} for {n_steps} steps: give one for each step, empty for no limit",
            count(n_limits, "limit")
        )
    })
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use crate::experiment::Definition;

    /// Reads and checks an experiment with these funnels.
    fn read(funnels: &str) -> Result<Definition, DocumentError> {
        let text = format!(
            r#"{{"experiment_id":"gate","variants":[{{"variant":"a"}},{{"variant":"b"}}],"funnels":{funnels}}}"#
        );
        let definition: Definition = document::from_slice(text.as_bytes())?;
        definition.check()?;
        Ok(definition)
    }

    #[test]
    fn a_saved_funnel_is_read_and_written_as_it_was() {
        let text = r#"[{"name":"buy","steps":["view","add","view"],"window":"2d","limits":[null,"1h",null]},{"name":"look","steps":["view","view"],"window":"7d"}]"#;
        let definition = read(text).unwrap();
        let written = serde_json::to_string(&definition.funnels).unwrap();
        assert_eq!(written, text);
        let [buy, look] = definition.funnels.as_slice() else {
            panic!("{written}");
        };
        assert_eq!(
            buy.definition().limits_of_steps(),
            [None, Window::parse("1h").ok(), None]
        );
        assert_eq!(look.definition().window, Window::DEFAULT);
        assert_eq!(look.definition().limits_of_steps(), [None, None]);
    }

    #[test]
    fn an_experiment_without_funnels_is_written_as_before() {
        let written = serde_json::to_string(&read("[]").unwrap()).unwrap();
        assert!(!written.contains("funnels"), "{written}");
    }

    #[test]
    fn limits_that_limit_nothing_make_no_difference() {
        let limits = [
            "",
            r#","limits":[null,null]"#,
            r#","limits":["none",null]"#,
            r#","limits":[]"#,
        ];
        let definitions = limits.map(|limits| {
            let text = format!(r#"[{{"name":"f","steps":["a","b"]{limits}}}]"#);
            read(&text).unwrap().funnels[0].definition()
        });
        assert!(definitions.iter().all(|other| *other == definitions[0]));
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let funnel = |fields: &str| format!(r#"[{{"name":"f",{fields}}}]"#);
        let steps = |n: usize| funnel(&format!(r#""steps":[{}"a"]"#, r#""a","#.repeat(n - 1)));
        let many = format!(
            "[{}]",
            (0..11)
                .map(|n| format!(r#"{{"name":"{n}","steps":["a","b"]}}"#))
                .collect::<Vec<_>>()
                .join(",")
        );
        read(&steps(20)).unwrap();
        for (funnels, field) in [
            (steps(1), "funnels[0].steps"),
            (steps(21), "funnels[0].steps"),
            (funnel(r#""steps":[]"#), "funnels[0].steps"),
            (funnel(r#""steps":["a",""]"#), "funnels[0].steps[1]"),
            (funnel(r#""steps":["a","b\u202e"]"#), "funnels[0].steps[1]"),
            (
                funnel(r#""steps":["a","b"],"limits":["1h"]"#),
                "funnels[0].limits",
            ),
            (
                funnel(r#""steps":["a","b"],"limits":["0h",null]"#),
                "funnels[0].limits[0]",
            ),
            (
                funnel(r#""steps":["a","b"],"window":"0d""#),
                "funnels[0].window",
            ),
            (funnel(r#""steps":["a","b"],"step":1"#), "funnels[0].step"),
            (r#"[{"steps":["a","b"]}]"#.to_owned(), "funnels[0].name"),
            (
                r#"[{"name":"","steps":["a","b"]}]"#.to_owned(),
                "funnels[0].name",
            ),
            (
                r#"[{"name":"f","steps":["a","b"]},{"name":"f","steps":["b","a"]}]"#.to_owned(),
                "funnels[1].name",
            ),
            (many, "funnels"),
        ] {
            assert_eq!(read(&funnels).unwrap_err().field, field, "{funnels}");
        }
    }

    #[test]
    fn funnels_may_change_after_the_start() {
        let before = read(r#"[{"name":"f","steps":["a","b"]}]"#).unwrap();
        let after = read(r#"[{"name":"f","steps":["b","a"]}]"#).unwrap();
        before.check_change_after_start(&after).unwrap();
        assert!(before.locked_changes(&after).is_empty());
    }
}
