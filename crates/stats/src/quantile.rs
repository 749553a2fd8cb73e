//! Tests quantile metrics, such as the 95th percentile of a latency.

use crate::special;
use crate::{Alpha, Estimate, QuantileRank, StatsError, Welch};

/// Returns the `level` quantile of `sorted` values by linear interpolation at
/// (N - 1) level: type 7 of Hyndman & Fan (1996), SQL's `PERCENTILE_CONT`.
///
/// `None` without values. `level` is held within 0 to 1; values must be in order.
///
/// ```
/// assert_eq!(trialog_stats::quantile_of_sorted(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
/// ```
#[must_use]
pub fn quantile_of_sorted(sorted: &[f64], level: f64) -> Option<f64> {
    let rank = QuantileRank::at_level(sorted.len() as u64, level)?;
    Some(rank.between(sorted[rank.low as usize], sorted[rank.high as usize]))
}

/// The summary of a quantile in one arm.
///
/// ```
/// let values: Vec<f64> = (1..=99).map(f64::from).collect();
/// let median = trialog_stats::QuantileSummary::from_sorted(&values, 0.5)?;
/// assert_eq!((median.quantile, median.n), (50.0, 99));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileSummary {
    /// Values.
    pub n: u64,
    /// Values that the quantiles at `lower` and `upper` were taken for: n, or fewer
    /// where they were taken at coarser levels.
    pub n_star: u64,
    /// The quantile.
    pub quantile: f64,
    /// The quantile at the lower end of the 95 % interval of the level.
    pub lower: f64,
    /// At its upper end.
    pub upper: f64,
    /// The largest number of values that share one of those that `quantile`, `lower` and `upper`
    /// are made of; `None` if they were not counted.
    pub tied: Option<u64>,
}

/// The largest share of the values between `lower` and `upper` that may be the same. The
/// interval takes the values about the quantile for spread out; a third keeps the level on
/// values with an atom and on grids (docs/statistics.md), a half rejects up to 9 %.
const MOST_TIED: f64 = 1.0 / 3.0;

impl QuantileSummary {
    /// Returns the summary of `sorted` values at `level`.
    ///
    /// # Errors
    ///
    /// [`StatsError::NoUnits`] without values; [`StatsError::Probability`] for a level
    /// that is not between 0 and 1; [`StatsError::List`] for values that are not
    /// finite or not in order.
    ///
    /// ```
    /// use trialog_stats::QuantileSummary;
    /// let values: Vec<f64> = (0..=100).map(f64::from).collect();
    /// assert_eq!(QuantileSummary::from_sorted(&values, 0.5)?.quantile, 50.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn from_sorted(sorted: &[f64], level: f64) -> Result<Self, StatsError> {
        check_level(level)?;
        check_sorted(sorted)?;
        let (lower_level, upper_level) = levels(sorted.len() as u64, level);
        let at = |level| quantile_of_sorted(sorted, level).ok_or(StatsError::NoUnits);
        Ok(Self {
            n: sorted.len() as u64,
            n_star: sorted.len() as u64,
            quantile: at(level)?,
            lower: at(lower_level)?,
            upper: at(upper_level)?,
            tied: most_tied(sorted, [level, lower_level, upper_level]),
        })
    }

    /// Returns the variance of the quantile times n:
    /// (n*/n) (n - 1) ((upper - lower) / (2 z(0.975)))².
    ///
    /// Deng, Knoblich & Lu (2018); Yao, Li & Lu (2024). `None` for a single value.
    ///
    /// ```
    /// use trialog_stats::QuantileSummary;
    /// let single = QuantileSummary::from_sorted(&[3.0], 0.5)?;
    /// assert_eq!(single.unit_variance(), None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn unit_variance(&self) -> Option<f64> {
        if self.n < 2 {
            return None;
        }
        let sd = (self.upper - self.lower) / (2.0 * special::normal_critical(Alpha::P05));
        let n = self.n as f64;
        Some(self.n_star as f64 / n * (n - 1.0) * sd * sd)
    }

    /// Returns whether so many values are equal near the quantile at `level` that its variance is
    /// meaningless.
    ///
    /// ```
    /// use trialog_stats::QuantileSummary;
    /// let mut values = vec![0.0; 900];
    /// values.extend((1..=100).map(f64::from));
    /// assert!(QuantileSummary::from_sorted(&values, 0.9)?.is_tied(0.9));
    /// assert!(!QuantileSummary::from_sorted(&values, 0.95)?.is_tied(0.95));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn is_tied(&self, level: f64) -> bool {
        let (low, high) = levels(self.n, level);
        let between = (high - low) * self.n as f64;
        self.tied
            .is_some_and(|tied| tied > 1 && tied as f64 > MOST_TIED * between)
    }

    /// Whether there are enough values for the interval of the level to lie within 0
    /// to 1, and whether it has a width.
    fn is_usable(&self, level: f64) -> bool {
        let z = special::normal_critical(Alpha::P05);
        let odds = level / (1.0 - level);
        self.n as f64 > z * z * odds.max(1.0 / odds) && self.upper > self.lower
    }

    fn check(&self) -> Result<(), StatsError> {
        if self.n == 0 || self.n_star == 0 {
            return Err(StatsError::NoUnits);
        }
        let values = [
            ("quantile", self.quantile),
            ("lower", self.lower),
            ("upper", self.upper),
        ];
        for (argument, value) in values {
            if !(-1e140..=1e140).contains(&value) {
                return Err(StatsError::Range {
                    argument,
                    range: "finite and at most 1e140",
                    value,
                });
            }
        }
        if self.upper < self.lower {
            return Err(StatsError::Range {
                argument: "upper",
                range: "not below `lower`",
                value: self.upper,
            });
        }
        Ok(())
    }
}

