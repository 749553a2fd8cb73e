//! How long users take to the steps of a funnel, and how many reach the last one by preset times.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::duration::Window;
use trialog_stats::{Alpha, ReachedBy, ReachedDifference, StepTimes as Times, holm};

use super::ends;

/// How long the users of a variant took from the exposure to a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepTimes {
    /// Exposed users who were observed for the whole window.
    pub mature_users: u64,
    /// How many of these reached the step.
    pub mature_reached: u64,
    /// The median time of these, in seconds; null without any. They were not randomised, so
    /// medians of variants cannot be compared.
    pub median_seconds: Option<f64>,
    /// The exact interval of `median_seconds`; an end is null where there are too few times.
    pub median_ci: [Option<f64>; 2],
    /// The share of all exposed users who reached the step by preset times.
    pub reached_by: Vec<ReachedShare>,
}

/// The share of users who reached a step by one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReachedShare {
    /// How long after the exposure.
    pub within: Window,
    /// The share, estimated by Kaplan and Meier where windows are open; null where nobody was
    /// observed for so long.
    pub rate: Option<f64>,
    /// Greenwood's standard error of `rate`; null where all have reached the step.
    pub se: Option<f64>,
    /// The interval of `rate`; null where none or all have reached the step.
    pub ci: Option<[f64; 2]>,
    /// Users who were observed for so long and had not reached the step before.
    pub at_risk: u64,
}

/// A treatment against the control: who reached the last step by one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimeComparison {
    /// How long after the exposure.
    pub within: Window,
    /// Difference of the shares; null where one of them is.
    pub difference: Option<f64>,
    /// Normal interval of `difference`.
    pub ci: Option<[f64; 2]>,
    /// z-test by the standard errors; null where in an arm none or all have reached the step.
    pub z: Option<f64>,
    /// Two-sided p-value of `z`.
    pub p_value: Option<f64>,
    /// The p-value after Holm over all times and treatments.
    pub adjusted_p_value: Option<f64>,
    /// Whether `adjusted_p_value` is below `alpha`.
    pub significant: bool,
}

/// The times by which shares are reported: an hour, a day and a week as far as they are within
/// the window, and the window.
///
/// ```
/// use trialog_model::duration::Window;
/// let times = trialog_report::funnel_times(Window::parse("2d")?);
/// assert_eq!(times, [Window::parse("1h")?, Window::parse("1d")?, Window::parse("2d")?]);
/// # Ok::<(), trialog_model::duration::WindowError>(())
/// ```
pub fn funnel_times(window: Window) -> Vec<Window> {
    let end = window.micros().unwrap_or(i64::MAX);
    let preset = ["1h", "1d", "7d"].map(|text| Window::parse(text).ok());
    let shorter = preset.into_iter().flatten();
    let shorter = shorter.filter(|time| time.micros().is_some_and(|micros| micros < end));
    let last = Some(window).filter(|window| *window != Window::UNBOUNDED);
    shorter.chain(last).collect()
}

impl StepTimes {
    pub(super) fn from_times(times: &Times, window: Window, level: Alpha) -> Self {
        let (low, high) = times.median_interval;
        let points = funnel_times(window).into_iter().zip(&times.points);
        Self {
            mature_users: times.counts.mature,
            mature_reached: times.counts.mature_reached,
            median_seconds: times.median,
            median_ci: [low, high],
            reached_by: points
                .map(|(within, point)| ReachedShare::from_point(within, point, level))
                .collect(),
        }
    }
}

impl ReachedShare {
    fn from_point(within: Window, point: &ReachedBy, level: Alpha) -> Self {
        let known = Some(point).filter(|point| is_estimated(point));
        Self {
            within,
            rate: known.map(|point| point.reached),
            se: known.and_then(|point| point.standard_error),
            ci: known.and_then(|point| point.interval(level)).map(ends),
            at_risk: point.at_risk,
        }
    }
}

/// Whether anybody was observed for so long, or all users had reached the step before.
fn is_estimated(point: &ReachedBy) -> bool {
    point.at_risk > 0 || point.reached >= 1.0
}

/// Compares the last step of a treatment with the control; p-values are not adjusted yet.
pub(super) fn compare(
    control: &Times,
    treatment: &Times,
    window: Window,
    level: Alpha,
) -> Vec<TimeComparison> {
    let points = control.points.iter().zip(&treatment.points);
    let points = funnel_times(window).into_iter().zip(points);
    let compared = points.map(|(within, (a, b))| {
        let is_known = is_estimated(a) && is_estimated(b);
        let test = is_known.then(|| ReachedDifference::between(a, b));
        TimeComparison {
            within,
            difference: test.map(|test| test.difference),
            ci: test.and_then(|test| test.interval(level)).map(ends),
            z: test.and_then(|test| test.z),
            p_value: test.and_then(|test| test.p_value),
            adjusted_p_value: None,
            significant: false,
        }
    });
    compared.collect()
}

/// Adjusts the p-values of all times and treatments (Holm 1979).
pub(super) fn adjust<'a>(comparisons: impl Iterator<Item = &'a mut TimeComparison>, level: Alpha) {
    let mut tested: Vec<&mut TimeComparison> = comparisons
        .filter(|comparison| comparison.p_value.is_some())
        .collect();
    let p_values: Vec<f64> = (tested.iter())
        .filter_map(|comparison| comparison.p_value)
        .collect();
    let adjusted = holm(&p_values).unwrap_or_default();
    for (comparison, p_value) in tested.iter_mut().zip(adjusted) {
        comparison.adjusted_p_value = Some(p_value);
        comparison.significant = p_value < level.get();
    }
}
