//! Whether an effect is the same in all segments, and which segments deviate.

use crate::welch::satterthwaite;
use crate::{Alpha, GuardedVariance, Interval, StatsError, Summary, holm, special};

/// More segments than this are refused: naming takes time that grows with their square.
const MAX_SEGMENTS: usize = 1_000;
/// Differences and scores beyond this are refused, so that no product overflows.
const LARGEST: f64 = 1e150;
/// Variances outside of this range are refused, so that no weight underflows.
const VARIANCES: std::ops::RangeInclusive<f64> = 1e-150..=1e150;

/// Holds the difference between treatment and control within one segment.
///
/// ```
/// use trialog_stats::{SegmentDifference, Summary};
/// let (a, b) = (Summary::new(50, 1.0, Some(4.0))?, Summary::new(50, 1.5, Some(4.0))?);
/// let segment = SegmentDifference::from_arms(&a, &b).ok_or("no spread")?;
/// assert_eq!((segment.difference, segment.df.round()), (0.5, 98.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentDifference {
    /// `mean_b - mean_a`, in the metric's unit, within ±1e150.
    pub difference: f64,
    /// Guarded variance V of the difference, in the square of the metric's unit, from 1e-150
    /// to 1e150.
    pub variance: f64,
    /// Degrees of freedom of the variance, at least 1.
    pub df: f64,
    /// Position of the segment on a scale, such as its exposure day, within ±1e150.
    pub score: Option<f64>,
}

impl SegmentDifference {
    /// Computes the difference from the summaries of the control `a` and the treatment `b`.
    ///
    /// The variance is the guarded one, the degrees of freedom are Satterthwaite's of each
    /// arm's own variance, and the smaller arm's n - 1 where neither arm has spread of its own.
    /// `None` for a single unit in an arm and without spread: such a segment is excluded.
    ///
    /// ```
    /// use trialog_stats::{SegmentDifference, Summary};
    /// let nobody = Summary::new(30, 0.0, Some(0.0))?;
    /// assert_eq!(SegmentDifference::from_arms(&nobody, &nobody), None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn from_arms(a: &Summary, b: &Summary) -> Option<Self> {
        let errors = [a.estimate()?.variance, b.estimate()?.variance];
        let guarded = GuardedVariance::between(a, b)?;
        Self::from_variances(b.mean() - a.mean(), &guarded, [a.n(), b.n()], errors)
    }

    /// Assembles the difference of arms of `n` units, at least 2, from the guarded variance and
    /// each arm's squared standard error; `None` without spread.
    pub(crate) fn from_variances(
        difference: f64,
        guarded: &GuardedVariance,
        n: [u64; 2],
        errors: [f64; 2],
    ) -> Option<Self> {
        if guarded.value() <= 0.0 {
            return None;
        }
        let df = if guarded.separate > 0.0 {
            // Rounding may take it below what the smaller arm alone has.
            satterthwaite(n, errors).max(1.0)
        } else {
            (n[0].min(n[1]) - 1) as f64
        };
        Some(Self {
            difference,
            variance: guarded.value(),
            df,
            score: None,
        })
    }

    /// Returns the segment at this position on a scale, such as the day of exposure.
    ///
    /// ```
    /// use trialog_stats::SegmentDifference;
    /// let segment = SegmentDifference { difference: 1.0, variance: 1.0, df: 9.0, score: None };
    /// assert_eq!(segment.with_score(3.0).score, Some(3.0));
    /// ```
    #[must_use]
    pub fn with_score(self, score: f64) -> Self {
        Self {
            score: Some(score),
            ..self
        }
    }

    pub(crate) fn check(&self) -> Result<(), StatsError> {
        let within = |argument, value: f64| {
            let is_usable = (-LARGEST..=LARGEST).contains(&value);
            is_usable.then_some(()).ok_or(StatsError::Range {
                argument,
                range: "from -1e150 to 1e150",
                value,
            })
        };
        within("difference", self.difference)?;
        within("score", self.score.unwrap_or_default())?;
        if !VARIANCES.contains(&self.variance) {
            return Err(StatsError::Range {
                argument: "variance",
                range: "from 1e-150 to 1e150",
                value: self.variance,
            });
        }
        if self.df >= 1.0 {
            Ok(())
        } else {
            Err(StatsError::DegreesOfFreedom(self.df))
        }
    }
}

