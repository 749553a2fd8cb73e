//! Builds the report of a funnel: from the users of each step to rates, tests and where a
//! difference arises.

mod times;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::duration::Window;
use trialog_model::experiment::{Definition, MIN_ALPHA};
use trialog_model::funnel::FunnelDefinition;
use trialog_model::ids::EventType;
use trialog_stats::{
    Alpha, Comparison, Estimate, FunnelComparison, FunnelCounts, FunnelStep, Interval, Proportion,
    Sample, StepTimes as Times, compare_funnels, holm,
};

use crate::comparison::{self, Terms};
use crate::{Choices, Filter, Health, Report};

pub use self::times::{ReachedShare, StepTimes, TimeComparison, funnel_times};

/// How far the exposed users of each variant get through ordered steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Funnel {
    /// The experiment.
    pub experiment_id: String,
    /// The types of events of the steps, in order.
    pub steps: Vec<String>,
    /// How long after the exposure events count.
    pub window: Window,
    /// For each step how long after the step before it may come; for the first step, after the
    /// exposure. Null for no limit.
    pub limits: Vec<Option<Window>>,
    /// When the numbers of the experiment were published; null before the first run.
    #[schemars(extend("format" = "date-time"))]
    pub computed_at: Option<String>,
    /// The position in the ingested events up to which the numbers hold.
    pub position: Option<u64>,
    /// The time up to which the numbers hold: later events wait for the next run.
    #[schemars(extend("format" = "date-time"))]
    pub data_time: Option<String>,
    /// The users that the funnel is about; null for all exposed users.
    pub filter: Option<Filter>,
    /// The two-sided level of tests and intervals.
    #[schemars(extend("minimum" = MIN_ALPHA, "exclusiveMaximum" = 1))]
    pub alpha: f64,
    /// The variant that the others are compared with.
    pub control: Option<String>,
    /// Each variant, the control first.
    pub variants: Vec<FunnelVariant>,
    /// Each other variant against the control.
    pub comparisons: Vec<FunnelTreatment>,
    /// Whether the numbers can be trusted: the sample ratio and other warnings about the users.
    pub health: Health,
}

/// The users of a variant at each step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunnelVariant {
    /// The variant.
    pub variant: String,
    /// Exposed users, of this variant alone.
    pub users: u64,
    /// Each step.
    pub steps: Vec<StepUsers>,
}

/// The users of a variant at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepUsers {
    /// The type of event.
    pub event_type: String,
    /// Users who reached the step.
    pub users: u64,
    /// Users who reached the step before, or were exposed, and did not reach this one.
    pub lost: u64,
    /// The share of exposed users who reached the step; null without users.
    pub rate: Option<f64>,
    /// Wilson interval of `rate`.
    pub ci: Option<[f64; 2]>,
    /// The share of those who reached the step before; null if nobody did. These users are not
    /// randomised any more, so no test belongs to it.
    pub from_previous: Option<f64>,
    /// Wilson interval of `from_previous`.
    pub from_previous_ci: Option<[f64; 2]>,
    /// How long these users took; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<StepTimes>,
}

/// A treatment against the control at each step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunnelTreatment {
    /// The treatment.
    pub treatment: String,
    /// Each step; the last one is the test of the funnel. These tests are of this look alone.
    pub steps: Vec<StepComparison>,
    /// The always-valid test of the last step: it holds however often anybody looks.
    pub always_valid: Option<AlwaysValid>,
    /// The shares that reached the last step by preset times; only where it was asked for. These
    /// tests are of this look alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_time: Option<Vec<TimeComparison>>,
}

/// The always-valid test of a treatment against the control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlwaysValid {
    /// The always-valid p-value at this look.
    pub p_value: f64,
    /// The p-value after Holm over the treatments.
    pub adjusted_p_value: f64,
    /// Whether `adjusted_p_value` is below `alpha`.
    pub significant: bool,
    /// The always-valid interval of the difference of the rates.
    pub ci: Option<[f64; 2]>,
    /// The users of both arms together at which the test is sharpest.
    pub tuning: f64,
}

