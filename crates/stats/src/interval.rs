//! Defines the confidence interval.

/// A closed confidence interval, in the unit of what it estimates.
///
/// ```
/// use trialog_stats::{Alpha, Proportion};
/// let rate = Proportion::new(9, 10)?.wilson(Alpha::P05);
/// assert!(rate.low < 0.9 && rate.high > 0.9);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Returns whether `value` lies within, ends included.
    ///
    /// ```
    /// use trialog_stats::Interval;
    /// assert!(Interval { low: -0.5, high: 1.0 }.contains(0.0));
    /// assert!(!Interval { low: 0.5, high: 1.0 }.contains(0.0));
    /// ```
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Returns `centre -+ half_width`; `None` if an end leaves the range of a double.
    pub(crate) fn around(centre: f64, half_width: f64) -> Option<Self> {
        let (low, high) = (centre - half_width, centre + half_width);
        (low.is_finite() && high.is_finite()).then_some(Self { low, high })
    }
}
