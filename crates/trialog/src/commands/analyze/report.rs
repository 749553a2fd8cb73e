//! Builds the report of the results API from what was gathered.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use trialog_model::duration::Window;
use trialog_model::experiment::{Definition, VariantWeight};
use trialog_model::ids::{ExperimentId, Variant};
use trialog_model::metric::MetricKind;
use trialog_model::published::{Computation, VariantExposures};
use trialog_report::{
    Arm, Choices, Filter, Measured, Report, Subject, VariantSums, Winsorised, from_measured,
};
use trialog_stats::{Alpha, CoMoments, CovariateSummary, Proportion, RatioSums, Sample};

use super::gather::{Gathered, Group};
use super::question::{Metric, Weight};

/// The inputs of a report beside the numbers.
pub(super) struct Frame<'a> {
    pub(super) id: ExperimentId,
    pub(super) metrics: &'a [Metric],
    pub(super) choices: &'a Choices,
}

/// Returns the variants with their weights, which are equal by default; the control first.
pub(super) fn variants(
    found: &[String],
    weights: &[Weight],
    control: Option<&str>,
) -> anyhow::Result<Vec<VariantWeight>> {
    let mut names: Vec<&str> = found.iter().map(String::as_str).collect();
    names.sort_unstable();
    let listed = || names.join(", ");
    let named = weights
        .iter()
        .map(|weight| weight.variant.as_str())
        .chain(control);
    for name in named {
        if !names.contains(&name) {
            bail!("the file has no variant `{name}`; it has: {}", listed());
        }
    }
    if names.len() < 2 {
        bail!(
            "the file has only the variant {}: a comparison takes two",
            listed()
        );
    }
    let control = match control {
        Some(control) => control,
        None if names.contains(&"control") => "control",
        None => bail!(
            "which variant is the control? Give --control; the file has: {}",
            listed()
        ),
    };
    names.sort_by_key(|name| *name != control);
    let weight = |name: &str| match (weights.iter()).find(|weight| weight.variant.as_str() == name)
    {
        Some(weight) => Ok(weight.weight),
        None if weights.is_empty() => Ok(1.0),
        None => bail!("--weights names no weight for `{name}`: give one for every variant"),
    };
    let arm = |name: &&str| {
        Ok(VariantWeight {
            variant: Variant::new(name).context("a variant")?,
            weight: weight(name)?,
            value: None,
        })
    };
    names.iter().map(arm).collect()
}

/// Builds the definition that a report stands on.
pub(super) fn definition(frame: &Frame<'_>, variants: &[VariantWeight]) -> Definition {
    let mut definition = Definition::unregistered(frame.id.clone());
    definition.variants = variants.to_vec();
    definition.control = variants.first().map(|variant| variant.variant.clone());
    definition.alpha = frame.choices.alpha.map_or(definition.alpha, Alpha::get);
    definition
}

/// Builds the report of one group.
pub(super) fn report(
    frame: &Frame<'_>,
    variants: &[VariantWeight],
    found: &[String],
    group: &Group,
) -> anyhow::Result<Report> {
    let definition = definition(frame, variants);
    let control = definition.control.clone();
    let place = |variant: &VariantWeight| {
        let name = variant.variant.as_str();
        let at = found.iter().position(|variant| variant == name)?;
        // A segment may have no user of a variant.
        group
            .users
            .get(at)
            .map(|users| (name.to_owned(), at, *users))
    };
    let arms: Vec<(String, usize, u64)> = variants.iter().filter_map(place).collect();
    let computation = Computation {
        exposures: (arms.iter())
            .map(|(variant, _, users)| VariantExposures {
                variant: variant.clone(),
                user_count: *users,
                crossover_users: 0,
            })
            .collect(),
        ..Computation::empty(frame.id.clone())
    };
    let measured = |(at, metric): (usize, &Metric)| Measured {
        metric: metric.name.clone(),
        kind: metric.kind,
        role: metric.role,
        direction: metric.direction,
        event_type: metric.columns.clone(),
        window: Window::UNBOUNDED,
        description: None,
        margin: metric.margin,
        control: control.as_ref().map(ToString::to_string),
        arms: (arms.iter())
            .filter(|(_, _, users)| *users > 0)
            .map(|(variant, code, _)| arm(variant, metric, group, at, *code))
            .collect(),
    };
    let measured = frame.metrics.iter().enumerate().map(measured).collect();
    let subject = Subject::from_definition(&definition);
    let mut report = from_measured(&subject, &computation, measured, frame.choices)
        .map_err(|error| anyhow::anyhow!("`{}` {}", error.field, error.reason))?;
    report.filter = group.segment.clone().map(|segment| Filter {
        from: None,
        to: None,
        segment: BTreeMap::from([segment]),
    });
    Ok(report)
}