/// Compares the effects of all segments.
///
/// ```
/// use trialog_stats::{Alpha, SegmentDifference, heterogeneity};
/// let segment = |difference| SegmentDifference { difference, variance: 1.0, df: 500.0, score: None };
/// let found = heterogeneity(&[segment(1.0), segment(2.0)], Alpha::P05)?.ok_or("two segments")?;
/// assert_eq!((found.pooled.difference, found.q.chi_squared), (1.5, 0.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Heterogeneity {
    /// Effect of each segment, in the order of the input.
    pub segments: Vec<SegmentEffect>,
    /// Mean effect, weighted by 1/V.
    pub pooled: PooledEffect,
    /// Cochran's Q, which rejects too often with many small segments: never the verdict.
    pub q: CochranQ,
    /// Welch's F: the verdict.
    pub f: WelchF,
    /// Share of the spread of the effects that is not noise, 0 to 1 (Higgins & Thompson 2002).
    pub i_squared: f64,
    /// Variance of the true effects after Paule & Mandel (1982), in the square of the metric's
    /// unit, at least 0.
    pub tau_squared: f64,
    /// The same after `DerSimonian` & Laird (1986), in closed form.
    pub tau_squared_dl: f64,
    /// Trend of the effects over the scores; `None` unless every segment has a score and at
    /// least two differ.
    pub trend: Option<SegmentTrend>,
    /// Positions of the segments that deviate from the rest, in the order in which they were
    /// taken out.
    pub named: Vec<usize>,
}

/// Describes the effect of one segment beside those of the others.
///
/// ```
/// use trialog_stats::{Alpha, SegmentDifference, heterogeneity};
/// let segment = |difference| SegmentDifference { difference, variance: 1.0, df: 500.0, score: None };
/// let found = heterogeneity(&[segment(1.0), segment(4.0)], Alpha::P05)?.ok_or("two segments")?;
/// assert_eq!((found.segments[1].rest, found.segments[1].contrast), (1.0, 3.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentEffect {
    /// Share of the weights, 0 to 1.
    pub share: f64,
    /// Weighted mean effect of the other segments, in the metric's unit.
    pub rest: f64,
    /// Effect of the segment less `rest`, in the metric's unit.
    pub contrast: f64,
    /// Standard error of the contrast, in the metric's unit.
    pub standard_error: f64,
    /// Satterthwaite's degrees of freedom of the contrast.
    pub df: f64,
    /// Two-sided p-value of the contrast by Student's t, 0 to 1.
    pub p_value: f64,
    /// The p-value after Holm over the segments, 0 to 1.
    pub adjusted_p_value: f64,
    /// Effect drawn to the common mean by what of its spread is noise, in the metric's unit.
    pub shrunk: f64,
    /// Standard deviation of the shrunk effect, in the metric's unit.
    pub shrunk_sd: f64,
}

impl SegmentEffect {
    /// Returns the two-sided normal interval of the shrunk effect; `None` where an end is beyond
    /// the range of a double.
    ///
    /// ```
    /// use trialog_stats::{Alpha, SegmentDifference, heterogeneity};
    /// let segment = |difference| SegmentDifference { difference, variance: 1.0, df: 500.0, score: None };
    /// let found = heterogeneity(&[segment(1.0), segment(4.0)], Alpha::P05)?.ok_or("segments")?;
    /// let ci = found.segments[1].interval(Alpha::P05).ok_or("an end is too far away")?;
    /// assert!(ci.contains(found.segments[1].shrunk));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        Interval::around(
            self.shrunk,
            special::normal_critical(alpha) * self.shrunk_sd,
        )
    }
}

