//! Whether two experiments that share users disturb each other.

use crate::dense::{Metric, Symmetric};
use crate::{Alpha, Interval, StatsError, Summary, chi_squared, special};

/// More variants of an experiment than this are refused: the test takes the cube of the cells.
const MAX_VARIANTS: usize = 20;
/// Contrasts whose correlation matrix has an eigenvalue up to this cannot be told apart.
const SINGULAR: f64 = 1e-10;

/// Compares the users of two experiments cell by cell.
///
/// ```
/// use trialog_stats::{Alpha, Summary, interaction};
/// let cell = |mean| Summary::new(1_000, mean, Some(1.0)).map(Some);
/// let cells = [vec![cell(1.0)?, cell(1.2)?], vec![cell(1.1)?, cell(0.5)?]];
/// let found = interaction(&cells, Alpha::P05, 0.8)?;
/// assert_eq!((found.users_a, found.users_b), (vec![2_000, 2_000], vec![2_000, 2_000]));
/// assert!(found.interaction.is_some_and(|test| test.p_value < 1e-6));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Interaction {
    /// Users of each variant of A that are in both experiments, for its sample ratio.
    pub users_a: Vec<u64>,
    /// The same of each variant of B.
    pub users_b: Vec<u64>,
    /// Whether the variants of A and B were assigned independently.
    pub independence: Independence,
    /// Every treatment of A with every treatment of B, B's running faster.
    pub contrasts: Vec<InteractionContrast>,
    /// Whether any contrast differs from 0; `None` where a cell has fewer than two users, and
    /// where the contrasts do not vary or cannot be told apart.
    pub interaction: Option<WelchJames>,
    /// Whether the variants of A differ, each variant of B counting the same; `None` as for
    /// `interaction`.
    pub main_a: Option<WelchJames>,
    /// The same of the variants of B over those of A.
    pub main_b: Option<WelchJames>,
}

impl Interaction {
    /// Returns the number of users in both experiments.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Summary, interaction};
    /// let cell = Some(Summary::new(10, 1.0, Some(1.0))?);
    /// let found = interaction(&[vec![cell, None], vec![cell, cell]], Alpha::P05, 0.8)?;
    /// assert_eq!(found.users(), 30);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn users(&self) -> u64 {
        total(self.users_a.iter().copied())
    }
}

/// Tests the counts of the cells for independence of the two assignments.
///
/// ```
/// let counts =
///     trialog_stats::Independence { chi_squared: Some(3.8), df: 1, p_value: Some(0.051) };
/// assert!(counts.p_value > Some(0.001));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Independence {
    /// Pearson's statistic; `None` where a variant has no users.
    pub chi_squared: Option<f64>,
    /// (variants of A - 1) (variants of B - 1).
    pub df: usize,
    /// Upper tail of the chi-squared distribution, 0 to 1; `None` as for `chi_squared`.
    pub p_value: Option<f64>,
}

/// Describes how far the effects of one treatment of A and one of B do not add up.
///
/// ```
/// use trialog_stats::{Alpha, Summary, interaction};
/// let cell = |mean| Summary::new(100, mean, Some(1.0)).map(Some);
/// let cells = [vec![cell(1.0)?, cell(2.0)?], vec![cell(3.0)?, cell(4.5)?]];
/// let found = interaction(&cells, Alpha::P05, 0.8)?;
/// assert_eq!(found.contrasts[0].estimate, Some(0.5));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InteractionContrast {
    /// Variant of A, from 1: 0 is the control.
    pub a: usize,
    /// Variant of B, from 1.
    pub b: usize,
    /// `mean_ab - mean_a0 - mean_0b + mean_00`, in the metric's unit; `None` where one of the
    /// four cells is empty.
    pub estimate: Option<f64>,
    /// Its test; `None` where one of the four cells has fewer than two users, and without
    /// spread.
    pub test: Option<ContrastTest>,
}

/// Tests one contrast by Student's t.
///
/// ```
/// use trialog_stats::{Alpha, ContrastTest};
/// let test = ContrastTest {
///     estimate: 0.5,
///     standard_error: 0.1,
///     df: 400.0,
///     p_value: 8.5e-7,
///     interval: None,
///     detectable: 0.28,
/// };
/// assert!(test.estimate > test.detectable);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContrastTest {
    /// The contrast, in the metric's unit.
    pub estimate: f64,
    /// Its standard error, in the metric's unit.
    pub standard_error: f64,
    /// Satterthwaite's degrees of freedom of the four cells, not rounded.
    pub df: f64,
    /// Two-sided p-value, 0 to 1.
    pub p_value: f64,
    /// Two-sided interval of the contrast; `None` where an end is beyond the range of a double.
    pub interval: Option<Interval>,
    /// Size that is found with the power: (z(1 - alpha/2) + z(power)) standard errors (Bloom
    /// 1995), in the metric's unit.
    pub detectable: f64,
}

