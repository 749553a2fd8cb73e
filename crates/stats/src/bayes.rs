//! Compares arms by Bayesian methods: chance to win and expected loss.

use crate::relative::relative_to;
use crate::special::{self, integrate_together, tails_of_beta};
use crate::{Alpha, Interval, StatsError, Summary};

/// The numbers on which a choice between two arms is based.
///
/// ```
/// use trialog_stats::{BetaPosterior, choose_rate};
/// let even = BetaPosterior::new(10.0, 90.0)?;
/// let choice = choose_rate(&even, &even);
/// assert!((choice.chance_to_win - 0.5).abs() < 1e-9);
/// assert!((choice.expected_loss_choose_a - choice.expected_loss_choose_b).abs() < 1e-9);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The probability that b is better (larger) than a, 0 to 1.
    pub chance_to_win: f64,
    /// What choosing b loses on average where a is better, in the metric's unit.
    pub expected_loss_choose_b: f64,
    /// What choosing a loses on average where b is better, in the metric's unit.
    pub expected_loss_choose_a: f64,
}

/// A Beta distribution of a rate.
///
/// ```
/// use trialog_stats::BetaPosterior;
/// let flat = BetaPosterior::new(1.0, 1.0)?;
/// assert_eq!(flat.mean(), 0.5);
/// assert!((flat.interval(trialog_stats::Alpha::P05).low - 0.025).abs() < 1e-12);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BetaPosterior {
    alpha: f64,
    beta: f64,
}

impl BetaPosterior {
    /// Returns Beta(alpha, beta).
    ///
    /// # Errors
    ///
    /// [`StatsError::Shape`] unless both lie between 1e-3 and 2e9.
    ///
    /// ```
    /// assert!(trialog_stats::BetaPosterior::new(2.0, 8.0).is_ok());
    /// assert!(trialog_stats::BetaPosterior::new(0.0, 8.0).is_err());
    /// ```
    pub fn new(alpha: f64, beta: f64) -> Result<Self, StatsError> {
        for shape in [alpha, beta] {
            if !(1e-3..=special::LARGEST_SHAPE).contains(&shape) {
                return Err(StatsError::Shape(shape));
            }
        }
        Ok(Self { alpha, beta })
    }

    /// Returns what `conversions` among `n` units make of this prior; none leave it.
    ///
    /// # Errors
    ///
    /// [`StatsError::ConversionsExceedUnits`]; [`StatsError::Shape`] for more than 2e9
    /// units, for which [`normal_posterior`] says the same.
    ///
    /// ```
    /// let prior = trialog_stats::BetaPosterior::new(1.0, 1.0)?;
    /// assert_eq!(prior.update(3, 10)?, trialog_stats::BetaPosterior::new(4.0, 8.0)?);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn update(&self, conversions: u64, n: u64) -> Result<Self, StatsError> {
        let Some(others) = n.checked_sub(conversions) else {
            return Err(StatsError::ConversionsExceedUnits { conversions, n });
        };
        Self::new(self.alpha + conversions as f64, self.beta + others as f64)
    }

    /// Returns the first shape.
    ///
    /// ```
    /// assert_eq!(trialog_stats::BetaPosterior::new(2.0, 8.0)?.alpha(), 2.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Returns the second shape.
    ///
    /// ```
    /// assert_eq!(trialog_stats::BetaPosterior::new(2.0, 8.0)?.beta(), 8.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn beta(&self) -> f64 {
        self.beta
    }

    /// Returns the mean, alpha / (alpha + beta).
    ///
    /// ```
    /// assert_eq!(trialog_stats::BetaPosterior::new(2.0, 8.0)?.mean(), 0.2);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    /// Returns the interval with a probability of 1 - `alpha` and equal tails.
    ///
    /// ```
    /// use trialog_stats::{Alpha, BetaPosterior};
    /// let interval = BetaPosterior::new(20.0, 80.0)?.interval(Alpha::P05);
    /// assert!(interval.contains(0.2) && !interval.contains(0.3));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Interval {
        let tail = alpha.get() / 2.0;
        let quantile = |p: f64| special::beta_quantile(p, self.alpha, self.beta);
        // The upper end from the mirrored distribution: 1 - tail would round.
        let mirrored = special::beta_quantile(tail, self.beta, self.alpha);
        Interval {
            low: quantile(tail),
            high: 1.0 - mirrored,
        }
    }

    /// A stretch outside of which the rate is with a probability below 1e-18.
    fn stretch(&self) -> (f64, f64) {
        let n = self.alpha + self.beta;
        let mean = self.mean();
        let sd = (mean * (self.beta / n) / (n + 1.0)).sqrt();
        let reach = 12.0 * sd + 100.0 / n;
        ((mean - reach).max(0.0), (mean + reach).min(1.0))
    }
}

