//! What the looks at an experiment have come to: the smallest p-values so far, and the outcome
//! of the planned look.
//!
//! Pure. A run makes the standing of each look from that of the look before and stores it
//! with the rows, so that a p-value stays what it was when old rows are gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trialog_model::experiment::{Definition, Status};
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::published::{Computation, VariantMetric};
use trialog_model::sequence::Sequence;
use trialog_model::time::UnixMicros;
use trialog_stats::{Alpha, SequentialSrm};

use crate::comparison::{Headline, Terms, always_valid, test};
use crate::{Choices, Measured, Subject, control, from_measured, health, measured};

/// The version that standings are written in; one of another version counts as none.
const VERSION: u32 = 1;
/// Changes whenever p-values of earlier looks mean something else.
const MEANING: u32 = 1;
/// Tests beyond which those of event types that nobody declared are not kept: they have no
/// verdict, and a look would hold megabytes of them.
const MOST_EXPLORATORY: usize = 1_000;
/// How long users come in before the planned look: one of each weekday.
const LEAST_MICROS: i64 = 7 * 86_400_000_000;

/// What the looks at an experiment have come to.
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

/// The outcome of the planned look, which stands.
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

/// The level that looks before and after the planned one spend, a fifth of `alpha`; all of it
/// where nothing is planned.
pub(crate) fn early(alpha: Alpha, is_planned: bool) -> Alpha {
    fifths(alpha, if is_planned { 1.0 } else { 5.0 })
}

/// The level that the planned look spends, of `alpha`.
pub(crate) fn planned(alpha: Alpha) -> Alpha {
    fifths(alpha, 4.0)
}

fn fifths(alpha: Alpha, n: f64) -> Alpha {
    Alpha::new(alpha.get() * n / 5.0).unwrap_or(alpha)
}

/// A look that was computed and is about to be published.
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

/// When the planned look is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planned {
    /// Not at this look, however many users are mature.
    No,
    /// At this look, if each of these arms has `users` who were exposed before `mature`, and
    /// anybody was before `first`.
    If {
        /// Microseconds since 1970: the windows of users exposed before have closed.
        mature: i64,
        /// Microseconds since 1970; none where it is known already.
        first: Option<i64>,
        /// Users that each arm needs.
        users: u64,
    },
}

impl Standing {
    /// Reads what [`Self::to_json`] wrote; `None` for other text and other versions.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let standing: Self = serde_json::from_str(text).ok()?;
        (standing.version == VERSION).then_some(standing)
    }

    /// The standing as text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The standing after the last look of `sequence`, as far as that still counts.
    ///
    /// Looks at data that are gone, or by another definition, count no longer. The planned
    /// look was taken all the same: taking it again would spend its alpha again, so its
    /// outcome stays where its definition does.
    #[must_use]
    pub fn of(sequence: &Sequence) -> Option<Self> {
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

    /// The standing after `look`, which follows that of `previous`.
    #[must_use]
    pub fn next(previous: Option<&Self>, look: &Look<'_>) -> Self {
        let Look {
            subject,
            computation,
            at,
            ..
        } = *look;
        let definition = subject.definition;
        let end_at = definition.end_at.map(|time| time.0);
        let planned = previous.and_then(|own| own.planned.clone());
        // Where the experiment ends before users came who counted, they no longer do.
        let keeps_users =
            |own: &&Self| own.end_at == end_at || end_at.is_none_or(|end| end >= at.0);
        let previous = previous.filter(|own| own.looks > 0).filter(keeps_users);
        let srm_basis = basis_of_srm(definition);
        let srm_before = previous.filter(|own| own.srm_basis == srm_basis);
        let mut next = Self {
            version: VERSION,
            looks: previous.map_or(0, |own| own.looks) + 1,
            since: previous.map_or(at.0, |own| own.since),
            end_at,
            srm: least(
                srm_before.and_then(|own| own.srm),
                srm(definition, computation),
            ),
            srm_basis,
            tests: Vec::new(),
            planned: planned.filter(|own| own.basis == basis_of_plan(&subject)),
        };
        next.tests = tests(&subject, computation, at, previous);
        if look.is_planned && next.planned.is_none() {
            next.planned = planned_look(look);
        }
        next
    }

    /// The standing after looks of which the sums are still there, the newest first; the
    /// sample ratio at them is not known any more.
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

    /// When the first look that counts was published; none where only the last one does.
    pub(crate) fn since(&self) -> Option<UnixMicros> {
        (self.looks > 0).then_some(UnixMicros(self.since))
    }

    /// When the planned look was published, if it was.
    pub(crate) fn planned_at(&self) -> Option<UnixMicros> {
        self.planned.as_ref().map(|own| UnixMicros(own.at))
    }

    /// The test of `treatment`, where it is made of what it was made of before.
    pub(crate) fn test(&self, key: (&str, MetricKind, &str), basis: &str) -> Option<&TestStanding> {
        let is_own = |own: &&TestStanding| {
            (own.metric.as_str(), own.kind, own.treatment.as_str()) == key && own.basis == basis
        };
        self.tests.iter().find(is_own)
    }

    /// What the planned look said of `treatment`, where the metric is what it was.
    pub(crate) fn planned_headline(
        &self,
        key: (&str, MetricKind, &str),
        basis: &str,
    ) -> Option<&Headline> {
        let is_own = |own: &&PlannedResult| {
            (own.metric.as_str(), own.kind, own.treatment.as_str()) == key && own.basis == basis
        };
        let results = &self.planned.as_ref()?.results;
        results.iter().find(is_own).map(|own| &own.headline)
    }
}

