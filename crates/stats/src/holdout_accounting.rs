//! What a holdout says of all shipped changes together, beside what each of them claimed.

use crate::{Alpha, GuardedVariance, Interval, StatsError, Summary, special};

/// Claims beyond this are refused, so that no sum or square overflows.
const LARGEST_CLAIM: f64 = 1e150;

/// Holds what the experiment behind one shipped change claimed.
///
/// ```
/// let claim = trialog_stats::Claim { effect: 0.2, standard_error: 0.05, share: 0.8 };
/// assert!(claim.effect * claim.share > 0.1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Estimated effect per user reached, in the metric's unit, within ±1e150.
    pub effect: f64,
    /// Standard error of the effect, from 0 to 1e150.
    pub standard_error: f64,
    /// Share of the users in scope that the change reaches, 0 to 1.
    pub share: f64,
}

/// Holds how true effects of changes are distributed: a normal distribution.
///
/// ```
/// let prior = trialog_stats::EffectPrior { mean: 0.0, variance: 0.01 };
/// assert!(prior.variance > 0.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EffectPrior {
    /// Mean of the true effects, in the metric's unit, within ±1e150.
    pub mean: f64,
    /// Variance of the true effects, in its square, positive and at most 1e300.
    pub variance: f64,
}

/// Compares the users in scope with those held out, and that with the sum of the claims.
///
/// ```
/// use trialog_stats::{Claim, Summary, holdout_accounting};
/// let held_out = Summary::new(5_000, 10.0, Some(400.0))?;
/// let in_scope = Summary::new(95_000, 11.0, Some(400.0))?;
/// let claims = [Claim { effect: 2.0, standard_error: 0.1, share: 1.0 }];
/// let found = holdout_accounting(Some(&held_out), Some(&in_scope), &claims, None)?;
/// assert_eq!((found.difference, found.lift, found.kept), (Some(1.0), Some(0.1), Some(0.5)));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoldoutAccounting {
    /// Mean of the users in scope less that of those held out, in the metric's unit; `None`
    /// where one of the two has no users.
    pub difference: Option<f64>,
    /// Root of the guarded variance of the difference; `None` with a single user on a side,
    /// and without spread.
    pub standard_error: Option<f64>,
    /// The difference as a fraction of the mean of those held out; `None` where that is not
    /// positive.
    pub lift: Option<f64>,
    /// Σ share × effect over the claims, in the metric's unit.
    pub claimed: f64,
    /// Standard error of `claimed`, the claims being independent.
    pub claimed_standard_error: f64,
    /// The same sum with each effect replaced by its posterior mean; `None` without a prior.
    pub claimed_shrunk: Option<f64>,
    /// What is claimed beyond what the holdout shows; `None` as for `standard_error`.
    pub gap: Option<HoldoutGap>,
    /// difference / claimed, a fraction; `None` where there is no difference, or nothing is
    /// claimed.
    pub kept: Option<f64>,
}

/// Tests whether the claims say more, or less, than the holdout shows.
///
/// ```
/// let gap = trialog_stats::HoldoutGap { gap: 0.7, standard_error: 0.1, z: 7.0, p_value: 3e-12 };
/// assert!(gap.p_value < 0.05);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoldoutGap {
    /// claimed - difference, in the metric's unit.
    pub gap: f64,
    /// √(V + the squared error of what is claimed), in the metric's unit.
    pub standard_error: f64,
    /// gap / standard error.
    pub z: f64,
    /// Two-sided normal p-value, 0 to 1.
    pub p_value: f64,
}

impl HoldoutAccounting {
    /// Returns the two-sided normal interval of the difference, in the metric's unit.
    ///
    /// `None` as for the standard error.
    ///
    /// ```
    /// use trialog_stats::{Alpha, Summary, holdout_accounting};
    /// let side = Summary::new(5_000, 10.0, Some(400.0))?;
    /// let found = holdout_accounting(Some(&side), Some(&side), &[], None)?;
    /// assert!(found.interval(Alpha::P05).is_some_and(|ci| ci.contains(0.0)));
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub fn interval(&self, alpha: Alpha) -> Option<Interval> {
        let half_width = special::normal_critical(alpha) * self.standard_error?;
        Interval::around(self.difference?, half_width)
    }
}

