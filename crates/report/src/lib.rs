//! The results report: from published sums to tests, intervals and warnings.
//!
//! Pure. The statistics are those of `trialog_stats`; what stands here is
//! which test goes with which metric, which tests form a family, and what a
//! reader has to be warned of.

#![forbid(unsafe_code)]

mod comparison;
pub mod findings;
mod health;
mod life;
mod measured;
mod sequence;
pub mod standing;
mod subject;
mod warnings;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trialog_model::duration::Window;
use trialog_model::event::FieldError;
use trialog_model::experiment::{Definition, Status, VariantWeight};
use trialog_model::ids::Variant;
use trialog_model::metric::{MetricKind, MetricRef, MetricRole};
use trialog_model::metric_definition::{Direction, MetricDefinition};
use trialog_model::nearest::there_are;
use trialog_model::published::{Computation, Published};
use trialog_model::sequence::Sequence;
use trialog_stats::{Alpha, Correction};

pub use comparison::{
    Comparison, Flag, Guardrail, Headline, NonInferiority, Power, Sequential, headline_levels,
};
pub use health::{Health, Progress, SrmReport};
pub use life::{Decided, Paused};
pub use measured::Arm;
pub use sequence::{PlannedOutcome, SequenceBreak, SequenceReport};
pub use subject::Subject;
pub use warnings::{Severity, Warning};

use comparison::{Looks, Terms};
use health::Checked;
use standing::Standing;

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

/// The results of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The experiment.
    pub experiment_id: String,
    /// Where it is in its life.
    pub status: Status,
    /// What was decided after it; null while nothing is.
    #[serde(default)]
    pub decision: Option<Decided>,
    /// The times in which it was stopped before it was resumed, oldest first.
    #[serde(default)]
    pub pauses: Vec<Paused>,
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
    /// The looks that were taken; null where the data are whole and looked at once, and for
    /// users that a filter chose.
    #[serde(default)]
    pub sequence: Option<SequenceReport>,
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
    /// Which way is good; null for a guardrail of which nobody said it.
    pub direction: Option<Direction>,
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
    /// Events; null where nobody counted them.
    pub events: Option<u64>,
    /// The sum of values, exact.
    pub total: String,
    /// `converted_users / users`.
    pub conversion_rate: f64,
    /// The mean per user of what the kind measures; the ratio or the quantile itself.
    pub mean: f64,
    /// The sample variance of a user's part in it; null below two users.
    pub variance: Option<f64>,
    /// The sum of a ratio's denominators, exact; null for other kinds.
    #[serde(default)]
    pub second_total: Option<String>,
    /// What winsorising did; null where nothing is winsorised.
    #[serde(default)]
    pub winsorised: Option<Winsorised>,
}

/// What winsorising did to the users of a variant; their mean and variance are
/// those after it, total and events those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Winsorised {
    /// What users below it were set to, exact.
    pub lower: Option<String>,
    /// What users above it were set to, exact.
    pub upper: Option<String>,
    /// How many users were set to an end.
    pub users: u64,
}

/// A metric under one kind, as it was measured in every variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The metric.
    pub metric: String,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// What it decides.
    pub role: MetricRole,
    /// Which way is good; none for a guardrail of which nobody said it.
    pub direction: Option<Direction>,
    /// The events that it is made of.
    pub event_type: String,
    /// How long after exposure an event counts.
    pub window: Window,
    /// What it is.
    pub description: Option<String>,
    /// How much worse it may be as a guardrail.
    pub margin: Option<f64>,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// Each variant.
    pub arms: Vec<Arm>,
}

