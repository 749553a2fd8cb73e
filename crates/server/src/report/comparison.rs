//! A treatment against the control, and the families in which p-values are adjusted.

use serde::{Deserialize, Serialize};
use trialog_catalog::results::VariantMetric;
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::metric_definition::Direction;
use trialog_stats::special::normal_critical;
use trialog_stats::{
    Alpha, Correction, Estimate, Interval, Proportion, Relative, adjust, effect_size,
    two_proportion_z, welch,
};

use super::{MetricReport, summary};

/// Below this adjusted p-value a difference that is not significant is trending.
const TRENDING: f64 = 0.10;

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
    /// `two_proportion_z` or `welch_t`.
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
    /// The difference in pooled standard deviations.
    pub cohens_d: Option<f64>,
    /// Null where there is no p-value, or nobody declared the event type.
    pub flag: Option<Flag>,
    /// Whether a significant difference is one to the good; null where it is
    /// not significant.
    pub desirable: Option<bool>,
}

/// Every row against the control's; empty where the control has no users.
pub(super) fn compare_all(
    kind: MetricKind,
    rows: &[&VariantMetric],
    control: Option<&str>,
    alpha: Alpha,
) -> Vec<Comparison> {
    let Some(control) = rows
        .iter()
        .find(|row| Some(row.variant.as_str()) == control && row.user_count > 0)
    else {
        return Vec::new();
    };
    rows.iter()
        .filter(|row| row.variant != control.variant && row.user_count > 0)
        .filter_map(|treatment| compare(kind, control, treatment, alpha))
        .collect()
}

fn compare(
    kind: MetricKind,
    control: &VariantMetric,
    treatment: &VariantMetric,
    alpha: Alpha,
) -> Option<Comparison> {
    let (a, b) = (summary(kind, control)?, summary(kind, treatment)?);
    let cohens_d = effect_size(&a, &b).cohens_d;
    let treatment_name = treatment.variant.clone();
    if kind == MetricKind::Conversion {
        let rate = |row: &VariantMetric| Proportion::new(row.converted_users, row.user_count).ok();
        let (control, treatment) = (rate(control)?, rate(treatment)?);
        let test = two_proportion_z(&control, &treatment);
        let critical = normal_critical(alpha);
        let relative = relative(test.relative, critical, &control.estimate());
        return Some(Comparison {
            treatment: treatment_name,
            test: "two_proportion_z".to_owned(),
            difference: Some(test.difference),
            ci: Some(ends(test.wald(alpha))),
            relative_difference: relative.0,
            relative_ci: relative.1,
            relative_ci_reason: relative.2,
            statistic: test.z,
            df: None,
            p_value: test.p_value,
            adjusted_p_value: None,
            cohens_d,
            flag: None,
            desirable: None,
        });
    }
    let test = welch(&a, &b);
    let includes_zero = a
        .mean_interval(alpha)
        .is_none_or(|interval| interval.contains(0.0));
    let interval = if includes_zero {
        None
    } else {
        test.relative_interval(alpha)
    };
    let reason = interval
        .is_none()
        .then(|| no_relative(test.relative.is_some()));
    Some(Comparison {
        treatment: treatment_name,
        test: "welch_t".to_owned(),
        difference: Some(test.difference),
        ci: test.interval(alpha).map(ends),
        relative_difference: test.relative.map(|relative| relative.lift),
        relative_ci: interval.map(ends),
        relative_ci_reason: reason,
        statistic: test.t,
        df: test.df,
        p_value: test.p_value,
        adjusted_p_value: None,
        cohens_d,
        flag: None,
        desirable: None,
    })
}

type RelativeParts = (Option<f64>, Option<[f64; 2]>, Option<String>);

/// The relative difference of rates; no interval where the control's own includes 0.
fn relative(relative: Option<Relative>, critical: f64, control: &Estimate) -> RelativeParts {
    let includes_zero = control.value.abs() <= critical * control.variance.sqrt();
    let interval = relative
        .filter(|_| !includes_zero)
        .and_then(|relative| relative.interval(critical));
    let reason = interval.is_none().then(|| no_relative(relative.is_some()));
    (
        relative.map(|relative| relative.lift),
        interval.map(ends),
        reason,
    )
}

fn no_relative(has_lift: bool) -> String {
    if has_lift {
        "the interval of the control's own mean includes 0, so a ratio to it can be anything"
            .to_owned()
    } else {
        "the control's mean is 0".to_owned()
    }
}

fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

/// Adjusts p-values family by family and sets the flags.
///
/// Primary metrics times treatments are one family, secondary ones another;
/// guardrails are tested on their own, and exploratory event types are
/// neither adjusted nor flagged.
pub(super) fn adjust_families(
    reports: &mut [MetricReport],
    alpha: Alpha,
    correction: Option<Correction>,
) {
    for role in [
        MetricRole::Primary,
        MetricRole::Secondary,
        MetricRole::Guardrail,
    ] {
        let mut family: Vec<&mut Comparison> = (reports.iter_mut())
            .filter(|report| report.role == role)
            .flat_map(|report| &mut report.comparisons)
            .filter(|comparison| comparison.p_value.is_some())
            .collect();
        let p_values: Vec<f64> = family
            .iter()
            .filter_map(|comparison| comparison.p_value)
            .collect();
        let adjusted = match correction.filter(|_| role != MetricRole::Guardrail) {
            // p-values of tests lie within 0 and 1, which is all that `adjust` asks.
            Some(correction) => adjust(correction, &p_values).unwrap_or(p_values),
            None => p_values,
        };
        for (comparison, adjusted) in family.iter_mut().zip(adjusted) {
            comparison.adjusted_p_value = Some(adjusted);
            comparison.flag = Some(flag(adjusted, alpha));
        }
    }
    for report in reports {
        for comparison in &mut report.comparisons {
            comparison.desirable = desirable(comparison, report.direction);
        }
    }
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
