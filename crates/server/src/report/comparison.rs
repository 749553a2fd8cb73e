//! A treatment against the control, and the families in which p-values are adjusted.

use serde::{Deserialize, Serialize};
use trialog_model::experiment::Plan;
use trialog_model::metric::MetricRole;
use trialog_model::metric_definition::Direction;
use trialog_stats::special::normal_quantile;
use trialog_stats::{Alpha, Correction, Interval, NoRelative, Sample, adjust};

use super::measured::Arm;
use super::{Measured, MetricReport};

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
    /// `two_proportion_z`, `welch_t`, `ratio_metric`, `cuped` or `quantile_metric`.
    pub test: String,
    /// Treatment minus control, in the metric's unit.
    pub difference: Option<f64>,
    /// Its interval at level `1 - alpha`, low and high.
    pub ci: Option<[f64; 2]>,
    /// The difference divided by the control's mean.
    pub relative_difference: Option<f64>,
    /// Its interval.
    pub relative_ci: Option<[f64; 2]>,
    /// Why there is no relative interval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub relative_ci_reason: Option<String>,
    /// z or t.
    pub statistic: Option<f64>,
    /// Degrees of freedom of t; null for z.
    pub df: Option<f64>,
    /// Two-sided.
    pub p_value: Option<f64>,
    /// Adjusted within its family; null for event types that nobody declared.
    pub adjusted_p_value: Option<f64>,
    /// The interval of the difference at level `1 - alpha * p_value / adjusted_p_value`.
    #[serde(default)]
    pub adjusted_ci: Option<[f64; 2]>,
    /// The difference in pooled standard deviations.
    pub cohens_d: Option<f64>,
    /// Null where there is no p-value, or nobody declared the event type.
    pub flag: Option<Flag>,
    /// Whether a significant difference is one to the good; null where it is
    /// not significant.
    pub desirable: Option<bool>,
    /// Inference that holds at every look; null without spread.
    #[serde(default)]
    pub sequential: Option<Sequential>,
    /// What the users so far are enough for; null without spread.
    #[serde(default)]
    pub power: Option<Power>,
    /// Whether a guardrail is kept; null for other metrics and without a margin.
    #[serde(default)]
    pub non_inferiority: Option<NonInferiority>,
}

/// The mixture sequential probability ratio test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    /// `msprt`.
    pub test: String,
    /// The smallest always-valid p-value of all looks.
    pub p_value: f64,
    /// The always-valid interval of this look.
    pub ci: Option<[f64; 2]>,
    /// Whether the p-value is below alpha.
    pub significant: bool,
    /// Published looks with these definitions, this one included.
    pub looks: u64,
    /// Units of both arms together at which it is sharpest: the planned ones, else 5,000.
    pub tuning: f64,
    /// The variance of the mixture at this look, in the square of the metric's unit.
    pub mixing_variance: f64,
}

/// What the users so far are enough for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The planned power, else 0.8.
    pub power: f64,
    /// The absolute difference that would be found with this power, by the users so far.
    pub detectable_effect: f64,
    /// The planned minimum detectable effect; null for metrics that are not primary.
    pub planned_mde: Option<f64>,
    /// Users of both arms together that are still needed for the planned effect.
    pub users_needed: Option<u64>,
}

/// Whether a guardrail is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NonInferiority {
    /// How much worse it may be, as a fraction of the control's value.
    pub margin: f64,
    /// What the relative interval says of it.
    pub verdict: Guarded,
}

/// The verdict on a guardrail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarded {
    /// The interval lies within the margin: not worse by more than that.
    Kept,
    /// The interval lies beyond the margin: worse by more than that.
    Violated,
    /// The interval holds the margin, or there is none.
    Inconclusive,
}

/// What a comparison depends on beside the arms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) control: Option<&'a str>,
    pub(super) alpha: Alpha,
    /// The level that the experiment declares: the mixture is fixed by it.
    pub(super) declared_alpha: Alpha,
    pub(super) plan: Option<&'a Plan>,
}

