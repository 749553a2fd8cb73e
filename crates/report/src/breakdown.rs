//! Breaks the scorecard down by segment: one report for each value of context keys.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use trialog_model::experiment::MIN_ALPHA;
use trialog_model::published::Computation;

use crate::heterogeneity::{self, Evidence, Heterogeneity, LabelledCell, OTHER};
use crate::report::CORRECTIONS;
use crate::{Choices, Filter, Health, MetricReport, Report, Subject, VariantUsers};

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
    /// Whether the keys were declared as segments before the start.
    pub evidence: Evidence,
    /// For each metric and treatment whether the effect is the same in all segments; empty where
    /// there are fewer than two segments.
    pub heterogeneity: Vec<Heterogeneity>,
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

/// A segment before it is reported beside others.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentCell {
    /// The values of the keys, none for a missing one; absent for all other values.
    pub values: Option<Vec<Option<String>>>,
    /// What was computed of its users.
    pub computation: Computation,
    /// The report of that.
    pub report: Report,
}

impl Breakdown {
    /// Joins the reports of the segments in `cells` by the keys `by`, which have `n_values`
    /// values, and tests whether the effects differ. `whole` is the report of all users. The tests
    /// are not adjusted yet: see [`adjust_heterogeneity`](crate::adjust_heterogeneity).
    pub fn from_reports(
        (subject, choices): (&Subject<'_>, &Choices),
        whole: Report,
        by: Vec<String>,
        n_values: u64,
        cells: Vec<SegmentCell>,
    ) -> Self {
        let labels: Vec<String> = cells.iter().map(SegmentCell::label).collect();
        let labelled = cells.iter().zip(&labels);
        let labelled: Vec<LabelledCell<'_>> = labelled
            .map(|(cell, label)| LabelledCell {
                label,
                is_other: cell.values.is_none(),
                computation: &cell.computation,
            })
            .collect();
        let heterogeneity = match cells.len() {
            0 | 1 => Vec::new(),
            _ => heterogeneity::test_all(subject, whole.control.as_deref(), choices, &labelled),
        };
        let segments = cells.into_iter().zip(labels);
        Self {
            segments: segments
                .map(|(cell, label)| Segment::from_cell(&by, cell, label))
                .collect(),
            heterogeneity,
            evidence: Evidence::of_keys(subject.definition, &by),
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

impl SegmentCell {
    /// Writes the values as a text.
    fn label(&self) -> String {
        let Some(values) = &self.values else {
            return OTHER.to_owned();
        };
        let texts = values.iter();
        let texts = texts.map(|value| value.as_deref().unwrap_or("(missing)"));
        texts.collect::<Vec<_>>().join(", ")
    }
}

impl Segment {
    fn from_cell(by: &[String], cell: SegmentCell, label: String) -> Self {
        let by_key = |values: Vec<Option<String>>| by.iter().cloned().zip(values).collect();
        let report = cell.report;
        Self {
            values: cell.values.map(by_key),
            label,
            users: report.variants.iter().map(|variant| variant.users).sum(),
            variants: report.variants,
            health: report.health,
            metrics: report.metrics,
        }
    }
}
