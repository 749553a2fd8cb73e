//! Defines an experiment: what a client sends to create it, and what the API returns.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::assignment::WITHOUT_VARIANT;
use crate::bucket::n_of_share;
use crate::document::DocumentError;
use crate::duration::Window;
use crate::event::MAX_USER_ID_BYTES;
use crate::funnel::{SavedFunnel, check_funnels};
use crate::ids::{EventType, ExperimentId, HoldoutName, LayerName, NameError, Variant};
use crate::metric::{MetricKind, MetricRef, MetricRole};
use crate::metric_definition::MetricDefinition;
use crate::nearest::there_are;
use crate::semver;
use crate::text::is_hazardous;
use crate::time::UnixMicros;

/// The maximum number of variants that an experiment may declare.
pub const MAX_VARIANTS: usize = 100;
/// The maximum number of metrics that an experiment may name, over all roles.
pub const MAX_METRICS: usize = 100;

/// The maximum number of units that may be forced into variants.
pub const MAX_FORCED: usize = 100;
/// The maximum number of declared segments.
pub const MAX_SEGMENTS: usize = 10;
/// The maximum length of a declared segment's key, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 256;
/// The maximum number of targeting conditions.
pub const MAX_CONDITIONS: usize = 100;
/// The maximum size of a variant's value, in bytes of JSON.
pub const MAX_VALUE_BYTES: usize = 16 * 1024;

/// The least weight above 0: below it, ratios lose their digits.
pub const MIN_WEIGHT: f64 = 1e-100;
/// The greatest weight: any number of such weights can be added.
pub const MAX_WEIGHT: f64 = 1e100;

/// Returns whether a variant may have the weight: 0, or between [`MIN_WEIGHT`] and [`MAX_WEIGHT`].
///
/// ```
/// use trialog_model::experiment::is_weight;
/// assert!([0.0, 1e-9, 1.0, 1e9].into_iter().all(is_weight));
/// assert!(![1e308, 5e-324, -1.0, f64::NAN, f64::INFINITY].into_iter().any(is_weight));
/// ```
pub fn is_weight(weight: f64) -> bool {
    weight == 0.0 || (MIN_WEIGHT..=MAX_WEIGHT).contains(&weight)
}

/// The maximum number of units in a plan: JSON readers agree on integers up to here.
pub const MAX_UNITS: u64 = (1 << 53) - 1;

/// The least two-sided significance level of an experiment.
pub const MIN_ALPHA: f64 = 1e-12;

/// What `POST /v1/experiments` takes; only the id and the variants are required.
///
/// ```
/// use trialog_model::experiment::Definition;
/// let text = r#"{"experiment_id":"gate","variants":[{"variant":"a"},{"variant":"b"}]}"#;
/// let definition: Definition = serde_json::from_str(text)?;
/// definition.check()?;
/// assert_eq!(definition.control().unwrap().as_str(), "a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The name that events carry.
    pub experiment_id: ExperimentId,
    /// What is believed, and why.
    #[serde(default)]
    pub hypothesis: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
    /// The variant that the others are compared with; the first one if absent.
    #[serde(default)]
    pub control: Option<Variant>,
    /// The variants and their planned shares.
    pub variants: Vec<VariantWeight>,
    /// The share of units that are enrolled, above 0 and at most 1.
    #[serde(default = "one")]
    pub allocation: f64,
    /// The layer whose units are shared with other experiments.
    #[serde(default)]
    pub layer: Option<LayerName>,
    /// Seeds the assignment; the experiment's id if absent.
    #[serde(default)]
    pub salt: Option<String>,
    /// Conditions on the context, all of which must hold.
    #[serde(default)]
    pub targeting: Vec<Condition>,
    /// Units that get a variant whatever the rules say, such as testers; they are not
    /// analysed.
    #[serde(default)]
    pub forced: Vec<ForcedVariant>,
    /// Parts of the product that it touches.
    #[serde(default)]
    pub surfaces: Vec<String>,
    /// Assignments before this time are not looked at.
    #[serde(default, with = "optional_time")]
    pub start_at: Option<UnixMicros>,
    /// Assignments from this time on are not looked at.
    #[serde(default, with = "optional_time")]
    pub end_at: Option<UnixMicros>,
    /// How long after exposure an event counts.
    #[serde(default)]
    pub attribution_window: Window,
    /// The two-sided level of the tests, between 0 and 1.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// The power analysis made before launch.
    #[serde(default)]
    pub plan: Option<Plan>,
    /// The metrics, by role.
    #[serde(default)]
    pub metrics: Metrics,
    /// Keys of the context by whose values the effects are expected to differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    /// Funnels that every run computes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub funnels: Vec<SavedFunnel>,
}

