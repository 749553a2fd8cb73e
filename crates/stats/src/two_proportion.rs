//! Compares two conversion rates: z-test and intervals of their difference.

use crate::relative::relative_to;
use crate::{Alpha, Interval, Proportion, Relative, special};

/// The two-proportion z-test with its estimates.
///
/// Rates, differences and standard errors are fractions (0.05 is 5 points).
///
/// ```
/// use trialog_stats::{Proportion, two_proportion_z};
/// let none = Proportion::new(0, 50)?;
/// let test = two_proportion_z(&none, &none);
/// assert_eq!((test.difference, test.z, test.p_value), (0.0, None, None));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoProportion {
    /// The control arm.
    pub a: Proportion,
    /// The treatment arm.
    pub b: Proportion,
    /// Rate of both arms taken together.
    pub rate_pooled: f64,
    /// `rate_b - rate_a`.
    pub difference: f64,
    /// Standard error under equal rates, used for the test.
    pub standard_error_pooled: f64,
    /// Standard error with the rate of each arm, used for the Wald interval.
    pub standard_error_unpooled: f64,
    /// `difference / standard_error_pooled`; `None` when all or none converted in both arms.
    pub z: Option<f64>,
    /// Two-sided, 0 to 1, accurate in relative terms in the far tail; `None` as for `z`.
    pub p_value: Option<f64>,
    /// Relative difference with the unpooled variances; `None` when `rate_a` is 0.
    pub relative: Option<Relative>,
}

/// Returns the two-sided z-test of `rate_b - rate_a`, pooled.
///
/// ```
/// use trialog_stats::{Proportion, two_proportion_z};
/// let test = two_proportion_z(&Proportion::new(100, 1000)?, &Proportion::new(130, 1000)?);
/// assert!(test.p_value.is_some_and(|p| (p - 0.0355).abs() < 1e-4));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[must_use]
pub fn two_proportion_z(a: &Proportion, b: &Proportion) -> TwoProportion {
    let (rate_pooled, standard_error_pooled) = pooled(a, b);
    let (rate_a, rate_b) = (a.estimate(), b.estimate());
    let difference = difference(a, b);
    let z = (standard_error_pooled > 0.0).then(|| difference / standard_error_pooled);
    TwoProportion {
        a: *a,
        b: *b,
        rate_pooled,
        difference,
        standard_error_pooled,
        standard_error_unpooled: (rate_a.variance + rate_b.variance).sqrt(),
        z,
        p_value: z.map(special::normal_two_sided_tail),
        relative: relative_to(&rate_a, &rate_b, difference),
    }
}

/// `rate_b - rate_a` over a common denominator: integers keep the digits that two
/// nearly equal rates would lose, and make equal rates differ by exactly 0.
fn difference(a: &Proportion, b: &Proportion) -> f64 {
    let product = |x: u64, y: u64| u128::from(x) * u128::from(y);
    let scaled_a = product(a.conversions(), b.n());
    let scaled_b = product(b.conversions(), a.n());
    let size = scaled_b.abs_diff(scaled_a) as f64 / product(a.n(), b.n()) as f64;
    if scaled_b < scaled_a { -size } else { size }
}

/// The rate of both arms together and the standard error of the difference under it.
fn pooled(a: &Proportion, b: &Proportion) -> (f64, f64) {
    let sum = |x: u64, y: u64| (u128::from(x) + u128::from(y)) as f64;
    let n = sum(a.n(), b.n());
    let rate = sum(a.conversions(), b.conversions()) / n;
    let rate_of_others = sum(a.others().conversions(), b.others().conversions()) / n;
    let per_unit = 1.0 / a.n() as f64 + 1.0 / b.n() as f64;
    (rate, (rate * rate_of_others * per_unit).sqrt())
}

