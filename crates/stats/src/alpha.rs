//! Defines the two-sided level of a test or an interval.

use crate::StatsError;

/// A two-sided level strictly between 0 and 1: 0.05 means a 95 % interval.
///
/// Checked once, here, so that no estimator has to.
///
/// ```
/// use trialog_stats::Alpha;
/// assert_eq!(Alpha::new(0.05)?, Alpha::P05);
/// assert!(Alpha::new(5.0).is_err());
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Alpha(f64);

impl Alpha {
    /// 0.05: the 95 % interval.
    ///
    /// ```
    /// assert!((trialog_stats::Alpha::P05.get() - 0.05).abs() < 1e-15);
    /// ```
    pub const P05: Self = Self(0.05);

    /// Returns `alpha` as a level.
    ///
    /// # Errors
    ///
    /// [`StatsError::Alpha`] unless `alpha` lies between 0 and 1, both excluded
    /// (as are the subnormal numbers next to 0, whose half would lose its digits).
    ///
    /// ```
    /// assert!(trialog_stats::Alpha::new(0.0).is_err());
    /// ```
    pub fn new(alpha: f64) -> Result<Self, StatsError> {
        if (f64::MIN_POSITIVE..1.0).contains(&alpha) {
            Ok(Self(alpha))
        } else {
            Err(StatsError::Alpha(alpha))
        }
    }

    /// Returns the level as a fraction.
    ///
    /// ```
    /// # use trialog_stats::Alpha;
    /// assert!(Alpha::new(0.1)?.get() > Alpha::P05.get());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}
