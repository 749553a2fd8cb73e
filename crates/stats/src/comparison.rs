//! Compares two arms on any kind of metric: test, intervals at any level, effect size and
//! always-valid inference.
//!
//! This is what a report is made of; the families that it puts together can be had
//! one by one.

use crate::non_inferiority::check_margin;
use crate::relative::fieller;
use crate::{
    Alpha, Better, CovariateSummary, Estimate, GuardedVariance, Interval, Msprt, NonInferiority,
    Proportion, QuantileSummary, RatioSums, SegmentDifference, StabilityLook, StatsError, Summary,
    TwoProportion, Welch, confidence_sequence, cuped, effect_size, fisher_exact, quantile_test,
    ratio_test, two_proportion_z, welch,
};

/// Converted or unconverted units of an arm below which rates take the exact test.
const FEW: u64 = 5;

/// One arm of a metric, in the form that its test needs.
///
/// ```
/// use trialog_stats::{Proportion, Sample};
/// let clicks = Sample::Rate(Proportion::new(30, 200)?);
/// assert_eq!((clicks.n(), clicks.estimate().value), (200, 0.15));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// Units of which some converted: two-proportion z-test, or Fisher's exact test where
    /// an arm has fewer than 5 converted or 5 unconverted ones.
    Rate(Proportion),
    /// A mean over units: Welch's t-test.
    Mean(Summary),
    /// Total over total: Welch's t-test by the delta method.
    Ratio(RatioSums),
    /// A mean over units, and a covariate from before the exposure: CUPED.
    Adjusted(CovariateSummary),
    /// A quantile over units at this level.
    Quantile(QuantileSummary, f64),
}

impl Sample {
    /// Returns the number of units.
    ///
    /// ```
    /// use trialog_stats::{Sample, Summary};
    /// assert_eq!(Sample::Mean(Summary::new(7, 1.0, Some(2.0))?).n(), 7);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn n(&self) -> u64 {
        match self {
            Self::Rate(rate) => rate.n(),
            Self::Mean(mean) => mean.n(),
            Self::Ratio(sums) => sums.n,
            Self::Adjusted(arm) => arm.metric().n(),
            Self::Quantile(quantile, _) => quantile.n,
        }
    }

    /// Returns the arm's estimate with its squared standard error (`NaN` for a single unit); 0 for
    /// a ratio whose denominators sum to 0.
    ///
    /// ```
    /// use trialog_stats::{Sample, Summary};
    /// let sample = Sample::Mean(Summary::new(4, 1.0, Some(2.0))?);
    /// assert_eq!(sample.estimate().variance, 0.5);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let estimate = |value, unit_variance: Option<f64>| Estimate {
            value,
            variance: unit_variance.map_or(f64::NAN, |variance| variance / self.n() as f64),
        };
        match self {
            Self::Rate(rate) => rate.estimate(),
            Self::Mean(mean) => estimate(mean.mean(), mean.variance()),
            Self::Adjusted(arm) => estimate(arm.metric().mean(), arm.metric().variance()),
            Self::Ratio(sums) => estimate(sums.ratio().unwrap_or_default(), sums.unit_variance()),
            Self::Quantile(quantile, _) => estimate(quantile.quantile, quantile.unit_variance()),
        }
    }

    /// Returns the sample variance of one unit's part in the estimate (divisor n - 1), for
    /// rates that of the 0s and 1s; `None` for a single unit.
    ///
    /// ```
    /// use trialog_stats::{Sample, Summary};
    /// let single = Sample::Mean(Summary::new(1, 1.0, None)?);
    /// assert_eq!(single.unit_variance(), None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn unit_variance(&self) -> Option<f64> {
        if let Some(summary) = self.summary() {
            return summary.variance();
        }
        let variance = self.estimate().variance * self.n() as f64;
        variance.is_finite().then_some(variance)
    }

    fn summary(&self) -> Option<Summary> {
        match self {
            Self::Rate(rate) => {
                let converted = i128::from(rate.conversions());
                Summary::from_exact(rate.n(), converted, converted, 1.0).ok()
            }
            Self::Mean(summary) => Some(*summary),
            Self::Adjusted(arm) => Some(*arm.metric()),
            Self::Ratio(_) | Self::Quantile(..) => None,
        }
    }

    /// Mean and variance of what the units add to a ratio, by the delta method.
    fn linearised(&self) -> Option<Summary> {
        let Self::Ratio(sums) = self else {
            return self.summary();
        };
        Summary::new(sums.n, sums.ratio()?, sums.unit_variance()).ok()
    }
}

