//! Builds the scorecards of the days of exposure, and tests whether effects drift over the
//! calendar.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::duration::{Delay, Window};
use trialog_model::event::FieldError;
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::published::Published;
use trialog_model::sequence::Sequence;
use trialog_model::time::UnixMicros;
use trialog_stats::{Alpha, Heterogeneity, Sample, SegmentDifference, heterogeneity};

use super::{DAY_MICROS, adjusted};
use crate::arm::Arm;
use crate::chosen::{is_metric, named_kinds};
use crate::comparison::test;
use crate::measured::{Measured, measured};
use crate::{Choices, Filter, Health, MetricReport, Report, Subject, VariantUsers, build, control};

/// A day takes part in the test of a drift with this many users of the control and the treatment.
const FEWEST_USERS: u64 = 200;
/// A day takes part where the pooled rate expects this many converted and unconverted users in
/// each arm: choosing days by an arm's own count would select on the outcome.
const FEWEST_EXPECTED: f64 = 5.0;

/// The scorecard of each day of exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExposureDays {
    /// The latest 90 UTC days with exposed users, oldest first. A day is listed once the window
    /// of one of its metrics has closed for all its users.
    pub days: Vec<ExposureDay>,
    /// Users who were exposed on earlier days than the 90 listed ones.
    pub earlier_users: u64,
    /// Users who were exposed on later days, where no window has closed for all users yet.
    pub open_users: u64,
    /// For each primary metric and treatment, whether the effect drifts over the calendar.
    pub drift: Vec<Drift>,
}

/// The results of the users who were exposed on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExposureDay {
    /// The UTC day.
    #[schemars(extend("format" = "date"))]
    pub day: String,
    /// Exposed users of all variants.
    pub users: u64,
    /// Users by variant.
    pub variants: Vec<VariantUsers>,
    /// Whether the numbers of this day can be trusted: its own sample ratio check.
    pub health: Health,
    /// Each metric whose window has closed for all users of the day, once for each kind. They
    /// equal the results of the users exposed on this day.
    pub metrics: Vec<MetricReport>,
    /// Metrics whose window is still open for users of the day.
    pub open_metrics: Vec<String>,
}

/// Whether the effect of a treatment drifts over the days of exposure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// The name of the metric.
    pub metric: String,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// The variant that is compared with the control.
    pub treatment: String,
    /// The number of days in the test.
    pub days: usize,
    /// The number of days that are left out of the test, as they have too few users, or too few
    /// expected converted or unconverted ones.
    pub left_out_days: usize,
    /// The change of the difference per day, in the metric's unit.
    pub slope: Option<f64>,
    /// The interval of `slope`.
    pub ci: Option<[f64; 2]>,
    /// The two-sided p-value of `slope`.
    pub p_value: Option<f64>,
    /// `p_value` after Holm over primary metrics and treatments.
    pub adjusted_p_value: Option<f64>,
    /// Whether `adjusted_p_value` is below `alpha`; null without a test.
    pub drifts: Option<bool>,
    /// The p-value of Welch's F that the difference is the same on all days, whatever their
    /// order; not adjusted.
    pub differs_p_value: Option<f64>,
    /// Why there is no test; null where there is one.
    pub reason: Option<String>,
}

/// The experiment that days belong to, and the options that they are reported with.
#[derive(Debug, Clone, Copy)]
pub struct DayResults<'a> {
    /// The experiment.
    pub subject: Subject<'a>,
    /// The fingerprint of its definition as it is now.
    pub current: &'a str,
    /// The looks at the experiment.
    pub sequence: &'a Sequence,
    /// The filter that the users of all days passed.
    pub filter: &'a Filter,
    /// The options of the request.
    pub choices: &'a Choices,
}

/// Returns the number of the last UTC day, from 1970, whose users all have a closed window at
/// `data_time`: of `metric`, else of any metric that the experiment names. `None` while windows end
/// with an experiment that has not ended.
pub fn last_closed_day(
    subject: &Subject<'_>,
    metric: Option<&str>,
    data_time: UnixMicros,
) -> Option<i64> {
    let definition = subject.definition;
    let named = definition.named_metrics(subject.defined_metrics);
    let wanted = named
        .iter()
        .filter(|named| metric.is_none_or(|metric| metric == named.name));
    let closed = wanted.map(|named| {
        let delay = named.definition.and_then(|defined| defined.delay);
        last_day(subject, named.window, delay, data_time)
    });
    let closed: Vec<Option<i64>> = closed.collect();
    match closed.is_empty() {
        true => last_day(subject, definition.attribution_window, None, data_time),
        false => closed.into_iter().flatten().max(),
    }
}

fn last_day(
    subject: &Subject<'_>,
    window: Window,
    delay: Option<Delay>,
    data_time: UnixMicros,
) -> Option<i64> {
    let length = match window.micros() {
        Some(length) => length.saturating_add(delay.map_or(0, Delay::micros)).max(0),
        None => {
            let end_at = subject.definition.end_at?;
            (end_at <= data_time).then_some(0)?
        }
    };
    // The last user of a day is exposed a microsecond before the next one begins.
    let next_day = data_time.0.saturating_sub(length).saturating_add(1);
    Some(next_day.div_euclid(DAY_MICROS) - 1)
}

