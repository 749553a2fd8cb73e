//! Values of the same users in several bins: their means and how they vary together.

use crate::StatsError;
use crate::summary::units_per_one;
use crate::wide::U256;

/// More bins than this are refused: what is computed from them takes their cube.
const MAX_BINS: usize = 100;
/// Means and values beyond this are refused, so that no product overflows.
const LARGEST_MEAN: f64 = 1e140;
/// Likewise for variances.
const LARGEST_VARIANCE: f64 = 1e280;

/// Holds users, means and covariances of one arm's values in J bins, such as the days since
/// the exposure.
///
/// Every user has a value in each bin, 0 where nothing happened. Users can be added one by one,
/// and samples be merged in any order (Chan, Golub & `LeVeque` 1979).
///
/// ```
/// use trialog_stats::BinMoments;
/// let mut arm = BinMoments::default();
/// for user in [[1.0, 3.0], [2.0, 5.0], [3.0, 7.0]] {
///     arm.push(&user)?;
/// }
/// assert_eq!((arm.n(), arm.means()), (3, [2.0, 5.0].as_slice()));
/// assert_eq!(arm.covariance(0, 1), Some(2.0));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BinMoments {
    n: u64,
    means: Vec<f64>,
    /// Sums of products of deviations, the lower triangle row by row.
    products: Vec<f64>,
}

