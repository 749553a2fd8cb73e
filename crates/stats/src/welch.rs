//! Implements Welch's t-test: two means, unequal variances.

use crate::relative::relative_to;
use crate::{Alpha, Estimate, Interval, Relative, Summary, special};

/// Welch's test of two means with its estimates.
///
/// The p-value belongs to the absolute difference; the relative interval may
/// disagree with it about significance.
///
/// ```
/// use trialog_stats::{Summary, welch};
/// let single = Summary::new(1, 3.0, None)?;
/// let test = welch(&single, &Summary::new(50, 3.5, Some(1.25))?);
/// assert_eq!((test.difference, test.p_value), (0.5, None));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Welch {
    /// `mean_b - mean_a`, in the metric's unit.
    pub difference: f64,
    /// `sqrt(var_a / n_a + var_b / n_b)`, in the metric's unit; `None` when an arm has
    /// a single unit.
    pub standard_error: Option<f64>,
    /// difference / standard error; `None` when that is undefined or 0.
    pub t: Option<f64>,
    /// Degrees of freedom after Satterthwaite, not rounded; `None` as for `t`.
    pub df: Option<f64>,
    /// Two-sided, 0 to 1, accurate in relative terms in the far tail; `None` as for `t`.
    pub p_value: Option<f64>,
    /// Relative difference; `None` when an arm has a single unit or `mean_a` is 0.
    pub relative: Option<Relative>,
}

/// Returns Welch's two-sided test of `mean_b - mean_a`.
///
/// Degrees of freedom after Satterthwaite (Welch 1947): with one arm without
/// spread they are n - 1 of the other. Without spread in both arms there is a
/// difference but no test.
///
/// ```
/// use trialog_stats::{Summary, welch};
/// let a = Summary::new(40, 2.0, Some(0.0))?;
/// let b = Summary::new(50, 2.1, Some(1.5))?;
/// assert!(welch(&a, &b).df.is_some_and(|df| (df - 49.0).abs() < 1e-9));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[must_use]
pub fn welch(a: &Summary, b: &Summary) -> Welch {
    let difference = b.mean() - a.mean();
    match (a.estimate(), b.estimate()) {
        (Some(mean_a), Some(mean_b)) => {
            Welch::from_estimates([a.n(), b.n()], [mean_a, mean_b], difference)
        }
        _ => Welch::untested(difference),
    }
}

impl Welch {
    /// Builds the result for arms without a variance.
    pub(crate) fn untested(difference: f64) -> Self {
        Self {
            difference,
            standard_error: None,
            t: None,
            df: None,
            p_value: None,
            relative: None,
        }
    }

    /// Tests two estimates from `n` units each, at least 2, whose difference the caller may know
    /// better than from their values.
    pub(crate) fn from_estimates(n: [u64; 2], [a, b]: [Estimate; 2], difference: f64) -> Self {
        let standard_error = (a.variance + b.variance).sqrt();
        let known = Self {
            standard_error: Some(standard_error),
            relative: relative_to(&a, &b, difference),
            ..Self::untested(difference)
        };
        let t = difference / standard_error;
        if !t.is_finite() {
            return known;
        }
        let df = satterthwaite(n, [a.variance, b.variance]);
        Self {
            t: Some(t),
            df: Some(df),
            p_value: Some(special::student_tail(t, df)),
            ..known
        }
    }
}

/// Computes Satterthwaite's degrees of freedom from shares of the variance, so that no square of
/// it over- or underflows.
pub(crate) fn satterthwaite(n: [u64; 2], variance: [f64; 2]) -> f64 {
    let total = variance[0] + variance[1];
    let term = |arm: usize| {
        let share = variance[arm] / total;
        share * share / (n[arm] - 1) as f64
    };
    1.0 / (term(0) + term(1))
}

impl Welch {
    /// Returns the two-sided interval of the difference, in the metric's unit.
    ///
    /// `difference -+ t(1 - alpha/2; df) * standard_error`; it excludes 0 exactly when
    /// the p-value is below `alpha`. `None` when there is no test.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Summary, welch};
    /// let a = Summary::new(40, 2.0, Some(1.0))?;
    /// let test = welch(&a, &a);
    /// assert!(test.interval(Alpha::P05).is_some_and(|ci| ci.contains(0.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        self.intervals(alpha).0
    }

    /// Returns the two-sided interval of the relative difference, a fraction.
    ///
    /// Uses the degrees of freedom of the absolute difference. `None` when there is
    /// no test or no relative difference.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Summary, welch};
    /// let centred = Summary::new(40, 0.0, Some(1.0))?;
    /// assert_eq!(welch(&centred, &centred).relative_interval(Alpha::P05), None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn relative_interval(&self, alpha: Alpha) -> Option<Interval> {
        self.intervals(alpha).1
    }

    /// Returns the absolute and the relative interval, and computes the quantile once.
    pub(crate) fn intervals(&self, alpha: Alpha) -> (Option<Interval>, Option<Interval>) {
        let Some(critical) = self.critical(alpha) else {
            return (None, None);
        };
        let absolute = (self.standard_error).and_then(|standard_error| {
            Interval::around(self.difference, critical * standard_error)
        });
        let relative = self
            .relative
            .and_then(|relative| relative.interval(critical));
        (absolute, relative)
    }

    pub(crate) fn critical(&self, alpha: Alpha) -> Option<f64> {
        Some(special::student_critical(alpha.get(), self.df?))
    }
}
