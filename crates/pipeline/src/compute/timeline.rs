//! Computes what results would have been at the end of past days, on request.

use trialog_model::published::VariantMetric;
use trialog_model::time::UnixMicros;
use trialog_warehouse::analysis::scorecard::MetricPlan;
use trialog_warehouse::analysis::scorecard::history::{History, HistoryPlan};
use trialog_warehouse::fold::split::{DAY_MICROS, day_number};
use trialog_warehouse::fold::{Folded, Plan};
use trialog_warehouse::{FoldError, WarehouseError};

use super::cohorts::Reader;
use super::row;

/// The most past days that are computed.
pub const MOST_DAYS: usize = 90;
/// The most sums that are kept of all days, metrics, variants and changes: about 30 MB.
const MOST_SUMS: usize = 200_000;

/// The rows of a metric at the end of a past day.
#[derive(Debug, Clone, PartialEq)]
pub struct PastDay {
    /// The end of the UTC day: events before it count.
    pub at: UnixMicros,
    /// A row for each variant; empty before the first user.
    pub rows: Vec<VariantMetric>,
}

/// A metric whose past is computed.
#[derive(Debug, Clone, PartialEq)]
pub struct PastMetric {
    /// The name of the metric.
    pub metric: String,
    /// Days that end after this time are left out.
    pub before: UnixMicros,
}

/// Computes the rows of `wanted` at the ends of the latest 90 days, each metric's before its time;
/// the inner error is the experiment's own.
pub(crate) fn compute_past(
    reader: &Reader<'_>,
    wanted: &[PastMetric],
) -> Result<Result<Vec<Vec<PastDay>>, FoldError>, WarehouseError> {
    let (plan, metrics) = reader.plan()?;
    let found = wanted.iter().filter_map(|wanted| {
        let metric = metrics.iter().find(|metric| metric.name == wanted.metric)?;
        Some((wanted, metric.clone()))
    });
    let found: Vec<(&PastMetric, MetricPlan)> = found.collect();
    let Some(before) = found.iter().map(|(wanted, _)| wanted.before).max() else {
        return Ok(Ok(vec![Vec::new(); wanted.len()]));
    };
    let n_sums = (plan.variants.len() * found.len()).max(1);
    let times = ends_of_days(before, MOST_DAYS.min(MOST_SUMS / n_sums));
    let question = HistoryPlan {
        // What happens at the end of a day belongs to the next one.
        times: times.iter().map(|end| end - 1).collect(),
        metrics: found.iter().map(|(_, metric)| metric.clone()).collect(),
    };
    let plans = std::slice::from_ref(&plan);
    let outcome = (reader.view)
        .run::<History>(plans, &[question], reader.n_threads)?
        .pop()
        .expect("there is an answer for each plan");
    let folded = match outcome {
        Ok(folded) => folded,
        Err(error) => return Ok(Err(error)),
    };
    let days = wanted.iter().map(|wanted| {
        let at = (found.iter()).position(|(other, _)| std::ptr::eq(*other, wanted));
        at.map_or(Vec::new(), |at| {
            days_of_metric(&plan, &folded, (at, &found[at].1), &times, wanted.before)
        })
    });
    Ok(Ok(days.collect()))
}

/// The ends of the `limit` latest UTC days that end at `before` or earlier, in order.
fn ends_of_days(before: UnixMicros, limit: usize) -> Vec<i64> {
    let last = day_number(before.0);
    let days = (last.saturating_sub(limit as i64) + 1)..=last;
    days.map(|day| day.saturating_mul(DAY_MICROS)).collect()
}

/// Collects the rows of metric number `at` at the ends of days, from the first user on.
fn days_of_metric(
    plan: &Plan,
    folded: &Folded<History>,
    (at, metric): (usize, &MetricPlan),
    times: &[i64],
    before: UnixMicros,
) -> Vec<PastDay> {
    let history = &folded.accumulator;
    let variants = plan.variants.texts().iter().zip(0..);
    let variants = variants.map(|(variant, code)| {
        let slot = plan.slot(0, code);
        (variant, history.users(slot), history.sums(slot, at))
    });
    let variants: Vec<_> = variants.collect();
    let days = times.iter().enumerate().map(|(time, end)| {
        let rows = variants.iter().filter_map(|(variant, users, sums)| {
            let sums = sums[time].as_ref()?;
            Some(row(
                (variant, &metric.name),
                users[time],
                metric.shape,
                sums,
            ))
        });
        PastDay {
            at: UnixMicros(*end),
            rows: rows.collect(),
        }
    });
    let has_users = |day: &PastDay| day.rows.iter().any(|row| row.user_count > 0);
    days.filter(|day| day.at <= before)
        .skip_while(|day| !has_users(day))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_end_before_a_time_or_at_it() {
        let day = |day: i64| day * DAY_MICROS;
        assert_eq!(ends_of_days(UnixMicros(day(9)), 2), [day(8), day(9)]);
        assert_eq!(ends_of_days(UnixMicros(day(9) - 1), 2), [day(7), day(8)]);
        assert_eq!(ends_of_days(UnixMicros(day(9) + 1), 1), [day(9)]);
        assert_eq!(ends_of_days(UnixMicros(day(9)), 0), [] as [i64; 0]);
    }
}