/// Returns the choice between two rates, by numerical integration.
///
/// P(b > a) is the integral of the density of a times P(b > x); the losses are those
/// of P(b < x) P(a > x) and P(a < x) P(b > x). Absolute error below 1e-10; simulation
/// does not reach that. The closed forms are those of Miller (2015) and Stucchio (2015).
///
/// ```
/// use trialog_stats::{BetaPosterior, choose_rate};
/// let prior = BetaPosterior::new(1.0, 1.0)?;
/// let (a, b) = (prior.update(40, 400)?, prior.update(60, 400)?);
/// assert!(choose_rate(&a, &b).chance_to_win > 0.98);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[must_use]
pub fn choose_rate(a: &BetaPosterior, b: &BetaPosterior) -> Choice {
    let (a_low, a_high) = a.stretch();
    let (b_low, b_high) = b.stretch();
    let mut ends = [a_low, a_high, b_low, b_high, a.mean(), b.mean()];
    ends.sort_by(f64::total_cmp);
    let tails = |arm: &BetaPosterior, x: f64, y: f64| tails_of_beta(x, y, arm.alpha, arm.beta);
    // Nearly all of the work are tails, so the three integrals share them.
    let at = |x: f64, y: f64| {
        let (of_a, of_b) = (tails(a, x, y), tails(b, x, y));
        let density = special::beta_density(x, y, a.alpha, a.beta);
        [
            density * of_b.upper,
            of_b.lower * of_a.upper,
            of_a.lower * of_b.upper,
        ]
    };
    let (mut wins, mut loss_b, mut loss_a) = (0.0, 0.0, 0.0);
    for pair in ends.windows(2) {
        let (low, high) = (pair[0], pair[1]);
        let [win, b_lost, a_lost] = integrate_together(low, high, |x, _, from_high| {
            // 1 - x with its digits where the stretch ends with 1.
            let y = if high >= 1.0 { from_high } else { 1.0 - x };
            at(x, y)
        });
        wins += win;
        loss_b += b_lost;
        loss_a += a_lost;
    }
    Choice {
        chance_to_win: f64::clamp(wins, 0.0, 1.0),
        expected_loss_choose_b: loss_b,
        expected_loss_choose_a: loss_a,
    }
}

/// A normal distribution of a difference.
///
/// ```
/// use trialog_stats::NormalPosterior;
/// let effect = NormalPosterior { mean: 0.5, variance: 0.04 };
/// assert!(effect.choice().chance_to_win > 0.99);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormalPosterior {
    /// Its mean, in the unit of the difference.
    pub mean: f64,
    /// Its variance.
    pub variance: f64,
}

/// The unit of a difference: the metric's unit or a fraction of the control.
///
/// ```
/// use trialog_stats::{DifferenceType, Summary, difference_of};
/// let (a, b) = (Summary::new(9, 2.0, Some(1.0))?, Summary::new(9, 3.0, Some(1.0))?);
/// let absolute = difference_of(&a, &b, DifferenceType::Absolute);
/// assert_eq!(absolute.map(|posterior| posterior.mean), Some(1.0));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceType {
    /// b - a.
    Absolute,
    /// b / a - 1.
    Relative,
}

/// The prior of a difference, before the data.
///
/// ```
/// use trialog_stats::{DifferenceType, NormalPrior, Summary, normal_posterior};
/// let sceptic = NormalPrior { mean: 0.0, variance: 1e-6, of: DifferenceType::Absolute };
/// let (a, b) = (Summary::new(99, 2.0, Some(1.0))?, Summary::new(99, 3.0, Some(1.0))?);
/// let posterior = normal_posterior(&a, &b, DifferenceType::Absolute, Some(&sceptic))?;
/// assert!(posterior.is_some_and(|posterior| posterior.mean < 0.001));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormalPrior {
    /// Mean, in the unit of `of`.
    pub mean: f64,
    /// Variance, above 0.
    pub variance: f64,
    /// What kind of difference it is about.
    pub of: DifferenceType,
}

