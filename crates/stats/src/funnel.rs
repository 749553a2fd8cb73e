//! Reports of funnels: how many users reach each step, and where variants differ.

use crate::{
    Estimate, MAX_FUNNEL_STEPS, Proportion, StatsError, TwoProportion, holm, two_proportion_z,
};

/// Holds how many of a variant's users reached each step of a funnel.
///
/// ```
/// use trialog_stats::FunnelCounts;
/// let mobile = FunnelCounts::new(30_200, vec![30_200, 15_100, 3_020, 302])?;
/// assert_eq!(mobile.users(), 30_200);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunnelCounts {
    users: u64,
    steps: Vec<u64>,
}

/// Describes the users of one variant at one step.
///
/// ```
/// use trialog_stats::{Alpha, FunnelCounts};
/// let steps = FunnelCounts::new(1_000, vec![500, 100])?.steps();
/// let interval = steps[1].of_previous.map(|rate| rate.wilson(Alpha::P05));
/// assert!(interval.is_some_and(|interval| interval.contains(0.2)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunnelStep {
    /// Users who reached the step.
    pub users: u64,
    /// Users who reached the step before (at the first step: who were exposed) and not
    /// this one.
    pub lost: u64,
    /// Those who reached it among the exposed users; `None` without any.
    pub of_exposed: Option<Proportion>,
    /// Those who reached it among those who reached the step before; `None` without any.
    pub of_previous: Option<Proportion>,
}

/// Compares a treatment with the control at one step.
///
/// The test is of the exposed users, who were randomised. Those who reached a step are
/// not: `step_log_ratio` says where a difference of the whole arises, and no test belongs
/// to it.
///
/// ```
/// use trialog_stats::{FunnelCounts, compare_funnels};
/// let control = FunnelCounts::new(1_000, vec![500, 100])?;
/// let treatment = FunnelCounts::new(1_000, vec![500, 150])?;
/// let steps = &compare_funnels(&control, &[treatment])?[0];
/// let first = steps[0].test.and_then(|test| test.p_value);
/// assert!(first == Some(1.0) && steps[1].adjusted_p_value.is_some_and(|p| p < 0.01));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FunnelComparison {
    /// The pooled z-test of the rates among exposed users; `None` where an arm has none.
    pub test: Option<TwoProportion>,
    /// Its p-value after Holm, over all steps and treatments that have one.
    pub adjusted_p_value: Option<f64>,
    /// `ln(rate_b / rate_a)` among exposed users; `None` where nobody reached the step in an
    /// arm.
    pub log_ratio: Option<Estimate>,
    /// The same among those who reached the step before. The ratios of the steps up to one
    /// add up to its `log_ratio`, and so do their variances.
    pub step_log_ratio: Option<Estimate>,
}

impl FunnelCounts {
    /// Returns the counts of `users` who were exposed, and of those who reached each step,
    /// in order.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] unless there are 1 to 20 steps whose counts do not rise and do
    /// not exceed `users`.
    ///
    /// ```
    /// use trialog_stats::FunnelCounts;
    /// assert!(FunnelCounts::new(10, vec![8, 9]).is_err());
    /// ```
    pub fn new(users: u64, steps: Vec<u64>) -> Result<Self, StatsError> {
        let refused = |rule| {
            Err(StatsError::List {
                argument: "steps",
                rule,
            })
        };
        if steps.is_empty() || steps.len() > MAX_FUNNEL_STEPS {
            return refused("must be 1 to 20");
        }
        if steps[0] > users {
            return refused("must not exceed `users`");
        }
        if !steps.is_sorted_by(|before, after| before >= after) {
            return refused("must not rise: who reached a step has reached those before it");
        }
        Ok(Self { users, steps })
    }

