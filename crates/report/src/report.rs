//! Defines the report of an experiment's results as the API returns it.
//!
//! Doc comments of fields describe them to users of the API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::duration::Window;
use trialog_model::experiment::{MIN_ALPHA, Status};
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::metric_definition::Direction;

use crate::comparison::Comparison;
use crate::health::{Health, Progress};
use crate::life::{Decided, Paused};
use crate::sequence::SequenceReport;

/// The words for how p-values are adjusted.
pub(crate) const CORRECTIONS: [&str; 4] = ["holm", "bonferroni", "bh", "none"];

/// The results of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The id of the experiment.
    pub experiment_id: String,
    /// Where the experiment is in its life.
    pub status: Status,
    /// The decision after the experiment; null while there is none.
    #[serde(default)]
    pub decision: Option<Decided>,
    /// The times in which the experiment was stopped before it was resumed, oldest first.
    #[serde(default)]
    pub pauses: Vec<Paused>,
    /// When the run published the numbers, RFC 3339; null before the first run.
    #[schemars(extend("format" = "date-time"))]
    pub computed_at: Option<String>,
    /// The position in the ingested events up to which the numbers hold.
    pub position: Option<u64>,
    /// The time up to which the numbers hold, RFC 3339: later events wait for the next run.
    #[schemars(extend("format" = "date-time"))]
    pub data_time: Option<String>,
    /// The filter that chose the users of this report; null for all users.
    pub filter: Option<Filter>,
    /// The two-sided level of tests and intervals.
    #[schemars(extend("minimum" = MIN_ALPHA, "exclusiveMaximum" = 1))]
    pub alpha: f64,
    /// How p-values are adjusted within a family: `none`, `bonferroni`, `holm` or `bh`.
    #[schemars(extend("enum" = CORRECTIONS))]
    pub correction: String,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// Users by variant: declared variants in their order, then undeclared ones.
    pub variants: Vec<VariantUsers>,
    /// Whether the numbers can be trusted.
    pub health: Health,
    /// The progress towards the planned sample; null without a plan.
    pub plan: Option<Progress>,
    /// The looks that were taken; null before the first run, for users that a filter chose,
    /// and where the data are whole and looked at once.
    #[serde(default)]
    pub sequence: Option<SequenceReport>,
    /// Each metric, once for each kind.
    pub metrics: Vec<MetricReport>,
}

/// The filter that chose the users of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Filter {
    /// Users who were exposed at or after this time, RFC 3339; null for any time.
    #[schemars(extend("format" = "date-time"))]
    pub from: Option<String>,
    /// Users who were exposed before this time, RFC 3339; null for any time.
    #[schemars(extend("format" = "date-time"))]
    pub to: Option<String>,
    /// Users whose context at exposure has these values.
    pub segment: BTreeMap<String, String>,
}

/// The users of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct VariantUsers {
    /// The variant.
    pub variant: String,
    /// Users who were exposed to this variant alone.
    pub users: u64,
    /// The planned weight of the variant; null where it is not declared.
    pub weight: Option<f64>,
}

/// A metric under one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricReport {
    /// The name of the metric.
    pub metric: String,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// The role of the metric in the experiment.
    pub role: MetricRole,
    /// Which way is good; null for a guardrail that declares no direction.
    pub direction: Option<Direction>,
    /// The type of the events that the metric is made of.
    pub event_type: String,
    /// How long after exposure an event counts.
    pub window: Window,
    /// The description in the metric's definition; null without one.
    pub description: Option<String>,
    /// The sums of the metric by variant.
    pub variants: Vec<VariantSums>,
    /// The comparison of each other variant with the control.
    pub comparisons: Vec<Comparison>,
}

/// The sums of a metric for a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VariantSums {
    /// The variant.
    pub variant: String,
    /// Exposed users.
    pub users: u64,
    /// Users with at least one event.
    pub converted_users: u64,
    /// Events; null where they were not counted.
    pub events: Option<u64>,
    /// The exact sum of values, as decimal text.
    #[schemars(regex(pattern = r"^-?[0-9]+\.[0-9]{4}$"))]
    pub total: String,
    /// `converted_users / users`.
    #[schemars(range(min = 0, max = 1))]
    pub conversion_rate: f64,
    /// The mean per user of what the kind measures; the ratio or the quantile itself for
    /// these kinds.
    pub mean: f64,
    /// The sample variance of a user's contribution to the mean; null below two users.
    pub variance: Option<f64>,
    /// The exact sum of a ratio's denominators, as decimal text; null for other kinds.
    #[serde(default)]
    #[schemars(regex(pattern = r"^-?[0-9]+\.[0-9]{4}$"))]
    pub second_total: Option<String>,
    /// The effect of winsorising; null where the metric is not winsorised.
    #[serde(default)]
    pub winsorised: Option<Winsorised>,
}

/// The effect of winsorising on the users of a variant: `mean` and `variance` are those after
/// it, `total` and `events` those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Winsorised {
    /// The exact value that users below it were set to; null without a lower end.
    #[schemars(regex(pattern = r"^-?[0-9]+\.[0-9]{4}$"))]
    pub lower: Option<String>,
    /// The exact value that users above it were set to; null without an upper end.
    #[schemars(regex(pattern = r"^-?[0-9]+\.[0-9]{4}$"))]
    pub upper: Option<String>,
    /// Users who were set to an end.
    pub users: u64,
}
