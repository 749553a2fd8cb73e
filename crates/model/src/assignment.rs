//! Who gets which variant: a pure function of a configuration and its arguments.
//!
//! In this order, and each by a bucket of its own: held out, not enrolled, not
//! targeted, and else assigned. What is compared is prepared once, so that a decision
//! allocates nothing.
//!
//! Contract: decisions are the same in every version, process and SDK; the vectors of
//! `testdata/reference/assignment_decision.json` are frozen.

mod semver;
mod targeting;

use std::ops::Range;

use serde_json::{Map, Value};

use crate::bucket::{N_BUCKETS, bucket};
use crate::experiment::{Condition, VariantWeight};

/// What becomes of a unit in an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'c> {
    /// A holdout of this name keeps it out.
    HeldOut(&'c str),
    /// It is in no bucket that the experiment owns.
    NotEnrolled,
    /// A condition does not hold.
    NotTargeted,
    /// It gets this variant.
    Assigned(&'c str),
}

impl Decision<'_> {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::HeldOut(_) => "held_out",
            Self::NotEnrolled => "not_enrolled",
            Self::NotTargeted => "not_targeted",
            Self::Assigned(_) => "assigned",
        }
    }
}

/// Units that are kept out of experiments, to measure what those do together.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    name: String,
    salt: String,
    below: u16,
    /// The experiments in its scope; all of them where there is none.
    experiments: Option<Vec<String>>,
}

impl Holdout {
    /// The holdout `name` of the share `size` of units, 0 to 1, from `experiments`, or
    /// from every one.
    pub fn new(name: &str, size: f64, experiments: Option<Vec<String>>) -> Self {
        Self {
            name: name.to_owned(),
            salt: format!("holdout:{name}"),
            below: limit(size),
            experiments,
        }
    }

    /// Whether it keeps `unit` out of the experiments in its scope.
    pub fn holds(&self, unit: &str) -> bool {
        bucket(unit, &self.salt) < self.below
    }

    /// Whether `experiment` is in its scope.
    pub fn covers(&self, experiment: &str) -> bool {
        (self.experiments.as_ref())
            .is_none_or(|all| all.iter().any(|own| own.as_str() == experiment))
    }
}

/// Which units an experiment may have.
#[derive(Debug, Clone, PartialEq)]
pub enum Enrolment {
    /// This share of all units, 0 to 1.
    Allocation(f64),
    /// Those in buckets of a layer that it owns.
    Layer {
        /// The layer, whose experiments own disjoint ranges.
        layer: String,
        /// Buckets from the first on and before the last.
        ranges: Vec<Range<u16>>,
    },
}

/// An experiment, prepared for decisions.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    experiment: String,
    enrolment_salt: String,
    enrolled: Vec<Range<u16>>,
    targeting: Vec<Condition>,
    variant_salt: String,
    /// Each variant with the bucket that it ends before.
    variants: Vec<(String, u16)>,
}

impl Assignment {
    /// The experiment `id`; `salt` is the id where there is none. The weights are
    /// above 0, as a definition has checked.
    pub fn new(
        id: &str,
        salt: Option<&str>,
        enrolment: &Enrolment,
        targeting: Vec<Condition>,
        variants: &[VariantWeight],
    ) -> Self {
        let salt = salt.unwrap_or(id);
        let (enrolment_salt, enrolled) = match enrolment {
            Enrolment::Allocation(share) => {
                let first = 0..limit(*share);
                (format!("enrol:{salt}"), Vec::from([first]))
            }
            Enrolment::Layer { layer, ranges } => (format!("layer:{layer}"), ranges.clone()),
        };
        Self {
            experiment: id.to_owned(),
            enrolment_salt,
            enrolled,
            targeting,
            variant_salt: format!("variant:{salt}"),
            variants: variant_ends(variants),
        }
    }

    /// The experiment's id.
    pub fn experiment(&self) -> &str {
        &self.experiment
    }

