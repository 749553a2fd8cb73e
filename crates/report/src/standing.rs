//! Keeps the results of the looks at an experiment: the smallest p-values so far, and the outcome
//! of the planned look.
//!
//! Pure. A run makes the standing of each look from that of the look before and stores it
//! with the rows, so that a p-value stays what it was when old rows are gone.

pub(crate) mod basis;
mod planned;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use trialog_model::experiment::Definition;
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::published::{Computation, VariantMetric};
use trialog_model::sequence::Sequence;
use trialog_model::time::UnixMicros;
use trialog_stats::{Alpha, SequentialSrm};

pub(crate) use self::basis::{basis, basis_of_verdict};
pub use self::planned::{Planned, has_users, when_planned};

use self::basis::{basis_of_plan, basis_of_srm};
use self::planned::planned_look;
use crate::comparison::{Headline, Terms, always_valid, test};
use crate::{Choices, Measured, Subject, control, health, measured};

/// The version that standings are written in; one of another version counts as none.
const VERSION: u32 = 1;
/// The maximum number of stored tests of undeclared event types. Such tests have no verdict, and
/// more of them would take megabytes per look.
const MOST_EXPLORATORY: usize = 1_000;
/// The results of the looks at an experiment so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    version: u32,
    /// Looks so far, this one included.
    pub(crate) looks: u64,
    /// When the first of them was published, in microseconds.
    since: i64,
    /// When the experiment ends: from then on users no longer count.
    end_at: Option<i64>,
    /// The smallest p-value of the sample ratio at every look.
    pub(crate) srm: Option<f64>,
    /// What the sample ratio is tested against, as one text.
    #[serde(default)]
    srm_basis: String,
    tests: Vec<TestStanding>,
    /// The planned look, once it has come.
    pub(crate) planned: Option<PlannedLook>,
}

/// The smallest always-valid p-value of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TestStanding {
    metric: String,
    kind: MetricKind,
    treatment: String,
    /// What the test is made of, as one text.
    basis: String,
    pub(crate) looks: u64,
    since: i64,
    pub(crate) p_value: f64,
    /// The difference at the look that gave it.
    pub(crate) difference: f64,
}

/// The outcome of the planned look, which later looks do not change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedLook {
    /// When it was published, in microseconds.
    at: i64,
    /// What it was tested with, as one text.
    basis: String,
    results: Vec<PlannedResult>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PlannedResult {
    metric: String,
    kind: MetricKind,
    treatment: String,
    /// What the test and its verdict are made of, as one text.
    basis: String,
    headline: Headline,
}

/// Returns the level that looks before and after the planned one spend: a fifth of `alpha`, or all
/// of it if no look is planned.
pub(crate) fn early(alpha: Alpha, is_planned: bool) -> Alpha {
    fifths(alpha, if is_planned { 1.0 } else { 5.0 })
}

/// Returns the part of `alpha` that the planned look spends.
pub(crate) fn planned(alpha: Alpha) -> Alpha {
    fifths(alpha, 4.0)
}

fn fifths(alpha: Alpha, n: f64) -> Alpha {
    Alpha::new(alpha.get() * n / 5.0).unwrap_or(alpha)
}

/// A computed look that is about to be published.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The experiment.
    pub subject: Subject<'a>,
    /// What was computed of it.
    pub computation: &'a Computation,
    /// When it is published.
    pub at: UnixMicros,
    /// Whether it is the planned look.
    pub is_planned: bool,
}

/// The metrics of a look, measured once for all that is stored with it.
#[derive(Debug, Clone)]
pub struct Measurements {
    pub(crate) control: Option<String>,
    pub(crate) metrics: Vec<Measured>,
}

impl Look<'_> {
    /// Measures the metrics as a report without choices does.
    #[must_use]
    pub fn measure(&self) -> Measurements {
        let choices = Choices::default();
        let control = control(self.subject.definition, self.computation, &choices);
        let control = control.ok().flatten();
        let metrics = measured(
            &self.subject,
            self.computation,
            control.as_deref(),
            &choices,
        );
        Measurements { control, metrics }
    }
}

