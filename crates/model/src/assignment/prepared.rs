//! Prepares experiments and holdouts: computes once everything that a decision compares.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;
use smallvec::SmallVec;

use super::why::{Step, Trace, pairs};
use super::{Context, Decision, targeting};
use crate::bucket::{N_BUCKETS, bucket, bucket_of, n_of_share};
use crate::configuration::{ExperimentRules, HoldoutRules, ShippedRules};
use crate::experiment::{Condition, ForcedVariant, VariantWeight};
use crate::ids::{ExperimentId, LayerName, Variant};
use crate::murmur3::murmur3_x64_128;
use crate::time::UnixMicros;

/// A variant of an experiment with the end of its share of the buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    name: Variant,
    /// The bucket that it ends before.
    end: u16,
    value: Option<Arc<Value>>,
    exposure: u64,
}

impl Arm {
    /// Returns the name of the variant.
    pub fn variant(&self) -> &Variant {
        &self.name
    }

    /// Returns the fingerprint of the experiment and the variant.
    pub(super) fn exposure(&self) -> u64 {
        self.exposure
    }

    /// Returns the value of the variant in the application, if the definition has one.
    pub fn value(&self) -> Option<&Arc<Value>> {
        self.value.as_ref()
    }
}

/// A holdout: units that are kept out of experiments to measure what those experiments do
/// together.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    name: String,
    id: ExperimentId,
    /// The two sides, each with the fingerprint of its exposure.
    held_out: (Variant, u64),
    in_scope: (Variant, u64),
    below: u16,
    /// The experiments in its scope; `None` means all of them.
    experiments: Option<HashSet<ExperimentId>>,
}

impl Holdout {
    /// The variant of units that are held out.
    pub const HELD_OUT: &str = "held_out";
    /// The variant of units that are not held out. Despite its name, held-out units are in scope as
    /// well.
    pub const IN_SCOPE: &str = "in_scope";

    pub(super) fn new(rules: &HoldoutRules) -> Self {
        let id = rules.name.experiment_id();
        let side = |name: &str| {
            let variant = variant(name);
            let exposure = fingerprint(&id, &variant);
            (variant, exposure)
        };
        Self {
            name: rules.name.to_string(),
            held_out: side(Self::HELD_OUT),
            in_scope: side(Self::IN_SCOPE),
            id,
            below: n_of_share(rules.size),
            experiments: (rules.experiments.as_ref()).map(|all| all.iter().cloned().collect()),
        }
    }

    /// Returns the name of the holdout.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the reserved experiment id, `holdout:` and the name, under which the holdout is
    /// measured. The id also seeds the bucket.
    pub fn experiment_id(&self) -> &ExperimentId {
        &self.id
    }

    /// Returns whether the holdout keeps `unit` out of the experiments in its scope.
    pub fn holds(&self, unit: &str) -> bool {
        bucket(unit, self.id.as_str()) < self.below
    }

    /// Returns the variant of `unit` in the experiment that measures the holdout.
    pub fn variant(&self, unit: &str) -> &Variant {
        &self.side(unit).0
    }

    /// Returns the variant of `unit` in the holdout's own experiment, with the fingerprint of the
    /// exposure to it.
    pub(super) fn side(&self, unit: &str) -> &(Variant, u64) {
        if self.holds(unit) {
            &self.held_out
        } else {
            &self.in_scope
        }
    }

    /// Returns whether `experiment` is in the holdout's scope.
    fn covers(&self, experiment: &ExperimentId) -> bool {
        (self.experiments.as_ref()).is_none_or(|all| all.contains(experiment))
    }
}

/// An experiment that is prepared for decisions. It is small and contiguous, because a cache miss
/// takes longer than a hash.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    id: ExperimentId,
    text: ShortText,
    /// Two variants, the usual number, are stored inline.
    arms: SmallVec<[Arm; 2]>,
    /// Shared with every experiment that has the same conditions.
    targeting: Arc<[Condition]>,
    enrolment: Enrolment,
    /// Seeds the buckets; the id does if there is none.
    salt: Option<Box<str>>,
    forced: Option<Arc<HashMap<String, usize>>>,
    /// Positions of the holdouts whose scope contains the experiment.
    pub(super) holdouts: Box<[usize]>,
    start_at: Option<UnixMicros>,
}

/// Which buckets an experiment owns.
#[derive(Debug, Clone, PartialEq)]
enum Enrolment {
    /// The buckets below this one, under the experiment's own salt.
    Below(u16),
    /// These, of a layer.
    Layer(Box<(LayerName, Vec<Range<u16>>)>),
    /// None: it ended, and every unit gets the variant at this place.
    Shipped(usize),
}

/// Conditions and names of variants that experiments share.
#[derive(Default)]
pub(super) struct Shared {
    conditions: HashMap<String, Arc<[Condition]>>,
    variants: HashSet<Variant>,
}

