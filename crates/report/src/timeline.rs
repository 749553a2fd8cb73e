//! Builds the timeline of metrics: what each publication said of them, and since when the
//! differences have been stable.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::event::FieldError;
use trialog_model::experiment::MIN_ALPHA;
use trialog_model::metric::{MetricKind, MetricRef, MetricRole};
use trialog_model::published::{Computation, VariantExposures, VariantMetric};
use trialog_model::time::UnixMicros;
use trialog_stats::{Interval, StabilityLook, stability};

use crate::arm::Arm;
use crate::chosen::{NamedKind, check_chosen, named_kinds};
use crate::comparison::{Terms, always_valid, test};
use crate::measured::measured;
use crate::{Choices, Subject, control};

/// What the publications of an experiment said over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// The experiment.
    pub experiment_id: String,
    /// The number of publications that were read: at most the last 533.
    pub looks: usize,
    /// The two-sided level of intervals.
    #[schemars(extend("minimum" = MIN_ALPHA, "exclusiveMaximum" = 1))]
    pub alpha: f64,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// Each metric, once for each kind.
    pub metrics: Vec<MetricTimeline>,
}

/// A metric over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricTimeline {
    /// The name of the metric.
    pub metric: String,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// The role of the metric in the experiment.
    pub role: MetricRole,
    /// The publications, oldest first: a line for each definition, since numbers of two
    /// definitions do not make one line.
    pub lines: Vec<TimelineLine>,
    /// Why past days were not computed although the metric was defined after the first
    /// publication; null where they were, or need not be.
    pub not_backfilled: Option<String>,
    /// For each treatment, since when the difference has been stable in the current line.
    pub stability: Vec<StabilityReport>,
}

/// Publications of a metric with one definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineLine {
    /// Whether it has the definition of now, and its looks still count.
    pub current: bool,
    /// The fingerprint of the definitions of the experiment and its metrics.
    pub fingerprint: String,
    /// Whether its looks count in always-valid tests: events were neither erased nor dropped since,
    /// and nothing that results are tested with was changed.
    pub counts: bool,
    /// Each publication, oldest first.
    pub points: Vec<TimelinePoint>,
}

/// A metric at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelinePoint {
    /// When it was published; of a point that was computed later, the end of the UTC day: events
    /// before it count.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Whether the point was computed later, from the events up to that time. Events are then
    /// cut by their own time and not by their arrival, and users who do not count now count at
    /// no time.
    pub backfilled: bool,
    /// Each variant: declared variants in their order, then undeclared ones.
    pub variants: Vec<PointVariant>,
    /// Each other variant against the control.
    pub comparisons: Vec<PointComparison>,
}

/// A metric of a variant at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PointVariant {
    /// The variant.
    pub variant: String,
    /// Exposed users.
    pub users: u64,
    /// The mean per user of what the kind measures; the ratio or the quantile itself for these
    /// kinds. Null without users.
    pub mean: Option<f64>,
}

/// A treatment against the control at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PointComparison {
    /// The treatment.
    pub treatment: String,
    /// Treatment minus control, in the metric's unit.
    pub difference: Option<f64>,
    /// The interval of a single look at level `1 - alpha`.
    pub ci: Option<[f64; 2]>,
    /// The interval that holds at every look together, at level `1 - alpha`; null without spread
    /// and for quantiles.
    pub always_valid_ci: Option<[f64; 2]>,
}

/// Since when the difference of a treatment has been stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StabilityReport {
    /// The treatment.
    pub treatment: String,
    /// The number of looks in the current line.
    pub looks: usize,
    /// Whether one constant effect is rejected: the always-valid intervals have no point in
    /// common. With a constant effect that happens in at most `alpha` of experiments, however
    /// often anybody looks. Null without an interval.
    pub constant_rejected: Option<bool>,
    /// What all always-valid intervals have in common; null where that is nothing.
    pub intersection: Option<[f64; 2]>,
    /// The first look whose interval holds its own difference and that of every later look; null
    /// where only the last look does, as that is no stability yet.
    #[schemars(extend("format" = "date-time"))]
    pub stable_since: Option<String>,
    /// The planned minimum detectable effect, in the metric's unit; null where none is planned.
    pub mde: Option<f64>,
    /// The first look from which on every interval is at most `mde` to either side; null before
    /// that, and without `mde`.
    #[schemars(extend("format" = "date-time"))]
    pub precise_since: Option<String>,
}

