//! Computes the guarded variance of a difference, for looks at any time and arms of any sizes.

use crate::Summary;

/// The ratio of the variances together and separate above which a difference is sparse.
const SPARSE: f64 = 1.5;

/// The variance of a difference of means, from each arm alone and from both together.
///
/// A small arm that has missed the rare events has almost no variance, so
/// that a sequential test by it calls every such look significant. The larger of the
/// two variances keeps the level.
///
/// ```
/// use trialog_stats::{GuardedVariance, Summary};
/// let a = Summary::new(540, 0.05, Some(0.047_588))?;
/// let nobody = Summary::new(60, 0.0, Some(0.0))?;
/// let guarded = GuardedVariance::between(&a, &nobody).ok_or("two units")?;
/// assert!(guarded.is_sparse() && guarded.value() > 9.0 * guarded.separate);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardedVariance {
    /// `var_a / n_a + var_b / n_b`, in the square of the metric's unit.
    pub separate: f64,
    /// The part of `together` that lies within the arms: what it would be if their means
    /// were the same.
    pub within: f64,
    /// `s² (1 / n_a + 1 / n_b)`, s² being the variance of both arms as one sample.
    pub together: f64,
}

impl GuardedVariance {
    /// Returns the variance of `mean_b - mean_a`; `None` where an arm has a single unit.
    ///
    /// `s² = ((n_a - 1) var_a + (n_b - 1) var_b + n_a n_b / (n_a + n_b) diff²) / (n_a + n_b - 1)`.
    ///
    /// ```
    /// use trialog_stats::{GuardedVariance, Summary};
    /// let arm = Summary::new(10, 1.0, Some(4.0))?;
    /// assert_eq!(GuardedVariance::between(&arm, &arm).map(|guarded| guarded.separate), Some(0.8));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn between(a: &Summary, b: &Summary) -> Option<Self> {
        Self::with_difference(a, b, b.mean() - a.mean())
    }

    /// Computes the same as [`Self::between`] for a caller that knows the `difference` with more
    /// digits.
    pub(crate) fn with_difference(a: &Summary, b: &Summary, difference: f64) -> Option<Self> {
        let (var_a, var_b) = (a.variance()?, b.variance()?);
        let (n_a, n_b) = (a.n() as f64, b.n() as f64);
        let (n, less_1) = (n_a + n_b, n_a + n_b - 1.0);
        let within = (n_a - 1.0) / less_1 * var_a + (n_b - 1.0) / less_1 * var_b;
        let between = n_a / n * (n_b / less_1) * difference * difference;
        let each = 1.0 / n_a + 1.0 / n_b;
        Some(Self {
            separate: var_a / n_a + var_b / n_b,
            within: within * each,
            together: (within + between) * each,
        })
    }

    /// Returns the larger of `separate` and `together`.
    ///
    /// ```
    /// use trialog_stats::GuardedVariance;
    /// assert_eq!(GuardedVariance { separate: 1.0, within: 1.1, together: 1.2 }.value(), 1.2);
    /// ```
    #[must_use]
    pub const fn value(&self) -> f64 {
        self.separate.max(self.together)
    }

    /// Returns whether `together` exceeds 1.5 times `separate`, because an arm has missed the rare
    /// values or because the arms are far apart.
    ///
    /// ```
    /// use trialog_stats::GuardedVariance;
    /// assert!(!GuardedVariance { separate: 1.0, within: 1.0, together: 1.5 }.is_sparse());
    /// ```
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.together > SPARSE * self.separate
    }

    /// Returns whether `within` exceeds 1.5 times `separate`: an arm has missed the rare values,
    /// and tests that use the variance of each arm, as Welch's does, are unreliable. A large
    /// difference alone does not have this effect.
    ///
    /// ```
    /// use trialog_stats::{GuardedVariance, Summary};
    /// let (low, high) = (Summary::new(50, 0.0, Some(1.0))?, Summary::new(50, 9.0, Some(1.0))?);
    /// let apart = GuardedVariance::between(&low, &high).ok_or("two units")?;
    /// assert!(apart.is_sparse() && !apart.has_sparse_arm());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn has_sparse_arm(&self) -> bool {
        self.within > SPARSE * self.separate
    }
}