/// Returns the estimated difference of the kind `of`, with its squared standard error;
/// `None` when an arm has a single unit, or a relative difference does not exist.
///
/// ```
/// use trialog_stats::{DifferenceType, Summary, difference_of};
/// let a = Summary::new(100, 2.0, Some(1.0))?;
/// let b = Summary::new(100, 3.0, Some(1.0))?;
/// let lift = difference_of(&a, &b, DifferenceType::Relative);
/// assert!(lift.is_some_and(|lift| lift.mean == 0.5));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[must_use]
pub fn difference_of(a: &Summary, b: &Summary, of: DifferenceType) -> Option<NormalPosterior> {
    let (mean_a, mean_b) = (a.estimate()?, b.estimate()?);
    let difference = b.mean() - a.mean();
    match of {
        DifferenceType::Absolute => Some(NormalPosterior {
            mean: difference,
            variance: mean_a.variance + mean_b.variance,
        }),
        DifferenceType::Relative => {
            let relative = relative_to(&mean_a, &mean_b, difference)?;
            Some(NormalPosterior {
                mean: relative.lift,
                variance: relative.standard_error * relative.standard_error,
            })
        }
    }
}

/// Returns what the data of two arms make of a prior; a flat one where it is `None`.
///
/// A prior of the other kind of difference is rescaled with the control's mean. The
/// normal approximation has no correction for few units. `None` without a variance or
/// where the difference does not exist. Compare gbstats' `EffectBayesianABTest`.
///
/// # Errors
///
/// [`StatsError::Variance`] for a prior variance that is not positive and at most
/// 1e300; [`StatsError::Mean`] for a prior mean that is not finite or beyond 1e150.
///
/// ```
/// use trialog_stats::{DifferenceType, Summary, normal_posterior};
/// let a = Summary::new(100, 2.0, Some(1.0))?;
/// let posterior = normal_posterior(&a, &a, DifferenceType::Absolute, None)?;
/// assert!(posterior.is_some_and(|posterior| posterior.choice().chance_to_win == 0.5));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn normal_posterior(
    a: &Summary,
    b: &Summary,
    of: DifferenceType,
    prior: Option<&NormalPrior>,
) -> Result<Option<NormalPosterior>, StatsError> {
    if let Some(prior) = prior {
        if !(-1e150..=1e150).contains(&prior.mean) {
            return Err(StatsError::Mean(prior.mean));
        }
        if !(prior.variance > 0.0 && prior.variance <= 1e300) {
            return Err(StatsError::Variance(prior.variance));
        }
    }
    let seen = difference_of(a, b, of).filter(|seen| seen.variance > 0.0);
    let (Some(seen), Some(prior)) = (seen, prior) else {
        return Ok(seen);
    };
    let scale = match (prior.of, of) {
        (DifferenceType::Relative, DifferenceType::Absolute) => a.mean().abs(),
        (DifferenceType::Absolute, DifferenceType::Relative) => 1.0 / a.mean().abs(),
        _ => 1.0,
    };
    let (mean, variance) = (prior.mean * scale, prior.variance * scale * scale);
    if variance <= 0.0 || !variance.is_finite() || !mean.is_finite() {
        return Ok(None);
    }
    // Weights that add to 1: no precision overflows.
    let weight = seen.variance / (seen.variance + variance);
    Ok(Some(NormalPosterior {
        mean: weight * mean + (1.0 - weight) * seen.mean,
        variance: weight * variance,
    }))
}

impl NormalPosterior {
    /// Returns the interval with a probability of 1 - `alpha`.
    ///
    /// ```
    /// use trialog_stats::{Alpha, NormalPosterior};
    /// let posterior = NormalPosterior { mean: 1.0, variance: 0.25 };
    /// assert!(posterior.interval(Alpha::P05).is_some_and(|interval| interval.low > 0.0));
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let half_width = special::normal_critical(alpha) * self.variance.sqrt();
        Interval::around(self.mean, half_width)
    }

    /// Returns the chance that the difference is positive, and the expected losses.
    ///
    /// ```
    /// let posterior = trialog_stats::NormalPosterior { mean: 1.0, variance: 0.25 };
    /// assert!(posterior.choice().chance_to_win > 0.97);
    /// ```
    #[must_use]
    pub fn choice(&self) -> Choice {
        let sd = self.variance.sqrt();
        let z = self.mean / sd;
        Choice {
            chance_to_win: special::normal_upper_tail(-z),
            expected_loss_choose_b: sd * mean_beyond(z),
            expected_loss_choose_a: sd * mean_beyond(-z),
        }
    }
}

/// E max(Z - z, 0) of a standard normal Z.
fn mean_beyond(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z > 1e3 {
        return 0.0;
    }
    (density - z * special::normal_upper_tail(z)).max(0.0)
}