/// A treatment against the control at one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepComparison {
    /// The type of event.
    pub event_type: String,
    /// Difference of the rates among exposed users.
    pub difference: Option<f64>,
    /// Newcombe interval of `difference`.
    pub ci: Option<[f64; 2]>,
    /// The ratio of the rates less 1; null if nobody of the control reached the step.
    pub lift: Option<f64>,
    /// Pooled z-test of the rates among exposed users.
    pub z: Option<f64>,
    /// Two-sided p-value of `z`.
    pub p_value: Option<f64>,
    /// The p-value after Holm over all steps and treatments.
    pub adjusted_p_value: Option<f64>,
    /// Whether `adjusted_p_value` is below `alpha`.
    pub significant: bool,
    /// Natural logarithm of the ratio of the rates; null if nobody reached the step in an arm.
    pub log_ratio: Option<f64>,
    /// Standard error of `log_ratio`.
    pub log_ratio_se: Option<f64>,
    /// The same of `from_previous`: where the difference arises. These add up to the `log_ratio`
    /// of every step. They are descriptive, as their users are not randomised any more.
    pub step_log_ratio: Option<f64>,
    /// Standard error of `step_log_ratio`.
    pub step_log_ratio_se: Option<f64>,
}

impl Funnel {
    /// Builds the report of `funnel` in the experiment with this definition. `report` is that of
    /// the same users without metrics, and `reached` has the users of each variant who reached
    /// each step.
    ///
    /// Counts that rise from a step to the next are left out: no fold gives them.
    pub fn from_report(
        definition: &Definition,
        report: Report,
        funnel: &FunnelDefinition,
        reached: &BTreeMap<String, Vec<u64>>,
    ) -> Self {
        let choices = Choices {
            alpha: Alpha::new(report.alpha).ok(),
            ..Choices::default()
        };
        let terms = Terms::from_definition(definition, report.control.as_deref(), &choices, None);
        let level = terms.alpha;
        let n_steps = funnel.steps.len();
        let counts = report.variants.iter().filter_map(|variant| {
            let nobody = || vec![0; n_steps];
            let users = reached.get(&variant.variant).cloned();
            let counts = FunnelCounts::new(variant.users, users.unwrap_or_else(nobody)).ok()?;
            Some((variant.variant.clone(), counts))
        });
        let mut counts: Vec<(String, FunnelCounts)> = counts.collect();
        let control = report.control.as_deref();
        counts.sort_by_key(|(variant, _)| Some(variant.as_str()) != control);
        let variants = counts.iter().map(|(variant, counts)| FunnelVariant {
            variant: variant.clone(),
            users: counts.users(),
            steps: (funnel.steps.iter().zip(counts.steps()))
                .map(|(event_type, step)| StepUsers::from_step(event_type, &step, level))
                .collect(),
        });
        Self {
            variants: variants.collect(),
            comparisons: compare(&counts, &funnel.steps, &terms),
            experiment_id: report.experiment_id,
            steps: funnel.steps.iter().map(EventType::to_string).collect(),
            window: funnel.window,
            limits: funnel.limits_of_steps(),
            computed_at: report.computed_at,
            position: report.position,
            data_time: report.data_time,
            filter: report.filter,
            alpha: report.alpha,
            control: report.control,
            health: report.health,
        }
    }

    /// Adds how long the users of each variant took to each step.
    #[must_use]
    pub fn with_times(mut self, times: &BTreeMap<String, Vec<Times>>) -> Self {
        let alpha = Alpha::new(self.alpha).unwrap_or(Alpha::P05);
        let window = self.window;
        for variant in &mut self.variants {
            let of_variant = times.get(&variant.variant).into_iter().flatten();
            for (step, times) in variant.steps.iter_mut().zip(of_variant) {
                step.times = Some(StepTimes::from_times(times, window, alpha));
            }
        }
        let last = |variant: &str| times.get(variant).and_then(|steps| steps.last());
        let control = self.control.as_deref().and_then(last);
        for treatment in &mut self.comparisons {
            let arms = control.zip(last(&treatment.treatment));
            treatment.by_time =
                arms.map(|(control, arm)| times::compare(control, arm, window, alpha));
        }
        let by_time = self.comparisons.iter_mut().map(|arm| &mut arm.by_time);
        times::adjust(by_time.flatten().flatten(), alpha);
        self
    }
}

