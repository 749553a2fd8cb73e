//! Adjusts p-values for a family of tests.
//!
//! Adjusted values keep the order of the input and are compared with alpha like
//! raw ones: reject where `adjusted <= alpha`. An empty family gives an empty list.

use crate::StatsError;

/// The method that adjusts the p-values of a family.
///
/// ```
/// use trialog_stats::{Correction, adjust};
/// assert_eq!(adjust(Correction::Holm, &[0.01, 0.04])?, [0.02, 0.04]);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Correction {
    /// [`bonferroni`]: family-wise error, any dependence.
    Bonferroni,
    /// [`holm`]: family-wise error, any dependence, never weaker than Bonferroni.
    Holm,
    /// [`benjamini_hochberg`]: false discovery rate, independent or positively
    /// dependent tests.
    BenjaminiHochberg,
    /// [`benjamini_yekutieli`]: false discovery rate, any dependence.
    BenjaminiYekutieli,
}

/// Returns the p-values adjusted by `correction`, in the order of the input.
///
/// # Errors
///
/// [`StatsError::PValue`] when one is NaN or outside 0 to 1.
///
/// ```
/// use trialog_stats::{Correction, adjust};
/// assert!(adjust(Correction::Holm, &[1.5]).is_err());
/// ```
pub fn adjust(correction: Correction, p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    match correction {
        Correction::Bonferroni => bonferroni(p_values),
        Correction::Holm => holm(p_values),
        Correction::BenjaminiHochberg => benjamini_hochberg(p_values),
        Correction::BenjaminiYekutieli => benjamini_yekutieli(p_values),
    }
}

/// Returns min(1, m p) for each of the m p-values.
///
/// # Errors
///
/// [`StatsError::PValue`] when one is NaN or outside 0 to 1.
///
/// ```
/// assert_eq!(trialog_stats::bonferroni(&[0.01, 0.75])?, [0.02, 1.0]);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn bonferroni(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    check(p_values)?;
    let n_tests = p_values.len() as f64;
    Ok(p_values.iter().map(|p| (n_tests * p).min(1.0)).collect())
}

/// Returns Holm's step-down p-values: the running maximum of min(1, (m - i + 1) p(i)).
///
/// Holm (1979).
///
/// # Errors
///
/// [`StatsError::PValue`] when one is NaN or outside 0 to 1.
///
/// ```
/// assert_eq!(trialog_stats::holm(&[0.25, 0.125, 0.5])?, [0.5, 0.375, 0.5]);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    check(p_values)?;
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, idx) in ascending(p_values).into_iter().enumerate() {
        let n_left = (p_values.len() - rank) as f64;
        largest = largest.max((n_left * p_values[idx]).min(1.0));
        adjusted[idx] = largest;
    }
    Ok(adjusted)
}

/// Returns Benjamini and Hochberg's step-up p-values: the running minimum, from the
/// largest, of min(1, m p(i) / i).
///
/// Benjamini & Hochberg (1995).
///
/// # Errors
///
/// [`StatsError::PValue`] when one is NaN or outside 0 to 1.
///
/// ```
/// assert_eq!(trialog_stats::benjamini_hochberg(&[0.25, 0.125])?, [0.25, 0.25]);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn benjamini_hochberg(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    step_up(p_values, 1.0)
}

/// Returns Benjamini and Yekutieli's p-values: as [`benjamini_hochberg`] with the
/// further factor 1 + 1/2 + ... + 1/m, which makes them hold under any dependence.
///
/// Benjamini & Yekutieli (2001).
///
/// # Errors
///
/// [`StatsError::PValue`] when one is NaN or outside 0 to 1.
///
/// ```
/// assert_eq!(trialog_stats::benjamini_yekutieli(&[0.25, 0.125])?, [0.375, 0.375]);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn benjamini_yekutieli(p_values: &[f64]) -> Result<Vec<f64>, StatsError> {
    let harmonic = (1..=p_values.len()).map(|i| 1.0 / i as f64).sum();
    step_up(p_values, harmonic)
}

fn step_up(p_values: &[f64], factor: f64) -> Result<Vec<f64>, StatsError> {
    check(p_values)?;
    let n_tests = p_values.len() as f64;
    let mut adjusted = vec![0.0; p_values.len()];
    let mut smallest = 1.0_f64;
    for (rank, idx) in ascending(p_values).into_iter().enumerate().rev() {
        // Dividing first keeps the quotient at 1 or above, hence adjusted >= raw.
        smallest = smallest.min(n_tests / (rank + 1) as f64 * factor * p_values[idx]);
        adjusted[idx] = smallest;
    }
    Ok(adjusted)
}

/// Positions of the p-values from the smallest to the largest.
fn ascending(p_values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    order
}

fn check(p_values: &[f64]) -> Result<(), StatsError> {
    let is_probability = |p: &f64| (0.0..=1.0).contains(p);
    match p_values.iter().position(|p| !is_probability(p)) {
        Some(index) => Err(StatsError::PValue {
            index,
            value: p_values[index],
        }),
        None => Ok(()),
    }
}
