//! Computes the relative difference of two estimates by the delta method.

use crate::Interval;

/// An estimate with the variance of its error: a mean, a rate, a ratio.
///
/// [`Summary::estimate`](crate::Summary::estimate) and
/// [`Proportion::estimate`](crate::Proportion::estimate) make one.
///
/// ```
/// let rate = trialog_stats::Proportion::new(50, 100)?.estimate();
/// assert_eq!((rate.value, rate.variance), (0.5, 0.0025));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimated value, in its own unit.
    pub value: f64,
    /// Squared standard error of `value`, in the square of its unit.
    pub variance: f64,
}

/// A relative difference; both fields are fractions (0.05 is 5 %).
///
/// ```
/// use trialog_stats::Relative;
/// let relative = Relative { lift: 0.05, standard_error: 0.02 };
/// assert!(relative.interval(1.96).is_some_and(|ci| ci.low > 0.01));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relative {
    /// b / a - 1. The divisor is a itself, not its absolute value.
    pub lift: f64,
    /// Delta-method standard error of `lift`.
    pub standard_error: f64,
}

impl Relative {
    /// Returns `lift -+ critical * standard_error`.
    ///
    /// `critical` is the upper quantile of the distribution that the caller trusts:
    /// Student's t for means, the normal for rates. `None` when the standard error is 0.
    ///
    /// ```
    /// use trialog_stats::Relative;
    /// assert_eq!(Relative { lift: 0.05, standard_error: 0.0 }.interval(1.96), None);
    /// ```
    #[must_use]
    pub fn interval(&self, critical: f64) -> Option<Interval> {
        if self.standard_error > 0.0 {
            Interval::around(self.lift, critical * self.standard_error)
        } else {
            None
        }
    }
}

/// Returns the relative difference of independent estimates, `b / a - 1`.
///
/// The variance is `(var_b + var_a (b/a)^2) / a^2`, first-order delta method
/// (Deng, Knoblich & Lu 2018). `None` when a is 0, or so close to 0 that the
/// quotient leaves the range of a double.
///
/// ```
/// use trialog_stats::{Estimate, relative_difference};
/// let a = Estimate { value: 2.0, variance: 0.01 };
/// let b = Estimate { value: 3.0, variance: 0.01 };
/// assert!(relative_difference(&a, &b).is_some_and(|r| r.lift == 0.5));
/// ```
#[must_use]
pub fn relative_difference(a: &Estimate, b: &Estimate) -> Option<Relative> {
    relative_to(a, b, b.value - a.value)
}

/// Computes the same as [`relative_difference`] for a caller that has a better-rounded
/// `difference`.
pub(crate) fn relative_to(a: &Estimate, b: &Estimate, difference: f64) -> Option<Relative> {
    let ratio = b.value / a.value;
    let lift = difference / a.value;
    let standard_error = (b.variance + a.variance * ratio * ratio).sqrt() / a.value.abs();
    (lift.is_finite() && standard_error.is_finite()).then_some(Relative {
        lift,
        standard_error,
    })
}

/// Computes Fieller's interval of `b / a - 1` at `critical` standard errors: all lifts L with `(b
/// - (1 + L) a)² <= critical² (var_b + (1 + L)² var_a)`. `None` if a may be 0, so that those L
/// have no ends. The caller knows `difference`, b - a, better than from its parts.
pub(crate) fn fieller(
    a: &Estimate,
    b: &Estimate,
    difference: f64,
    critical: f64,
) -> Option<Interval> {
    let (error_a, error_b) = (a.variance.sqrt() / a.value, b.variance.sqrt() / a.value);
    let lift = difference / a.value;
    // How much of the control its own interval takes, squared.
    let g = (critical * error_a).powi(2);
    let rest = 1.0 - g;
    if !(rest > 0.0 && lift.is_finite()) {
        return None;
    }
    let spread = (error_b * rest.sqrt()).hypot(error_a * (1.0 + lift));
    Interval::around((lift + g) / rest, critical * spread / rest)
}
