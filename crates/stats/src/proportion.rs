//! Summarises one arm of a rate: conversions among units.

use crate::{Alpha, Estimate, Interval, StatsError, special};

/// Conversions among the units of one arm.
///
/// ```
/// use trialog_stats::Proportion;
/// let arm = Proportion::new(56, 70)?;
/// assert_eq!((arm.conversions(), arm.n(), arm.rate()), (56, 70, 0.8));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proportion {
    conversions: u64,
    n: u64,
}

impl Proportion {
    /// Returns the arm with `conversions` among `n` units.
    ///
    /// # Errors
    ///
    /// [`StatsError::NoUnits`] or [`StatsError::ConversionsExceedUnits`].
    ///
    /// ```
    /// assert!(trialog_stats::Proportion::new(0, 0).is_err());
    /// ```
    pub fn new(conversions: u64, n: u64) -> Result<Self, StatsError> {
        if n == 0 {
            return Err(StatsError::NoUnits);
        }
        if conversions > n {
            return Err(StatsError::ConversionsExceedUnits { conversions, n });
        }
        Ok(Self { conversions, n })
    }

    /// Returns the number of units that converted.
    ///
    /// ```
    /// # use trialog_stats::Proportion;
    /// assert_eq!(Proportion::new(3, 10)?.conversions(), 3);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn conversions(&self) -> u64 {
        self.conversions
    }

    /// Returns the number of units, at least 1.
    ///
    /// ```
    /// # use trialog_stats::Proportion;
    /// assert_eq!(Proportion::new(3, 10)?.n(), 10);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Returns conversions / n, 0 to 1.
    ///
    /// ```
    /// # use trialog_stats::Proportion;
    /// assert_eq!(Proportion::new(3, 10)?.rate(), 0.3);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.conversions as f64 / self.n as f64
    }

    /// Returns the rate with its squared standard error p (1 - p) / n.
    ///
    /// ```
    /// # use trialog_stats::Proportion;
    /// assert_eq!(Proportion::new(10, 10)?.estimate().variance, 0.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        Estimate {
            value: self.rate(),
            variance: self.rate() * self.others().rate() / self.n as f64,
        }
    }

    /// Returns Wilson's score interval of the rate, within 0 to 1.
    ///
    /// Wilson (1927), no continuity correction. Defined for every arm, also when
    /// none or all of the units converted.
    ///
    /// ```
    /// # use trialog_stats::{Alpha, Proportion};
    /// let none = Proportion::new(0, 50)?.wilson(Alpha::P05);
    /// assert!(none.low == 0.0 && (none.high - 0.0713).abs() < 1e-4);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn wilson(&self, alpha: Alpha) -> Interval {
        let z = special::normal_critical(alpha);
        if self.conversions <= self.n / 2 {
            return self.wilson_of_minority(z);
        }
        let others = self.others().wilson_of_minority(z);
        Interval {
            low: 1.0 - others.high,
            high: 1.0 - others.low,
        }
    }

    /// Counts the units that did not convert.
    pub(crate) const fn others(&self) -> Self {
        Self {
            conversions: self.n - self.conversions,
            n: self.n,
        }
    }

    /// Both roots of Wilson's quadratic for a rate of at most one half. The smaller
    /// comes from their product: centre minus half width would cancel.
    fn wilson_of_minority(&self, z: f64) -> Interval {
        let n = self.n as f64;
        let k = self.conversions as f64;
        let root = z * (z * z + 4.0 * k * self.others().rate()).sqrt();
        let sum = 2.0 * k + z * z + root;
        Interval {
            low: 2.0 * k * self.rate() / sum,
            high: sum / (2.0 * (n + z * z)),
        }
    }
}
