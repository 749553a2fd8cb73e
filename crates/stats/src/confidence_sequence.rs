//! Computes the asymptotic confidence sequence: an interval that holds at every look.

use crate::{Alpha, Estimate, Interval, StatsError};

/// An asymptotic confidence sequence at one look.
///
/// ```
/// use trialog_stats::{Alpha, Estimate, confidence_sequence};
/// let difference = Estimate { value: 0.5, variance: 0.008 };
/// let look = confidence_sequence(&difference, 2000, Alpha::P05, 5000.0)?;
/// assert!(look.interval.is_some_and(|ci| ci.low > 0.0));
/// assert!(look.p_value.is_some_and(|p| p < 0.05));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceSequence {
    /// What the sequence is tuned by; `None` when the variance is 0.
    pub rho: Option<f64>,
    /// Half the width of the interval, in the unit of the estimate; `None` as for `rho`.
    pub half_width: Option<f64>,
    /// The interval; `None` as for `rho`.
    pub interval: Option<Interval>,
    /// Always-valid p-value, 0 to 1; at most alpha exactly when the interval excludes
    /// 0. `None` as for `rho`.
    pub p_value: Option<f64>,
}

/// Returns the confidence sequence of `difference` after `n` units of both arms.
///
/// `difference` is absolute or relative, with its squared standard error. The
/// interval is narrowest at about `tuning` units, which has to be fixed before the
/// data are seen (gbstats: 5,000). Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas
/// (arXiv 2103.06476), equations 9, 155 and 161.
///
/// # Errors
///
/// [`StatsError::Range`] for a `tuning` that is not positive and finite;
/// [`StatsError::NoUnits`] for an `n` of 0; [`StatsError::Variance`] for a variance
/// that is negative or not finite.
///
/// ```
/// use trialog_stats::{Alpha, Estimate, confidence_sequence};
/// let difference = Estimate { value: 0.5, variance: 0.01 };
/// let sequence = confidence_sequence(&difference, 2_000, Alpha::P05, 5_000.0)?;
/// assert!(sequence.p_value.is_some_and(|p| p < 0.05));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn confidence_sequence(
    difference: &Estimate,
    n: u64,
    alpha: Alpha,
    tuning: f64,
) -> Result<ConfidenceSequence, StatsError> {
    if !(1e-9..=1e30).contains(&tuning) {
        return Err(StatsError::Range {
            argument: "tuning_parameter",
            range: "between 1e-9 and 1e30",
            value: tuning,
        });
    }
    if n == 0 {
        return Err(StatsError::NoUnits);
    }
    let Estimate { value, variance } = *difference;
    if !(variance >= 0.0 && variance.is_finite() && value.is_finite()) {
        return Err(StatsError::Variance(variance));
    }
    if variance <= 0.0 {
        return Ok(ConfidenceSequence {
            rho: None,
            half_width: None,
            interval: None,
            p_value: None,
        });
    }
    let n = n as f64;
    let ln_alpha = alpha.get().ln();
    let rho_squared = (-2.0 * ln_alpha + libm::log1p(-2.0 * ln_alpha)) / tuning;
    // n rho² + 1, on which everything depends.
    let grown = n * rho_squared + 1.0;
    let factor = 2.0 * grown / (n * rho_squared) * (0.5 * grown.ln() - ln_alpha);
    let half_width = (variance * factor).sqrt();
    let z_squared = value / variance * value;
    let ln_p = 0.5 * grown.ln() - 0.5 * z_squared * (n * rho_squared / grown);
    Ok(ConfidenceSequence {
        rho: Some(rho_squared.sqrt()),
        half_width: Some(half_width),
        interval: Interval::around(value, half_width),
        p_value: Some(ln_p.exp().min(1.0)),
    })
}