impl Standing {
    /// Reads what [`Self::to_json`] wrote; `None` for other text and other versions.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let standing: Self = serde_json::from_str(text).ok()?;
        (standing.version == VERSION).then_some(standing)
    }

    /// Serializes the standing.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the standing after the last look of `sequence`, as far as it still counts.
    ///
    /// Looks at data that are gone, or by another definition, count no longer. The planned
    /// look still counts: repeating it would spend its alpha again, so its
    /// outcome stays where its definition does.
    #[must_use]
    pub fn from_sequence(sequence: &Sequence) -> Option<Self> {
        let looked_at = sequence.looked_at?;
        let standing = sequence.standing.as_deref().and_then(Self::parse)?;
        if sequence.counts(looked_at) {
            return Some(standing);
        }
        Some(Self {
            planned: Some(standing.planned?),
            ..Self::default()
        })
    }

    /// Returns the standing after `look`, which follows the standing `previous`.
    #[must_use]
    pub fn next(previous: Option<&Self>, look: &Look<'_>) -> Self {
        Self::after(previous, look, &look.measure())
    }

    /// Returns the standing as [`Self::next`] does, from the measurements of the look.
    #[must_use]
    pub fn after(previous: Option<&Self>, look: &Look<'_>, measured: &Measurements) -> Self {
        let Look {
            subject,
            computation,
            at,
            ..
        } = *look;
        let definition = subject.definition;
        let end_at = definition.end_at.map(|time| time.0);
        let planned = previous.and_then(|standing| standing.planned.clone());
        // Where the experiment ends before users came who counted, they no longer do.
        let keeps_users =
            |before: &&Self| before.end_at == end_at || end_at.is_none_or(|end| end >= at.0);
        let previous = previous
            .filter(|before| before.looks > 0)
            .filter(keeps_users);
        let srm_basis = basis_of_srm(definition);
        let srm_before = previous.filter(|before| before.srm_basis == srm_basis);
        let mut next = Self {
            version: VERSION,
            looks: previous.map_or(0, |before| before.looks) + 1,
            since: previous.map_or(at.0, |before| before.since),
            end_at,
            srm: least(
                srm_before.and_then(|before| before.srm),
                srm(definition, computation),
            ),
            srm_basis,
            tests: Vec::new(),
            planned: planned.filter(|look| look.basis == basis_of_plan(&subject)),
        };
        next.tests = tests(&subject, measured, at, previous);
        if look.is_planned && next.planned.is_none() {
            next.planned = planned_look(look);
        }
        next
    }

    /// Computes the standing after looks whose sums are still stored, the newest first. Their
    /// sample ratios are no longer known.
    #[must_use]
    pub fn of_looks(
        subject: &Subject<'_>,
        looks: &[(UnixMicros, Vec<VariantMetric>)],
    ) -> Option<Self> {
        looks
            .iter()
            .rev()
            .fold(None, |before: Option<Self>, (at, rows)| {
                let computation = Computation {
                    metrics: rows.clone(),
                    ..Computation::empty(subject.definition.experiment_id.clone())
                };
                let look = Look {
                    subject: *subject,
                    computation: &computation,
                    at: *at,
                    is_planned: false,
                };
                Some(Self::next(before.as_ref(), &look))
            })
    }

    /// Returns when the first look that counts was published; `None` if only the last one counts.
    pub(crate) fn since(&self) -> Option<UnixMicros> {
        (self.looks > 0).then_some(UnixMicros(self.since))
    }

    /// Returns when the planned look was published, if it was.
    pub(crate) fn planned_at(&self) -> Option<UnixMicros> {
        self.planned.as_ref().map(|look| UnixMicros(look.at))
    }

    /// Returns the standing of the test of `treatment` if its `basis` has not changed.
    pub(crate) fn test(&self, key: (&str, MetricKind, &str), basis: &str) -> Option<&TestStanding> {
        let is_same = |test: &&TestStanding| {
            let of_test = (test.metric.as_str(), test.kind, test.treatment.as_str());
            of_test == key && test.basis == basis
        };
        self.tests.iter().find(is_same)
    }

    /// Returns what the planned look found for `treatment`, if the metric has not changed since.
    pub(crate) fn planned_headline(
        &self,
        key: (&str, MetricKind, &str),
        basis: &str,
    ) -> Option<&Headline> {
        let is_same = |result: &&PlannedResult| {
            let of_result = (
                result.metric.as_str(),
                result.kind,
                result.treatment.as_str(),
            );
            of_result == key && result.basis == basis
        };
        let results = &self.planned.as_ref()?.results;
        (results.iter().find(is_same)).map(|result| &result.headline)
    }
}

impl TestStanding {
    /// Returns when the first look of the test was published.
    pub(crate) fn since(&self) -> UnixMicros {
        UnixMicros(self.since)
    }
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// The p-value of the sample ratio at this look; users of several variants count at their
/// first one, so that the counts never fall.
fn srm(definition: &Definition, computation: &Computation) -> Option<f64> {
    let weights: Vec<f64> = health::assigned(definition)
        .map(|variant| variant.weight)
        .collect();
    let counts = health::declared_counts(definition, computation, true);
    if counts.iter().all(|count| *count == 0) {
        return None;
    }
    let look = SequentialSrm::new(&weights).ok()?.look(&counts).ok()?;
    Some(look.p_value)
}

fn tests(
    subject: &Subject<'_>,
    measurements: &Measurements,
    at: UnixMicros,
    previous: Option<&Standing>,
) -> Vec<TestStanding> {
    let choices = Choices::default();
    let control = measurements.control.as_deref();
    let terms = Terms::from_definition(subject.definition, control, &choices, None);
    let mut tests = Vec::new();
    for measured in &measurements.metrics {
        if measured.role == MetricRole::Exploratory && tests.len() >= MOST_EXPLORATORY {
            continue;
        }
        let is_control = |arm: &&crate::Arm| Some(arm.sums.variant.as_str()) == terms.control;
        let Some(control) = measured.arms.iter().find(is_control) else {
            continue;
        };
        let basis = basis(subject, measured, &terms);
        for arm in measured.arms.iter().filter(|arm| !is_control(arm)) {
            let now = test(control, arm)
                .and_then(|test| Some((always_valid(&test, &terms)?.p_value?, test.difference()?)));
            let treatment = arm.sums.variant.as_str();
            let key = (measured.metric.as_str(), measured.kind, treatment);
            let before = previous.and_then(|standing| standing.test(key, &basis));
            let Some((p_value, difference)) = smaller(before, now) else {
                continue;
            };
            tests.push(TestStanding {
                metric: measured.metric.clone(),
                kind: measured.kind,
                treatment: treatment.to_owned(),
                looks: before.map_or(0, |test| test.looks) + 1,
                since: before.map_or(at.0, |test| test.since),
                p_value,
                difference,
                basis: basis.clone(),
            });
        }
    }
    tests
}

/// Returns the smaller p-value with its difference.
pub(crate) fn smaller(
    before: Option<&TestStanding>,
    now: Option<(f64, f64)>,
) -> Option<(f64, f64)> {
    let before = before.map(|test| (test.p_value, test.difference));
    match (before, now) {
        (Some(before), Some(now)) if now.0 < before.0 => Some(now),
        (Some(before), _) => Some(before),
        (None, now) => now,
    }
}