/// Tests several contrasts of cells with unequal variances at once.
///
/// ```
/// use trialog_stats::{Alpha, Summary, interaction};
/// let cell = |mean| Summary::new(100, mean, Some(1.0)).map(Some);
/// let cells = [vec![cell(1.0)?, cell(2.0)?], vec![cell(3.0)?, cell(4.5)?]];
/// let test = interaction(&cells, Alpha::P05, 0.8)?.interaction.ok_or("a test")?;
/// // A single contrast: the square of its t.
/// assert!((test.statistic - 6.25).abs() < 1e-12 && test.df1 == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WelchJames {
    /// T = (Cμ)'(CSC')⁻¹Cμ, at least 0.
    pub statistic: f64,
    /// T divided by Johansen's constant, at least 0.
    pub f: f64,
    /// Number of contrasts.
    pub df1: usize,
    /// Degrees of freedom of the denominator, at least 1, not rounded.
    pub df2: f64,
    /// Upper tail of F, 0 to 1.
    pub p_value: f64,
}

/// Tests whether two experiments interact, from the users that are in both.
///
/// `cells[i][j]` holds the users of variant i of A and variant j of B, 0 being the controls;
/// `None` stands for a cell without users. `power` is that of the detectable size. The tests
/// are Welch and James's with Johansen's constants (Johansen 1980; Keselman, Wilcox & Lix 2003):
/// the classic analysis of variance rejects far too often where small cells vary more. Rates
/// need at least 5 converted and 5 unconverted users in a cell.
///
/// # Errors
///
/// [`StatsError::List`] unless there are from 2 to 20 variants of each and all rows are as long;
/// [`StatsError::Probability`] for a power that is not strictly between 0 and 1.
///
/// ```
/// use trialog_stats::{Alpha, Summary, interaction};
/// let cell = |mean| Summary::new(100, mean, Some(1.0)).map(Some);
/// let additive = [vec![cell(1.0)?, cell(2.0)?], vec![cell(3.0)?, cell(4.0)?]];
/// let found = interaction(&additive, Alpha::P05, 0.8)?;
/// assert!(found.interaction.is_some_and(|test| test.p_value > 0.99));
/// assert!(found.main_a.is_some_and(|test| test.p_value < 1e-20));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn interaction(
    cells: &[Vec<Option<Summary>>],
    alpha: Alpha,
    power: f64,
) -> Result<Interaction, StatsError> {
    let detectable = special::normal_critical(alpha) + special::normal_quantile(power)?;
    let design = Design::new(cells)?;
    let counts: Vec<Vec<u64>> = cells
        .iter()
        .map(|row| row.iter().map(|cell| users(cell.as_ref())).collect())
        .collect();
    let treatments = || {
        let rows = 1..design.n_rows;
        rows.flat_map(|row| (1..design.n_columns).map(move |column| (row, column)))
    };
    let columns = 0..design.n_columns;
    Ok(Interaction {
        users_a: counts
            .iter()
            .map(|row| total(row.iter().copied()))
            .collect(),
        users_b: columns
            .map(|column| total(counts.iter().map(|row| row[column])))
            .collect(),
        independence: independence(&counts)?,
        contrasts: treatments()
            .map(|(row, column)| design.contrast_at(row, column, alpha, detectable))
            .collect(),
        interaction: design.welch_james(
            &treatments()
                .map(|(row, column)| design.interaction_terms(row, column))
                .collect::<Vec<_>>(),
        ),
        main_a: design.welch_james(
            &(1..design.n_rows)
                .map(|row| design.main_terms(Side::A, row))
                .collect::<Vec<_>>(),
        ),
        main_b: design.welch_james(
            &(1..design.n_columns)
                .map(|column| design.main_terms(Side::B, column))
                .collect::<Vec<_>>(),
        ),
    })
}

fn users(cell: Option<&Summary>) -> u64 {
    cell.map_or(0, Summary::n)
}

