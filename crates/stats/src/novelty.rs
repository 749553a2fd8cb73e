//! Whether an effect changes with the days since the exposure.

use crate::dense::{Metric, Symmetric};
use crate::{Alpha, BinMoments, Interval, StatsError, special};

/// A trend needs this many bins.
const FEWEST_BINS: usize = 3;
/// A slope varies less than this share of the largest variance of a bin by rounding alone.
const NO_SPREAD: f64 = 1e-14;
/// Contrasts whose correlation matrix has an eigenvalue up to this say the same twice.
const SINGULAR: f64 = 1e-8;

/// Describes how the effect develops over the bins of days since the exposure.
///
/// ```
/// use trialog_stats::{BinMoments, Novelty, novelty};
/// let cov = |v: f64| vec![vec![v, 0.2, 0.2], vec![0.2, v, 0.2], vec![0.2, 0.2, v]];
/// let a = BinMoments::new(9_000, vec![1.0, 0.8, 0.7], &cov(2.0))?;
/// let b = BinMoments::new(9_000, vec![1.5, 0.9, 0.7], &cov(2.0))?;
/// let found: Novelty = novelty(&a, &b)?;
/// assert!(found.slope.is_some_and(|slope| slope.estimate < 0.0 && slope.p_value < 1e-6));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Novelty {
    /// Difference in each bin.
    pub days: Vec<DayEffect>,
    /// ln of the ratio of the totals over all bins, with its error; `None` for fewer than three
    /// bins, and where a mean is not positive.
    pub overall: Option<LogRatio>,
    /// Trend of the log ratio over ln(day); `None` as for `overall`, and where it does not vary
    /// between users.
    pub slope: Option<NoveltySlope>,
    /// Wald's test that the log ratio is the same in all bins; `None` as for `slope`, and where
    /// a bin says nothing that the others do not say.
    pub omnibus: Option<Omnibus>,
}

/// Holds the difference between treatment and control in one bin.
///
/// ```
/// use trialog_stats::{Alpha, BinMoments, novelty};
/// let a = BinMoments::new(100, vec![1.0], &[vec![4.0]])?;
/// let b = BinMoments::new(100, vec![1.5], &[vec![4.0]])?;
/// let day = novelty(&a, &b)?.days[0];
/// assert_eq!(day.difference, 0.5);
/// assert!(day.interval(Alpha::P05).is_some_and(|ci| ci.contains(0.0)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DayEffect {
    /// `mean_b - mean_a` of the bin, in the metric's unit.
    pub difference: f64,
    /// `√(var_a/n_a + var_b/n_b)`, in the metric's unit; `None` with a single user in an arm.
    pub standard_error: Option<f64>,
    /// ln(`mean_b` / `mean_a`) with its error; `None` where a mean is not positive, or with a
    /// single user in an arm.
    pub log_ratio: Option<LogRatio>,
}

impl DayEffect {
    /// Returns the two-sided normal interval of the difference, in the metric's unit.
    ///
    /// `None` as for the standard error.
    ///
    /// ```
    /// use trialog_stats::{Alpha, DayEffect};
    /// let day = DayEffect { difference: 1.0, standard_error: None, log_ratio: None };
    /// assert_eq!(day.interval(Alpha::P05), None);
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let half_width = special::normal_critical(alpha) * self.standard_error?;
        Interval::around(self.difference, half_width)
    }
}

/// Holds the logarithm of a ratio of means and its standard error by the delta method.
///
/// ```
/// let doubled = trialog_stats::LogRatio { value: 2.0_f64.ln(), standard_error: 0.1 };
/// assert!(doubled.value > doubled.standard_error);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogRatio {
    /// ln(treatment / control).
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

impl LogRatio {
    /// Returns the two-sided normal interval of the logarithm; `None` where an end is beyond the
    /// range of a double.
    ///
    /// ```
    /// use trialog_stats::{Alpha, LogRatio};
    /// let ratio = LogRatio { value: 0.5, standard_error: 0.1 };
    /// assert!(ratio.interval(Alpha::P05).is_some_and(|ci| ci.low > 0.3 && ci.high < 0.7));
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let critical = special::normal_critical(alpha);
        Interval::around(self.value, critical * self.standard_error)
    }
}

