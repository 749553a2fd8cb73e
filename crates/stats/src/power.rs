//! Plans experiments: power, sample size and minimum detectable effect.
//!
//! All tests are two-sided and both tails count, so that the power of no effect is
//! alpha. `n` is the number of units of the control; the treatment has `ratio`
//! times as many. Means take the noncentral t distribution (as statsmodels'
//! `TTestIndPower`) or the normal one, rates one of three normal approximations.

use crate::special::{self, last_below};
use crate::{Alpha, StatsError};

/// More units than any experiment has.
const MOST_UNITS: f64 = 1e18;
/// The largest effect that is looked at, in standard deviations.
const LARGEST_EFFECT: f64 = 1e9;

/// The measured quantity and the test that will be used.
///
/// ```
/// use trialog_stats::power::Metric;
/// let revenue = Metric::Mean { sd: 12.5, is_normal: false };
/// assert_ne!(revenue, Metric::Rate { control: 0.1, test: trialog_stats::power::RateTest::Pooled });
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// A mean with this common standard deviation, above 0, in the metric's unit.
    Mean {
        /// The standard deviation in each arm.
        sd: f64,
        /// With the normal distribution instead of Student's t.
        is_normal: bool,
    },
    /// A conversion rate.
    Rate {
        /// The control's rate, between 0 and 1, both excluded.
        control: f64,
        /// How the difference of rates is tested.
        test: RateTest,
    },
}

/// A normal approximation for the difference of two rates.
///
/// ```
/// use trialog_stats::{Alpha, power::{Design, Metric, RateTest}};
/// let power = |test| Design::new(Metric::Rate { control: 0.1, test }, Alpha::P05, 1.0)?.power(0.01, 15e3);
/// assert!((power(RateTest::Pooled)? - power(RateTest::Unpooled)?).abs() < 0.001);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateTest {
    /// Cohen's h, 2 asin √`p_b` - 2 asin √`p_a` (Cohen 1988).
    Arcsine,
    /// The pooled z-test: standard error under equal rates at the critical value, of
    /// both rates at the effect.
    Pooled,
    /// Standard error of both rates throughout.
    Unpooled,
}

/// An experiment that is being planned.
///
/// ```
/// use trialog_stats::{Alpha, power::{Design, Metric, RateTest}};
/// let metric = Metric::Rate { control: 0.1, test: RateTest::Pooled };
/// let design = Design::new(metric, Alpha::P05, 1.0)?;
/// // From 10 % to 11 % with a power of 80 %.
/// assert_eq!(design.sample_size(0.01, 0.8)?.map(|size| size.n_control_ceil), Some(14_751));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Design {
    metric: Metric,
    alpha: Alpha,
    ratio: f64,
}

/// The number of units that an experiment needs.
///
/// ```
/// use trialog_stats::{Alpha, power::{Design, Metric}};
/// let design = Design::new(Metric::Mean { sd: 10.0, is_normal: false }, Alpha::P05, 1.0)?;
/// let size = design.sample_size(1.0, 0.8)?;
/// assert!(size.is_some_and(|size| size.n_control <= size.n_control_ceil as f64));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleSize {
    /// The real number of control units that reaches the power exactly.
    pub n_control: f64,
    /// The same, rounded up.
    pub n_control_ceil: u64,
    /// `ratio * n_control`, rounded up.
    pub n_treatment_ceil: u64,
}

/// A difference between arms in a form that every test shares: the probability of a
/// rejection is that of |Z spread + effect √n| > critical.
struct Normal {
    effect: f64,
    spread: f64,
    critical: f64,
}