impl Shared {
    fn conditions(&mut self, conditions: &[Condition]) -> Arc<[Condition]> {
        let text = serde_json::to_string(conditions).unwrap_or_default();
        let known = self.conditions.entry(text);
        Arc::clone(known.or_insert_with(|| conditions.into()))
    }

    fn variant(&mut self, variant: &Variant) -> Variant {
        if let Some(known) = self.variants.get(variant) {
            return known.clone();
        }
        self.variants.insert(variant.clone());
        variant.clone()
    }
}

/// A text that is stored inline up to 31 bytes and on the heap beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShortText {
    bytes: [u8; 31],
    length: u8,
}

impl ShortText {
    fn new(text: &str) -> Self {
        let mut bytes = [0; 31];
        let is_short = text.len() <= bytes.len();
        if is_short {
            bytes[..text.len()].copy_from_slice(text.as_bytes());
        }
        let length = if is_short { text.len() as u8 } else { u8::MAX };
        Self { bytes, length }
    }

    fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..usize::from(self.length))
    }
}

impl Rules {
    pub(super) fn new(rules: &ExperimentRules, holdouts: &[Holdout], shared: &mut Shared) -> Self {
        let id = &rules.experiment_id;
        let enrolment = match &rules.layer {
            None => Enrolment::Below(n_of_share(rules.allocation)),
            Some(layer) => {
                let ranges = rules.ranges.iter().map(|[from, to]| *from..*to);
                Enrolment::Layer(Box::new((layer.clone(), ranges.collect())))
            }
        };
        let arms = arms(id, &rules.variants, shared);
        Self {
            enrolment,
            targeting: shared.conditions(&rules.targeting),
            salt: rules.salt.as_deref().map(Into::into),
            forced: forced(&rules.forced, &arms),
            holdouts: covering(holdouts, id),
            arms,
            start_at: rules.start_at,
            text: ShortText::new(id.as_str()),
            id: id.clone(),
        }
    }

    /// Prepares an experiment that ships a variant; `None` if it has no such variant.
    pub(super) fn shipped(
        rules: &ShippedRules,
        holdouts: &[Holdout],
        shared: &mut Shared,
    ) -> Option<Self> {
        let id = &rules.experiment_id;
        let arms = arms(id, &rules.variants, shared);
        Some(Self {
            enrolment: Enrolment::Shipped(place(&arms, &rules.ship)?),
            targeting: shared.conditions(&rules.targeting),
            salt: None,
            forced: forced(&rules.forced, &arms),
            holdouts: covering(holdouts, id),
            arms,
            start_at: None,
            text: ShortText::new(id.as_str()),
            id: id.clone(),
        })
    }

    /// Returns whether the experiment ended and ships a variant.
    pub fn is_shipped(&self) -> bool {
        matches!(self.enrolment, Enrolment::Shipped(_))
    }

    /// Returns the experiment's id.
    pub fn experiment_id(&self) -> &ExperimentId {
        &self.id
    }

    /// Returns the variants in the order of the definition.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// Returns the variant called `name`.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name.as_str() == name)
    }

    /// Returns when the analysis begins; `None` if it begins with the first exposure.
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
        if let Enrolment::Shipped(place) = self.enrolment {
            return self.ship(place, unit, context, trace);
        }
        if !self.enrols(unit, trace) {
            return Decision::NotEnrolled;
        }
        if !self.is_targeted(unit, context, trace) {
            return Decision::NotTargeted;
        }
        self.assign(unit, trace)
    }

    /// The answer about a unit that no holdout keeps out, where the variant at `place` is
    /// shipped.
    fn ship(
        &self,
        place: usize,
        unit: &str,
        context: &Context,
        trace: &mut impl Trace,
    ) -> Decision<'_> {
        let Some(arm) = self.arms.get(place) else {
            return Decision::NotEnrolled;
        };
        if !self.is_targeted(unit, context, trace) {
            return Decision::NotTargeted;
        }
        trace.note(|| Step::Shipped {
            variant: arm.name.to_string(),
        });
        Decision::Shipped(arm)
    }

    fn forced_arm(&self, unit: &str) -> Option<&Arm> {
        let place = self.forced.as_ref()?.get(unit)?;
        self.arms.get(*place)
    }

    /// Returns whether the experiment's id is `id`.
    pub(super) fn is_called(&self, id: &str) -> bool {
        self.id_bytes() == id.as_bytes()
    }

    fn id_bytes(&self) -> &[u8] {
        (self.text.get()).unwrap_or_else(|| self.id.as_str().as_bytes())
    }

    fn salt(&self) -> &[u8] {
        (self.salt.as_deref()).map_or_else(|| self.id_bytes(), str::as_bytes)
    }

    fn enrols(&self, unit: &str, trace: &mut impl Trace) -> bool {
        let first;
        let (kind, name, ranges) = match &self.enrolment {
            // Everybody is in, whatever the bucket.
            Enrolment::Below(N_BUCKETS) if !trace.is_wanted() => return true,
            Enrolment::Below(below) => {
                first = 0..*below;
                ("enrol:", self.salt(), std::slice::from_ref(&first))
            }
            Enrolment::Layer(owned) => ("layer:", owned.0.as_str().as_bytes(), &owned.1[..]),
            Enrolment::Shipped(_) => return false,
        };
        let place = bucket_of(unit, kind, name);
        let enrolled = ranges.iter().any(|range| range.contains(&place));
        trace.note(|| Step::Enrolment {
            salt: salt_text(kind, name),
            bucket: place,
            ranges: pairs(ranges),
            enrolled,
        });
        enrolled
    }

    fn is_targeted(&self, unit: &str, context: &Context, trace: &mut impl Trace) -> bool {
        self.targeting.iter().all(|condition| {
            let given = targeting::given(condition, unit, context);
            let holds = targeting::holds(condition, given);
            trace.note(|| Step::Targeting {
                condition: condition.clone(),
                given: given.shown(),
                holds,
            });
            holds
        })
    }

    fn assign(&self, unit: &str, trace: &mut impl Trace) -> Decision<'_> {
        let place = bucket_of(unit, VARIANT, self.salt());
        // Only without variants there is none: the last one ends at 10,000.
        let Some(arm) = self.arms.iter().find(|arm| place < arm.end) else {
            return Decision::NotEnrolled;
        };
        trace.note(|| Step::Variant {
            salt: salt_text(VARIANT, self.salt()),
            bucket: place,
            variant: arm.name.to_string(),
            below: arm.end,
        });
        Decision::Assigned(arm)
    }
}