/// A variant and its planned share of the units.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantWeight {
    /// The variant's name.
    pub variant: Variant,
    /// Its share, relative to the sum of all weights; nobody is assigned one of 0.
    #[serde(default = "one")]
    pub weight: f64,
    /// What it stands for in the application: any JSON but null; the variant's name if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
}

/// A unit and the variant that it gets whatever the rules say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForcedVariant {
    /// The user id as the application gives it.
    pub user_id: String,
    /// The variant.
    pub variant: Variant,
}

/// A condition on one key of the context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The key of the context.
    pub key: String,
    /// How the value is compared.
    pub op: Operator,
    /// What it is compared with.
    pub value: serde_json::Value,
}

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the operators' own")]
pub enum Operator {
    Eq,
    Neq,
    In,
    NotIn,
    Lt,
    Lte,
    Gt,
    Gte,
    SemverLt,
    SemverLte,
    SemverEq,
    SemverGt,
    SemverGte,
    Present,
}

/// The power analysis made before launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Units that each variant needs.
    #[serde(deserialize_with = "whole")]
    pub sample_size_per_variant: u64,
    /// The control's expected mean or rate.
    #[serde(default)]
    pub baseline: Option<f64>,
    /// The minimum detectable effect of the first primary metric, absolute, in its unit.
    #[serde(default)]
    pub mde: Option<f64>,
    /// Those of other primary metrics, by their names, `name` or `name:kind`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mdes: BTreeMap<MetricRef, f64>,
    /// The planned power, between 0 and 1.
    #[serde(default)]
    pub power: Option<f64>,
}

/// The metrics of an experiment, by role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Decide the experiment.
    pub primary: Vec<MetricRef>,
    /// Explain the outcome.
    pub secondary: Vec<MetricRef>,
    /// Must not get worse.
    pub guardrail: Vec<MetricRef>,
}

impl Metrics {
    /// Returns every named metric with its role.
    pub fn iter(&self) -> impl Iterator<Item = (&MetricRef, MetricRole)> {
        let with = |role| move |metric| (metric, role);
        (self.primary.iter().map(with(MetricRole::Primary)))
            .chain(self.secondary.iter().map(with(MetricRole::Secondary)))
            .chain(self.guardrail.iter().map(with(MetricRole::Guardrail)))
    }
}