fn arm(variant: &str, metric: &Metric, group: &Group, at: usize, code: usize) -> Arm {
    let gathered = &group.arms[code][at];
    let n = group.users[code];
    let sample = sample(metric, gathered, group, at, code);
    let total = |mean: Option<f64>| format!("{:.4}", mean.unwrap_or(0.0) * n as f64);
    let winsorised = metric.winsorise.and_then(|_| {
        let (ends, clipped) = group.ranked[at].winsorised(code)?;
        let text = |end: Option<f64>| end.map(|end| end.to_string());
        Some(Winsorised {
            lower: text(ends[0]),
            upper: text(ends[1]),
            users: clipped.users,
        })
    });
    Arm {
        sums: VariantSums {
            variant: variant.to_owned(),
            users: n,
            converted_users: gathered.converted,
            events: None,
            total: total(gathered.values.mean()),
            conversion_rate: gathered.converted as f64 / n.max(1) as f64,
            mean: sample.map_or(0.0, |sample| sample.estimate().value),
            variance: sample.and_then(|sample| sample.unit_variance()),
            second_total: (metric.kind == MetricKind::Ratio)
                .then(|| total(gathered.pairs.y().mean())),
            winsorised,
        },
        sample,
    }
}

fn sample(
    metric: &Metric,
    gathered: &Gathered,
    group: &Group,
    at: usize,
    code: usize,
) -> Option<Sample> {
    let n = group.users[code];
    match metric.kind {
        MetricKind::Quantile => {
            let level = metric.level?;
            let quantile = group.ranked[at].quantile(code)?;
            Some(Sample::Quantile(quantile, level))
        }
        MetricKind::Ratio => Some(Sample::Ratio(ratio(&gathered.pairs)?)),
        _ if metric.second.is_some() => {
            let pairs = &gathered.pairs;
            let (metric, covariate) = (pairs.x().summary().ok()?, pairs.y().summary().ok()?);
            let arm = CovariateSummary::new(metric, covariate, pairs.covariance());
            arm.ok().map(Sample::Adjusted)
        }
        MetricKind::Conversion | MetricKind::Retention => Proportion::new(gathered.converted, n)
            .ok()
            .map(Sample::Rate),
        MetricKind::Count | MetricKind::Sum => {
            let moments = match metric.winsorise {
                Some(_) => &group.ranked[at].winsorised(code)?.1.moments,
                None => &gathered.values,
            };
            moments.summary().ok().map(Sample::Mean)
        }
    }
}

/// The sums of a ratio from moments about the means.
fn ratio(pairs: &CoMoments) -> Option<RatioSums> {
    let n = pairs.x().n();
    let (x, y) = (pairs.x().mean()?, pairs.y().mean()?);
    let about_zero = |about_mean: f64, product: f64| about_mean + n as f64 * product;
    Some(RatioSums {
        n,
        m: n as f64 * x,
        d: n as f64 * y,
        mm: about_zero(pairs.x().m2()?, x * x),
        dd: about_zero(pairs.y().m2()?, y * y),
        md: about_zero(pairs.c()?, x * y),
    })
}
