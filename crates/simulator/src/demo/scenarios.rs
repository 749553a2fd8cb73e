//! Defines the six experiments of the demo: their definitions, stories and rates.
//!
//! Planned sample sizes follow from baseline, minimum effect, a level of 5 %
//! and the power, by the usual formula for two proportions.

use serde_json::{Value as Json, json};
use trialog_model::experiment::{Definition, Status};
use trialog_model::metric::MetricRef;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::time::UnixMicros;

use super::Scenario;
use super::behaviour::{Amounts, ByPlatform, DAY, HOUR, Habit, Loss, Luck, Model, Platform};
use super::truth::statements;

/// Whatever counts happens within this time of exposure.
const LAST_ACT: i64 = 6 * HOUR;

const MOBILE: &[Platform] = &[Platform::Ios, Platform::Android];

const NONE: ByPlatform = [0.0; 3];

/// Baskets of a shop: a price and up to 9.99 for shipping and extras.
const BASKETS: Amounts = Amounts {
    levels: &[
        (99_000, 30),
        (195_000, 25),
        (249_000, 15),
        (349_000, 15),
        (590_000, 10),
        (1_290_000, 5),
    ],
    step_units: 100,
    n_steps: 999,
};

/// Yearly plans, paid in a foreign currency: four decimals.
const PLANS: Amounts = Amounts {
    levels: &[(350_000, 3), (790_000, 2)],
    step_units: 1,
    n_steps: 9_999,
};

pub(super) fn all(now: UnixMicros) -> Vec<Scenario> {
    vec![
        checkout(now),
        same(now),
        ranking(now),
        redirect(now),
        streaks(now),
        trial(now),
    ]
}

/// What sets one scenario apart.
struct Story {
    title: &'static str,
    lesson: &'static str,
    definition: Json,
    schedule: Schedule,
    n_users: usize,
    platforms: &'static [Platform],
    habits: Vec<Habit>,
    loss: Option<Loss>,
}

/// When users were exposed, counted from `now`.
enum Schedule {
    /// For so many days up to now.
    Running { n_days: usize },
    /// For so many days, from so many days ago.
    Stopped { days_ago: usize, n_days: usize },
}

impl Story {
    fn tell(self, now: UnixMicros) -> Scenario {
        let (days_ago, n_days, status) = match self.schedule {
            Schedule::Running { n_days } => (n_days, n_days, Status::Running),
            Schedule::Stopped { days_ago, n_days } => (days_ago, n_days, Status::Stopped),
        };
        let start = now.0 - LAST_ACT - days_ago as i64 * DAY;
        let started_at = UnixMicros(start - start.rem_euclid(HOUR));
        let model = Model {
            n_users: self.n_users,
            started_at,
            n_days,
            until: UnixMicros(started_at.0 + days_ago as i64 * DAY + LAST_ACT),
            platforms: self.platforms,
            habits: self.habits,
            loss: self.loss,
        };
        let stopped_at = (status == Status::Stopped).then(|| model.ended_at());
        let mut definition: Definition =
            serde_json::from_value(self.definition).expect("the definitions below are well-formed");
        definition.start_at = Some(started_at);
        definition.end_at = stopped_at;
        Scenario {
            title: self.title.to_owned(),
            lesson: self.lesson.to_owned(),
            status,
            started_at,
            stopped_at,
            truth: statements(&definition, &model),
            guardrails: guardrails(&definition),
            definition,
            model,
        }
    }
}

/// Definitions of the guardrails that `definition` names: less of each is better.
fn guardrails(definition: &Definition) -> Vec<MetricDefinition> {
    let decrease = |metric: &MetricRef| {
        let name = metric.name.as_str();
        let fields = json!({
            "name": name, "kind": "conversion", "event_type": name, "direction": "decrease",
            "owner": definition.owner,
        });
        MetricDefinition::from_json(fields).expect("the guardrails below have short names")
    };
    definition.metrics.guardrail.iter().map(decrease).collect()
}

