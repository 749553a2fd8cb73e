//! Standardises effect sizes.

use crate::{Summary, special};

/// A difference of means in units of the pooled standard deviation.
///
/// Every field but `pooled_sd` is a pure number.
///
/// ```
/// use trialog_stats::{Summary, effect_size};
/// let arm = Summary::new(10, 1.0, Some(0.0))?;
/// let effect = effect_size(&arm, &arm);
/// assert_eq!((effect.pooled_sd, effect.cohens_d), (Some(0.0), None));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EffectSize {
    /// Pooled standard deviation, in the metric's unit; `None` when an arm has a
    /// single unit.
    pub pooled_sd: Option<f64>,
    /// `(mean_b - mean_a) / pooled_sd`; `None` when that is undefined or 0.
    pub cohens_d: Option<f64>,
    /// Cohen's d times `1 - 3 / (4 (n_a + n_b) - 9)`, the usual small-sample correction
    /// and the value to report; `None` as for `cohens_d`.
    pub hedges_g: Option<f64>,
    /// Cohen's d with the exact correction by gamma functions; `None` as for `cohens_d`.
    pub hedges_g_exact: Option<f64>,
}

/// Returns Cohen's d (pooled) and Hedges' g of `mean_b - mean_a`.
///
/// Hedges (1981); Borenstein et al. (2009), chapter 4.
///
/// ```
/// use trialog_stats::{Summary, effect_size};
/// let a = Summary::new(30, 1.0, Some(4.0))?;
/// let b = Summary::new(30, 2.0, Some(4.0))?;
/// assert_eq!(effect_size(&a, &b).cohens_d, Some(0.5));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[must_use]
pub fn effect_size(a: &Summary, b: &Summary) -> EffectSize {
    let pooled_sd = pooled_sd(a, b);
    let cohens_d = pooled_sd
        .map(|sd| (b.mean() - a.mean()) / sd)
        .filter(|d| d.is_finite());
    let df = (a.n() - 1) as f64 + (b.n() - 1) as f64;
    EffectSize {
        pooled_sd,
        cohens_d,
        // 4 (n_a + n_b) - 9 is 4 df - 1.
        hedges_g: cohens_d.map(|d| d * (1.0 - 3.0 / (4.0 * df - 1.0))),
        hedges_g_exact: cohens_d.map(|d| d * exact_correction(df)),
    }
}

fn pooled_sd(a: &Summary, b: &Summary) -> Option<f64> {
    let (df_a, df_b) = ((a.n() - 1) as f64, (b.n() - 1) as f64);
    let weighted = df_a * a.variance()? + df_b * b.variance()?;
    Some((weighted / (df_a + df_b)).sqrt())
}

/// Hedges' J(m) = Gamma(m/2) / (sqrt(m/2) Gamma((m-1)/2)).
fn exact_correction(df: f64) -> f64 {
    special::half_gamma_ratio((df - 1.0) / 2.0) / (df / 2.0).sqrt()
}
