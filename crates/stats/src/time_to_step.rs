//! How long users take to reach a step.

mod scan;

pub use scan::{ReachedDifference, StepTimes, StepTimesScan, StepUserCounts};

use crate::quantile::order_statistics;
use crate::special::normal_critical;
use crate::{Alpha, Interval, StatsError, quantile_of_sorted};

/// What a share may fall short of a level and still count as reaching it: shares are sums
/// of rounded numbers.
const SLACK: f64 = 1e-9;

/// Summarises how long the users of one variant took from the exposure to a step.
///
/// Users whose window is open are censored: they have not been seen for long enough. The
/// [`median`](Self::median) leaves them out, the curve takes them in as long as they were
/// seen.
///
/// ```
/// use trialog_stats::{Alpha, TimeToStep};
/// // Hours to the step and hours of observation, in a window of 10.
/// let users = [(Some(1.0), 10.0), (Some(2.0), 10.0), (None, 3.0), (Some(4.0), 5.0), (None, 10.0)];
/// let times = TimeToStep::from_users(users, 10.0)?;
/// assert_eq!((times.mature(), times.median()), (3, Some(1.5)));
/// assert!((times.at(4.0).reached - 0.7).abs() < 1e-12);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TimeToStep {
    /// Each user's time, else the end of the observation, in order.
    ends: Vec<f64>,
    /// The times of mature users, in order.
    mature_times: Vec<f64>,
    n_reached: usize,
    n_mature: u64,
    /// The curve after each time at which somebody reached the step, in order.
    curve: Vec<Survival>,
}

/// The share of users who have not reached the step, from one time on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Survival {
    time: f64,
    /// ln S; minus infinity where all have reached it.
    ln: f64,
    /// Greenwood's sum: the squared error of ln S.
    variance: f64,
}

/// Estimates the share of users who have reached the step by a time.
///
/// ```
/// use trialog_stats::{Alpha, TimeToStep};
/// let times = TimeToStep::from_users([(Some(1.0), 9.0), (None, 9.0), (None, 9.0)], 9.0)?;
/// let point = times.at(5.0);
/// assert!(point.interval(Alpha::P05).is_some_and(|interval| interval.contains(point.reached)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReachedBy {
    /// The share, 0 to 1, the users who reach the step at that very time included.
    pub reached: f64,
    /// Its standard error after Greenwood (1926); `None` where all have reached the step.
    pub standard_error: Option<f64>,
    /// Users with a time or an end of observation that is not before it.
    pub at_risk: u64,
    survival: Survival,
}

/// Estimates the time by which a share of the users has reached the step.
///
/// ```
/// use trialog_stats::{Alpha, TimeToStep};
/// let users = (1..=9).map(|user| (Some(f64::from(user)), 20.0));
/// let half = TimeToStep::from_users(users, 20.0)?.quantile(0.5, Alpha::P05)?;
/// assert_eq!((half.time, half.low, half.high), (Some(5.0), Some(1.0), Some(8.0)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepQuantile {
    /// The first time by which the share is reached; `None` if it never is.
    pub time: Option<f64>,
    /// The first time at which the upper end of the share's interval reaches it.
    pub low: Option<f64>,
    /// The first time at which the lower end does.
    pub high: Option<f64>,
}

