//! Models how simulated users behave, and computes the exact consequences.
//!
//! The rates that draw the events are the rates that the expectations are
//! computed from: nothing is estimated.

use std::ops::Range;

use fastrand::Rng;
use trialog_model::decimal::Value;
use trialog_model::metric::MetricKind;
use trialog_model::time::UnixMicros;

use crate::mix::unit_interval;

pub(super) const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: i64 = 24 * HOUR;

const UNITS_PER_ONE: f64 = 10_000.0;

/// The platform of a user, the one attribute that behaviour depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    Ios,
    Android,
    Web,
}

impl Platform {
    pub(super) const ALL: [Self; 3] = [Self::Ios, Self::Android, Self::Web];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Android => "android",
            Self::Web => "web",
        }
    }

    /// Returns the share of all people who use the platform.
    fn share(self) -> f64 {
        match self {
            Self::Ios | Self::Android => 0.3,
            Self::Web => 0.4,
        }
    }

    /// Returns the platform of the person whose hash is `draw`.
    pub(super) fn from_draw(draw: u64) -> Self {
        let mut left = unit_interval(draw);
        for platform in [Self::Ios, Self::Android] {
            left -= platform.share();
            if left < 0.0 {
                return platform;
            }
        }
        Self::Web
    }
}

/// One rate per platform, in the order of [`Platform::ALL`].
pub(super) type ByPlatform = [f64; 3];

/// An action of the users of an experiment.
#[derive(Debug, Clone)]
pub(super) struct Habit {
    pub(super) event_type: &'static str,
    pub(super) luck: Luck,
    /// The share of the control's users who do it.
    pub(super) rate: ByPlatform,
    /// What each treatment adds to the rate.
    pub(super) lifts: Vec<ByPlatform>,
    /// Days of exposure after which a lift is down to 1/e; `None` if it lasts.
    pub(super) fades_over_days: Option<f64>,
    /// The share of those who do it that do it a second time.
    pub(super) again: f64,
    /// The value of an event; `None` for events that only count.
    pub(super) amounts: Option<Amounts>,
}

/// The draw of a user that decides a habit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Luck {
    /// One draw for all: a user who takes a rarer step takes the commoner ones first.
    Funnel,
    /// A separate draw.
    Own,
}

/// Values of events: a level, plus up to `n_steps` steps, all equally likely.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amounts {
    /// Levels in 1/10,000 with their relative weights.
    pub(super) levels: &'static [(i64, u32)],
    pub(super) step_units: i64,
    pub(super) n_steps: i64,
}

impl Amounts {
    pub(super) fn draw(&self, rng: &mut Rng) -> Option<Value> {
        let total = self.levels.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.u32(0..total);
        for &(level, weight) in self.levels {
            if left < weight {
                return Value::from_units(level + self.step_units * rng.i64(0..=self.n_steps));
            }
            left -= weight;
        }
        None
    }

    fn mean(&self) -> f64 {
        let weights: u32 = self.levels.iter().map(|(_, weight)| weight).sum();
        let levels: i64 = self
            .levels
            .iter()
            .map(|(level, weight)| level * i64::from(*weight))
            .sum();
        let steps = (self.step_units * self.n_steps) as f64 / 2.0;
        (levels as f64 / f64::from(weights) + steps) / UNITS_PER_ONE
    }
}

/// Some users whose assignments never arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub(super) arm_idx: usize,
    pub(super) platform: Platform,
    pub(super) share: f64,
}

/// Everything that decides what the users of one scenario do.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) n_users: usize,
    pub(super) started_at: UnixMicros,
    pub(super) n_days: usize,
    /// No event is later than this, which is a fixed time after the start: what
    /// happens does not depend on the minute at which it is looked at.
    pub(super) until: UnixMicros,
    pub(super) platforms: &'static [Platform],
    pub(super) habits: Vec<Habit>,
    pub(super) loss: Option<Loss>,
}

