//! Reduces variance by data from before the exposure (CUPED).

use crate::{Estimate, StatsError, Summary, Welch};

/// A metric and its covariate in one arm.
///
/// ```
/// use trialog_stats::{CovariateSummary, Summary};
/// let metric = Summary::new(100, 5.0, Some(4.0))?;
/// let covariate = Summary::new(100, 4.0, Some(3.0))?;
/// assert!(CovariateSummary::new(metric, covariate, Some(2.0)).is_ok());
/// // Two variables cannot vary together more than each does on its own.
/// assert!(CovariateSummary::new(metric, covariate, Some(4.0)).is_err());
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CovariateSummary {
    metric: Summary,
    covariate: Summary,
    covariance: f64,
}

impl CovariateSummary {
    /// Returns an arm from the summaries of its metric and of its covariate over the
    /// same units, and their sample covariance (divisor n - 1; `None` for one unit).
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] when the summaries are of different numbers of units;
    /// [`StatsError::Range`] for a covariance that is not finite or larger than the
    /// variances allow (Cauchy-Schwarz, with a slack of 1e-9 for rounding).
    ///
    /// ```
    /// use trialog_stats::{CovariateSummary, Summary};
    /// let (metric, other) = (Summary::new(9, 1.0, Some(1.0))?, Summary::new(8, 1.0, Some(1.0))?);
    /// assert!(CovariateSummary::new(metric, other, Some(0.0)).is_err());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn new(
        metric: Summary,
        covariate: Summary,
        covariance: Option<f64>,
    ) -> Result<Self, StatsError> {
        if metric.n() != covariate.n() {
            return Err(StatsError::List {
                argument: "covariate",
                rule: "must be of the same units as the metric",
            });
        }
        let covariance = covariance.unwrap_or_default();
        let variance = |summary: &Summary| summary.variance().unwrap_or_default().sqrt();
        let most = variance(&metric) * variance(&covariate);
        if covariance.is_nan() || covariance.abs() > most * (1.0 + 1e-9) {
            return Err(StatsError::Range {
                argument: "cov_xy",
                range: "at most the product of both standard deviations, in absolute terms",
                value: covariance,
            });
        }
        Ok(Self {
            metric,
            covariate,
            covariance,
        })
    }

    /// Returns an arm of `n` units from exact integer sums: of the metric and its
    /// squares, of the covariate and its squares, and of their products.
    ///
    /// The sums count units of `scales`, squares and products those of their squares
    /// and of their product, as in [`Summary::from_exact`].
    ///
    /// # Errors
    ///
    /// Those of [`Summary::from_exact`] and of [`Self::new`].
    ///
    /// ```
    /// use trialog_stats::CovariateSummary;
    /// // 1, 2 and 3 beside 2, 4 and 6.
    /// let arm = CovariateSummary::from_exact(3, [6, 14], [12, 56], 28, [1.0, 1.0])?;
    /// assert_eq!(arm.metric().variance(), Some(1.0));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn from_exact(
        n: u64,
        metric: [i128; 2],
        covariate: [i128; 2],
        product: i128,
        scales: [f64; 2],
    ) -> Result<Self, StatsError> {
        let summary = |sums: [i128; 2], scale| Summary::from_exact(n, sums[0], sums[1], scale);
        let deviations = || {
            let all = i128::from(n).checked_mul(product)?;
            all.checked_sub(metric[0].checked_mul(covariate[0])?)
        };
        let deviations = deviations().map_or_else(
            || n as f64 * product as f64 - metric[0] as f64 * covariate[0] as f64,
            |exact| exact as f64,
        );
        let pairs = n as f64 * n.saturating_sub(1) as f64;
        let covariance = deviations / pairs / (1.0 / scales[0]) / (1.0 / scales[1]);
        Self::new(
            summary(metric, scales[0])?,
            summary(covariate, scales[1])?,
            (n >= 2).then_some(covariance),
        )
    }

    /// Returns the metric, unadjusted.
    ///
    /// ```
    /// use trialog_stats::CovariateSummary;
    /// let arm = CovariateSummary::from_exact(3, [6, 14], [12, 56], 28, [1.0, 1.0])?;
    /// assert_eq!(arm.metric().mean(), 2.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn metric(&self) -> &Summary {
        &self.metric
    }

    /// Returns the covariate.
    ///
    /// ```
    /// use trialog_stats::CovariateSummary;
    /// let arm = CovariateSummary::from_exact(3, [6, 14], [12, 56], 28, [1.0, 1.0])?;
    /// assert_eq!(arm.covariate().mean(), 4.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn covariate(&self) -> &Summary {
        &self.covariate
    }

    /// The metric's variance once `theta` times the covariate is taken off.
    fn adjusted_variance(&self, theta: f64) -> Option<f64> {
        let metric = self.metric.variance()?;
        let covariate = self.covariate.variance()?;
        Some((metric + theta * (theta * covariate - 2.0 * self.covariance)).max(0.0))
    }
}