/// Holds a mean effect and its standard error.
///
/// ```
/// let pooled = trialog_stats::PooledEffect { difference: 0.5, standard_error: 0.1 };
/// assert!(pooled.difference > pooled.standard_error);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PooledEffect {
    /// Σwd/Σw with w = 1/V, in the metric's unit.
    pub difference: f64,
    /// 1/√Σw, in the metric's unit.
    pub standard_error: f64,
}

/// Tests the spread of the effects against noise whose variance counts as known.
///
/// ```
/// let q = trialog_stats::CochranQ { chi_squared: 3.8, df: 1, p_value: 0.051 };
/// assert!(q.p_value > 0.05);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CochranQ {
    /// Σw(d - pooled)², at least 0.
    pub chi_squared: f64,
    /// Segments less 1; of a residual, segments less 2.
    pub df: usize,
    /// Upper tail of the chi-squared distribution, 0 to 1.
    pub p_value: f64,
}

/// Tests the spread of the effects against noise whose variance is estimated.
///
/// ```
/// let f = trialog_stats::WelchF { f: 4.1, df1: 1, df2: 60.0, p_value: 0.047 };
/// assert!(f.p_value < 0.05);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WelchF {
    /// F, at least 0.
    pub f: f64,
    /// Degrees of freedom of the numerator.
    pub df1: usize,
    /// Degrees of freedom of the denominator, at least 1, not rounded.
    pub df2: f64,
    /// Upper tail of F, 0 to 1.
    pub p_value: f64,
}

/// Describes the trend of the effects over the scores of the segments.
///
/// ```
/// use trialog_stats::{Alpha, SegmentDifference, heterogeneity};
/// let day = |day: f64| {
///     let effect = SegmentDifference { difference: day, variance: 1.0, df: 500.0, score: None };
///     effect.with_score(day)
/// };
/// let found = heterogeneity(&[day(0.0), day(1.0), day(2.0)], Alpha::P05)?.ok_or("segments")?;
/// assert_eq!(found.trend.map(|trend| trend.slope), Some(1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentTrend {
    /// Change of the effect per unit of the score, by least squares with weights 1/V.
    pub slope: f64,
    /// Standard error of the slope.
    pub standard_error: f64,
    /// slope / standard error.
    pub z: f64,
    /// Two-sided normal p-value, 0 to 1.
    pub p_value: f64,
    /// What the trend leaves of Q; `None` for two segments.
    pub residual: Option<CochranQ>,
}

impl SegmentTrend {
    /// Returns the two-sided normal interval of the slope; `None` where an end is beyond the
    /// range of a double.
    ///
    /// ```
    /// use trialog_stats::{Alpha, SegmentTrend};
    /// let trend =
    ///     SegmentTrend { slope: 1.0, standard_error: 0.1, z: 10.0, p_value: 0.0, residual: None };
    /// assert!(trend.interval(Alpha::P05).is_some_and(|ci| ci.low > 0.8 && ci.high < 1.2));
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let critical = special::normal_critical(alpha);
        Interval::around(self.slope, critical * self.standard_error)
    }
}