/// Where an experiment is in its life.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Events came in, but nobody has registered it.
    Unregistered,
    /// Registered, not yet started.
    Draft,
    /// Started.
    Running,
    /// Stopped; late events still count.
    Stopped,
    /// Put away for good: it can be read, and no longer changed.
    Archived,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Unregistered,
        Self::Draft,
        Self::Running,
        Self::Stopped,
        Self::Archived,
    ];

    /// Returns the word used in JSON and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unregistered => "unregistered",
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Archived => "archived",
        }
    }

    /// Parses a status; `None` if `text` names none.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl Definition {
    /// Builds the definition that is assumed for an unregistered experiment.
    pub fn unregistered(experiment_id: ExperimentId) -> Self {
        Self {
            experiment_id,
            hypothesis: None,
            owner: None,
            control: None,
            variants: Vec::new(),
            allocation: 1.0,
            layer: None,
            salt: None,
            targeting: Vec::new(),
            forced: Vec::new(),
            surfaces: Vec::new(),
            start_at: None,
            end_at: None,
            attribution_window: Window::default(),
            alpha: default_alpha(),
            plan: None,
            metrics: Metrics::default(),
            segments: Vec::new(),
            funnels: Vec::new(),
        }
    }

    /// Returns the variant that the others are compared with, if any is declared.
    pub fn control(&self) -> Option<&Variant> {
        self.control
            .as_ref()
            .or_else(|| self.variants.first().map(|first| &first.variant))
    }

    /// Checks the rules that the types cannot express.
    ///
    /// # Errors
    ///
    /// The first field that breaks a rule, with the remedy.
    pub fn check(&self) -> Result<(), DocumentError> {
        self.check_names()?;
        self.check_variants()?;
        require(
            self.allocation > 0.0 && self.allocation <= 1.0,
            "allocation",
            || format!("is {}: give a share above 0 and at most 1", self.allocation),
        )?;
        require(n_of_share(self.allocation) > 0, "allocation", || {
            format!(
                "is {}: that rounds to no bucket of 10,000, give at least 0.0001",
                self.allocation
            )
        })?;
        let is_reserved = self.experiment_id.as_str().starts_with(HoldoutName::PREFIX);
        require(!is_reserved, "experiment_id", || {
            format!(
                "begins with `{}`, which is reserved for holdouts: give it another name",
                HoldoutName::PREFIX
            )
        })?;
        self.check_forced()?;
        check_targeting(&self.targeting)?;
        require((MIN_ALPHA..1.0).contains(&self.alpha), "alpha", || {
            format!(
                "is {}: give a level from {MIN_ALPHA:e} to below 1, such as 0.05",
                self.alpha
            )
        })?;
        if let (Some(start), Some(end)) = (self.start_at, self.end_at) {
            require(start < end, "end_at", || {
                format!("`{end}` is not after `start_at`, `{start}`")
            })?;
        }
        for (field, text) in [
            ("hypothesis", &self.hypothesis),
            ("owner", &self.owner),
            ("salt", &self.salt),
        ] {
            let length = text.as_deref().unwrap_or_default().len();
            require(length <= 4096, field, || {
                format!("has {length} bytes: at most 4096 are allowed")
            })?;
        }
        self.check_metrics()?;
        self.check_segments()?;
        check_funnels(&self.funnels)?;
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        plan.check()?;
        for metric in plan.mdes.keys() {
            let is_own = |primary: &MetricRef| {
                let of_kind =
                    metric.kind.is_none() || primary.kind.is_none() || primary.kind == metric.kind;
                primary.name == metric.name && of_kind
            };
            let is_primary = self.metrics.primary.iter().any(is_own);
            require(is_primary, format!("plan.mdes.{metric}"), || {
                "is of no primary metric: name one of `metrics.primary`".to_owned()
            })?;
        }
        Ok(())
    }

    /// Rejects names that could not be displayed safely.
    fn check_names(&self) -> Result<(), DocumentError> {
        check_new("experiment_id", self.experiment_id.check_new())?;
        if let Some(layer) = &self.layer {
            check_new("layer", layer.check_new())?;
        }
        for (index, declared) in self.variants.iter().enumerate() {
            check_new(
                format!("variants[{index}].variant"),
                declared.variant.check_new(),
            )?;
        }
        for (index, surface) in self.surfaces.iter().enumerate() {
            let is_shown = !surface.chars().any(is_hazardous);
            require(is_shown, format!("surfaces[{index}]"), || {
                "holds a character that is obeyed instead of shown, or cannot be seen: remove it"
                    .to_owned()
            })?;
        }
        self.check_metric_names()
    }

    /// Rejects metrics whose names could not be displayed safely.
    pub(crate) fn check_metric_names(&self) -> Result<(), DocumentError> {
        (self.metrics.iter())
            .try_for_each(|(metric, _)| check_new("metrics", metric.name.check_new()))
    }

    /// Rejects declared segments that no breakdown could be asked for.
    fn check_segments(&self) -> Result<(), DocumentError> {
        let n_segments = self.segments.len();
        require(n_segments <= MAX_SEGMENTS, "segments", || {
            format!("has {n_segments} entries: at most {MAX_SEGMENTS} are allowed")
        })?;
        for (index, key) in self.segments.iter().enumerate() {
            let field = || format!("segments[{index}]");
            let length = key.len();
            let fits = (1..=MAX_SEGMENT_BYTES).contains(&length);
            require(fits, field(), || {
                format!("has {length} bytes: give a key of the context of 1 to {MAX_SEGMENT_BYTES}")
            })?;
            let is_shown = !key.chars().any(is_hazardous) && !key.contains(',');
            require(is_shown, field(), || {
                "holds a comma, or a character that is obeyed instead of shown or cannot be seen: name one key of the context".to_owned()
            })?;
            require(!self.segments[..index].contains(key), field(), || {
                format!("is `{key}`, which stands there twice")
            })?;
        }
        Ok(())
    }

    /// Rejects variants that are named like a decision without a variant. Variants in `known`,
    /// which the experiment already has, may stay.
    ///
    /// ```
    /// use trialog_model::experiment::Definition;
    /// let text = r#"{"experiment_id":"gate","variants":[{"variant":"a"},{"variant":"held_out"}]}"#;
    /// let definition: Definition = serde_json::from_str(text)?;
    /// let error = definition.check_variant_names(&[]).unwrap_err();
    /// assert_eq!(error.field, "variants[1].variant");
    /// definition.check_variant_names(&definition.variants)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first such variant.
    pub fn check_variant_names(&self, known: &[VariantWeight]) -> Result<(), DocumentError> {
        for (index, VariantWeight { variant, .. }) in self.variants.iter().enumerate() {
            let is_known = known.iter().any(|before| before.variant == *variant);
            let is_allowed = is_known || !WITHOUT_VARIANT.contains(&variant.as_str());
            require(is_allowed, format!("variants[{index}].variant"), || {
                format!(
                    "is `{variant}`, which OpenFeature clients get for a unit without a variant: give it another name than {}",
                    WITHOUT_VARIANT.map(|word| format!("`{word}`")).join(", ")
                )
            })?;
        }
        Ok(())
    }

    /// Checks that a started experiment may be changed to `changed`.
    ///
    /// Salt, variants, weights and layer are frozen, so nobody moves to
    /// another variant; allocation may only grow; primary metrics and segments
    /// stay as they were named before anybody saw a result.
    ///
    /// # Errors
    ///
    /// The first field that may not change.
    pub fn check_change_after_start(&self, changed: &Self) -> Result<(), DocumentError> {
        let frozen = |same: bool, field: &'static str| {
            require(same, field, || {
                "cannot change after the start: register a new experiment for a new split"
                    .to_owned()
            })
        };
        frozen(self.effective_salt() == changed.effective_salt(), "salt")?;
        frozen(self.variants == changed.variants, "variants")?;
        frozen(self.layer == changed.layer, "layer")?;
        require(changed.allocation >= self.allocation, "allocation", || {
            format!("cannot shrink after the start: it is {}", self.allocation)
        })?;
        require(self.segments == changed.segments, "segments", || {
            "cannot change after the start: ask for a breakdown by any other key, which is exploratory".to_owned()
        })?;
        require(
            self.metrics.primary == changed.metrics.primary,
            "metrics.primary",
            || "cannot change after the start: add a secondary metric".to_owned(),
        )
    }

    /// Returns the fields that results are tested with and that differ in `changed`. A test keeps
    /// its level if they were chosen before anyone saw a result.
    ///
    /// ```
    /// use trialog_model::experiment::Definition;
    /// let text = r#"{"experiment_id":"gate","variants":[{"variant":"a"},{"variant":"b"}]}"#;
    /// let definition: Definition = serde_json::from_str(text)?;
    /// let changed = Definition { alpha: 0.1, owner: Some("games".into()), ..definition.clone() };
    /// assert_eq!(definition.locked_changes(&changed), ["alpha"]);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn locked_changes(&self, changed: &Self) -> Vec<&'static str> {
        let locked = [
            ("alpha", self.alpha.total_cmp(&changed.alpha).is_eq()),
            (
                "attribution_window",
                self.attribution_window == changed.attribution_window,
            ),
            ("control", self.control() == changed.control()),
            ("plan", self.plan == changed.plan),
            ("start_at", self.start_at == changed.start_at),
        ];
        let differing = locked.into_iter().filter(|(_, is_same)| !is_same);
        differing.map(|(field, _)| field).collect()
    }

    /// What the assignment is seeded with.
    fn effective_salt(&self) -> &str {
        (self.salt.as_deref()).unwrap_or_else(|| self.experiment_id.as_str())
    }

    fn check_variants(&self) -> Result<(), DocumentError> {
        let n_variants = self.variants.len();
        require((1..=MAX_VARIANTS).contains(&n_variants), "variants", || {
            format!("has {n_variants} entries: declare 1 to {MAX_VARIANTS}")
        })?;
        let mut seen = BTreeSet::new();
        for (index, declared) in self.variants.iter().enumerate() {
            let VariantWeight {
                variant,
                weight,
                value,
            } = declared;
            let field = |name: &str| format!("variants[{index}].{name}");
            require(seen.insert(variant), field("variant"), || {
                format!("is `{variant}`, as another variant is: give each its own name")
            })?;
            require(is_weight(*weight), field("weight"), || {
                format!(
                    "is {weight:?}: give 0, or a number from {MIN_WEIGHT:?} to {MAX_WEIGHT:?}; nobody is assigned a variant of weight 0"
                )
            })?;
            let n_bytes = value.as_ref().map_or(0, |value| value.to_string().len());
            require(n_bytes <= MAX_VALUE_BYTES, field("value"), || {
                format!("has {n_bytes} bytes: at most {MAX_VALUE_BYTES} are allowed")
            })?;
        }
        let has_weight = self.variants.iter().any(|declared| declared.weight > 0.0);
        require(has_weight, "variants", || {
            "have no weight above 0: nobody could be assigned one".to_owned()
        })?;
        let control = self.control();
        let is_control = |declared: &&VariantWeight| Some(&declared.variant) == control;
        let of_control = self.variants.iter().find(is_control);
        require(
            of_control.is_none_or(|declared| declared.weight > 0.0),
            "control",
            || {
                "has weight 0, so there would be nobody to compare with: name another variant as the control".to_owned()
            },
        )?;
        match &self.control {
            Some(control) => require(seen.contains(control), "control", || {
                format!(
                    "`{control}` is not among the variants{}",
                    self.there_are_variants(control)
                )
            }),
            None => Ok(()),
        }
    }

    /// Returns the event types of the experiment's metrics, each once. `defined` holds the metrics
    /// that have a definition.
    pub fn event_types(&self, defined: &[MetricDefinition]) -> Vec<EventType> {
        self.metrics.event_types(defined)
    }

    fn check_forced(&self) -> Result<(), DocumentError> {
        let n_forced = self.forced.len();
        require(n_forced <= MAX_FORCED, "forced", || {
            format!("has {n_forced} entries: at most {MAX_FORCED} are allowed")
        })?;
        let mut seen = BTreeSet::new();
        for (index, ForcedVariant { user_id, variant }) in self.forced.iter().enumerate() {
            let field = |name: &str| format!("forced[{index}].{name}");
            let length = user_id.len();
            let fits = (1..=MAX_USER_ID_BYTES).contains(&length);
            require(fits, field("user_id"), || {
                format!("has {length} bytes: give 1 to {MAX_USER_ID_BYTES}")
            })?;
            require(seen.insert(user_id), field("user_id"), || {
                format!("is `{user_id}`, which stands there twice")
            })?;
            let is_declared = self
                .variants
                .iter()
                .any(|declared| declared.variant == *variant);
            require(is_declared, field("variant"), || {
                format!(
                    "`{variant}` is not among the variants{}",
                    self.there_are_variants(variant)
                )
            })?;
        }
        Ok(())
    }

    /// Lists the variants for a message about `name`, which is not among them.
    fn there_are_variants(&self, name: &Variant) -> String {
        let variants: Vec<&str> = (self.variants.iter())
            .map(|declared| declared.variant.as_str())
            .collect();
        there_are(name.as_str(), &variants, false)
    }

    pub(crate) fn check_metrics(&self) -> Result<(), DocumentError> {
        let mut seen = BTreeSet::new();
        for (metric, _) in self.metrics.iter() {
            for kind in metric.kinds() {
                require(seen.insert((&metric.name, kind)), "metrics", || {
                    format!(
                        "names `{}:{kind}` twice: a metric has one role",
                        metric.name
                    )
                })?;
            }
        }
        require(seen.len() <= MAX_METRICS, "metrics", || {
            format!(
                "names {} metrics: at most {MAX_METRICS} are allowed",
                seen.len()
            )
        })
    }
}

