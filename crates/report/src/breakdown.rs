//! Breaks the scorecard down by segment: one report for each value of context keys.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use trialog_model::experiment::MIN_ALPHA;

use super::report::CORRECTIONS;
use super::{Filter, Health, MetricReport, Report, VariantUsers};

/// The results of an experiment by the values of context keys at the exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Breakdown {
    /// The experiment.
    pub experiment_id: String,
    /// The keys, in the order in which they were asked for.
    pub by: Vec<String>,
    /// When the numbers of the experiment were published; null before the first run.
    #[schemars(extend("format" = "date-time"))]
    pub computed_at: Option<String>,
    /// The position in what was ingested that the numbers hold for.
    pub position: Option<u64>,
    /// The moment that they hold for: later events wait for the next run.
    #[schemars(extend("format" = "date-time"))]
    pub data_time: Option<String>,
    /// The users that all segments are chosen from; null for all.
    pub filter: Option<Filter>,
    /// The two-sided level of tests and intervals within a segment. Segments are not corrected
    /// for one another: of 20 segments without a difference one is expected to show one.
    #[schemars(extend("minimum" = MIN_ALPHA, "exclusiveMaximum" = 1))]
    pub alpha: f64,
    /// How p-values are adjusted within a family of a segment.
    #[schemars(extend("enum" = CORRECTIONS))]
    pub correction: String,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// How many values exposed users have, or how many pairs of values.
    pub n_values: u64,
    /// A segment for each of the 50 values with the most users, then one for users without a
    /// value and one for all other values, where there are such users.
    pub segments: Vec<Segment>,
}

/// The results of the users of one segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Segment {
    /// The value of each key, null where it is missing; null for all other values.
    pub values: Option<BTreeMap<String, Option<String>>>,
    /// The values as a text, with `(missing)` and `(other)`.
    pub label: String,
    /// Exposed users of all variants.
    pub users: u64,
    /// Users by variant.
    pub variants: Vec<VariantUsers>,
    /// Whether the numbers of this segment can be trusted: its own sample ratio check.
    pub health: Health,
    /// Each metric, once for each kind.
    pub metrics: Vec<MetricReport>,
}

impl Breakdown {
    /// Joins the reports of segments. `whole` is the report of all users. Each segment has the
    /// values of `by`, `None` for all other values.
    pub fn from_reports(
        whole: Report,
        by: Vec<String>,
        n_values: u64,
        segments: impl IntoIterator<Item = (Option<Vec<Option<String>>>, Report)>,
    ) -> Self {
        let segments = segments.into_iter();
        Self {
            segments: segments
                .map(|(values, report)| Segment::from_report(&by, values, report))
                .collect(),
            experiment_id: whole.experiment_id,
            by,
            computed_at: whole.computed_at,
            position: whole.position,
            data_time: whole.data_time,
            filter: whole.filter,
            alpha: whole.alpha,
            correction: whole.correction,
            control: whole.control,
            n_values,
        }
    }
}

impl Segment {
    fn from_report(by: &[String], values: Option<Vec<Option<String>>>, report: Report) -> Self {
        let label = match &values {
            None => "(other)".to_owned(),
            Some(values) => {
                let texts = values.iter();
                let texts = texts.map(|value| value.as_deref().unwrap_or("(missing)"));
                texts.collect::<Vec<_>>().join(", ")
            }
        };
        let by_key = |values: Vec<Option<String>>| by.iter().cloned().zip(values).collect();
        Self {
            values: values.map(by_key),
            label,
            users: report.variants.iter().map(|variant| variant.users).sum(),
            variants: report.variants,
            health: report.health,
            metrics: report.metrics,
        }
    }
}
