//! Tests guardrails: is a metric not worse by more than a margin?

use crate::relative::fieller;
use crate::special;
use crate::welch::satterthwaite;
use crate::{Alpha, Estimate, Interval, StatsError, Summary, welch};

/// The direction in which a metric improves.
///
/// ```
/// use trialog_stats::Better;
/// assert_ne!(Better::More, Better::Less);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The larger mean is better.
    More,
    /// The smaller one is.
    Less,
}

/// The verdict on a guardrail.
///
/// ```
/// use trialog_stats::Guardrail;
/// assert_eq!(Guardrail::Kept.as_str(), "kept");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guardrail {
    /// Not worse by the margin or more.
    Kept,
    /// Worse by more than the margin.
    Violated,
    /// Neither is shown.
    Inconclusive,
}

impl Guardrail {
    /// Returns `kept`, `violated` or `inconclusive`.
    ///
    /// ```
    /// use trialog_stats::Guardrail;
    /// assert_eq!(Guardrail::Inconclusive.as_str(), "inconclusive");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Violated => "violated",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The linear test of a guardrail.
///
/// ```
/// use trialog_stats::{Alpha, Better, Guardrail, Summary, non_inferiority};
/// let a = Summary::new(5000, 200.0, Some(2500.0))?;
/// let b = Summary::new(5000, 202.0, Some(2500.0))?;
/// let test = non_inferiority(&a, &b, 0.05, Better::Less)?.ok_or("a test")?;
/// assert_eq!(test.verdict(Alpha::P05), Guardrail::Kept);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NonInferiority {
    /// Large where the treatment is far from the bound, on the good side.
    pub statistic: f64,
    /// Degrees of freedom after Satterthwaite, of the treatment and the scaled control.
    pub df: f64,
    /// Of "worse by the margin or more", one-sided, 0 to 1.
    pub p_value: f64,
    /// Of "not worse by more than the margin", one-sided, 0 to 1.
    pub p_violated: f64,
}

/// Returns the test of whether `b` is worse than `a` by `margin` or more, a fraction of
/// the control's mean.
///
/// With the bound β = 1 - margin where more is better, 1 + margin where less is:
/// `±(mean_b - β mean_a) / √(var_b/n_b + β² var_a/n_a)`. Linear, so that it keeps its level
/// where an interval of the ratio by the delta method does not. `None` for a control
/// whose mean is not positive, a single unit in an arm, and without spread.
///
/// # Errors
///
/// [`StatsError::Range`] for a margin outside of 0 to 1, 1 excluded.
///
/// ```
/// use trialog_stats::{Better, Summary, non_inferiority};
/// let negative = Summary::new(50, -3.0, Some(1.0))?;
/// assert_eq!(non_inferiority(&negative, &negative, 0.1, Better::More)?, None);
/// assert!(non_inferiority(&negative, &negative, 1.0, Better::More).is_err());
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn non_inferiority(
    a: &Summary,
    b: &Summary,
    margin: f64,
    better: Better,
) -> Result<Option<NonInferiority>, StatsError> {
    check_margin(margin)?;
    let estimates = a.estimate().zip(b.estimate());
    let estimates = estimates.filter(|(control, _)| control.value > 0.0);
    Ok(estimates.and_then(|(control, treatment)| {
        NonInferiority::from_estimates([a.n(), b.n()], [control, treatment], margin, better)
    }))
}

pub(crate) fn check_margin(margin: f64) -> Result<(), StatsError> {
    if (0.0..1.0).contains(&margin) {
        return Ok(());
    }
    Err(StatsError::Range {
        argument: "margin",
        range: "from 0 to 1, 1 excluded",
        value: margin,
    })
}

impl NonInferiority {
    /// Tests two estimates from `n` units each, at least 2. The margin is a fraction of the
    /// control's absolute value, so the bound of a negative control lies on the other side of it.
    pub(crate) fn from_estimates(
        n: [u64; 2],
        [control, treatment]: [Estimate; 2],
        margin: f64,
        better: Better,
    ) -> Option<Self> {
        if control.value == 0.0 {
            return None;
        }
        let worse = match better {
            Better::More => -margin,
            Better::Less => margin,
        };
        let bound = 1.0 + worse * control.value.signum();
        let variances = [bound * bound * control.variance, treatment.variance];
        let standard_error = (variances[0] + variances[1]).sqrt();
        let beyond = treatment.value - bound * control.value;
        let statistic = match better {
            Better::More => beyond / standard_error,
            Better::Less => -beyond / standard_error,
        };
        if !statistic.is_finite() {
            return None;
        }
        let df = satterthwaite(n, variances);
        let both = special::student_tail(statistic, df);
        let (near, far) = (both / 2.0, 1.0 - both / 2.0);
        let (p_value, p_violated) = if statistic > 0.0 {
            (near, far)
        } else {
            (far, near)
        };
        Some(Self {
            statistic,
            df,
            p_value,
            p_violated,
        })
    }

    /// Returns the verdict at alpha/2 on each side.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Better, Guardrail, Summary, non_inferiority};
    /// let arm = Summary::new(5, 200.0, Some(2500.0))?;
    /// let test = non_inferiority(&arm, &arm, 0.05, Better::Less)?.ok_or("a test")?;
    /// assert_eq!(test.verdict(Alpha::P05), Guardrail::Inconclusive);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn verdict(&self, alpha: Alpha) -> Guardrail {
        let each_side = alpha.get() / 2.0;
        if self.p_value < each_side {
            Guardrail::Kept
        } else if self.p_violated < each_side {
            Guardrail::Violated
        } else {
            Guardrail::Inconclusive
        }
    }
}

/// Returns Fieller's interval of `mean_b / mean_a - 1`, a fraction.
///
/// All lifts L with `(mean_b - (1 + L) mean_a)² <= t² (var_b/n_b + (1 + L)² var_a/n_a)`, t of
/// Welch's test of the difference (Fieller 1954). `None` where the control may be 0, and
/// without a test.
///
/// ```
/// use trialog_stats::{Alpha, Summary, lift_interval};
/// let a = Summary::new(400, 10.0, Some(4.0))?;
/// let b = Summary::new(400, 10.5, Some(4.0))?;
/// assert!(lift_interval(&a, &b, Alpha::P05).is_some_and(|interval| interval.contains(0.05)));
/// let centred = Summary::new(400, 0.01, Some(4.0))?;
/// assert_eq!(lift_interval(&centred, &b, Alpha::P05), None);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[must_use]
pub fn lift_interval(a: &Summary, b: &Summary, alpha: Alpha) -> Option<Interval> {
    let critical = special::student_critical(alpha.get(), welch(a, b).df?);
    fieller(
        &a.estimate()?,
        &b.estimate()?,
        b.mean() - a.mean(),
        critical,
    )
}