/// Builds the report of `subject` from the sums in `published`, if there are any.
///
/// `current` is the fingerprint of its definition as it is now, `sequence` the looks up to
/// `published`.
///
/// # Errors
///
/// A choice that the experiment does not have.
pub fn build(
    subject: &Subject<'_>,
    published: Option<&Published>,
    current: &str,
    sequence: &Sequence,
    filter: Option<Filter>,
    choices: &Choices,
) -> Result<Report, FieldError> {
    let empty = Computation::empty(subject.definition.experiment_id.clone());
    let computation = published.map_or(&empty, |published| &published.computation);
    let control = control(subject.definition, computation, choices)?;
    let measured = measured(subject, computation, control.as_deref(), choices);
    let standing = Standing::of(sequence).filter(|_| filter.is_none());
    let mut health = health::health(&Checked {
        subject: *subject,
        computation,
        measured: &measured,
        srm: standing.as_ref().and_then(|own| own.srm),
        is_published: published.is_some(),
        is_filtered: filter.is_some(),
        counts_events: published.is_some() && filter.is_none(),
        current,
    });
    sequence::warn(&mut health.warnings, sequence);
    let looks = Looks {
        subject: *subject,
        standing: standing.as_ref(),
        is_as_planned: is_as_planned(subject.definition, choices),
        is_unconfirmed: sequence::is_unconfirmed(sequence),
    };
    let shown = (filter.is_none() && published.is_some())
        .then(|| sequence::report(subject.definition, sequence, standing.as_ref()));
    Ok(Report {
        sequence: shown,
        computed_at: published.map(|published| published.computed_at.to_rfc3339()),
        position: published.map(|published| published.mark.position),
        data_time: published.map(|published| published.mark.data_time.to_rfc3339()),
        filter,
        ..assemble(subject, computation, health, measured, Some(looks), choices)?
    })
}

/// Builds the report of metrics that were measured without a pipeline: `computation` has the
/// users, `measured` every metric.
///
/// # Errors
///
/// A choice that the experiment does not have.
pub fn from_measured(
    subject: &Subject<'_>,
    computation: &Computation,
    measured: Vec<Measured>,
    choices: &Choices,
) -> Result<Report, FieldError> {
    let health = health::health(&Checked {
        subject: *subject,
        computation,
        measured: &measured,
        srm: None,
        is_published: true,
        is_filtered: false,
        counts_events: false,
        current: &computation.fingerprint,
    });
    assemble(subject, computation, health, measured, None, choices)
}

/// Whether a request asks for what the planned look was made with.
fn is_as_planned(definition: &Definition, choices: &Choices) -> bool {
    let of_control = (choices.control.as_ref()).is_none_or(|own| Some(own) == definition.control());
    let of_alpha = (choices.alpha).is_none_or(|own| own.get().total_cmp(&definition.alpha).is_eq());
    of_control && of_alpha && choices.correction == Some(Correction::Holm)
}

/// `looks` are the earlier ones, none where the data are whole and looked at once.
fn assemble(
    subject: &Subject<'_>,
    computation: &Computation,
    mut health: Health,
    measured: Vec<Measured>,
    looks: Option<Looks<'_>>,
    choices: &Choices,
) -> Result<Report, FieldError> {
    let definition = subject.definition;
    let control = control(definition, computation, choices)?;
    let terms = Terms::of(definition, control.as_deref(), choices, looks);
    let report = |measured: Measured| (metric_report(&measured, &terms), measured);
    let mut reports: Vec<_> = measured.into_iter().map(report).collect();
    // Only variants that somebody can be assigned are tested for sure; others that have a
    // comparison are counted where they have it.
    let with_weight = |own: &&VariantWeight| own.weight > 0.0;
    let n_treatments = (definition.variants.iter().filter(with_weight).count()).saturating_sub(1);
    comparison::note_power(&mut reports, n_treatments, choices.correction, &terms);
    comparison::adjust_families(&mut reports, n_treatments, choices.correction, &terms);
    if let Some(metric) = &choices.metric
        && !reports.iter().any(|(report, _)| is_chosen(report, choices))
    {
        return Err(no_metric(metric, &reports));
    }
    warn_of_comparisons(&mut health, reports.iter().map(|(report, _)| report));
    let metrics: Vec<MetricReport> = (reports.into_iter())
        .map(|(report, _)| report)
        .filter(|report| is_chosen(report, choices))
        .collect();
    Ok(Report {
        experiment_id: definition.experiment_id.to_string(),
        status: subject.status,
        decision: subject.decision.map(Decided::new),
        pauses: subject.pauses.iter().map(Paused::new).collect(),
        computed_at: None,
        position: None,
        data_time: None,
        filter: None,
        alpha: terms.alpha.get(),
        correction: correction_name(choices.correction).to_owned(),
        variants: variants(definition, computation),
        health,
        plan: health::progress(definition, computation),
        sequence: None,
        control: terms.control.map(str::to_owned),
        metrics,
    })
}

