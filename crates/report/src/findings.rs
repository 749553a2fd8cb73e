//! Finds problems of an integration from a definition and its computed results.
//!
//! Pure. A run counts the experiments with each finding, a report says each in words.

#[cfg(test)]
mod tests;

use trialog_model::experiment::Definition;
use trialog_model::ids::EventType;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::published::{Computation, EventCounts, MoreSums, VariantMetric};
use trialog_stats::{Summary, welch};

use crate::Subject;

/// The number of events of a type below which they say nothing about the integration.
const FEW_EVENTS: u64 = 20;
/// The usual share of lost events: bots, and people who block one of two requests.
const USUAL_SHARE: f64 = 0.05;
/// Up to this share of the events of exposed users comes before the exposure by itself:
/// some users were there before, and clocks differ. An exposure that is logged late shifts
/// all types alike, so the share of one type and that of all types together have to exceed it.
const USUALLY_EARLY: f64 = 0.15;
/// The share of unexposed senders above which events probably carry another id than exposures.
const NEARLY_ALL: f64 = 0.9;
/// The share of late events above which a warning says that most events come after the window.
const MOST: f64 = 0.5;
/// Below this p-value arms differ before the exposure, as with the sample ratio.
const IMBALANCE_LEVEL: f64 = 0.001;
/// How unlikely an empty arm has to be under the planned split.
const EMPTY_ARM_LEVEL: f64 = 0.001;
/// The value of the integer 1 in sums of values.
const UNIT: f64 = 1e-4;

/// A problem of an integration.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// Events of users without an exposure, and the likeliest cause.
    WithoutExposure(EventCounts, Cause),
    /// Events of exposed users before their exposure, of a type that no metric counts before the
    /// exposure.
    BeforeExposure(EventCounts),
    /// Events of exposed users after every window.
    AfterWindow(EventCounts),
    /// Events of users whose variant is not aggregated.
    UnknownVariant(EventCounts),
    /// All users are of one variant.
    OneArm(OneArm),
    /// Arms differ in what users did before their exposure.
    CovariateImbalance(Imbalance),
    /// A metric whose users are all set to 0.
    CapOfZero {
        /// The metric.
        metric: String,
    },
    /// Users of variants that the experiment does not declare.
    UndeclaredVariants(Undeclared),
    /// Events of a named metric that never came, while others did.
    NeverCame {
        /// The event type.
        event_type: String,
        /// Types that came.
        others: Vec<String>,
    },
}

/// Users of variants that the experiment does not declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeclared {
    /// The variants, as events name them.
    pub variants: Vec<String>,
    /// The variants that are declared.
    pub declared: Vec<String>,
    /// Users of the undeclared ones.
    pub users: u64,
    /// Whether all users are of undeclared variants.
    pub is_all: bool,
}

/// The likeliest reason why users without an exposure send events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No exposure came in.
    NoExposures,
    /// No exposure lies within the dates of the experiment.
    OutsideDates,
    /// The events carry another kind of id than the exposures.
    OtherIds,
    /// Exposures are logged late: others of them send events before theirs.
    LoggedLate,
    /// Exposures are not logged everywhere.
    NeverLogged,
}

/// The one variant that has users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneArm {
    /// The variant.
    pub variant: String,
    /// Its users.
    pub users: u64,
    /// The variants without any.
    pub empty: Vec<String>,
}

/// A difference between arms that existed before the exposure.
#[derive(Debug, Clone, PartialEq)]
pub struct Imbalance {
    /// The metric whose covariate differs.
    pub metric: String,
    /// The control.
    pub control: String,
    /// The other arm.
    pub treatment: String,
    /// The covariate's mean per user of both.
    pub means: [f64; 2],
    /// Two-sided, of Welch's test.
    pub p_value: f64,
}

impl Finding {
    /// All codes that findings have.
    pub const CODES: [&'static str; 9] = [
        "events_without_exposure",
        "events_before_exposure",
        "events_after_window",
        "events_of_unknown_variant",
        "one_arm",
        "covariate_imbalance",
        "cap_of_zero",
        "undeclared_variants",
        "events_never_came",
    ];