    /// Returns how many users were exposed.
    ///
    /// ```
    /// assert_eq!(trialog_stats::FunnelCounts::new(10, vec![8])?.users(), 10);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn users(&self) -> u64 {
        self.users
    }

    /// Returns the users at each step, in order.
    ///
    /// ```
    /// let steps = trialog_stats::FunnelCounts::new(10, vec![8, 3])?.steps();
    /// assert_eq!((steps[0].lost, steps[1].lost), (2, 5));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn steps(&self) -> Vec<FunnelStep> {
        let before = std::iter::once(&self.users).chain(&self.steps);
        let steps = before.zip(&self.steps).map(|(previous, users)| FunnelStep {
            users: *users,
            lost: previous - users,
            of_exposed: Proportion::new(*users, self.users).ok(),
            of_previous: Proportion::new(*users, *previous).ok(),
        });
        steps.collect()
    }
}

/// Compares each treatment with the control at every step.
///
/// The answer has a list for each treatment, with an entry for each step. Rates by the
/// pooled z-test, whose [`newcombe`](TwoProportion::newcombe) gives the interval
/// (Newcombe 1998); p-values adjusted over all steps and treatments (Holm 1979). The
/// variance of a log ratio is `1/k_b - 1/n_b + 1/k_a - 1/n_a` (Katz et al. 1978).
///
/// # Errors
///
/// [`StatsError::List`] where the variants differ in their number of steps.
///
/// ```
/// use trialog_stats::{FunnelCounts, compare_funnels};
/// let control = FunnelCounts::new(1_000, vec![500, 100])?;
/// let treatment = FunnelCounts::new(1_000, vec![600, 100])?;
/// let steps = &compare_funnels(&control, &[treatment])?[0];
/// let sum: f64 = steps.iter().filter_map(|step| step.step_log_ratio).map(|ratio| ratio.value).sum();
/// assert!(steps[1].log_ratio.is_some_and(|ratio| (ratio.value - sum).abs() < 1e-12));
/// assert!(compare_funnels(&control, &[FunnelCounts::new(10, vec![3])?]).is_err());
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn compare_funnels(
    control: &FunnelCounts,
    treatments: &[FunnelCounts],
) -> Result<Vec<Vec<FunnelComparison>>, StatsError> {
    let n_steps = control.steps.len();
    if treatments.iter().any(|arm| arm.steps.len() != n_steps) {
        return Err(StatsError::List {
            argument: "variants",
            rule: "must have the same steps",
        });
    }
    let of_control = control.steps();
    let mut compared: Vec<Vec<FunnelComparison>> = (treatments.iter())
        .map(|treatment| {
            let steps = of_control.iter().zip(treatment.steps());
            steps.map(|(a, b)| compare_step(a, &b)).collect()
        })
        .collect();
    let p_value = |step: &FunnelComparison| step.test.and_then(|test| test.p_value);
    let p_values: Vec<f64> = compared.iter().flatten().filter_map(p_value).collect();
    let tested = (compared.iter_mut().flatten()).filter(|step| p_value(step).is_some());
    for (step, adjusted) in tested.zip(holm(&p_values)?) {
        step.adjusted_p_value = Some(adjusted);
    }
    Ok(compared)
}

fn compare_step(a: &FunnelStep, b: &FunnelStep) -> FunnelComparison {
    let test = |a: Option<Proportion>, b: Option<Proportion>| Some(two_proportion_z(&a?, &b?));
    let of_exposed = test(a.of_exposed, b.of_exposed);
    FunnelComparison {
        test: of_exposed,
        adjusted_p_value: None,
        log_ratio: of_exposed.and_then(|test| log_ratio(&test)),
        step_log_ratio: test(a.of_previous, b.of_previous).and_then(|test| log_ratio(&test)),
    }
}

/// `ln(rate_b / rate_a)` by the delta method.
fn log_ratio(test: &TwoProportion) -> Option<Estimate> {
    let (a, b) = (&test.a, &test.b);
    if a.conversions() == 0 || b.conversions() == 0 {
        return None;
    }
    let lift = test.difference / a.rate();
    let value = if lift.abs() < 0.5 {
        libm::log1p(lift)
    } else {
        (b.rate() / a.rate()).ln()
    };
    // 1/k - 1/n, without its cancellation.
    let variance = |arm: &Proportion| arm.others().rate() / arm.conversions() as f64;
    Some(Estimate {
        value,
        variance: variance(a) + variance(b),
    })
}
