//! A treatment against the control, and the families in which p-values are adjusted.

use serde::{Deserialize, Serialize};
use trialog_model::experiment::{Definition, Plan};
use trialog_model::metric::MetricRole;
use trialog_model::metric_definition::Direction;
use trialog_stats::special::normal_quantile;
use trialog_stats::{Alpha, Better, Correction, Interval, NoRelative, adjust};

use super::measured::Arm;
use super::standing::{self, Standing, TestStanding};
use super::{Choices, Measured, MetricReport, Subject};

/// Below this adjusted p-value a difference that is not significant is trending.
const TRENDING: f64 = 0.10;
/// Units of both arms together at which always-valid inference is sharpest where
/// nothing is planned.
const USUAL_TUNING: f64 = 5_000.0;
/// The power that is asked for where none is planned.
const USUAL_POWER: f64 = 0.8;

/// What a test comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// The adjusted p-value is below alpha.
    Significant,
    /// It is below 0.10.
    Trending,
    /// It is not.
    NotSignificant,
}

/// A treatment against the control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The treatment.
    pub treatment: String,
    /// `two_proportion_z`, `fisher_exact` where an arm has fewer than 5 converted or 5
    /// unconverted users, `welch_t`, `ratio_metric`, `cuped` or `quantile_metric`.
    pub test: String,
    /// Treatment minus control, in the metric's unit.
    pub difference: Option<f64>,
    /// Its interval at level `1 - alpha`, low and high.
    pub ci: Option<[f64; 2]>,
    /// The difference divided by the absolute value of the control's mean.
    pub relative_difference: Option<f64>,
    /// Its interval.
    pub relative_ci: Option<[f64; 2]>,
    /// Why there is no relative interval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub relative_ci_reason: Option<String>,
    /// z or t; null for the exact test.
    pub statistic: Option<f64>,
    /// Degrees of freedom of t; null for z.
    pub df: Option<f64>,
    /// Two-sided.
    pub p_value: Option<f64>,
    /// Adjusted within its family; null for event types that nobody declared.
    pub adjusted_p_value: Option<f64>,
    /// The interval of the difference at level `1 - alpha / m` for the m tests of its
    /// family, so that all of them together hold the truth with a probability of
    /// `1 - alpha`; it may include 0 where Holm's p-value is below alpha.
    #[serde(default)]
    pub adjusted_ci: Option<[f64; 2]>,
    /// The difference in pooled standard deviations.
    pub cohens_d: Option<f64>,
    /// What the test of this one look comes to; null where there is none or it is not to
    /// be trusted, as `flag_reason` says.
    pub flag: Option<Flag>,
    /// Why there is no flag; null where there is one.
    #[serde(default)]
    pub flag_reason: Option<String>,
    /// Whether the variance within the arms, pooled, exceeds 1.5 times that of each arm by
    /// its own: too few units of an arm have a value for tests of its mean.
    #[serde(default)]
    pub sparse: bool,
    /// Whether a significant difference is one to the good; null where it is
    /// not significant.
    pub desirable: Option<bool>,
    /// What to act on.
    #[serde(default)]
    pub headline: Headline,
    /// Inference that holds at every look; null without spread and for quantiles.
    #[serde(default)]
    pub sequential: Option<Sequential>,
    /// What the users so far are enough for; null without spread.
    #[serde(default)]
    pub power: Option<Power>,
    /// Whether a guardrail is kept; null for other metrics and without a margin.
    #[serde(default)]
    pub non_inferiority: Option<NonInferiority>,
}

/// What a person should act on, and by which test.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Headline {
    /// `always_valid` or `fixed_horizon`; null where there is none.
    pub test: Option<String>,
    /// Treatment minus control, in the metric's unit: that of the look which the test is of.
    #[serde(default)]
    pub difference: Option<f64>,
    /// The same divided by the absolute value of the control's mean.
    #[serde(default)]
    pub relative_difference: Option<f64>,
    /// Adjusted within the family.
    pub p_value: Option<f64>,
    /// The level that the test spends: with a plan 0.2 alpha at every look and 0.8 alpha at
    /// the planned one, else alpha.
    #[serde(default)]
    pub alpha: Option<f64>,
    /// The interval of the difference that goes with the test, at one minus that level.
    pub ci: Option<[f64; 2]>,
    /// That of the relative difference; null where the control may be 0.
    pub relative_ci: Option<[f64; 2]>,
    /// When the planned look was that it is of, RFC 3339; null for other tests.
    #[serde(default)]
    pub at: Option<String>,
    /// What the test comes to; null where there is none.
    pub flag: Option<Flag>,
    /// Whether a significant difference is one to the good; null where it is not
    /// significant, or nobody declared which way is good.
    pub desirable: Option<bool>,
    /// Why this test, or why none.
    pub reason: String,
}