impl DayResults<'_> {
    /// Returns whether days list a metric. Event types that nobody named would make most of an
    /// answer, so they are listed where the experiment names no metric, or a request asks for one.
    fn lists(&self, role: MetricRole) -> bool {
        let names_some = self.subject.definition.metrics.iter().next().is_some();
        role != MetricRole::Exploratory || self.choices.metric.is_some() || !names_some
    }

    /// Counts what a day has to say of each variant and metric; `whole` is the report of all users.
    pub fn rows_of_a_day(&self, whole: &Report) -> usize {
        let metrics = whole.metrics.iter();
        let listed = metrics.filter(|metric| self.lists(metric.role));
        listed.map(|metric| metric.variants.len()).sum()
    }
}

impl ExposureDays {
    /// Builds the scorecards of `days`, each the number of a day from 1970 with its results, and
    /// tests the drift over them. `earlier_users` and `later_users` were exposed before and after
    /// them.
    ///
    /// # Errors
    ///
    /// A choice that the experiment does not have.
    pub fn from_days(
        results: &DayResults<'_>,
        days: &[(i64, Published)],
        (earlier_users, later_users): (u64, u64),
    ) -> Result<Self, FieldError> {
        let mut listed = Vec::with_capacity(days.len());
        for (day, published) in days {
            let report = build(
                &results.subject,
                Some(published),
                results.current,
                results.sequence,
                Some(results.filter.clone()),
                results.choices,
            )?;
            listed.push(ExposureDay::from_report(results, *day, report, published));
        }
        Ok(Self {
            days: listed,
            earlier_users,
            open_users: later_users,
            drift: drift(results, days)?,
        })
    }
}

impl ExposureDay {
    fn from_report(
        results: &DayResults<'_>,
        day: i64,
        report: Report,
        published: &Published,
    ) -> Self {
        let metrics = report.metrics.into_iter();
        let wanted = metrics.filter(|metric| results.lists(metric.role));
        let data_time = published.mark.data_time;
        let (metrics, open): (Vec<_>, Vec<_>) = wanted.partition(|metric| {
            is_closed(
                &results.subject,
                (&metric.metric, metric.window),
                day,
                data_time,
            )
        });
        let mut open_metrics: Vec<String> = open.into_iter().map(|metric| metric.metric).collect();
        open_metrics.dedup();
        Self {
            day: day_text(day),
            users: report.variants.iter().map(|variant| variant.users).sum(),
            variants: report.variants,
            health: report.health,
            metrics,
            open_metrics,
        }
    }
}

/// Returns whether the window of a metric has closed for all users who were exposed on `day`.
fn is_closed(
    subject: &Subject<'_>,
    (metric, window): (&str, Window),
    day: i64,
    data_time: UnixMicros,
) -> bool {
    let delay = subject
        .defined_metric(metric)
        .and_then(|defined| defined.delay);
    last_day(subject, window, delay, data_time).is_some_and(|last| day <= last)
}

