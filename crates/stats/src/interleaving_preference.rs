//! Which of two rankings users prefer, from their clicks on interleaved lists.

use crate::special::{beta_quantile, student_critical, student_tail, tails_of_beta};
use crate::{Alpha, Interval, Moments, SequentialSrm, SrmLook, StatsError};

/// How firmly the alternative of the sequential test keeps to an equal split.
const CONCENTRATION: f64 = 100.0;

/// Counts the users who prefer either of two rankings.
///
/// Users are counted once each, however often they click: a binomial test over clicks
/// takes those of one user for independent and rejects far too often.
///
/// ```
/// use trialog_stats::InterleavingPreference;
/// let mut preference = InterleavingPreference::default();
/// for (a, b) in [(500, 0), (0, 1), (0, 1), (0, 1), (2, 2), (0, 0)] {
///     preference.push(a, b);
/// }
/// assert_eq!((preference.wins_a(), preference.wins_b(), preference.ties()), (1, 3, 1));
/// let p_value = preference.sign_test_p_value();
/// assert!(p_value.is_some_and(|p| (p - 0.625).abs() < 1e-12));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct InterleavingPreference {
    users: u64,
    wins_a: u64,
    wins_b: u64,
    ties: u64,
    /// (b - a)/(a + b) of the active users.
    deltas: Moments,
}

/// Tests whether the mean of (b - a)/(a + b) over active users is 0.
///
/// ```
/// use trialog_stats::InterleavingPreference;
/// let mut preference = InterleavingPreference::default();
/// preference.push(1, 2);
/// preference.push(0, 2);
/// assert!(preference.delta_test().is_some_and(|test| test.df == 1 && test.p_value > 0.05));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeltaTest {
    mean: f64,
    /// The standard error of the mean.
    pub standard_error: f64,
    /// Mean / standard error.
    pub t: f64,
    /// Degrees of freedom: active users - 1.
    pub df: u64,
    /// Two-sided, 0 to 1 (Student 1908).
    pub p_value: f64,
}

impl InterleavingPreference {
    /// Adds a user with the clicks (or conversions) on items of team `a` and of team `b`,
    /// over all lists that the user was shown.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(0, 3);
    /// assert_eq!(preference.wins_b(), 1);
    /// ```
    pub fn push(&mut self, a: u64, b: u64) {
        self.users += 1;
        if a == 0 && b == 0 {
            return;
        }
        let wins = match a.cmp(&b) {
            std::cmp::Ordering::Greater => &mut self.wins_a,
            std::cmp::Ordering::Less => &mut self.wins_b,
            std::cmp::Ordering::Equal => &mut self.ties,
        };
        *wins += 1;
        let (more_for_b, all) = (i128::from(b) - i128::from(a), u128::from(a) + u128::from(b));
        self.deltas.push(more_for_b as f64 / all as f64);
    }

    /// Adds the users of another count.
    ///
    /// ```
    /// use trialog_stats::InterleavingPreference;
    /// let (mut all, mut more) = (InterleavingPreference::default(), InterleavingPreference::default());
    /// more.push(1, 0);
    /// all.merge(&more);
    /// assert_eq!((all.users(), all.wins_a()), (1, 1));
    /// ```
    pub fn merge(&mut self, other: &Self) {
        self.users += other.users;
        self.wins_a += other.wins_a;
        self.wins_b += other.wins_b;
        self.ties += other.ties;
        self.deltas.merge(&other.deltas);
    }

    /// Returns how many users there are, with those who did nothing.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(0, 0);
    /// assert_eq!((preference.users(), preference.active()), (1, 0));
    /// ```
    #[must_use]
    pub const fn users(&self) -> u64 {
        self.users
    }

    /// Returns how many users clicked at all: only they count.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(1, 1);
    /// assert_eq!(preference.active(), 1);
    /// ```
    #[must_use]
    pub const fn active(&self) -> u64 {
        self.wins_a + self.wins_b + self.ties
    }

    /// Returns how many users clicked more on items of team a.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(2, 1);
    /// assert_eq!(preference.wins_a(), 1);
    /// ```
    #[must_use]
    pub const fn wins_a(&self) -> u64 {
        self.wins_a
    }

    /// Returns how many users clicked more on items of team b.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(1, 2);
    /// assert_eq!(preference.wins_b(), 1);
    /// ```
    #[must_use]
    pub const fn wins_b(&self) -> u64 {
        self.wins_b
    }

    /// Returns how many active users clicked as often on items of both teams.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(2, 2);
    /// assert_eq!(preference.ties(), 1);
    /// ```
    #[must_use]
    pub const fn ties(&self) -> u64 {
        self.ties
    }

    /// Returns the preference for b, from -½ to ½: `(wins_b + ties/2) / active - ½`; `None`
    /// without active users.
    ///
    /// Chapelle, Joachims, Radlinski & Yue (2012).
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(1, 2);
    /// preference.push(1, 1);
    /// assert_eq!(preference.preference(), Some(0.25));
    /// ```
    #[must_use]
    pub fn preference(&self) -> Option<f64> {
        let more_for_b = self.wins_b as f64 - self.wins_a as f64;
        (self.active() > 0).then(|| more_for_b / (2.0 * self.active() as f64))
    }

