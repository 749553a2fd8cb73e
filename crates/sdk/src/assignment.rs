//! Defines what `assign` returns to the application.

use std::sync::Arc;

use serde_json::Value;
use trialog_model::assignment::Decision;
use trialog_model::ids::Variant;

/// The reason why a unit gets a variant, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It gets a variant by the rules.
    Assigned,
    /// It gets a variant regardless of the rules, and is not analysed.
    Forced,
    /// It gets the variant that every unit gets since the experiment ended; no exposure.
    Shipped,
    /// A holdout keeps it out.
    HeldOut,
    /// It is not among the units that the experiment may have.
    NotEnrolled,
    /// A condition on the context does not hold.
    NotTargeted,
    /// No such experiment runs or ships a variant.
    NotRunning,
    /// There is no configuration yet.
    NotReady,
}

/// The variant that a unit gets, if any.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    outcome: Outcome,
    variant: Option<Variant>,
    value: Option<Arc<Value>>,
}

impl Assignment {
    /// Returns the variant; `None` if the application shall behave as if there were no experiment.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_ref().map(Variant::as_str)
    }

    /// Returns the variant, or `other` if there is none.
    pub fn variant_or<'a>(&'a self, other: &'a str) -> &'a str {
        self.variant().unwrap_or(other)
    }

    /// Returns the value of the variant, if the definition has one.
    pub fn value(&self) -> Option<&Value> {
        self.value.as_deref()
    }

    /// Returns the reason.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Builds an assignment without a variant.
    pub(crate) fn none(outcome: Outcome) -> Self {
        Self {
            outcome,
            variant: None,
            value: None,
        }
    }

    /// Builds the assignment of a variant that the application forces.
    pub(crate) fn forced(variant: Variant, value: Option<Arc<Value>>) -> Self {
        Self {
            outcome: Outcome::Forced,
            variant: Some(variant),
            value,
        }
    }
}

impl From<Decision<'_>> for Assignment {
    fn from(decision: Decision<'_>) -> Self {
        let outcome = match decision {
            Decision::HeldOut(_) => Outcome::HeldOut,
            Decision::NotEnrolled => Outcome::NotEnrolled,
            Decision::NotTargeted => Outcome::NotTargeted,
            Decision::Assigned(_) => Outcome::Assigned,
            Decision::Forced(_) => Outcome::Forced,
            Decision::Shipped(_) => Outcome::Shipped,
        };
        let arm = decision.arm();
        Self {
            outcome,
            variant: arm.map(|arm| arm.variant().clone()),
            value: arm.and_then(|arm| arm.value().cloned()),
        }
    }
}
