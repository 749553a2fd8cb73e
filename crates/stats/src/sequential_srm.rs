//! Tests for a sample ratio mismatch at every look.

use crate::StatsError;
use crate::special::{deviance, stirling_error};
use crate::srm::checked_total;

/// How firmly the alternative keeps to the planned weights: looks of a few thousand
/// units find what looks of as many would.
const USUAL_CONCENTRATION: f64 = 1_000.0;

/// The e-process of arm sizes against weights.
///
/// Under the weights it exceeds 1/p at any look with a probability of at most p (Ville),
/// so it is valid at any number of looks.
///
/// ```
/// use trialog_stats::SequentialSrm;
/// let test = SequentialSrm::new(&[1.0, 1.0])?;
/// let (early, late) = (test.look(&[60, 40])?, test.look(&[6_000, 4_000])?);
/// assert!(early.p_value > 0.01 && late.p_value < 1e-60);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SequentialSrm {
    /// The weights, which sum to 1.
    shares: Vec<f64>,
    concentration: f64,
}

/// The result of the e-process at one look.
///
/// ```
/// let test = trialog_stats::SequentialSrm::new(&[1.0, 1.0])?;
/// assert_eq!(test.look(&[0, 0])?.p_value, 1.0);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SrmLook {
    /// Units of all arms.
    pub users: u64,
    /// Logarithm of the Bayes factor against the weights.
    pub log_bayes_factor: f64,
    /// min(1, 1 / Bayes factor), 0 to 1.
    pub p_value: f64,
}

impl SequentialSrm {
    /// Returns the test against `weights` on any scale, with the usual concentration of
    /// 1,000.
    ///
    /// # Errors
    ///
    /// [`StatsError::TooFewVariants`], or [`StatsError::Weight`] for a weight that is not
    /// positive and finite.
    ///
    /// ```
    /// assert!(trialog_stats::SequentialSrm::new(&[1.0, 0.0]).is_err());
    /// ```
    pub fn new(weights: &[f64]) -> Result<Self, StatsError> {
        Self::with_concentration(weights, USUAL_CONCENTRATION)
    }

    /// Returns the test whose alternative is a Dirichlet distribution about the weights with the
    /// given concentration.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; [`StatsError::Range`] for a concentration outside of 1e-3 to 1e9.
    ///
    /// ```
    /// let test = trialog_stats::SequentialSrm::with_concentration(&[1.0, 1.0], 2.0)?;
    /// assert!(test.look(&[70, 30])?.p_value < 0.01);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn with_concentration(weights: &[f64], concentration: f64) -> Result<Self, StatsError> {
        let total = checked_total(&vec![0; weights.len()], weights)?;
        if !(1e-3..=1e9).contains(&concentration) {
            return Err(StatsError::Range {
                argument: "concentration",
                range: "from 0.001 to 1e9",
                value: concentration,
            });
        }
        Ok(Self {
            shares: weights.iter().map(|weight| weight / total).collect(),
            concentration,
        })
    }

    /// Returns the look at `counts`, cumulative, in the order of the weights.
    ///
    /// `ln B = lnΓ(c) - lnΓ(c + n) + Σ [lnΓ(cρ_j + s_j) - lnΓ(cρ_j) - s_j ln ρ_j]`, written as a
    /// deviance and Stirling's errors, in which nothing large cancels. Lindon & Malek
    /// (`NeurIPS` 2022).
    ///
    /// # Errors
    ///
    /// [`StatsError::LengthMismatch`].
    ///
    /// ```
    /// let test = trialog_stats::SequentialSrm::new(&[99.0, 1.0])?;
    /// assert!(test.look(&[0, 1])?.p_value > 0.999);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn look(&self, counts: &[u64]) -> Result<SrmLook, StatsError> {
        if counts.len() != self.shares.len() {
            return Err(StatsError::LengthMismatch {
                n_counts: counts.len(),
                n_weights: self.shares.len(),
            });
        }
        let c = self.concentration;
        let users = counts
            .iter()
            .fold(0_u64, |sum, count| sum.saturating_add(*count));
        let n = users as f64;
        let of_all = 0.5 * libm::log1p(n / c) + stirling_error(c) - stirling_error(c + n);
        let arms = self.shares.iter().zip(counts).map(|(share, count)| {
            let (prior, seen) = (c * share, *count as f64);
            deviance(prior + seen, share * (c + n)) - 0.5 * libm::log1p(seen / prior)
                + stirling_error(prior + seen)
                - stirling_error(prior)
        });
        let log_bayes_factor = (of_all + arms.sum::<f64>()).min(f64::MAX);
        Ok(SrmLook {
            users,
            log_bayes_factor,
            p_value: (-log_bayes_factor).exp().min(1.0),
        })
    }
}