/// Tests whether the log ratio rises or falls with the logarithm of the day.
///
/// ```
/// let slope = trialog_stats::NoveltySlope {
///     estimate: -0.3, standard_error: 0.1, z: -3.0, p_value: 0.0027,
/// };
/// assert!(slope.per_doubling() < -0.18);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoveltySlope {
    /// Change of the log ratio per unit of ln(day), day 1 being the first.
    pub estimate: f64,
    /// Its standard error, with the correlation of the bins within users.
    pub standard_error: f64,
    /// estimate / standard error.
    pub z: f64,
    /// Two-sided normal p-value, 0 to 1.
    pub p_value: f64,
}

impl NoveltySlope {
    /// Returns the two-sided normal interval of the slope; `None` where an end is beyond the
    /// range of a double.
    ///
    /// ```
    /// use trialog_stats::{Alpha, NoveltySlope};
    /// let slope = NoveltySlope { estimate: -0.3, standard_error: 0.1, z: -3.0, p_value: 0.0027 };
    /// assert!(slope.interval(Alpha::P05).is_some_and(|ci| ci.high < 0.0));
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let half_width = special::normal_critical(alpha) * self.standard_error;
        Interval::around(self.estimate, half_width)
    }

    /// Returns the change of treatment/control whenever the days double, a fraction:
    /// 2^slope - 1.
    ///
    /// ```
    /// use trialog_stats::NoveltySlope;
    /// let slope = NoveltySlope { estimate: 1.0, standard_error: 0.1, z: 10.0, p_value: 0.0 };
    /// assert!((slope.per_doubling() - 1.0).abs() < 1e-15);
    /// ```
    #[must_use]
    pub fn per_doubling(&self) -> f64 {
        change_per_doubling(self.estimate)
    }

    /// Returns the interval of [`Self::per_doubling`]; `None` as for [`Self::interval`].
    ///
    /// ```
    /// use trialog_stats::{Alpha, NoveltySlope};
    /// let slope = NoveltySlope { estimate: 1.0, standard_error: 0.1, z: 10.0, p_value: 0.0 };
    /// assert!(slope.per_doubling_interval(Alpha::P05).is_some_and(|ci| ci.contains(1.0)));
    /// ```
    #[must_use]
    pub fn per_doubling_interval(&self, alpha: Alpha) -> Option<Interval> {
        let Interval { low, high } = self.interval(alpha)?;
        let (low, high) = (change_per_doubling(low), change_per_doubling(high));
        high.is_finite().then_some(Interval { low, high })
    }
}

fn change_per_doubling(slope: f64) -> f64 {
    libm::expm1(slope * std::f64::consts::LN_2)
}

/// Tests whether the log ratio is the same in all bins, in whatever way it may change.
///
/// ```
/// let omnibus = trialog_stats::Omnibus { chi_squared: 5.7, df: 6, p_value: 0.457 };
/// assert!(omnibus.p_value > 0.05);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Omnibus {
    /// Wald's statistic, at least 0.
    pub chi_squared: f64,
    /// Bins less 1.
    pub df: usize,
    /// Upper tail of the chi-squared distribution, 0 to 1.
    pub p_value: f64,
}

/// Names how an effect changes with the days since the exposure.
///
/// ```
/// assert_eq!(trialog_stats::EffectTrend::Fading.as_str(), "fading");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EffectTrend {
    /// No trend was found.
    None,
    /// The effect approaches zero: novelty.
    Fading,
    /// The effect moves away from zero: primacy, or learning.
    Growing,
    /// There is a trend, while the totals are the same.
    Changing,
}

impl EffectTrend {
    /// Returns the word of the results: `none`, `fading`, `growing` or `changing`.
    ///
    /// ```
    /// assert_eq!(trialog_stats::EffectTrend::None.as_str(), "none");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fading => "fading",
            Self::Growing => "growing",
            Self::Changing => "changing",
        }
    }

    /// Returns the trend of an effect whose log ratio is `overall` and has this slope, with a
    /// p-value that may be adjusted for other tests.
    ///
    /// ```
    /// use trialog_stats::{Alpha, EffectTrend};
    /// let trend = |p_value| EffectTrend::from_slope(-0.3, 0.2, p_value, Alpha::P05);
    /// assert_eq!([trend(0.01), trend(0.2)], [EffectTrend::Fading, EffectTrend::None]);
    /// ```
    #[must_use]
    pub fn from_slope(slope: f64, overall: f64, p_value: f64, alpha: Alpha) -> Self {
        if p_value >= alpha.get() {
            return Self::None;
        }
        // Signs, since the product of two small numbers may be 0.
        let direction = |number: f64| i8::from(number > 0.0) - i8::from(number < 0.0);
        match direction(slope) * direction(overall) {
            -1 => Self::Fading,
            1 => Self::Growing,
            _ => Self::Changing,
        }
    }
}

