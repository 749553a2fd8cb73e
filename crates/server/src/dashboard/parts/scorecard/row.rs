//! Renders a row of the scorecard: a variant's numbers, and its comparison.

use trialog_model::metric::MetricKind;

use crate::dashboard::parts::format::{self, Sign};
use crate::dashboard::parts::number::{Number, Range, Unit};
use crate::dashboard::parts::verdict::Verdict;
use trialog_report::{Comparison, Guardrail, NonInferiority, VariantSums};

/// The numbers of a variant for one metric.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) variant: String,
    pub(super) is_control: bool,
    pub(super) users: Number,
    pub(super) amount: Number,
    pub(super) amount_of: &'static str,
    pub(super) value: Number,
    pub(super) variance: Option<Number>,
    pub(super) comparison: Option<Cells>,
}

/// The comparison of a variant with the control.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) test: String,
    pub(super) difference: Option<Number>,
    /// The difference of this look, where the verdict is of the planned one.
    pub(super) of_this_look: Option<Number>,
    pub(super) interval: Option<Range>,
    pub(super) lift: Option<f64>,
    pub(super) relative: Option<Number>,
    pub(super) relative_interval: Option<Range>,
    pub(super) no_relative: Option<String>,
    pub(super) p_value: Option<Number>,
    pub(super) adjusted: Option<Number>,
    pub(super) always_valid: Option<Number>,
    pub(super) always_valid_interval: Option<Range>,
    pub(super) detectable: Option<Number>,
    pub(super) guard: Option<String>,
    pub(super) statistic: Option<Number>,
    pub(super) df: Option<Number>,
    pub(super) cohens_d: Option<Number>,
    /// The p-value and interval to act on.
    pub(super) headline: Option<Number>,
    pub(super) headline_interval: Option<Range>,
    pub(super) headline_relative: Option<Range>,
    pub(super) verdict: Verdict,
    /// Why this test, or why none.
    /// Whether the verdict is of the planned look.
    pub(super) is_planned_look: bool,
    pub(super) reason: String,
}

impl Row {
    pub(super) fn from_sums(
        sums: &VariantSums,
        kind: MetricKind,
        control: Option<&str>,
        path: &str,
        comparison: Option<Cells>,
    ) -> Self {
        let (amount, amount_of) = match kind {
            MetricKind::Conversion | MetricKind::Retention => (
                Number::count(format!("{path}/converted_users"), sums.converted_users),
                if kind == MetricKind::Conversion {
                    "converted"
                } else {
                    "retained"
                },
            ),
            MetricKind::Count if sums.events.is_some() => (
                Number::count(format!("{path}/events"), sums.events.unwrap_or(0)),
                "events",
            ),
            _ => (
                Number::new(
                    format!("{path}/total"),
                    &sums.total,
                    format::exact(&sums.total),
                ),
                "in total",
            ),
        };
        let unit = if kind.is_rate() {
            Unit::Percent
        } else {
            Unit::Plain
        };
        let error = sums
            .variance
            .map(|variance| (variance / sums.users.max(1) as f64).sqrt());
        let variance = sums.variance.map(|variance| {
            Number::new(
                format!("{path}/variance"),
                variance,
                format::significant(variance, 4, Sign::Minus),
            )
        });
        let value = if sums.users == 0 {
            Number::new(format!("{path}/mean"), sums.mean, format::NONE.to_owned())
        } else {
            Number::new(
                format!("{path}/mean"),
                sums.mean,
                unit.show(sums.mean, error, Sign::Minus),
            )
        };
        Self {
            variant: sums.variant.clone(),
            is_control: control == Some(sums.variant.as_str()),
            users: Number::count(format!("{path}/users"), sums.users),
            amount,
            amount_of,
            value,
            variance,
            comparison,
        }
    }
}