impl TimeToStep {
    /// Returns the summary of `users`: the time from the exposure to the step, if it was
    /// reached, and how long the user was observed. All in the unit of the `window`.
    ///
    /// An observation ends with the window at the latest. A time counts if it is before
    /// the end of the observation; a user censored at a time is at risk at it.
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] unless the window and observations are above 0, times 0 or
    /// above, and all at most 1e140.
    ///
    /// ```
    /// use trialog_stats::TimeToStep;
    /// assert_eq!(TimeToStep::from_users([(Some(5.0), 5.0)], 10.0)?.reached(), 0);
    /// assert!(TimeToStep::from_users([(Some(-1.0), 5.0)], 10.0).is_err());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn from_users(
        users: impl IntoIterator<Item = (Option<f64>, f64)>,
        window: f64,
    ) -> Result<Self, StatsError> {
        check_positive("window", window)?;
        let (mut ends, mut times, mut mature_times) = (Vec::new(), Vec::new(), Vec::new());
        let mut n_mature = 0;
        for (time, observed) in users {
            check_positive("observed", observed)?;
            if let Some(value) = time.filter(|time| !(0.0..=1e140).contains(time)) {
                return Err(StatsError::Range {
                    argument: "times",
                    range: "from 0 to 1e140",
                    value,
                });
            }
            let time = time.filter(|time| *time < observed.min(window));
            ends.push(time.unwrap_or(observed.min(window)));
            times.extend(time);
            if observed >= window {
                n_mature += 1;
                mature_times.extend(time);
            }
        }
        for values in [&mut ends, &mut times, &mut mature_times] {
            values.sort_unstable_by(f64::total_cmp);
        }
        Ok(Self {
            curve: kaplan_meier(&ends, &times),
            ends,
            mature_times,
            n_reached: times.len(),
            n_mature,
        })
    }

    /// Returns how many users there are.
    ///
    /// ```
    /// let times = trialog_stats::TimeToStep::from_users([(None, 5.0)], 10.0)?;
    /// assert_eq!(times.users(), 1);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn users(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Returns how many users were seen to reach the step.
    ///
    /// ```
    /// let times = trialog_stats::TimeToStep::from_users([(Some(2.0), 5.0)], 10.0)?;
    /// assert_eq!(times.reached(), 1);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn reached(&self) -> u64 {
        self.n_reached as u64
    }

    /// Returns how many users were observed for the whole window.
    ///
    /// ```
    /// let times = trialog_stats::TimeToStep::from_users([(None, 5.0), (None, 10.0)], 10.0)?;
    /// assert_eq!(times.mature(), 1);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn mature(&self) -> u64 {
        self.n_mature
    }

    /// Returns how many of the mature users reached the step.
    ///
    /// ```
    /// let times = trialog_stats::TimeToStep::from_users([(Some(2.0), 10.0)], 10.0)?;
    /// assert_eq!(times.mature_reached(), 1);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn mature_reached(&self) -> u64 {
        self.mature_times.len() as u64
    }

    /// Returns the median time of the mature users who reached the step, by linear
    /// interpolation (type 7 of Hyndman & Fan 1996); `None` without any.
    ///
    /// Nothing is censored and nothing assumed. Descriptive: those who reached the step
    /// were not randomised, so medians of variants cannot be compared.
    ///
    /// ```
    /// let users = [(Some(2.0), 10.0), (Some(3.0), 10.0), (Some(1.0), 5.0)];
    /// assert_eq!(trialog_stats::TimeToStep::from_users(users, 10.0)?.median(), Some(2.5));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        quantile_of_sorted(&self.mature_times, 0.5)
    }

    /// Returns the exact interval of [`median`](Self::median) between two of the times;
    /// an end is `None` where no time is far enough out.
    ///
    /// Low is the time of the largest rank l with P(Bin(n, ½) <= l - 1) <= alpha/2, high
    /// that of the smallest rank u with P(Bin(n, ½) >= u) <= alpha/2 (David & Nagaraja
    /// 2003, section 7.1).
    ///
    /// ```
    /// use trialog_stats::{Alpha, TimeToStep};
    /// let users = (1..=6).map(|user| (Some(f64::from(user)), 10.0));
    /// let times = TimeToStep::from_users(users, 10.0)?;
    /// assert_eq!(times.median_interval(Alpha::P05), (Some(1.0), Some(6.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn median_interval(&self, alpha: Alpha) -> (Option<f64>, Option<f64>) {
        order_statistics(&self.mature_times, 0.5, alpha.get() / 2.0)
    }

    /// Returns the share of all users who have reached the step by `time`.
    ///
    /// Kaplan & Meier (1958). Variants are compared by it at a time that was chosen before.
    ///
    /// ```
    /// use trialog_stats::TimeToStep;
    /// let times = TimeToStep::from_users([(None, 3.0), (Some(3.0), 9.0), (None, 9.0)], 9.0)?;
    /// assert_eq!((times.at(3.0).at_risk, times.at(3.1).at_risk), (3, 1));
    /// assert!((times.at(3.0).reached - 1.0 / 3.0).abs() < 1e-15);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn at(&self, time: f64) -> ReachedBy {
        let n_before = self.ends.partition_point(|end| *end < time);
        let n_points = self.curve.partition_point(|point| point.time <= time);
        let last = n_points
            .checked_sub(1)
            .and_then(|last| self.curve.get(last));
        let survival = last.copied().unwrap_or(Survival::START);
        ReachedBy::new(survival, (self.ends.len() - n_before) as u64)
    }

    /// Returns the time by which the share `level` of all users has reached the step, with
    /// its interval.
    ///
    /// The ends are those times at which the interval of the share reaches the level
    /// (Brookmeyer & Crowley 1982).
    ///
    /// # Errors
    ///
    /// [`StatsError::Probability`] unless the level is between 0 and 1, both excluded.
    ///
    /// ```
    /// use trialog_stats::{Alpha, TimeToStep};
    /// let times = TimeToStep::from_users([(Some(4.0), 9.0), (None, 9.0), (None, 9.0)], 9.0)?;
    /// assert_eq!(times.quantile(0.3, Alpha::P05)?.time, Some(4.0));
    /// assert_eq!(times.quantile(0.5, Alpha::P05)?.time, None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn quantile(&self, level: f64, alpha: Alpha) -> Result<StepQuantile, StatsError> {
        if !(level > 0.0 && level < 1.0) {
            return Err(StatsError::Probability(level));
        }
        let (enough, z) = (level - SLACK, normal_critical(alpha));
        let mut found = StepQuantile {
            time: None,
            low: None,
            high: None,
        };
        for point in &self.curve {
            if point.reached() >= enough {
                found.time = found.time.or(Some(point.time));
            }
            if let Some(interval) = point.interval(z) {
                if interval.high >= enough {
                    found.low = found.low.or(Some(point.time));
                }
                if interval.low >= enough {
                    found.high = found.high.or(Some(point.time));
                    break;
                }
            }
        }
        Ok(found)
    }
}

