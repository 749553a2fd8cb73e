//! Builds the report of a fixed cohort by the days since its exposure: means of each day, and
//! whether the effect fades or grows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::decimal::format_units;
use trialog_model::event::FieldError;
use trialog_model::experiment::Status;
use trialog_model::metric::{MetricKind, MetricRef, MetricRole};
use trialog_model::metric_definition::MinValue;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_stats::{Alpha, BinMoments, Interval, NoveltySlope, novelty};

use super::adjusted;
use crate::chosen::{NamedKind, check_chosen, is_metric, named_kinds};
use crate::{Report, Subject};

/// Users of an arm without whom a cohort has no verdict.
const FEWEST_USERS: u64 = 100;
/// Active users of an arm that each day needs.
const FEWEST_ACTIVE: u64 = 20;
/// Days that a trend needs.
const FEWEST_DAYS: usize = 3;
/// The value of the integer 1 in sums of values.
const UNIT: f64 = 1e-4;

/// A fixed cohort on each day since its exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaysSinceExposure {
    /// The number of days that are told apart. Day 1 begins with the exposure and lasts 24 hours.
    pub days: usize,
    /// The cohort are the users all of whose days end at this time or before: the time up to
    /// which the numbers hold, or the end of the experiment if that is earlier. Null before the
    /// first run.
    #[schemars(extend("format" = "date-time"))]
    pub until: Option<String>,
    /// The users of the cohort by variant.
    pub users: BTreeMap<String, u64>,
    /// Exposed users whose days have not all ended by then.
    pub open_users: u64,
    /// Each metric that is followed.
    pub metrics: Vec<FollowedMetric>,
}

/// A metric on each day since the exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowedMetric {
    /// The name of the metric.
    pub metric: String,
    /// How the events of a day become a number per user; a conversion is whether the user was
    /// active on the day.
    pub kind: MetricKind,
    /// The role of the metric in the experiment.
    pub role: MetricRole,
    /// The type of the events that the metric is made of.
    pub event_type: String,
    /// Each variant, the control first.
    pub variants: Vec<FollowedVariant>,
    /// Each other variant against the control.
    pub comparisons: Vec<Novelty>,
}

/// A metric of a variant on each day since the exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FollowedVariant {
    /// The variant.
    pub variant: String,
    /// The users of the cohort.
    pub users: u64,
    /// Each day.
    pub days: Vec<ActiveUsers>,
}

/// A metric of a variant on one day since the exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveUsers {
    /// The number of the day; day 1 begins with the exposure.
    pub day: usize,
    /// Users with at least one event on the day.
    pub active_users: u64,
    /// The exact sum over users: of active users, of events or of values, as decimal text.
    #[schemars(regex(pattern = r"^-?[0-9]+\.[0-9]{4}$"))]
    pub total: String,
    /// The mean per user of the cohort; null without users.
    pub mean: Option<f64>,
}

/// Whether the effect of a treatment changes with the days since the exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Novelty {
    /// The variant that is compared with the control.
    pub treatment: String,
    /// Each day.
    pub days: Vec<DayComparison>,
    /// Natural logarithm of the ratio of the totals over all days; null where a day's mean is
    /// not positive.
    pub overall_log_ratio: Option<f64>,
    /// Standard error of `overall_log_ratio`.
    pub overall_log_ratio_se: Option<f64>,
    /// The change of the log ratio per unit of the logarithm of the day.
    pub slope: Option<f64>,
    /// The interval of `slope`.
    pub ci: Option<[f64; 2]>,
    /// The relative change of treatment to control per doubling of the days.
    pub per_doubling: Option<f64>,
    /// `slope` divided by its standard error.
    pub z: Option<f64>,
    /// The two-sided p-value of `z`.
    pub p_value: Option<f64>,
    /// `p_value` after Holm over primary metrics and treatments; null for other metrics.
    pub adjusted_p_value: Option<f64>,
    /// Wald's p-value that the log ratio is the same on all days, whatever their order; not
    /// adjusted.
    pub differs_p_value: Option<f64>,
    /// `none`, `fading` (the effect wears off: novelty), `growing` (it takes time: primacy) or
    /// `changing`; null where there is no verdict.
    #[schemars(extend("enum" = [Some("none"), Some("fading"), Some("growing"), Some("changing"), None::<&str>]))]
    pub verdict: Option<String>,
    /// Why there is no verdict; null where there is one.
    pub reason: Option<String>,
}

