//! Defines layers and holdouts, which the registry keeps beside experiments.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::assignment::Holdout;
use crate::bucket::{N_BUCKETS, n_of_share};
use crate::document::DocumentError;
use crate::event::FieldError;
use crate::experiment::{Definition, Metrics, VariantWeight, check_new};
use crate::ids::{ExperimentId, HoldoutName, LayerName, Variant};

/// The maximum number of experiments that the scope of a holdout may name.
pub const MAX_SCOPE: usize = 1_000;

/// A layer: its experiments own disjoint buckets, so they share no unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerDefinition {
    /// The name by which experiments name it.
    pub name: LayerName,
    /// What it is for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
}

impl LayerDefinition {
    /// Checks the rules that the types cannot express.
    ///
    /// # Errors
    ///
    /// The first field that breaks a rule, with the remedy.
    pub fn check(&self) -> Result<(), FieldError> {
        self.name.check_new().map_err(|error| FieldError {
            field: "name",
            reason: error.to_string(),
        })?;
        check_text("description", self.description.as_ref())?;
        check_text("owner", self.owner.as_ref())
    }
}

/// What `POST /v1/holdouts` takes: units that are kept out of experiments to measure what those
/// experiments do together.
///
/// ```
/// use trialog_model::holdout::HoldoutDefinition;
/// let q3: HoldoutDefinition = serde_json::from_str(r#"{"name": "q3", "size": 0.05}"#)?;
/// q3.check()?;
/// assert_eq!(q3.measurement().experiment_id.as_str(), "holdout:q3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldoutDefinition {
    /// Its name.
    pub name: HoldoutName,
    /// The share of units that are held out, between 0 and 1.
    pub size: f64,
    /// The experiments in its scope; every one if absent.
    #[serde(default)]
    pub experiments: Option<Vec<ExperimentId>>,
    /// The metrics by which it is measured.
    #[serde(default)]
    pub metrics: Metrics,
    /// What it is for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
}

impl HoldoutDefinition {
    /// Checks the rules that the types cannot express.
    ///
    /// # Errors
    ///
    /// The first field that breaks a rule, with the remedy.
    pub fn check(&self) -> Result<(), DocumentError> {
        let n_held_out = if self.size.is_finite() {
            n_of_share(self.size)
        } else {
            0
        };
        if !(1..N_BUCKETS).contains(&n_held_out) {
            let reason = format!("is {}: give a share of 0.0001 to 0.9999", self.size);
            return Err(DocumentError {
                field: "size".to_owned(),
                reason,
            });
        }
        let n_experiments = self.experiments.as_ref().map_or(0, Vec::len);
        if n_experiments > MAX_SCOPE {
            let reason = format!(
                "names {n_experiments} experiments: name at most {MAX_SCOPE}, or none for all"
            );
            return Err(DocumentError {
                field: "experiments".to_owned(),
                reason,
            });
        }
        check_text("description", self.description.as_ref())?;
        check_text("owner", self.owner.as_ref())?;
        check_new("name", self.name.check_new())?;
        for (index, id) in self.experiments.iter().flatten().enumerate() {
            check_new(format!("experiments[{index}]"), id.check_new())?;
        }
        let measurement = self.measurement();
        measurement.check_metric_names()?;
        measurement.check_metrics()
    }

    /// Checks that a started holdout may be changed to `changed`.
    ///
    /// It may get smaller, which lets units in, and not grow, which would take units out
    /// of experiments that they are in; nor may its scope grow.
    ///
    /// # Errors
    ///
    /// The first field that may not change.
    pub fn check_change_after_start(&self, changed: &Self) -> Result<(), DocumentError> {
        if n_of_share(changed.size) > n_of_share(self.size) {
            let reason = format!(
                "cannot grow after the start, since that takes units out of experiments that they are in: it is {}, register another holdout",
                self.size
            );
            return Err(DocumentError {
                field: "size".to_owned(),
                reason,
            });
        }
        if self.metrics.primary != changed.metrics.primary {
            let reason = "cannot change after the start: add a secondary metric".to_owned();
            return Err(DocumentError {
                field: "metrics.primary".to_owned(),
                reason,
            });
        }
        Ok(())
    }

    /// Returns whether `experiment` is in the scope.
    pub fn covers(&self, experiment: &ExperimentId) -> bool {
        (self.experiments.as_ref()).is_none_or(|all| all.contains(experiment))
    }

