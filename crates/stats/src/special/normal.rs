//! Implements the normal distribution: tails by `erfc`, quantile by Wichura's AS 241.

use std::f64::consts::FRAC_1_SQRT_2;

use crate::{Alpha, StatsError};

/// Returns the probability that a standard normal variable exceeds `z`, 0 to 1.
///
/// Relative error of at most about 1e-13 out to z = 37, where the doubles end; 0
/// beyond. NaN only for NaN.
///
/// ```
/// use trialog_stats::special::normal_upper_tail;
/// assert_eq!(normal_upper_tail(0.0), 0.5);
/// assert!((normal_upper_tail(10.0) / 7.619853024160527e-24 - 1.0).abs() < 1e-13);
/// ```
#[must_use]
pub fn normal_upper_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// Returns the probability that a standard normal variable is at most `z`, 0 to 1.
///
/// Accurate in relative terms for negative `z`; for what lies above a positive one
/// take [`normal_upper_tail`] instead of subtracting from 1. NaN only for NaN.
///
/// ```
/// assert_eq!(trialog_stats::special::normal_cdf(0.0), 0.5);
/// ```
#[must_use]
pub fn normal_cdf(z: f64) -> f64 {
    normal_upper_tail(-z)
}

/// Returns the probability that a standard normal variable is beyond `z` on either
/// side, 0 to 1: the two-sided p-value of `z`. NaN only for NaN.
///
/// ```
/// use trialog_stats::special::normal_two_sided_tail;
/// assert!((normal_two_sided_tail(-1.96) - 0.05).abs() < 1e-5);
/// ```
#[must_use]
pub fn normal_two_sided_tail(z: f64) -> f64 {
    libm::erfc(z.abs() * FRAC_1_SQRT_2)
}

/// Returns the `p` quantile of the standard normal distribution.
///
/// Wichura (1988), algorithm AS 241, PPND16: relative error about 1e-15.
///
/// # Errors
///
/// [`StatsError::Probability`] unless `p` lies between 0 and 1, both excluded.
///
/// ```
/// use trialog_stats::special::normal_quantile;
/// assert!((normal_quantile(0.975)? - 1.959963984540054).abs() < 1e-15);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn normal_quantile(p: f64) -> Result<f64, StatsError> {
    if p > 0.0 && p < 1.0 {
        Ok(quantile(p))
    } else {
        Err(StatsError::Probability(p))
    }
}

/// Returns the positive value that a standard normal variable is beyond, on either
/// side, with probability `alpha`.
///
/// ```
/// use trialog_stats::{Alpha, special::normal_critical};
/// assert!((normal_critical(Alpha::P05) - 1.959963984540054).abs() < 1e-15);
/// ```
#[must_use]
pub fn normal_critical(alpha: Alpha) -> f64 {
    // From the lower tail: 1 - alpha / 2 would round away a small alpha.
    -quantile(alpha.get() / 2.0)
}

/// Computes AS 241 for a `p` within (0, 1).
pub(crate) fn quantile(p: f64) -> f64 {
    let centred = p - 0.5;
    if centred.abs() <= 0.425 {
        let square = 0.180625 - centred * centred;
        return centred * polynomial(&CENTRAL_TOP, square) / polynomial(&CENTRAL_BOTTOM, square);
    }
    let distance = (-p.min(1.0 - p).ln()).sqrt();
    let size = if distance <= 5.0 {
        polynomial(&TAIL_TOP, distance - 1.6) / polynomial(&TAIL_BOTTOM, distance - 1.6)
    } else {
        polynomial(&FAR_TOP, distance - 5.0) / polynomial(&FAR_BOTTOM, distance - 5.0)
    };
    size.copysign(centred)
}

/// Horner's rule, constant term first.
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

// Coefficients of AS 241: |p - 1/2| <= 0.425, then sqrt(-ln p) up to 5, then beyond.
const CENTRAL_TOP: [f64; 8] = [
    3.3871328727963665,
    133.14166789178438,
    1971.5909503065513,
    13731.69376550946,
    45921.95393154987,
    67265.7709270087,
    33430.57558358813,
    2509.0809287301227,
];
const CENTRAL_BOTTOM: [f64; 8] = [
    1.0,
    42.31333070160091,
    687.1870074920579,
    5394.196021424751,
    21213.794301586597,
    39307.89580009271,
    28729.085735721943,
    5226.495278852854,
];
const TAIL_TOP: [f64; 8] = [
    1.4234371107496835,
    4.630337846156546,
    5.769497221460691,
    3.6478483247632045,
    1.2704582524523684,
    0.2417807251774506,
    0.022723844989269184,
    0.0007745450142783414,
];
const TAIL_BOTTOM: [f64; 8] = [
    1.0,
    2.053191626637759,
    1.6763848301838038,
    0.6897673349851,
    0.14810397642748008,
    0.015198666563616457,
    0.0005475938084995345,
    1.0507500716444169e-9,
];
const FAR_TOP: [f64; 8] = [
    6.657904643501103,
    5.463784911164114,
    1.7848265399172913,
    0.29656057182850487,
    0.026532189526576124,
    0.0012426609473880784,
    2.7115555687434876e-5,
    2.0103343992922881e-7,
];
const FAR_BOTTOM: [f64; 8] = [
    1.0,
    0.599832206555888,
    0.1369298809227358,
    0.014875361290850615,
    0.0007868691311456133,
    1.8463183175100548e-5,
    1.421511758316446e-7,
    2.0442631033899397e-15,
];