/// Writes the number of a day as a date.
pub(crate) fn day_text(day: i64) -> String {
    let text = UnixMicros(day.saturating_mul(DAY_MICROS)).to_rfc3339();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// A day with the primary metrics that were measured on it.
type MeasuredDay = (i64, Vec<Measured>);

/// Tests the drift of each primary metric and treatment.
fn drift(results: &DayResults<'_>, days: &[(i64, Published)]) -> Result<Vec<Drift>, FieldError> {
    let Some((_, last)) = days.last() else {
        return Ok(Vec::new());
    };
    let DayResults {
        subject, choices, ..
    } = results;
    let control = control(subject.definition, &last.computation, choices)?;
    let Some(control) = control else {
        return Ok(Vec::new());
    };
    let alpha = choices.alpha.or(Alpha::new(subject.definition.alpha).ok());
    let alpha = alpha.unwrap_or(Alpha::P05);
    // The family does not depend on the metric that a request chooses.
    let all = Choices {
        metric: None,
        kind: None,
        ..(*choices).clone()
    };
    let of_day = |(day, published): &(i64, Published)| {
        let measured = measured(subject, &published.computation, Some(&control), &all);
        let primary = measured.into_iter().filter(|measured| {
            let key = (measured.metric.as_str(), measured.window);
            measured.role == MetricRole::Primary
                && is_closed(subject, key, *day, published.mark.data_time)
        });
        (*day, primary.collect())
    };
    let measured_days: Vec<MeasuredDay> = days.iter().map(of_day).collect();
    let mut tests = Vec::new();
    let primary = named_kinds(subject).into_iter();
    for metric in primary.filter(|metric| metric.named.role == MetricRole::Primary) {
        for variant in crate::variants(subject.definition, &last.computation) {
            if variant.variant != control {
                let key = (metric.named.name, metric.kind, variant.variant.as_str());
                tests.push(drift_of(&measured_days, key, &control, alpha));
            }
        }
    }
    let p_values: Vec<Option<f64>> = tests.iter().map(|test| test.p_value).collect();
    for (test, p_value) in tests.iter_mut().zip(adjusted(&p_values)) {
        test.adjusted_p_value = p_value;
        test.drifts = p_value.map(|p_value| p_value < alpha.get());
    }
    tests.retain(|test| {
        let is_chosen = |chosen| is_metric(chosen, &test.metric, test.kind);
        choices.metric.as_ref().is_none_or(is_chosen)
            && choices.kind.is_none_or(|kind| kind == test.kind)
    });
    Ok(tests)
}

/// Tests the drift of one metric and treatment; the p-value is not adjusted yet.
fn drift_of(
    days: &[MeasuredDay],
    (metric, kind, treatment): (&str, MetricKind, &str),
    control: &str,
    alpha: Alpha,
) -> Drift {
    let mut segments = Vec::new();
    let mut left_out_days = 0;
    for (day, measured) in days {
        let is_metric = |other: &&Measured| other.metric == metric && other.kind == kind;
        let Some(measured) = measured.iter().find(is_metric) else {
            continue;
        };
        let arm = |variant: &str| measured.arms.iter().find(|arm| arm.sums.variant == variant);
        let difference = arm(control)
            .zip(arm(treatment))
            .and_then(|(control, treatment)| segment(control, treatment));
        match difference {
            Some(difference) => segments.push(difference.with_score(*day as f64)),
            None => left_out_days += 1,
        }
    }
    let found = heterogeneity(&segments, alpha).ok().flatten();
    let trend = found
        .as_ref()
        .and_then(|found: &Heterogeneity| found.trend.as_ref());
    let reason = match (trend, kind) {
        (Some(_), _) => None,
        (None, MetricKind::Quantile) => {
            Some("quantiles of different days cannot be put together".to_owned())
        }
        (None, _) => Some(format!(
            "{} of {} days with closed windows have {FEWEST_USERS} users of both arms and, for rates, 5 expected converted and unconverted users in each: two are needed",
            segments.len(),
            segments.len() + left_out_days
        )),
    };
    Drift {
        metric: metric.to_owned(),
        kind,
        treatment: treatment.to_owned(),
        days: segments.len(),
        left_out_days,
        slope: trend.map(|trend| trend.slope),
        ci: trend
            .and_then(|trend| trend.interval(alpha))
            .map(|interval| [interval.low, interval.high]),
        p_value: trend.map(|trend| trend.p_value),
        adjusted_p_value: None,
        drifts: None,
        differs_p_value: found.as_ref().map(|found| found.f.p_value),
        reason,
    }
}

/// Compares the arms of one day; `None` where they are too small to take part.
fn segment(control: &Arm, treatment: &Arm) -> Option<SegmentDifference> {
    let samples = [control.sample.as_ref()?, treatment.sample.as_ref()?];
    let users: u64 = samples.iter().map(|sample| sample.n()).sum();
    if users < FEWEST_USERS || samples_expect_few(samples) {
        return None;
    }
    test(control, treatment)?.segment()
}

/// Returns whether the pooled rate expects too few converted or unconverted users in an arm.
fn samples_expect_few([a, b]: [&Sample; 2]) -> bool {
    let (Sample::Rate(a), Sample::Rate(b)) = (a, b) else {
        return false;
    };
    let users = a.n() + b.n();
    let converted = a.conversions() + b.conversions();
    let fewest = converted.min(users - converted) as f64 / users as f64;
    fewest * (a.n().min(b.n()) as f64) < FEWEST_EXPECTED
}

#[cfg(test)]
mod tests {
    use trialog_model::experiment::Definition;

    use super::*;

    fn last(window: &str, end_at: Option<i64>, data_time: i64) -> Option<i64> {
        let text = format!(
            r#"{{"experiment_id":"gate","variants":[{{"variant":"a"}},{{"variant":"b"}}],"attribution_window":"{window}"}}"#
        );
        let mut definition: Definition = serde_json::from_str(&text).unwrap();
        definition.end_at = end_at.map(UnixMicros);
        last_closed_day(
            &Subject::from_definition(&definition),
            None,
            UnixMicros(data_time),
        )
    }

    #[test]
    fn a_day_is_closed_with_the_window_of_its_last_user() {
        // The last user of day 10 is exposed a microsecond before day 11.
        let closes = 11 * DAY_MICROS - 1 + 2 * DAY_MICROS;
        assert_eq!(last("2d", None, closes), Some(10));
        assert_eq!(last("2d", None, closes - 1), Some(9));
        assert_eq!(last("1h", None, 11 * DAY_MICROS), Some(9));
        assert_eq!(last("none", None, closes), None);
        assert_eq!(last("none", Some(closes + 1), closes), None);
        assert_eq!(last("none", Some(closes), closes), Some(12));
    }

    #[test]
    fn days_are_written_as_dates() {
        assert_eq!(day_text(0), "1970-01-01");
        assert_eq!(day_text(-1), "1969-12-31");
        assert_eq!(day_text(20_342), "2025-09-11");
    }
}
