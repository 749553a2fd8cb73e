//! Decides which variant a unit gets: a pure function of a configuration and its arguments.
//!
//! The first that holds decides: listed as forced; in a holdout's buckets; outside the enrolment
//! buckets; a targeting condition fails; else the variant bucket decides. Each hash has its own
//! salt. What is compared is prepared once, so that a decision allocates nothing.
//!
//! An experiment that ended and ships a variant has no enrolment and no variant bucket: forced,
//! held out, not targeted, and else shipped. Nothing of it is an exposure.
//!
//! Contract: decisions are the same in every version, process and SDK; the vectors of
//! `testdata/reference/assignment_decision.json` are frozen.

mod places;
mod prepared;
mod targeting;
mod why;

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::configuration::Configuration;
use crate::ids::{EventType, ExperimentId, Variant};
use crate::time::UnixMicros;

use places::Places;

pub use prepared::{Arm, Holdout, Rules};
pub use why::Step;

/// The attributes of a unit that targeting conditions compare.
pub type Context = Map<String, Value>;

/// The outcome of an experiment's rules for one unit.
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
    /// It gets this variant as every unit does: the experiment ended and ships it.
    Shipped(&'c Arm),
}

impl<'c> Decision<'c> {
    /// Returns the word that names the decision in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::HeldOut(_) => "held_out",
            Self::NotEnrolled => "not_enrolled",
            Self::NotTargeted => "not_targeted",
            Self::Assigned(_) => "assigned",
            Self::Forced(_) => "forced",
            Self::Shipped(_) => "shipped",
        }
    }

    /// Returns the assigned variant; `None` if the unit gets none.
    pub fn arm(&self) -> Option<&'c Arm> {
        match self {
            Self::Assigned(arm) | Self::Forced(arm) | Self::Shipped(arm) => Some(arm),
            Self::HeldOut(_) | Self::NotEnrolled | Self::NotTargeted => None,
        }
    }
}

/// The decision for every unit of an experiment that does not run.
pub const NOT_RUNNING: &str = "not_running";

/// The decisions that give a unit no variant. OpenFeature clients receive them as the name of the
/// variant, so no variant may have such a name: see [`Definition::check_variant_names`].
///
/// [`Definition::check_variant_names`]: crate::experiment::Definition::check_variant_names
pub const WITHOUT_VARIANT: [&str; 4] = ["not_enrolled", "held_out", "not_targeted", NOT_RUNNING];

/// What a unit saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure<'c> {
    /// The experiment, or the one that measures a holdout.
    pub experiment_id: &'c ExperimentId,
    /// The variant.
    pub variant: &'c Variant,
    /// Whether it was forced.
    pub forced: bool,
    /// Stands for the experiment and the variant.
    pub fingerprint: u64,
    /// Earlier exposures are not looked at.
    pub start_at: Option<UnixMicros>,
}