impl Novelty {
    /// Returns whether the effect fades or grows at this level; `None` without a slope.
    ///
    /// ```
    /// use trialog_stats::{Alpha, EffectTrend, LogRatio, Novelty, NoveltySlope};
    /// let slope = NoveltySlope { estimate: -0.3, standard_error: 0.1, z: -3.0, p_value: 0.0027 };
    /// let overall = LogRatio { value: 0.2, standard_error: 0.05 };
    /// let found =
    ///     Novelty { days: vec![], overall: Some(overall), slope: Some(slope), omnibus: None };
    /// assert_eq!(found.verdict(Alpha::P05), Some(EffectTrend::Fading));
    /// ```
    #[must_use]
    pub fn verdict(&self, alpha: Alpha) -> Option<EffectTrend> {
        let (slope, overall) = self.slope.zip(self.overall)?;
        Some(EffectTrend::from_slope(
            slope.estimate,
            overall.value,
            slope.p_value,
            alpha,
        ))
    }
}

/// Tests whether the effect of treatment `b` against control `a` changes with the days since
/// the exposure.
///
/// Both arms hold a fixed cohort: users whose bins have all passed, so that the same users are
/// in every bin. The log ratio η of the means is regressed on ln(bin), which gives the same as
/// one score per user, and its error by the delta method (Deng, Knoblich & Lu 2018) takes the
/// correlation of a user's bins into account. The ratio, since activity falls with the days: a
/// constant lift on falling activity is a falling *difference*.
///
/// # Errors
///
/// [`StatsError::List`] for arms that do not have the same number of bins.
///
/// ```
/// use trialog_stats::{Alpha, BinMoments, EffectTrend, novelty};
/// let mut a = BinMoments::default();
/// let mut b = BinMoments::default();
/// for user in 0..500 {
///     let usual = f64::from(user % 3);
///     a.push(&[1.0, usual, 2.0 - usual])?;
///     b.push(&[1.0, 2.0 - usual, usual])?;
/// }
/// assert_eq!(novelty(&a, &b)?.verdict(Alpha::P05), Some(EffectTrend::None));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn novelty(a: &BinMoments, b: &BinMoments) -> Result<Novelty, StatsError> {
    if a.n_bins() != b.n_bins() {
        return Err(StatsError::List {
            argument: "mean",
            rule: "must have as many bins in both arms",
        });
    }
    let n_bins = a.n_bins();
    let days = (0..n_bins).map(|bin| day_effect(a, b, bin)).collect();
    let is_positive = |arm: &BinMoments| arm.means().iter().all(|mean| *mean > 0.0);
    if n_bins < FEWEST_BINS || !is_positive(a) || !is_positive(b) {
        return Ok(Novelty {
            days,
            overall: None,
            slope: None,
            omnibus: None,
        });
    }
    let ratios = LogRatios::new(a, b);
    let slope = ratios.as_ref().and_then(LogRatios::slope);
    Ok(Novelty {
        days,
        overall: overall(a, b),
        slope,
        omnibus: ratios
            .filter(|_| slope.is_some())
            .and_then(|ratios| ratios.omnibus()),
    })
}

fn day_effect(a: &BinMoments, b: &BinMoments, bin: usize) -> DayEffect {
    let (mean_a, mean_b) = (a.means()[bin], b.means()[bin]);
    let variance = |arm: &BinMoments| Some(arm.covariance(bin, bin)? / arm.n() as f64);
    let variances = variance(a).zip(variance(b));
    DayEffect {
        difference: mean_b - mean_a,
        standard_error: variances.map(|(a, b)| (a + b).sqrt()),
        log_ratio: variances
            .and_then(|(var_a, var_b)| log_ratio_with_error([mean_a, mean_b], [var_a, var_b])),
    }
}