impl Cells {
    pub(super) fn from_comparison(comparison: &Comparison, kind: MetricKind, path: &str) -> Self {
        let unit = if kind.is_rate() {
            Unit::Points
        } else {
            Unit::Plain
        };
        let half = |ci: Option<[f64; 2]>| ci.map(|[low, high]| (high - low) / 2.0);
        let at = |field: &str| format!("{path}/{field}");
        // The planned look has numbers of its comparison.
        let of_look = |field: &str| match comparison.headline.at {
            Some(_) => format!("{path}/headline/{field}"),
            None => format!("{path}/{field}"),
        };
        let digits = |field: &str, value: Option<f64>, sign: Sign| {
            value.map(|value| Number::new(at(field), value, format::significant(value, 3, sign)))
        };
        Self {
            test: comparison.test.replace('_', " "),
            difference: comparison.headline.difference.map(|value| {
                Number::new(
                    of_look("difference"),
                    value,
                    unit.show(value, half(comparison.headline.ci), Sign::Both),
                )
            }),
            of_this_look: (comparison.headline.at.as_ref().and(comparison.difference)).map(
                |value| {
                    let shown = unit.show(value, half(comparison.ci), Sign::Both);
                    Number::new(at("difference"), value, shown)
                },
            ),
            interval: comparison.ci.map(|ci| Range::new(&at("ci"), ci, unit)),
            lift: comparison.headline.relative_difference,
            relative: comparison.headline.relative_difference.map(|value| {
                let shown =
                    Unit::Percent.show(value, half(comparison.headline.relative_ci), Sign::Both);
                Number::new(of_look("relative_difference"), value, shown)
            }),
            relative_interval: comparison
                .relative_ci
                .map(|ci| Range::new(&at("relative_ci"), ci, Unit::Percent)),
            no_relative: comparison.relative_ci_reason.clone(),
            p_value: comparison
                .p_value
                .map(|p| Number::p_value(at("p_value"), p)),
            adjusted: comparison
                .adjusted_p_value
                .map(|p| Number::p_value(at("adjusted_p_value"), p)),
            always_valid: (comparison.sequential.as_ref())
                .map(|test| Number::p_value(at("sequential/p_value"), test.p_value)),
            always_valid_interval: (comparison.sequential.as_ref().and_then(|test| test.ci))
                .map(|ci| Range::new(&at("sequential/ci"), ci, unit)),
            detectable: comparison.power.as_ref().map(|power| {
                let shown = unit.show(power.detectable_effect, None, Sign::Minus);
                Number::new(
                    at("power/detectable_effect"),
                    power.detectable_effect,
                    shown,
                )
            }),
            guard: comparison.non_inferiority.as_ref().and_then(guard),
            statistic: digits("statistic", comparison.statistic, Sign::Both),
            df: digits("df", comparison.df, Sign::Minus),
            cohens_d: digits("cohens_d", comparison.cohens_d, Sign::Both),
            verdict: Verdict::from_flag(comparison.headline.flag, comparison.headline.desirable),
            headline: (comparison.headline.p_value)
                .map(|p| Number::p_value(at("headline/p_value"), p)),
            headline_interval: (comparison.headline.ci)
                .map(|ci| Range::new(&at("headline/ci"), ci, unit)),
            headline_relative: (comparison.headline.relative_ci)
                .map(|ci| Range::new(&at("headline/relative_ci"), ci, Unit::Percent)),
            reason: comparison.headline.reason.clone(),
            is_planned_look: comparison.headline.at.is_some(),
        }
    }
}

/// Describes the result of a guardrail with a margin.
fn guard(guardrail: &NonInferiority) -> Option<String> {
    let margin = format::significant(guardrail.margin * 100.0, 4, Sign::Minus);
    let verdict = match guardrail.verdict? {
        Guardrail::Kept => "kept",
        Guardrail::Violated => "violated",
        Guardrail::Inconclusive => "inconclusive",
    };
    Some(format!(
        "no more than {margin} % worse: {verdict} by this look"
    ))
}
