//! Tests for a sample ratio mismatch: do the arms have the sizes that their weights imply?

use crate::{StatsError, special};

/// Pearson's test of arm sizes against weights.
///
/// ```
/// let srm = trialog_stats::sample_ratio_mismatch(&[0, 0], &[0.5, 0.5])?;
/// assert_eq!((srm.chi_squared, srm.p_value, srm.df), (None, None, 1));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Srm {
    /// Sum of (observed - expected)² / expected; `None` without units.
    pub chi_squared: Option<f64>,
    /// Number of variants - 1.
    pub df: usize,
    /// Upper tail of the chi-squared distribution, 0 to 1; `None` without units.
    pub p_value: Option<f64>,
    /// Units that each variant should have, in the order of the input.
    pub expected_counts: Vec<f64>,
}

/// Returns the chi-squared test of `counts` against `weights`.
///
/// Weights may be on any scale; only their ratios count. The test is asymptotic:
/// below five expected units in a variant its p-value is a rough one.
///
/// # Errors
///
/// [`StatsError::LengthMismatch`], [`StatsError::TooFewVariants`] (fewer than two), or
/// [`StatsError::Weight`] (a weight, or their sum, not positive and finite).
///
/// ```
/// use trialog_stats::sample_ratio_mismatch;
/// let srm = sample_ratio_mismatch(&[821_588, 815_482], &[50.0, 50.0])?;
/// assert!(srm.p_value.is_some_and(|p| p < 0.001));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn sample_ratio_mismatch(counts: &[u64], weights: &[f64]) -> Result<Srm, StatsError> {
    let total_weight = checked_total(counts, weights)?;
    let total = counts.iter().map(|&n| u128::from(n)).sum::<u128>() as f64;
    let expected_counts: Vec<f64> = weights
        .iter()
        .map(|weight| weight / total_weight * total)
        .collect();
    let df = counts.len() - 1;
    let chi_squared = (total > 0.0).then(|| pearson(counts, &expected_counts));
    Ok(Srm {
        chi_squared,
        df,
        p_value: chi_squared.map(|x| special::chi_squared_tail(x, df as f64)),
        expected_counts,
    })
}

/// Returns the sum of the weights after checking that they fit the counts.
pub(crate) fn checked_total(counts: &[u64], weights: &[f64]) -> Result<f64, StatsError> {
    if counts.len() != weights.len() {
        return Err(StatsError::LengthMismatch {
            n_counts: counts.len(),
            n_weights: weights.len(),
        });
    }
    if counts.len() < 2 {
        return Err(StatsError::TooFewVariants(counts.len()));
    }
    let total = weights.iter().sum();
    let is_usable = |weight: &f64| weight.is_finite() && *weight > 0.0;
    match weights.iter().chain([&total]).find(|w| !is_usable(w)) {
        Some(&weight) => Err(StatsError::Weight(weight)),
        None => Ok(total),
    }
}

fn pearson(counts: &[u64], expected_counts: &[f64]) -> f64 {
    let terms = counts.iter().zip(expected_counts).map(|(&n, expected)| {
        let excess = n as f64 - expected;
        excess * (excess / expected)
    });
    // A weight of next to nothing asks for next to no units.
    terms.sum::<f64>().min(f64::MAX)
}