/// Tests whether the effect is the same in all `segments`, and names those that deviate.
///
/// The verdict is the p-value of `f` (Welch 1951), which takes into account that each variance
/// is estimated; Q (Cochran 1954) takes them for known and rejects more often. A segment
/// deviates where its contrast to the rest, adjusted after Holm over the segments that
/// are left, is below `alpha` while F still rejects; it is taken out and the search goes on
/// while three are left. Deviating by the adjusted p-value alone would blame others as well,
/// since a deviant segment moves their rest. `None` for fewer than two segments.
///
/// # Errors
///
/// [`StatsError::List`] for more than 1,000 segments; [`StatsError::Range`] or
/// [`StatsError::DegreesOfFreedom`] for a segment whose number is out of its range.
///
/// ```
/// use trialog_stats::{Alpha, SegmentDifference, heterogeneity};
/// let segment = |difference| SegmentDifference { difference, variance: 1.0, df: 500.0, score: None };
/// let alike = [0.1, -0.3, 0.2, 9.0].map(segment);
/// let found = heterogeneity(&alike, Alpha::P05)?.ok_or("four segments")?;
/// assert!(found.f.p_value < 1e-6);
/// assert_eq!(found.named, [3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn heterogeneity(
    segments: &[SegmentDifference],
    alpha: Alpha,
) -> Result<Option<Heterogeneity>, StatsError> {
    if segments.len() > MAX_SEGMENTS {
        return Err(StatsError::List {
            argument: "segments",
            rule: "must have at most 1,000 segments",
        });
    }
    segments.iter().try_for_each(SegmentDifference::check)?;
    if segments.len() < 2 {
        return Ok(None);
    }
    let pool = Pool::new(segments.iter());
    let q = pool.cochran_q();
    let tau_squared = pool.paule_mandel();
    let contrasts = pool.contrasts();
    let p_values: Vec<f64> = contrasts.iter().map(|contrast| contrast.p_value).collect();
    let adjusted = holm(&p_values)?;
    let shrinkage = Shrinkage::new(segments, tau_squared);
    let effects = contrasts.iter().zip(adjusted).enumerate();
    let effects = effects.map(|(index, (contrast, adjusted_p_value))| {
        let (shrunk, shrunk_sd) = shrinkage.of_segment(&segments[index]);
        SegmentEffect {
            share: pool.weights[index] / pool.total,
            rest: contrast.rest,
            contrast: contrast.value,
            standard_error: contrast.standard_error,
            df: contrast.df,
            p_value: contrast.p_value,
            adjusted_p_value,
            shrunk,
            shrunk_sd,
        }
    });
    let degrees = q.df as f64;
    Ok(Some(Heterogeneity {
        segments: effects.collect(),
        pooled: PooledEffect {
            difference: pool.mean,
            standard_error: (pool.unit / pool.total).sqrt(),
        },
        q,
        f: pool.welch_f(),
        // Both are 0 where Q is no larger than noise makes it.
        i_squared: ((q.chi_squared - degrees) / q.chi_squared).max(0.0),
        tau_squared,
        tau_squared_dl: pool.der_simonian_laird(),
        trend: pool.trend(),
        named: name_deviating(segments, alpha),
    }))
}

/// Takes out the segment that deviates most for as long as there is one.
fn name_deviating(segments: &[SegmentDifference], alpha: Alpha) -> Vec<usize> {
    let mut left: Vec<usize> = (0..segments.len()).collect();
    let mut named = Vec::new();
    while left.len() >= 3 {
        let pool = Pool::new(left.iter().map(|index| &segments[*index]));
        if pool.welch_f().p_value >= alpha.get() {
            break;
        }
        let contrasts = pool.contrasts();
        // Where p-values underflow together, the statistic still tells them apart.
        let order = |contrast: &Contrast| (contrast.p_value, -contrast.t().abs());
        let smallest = (0..left.len()).min_by(|first, second| {
            let (first, second) = (order(&contrasts[*first]), order(&contrasts[*second]));
            first
                .0
                .total_cmp(&second.0)
                .then(first.1.total_cmp(&second.1))
        });
        let Some(position) = smallest else { break };
        // Holm multiplies the smallest p-value by the number of tests.
        if contrasts[position].p_value * left.len() as f64 >= alpha.get() {
            break;
        }
        named.push(left.remove(position));
    }
    named
}

/// Segments with weights 1/V in units of the largest of them.
struct Pool<'a> {
    segments: Vec<&'a SegmentDifference>,
    /// The smallest variance: the weight 1.
    unit: f64,
    weights: Vec<f64>,
    total: f64,
    mean: f64,
}

/// The effect of a segment less that of the others.
struct Contrast {
    rest: f64,
    value: f64,
    standard_error: f64,
    df: f64,
    p_value: f64,
}