fn total(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn independence(counts: &[Vec<u64>]) -> Result<Independence, StatsError> {
    let test = chi_squared(counts)?;
    Ok(Independence {
        chi_squared: test.map(|test| test.chi_squared),
        df: (counts.len() - 1) * (counts[0].len() - 1),
        p_value: test.map(|test| test.p_value),
    })
}

/// Which of the two experiments.
#[derive(Clone, Copy)]
enum Side {
    A,
    B,
}

/// A contrast: the weight of each cell in it.
type Terms = Vec<f64>;

/// The cells, row by row.
struct Design<'a> {
    n_rows: usize,
    n_columns: usize,
    cells: Vec<Option<&'a Summary>>,
}

impl<'a> Design<'a> {
    fn new(cells: &'a [Vec<Option<Summary>>]) -> Result<Self, StatsError> {
        let n_columns = cells.first().map_or(0, Vec::len);
        let sizes = 2..=MAX_VARIANTS;
        let is_table = cells.iter().all(|row| row.len() == n_columns);
        if !(is_table && sizes.contains(&cells.len()) && sizes.contains(&n_columns)) {
            return Err(StatsError::List {
                argument: "cells",
                rule: "must have from 2 to 20 rows of as many cells, from 2 to 20",
            });
        }
        Ok(Self {
            n_rows: cells.len(),
            n_columns,
            cells: cells.iter().flatten().map(Option::as_ref).collect(),
        })
    }

    /// The weights of `terms`, 0 for all other cells.
    fn weigh(&self, terms: impl IntoIterator<Item = (usize, usize, f64)>) -> Terms {
        let mut weights = vec![0.0; self.cells.len()];
        for (row, column, weight) in terms {
            weights[row * self.n_columns + column] += weight;
        }
        weights
    }

    fn interaction_terms(&self, row: usize, column: usize) -> Terms {
        self.weigh([
            (row, column, 1.0),
            (row, 0, -1.0),
            (0, column, -1.0),
            (0, 0, 1.0),
        ])
    }

    /// The mean over the other experiment's variants of a variant less that of the control.
    fn main_terms(&self, side: Side, variant: usize) -> Terms {
        let n_others = match side {
            Side::A => self.n_columns,
            Side::B => self.n_rows,
        };
        let each = 1.0 / n_others as f64;
        let place = |variant: usize, other: usize| match side {
            Side::A => (variant, other),
            Side::B => (other, variant),
        };
        self.weigh((0..n_others).flat_map(|other| {
            let ((row, column), (first_row, first_column)) =
                (place(variant, other), place(0, other));
            [(row, column, each), (first_row, first_column, -each)]
        }))
    }

    fn contrast_at(
        &self,
        row: usize,
        column: usize,
        alpha: Alpha,
        detectable: f64,
    ) -> InteractionContrast {
        let terms = self.interaction_terms(row, column);
        let estimate = self.estimate(&terms);
        InteractionContrast {
            a: row,
            b: column,
            estimate,
            test: estimate.and_then(|value| self.test(value, &terms, alpha, detectable)),
        }
    }

