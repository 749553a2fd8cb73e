//! Pools small segments before a test, by adding up their exact sums.

use trialog_model::metric::MetricKind;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::published::{MoreSums, VariantMetric};
use trialog_stats::{Comparison, Sample, SegmentDifference};

use crate::arm::sample;
use crate::{Measured, Subject};

use super::{LabelledCell, OTHER};

/// Converted and unconverted users that an arm of a rate has to be expected to have.
const MIN_EXPECTED: f64 = 5.0;

/// The control and a treatment of one metric in one segment.
#[derive(Debug, Clone)]
pub(super) struct Unit<'c> {
    label: &'c str,
    /// Whether it has the users of all other values.
    is_other: bool,
    kind: MetricKind,
    definition: Option<&'c MetricDefinition>,
    /// Users of all variants.
    all_users: u64,
    arms: [VariantMetric; 2],
}

/// A segment that is tested.
pub(super) struct Tested {
    pub(super) label: String,
    pub(super) users: u64,
    pub(super) difference: SegmentDifference,
}

/// Segments after the small ones were put together.
pub(super) struct Pooled {
    pub(super) segments: Vec<Tested>,
    pub(super) small: Vec<String>,
    pub(super) left_out: Vec<String>,
}

impl<'c> Unit<'c> {
    /// Finds the rows of control and `treatment` of `metric` in a cell; none where one is missing.
    pub(super) fn new(
        cell: &LabelledCell<'c>,
        metric: &Measured,
        subject: &Subject<'c>,
        treatment: &str,
    ) -> Option<Self> {
        let row = |variant: &str| {
            let mut rows = cell.computation.metrics.iter();
            rows.find(|row| row.metric_name == metric.metric && row.variant == variant)
        };
        let arms = [row(metric.control.as_deref()?)?, row(treatment)?];
        Some(Self {
            label: cell.label,
            is_other: cell.is_other,
            kind: metric.kind,
            definition: subject.defined_metric(&metric.metric),
            all_users: cell
                .computation
                .exposures
                .iter()
                .map(|row| row.user_count)
                .sum(),
            arms: arms.map(VariantMetric::clone),
        })
    }

    /// Whether there are too few users, judged by both arms together: choosing by the count of
    /// one arm would select on the outcome.
    fn is_small(&self, min_users: u64) -> bool {
        self.all_users < min_users || self.is_rare()
    }

    fn is_rare(&self) -> bool {
        if !matches!(self.kind, MetricKind::Conversion | MetricKind::Retention) {
            return false;
        }
        let users = self.arms.each_ref().map(|arm| arm.user_count as f64);
        let converted: u64 = self.arms.iter().map(|arm| arm.converted_users).sum();
        let rate = converted as f64 / (users[0] + users[1]).max(1.0);
        let least = users[0].min(users[1]) * rate.min(1.0 - rate);
        least < MIN_EXPECTED
    }

    fn tested(&self) -> Option<Tested> {
        let samples = (self.arms.each_ref()).map(|arm| sample(self.kind, arm, self.definition));
        let [control, treatment]: [Option<Sample>; 2] = samples;
        let comparison = Comparison::between(&control?, &treatment?).ok()?;
        Some(Tested {
            label: self.label.to_owned(),
            users: self.arms.iter().map(|arm| arm.user_count).sum(),
            difference: comparison.segment()?,
        })
    }

    /// The segment of all other values, of these users alone; none where sums were clipped at ends
    /// of their own.
    fn alone(&self) -> Option<Self> {
        let is_clipped =
            |row: &VariantMetric| matches!(row.more, Some(MoreSums::Winsorised { .. }));
        (!self.arms.iter().any(is_clipped)).then(|| Self {
            label: OTHER,
            is_other: true,
            ..self.clone()
        })
    }

    /// Adds up the users of both; none where sums leave their range or were clipped at ends of
    /// their own.
    fn joined(&self, other: &Self) -> Option<Self> {
        let arm = |at: usize| add_rows(&self.arms[at], &other.arms[at]);
        Some(Self {
            label: OTHER,
            is_other: true,
            all_users: self.all_users + other.all_users,
            arms: [arm(0)?, arm(1)?],
            ..self.clone()
        })
    }
}