impl Contrast {
    fn t(&self) -> f64 {
        self.value / self.standard_error
    }
}

impl<'a> Pool<'a> {
    /// Weighs at least two segments.
    fn new(segments: impl Iterator<Item = &'a SegmentDifference>) -> Self {
        let segments: Vec<&SegmentDifference> = segments.collect();
        let variances = segments.iter().map(|segment| segment.variance);
        let unit = variances.clone().fold(f64::INFINITY, f64::min);
        let weights: Vec<f64> = variances.map(|variance| unit / variance).collect();
        let total = weights.iter().sum();
        let products = segments.iter().zip(&weights);
        let sum: f64 = products
            .map(|(segment, weight)| weight * segment.difference)
            .sum();
        Self {
            segments,
            unit,
            weights,
            total,
            mean: sum / total,
        }
    }

    /// Returns Σw(d - fitted)² for what `fitted` says of each segment.
    fn squares_about(&self, fitted: impl Fn(&SegmentDifference) -> f64) -> f64 {
        let root = self.unit.sqrt();
        let terms = self.segments.iter().zip(&self.weights);
        let terms = terms.map(|(segment, weight)| {
            let apart = (segment.difference - fitted(segment)) / root;
            weight * apart * apart
        });
        terms.sum::<f64>().min(f64::MAX)
    }

    fn cochran_q(&self) -> CochranQ {
        let chi_squared = self.squares_about(|_| self.mean);
        chi_squared_test(chi_squared, self.segments.len() - 1)
    }

    /// Welch (1951), eq. 28 and following.
    fn welch_f(&self) -> WelchF {
        let n_segments = self.segments.len() as f64;
        let df1 = self.segments.len() - 1;
        let others = sums_of_others(&self.weights);
        let terms = self.segments.iter().zip(others);
        let lambda: f64 = terms
            .map(|(segment, others)| {
                let share = others / self.total;
                share * share / segment.df
            })
            .sum();
        let pairs = (n_segments - 1.0) * (n_segments + 1.0);
        let df2 = pairs / (3.0 * lambda);
        let correction = 1.0 + 2.0 * (n_segments - 2.0) / pairs * lambda;
        let f = self.cochran_q().chi_squared / df1 as f64 / correction;
        WelchF {
            f,
            df1,
            df2,
            p_value: special::f_tail(f, df1 as f64, df2),
        }
    }

    /// Sums over the other segments are formed of theirs alone, since a difference of sums
    /// would lose the small ones.
    fn contrasts(&self) -> Vec<Contrast> {
        let pairs = || self.segments.iter().zip(&self.weights);
        let products: Vec<f64> = pairs()
            .map(|(segment, weight)| weight * segment.difference)
            .collect();
        let squares: Vec<f64> = pairs()
            .map(|(segment, weight)| weight * weight / segment.df)
            .collect();
        let weights = sums_of_others(&self.weights);
        let products = sums_of_others(&products);
        let squares = sums_of_others(&squares);
        let contrast = |index: usize| {
            let segment = self.segments[index];
            let rest = products[index] / weights[index];
            let rest_variance = self.unit / weights[index];
            let variance = segment.variance + rest_variance;
            let (one, all) = (segment.variance / variance, rest_variance / variance);
            let rest_inverse_df = squares[index] / weights[index] / weights[index];
            let df = 1.0 / (one * one / segment.df + all * all * rest_inverse_df);
            let (value, standard_error) = (segment.difference - rest, variance.sqrt());
            Contrast {
                rest,
                value,
                standard_error,
                df,
                p_value: special::student_tail(value / standard_error, df),
            }
        };
        (0..self.segments.len()).map(contrast).collect()
    }

