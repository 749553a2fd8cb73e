//! The summary of times that come in order, in memory that does not grow with the users.

use super::{ReachedBy, Survival};
use crate::quantile::order_statistic_ranks;
use crate::special::normal_two_sided_tail;
use crate::{Alpha, Interval, QuantileRank, StatsError, special::normal_critical};

/// Summarises how long the users of one variant took to a step, from their times in order.
///
/// The result is that of [`TimeToStep`](crate::TimeToStep). Users who were observed for the whole
/// window and did not reach the step are only counted.
///
/// ```
/// use trialog_stats::{Alpha, StepTimesScan, StepUserCounts};
/// // Times to the step 1, 2 and 4 (this one in an open window), open windows 3 and 5.
/// let counts = StepUserCounts { users: 5, mature: 3, mature_reached: 2 };
/// let mut scan = StepTimesScan::new(counts, &[4.0, 10.0], Alpha::P05)?;
/// scan.reach(1.0, true)?;
/// scan.reach(2.0, true)?;
/// scan.censor(3.0)?;
/// scan.reach(4.0, false)?;
/// let times = scan.finish();
/// assert_eq!((times.reached, times.median), (3, Some(1.5)));
/// assert!((times.points[0].reached - 0.7).abs() < 1e-12);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct StepTimesScan {
    counts: StepUserCounts,
    points: Vec<f64>,
    /// The points that are complete.
    found: Vec<ReachedBy>,
    median: Median,
    now: Moment,
    n_reached: u64,
    survival: Survival,
}

/// Counts the users of a variant before their times are scanned.
///
/// ```
/// let counts = trialog_stats::StepUserCounts { users: 9, mature: 5, mature_reached: 2 };
/// assert!(counts.mature_reached <= counts.mature);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepUserCounts {
    /// All users.
    pub users: u64,
    /// Users who were observed for the whole window.
    pub mature: u64,
    /// How many of these reached the step.
    pub mature_reached: u64,
}

/// Has what a [`StepTimesScan`] found.
///
/// ```
/// use trialog_stats::{Alpha, StepTimesScan, StepUserCounts};
/// let nobody = StepTimesScan::new(StepUserCounts::default(), &[], Alpha::P05)?.finish();
/// assert_eq!((nobody.median, nobody.reached), (None, 0));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StepTimes {
    /// The counts that the scan began with.
    pub counts: StepUserCounts,
    /// Users who reached the step.
    pub reached: u64,
    /// The median time of the mature users who reached the step; `None` without any.
    pub median: Option<f64>,
    /// The exact interval of the median; an end is `None` where no time is far enough out.
    pub median_interval: (Option<f64>, Option<f64>),
    /// The share that reached the step by each of the times that were given.
    pub points: Vec<ReachedBy>,
}

/// The users at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    time: f64,
    at_risk: u64,
    n_reached: u64,
    n_censored: u64,
}

/// Picks the times at the ranks of a median and of its interval.
#[derive(Debug, Clone)]
struct Median {
    rank: Option<QuantileRank>,
    n_seen: u64,
    /// For each rank, from 0, the time once it has come.
    low: Picked,
    high: Picked,
    ends: [Picked; 2],
}

/// The time at a rank.
#[derive(Debug, Clone, Copy)]
struct Picked {
    rank: Option<u64>,
    time: Option<f64>,
}

impl Median {
    fn new(n: u64, alpha: Alpha) -> Self {
        let rank = QuantileRank::at_level(n, 0.5);
        let picked = |rank| Picked { rank, time: None };
        let (lower, upper) = order_statistic_ranks(n, 0.5, alpha.get() / 2.0);
        Self {
            n_seen: 0,
            low: picked(rank.map(|rank| rank.low)),
            high: picked(rank.map(|rank| rank.high)),
            ends: [picked(lower), picked(upper)],
            rank,
        }
    }

    fn push(&mut self, time: f64) {
        let [lower, upper] = &mut self.ends;
        for picked in [&mut self.low, &mut self.high, lower, upper] {
            if picked.rank == Some(self.n_seen) {
                picked.time = Some(time);
            }
        }
        self.n_seen += 1;
    }

    fn value(&self) -> Option<f64> {
        let (low, high) = (self.low.time?, self.high.time?);
        self.rank.map(|rank| rank.between(low, high))
    }
}