/// Compares `held_out` with `in_scope`, the users that have the shipped changes, and the
/// difference with the sum of the `claims`.
///
/// The variance is the guarded one. Claims count as independent of one another and of the
/// holdout; they share users with it, so the error of the gap is an approximation. With a
/// `prior` of the true effects each claim is drawn to its mean: what is shipped was selected
/// for a large estimate (Deng, Li, Lu & Ramamurthy 2021).
/// `None` stands for a side without users.
///
/// # Errors
///
/// [`StatsError::Range`] for a number of a claim or of the prior that is out of its range.
///
/// ```
/// use trialog_stats::{Claim, EffectPrior, holdout_accounting};
/// let claims = [Claim { effect: 0.4, standard_error: 0.1, share: 1.0 }];
/// let prior = EffectPrior { mean: 0.0, variance: 0.01 };
/// let found = holdout_accounting(None, None, &claims, Some(&prior))?;
/// assert_eq!((found.claimed, found.gap), (0.4, None));
/// assert!(found.claimed_shrunk.is_some_and(|claimed| (claimed - 0.2).abs() < 1e-15));
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
pub fn holdout_accounting(
    held_out: Option<&Summary>,
    in_scope: Option<&Summary>,
    claims: &[Claim],
    prior: Option<&EffectPrior>,
) -> Result<HoldoutAccounting, StatsError> {
    claims.iter().try_for_each(Claim::check)?;
    prior.map(EffectPrior::check).transpose()?;
    let claimed: f64 = claims.iter().map(|claim| claim.share * claim.effect).sum();
    let errors = claims
        .iter()
        .map(|claim| claim.share * claim.standard_error);
    let claimed_standard_error = errors.fold(0.0, f64::hypot);
    let sides = held_out.zip(in_scope);
    let difference = sides.map(|(held_out, in_scope)| in_scope.mean() - held_out.mean());
    let variance = sides
        .and_then(|(held_out, in_scope)| GuardedVariance::between(held_out, in_scope))
        .map(|guarded| guarded.value())
        .filter(|variance| *variance > 0.0);
    let control = held_out.map(Summary::mean).filter(|mean| *mean > 0.0);
    let divided = |divisor: f64| {
        let quotient = difference? / divisor;
        quotient.is_finite().then_some(quotient)
    };
    let gap = difference.zip(variance).map(|(difference, variance)| {
        let gap = claimed - difference;
        let standard_error = variance.sqrt().hypot(claimed_standard_error);
        let z = (gap / standard_error).clamp(-f64::MAX, f64::MAX);
        HoldoutGap {
            gap,
            standard_error,
            z,
            p_value: special::normal_two_sided_tail(z),
        }
    });
    Ok(HoldoutAccounting {
        difference,
        standard_error: variance.map(f64::sqrt),
        lift: control.and_then(divided),
        claimed,
        claimed_standard_error,
        claimed_shrunk: prior.map(|prior| claims.iter().map(|claim| prior.shrink(claim)).sum()),
        gap,
        kept: divided(claimed),
    })
}

impl Claim {
    pub(crate) fn check(&self) -> Result<(), StatsError> {
        check_range(
            "effect",
            self.effect,
            -LARGEST_CLAIM,
            LARGEST_CLAIM,
            "from -1e150 to 1e150",
        )?;
        check_range(
            "se",
            self.standard_error,
            0.0,
            LARGEST_CLAIM,
            "from 0 to 1e150",
        )?;
        check_range("share", self.share, 0.0, 1.0, "from 0 to 1")
    }
}

impl EffectPrior {
    pub(crate) fn check(&self) -> Result<(), StatsError> {
        check_range(
            "mean",
            self.mean,
            -LARGEST_CLAIM,
            LARGEST_CLAIM,
            "from -1e150 to 1e150",
        )?;
        let range = "positive and at most 1e300";
        check_range("variance", self.variance, f64::MIN_POSITIVE, 1e300, range)
    }

    /// Share times posterior mean of the effect: the mean of both, weighted by precision.
    fn shrink(&self, claim: &Claim) -> f64 {
        let noise = claim.standard_error * claim.standard_error;
        let total = self.variance + noise;
        let mean = self.variance / total * claim.effect + noise / total * self.mean;
        claim.share * mean
    }
}

fn check_range(
    argument: &'static str,
    value: f64,
    low: f64,
    high: f64,
    range: &'static str,
) -> Result<(), StatsError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(StatsError::Range {
        argument,
        range,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_out_of_range_is_refused() {
        let good = Claim {
            effect: 1.0,
            standard_error: 0.1,
            share: 0.5,
        };
        let claims = [
            Claim {
                effect: f64::NAN,
                ..good
            },
            Claim {
                standard_error: -0.1,
                ..good
            },
            Claim { share: 1.5, ..good },
        ];
        for claim in claims {
            assert!(holdout_accounting(None, None, &[good, claim], None).is_err());
        }
        for (mean, variance) in [(0.0, 0.0), (f64::INFINITY, 1.0), (0.0, f64::NAN)] {
            let prior = EffectPrior { mean, variance };
            assert!(holdout_accounting(None, None, &[good], Some(&prior)).is_err());
        }
    }

    #[test]
    fn claims_that_come_to_nothing_keep_no_share() {
        let side = Summary::new(10, 2.0, Some(1.0)).unwrap();
        let claim = |effect| Claim {
            effect,
            standard_error: 0.1,
            share: 1.0,
        };
        let claims = [claim(1.0), claim(-1.0)];
        let found = holdout_accounting(Some(&side), Some(&side), &claims, None).unwrap();
        assert_eq!((found.claimed, found.kept), (0.0, None));
    }
}