impl TestStanding {
    /// When its first look was published.
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
    let weights: Vec<f64> = health::assigned(definition).map(|own| own.weight).collect();
    let counts = health::declared_counts(definition, computation, true);
    if counts.iter().all(|count| *count == 0) {
        return None;
    }
    let look = SequentialSrm::new(&weights).ok()?.look(&counts).ok()?;
    Some(look.p_value)
}

fn tests(
    subject: &Subject<'_>,
    computation: &Computation,
    at: UnixMicros,
    previous: Option<&Standing>,
) -> Vec<TestStanding> {
    let choices = Choices::default();
    let definition = subject.definition;
    let Ok(control) = control(definition, computation, &choices) else {
        return Vec::new();
    };
    let terms = Terms::of(definition, control.as_deref(), &choices, None);
    let all = measured(subject, computation, control.as_deref(), &choices);
    let mut tests = Vec::new();
    for measured in &all {
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
            let before = previous.and_then(|own| own.test(key, &basis));
            let Some((p_value, difference)) = smaller(before, now) else {
                continue;
            };
            tests.push(TestStanding {
                metric: measured.metric.clone(),
                kind: measured.kind,
                treatment: treatment.to_owned(),
                looks: before.map_or(0, |own| own.looks) + 1,
                since: before.map_or(at.0, |own| own.since),
                p_value,
                difference,
                basis: basis.clone(),
            });
        }
    }
    tests
}

/// The smaller p-value with its difference.
pub(crate) fn smaller(
    before: Option<&TestStanding>,
    now: Option<(f64, f64)>,
) -> Option<(f64, f64)> {
    let before = before.map(|own| (own.p_value, own.difference));
    match (before, now) {
        (Some(before), Some(now)) if now.0 < before.0 => Some(now),
        (Some(before), _) => Some(before),
        (None, now) => now,
    }
}

/// Everything that the p-values of a test depend on beside the data, as one short text.
pub(crate) fn basis(subject: &Subject<'_>, measured: &Measured, terms: &Terms<'_>) -> String {
    let definition = subject.definition;
    let metric = subject.defined_metric(&measured.metric);
    short(&json!([
        MEANING,
        terms.control,
        terms.declared_alpha.get(),
        terms.tuning().0,
        definition.start_at.map(|time| time.0),
        measured.event_type,
        measured.window,
        metric.map(meaning),
    ]))
}

/// Everything that the planned verdict on a metric depends on beside the data.
pub(crate) fn basis_of_verdict(
    subject: &Subject<'_>,
    measured: &Measured,
    terms: &Terms<'_>,
) -> String {
    let test = basis(subject, measured, terms);
    short(&json!([
        test,
        measured.role,
        measured.direction,
        measured.margin
    ]))
}

/// What the sample ratio is tested against.
fn basis_of_srm(definition: &Definition) -> String {
    let weights: Vec<_> = health::assigned(definition)
        .map(|own| (&own.variant, own.weight))
        .collect();
    short(&json!([
        MEANING,
        weights,
        definition.start_at.map(|time| time.0)
    ]))
}

/// What the definition of a metric says of its numbers; fields without a value are left out,
/// so that a field that comes later changes nothing.
fn meaning(definition: &trialog_model::metric_definition::MetricDefinition) -> Value {
    let fields = serde_json::to_value(definition).unwrap_or_default();
    let fields: BTreeMap<String, Value> = serde_json::from_value(fields).unwrap_or_default();
    let says = fields.into_iter().filter(|(field, value)| {
        !value.is_null()
            && !["description", "owner", "direction", "margin"].contains(&field.as_str())
    });
    says.collect()
}

