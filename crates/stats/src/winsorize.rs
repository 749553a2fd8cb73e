//! Winsorises samples: sets outliers to a quantile.

use crate::quantile::check_sorted;
use crate::{Alpha, Interval, StatsError, Summary, Welch, quantile_of_sorted};

/// The effect of winsorising, and the test of the winsorised arms.
///
/// ```
/// let winsorized = trialog_stats::winsorize(&[1.0, 2.0, 99.0], &[1.0, 2.0, 3.0], None, Some(0.8))?;
/// assert_eq!(winsorized.clipped_high, [1, 0]);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Winsorized {
    /// Values below this were set to it; `None` without a lower limit.
    pub lower_threshold: Option<f64>,
    /// Values above this were set to it; `None` without an upper limit.
    pub upper_threshold: Option<f64>,
    /// Both arms afterwards.
    pub arms: [Summary; 2],
    /// Values of each arm that were below.
    pub clipped_low: [u64; 2],
    /// Values of each arm that were above.
    pub clipped_high: [u64; 2],
    /// Welch's test of the arms.
    pub test: Welch,
}

impl Winsorized {
    /// Returns the two-sided interval of the difference, in the metric's unit.
    ///
    /// ```
    /// use trialog_stats::{Alpha, winsorize};
    /// let winsorized = winsorize(&[1.0, 2.0, 99.0], &[1.0, 2.0, 3.0], None, Some(0.8))?;
    /// assert!(winsorized.interval(Alpha::P05).is_some());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        self.test.interval(alpha)
    }
}

/// Returns Welch's test of `a` and `b` after values beyond a quantile of both arms
/// together were set to it.
///
/// # Errors
///
/// [`StatsError::NoUnits`] for an arm without values; [`StatsError::List`] for values
/// that are not finite; [`StatsError::Range`] for quantiles outside 0 to 1 or with the
/// upper one below the lower one.
///
/// ```
/// use trialog_stats::winsorize;
/// let a = [1.0, 2.0, 3.0, 4.0];
/// let b = [2.0, 3.0, 4.0, 1000.0];
/// let clipped = winsorize(&a, &b, None, Some(0.85))?;
/// assert_eq!((clipped.clipped_high, clipped.upper_threshold), ([0, 1], Some(4.0)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn winsorize(
    a: &[f64],
    b: &[f64],
    lower: Option<f64>,
    upper: Option<f64>,
) -> Result<Winsorized, StatsError> {
    for (argument, level) in [("lower_quantile", lower), ("upper_quantile", upper)] {
        if let Some(value) = level.filter(|level| !(0.0..=1.0).contains(level)) {
            let range = "from 0 to 1";
            return Err(StatsError::Range {
                argument,
                range,
                value,
            });
        }
    }
    if let (Some(_), Some(value)) = (lower, upper.filter(|upper| Some(*upper) < lower)) {
        return Err(StatsError::Range {
            argument: "upper_quantile",
            range: "not below `lower_quantile`",
            value,
        });
    }
    if a.is_empty() || b.is_empty() {
        return Err(StatsError::NoUnits);
    }
    let mut sorted = [a, b].concat();
    sorted.sort_by(f64::total_cmp);
    check_sorted(&sorted)?;
    let threshold = |level: Option<f64>| quantile_of_sorted(&sorted, level?);
    let (low, high) = (threshold(lower), threshold(upper));
    let below = |value: &&f64| low.is_some_and(|low| **value < low);
    let above = |value: &&f64| high.is_some_and(|high| **value > high);
    let clipped = |arm: &[f64]| {
        let values = arm.iter().map(|value| {
            let value = low.map_or(*value, |low| value.max(low));
            high.map_or(value, |high| value.min(high))
        });
        values.collect::<crate::Moments>().summary()
    };
    let arms = [clipped(a)?, clipped(b)?];
    let counts =
        |is: &dyn Fn(&&f64) -> bool| [a, b].map(|arm| arm.iter().filter(is).count() as u64);
    Ok(Winsorized {
        lower_threshold: low,
        upper_threshold: high,
        clipped_low: counts(&below),
        clipped_high: counts(&above),
        test: crate::welch(&arms[0], &arms[1]),
        arms,
    })
}