/// Says of which declared metrics there is no verdict, and what to do.
fn warn_of_comparisons<'r>(health: &mut Health, reports: impl Iterator<Item = &'r MetricReport>) {
    let mut asked: Vec<&str> = Vec::new();
    for report in reports.filter(|own| own.role != MetricRole::Exploratory) {
        let name = &report.metric;
        if report.direction.is_none() && !asked.contains(&name.as_str()) {
            asked.push(name);
            let message = format!(
                "the guardrail `{name}` says nowhere which way is good, so it has no verdict"
            );
            health.warnings.push(
                Warning::new(Severity::Warning, "guardrail_without_direction", message)
                    .action("define the metric with `\"direction\": \"decrease\"` or `\"increase\"`; --decrease or --increase of `trialog analyze`")
                    .metric(name),
            );
        }
        let is_exact = |own: &Comparison| own.test == "fisher_exact";
        if report.comparisons.iter().any(is_exact) {
            let message = format!(
                "`{name}` ({}) has fewer than 5 converted or 5 unconverted users in an arm, so little can be told yet",
                report.kind
            );
            health.warnings.push(
                Warning::new(Severity::Info, "few_events", message)
                    .action("the exact test is taken; wait for more users")
                    .metric(name),
            );
        }
        let is_tied = |own: &Comparison| own.flag_reason.as_deref() == Some(comparison::TIED);
        if report.comparisons.iter().any(is_tied) {
            let message = format!(
                "too many users share one value about the quantile of `{name}`, so it has no verdict"
            );
            health.warnings.push(
                Warning::new(Severity::Warning, "tied_quantile", message)
                    .action("take another level, a sum, or `:conversion`")
                    .metric(name),
            );
        }
        let sparse: Vec<&str> = (report.comparisons.iter())
            .filter(|own| own.sparse)
            .map(|own| own.treatment.as_str())
            .collect();
        if !sparse.is_empty() {
            let message = format!(
                "`{name}` ({}) is sparse in {}: an arm has probably missed the rare large values, so it has no verdict of this look",
                report.kind,
                sparse.join(", ")
            );
            health.warnings.push(
                Warning::new(Severity::Warning, "sparse", message)
                    .action("wait for more users of the smaller arm, split the users more evenly, or ask for `:conversion`")
                    .metric(name),
            );
        }
    }
    health.warnings.sort_by_key(|warning| warning.severity);
}

/// The error for `metric`, which is none of `reports`.
fn no_metric(metric: &MetricRef, reports: &[(MetricReport, Measured)]) -> FieldError {
    let name = metric.name.as_str();
    let mut known: Vec<&str> = Vec::new();
    for (report, _) in reports {
        if !known.contains(&report.metric.as_str()) {
            known.push(&report.metric);
        }
    }
    let kinds = reports.iter().filter(|(report, _)| report.metric == name);
    let reason = match known.contains(&name) {
        true => {
            let kinds: Vec<&str> = kinds.map(|(report, _)| report.kind.as_str()).collect();
            format!(
                "`{metric}` is not measured in this experiment: it measures `{name}` as {}",
                kinds.join(", ")
            )
        }
        false => format!(
            "`{metric}` does not occur in this experiment{}",
            there_are(name, &known, false)
        ),
    };
    FieldError {
        field: "metric",
        reason,
    }
}