/// A habit that all arms share, without a value and done once.
fn habit(event_type: &'static str, luck: Luck, rate: ByPlatform, n_treatments: usize) -> Habit {
    Habit {
        event_type,
        luck,
        rate,
        lifts: vec![NONE; n_treatments],
        fades_over_days: None,
        again: 0.0,
        amounts: None,
    }
}

fn checkout(now: UnixMicros) -> Scenario {
    let story = Story {
        title: "a one-page checkout sells more",
        lesson: "A real lift on conversion and revenue, all of it from people who had already \
                 reached the checkout: strong on iOS, weak on the web, none on Android.",
        definition: json!({
            "experiment_id": "checkout_one_page",
            "hypothesis": "One page instead of three steps loses fewer people on the way to paying, \
                           so more of them buy.",
            "owner": "payments",
            "control": "three_steps",
            "variants": [{"variant": "three_steps", "weight": 0.5}, {"variant": "one_page", "weight": 0.5}],
            "surfaces": ["cart", "checkout"],
            "plan": {"sample_size_per_variant": 14_750, "baseline": 0.1, "mde": 0.01, "power": 0.8},
            "metrics": {
                "primary": ["purchase"],
                "secondary": ["add_to_cart:conversion", "checkout_start:conversion"],
                "guardrail": ["refund:conversion"],
            },
        }),
        schedule: Schedule::Running { n_days: 28 },
        n_users: 40_000,
        platforms: &Platform::ALL,
        habits: vec![
            habit("add_to_cart", Luck::Funnel, [0.34, 0.26, 0.30], 1),
            habit("checkout_start", Luck::Funnel, [0.20, 0.15, 0.18], 1),
            Habit {
                lifts: vec![[0.036, 0.0, 0.0105]],
                again: 0.06,
                amounts: Some(BASKETS),
                ..habit("purchase", Luck::Funnel, [0.12, 0.08, 0.10], 1)
            },
            habit("refund", Luck::Own, [0.006, 0.006, 0.006], 1),
        ],
        loss: None,
    };
    story.tell(now)
}

fn same(now: UnixMicros) -> Scenario {
    let story = Story {
        title: "an A/A test: both variants are the same page",
        lesson: "Nothing differs: whatever difference is shown is noise, and one test in twenty \
                 would call it significant.",
        definition: json!({
            "experiment_id": "homepage_aa",
            "hypothesis": "None: this run checks that assignment, logging and analysis find no \
                           difference where there is none.",
            "owner": "experimentation",
            "control": "home",
            "variants": [{"variant": "home", "weight": 0.5}, {"variant": "home_again", "weight": 0.5}],
            "surfaces": ["home"],
            "plan": {"sample_size_per_variant": 6_510, "baseline": 0.2, "mde": 0.02, "power": 0.8},
            "metrics": {"primary": ["signup:conversion"], "secondary": ["page_view:count"]},
        }),
        schedule: Schedule::Stopped {
            days_ago: 27,
            n_days: 21,
        },
        n_users: 16_000,
        platforms: &Platform::ALL,
        habits: vec![
            Habit {
                again: 0.6,
                ..habit("page_view", Luck::Own, [0.62, 0.62, 0.62], 1)
            },
            habit("signup", Luck::Own, [0.23, 0.17, 0.20], 1),
        ],
        loss: None,
    };
    story.tell(now)
}

