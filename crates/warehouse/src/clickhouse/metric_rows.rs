//! Writes metrics as rows of a table in a statement.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trialog_model::duration::Window;

use crate::analysis::scorecard::{MetricPlan, Quantity, Shape};
use crate::fold::Plan;

/// Which of a metric's sums an event type goes into.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    First = 0,
    Second = 1,
    Before = 2,
    Nothing = 3,
}

/// The columns of a row that [`metric_row`] makes.
pub(crate) const METRIC_COLUMNS: &str = "code UInt32, metric UInt32, event_type String, part UInt8, min_value Int64, delay Int64, since Int64, window Int64, period Int64, retention UInt8, quantity UInt8";

/// Makes the rows of the metrics of `plans[code]`: one for every event type that a metric is made of.
pub(crate) fn metric_rows(plans: &[Plan], code: usize, metrics: &[MetricPlan]) -> Vec<Value> {
    let mut rows = Vec::new();
    for (number, metric) in (1..).zip(metrics) {
        let quantity = match metric.shape {
            Shape::Covariate { quantity, .. } => quantity,
            _ => Quantity::Total,
        };
        let mut add = |metric: &MetricPlan, part| {
            rows.push(metric_row(plans, code, number, metric, quantity, part))
        };
        add(metric, Part::First);
        match metric.shape {
            Shape::Denominator { event_type } => add(
                &MetricPlan {
                    event_type,
                    min_value: None,
                    ..metric.clone()
                },
                Part::Second,
            ),
            Shape::Covariate { event_type, .. } => add(
                &MetricPlan {
                    event_type,
                    min_value: metric.min_covariate(event_type),
                    ..metric.clone()
                },
                Part::Before,
            ),
            Shape::Plain | Shape::Retention { .. } => {}
        }
    }
    // An event type that is expected and in no metric is not one that nobody named.
    let used = metrics.iter().flat_map(event_types_of);
    let used: BTreeSet<u32> = used.collect();
    let unused =
        (0..plans[code].event_types.len() as u32).filter(|event_type| !used.contains(event_type));
    rows.extend(unused.map(|event_type| {
        let metric = MetricPlan {
            name: String::new(),
            event_type,
            window: Window::UNBOUNDED,
            delay: 0,
            min_value: None,
            shape: Shape::Plain,
        };
        let number = metrics.len() + 1;
        metric_row(plans, code, number, &metric, Quantity::Total, Part::Nothing)
    }));
    rows
}

fn event_types_of(metric: &MetricPlan) -> impl Iterator<Item = u32> + use<> {
    let other = match metric.shape {
        Shape::Denominator { event_type } | Shape::Covariate { event_type, .. } => Some(event_type),
        Shape::Plain | Shape::Retention { .. } => None,
    };
    other.into_iter().chain([metric.event_type])
}

/// Makes the row of one event type of a metric.
pub(crate) fn metric_row(
    plans: &[Plan],
    code: usize,
    number: usize,
    metric: &MetricPlan,
    quantity: Quantity,
    part: Part,
) -> Value {
    let (since, period, is_retention) = match metric.shape {
        Shape::Retention { from } => (from, 0, 1),
        Shape::Covariate { period, .. } => (0, period, 0),
        Shape::Plain | Shape::Denominator { .. } => (0, 0, 0),
    };
    let quantity = match quantity {
        Quantity::Converted => 0,
        Quantity::Events => 1,
        Quantity::Total => 2,
    };
    json!([
        code,
        number,
        plans[code].event_types.texts()[metric.event_type as usize],
        part as u8,
        metric.min_value.unwrap_or(i64::MIN),
        metric.delay,
        since,
        metric.window.micros().unwrap_or(-1),
        period,
        is_retention,
        quantity,
    ])
}