/// A treatment against the control on one day since the exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DayComparison {
    /// The number of the day; day 1 begins with the exposure.
    pub day: usize,
    /// Treatment minus control, in the metric's unit.
    pub difference: f64,
    /// The interval of `difference`.
    pub ci: Option<[f64; 2]>,
    /// Natural logarithm of the ratio of the means; null where a mean is not positive.
    pub log_ratio: Option<f64>,
    /// The interval of `log_ratio`.
    pub log_ratio_ci: Option<[f64; 2]>,
}

/// A metric that can be followed from day to day.
#[derive(Debug, Clone, PartialEq)]
pub struct CohortMetric {
    /// The name.
    pub metric: String,
    /// Conversion, count or sum.
    pub kind: MetricKind,
    /// The role of the metric in the experiment.
    pub role: MetricRole,
    /// The type of the events that it is made of.
    pub event_type: String,
    /// Only events of at least this value count.
    pub min_value: Option<MinValue>,
}

/// The exact sums of a metric over the users of a cohort in one variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CohortSums {
    /// The name of the metric.
    pub metric: String,
    /// Its kind.
    pub kind: MetricKind,
    /// The variant.
    pub variant: String,
    /// For each day the users with an event.
    pub active: Vec<u64>,
    /// For each day the sum over users; of values in 1/10,000.
    pub totals: Vec<i128>,
    /// For each pair of days the sum of a user's products, the lower triangle row by row.
    pub products: Vec<i128>,
}

/// A cohort as it was computed.
#[derive(Debug, Clone, PartialEq)]
pub struct CohortUsers {
    /// The users of the cohort by variant.
    pub users: BTreeMap<String, u64>,
    /// The sums of each metric in each variant.
    pub sums: Vec<CohortSums>,
    /// All exposed users by variant, without metrics.
    pub computation: Computation,
}

/// Returns when the days of all users of a cohort have ended: at `data_time`, or when the
/// experiment ended or was stopped, since nobody saw a treatment afterwards.
pub fn cohort_until(subject: &Subject<'_>, data_time: UnixMicros) -> UnixMicros {
    let is_over = matches!(subject.status, Status::Stopped | Status::Archived);
    let stopped_at = subject.stopped_at.filter(|_| is_over);
    let ends = [subject.definition.end_at, stopped_at];
    ends.into_iter().flatten().fold(data_time, UnixMicros::min)
}

/// Lists the metrics to follow: the primary ones, and `wanted` if it is another one.
///
/// # Errors
///
/// The experiment does not name `wanted`, or its kind has no value for each day.
pub fn cohort_metrics(
    subject: &Subject<'_>,
    wanted: Option<&MetricRef>,
) -> Result<Vec<CohortMetric>, FieldError> {
    let all = named_kinds(subject);
    check_chosen(&all, wanted)?;
    let is_wanted = |metric: &&NamedKind<'_>| wanted.is_some() && metric.is_chosen(wanted);
    if let Some(wanted) = wanted
        && !all
            .iter()
            .filter(is_wanted)
            .any(|metric| has_days(metric.kind))
    {
        return Err(FieldError {
            field: "metric",
            reason: format!(
                "`{wanted}` has no value for each day: conversions, counts and sums can be followed"
            ),
        });
    }
    let followed = all.iter().filter(|metric| {
        let is_followed = metric.named.role == MetricRole::Primary || is_wanted(metric);
        is_followed && has_days(metric.kind)
    });
    let followed = followed.map(|metric| CohortMetric {
        metric: metric.named.name.to_owned(),
        kind: metric.kind,
        role: metric.named.role,
        event_type: metric.named.event_type.to_owned(),
        min_value: metric
            .named
            .definition
            .and_then(|defined| defined.min_value),
    });
    Ok(followed.collect())
}