    /// Returns the code of the finding in JSON.
    pub fn code(&self) -> &'static str {
        let at = match self {
            Self::WithoutExposure(..) => 0,
            Self::BeforeExposure(_) => 1,
            Self::AfterWindow(_) => 2,
            Self::UnknownVariant(_) => 3,
            Self::OneArm(_) => 4,
            Self::CovariateImbalance(_) => 5,
            Self::CapOfZero { .. } => 6,
            Self::UndeclaredVariants(_) => 7,
            Self::NeverCame { .. } => 8,
        };
        Self::CODES[at]
    }
}

/// Returns every finding about the computed results of `experiment`.
pub fn find(subject: &Subject<'_>, computation: &Computation) -> Vec<Finding> {
    let mut findings = of_arrivals(subject, computation);
    findings.extend(one_arm(subject.definition, computation).map(Finding::OneArm));
    findings.extend(undeclared(subject.definition, computation));
    findings.extend(never_came(subject, computation));
    findings.extend(imbalances(subject, computation));
    findings.extend(caps_of_zero(computation));
    findings
}

/// Returns the findings about how events arrived, type by type.
pub fn of_arrivals(subject: &Subject<'_>, computation: &Computation) -> Vec<Finding> {
    let n_exposed = exposed_users(computation);
    let is_early_throughout = is_early_throughout(subject, computation);
    let of_type = |row: &EventCounts| {
        let analysed = analysed(row);
        let is_early = row.before_exposure >= FEW_EVENTS && is_early(row.before_exposure, analysed);
        let mut findings = Vec::new();
        if let Some(cause) = cause(subject.definition, row, n_exposed) {
            findings.push(Finding::WithoutExposure(row.clone(), cause));
        }
        if is_early && is_early_throughout && !looks_back(subject, &row.event_type) {
            findings.push(Finding::BeforeExposure(row.clone()));
        }
        let is_most = row.after_window as f64 >= MOST * analysed as f64;
        if row.after_window >= FEW_EVENTS && is_most {
            findings.push(Finding::AfterWindow(row.clone()));
        }
        if row.unknown_variant > 0 {
            findings.push(Finding::UnknownVariant(row.clone()));
        }
        findings
    };
    computation.arrivals.iter().flat_map(of_type).collect()
}

/// Counts the users of undeclared variants; `None` if there are none.
pub fn undeclared(definition: &Definition, computation: &Computation) -> Option<Finding> {
    let declared: Vec<String> = (definition.variants.iter())
        .map(|declared| declared.variant.to_string())
        .collect();
    if declared.is_empty() {
        return None;
    }
    let (known, others): (Vec<_>, Vec<_>) =
        (computation.exposures.iter()).partition(|row| declared.contains(&row.variant));
    let users = others.iter().map(|row| row.user_count).sum();
    (!others.is_empty()).then(|| {
        Finding::UndeclaredVariants(Undeclared {
            variants: others.iter().map(|row| row.variant.clone()).collect(),
            declared,
            users,
            is_all: users > 0 && known.iter().all(|row| row.user_count == 0),
        })
    })
}

/// Returns the event types of named metrics that had no event, while other types had some.
pub fn never_came(subject: &Subject<'_>, computation: &Computation) -> Vec<Finding> {
    let came: Vec<&str> = (computation.arrivals.iter())
        .map(|row| row.event_type.as_ref())
        .collect();
    // Of few users nobody may have done it yet, and of none nothing is known.
    if came.is_empty() || exposed_users(computation) < FEW_EVENTS {
        return Vec::new();
    }
    let named = subject.definition.event_types(subject.defined_metrics);
    // Before the exposure there may have been nothing to do.
    let is_of_covariate = |named: &&EventType| {
        let covariates = subject
            .defined_metrics
            .iter()
            .flat_map(|metric| &metric.covariate);
        let mut types = covariates.flat_map(|covariate| &covariate.event_type);
        types.any(|event_type| event_type == *named)
    };
    let missing = (named.iter())
        .filter(|event_type| !came.contains(&event_type.as_str()))
        .filter(|event_type| !is_of_covariate(event_type));
    let is_named = |came: &&str| named.iter().any(|named| named.as_str() == *came);
    let others: Vec<String> = (came.iter())
        .filter(|event_type| !is_named(event_type))
        .map(|event_type| (*event_type).to_owned())
        .collect();
    // Where every type that came has its metric, the missing one may be rare.
    if others.is_empty() {
        return Vec::new();
    }
    let finding = |event_type: &EventType| Finding::NeverCame {
        event_type: event_type.to_string(),
        others: others.clone(),
    };
    missing.map(finding).collect()
}