impl Design {
    /// Returns the design of a test at `alpha` whose treatment has `ratio` times as many units as
    /// its control.
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] for a standard deviation or a ratio that is not positive
    /// and finite, or a rate that is not between 0 and 1.
    ///
    /// ```
    /// use trialog_stats::{Alpha, power::{Design, Metric}};
    /// assert!(Design::new(Metric::Mean { sd: 0.0, is_normal: true }, Alpha::P05, 1.0).is_err());
    /// ```
    pub fn new(metric: Metric, alpha: Alpha, ratio: f64) -> Result<Self, StatsError> {
        match metric {
            Metric::Mean { sd, .. } => positive("sd", sd)?,
            Metric::Rate { control, .. } => fraction("p_control", control)?,
        }
        positive("ratio", ratio)?;
        Ok(Self {
            metric,
            alpha,
            ratio,
        })
    }

    /// Returns the probability that the test rejects with `n_control` units and an
    /// absolute `effect` (treatment minus control), from alpha to 1.
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] for fewer than one unit in an arm, too few for Student's
    /// t (one degree of freedom), or an effect that leads out of 0 to 1.
    ///
    /// ```
    /// use trialog_stats::{Alpha, power::{Design, Metric}};
    /// let design = Design::new(Metric::Mean { sd: 10.0, is_normal: false }, Alpha::P05, 1.0)?;
    /// assert!((design.power(1.0, 1571.0)? - 0.8).abs() < 1e-3);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn power(&self, effect: f64, n_control: f64) -> Result<f64, StatsError> {
        self.check_effect(effect)?;
        let is_enough = n_control >= self.fewest_units() && n_control <= MOST_UNITS;
        if !is_enough {
            return Err(StatsError::Range {
                argument: "n_control",
                range: "at most 1e18, and give each arm one unit and both together three",
                value: n_control,
            });
        }
        Ok(self.power_at(effect, n_control))
    }

    /// Returns the units that detect an absolute `effect` with probability `power`;
    /// `None` where more than 1e18 would be needed.
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] for a power that is not between alpha and 1, and an
    /// effect that is 0 or leads out of 0 to 1.
    ///
    /// ```
    /// use trialog_stats::{Alpha, power::{Design, Metric}};
    /// let design = Design::new(Metric::Mean { sd: 10.0, is_normal: false }, Alpha::P05, 1.0)?;
    /// assert_eq!(design.sample_size(1.0, 0.8)?.map(|size| size.n_control_ceil), Some(1571));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn sample_size(&self, effect: f64, power: f64) -> Result<Option<SampleSize>, StatsError> {
        self.check_effect(effect)?;
        self.check_power(power)?;
        if effect.abs() < f64::MIN_POSITIVE {
            return Err(StatsError::Range {
                argument: "effect",
                range: "another number than 0",
                value: effect,
            });
        }
        let is_below = |ln_n: f64| self.power_at(effect, ln_n.exp()) < power;
        let (low, high) = (self.fewest_units().ln(), MOST_UNITS.ln());
        if is_below(high) {
            return Ok(None);
        }
        let n_control = last_below(low, high, is_below).exp();
        Ok(Some(SampleSize {
            n_control,
            n_control_ceil: n_control.ceil() as u64,
            n_treatment_ceil: (self.ratio * n_control).ceil() as u64,
        }))
    }

    /// Returns the smallest positive effect that `n_control` units detect with
    /// probability `power`; for a rate upward, `None` where none is large enough.
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] as for [`power`](Self::power) and
    /// [`sample_size`](Self::sample_size).
    ///
    /// ```
    /// use trialog_stats::{Alpha, power::{Design, Metric}};
    /// let metric = Metric::Mean { sd: 10.0, is_normal: true };
    /// let design = Design::new(metric, Alpha::P05, 1.0)?;
    /// // (1.96 + 0.8416) * 10 * √(2 / 1000)
    /// assert!(design.mde(1000.0, 0.8)?.is_some_and(|mde| (mde - 1.2529).abs() < 1e-4));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn mde(&self, n_control: f64, power: f64) -> Result<Option<f64>, StatsError> {
        self.check_power(power)?;
        self.power(0.0, n_control)?;
        let is_below = |effect: f64| self.power_at(effect, n_control) < power;
        let largest = match self.metric {
            Metric::Mean { sd, .. } => sd * LARGEST_EFFECT,
            Metric::Rate { control, .. } => 1.0 - control,
        };
        // At a rate of 1 the approximations lose their spread; below it they hold.
        let reachable = largest * (1.0 - f64::EPSILON);
        if is_below(reachable) {
            return Ok(None);
        }
        let is_below = |ln: f64| is_below(ln.exp());
        let effect = last_below((largest * 1e-15).ln(), reachable.ln(), is_below).exp();
        Ok(Some(effect))
    }

    fn power_at(&self, effect: f64, n: f64) -> f64 {
        if let Metric::Mean {
            sd,
            is_normal: false,
        } = self.metric
        {
            let noncentrality = effect.abs() / sd * (self.ratio * n / (1.0 + self.ratio)).sqrt();
            let df = n + self.ratio * n - 2.0;
            let critical = special::student_critical(self.alpha.get(), df);
            return special::noncentral_t_tail(critical, df, noncentrality);
        }
        let Normal {
            effect,
            spread,
            critical,
        } = self.normal(effect);
        let shift = effect.abs() * n.sqrt();
        if spread <= 0.0 {
            return if shift > critical { 1.0 } else { 0.0 };
        }
        let tail = |threshold: f64| special::normal_upper_tail(threshold / spread);
        (tail(critical - shift) + tail(critical + shift)).min(1.0)
    }

    /// The normal form of every test but Student's.
    fn normal(&self, effect: f64) -> Normal {
        let z = special::normal_critical(self.alpha);
        let r = self.ratio;
        let standardised = |effect: f64| Normal {
            effect: effect * (r / (1.0 + r)).sqrt(),
            spread: 1.0,
            critical: z,
        };
        let (a, test) = match self.metric {
            Metric::Mean { sd, .. } => return standardised(effect / sd),
            Metric::Rate { control, test } => (control, test),
        };
        let b = (a + effect).clamp(0.0, 1.0);
        let spread = (a * (1.0 - a) + b * (1.0 - b) / r).sqrt();
        match test {
            RateTest::Arcsine => standardised(2.0 * (b.sqrt().asin() - a.sqrt().asin())),
            RateTest::Unpooled => Normal {
                effect,
                spread,
                critical: z * spread,
            },
            RateTest::Pooled => {
                let pooled = (a + r * b) / (1.0 + r);
                Normal {
                    effect,
                    spread,
                    critical: z * (pooled * (1.0 - pooled) * (1.0 + 1.0 / r)).sqrt(),
                }
            }
        }
    }

    /// One unit in each arm, and for Student's t a degree of freedom.
    fn fewest_units(&self) -> f64 {
        let in_each = 1.0_f64.max(1.0 / self.ratio);
        match self.metric {
            Metric::Mean {
                is_normal: false, ..
            } => in_each.max(3.0 / (1.0 + self.ratio)),
            _ => in_each,
        }
    }

    fn check_effect(&self, effect: f64) -> Result<(), StatsError> {
        let (is_possible, range) = match self.metric {
            Metric::Mean { .. } => (effect.is_finite(), "finite"),
            Metric::Rate { control, .. } => (
                (0.0..=1.0).contains(&(control + effect)),
                "such that the treatment's rate lies between 0 and 1",
            ),
        };
        if is_possible {
            return Ok(());
        }
        Err(StatsError::Range {
            argument: "effect",
            range,
            value: effect,
        })
    }

    fn check_power(&self, power: f64) -> Result<(), StatsError> {
        if power > self.alpha.get() && power < 1.0 {
            return Ok(());
        }
        Err(StatsError::Range {
            argument: "power",
            range: "above alpha and below 1",
            value: power,
        })
    }
}

fn positive(argument: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    let range = "positive and finite";
    Err(StatsError::Range {
        argument,
        range,
        value,
    })
}

fn fraction(argument: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    let range = "between 0 and 1, both excluded";
    Err(StatsError::Range {
        argument,
        range,
        value,
    })
}
