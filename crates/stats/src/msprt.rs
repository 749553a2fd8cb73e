//! Computes the mixture sequential probability ratio test: always-valid inference.

use crate::{Alpha, Estimate, Interval, StatsError, Summary};

/// The result of the mixture test for two arms at one look.
///
/// Valid at every look at once, whenever the experiment is stopped.
///
/// ```
/// use trialog_stats::{Alpha, Summary, msprt};
/// let a = Summary::new(1000, 10.0, Some(4.0))?;
/// let b = Summary::new(1000, 10.5, Some(4.0))?;
/// let test = msprt(&a, &b, 0.05, 0.0)?;
/// assert!(test.p_value.is_some_and(|p| p < 0.001));
/// assert!(test.interval(Alpha::P05).is_some_and(|ci| ci.low > 0.0));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Msprt {
    /// `mean_b - mean_a`, in the metric's unit.
    pub difference: f64,
    /// Its squared standard error; `None` when an arm has a single unit.
    pub variance_of_difference: Option<f64>,
    /// Logarithm of the mixture likelihood ratio; `None` when the variance is
    /// undefined or 0.
    pub log_lambda: Option<f64>,
    /// min(1, 1 / lambda), 0 to 1; `None` as for `log_lambda`.
    pub p_value: Option<f64>,
    tau2: f64,
}

/// Returns the mixture sequential test of `mean_b - mean_a` against `theta0`.
///
/// `tau2` is the variance of the normal mixture over the difference of means, in the
/// square of the metric's unit; it has to be fixed before the data are seen, and
/// the test is sharpest for effects of about its root.
/// ln lambda = ln(V/(V+tau2))/2 + tau2 D²/(2 V (V+tau2)).
/// Johari, Pekelis & Walsh (2015, 2022); Howard, Ramdas, `McAuliffe` & Sekhon (2021).
///
/// # Errors
///
/// [`StatsError::Range`] for a `tau2` outside 1e-300 to 1e300 or a `theta0` beyond 1e150.
///
/// ```
/// use trialog_stats::{Summary, msprt};
/// let flat = Summary::new(100, 1.0, Some(0.0))?;
/// assert_eq!(msprt(&flat, &flat, 0.01, 0.0)?.p_value, None);
/// assert!(msprt(&flat, &flat, 0.0, 0.0).is_err());
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn msprt(a: &Summary, b: &Summary, tau2: f64, theta0: f64) -> Result<Msprt, StatsError> {
    let variance = a.estimate().zip(b.estimate());
    let variance = variance.map(|(a, b)| a.variance + b.variance);
    Msprt::at(b.mean() - a.mean(), variance, tau2, theta0)
}

fn log_lambda(deviation: f64, variance: f64, tau2: f64) -> f64 {
    let z = deviation / variance.sqrt();
    let share = tau2 / (variance + tau2);
    // Beyond any double the evidence is as good as the largest one.
    (0.5 * (z * z * share - libm::log1p(tau2 / variance))).min(f64::MAX)
}