impl Metrics {
    /// Returns the event types of the metrics, each once. `defined` holds the metrics that have a
    /// definition.
    pub fn event_types(&self, defined: &[MetricDefinition]) -> Vec<EventType> {
        let mut event_types = BTreeSet::new();
        for (metric, _) in self.iter() {
            match defined
                .iter()
                .find(|definition| definition.name == metric.name)
            {
                Some(definition) => event_types.extend(definition.event_types().cloned()),
                None => {
                    event_types.insert(metric.name.clone().into());
                }
            }
        }
        event_types.into_iter().collect()
    }
}

/// Checks that each condition compares with something that its operator can compare with.
fn check_targeting(conditions: &[Condition]) -> Result<(), DocumentError> {
    let n_conditions = conditions.len();
    require(n_conditions <= MAX_CONDITIONS, "targeting", || {
        format!("has {n_conditions} conditions: at most {MAX_CONDITIONS} are allowed")
    })?;
    for (index, Condition { key, op, value }) in conditions.iter().enumerate() {
        let field = |name: &str| format!("targeting[{index}].{name}");
        require(!key.is_empty() && key.len() <= 256, field("key"), || {
            format!("has {} bytes: give 1 to 256", key.len())
        })?;
        let wanted = op.wanted(value);
        require(wanted.is_none(), field("value"), || {
            format!(
                "is {value}: the operator of `{key}` takes {}",
                wanted.unwrap_or_default()
            )
        })?;
    }
    Ok(())
}

