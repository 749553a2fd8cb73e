//! Tests whether the effect of a treatment is the same in all segments.
//!
//! The verdict is Welch's F test, never the p-values of the segments themselves: where every
//! segment is tested on its own, some differ by chance.

mod cells;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::experiment::Definition;
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::published::Computation;
use trialog_stats::{Alpha, holm};

use crate::comparison::Terms;
use crate::measured::measured;
use crate::{Breakdown, Choices, Measured, Subject};

use self::cells::{Pooled, Unit};

/// The label of the segment of all other values.
pub(crate) const OTHER: &str = "(other)";
/// Segments with fewer users are tested together.
const MIN_USERS: u64 = 200;

/// Whether the effect of a treatment on a metric is the same in all segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heterogeneity {
    /// The metric.
    pub metric: String,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// The role of the metric in the experiment.
    pub role: MetricRole,
    /// The treatment.
    pub treatment: String,
    /// What the test says; null without a test, and for metrics that are not primary.
    pub verdict: Option<HeterogeneityVerdict>,
    /// Why there is no verdict; null where there is one.
    pub reason: Option<String>,
    /// Welch's F statistic of the differences; null without a test.
    pub f: Option<f64>,
    /// The degrees of freedom of `f`.
    pub df: Option<[f64; 2]>,
    /// The p-value of `f`.
    #[schemars(range(min = 0, max = 1))]
    pub p_value: Option<f64>,
    /// The p-value after Holm over the primary metrics, the treatments and the keys that were
    /// asked for together; null for other metrics.
    #[schemars(range(min = 0, max = 1))]
    pub adjusted_p_value: Option<f64>,
    /// The p-value of Cochran's Q, which rejects too often with many small segments and decides
    /// nothing.
    #[schemars(range(min = 0, max = 1))]
    pub cochran_p_value: Option<f64>,
    /// The share of the spread of the differences that is not noise.
    #[schemars(range(min = 0, max = 1))]
    pub i_squared: Option<f64>,
    /// The mean difference, weighted by the certainty of each segment's.
    pub pooled_difference: Option<f64>,
    /// The segments that were tested.
    pub segments: Vec<SegmentEffect>,
    /// Segments that were tested together as `(other)`, because they are small.
    pub small: Vec<String>,
    /// Segments that are in no test, as they have a single user in an arm or no spread, or are
    /// small and cannot be added up.
    pub left_out: Vec<String>,
}

/// What the test of segments says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeterogeneityVerdict {
    /// The effect is not the same in all segments.
    Differs,
    /// The data do not show that it differs.
    NoDifferenceFound,
}

/// The effect in one segment beside those of the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentEffect {
    /// The values of the segment.
    pub segment: String,
    /// The users of control and treatment.
    pub users: u64,
    /// The difference between treatment and control.
    pub difference: f64,
    /// Its standard error, from the guarded variance.
    pub standard_error: f64,
    /// The difference drawn to the common mean by what of its spread is noise: the better guess
    /// of what this segment would show next.
    pub shrunk: f64,
    /// The interval of `shrunk`.
    pub shrunk_ci: Option<[f64; 2]>,
    /// The difference less that of all other segments together.
    pub contrast: f64,
    /// The p-value of `contrast` after Holm over the segments.
    pub adjusted_p_value: f64,
    /// Whether the segment is one of those that make the difference: taken out one after the
    /// other for as long as the rest differs. Only where the verdict is `differs`.
    pub named: bool,
}

/// Whether segments were declared before the experiment started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The experiment declares these keys as its segments.
    Confirmatory,
    /// The keys were chosen later, perhaps among many: what is found has to be confirmed.
    Exploratory,
}

impl Evidence {
    /// Returns what a breakdown by `keys` is.
    pub(crate) fn of_keys(definition: &Definition, keys: &[String]) -> Self {
        let is_declared = |key: &String| definition.segments.contains(key);
        match keys.iter().all(is_declared) {
            true => Self::Confirmatory,
            false => Self::Exploratory,
        }
    }
}

/// A segment with its sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelledCell<'c> {
    pub(crate) label: &'c str,
    /// Whether it has the users of all other values.
    pub(crate) is_other: bool,
    pub(crate) computation: &'c Computation,
}

