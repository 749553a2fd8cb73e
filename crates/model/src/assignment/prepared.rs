//! Experiments and holdouts with all that a decision compares, prepared once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use super::why::{Step, Trace, pairs};
use super::{Context, Decision, targeting};
use crate::bucket::{N_BUCKETS, bucket, n_of_share};
use crate::configuration::{ExperimentRules, HoldoutRules};
use crate::experiment::{Condition, VariantWeight};
use crate::ids::{ExperimentId, Variant};
use crate::time::UnixMicros;

/// A variant of an experiment, and where it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    name: Variant,
    /// The bucket that it ends before.
    end: u16,
    value: Option<Arc<Value>>,
}

impl Arm {
    /// The variant.
    pub fn variant(&self) -> &Variant {
        &self.name
    }

    /// What it stands for in the application, where the definition says so.
    pub fn value(&self) -> Option<&Arc<Value>> {
        self.value.as_ref()
    }
}

/// Units that are kept out of experiments, to measure what those do together.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    name: String,
    id: ExperimentId,
    held_out: Variant,
    in_scope: Variant,
    below: u16,
    /// The experiments in its scope; all of them where there is none.
    experiments: Option<Vec<ExperimentId>>,
}

impl Holdout {
    /// The variant of units that are held out.
    pub const HELD_OUT: &str = "held_out";
    /// The variant of units in the scope that are not.
    pub const IN_SCOPE: &str = "in_scope";

