//! Compares treatments with the control, and adjusts p-values within their families.

mod headline;
mod power;
mod terms;
mod types;

use trialog_model::metric::MetricRole;
use trialog_model::metric_definition::Direction;
use trialog_stats::{Alpha, Better, Correction, Interval, NoRelative, adjust};

pub(crate) use self::power::note_power;
pub(crate) use self::terms::{Looks, Terms};
pub use self::types::{
    Comparison, Flag, Guardrail, Headline, NonInferiority, Power, Sequential, headline_levels,
};

use self::headline::headline;
use super::arm::Arm;
use super::standing::{self, TestStanding};
use super::{Measured, MetricReport};

/// Below this adjusted p-value a difference that is not significant is trending.
const TRENDING: f64 = 0.10;

/// Tests `treatment` against `control`; `None` if an arm has no users.
pub(crate) fn test(control: &Arm, treatment: &Arm) -> Option<trialog_stats::Comparison> {
    trialog_stats::Comparison::between(control.sample.as_ref()?, treatment.sample.as_ref()?).ok()
}

/// Computes the always-valid test of a look.
pub(crate) fn always_valid(
    test: &trialog_stats::Comparison,
    terms: &Terms<'_>,
) -> Option<trialog_stats::Msprt> {
    test.always_valid(terms.declared_alpha, terms.tuning().0)
}

/// Tests every arm against the control's; empty if the control has no users.
fn tests<'m>(
    measured: &'m Measured,
    control: Option<&str>,
) -> Vec<(&'m str, trialog_stats::Comparison)> {
    let is_control = |arm: &&Arm| Some(arm.sums.variant.as_str()) == control;
    let Some(control) = measured.arms.iter().find(is_control) else {
        return Vec::new();
    };
    let others = measured.arms.iter().filter(|arm| !is_control(arm));
    let tested = |arm: &'m Arm| Some((arm.sums.variant.as_str(), test(control, arm)?));
    others.filter_map(tested).collect()
}

/// What makes the comparison of a treatment with the control less reliable.
pub(crate) struct Doubts<'m> {
    pub(crate) treatment: &'m str,
    /// Whether there are so few events that the exact test is taken.
    pub(crate) is_exact: bool,
    /// Whether too many users share one value for a test of a quantile.
    pub(crate) is_tied: bool,
    /// Whether an arm has probably missed the rare large values.
    pub(crate) is_sparse: bool,
}

/// Collects the doubts about the comparison of each treatment with `control`.
pub(crate) fn doubts<'m>(measured: &'m Measured, control: Option<&str>) -> Vec<Doubts<'m>> {
    let tests = tests(measured, control).into_iter();
    tests
        .map(|(treatment, test)| Doubts {
            treatment,
            is_exact: test.test() == "fisher_exact",
            is_tied: no_flag(&test, measured) == Some(TIED),
            is_sparse: is_sparse(&test),
        })
        .collect()
}

/// Compares every arm with the control's; empty if the control has no users.
pub(crate) fn compare_all(measured: &Measured, terms: &Terms<'_>) -> Vec<Comparison> {
    let basis = (terms.looks).map(|looks| standing::basis(&looks.subject, measured, terms));
    let basis = basis.unwrap_or_default();
    let tests = tests(measured, terms.control).into_iter();
    tests
        .map(|(variant, test)| Comparison {
            sequential: sequential(&test, earlier(measured, variant, &basis, terms), terms),
            non_inferiority: non_inferiority(&test, measured, terms.alpha),
            sparse: is_sparse(&test),
            flag_reason: no_flag(&test, measured).map(str::to_owned),
            ..plain(variant, &test, terms.alpha)
        })
        .collect()
}

fn plain(treatment: &str, test: &trialog_stats::Comparison, alpha: Alpha) -> Comparison {
    let (absolute, relative) = test.intervals(alpha);
    Comparison {
        treatment: treatment.to_owned(),
        test: test.test().to_owned(),
        difference: test.difference(),
        ci: absolute.map(ends),
        relative_difference: test.lift(),
        relative_ci: relative.ok().map(ends),
        relative_ci_reason: relative.err().map(|reason| no_relative(reason).to_owned()),
        statistic: test.statistic(),
        df: test.df(),
        p_value: test.p_value(),
        adjusted_p_value: None,
        adjusted_ci: None,
        cohens_d: test.cohens_d(),
        flag: None,
        flag_reason: None,
        sparse: false,
        desirable: None,
        headline: Headline::default(),
        sequential: None,
        power: None,
        non_inferiority: None,
    }
}