    /// What becomes of `unit`, the user id as given, in this experiment.
    ///
    /// ```
    /// use trialog_model::assignment::{Assignment, Decision, Enrolment};
    /// let variants = serde_json::from_str(r#"[{"variant": "a"}, {"variant": "b"}]"#)?;
    /// let variants: Vec<_> = variants;
    /// let gate = Assignment::new("gate", None, &Enrolment::Allocation(1.0), Vec::new(), &variants);
    /// let decision = gate.decide("42", &serde_json::Map::new(), &[]);
    /// assert!(matches!(decision, Decision::Assigned("a" | "b")));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn decide<'c>(
        &'c self,
        unit: &str,
        context: &Map<String, Value>,
        holdouts: &'c [Holdout],
    ) -> Decision<'c> {
        let holdout = (holdouts.iter()).find(|own| own.covers(&self.experiment) && own.holds(unit));
        if let Some(holdout) = holdout {
            return Decision::HeldOut(&holdout.name);
        }
        let place = bucket(unit, &self.enrolment_salt);
        if !self.enrolled.iter().any(|range| range.contains(&place)) {
            return Decision::NotEnrolled;
        }
        if !self
            .targeting
            .iter()
            .all(|own| targeting::holds(own, context))
        {
            return Decision::NotTargeted;
        }
        let place = bucket(unit, &self.variant_salt);
        match self.variants.iter().find(|(_, end)| place < *end) {
            Some((variant, _)) => Decision::Assigned(variant),
            // Only without variants: the last one ends at 10,000.
            None => Decision::NotEnrolled,
        }
    }
}

/// A share of all buckets, to the nearest one.
fn limit(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * f64::from(N_BUCKETS)).round() as u16
}

/// Where each variant ends: its cumulative share of the weights.
fn variant_ends(variants: &[VariantWeight]) -> Vec<(String, u16)> {
    let sum: f64 = variants.iter().map(|own| own.weight).sum();
    let mut cumulative = 0.0;
    let end = |own: &VariantWeight| {
        cumulative += own.weight;
        (own.variant.to_string(), limit(cumulative / sum))
    };
    let mut ends: Vec<_> = variants.iter().map(end).collect();
    if let Some((_, last)) = ends.last_mut() {
        *last = N_BUCKETS;
    }
    ends
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn weights(all: &[f64]) -> Vec<VariantWeight> {
        let own =
            |(at, weight): (usize, &f64)| json!({"variant": format!("v{at}"), "weight": weight});
        let list: Vec<Value> = all.iter().enumerate().map(own).collect();
        serde_json::from_value(json!(list)).unwrap()
    }

    fn gate(allocation: f64) -> Assignment {
        let enrolment = Enrolment::Allocation(allocation);
        Assignment::new(
            "gate",
            None,
            &enrolment,
            Vec::new(),
            &weights(&[1.0, 2.0, 1.0]),
        )
    }

    proptest! {
        #[test]
        fn growing_an_allocation_moves_nobody_to_another_variant(
            unit in ".*", from in 0.0..1.0f64, by in 0.0..1.0f64,
        ) {
            let context = Map::new();
            let (small, large) = (gate(from), gate(from + by));
            if let Decision::Assigned(variant) = small.decide(&unit, &context, &[]) {
                prop_assert_eq!(large.decide(&unit, &context, &[]), Decision::Assigned(variant));
            }
        }

        #[test]
        fn every_enrolled_unit_has_a_variant(
            unit in ".*", all in prop::collection::vec(1e-6..1e6f64, 1..20),
        ) {
            let own = Assignment::new("x", None, &Enrolment::Allocation(1.0), Vec::new(), &weights(&all));
            prop_assert!(matches!(own.decide(&unit, &Map::new(), &[]), Decision::Assigned(_)));
        }

        #[test]
        fn no_unit_is_in_two_experiments_of_a_layer(unit in ".*", cut in 0..=N_BUCKETS) {
            let of = |range: Range<u16>| {
                let ranges = vec![range];
                let enrolment = Enrolment::Layer { layer: "page".to_owned(), ranges };
                Assignment::new("x", None, &enrolment, Vec::new(), &weights(&[1.0]))
            };
            let (left, right) = (of(0..cut), of(cut..N_BUCKETS));
            let is_in = |own: &Assignment| matches!(own.decide(&unit, &Map::new(), &[]), Decision::Assigned(_));
            prop_assert!(is_in(&left) != is_in(&right));
        }

        #[test]
        fn no_held_out_unit_is_in_any_experiment_of_the_scope(unit in ".*", size in 0.0..1.0f64) {
            let holdouts = [Holdout::new("h", size, Some(vec!["gate".to_owned()]))];
            let own = gate(1.0);
            let decision = own.decide(&unit, &Map::new(), &holdouts);
            prop_assert_eq!(decision == Decision::HeldOut("h"), holdouts[0].holds(&unit));
            prop_assert!(!holdouts[0].covers("other"));
        }
    }
}
