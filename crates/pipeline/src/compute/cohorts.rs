//! Computes what users do by the day of their exposure, and by the days since it, on request.

use trialog_catalog::experiments::Experiment;
use trialog_model::event::EventKind;
use trialog_model::metric_definition::MinValue;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_report::{CohortMetric, CohortSums, CohortUsers};
use trialog_warehouse::analysis::cohorts::{
    CohortPlan, DayMetric, DaySums, DaysQuestion, DaysSince, ExposureDays,
};
use trialog_warehouse::analysis::scorecard::{MetricPlan, Scorecard};
use trialog_warehouse::fold::split::{DAY_MICROS, DayCells, MAX_DAYS, Split};
use trialog_warehouse::fold::{Folded, Plan, UserFilter};
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

use super::{Limits, computation_of_cell, plan, quantity, ranked, users_of_cell};

/// The results of an experiment by the day of exposure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ByDay {
    /// The latest days with users, as numbers of days since 1970, each with its results.
    pub days: Vec<(i64, Computation)>,
    /// Users who were exposed before these days.
    pub earlier_users: u64,
    /// Users who were exposed after the last day that was asked for.
    pub later_users: u64,
}

/// What is read of an experiment.
pub(crate) struct Reader<'a> {
    pub(crate) view: &'a View,
    pub(crate) experiment: &'a Experiment,
    pub(crate) limits: &'a Limits,
    pub(crate) data_time: UnixMicros,
    pub(crate) filter: &'a UserFilter,
    pub(crate) n_threads: usize,
}

impl Reader<'_> {
    /// Plans the fold of the experiment, and the metrics of its scorecard.
    pub(crate) fn plan(&self) -> Result<(Plan, Vec<MetricPlan>), WarehouseError> {
        let id = self.experiment.definition.experiment_id.as_str();
        let assignments = self.view.contents(EventKind::Assignment, &[id])?;
        let metrics = self.view.contents(EventKind::Metric, &[id])?;
        let contents = [assignments.get(id), metrics.get(id)];
        Ok(plan(
            contents,
            self.experiment,
            self.limits,
            self.data_time,
            self.filter,
        ))
    }
}

/// Computes the scorecard for each of the latest 90 days of exposure up to `last`; the inner error
/// is the experiment's own.
pub(crate) fn compute_by_day(
    reader: &Reader<'_>,
    last: i64,
) -> Result<Result<ByDay, FoldError>, WarehouseError> {
    let Reader {
        view,
        experiment,
        limits,
        n_threads,
        ..
    } = *reader;
    let (mut plan, metrics) = reader.plan()?;
    let question = DaysQuestion {
        last,
        limit: MAX_DAYS,
    };
    let found = view.run::<ExposureDays>(std::slice::from_ref(&plan), &[question], n_threads)?;
    // Counting users overflows nothing.
    let Some(Ok(found)) = found.into_iter().next() else {
        return Ok(Ok(ByDay::default()));
    };
    let mut by_day = ByDay {
        days: Vec::new(),
        earlier_users: found.earlier_users,
        later_users: found.later_users,
    };
    let days: Vec<i64> = found.users.into_keys().collect();
    let (Some(first), Some(last)) = (days.first(), days.last()) else {
        return Ok(Ok(by_day));
    };
    restrict(&mut plan.filter, *first, *last);
    plan.split = Split::Days(DayCells::from_days(days.clone()));
    let plans = std::slice::from_ref(&plan);
    let outcome = view.run::<Scorecard>(plans, &[metrics], n_threads)?.pop();
    let folded = match outcome.expect("there is an answer for each plan") {
        Ok(folded) => folded,
        Err(error) => return Ok(Err(error)),
    };
    let ranked = match ranked::order_users(view, experiment, &plan, n_threads)? {
        Ok(ranked) => ranked,
        Err(error) => return Ok(Err(error)),
    };
    let days = days.into_iter().zip(0..).map(|(day, cell)| {
        let mut computation = computation_of_cell(experiment, &plan, limits, &folded, cell);
        ranked.add_to(&mut computation, &plan, cell);
        (day, computation)
    });
    by_day.days.extend(days);
    Ok(Ok(by_day))
}

/// Leaves out users who were exposed before day `first` or after day `last`.
fn restrict(filter: &mut UserFilter, first: i64, last: i64) {
    let start = first.saturating_mul(DAY_MICROS);
    let end = last.saturating_add(1).saturating_mul(DAY_MICROS);
    let exposed = &mut filter.exposed;
    exposed.start = Some(exposed.start.map_or(start, |from| from.max(start)));
    exposed.end = Some(exposed.end.map_or(end, |to| to.min(end)));
}

/// Computes what the users of a fixed cohort do on each of `n_days` days since their exposure.
/// The cohort are those all of whose days end at `until` or before.
pub(crate) fn compute_days_since(
    reader: &Reader<'_>,
    n_days: usize,
    until: UnixMicros,
    metrics: &[CohortMetric],
) -> Result<Result<CohortUsers, FoldError>, WarehouseError> {
    let (plan, _) = reader.plan()?;
    let followed = metrics.iter().filter_map(|metric| {
        let event_type = plan.event_types.code(&metric.event_type)?;
        Some((metric, event_type))
    });
    let followed: Vec<(&CohortMetric, u32)> = followed.collect();
    let question = CohortPlan {
        n_days,
        until: until.0,
        metrics: (followed.iter())
            .map(|(metric, event_type)| DayMetric {
                name: metric.metric.clone(),
                event_type: *event_type,
                min_value: metric.min_value.map(MinValue::units),
                quantity: quantity(metric.kind),
            })
            .collect(),
    };
    let plans = std::slice::from_ref(&plan);
    let outcome = (reader.view)
        .run::<DaysSince>(plans, &[question], reader.n_threads)?
        .pop()
        .expect("there is an answer for each plan");
    let folded = match outcome {
        Ok(folded) => folded,
        Err(error) => return Ok(Err(error)),
    };
    let sums = (followed.into_iter().enumerate())
        .flat_map(|(at, (metric, _))| sums_of_metric(&plan, &folded, metric, at));
    let variants = plan.variants.texts().iter().zip(0..);
    Ok(Ok(CohortUsers {
        users: variants
            .map(|(variant, code)| {
                let users = folded.accumulator.users(plan.slot(0, code));
                (variant.clone(), users)
            })
            .collect(),
        sums: sums.collect(),
        computation: users_of_cell(reader.experiment, &plan, reader.limits, &folded, 0),
    }))
}

/// Collects the sums of metric number `at` in each variant.
fn sums_of_metric<'f>(
    plan: &'f Plan,
    folded: &'f Folded<DaysSince>,
    metric: &'f CohortMetric,
    at: usize,
) -> impl Iterator<Item = CohortSums> + use<'f> {
    let variants = plan.variants.texts().iter().zip(0..);
    variants.map(move |(variant, code)| {
        let DaySums {
            active,
            totals,
            products,
        } = folded.accumulator.sums(plan.slot(0, code), at).clone();
        CohortSums {
            metric: metric.metric.clone(),
            kind: metric.kind,
            variant: variant.clone(),
            active,
            totals,
            products,
        }
    })
}