impl Terms<'_> {
    fn tuning(&self) -> f64 {
        self.plan.map_or(USUAL_TUNING, |plan| {
            2.0 * plan.sample_size_per_variant as f64
        })
    }
}

/// The test of `treatment` against `control`; none where an arm has no users.
fn test(control: &Arm, treatment: &Arm) -> Option<trialog_stats::Comparison> {
    trialog_stats::Comparison::of(control.sample.as_ref()?, treatment.sample.as_ref()?).ok()
}

/// Every arm against the control's; empty where the control has no users. `looks`
/// are the same arms at earlier looks.
pub(super) fn compare_all(
    measured: &Measured,
    looks: &[Vec<(String, Sample)>],
    terms: &Terms<'_>,
) -> Vec<Comparison> {
    let name = |arm: &Arm| Some(arm.sums.variant.as_str()) == terms.control;
    let Some(control) = measured.arms.iter().find(|arm| name(arm)) else {
        return Vec::new();
    };
    let others = measured.arms.iter().filter(|arm| !name(arm));
    others
        .filter_map(|treatment| {
            let test = test(control, treatment)?;
            let variant = &treatment.sums.variant;
            Some(Comparison {
                sequential: sequential(&test, &at_looks(looks, variant, terms), terms),
                power: power(&test, measured, [control, treatment], terms),
                non_inferiority: non_inferiority(&test, measured, terms.alpha),
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
        desirable: None,
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
        NoRelative::NoTest => "an arm has too few users or no spread",
    }
}

fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

/// The always-valid p-values of `treatment` at earlier looks.
fn at_looks(looks: &[Vec<(String, Sample)>], treatment: &str, terms: &Terms<'_>) -> Vec<f64> {
    let p_value = |look: &Vec<(String, Sample)>| {
        let of = |variant: &str| look.iter().find(|(own, _)| own == variant);
        let ((_, control), (_, treatment)) = (of(terms.control?)?, of(treatment)?);
        let test = trialog_stats::Comparison::of(control, treatment).ok()?;
        let test = test.always_valid(terms.declared_alpha, terms.tuning())?;
        test.p_value
    };
    looks.iter().filter_map(p_value).collect()
}

fn sequential(
    test: &trialog_stats::Comparison,
    earlier: &[f64],
    terms: &Terms<'_>,
) -> Option<Sequential> {
    let now = test.always_valid(terms.declared_alpha, terms.tuning())?;
    let p_value = earlier.iter().copied().fold(now.p_value?, f64::min);
    Some(Sequential {
        test: "msprt".to_owned(),
        p_value,
        ci: now.interval(terms.alpha).map(ends),
        significant: p_value < terms.alpha.get(),
        looks: earlier.len() as u64 + 1,
        tuning: terms.tuning(),
        mixing_variance: now.mixing_variance(),
    })
}

/// The effect that is found with a power of 1 - beta is `z(1 - alpha/2) + z(1 - beta)`
/// standard errors (Bloom 1995), and these shrink with the root of the users.
fn power(
    test: &trialog_stats::Comparison,
    measured: &Measured,
    arms: [&Arm; 2],
    terms: &Terms<'_>,
) -> Option<Power> {
    let standard_error = test.standard_error().filter(|own| *own > 0.0)?;
    let power = (terms.plan.and_then(|plan| plan.power)).unwrap_or(USUAL_POWER);
    let z = |probability: f64| normal_quantile(probability).ok();
    let detectable_effect = (z(power)? - z(terms.alpha.get() / 2.0)?) * standard_error;
    let planned_mde = (terms.plan.filter(|_| measured.role == MetricRole::Primary))
        .and_then(|plan| plan.mde)
        .map(f64::abs);
    let users = arms.iter().map(|arm| arm.sums.users).sum::<u64>() as f64;
    let needed = |mde: f64| {
        let all = users * (detectable_effect / mde).powi(2);
        // As far as JSON readers agree on integers.
        (all - users).ceil().clamp(0.0, (1_u64 << 53) as f64) as u64
    };
    Some(Power {
        power,
        detectable_effect,
        planned_mde,
        users_needed: planned_mde.filter(|mde| *mde > 0.0).map(needed),
    })
}

fn non_inferiority(
    test: &trialog_stats::Comparison,
    measured: &Measured,
    alpha: Alpha,
) -> Option<NonInferiority> {
    let margin = (measured.margin).filter(|_| measured.role == MetricRole::Guardrail)?;
    // The interval of how much better it is: a fall is better where less is good.
    let better = test
        .intervals(alpha)
        .1
        .ok()
        .map(|own| match measured.direction {
            Direction::Increase => [own.low, own.high],
            Direction::Decrease => [-own.high, -own.low],
        });
    let verdict = match better {
        Some([low, _]) if low >= -margin => Guarded::Kept,
        Some([_, high]) if high < -margin => Guarded::Violated,
        _ => Guarded::Inconclusive,
    };
    Some(NonInferiority { margin, verdict })
}

/// Adjusts p-values family by family and sets the flags.
///
/// Primary metrics times treatments are one family, secondary ones another;
/// guardrails are tested on their own, and exploratory event types are
/// neither adjusted nor flagged.
pub(super) fn adjust_families(
    reports: &mut [(MetricReport, Measured)],
    alpha: Alpha,
    correction: Option<Correction>,
) {
    for role in [
        MetricRole::Primary,
        MetricRole::Secondary,
        MetricRole::Guardrail,
    ] {
        let mut family: Vec<(&mut Comparison, &Measured)> = (reports.iter_mut())
            .filter(|(report, _)| report.role == role)
            .flat_map(|(report, measured)| {
                let measured = &*measured;
                report
                    .comparisons
                    .iter_mut()
                    .map(move |own| (own, measured))
            })
            .filter(|(comparison, _)| comparison.p_value.is_some())
            .collect();
        let p_values: Vec<f64> = family.iter().filter_map(|(own, _)| own.p_value).collect();
        let adjusted = match correction.filter(|_| role != MetricRole::Guardrail) {
            // p-values of tests lie within 0 and 1, which is all that `adjust` asks.
            Some(correction) => adjust(correction, &p_values).unwrap_or(p_values),
            None => p_values,
        };
        for ((comparison, measured), adjusted) in family.iter_mut().zip(adjusted) {
            comparison.adjusted_p_value = Some(adjusted);
            comparison.flag = Some(flag(adjusted, alpha));
            comparison.adjusted_ci = adjusted_ci(comparison, measured, adjusted, alpha);
        }
    }
    for (report, _) in reports {
        for comparison in &mut report.comparisons {
            comparison.desirable = desirable(comparison, report.direction);
        }
    }
}

/// The interval at the level at which the raw p-value says what the adjusted one
/// says at alpha, so that it excludes 0 where the flag says significant.
fn adjusted_ci(
    comparison: &Comparison,
    measured: &Measured,
    adjusted: f64,
    alpha: Alpha,
) -> Option<[f64; 2]> {
    let p_value = comparison.p_value?;
    if p_value >= adjusted {
        return comparison.ci;
    }
    let level = Alpha::new(alpha.get() * (p_value / adjusted)).ok()?;
    let arm = |variant: &str| measured.arms.iter().find(|arm| arm.sums.variant == variant);
    let control = measured.control.as_deref().and_then(arm)?;
    let test = test(control, arm(&comparison.treatment)?)?;
    test.interval(level).map(ends)
}

fn desirable(comparison: &Comparison, direction: Direction) -> Option<bool> {
    let difference = comparison
        .difference
        .filter(|difference| *difference != 0.0)?;
    match comparison.flag? {
        Flag::Significant => Some((difference > 0.0) == (direction == Direction::Increase)),
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