/// Returns the position of `variant` among `arms`.
fn place(arms: &[Arm], variant: &Variant) -> Option<usize> {
    arms.iter().position(|arm| arm.name == *variant)
}

/// The places of the variants that units are forced to, by user id.
fn forced(forced: &[ForcedVariant], arms: &[Arm]) -> Option<Arc<HashMap<String, usize>>> {
    let forced: HashMap<_, _> = (forced.iter())
        .filter_map(|unit| Some((unit.user_id.clone(), place(arms, &unit.variant)?)))
        .collect();
    (!forced.is_empty()).then(|| Arc::new(forced))
}

/// Returns the positions of the holdouts whose scope contains `experiment`.
fn covering(holdouts: &[Holdout], experiment: &ExperimentId) -> Box<[usize]> {
    let all = holdouts.iter().enumerate();
    all.filter(|(_, holdout)| holdout.covers(experiment))
        .map(|(place, _)| place)
        .collect()
}

fn variant(name: &str) -> Variant {
    Variant::new(name).expect("a short name without control characters")
}

/// What the salt of the variant's bucket begins with.
const VARIANT: &str = "variant:";

/// Where each variant ends: its cumulative share of the weights.
fn arms(id: &ExperimentId, variants: &[VariantWeight], shared: &mut Shared) -> SmallVec<[Arm; 2]> {
    let unit = unit_of_weight(variants);
    let sum: f64 = variants.iter().map(|declared| declared.weight / unit).sum();
    let mut cumulative = 0.0;
    let arm = |declared: &VariantWeight| {
        cumulative += declared.weight / unit;
        Arm {
            name: shared.variant(&declared.variant),
            end: n_of_share(cumulative / sum),
            value: declared.value.clone().map(Arc::new),
            exposure: fingerprint(id, &declared.variant),
        }
    };
    let mut arms: SmallVec<[Arm; 2]> = variants.iter().map(arm).collect();
    // Rounding leaves no bucket over, and none to a variant of weight 0 at the end.
    let last = variants.iter().rposition(|declared| declared.weight > 0.0);
    for arm in &mut arms[last.unwrap_or(0)..] {
        arm.end = N_BUCKETS;
    }
    arms
}

/// What weights are divided by before they are added: 1, unless their sum would be infinite
/// or too small to divide by, as earlier versions took such weights.
fn unit_of_weight(variants: &[VariantWeight]) -> f64 {
    let sum: f64 = variants.iter().map(|declared| declared.weight).sum();
    let greatest = variants
        .iter()
        .map(|declared| declared.weight)
        .fold(0.0, f64::max);
    match sum.is_normal() || greatest <= 0.0 {
        true => 1.0,
        false => greatest,
    }
}

fn salt_text(kind: &str, name: &[u8]) -> String {
    format!("{kind}{}", String::from_utf8_lossy(name))
}

/// Computes the number that stands for an experiment and a variant.
pub(super) fn fingerprint(id: &ExperimentId, variant: &Variant) -> u64 {
    // Neither holds a control character.
    let text = format!("{id}\n{variant}");
    murmur3_x64_128(text.as_bytes(), 0).0
}
