//! The results report: from published sums to tests, intervals and warnings.
//!
//! Pure. The statistics are those of `trialog_stats`; what stands here is
//! which test goes with which metric, which tests form a family, and what a
//! reader has to be warned of.

mod comparison;
mod health;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trialog_catalog::experiments::Experiment;
use trialog_catalog::results::{Computation, Published, VariantMetric};
use trialog_model::decimal::format_units;
use trialog_model::duration::Window;
use trialog_model::event::FieldError;
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::Variant;
use trialog_model::metric::{MetricKind, MetricRef, MetricRole};
use trialog_model::metric_definition::{Direction, MetricDefinition};
use trialog_model::time::UnixMicros;
use trialog_stats::{Alpha, Correction, Summary};
use trialog_warehouse::fold::UserFilter;

pub use comparison::{Comparison, Flag};
pub use health::{Health, Progress, SrmReport, Warning};

/// What a request may choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// Only this metric.
    pub metric: Option<MetricRef>,
    /// Only metrics of this kind.
    pub kind: Option<MetricKind>,
    /// The variant to compare with, instead of the experiment's control.
    pub control: Option<Variant>,
    /// The level, instead of the experiment's.
    pub alpha: Option<Alpha>,
    /// How p-values are adjusted within a family.
    pub correction: Option<Correction>,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            metric: None,
            kind: None,
            control: None,
            alpha: None,
            correction: Some(Correction::Holm),
        }
    }
}

impl Choices {
    /// The kind that is asked for of `metric`, if any is.
    fn kind_of(&self, metric: &str) -> Option<MetricKind> {
        let of_metric = (self.metric.as_ref()).filter(|chosen| chosen.name.as_str() == metric);
        self.kind.or(of_metric.and_then(|chosen| chosen.kind))
    }
}

/// The users that a filtered report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Exposed at or after this time.
    pub from: Option<String>,
    /// Exposed before this time.
    pub to: Option<String>,
    /// Whose exposure's context has these values.
    pub segment: BTreeMap<String, String>,
}

impl Filter {
    /// `filter` as the report shows it.
    pub fn of(filter: &UserFilter) -> Self {
        let text = |time: Option<i64>| time.map(|time| UnixMicros(time).to_rfc3339());
        Self {
            from: text(filter.exposed.start),
            to: text(filter.exposed.end),
            segment: filter.segment.iter().cloned().collect(),
        }
    }
}

/// The results of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The experiment.
    pub experiment_id: String,
    /// Where it is in its life.
    pub status: Status,
    /// When the numbers were published; null before the first run.
    pub computed_at: Option<String>,
    /// The position in what was ingested that the numbers hold for.
    pub position: Option<u64>,
    /// The moment that they hold for: later events wait for the next run.
    pub data_time: Option<String>,
    /// The users that it is about; null for all.
    pub filter: Option<Filter>,
    /// The two-sided level of tests and intervals.
    pub alpha: f64,
    /// How p-values are adjusted within a family.
    pub correction: String,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// Users by variant.
    pub variants: Vec<VariantUsers>,
    /// Whether the numbers can be trusted.
    pub health: Health,
    /// How far it is on the way to its planned sample.
    pub plan: Option<Progress>,
    /// Each metric, once for each kind.
    pub metrics: Vec<MetricReport>,
}

/// The users of a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantUsers {
    /// The variant.
    pub variant: String,
    /// Users exposed to it alone.
    pub users: u64,
    /// Its planned weight; null where nobody declared it.
    pub weight: Option<f64>,
}

/// A metric under one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// The metric.
    pub metric: String,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// What it decides.
    pub role: MetricRole,
    /// Which way is good.
    pub direction: Direction,
    /// The events that it is made of.
    pub event_type: String,
    /// How long after exposure an event counts.
    pub window: Window,
    /// What it is, as its definition says.
    pub description: Option<String>,
    /// Its sums by variant.
    pub variants: Vec<VariantSums>,
    /// Each other variant against the control.
    pub comparisons: Vec<Comparison>,
}

/// The sums of a metric for a variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantSums {
    /// The variant.
    pub variant: String,
    /// Exposed users.
    pub users: u64,
    /// Users with at least one event.
    pub converted_users: u64,
    /// Events.
    pub events: u64,
    /// The sum of values, exact.
    pub total: String,
    /// `converted_users / users`.
    pub conversion_rate: f64,
    /// The mean per user of what the kind measures.
    pub mean: f64,
    /// Its sample variance; null below two users.
    pub variance: Option<f64>,
}

