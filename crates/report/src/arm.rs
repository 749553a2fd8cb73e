//! Converts stored sums of a metric in each variant to the samples of tests.

use trialog_model::decimal::format_units;
use trialog_model::metric::MetricKind;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::published::{MoreSums, VariantMetric};
use trialog_stats::{CovariateSummary, Proportion, QuantileSummary, RatioSums, Sample, Summary};

use crate::report::{VariantSums, Winsorised};

/// One variant of a metric under one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// What is shown of it.
    pub sums: VariantSums,
    /// What is tested; none without users.
    pub sample: Option<Sample>,
}

/// The value of the integer 1 in sums of values.
const UNIT: f64 = 1e-4;

impl Arm {
    /// Builds the arm that `row` holds under `kind`. `definition` is that of the metric.
    pub(crate) fn from_row(
        kind: MetricKind,
        row: &VariantMetric,
        definition: Option<&MetricDefinition>,
    ) -> Self {
        let sample = sample(kind, row, definition);
        let shown = sample.map(|sample| sample.estimate().value);
        Self {
            sums: VariantSums {
                variant: row.variant.clone(),
                users: row.user_count,
                converted_users: row.converted_users,
                events: Some(row.event_count),
                total: format_units(row.total),
                conversion_rate: row.conversion_rate,
                mean: shown.unwrap_or(0.0),
                variance: sample.and_then(|sample| sample.unit_variance()),
                second_total: second_total(kind, row),
                winsorised: winsorised(kind, row, definition),
            },
            sample,
        }
    }
}

/// Returns the sample for the tests; `None` without users.
pub(crate) fn sample(
    kind: MetricKind,
    row: &VariantMetric,
    definition: Option<&MetricDefinition>,
) -> Option<Sample> {
    // What a definition adds belongs to the kind that it defines.
    let defined = definition.filter(|metric| metric.kind == kind);
    let more = row.more.as_ref().filter(|_| defined.is_some());
    let users = row.user_count;
    match (kind, more) {
        (
            MetricKind::Quantile,
            Some(MoreSums::Quantile {
                quantile,
                ends,
                tied,
            }),
        ) => {
            let summary = QuantileSummary {
                n: users,
                n_star: users,
                quantile: quantile * UNIT,
                lower: ends[0] * UNIT,
                upper: ends[1] * UNIT,
                // Rows from before ties were counted: nobody knows that there are none.
                tied: tied.or(Some(users)),
            };
            let level = defined.and_then(|metric| metric.quantile)?;
            (users > 0).then_some(Sample::Quantile(summary, level))
        }
        (MetricKind::Ratio, Some(MoreSums::Second { .. })) => ratio(row).map(Sample::Ratio),
        (MetricKind::Ratio | MetricKind::Quantile, _) => None,
        (
            MetricKind::Count | MetricKind::Sum,
            Some(MoreSums::Winsorised {
                total,
                squared_total,
                ..
            }),
        ) => Summary::from_exact(users, *total, *squared_total, UNIT)
            .ok()
            .map(Sample::Mean),
        (_, Some(MoreSums::Second { .. })) => adjusted(kind, row).map(Sample::Adjusted),
        (MetricKind::Conversion | MetricKind::Retention, _) => {
            let rate = Proportion::new(row.converted_users, users);
            rate.ok().map(Sample::Rate)
        }
        (MetricKind::Count | MetricKind::Sum, _) => {
            let (sums, scale) = exact(kind, row);
            let summary = Summary::from_exact(users, sums[0], sums[1], scale);
            summary.ok().map(Sample::Mean)
        }
    }
}

/// Returns the sum and the sum of squares that `kind` uses, and their unit.
fn exact(kind: MetricKind, row: &VariantMetric) -> ([i128; 2], f64) {
    match kind {
        MetricKind::Count => {
            let squared = i128::try_from(row.squared_events).unwrap_or(i128::MAX);
            ([i128::from(row.event_count), squared], 1.0)
        }
        MetricKind::Conversion | MetricKind::Retention => {
            let converted = i128::from(row.converted_users);
            ([converted, converted], 1.0)
        }
        MetricKind::Sum | MetricKind::Ratio | MetricKind::Quantile => {
            ([row.total, row.squared_total], UNIT)
        }
    }
}

/// The sum of denominators or covariates, of their squares, and of their products
/// with the metric.
fn second(row: &VariantMetric) -> Option<[i128; 3]> {
    match row.more {
        Some(MoreSums::Second {
            total,
            squared_total,
            product,
        }) => Some([total, squared_total, product]),
        _ => None,
    }
}

fn adjusted(kind: MetricKind, row: &VariantMetric) -> Option<CovariateSummary> {
    let [total, squared_total, product] = second(row)?;
    let (sums, scale) = exact(kind, row);
    let covariate = [total, squared_total];
    CovariateSummary::from_exact(row.user_count, sums, covariate, product, [scale, UNIT]).ok()
}

fn ratio(row: &VariantMetric) -> Option<RatioSums> {
    let [total, squared_total, product] = second(row)?;
    // Dividing by the reciprocals of the units rounds correctly.
    let (once, twice) = (1e4, 1e8);
    (row.user_count > 0).then(|| RatioSums {
        n: row.user_count,
        m: row.total as f64 / once,
        d: total as f64 / once,
        mm: row.squared_total as f64 / twice,
        dd: squared_total as f64 / twice,
        md: product as f64 / twice,
    })
}

fn second_total(kind: MetricKind, row: &VariantMetric) -> Option<String> {
    let [total, ..] = second(row).filter(|_| kind == MetricKind::Ratio)?;
    Some(format_units(total))
}

fn winsorised(
    kind: MetricKind,
    row: &VariantMetric,
    definition: Option<&MetricDefinition>,
) -> Option<Winsorised> {
    let is_defined = definition.is_some_and(|metric| metric.kind == kind);
    match &row.more {
        Some(MoreSums::Winsorised { ends, users, .. }) if is_defined => {
            let text = |end: Option<i128>| end.map(format_units);
            Some(Winsorised {
                lower: text(ends[0]),
                upper: text(ends[1]),
                users: *users,
            })
        }
        _ => None,
    }
}