    fn der_simonian_laird(&self) -> f64 {
        let excess = self.cochran_q().chi_squared - (self.segments.len() - 1) as f64;
        let others = self.weights.iter().zip(sums_of_others(&self.weights));
        let scale: f64 = others
            .map(|(weight, others)| weight * (others / self.total))
            .sum();
        (excess / scale * self.unit).clamp(0.0, f64::MAX)
    }

    /// The root of Σ(d - m)²/(V + τ²) = G - 1, m being the mean with these weights.
    ///
    /// 1/Q is nearly a straight line in τ² and exactly one where all variances are the same, so
    /// Newton's method on it takes a few steps; bisection catches what leaves the bracket.
    fn paule_mandel(&self) -> f64 {
        const MOST_STEPS: u32 = 400;
        let degrees = (self.segments.len() - 1) as f64;
        if self.cochran_q().chi_squared <= degrees {
            return 0.0;
        }
        let n_segments = self.segments.len() as f64;
        let differences = || self.segments.iter().map(|segment| segment.difference);
        let mean = differences().sum::<f64>() / n_segments;
        let squares: f64 = differences().map(|d| (d - mean) * (d - mean)).sum();
        // Q(τ²) is at most Σ(d - mean)²/τ².
        let (mut low, mut high) = (0.0, squares / degrees);
        let mut tau_squared = 0.0;
        for _ in 0..MOST_STEPS {
            let (q, slope) = self.q_at(tau_squared);
            if q > degrees {
                low = tau_squared;
            } else {
                high = tau_squared;
            }
            // The root of 1/Q + (x - τ²) slope of 1/Q = 1/(G - 1).
            let newton = tau_squared + (1.0 - q / degrees) * q / slope;
            let next = if newton > low && newton < high {
                newton
            } else {
                low + 0.5 * (high - low)
            };
            let step = (next - tau_squared).abs();
            tau_squared = next;
            if step <= 4.0 * f64::EPSILON * tau_squared {
                break;
            }
        }
        tau_squared
    }

    /// Q with the variances V + τ², and its derivative by τ², which is negative.
    fn q_at(&self, tau_squared: f64) -> (f64, f64) {
        let mean = weighted_mean(&self.segments, tau_squared);
        let (mut q, mut slope) = (0.0, 0.0);
        for segment in &self.segments {
            let variance = segment.variance + tau_squared;
            let apart = segment.difference - mean;
            let term = apart / variance * apart;
            q += term;
            slope -= term / variance;
        }
        (q, slope)
    }

    fn trend(&self) -> Option<SegmentTrend> {
        let scores: Option<Vec<f64>> = self.segments.iter().map(|segment| segment.score).collect();
        let scores = scores?;
        let weighted = |values: &mut dyn Iterator<Item = f64>| -> f64 {
            let products = self.weights.iter().zip(values);
            products.map(|(weight, value)| weight * value).sum()
        };
        let middle = weighted(&mut scores.iter().copied()) / self.total;
        let spread = weighted(&mut scores.iter().map(|x| (x - middle) * (x - middle)));
        let is_spread = scores.iter().any(|score| (score - scores[0]).abs() > 0.0);
        if !is_spread || spread <= 0.0 {
            return None;
        }
        let scored = || self.segments.iter().zip(&scores);
        let along = weighted(&mut scored().map(|(s, x)| (s.difference - self.mean) * (x - middle)));
        let (slope, standard_error) = (along / spread, (self.unit / spread).sqrt());
        let z = slope / standard_error;
        if !(z.is_finite() && slope.is_finite() && standard_error.is_finite()) {
            return None;
        }
        let left = self.squares_about(|segment| {
            self.mean + slope * (segment.score.unwrap_or(middle) - middle)
        });
        let df = self.segments.len() - 2;
        Some(SegmentTrend {
            slope,
            standard_error,
            z,
            p_value: special::normal_two_sided_tail(z),
            residual: (df > 0).then(|| chi_squared_test(left, df)),
        })
    }
}

/// How much of each effect's distance from the mean is kept.
struct Shrinkage {
    tau_squared: f64,
    mean: f64,
    /// 1/Σ 1/(V + τ²).
    mean_variance: f64,
}