/// Counts the events of users who are analysed.
fn analysed(row: &EventCounts) -> u64 {
    let left_out = row.unexposed + row.excluded + row.unknown_variant;
    row.events.saturating_sub(left_out)
}

fn is_early(before_exposure: u64, analysed: u64) -> bool {
    before_exposure as f64 >= USUALLY_EARLY * analysed as f64
}

/// Whether events come early in all types together, but those that a covariate looks back at.
fn is_early_throughout(subject: &Subject<'_>, computation: &Computation) -> bool {
    let rows = computation.arrivals.iter();
    let rows: Vec<&EventCounts> = rows
        .filter(|row| !looks_back(subject, &row.event_type))
        .collect();
    let before = rows.iter().map(|row| row.before_exposure).sum();
    is_early(before, rows.iter().map(|row| analysed(row)).sum())
}

/// Counts the users with any exposure, analysed or not.
fn exposed_users(computation: &Computation) -> u64 {
    let of_variants: u64 = (computation.exposures.iter())
        .map(|row| row.user_count + row.crossover_users)
        .sum();
    of_variants + computation.forced_users + computation.unknown_variant
}

/// Why users without an exposure send these events; none where few do.
fn cause(definition: &Definition, row: &EventCounts, n_exposed: u64) -> Option<Cause> {
    if row.unexposed == 0 {
        return None;
    }
    if n_exposed == 0 {
        let has_dates = definition.start_at.is_some() || definition.end_at.is_some();
        return Some(if has_dates {
            Cause::OutsideDates
        } else {
            Cause::NoExposures
        });
    }
    // Whoever is left out has an exposure too.
    let senders = row.unexposed_users + row.senders_exposed;
    let is_all = row.unexposed == row.events;
    if is_all {
        return Some(Cause::OtherIds);
    }
    let share = row.unexposed as f64 / row.events as f64;
    if row.unexposed < FEW_EVENTS || share < USUAL_SHARE {
        return None;
    }
    if row.unexposed_users as f64 >= NEARLY_ALL * senders as f64 {
        return Some(Cause::OtherIds);
    }
    let exposed = row.events - row.unexposed;
    let is_late = row.before_exposure as f64 >= USUAL_SHARE * exposed as f64;
    Some(if is_late {
        Cause::LoggedLate
    } else {
        Cause::NeverLogged
    })
}

/// Returns whether a metric counts events of this type before the exposure.
fn looks_back(subject: &Subject<'_>, event_type: &str) -> bool {
    let of_covariate = |metric: &MetricDefinition| {
        metric.covariate.as_ref().is_some_and(|covariate| {
            let of_covariate = covariate.event_type.as_ref().unwrap_or(&metric.event_type);
            of_covariate.as_str() == event_type
        })
    };
    subject.defined_metrics.iter().any(of_covariate)
}