/// The levels that the headlines of `comparisons` spend, each once, the smallest first;
/// `otherwise` where there are none.
pub fn headline_levels<'c>(
    comparisons: impl Iterator<Item = &'c Comparison>,
    otherwise: f64,
) -> Vec<f64> {
    let mut levels: Vec<f64> = comparisons.filter_map(|own| own.headline.alpha).collect();
    levels.sort_unstable_by(f64::total_cmp);
    levels.dedup();
    if levels.is_empty() {
        levels.push(otherwise);
    }
    levels
}

/// The mixture sequential probability ratio test, with the guarded variance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    /// `msprt`.
    pub test: String,
    /// The smallest always-valid p-value of all looks that count.
    pub p_value: f64,
    /// The difference at the look that gave it.
    #[serde(default)]
    pub difference: f64,
    /// The always-valid interval of this look.
    pub ci: Option<[f64; 2]>,
    /// That of the relative difference; null where the control may be 0.
    #[serde(default)]
    pub relative_ci: Option<[f64; 2]>,
    /// Whether the p-value is below alpha.
    pub significant: bool,
    /// Published looks that count, this one included.
    pub looks: u64,
    /// When the first of them was published, RFC 3339; null where none was.
    #[serde(default)]
    pub since: Option<String>,
    /// Units of both arms together at which it is sharpest: the planned ones, else 5,000.
    pub tuning: f64,
    /// Why these.
    #[serde(default)]
    pub tuning_reason: String,
    /// The variance of the mixture at this look, in the square of the metric's unit.
    pub mixing_variance: f64,
}

/// What the users so far are enough for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The power of this test: one minus the planned chance to miss the effect, else 0.2, shared
    /// among it and the guardrails that have a margin.
    pub power: f64,
    /// The level of this test: that of the planned look, else alpha, divided by the number of
    /// tests in its family.
    #[serde(default)]
    pub alpha: f64,
    /// The absolute difference that would be found with this power, by the users so far.
    pub detectable_effect: f64,
    /// The planned minimum detectable effect: `plan.mde` of the first primary metric,
    /// `plan.mdes` of others; null where nothing is planned.
    pub planned_mde: Option<f64>,
    /// Users of both arms together that are still needed for the planned effect.
    pub users_needed: Option<u64>,
}

/// Whether a guardrail is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NonInferiority {
    /// How much worse it may be, as a fraction of the control's value.
    pub margin: f64,
    /// Of "worse by the margin or more", one-sided; null where there is no test.
    #[serde(default)]
    pub p_value: Option<f64>,
    /// Of "not worse by more than the margin", one-sided; null where there is no test.
    #[serde(default)]
    pub p_violated: Option<f64>,
    /// What the linear test says at alpha/2 on each side; null where nobody declared which
    /// way is good.
    pub verdict: Option<Guardrail>,
}

/// The verdict on a guardrail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guardrail {
    /// Not worse by the margin or more.
    Kept,
    /// Worse by more than the margin.
    Violated,
    /// Neither is shown, or the comparison is not to be trusted.
    Inconclusive,
}

impl From<trialog_stats::Guardrail> for Guardrail {
    fn from(verdict: trialog_stats::Guardrail) -> Self {
        match verdict {
            trialog_stats::Guardrail::Kept => Self::Kept,
            trialog_stats::Guardrail::Violated => Self::Violated,
            trialog_stats::Guardrail::Inconclusive => Self::Inconclusive,
        }
    }
}

/// What a comparison depends on beside the arms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) control: Option<&'a str>,
    pub(super) alpha: Alpha,
    /// The level that the experiment declares: the mixture is fixed by it.
    pub(super) declared_alpha: Alpha,
    pub(super) plan: Option<&'a Plan>,
    /// What earlier looks came to, as results are looked at again and again while users come
    /// in; none where the data are whole and looked at once.
    pub(super) looks: Option<Looks<'a>>,
}

/// What earlier looks came to, and whether a verdict may rest on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) standing: Option<&'a Standing>,
    /// Whether the request asks for the control, the level and the correction that the
    /// planned look was made with.
    pub(super) is_as_planned: bool,
    /// Whether what results are tested with was changed after the start and nobody has
    /// confirmed it.
    pub(super) is_unconfirmed: bool,
}

