//! Implements Wald's sequential probability ratio test of a rate.

use crate::StatsError;

/// The outcome of Wald's test.
///
/// ```
/// use trialog_stats::{Decision, Sprt};
/// let test = Sprt::new(0.1, 0.2, 0.05, 0.2)?;
/// assert_eq!(test.decide(0.0), Decision::Continue);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The evidence for `p1` is enough.
    RejectH0,
    /// The evidence for `p0` is enough.
    AcceptH0,
    /// Neither: look at more units.
    Continue,
}

impl Decision {
    /// Returns the word used in JSON.
    ///
    /// ```
    /// assert_eq!(trialog_stats::Decision::RejectH0.as_str(), "reject_h0");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RejectH0 => "reject_h0",
            Self::AcceptH0 => "accept_h0",
            Self::Continue => "continue",
        }
    }
}

/// Wald's test of the rate `p0` against `p1`, with its limits.
///
/// Wald (1945, 1947). The log-likelihood ratio of k successes among n units is
/// `k * llr_per_success + (n - k) * llr_per_failure`.
///
/// ```
/// use trialog_stats::{Decision, Sprt};
/// let test = Sprt::new(0.1, 0.2, 0.05, 0.2)?;
/// assert_eq!(test.decide(test.llr(30, 100)), Decision::RejectH0);
/// assert_eq!(test.decide(test.llr(1, 5)), Decision::Continue);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sprt {
    /// `p0` is rejected from here on: ln((1 - beta) / alpha).
    pub upper_llr: f64,
    /// `p0` is accepted up to here: ln(beta / (1 - alpha)).
    pub lower_llr: f64,
    /// ln(p1 / p0).
    pub llr_per_success: f64,
    /// ln((1 - p1) / (1 - p0)).
    pub llr_per_failure: f64,
}

impl Sprt {
    /// Returns the test with error rates `alpha` (of rejecting `p0`) and `beta` (of
    /// accepting it when `p1` is true).
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] unless all four are at least 1e-300 and below 1, `p0` and `p1`
    /// differ, and alpha + beta is below 1.
    ///
    /// ```
    /// assert!(trialog_stats::Sprt::new(0.1, 0.1, 0.05, 0.2).is_err());
    /// ```
    pub fn new(p0: f64, p1: f64, alpha: f64, beta: f64) -> Result<Self, StatsError> {
        let arguments = [("p0", p0), ("p1", p1), ("alpha", alpha), ("beta", beta)];
        let refuse = |argument, range, value| {
            Err(StatsError::Range {
                argument,
                range,
                value,
            })
        };
        for (argument, value) in arguments {
            if !(1e-300..1.0).contains(&value) {
                return refuse(argument, "at least 1e-300 and below 1", value);
            }
        }
        if p0.total_cmp(&p1).is_eq() {
            return refuse("p1", "another rate than p0", p1);
        }
        if alpha + beta >= 1.0 {
            return refuse("beta", "such that alpha + beta is below 1", beta);
        }
        Ok(Self {
            upper_llr: ((1.0 - beta) / alpha).ln(),
            lower_llr: (beta / (1.0 - alpha)).ln(),
            llr_per_success: ln_ratio(p1, p0, p1 - p0),
            llr_per_failure: ln_ratio(1.0 - p1, 1.0 - p0, p0 - p1),
        })
    }

    /// Returns the log-likelihood ratio of `successes` among `n` units; more successes
    /// than units count as `n`.
    ///
    /// ```
    /// use trialog_stats::Sprt;
    /// let test = Sprt::new(0.1, 0.2, 0.05, 0.2)?;
    /// assert_eq!(test.llr(1, 1), test.llr_per_success);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn llr(&self, successes: u64, n: u64) -> f64 {
        let failures = n.saturating_sub(successes);
        successes.min(n) as f64 * self.llr_per_success + failures as f64 * self.llr_per_failure
    }

    /// Returns what a log-likelihood ratio decides.
    ///
    /// ```
    /// use trialog_stats::{Decision, Sprt};
    /// let test = Sprt::new(0.1, 0.2, 0.05, 0.2)?;
    /// assert_eq!(test.decide(test.upper_llr), Decision::RejectH0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn decide(&self, llr: f64) -> Decision {
        if llr >= self.upper_llr {
            Decision::RejectH0
        } else if llr <= self.lower_llr {
            Decision::AcceptH0
        } else {
            Decision::Continue
        }
    }

    /// Returns the first of `outcomes` after which the test ends (from 1), and the
    /// ratio there; what comes later is not looked at. The second is the ratio after
    /// all outcomes where the first is `None`.
    ///
    /// ```
    /// use trialog_stats::Sprt;
    /// let test = Sprt::new(0.1, 0.2, 0.05, 0.1)?;
    /// assert_eq!(test.follow(&[true; 9]).0, Some(5));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn follow(&self, outcomes: &[bool]) -> (Option<usize>, f64) {
        let mut successes = 0;
        for (index, outcome) in outcomes.iter().enumerate() {
            successes += u64::from(*outcome);
            let llr = self.llr(successes, index as u64 + 1);
            if self.decide(llr) != Decision::Continue {
                return (Some(index + 1), llr);
            }
        }
        (None, self.llr(successes, outcomes.len() as u64))
    }

    /// Returns the boundary lines in the plane of units and successes: their slope, and
    /// the intercepts of the upper and the lower limit.
    ///
    /// ```
    /// use trialog_stats::Sprt;
    /// let (slope, upper, lower) = Sprt::new(0.1, 0.2, 0.05, 0.2)?.lines();
    /// assert!(0.1 < slope && slope < 0.2 && lower < 0.0 && upper > 0.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn lines(&self) -> (f64, f64, f64) {
        let step = self.llr_per_success - self.llr_per_failure;
        (
            -self.llr_per_failure / step,
            self.upper_llr / step,
            self.lower_llr / step,
        )
    }
}

/// ln(new / old), of their difference where that is small: rates close to each other
/// keep their digits.
fn ln_ratio(new: f64, old: f64, difference: f64) -> f64 {
    let change = difference / old;
    if change.abs() < 0.5 {
        libm::log1p(change)
    } else {
        new.ln() - old.ln()
    }
}
