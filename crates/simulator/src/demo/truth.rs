//! Computes the true effects of a scenario from the rates of its model.

use std::ops::Range;

use trialog_model::experiment::Definition;
use trialog_model::metric::MetricKind;
use trialog_model::time::UnixMicros;

use super::behaviour::{Among, DAY, Habit, Model, Part, Platform};
use super::{Segment, Statement};

/// Days in the first and the last cohort of a fading effect.
const COHORT_DAYS: usize = 7;

/// Returns the true effect on every metric that `definition` names.
///
/// Statements on all users come first for each metric and treatment. Platforms
/// follow where the effect, or the arrival of users, depends on them, then the
/// first and the last week where the effect fades.
pub(super) fn statements(definition: &Definition, model: &Model) -> Vec<Statement> {
    let mut statements = Vec::new();
    for (metric, _) in definition.metrics.iter() {
        let name = metric.name.as_str();
        let Some(habit) = model.habits.iter().find(|habit| habit.event_type == name) else {
            debug_assert!(false, "nobody has the habit `{name}`");
            continue;
        };
        for &kind in metric.kinds() {
            for (arm_idx, arm) in definition.variants.iter().enumerate().skip(1) {
                let say = |part: Part<'_>, segment, exposed, note| {
                    let effect = Effect::on(model, habit, kind, arm_idx, &part);
                    Statement {
                        metric: metric.name.clone().into(),
                        kind,
                        treatment: arm.variant.clone(),
                        segment,
                        exposed,
                        control: effect.control,
                        difference: effect.difference,
                        expected: effect.expected,
                        note,
                    }
                };
                statements.push(say(model.whole(), None, None, overall_note(model, habit)));
                if depends_on_platform(model, habit, arm_idx) {
                    for &platform in model.platforms {
                        let part = Part {
                            platforms: &[platform],
                            ..model.whole()
                        };
                        let note = format!("{} users only", platform.as_str());
                        statements.push(say(part, Some(segment(platform)), None, note));
                    }
                }
                if habit.fades_over_days.is_some() {
                    for (days, word) in [
                        (0..COHORT_DAYS, "first"),
                        (model.n_days - COHORT_DAYS..model.n_days, "last"),
                    ] {
                        let exposed = Some(times(model, &days));
                        let part = Part {
                            days,
                            ..model.whole()
                        };
                        let note = format!("exposed in the {word} {COHORT_DAYS} days");
                        statements.push(say(part, None, exposed, note));
                    }
                }
            }
        }
    }
    statements
}

struct Effect {
    control: f64,
    difference: f64,
    expected: f64,
}

impl Effect {
    fn on(model: &Model, habit: &Habit, kind: MetricKind, arm_idx: usize, part: &Part<'_>) -> Self {
        let mean = |arm_idx, among| model.mean(habit, kind, arm_idx, part, among);
        let control = mean(0, Among::Assigned);
        Self {
            control,
            difference: mean(arm_idx, Among::Assigned) - control,
            expected: mean(arm_idx, Among::Arrived) - mean(0, Among::Arrived),
        }
    }
}

fn depends_on_platform(model: &Model, habit: &Habit, arm_idx: usize) -> bool {
    let lifts = &habit.lifts[arm_idx - 1];
    let first = lifts[model.platforms[0] as usize];
    let is_uneven = model
        .platforms
        .iter()
        .any(|&platform| (lifts[platform as usize] - first).abs() > 1e-12);
    is_uneven || model.loss.is_some()
}

fn overall_note(model: &Model, habit: &Habit) -> String {
    match (model.loss, habit.fades_over_days) {
        (Some(loss), _) => format!(
            "true among all assigned; {:.0} % of the treatment's {} users were lost, which alone \
             moves what can be measured",
            loss.share * 100.0,
            loss.platform.as_str()
        ),
        (None, Some(days)) => {
            format!("average over the run; the lift fades to 1/e within {days} days of launch")
        }
        (None, None) => "all users".to_owned(),
    }
}

fn segment(platform: Platform) -> Segment {
    Segment {
        key: "platform".to_owned(),
        value: platform.as_str().to_owned(),
    }
}

fn times(model: &Model, days: &Range<usize>) -> (UnixMicros, UnixMicros) {
    let at = |day_idx: usize| UnixMicros(model.started_at.0 + day_idx as i64 * DAY);
    (at(days.start), at(days.end))
}