/// Returns whether a metric has a value for each day.
fn has_days(kind: MetricKind) -> bool {
    matches!(
        kind,
        MetricKind::Conversion | MetricKind::Count | MetricKind::Sum
    )
}

impl DaysSinceExposure {
    /// Builds the report of a cohort whose days end at `until`. `whole` is the report of all exposed
    /// users without metrics, and `wanted` the only metric to report, if there is one.
    pub fn from_users(
        whole: &Report,
        (days, until): (usize, UnixMicros),
        metrics: &[CohortMetric],
        cohort: &CohortUsers,
        wanted: Option<&MetricRef>,
    ) -> Self {
        let alpha = Alpha::new(whole.alpha).unwrap_or(Alpha::P05);
        let control = whole.control.as_deref();
        let mut variants: Vec<&str> = (whole.variants.iter())
            .map(|variant| variant.variant.as_str())
            .collect();
        variants.sort_by_key(|variant| Some(*variant) != control);
        let followed = metrics
            .iter()
            .map(|metric| FollowedMetric::new(metric, &variants, cohort, (days, alpha)));
        let mut followed: Vec<FollowedMetric> = followed.collect();
        judge(&mut followed, alpha);
        followed.retain(|metric| {
            wanted.is_none_or(|wanted| is_metric(wanted, &metric.metric, metric.kind))
        });
        let exposed: u64 = whole.variants.iter().map(|variant| variant.users).sum();
        Self {
            days,
            until: Some(until.to_rfc3339()),
            open_users: exposed.saturating_sub(cohort.users.values().sum()),
            users: cohort.users.clone(),
            metrics: followed,
        }
    }

    /// Builds the report of a cohort of which nothing was computed yet.
    pub fn empty(days: usize) -> Self {
        Self {
            days,
            until: None,
            users: BTreeMap::new(),
            open_users: 0,
            metrics: Vec::new(),
        }
    }
}

impl FollowedMetric {
    /// Follows `metric` in `variants`, of which the first one is the control.
    fn new(
        metric: &CohortMetric,
        variants: &[&str],
        cohort: &CohortUsers,
        (days, alpha): (usize, Alpha),
    ) -> Self {
        let arms: Vec<Arm> = (variants.iter())
            .map(|variant| Arm::new(metric, variant, cohort, days))
            .collect();
        let comparisons = match arms.split_first() {
            Some((control, treatments)) => (treatments.iter())
                .map(|treatment| Novelty::between(control, treatment, metric, alpha))
                .collect(),
            None => Vec::new(),
        };
        Self {
            metric: metric.metric.clone(),
            kind: metric.kind,
            role: metric.role,
            event_type: metric.event_type.clone(),
            variants: arms.iter().map(Arm::shown).collect(),
            comparisons,
        }
    }
}

/// The cohort of one variant.
struct Arm {
    variant: String,
    users: u64,
    active: Vec<u64>,
    totals: Vec<i128>,
    kind: MetricKind,
    /// `None` without users.
    moments: Option<BinMoments>,
}

impl Arm {
    fn new(metric: &CohortMetric, variant: &str, cohort: &CohortUsers, days: usize) -> Self {
        let users = cohort.users.get(variant).copied().unwrap_or(0);
        let is_arm = |sums: &&CohortSums| {
            sums.metric == metric.metric && sums.kind == metric.kind && sums.variant == variant
        };
        let zeros = || CohortSums {
            metric: metric.metric.clone(),
            kind: metric.kind,
            variant: variant.to_owned(),
            active: vec![0; days],
            totals: vec![0; days],
            products: vec![0; days * (days + 1) / 2],
        };
        // Without an event of the type nothing was summed.
        let sums = cohort.sums.iter().find(is_arm).cloned();
        let sums = sums.unwrap_or_else(zeros);
        let scale = match metric.kind {
            MetricKind::Sum => UNIT,
            _ => 1.0,
        };
        Self {
            moments: BinMoments::from_exact(users, &sums.totals, &sums.products, scale).ok(),
            variant: variant.to_owned(),
            users,
            active: sums.active,
            totals: sums.totals,
            kind: metric.kind,
        }
    }