/// A publication with the rows of the metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineLook {
    /// When it was published.
    pub at: UnixMicros,
    /// The fingerprint of the definitions that it was computed with.
    pub fingerprint: String,
    /// Whether it counts in always-valid tests.
    pub counts: bool,
    /// The rows of the metrics.
    pub rows: Vec<VariantMetric>,
}

/// Rows at the ends of past days, oldest first.
pub type PastRows = Vec<(UnixMicros, Vec<VariantMetric>)>;

/// The publications of an experiment, and what is made of them.
#[derive(Debug, Clone, Copy)]
pub struct TimelineLooks<'a> {
    /// The experiment.
    pub subject: Subject<'a>,
    /// The fingerprint of its definition as it is now.
    pub current: &'a str,
    /// The publications, oldest first.
    pub looks: &'a [TimelineLook],
    /// The options of the request.
    pub choices: &'a Choices,
}

/// Lists the names of the metrics of a timeline: the one that a request chooses, else the primary
/// ones.
///
/// # Errors
///
/// The experiment does not name the chosen metric.
pub fn timeline_metrics(
    subject: &Subject<'_>,
    chosen: Option<&MetricRef>,
) -> Result<Vec<String>, FieldError> {
    let all = named_kinds(subject);
    check_chosen(&all, chosen)?;
    let mut names: Vec<String> = shown(&all, chosen)
        .map(|metric| metric.named.name.to_owned())
        .collect();
    names.dedup();
    Ok(names)
}

/// The metrics of a timeline.
fn shown<'m, 'a>(
    all: &'m [NamedKind<'a>],
    chosen: Option<&'m MetricRef>,
) -> impl Iterator<Item = &'m NamedKind<'a>> {
    all.iter().filter(move |metric| match chosen {
        Some(_) => metric.is_chosen(chosen),
        None => metric.named.role == MetricRole::Primary,
    })
}

impl TimelineLooks<'_> {
    /// Returns before which time the past of a metric has to be computed: where an earlier
    /// publication than the first one with the present definition lacks it, or always with
    /// `always`. `None` where nothing is missing, and before the first publication with it.
    pub fn missing_before(&self, metric: &str, always: bool) -> Option<UnixMicros> {
        let has_rows = |look: &&TimelineLook| look.rows.iter().any(|row| row.metric_name == metric);
        let is_current = |look: &&TimelineLook| look.fingerprint == self.current && look.counts;
        let mut looks = self.looks.iter();
        let first = looks.find(|look| is_current(look) && has_rows(look))?;
        let is_missing = self
            .looks
            .iter()
            .any(|look| look.at < first.at && !has_rows(&look));
        (is_missing || always).then_some(first.at)
    }

    /// Says why the past of a metric cannot be computed.
    pub fn no_past(&self, metric: &str) -> Option<String> {
        let definition = self.subject.defined_metric(metric)?;
        if definition.kind == MetricKind::Quantile {
            return Some("quantiles of past days are not computed: they take the order of all users at each time".to_owned());
        }
        (definition.winsorise.is_some()).then(|| {
            "winsorised sums of past days are not computed: they take the order of all users at each time".to_owned()
        })
    }
}