/// The reason why a comparison has no relative interval.
///
/// ```
/// use trialog_stats::{Alpha, Comparison, NoRelative, Proportion, Sample};
/// let rate = |conversions| Proportion::new(conversions, 50).map(Sample::Rate);
/// let comparison = Comparison::between(&rate(0)?, &rate(5)?)?;
/// assert_eq!(comparison.intervals(Alpha::P05).1, Err(NoRelative::ControlIsZero));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRelative {
    /// The interval of the control itself includes 0, so a ratio to it can be anything.
    ControlMayBeZero,
    /// The control's value is 0.
    ControlIsZero,
    /// There is no test.
    NoTest,
}

/// The test behind a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Test {
    Rates(TwoProportion),
    /// With Fisher's p-value.
    FewRates(TwoProportion, f64),
    Welch(&'static str, Welch),
}

impl Test {
    fn of_rates(a: &Proportion, b: &Proportion) -> Self {
        let test = two_proportion_z(a, b);
        let few = |arm: &Proportion| arm.conversions().min(arm.others().conversions()) < FEW;
        if !few(a) && !few(b) {
            return Self::Rates(test);
        }
        let table = [a, b].map(|arm| [arm.conversions(), arm.others().conversions()]);
        // Beyond 1e10 units, which the exact test does not take, 5 are few of nothing.
        match fisher_exact(&table) {
            Ok(exact) => Self::FewRates(test, exact.p_value),
            Err(_) => Self::Rates(test),
        }
    }
}

/// A treatment against its control.
///
/// ```
/// use trialog_stats::{Alpha, Comparison, Sample, Summary};
/// let control = Sample::Mean(Summary::new(1000, 5.0, Some(4.0))?);
/// let treatment = Sample::Mean(Summary::new(1000, 5.3, Some(4.0))?);
/// let comparison = Comparison::between(&control, &treatment)?;
/// assert_eq!(comparison.test(), "welch_t");
/// assert!(comparison.p_value().is_some_and(|p| p < 0.001));
/// let valid = comparison.always_valid(Alpha::P05, 5000.0);
/// assert!(valid.is_some_and(|test| test.p_value > comparison.p_value()));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    test: Test,
    n: [u64; 2],
    /// What each arm measures, with the error that the test takes.
    arms: [Estimate; 2],
    is_tied: bool,
    guarded: Option<GuardedVariance>,
    cohens_d: Option<f64>,
}