impl BinMoments {
    /// Returns the moments of `n` users with these means and sample covariances.
    ///
    /// `covariances` has J rows of J numbers, symmetric, with the divisor n - 1 and the square
    /// of the metric's unit; a single user has none, and what is given is ignored.
    ///
    /// # Errors
    ///
    /// [`StatsError::NoUnits`]; [`StatsError::Mean`] for a mean that is not finite or beyond
    /// 1e140; [`StatsError::Variance`] for a variance that is negative, not finite or beyond
    /// 1e280; [`StatsError::List`] for no bins or more than 100, and for covariances that are
    /// not J × J, not symmetric, or larger than the variances allow.
    ///
    /// ```
    /// use trialog_stats::BinMoments;
    /// let covariances = [vec![4.0, 1.0], vec![1.0, 9.0]];
    /// let arm = BinMoments::new(50, vec![1.0, 2.0], &covariances)?;
    /// assert_eq!(arm.covariance(1, 0), Some(1.0));
    /// assert!(BinMoments::new(50, vec![1.0, 2.0], &covariances[..1]).is_err());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn new(n: u64, means: Vec<f64>, covariances: &[Vec<f64>]) -> Result<Self, StatsError> {
        if n == 0 {
            return Err(StatsError::NoUnits);
        }
        let n_bins = means.len();
        check_means(&means)?;
        if n == 1 {
            let products = vec![0.0; triangle(n_bins)];
            return Ok(Self { n, means, products });
        }
        if covariances.len() != n_bins || covariances.iter().any(|row| row.len() != n_bins) {
            return Err(rule("cov", "must have a row and a column for each mean"));
        }
        let mut products = Vec::with_capacity(triangle(n_bins));
        for (row, cells) in covariances.iter().enumerate() {
            for (column, value) in cells.iter().enumerate().take(row + 1) {
                check_covariance(covariances, row, column)?;
                products.push(value * (n - 1) as f64);
            }
        }
        Ok(Self { n, means, products })
    }

    /// Returns the moments of `n` users from exact integer sums.
    ///
    /// `sums` holds Σx of each of the J bins in units of `scale`, and `products` Σxy of each
    /// pair of bins in units of its square: the lower triangle row by row, (0,0), (1,0), (1,1),
    /// (2,0) and so on. Nothing is lost however large the means are against the spread, because
    /// n·Σxy − Σx·Σy is formed in 256-bit integers.
    ///
    /// # Errors
    ///
    /// [`StatsError::NoUnits`]; [`StatsError::Scale`] (not positive and finite);
    /// [`StatsError::List`] for no bins or more than 100, and where there is not one product for
    /// each pair; [`StatsError::InconsistentSums`] (no such values exist), and those of
    /// [`Self::new`].
    ///
    /// ```
    /// use trialog_stats::BinMoments;
    /// // Users (0.5, 1.0) and (1.5, 3.0), in tenths.
    /// let arm = BinMoments::from_exact(2, &[20, 40], &[250, 500, 1_000], 0.1)?;
    /// assert_eq!(arm.means(), [1.0, 2.0]);
    /// assert_eq!((arm.covariance(0, 0), arm.covariance(0, 1)), (Some(0.5), Some(1.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn from_exact(
        n: u64,
        sums: &[i128],
        products: &[i128],
        scale: f64,
    ) -> Result<Self, StatsError> {
        if n == 0 {
            return Err(StatsError::NoUnits);
        }
        let per_one = units_per_one(scale)?;
        if products.len() != triangle(sums.len()) {
            return Err(rule(
                "products",
                "must have a product for each pair of bins",
            ));
        }
        let inconsistent = |row: usize, square: i128| StatsError::InconsistentSums {
            n,
            sum: sums[row],
            sum_of_squares: square,
        };
        let pairs = (u128::from(n) * u128::from(n - 1).max(1)) as f64;
        let mut covariances = vec![vec![0.0; sums.len()]; sums.len()];
        let mut given = products.iter();
        for row in 0..sums.len() {
            for (column, product) in (0..=row).zip(given.by_ref()) {
                let deviation = deviation(n, *product, sums[row], sums[column]);
                let value = deviation / pairs / per_one / per_one;
                if row == column && deviation < 0.0 || n == 1 && deviation != 0.0 {
                    return Err(inconsistent(row, *product));
                }
                covariances[row][column] = value;
                covariances[column][row] = value;
            }
        }
        let means = sums.iter().map(|sum| *sum as f64 / n as f64 / per_one);
        Self::new(n, means.collect(), &covariances)
    }

    /// Adds a user's values, one per bin; the first user says how many bins there are.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for another number of bins than before, none or more than 100;
    /// [`StatsError::Mean`] for a value that is not finite or beyond 1e140.
    ///
    /// ```
    /// let mut arm = trialog_stats::BinMoments::default();
    /// arm.push(&[1.0, 0.0, 2.0])?;
    /// assert!(arm.push(&[1.0]).is_err());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn push(&mut self, values: &[f64]) -> Result<(), StatsError> {
        check_means(values)?;
        if self.n == 0 {
            self.n = 1;
            self.means = values.to_vec();
            self.products = vec![0.0; triangle(values.len())];
            return Ok(());
        }
        self.check_bins(values.len())?;
        self.add_apart(1, values, None);
        Ok(())
    }

    /// Adds another sample of the same bins.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for another number of bins.
    ///
    /// ```
    /// use trialog_stats::BinMoments;
    /// let (mut left, mut right) = (BinMoments::default(), BinMoments::default());
    /// left.push(&[1.0, 2.0])?;
    /// right.push(&[3.0, 4.0])?;
    /// left.merge(&right)?;
    /// assert_eq!((left.means(), left.covariance(0, 1)), ([2.0, 3.0].as_slice(), Some(2.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn merge(&mut self, other: &Self) -> Result<(), StatsError> {
        if other.n == 0 {
            return Ok(());
        }
        if self.n == 0 {
            self.clone_from(other);
            return Ok(());
        }
        self.check_bins(other.means.len())?;
        self.add_apart(other.n, &other.means, Some(&other.products));
        Ok(())
    }

    /// Adds `n` users with these means and, within them, these products of deviations.
    fn add_apart(&mut self, n: u64, means: &[f64], products: Option<&[f64]>) {
        let all = self.n.saturating_add(n);
        let share = n as f64 / all as f64;
        let weight = self.n as f64 * share;
        let distances = means.iter().zip(&self.means);
        let distances: Vec<f64> = distances.map(|(other, mean)| other - mean).collect();
        let mut place = 0;
        for (row, apart) in distances.iter().enumerate() {
            for other in &distances[..=row] {
                let within = products.map_or(0.0, |given| given[place]);
                self.products[place] += weight * apart * other + within;
                place += 1;
            }
        }
        for (mean, apart) in self.means.iter_mut().zip(&distances) {
            *mean += apart * share;
        }
        self.n = all;
    }

    fn check_bins(&self, n_bins: usize) -> Result<(), StatsError> {
        if n_bins == self.means.len() {
            Ok(())
        } else {
            Err(rule("values", "must have as many bins for every user"))
        }
    }

    /// Returns the number of users.
    ///
    /// ```
    /// assert_eq!(trialog_stats::BinMoments::default().n(), 0);
    /// ```
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Returns the number of bins J, 0 without users.
    ///
    /// ```
    /// assert_eq!(trialog_stats::BinMoments::default().n_bins(), 0);
    /// ```
    #[must_use]
    pub const fn n_bins(&self) -> usize {
        self.means.len()
    }

    /// Returns the mean over users of each bin, in the metric's unit.
    ///
    /// ```
    /// let mut arm = trialog_stats::BinMoments::default();
    /// arm.push(&[1.0, 0.0])?;
    /// assert_eq!(arm.means(), [1.0, 0.0]);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// Returns the sample covariance (divisor n - 1) of two bins, from 0, in the square of the
    /// metric's unit: the variance where both are the same.
    ///
    /// `None` for fewer than two users, and for a bin that there is not.
    ///
    /// ```
    /// let mut arm = trialog_stats::BinMoments::default();
    /// arm.push(&[1.0, 0.0])?;
    /// assert_eq!(arm.covariance(0, 0), None);
    /// arm.push(&[3.0, 1.0])?;
    /// assert_eq!((arm.covariance(0, 0), arm.covariance(5, 0)), (Some(2.0), None));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn covariance(&self, first: usize, second: usize) -> Option<f64> {
        let (row, column) = (first.max(second), first.min(second));
        if self.n < 2 || row >= self.means.len() {
            return None;
        }
        Some(self.products[triangle(row) + column] / (self.n - 1) as f64)
    }

    /// Returns whether no user has a value in two bins, as with conversions that happen once.
    ///
    /// A trend over the bins means nothing then: who has converted cannot do so again, so that
    /// a constant effect on all of them looks as if it wore off. For values that are not
    /// negative, of which all products are 0. `false` with a single bin and for fewer than two
    /// users.
    ///
    /// ```
    /// let mut arm = trialog_stats::BinMoments::default();
    /// for user in [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]] {
    ///     arm.push(&user)?;
    /// }
    /// assert!(arm.happens_once());
    /// arm.push(&[1.0, 0.0, 1.0])?;
    /// assert!(!arm.happens_once());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn happens_once(&self) -> bool {
        /// What rounding leaves of a sum of products that is 0, as a share of its terms.
        const ROUNDING: f64 = 1e-9;
        let rows = 1..self.means.len();
        let mut pairs = rows.flat_map(|row| (0..row).map(move |column| (row, column)));
        let are_never_together = |(row, column): (usize, usize)| {
            let expected = self.n as f64 * self.means[row] * self.means[column];
            let together = self.products[triangle(row) + column] + expected;
            together.abs() <= ROUNDING * expected.abs()
        };
        self.n >= 2 && self.means.len() >= 2 && pairs.all(are_never_together)
    }
}

