//! Analyses two factors with two levels each, and their interaction.

use crate::{StatsError, special};

/// One cell of the 2x2 design.
///
/// ```
/// let cell = trialog_stats::Cell { n: 12, mean: 3.5, variance: 1.2 };
/// assert_eq!(cell.n, 12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Units.
    pub n: u64,
    /// Mean, in the metric's unit.
    pub mean: f64,
    /// Sample variance (divisor n - 1); 0 for a single unit.
    pub variance: f64,
}

/// The test of one factor or of the interaction.
///
/// ```
/// let cell = |mean| trialog_stats::Cell { n: 50, mean, variance: 4.0 };
/// let cells = [cell(1.0), cell(2.0), cell(3.0), cell(4.0)];
/// let effects = trialog_stats::anova_2x2(&cells)?.map(|anova| anova.type3);
/// assert!(effects.is_some_and(|anova| anova.factor_a.p_value < Some(1e-6)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FactorTest {
    /// Sum of squares, with one degree of freedom.
    pub sum_of_squares: f64,
    /// F; `None` when the residual is 0.
    pub f: Option<f64>,
    /// Upper tail of F(1, residual df), 0 to 1; `None` as for `f`.
    pub p_value: Option<f64>,
}

/// Both main effects and the interaction.
///
/// ```
/// let cell = |mean| trialog_stats::Cell { n: 50, mean, variance: 4.0 };
/// let cells = [cell(1.0), cell(2.0), cell(3.0), cell(4.0)];
/// let effects = trialog_stats::anova_2x2(&cells)?.map(|anova| anova.type2);
/// assert!(effects.is_some_and(|anova| anova.interaction.p_value > Some(0.99)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effects {
    /// The first factor.
    pub factor_a: FactorTest,
    /// The second factor.
    pub factor_b: FactorTest,
    /// The interaction.
    pub interaction: FactorTest,
}

/// The analysis of variance of a 2x2 design.
///
/// ```
/// let cell = |mean| trialog_stats::Cell { n: 50, mean, variance: 4.0 };
/// let cells = [cell(1.0), cell(2.0), cell(3.0), cell(4.0)];
/// assert_eq!(trialog_stats::anova_2x2(&cells)?.map(|anova| anova.residual_df), Some(196));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anova {
    /// Each main effect given the other, the interaction left out.
    pub type2: Effects,
    /// Sum-to-zero contrasts of the cell means.
    pub type3: Effects,
    /// Sum of (n - 1) variance over cells.
    pub residual_sum_of_squares: f64,
    /// Units less 4.
    pub residual_df: u64,
    /// `residual_sum_of_squares / residual_df`.
    pub residual_mean_square: f64,
}

/// Returns the analysis of `cells` in the order 00, 01, 10, 11 (levels of the first
/// and the second factor); `None` for an empty cell or no residual degree of freedom.
///
/// Type II and type III sums of squares from cell statistics alone; with equal cells
/// they are the same. Compare statsmodels' `anova_lm`.
///
/// # Errors
///
/// [`StatsError::Mean`] or [`StatsError::Variance`] for a cell with units whose mean
/// is not finite or beyond 1e100, or whose variance is negative, not finite or beyond
/// 1e200.
///
/// ```
/// use trialog_stats::{Cell, anova_2x2};
/// let cell = |mean| Cell { n: 50, mean, variance: 1.0 };
/// let anova = anova_2x2(&[cell(0.0), cell(0.0), cell(0.0), cell(1.0)])?;
/// assert!(anova.is_some_and(|anova| anova.type3.interaction.p_value < Some(0.01)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn anova_2x2(cells: &[Cell; 4]) -> Result<Option<Anova>, StatsError> {
    for cell in cells.iter().filter(|cell| cell.n > 0) {
        if !(-1e100..=1e100).contains(&cell.mean) {
            return Err(StatsError::Mean(cell.mean));
        }
        if !(0.0..=1e200).contains(&cell.variance) {
            return Err(StatsError::Variance(cell.variance));
        }
    }
    let n_units: u128 = cells.iter().map(|cell| u128::from(cell.n)).sum();
    if cells.iter().any(|cell| cell.n == 0) || n_units <= 4 {
        return Ok(None);
    }
    let df = u64::try_from(n_units - 4).unwrap_or(u64::MAX);
    let within = cells.iter().map(|cell| (cell.n - 1) as f64 * cell.variance);
    let residual: f64 = within.sum();
    let mean_square = residual / df as f64;
    let test = |sum_of_squares: f64| {
        let f = Some(sum_of_squares / mean_square).filter(|f| f.is_finite());
        FactorTest {
            sum_of_squares,
            f,
            // F(1, v) is the square of t(v).
            p_value: f.map(|f| special::student_tail(f.sqrt(), df as f64)),
        }
    };
    let interaction = test(contrast(cells, [1.0, -1.0, -1.0, 1.0]));
    Ok(Some(Anova {
        type2: Effects {
            factor_a: test(given_the_other(cells, [(0, 2), (1, 3)])),
            factor_b: test(given_the_other(cells, [(0, 1), (2, 3)])),
            interaction,
        },
        type3: Effects {
            factor_a: test(contrast(cells, [1.0, 1.0, -1.0, -1.0])),
            factor_b: test(contrast(cells, [1.0, -1.0, 1.0, -1.0])),
            interaction,
        },
        residual_sum_of_squares: residual,
        residual_df: df,
        residual_mean_square: mean_square,
    }))
}

/// (sum of c mean)² / sum of c²/n.
fn contrast(cells: &[Cell; 4], signs: [f64; 4]) -> f64 {
    let value: f64 = cells
        .iter()
        .zip(signs)
        .map(|(cell, sign)| sign * cell.mean)
        .sum();
    let scale: f64 = cells.iter().map(|cell| 1.0 / cell.n as f64).sum();
    value / scale * value
}

/// The effect of a factor within each level of the other, weighted by precision.
fn given_the_other(cells: &[Cell; 4], pairs: [(usize, usize); 2]) -> f64 {
    let (mut weighted, mut weight) = (0.0, 0.0);
    for (low, high) in pairs {
        let (low, high) = (cells[low], cells[high]);
        let (n_low, n_high) = (low.n as f64, high.n as f64);
        let pair_weight = n_low * (n_high / (n_low + n_high));
        weighted += pair_weight * (low.mean - high.mean);
        weight += pair_weight;
    }
    weighted / weight * weighted
}