/// Tests each metric that `choices` include in the segments `cells`; the p-values are not
/// adjusted yet. `control` is the variant that the others are compared with.
pub(crate) fn test_all(
    subject: &Subject<'_>,
    control: Option<&str>,
    choices: &Choices,
    cells: &[LabelledCell<'_>],
) -> Vec<Heterogeneity> {
    let terms = Terms::from_definition(subject.definition, control, choices, None);
    let by_cell: Vec<Vec<Measured>> = (cells.iter())
        .map(|cell| measured(subject, cell.computation, control, choices))
        .collect();
    let Some(first) = by_cell.first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (at, metric) in first.iter().enumerate() {
        let treatments = (metric.arms.iter())
            .map(|arm| arm.sums.variant.as_str())
            .filter(|variant| Some(*variant) != control);
        if !choices.include_metric(&metric.metric, metric.kind) {
            continue;
        }
        for treatment in treatments {
            let metrics = by_cell.iter().map(|metrics| metrics.get(at));
            let units: Vec<Unit<'_>> = (cells.iter().zip(metrics))
                .filter_map(|(cell, metric)| Unit::new(cell, metric?, subject, treatment))
                .collect();
            found.push(test_one(metric, treatment, &units, &terms));
        }
    }
    found
}

fn test_one(
    metric: &Measured,
    treatment: &str,
    units: &[Unit<'_>],
    terms: &Terms<'_>,
) -> Heterogeneity {
    let pooled = Pooled::new(units, MIN_USERS);
    let mut empty = Heterogeneity {
        metric: metric.metric.clone(),
        kind: metric.kind,
        role: metric.role,
        treatment: treatment.to_owned(),
        verdict: None,
        reason: None,
        f: None,
        df: None,
        p_value: None,
        adjusted_p_value: None,
        cochran_p_value: None,
        i_squared: None,
        pooled_difference: None,
        segments: Vec::new(),
        small: pooled.small,
        left_out: pooled.left_out,
    };
    if metric.kind == MetricKind::Quantile {
        empty.reason = Some(QUANTILE.to_owned());
        return empty;
    }
    let differences: Vec<_> = (pooled.segments.iter())
        .map(|segment| segment.difference)
        .collect();
    let Ok(Some(found)) = trialog_stats::heterogeneity(&differences, terms.alpha) else {
        empty.reason = Some(TOO_FEW.to_owned());
        return empty;
    };
    let effects = pooled.segments.iter().zip(&found.segments).enumerate();
    let effects = effects.map(|(at, (segment, effect))| SegmentEffect {
        segment: segment.label.clone(),
        users: segment.users,
        difference: segment.difference.difference,
        standard_error: segment.difference.variance.sqrt(),
        shrunk: effect.shrunk,
        shrunk_ci: effect.interval(terms.alpha).map(|ci| [ci.low, ci.high]),
        contrast: effect.contrast,
        adjusted_p_value: effect.adjusted_p_value,
        named: found.named.contains(&at),
    });
    Heterogeneity {
        segments: effects.collect(),
        f: Some(found.f.f),
        df: Some([found.f.df1 as f64, found.f.df2]),
        p_value: Some(found.f.p_value),
        cochran_p_value: Some(found.q.p_value),
        i_squared: Some(found.i_squared),
        pooled_difference: Some(found.pooled.difference),
        ..empty
    }
}

const QUANTILE: &str = "quantiles have no test of segments: take a sum, or `:conversion`";
const TOO_FEW: &str = "fewer than two segments can be tested: each needs 200 users and, for a rate, 5 converted and 5 unconverted ones expected in each arm";
const NOT_PRIMARY: &str = "only primary metrics have a verdict: these numbers describe";

/// Adjusts the p-values of the primary metrics in all `breakdowns` together (Holm 1979), and
/// says what each test comes to.
pub fn adjust_heterogeneity(breakdowns: &mut [Breakdown], alpha: Alpha) {
    let tests = (breakdowns.iter_mut())
        .flat_map(|breakdown| &mut breakdown.heterogeneity)
        .filter(|test| test.p_value.is_some());
    let (mut primary, others): (Vec<_>, Vec<_>) =
        tests.partition(|test| test.role == MetricRole::Primary);
    for test in others {
        test.reason = Some(NOT_PRIMARY.to_owned());
        test.unname();
    }
    let p_values: Vec<f64> = primary.iter().filter_map(|test| test.p_value).collect();
    let adjusted = holm(&p_values).unwrap_or_default();
    for (test, adjusted) in primary.iter_mut().zip(adjusted) {
        test.adjusted_p_value = Some(adjusted);
        test.verdict = Some(match adjusted < alpha.get() {
            true => HeterogeneityVerdict::Differs,
            false => HeterogeneityVerdict::NoDifferenceFound,
        });
        if test.verdict != Some(HeterogeneityVerdict::Differs) {
            test.unname();
        }
    }
}

impl Heterogeneity {
    /// Names no segment.
    fn unname(&mut self) {
        (self.segments.iter_mut()).for_each(|segment| segment.named = false);
    }
}
