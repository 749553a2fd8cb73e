//! Implements the regularised incomplete beta function, both tails, and its quantiles.

use std::f64::consts::PI;

use super::gamma::continued_fraction;
use crate::StatsError;

/// The continued fraction takes about as many terms as the root of a shape.
pub(crate) const LARGEST_SHAPE: f64 = 2e9;

/// The probabilities that a Beta(a, b) variable is below and above a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BetaTails {
    /// I(x; a, b), 0 to 1.
    pub lower: f64,
    /// 1 - I(x; a, b), 0 to 1, accurate in relative terms where it is the smaller one.
    pub upper: f64,
}

/// Returns how likely a Beta(a, b) variable is below and above `x`.
///
/// Didonato & Morris (1992, TOMS 708) give the continued fraction; the factor before
/// it is written with Stirling's error and deviances (Loader 2000), so that nothing
/// cancels for large shapes. Relative error of the smaller tail about 1e-11 for
/// shapes up to 2e9.
///
/// # Errors
///
/// [`StatsError::Shape`] unless both shapes are positive and at most 2e9;
/// [`StatsError::NotANumber`] for a NaN `x`.
///
/// ```
/// use trialog_stats::special::beta_tails;
/// // Beta(2, 1) has the distribution function x².
/// assert!((beta_tails(0.5, 2.0, 1.0)?.lower - 0.25).abs() < 1e-15);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn beta_tails(x: f64, a: f64, b: f64) -> Result<BetaTails, StatsError> {
    check(a)?;
    check(b)?;
    if x.is_nan() {
        return Err(StatsError::NotANumber { argument: "x" });
    }
    Ok(tails(x, 1.0 - x, a, b))
}

fn check(shape: f64) -> Result<(), StatsError> {
    if shape > 0.0 && shape <= LARGEST_SHAPE {
        Ok(())
    } else {
        Err(StatsError::Shape(shape))
    }
}

/// Computes the same as [`beta_tails`] for shapes known to be in range. `y` is 1 - x, which the
/// caller may know with more digits.
pub(crate) fn tails(x: f64, y: f64, a: f64, b: f64) -> BetaTails {
    if x <= 0.0 {
        return BetaTails {
            lower: 0.0,
            upper: 1.0,
        };
    }
    if y <= 0.0 {
        return BetaTails {
            lower: 1.0,
            upper: 0.0,
        };
    }
    let power = ln_power(x, y, a, b).exp();
    // The fraction converges fast below the mean; above it the other tail is taken.
    if x * (a + b) <= a {
        let lower = (power * fraction(x, y, a, b)).min(1.0);
        BetaTails {
            lower,
            upper: 1.0 - lower,
        }
    } else {
        let upper = (power * fraction(y, x, b, a)).min(1.0);
        BetaTails {
            lower: 1.0 - upper,
            upper,
        }
    }
}

/// Computes the density of Beta(a, b) at `x`, with `y` = 1 - x.
pub(crate) fn density(x: f64, y: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || y <= 0.0 {
        return 0.0;
    }
    (ln_power(x, y, a, b) - x.ln() - y.ln()).exp()
}

/// Computes ln(x^a y^b / B(a, b)).
pub(crate) fn ln_power(x: f64, y: f64, a: f64, b: f64) -> f64 {
    let n = a + b;
    let stirling = stirling_error(n) - stirling_error(a) - stirling_error(b);
    let root = 0.5 * (a / n * b / (2.0 * PI)).ln();
    stirling + root - deviance(a, n * x) - deviance(b, n * y)
}

/// I(x; a, b) B(a, b) / (x^a y^b), for x up to the mean: `bfrac` of Didonato & Morris.
fn fraction(x: f64, y: f64, a: f64, b: f64) -> f64 {
    let lambda = a * y - b * x;
    let first = a / (a + 1.0) * (lambda + 1.0);
    continued_fraction(first, |n| {
        let odd = a + 2.0 * n - 1.0;
        let numerator = (a + n - 1.0) / odd * ((a + b + n - 1.0) / odd) * n * (b - n) * x * x;
        let denominator =
            n + n * (b - n) * x / odd + (a + n) / (odd + 2.0) * (lambda + 1.0 + n * (1.0 + y));
        (numerator, denominator)
    })
}

/// Computes ln Gamma(z) - ((z - 1/2) ln z - z + ln(2 pi)/2), the error of Stirling's formula.
pub(crate) fn stirling_error(z: f64) -> f64 {
    const ASYMPTOTIC_FROM: f64 = 16.0;
    const HALF_LN_2_PI: f64 = 0.918_938_533_204_672_7;
    if z < ASYMPTOTIC_FROM {
        return libm::lgamma(z) - ((z - 0.5) * z.ln() - z + HALF_LN_2_PI);
    }
    let inverse = 1.0 / z;
    let square = inverse * inverse;
    let series = [
        1.0 / 1188.0,
        -1.0 / 1680.0,
        1.0 / 1260.0,
        -1.0 / 360.0,
        1.0 / 12.0,
    ]
    .into_iter()
    .fold(0.0, |sum, coefficient| sum * square + coefficient);
    series * inverse
}

/// Computes x ln(x/m) + m - x, which is 0 at x = m, without losing digits near it.
///
/// Loader (2000), "Fast and accurate computation of binomial probabilities".
pub(crate) fn deviance(x: f64, m: f64) -> f64 {
    deviance_by(x, x - m)
}

/// Computes the same as [`deviance`] for a caller that knows the `difference` x - m with more
/// digits.
pub(crate) fn deviance_by(x: f64, difference: f64) -> f64 {
    let m = x - difference;
    if difference.abs() >= 0.1 * (x + m) {
        return if x > 0.0 {
            x * (x / m).ln() - difference
        } else {
            m
        };
    }
    let ratio = difference / (x + m);
    let square = ratio * ratio;
    let mut sum = difference * ratio;
    let mut term = 2.0 * x * ratio;
    let mut odd = 3.0;
    loop {
        term *= square;
        let next = sum + term / odd;
        if next.to_bits() == sum.to_bits() || !next.is_finite() {
            return next;
        }
        sum = next;
        odd += 2.0;
    }
}

/// Returns the point below which a Beta(a, b) variable lies with probability `p` in (0, 1).
///
/// Bisection in the log odds, where both ends keep all their digits.
pub(crate) fn quantile(p: f64, a: f64, b: f64) -> f64 {
    const MOST: f64 = 740.0;
    let point = |log_odds: f64| {
        let x = 1.0 / (1.0 + (-log_odds).exp());
        let y = 1.0 / (1.0 + log_odds.exp());
        (x, y)
    };
    let is_below = |log_odds: f64| {
        let (x, y) = point(log_odds);
        let tails = tails(x, y, a, b);
        if p < 0.5 {
            tails.lower < p
        } else {
            tails.upper > 1.0 - p
        }
    };
    point(super::last_below(-MOST, MOST, is_below)).0
}