fn no_relative(reason: NoRelative) -> &'static str {
    match reason {
        NoRelative::ControlMayBeZero => {
            "the interval of the control's own mean includes 0, so a ratio to it can be anything"
        }
        NoRelative::ControlIsZero => "the control's mean is 0",
        NoRelative::NoTest => "there is no test of the difference",
    }
}

fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

/// What the looks so far came to for `treatment`.
fn earlier<'a>(
    measured: &Measured,
    treatment: &str,
    basis: &str,
    terms: &Terms<'a>,
) -> Option<&'a TestStanding> {
    let key = (measured.metric.as_str(), measured.kind, treatment);
    terms.looks?.standing?.test(key, basis)
}

fn sequential(
    test: &trialog_stats::Comparison,
    earlier: Option<&TestStanding>,
    terms: &Terms<'_>,
) -> Option<Sequential> {
    let now = always_valid(test, terms)?;
    let this_look = (now.p_value?, test.difference()?);
    let (p_value, difference) = standing::smaller(earlier, Some(this_look))?;
    let (tuning, tuning_reason) = terms.tuning();
    Some(Sequential {
        test: "msprt".to_owned(),
        p_value,
        difference,
        ci: now.interval(terms.alpha).map(ends),
        relative_ci: test.always_valid_lift(&now, terms.alpha).map(ends),
        significant: p_value < terms.alpha.get(),
        looks: earlier.map_or(1, |test| test.looks),
        since: earlier.map(|test| test.since().to_rfc3339()),
        tuning,
        tuning_reason: tuning_reason.to_owned(),
        mixing_variance: now.mixing_variance(),
    })
}

/// Whether a mean rests on too few units of an arm. Rates have a test that is exact, so
/// nothing is taken away from them.
fn is_sparse(test: &trialog_stats::Comparison) -> bool {
    !test.is_of_rates() && test.is_sparse()
}

fn non_inferiority(
    test: &trialog_stats::Comparison,
    measured: &Measured,
    alpha: Alpha,
) -> Option<NonInferiority> {
    let margin = (measured.margin).filter(|_| measured.role == MetricRole::Guardrail)?;
    let Some(direction) = measured.direction else {
        return Some(NonInferiority {
            margin,
            p_value: None,
            p_violated: None,
            verdict: None,
        });
    };
    let better = match direction {
        Direction::Increase => Better::More,
        Direction::Decrease => Better::Less,
    };
    let linear = test.non_inferiority(margin, better).ok().flatten();
    // The linear test takes each arm's own variance, of rates too.
    let trusted = linear.filter(|_| !test.is_sparse());
    Some(NonInferiority {
        margin,
        p_value: linear.map(|test| test.p_value),
        p_violated: linear.map(|test| test.p_violated),
        verdict: Some(trusted.map_or(Guardrail::Inconclusive, |test| test.verdict(alpha).into())),
    })
}

/// A comparison with what its metric measured.
type Tested<'r> = (&'r mut Comparison, &'r Measured);

/// Adjusts p-values family by family and sets flags and headlines.
///
/// Primary metrics times treatments are one family, secondary ones another, of
/// `n_treatments` tests for each metric also where one of them cannot be tested;
/// guardrails are tested on their own, and exploratory event types are
/// neither adjusted nor flagged.
pub(crate) fn adjust_families(
    reports: &mut [(MetricReport, Measured)],
    n_treatments: usize,
    correction: Option<Correction>,
    terms: &Terms<'_>,
) {
    for role in [
        MetricRole::Primary,
        MetricRole::Secondary,
        MetricRole::Guardrail,
    ] {
        let of_role = |(report, _): &&mut (MetricReport, Measured)| report.role == role;
        let n_metrics = reports.iter_mut().filter(of_role).count();
        let family: Vec<Tested<'_>> = (reports.iter_mut())
            .filter(|(report, _)| report.role == role)
            .flat_map(|(report, measured)| {
                let measured = &*measured;
                (report.comparisons.iter_mut()).map(move |comparison| (comparison, measured))
            })
            .collect();
        let correction = correction.filter(|_| role != MetricRole::Guardrail);
        adjust_family(family, n_metrics * n_treatments, correction, terms);
    }
    let is_exploratory =
        |(report, _): &&mut (MetricReport, Measured)| report.role == MetricRole::Exploratory;
    for (report, measured) in reports.iter_mut().filter(is_exploratory) {
        for comparison in &mut report.comparisons {
            comparison.flag_reason = Some(EXPLORATORY.to_owned());
            comparison.headline = headline(comparison, measured, [None; 2], terms);
        }
    }
}