impl Pooled {
    /// Puts the segments of `units` that are small together with the one of all other values.
    pub(super) fn new(units: &[Unit<'_>], min_users: u64) -> Self {
        let mut pooled = Self {
            segments: Vec::new(),
            small: Vec::new(),
            left_out: Vec::new(),
        };
        let mut other = units.iter().find(|unit| unit.is_other).cloned();
        for unit in units.iter().filter(|unit| !unit.is_other) {
            if !unit.is_small(min_users) {
                pooled.push(unit);
                continue;
            }
            let joined = match &other {
                Some(other) => other.joined(unit),
                None => unit.alone(),
            };
            match joined {
                Some(joined) => {
                    other = Some(joined);
                    pooled.small.push(unit.label.to_owned());
                }
                None => pooled.left_out.push(unit.label.to_owned()),
            }
        }
        match other {
            Some(other) if other.is_small(min_users) => pooled.left_out.push(OTHER.to_owned()),
            Some(other) => pooled.push(&other),
            None => {}
        }
        pooled
    }

    fn push(&mut self, unit: &Unit<'_>) {
        match unit.tested() {
            Some(tested) => self.segments.push(tested),
            None => self.left_out.push(unit.label.to_owned()),
        }
    }
}

/// Adds up the sums of both rows that tests are made of; none where they leave their range or were
/// clipped.
fn add_rows(a: &VariantMetric, b: &VariantMetric) -> Option<VariantMetric> {
    let more = match (&a.more, &b.more) {
        (None, None) => None,
        (Some(a), Some(b)) => Some(add_more(a, b)?),
        _ => return None,
    };
    Some(VariantMetric {
        user_count: a.user_count.checked_add(b.user_count)?,
        event_count: a.event_count.checked_add(b.event_count)?,
        total: a.total.checked_add(b.total)?,
        converted_users: a.converted_users.checked_add(b.converted_users)?,
        squared_total: a.squared_total.checked_add(b.squared_total)?,
        squared_events: a.squared_events.checked_add(b.squared_events)?,
        more,
        // These are shown of rows and are in no test.
        conversion_rate: 0.0,
        mean_value: 0.0,
        variance: None,
        ..a.clone()
    })
}

fn add_more(a: &MoreSums, b: &MoreSums) -> Option<MoreSums> {
    let (
        MoreSums::Second {
            total,
            squared_total,
            product,
        },
        MoreSums::Second {
            total: more_total,
            squared_total: more_squared,
            product: more_product,
        },
    ) = (a, b)
    else {
        return None;
    };
    Some(MoreSums::Second {
        total: total.checked_add(*more_total)?,
        squared_total: squared_total.checked_add(*more_squared)?,
        product: product.checked_add(*more_product)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(variant: &str, users: u64, converted: u64) -> VariantMetric {
        VariantMetric {
            variant: variant.to_owned(),
            metric_name: "buy".to_owned(),
            user_count: users,
            event_count: converted,
            total: i128::from(converted) * 10_000,
            conversion_rate: 0.0,
            mean_value: 0.0,
            variance: None,
            converted_users: converted,
            squared_total: i128::from(converted) * 100_000_000,
            squared_events: u128::from(converted),
            more: None,
        }
    }

    fn unit(label: &'static str, kind: MetricKind, arms: [(u64, u64); 2]) -> Unit<'static> {
        Unit {
            label,
            is_other: label == OTHER,
            kind,
            definition: None,
            all_users: arms.iter().map(|arm| arm.0).sum(),
            arms: [
                row("a", arms[0].0, arms[0].1),
                row("b", arms[1].0, arms[1].1),
            ],
        }
    }

    fn labels(pooled: &Pooled) -> Vec<(&str, u64)> {
        let segments = pooled.segments.iter();
        segments
            .map(|segment| (segment.label.as_str(), segment.users))
            .collect()
    }

    #[test]
    fn small_and_rare_segments_are_tested_with_the_others() {
        let kind = MetricKind::Conversion;
        let units = [
            unit("large", kind, [(500, 50), (500, 60)]),
            unit("rare", kind, [(500, 2), (500, 3)]),
            unit("small", kind, [(60, 30), (60, 30)]),
            unit("lopsided", kind, [(990, 99), (10, 1)]),
            unit(OTHER, kind, [(40, 20), (30, 15)]),
        ];
        let pooled = Pooled::new(&units, 200);
        assert_eq!(labels(&pooled), [("large", 1_000), (OTHER, 2_190)]);
        assert_eq!(pooled.small, ["rare", "small", "lopsided"]);
        assert_eq!(pooled.left_out, [""; 0]);
        // A sum is no rate: what is rare is its own.
        let counted = units.map(|unit| Unit {
            kind: MetricKind::Sum,
            ..unit
        });
        let pooled = Pooled::new(&counted, 200);
        assert_eq!(pooled.small, ["small"]);
    }

    #[test]
    fn what_is_small_even_together_is_left_out() {
        let kind = MetricKind::Sum;
        let units = [
            unit("large", kind, [(500, 50), (500, 60)]),
            unit("one", kind, [(20, 5), (20, 6)]),
            unit("two", kind, [(20, 7), (20, 8)]),
            unit("nobody", kind, [(500, 0), (500, 0)]),
        ];
        let pooled = Pooled::new(&units, 200);
        assert_eq!(labels(&pooled), [("large", 1_000)]);
        assert_eq!(pooled.small, ["one", "two"]);
        assert_eq!(pooled.left_out, ["nobody", OTHER]);
    }

    #[test]
    fn sums_that_were_clipped_are_not_added_up() {
        let clip = |unit: Unit<'static>| {
            let arms = unit.arms.map(|row| VariantMetric {
                more: Some(MoreSums::Winsorised {
                    ends: [None, Some(10_000)],
                    total: row.total,
                    squared_total: row.squared_total,
                    users: 1,
                }),
                ..row
            });
            Unit { arms, ..unit }
        };
        let kind = MetricKind::Sum;
        let units = [
            unit("large", kind, [(500, 50), (500, 60)]),
            unit("small", kind, [(60, 30), (60, 30)]),
            unit(OTHER, kind, [(400, 20), (300, 15)]),
        ];
        let pooled = Pooled::new(&units.map(clip), 200);
        assert_eq!(labels(&pooled), [("large", 1_000), (OTHER, 700)]);
        assert_eq!(pooled.left_out, ["small"]);
    }
}