impl Timeline {
    /// Builds the timeline of `looks`. `past` has the rows of metrics at the ends of past days, or
    /// why they were not computed.
    ///
    /// # Errors
    ///
    /// A choice that the experiment does not have.
    pub fn from_looks(
        looks: &TimelineLooks<'_>,
        past: &BTreeMap<String, Result<PastRows, String>>,
    ) -> Result<Self, FieldError> {
        let TimelineLooks {
            subject, choices, ..
        } = looks;
        let definition = subject.definition;
        let rows = looks.looks.last().map_or(&[][..], |look| &look.rows);
        let control = control(definition, &computation(subject, rows), choices)?;
        let terms = Terms::from_definition(definition, control.as_deref(), choices, None);
        let all = named_kinds(subject);
        let chosen = choices.metric.as_ref();
        let is_primary = |metric: &&NamedKind<'_>| metric.named.role == MetricRole::Primary;
        let first = all.iter().find(is_primary);
        let first = first.map(|metric| (metric.named.name, metric.kind));
        let metrics = shown(&all, chosen).map(|metric| {
            let is_first = first == Some((metric.named.name, metric.kind));
            let maker = Maker {
                looks,
                metric,
                terms: &terms,
            };
            maker.timeline(past.get(metric.named.name), is_first)
        });
        Ok(Self {
            experiment_id: definition.experiment_id.to_string(),
            looks: looks.looks.len(),
            alpha: terms.alpha.get(),
            metrics: metrics.collect(),
            control,
        })
    }
}

/// A computation that has these rows alone.
fn computation(subject: &Subject<'_>, rows: &[VariantMetric]) -> Computation {
    let mut exposures: Vec<VariantExposures> = Vec::new();
    for row in rows {
        if !exposures.iter().any(|other| other.variant == row.variant) {
            exposures.push(VariantExposures {
                variant: row.variant.clone(),
                user_count: row.user_count,
                crossover_users: 0,
            });
        }
    }
    Computation {
        exposures,
        metrics: rows.to_vec(),
        ..Computation::empty(subject.definition.experiment_id.clone())
    }
}

/// Makes the timeline of one metric.
struct Maker<'a> {
    looks: &'a TimelineLooks<'a>,
    metric: &'a NamedKind<'a>,
    terms: &'a Terms<'a>,
}

/// A point with what stability is made of, by treatment.
type Tested = (TimelinePoint, Vec<(String, StabilityLook)>);