impl Operator {
    /// What the operator takes, where `value` is not that.
    fn wanted(self, value: &serde_json::Value) -> Option<&'static str> {
        let (is_right, wanted) = match self {
            Self::Eq | Self::Neq => (
                value.is_string() || value.is_number() || value.is_boolean(),
                "a text, a number or a boolean",
            ),
            Self::In | Self::NotIn => (value.is_array(), "a list"),
            Self::Lt | Self::Lte | Self::Gt | Self::Gte => {
                (value.is_string() || value.is_number(), "a number or a text")
            }
            Self::Present => (value.is_boolean(), "true or false"),
            Self::SemverLt
            | Self::SemverLte
            | Self::SemverEq
            | Self::SemverGt
            | Self::SemverGte => (
                value.as_str().is_some_and(semver::is_version),
                "a version such as 1.4.0",
            ),
        };
        (!is_right).then_some(wanted)
    }
}

impl Plan {
    fn check(&self) -> Result<(), DocumentError> {
        let units = self.sample_size_per_variant;
        let is_size = (1..=MAX_UNITS).contains(&units);
        require(is_size, "plan.sample_size_per_variant", || {
            format!("is {units}: give the units that each variant needs, 1 to {MAX_UNITS}")
        })?;
        require(
            self.power.is_none_or(|power| power > 0.0 && power < 1.0),
            "plan.power",
            || "is not between 0 and 1: give a share such as 0.8".to_owned(),
        )?;
        let is_effect = |mde: f64| mde.is_finite() && mde > 0.0;
        let remedy =
            || "is not above 0: give an absolute difference in the metric's unit".to_owned();
        require(self.mde.is_none_or(is_effect), "plan.mde", remedy)?;
        for (metric, mde) in &self.mdes {
            require(is_effect(*mde), format!("plan.mdes.{metric}"), remedy)?;
        }
        Ok(())
    }