    fn shown(&self) -> FollowedVariant {
        let days = self.active.iter().zip(&self.totals).enumerate();
        let shown = days.map(|(at, (active, total))| {
            let units = match self.kind {
                MetricKind::Sum => *total,
                _ => total.saturating_mul(10_000),
            };
            ActiveUsers {
                day: at + 1,
                active_users: *active,
                total: format_units(units),
                mean: (self.moments.as_ref())
                    .and_then(|moments| moments.means().get(at))
                    .copied(),
            }
        });
        FollowedVariant {
            variant: self.variant.clone(),
            users: self.users,
            days: shown.collect(),
        }
    }
}

impl Novelty {
    /// Tests whether the effect changes; the p-value is not adjusted and judged yet.
    fn between(control: &Arm, treatment: &Arm, metric: &CohortMetric, alpha: Alpha) -> Self {
        let moments = control.moments.as_ref().zip(treatment.moments.as_ref());
        let found = moments.and_then(|(a, b)| novelty(a, b).ok());
        let reason = no_verdict([control, treatment], metric);
        let ends = |interval: Interval| [interval.low, interval.high];
        let days = found.iter().flat_map(|found| found.days.iter().enumerate());
        let days = days.map(|(at, day)| DayComparison {
            day: at + 1,
            difference: day.difference,
            ci: day.interval(alpha).map(ends),
            log_ratio: day.log_ratio.map(|ratio| ratio.value),
            log_ratio_ci: (day.log_ratio)
                .and_then(|ratio| ratio.interval(alpha))
                .map(ends),
        });
        let trusted = found.as_ref().filter(|_| reason.is_none());
        let slope: Option<NoveltySlope> = trusted.and_then(|found| found.slope);
        let overall = trusted.and_then(|found| found.overall);
        let reason = match (reason, slope) {
            (None, None) => Some(
                "a day's mean is not positive or nothing varies between users, so there is no trend of ratios"
                    .to_owned(),
            ),
            (reason, _) => reason,
        };
        Self {
            treatment: treatment.variant.clone(),
            days: days.collect(),
            overall_log_ratio: overall.map(|ratio| ratio.value),
            overall_log_ratio_se: overall.map(|ratio| ratio.standard_error),
            slope: slope.map(|slope| slope.estimate),
            ci: slope.and_then(|slope| slope.interval(alpha)).map(ends),
            per_doubling: slope.map(|slope| slope.per_doubling()),
            z: slope.map(|slope| slope.z),
            p_value: slope.map(|slope| slope.p_value),
            adjusted_p_value: None,
            differs_p_value: trusted
                .and_then(|found| found.omnibus.as_ref())
                .map(|omnibus| omnibus.p_value),
            verdict: None,
            reason,
        }
    }

    /// Gives the verdict by the adjusted p-value.
    fn judge(&mut self, alpha: Alpha) {
        let (Some(slope), Some(overall), Some(p_value)) =
            (self.slope, self.overall_log_ratio, self.adjusted_p_value)
        else {
            return;
        };
        let trend = trialog_stats::EffectTrend::from_slope(slope, overall, p_value, alpha);
        self.verdict = Some(trend.as_str().to_owned());
    }
}

/// Says why two arms have no verdict.
fn no_verdict(arms: [&Arm; 2], metric: &CohortMetric) -> Option<String> {
    let n_days = arms[0].active.len();
    if n_days < FEWEST_DAYS {
        return Some(format!(
            "a trend needs {FEWEST_DAYS} days, and {n_days} are asked for"
        ));
    }
    if let Some(arm) = arms.iter().find(|arm| arm.users < FEWEST_USERS) {
        return Some(format!(
            "`{}` has {} users whose {n_days} days have ended: {FEWEST_USERS} are needed in each arm",
            arm.variant, arm.users
        ));
    }
    let happens_once = |arm: &&Arm| arm.moments.as_ref().is_some_and(BinMoments::happens_once);
    if arms.iter().all(happens_once) {
        return Some(format!(
            "no user has `{}` on two days, so who has converted cannot do so again: a constant effect on what happens once looks as if it wore off",
            metric.event_type
        ));
    }
    let few = arms.iter().find_map(|arm| {
        let day = arm
            .active
            .iter()
            .position(|active| *active < FEWEST_ACTIVE)?;
        Some((arm, day))
    });
    few.map(|(arm, day)| {
        format!(
            "on day {} `{}` has {} active users: {FEWEST_ACTIVE} are needed on each day in each arm",
            day + 1,
            arm.variant,
            arm.active[day]
        )
    })
}