impl Maker<'_> {
    fn timeline(&self, past: Option<&Result<PastRows, String>>, is_first: bool) -> MetricTimeline {
        let current = self.looks.current;
        let mut lines: Vec<(TimelineLine, Vec<Tested>)> = Vec::new();
        for look in self.looks.looks {
            let Some(point) = self.point((look.at, false), &look.rows) else {
                continue;
            };
            let key = (look.fingerprint.as_str(), look.counts);
            let is_same = lines
                .last()
                .is_some_and(|(line, _)| (line.fingerprint.as_str(), line.counts) == key);
            if !is_same {
                let line = TimelineLine {
                    current: key == (current, true),
                    fingerprint: look.fingerprint.clone(),
                    counts: look.counts,
                    points: Vec::new(),
                };
                lines.push((line, Vec::new()));
            }
            if let Some((_, points)) = lines.last_mut() {
                points.push(point);
            }
        }
        let last = lines.last_mut().filter(|(line, _)| line.current);
        let mut not_backfilled = None;
        let mut stability = Vec::new();
        if let Some((_, points)) = last {
            match past {
                Some(Ok(past)) => {
                    let past = past.iter();
                    let past = past.filter_map(|(at, rows)| self.point((*at, true), rows));
                    points.splice(..0, past.collect::<Vec<_>>());
                }
                Some(Err(reason)) => not_backfilled = Some(reason.clone()),
                None => {}
            }
            stability = self.stability(points, is_first);
        }
        let lines = lines.into_iter().map(|(line, points)| TimelineLine {
            points: points.into_iter().map(|(point, _)| point).collect(),
            ..line
        });
        MetricTimeline {
            metric: self.metric.named.name.to_owned(),
            kind: self.metric.kind,
            role: self.metric.named.role,
            lines: lines.collect(),
            not_backfilled,
            stability,
        }
    }

    /// Makes the point of `rows`; `None` where they lack the metric.
    fn point(
        &self,
        (at, backfilled): (UnixMicros, bool),
        rows: &[VariantMetric],
    ) -> Option<Tested> {
        let name = self.metric.named.name;
        let rows = rows.iter().filter(|row| row.metric_name == name);
        let rows: Vec<VariantMetric> = rows.cloned().collect();
        let subject = &self.looks.subject;
        let of_rows = computation(subject, &rows);
        let measured = measured(subject, &of_rows, self.terms.control, self.looks.choices);
        let measured = (measured.into_iter())
            .find(|measured| measured.metric == name && measured.kind == self.metric.kind)
            .filter(|measured| !measured.arms.is_empty())?;
        let is_control = |arm: &&Arm| Some(arm.sums.variant.as_str()) == self.terms.control;
        let control = measured.arms.iter().find(is_control);
        let treatments = measured.arms.iter().filter(|arm| !is_control(arm));
        let compared = treatments.filter_map(|arm| self.comparison(control?, arm));
        let (comparisons, looks) = compared.unzip();
        let variants = measured.arms.iter().map(|arm| PointVariant {
            variant: arm.sums.variant.clone(),
            users: arm.sums.users,
            mean: arm.sample.map(|_| arm.sums.mean),
        });
        let point = TimelinePoint {
            at: at.to_rfc3339(),
            backfilled,
            variants: variants.collect(),
            comparisons,
        };
        let looks: Vec<Option<(String, StabilityLook)>> = looks;
        Some((point, looks.into_iter().flatten().collect()))
    }

    fn comparison(
        &self,
        control: &Arm,
        treatment: &Arm,
    ) -> Option<(PointComparison, Option<(String, StabilityLook)>)> {
        let test = test(control, treatment)?;
        let alpha = self.terms.alpha;
        let valid = always_valid(&test, self.terms);
        let interval = valid.as_ref().and_then(|valid| valid.interval(alpha));
        let variant = &treatment.sums.variant;
        let look = test.difference().map(|estimate| {
            let half_width = valid.as_ref().and_then(|valid| valid.half_width(alpha));
            let look = StabilityLook {
                estimate,
                interval,
                half_width: half_width.filter(|_| interval.is_some()),
            };
            (variant.clone(), look)
        });
        let comparison = PointComparison {
            treatment: variant.clone(),
            difference: test.difference(),
            ci: test.interval(alpha).map(ends),
            always_valid_ci: interval.map(ends),
        };
        Some((comparison, look))
    }

    /// Tests the stability of each treatment over the points of the current line.
    fn stability(&self, points: &[Tested], is_first: bool) -> Vec<StabilityReport> {
        let Some((last, _)) = points.last() else {
            return Vec::new();
        };
        let (metric, kind) = (self.metric.named.name, self.metric.kind);
        let plan = (self.terms.plan).filter(|_| self.metric.named.role == MetricRole::Primary);
        let mde = plan.and_then(|plan| plan.mde_of(metric, kind, is_first));
        let treatments = last.comparisons.iter().map(|comparison| {
            let treatment = comparison.treatment.as_str();
            let looks = points.iter().filter_map(|(point, looks)| {
                let (_, look) = looks.iter().find(|(other, _)| other == treatment)?;
                Some((point.at.as_str(), *look))
            });
            let (times, looks): (Vec<&str>, Vec<StabilityLook>) = looks.unzip();
            let found = stability(&looks, mde);
            let time = |at: usize| times.get(at).map(|time| (*time).to_owned());
            // Of the last look alone nothing can be said.
            let stable = found.and_then(|found| found.stable_since);
            let stable = stable.filter(|since| since + 1 < looks.len());
            StabilityReport {
                treatment: treatment.to_owned(),
                looks: looks.len(),
                constant_rejected: found.map(|found| found.is_constant_rejected()),
                intersection: found.and_then(|found| found.intersection).map(ends),
                stable_since: stable.and_then(time),
                mde,
                precise_since: found.and_then(|found| found.precise_since).and_then(time),
            }
        });
        treatments.collect()
    }
}

fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}