    /// Returns the minimum detectable effect of a primary metric. `is_first` says whether it is
    /// the first one.
    pub fn mde_of(&self, metric: &str, kind: MetricKind, is_first: bool) -> Option<f64> {
        let find = |with_kind: bool| {
            (self.mdes.iter()).find(|(planned, _)| {
                planned.name.as_str() == metric && planned.kind == with_kind.then_some(kind)
            })
        };
        let of_metric = find(true).or_else(|| find(false)).map(|(_, mde)| *mde);
        of_metric.or(self.mde.filter(|_| is_first))
    }
}

/// Converts the outcome of [`ExperimentId::check_new`] and its kin to one about the field `field`.
pub(crate) fn check_new(
    field: impl Into<String>,
    outcome: Result<(), NameError>,
) -> Result<(), DocumentError> {
    outcome.map_err(|error| DocumentError {
        field: field.into(),
        reason: error.to_string(),
    })
}

pub(crate) fn require(
    holds: bool,
    field: impl Into<String>,
    reason: impl FnOnce() -> String,
) -> Result<(), DocumentError> {
    if holds {
        Ok(())
    } else {
        Err(DocumentError {
            field: field.into(),
            reason: reason(),
        })
    }
}

fn one() -> f64 {
    1.0
}

fn default_alpha() -> f64 {
    0.05
}

