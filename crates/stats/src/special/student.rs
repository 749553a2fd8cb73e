//! Implements Student's t: two-sided tail and quantile for any degrees of freedom from 1.
//!
//! With r² = t²/df the tail is the incomplete beta function I(1/(1+r²); df/2, 1/2).
//! Far out it is taken from the continued fraction of Didonato & Morris (1992,
//! TOMS 708, `bfrac`), whose limit for df → ∞ is Legendre's fraction of the normal
//! tail: the number of terms does not grow with df. Near the centre it is one minus
//! the complementary power series, where nothing can cancel. No step treats large
//! df apart; only an infinite df is handed to the normal distribution.

use std::f64::consts::FRAC_2_SQRT_PI;

use super::gamma::{continued_fraction, half_gamma_ratio};
use super::normal;
use crate::{Alpha, StatsError};

/// Returns the probability that |T| exceeds |t|, T being Student's t: the two-sided
/// p-value, 0 to 1.
///
/// Relative error of at most about 1e-13 for `df` from 1 to infinity, down to 1e-300.
///
/// # Errors
///
/// [`StatsError::DegreesOfFreedom`] for a `df` below 1 or NaN;
/// [`StatsError::NotANumber`] for a NaN `t`.
///
/// ```
/// use trialog_stats::special::t_two_sided_tail;
/// assert!((t_two_sided_tail(1.0, 1.0)? - 0.5).abs() < 1e-15);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn t_two_sided_tail(t: f64, df: f64) -> Result<f64, StatsError> {
    check(df)?;
    if t.is_nan() {
        return Err(StatsError::NotANumber { argument: "t" });
    }
    Ok(two_sided_tail(t, df))
}

/// Returns the `p` quantile of Student's t.
///
/// Relative error about 1e-14 where |p - 1/2| > 0.1; nearer to the centre the error
/// is about 1e-16 in absolute terms.
///
/// # Errors
///
/// [`StatsError::DegreesOfFreedom`] for a `df` below 1 or NaN;
/// [`StatsError::Probability`] unless `p` lies between 0 and 1, both excluded.
///
/// ```
/// use trialog_stats::special::t_quantile;
/// assert!((t_quantile(0.975, 1e8)? / 1.9599640082627668 - 1.0).abs() < 1e-14);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn t_quantile(p: f64, df: f64) -> Result<f64, StatsError> {
    check(df)?;
    let two_sided = 2.0 * p.min(1.0 - p);
    if two_sided >= 1.0 {
        return Ok(0.0);
    }
    let alpha = Alpha::new(two_sided).map_err(|_| StatsError::Probability(p))?;
    Ok(critical(alpha.get(), df).copysign(p - 0.5))
}

/// Returns the positive value that |T| exceeds with probability `alpha`: the factor
/// between a standard error and the half width of a two-sided interval.
///
/// # Errors
///
/// [`StatsError::DegreesOfFreedom`] for a `df` below 1 or NaN.
///
/// ```
/// use trialog_stats::{Alpha, special::t_critical};
/// assert!((t_critical(Alpha::P05, 10.0)? - 2.2281388519862747).abs() < 1e-14);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn t_critical(alpha: Alpha, df: f64) -> Result<f64, StatsError> {
    check(df)?;
    Ok(critical(alpha.get(), df))
}

fn check(df: f64) -> Result<(), StatsError> {
    if df >= 1.0 {
        Ok(())
    } else {
        Err(StatsError::DegreesOfFreedom(df))
    }
}

/// Computes the same as [`t_two_sided_tail`] for arguments known to be in range.
pub(crate) fn two_sided_tail(t: f64, df: f64) -> f64 {
    if df.is_infinite() {
        normal::normal_two_sided_tail(t)
    } else {
        Tail::beyond(t.abs(), df).probability
    }
}