impl<'a> Terms<'a> {
    pub(super) fn of(
        definition: &'a Definition,
        control: Option<&'a str>,
        choices: &Choices,
        looks: Option<Looks<'a>>,
    ) -> Self {
        let declared_alpha = Alpha::new(definition.alpha).unwrap_or(Alpha::P05);
        Self {
            control,
            alpha: choices.alpha.unwrap_or(declared_alpha),
            declared_alpha,
            plan: definition.plan.as_ref(),
            looks,
        }
    }

    /// Units of both arms together at which always-valid tests are sharpest, and why these.
    pub(super) fn tuning(&self) -> (f64, &'static str) {
        match self.plan {
            Some(plan) => (
                2.0 * plan.sample_size_per_variant as f64,
                "the planned users of both arms",
            ),
            None => (
                USUAL_TUNING,
                "nothing is planned, so 5,000 users of both arms are assumed: a plan makes the test sharper where you expect more",
            ),
        }
    }

    /// The level of always-valid tests.
    fn early(&self) -> Alpha {
        standing::early(self.alpha, self.plan.is_some())
    }
}

/// The test of `treatment` against `control`; none where an arm has no users.
pub(super) fn test(control: &Arm, treatment: &Arm) -> Option<trialog_stats::Comparison> {
    trialog_stats::Comparison::of(control.sample.as_ref()?, treatment.sample.as_ref()?).ok()
}

/// The always-valid test of a look.
pub(super) fn always_valid(
    test: &trialog_stats::Comparison,
    terms: &Terms<'_>,
) -> Option<trialog_stats::Msprt> {
    test.always_valid(terms.declared_alpha, terms.tuning().0)
}

/// Every arm against the control's; empty where the control has no users.
pub(super) fn compare_all(measured: &Measured, terms: &Terms<'_>) -> Vec<Comparison> {
    let name = |arm: &Arm| Some(arm.sums.variant.as_str()) == terms.control;
    let Some(control) = measured.arms.iter().find(|arm| name(arm)) else {
        return Vec::new();
    };
    let others = measured.arms.iter().filter(|arm| !name(arm));
    let basis = (terms.looks).map(|looks| standing::basis(&looks.subject, measured, terms));
    let basis = basis.unwrap_or_default();
    others
        .filter_map(|treatment| {
            let test = test(control, treatment)?;
            let variant = &treatment.sums.variant;
            Some(Comparison {
                sequential: sequential(&test, earlier(measured, variant, &basis, terms), terms),
                non_inferiority: non_inferiority(&test, measured, terms.alpha),
                sparse: is_sparse(&test),
                flag_reason: no_flag(&test, measured).map(str::to_owned),
                ..plain(variant, &test, terms.alpha)
            })
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
        looks: earlier.map_or(1, |own| own.looks),
        since: earlier.map(|own| own.since().to_rfc3339()),
        tuning,
        tuning_reason: tuning_reason.to_owned(),
        mixing_variance: now.mixing_variance(),
    })
}