    /// Builds the experiment that measures the holdout: units in the scope against those held out.
    pub fn measurement(&self) -> Definition {
        let held_out = f64::from(n_of_share(self.size)) / f64::from(N_BUCKETS);
        let variant = |name: &str, weight: f64| VariantWeight {
            variant: Variant::new(name).expect("a short name"),
            weight,
            value: None,
        };
        Definition {
            hypothesis: self.description.clone(),
            owner: self.owner.clone(),
            variants: vec![
                variant(Holdout::HELD_OUT, held_out),
                variant(Holdout::IN_SCOPE, 1.0 - held_out),
            ],
            metrics: self.metrics.clone(),
            ..Definition::unregistered(self.name.experiment_id())
        }
    }
}

/// Returns the variants of the measurement of a holdout that was started as `started` and is
/// `now`: the share that is held out now, against the share that was in scope at the start. Units
/// that were let in between belong to neither, see [`released`].
pub fn remaining(now: &Definition, started: &Definition) -> Vec<VariantWeight> {
    let is_held_out = |declared: &VariantWeight| declared.variant.as_str() == Holdout::HELD_OUT;
    let held_out_now = now.variants.iter().find(|declared| is_held_out(declared));
    let mut variants = started.variants.clone();
    let held_out = variants.iter_mut().find(|declared| is_held_out(declared));
    if let (Some(declared), Some(now)) = (held_out, held_out_now) {
        declared.weight = now.weight;
    }
    variants
}

/// Returns the buckets whose units were let in after the start of the holdout that `measurement`
/// measures. Units below them are still held out, units above never were. The range is empty if no
/// units were let in.
///
/// Its variants keep the share that was in scope at the start and the one that is held out now,
/// so what lies between them was let in.
///
/// ```
/// use trialog_model::holdout::{HoldoutDefinition, released, remaining};
/// let mut q3: HoldoutDefinition = serde_json::from_str(r#"{"name": "q3", "size": 0.05}"#)?;
/// let mut measurement = q3.measurement();
/// assert!(released(&measurement).is_empty());
///
/// q3.size = 0.02;
/// measurement.variants = remaining(&q3.measurement(), &measurement);
/// assert_eq!(released(&measurement), 200..500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn released(measurement: &Definition) -> Range<u16> {
    let share = |name: &str| {
        let declared =
            (measurement.variants.iter()).find(|declared| declared.variant.as_str() == name);
        declared.map_or(0, |declared| n_of_share(declared.weight))
    };
    share(Holdout::HELD_OUT)..N_BUCKETS - share(Holdout::IN_SCOPE)
}

fn check_text(field: &'static str, text: Option<&String>) -> Result<(), FieldError> {
    let length = text.map_or(0, String::len);
    if length > 4096 {
        let reason = format!("has {length} bytes: at most 4096 are allowed");
        return Err(FieldError { field, reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q3(size: f64) -> HoldoutDefinition {
        let text = format!(r#"{{"name":"q3","size":{size},"metrics":{{"primary":["purchase"]}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_size_holds_out_some_units_and_not_all() {
        for size in [0.0001, 0.05, 0.9999] {
            q3(size).check().unwrap();
        }
        for size in [0.0, 0.00001, 1.0, -1.0, 2.0] {
            assert_eq!(q3(size).check().unwrap_err().field, "size", "{size}");
        }
    }

    #[test]
    fn after_the_start_it_may_only_get_smaller() {
        let field = |changed: &HoldoutDefinition| {
            q3(0.05)
                .check_change_after_start(changed)
                .err()
                .map(|error| error.field)
        };
        assert_eq!(field(&q3(0.04)), None);
        assert_eq!(field(&q3(0.06)).as_deref(), Some("size"));
        let metrics = Metrics::default();
        assert_eq!(
            field(&HoldoutDefinition {
                metrics,
                ..q3(0.05)
            })
            .as_deref(),
            Some("metrics.primary")
        );
    }

    #[test]
    fn it_is_measured_as_an_experiment_with_the_shares_that_it_makes() {
        let measurement = q3(0.05).measurement();
        let weights: Vec<f64> = measurement
            .variants
            .iter()
            .map(|declared| declared.weight)
            .collect();
        assert_eq!(
            (weights[0], measurement.control().unwrap().as_str()),
            (0.05, "held_out")
        );
        assert_eq!(measurement.metrics, q3(0.05).metrics);
    }
}
