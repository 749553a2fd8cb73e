//! Tests ratio metrics: a total over another, such as clicks per session.

use crate::{Estimate, StatsError, Welch};

/// Sums over the units of one arm: of numerator and denominator, their squares and
/// products. The unit is the one that is randomised.
///
/// ```
/// use trialog_stats::RatioSums;
/// // Two users: 1 click in 2 sessions, 3 clicks in 4.
/// let arm = RatioSums { n: 2, m: 4.0, d: 6.0, mm: 10.0, dd: 20.0, md: 14.0 };
/// assert_eq!(arm.ratio(), Some(4.0 / 6.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatioSums {
    /// Units.
    pub n: u64,
    /// Sum of numerators.
    pub m: f64,
    /// Sum of denominators.
    pub d: f64,
    /// Sum of squared numerators.
    pub mm: f64,
    /// Sum of squared denominators.
    pub dd: f64,
    /// Sum of products.
    pub md: f64,
}

impl RatioSums {
    /// Returns total over total; `None` when the denominators sum to 0.
    ///
    /// ```
    /// let none = trialog_stats::RatioSums { n: 2, m: 1.0, d: 0.0, mm: 1.0, dd: 0.0, md: 0.0 };
    /// assert_eq!(none.ratio(), None);
    /// ```
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let ratio = self.m / self.d;
        ratio.is_finite().then_some(ratio)
    }

    /// Returns the variance of one unit's part in the ratio, by the delta method.
    ///
    /// The sum over units of (m - R d)², whose mean is 0, over n - 1 and the square of
    /// the mean denominator. Below 1e-12 R² it is rounding noise and counts as 0.
    /// `None` without a ratio or with a single unit. Deng, Knoblich & Lu (2018).
    ///
    /// ```
    /// use trialog_stats::RatioSums;
    /// let proportional = RatioSums { n: 2, m: 6.0, d: 3.0, mm: 20.0, dd: 5.0, md: 10.0 };
    /// assert_eq!(proportional.unit_variance(), Some(0.0));
    /// ```
    #[must_use]
    pub fn unit_variance(&self) -> Option<f64> {
        let ratio = self.ratio()?;
        if self.n < 2 {
            return None;
        }
        let n = self.n as f64;
        let squares = self.mm + ratio * (ratio * self.dd - 2.0 * self.md);
        let mean = self.d / n;
        let variance = squares / (n - 1.0) / mean / mean;
        if !variance.is_finite() {
            return None;
        }
        let is_noise = variance < 1e-12 * ratio * ratio;
        Some(if is_noise { 0.0 } else { variance.max(0.0) })
    }

    fn check(&self) -> Result<(), StatsError> {
        if self.n == 0 {
            return Err(StatsError::NoUnits);
        }
        let sums = [
            ("sum_m", self.m),
            ("sum_d", self.d),
            ("sum_mm", self.mm),
            ("sum_dd", self.dd),
            ("sum_md", self.md),
        ];
        let is_square = |name: &str| name == "sum_mm" || name == "sum_dd";
        for (argument, value) in sums {
            if !(-1e150..=1e150).contains(&value) || (is_square(argument) && value < 0.0) {
                return Err(StatsError::Range {
                    argument,
                    range: "finite, at most 1e150, and for squares not negative",
                    value,
                });
            }
        }
        Ok(())
    }
}

/// The comparison of two ratios.
///
/// ```
/// use trialog_stats::{RatioSums, ratio_test};
/// let arm = RatioSums { n: 2, m: 4.0, d: 8.0, mm: 10.0, dd: 40.0, md: 18.0 };
/// assert_eq!(ratio_test(&arm, &arm)?.ratios, [Some(0.5); 2]);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatioTest {
    /// The ratios of control and treatment; `None` where denominators sum to 0.
    pub ratios: [Option<f64>; 2],
    /// [`RatioSums::unit_variance`] of both.
    pub unit_variances: [Option<f64>; 2],
    /// Welch's test of their difference; `None` without both ratios.
    pub test: Option<Welch>,
}

/// Returns Welch's test of two ratios, by the delta method.
///
/// # Errors
///
/// [`StatsError::NoUnits`]; [`StatsError::Range`] for sums that are not finite or
/// beyond 1e150.
///
/// ```
/// use trialog_stats::{RatioSums, ratio_test};
/// let arm = RatioSums { n: 2, m: 4.0, d: 6.0, mm: 10.0, dd: 20.0, md: 14.0 };
/// assert!(ratio_test(&arm, &arm)?.test.is_some_and(|test| test.p_value == Some(1.0)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn ratio_test(a: &RatioSums, b: &RatioSums) -> Result<RatioTest, StatsError> {
    a.check()?;
    b.check()?;
    let ratios = [a.ratio(), b.ratio()];
    let unit_variances = [a.unit_variance(), b.unit_variance()];
    let estimate = |arm: &RatioSums, value, variance: f64| Estimate {
        value,
        variance: variance / arm.n as f64,
    };
    let test = match (ratios, unit_variances) {
        ([Some(r_a), Some(r_b)], [Some(v_a), Some(v_b)]) => {
            let estimates = [estimate(a, r_a, v_a), estimate(b, r_b, v_b)];
            Some(Welch::from_estimates([a.n, b.n], estimates, r_b - r_a))
        }
        ([Some(r_a), Some(r_b)], _) => Some(Welch::untested(r_b - r_a)),
        _ => None,
    };
    Ok(RatioTest {
        ratios,
        unit_variances,
        test,
    })
}
