//! Summarises one arm: units, mean, variance.

use crate::wide::U256;
use crate::{Alpha, Estimate, Interval, StatsError, special};

/// Means beyond this are refused, so that no difference or square overflows.
const LARGEST_MEAN: f64 = 1e150;
/// Likewise for variances.
const LARGEST_VARIANCE: f64 = 1e300;

/// Units, mean and sample variance of one metric in one arm.
///
/// ```
/// use trialog_stats::Summary;
/// let arm = Summary::new(15, 20.8, Some(7.9))?;
/// assert_eq!((arm.n(), arm.mean(), arm.variance()), (15, 20.8, Some(7.9)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    n: u64,
    mean: f64,
    variance: Option<f64>,
}

impl Summary {
    /// Returns the summary of `n` units with this mean and sample variance.
    ///
    /// The variance has the divisor n - 1 and the square of the mean's unit. A
    /// single unit has none: then, and only then, it must be `None`.
    ///
    /// # Errors
    ///
    /// [`StatsError::NoUnits`], [`StatsError::Mean`] (not finite, or beyond 1e150),
    /// [`StatsError::Variance`] (not finite, negative, or beyond 1e300), or
    /// [`StatsError::VariancePresence`].
    ///
    /// ```
    /// use trialog_stats::Summary;
    /// assert!(Summary::new(1, 3.0, None).is_ok());
    /// assert!(Summary::new(2, 3.0, Some(-1.0)).is_err());
    /// ```
    pub fn new(n: u64, mean: f64, variance: Option<f64>) -> Result<Self, StatsError> {
        if n == 0 {
            return Err(StatsError::NoUnits);
        }
        if variance.is_some() != (n >= 2) {
            return Err(StatsError::VariancePresence { n });
        }
        if !(-LARGEST_MEAN..=LARGEST_MEAN).contains(&mean) {
            return Err(StatsError::Mean(mean));
        }
        match variance {
            Some(variance) if !(0.0..=LARGEST_VARIANCE).contains(&variance) => {
                Err(StatsError::Variance(variance))
            }
            _ => Ok(Self { n, mean, variance }),
        }
    }

    /// Returns the summary of `n` units from exact integer sums.
    ///
    /// `sum` counts units of `scale` and `sum_of_squares` units of its square:
    /// with values in ten-thousandths `scale` is 1e-4. Mean and variance carry the
    /// rounding of a few operations only, however large the mean is against the
    /// spread, because n·Σx² − (Σx)² is formed in 256-bit integers.
    ///
    /// # Errors
    ///
    /// [`StatsError::NoUnits`], [`StatsError::Scale`] (not positive and finite),
    /// [`StatsError::InconsistentSums`] (no such values exist), and those of
    /// [`Summary::new`].
    ///
    /// ```
    /// use trialog_stats::Summary;
    /// // 1.5, 2.5 and 3.5 in tenths.
    /// let arm = Summary::from_exact(3, 75, 15 * 15 + 25 * 25 + 35 * 35, 0.1)?;
    /// assert_eq!((arm.mean(), arm.variance()), (2.5, Some(1.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn from_exact(
        n: u64,
        sum: i128,
        sum_of_squares: i128,
        scale: f64,
    ) -> Result<Self, StatsError> {
        if n == 0 {
            return Err(StatsError::NoUnits);
        }
        let per_one = units_per_one(scale)?;
        let deviation =
            squared_deviation(n, sum, sum_of_squares).ok_or(StatsError::InconsistentSums {
                n,
                sum,
                sum_of_squares,
            })?;
        let pairs = u128::from(n) * u128::from(n - 1);
        let variance = (n >= 2).then(|| deviation / pairs as f64 / per_one / per_one);
        Self::new(n, sum as f64 / n as f64 / per_one, variance)
    }

    /// Returns the number of units, at least 1.
    ///
    /// ```
    /// # use trialog_stats::Summary;
    /// assert_eq!(Summary::new(7, 1.0, Some(2.0))?.n(), 7);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Returns the mean over units, in the metric's unit.
    ///
    /// ```
    /// # use trialog_stats::Summary;
    /// assert_eq!(Summary::new(7, 1.0, Some(2.0))?.mean(), 1.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// Returns the sample variance (divisor n - 1); `None` for a single unit.
    ///
    /// ```
    /// # use trialog_stats::Summary;
    /// assert_eq!(Summary::new(1, 1.0, None)?.variance(), None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn variance(&self) -> Option<f64> {
        self.variance
    }

    /// Returns the mean with its squared standard error, variance / n.
    ///
    /// `None` for a single unit.
    ///
    /// ```
    /// # use trialog_stats::{Estimate, Summary};
    /// let mean = Summary::new(4, 1.0, Some(2.0))?.estimate();
    /// assert_eq!(mean, Some(Estimate { value: 1.0, variance: 0.5 }));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        let variance = self.variance? / self.n as f64;
        Some(Estimate {
            value: self.mean,
            variance,
        })
    }

    /// Returns Student's two-sided interval of the arm's mean.
    ///
    /// A relative difference means little when the control's interval includes 0.
    /// `None` for a single unit and for units without spread.
    ///
    /// ```
    /// # use trialog_stats::{Alpha, Summary};
    /// let arm = Summary::new(4, 1.0, Some(2.0))?;
    /// assert!(arm.mean_interval(Alpha::P05).is_some_and(|ci| ci.contains(0.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn mean_interval(&self, alpha: Alpha) -> Option<Interval> {
        let standard_error = self.estimate()?.variance.sqrt();
        if standard_error <= 0.0 {
            return None;
        }
        let critical = special::t_critical(alpha, (self.n - 1) as f64).ok()?;
        Interval::around(self.mean, critical * standard_error)
    }
}

/// n·Σx² − (Σx)², rounded once; `None` when negative (Cauchy-Schwarz violated).
fn squared_deviation(n: u64, sum: i128, sum_of_squares: i128) -> Option<f64> {
    let squares = U256::product(u128::from(n), u128::try_from(sum_of_squares).ok()?);
    let square = U256::product(sum.unsigned_abs(), sum.unsigned_abs());
    let deviation = squares.checked_sub(square)?.to_f64();
    // One unit has no deviation, so anything left means that the sums disagree.
    (n >= 2 || deviation <= 0.0).then_some(deviation)
}

/// Returns how many units of size `scale` make 1. Decimal scales such as 1e-4 are no doubles but
/// their reciprocals are, and dividing by those rounds correctly.
pub(crate) fn units_per_one(scale: f64) -> Result<f64, StatsError> {
    let per_one = 1.0 / scale;
    let is_usable = per_one.is_normal() && per_one > 0.0 && scale.is_normal();
    is_usable.then_some(per_one).ok_or(StatsError::Scale(scale))
}
