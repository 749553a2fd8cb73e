//! The upper tail of Fisher's F, also for degrees of freedom that are not whole.

use super::{chi_squared_tail, student_tail, tails_of_beta};
use crate::StatsError;

/// From here on the denominator counts as known: the distribution is chi-squared over `df1`.
const KNOWN_FROM: f64 = 1e15;

/// Returns the probability that an F variable with `df1` and `df2` degrees of freedom exceeds
/// `f`, 0 to 1.
///
/// The incomplete beta function I(df2/(df2 + df1 f); df2/2, df1/2); for one degree of freedom
/// of the numerator Student's tail at √f. Relative error of at most about 1e-11 for `df1` up to
/// 1,000 and any `df2`, also in the far tail. `df2` may be infinite.
///
/// # Errors
///
/// [`StatsError::DegreesOfFreedom`] unless `df1` is from 1 to 1e9 and `df2` at least 1;
/// [`StatsError::NotANumber`] for a NaN `f`.
///
/// ```
/// use trialog_stats::special::f_upper_tail;
/// // Two degrees of freedom above: (1 + 2f/v)^(-v/2).
/// assert!((f_upper_tail(3.0, 2.0, 6.0)? - 0.125).abs() < 1e-15);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn f_upper_tail(f: f64, df1: f64, df2: f64) -> Result<f64, StatsError> {
    for (df, most) in [(df1, 1e9), (df2, f64::INFINITY)] {
        if !(1.0..=most).contains(&df) {
            return Err(StatsError::DegreesOfFreedom(df));
        }
    }
    if f.is_nan() {
        return Err(StatsError::NotANumber { argument: "f" });
    }
    Ok(tail(f, df1, df2))
}

/// As [`f_upper_tail`], for arguments known to be in range.
pub(crate) fn tail(f: f64, df1: f64, df2: f64) -> f64 {
    if f <= 0.0 {
        return 1.0;
    }
    if df1 <= 1.0 {
        return student_tail(f.sqrt(), df2);
    }
    if df2 > KNOWN_FROM {
        return chi_squared_tail(df1 * f, df1);
    }
    // Both are needed with all their digits: one is 1 less the other.
    let odds = f * (df1 / df2);
    let (x, y) = (1.0 / (1.0 + odds), 1.0 / (1.0 + 1.0 / odds));
    tails_of_beta(x, y, df2 / 2.0, df1 / 2.0).lower
}
