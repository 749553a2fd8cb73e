//! Since when an estimate that is looked at again and again has been stable.

use crate::{Alpha, Estimate, GuardedVariance, Interval, StatsError, Summary, confidence_sequence};

/// Holds what one look says of the difference: an estimate and its always-valid interval.
///
/// ```
/// use trialog_stats::{Alpha, StabilityLook, Summary};
/// let arm = |mean| Summary::new(1_000, mean, Some(25.0));
/// let look = StabilityLook::from_arms(&arm(10.0)?, &arm(11.0)?, Alpha::P05, 5_000.0)?;
/// assert_eq!(look.estimate, 1.0);
/// assert!(look.interval.is_some_and(|ci| ci.contains(1.0)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StabilityLook {
    /// `mean_b - mean_a` of all units so far, in the metric's unit.
    pub estimate: f64,
    /// Always-valid interval of the difference; `None` where it does not exist.
    pub interval: Option<Interval>,
    /// Half the width of the interval; `None` as for `interval`.
    pub half_width: Option<f64>,
}

impl StabilityLook {
    /// Computes the look from the summaries of the control `a` and the treatment `b`, all units
    /// up to the look.
    ///
    /// The interval is that of [`confidence_sequence()`] with the guarded variance, narrowest at
    /// about `tuning` units of both arms. There is none with a single unit in an arm, and
    /// without spread.
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] for a `tuning` outside of 1e-9 to 1e30.
    ///
    /// ```
    /// use trialog_stats::{Alpha, StabilityLook, Summary};
    /// let nobody = Summary::new(3, 0.0, Some(0.0))?;
    /// let look = StabilityLook::from_arms(&nobody, &nobody, Alpha::P05, 5_000.0)?;
    /// assert_eq!((look.estimate, look.interval), (0.0, None));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn from_arms(
        a: &Summary,
        b: &Summary,
        alpha: Alpha,
        tuning: f64,
    ) -> Result<Self, StatsError> {
        let difference = Estimate {
            value: b.mean() - a.mean(),
            variance: GuardedVariance::between(a, b).map_or(0.0, |guarded| guarded.value()),
        };
        let n = a.n().saturating_add(b.n());
        let sequence = confidence_sequence(&difference, n, alpha, tuning)?;
        Ok(Self {
            estimate: difference.value,
            interval: sequence.interval,
            half_width: sequence.half_width.filter(|_| sequence.interval.is_some()),
        })
    }
}

/// Describes whether the looks agree with one constant effect, and since when.
///
/// ```
/// use trialog_stats::{Interval, StabilityLook, stability};
/// let look = |estimate: f64, half_width: f64| StabilityLook {
///     estimate,
///     interval: Some(Interval { low: estimate - half_width, high: estimate + half_width }),
///     half_width: Some(half_width),
/// };
/// let found = stability(&[look(9.0, 1.0), look(1.0, 1.0), look(1.5, 1.0)], None);
/// assert!(found.is_some_and(|found| found.is_constant_rejected()));
/// assert_eq!(found.and_then(|found| found.stable_since), Some(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stability {
    /// What all intervals have in common, in the metric's unit; `None` where that is nothing.
    pub intersection: Option<Interval>,
    /// First look, from 0, whose interval holds the estimates of itself and of all later looks.
    /// The last look does so trivially; `None` where no look with an interval does.
    pub stable_since: Option<usize>,
    /// First look, from 0, from which on every half width is at most the smallest effect that
    /// matters; `None` where there is none.
    pub precise_since: Option<usize>,
}

impl Stability {
    /// Returns whether a constant effect is rejected: the intervals have no point in common.
    ///
    /// With one constant effect that happens in at most alpha of experiments, however often one
    /// looks, since each interval holds the effect at all looks together.
    ///
    /// ```
    /// let found = trialog_stats::Stability {
    ///     intersection: None,
    ///     stable_since: None,
    ///     precise_since: None,
    /// };
    /// assert!(found.is_constant_rejected());
    /// ```
    #[must_use]
    pub const fn is_constant_rejected(&self) -> bool {
        self.intersection.is_none()
    }
}

/// Tests whether the `looks`, in order, agree with one constant effect.
///
/// `mde` is the smallest effect that matters, in the metric's unit. The intersection of a
/// confidence sequence is one as well (Waudby-Smith et al. 2021, with the guarded variance).
/// `None` where no look has an interval.
///
/// ```
/// use trialog_stats::{Alpha, StabilityLook, Summary, stability};
/// let mut looks = Vec::new();
/// for n in [500, 1_000, 5_000] {
///     let (a, b) = (Summary::new(n, 1.0, Some(1.0))?, Summary::new(n, 1.2, Some(1.0))?);
///     looks.push(StabilityLook::from_arms(&a, &b, Alpha::P05, 5_000.0)?);
/// }
/// let found = stability(&looks, Some(0.1)).ok_or("no interval")?;
/// assert_eq!((found.stable_since, found.precise_since), (Some(0), Some(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn stability(looks: &[StabilityLook], mde: Option<f64>) -> Option<Stability> {
    let mut intervals = looks.iter().filter_map(|look| look.interval);
    let first = intervals.next()?;
    let common = intervals.fold(first, |common, interval| Interval {
        low: common.low.max(interval.low),
        high: common.high.min(interval.high),
    });
    Some(Stability {
        intersection: (common.low <= common.high).then_some(common),
        stable_since: stable_since(looks),
        precise_since: mde.and_then(|mde| precise_since(looks, mde)),
    })
}

/// Walks from the last look to the first, so that all later estimates are two numbers.
fn stable_since(looks: &[StabilityLook]) -> Option<usize> {
    let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut since = None;
    for (index, look) in looks.iter().enumerate().rev() {
        lowest = lowest.min(look.estimate);
        highest = highest.max(look.estimate);
        let holds = |interval: Interval| interval.contains(lowest) && interval.contains(highest);
        if look.interval.is_some_and(holds) {
            since = Some(index);
        }
    }
    since
}

fn precise_since(looks: &[StabilityLook], mde: f64) -> Option<usize> {
    let is_precise = |look: &StabilityLook| look.half_width.is_some_and(|half| half <= mde);
    let n_precise = looks
        .iter()
        .rev()
        .take_while(|look| is_precise(look))
        .count();
    (n_precise > 0).then(|| looks.len() - n_precise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(estimate: f64, half_width: f64) -> StabilityLook {
        StabilityLook {
            estimate,
            interval: Interval::around(estimate, half_width),
            half_width: Some(half_width),
        }
    }

    #[test]
    fn intervals_that_touch_agree() {
        let touching = stability(&[look(0.0, 1.0), look(2.0, 1.0)], None).unwrap();
        let common = Interval {
            low: 1.0,
            high: 1.0,
        };
        assert_eq!(touching.intersection, Some(common));
        assert_eq!(touching.stable_since, Some(1));
    }

    #[test]
    fn a_later_look_without_precision_starts_the_count_anew() {
        let wide = StabilityLook {
            interval: None,
            half_width: None,
            ..look(0.0, 0.1)
        };
        let looks = [look(0.0, 0.1), wide, look(0.0, 0.1)];
        assert_eq!(stability(&looks, Some(0.2)).unwrap().precise_since, Some(2));
        assert_eq!(
            stability(&looks[..2], Some(0.2)).unwrap().precise_since,
            None
        );
        assert_eq!(stability(&looks[1..2], Some(0.2)), None);
        assert_eq!(stability(&[], None), None);
    }
}