impl Msprt {
    /// Returns the test of a difference of any kind whose squared standard error is known;
    /// otherwise as [`msprt`].
    ///
    /// # Errors
    ///
    /// Those of [`msprt`].
    ///
    /// ```
    /// use trialog_stats::{Estimate, Msprt};
    /// let difference = Estimate { value: 0.5, variance: 0.008 };
    /// assert!(Msprt::from_difference(&difference, 0.05, 0.0)?.p_value.is_some_and(|p| p < 0.001));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn from_difference(
        difference: &Estimate,
        tau2: f64,
        theta0: f64,
    ) -> Result<Self, StatsError> {
        Self::at(difference.value, Some(difference.variance), tau2, theta0)
    }

    fn at(
        difference: f64,
        variance: Option<f64>,
        tau2: f64,
        theta0: f64,
    ) -> Result<Self, StatsError> {
        let range = |argument, range, value| StatsError::Range {
            argument,
            range,
            value,
        };
        if !(1e-300..=1e300).contains(&tau2) {
            return Err(range("tau2", "from 1e-300 to 1e300", tau2));
        }
        if !(-1e150..=1e150).contains(&theta0) {
            return Err(range("theta0", "between -1e150 and 1e150", theta0));
        }
        let log_lambda = (variance.filter(|variance| *variance > 0.0))
            .map(|variance| log_lambda(difference - theta0, variance, tau2));
        Ok(Self {
            difference,
            variance_of_difference: variance,
            log_lambda,
            p_value: log_lambda.map(|log_lambda| (-log_lambda).exp().min(1.0)),
            tau2,
        })
    }

    /// Returns the variance of the mixture.
    ///
    /// ```
    /// use trialog_stats::{Estimate, Msprt};
    /// let test = Msprt::from_difference(&Estimate { value: 0.5, variance: 0.01 }, 0.05, 0.0)?;
    /// assert_eq!(test.mixing_variance(), 0.05);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn mixing_variance(&self) -> f64 {
        self.tau2
    }

    /// Returns half the width of the interval at `alpha`, in the metric's unit.
    ///
    /// √(V (V+tau2)/tau2 (ln((V+tau2)/V) - 2 ln alpha)). `None` when there is no test.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Estimate, Msprt};
    /// let test = Msprt::from_difference(&Estimate { value: 0.5, variance: 0.01 }, 0.05, 0.0)?;
    /// assert!(test.half_width(Alpha::P05).is_some_and(|half_width| half_width > 1.96 * 0.1));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn half_width(&self, alpha: Alpha) -> Option<f64> {
        let variance = self
            .variance_of_difference
            .filter(|variance| *variance > 0.0)?;
        let spread = libm::log1p(self.tau2 / variance) - 2.0 * alpha.get().ln();
        let width = variance.sqrt() * ((variance / self.tau2 + 1.0) * spread).sqrt();
        width.is_finite().then_some(width)
    }

    /// Returns the always-valid interval of the difference, in the metric's unit.
    ///
    /// It excludes `theta0` exactly when the p-value is below `alpha`. `None` when
    /// there is no test.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Estimate, Msprt};
    /// let test = Msprt::from_difference(&Estimate { value: 0.5, variance: 0.01 }, 0.05, 0.0)?;
    /// assert!(test.interval(Alpha::P05).is_some_and(|interval| interval.contains(0.5)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        Interval::around(self.difference, self.half_width(alpha)?)
    }
}

/// The strongest result of the looks so far.
///
/// ```
/// use trialog_stats::{Interval, Running};
/// let mut running = Running::default();
/// running.look(Some(0.2), Some(Interval { low: -1.0, high: 3.0 }));
/// running.look(Some(0.5), Some(Interval { low: -2.0, high: 2.0 }));
/// assert_eq!(running.p_value, 0.2);
/// assert_eq!(running.interval(), Some(Interval { low: -1.0, high: 2.0 }));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// The smallest p-value so far; 1 before the first look.
    pub p_value: f64,
    low: f64,
    high: f64,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            p_value: 1.0,
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        }
    }
}

impl Running {
    /// Adds a look. A p-value or an interval that is `None` changes nothing.
    ///
    /// ```
    /// let mut running = trialog_stats::Running::default();
    /// running.look(Some(0.03), None);
    /// running.look(Some(0.2), None);
    /// assert_eq!(running.p_value, 0.03);
    /// ```
    pub fn look(&mut self, p_value: Option<f64>, interval: Option<Interval>) {
        if let Some(p_value) = p_value {
            self.p_value = self.p_value.min(p_value);
        }
        if let Some(Interval { low, high }) = interval {
            self.low = self.low.max(low);
            self.high = self.high.min(high);
        }
    }

    /// Returns the intersection of the intervals so far; `None` if it is empty or no look had one.
    ///
    /// ```
    /// use trialog_stats::{Interval, Running};
    /// let mut running = Running::default();
    /// running.look(None, Some(Interval { low: 0.0, high: 2.0 }));
    /// running.look(None, Some(Interval { low: 1.0, high: 3.0 }));
    /// assert_eq!(running.interval(), Some(Interval { low: 1.0, high: 2.0 }));
    /// ```
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        let Self { low, high, .. } = *self;
        (low <= high && low.is_finite() && high.is_finite()).then_some(Interval { low, high })
    }
}