/// What the users so far are enough for, at `goal`.
///
/// The effect that is found with a power of 1 - beta is `z(1 - alpha/2) + z(1 - beta)`
/// standard errors (Bloom 1995), and these shrink with the root of the users.
fn power(comparison: &Comparison, measured: &Measured, goal: &Goal) -> Option<Power> {
    let test = tested(comparison, measured)?;
    let standard_error = test.standard_error().filter(|own| *own > 0.0)?;
    let z = |probability: f64| normal_quantile(probability).ok();
    let detectable_effect = (z(goal.power)? - z(goal.alpha / 2.0)?) * standard_error;
    let users = |variant: Option<&str>| {
        let is_own = |arm: &&Arm| Some(arm.sums.variant.as_str()) == variant;
        (measured.arms.iter().find(is_own)).map_or(0, |arm| arm.sums.users)
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

/// What a test has to find, at which level and how surely.
struct Goal {
    alpha: f64,
    power: f64,
    mde: Option<f64>,
}

impl Goal {
    /// Of a test among `n_tests` that share their alpha, in an experiment with `n_guardrails`
    /// that have a margin: they all have to come out right for it to be shipped, so each may
    /// fail `n_guardrails + 1` times less often (Schultzberg, Ankargren & Frånberg 2024).
    fn of(terms: &Terms<'_>, n_tests: usize, n_guardrails: usize, mde: Option<f64>) -> Self {
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

/// Says of each comparison what the users so far are enough for; families are those of
/// [`adjust_families`].
pub(super) fn note_power(
    reports: &mut [(MetricReport, Measured)],
    n_treatments: usize,
    correction: Option<Correction>,
    terms: &Terms<'_>,
) {
    let has_margin = |own: &&(MetricReport, Measured)| {
        own.0.role == MetricRole::Guardrail && own.1.margin.is_some()
    };
    let n_guardrails = reports.iter().filter(has_margin).count();
    let n_of = |role: MetricRole| reports.iter().filter(|own| own.0.role == role).count();
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
        let goal = Goal::of(terms, n_tests, n_guardrails, mde);
        for comparison in &mut report.comparisons {
            comparison.power = power(comparison, measured, &goal);
        }
    }
}

/// Adjusts p-values family by family and sets flags and headlines.
///
/// Primary metrics times treatments are one family, secondary ones another, of
/// `n_treatments` tests for each metric also where one of them cannot be tested;
/// guardrails are tested on their own, and exploratory event types are
/// neither adjusted nor flagged.
pub(super) fn adjust_families(
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
        let of_role = |own: &&mut (MetricReport, Measured)| own.0.role == role;
        let n_metrics = reports.iter_mut().filter(of_role).count();
        let family: Vec<Tested<'_>> = (reports.iter_mut())
            .filter(|(report, _)| report.role == role)
            .flat_map(|(report, measured)| {
                let measured = &*measured;
                (report.comparisons.iter_mut()).map(move |own| (own, measured))
            })
            .collect();
        let correction = correction.filter(|_| role != MetricRole::Guardrail);
        adjust_family(family, n_metrics * n_treatments, correction, terms);
    }
    let is_exploratory =
        |own: &&mut (MetricReport, Measured)| own.0.role == MetricRole::Exploratory;
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
        let mut all: Vec<f64> = p_values.iter().map(|own| own.unwrap_or(1.0)).collect();
        all.resize(n_tests, 1.0);
        // p-values of tests lie within 0 and 1, which is all that `adjust` asks.
        let all = match correction {
            Some(correction) => adjust(correction, &all).unwrap_or(all),
            None => all,
        };
        let kept = p_values.iter().zip(all);
        kept.map(|(own, adjusted)| own.map(|_| adjusted)).collect()
    };
    let trusted = |own: &Comparison| own.p_value.filter(|_| !own.sparse);
    let at_once = adjusted(family.iter().map(|(own, _)| trusted(own)).collect());
    let valid = |own: &Comparison| own.sequential.as_ref().map(|own| own.p_value);
    let always = adjusted(family.iter().map(|(own, _)| valid(own)).collect());
    let level = match correction {
        Some(_) => terms.alpha.get() / n_tests.max(1) as f64,
        None => terms.alpha.get(),
    };
    for (((comparison, measured), at_once), always) in family.iter_mut().zip(at_once).zip(always) {
        comparison.adjusted_p_value = at_once;
        comparison.adjusted_ci = adjusted_ci(comparison, measured, level);
        comparison.flag = at_once
            .filter(|_| comparison.flag_reason.is_none())
            .map(|own| flag(own, terms.alpha));
        comparison.desirable =
            desirable(comparison.flag, comparison.difference, measured.direction);
        comparison.headline = headline(comparison, measured, [at_once, always], terms);
    }
}

const EXPLORATORY: &str = "nobody declared this event type as a metric of the experiment";
const NO_DIRECTION: &str = "the guardrail declares no direction, so nobody can say whether it is harmed: say which way is good, by `direction` in its definition or --increase or --decrease of `trialog analyze`";
pub(super) const TIED: &str = "too many users share one value about this quantile, as where it lies among users without an event, so no test of it keeps its level: take another level, a sum, or `:conversion`";
const UNCONFIRMED: &str = "what results are tested with was changed after the start, and nobody has confirmed it: no verdict until somebody does";
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

/// What to act on.
fn headline(
    comparison: &Comparison,
    measured: &Measured,
    [at_once, always]: [Option<f64>; 2],
    terms: &Terms<'_>,
) -> Headline {
    let Some(looks) = terms.looks else {
        return fixed_headline(comparison, measured.direction, at_once, terms);
    };
    let early = early_headline(comparison, measured, always, terms);
    let headline = match planned_headline(looks, comparison, measured, terms) {
        Some(planned) if planned.flag == Some(Flag::Significant) => planned,
        Some(planned) if early.flag != Some(Flag::Significant) => planned,
        _ => early,
    };
    if looks.is_unconfirmed {
        return Headline {
            flag: None,
            desirable: None,
            reason: UNCONFIRMED.to_owned(),
            ..headline
        };
    }
    headline
}

/// The verdict of the planned look, which stands whatever comes later; `None` where it came to
/// none, so that looks go on.
fn planned_headline(
    looks: Looks<'_>,
    comparison: &Comparison,
    measured: &Measured,
    terms: &Terms<'_>,
) -> Option<Headline> {
    let was_taken = |own: &&Standing| looks.is_as_planned && own.planned.is_some();
    let standing = looks.standing.filter(was_taken)?;
    let key = (
        measured.metric.as_str(),
        measured.kind,
        comparison.treatment.as_str(),
    );
    let basis = standing::basis_of_verdict(&looks.subject, measured, terms);
    let stored = standing
        .planned_headline(key, &basis)
        .filter(|own| own.flag.is_some())?;
    let reason = "the planned look, at which every arm had its planned users: its outcome stands";
    Some(Headline {
        reason: reason.to_owned(),
        ..stored.clone()
    })
}

/// Where the data are whole and looked at once.
fn fixed_headline(
    comparison: &Comparison,
    direction: Option<Direction>,
    p_value: Option<f64>,
    terms: &Terms<'_>,
) -> Headline {
    // Of a guardrail without a direction there is a test and nothing that it says.
    let p_value = p_value.filter(|_| direction.is_some());
    let flag = p_value.map(|own| tells(own, terms.alpha));
    Headline {
        test: comparison.ci.map(|_| "fixed_horizon".to_owned()),
        difference: comparison.difference,
        relative_difference: comparison.relative_difference,
        p_value,
        alpha: Some(terms.alpha.get()),
        ci: comparison.ci,
        relative_ci: comparison.relative_ci,
        at: None,
        flag,
        desirable: desirable(flag, comparison.difference, direction),
        reason: no_headline(comparison, p_value)
            .unwrap_or("the data are whole and looked at once")
            .to_owned(),
    }
}

/// While users come in and results are looked at, only a test that holds at every look keeps
/// its level. Without a p-value there are intervals and no verdict.
fn early_headline(
    comparison: &Comparison,
    measured: &Measured,
    p_value: Option<f64>,
    terms: &Terms<'_>,
) -> Headline {
    let level = terms.early();
    let [ci, relative_ci] = always_valid_intervals(comparison, measured, level, terms);
    let p_value = p_value.filter(|_| measured.direction.is_some());
    let flag = p_value.map(|own| tells(own, level));
    // What an earlier look has shown is no verdict on a difference of the other sign.
    let then = comparison.sequential.as_ref().map(|own| own.difference);
    let shown = (comparison.difference).filter(|now| then.is_none_or(|then| then * now > 0.0));
    let reason = match terms.plan {
        Some(_) => {
            "results can be looked at whenever they are published, and this test holds at every look; it spends a fifth of alpha, the planned look the rest"
        }
        None => {
            "results can be looked at whenever they are published, and this test holds at every look"
        }
    };
    Headline {
        test: ci.map(|_| "always_valid".to_owned()),
        difference: comparison.difference,
        relative_difference: comparison.relative_difference,
        p_value,
        alpha: Some(level.get()),
        ci,
        relative_ci,
        at: None,
        flag,
        desirable: desirable(flag, shown, measured.direction),
        reason: no_headline(comparison, p_value)
            .unwrap_or(reason)
            .to_owned(),
    }
}

/// The intervals of the difference and the lift that hold at every look, at `level`.
fn always_valid_intervals(
    comparison: &Comparison,
    measured: &Measured,
    level: Alpha,
    terms: &Terms<'_>,
) -> [Option<[f64; 2]>; 2] {
    let intervals = || {
        let test = tested(comparison, measured)?;
        let valid = always_valid(&test, terms)?;
        let lift = test.always_valid_lift(&valid, level).map(ends);
        Some([valid.interval(level).map(ends), lift])
    };
    intervals().unwrap_or_default()
}

/// Why there is no verdict; `None` where there is a p-value for one.
fn no_headline(comparison: &Comparison, p_value: Option<f64>) -> Option<&str> {
    if p_value.is_some() {
        return None;
    }
    Some(match &comparison.flag_reason {
        Some(reason) => reason,
        None if comparison.test == "quantile_metric" => {
            "a quantile has no test that holds at every look"
        }
        None => "there is no test: nobody differs yet, or an arm has a single user",
    })
}

/// What a p-value says at `level`.
fn tells(p_value: f64, level: Alpha) -> Flag {
    match p_value < level.get() {
        true => Flag::Significant,
        false => Flag::NotSignificant,
    }
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
