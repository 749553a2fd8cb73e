//! Small covariance matrices: their Cholesky factor, and which of them are singular.

/// A symmetric matrix, all rows of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Symmetric {
    size: usize,
    values: Vec<f64>,
}

impl Symmetric {
    /// Returns the matrix whose entry in row i, column j <= i is `entry(i, j)`.
    pub(crate) fn from_lower(size: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let mut values = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..=row {
                let value = entry(row, column);
                values[row * size + column] = value;
                values[column * size + row] = value;
            }
        }
        Self { size, values }
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.size + column]
    }
}

/// A covariance matrix, factored so that vectors can be measured by its inverse.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    /// Root of each diagonal entry: what is factored is the correlation matrix.
    scales: Vec<f64>,
    /// The lower Cholesky factor, row by row, without what lies above the diagonal.
    rows: Vec<Vec<f64>>,
}

impl Metric {
    /// Factors `covariance`; `None` where it is singular: a diagonal entry is not positive and
    /// finite, or an eigenvalue of the correlation matrix is at most `singular`.
    pub(crate) fn factor(covariance: &Symmetric, singular: f64) -> Option<Self> {
        let diagonal = (0..covariance.size).map(|index| covariance.at(index, index));
        let scales: Vec<f64> = diagonal.map(f64::sqrt).collect();
        if !scales.iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return None;
        }
        let correlation = Symmetric::from_lower(covariance.size, |row, column| {
            covariance.at(row, column) / scales[row] / scales[column]
        });
        // All eigenvalues exceed a number exactly where the matrix less that number times the
        // identity has a factor (Sylvester's law of inertia): a third of the cost of the
        // eigenvalues, or less, and as exact.
        cholesky(&correlation, singular)?;
        let rows = cholesky(&correlation, 0.0)?;
        Some(Self { scales, rows })
    }

    /// Returns v'M⁻¹v, the squared length of `vector` in units of the covariance M.
    pub(crate) fn squared_length(&self, vector: &[f64]) -> f64 {
        let mut solved: Vec<f64> = Vec::with_capacity(self.rows.len());
        for ((row, scale), value) in self.rows.iter().zip(&self.scales).zip(vector) {
            let rest = value / scale - dot(&solved, row);
            solved.push(rest / row[row.len() - 1]);
        }
        dot(&solved, &solved)
    }
}

/// Factors `matrix` with its diagonal lowered by `shift`; `None` unless it is positive definite.
fn cholesky(matrix: &Symmetric, shift: f64) -> Option<Vec<Vec<f64>>> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(matrix.size);
    for row in 0..matrix.size {
        let mut factors = Vec::with_capacity(row + 1);
        for (column, before) in rows.iter().enumerate() {
            let rest = matrix.at(row, column) - dot(&factors, before);
            factors.push(rest / before[column]);
        }
        let rest = matrix.at(row, row) - shift - dot(&factors, &factors);
        if rest.is_nan() || rest <= 0.0 {
            return None;
        }
        factors.push(rest.sqrt());
        rows.push(factors);
    }
    Some(rows)
}

/// The scalar product, as far as both go.
fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_singular_from_its_smallest_eigenvalue_on() {
        // 1 on the diagonal, -1/2 beside it: 1 - cos(k pi/(n + 1)).
        for size in [1_usize, 2, 7, 200] {
            let chain = Symmetric::from_lower(size, |row, column| match row - column {
                0 => 1.0,
                1 => -0.5,
                _ => 0.0,
            });
            let angle = std::f64::consts::PI / (size as f64 + 1.0);
            let smallest = 2.0 * (angle / 2.0).sin().powi(2);
            assert!(Metric::factor(&chain, smallest - 1e-14).is_some(), "{size}");
            assert_eq!(Metric::factor(&chain, smallest + 1e-14), None, "{size}");
        }
    }

    #[test]
    fn a_length_is_that_of_the_inverse_whatever_the_scales() {
        // The inverse of [[4, 2], [2, 3]] is [[3, -2], [-2, 4]] / 8.
        let covariance = |scale: f64| {
            Symmetric::from_lower(2, |row, column| {
                let entries = [[4.0, 2.0], [2.0, 3.0]];
                let scales = [1.0, scale];
                entries[row][column] * scales[row] * scales[column]
            })
        };
        for scale in [1.0, 1e-120, 1e120] {
            let metric = Metric::factor(&covariance(scale), 1e-10).unwrap();
            let length = metric.squared_length(&[1.0, 3.0 * scale]);
            assert!((length - 27.0 / 8.0).abs() < 1e-14, "{length}");
        }
    }

    #[test]
    fn singular_matrices_have_no_factor() {
        let all_one = Symmetric::from_lower(3, |_, _| 1.0);
        let zero = Symmetric::from_lower(2, |_, _| 0.0);
        let nan = Symmetric::from_lower(2, |_, _| f64::NAN);
        for singular in [all_one, zero, nan] {
            assert_eq!(Metric::factor(&singular, 1e-10), None);
        }
    }
}