impl StepTimesScan {
    /// Begins with the users of a variant; `points` are the times at which the share is wanted,
    /// in order and within the window.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for points that are not in order, and for counts that do not fit each
    /// other.
    ///
    /// ```
    /// use trialog_stats::{Alpha, StepTimesScan, StepUserCounts};
    /// assert!(StepTimesScan::new(StepUserCounts::default(), &[2.0, 1.0], Alpha::P05).is_err());
    /// ```
    pub fn new(counts: StepUserCounts, points: &[f64], alpha: Alpha) -> Result<Self, StatsError> {
        if counts.mature > counts.users || counts.mature_reached > counts.mature {
            return Err(StatsError::List {
                argument: "counts",
                rule: "must not exceed the users",
            });
        }
        if !points.is_sorted()
            || points
                .iter()
                .any(|point| !(0.0..f64::INFINITY).contains(point))
        {
            return Err(StatsError::List {
                argument: "points",
                rule: "must be in order, from 0 on",
            });
        }
        Ok(Self {
            counts,
            points: points.to_vec(),
            found: Vec::with_capacity(points.len()),
            median: Median::new(counts.mature_reached, alpha),
            now: Moment {
                at_risk: counts.users,
                ..Moment::default()
            },
            n_reached: 0,
            survival: Survival::START,
        })
    }

    /// Takes a user who reached the step at `time`, and whether the user was observed for the
    /// whole window.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for a time before the last one, or one more user than there are.
    ///
    /// ```
    /// use trialog_stats::{Alpha, StepTimesScan, StepUserCounts};
    /// let counts = StepUserCounts { users: 2, mature: 0, mature_reached: 0 };
    /// let mut scan = StepTimesScan::new(counts, &[], Alpha::P05)?;
    /// scan.reach(3.0, false)?;
    /// assert!(scan.reach(2.0, false).is_err());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn reach(&mut self, time: f64, is_mature: bool) -> Result<(), StatsError> {
        self.move_to(time)?;
        self.now.n_reached += 1;
        self.n_reached += 1;
        if is_mature {
            self.median.push(time);
        }
        Ok(())
    }

    /// Takes a user whose observation ended at `time`, before the window did, without the step.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for a time before the last one, or one more user than there are.
    ///
    /// ```
    /// use trialog_stats::{Alpha, StepTimesScan, StepUserCounts};
    /// let counts = StepUserCounts { users: 1, mature: 0, mature_reached: 0 };
    /// let mut scan = StepTimesScan::new(counts, &[5.0], Alpha::P05)?;
    /// scan.censor(3.0)?;
    /// assert!(scan.censor(4.0).is_err());
    /// assert_eq!(scan.finish().points[0].at_risk, 0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn censor(&mut self, time: f64) -> Result<(), StatsError> {
        self.move_to(time)?;
        self.now.n_censored += 1;
        Ok(())
    }

    /// Returns what was found.
    ///
    /// ```
    /// use trialog_stats::{Alpha, StepTimesScan, StepUserCounts};
    /// let counts = StepUserCounts { users: 4, mature: 4, mature_reached: 1 };
    /// let mut scan = StepTimesScan::new(counts, &[5.0], Alpha::P05)?;
    /// scan.reach(2.0, true)?;
    /// assert!((scan.finish().points[0].reached - 0.25).abs() < 1e-12);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn finish(mut self) -> StepTimes {
        self.find_points_before(f64::INFINITY);
        let [low, high] = self.median.ends;
        StepTimes {
            counts: self.counts,
            reached: self.n_reached,
            median: self.median.value(),
            median_interval: (low.time, high.time),
            points: self.found,
        }
    }

    fn move_to(&mut self, time: f64) -> Result<(), StatsError> {
        let refused = |rule| {
            Err(StatsError::List {
                argument: "times",
                rule,
            })
        };
        // NaN, too.
        if !(time >= self.now.time && time.is_finite()) {
            return refused("must come in order, from 0 on");
        }
        if self.now.n_reached + self.now.n_censored >= self.now.at_risk {
            return refused("must not be more than there are users");
        }
        if time > self.now.time {
            self.find_points_before(time);
            self.advance();
            self.now.time = time;
        }
        Ok(())
    }

    /// Completes the points from the last time to `time`: all users at the last time have come.
    fn find_points_before(&mut self, time: f64) {
        while let Some(point) = self.points.get(self.found.len()).filter(|at| **at < time) {
            // Who leaves at the very time of a point is at risk at it.
            let has_left = *point > self.now.time;
            let left = match has_left {
                true => self.now.n_reached + self.now.n_censored,
                false => 0,
            };
            let found = ReachedBy::new(self.survival_now(), self.now.at_risk - left);
            self.found.push(found);
        }
    }

    fn survival_now(&self) -> Survival {
        (self.survival).after(self.now.time, self.now.at_risk, self.now.n_reached)
    }

    fn advance(&mut self) {
        self.survival = self.survival_now();
        self.now = Moment {
            time: self.now.time,
            at_risk: self.now.at_risk - self.now.n_reached - self.now.n_censored,
            n_reached: 0,
            n_censored: 0,
        };
    }
}