/// Everything that the planned look depends on beside the data.
fn basis_of_plan(subject: &Subject<'_>) -> String {
    let definition = subject.definition;
    let primary = definition.metrics.primary.iter();
    let defined: Vec<Value> = primary
        .filter_map(|own| subject.defined_metric(own.name.as_str()))
        .map(|own| json!([meaning(own), own.direction, own.margin]))
        .collect();
    short(&json!([
        MEANING,
        definition.control(),
        definition.alpha,
        definition.plan,
        definition.start_at.map(|time| time.0),
        definition.attribution_window,
        defined,
    ]))
}

fn short(basis: &Value) -> String {
    let (high, _) = trialog_model::murmur3::murmur3_x64_128(basis.to_string().as_bytes(), 0);
    format!("{high:016x}")
}

/// When the planned look of `experiment` is, at data time `now`.
///
/// It is the first where every arm has its planned number of users whose windows have closed,
/// those of primary metrics, and 7 days have passed.
#[must_use]
pub fn when_planned(
    subject: &Subject<'_>,
    computation: &Computation,
    previous: Option<&Standing>,
    now: UnixMicros,
) -> Planned {
    let definition = subject.definition;
    let has_started = !matches!(subject.status, Status::Draft | Status::Unregistered);
    let Some(plan) = definition.plan.as_ref().filter(|_| has_started) else {
        return Planned::No;
    };
    let is_over = (previous.and_then(|own| own.planned.as_ref()))
        .is_some_and(|own| own.basis == basis_of_plan(subject));
    let users = plan.sample_size_per_variant;
    let counts = health::declared_counts(definition, computation, false);
    if is_over || counts.is_empty() || counts.iter().any(|count| *count < users) {
        return Planned::No;
    }
    // A start that is dated back is no week of users; an exposure that old is.
    let started = definition.start_at.max(subject.started_at);
    let week_ago = now.0.saturating_sub(LEAST_MICROS);
    let is_known = started.is_some_and(|time| time.0 <= week_ago);
    Planned::If {
        // Exposed before `mature` is exposed at `mature - 1` at the latest.
        mature: now
            .0
            .saturating_sub(longest_window(subject))
            .saturating_add(1),
        first: (!is_known).then(|| week_ago.saturating_add(1)),
        users,
    }
}

/// How long after an exposure the last window of a primary metric closes; one that never does
/// counts as closed.
fn longest_window(subject: &Subject<'_>) -> i64 {
    let named = subject.definition.named_metrics(subject.defined_metrics);
    let closes = |own: &trialog_model::metric_definition::NamedMetric<'_>| {
        let delay = own.definition.and_then(|definition| definition.delay);
        let delay = delay.map_or(0, |delay| delay.micros());
        own.window
            .micros()
            .map(|window| delay.saturating_add(window))
    };
    let primary = named.iter().filter(|own| own.role == MetricRole::Primary);
    primary.filter_map(closes).max().unwrap_or(0).max(0)
}

/// Whether `computation`, of users exposed before some time, has `users` in each arm.
#[must_use]
pub fn has_users(definition: &Definition, computation: &Computation, users: u64) -> bool {
    let counts = health::declared_counts(definition, computation, false);
    counts.iter().all(|count| *count >= users)
}