impl Shrinkage {
    fn new(segments: &[SegmentDifference], tau_squared: f64) -> Self {
        let segments: Vec<&SegmentDifference> = segments.iter().collect();
        let inverse = segments.iter().map(|s| 1.0 / (s.variance + tau_squared));
        Self {
            tau_squared,
            mean: weighted_mean(&segments, tau_squared),
            mean_variance: 1.0 / inverse.sum::<f64>(),
        }
    }

    /// The shrunk effect and its standard deviation.
    fn of_segment(&self, segment: &SegmentDifference) -> (f64, f64) {
        let variance = segment.variance + self.tau_squared;
        let (kept, lost) = (self.tau_squared / variance, segment.variance / variance);
        let shrunk = self.mean + kept * (segment.difference - self.mean);
        let spread = kept * segment.variance + lost * lost * self.mean_variance;
        (shrunk, spread.sqrt())
    }
}

/// The mean of the differences with the weights 1/(V + τ²).
fn weighted_mean(segments: &[&SegmentDifference], tau_squared: f64) -> f64 {
    let variances = segments.iter().map(|segment| segment.variance);
    let unit = variances.fold(f64::INFINITY, f64::min) + tau_squared;
    let (mut sum, mut total) = (0.0, 0.0);
    for segment in segments {
        let weight = unit / (segment.variance + tau_squared);
        sum += weight * segment.difference;
        total += weight;
    }
    sum / total
}

/// For each value the sum of the others.
fn sums_of_others(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; values.len()];
    let (mut before, mut after) = (0.0, 0.0);
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = before;
        before += value;
    }
    for (sum, value) in sums.iter_mut().zip(values).rev() {
        *sum += after;
        after += value;
    }
    sums
}

fn chi_squared_test(chi_squared: f64, df: usize) -> CochranQ {
    CochranQ {
        chi_squared,
        df,
        p_value: special::chi_squared_tail(chi_squared, df as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(difference: f64, variance: f64) -> SegmentDifference {
        SegmentDifference {
            difference,
            variance,
            df: 30.0,
            score: None,
        }
    }

    #[test]
    fn the_variance_between_segments_is_found_whatever_the_scales() {
        for (scale, apart) in [(1.0, 3.0), (1e-100, 1e-20), (1e100, 1e60), (1e-150, 1e70)] {
            let variances = [1.0, 2.5, 40.0, 0.3].map(|v: f64| v * scale);
            let differences = [0.0, 3.0, -2.0, 5.5].map(|d: f64| d * apart);
            let segments: Vec<_> = differences
                .into_iter()
                .zip(variances)
                .map(|(difference, variance)| segment(difference, variance))
                .collect();
            let pool = Pool::new(segments.iter());
            let tau_squared = pool.paule_mandel();
            let (q, _) = pool.q_at(tau_squared);
            assert!((q / 3.0 - 1.0).abs() < 1e-12, "{scale:e}: {q}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_and_extremes_are_finite() {
        let nan = segment(f64::NAN, 1.0);
        let none = SegmentDifference {
            df: 0.5,
            ..segment(1.0, 1.0)
        };
        for refused in [nan, none, segment(1.0, 0.0), segment(1.0, f64::INFINITY)] {
            assert!(heterogeneity(&[refused, refused], Alpha::P05).is_err());
        }
        assert!(heterogeneity(&vec![segment(1.0, 1.0); 1_001], Alpha::P05).is_err());
        let far = [
            segment(1e150, 1e-150).with_score(-1e150),
            segment(-1e150, 1e150).with_score(1e150),
            segment(0.0, 1.0).with_score(0.0),
        ];
        let found = heterogeneity(&far, Alpha::P05).unwrap().unwrap();
        let first = &found.segments[0];
        for number in [first.rest, first.shrunk, found.tau_squared, found.f.f] {
            assert!(number.is_finite(), "{found:?}");
        }
    }
}