impl<'c> Exposure<'c> {
    /// Builds the exposure to a variant that an application forces.
    pub fn forced(experiment_id: &'c ExperimentId, variant: &'c Variant) -> Self {
        let fingerprint = prepared::fingerprint(experiment_id, variant);
        Self {
            experiment_id,
            variant,
            fingerprint,
            forced: true,
            start_at: None,
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
    by_id: Places,
    holdouts: Vec<Holdout>,
    listing: HashMap<EventType, Listing, Hasher>,
}

/// Hashes short texts quickly. Its seed is fixed: names come from the registry, and lookups do not
/// insert, so a fixed seed cannot be attacked.
type Hasher = foldhash::fast::FixedState;

/// Lists where an event counts: the positions of the experiments and holdouts that name its type.
#[derive(Debug, Clone, Default)]
struct Listing {
    experiments: Vec<usize>,
    holdouts: Vec<usize>,
}

impl Ruleset {
    /// Prepares `configuration`. If two experiments have the same id, the last one counts.
    pub fn new(configuration: &Configuration) -> Self {
        let holdouts: Vec<_> = configuration.holdouts.iter().map(Holdout::new).collect();
        let mut shared = prepared::Shared::default();
        let mut experiments: Vec<_> = (configuration.experiments.iter())
            .map(|experiment| Rules::new(experiment, &holdouts, &mut shared))
            .collect();
        // After those that run, whose places `listing` holds.
        let shipped = configuration.shipped.iter();
        experiments
            .extend(shipped.filter_map(|rules| Rules::shipped(rules, &holdouts, &mut shared)));
        let by_id = Places::new(&experiments);
        let mut listing: HashMap<EventType, Listing, Hasher> = HashMap::default();
        for (place, experiment) in configuration.experiments.iter().enumerate() {
            for event_type in &experiment.event_types {
                let listed = listing.entry(event_type.clone()).or_default();
                listed.experiments.push(place);
            }
        }
        for (place, holdout) in configuration.holdouts.iter().enumerate() {
            for event_type in &holdout.event_types {
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

    /// Returns the experiment `id` if it runs or ships a variant.
    pub fn experiment(&self, id: &str) -> Option<&Rules> {
        self.by_id.find(id, &self.experiments)
    }

    /// Returns every running experiment, then every one that ships a variant.
    pub fn experiments(&self) -> &[Rules] {
        &self.experiments
    }

    /// Returns every running holdout.
    pub fn holdouts(&self) -> &[Holdout] {
        &self.holdouts
    }

    /// Returns the holdouts whose scope contains `experiment`, which belongs to this ruleset.
    pub fn holdouts_of(&self, experiment: &Rules) -> impl Iterator<Item = &Holdout> {
        (experiment.holdouts.iter()).filter_map(|place| self.holdouts.get(*place))
    }

    /// Returns the event type as the configuration spells it, if any experiment or holdout lists
    /// it.
    pub fn event_type(&self, name: &str) -> Option<&EventType> {
        self.listing
            .get_key_value(name)
            .map(|(event_type, _)| event_type)
    }

    /// Counts the experiments and holdouts that list the event type, which [`Self::counting`]
    /// visits.
    pub fn n_listing(&self, event_type: &str) -> usize {
        let listing = self.listing.get(event_type);
        listing.map_or(0, |listed| listed.experiments.len() + listed.holdouts.len())
    }

    /// Returns the ids under which an event of `unit` counts: the experiments that list its type
    /// and give the unit a variant, and the holdouts that list it.
    pub fn counting<'r: 'c, 'c>(
        &'r self,
        event_type: &str,
        unit: &'c str,
        context: &'c Context,
    ) -> impl Iterator<Item = &'r ExperimentId> {
        let listing = self.listing.get(event_type);
        let experiments = listing.map_or(&[][..], |listed| &listed.experiments);
        let holdouts = listing.map_or(&[][..], |listed| &listed.holdouts);
        let enrolling = (experiments.iter())
            .map(|place| &self.experiments[*place])
            .filter(move |rules| self.decide(rules, unit, context).arm().is_some())
            .map(Rules::experiment_id);
        enrolling.chain((holdouts.iter()).map(|place| self.holdouts[*place].experiment_id()))
    }

    /// Decides what `unit`, the user id as given, gets in `experiment`, which belongs to this
    /// ruleset.
    pub fn decide<'c>(
        &'c self,
        experiment: &'c Rules,
        unit: &str,
        context: &Context,
    ) -> Decision<'c> {
        experiment.decide(&self.holdouts, unit, context, &mut ())
    }

    /// Returns what an evaluation of `experiment` exposes `unit` to: the experiment's variant, if
    /// it gets one, and the side of every holdout whose scope contains the experiment.
    ///
    /// A forced unit is in no holdout: it is not analysed. An experiment that ships a
    /// variant has ended: only the holdouts are exposed to, since they measure what is
    /// shipped.
    pub fn exposures<'c, 'u: 'c>(
        &'c self,
        experiment: &'c Rules,
        unit: &'u str,
        decision: Decision<'c>,
    ) -> impl Iterator<Item = Exposure<'c>> {
        let forced = matches!(decision, Decision::Forced(_));
        let arm = decision.arm().filter(|_| !experiment.is_shipped());
        let to_variant = arm.map(|arm| Exposure {
            experiment_id: experiment.experiment_id(),
            variant: arm.variant(),
            fingerprint: arm.exposure(),
            forced,
            start_at: experiment.start_at(),
        });
        let holdouts = self.holdouts_of(experiment).filter(move |_| !forced);
        to_variant.into_iter().chain(holdouts.map(move |holdout| {
            let (variant, fingerprint) = holdout.side(unit);
            Exposure {
                experiment_id: holdout.experiment_id(),
                variant,
                fingerprint: *fingerprint,
                forced: false,
                start_at: None,
            }
        }))
    }

    /// Decides as [`Self::decide`] does and records every step that led to the decision.
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