/// Computes the same as [`t_critical`] for arguments known to be in range.
///
/// Newton's method on ln p as a function of ln t: a straight line for the heavy
/// tails of small df and concave for all, so it converges from any start and needs
/// no table of cases. (Hill's expansion, CACM algorithm 396, would save a step or
/// two of about a microsecond and is not made for df that are not whole.)
pub(crate) fn critical(alpha: f64, df: f64) -> f64 {
    const MOST_STEPS: u32 = 50;
    let z = -normal::quantile(alpha / 2.0);
    if df.is_infinite() {
        return z;
    }
    let mut t = near_normal(z, df);
    for _ in 0..MOST_STEPS {
        let tail = Tail::beyond(t, df);
        let step = (tail.ln_probability - alpha.ln()) / tail.slope;
        t = (t * step.exp()).min(f64::MAX);
        // Convergence is quadratic: what is left after such a step is no digit.
        if step.abs() < 1e-8 {
            break;
        }
    }
    t
}

/// The Cornish-Fisher expansion about the normal quantile `z`: three terms where they
/// shrink, else the first.
fn near_normal(z: f64, df: f64) -> f64 {
    let square = z * z;
    let first = (square + 1.0) / (4.0 * df);
    if first > 0.05 {
        return z * (1.0 + first.min(1.0));
    }
    let second = ((5.0 * square + 16.0) * square + 3.0) / (96.0 * df * df);
    let third = (((3.0 * square + 19.0) * square + 17.0) * square - 15.0) / (384.0 * df * df * df);
    z * (1.0 + first + second + third)
}

/// The two-sided tail with the derivatives that Newton's method needs.
struct Tail {
    probability: f64,
    /// Finite where `probability` underflows.
    ln_probability: f64,
    /// -d ln probability / d ln t.
    slope: f64,
}

impl Tail {
    fn beyond(t: f64, df: f64) -> Self {
        let half_df = df / 2.0;
        let ratio = t / df.sqrt();
        let x = 1.0 / (1.0 + ratio * ratio);
        let y = 1.0 / (1.0 + 1.0 / (ratio * ratio));
        // x^(df/2) sqrt(y) / B(df/2, 1/2), the power apart as it may underflow.
        let ln_power = -half_df * ln_1p_square(ratio);
        let factor = y.sqrt() * half_gamma_ratio(half_df) * (0.5 * FRAC_2_SQRT_PI);
        if t * t > 2.0 {
            let fraction = tail_fraction(half_df, x, y);
            Self {
                probability: ln_power.exp() * (factor * fraction),
                ln_probability: ln_power + (factor * fraction).ln(),
                slope: 2.0 / fraction,
            }
        } else {
            let weight = 2.0 * ln_power.exp() * factor;
            let within = weight * central_series(half_df, y);
            Self {
                probability: 1.0 - within,
                ln_probability: libm::log1p(-within),
                slope: weight / (1.0 - within),
            }
        }
    }
}

/// ln(1 + r²), also where r² overflows.
fn ln_1p_square(ratio: f64) -> f64 {
    if ratio > 1e8 {
        2.0 * ratio.ln()
    } else {
        libm::log1p(ratio * ratio)
    }
}

/// I(x; a, 1/2) over its prefactor, with y = 1 - x.
fn tail_fraction(a: f64, x: f64, y: f64) -> f64 {
    let lambda = a * y - 0.5 * x;
    continued_fraction(a / (a + 1.0) * (lambda + 1.0), |n| {
        let odd = a + 2.0 * n - 1.0;
        let remaining = n * (0.5 - n) * x;
        let first = (a + n - 1.0) / odd * ((a + n - 0.5) / odd) * x * remaining;
        let third = (a + n) / (odd + 2.0) * (lambda + 1.0 + n * (1.0 + y));
        (first, n + remaining / odd + third)
    })
}

/// The sum over n of y^n (a + 1/2) ... (a + n - 1/2) / (3/2 ... (n + 1/2)), so that
/// I(y; 1/2, a) is twice the prefactor times it. All terms are positive.
fn central_series(a: f64, y: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    let mut n = 0.5;
    while term > sum * (f64::EPSILON / 4.0) {
        term *= (a + n) / (n + 1.0) * y;
        sum += term;
        n += 1.0;
    }
    sum
}
