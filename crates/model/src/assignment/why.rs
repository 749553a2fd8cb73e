//! Explains a decision step by step.

use std::fmt;
use std::ops::Range;

use serde::Serialize;
use serde_json::Value;

use crate::experiment::Condition;

/// One step of a decision, in the order in which they are taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The unit is on the experiment's list of forced variants.
    Forced {
        /// The variant that it gets.
        variant: String,
    },
    /// A holdout whose scope the experiment is in.
    Holdout {
        /// The holdout.
        name: String,
        /// What seeds the bucket.
        salt: String,
        /// The unit's bucket.
        bucket: u16,
        /// Units in buckets below this one are held out.
        below: u16,
        /// Whether the unit is held out.
        held_out: bool,
    },
    /// Whether the experiment owns the unit's bucket.
    Enrolment {
        /// What seeds the bucket.
        salt: String,
        /// The unit's bucket.
        bucket: u16,
        /// The buckets that the experiment owns, from the first on and before the second.
        ranges: Vec<[u16; 2]>,
        /// Whether the unit is enrolled.
        enrolled: bool,
    },
    /// A condition on the context.
    Targeting {
        /// The condition.
        condition: Condition,
        /// What the context has under its key.
        given: Option<Value>,
        /// Whether the condition holds.
        holds: bool,
    },
    /// Which variant the unit gets.
    Variant {
        /// What seeds the bucket.
        salt: String,
        /// The unit's bucket.
        bucket: u16,
        /// The variant.
        variant: String,
        /// The bucket that the variant ends before.
        below: u16,
    },
    /// The experiment ended and ships a variant.
    Shipped {
        /// The variant that every unit gets.
        variant: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forced { variant } => write!(f, "forced: the unit is listed with `{variant}`"),
            Self::Shipped { variant } => {
                write!(
                    f,
                    "shipped: the experiment ended with the decision for `{variant}`"
                )
            }
            Self::Holdout {
                name,
                bucket,
                below,
                held_out,
                ..
            } => {
                let (outcome, side) = if *held_out {
                    ("held out", "below")
                } else {
                    ("let in", "not below")
                };
                write!(
                    f,
                    "holdout `{name}`: bucket {bucket} is {side} {below}: {outcome}"
                )
            }
            Self::Enrolment {
                salt,
                bucket,
                ranges,
                enrolled,
            } => {
                let (outcome, side) = if *enrolled {
                    ("enrolled", "in")
                } else {
                    ("not enrolled", "not in")
                };
                let ranges: Vec<_> = ranges
                    .iter()
                    .map(|[from, to]| format!("{from} to below {to}"))
                    .collect();
                let ranges = if ranges.is_empty() {
                    "no bucket".to_owned()
                } else {
                    ranges.join(", ")
                };
                write!(
                    f,
                    "enrolment: bucket {bucket} of `{salt}` is {side} {ranges}: {outcome}"
                )
            }
            Self::Targeting {
                condition,
                given,
                holds,
            } => {
                let op = serde_json::to_value(condition.op).unwrap_or_default();
                let op = op.as_str().unwrap_or_default();
                let given = given.as_ref().map_or("absent".to_owned(), Value::to_string);
                let outcome = if *holds { "holds" } else { "does not hold" };
                write!(
                    f,
                    "targeting: `{}` is {given}: `{op} {}` {outcome}",
                    condition.key, condition.value
                )
            }
            Self::Variant {
                salt,
                bucket,
                variant,
                below,
            } => {
                write!(
                    f,
                    "variant: bucket {bucket} of `{salt}` is below {below}: `{variant}`"
                )
            }
        }
    }
}

/// Receives every step of a decision. `()` ignores the steps.
pub(super) trait Trace {
    fn is_wanted(&self) -> bool;
    fn note(&mut self, step: impl FnOnce() -> Step);
}

impl Trace for () {
    fn is_wanted(&self) -> bool {
        false
    }

    fn note(&mut self, _: impl FnOnce() -> Step) {}
}

impl Trace for Vec<Step> {
    fn is_wanted(&self) -> bool {
        true
    }

    fn note(&mut self, step: impl FnOnce() -> Step) {
        self.push(step());
    }
}

/// Converts ranges to the pairs that JSON has.
pub(super) fn pairs(ranges: &[Range<u16>]) -> Vec<[u16; 2]> {
    ranges
        .iter()
        .map(|range| [range.start, range.end])
        .collect()
}