fn metric_report(measured: &Measured, terms: &Terms<'_>) -> MetricReport {
    MetricReport {
        metric: measured.metric.clone(),
        kind: measured.kind,
        role: measured.role,
        direction: measured.direction,
        event_type: measured.event_type.clone(),
        window: measured.window,
        description: measured.description.clone(),
        variants: measured.arms.iter().map(|arm| arm.sums.clone()).collect(),
        comparisons: comparison::compare_all(measured, terms),
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
                reason: {
                    let variants: Vec<&str> =
                        known.iter().map(|known| known.variant.as_str()).collect();
                    let there_are = there_are(wanted.as_str(), &variants, false);
                    format!("`{wanted}` is no variant of this experiment{there_are}")
                },
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

/// The correction that a request calls `name`; the inner `None` is for `none`.
pub fn correction(name: &str) -> Option<Option<Correction>> {
    match name {
        "none" => Some(None),
        "bonferroni" => Some(Some(Correction::Bonferroni)),
        "holm" => Some(Some(Correction::Holm)),
        "bh" => Some(Some(Correction::BenjaminiHochberg)),
        _ => None,
    }
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

/// Every metric under each of its kinds, in every variant.
fn measured(
    subject: &Subject<'_>,
    computation: &Computation,
    control: Option<&str>,
    choices: &Choices,
) -> Vec<Measured> {
    let order: Vec<String> = variants(subject.definition, computation)
        .into_iter()
        .map(|own| own.variant)
        .collect();
    let measured = |analysis: Analysis<'_>| {
        let row = |variant: &String| {
            (computation.metrics.iter())
                .find(|row| row.metric_name == analysis.metric && row.variant == *variant)
        };
        let definition = analysis.definition;
        let rows = order.iter().filter_map(row);
        Measured {
            arms: rows
                .map(|row| Arm::of(analysis.kind, row, definition))
                .collect(),
            metric: analysis.metric.to_owned(),
            kind: analysis.kind,
            role: analysis.role,
            direction: direction(analysis.role, definition.and_then(|own| own.direction)),
            event_type: analysis.event_type.to_owned(),
            window: analysis.window,
            description: definition.and_then(|own| own.description.clone()),
            margin: definition.and_then(|own| own.margin),
            control: control.map(str::to_owned),
        }
    };
    let analyses = analyses(subject, computation, choices);
    analyses.into_iter().map(measured).collect()
}

/// Which way is good, where that is known: a guardrail that guards the wrong way is worse
/// than none, so it has to be said of it; of the others more is good unless it is said.
pub fn direction(role: MetricRole, declared: Option<Direction>) -> Option<Direction> {
    match role {
        MetricRole::Guardrail => declared,
        _ => Some(declared.unwrap_or_default()),
    }
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
    subject: &Subject<'a>,
    computation: &'a Computation,
    choices: &Choices,
) -> Vec<Analysis<'a>> {
    let definition = subject.definition;
    let mut analyses: Vec<Analysis<'a>> = Vec::new();
    let mut add = |new: Analysis<'a>| {
        let is_same = |own: &Analysis<'_>| own.metric == new.metric && own.kind == new.kind;
        if !analyses.iter().any(is_same) {
            analyses.push(new);
        }
    };
    for named in definition.named_metrics(subject.defined_metrics) {
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
        let definition = subject.defined_metric(metric);
        Analysis {
            metric,
            kind,
            role: MetricRole::Exploratory,
            event_type: definition.map_or(metric, |own| own.event_type.as_str()),
            window: (definition.and_then(MetricDefinition::own_window))
                .unwrap_or(subject.definition.attribution_window),
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
        let definition = subject.defined_metric(&row.metric_name);
        let has = |kind: MetricKind| {
            !kind.needs_definition() || definition.is_some_and(|own| own.kind == kind)
        };
        if let Some(kind) = choices.kind_of(&row.metric_name).filter(|kind| has(*kind)) {
            add(exploratory(&row.metric_name, kind));
        }
    }
    analyses
}