/// Returns the levels between which the empirical level of a quantile is with a
/// probability of 95 %: level -+ z(0.975) √(level (1 - level) / n), within 0 to 1.
///
/// ```
/// let (lower, upper) = trialog_stats::quantile_levels(100, 0.5)?;
/// assert!((lower - 0.402).abs() < 1e-3 && (upper - 0.598).abs() < 1e-3);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
///
/// # Errors
///
/// [`StatsError::NoUnits`]; [`StatsError::Probability`] for a level that is not
/// between 0 and 1.
pub fn quantile_levels(n: u64, level: f64) -> Result<(f64, f64), StatsError> {
    check_level(level)?;
    if n == 0 {
        return Err(StatsError::NoUnits);
    }
    Ok(levels(n, level))
}

/// How many of the `sorted` values share one of those that the quantiles at `levels` are
/// made of, at most.
fn most_tied(sorted: &[f64], levels: [f64; 3]) -> Option<u64> {
    let ranks = levels.map(|level| QuantileRank::at_level(sorted.len() as u64, level));
    let ties = |rank: u64| {
        let value = sorted[rank as usize];
        let below = sorted.partition_point(|other| *other < value);
        sorted.partition_point(|other| *other <= value) - below
    };
    let ends = ranks
        .into_iter()
        .flatten()
        .flat_map(|rank| [rank.low, rank.high]);
    ends.map(|rank| ties(rank) as u64).max()
}

fn levels(n: u64, level: f64) -> (f64, f64) {
    let half = special::normal_critical(Alpha::P05) * (level * (1.0 - level) / n as f64).sqrt();
    ((level - half).max(0.0), (level + half).min(1.0))
}

fn check_level(level: f64) -> Result<(), StatsError> {
    if level > 0.0 && level < 1.0 {
        Ok(())
    } else {
        Err(StatsError::Probability(level))
    }
}

pub(crate) fn check_sorted(values: &[f64]) -> Result<(), StatsError> {
    let is_ordered = values.is_sorted() && values.iter().all(|value| value.abs() <= 1e140);
    if is_ordered {
        return Ok(());
    }
    Err(StatsError::List {
        argument: "values",
        rule: "must be in order, finite and at most 1e140",
    })
}

