//! Computes the effect that the current users can show.

use trialog_model::metric::MetricRole;
use trialog_stats::Correction;
use trialog_stats::special::normal_quantile;

use super::{Comparison, Power, Terms, tested};
use crate::{Measured, MetricReport, standing};

/// The power that is assumed if none is planned.
const USUAL_POWER: f64 = 0.8;

/// Sets the power of each comparison; families are those of [`super::adjust_families`].
pub(crate) fn note_power(
    reports: &mut [(MetricReport, Measured)],
    n_treatments: usize,
    correction: Option<Correction>,
    terms: &Terms<'_>,
) {
    let has_margin = |(report, measured): &&(MetricReport, Measured)| {
        report.role == MetricRole::Guardrail && measured.margin.is_some()
    };
    let n_guardrails = reports.iter().filter(has_margin).count();
    let n_of =
        |role: MetricRole| (reports.iter().filter(|(report, _)| report.role == role)).count();
    let [n_primary, n_secondary] = [MetricRole::Primary, MetricRole::Secondary].map(n_of);
    let mut is_first = true;
    for (report, measured) in reports {
        let n_metrics = match report.role {
            MetricRole::Primary => n_primary,
            MetricRole::Secondary => n_secondary,
            MetricRole::Guardrail | MetricRole::Exploratory => 0,
        };
        let n_tests = correction.map_or(0, |_| n_metrics * n_treatments);
        let plan = terms.plan.filter(|_| report.role == MetricRole::Primary);
        let mde = plan.and_then(|plan| plan.mde_of(&report.metric, report.kind, is_first));
        is_first &= report.role != MetricRole::Primary;
        let goal = Goal::from_terms(terms, n_tests, n_guardrails, mde);
        for comparison in &mut report.comparisons {
            comparison.power = power(comparison, measured, &goal);
        }
    }
}

/// Computes the effect that the users so far can show, at `goal`.
///
/// The effect that is found with a power of 1 - beta is `z(1 - alpha/2) + z(1 - beta)`
/// standard errors (Bloom 1995), and these shrink with the root of the users.
fn power(comparison: &Comparison, measured: &Measured, goal: &Goal) -> Option<Power> {
    let test = tested(comparison, measured)?;
    let standard_error = test.standard_error().filter(|error| *error > 0.0)?;
    let z = |probability: f64| normal_quantile(probability).ok();
    let detectable_effect = (z(goal.power)? - z(goal.alpha / 2.0)?) * standard_error;
    let users = |variant: Option<&str>| {
        let is_same = |arm: &&crate::Arm| Some(arm.sums.variant.as_str()) == variant;
        (measured.arms.iter().find(is_same)).map_or(0, |arm| arm.sums.users)
    };
    let users = users(measured.control.as_deref()) + users(Some(&comparison.treatment));
    let needed = |mde: f64| {
        let all = users as f64 * (detectable_effect / mde).powi(2);
        // As far as JSON readers agree on integers.
        (all - users as f64).ceil().clamp(0.0, (1_u64 << 53) as f64) as u64
    };
    Some(Power {
        power: goal.power,
        alpha: goal.alpha,
        detectable_effect,
        planned_mde: goal.mde,
        users_needed: goal.mde.filter(|mde| *mde > 0.0).map(needed),
    })
}

/// The effect that a test has to find, with its level and its power.
struct Goal {
    alpha: f64,
    power: f64,
    mde: Option<f64>,
}

impl Goal {
    /// The goal of a test among `n_tests` that share their alpha, in an experiment with `n_guardrails`
    /// that have a margin: they all have to come out right for it to be shipped, so each may
    /// fail `n_guardrails + 1` times less often (Schultzberg, Ankargren & Frånberg 2024).
    fn from_terms(
        terms: &Terms<'_>,
        n_tests: usize,
        n_guardrails: usize,
        mde: Option<f64>,
    ) -> Self {
        let at_once = match terms.looks {
            Some(_) if terms.plan.is_some() => standing::planned(terms.alpha),
            _ => terms.alpha,
        };
        let power = terms
            .plan
            .and_then(|plan| plan.power)
            .unwrap_or(USUAL_POWER);
        Self {
            alpha: at_once.get() / n_tests.max(1) as f64,
            power: 1.0 - (1.0 - power) / (n_guardrails + 1) as f64,
            mde,
        }
    }
}