/// A part of an experiment's users.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub(super) platforms: &'a [Platform],
    /// Days of exposure, counted from the start.
    pub(super) days: Range<usize>,
}

/// The users of an average when some have been lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    /// All assigned users: the true effect.
    Assigned,
    /// The users whose assignment arrived: what an analysis can see.
    Arrived,
}

impl Model {
    pub(super) fn whole(&self) -> Part<'_> {
        Part {
            platforms: self.platforms,
            days: 0..self.n_days,
        }
    }

    /// Returns the end of exposure.
    pub(super) fn ended_at(&self) -> UnixMicros {
        UnixMicros(self.started_at.0 + self.n_days as i64 * DAY)
    }

    /// Returns how likely a user is exposed on a day, relative to the others. Weeks begin with the
    /// experiment, so that the calendar changes dates and no number.
    pub(super) fn day_weight(day_idx: usize) -> f64 {
        match day_idx % 7 {
            5 | 6 => 1.25,
            _ => 1.0,
        }
    }

    /// Returns the share of assignments that arrive.
    pub(super) fn arrival(&self, arm_idx: usize, platform: Platform) -> f64 {
        match self.loss {
            Some(loss) if loss.arm_idx == arm_idx && loss.platform == platform => 1.0 - loss.share,
            _ => 1.0,
        }
    }

    /// Returns the expected average per user of `part` in an arm.
    pub(super) fn mean(
        &self,
        habit: &Habit,
        kind: MetricKind,
        arm_idx: usize,
        part: &Part<'_>,
        among: Among,
    ) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for &platform in part.platforms {
            let arrival = match among {
                Among::Assigned => 1.0,
                Among::Arrived => self.arrival(arm_idx, platform),
            };
            for day_idx in part.days.clone() {
                let weight = platform.share() * arrival * Self::day_weight(day_idx);
                sum += weight * habit.rate(arm_idx, platform, day_idx);
                weights += weight;
            }
        }
        sum / weights * habit.per_doer(kind)
    }
}

impl Habit {
    /// Returns the share of users who do it.
    pub(super) fn rate(&self, arm_idx: usize, platform: Platform, day_idx: usize) -> f64 {
        let lift = match arm_idx.checked_sub(1) {
            Some(treatment_idx) => self.lifts[treatment_idx][platform as usize],
            None => 0.0,
        };
        let strength = self
            .fades_over_days
            .map_or(1.0, |days| (-(day_idx as f64) / days).exp());
        self.rate[platform as usize] + lift * strength
    }

    /// Returns the expected metric of a user who does it.
    fn per_doer(&self, kind: MetricKind) -> f64 {
        let n_events = 1.0 + self.again;
        match kind {
            MetricKind::Conversion => 1.0,
            MetricKind::Count => n_events,
            MetricKind::Sum => n_events * self.amounts.map_or(1.0, |amounts| amounts.mean()),
            // No habit of the demo is measured so.
            MetricKind::Ratio | MetricKind::Retention | MetricKind::Quantile => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMOUNTS: Amounts = Amounts {
        levels: &[(100_000, 3), (500_000, 1)],
        step_units: 100,
        n_steps: 999,
    };

    #[test]
    fn mean_of_amounts_is_that_of_their_draws() {
        assert!((AMOUNTS.mean() - 24.995).abs() < 1e-9);
        let mut rng = Rng::with_seed(1);
        let sum: i64 = (0..100_000)
            .map(|_| AMOUNTS.draw(&mut rng).unwrap().units())
            .sum();
        // The standard deviation is about 17.6: four standard errors are 0.22.
        assert!((sum as f64 / 1e9 - 24.995).abs() < 0.22);
    }

    #[test]
    fn platforms_have_their_shares() {
        assert!((Platform::ALL.map(Platform::share).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let n_web = (0..100_000u64)
            .filter(|n| Platform::from_draw(crate::mix::mix(*n)) == Platform::Web)
            .count();
        assert!(n_web.abs_diff(40_000) < 620, "{n_web}");
    }
}