/// Builds the report of `experiment` from `published`, if anything is;
/// `current` is the fingerprint of its definition as it is now.
///
/// # Errors
///
/// A choice that the experiment does not have.
pub fn build(
    experiment: &Experiment,
    published: Option<&Published>,
    current: &str,
    filter: Option<Filter>,
    choices: &Choices,
) -> Result<Report, FieldError> {
    let definition = &experiment.definition;
    let alpha = choices
        .alpha
        .or_else(|| Alpha::new(definition.alpha).ok())
        .unwrap_or(Alpha::P05);
    let empty = empty(definition);
    let computation = published.map_or(&empty, |published| &published.computation);
    let control = control(definition, computation, choices)?;
    let all = metrics(experiment, computation, control.as_deref(), alpha, choices);
    let metrics = all
        .into_iter()
        .filter(|report| is_chosen(report, choices))
        .collect::<Vec<_>>();
    if let (Some(metric), true) = (&choices.metric, metrics.is_empty()) {
        return Err(FieldError {
            field: "metric",
            reason: format!("`{metric}` does not occur in this experiment"),
        });
    }
    Ok(Report {
        experiment_id: definition.experiment_id.to_string(),
        status: experiment.status,
        computed_at: published.map(|published| published.computed_at.to_rfc3339()),
        position: published.map(|published| published.mark.position),
        data_time: published.map(|published| published.mark.data_time.to_rfc3339()),
        filter,
        alpha: alpha.get(),
        correction: correction_name(choices.correction).to_owned(),
        variants: variants(definition, computation),
        health: health::health(experiment, computation, published.is_some(), current),
        plan: health::progress(definition, computation),
        control,
        metrics,
    })
}

fn empty(definition: &Definition) -> Computation {
    Computation {
        experiment: definition.experiment_id.clone(),
        fingerprint: String::new(),
        forced_users: 0,
        unknown_variant: 0,
        not_aggregated: 0,
        exposures: Vec::new(),
        metrics: Vec::new(),
    }
}

/// The variants in their declared order, then the others.
fn variants(definition: &Definition, computation: &Computation) -> Vec<VariantUsers> {
    let users = |variant: &str| {
        let found = computation
            .exposures
            .iter()
            .find(|row| row.variant == variant);
        found.map_or(0, |row| row.user_count)
    };
    let declared = definition.variants.iter().map(|declared| VariantUsers {
        variant: declared.variant.to_string(),
        users: users(declared.variant.as_str()),
        weight: Some(declared.weight),
    });
    let is_declared = |variant: &str| {
        definition
            .variants
            .iter()
            .any(|own| own.variant.as_str() == variant)
    };
    let others = (computation.exposures.iter())
        .filter(|row| !is_declared(&row.variant))
        .map(|row| VariantUsers {
            variant: row.variant.clone(),
            users: row.user_count,
            weight: None,
        });
    declared.chain(others).collect()
}

/// The variant asked for, else the declared one, else `control`, else the first.
fn control(
    definition: &Definition,
    computation: &Computation,
    choices: &Choices,
) -> Result<Option<String>, FieldError> {
    let known = variants(definition, computation);
    if let Some(wanted) = &choices.control {
        return match known.iter().find(|own| own.variant == wanted.as_str()) {
            Some(own) => Ok(Some(own.variant.clone())),
            None => Err(FieldError {
                field: "control",
                reason: format!("`{wanted}` is no variant of this experiment"),
            }),
        };
    }
    let declared = definition.control().map(ToString::to_string);
    let named = || {
        known
            .iter()
            .find(|own| own.variant == "control")
            .map(|own| own.variant.clone())
    };
    Ok(declared
        .or_else(named)
        .or_else(|| known.first().map(|own| own.variant.clone())))
}

fn is_chosen(report: &MetricReport, choices: &Choices) -> bool {
    let by_kind = choices.kind.is_none_or(|kind| kind == report.kind);
    by_kind
        && choices.metric.as_ref().is_none_or(|metric| {
            metric.name.as_str() == report.metric
                && metric.kind.is_none_or(|kind| kind == report.kind)
        })
}

fn correction_name(correction: Option<Correction>) -> &'static str {
    match correction {
        None => "none",
        Some(Correction::Bonferroni) => "bonferroni",
        Some(Correction::Holm) => "holm",
        Some(Correction::BenjaminiHochberg) => "bh",
        Some(Correction::BenjaminiYekutieli) => "by",
    }
}