impl ReachedBy {
    fn new(survival: Survival, at_risk: u64) -> Self {
        Self {
            reached: survival.reached(),
            standard_error: survival.standard_error(),
            at_risk,
            survival,
        }
    }

    /// Returns the interval of the share, within 0 to 1, normal on the scale of
    /// ln(-ln S); `None` where none or all have reached the step.
    ///
    /// Kalbfleisch & Prentice (1980).
    ///
    /// ```
    /// use trialog_stats::{Alpha, TimeToStep};
    /// let times = TimeToStep::from_users([(Some(4.0), 9.0), (None, 9.0), (None, 9.0)], 9.0)?;
    /// assert_eq!(times.at(3.0).interval(Alpha::P05), None);
    /// assert!(times.at(4.0).interval(Alpha::P05).is_some_and(|interval| interval.low > 0.05));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        self.survival.interval(normal_critical(alpha))
    }
}

impl Survival {
    /// Nobody has reached the step.
    const START: Self = Self {
        time: 0.0,
        ln: 0.0,
        variance: 0.0,
    };

    /// The curve after `n_events` of `at_risk` users reached the step at `time`.
    fn after(self, time: f64, at_risk: u64, n_events: u64) -> Self {
        if n_events == 0 {
            return self;
        }
        let (n, events) = (at_risk as f64, n_events as f64);
        Self {
            time,
            ln: self.ln + libm::log1p(-events / n),
            variance: self.variance + events / (n * (n - events)),
        }
    }

    fn reached(&self) -> f64 {
        -libm::expm1(self.ln)
    }

    fn standard_error(&self) -> Option<f64> {
        let error = self.ln.exp() * self.variance.sqrt();
        error.is_finite().then_some(error)
    }

    fn interval(&self, z: f64) -> Option<Interval> {
        if self.ln >= 0.0 || self.ln.is_infinite() {
            return None;
        }
        let spread = (z * self.variance.sqrt() / -self.ln).exp();
        let share = |power: f64| -libm::expm1(self.ln * power);
        Some(Interval {
            low: share(1.0 / spread),
            high: share(spread),
        })
    }
}

/// The curve at each of the `times` at which somebody reached the step; both in order.
fn kaplan_meier(ends: &[f64], times: &[f64]) -> Vec<Survival> {
    let (mut survival, mut n_before) = (Survival::START, 0);
    let same_time = times.chunk_by(|time, next| time.total_cmp(next).is_eq());
    let points = same_time.map(|at_once| {
        let time = at_once[0];
        n_before += ends[n_before..].partition_point(|end| *end < time);
        let at_risk = (ends.len() - n_before) as u64;
        survival = survival.after(time, at_risk, at_once.len() as u64);
        survival
    });
    points.collect()
}

fn check_positive(argument: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value <= 1e140 {
        return Ok(());
    }
    Err(StatsError::Range {
        argument,
        range: "above 0 and at most 1e140",
        value,
    })
}