    pub(super) fn new(rules: &HoldoutRules) -> Self {
        Self {
            name: rules.name.to_string(),
            id: rules.name.experiment_id(),
            held_out: variant(Self::HELD_OUT),
            in_scope: variant(Self::IN_SCOPE),
            below: n_of_share(rules.size),
            experiments: rules.experiments.clone(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The reserved experiment id, `holdout:` and its name, under which it is
    /// measured; it seeds the bucket as well.
    pub fn experiment_id(&self) -> &ExperimentId {
        &self.id
    }

    /// Whether it keeps `unit` out of the experiments in its scope.
    pub fn holds(&self, unit: &str) -> bool {
        bucket(unit, self.id.as_str()) < self.below
    }

    /// The variant of `unit` in the experiment that measures the holdout.
    pub fn variant(&self, unit: &str) -> &Variant {
        if self.holds(unit) {
            &self.held_out
        } else {
            &self.in_scope
        }
    }

    fn covers(&self, experiment: &ExperimentId) -> bool {
        (self.experiments.as_ref()).is_none_or(|all| all.contains(experiment))
    }
}

/// An experiment, prepared for decisions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    id: ExperimentId,
    forced: HashMap<String, usize>,
    /// Places of the holdouts whose scope it is in.
    pub(super) holdouts: Box<[usize]>,
    enrolment_salt: String,
    enrolled: Vec<Range<u16>>,
    targeting: Vec<Condition>,
    variant_salt: String,
    arms: Vec<Arm>,
    start_at: Option<UnixMicros>,
}

impl Rules {
    pub(super) fn new(rules: &ExperimentRules, holdouts: &[Holdout]) -> Self {
        let id = &rules.experiment_id;
        let salt = rules.salt.as_deref().unwrap_or(id.as_str());
        let (enrolment_salt, enrolled) = match &rules.layer {
            None => {
                let first = 0..n_of_share(rules.allocation);
                (format!("enrol:{salt}"), Vec::from([first]))
            }
            Some(layer) => {
                let ranges = rules.ranges.iter().map(|[from, to]| *from..*to);
                (format!("layer:{layer}"), ranges.collect())
            }
        };
        let arms = arms(&rules.variants);
        let place = |variant: &Variant| arms.iter().position(|arm| arm.name == *variant);
        let forced = (rules.forced.iter())
            .filter_map(|own| Some((own.user_id.clone(), place(&own.variant)?)))
            .collect();
        let covering = holdouts
            .iter()
            .enumerate()
            .filter(|(_, own)| own.covers(id));
        Self {
            forced,
            holdouts: covering.map(|(place, _)| place).collect(),
            enrolment_salt,
            enrolled,
            targeting: rules.targeting.clone(),
            variant_salt: format!("variant:{salt}"),
            arms,
            start_at: rules.start_at,
            id: id.clone(),
        }
    }

    /// The experiment's id.
    pub fn experiment_id(&self) -> &ExperimentId {
        &self.id
    }

    /// The variants, in the order of the definition.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// The variant called `name`.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name.as_str() == name)
    }

    /// When the analysis begins, where it does not begin with the first exposure.
    pub fn start_at(&self) -> Option<UnixMicros> {
        self.start_at
    }

    pub(super) fn decide<'c>(
        &'c self,
        holdouts: &'c [Holdout],
        unit: &str,
        context: &Context,
        trace: &mut impl Trace,
    ) -> Decision<'c> {
        if let Some(arm) = self.forced_arm(unit) {
            trace.note(|| Step::Forced {
                variant: arm.name.to_string(),
            });
            return Decision::Forced(arm);
        }
        for place in &self.holdouts {
            let Some(holdout) = holdouts.get(*place) else {
                continue;
            };
            let bucket = bucket(unit, holdout.id.as_str());
            let held_out = bucket < holdout.below;
            trace.note(|| Step::Holdout {
                name: holdout.name.clone(),
                salt: holdout.id.to_string(),
                bucket,
                below: holdout.below,
                held_out,
            });
            if held_out {
                return Decision::HeldOut(holdout);
            }
        }
        let place = bucket(unit, &self.enrolment_salt);
        let enrolled = self.enrolled.iter().any(|range| range.contains(&place));
        trace.note(|| Step::Enrolment {
            salt: self.enrolment_salt.clone(),
            bucket: place,
            ranges: pairs(&self.enrolled),
            enrolled,
        });
        if !enrolled {
            return Decision::NotEnrolled;
        }
        if !self.is_targeted(context, trace) {
            return Decision::NotTargeted;
        }
        self.assign(unit, trace)
    }

    fn forced_arm(&self, unit: &str) -> Option<&Arm> {
        if self.forced.is_empty() {
            return None;
        }
        self.forced.get(unit).map(|place| &self.arms[*place])
    }

    fn is_targeted(&self, context: &Context, trace: &mut impl Trace) -> bool {
        self.targeting.iter().all(|condition| {
            let holds = targeting::holds(condition, context);
            trace.note(|| Step::Targeting {
                condition: condition.clone(),
                given: context.get(&condition.key).cloned(),
                holds,
            });
            holds
        })
    }

    fn assign(&self, unit: &str, trace: &mut impl Trace) -> Decision<'_> {
        let place = bucket(unit, &self.variant_salt);
        // Only without variants there is none: the last one ends at 10,000.
        let Some(arm) = self.arms.iter().find(|arm| place < arm.end) else {
            return Decision::NotEnrolled;
        };
        trace.note(|| Step::Variant {
            salt: self.variant_salt.clone(),
            bucket: place,
            variant: arm.name.to_string(),
            below: arm.end,
        });
        Decision::Assigned(arm)
    }
}

fn variant(name: &str) -> Variant {
    Variant::new(name).expect("a short name without control characters")
}

/// Where each variant ends: its cumulative share of the weights.
fn arms(variants: &[VariantWeight]) -> Vec<Arm> {
    let sum: f64 = variants.iter().map(|own| own.weight).sum();
    let mut cumulative = 0.0;
    let arm = |own: &VariantWeight| {
        cumulative += own.weight;
        Arm {
            name: own.variant.clone(),
            end: n_of_share(cumulative / sum),
            value: own.value.clone().map(Arc::new),
        }
    };
    let mut arms: Vec<_> = variants.iter().map(arm).collect();
    if let Some(last) = arms.last_mut() {
        last.end = N_BUCKETS;
    }
    arms
}