/// Returns Welch's test of the `level` quantiles of two arms; without a p-value where
/// an arm has too few values for its level or no spread about it.
///
/// # Errors
///
/// [`StatsError::Probability`] for a level that is not between 0 and 1;
/// [`StatsError::NoUnits`]; [`StatsError::Range`] for quantiles that are not finite or
/// out of order.
///
/// ```
/// use trialog_stats::{QuantileSummary, quantile_test};
/// let values: Vec<f64> = (1..=999).map(f64::from).collect();
/// let a = QuantileSummary::from_sorted(&values, 0.9)?;
/// assert_eq!(quantile_test(&a, &a, 0.9)?.p_value, Some(1.0));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn quantile_test(
    a: &QuantileSummary,
    b: &QuantileSummary,
    level: f64,
) -> Result<Welch, StatsError> {
    check_level(level)?;
    a.check()?;
    b.check()?;
    let difference = b.quantile - a.quantile;
    let variances = a.unit_variance().zip(b.unit_variance());
    let Some((v_a, v_b)) = variances.filter(|_| a.is_usable(level) && b.is_usable(level)) else {
        return Ok(Welch::untested(difference));
    };
    let estimate = |arm: &QuantileSummary, variance: f64| Estimate {
        value: arm.quantile,
        variance: variance / arm.n as f64,
    };
    let estimates = [estimate(a, v_a), estimate(b, v_b)];
    Ok(Welch::from_estimates([a.n, b.n], estimates, difference))
}

/// Returns the exact 95 % interval of a quantile between two of the `sorted` values.
///
/// Low is the value of the largest rank l with P(Bin(n, level) <= l - 1) <= 0.025,
/// high that of the smallest rank u with P(Bin(n, level) >= u) <= 0.025. An end is
/// `None` when no value is far enough out (David & Nagaraja 2003, section 7.1).
///
/// ```
/// let values: Vec<f64> = (1..=100).map(f64::from).collect();
/// let ends = trialog_stats::order_statistic_interval(&values, 0.5);
/// assert_eq!(ends, (Some(40.0), Some(61.0)));
/// ```
#[must_use]
pub fn order_statistic_interval(sorted: &[f64], level: f64) -> (Option<f64>, Option<f64>) {
    order_statistics(sorted, level, 0.025)
}

/// As [`order_statistic_interval`], with a probability of `each_side` beyond each end.
pub(crate) fn order_statistics(
    sorted: &[f64],
    level: f64,
    each_side: f64,
) -> (Option<f64>, Option<f64>) {
    let (low, high) = order_statistic_ranks(sorted.len() as u64, level, each_side);
    let value = |rank: Option<u64>| rank.and_then(|rank| sorted.get(rank as usize)).copied();
    (value(low), value(high))
}

/// Returns the ranks, from 0, of the ends of [`order_statistics`] among `n` values.
pub(crate) fn order_statistic_ranks(
    n: u64,
    level: f64,
    each_side: f64,
) -> (Option<u64>, Option<u64>) {
    if !(level > 0.0 && level < 1.0) {
        return (None, None);
    }
    // P(Bin(n, p) >= k) = I(p; k, n - k + 1).
    let tails = |k: u64| special::tails_of_beta(level, 1.0 - level, k as f64, (n - k + 1) as f64);
    let n_low = first_rank(n, |rank| tails(rank).upper > each_side) - 1;
    let first_high = first_rank(n, |rank| tails(rank).lower <= each_side);
    (
        n_low.checked_sub(1),
        (first_high <= n).then_some(first_high - 1),
    )
}

/// Returns the first of the ranks 1 to `n` that `is_beyond` and so are all after it; n + 1 if
/// none is.
fn first_rank(n: u64, is_beyond: impl Fn(u64) -> bool) -> u64 {
    let (mut first, mut end) = (1, n + 1);
    while first < end {
        let middle = first + (end - first) / 2;
        match is_beyond(middle) {
            true => end = middle,
            false => first = middle + 1,
        }
    }
    first
}
