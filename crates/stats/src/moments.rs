//! Computes moments that merge: pieces of a sample in any order.

use crate::{StatsError, Summary};

/// Count, mean and sum of squared deviations of a sample, to which values and other
/// samples can be added.
///
/// Updated about the mean, so a mean of 1e9 with a spread of 1 keeps its digits; the
/// rounding of mean and sum is carried along (Welford 1962; Chan, Golub & `LeVeque`
/// 1979; Neumaier 1974).
///
/// ```
/// use trialog_stats::Moments;
/// let (mut left, right): (Moments, Moments) =
///     ([1e9, 1e9 + 2.0].into_iter().collect(), [1e9 + 4.0].into_iter().collect());
/// left.merge(&right);
/// assert_eq!((left.n(), left.mean(), left.variance()), (3, Some(1e9 + 2.0), Some(4.0)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    n: u64,
    mean: Sum,
    m2: Sum,
}

/// A sum with what its rounding has lost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    value: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, term: f64) {
        let sum = self.value + term;
        self.lost += if self.value.abs() >= term.abs() {
            (self.value - sum) + term
        } else {
            (term - sum) + self.value
        };
        self.value = sum;
    }

    fn total(self) -> f64 {
        self.value + self.lost
    }

    /// `other - self`, from the parts.
    fn distance(self, other: Self) -> f64 {
        (other.value - self.value) + (other.lost - self.lost)
    }
}

impl Moments {
    /// Returns the moments of `n` values with this mean and sum of squared deviations;
    /// for an `n` of 0 both are passed over.
    ///
    /// # Errors
    ///
    /// [`StatsError::Mean`] for a mean that is not finite or beyond 1e150;
    /// [`StatsError::Range`] for a sum that is negative, not finite or beyond 1e300, or
    /// that is not 0 for a single value.
    ///
    /// ```
    /// use trialog_stats::Moments;
    /// assert_eq!(Moments::new(3, 2.0, 6.0)?.variance(), Some(3.0));
    /// assert!(Moments::new(1, 2.0, 6.0).is_err());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn new(n: u64, mean: f64, m2: f64) -> Result<Self, StatsError> {
        if n == 0 {
            return Ok(Self::default());
        }
        if !(-1e150..=1e150).contains(&mean) {
            return Err(StatsError::Mean(mean));
        }
        if !(0.0..=1e300).contains(&m2) || (n == 1 && m2 > 0.0) {
            return Err(StatsError::Range {
                argument: "m2",
                range: "from 0 to 1e300, and 0 for a single value",
                value: m2,
            });
        }
        let exact = |value| Sum { value, lost: 0.0 };
        Ok(Self {
            n,
            mean: exact(mean),
            m2: exact(m2),
        })
    }

    /// Adds a value.
    ///
    /// ```
    /// let mut moments = trialog_stats::Moments::default();
    /// moments.push(2.0);
    /// assert_eq!(moments.mean(), Some(2.0));
    /// ```
    pub fn push(&mut self, value: f64) {
        let one = Self {
            n: 1,
            mean: Sum { value, lost: 0.0 },
            m2: Sum::default(),
        };
        self.merge(&one);
    }

    /// Adds another sample.
    ///
    /// ```
    /// use trialog_stats::Moments;
    /// let mut left: Moments = [1.0].into_iter().collect();
    /// left.merge(&[3.0].into_iter().collect());
    /// assert_eq!(left.mean(), Some(2.0));
    /// ```
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = *other;
            return;
        }
        let n = self.n.saturating_add(other.n);
        let apart = self.mean.distance(other.mean);
        let share = other.n as f64 / n as f64;
        self.mean.add(apart * share);
        self.m2.add(other.m2.value);
        self.m2.lost += other.m2.lost;
        self.m2.add(apart * apart * (self.n as f64 * share));
        self.n = n;
    }

    /// Returns how many values there are.
    ///
    /// ```
    /// use trialog_stats::Moments;
    /// let moments: Moments = [1.0, 2.0, 3.0].into_iter().collect();
    /// assert_eq!(moments.n(), 3);
    /// ```
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Returns the mean; `None` without values.
    ///
    /// ```
    /// use trialog_stats::Moments;
    /// let moments: Moments = [1.0, 2.0, 3.0].into_iter().collect();
    /// assert_eq!(moments.mean(), Some(2.0));
    /// ```
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.mean.total())
    }

    /// Returns the sum of squared deviations from the mean; `None` without values.
    ///
    /// ```
    /// use trialog_stats::Moments;
    /// let moments: Moments = [1.0, 2.0, 3.0].into_iter().collect();
    /// assert_eq!(moments.m2(), Some(2.0));
    /// ```
    #[must_use]
    pub fn m2(&self) -> Option<f64> {
        (self.n > 0).then(|| self.m2.total().max(0.0))
    }

    /// Returns the sample variance, with the divisor n - 1; `None` for fewer than two.
    ///
    /// ```
    /// use trialog_stats::Moments;
    /// let moments: Moments = [1.0, 2.0, 3.0].into_iter().collect();
    /// assert_eq!(moments.variance(), Some(1.0));
    /// ```
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.n >= 2).then(|| self.m2.total().max(0.0) / (self.n - 1) as f64)
    }

    /// Returns the summary that tests take.
    ///
    /// # Errors
    ///
    /// Those of [`Summary::new`].
    ///
    /// ```
    /// use trialog_stats::Moments;
    /// let moments: Moments = [1.0, 2.0, 3.0].into_iter().collect();
    /// assert_eq!(moments.summary()?.n(), 3);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn summary(&self) -> Result<Summary, StatsError> {
        Summary::new(self.n, self.mean().unwrap_or_default(), self.variance())
    }
}