/// Compares every variant with the first one, the control.
fn compare(
    counts: &[(String, FunnelCounts)],
    types: &[EventType],
    terms: &Terms<'_>,
) -> Vec<FunnelTreatment> {
    let Some(((_, control), treatments)) = counts.split_first() else {
        return Vec::new();
    };
    let arms: Vec<FunnelCounts> = treatments
        .iter()
        .map(|(_, counts)| counts.clone())
        .collect();
    let compared = compare_funnels(control, &arms).unwrap_or_default();
    let treatments = treatments.iter().zip(compared);
    let treatments = treatments.map(|((treatment, _), steps)| FunnelTreatment {
        treatment: treatment.clone(),
        by_time: None,
        always_valid: steps.last().and_then(|step| always_valid(step, terms)),
        steps: (types.iter().zip(&steps))
            .map(|(event_type, step)| StepComparison::from_step(event_type, step, terms.alpha))
            .collect(),
    });
    let mut treatments: Vec<FunnelTreatment> = treatments.collect();
    adjust(&mut treatments, terms.alpha);
    treatments
}

/// Tests the rates of a step; the p-value is not adjusted yet.
fn always_valid(step: &FunnelComparison, terms: &Terms<'_>) -> Option<AlwaysValid> {
    let rates = step.test.as_ref()?;
    let test = Comparison::between(&Sample::Rate(rates.a), &Sample::Rate(rates.b)).ok()?;
    let look = comparison::always_valid(&test, terms)?;
    Some(AlwaysValid {
        p_value: look.p_value?,
        adjusted_p_value: 1.0,
        significant: false,
        ci: look.interval(terms.alpha).map(ends),
        tuning: terms.tuning().0,
    })
}

/// Adjusts the always-valid p-values of all treatments (Holm 1979).
fn adjust(treatments: &mut [FunnelTreatment], level: Alpha) {
    let tests = (treatments.iter()).filter_map(|treatment| treatment.always_valid.as_ref());
    let p_values: Vec<f64> = tests.map(|test| test.p_value).collect();
    let adjusted = holm(&p_values).unwrap_or_default();
    let tests = (treatments.iter_mut()).filter_map(|treatment| treatment.always_valid.as_mut());
    for (test, p_value) in tests.zip(adjusted) {
        test.adjusted_p_value = p_value;
        test.significant = p_value < level.get();
    }
}

fn ends(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

impl StepUsers {
    fn from_step(event_type: &EventType, step: &FunnelStep, level: Alpha) -> Self {
        let rate = |share: Option<Proportion>| share.map(|share| share.rate());
        let ci = |share: Option<Proportion>| share.map(|share| ends(share.wilson(level)));
        Self {
            event_type: event_type.to_string(),
            users: step.users,
            lost: step.lost,
            rate: rate(step.of_exposed),
            ci: ci(step.of_exposed),
            from_previous: rate(step.of_previous),
            from_previous_ci: ci(step.of_previous),
            times: None,
        }
    }
}

impl StepComparison {
    fn from_step(event_type: &EventType, step: &FunnelComparison, level: Alpha) -> Self {
        let test = step.test.as_ref();
        let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
        let error = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.variance.sqrt());
        Self {
            event_type: event_type.to_string(),
            difference: test.map(|test| test.difference),
            ci: test.map(|test| ends(test.newcombe(level))),
            lift: test
                .filter(|test| test.a.conversions() > 0)
                .map(|test| test.difference / test.a.rate()),
            z: test.and_then(|test| test.z),
            p_value: test.and_then(|test| test.p_value),
            adjusted_p_value: step.adjusted_p_value,
            significant: (step.adjusted_p_value).is_some_and(|p_value| p_value < level.get()),
            log_ratio: value(step.log_ratio),
            log_ratio_se: error(step.log_ratio),
            step_log_ratio: value(step.step_log_ratio),
            step_log_ratio_se: error(step.step_log_ratio),
        }
    }
}