fn adjust_family(
    mut family: Vec<Tested<'_>>,
    n_tests: usize,
    correction: Option<Correction>,
    terms: &Terms<'_>,
) {
    let n_tests = n_tests.max(family.len());
    let adjusted = |p_values: Vec<Option<f64>>| -> Vec<Option<f64>> {
        // A test that is not there rejects nothing, and its place stays taken.
        let mut all: Vec<f64> = p_values
            .iter()
            .map(|p_value| p_value.unwrap_or(1.0))
            .collect();
        all.resize(n_tests, 1.0);
        // p-values of tests lie within 0 and 1, which is all that `adjust` asks.
        let all = match correction {
            Some(correction) => adjust(correction, &all).unwrap_or(all),
            None => all,
        };
        let kept = p_values.iter().zip(all);
        kept.map(|(p_value, adjusted)| p_value.map(|_| adjusted))
            .collect()
    };
    let trusted = |comparison: &Comparison| comparison.p_value.filter(|_| !comparison.sparse);
    let at_once = adjusted((family.iter().map(|(comparison, _)| trusted(comparison))).collect());
    let valid = |comparison: &Comparison| comparison.sequential.as_ref().map(|test| test.p_value);
    let always = adjusted((family.iter().map(|(comparison, _)| valid(comparison))).collect());
    let level = match correction {
        Some(_) => terms.alpha.get() / n_tests.max(1) as f64,
        None => terms.alpha.get(),
    };
    for (((comparison, measured), at_once), always) in family.iter_mut().zip(at_once).zip(always) {
        comparison.adjusted_p_value = at_once;
        comparison.adjusted_ci = adjusted_ci(comparison, measured, level);
        comparison.flag = at_once
            .filter(|_| comparison.flag_reason.is_none())
            .map(|p_value| flag(p_value, terms.alpha));
        comparison.desirable =
            desirable(comparison.flag, comparison.difference, measured.direction);
        comparison.headline = headline(comparison, measured, [at_once, always], terms);
    }
}

const EXPLORATORY: &str = "nobody declared this event type as a metric of the experiment";
const NO_DIRECTION: &str = "the guardrail has no direction, so the test cannot tell harm from improvement: set `direction` in its definition, or give --increase or --decrease to `trialog analyze`";
pub(crate) const TIED: &str = "too many users share one value about this quantile, as where it lies among users without an event, so no test of it keeps its level: take another level, a sum, or `:conversion`";
const SPARSE: &str = "the smaller arm's own variance is far below that of both arms, so it has probably missed the rare large values: wait for more users, or split them more evenly";

/// Why the test of one look has no verdict.
fn no_flag(test: &trialog_stats::Comparison, measured: &Measured) -> Option<&'static str> {
    if measured.role == MetricRole::Guardrail && measured.direction.is_none() {
        return Some(NO_DIRECTION);
    }
    if is_sparse(test) {
        return Some(SPARSE);
    }
    if test.is_tied() {
        return Some(TIED);
    }
    (test.p_value().is_none()).then_some("there is no test: an arm has too few users or no spread")
}

/// The test behind `comparison`.
fn tested(comparison: &Comparison, measured: &Measured) -> Option<trialog_stats::Comparison> {
    let arm = |variant: &str| measured.arms.iter().find(|arm| arm.sums.variant == variant);
    let control = measured.control.as_deref().and_then(arm)?;
    test(control, arm(&comparison.treatment)?)
}

/// The interval at `level`, for tests that share their alpha.
fn adjusted_ci(comparison: &Comparison, measured: &Measured, level: f64) -> Option<[f64; 2]> {
    let level = Alpha::new(level).ok()?;
    tested(comparison, measured)?.interval(level).map(ends)
}

fn desirable(
    flag: Option<Flag>,
    difference: Option<f64>,
    direction: Option<Direction>,
) -> Option<bool> {
    let difference = difference.filter(|difference| *difference != 0.0)?;
    match flag? {
        Flag::Significant => Some((difference > 0.0) == (direction? == Direction::Increase)),
        Flag::Trending | Flag::NotSignificant => None,
    }
}

fn flag(adjusted: f64, alpha: Alpha) -> Flag {
    if adjusted < alpha.get() {
        Flag::Significant
    } else if adjusted < TRENDING {
        Flag::Trending
    } else {
        Flag::NotSignificant
    }
}