/// A whole number, which JSON may write as `40000.0` too.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let from_float = || {
        let float = number.as_f64()?;
        let is_whole = float.fract() == 0.0 && (0.0..=MAX_UNITS as f64).contains(&float);
        is_whole.then_some(float as u64)
    };
    let whole = number.as_u64().or_else(from_float);
    whole.ok_or_else(|| serde::de::Error::custom(format!("is {number}: give a whole number")))
}

/// Serializes times in JSON: RFC 3339 text, or null.
pub(crate) mod optional_time {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::UnixMicros;

    #[expect(clippy::ref_option, reason = "the shape that serde's `with` asks for")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<UnixMicros>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_some(&time.to_rfc3339()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<UnixMicros>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.map(|text| UnixMicros::parse_rfc3339(text.as_bytes()))
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESIGN: &str = r#"{"experiment_id":"gate","hypothesis":"a later gate keeps players","owner":"games","control":"gate_30",
     "variants":[{"variant":"gate_30","weight":0.5},{"variant":"gate_40","weight":0.5}],"allocation":1.0,
     "layer":null,"salt":null,"targeting":[{"key":"platform","op":"in","value":["ios","android"]}],"surfaces":["level_map"],
     "start_at":null,"end_at":null,"attribution_window":"7d","alpha":0.05,
     "plan":{"sample_size_per_variant":40000,"baseline":0.19,"mde":0.01,"power":0.8},
     "metrics":{"primary":["retention_7"],"secondary":["sum_gamerounds"],"guardrail":[]}}"#;

    fn definition() -> Definition {
        serde_json::from_str(DESIGN).unwrap()
    }

    #[test]
    fn the_documented_definition_is_accepted_and_round_trips() {
        let definition = definition();
        definition.check().unwrap();
        let text = serde_json::to_string(&definition).unwrap();
        assert_eq!(
            serde_json::from_str::<Definition>(&text).unwrap(),
            definition
        );
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let break_it = |change: &dyn Fn(&mut Definition)| {
            let mut broken = definition();
            change(&mut broken);
            broken.check().unwrap_err().field
        };
        assert_eq!(break_it(&|d| d.variants.clear()), "variants");
        assert_eq!(
            break_it(&|d| d.variants[1].variant = d.variants[0].variant.clone()),
            "variants[1].variant"
        );
        assert_eq!(
            break_it(&|d| d.variants[1].weight = -0.5),
            "variants[1].weight"
        );
        assert_eq!(
            break_it(&|d| d
                .variants
                .iter_mut()
                .for_each(|declared| declared.weight = 0.0)),
            "variants"
        );
        assert_eq!(
            break_it(&|d| d
                .variants
                .iter_mut()
                .for_each(|declared| declared.weight = 1e308)),
            "variants[0].weight"
        );
        assert_eq!(
            break_it(&|d| d.variants[1].weight = 5e-324),
            "variants[1].weight"
        );
        let hostile = |text: &str| Variant::new(text).unwrap();
        assert_eq!(
            break_it(&|d| d.variants[1].variant = hostile("b\u{202e}")),
            "variants[1].variant"
        );
        assert_eq!(
            break_it(&|d| {
                d.control = None;
                d.variants[0].weight = 0.0;
            }),
            "control"
        );
        assert_eq!(break_it(&|d| d.control = Variant::new("x").ok()), "control");
        assert_eq!(break_it(&|d| d.allocation = 1.5), "allocation");
        assert_eq!(break_it(&|d| d.alpha = f64::NAN), "alpha");
        assert_eq!(
            break_it(&|d| {
                d.start_at = Some(UnixMicros(2));
                d.end_at = Some(UnixMicros(2));
            }),
            "end_at"
        );
        assert_eq!(
            break_it(&|d| d.metrics.secondary = d.metrics.primary.clone()),
            "metrics"
        );
        assert_eq!(
            break_it(&|d| d.plan.as_mut().unwrap().sample_size_per_variant = 0),
            "plan.sample_size_per_variant"
        );
    }

    #[test]
    fn after_the_start_the_split_and_the_primary_metrics_are_frozen() {
        let refused = |change: &dyn Fn(&mut Definition)| {
            let mut changed = definition();
            change(&mut changed);
            let outcome = definition().check_change_after_start(&changed);
            outcome.map_err(|error| error.field)
        };
        let frozen = |field: &str| Err(field.to_owned());
        assert_eq!(refused(&|d| d.salt = Some("x".into())), frozen("salt"));
        assert_eq!(refused(&|d| d.variants.reverse()), frozen("variants"));
        assert_eq!(refused(&|d| d.variants[0].weight = 0.6), frozen("variants"));
        assert_eq!(
            refused(&|d| d.layer = LayerName::new("x").ok()),
            frozen("layer")
        );
        assert_eq!(refused(&|d| d.allocation = 0.5), frozen("allocation"));
        assert_eq!(
            refused(&|d| d.metrics.primary.clear()),
            frozen("metrics.primary")
        );
        assert_eq!(refused(&|d| d.salt = Some("gate".into())), Ok(()));
        assert_eq!(refused(&|d| d.metrics.secondary.clear()), Ok(()));
        assert_eq!(refused(&|d| d.owner = None), Ok(()));
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_float() {
        let read = |size: &str| {
            let plan = format!(r#"{{"sample_size_per_variant":{size}}}"#);
            let plan = serde_json::from_str::<Plan>(&plan).ok();
            plan.map(|plan| plan.sample_size_per_variant)
        };
        assert_eq!(read("40000"), Some(40_000));
        assert_eq!(read("4e4"), Some(40_000));
        for size in ["0.5", "-1.0", "1e300", "\"1\""] {
            assert_eq!(read(size), None, "{size}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let typo = DESIGN.replace("hypothesis", "hypotesis");
        assert!(
            serde_json::from_str::<Definition>(&typo)
                .unwrap_err()
                .to_string()
                .contains("hypotesis")
        );
    }
}