impl TwoProportion {
    /// Returns Wald's interval of the difference, `difference -+ z * unpooled error`.
    ///
    /// Not clipped to -1 to 1; of width 0 when neither arm has any spread. Prefer
    /// [`newcombe`](Self::newcombe) for few conversions.
    ///
    /// ```
    /// # use trialog_stats::{Alpha, Proportion, two_proportion_z};
    /// let none = Proportion::new(0, 50)?;
    /// assert_eq!(two_proportion_z(&none, &none).wald(Alpha::P05).high, 0.0);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn wald(&self, alpha: Alpha) -> Interval {
        let half_width = special::normal_critical(alpha) * self.standard_error_unpooled;
        Interval {
            low: self.difference - half_width,
            high: self.difference + half_width,
        }
    }

    /// Returns Newcombe's interval of the difference, built from both Wilson intervals.
    ///
    /// Newcombe (1998), method 10, no continuity correction. Defined for all arms.
    ///
    /// ```
    /// # use trialog_stats::{Alpha, Proportion, two_proportion_z};
    /// // The paper's first example, with the arms in its order: 0.0524 to 0.3339.
    /// let test = two_proportion_z(&Proportion::new(48, 80)?, &Proportion::new(56, 70)?);
    /// let interval = test.newcombe(Alpha::P05);
    /// assert!((interval.low - 0.0524).abs() < 1e-4 && (interval.high - 0.3339).abs() < 1e-4);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn newcombe(&self, alpha: Alpha) -> Interval {
        let (a, b) = (self.a.wilson(alpha), self.b.wilson(alpha));
        let (rate_a, rate_b) = (self.a.rate(), self.b.rate());
        Interval {
            low: self.difference - (rate_b - b.low).hypot(a.high - rate_a),
            high: self.difference + (b.high - rate_b).hypot(rate_a - a.low),
        }
    }

    /// Returns the interval of the relative difference from both Wilson intervals, a fraction;
    /// `None` if no unit of the control converted.
    ///
    /// The ratios R for which 0 lies in the interval of `rate_b - R rate_a` that
    /// [`newcombe`](Self::newcombe) would give (MOVER; Donner & Zou 2012, with Wilson's
    /// limits).
    ///
    /// ```
    /// # use trialog_stats::{Alpha, Proportion, two_proportion_z};
    /// let test = two_proportion_z(&Proportion::new(30, 1000)?, &Proportion::new(45, 1000)?);
    /// assert!(test.lift_interval(Alpha::P05).is_some_and(|interval| interval.contains(0.5)));
    /// let none = two_proportion_z(&Proportion::new(0, 50)?, &Proportion::new(5, 50)?);
    /// assert_eq!(none.lift_interval(Alpha::P05), None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn lift_interval(&self, alpha: Alpha) -> Option<Interval> {
        let (rate_a, rate_b) = (self.a.rate(), self.b.rate());
        let (a, b) = (self.a.wilson(alpha), self.b.wilson(alpha));
        if a.low <= 0.0 {
            return None;
        }
        // The roots of R² A - 2 R rate_a rate_b + B = 0, A and B from the ends that count.
        let ends_of = |end: f64, rate: f64| end * (2.0 * rate - end);
        let product = rate_a * rate_b;
        let root = |of_a: f64, of_b: f64| (product * product - of_a * of_b).max(0.0).sqrt();
        let (high_a, low_b) = (ends_of(a.high, rate_a), ends_of(b.low, rate_b));
        let (low_a, high_b) = (ends_of(a.low, rate_a), ends_of(b.high, rate_b));
        let low = match low_b {
            low_b if low_b > 0.0 => low_b / (product + root(high_a, low_b)),
            _ => 0.0,
        };
        let high = (product + root(low_a, high_b)) / low_a;
        high.is_finite().then_some(Interval {
            low: low - 1.0,
            high: high - 1.0,
        })
    }

    /// Returns the normal interval of the relative difference, a fraction.
    ///
    /// `None` when `rate_a` is 0 or neither arm has any spread.
    ///
    /// ```
    /// # use trialog_stats::{Alpha, Proportion, two_proportion_z};
    /// let test = two_proportion_z(&Proportion::new(0, 50)?, &Proportion::new(5, 50)?);
    /// assert_eq!(test.relative_interval(Alpha::P05), None);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn relative_interval(&self, alpha: Alpha) -> Option<Interval> {
        self.relative?.interval(special::normal_critical(alpha))
    }
}