/// Every metric under each of its kinds, tested and corrected.
fn metrics(
    experiment: &Experiment,
    computation: &Computation,
    control: Option<&str>,
    alpha: Alpha,
    choices: &Choices,
) -> Vec<MetricReport> {
    let order: Vec<String> = variants(&experiment.definition, computation)
        .into_iter()
        .map(|own| own.variant)
        .collect();
    let report = |analysis: Analysis<'_>| {
        let rows: Vec<&VariantMetric> = (order.iter())
            .filter_map(|variant| {
                (computation.metrics.iter())
                    .find(|row| row.metric_name == analysis.metric && row.variant == *variant)
            })
            .collect();
        let definition = analysis.definition;
        MetricReport {
            comparisons: comparison::compare_all(analysis.kind, &rows, control, alpha),
            variants: rows.iter().map(|row| sums(analysis.kind, row)).collect(),
            metric: analysis.metric.to_owned(),
            kind: analysis.kind,
            role: analysis.role,
            direction: definition.map(|own| own.direction).unwrap_or_default(),
            event_type: analysis.event_type.to_owned(),
            window: analysis.window,
            description: definition.and_then(|own| own.description.clone()),
        }
    };
    let analyses = analyses(experiment, computation, choices);
    let mut reports: Vec<MetricReport> = analyses.into_iter().map(report).collect();
    comparison::adjust_families(&mut reports, alpha, choices.correction);
    reports
}

/// A metric under one kind, before its numbers.
#[derive(Debug, Clone, Copy)]
struct Analysis<'a> {
    metric: &'a str,
    kind: MetricKind,
    role: MetricRole,
    event_type: &'a str,
    window: Window,
    definition: Option<&'a MetricDefinition>,
}

/// The metrics that the experiment names, in that order, then what else came
/// in. A kind that is asked for beside those is exploratory, so that asking
/// changes no p-value.
fn analyses<'a>(
    experiment: &'a Experiment,
    computation: &'a Computation,
    choices: &Choices,
) -> Vec<Analysis<'a>> {
    let definition = &experiment.definition;
    let mut analyses: Vec<Analysis<'a>> = Vec::new();
    let mut add = |new: Analysis<'a>| {
        let is_same = |own: &Analysis<'_>| own.metric == new.metric && own.kind == new.kind;
        if !analyses.iter().any(is_same) {
            analyses.push(new);
        }
    };
    for named in definition.named_metrics(&experiment.defined_metrics) {
        for &kind in named.kinds {
            add(Analysis {
                metric: named.name,
                kind,
                role: named.role,
                event_type: named.event_type,
                window: named.window,
                definition: named.definition,
            });
        }
    }
    let exploratory = |metric: &'a str, kind| {
        let definition =
            (experiment.defined_metrics.iter()).find(|own| own.name.as_str() == metric);
        Analysis {
            metric,
            kind,
            role: MetricRole::Exploratory,
            event_type: definition.map_or(metric, |own| own.event_type.as_str()),
            window: (definition.and_then(|own| own.window))
                .unwrap_or(experiment.definition.attribution_window),
            definition,
        }
    };
    let is_named =
        |metric: &str| (definition.metrics.iter()).any(|(named, _)| named.name.as_str() == metric);
    for row in &computation.metrics {
        if !is_named(&row.metric_name) {
            add(exploratory(&row.metric_name, MetricKind::Conversion));
            add(exploratory(&row.metric_name, MetricKind::Sum));
        }
        if let Some(kind) = choices.kind_of(&row.metric_name) {
            add(exploratory(&row.metric_name, kind));
        }
    }
    analyses
}

/// Mean and variance per user of what `kind` measures; none without users.
fn summary(kind: MetricKind, row: &VariantMetric) -> Option<Summary> {
    let users = row.user_count;
    match kind {
        MetricKind::Conversion => {
            let converted = i128::from(row.converted_users);
            Summary::from_exact(users, converted, converted, 1.0)
        }
        MetricKind::Count => {
            let squared = i128::try_from(row.squared_events).unwrap_or(i128::MAX);
            Summary::from_exact(users, i128::from(row.event_count), squared, 1.0)
        }
        MetricKind::Sum => Summary::from_exact(users, row.total, row.squared_total, 1e-4),
    }
    .ok()
}

fn sums(kind: MetricKind, row: &VariantMetric) -> VariantSums {
    let summary = summary(kind, row);
    VariantSums {
        variant: row.variant.clone(),
        users: row.user_count,
        converted_users: row.converted_users,
        events: row.event_count,
        total: format_units(row.total),
        conversion_rate: row.conversion_rate,
        mean: summary.map_or(0.0, |summary| summary.mean()),
        variance: summary.and_then(|summary| summary.variance()),
    }
}