impl Comparison {
    /// Compares `treatment` with `control`.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for arms of two kinds or levels; what [`ratio_test`] and
    /// [`quantile_test`] do not take.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Proportion, Sample, Summary};
    /// let rate = Sample::Rate(Proportion::new(3, 50)?);
    /// let mean = Sample::Mean(Summary::new(50, 3.0, Some(1.0))?);
    /// assert!(Comparison::between(&rate, &mean).is_err());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn between(control: &Sample, treatment: &Sample) -> Result<Self, StatsError> {
        let mut arms = [control.estimate(), treatment.estimate()];
        let mut scores = [control.linearised(), treatment.linearised()];
        let mut is_tied = false;
        let test = match (control, treatment) {
            (Sample::Rate(a), Sample::Rate(b)) => Test::of_rates(a, b),
            (Sample::Mean(a), Sample::Mean(b)) => Test::Welch("welch_t", welch(a, b)),
            (Sample::Adjusted(a), Sample::Adjusted(b)) => {
                let adjusted = cuped(a, b);
                let adjusted_arm = |at: usize, n: u64| {
                    let (mean, variance) =
                        (adjusted.adjusted_means[at], adjusted.adjusted_variances[at]);
                    let error = variance.map_or(f64::NAN, |variance| variance / n as f64);
                    (Summary::new(n, mean, variance).ok(), error)
                };
                let [n_a, n_b] = [a, b].map(|arm| arm.metric().n());
                (scores[0], arms[0].variance) = adjusted_arm(0, n_a);
                (scores[1], arms[1].variance) = adjusted_arm(1, n_b);
                Test::Welch("cuped", adjusted.test)
            }
            (Sample::Ratio(a), Sample::Ratio(b)) => {
                let test = ratio_test(a, b)?.test;
                Test::Welch("ratio_metric", test.unwrap_or(Welch::untested(f64::NAN)))
            }
            (Sample::Quantile(a, level), Sample::Quantile(b, other))
                if level.total_cmp(other).is_eq() =>
            {
                let test = quantile_test(a, b, *level)?;
                is_tied = a.is_tied(*level) || b.is_tied(*level);
                let test = if is_tied {
                    Welch::untested(test.difference)
                } else {
                    test
                };
                Test::Welch("quantile_metric", test)
            }
            _ => {
                return Err(StatsError::List {
                    argument: "arms",
                    rule: "must be of the same kind",
                });
            }
        };
        let [score_a, score_b] = scores;
        let effect = control.summary().zip(treatment.summary());
        let mut comparison = Self {
            test,
            n: [control.n(), treatment.n()],
            arms,
            is_tied,
            guarded: None,
            cohens_d: effect.and_then(|(a, b)| effect_size(&a, &b).cohens_d),
        };
        if let (Some(difference), Some(a), Some(b)) = (comparison.difference(), score_a, score_b) {
            comparison.guarded = GuardedVariance::with_difference(&a, &b, difference);
        }
        Ok(comparison)
    }

    /// Returns the name of the test, which is that of its family.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert_eq!(comparison.test(), "welch_t");
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn test(&self) -> &'static str {
        match &self.test {
            Test::Rates(_) => "two_proportion_z",
            Test::FewRates(..) => "fisher_exact",
            Test::Welch(name, _) => name,
        }
    }

    /// Returns treatment minus control, in the metric's unit; `None` for ratios of which
    /// one does not exist.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert_eq!(comparison.difference(), Some(0.5));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn difference(&self) -> Option<f64> {
        let difference = match &self.test {
            Test::Rates(test) | Test::FewRates(test, _) => test.difference,
            Test::Welch(_, test) => test.difference,
        };
        difference.is_finite().then_some(difference)
    }

    /// Returns the standard error of the difference, for rates the unpooled one; `None`
    /// where an arm has a single unit.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert!(comparison.standard_error().is_some_and(|error| (error - 0.008_f64.sqrt()).abs() < 1e-15));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn standard_error(&self) -> Option<f64> {
        match &self.test {
            Test::Rates(test) | Test::FewRates(test, _) => Some(test.standard_error_unpooled),
            Test::Welch(_, test) => test.standard_error,
        }
    }

    /// Returns z or t; `None` where there is no test, and for the exact one.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert!(comparison.statistic().is_some_and(|t| (t - 5.590_17).abs() < 1e-5));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn statistic(&self) -> Option<f64> {
        match &self.test {
            Test::Rates(test) => test.z,
            Test::FewRates(..) => None,
            Test::Welch(_, test) => test.t,
        }
    }

    /// Returns the degrees of freedom of t; `None` for z and where there is no test.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert_eq!(comparison.df(), Some(1998.0));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn df(&self) -> Option<f64> {
        match &self.test {
            Test::Rates(_) | Test::FewRates(..) => None,
            Test::Welch(_, test) => test.df,
        }
    }

    /// Returns the two-sided p-value of a single look; `None` where there is no test.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert!(comparison.p_value().is_some_and(|p| p < 1e-7));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn p_value(&self) -> Option<f64> {
        match &self.test {
            Test::Rates(test) => test.p_value,
            Test::FewRates(_, p_value) => Some(*p_value),
            Test::Welch(_, test) => test.p_value,
        }
    }

    /// Returns the difference in pooled standard deviations; `None` without spread, and
    /// for ratios and quantiles.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert_eq!(comparison.cohens_d(), Some(0.25));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn cohens_d(&self) -> Option<f64> {
        self.cohens_d
    }

    /// Returns the difference as a fraction of the control's absolute value: above 0 where
    /// the treatment is larger, also for a negative control.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert!(comparison.lift().is_some_and(|lift| (lift - 0.1).abs() < 1e-12));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn lift(&self) -> Option<f64> {
        let lift = self.difference()? / self.arms[0].value.abs();
        lift.is_finite().then_some(lift)
    }

    /// Returns the two-sided interval of the difference at level 1 - `alpha`: Newcombe's for
    /// rates, else that of the test.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert!(comparison.interval(Alpha::P05).is_some_and(|interval| interval.contains(0.5)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        match &self.test {
            Test::Rates(test) | Test::FewRates(test, _) => Some(test.newcombe(alpha)),
            Test::Welch(_, test) => test.interval(alpha),
        }
    }

    /// Returns the intervals of the difference and of [`Self::lift`] at level 1 - `alpha`;
    /// where there is no relative one, why. For rates it comes from both Wilson intervals
    /// (MOVER), else it is Fieller's.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// assert!(comparison.intervals(Alpha::P05).1.is_ok_and(|lift| lift.contains(0.1)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn intervals(&self, alpha: Alpha) -> (Option<Interval>, Result<Interval, NoRelative>) {
        (self.interval(alpha), self.lift_interval(alpha))
    }

    fn lift_interval(&self, alpha: Alpha) -> Result<Interval, NoRelative> {
        let [control, treatment] = &self.arms;
        if control.value == 0.0 {
            return Err(NoRelative::ControlIsZero);
        }
        let test = match &self.test {
            Test::Rates(test) | Test::FewRates(test, _) => {
                return test
                    .lift_interval(alpha)
                    .ok_or(NoRelative::ControlMayBeZero);
            }
            Test::Welch(_, test) => test,
        };
        let critical = test.critical(alpha).ok_or(NoRelative::NoTest)?;
        lift_of(control, treatment, test.difference, critical).ok_or(NoRelative::ControlMayBeZero)
    }

    /// Returns the linear test of whether the treatment is worse by `margin` or more, a
    /// fraction of the control's absolute value; `None` where the control is 0, and where
    /// there is no test of the difference.
    ///
    /// # Errors
    ///
    /// [`StatsError::Range`] for a margin outside of 0 to 1, 1 excluded.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Better, Comparison, Guardrail, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// // Less of what is negative already: better where less is good.
    /// let comparison = Comparison::between(&arm(-5.0)?, &arm(-5.5)?)?;
    /// let verdict = |better| Ok::<_, trialog_stats::StatsError>(
    ///     comparison.non_inferiority(0.05, better)?.map(|test| test.verdict(Alpha::P05)));
    /// assert_eq!(verdict(Better::Less)?, Some(Guardrail::Kept));
    /// assert_eq!(verdict(Better::More)?, Some(Guardrail::Violated));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn non_inferiority(
        &self,
        margin: f64,
        better: Better,
    ) -> Result<Option<NonInferiority>, StatsError> {
        check_margin(margin)?;
        if self.p_value().is_none() || self.n.iter().any(|n| *n < 2) {
            return Ok(None);
        }
        let [control, treatment] = self.arms;
        // The treatment that the test knows: CUPED's difference is not that of the means.
        let treatment = Estimate {
            value: control.value + self.difference().unwrap_or(f64::NAN),
            ..treatment
        };
        Ok(NonInferiority::from_estimates(
            self.n,
            [control, treatment],
            margin,
            better,
        ))
    }

    /// Returns whether a quantile has no test because too many units share one value
    /// about it.
    ///
    /// ```
    /// use trialog_stats::{Comparison, QuantileSummary, Sample};
    /// let mut values = vec![0.0; 900];
    /// values.extend((1..=100).map(f64::from));
    /// let arm = Sample::Quantile(QuantileSummary::from_sorted(&values, 0.9)?, 0.9);
    /// let comparison = Comparison::between(&arm, &arm)?;
    /// assert!(comparison.is_tied() && comparison.p_value().is_none());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn is_tied(&self) -> bool {
        self.is_tied
    }

    /// Returns whether an arm has missed the rare values or has fewer than 5 converted or 5
    /// unconverted units. Tests by the variance of each arm are unreliable then.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Proportion, Sample, Summary};
    /// let mean = |n, mean, variance| Summary::new(n, mean, Some(variance)).map(Sample::Mean);
    /// let missed = Comparison::between(&mean(540, 0.5, 4.7)?, &mean(60, 0.0, 0.0)?)?;
    /// assert!(missed.is_sparse());
    /// let rate = |conversions| Proportion::new(conversions, 500).map(Sample::Rate);
    /// assert!(Comparison::between(&rate(4)?, &rate(30)?)?.is_sparse());
    /// assert!(!Comparison::between(&rate(25)?, &rate(30)?)?.is_sparse());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        matches!(self.test, Test::FewRates(..))
            || self.guarded.is_some_and(|guarded| guarded.has_sparse_arm())
    }

    /// Returns whether the test is one of rates, which is exact where there are few events.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Proportion, Sample};
    /// let rate = Sample::Rate(Proportion::new(3, 50)?);
    /// assert!(Comparison::between(&rate, &rate)?.is_of_rates());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn is_of_rates(&self) -> bool {
        matches!(self.test, Test::Rates(_) | Test::FewRates(..))
    }

    /// Returns the variance of the difference that sequential tests take; `None` for
    /// quantiles and where an arm has a single unit.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Proportion, Sample};
    /// let rate = |conversions, n| Proportion::new(conversions, n).map(Sample::Rate);
    /// let comparison = Comparison::between(&rate(27, 540)?, &rate(0, 60)?)?;
    /// assert!(comparison.guarded().is_some_and(|guarded| guarded.is_sparse()));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn guarded(&self) -> Option<GuardedVariance> {
        self.guarded
    }

    /// Returns the difference as one segment of [`heterogeneity()`](crate::heterogeneity()),
    /// whatever the metric: the guarded variance is that of its scores.
    ///
    /// `None` for quantiles, for a single unit in an arm, and without spread.
    ///
    /// ```
    /// use trialog_stats::{Comparison, Sample, SegmentDifference, Summary};
    /// let (a, b) = (Summary::new(90, 5.0, Some(4.0))?, Summary::new(80, 5.5, Some(9.0))?);
    /// let comparison = Comparison::between(&Sample::Mean(a), &Sample::Mean(b))?;
    /// assert_eq!(comparison.segment(), SegmentDifference::from_arms(&a, &b));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn segment(&self) -> Option<SegmentDifference> {
        let guarded = self.guarded?;
        let is_rate = matches!(self.test, Test::Rates(_) | Test::FewRates(..));
        let error = |arm: usize| {
            let n = self.n[arm] as f64;
            // Of rates the scores have the divisor n - 1.
            let unbiased = if is_rate { n / (n - 1.0) } else { 1.0 };
            self.arms[arm].variance * unbiased
        };
        let errors = [error(0), error(1)];
        SegmentDifference::from_variances(self.difference()?, &guarded, self.n, errors)
    }

    /// Returns the difference as one look of [`stability()`](crate::stability()), with the
    /// interval of [`Self::always_valid`]; `None` without a difference.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let look = Comparison::between(&arm(5.0)?, &arm(5.5)?)?.stability_look(Alpha::P05, 5_000.0);
    /// assert!(look.is_some_and(|look| look.interval.is_some_and(|ci| ci.contains(0.5))));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn stability_look(&self, alpha: Alpha, tuning: f64) -> Option<StabilityLook> {
        let test = self.always_valid(alpha, tuning);
        let interval = test.and_then(|test| test.interval(alpha));
        Some(StabilityLook {
            estimate: self.difference()?,
            interval,
            half_width: test
                .and_then(|test| test.half_width(alpha))
                .filter(|_| interval.is_some()),
        })
    }

    /// Returns the mixture sequential probability ratio test at this look, tuned to be
    /// narrowest at `tuning` units of both arms together: valid at every look.
    ///
    /// With the [guarded variance](GuardedVariance). The variance of the mixture is rho²
    /// times the variance of one unit, with the rho of [`confidence_sequence()`], whose
    /// p-value and interval these are. `None` for quantiles, without spread, and for a
    /// tuning outside of 1e-9 to 1e30.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// let valid = comparison.always_valid(Alpha::P05, 2_000.0);
    /// assert!(valid.is_some_and(|test| test.p_value < Some(0.001)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn always_valid(&self, alpha: Alpha, tuning: f64) -> Option<Msprt> {
        let difference = Estimate {
            value: self.difference()?,
            variance: self.guarded?.value(),
        };
        let n = self.n[0].saturating_add(self.n[1]);
        let rho = confidence_sequence(&difference, n, alpha, tuning)
            .ok()?
            .rho?;
        let unit_variance = difference.variance * n as f64;
        Msprt::from_difference(&difference, rho * rho * unit_variance, 0.0).ok()
    }

    /// Returns the interval of [`Self::lift`] that holds at every look, of the test that
    /// [`Self::always_valid`] gave; `None` where the control may be 0.
    ///
    /// The lifts L for which the difference of the treatment and 1 + L times the control is
    /// no farther from 0 than the test allows: Fieller's interval with the test's multiple
    /// of the standard error. Where the guarded variance is that of both arms as one sample,
    /// each arm has its share of it.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Comparison, Sample, Summary};
    /// let arm = |mean| Summary::new(1000, mean, Some(4.0)).map(Sample::Mean);
    /// let comparison = Comparison::between(&arm(5.0)?, &arm(5.5)?)?;
    /// let test = comparison.always_valid(Alpha::P05, 2_000.0).ok_or("a test")?;
    /// let lift = comparison.always_valid_lift(&test, Alpha::P05).ok_or("an interval")?;
    /// assert!(lift.contains(0.1) && lift.low > 0.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn always_valid_lift(&self, test: &Msprt, alpha: Alpha) -> Option<Interval> {
        let guarded = self.guarded?;
        let critical = test.half_width(alpha)? / guarded.value().sqrt();
        let mut arms = self.arms;
        if guarded.together > guarded.separate {
            let units = self.n.map(|n| n as f64);
            let of_a_unit = guarded.together / (1.0 / units[0] + 1.0 / units[1]);
            for (arm, n) in arms.iter_mut().zip(units) {
                arm.variance = of_a_unit / n;
            }
        }
        let [control, treatment] = arms;
        lift_of(&control, &treatment, self.difference()?, critical)
    }
}