/// Returns the one arm with users, if chance does not explain that the others have none.
pub fn one_arm(definition: &Definition, computation: &Computation) -> Option<OneArm> {
    let users = |variant: &str| {
        let rows = computation.exposures.iter();
        let mut found = rows.filter(|row| row.variant == variant);
        found.next().map_or(0, |row| row.user_count)
    };
    let declared = definition.variants.iter();
    let declared: Vec<(&str, f64)> = declared
        .map(|declared| (declared.variant.as_str(), declared.weight))
        .collect();
    let seen = computation.exposures.iter().map(|row| row.variant.as_str());
    let undeclared: Vec<&str> = seen
        .filter(|seen| !declared.iter().any(|(variant, _)| variant == seen))
        .collect();
    let all = declared.iter().filter(|(_, weight)| *weight > 0.0);
    let all: Vec<&str> = all
        .map(|(variant, _)| *variant)
        .chain(undeclared.iter().copied())
        .collect();
    let (with, without): (Vec<&str>, Vec<&str>) =
        all.into_iter().partition(|variant| users(variant) > 0);
    let ([variant], false) = (with.as_slice(), without.is_empty()) else {
        return None;
    };
    let total: f64 = declared.iter().map(|(_, weight)| weight).sum();
    let only = declared.iter().find(|(name, _)| name == variant);
    // Weights that nobody declared are taken as equal.
    let share = only.map_or(0.5, |(_, weight)| weight / total);
    let n = users(variant);
    let is_chance = share.powf(n as f64) >= EMPTY_ARM_LEVEL;
    (!is_chance).then(|| OneArm {
        variant: (*variant).to_owned(),
        users: n,
        empty: without.into_iter().map(str::to_owned).collect(),
    })
}

/// Returns the difference between the covariates of two arms, if chance does not explain it.
pub fn imbalance(
    metric: &str,
    (control, of_control): (&str, &Summary),
    (treatment, of_treatment): (&str, &Summary),
) -> Option<Imbalance> {
    let test = welch(of_control, of_treatment);
    // Without spread in either arm there is a difference but no test.
    let is_apart = test.standard_error == Some(0.0) && test.difference != 0.0;
    let p_value = test.p_value.or(is_apart.then_some(0.0))?;
    (p_value < IMBALANCE_LEVEL).then(|| Imbalance {
        metric: metric.to_owned(),
        control: control.to_owned(),
        treatment: treatment.to_owned(),
        means: [of_control.mean(), of_treatment.mean()],
        p_value,
    })
}

fn imbalances(subject: &Subject<'_>, computation: &Computation) -> Vec<Finding> {
    let Some(control) = subject.definition.control() else {
        return Vec::new();
    };
    let has_covariate = |row: &&VariantMetric| {
        let definition = subject.defined_metric(&row.metric_name);
        definition.is_some_and(|metric| metric.covariate.is_some())
    };
    let covariate = |row: &VariantMetric| match row.more {
        Some(MoreSums::Second {
            total,
            squared_total,
            ..
        }) => Summary::from_exact(row.user_count, total, squared_total, UNIT).ok(),
        _ => None,
    };
    let against_control = |row: &VariantMetric| {
        let is_control = |other: &&VariantMetric| {
            other.metric_name == row.metric_name && other.variant == control.as_str()
        };
        let of_control = covariate(computation.metrics.iter().find(is_control)?)?;
        let of_treatment = covariate(row)?;
        imbalance(
            &row.metric_name,
            (control.as_str(), &of_control),
            (&row.variant, &of_treatment),
        )
    };
    let rows = computation.metrics.iter().filter(has_covariate);
    rows.filter(|row| row.variant != control.as_str())
        .filter_map(against_control)
        .map(Finding::CovariateImbalance)
        .collect()
}

/// Returns the metrics whose upper end of winsorising is 0 in a variant that has a value.
fn caps_of_zero(computation: &Computation) -> Vec<Finding> {
    let is_capped = |row: &&VariantMetric| {
        let ends = match row.more {
            Some(MoreSums::Winsorised { ends, .. }) => ends,
            _ => return false,
        };
        ends[1] == Some(0) && row.squared_total != 0
    };
    let capped = computation.metrics.iter().filter(is_capped);
    let mut metrics: Vec<&str> = capped.map(|row| row.metric_name.as_str()).collect();
    metrics.dedup();
    let finding = |metric: &str| Finding::CapOfZero {
        metric: metric.to_owned(),
    };
    metrics.into_iter().map(finding).collect()
}
