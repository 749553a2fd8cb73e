//! Who gets which variant: a pure function of a configuration and its arguments.
//!
//! In this order, and each by a bucket of its own: forced, held out, not enrolled, not
//! targeted, and else assigned. What is compared is prepared once, so that a decision
//! allocates nothing.
//!
//! Contract: decisions are the same in every version, process and SDK; the vectors of
//! `testdata/reference/assignment_decision.json` are frozen.

mod prepared;
mod semver;
mod targeting;
mod why;

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::configuration::Configuration;
use crate::ids::{EventType, ExperimentId};

pub use prepared::{Arm, Holdout, Rules};
pub use why::Step;

pub(crate) use semver::is_version;

/// What is known about a unit: the context that targeting looks at.
pub type Context = Map<String, Value>;

/// What becomes of a unit in an experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision<'c> {
    /// This holdout keeps it out.
    HeldOut(&'c Holdout),
    /// It is in no bucket that the experiment owns.
    NotEnrolled,
    /// A condition does not hold.
    NotTargeted,
    /// It gets this variant.
    Assigned(&'c Arm),
    /// It gets this variant whatever the rules say, and is not analysed.
    Forced(&'c Arm),
}

impl<'c> Decision<'c> {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::HeldOut(_) => "held_out",
            Self::NotEnrolled => "not_enrolled",
            Self::NotTargeted => "not_targeted",
            Self::Assigned(_) => "assigned",
            Self::Forced(_) => "forced",
        }
    }

    /// The variant, where the unit gets one.
    pub fn arm(&self) -> Option<&'c Arm> {
        match self {
            Self::Assigned(arm) | Self::Forced(arm) => Some(arm),
            Self::HeldOut(_) | Self::NotEnrolled | Self::NotTargeted => None,
        }
    }
}

/// A configuration, prepared for decisions.
///
/// ```
/// use trialog_model::assignment::{Context, Decision, Ruleset};
/// let configuration = serde_json::from_str(
///     r#"{"experiments": [{"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}]}]}"#,
/// )?;
/// let ruleset = Ruleset::new(&configuration);
/// let gate = ruleset.experiment("gate").unwrap();
/// assert!(matches!(ruleset.decide(gate, "42", &Context::new()), Decision::Assigned(_)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    experiments: Vec<Rules>,
    by_id: HashMap<ExperimentId, usize>,
    holdouts: Vec<Holdout>,
    listing: HashMap<EventType, Listing>,
}

/// Where an event counts: the places of those that list its type.
#[derive(Debug, Clone, Default)]
struct Listing {
    experiments: Vec<usize>,
    holdouts: Vec<usize>,
}

impl Ruleset {
    /// Prepares `configuration`. Of two experiments with one id the last one counts.
    pub fn new(configuration: &Configuration) -> Self {
        let holdouts: Vec<_> = configuration.holdouts.iter().map(Holdout::new).collect();
        let experiments: Vec<_> = (configuration.experiments.iter())
            .map(|own| Rules::new(own, &holdouts))
            .collect();
        let mut by_id = HashMap::with_capacity(experiments.len());
        for (place, own) in experiments.iter().enumerate() {
            by_id.insert(own.experiment_id().clone(), place);
        }
        let mut listing: HashMap<EventType, Listing> = HashMap::new();
        for (place, own) in configuration.experiments.iter().enumerate() {
            for event_type in &own.event_types {
                let own = listing.entry(event_type.clone()).or_default();
                own.experiments.push(place);
            }
        }
        for (place, own) in configuration.holdouts.iter().enumerate() {
            for event_type in &own.event_types {
                listing
                    .entry(event_type.clone())
                    .or_default()
                    .holdouts
                    .push(place);
            }
        }
        Self {
            experiments,
            by_id,
            holdouts,
            listing,
        }
    }

    /// The experiment `id`, if it runs.
    pub fn experiment(&self, id: &str) -> Option<&Rules> {
        self.by_id.get(id).map(|place| &self.experiments[*place])
    }

    /// Every experiment that runs.
    pub fn experiments(&self) -> &[Rules] {
        &self.experiments
    }

    /// Every holdout that runs.
    pub fn holdouts(&self) -> &[Holdout] {
        &self.holdouts
    }

    /// The holdouts whose scope `experiment`, one of this ruleset, is in.
    pub fn holdouts_of(&self, experiment: &Rules) -> impl Iterator<Item = &Holdout> {
        (experiment.holdouts.iter()).filter_map(|place| self.holdouts.get(*place))
    }

    /// The event type as the configuration has it, with the experiments and the
    /// holdouts that list it; none where nothing does.
    #[expect(clippy::type_complexity, reason = "two iterators beside the name")]
    pub fn listing(
        &self,
        event_type: &str,
    ) -> Option<(
        &EventType,
        impl Iterator<Item = &Rules>,
        impl Iterator<Item = &Holdout>,
    )> {
        let (event_type, own) = self.listing.get_key_value(event_type)?;
        let experiments = own
            .experiments
            .iter()
            .map(|place| &self.experiments[*place]);
        let holdouts = own.holdouts.iter().map(|place| &self.holdouts[*place]);
        Some((event_type, experiments, holdouts))
    }

    /// What becomes of `unit`, the user id as given, in `experiment`, one of this ruleset.
    pub fn decide<'c>(
        &'c self,
        experiment: &'c Rules,
        unit: &str,
        context: &Context,
    ) -> Decision<'c> {
        experiment.decide(&self.holdouts, unit, context, &mut ())
    }

    /// The same decision with every step that led to it.
    pub fn explain<'c>(
        &'c self,
        experiment: &'c Rules,
        unit: &str,
        context: &Context,
    ) -> (Decision<'c>, Vec<Step>) {
        let mut steps = Vec::new();
        let decision = experiment.decide(&self.holdouts, unit, context, &mut steps);
        (decision, steps)
    }
}

#[cfg(test)]
mod tests;