/// The entries of a lower triangle with this many rows.
const fn triangle(n_rows: usize) -> usize {
    n_rows * (n_rows + 1) / 2
}

/// n·Σxy − Σx·Σy, rounded once.
fn deviation(n: u64, product: i128, x: i128, y: i128) -> f64 {
    let signed = |left: i128, right: i128| {
        let size = U256::product(left.unsigned_abs(), right.unsigned_abs());
        (size, (left < 0) != (right < 0))
    };
    let (all, all_negative) = signed(i128::from(n), product);
    let (expected, expected_negative) = signed(x, y);
    if all_negative != expected_negative {
        // The difference is a sum here: nothing cancels.
        let size = all.to_f64() + expected.to_f64();
        return if all_negative { -size } else { size };
    }
    let size = match all.checked_sub(expected) {
        Some(size) => size.to_f64(),
        None => -expected.checked_sub(all).map_or(0.0, U256::to_f64),
    };
    if all_negative { -size } else { size }
}

fn check_means(means: &[f64]) -> Result<(), StatsError> {
    if !(1..=MAX_BINS).contains(&means.len()) {
        return Err(rule("values", "must have from 1 to 100 bins"));
    }
    let is_usable = |mean: &&f64| (-LARGEST_MEAN..=LARGEST_MEAN).contains(*mean);
    match means.iter().find(|mean| !is_usable(mean)) {
        Some(mean) => Err(StatsError::Mean(*mean)),
        None => Ok(()),
    }
}

/// Checks an entry on or below the diagonal, whose rows before are known to be in range.
fn check_covariance(rows: &[Vec<f64>], row: usize, column: usize) -> Result<(), StatsError> {
    let value = rows[row][column];
    if row == column {
        let is_usable = (0.0..=LARGEST_VARIANCE).contains(&value);
        return is_usable.then_some(()).ok_or(StatsError::Variance(value));
    }
    let most = rows[row][row].sqrt() * rows[column][column].sqrt();
    // A variance of this row that is out of range makes `most` NaN or is found at the diagonal.
    if (value - rows[column][row]).abs() > 1e-9 * most || value.is_nan() {
        return Err(rule("cov", "must be symmetric"));
    }
    if value.abs() > most * (1.0 + 1e-9) {
        return Err(rule(
            "cov",
            "must be at most the root of the product of the variances",
        ));
    }
    Ok(())
}

