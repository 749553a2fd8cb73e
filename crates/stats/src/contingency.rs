//! Tests tables of counts: Pearson's chi-squared and Fisher's exact test.

use crate::{StatsError, special};

/// The most cells of a table.
const MAX_CELLS: usize = 1_000_000;
/// The most units of a table for an exact test; its cost grows with their root.
const MAX_EXACT_UNITS: u64 = 10_000_000_000;

/// Pearson's chi-squared test of a table.
///
/// ```
/// let table = [vec![10, 20], vec![20, 10]];
/// assert_eq!(trialog_stats::chi_squared(&table)?.map(|test| test.df), Some(1));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquared {
    /// Sum of (observed - expected)² / expected.
    pub chi_squared: f64,
    /// (rows - 1) (columns - 1).
    pub df: usize,
    /// Upper tail, 0 to 1.
    pub p_value: f64,
    /// The statistic and p-value with Yates' correction; `None` for other tables than
    /// two by two.
    pub yates: Option<(f64, f64)>,
}

/// Returns Pearson's test of independence of rows (variants) and columns (outcomes);
/// `None` when a row or a column sums to 0.
///
/// Pearson (1900); Yates (1934) as max(|O - E| - 0.5, 0). Asymptotic: with expected
/// counts below five prefer [`fisher_exact`].
///
/// # Errors
///
/// [`StatsError::List`] unless there are at least two rows and two columns, all rows
/// are as long, and there are at most a million cells.
///
/// ```
/// let test = trialog_stats::chi_squared(&[vec![20, 80], vec![35, 65]])?;
/// assert!(test.is_some_and(|test| (test.p_value - 0.0176).abs() < 1e-4));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn chi_squared(table: &[Vec<u64>]) -> Result<Option<ChiSquared>, StatsError> {
    let n_columns = table.first().map_or(0, Vec::len);
    let is_table = table.len() >= 2
        && n_columns >= 2
        && table.iter().all(|row| row.len() == n_columns)
        && table.len() * n_columns <= MAX_CELLS;
    if !is_table {
        return Err(StatsError::List {
            argument: "table",
            rule: "must have two or more rows of as many columns, and at most a million cells",
        });
    }
    let rows: Vec<f64> = table.iter().map(|row| total(row.iter())).collect();
    let columns: Vec<f64> = (0..n_columns)
        .map(|column| total(table.iter().map(|row| &row[column])))
        .collect();
    if rows.iter().chain(&columns).any(|sum| *sum <= 0.0) {
        return Ok(None);
    }
    let all: f64 = rows.iter().sum();
    let statistic = |correction: f64| -> f64 {
        let cells = table.iter().zip(&rows).flat_map(|(row, row_sum)| {
            row.iter().zip(&columns).map(move |(count, column_sum)| {
                let expected = row_sum * (column_sum / all);
                let excess = ((*count as f64 - expected).abs() - correction).max(0.0);
                excess * (excess / expected)
            })
        });
        cells.sum()
    };
    let df = (table.len() - 1) * (n_columns - 1);
    let p_value = |statistic: f64| special::chi_squared_tail(statistic, df as f64);
    let plain = statistic(0.0);
    let yates = (df == 1).then(|| {
        let corrected = statistic(0.5);
        (corrected, p_value(corrected))
    });
    Ok(Some(ChiSquared {
        chi_squared: plain,
        df,
        p_value: p_value(plain),
        yates,
    }))
}

fn total<'a>(counts: impl Iterator<Item = &'a u64>) -> f64 {
    counts.map(|count| u128::from(*count)).sum::<u128>() as f64
}

/// Fisher's exact test of a two-by-two table.
///
/// ```
/// let fisher = trialog_stats::fisher_exact(&[[8, 2], [1, 5]])?;
/// assert_eq!(fisher.odds_ratio, Some(20.0));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fisher {
    /// Two-sided: all tables with these margins that are no more likely than this one.
    pub p_value: f64,
    /// P(A <= a), A being the first cell.
    pub p_less: f64,
    /// P(A >= a).
    pub p_greater: f64,
    /// a d / (b c), the sample odds ratio; `None` when b c is 0.
    pub odds_ratio: Option<f64>,
}

/// Returns Fisher's exact test of `[[a, b], [c, d]]`.
///
/// Fisher (1934). Tables whose probability agrees within 1e-7 count as equally likely,
/// as in R and scipy.
///
/// # Errors
///
/// [`StatsError::List`] for more than 1e10 units, where rounding would show: take
/// [`chi_squared`], which agrees with it at such counts.
///
/// ```
/// let tea = trialog_stats::fisher_exact(&[[3, 1], [1, 3]])?;
/// assert!((tea.p_value - 34.0 / 70.0).abs() < 1e-12);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn fisher_exact(table: &[[u64; 2]; 2]) -> Result<Fisher, StatsError> {
    let [[a, b], [c, d]] = *table;
    let sum = [a, b, c, d].iter().map(|n| u128::from(*n)).sum::<u128>();
    if sum > u128::from(MAX_EXACT_UNITS) {
        return Err(StatsError::List {
            argument: "table",
            rule: "must have at most 1e10 units: take chi2_contingency for more",
        });
    }
    let law = Hypergeometric {
        row: a + b,
        other_row: c + d,
        column: a + c,
    };
    let odds_ratio = (a as f64 * d as f64) / (b as f64 * c as f64);
    Ok(Fisher {
        p_value: law.two_sided(a),
        p_less: law.at_most(a),
        p_greater: law.at_least(a),
        odds_ratio: (b > 0 && c > 0).then_some(odds_ratio),
    })
}