/// The ratio of the totals over all bins; a total varies by all its bins' covariances.
fn overall(a: &BinMoments, b: &BinMoments) -> Option<LogRatio> {
    let bins = || 0..a.n_bins();
    let total = |arm: &BinMoments| arm.means().iter().sum::<f64>();
    let variance = |arm: &BinMoments| {
        let pairs = bins().flat_map(|row| bins().map(move |column| (row, column)));
        let covariances = pairs.map(|(row, column)| arm.covariance(row, column));
        Some(covariances.sum::<Option<f64>>()?.max(0.0) / arm.n() as f64)
    };
    log_ratio_with_error([total(a), total(b)], [variance(a)?, variance(b)?])
}

/// `None` where a mean is not positive or the error is beyond the range of a double.
fn log_ratio_with_error(means: [f64; 2], variances: [f64; 2]) -> Option<LogRatio> {
    if means.iter().any(|mean| *mean <= 0.0) {
        return None;
    }
    let relative = |arm: usize| variances[arm].sqrt() / means[arm];
    let standard_error = relative(0).hypot(relative(1));
    standard_error.is_finite().then(|| LogRatio {
        value: log_ratio(means[0], means[1]),
        standard_error,
    })
}

/// ln(b/a) of positive numbers, with all digits where they are close.
fn log_ratio(a: f64, b: f64) -> f64 {
    let excess = (b - a) / a;
    if excess.abs() < 0.5 {
        libm::log1p(excess)
    } else {
        b.ln() - a.ln()
    }
}

/// The log ratio of each bin and how they vary together.
struct LogRatios {
    values: Vec<f64>,
    covariance: Symmetric,
}

impl LogRatios {
    /// Takes arms whose means are positive; `None` with a single user in an arm.
    fn new(a: &BinMoments, b: &BinMoments) -> Option<Self> {
        if a.n() < 2 || b.n() < 2 {
            return None;
        }
        let relative = |arm: &BinMoments, row: usize, column: usize| {
            let covariance = arm.covariance(row, column).unwrap_or_default();
            covariance / arm.means()[row] / arm.means()[column] / arm.n() as f64
        };
        let means = a.means().iter().zip(b.means());
        Some(Self {
            values: means.map(|(a, b)| log_ratio(*a, *b)).collect(),
            covariance: Symmetric::from_lower(a.n_bins(), |row, column| {
                relative(a, row, column) + relative(b, row, column)
            }),
        })
    }

    fn slope(&self) -> Option<NoveltySlope> {
        let n_bins = self.values.len();
        let logs: Vec<f64> = (1..=n_bins).map(|day| (day as f64).ln()).collect();
        let mean = logs.iter().sum::<f64>() / n_bins as f64;
        let squares: f64 = logs.iter().map(|x| (x - mean) * (x - mean)).sum();
        let weights: Vec<f64> = logs.iter().map(|x| (x - mean) / squares).collect();
        let products = weights.iter().zip(&self.values);
        let estimate: f64 = products.map(|(weight, value)| weight * value).sum();
        let mut variance = 0.0;
        let mut largest = 0.0_f64;
        for row in 0..n_bins {
            largest = largest.max(self.covariance.at(row, row));
            for column in 0..n_bins {
                variance += weights[row] * weights[column] * self.covariance.at(row, column);
            }
        }
        let is_spread = variance > NO_SPREAD * largest && variance.is_finite();
        let standard_error = variance.sqrt();
        let z = estimate / standard_error;
        (is_spread && z.is_finite()).then(|| NoveltySlope {
            estimate,
            standard_error,
            z,
            p_value: special::normal_two_sided_tail(z),
        })
    }

    /// Successive differences are as good as any contrasts: the statistic is the same.
    fn omnibus(&self) -> Option<Omnibus> {
        let df = self.values.len() - 1;
        let covariance = Symmetric::from_lower(df, |row, column| {
            let at = |i: usize, j: usize| self.covariance.at(i, j);
            let step = at(row + 1, column + 1) - at(row + 1, column);
            step - (at(row, column + 1) - at(row, column))
        });
        let steps: Vec<f64> = self
            .values
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect();
        let chi_squared = Metric::factor(&covariance, SINGULAR)?.squared_length(&steps);
        chi_squared.is_finite().then(|| Omnibus {
            chi_squared,
            df,
            p_value: special::chi_squared_tail(chi_squared, df as f64),
        })
    }
}