fn ranking(now: UnixMicros) -> Scenario {
    let story = Story {
        title: "three ways to rank search results",
        lesson: "One treatment helps and the other does harm: each is compared with the control, \
                 and p-values are adjusted because there are two.",
        definition: json!({
            "experiment_id": "search_ranking",
            "hypothesis": "Ranking by meaning instead of by words puts what people look for on \
                           the first page; ranking by popularity does so at a fraction of the cost.",
            "owner": "search",
            "control": "words",
            "variants": [
                {"variant": "words", "weight": 1.0},
                {"variant": "meaning", "weight": 1.0},
                {"variant": "popularity", "weight": 1.0},
            ],
            "surfaces": ["search"],
            "plan": {"sample_size_per_variant": 4_560, "baseline": 0.3, "mde": 0.03, "power": 0.8},
            "metrics": {
                "primary": ["result_click:conversion"],
                "secondary": ["result_click:count", "purchase:sum"],
                "guardrail": ["search_abandon:conversion"],
            },
        }),
        schedule: Schedule::Running { n_days: 24 },
        n_users: 24_000,
        platforms: &Platform::ALL,
        habits: vec![
            Habit {
                lifts: vec![[0.04; 3], [-0.035; 3]],
                again: 0.4,
                ..habit("result_click", Luck::Funnel, [0.28, 0.30, 0.315], 2)
            },
            Habit {
                lifts: vec![[0.008; 3], NONE],
                amounts: Some(BASKETS),
                ..habit("purchase", Luck::Funnel, [0.05, 0.05, 0.05], 2)
            },
            Habit {
                lifts: vec![[-0.01; 3], [0.045; 3]],
                ..habit("search_abandon", Luck::Own, [0.14, 0.14, 0.14], 2)
            },
        ],
        loss: None,
    };
    story.tell(now)
}

fn redirect(now: UnixMicros) -> Scenario {
    let story = Story {
        title: "a landing page whose redirect loses users",
        lesson: "The new page has no effect. On Android the redirect to it is so slow that many \
                 leave before the assignment is logged; as Android users sign up less, losing them \
                 looks like a gain. The sample ratio check gives it away: do not trust the result.",
        definition: json!({
            "experiment_id": "landing_redirect",
            "hypothesis": "A landing page on its own domain loads from the nearest edge, so more \
                           visitors sign up.",
            "owner": "growth",
            "control": "current",
            "variants": [{"variant": "current", "weight": 0.5}, {"variant": "edge", "weight": 0.5}],
            "surfaces": ["landing"],
            "plan": {"sample_size_per_variant": 13_650, "baseline": 0.09, "mde": 0.01, "power": 0.8},
            "metrics": {"primary": ["signup:conversion"], "secondary": ["page_view:count"]},
        }),
        schedule: Schedule::Running { n_days: 22 },
        n_users: 30_000,
        platforms: &Platform::ALL,
        habits: vec![
            habit("page_view", Luck::Funnel, [0.28, 0.18, 0.26], 1),
            habit("signup", Luck::Funnel, [0.12, 0.04, 0.11], 1),
        ],
        // 30 % of 30 %: nine in a hundred users of one arm.
        loss: Some(Loss {
            arm_idx: 1,
            platform: Platform::Android,
            share: 0.3,
        }),
    };
    story.tell(now)
}

fn streaks(now: UnixMicros) -> Scenario {
    let story = Story {
        title: "streak badges: new, then ordinary",
        lesson: "People exposed in the first days take to the badge, later ones do not. The average \
                 over the run is positive and will not last: look at it by date of exposure.",
        definition: json!({
            "experiment_id": "streak_badges",
            "hypothesis": "A badge for days in a row makes learners finish a lesson today.",
            "owner": "learning",
            "control": "no_badge",
            "variants": [{"variant": "no_badge", "weight": 0.5}, {"variant": "badge", "weight": 0.5}],
            "allocation": 0.8,
            "targeting": [{"key": "platform", "op": "in", "value": ["ios", "android"]}],
            "surfaces": ["lesson", "profile"],
            "plan": {"sample_size_per_variant": 7_550, "baseline": 0.25, "mde": 0.02, "power": 0.8},
            "metrics": {
                "primary": ["lesson_complete:conversion"],
                "secondary": ["lesson_complete:count"],
                "guardrail": ["app_uninstall:conversion"],
            },
        }),
        schedule: Schedule::Running { n_days: 28 },
        n_users: 24_000,
        platforms: MOBILE,
        habits: vec![
            Habit {
                lifts: vec![[0.16; 3]],
                fades_over_days: Some(6.0),
                again: 0.3,
                ..habit("lesson_complete", Luck::Funnel, [0.27, 0.23, 0.0], 1)
            },
            habit("app_uninstall", Luck::Own, [0.02, 0.02, 0.0], 1),
        ],
        loss: None,
    };
    story.tell(now)
}