    /// Returns the p-value of the sign test, exact and two-sided, with ties left out;
    /// `None` where nobody decided.
    ///
    /// min(1, 2 P(Bin(n, ½) >= the larger number of wins)). This is the test of the
    /// preference (Dixon & Mood 1946).
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// (0..6).for_each(|_| preference.push(0, 1));
    /// let p_value = preference.sign_test_p_value();
    /// assert!(p_value.is_some_and(|p| (p - 0.03125).abs() < 1e-12));
    /// ```
    #[must_use]
    pub fn sign_test_p_value(&self) -> Option<f64> {
        let decided = self.wins_a + self.wins_b;
        let most = self.wins_a.max(self.wins_b) as f64;
        // P(Bin(n, ½) >= k) = I(½; k, n - k + 1).
        let tail = |decided: u64| tails_of_beta(0.5, 0.5, most, decided as f64 - most + 1.0).lower;
        (decided > 0).then(|| (2.0 * tail(decided)).min(1.0))
    }

    /// Returns the share of b among users who decided, 0 to 1; `None` where nobody did.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(1, 2);
    /// assert_eq!(preference.share_b(), Some(1.0));
    /// ```
    #[must_use]
    pub fn share_b(&self) -> Option<f64> {
        let decided = self.wins_a + self.wins_b;
        (decided > 0).then(|| self.wins_b as f64 / decided as f64)
    }

    /// Returns the exact interval of [`share_b`](Self::share_b), within 0 to 1; `None`
    /// where nobody decided.
    ///
    /// Clopper & Pearson (1934), by quantiles of Beta distributions.
    ///
    /// ```
    /// use trialog_stats::{Alpha, InterleavingPreference};
    /// let mut preference = InterleavingPreference::default();
    /// preference.push(1, 3);
    /// let interval = preference.share_interval(Alpha::P05);
    /// assert!(interval.is_some_and(|ends| (ends.low - 0.025).abs() < 1e-12 && ends.high == 1.0));
    /// ```
    #[must_use]
    pub fn share_interval(&self, alpha: Alpha) -> Option<Interval> {
        let tail = alpha.get() / 2.0;
        // Below the low end, `wins` or more of all have a probability of `tail`.
        let low = |wins: u64, others: u64| match wins {
            0 => 0.0,
            _ => beta_quantile(tail, wins as f64, others as f64 + 1.0),
        };
        (self.wins_a + self.wins_b > 0).then(|| Interval {
            low: low(self.wins_b, self.wins_a),
            high: 1.0 - low(self.wins_a, self.wins_b),
        })
    }

    /// Returns the mean of (b - a)/(a + b) over active users, from -1 to 1; `None` without
    /// any.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(1, 3);
    /// assert_eq!(preference.mean_delta(), Some(0.5));
    /// ```
    #[must_use]
    pub fn mean_delta(&self) -> Option<f64> {
        self.deltas.mean()
    }

    /// Returns Student's test of [`mean_delta`](Self::mean_delta); `None` with fewer than
    /// two active users, or where they do not differ.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// preference.push(1, 3);
    /// assert_eq!(preference.delta_test(), None);
    /// ```
    #[must_use]
    pub fn delta_test(&self) -> Option<DeltaTest> {
        let (mean, variance) = (self.deltas.mean()?, self.deltas.variance()?);
        let (n, standard_error) = (self.active(), (variance / self.active() as f64).sqrt());
        let t = mean / standard_error;
        (standard_error > 0.0 && t.is_finite()).then(|| DeltaTest {
            mean,
            standard_error,
            t,
            df: n - 1,
            p_value: student_tail(t, (n - 1) as f64),
        })
    }

    /// Returns the sequential test of an equal split of the users who decided, which may
    /// be looked at at any time; `None` where nobody did.
    ///
    /// [`SequentialSrm`] with weights 1:1 and a concentration of 100. The p-value of a
    /// sequence of looks is the smallest so far.
    ///
    /// # Errors
    ///
    /// Those of [`SequentialSrm::look`], none of which occurs here.
    ///
    /// ```
    /// let mut preference = trialog_stats::InterleavingPreference::default();
    /// (0..60).for_each(|_| preference.push(0, 1));
    /// assert!(preference.sequential()?.is_some_and(|look| look.p_value < 1e-3));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn sequential(&self) -> Result<Option<SrmLook>, StatsError> {
        if self.wins_a + self.wins_b == 0 {
            return Ok(None);
        }
        let test = SequentialSrm::with_concentration(&[1.0, 1.0], CONCENTRATION)?;
        test.look(&[self.wins_a, self.wins_b]).map(Some)
    }
}

impl DeltaTest {
    /// Returns the interval of the mean: mean ∓ t(1 - alpha/2; df) standard errors.
    ///
    /// ```
    /// use trialog_stats::{Alpha, InterleavingPreference};
    /// let mut preference = InterleavingPreference::default();
    /// preference.push(1, 2);
    /// preference.push(0, 2);
    /// let interval = preference.delta_test().and_then(|test| test.interval(Alpha::P05));
    /// assert!(interval.is_some_and(|interval| interval.contains(0.0)));
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let critical = student_critical(alpha.get(), self.df as f64);
        Interval::around(self.mean, critical * self.standard_error)
    }
}