    /// The cells of a contrast, each with its weight.
    fn used<'t>(&'t self, terms: &'t Terms) -> impl Iterator<Item = (Option<&'t Summary>, f64)> {
        let pairs = self.cells.iter().copied().zip(terms.iter().copied());
        pairs.filter(|(_, weight)| *weight != 0.0)
    }

    fn estimate(&self, terms: &Terms) -> Option<f64> {
        self.used(terms)
            .map(|(cell, weight)| Some(weight * cell?.mean()))
            .sum()
    }

    fn test(
        &self,
        estimate: f64,
        terms: &Terms,
        alpha: Alpha,
        detectable: f64,
    ) -> Option<ContrastTest> {
        let parts = self.used(terms).map(|(cell, weight)| {
            let mean = cell?.estimate()?;
            Some((weight * weight * mean.variance, (cell?.n() - 1) as f64))
        });
        let parts: Vec<(f64, f64)> = parts.collect::<Option<_>>()?;
        let variance: f64 = parts.iter().map(|(part, _)| part).sum();
        let standard_error = variance.sqrt();
        let t = estimate / standard_error;
        if !t.is_finite() {
            return None;
        }
        let shares = parts.iter().map(|(part, df)| (part / variance, df));
        let df = 1.0 / shares.map(|(share, df)| share * share / df).sum::<f64>();
        let critical = special::student_critical(alpha.get(), df);
        Some(ContrastTest {
            estimate,
            standard_error,
            df,
            p_value: special::student_tail(t, df),
            interval: Interval::around(estimate, critical * standard_error),
            detectable: detectable * standard_error,
        })
    }

    /// Johansen (1980); `None` where a cell has fewer than two users or C S C' is singular.
    fn welch_james(&self, contrasts: &[Terms]) -> Option<WelchJames> {
        let means = self.cells.iter().map(|cell| (*cell)?.estimate());
        let means: Vec<_> = means.collect::<Option<_>>()?;
        let scalar = |row: usize, column: usize| -> f64 {
            let weights = contrasts[row].iter().zip(&contrasts[column]);
            let terms = weights.zip(&means);
            terms.map(|((x, y), mean)| x * y * mean.variance).sum()
        };
        let covariance = Symmetric::from_lower(contrasts.len(), scalar);
        let metric = Metric::factor(&covariance, SINGULAR)?;
        let estimates: Option<Vec<f64>> =
            contrasts.iter().map(|terms| self.estimate(terms)).collect();
        let statistic = metric.squared_length(&estimates?);
        // How much of what is known of its own mean each cell takes away.
        let leverages = means.iter().enumerate().map(|(cell, mean)| {
            let column: Vec<f64> = contrasts.iter().map(|terms| terms[cell]).collect();
            mean.variance * metric.squared_length(&column)
        });
        let cells = leverages.zip(&self.cells);
        let a: f64 = cells
            .map(|(leverage, cell)| leverage * leverage / (users(*cell) - 1) as f64)
            .sum();
        let r = contrasts.len() as f64;
        let f = statistic / (r + 2.0 * a - 6.0 * a / (r + 2.0));
        // Leverages are at most 1 and sum to r, so that only rounding goes below 1.
        let df2 = (r * (r + 2.0) / (3.0 * a)).max(1.0);
        f.is_finite().then(|| WelchJames {
            statistic,
            f,
            df1: contrasts.len(),
            df2,
            p_value: special::f_tail(f, r, df2),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(n: u64, mean: f64, variance: f64) -> Option<Summary> {
        Some(Summary::new(n, mean, Some(variance)).unwrap())
    }

    #[test]
    fn swapping_the_experiments_swaps_the_main_effects() {
        let rows = [
            vec![cell(40, 1.0, 2.0), cell(50, 1.5, 9.0), cell(20, 0.5, 1.0)],
            vec![cell(45, 2.0, 3.0), cell(15, 1.0, 0.5), cell(30, 3.5, 4.0)],
        ];
        let swapped: Vec<Vec<_>> = (0..3).map(|j| vec![rows[0][j], rows[1][j]]).collect();
        let one = interaction(&rows, Alpha::P05, 0.8).unwrap();
        let other = interaction(&swapped, Alpha::P05, 0.8).unwrap();
        let pairs = [
            (one.main_a, other.main_b),
            (one.main_b, other.main_a),
            (one.interaction, other.interaction),
        ];
        for (left, right) in pairs {
            let (left, right) = (left.unwrap(), right.unwrap());
            assert!((left.f / right.f - 1.0).abs() < 1e-12, "{left:?} {right:?}");
            assert!((left.df2 / right.df2 - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn one_pair_of_users_that_decides_alone_has_a_degree_of_freedom() {
        for decides in 0..4 {
            for digit in 1..50 {
                let variance = |index| {
                    if index == decides {
                        f64::from(digit)
                    } else {
                        1e-12
                    }
                };
                let pair = |index| cell(2, f64::from(index), variance(index));
                let cells = [vec![pair(0), pair(1)], vec![pair(2), pair(3)]];
                let found = interaction(&cells, Alpha::P05, 0.8).unwrap();
                for test in [found.interaction, found.main_a, found.main_b] {
                    assert!(test.is_some_and(|test| test.df2 < 1.0 + 1e-9));
                }
            }
        }
    }

    #[test]
    fn tables_that_are_none_are_refused_and_extremes_have_no_test() {
        let good = cell(10, 1.0, 1.0);
        let wide: Vec<_> = (0..2).map(|_| vec![good; 21]).collect();
        for rows in [vec![], vec![vec![good; 2]], wide] {
            assert!(interaction(&rows, Alpha::P05, 0.8).is_err());
        }
        assert!(interaction(&[vec![good; 2], vec![good; 3]], Alpha::P05, 0.8).is_err());
        let square = [vec![good; 2], vec![good; 2]];
        for power in [0.0, 1.0, f64::NAN] {
            assert!(interaction(&square, Alpha::P05, power).is_err());
        }
        let far = [
            vec![cell(2, 1e150, 5e-324), cell(2, -1e150, 5e-324)],
            vec![cell(2, -1e150, 5e-324), cell(2, 1e150, 5e-324)],
        ];
        let found = interaction(&far, Alpha::P05, 0.8).unwrap();
        assert_eq!((found.contrasts[0].test, found.interaction), (None, None));
    }
}
