//! Defines what decides about units, as `GET /v1/sdk/config` sends it to SDKs.
//!
//! It holds what an assignment needs and nothing else of an experiment: no hypothesis,
//! owner or plan. Members that a reader does not know are passed over, so that an older
//! SDK reads what a newer server says; see [`Configuration::read`].

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::experiment::{Condition, Definition, ForcedVariant, VariantWeight, optional_time};
use crate::ids::{EventType, ExperimentId, HoldoutName, LayerName, Variant};
use crate::metric_definition::MetricDefinition;
use crate::time::UnixMicros;

/// Everything that decides about units: the running experiments and holdouts, and the ended
/// experiments that ship a variant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// The experiments that run.
    pub experiments: Vec<ExperimentRules>,
    /// The holdouts that run.
    #[serde(default)]
    pub holdouts: Vec<HoldoutRules>,
    /// The experiments that ended and ship a variant. They are not among `experiments`, where a
    /// reader that does not know this member would take them for running ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shipped: Vec<ShippedRules>,
}

/// What assignment needs to know about an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentRules {
    /// Its id.
    pub experiment_id: ExperimentId,
    /// Seeds the assignment; the id if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// The layer in which the experiment shares buckets with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerName>,
    /// In a layer: the buckets that it owns, from the first on and before the second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<[u16; 2]>,
    /// Outside a layer: the share of units that are enrolled.
    #[serde(default = "one")]
    pub allocation: f64,
    /// Conditions on the context, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targeting: Vec<Condition>,
    /// The variants and their weights.
    pub variants: Vec<VariantWeight>,
    /// Units that get a variant regardless of the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<ForcedVariant>,
    /// Exposures before this time are not looked at, so they are logged again after it.
    #[serde(
        default,
        with = "optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_at: Option<UnixMicros>,
    /// The events of which its metrics are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventType>,
}

/// What an evaluation needs to know about an experiment that ended and ships a variant. Every unit
/// that meets the conditions gets the variant, unless a holdout keeps it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShippedRules {
    /// Its id.
    pub experiment_id: ExperimentId,
    /// The variant that is shipped.
    pub ship: Variant,
    /// Conditions on the context, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targeting: Vec<Condition>,
    /// The variants with their values, for units that are forced to another one.
    pub variants: Vec<VariantWeight>,
    /// Units that get a variant regardless of the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<ForcedVariant>,
}

/// What assignment needs to know about a holdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldoutRules {
    /// Its name.
    pub name: HoldoutName,
    /// The share of units that are held out, 0 to 1.
    pub size: f64,
    /// The experiments in its scope; all if absent.
    #[serde(default)]
    pub experiments: Option<Vec<ExperimentId>>,
    /// The events of which its metrics are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventType>,
}

/// A parsed configuration, and the errors of the parts that could not be parsed.
#[derive(Debug)]
pub struct Read {
    /// What could be read.
    pub configuration: Configuration,
    /// One error for each experiment that was left out because it uses something that this version
    /// does not know.
    pub left_out: Vec<serde_json::Error>,
}

impl Configuration {
    /// Parses what a server sent.
    ///
    /// An experiment that cannot be read is left out: it may use an operator that came
    /// later. A holdout that cannot be read makes all of it unreadable, since leaving it
    /// out would let units into experiments that it keeps them out of.
    ///
    /// ```
    /// use trialog_model::configuration::Configuration;
    /// let text = br#"{"experiments": [
    ///     {"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}]},
    ///     {"experiment_id": "later", "variants": [], "targeting": [{"key": "geo", "op": "near", "value": "Oslo"}]}]}"#;
    /// let read = Configuration::read(text)?;
    /// assert_eq!(read.configuration.experiments.len(), 1);
    /// assert!(read.left_out[0].to_string().contains("near"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It is not JSON, or not of this form.
    pub fn read(text: &[u8]) -> Result<Read, serde_json::Error> {
        #[derive(Deserialize)]
        struct Parts<'a> {
            #[serde(borrow)]
            experiments: Vec<&'a RawValue>,
            #[serde(default)]
            holdouts: Vec<HoldoutRules>,
            #[serde(borrow, default)]
            shipped: Vec<&'a RawValue>,
        }
        let parts: Parts<'_> = serde_json::from_slice(text)?;
        let mut left_out = Vec::new();
        let configuration = Self {
            experiments: readable(&parts.experiments, &mut left_out),
            holdouts: parts.holdouts,
            shipped: readable(&parts.shipped, &mut left_out),
        };
        Ok(Read {
            configuration,
            left_out,
        })
    }
}

/// Parses each of `texts`; the errors of those that cannot be parsed go to `left_out`.
fn readable<'a, T: Deserialize<'a>>(
    texts: &[&'a RawValue],
    left_out: &mut Vec<serde_json::Error>,
) -> Vec<T> {
    let mut parsed = Vec::with_capacity(texts.len());
    for text in texts {
        match serde_json::from_str(text.get()) {
            Ok(rules) => parsed.push(rules),
            Err(error) => left_out.push(error),
        }
    }
    parsed
}

impl ShippedRules {
    /// Builds the rules of `definition`, which ships `variant`.
    pub fn new(definition: &Definition, variant: Variant) -> Self {
        Self {
            experiment_id: definition.experiment_id.clone(),
            ship: variant,
            targeting: definition.targeting.clone(),
            variants: definition.variants.clone(),
            forced: definition.forced.clone(),
        }
    }
}

impl ExperimentRules {
    /// Builds the rules of `definition`, which owns `ranges` of its layer. `defined` holds the
    /// definitions of the metrics that it names, as far as they are defined.
    pub fn new(
        definition: &Definition,
        ranges: Vec<[u16; 2]>,
        defined: &[MetricDefinition],
    ) -> Self {
        Self {
            experiment_id: definition.experiment_id.clone(),
            salt: definition.salt.clone(),
            layer: definition.layer.clone(),
            ranges,
            allocation: definition.allocation,
            targeting: definition.targeting.clone(),
            variants: definition.variants.clone(),
            forced: definition.forced.clone(),
            start_at: definition.start_at,
            event_types: definition.event_types(defined),
        }
    }
}

fn one() -> f64 {
    1.0
}