fn rule(argument: &'static str, rule: &'static str) -> StatsError {
    StatsError::List { argument, rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: [[f64; 3]; 5] = [
        [1.0, 0.0, 2.5],
        [0.0, 0.5, 3.0],
        [2.0, 4.0, -1.0],
        [5.5, 0.0, 0.0],
        [1.0, 1.0, 1.0],
    ];

    fn of_users(users: &[[f64; 3]]) -> BinMoments {
        let mut moments = BinMoments::default();
        for user in users {
            moments.push(user).unwrap();
        }
        moments
    }

    #[test]
    fn merged_pieces_and_exact_sums_are_the_whole() {
        let whole = of_users(&USERS);
        let mut merged = of_users(&USERS[3..]);
        merged.merge(&of_users(&USERS[..3])).unwrap();
        merged.merge(&BinMoments::default()).unwrap();
        let tenths = |value: f64| (10.0 * value) as i128;
        let sum = |of: &dyn Fn(&[f64; 3]) -> i128| USERS.iter().map(of).sum::<i128>();
        let sums: Vec<i128> = (0..3).map(|bin| sum(&|user| tenths(user[bin]))).collect();
        let pairs = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)];
        let products: Vec<i128> = pairs
            .iter()
            .map(|(row, column)| sum(&|user| tenths(user[*row]) * tenths(user[*column])))
            .collect();
        let exact = BinMoments::from_exact(5, &sums, &products, 0.1).unwrap();
        for other in [merged, exact] {
            for (row, column) in pairs {
                let want = whole.covariance(row, column).unwrap();
                let got = other.covariance(column, row).unwrap();
                assert!((got - want).abs() < 1e-14, "{row}, {column}: {got}, {want}");
            }
        }
    }

    #[test]
    fn exact_sums_keep_a_covariance_beside_large_means() {
        // x and -x about 1e15, apart by 1 and 3.
        let (x, y) = (10_i128.pow(15), -(10_i128.pow(15)));
        let users = [(x, y), (x + 1, y - 3)];
        let sums = [2 * x + 1, 2 * y - 3];
        let product = |of: &dyn Fn(&(i128, i128)) -> i128| users.iter().map(of).sum::<i128>();
        let products = [
            product(&|(x, _)| x * x),
            product(&|(x, y)| x * y),
            product(&|(_, y)| y * y),
        ];
        let exact = BinMoments::from_exact(2, &sums, &products, 1.0).unwrap();
        assert_eq!(exact.covariance(0, 0), Some(0.5));
        assert_eq!(exact.covariance(0, 1), Some(-1.5));
        assert_eq!(exact.covariance(1, 1), Some(4.5));
    }

    #[test]
    fn what_no_users_can_have_is_refused() {
        let means = || vec![1.0, 2.0];
        let matrix = |a: f64, b: f64, c: f64, d: f64| [vec![a, b], vec![c, d]];
        for covariances in [
            matrix(1.0, 2.0, 2.0, 1.0),
            matrix(1.0, 0.5, 0.4, 1.0),
            matrix(1.0, f64::NAN, f64::NAN, 1.0),
            matrix(1.0, 0.5, 0.5, -1.0),
            matrix(f64::INFINITY, 0.5, 0.5, 1.0),
            matrix(f64::NAN, 0.5, 0.5, 1.0),
        ] {
            assert!(BinMoments::new(9, means(), &covariances).is_err());
        }
        let one = matrix(1.0, 0.0, 0.0, 1.0);
        assert!(BinMoments::new(9, vec![], &[]).is_err());
        assert!(BinMoments::new(9, vec![f64::NAN, 1.0], &one).is_err());
        assert!(BinMoments::new(0, means(), &one).is_err());
        assert!(BinMoments::from_exact(2, &[1, 1], &[1, 1], 1.0).is_err());
        assert!(BinMoments::from_exact(2, &[4], &[4], 1.0).is_err());
        assert!(BinMoments::from_exact(1, &[4], &[4], 1.0).is_err());
        assert!(BinMoments::default().push(&[0.0; 101]).is_err());
    }
}