fn trial(now: UnixMicros) -> Scenario {
    let story = Story {
        title: "a longer free trial, stopped after five days",
        lesson: "Stopped with one user in sixteen of the plan. The interval is far wider than the \
                 effect that was worth finding: what is found now is likely too large, and finding \
                 nothing says little.",
        definition: json!({
            "experiment_id": "trial_length",
            "hypothesis": "Thirty days of trial instead of fourteen let people depend on the \
                           product before they pay, so more of them subscribe.",
            "owner": "pricing",
            "control": "trial_14d",
            "variants": [{"variant": "trial_14d", "weight": 0.5}, {"variant": "trial_30d", "weight": 0.5}],
            "surfaces": ["pricing", "signup"],
            "plan": {"sample_size_per_variant": 48_400, "baseline": 0.05, "mde": 0.004, "power": 0.8},
            "metrics": {
                "primary": ["subscribe"],
                "secondary": ["trial_start:conversion"],
                "guardrail": ["support_ticket:conversion"],
            },
        }),
        schedule: Schedule::Stopped {
            days_ago: 21,
            n_days: 5,
        },
        n_users: 6_000,
        platforms: &Platform::ALL,
        habits: vec![
            Habit {
                lifts: vec![[0.01; 3]],
                ..habit("trial_start", Luck::Funnel, [0.22; 3], 1)
            },
            Habit {
                lifts: vec![[0.002; 3]],
                amounts: Some(PLANS),
                ..habit("subscribe", Luck::Funnel, [0.06, 0.04, 0.05], 1)
            },
            habit("support_ticket", Luck::Own, [0.015; 3], 1),
        ],
        loss: None,
    };
    story.tell(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_788_000_123_456_789);

    #[test]
    fn definitions_are_accepted_and_name_their_first_variant_as_control() {
        for scenario in all(NOW) {
            let definition = &scenario.definition;
            definition.check().unwrap();
            assert_eq!(definition.control(), Some(&definition.variants[0].variant));
            assert_eq!(
                scenario.stopped_at.is_some(),
                scenario.status == Status::Stopped
            );
        }
    }

    #[test]
    fn rates_are_probabilities_and_funnels_narrow() {
        for scenario in all(NOW) {
            for arm_idx in 0..scenario.definition.variants.len() {
                for &platform in scenario.model.platforms {
                    let mut wider = 1.0;
                    for habit in &scenario.model.habits {
                        let rate = habit.rate(arm_idx, platform, 0);
                        assert!((0.0..=1.0).contains(&rate), "{}", habit.event_type);
                        if habit.luck == Luck::Funnel {
                            assert!(rate <= wider, "{} of {}", habit.event_type, scenario.title);
                            wider = rate;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn effects_are_those_of_the_stories() {
        let scenarios = all(NOW);
        let primary = |scenario_idx: usize| &scenarios[scenario_idx].truth[0];
        assert!((primary(0).control - 0.1).abs() < 1e-12);
        assert!((primary(0).difference - 0.015).abs() < 1e-12);
        assert!(
            scenarios[1]
                .truth
                .iter()
                .all(|said| said.difference.abs() < 1e-12)
        );
        assert!(primary(3).difference.abs() < 1e-12 && primary(3).expected > 0.004);
        let [run, first, last] = [0, 1, 2].map(|idx| scenarios[4].truth[idx].difference);
        assert!(
            first > 2.0 * run && last < run / 5.0,
            "{run} {first} {last}"
        );
    }
}