/// Compares the shares of two variants that reached a step by one time.
///
/// ```
/// use trialog_stats::{Alpha, ReachedDifference, TimeToStep};
/// let early = |n: u32| (0..20).map(move |user| ((user < n).then_some(1.0), 10.0));
/// let a = TimeToStep::from_users(early(5), 10.0)?.at(2.0);
/// let b = TimeToStep::from_users(early(15), 10.0)?.at(2.0);
/// let difference = ReachedDifference::between(&a, &b);
/// assert!((difference.difference - 0.5).abs() < 1e-12);
/// assert!(difference.p_value.is_some_and(|p_value| p_value < 0.001));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReachedDifference {
    /// The share of b less that of a.
    pub difference: f64,
    /// Its standard error; `None` where in one of them nobody or everybody reached the step.
    pub standard_error: Option<f64>,
    /// The z-statistic, where there is a standard error.
    pub z: Option<f64>,
    /// Its two-sided p-value.
    pub p_value: Option<f64>,
}

impl ReachedDifference {
    /// Compares b with a by the errors of Greenwood (1926), which add up.
    ///
    /// ```
    /// use trialog_stats::{ReachedDifference, TimeToStep};
    /// let nobody = TimeToStep::from_users([(None, 9.0)], 9.0)?.at(5.0);
    /// assert_eq!(ReachedDifference::between(&nobody, &nobody).p_value, None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn between(a: &ReachedBy, b: &ReachedBy) -> Self {
        let difference = b.reached - a.reached;
        let error = |share: &ReachedBy| share.standard_error.filter(|error| *error > 0.0);
        let standard_error = error(a).zip(error(b)).map(|(a, b)| a.hypot(b));
        let z = standard_error.map(|error| difference / error);
        Self {
            difference,
            standard_error,
            z,
            p_value: z.map(normal_two_sided_tail),
        }
    }

    /// Returns the normal interval of the difference, within -1 to 1.
    ///
    /// ```
    /// use trialog_stats::{Alpha, ReachedDifference, TimeToStep};
    /// let half = TimeToStep::from_users([(Some(1.0), 9.0), (None, 9.0)], 9.0)?.at(5.0);
    /// let interval = ReachedDifference::between(&half, &half).interval(Alpha::P05);
    /// assert!(interval.is_some_and(|interval| interval.contains(0.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let reach = normal_critical(alpha) * self.standard_error?;
        Some(Interval {
            low: (self.difference - reach).max(-1.0),
            high: (self.difference + reach).min(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::TimeToStep;

    proptest! {
        /// Few different times, so that many are equal to each other and to points.
        #[test]
        fn a_scan_finds_what_all_users_at_once_give(
            users in prop::collection::vec((prop::option::of(0_u32..12), 1_u32..16), 0..60),
            points in prop::collection::btree_set(0_u32..=10, 0..4),
        ) {
            let window = 10.0;
            let users = users.iter().map(|(time, observed)| (time.map(f64::from), f64::from(*observed)));
            let users: Vec<(Option<f64>, f64)> = users.collect();
            let points: Vec<f64> = points.into_iter().map(f64::from).collect();
            let all = TimeToStep::from_users(users.iter().copied(), window).unwrap();
            let counts = StepUserCounts {
                users: all.users(),
                mature: all.mature(),
                mature_reached: all.mature_reached(),
            };
            let mut scan = StepTimesScan::new(counts, &points, Alpha::P05).unwrap();
            let mut ends: Vec<(f64, bool, bool)> = users
                .iter()
                .filter_map(|(time, observed)| {
                    let is_mature = *observed >= window;
                    match time.filter(|time| *time < observed.min(window)) {
                        Some(time) => Some((time, true, is_mature)),
                        None => (!is_mature).then_some((*observed, false, false)),
                    }
                })
                .collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (time, has_reached, is_mature) in ends {
                match has_reached {
                    true => scan.reach(time, is_mature).unwrap(),
                    false => scan.censor(time).unwrap(),
                }
            }
            let found = scan.finish();
            prop_assert_eq!((found.reached, found.median), (all.reached(), all.median()));
            prop_assert_eq!(found.median_interval, all.median_interval(Alpha::P05));
            for (time, point) in points.iter().zip(&found.points) {
                let expected = all.at(*time);
                prop_assert_eq!(point.at_risk, expected.at_risk, "at {}", time);
                prop_assert_eq!(point.reached.to_bits(), expected.reached.to_bits());
                prop_assert_eq!(point.standard_error, expected.standard_error);
                prop_assert_eq!(point.interval(Alpha::P05), expected.interval(Alpha::P05));
            }
        }
    }
}