/// Fieller's interval, divided by the control's absolute value.
fn lift_of(
    control: &Estimate,
    treatment: &Estimate,
    difference: f64,
    critical: f64,
) -> Option<Interval> {
    let ratio = fieller(control, treatment, difference, critical)?;
    Some(if control.value > 0.0 {
        ratio
    } else {
        Interval {
            low: -ratio.high,
            high: -ratio.low,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(n: u64, mean: f64, variance: f64) -> Sample {
        Sample::Mean(Summary::new(n, mean, Some(variance)).unwrap())
    }

    #[test]
    fn always_valid_inference_is_that_of_the_confidence_sequence() {
        let comparison = Comparison::between(&mean(400, 1.0, 3.0), &mean(500, 1.3, 5.0)).unwrap();
        let test = comparison.always_valid(Alpha::P05, 5000.0).unwrap();
        let difference = Estimate {
            value: 1.3 - 1.0,
            variance: comparison.guarded().unwrap().value(),
        };
        let separate = 3.0 / 400.0 + 5.0 / 500.0;
        assert!(difference.variance > separate && !comparison.guarded().unwrap().is_sparse());
        let sequence = confidence_sequence(&difference, 900, Alpha::P05, 5000.0).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
        assert!(close(test.p_value.unwrap(), sequence.p_value.unwrap()));
        assert!(close(
            test.half_width(Alpha::P05).unwrap(),
            sequence.half_width.unwrap()
        ));
    }

    #[test]
    fn the_variance_of_a_rate_has_the_divisor_n_less_1() {
        let rate = Sample::Rate(Proportion::new(1, 2).unwrap());
        assert_eq!(rate.unit_variance(), Some(0.5));
        let single = Sample::Rate(Proportion::new(1, 1).unwrap());
        assert_eq!(single.unit_variance(), None);
    }

    #[test]
    fn intervals_are_as_wide_as_published_ones() {
        // Multiples of the standard error at 0.05, tuned for 5,000 units.
        let published = [
            (100, 6.694_389),
            (1_000, 3.363_888),
            (5_000, 3.035_209),
            (50_000, 3.241_723),
            (1_000_000, 3.656_536),
        ];
        for (n, multiple) in published {
            let arm = mean(n / 2, 1.0, 2.0);
            let comparison = Comparison::between(&arm, &arm).unwrap();
            let test = comparison.always_valid(Alpha::P05, 5_000.0).unwrap();
            let width = test.half_width(Alpha::P05).unwrap();
            let ratio = width / comparison.standard_error().unwrap();
            assert!((ratio - multiple).abs() < 1e-6, "{n}: {ratio}");
        }
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let rate = |n| Sample::Rate(Proportion::new(n, 10).unwrap());
        assert!(Comparison::between(&rate(1), &mean(9, 1.0, 1.0)).is_err());
        let reason = |a: &Sample, b: &Sample| {
            let comparison = Comparison::between(a, b).unwrap();
            comparison.intervals(Alpha::P05).1.unwrap_err()
        };
        assert_eq!(reason(&rate(0), &rate(5)), NoRelative::ControlIsZero);
        let centred = mean(40, 0.1, 1.0);
        assert_eq!(
            reason(&centred, &mean(40, 2.0, 1.0)),
            NoRelative::ControlMayBeZero
        );
        let single = Sample::Mean(Summary::new(1, 2.0, None).unwrap());
        assert_eq!(reason(&single, &single), NoRelative::NoTest);
        let empty = RatioSums {
            n: 2,
            m: 1.0,
            d: 0.0,
            mm: 1.0,
            dd: 0.0,
            md: 0.0,
        };
        let ratio = Sample::Ratio(empty);
        let comparison = Comparison::between(&ratio, &ratio).unwrap();
        assert_eq!(
            (comparison.difference(), comparison.p_value()),
            (None, None)
        );
        assert_eq!(comparison.always_valid(Alpha::P05, 5000.0), None);
    }

    #[test]
    fn few_conversions_take_the_exact_test_and_an_interval_with_a_width() {
        let rate = |k, n| Sample::Rate(Proportion::new(k, n).unwrap());
        for (a, b, p_value) in [
            // Two tables of six have these margins and one outcome each.
            (rate(0, 2), rate(2, 2), 1.0 / 3.0),
            (rate(0, 50), rate(0, 60), 1.0),
            (rate(50, 50), rate(60, 60), 1.0),
        ] {
            let comparison = Comparison::between(&a, &b).unwrap();
            assert_eq!(
                (comparison.test(), comparison.statistic()),
                ("fisher_exact", None)
            );
            assert!((comparison.p_value().unwrap() - p_value).abs() < 1e-12);
            let interval = comparison.interval(Alpha::P05).unwrap();
            assert!(interval.high - interval.low > 0.01, "{interval:?}");
        }
        let enough = Comparison::between(&rate(5, 50), &rate(9, 50)).unwrap();
        assert_eq!(enough.test(), "two_proportion_z");
        let few = Comparison::between(&rate(46, 50), &rate(9, 50)).unwrap();
        assert_eq!(few.test(), "fisher_exact");
    }

    #[test]
    fn relative_differences_of_a_negative_control_have_the_sign_of_the_difference() {
        let comparison =
            Comparison::between(&mean(400, -10.0, 4.0), &mean(400, -9.0, 4.0)).unwrap();
        assert!((comparison.lift().unwrap() - 0.1).abs() < 1e-12);
        let mirrored = Comparison::between(&mean(400, 10.0, 4.0), &mean(400, 9.0, 4.0)).unwrap();
        let (negative, other) = (
            comparison.intervals(Alpha::P05).1.unwrap(),
            mirrored.intervals(Alpha::P05).1.unwrap(),
        );
        assert!(negative.low > 0.0 && negative.contains(0.1), "{negative:?}");
        assert!(
            (negative.low + other.high).abs() < 1e-12 && (negative.high + other.low).abs() < 1e-12
        );
    }

    #[test]
    fn segments_and_looks_of_a_rate_are_those_of_its_zeros_and_ones() {
        let (a, b) = (
            Proportion::new(30, 400).unwrap(),
            Proportion::new(0, 50).unwrap(),
        );
        let comparison = Comparison::between(&Sample::Rate(a), &Sample::Rate(b)).unwrap();
        let scores = [(a, 30), (b, 0)]
            .map(|(arm, converted)| Summary::from_exact(arm.n(), converted, converted, 1.0));
        let [Ok(a), Ok(b)] = scores else {
            unreachable!("counts are sums")
        };
        let want = SegmentDifference::from_arms(&a, &b).unwrap();
        let got = comparison.segment().unwrap();
        assert!((got.df / want.df - 1.0).abs() < 1e-12, "{got:?}, {want:?}");
        assert!((got.variance / want.variance - 1.0).abs() < 1e-12);
        let want = StabilityLook::from_arms(&a, &b, Alpha::P05, 5_000.0).unwrap();
        let got = comparison.stability_look(Alpha::P05, 5_000.0).unwrap();
        let half_widths = got.half_width.zip(want.half_width);
        assert!(half_widths.is_some_and(|(got, want)| (got / want - 1.0).abs() < 1e-12));
    }

    #[test]
    fn a_quantile_has_no_sequential_number() {
        let values: Vec<f64> = (1..=999).map(f64::from).collect();
        let median = QuantileSummary::from_sorted(&values, 0.5).unwrap();
        let arm = Sample::Quantile(median, 0.5);
        let comparison = Comparison::between(&arm, &arm).unwrap();
        assert_eq!(comparison.p_value(), Some(1.0));
        assert_eq!(comparison.always_valid(Alpha::P05, 5_000.0), None);
    }

    #[test]
    fn a_control_without_spread_that_is_not_0_has_a_relative_interval() {
        let comparison = Comparison::between(&mean(40, 2.0, 0.0), &mean(40, 2.2, 1.0)).unwrap();
        assert!(comparison.intervals(Alpha::P05).1.is_ok());
    }
}