/// Tests everything that the experiment names once, at the share of alpha that is kept for it.
fn planned_look(look: &Look<'_>) -> Option<PlannedLook> {
    let (subject, computation) = (&look.subject, look.computation);
    let definition = subject.definition;
    let alpha = planned(Alpha::new(definition.alpha).unwrap_or(Alpha::P05));
    let choices = Choices {
        alpha: Some(alpha),
        ..Choices::default()
    };
    let control = control(definition, computation, &choices).ok()?;
    let all = measured(subject, computation, control.as_deref(), &choices);
    // Those of the looks, so that what is asked for later is compared with the same.
    let terms = Terms::of(definition, control.as_deref(), &choices, None);
    let bases: Vec<String> = (all.iter())
        .map(|measured| basis_of_verdict(subject, measured, &terms))
        .collect();
    let report = from_measured(subject, computation, all, &choices).ok()?;
    let mut results = Vec::new();
    for (metric, basis) in report.metrics.into_iter().zip(bases) {
        if metric.role == MetricRole::Exploratory {
            continue;
        }
        for own in metric.comparisons {
            results.push(PlannedResult {
                metric: metric.metric.clone(),
                kind: metric.kind,
                treatment: own.treatment,
                basis: basis.clone(),
                headline: Headline {
                    alpha: Some(alpha.get()),
                    at: Some(look.at.to_rfc3339()),
                    ..own.headline
                },
            });
        }
    }
    Some(PlannedLook {
        at: look.at.0,
        basis: basis_of_plan(subject),
        results,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use trialog_model::published::VariantExposures;
    use trialog_model::sequence::{Break, BreakReason, PastLook};

    const NOW: i64 = 1_760_000_000_000_000;
    const DAY: i64 = 86_400_000_000;

    fn subject(more: &Value) -> Subject<'static> {
        let mut definition = json!({"experiment_id": "gate", "attribution_window": "1d",
            "variants": [{"variant": "a"}, {"variant": "b"}], "metrics": {"primary": ["buy:conversion"]}});
        for (field, value) in more.as_object().into_iter().flatten() {
            definition[field] = value.clone();
        }
        let definition: Definition = serde_json::from_value(definition).expect("a definition");
        Subject {
            status: Status::Running,
            started_at: Some(UnixMicros(NOW)),
            ..Subject::from_definition(Box::leak(Box::new(definition)))
        }
    }

    /// 1,000 users an arm, of whom so many converted.
    fn computation(converted: [u64; 2]) -> Computation {
        let row = |(variant, converted): (&str, u64)| VariantMetric {
            variant: variant.to_owned(),
            metric_name: "buy".to_owned(),
            user_count: 1_000,
            event_count: converted,
            total: i128::from(converted) * 10_000,
            conversion_rate: converted as f64 / 1e3,
            mean_value: converted as f64 / 1e3,
            variance: None,
            converted_users: converted,
            squared_total: i128::from(converted) * 100_000_000,
            squared_events: u128::from(converted),
            more: None,
        };
        let exposed = |variant: &str| VariantExposures {
            variant: variant.to_owned(),
            user_count: 1_000,
            crossover_users: 0,
        };
        Computation {
            exposures: vec![exposed("a"), exposed("b")],
            metrics: ["a", "b"].into_iter().zip(converted).map(row).collect(),
            ..Computation::empty(subject(&Value::Null).definition.experiment_id.clone())
        }
    }

    fn next(
        previous: Option<&Standing>,
        subject: &Subject<'_>,
        converted: [u64; 2],
        day: i64,
        is_planned: bool,
    ) -> Standing {
        let look = Look {
            subject: *subject,
            computation: &computation(converted),
            at: UnixMicros(NOW + day * DAY),
            is_planned,
        };
        Standing::next(previous, &look)
    }

    fn smallest(standing: &Standing) -> (f64, f64, u64) {
        let own = &standing.tests[0];
        (own.p_value, own.difference, own.looks)
    }

    #[test]
    fn a_standing_keeps_the_smallest_p_value_with_its_difference() {
        let gate = subject(&Value::Null);
        let first = next(None, &gate, [100, 150], 1, false);
        let second = next(Some(&first), &gate, [150, 150], 2, false);
        let (p_value, difference, _) = smallest(&first);
        assert!((difference - 0.05).abs() < 1e-12);
        assert_eq!(smallest(&second), (p_value, difference, 2));
        let third = next(Some(&second), &gate, [100, 180], 3, false);
        assert!(smallest(&third).0 < p_value);
        assert_eq!(Standing::parse(&third.to_json()), Some(third.clone()));
        assert_eq!(third.since(), Some(UnixMicros(NOW + DAY)));
        let looks: Vec<(UnixMicros, Vec<VariantMetric>)> = [[100, 180], [150, 150], [100, 150]]
            .into_iter()
            .zip([3, 2, 1])
            .map(|(converted, day)| (UnixMicros(NOW + day * DAY), computation(converted).metrics))
            .collect();
        let of_rows = Standing::of_looks(&gate, &looks).expect("looks");
        assert_eq!(of_rows.tests, third.tests);
    }

    #[test]
    fn what_a_test_is_made_of_starts_it_anew_and_the_rest_does_not() {
        let first = next(None, &subject(&Value::Null), [100, 150], 1, false);
        let looks = |more: Value| {
            let second = next(Some(&first), &subject(&more), [150, 150], 2, false);
            smallest(&second).2
        };
        for anew in [
            json!({"alpha": 0.1}),
            json!({"attribution_window": "2d"}),
            json!({"start_at": "2025-01-01T00:00:00Z"}),
            json!({"plan": {"sample_size_per_variant": 10}}),
            json!({"end_at": "2025-10-01T00:00:00Z"}),
        ] {
            assert_eq!(looks(anew.clone()), 1, "{anew}");
        }
        for same in [
            json!({"owner": "games"}),
            json!({"allocation": 0.5}),
            json!({"end_at": "2026-10-01T00:00:00Z"}),
            json!({"metrics": {"primary": ["buy:conversion"], "secondary": ["visit"]}}),
        ] {
            assert_eq!(looks(same.clone()), 2, "{same}");
        }
    }

    #[test]
    fn the_planned_look_is_taken_once() {
        let gate = subject(&json!({"plan": {"sample_size_per_variant": 900}}));
        let first = next(None, &gate, [100, 150], 1, true);
        let key = ("buy", MetricKind::Conversion, "b");
        let basis = |own: &Standing| own.planned.as_ref().map(|own| own.results[0].basis.clone());
        let verdict = basis(&first).expect("a look");
        let planned = first
            .planned_headline(key, &verdict)
            .expect("an outcome")
            .clone();
        assert_eq!(
            (planned.test.as_deref(), planned.alpha),
            (Some("fixed_horizon"), Some(0.04))
        );
        let second = next(Some(&first), &gate, [150, 150], 2, true);
        assert_eq!(second.planned_headline(key, &verdict), Some(&planned));
        assert_eq!(second.planned_headline(key, "another meaning"), None);
        let computation = computation([150, 150]);
        let when =
            |previous| when_planned(&gate, &computation, previous, UnixMicros(NOW + 2 * DAY));
        assert_eq!(when(Some(&second)), Planned::No);
        let week_ago = NOW - 5 * DAY;
        let expected = Planned::If {
            mature: NOW + DAY + 1,
            first: Some(week_ago + 1),
            users: 900,
        };
        assert_eq!(when(None), expected);
        let draft = Subject {
            status: Status::Draft,
            ..gate
        };
        assert_eq!(
            when_planned(&draft, &computation, None, UnixMicros(NOW)),
            Planned::No
        );
    }

    #[test]
    fn what_is_gone_takes_the_smallest_p_values_and_leaves_the_planned_outcome() {
        let gate = subject(&json!({"plan": {"sample_size_per_variant": 900}}));
        let standing = next(None, &gate, [100, 150], 1, true);
        let sequence = |reason, day: i64| Sequence {
            looked_at: Some(PastLook {
                at: UnixMicros(NOW + DAY),
                run_id: 1,
            }),
            standing: Some(standing.to_json()),
            breaks: vec![Break {
                reason,
                at: UnixMicros(NOW + day * DAY),
                after_run: None,
                actor: "mia".to_owned(),
                fields: Vec::new(),
                confirmed: None,
            }],
        };
        let earlier = Standing::of(&sequence(BreakReason::Erasure, 0));
        assert_eq!(earlier.as_ref(), Some(&standing));
        for reason in [BreakReason::Erasure, BreakReason::Retention] {
            let kept = Standing::of(&sequence(reason, 2)).expect("the planned look");
            assert_eq!((kept.tests.len(), kept.since()), (0, None));
            assert_eq!(kept.planned, standing.planned);
            // It is never taken again, whatever comes in.
            let after = next(Some(&kept), &gate, [100, 180], 3, true);
            assert_eq!((&after.planned, after.looks), (&standing.planned, 1));
        }
        // Another end takes users out, and no second chance comes of it.
        let ended = subject(
            &json!({"plan": {"sample_size_per_variant": 900}, "end_at": "2025-10-01T00:00:00Z"}),
        );
        let after = next(Some(&standing), &ended, [90, 150], 3, true);
        assert_eq!((&after.planned, after.looks), (&standing.planned, 1));
        // By another plan it is another look.
        let other = subject(&json!({"plan": {"sample_size_per_variant": 950}}));
        assert_eq!(
            next(Some(&standing), &other, [90, 150], 3, false).planned,
            None
        );
    }

    #[test]
    fn the_sample_ratio_is_tested_anew_against_other_weights() {
        let gate = subject(&Value::Null);
        let wrong =
            subject(&json!({"variants": [{"variant": "a", "weight": 9}, {"variant": "b"}]}));
        let first = next(None, &wrong, [100, 100], 1, false);
        assert!(first.srm.is_some_and(|p| p < 1e-10));
        let second = next(Some(&first), &gate, [100, 100], 2, false);
        assert!(second.srm.is_some_and(|p| p > 0.5), "{:?}", second.srm);
        assert_eq!(smallest(&second).2, 2);
    }
}