/// How many of `column` units fall into the first of two rows of these sizes.
struct Hypergeometric {
    row: u64,
    other_row: u64,
    column: u64,
}

impl Hypergeometric {
    fn least(&self) -> u64 {
        self.column.saturating_sub(self.other_row)
    }

    fn most(&self) -> u64 {
        self.row.min(self.column)
    }

    /// The most likely value.
    fn mode(&self) -> u64 {
        let sum = u128::from(self.row) + u128::from(self.other_row);
        let mode = (u128::from(self.row) + 1) * (u128::from(self.column) + 1) / (sum + 2);
        (mode as u64).clamp(self.least(), self.most())
    }

    /// P(k + 1) / P(k).
    fn step(&self, k: u64) -> f64 {
        let up = (self.row - k) as f64 * (self.column - k) as f64;
        let down = (k + 1) as f64 * (self.other_row + k + 1 - self.column) as f64;
        up / down
    }

    /// ln P(k) as a ratio of binomial probabilities (Loader 2000).
    fn ln_probability(&self, k: u64) -> f64 {
        let sum = self.row + self.other_row;
        if self.column == 0 || self.column == sum {
            return 0.0;
        }
        let p = self.column as f64 / sum as f64;
        let q = (sum - self.column) as f64 / sum as f64;
        ln_binomial(k, self.row, p, q) + ln_binomial(self.column - k, self.other_row, p, q)
            - ln_binomial(self.column, sum, p, q)
    }

    fn at_most(&self, k: u64) -> f64 {
        if k >= self.most() {
            return 1.0;
        }
        if k >= self.mode() {
            return (1.0 - self.above(k + 1)).max(0.0);
        }
        self.below(k).min(1.0)
    }

    fn at_least(&self, k: u64) -> f64 {
        if k <= self.least() {
            return 1.0;
        }
        if k <= self.mode() {
            return (1.0 - self.below(k - 1)).max(0.0);
        }
        self.above(k).min(1.0)
    }

    /// P(k) + P(k - 1) + ..., for k up to the mode, where terms fall.
    fn below(&self, k: u64) -> f64 {
        let mut k = k;
        let (mut term, mut sum) = (1.0, 1.0);
        let first = self.ln_probability(k);
        while k > self.least() && term > sum * 1e-18 {
            k -= 1;
            term /= self.step(k);
            sum += term;
        }
        (first + sum.ln()).exp()
    }

    /// P(k) + P(k + 1) + ..., for k from the mode on.
    fn above(&self, k: u64) -> f64 {
        let mut k = k;
        let (mut term, mut sum) = (1.0, 1.0);
        let first = self.ln_probability(k);
        while k < self.most() && term > sum * 1e-18 {
            term *= self.step(k);
            k += 1;
            sum += term;
        }
        (first + sum.ln()).exp()
    }

    fn two_sided(&self, k: u64) -> f64 {
        const SLACK: f64 = 1e-7;
        let mode = self.mode();
        let limit = self.ln_probability(k) + SLACK;
        if self.ln_probability(mode) <= limit {
            return 1.0;
        }
        let sum = if k < mode {
            // The first value above the mode that is as unlikely.
            let other = first_where(mode, self.most() + 1, |x| self.ln_probability(x) <= limit);
            self.below(k) + other.map_or(0.0, |other| self.above(other))
        } else {
            // Mirrored: distances below the mode.
            let distance = |x: u64| self.ln_probability(mode - x) <= limit;
            let other = first_where(0, mode - self.least() + 1, distance);
            self.above(k) + other.map_or(0.0, |other| self.below(mode - other))
        };
        sum.min(1.0)
    }
}

/// The first of `low..high` for which `holds`, which stays true from there on.
fn first_where(mut low: u64, high: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let mut end = high;
    while low < end {
        let middle = low + (end - low) / 2;
        if holds(middle) {
            end = middle;
        } else {
            low = middle + 1;
        }
    }
    (low < high).then_some(low)
}

/// ln of the binomial probability of k among n, with q = 1 - p, by Loader's saddle
/// point form.
fn ln_binomial(k: u64, n: u64, p: f64, q: f64) -> f64 {
    let (x, n) = (k as f64, n as f64);
    if k == 0 {
        return n * libm::log1p(-p);
    }
    let rest = n - x;
    if rest <= 0.0 {
        return n * libm::log1p(-q);
    }
    // Stirling's error of x! is that of Gamma(x) in these terms.
    let error =
        special::stirling_error(n) - special::stirling_error(x) - special::stirling_error(rest);
    let root = 0.5 * (n / (2.0 * std::f64::consts::PI * x * rest)).ln();
    error + root - special::deviance(x, n * p) - special::deviance(rest, n * q)
}