/// Adjusts the p-values of primary metrics and gives the verdicts.
fn judge(metrics: &mut [FollowedMetric], alpha: Alpha) {
    let is_primary = |metric: &&mut FollowedMetric| metric.role == MetricRole::Primary;
    let tests = (metrics.iter_mut())
        .filter(is_primary)
        .flat_map(|metric| &mut metric.comparisons);
    let mut tests: Vec<&mut Novelty> = tests.collect();
    let p_values: Vec<Option<f64>> = tests.iter().map(|test| test.p_value).collect();
    for (test, p_value) in tests.iter_mut().zip(adjusted(&p_values)) {
        test.adjusted_p_value = p_value;
        test.judge(alpha);
    }
    let others = metrics.iter_mut().filter(|metric| !is_primary(metric));
    for test in others.flat_map(|metric| &mut metric.comparisons) {
        let only_primary = || {
            "only primary metrics have a verdict: its p-value is of one test among many".to_owned()
        };
        test.reason.get_or_insert_with(only_primary);
    }
}

#[cfg(test)]
mod tests {
    use trialog_model::experiment::Definition;

    use super::*;

    const DEFINITION: &str = r#"{"experiment_id":"gate","variants":[{"variant":"a"},{"variant":"b"}],
        "metrics":{"primary":["visit:count","buy:conversion"],"secondary":["buy:sum"]}}"#;

    #[test]
    fn days_after_the_end_of_an_experiment_are_in_no_cohort() {
        let mut definition: Definition = serde_json::from_str(DEFINITION).unwrap();
        definition.end_at = Some(UnixMicros(50));
        let running = Subject {
            status: Status::Running,
            stopped_at: Some(UnixMicros(20)),
            ..Subject::from_definition(&definition)
        };
        assert_eq!(cohort_until(&running, UnixMicros(10)), UnixMicros(10));
        assert_eq!(cohort_until(&running, UnixMicros(90)), UnixMicros(50));
        let stopped = Subject {
            status: Status::Stopped,
            ..running
        };
        assert_eq!(cohort_until(&stopped, UnixMicros(90)), UnixMicros(20));
    }

    #[test]
    fn primary_metrics_are_followed_and_the_one_that_is_asked_for() {
        let definition: Definition = serde_json::from_str(DEFINITION).unwrap();
        let subject = Subject::from_definition(&definition);
        let followed = |wanted: Option<&str>| {
            let wanted: Option<MetricRef> = wanted.map(|wanted| wanted.parse().unwrap());
            let metrics = cohort_metrics(&subject, wanted.as_ref())?;
            let names = metrics
                .into_iter()
                .map(|metric| (metric.metric, metric.kind));
            Ok::<_, FieldError>(names.collect::<Vec<_>>())
        };
        let primary = followed(None).unwrap();
        let expected = [
            ("visit", MetricKind::Count),
            ("buy", MetricKind::Conversion),
        ];
        assert_eq!(
            primary,
            expected.map(|(name, kind)| (name.to_owned(), kind))
        );
        assert_eq!(followed(Some("buy:sum")).unwrap().len(), 3);
        assert!(
            followed(Some("buy:count"))
                .unwrap_err()
                .reason
                .contains("as conversion, sum")
        );
        assert!(
            followed(Some("byu"))
                .unwrap_err()
                .reason
                .contains("did you mean `buy`?")
        );
    }
}