/// The adjusted comparison.
///
/// ```
/// use trialog_stats::{CovariateSummary, cuped};
/// let arm = CovariateSummary::from_exact(3, [6, 14], [12, 56], 28, [1.0, 1.0])?;
/// assert_eq!(cuped(&arm, &arm).theta, 0.5);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuped {
    /// The slope of the metric on the covariate, of both arms as one sample.
    pub theta: f64,
    /// The adjusted means of control and treatment, in the metric's unit.
    pub adjusted_means: [f64; 2],
    /// The adjusted variances; `None` for a single unit.
    pub adjusted_variances: [Option<f64>; 2],
    /// Welch's test of the adjusted metric; relative to the *unadjusted* control mean.
    pub test: Welch,
}

/// Returns Welch's test after taking off what a covariate explains.
///
/// theta = cov(x, y)/var(x) of both arms as one sample, differences between the arms
/// included; it counts as known. 0 when metric or covariate has no spread. The
/// covariate has to be from before the exposure, or the effect is taken off with it.
/// Deng, Xu, Kohavi & Walker (2013).
///
/// ```
/// use trialog_stats::{CovariateSummary, Summary, cuped};
/// let arm = |mean| CovariateSummary::new(
///     Summary::new(1000, mean, Some(4.0))?, Summary::new(1000, 2.0, Some(4.0))?, Some(3.0));
/// let adjusted = cuped(&arm(5.0)?, &arm(5.1)?);
/// // A correlation of 0.75 takes 0.75² of the variance away.
/// assert!(adjusted.adjusted_variances[0].is_some_and(|v| (v / 4.0 - 0.4375).abs() < 1e-3));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[must_use]
pub fn cuped(a: &CovariateSummary, b: &CovariateSummary) -> Cuped {
    let theta = theta(a, b);
    let (n_a, n_b) = (a.metric.n() as f64, b.metric.n() as f64);
    // Written about each arm's own mean: large means keep their digits.
    let apart = b.covariate.mean() - a.covariate.mean();
    let adjusted_means = [
        a.metric.mean() + theta * apart * (n_b / (n_a + n_b)),
        b.metric.mean() - theta * apart * (n_a / (n_a + n_b)),
    ];
    let difference = (b.metric.mean() - a.metric.mean()) - theta * apart;
    let adjusted_variances = [a.adjusted_variance(theta), b.adjusted_variance(theta)];
    let estimate = |arm: &CovariateSummary, variance: f64| Estimate {
        value: arm.metric.mean(),
        variance: variance / arm.metric.n() as f64,
    };
    let test = match adjusted_variances {
        [Some(v_a), Some(v_b)] => {
            let n = [a.metric.n(), b.metric.n()];
            Welch::from_estimates(n, [estimate(a, v_a), estimate(b, v_b)], difference)
        }
        _ => Welch::untested(difference),
    };
    Cuped {
        theta,
        adjusted_means,
        adjusted_variances,
        test,
    }
}

fn theta(a: &CovariateSummary, b: &CovariateSummary) -> f64 {
    let (n_a, n_b) = (a.metric.n() as f64, b.metric.n() as f64);
    let between = n_a * (n_b / (n_a + n_b));
    let apart = |of: fn(&CovariateSummary) -> &Summary| of(b).mean() - of(a).mean();
    let (x, y) = (apart(|arm| &arm.covariate), apart(|arm| &arm.metric));
    // Sums of squares and products about the common mean.
    let joint = |within: [f64; 2], between_arms: f64| {
        (n_a - 1.0) * within[0] + (n_b - 1.0) * within[1] + between * between_arms
    };
    let spread = |of: fn(&CovariateSummary) -> &Summary, apart: f64| {
        let within = [a, b].map(|arm| of(arm).variance().unwrap_or_default());
        joint(within, apart * apart)
    };
    let spread_x = spread(|arm| &arm.covariate, x);
    let spread_y = spread(|arm| &arm.metric, y);
    if spread_x <= 0.0 || spread_y <= 0.0 {
        return 0.0;
    }
    let theta = joint([a.covariance, b.covariance], x * y) / spread_x;
    if theta.is_finite() { theta } else { 0.0 }
}