impl FromIterator<f64> for Moments {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut moments = Self::default();
        values.into_iter().for_each(|value| moments.push(value));
        moments
    }
}

/// The moments of two variables over the same units, and how they vary together.
///
/// ```
/// use trialog_stats::CoMoments;
/// let pairs: CoMoments = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)].into_iter().collect();
/// assert_eq!(pairs.covariance(), Some(2.0));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CoMoments {
    /// Of the first variable.
    x: Moments,
    /// Of the second.
    y: Moments,
    c: Sum,
}

impl CoMoments {
    /// Returns the moments of pairs from those of both variables and the sum of the
    /// products of their deviations.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for variables of different numbers of units;
    /// [`StatsError::Range`] for a sum that is larger than the spreads allow.
    ///
    /// ```
    /// use trialog_stats::{CoMoments, Moments};
    /// let x = Moments::new(3, 2.0, 2.0)?;
    /// assert_eq!(CoMoments::new(x, x, 2.0)?.covariance(), Some(1.0));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn new(x: Moments, y: Moments, c: f64) -> Result<Self, StatsError> {
        if x.n != y.n {
            return Err(StatsError::List {
                argument: "pieces",
                rule: "must be of as many units in both variables",
            });
        }
        if x.n == 0 {
            return Ok(Self::default());
        }
        let most = x.m2.total().sqrt() * y.m2.total().sqrt();
        if c.is_nan() || c.abs() > most * (1.0 + 1e-9) {
            return Err(StatsError::Range {
                argument: "c_xy",
                range: "at most the root of m2_x m2_y, in absolute terms",
                value: c,
            });
        }
        let c = Sum {
            value: c,
            lost: 0.0,
        };
        Ok(Self { x, y, c })
    }

    /// Adds a pair.
    ///
    /// ```
    /// let mut pairs = trialog_stats::CoMoments::default();
    /// pairs.push(1.0, 2.0);
    /// assert_eq!(pairs.y().mean(), Some(2.0));
    /// ```
    pub fn push(&mut self, x: f64, y: f64) {
        let one = |value| [value].into_iter().collect();
        self.merge(&Self {
            x: one(x),
            y: one(y),
            c: Sum::default(),
        });
    }

    /// Adds another sample.
    ///
    /// ```
    /// use trialog_stats::CoMoments;
    /// let mut left: CoMoments = [(1.0, 2.0)].into_iter().collect();
    /// left.merge(&[(3.0, 6.0)].into_iter().collect());
    /// assert_eq!(left.covariance(), Some(4.0));
    /// ```
    pub fn merge(&mut self, other: &Self) {
        if self.x.n > 0 && other.x.n > 0 {
            let share = other.x.n as f64 / self.x.n.saturating_add(other.x.n) as f64;
            let apart_x = self.x.mean.distance(other.x.mean);
            let apart_y = self.y.mean.distance(other.y.mean);
            self.c.add(apart_x * apart_y * (self.x.n as f64 * share));
        }
        self.c.add(other.c.value);
        self.c.lost += other.c.lost;
        self.x.merge(&other.x);
        self.y.merge(&other.y);
    }

    /// Returns the moments of the first variable.
    ///
    /// ```
    /// use trialog_stats::CoMoments;
    /// let pairs: CoMoments = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)].into_iter().collect();
    /// assert_eq!(pairs.x().mean(), Some(2.0));
    /// ```
    #[must_use]
    pub const fn x(&self) -> &Moments {
        &self.x
    }

    /// Returns the moments of the second variable.
    ///
    /// ```
    /// use trialog_stats::CoMoments;
    /// let pairs: CoMoments = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)].into_iter().collect();
    /// assert_eq!(pairs.y().mean(), Some(4.0));
    /// ```
    #[must_use]
    pub const fn y(&self) -> &Moments {
        &self.y
    }

    /// Returns the sum of the products of deviations; `None` without pairs.
    ///
    /// ```
    /// use trialog_stats::CoMoments;
    /// let pairs: CoMoments = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)].into_iter().collect();
    /// assert_eq!(pairs.c(), Some(4.0));
    /// ```
    #[must_use]
    pub fn c(&self) -> Option<f64> {
        (self.x.n > 0).then(|| self.c.total())
    }

    /// Returns the sample covariance (divisor n - 1); `None` for fewer than two pairs.
    ///
    /// ```
    /// use trialog_stats::CoMoments;
    /// let pairs: CoMoments = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)].into_iter().collect();
    /// assert_eq!(pairs.covariance(), Some(2.0));
    /// ```
    #[must_use]
    pub fn covariance(&self) -> Option<f64> {
        (self.x.n >= 2).then(|| self.c.total() / (self.x.n - 1) as f64)
    }
}

impl FromIterator<(f64, f64)> for CoMoments {
    fn from_iter<I: IntoIterator<Item = (f64, f64)>>(pairs: I) -> Self {
        let mut moments = Self::default();
        pairs.into_iter().for_each(|(x, y)| moments.push(x, y));
        moments
    }
}
