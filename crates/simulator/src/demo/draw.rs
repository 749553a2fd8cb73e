//! Draws the events of a scenario.
//!
//! Assignment follows the product's own rules (enrolment and variant by
//! bucket), so that `trialog assign` agrees with the demo's events.

use fastrand::Rng;
use trialog_model::bucket::{N_BUCKETS, bucket};
use trialog_model::experiment::Definition;
use trialog_model::ids::EventType;
use trialog_model::time::UnixMicros;
use trialog_model::user_id::event_fingerprint;

use super::behaviour::{DAY, HOUR, Habit, Luck, Model, Platform};
use super::wire::{AssignmentEvent, Context, Events, MetricEvent};
use crate::mix::{mix, share_of};

const MINUTE: i64 = HOUR / 60;
const SECOND: i64 = MINUTE / 60;

/// People whom the experiments share: one in each stretch of user ids from here
/// on. Which one is up to the seed, so that no split is unlucky for every seed.
const FIRST_USER: i64 = 4_000_000;
const STRETCH: u64 = 50;
const N_PEOPLE: i64 = 80_000;
const FIRST_TESTER: i64 = 100;
const N_TESTERS: i64 = 4;

const SHARE_CROSSED: f64 = 0.003;
const SHARE_SEEN_AGAIN: f64 = 0.02;
const SHARE_ACTS_BEFORE: f64 = 0.03;
const SHARE_ACTS_AFTER: f64 = 0.03;
const SHARE_REDELIVERED: f64 = 0.01;
const SHARE_LATE: f64 = 0.015;

/// Later than any attribution window that the demo uses.
const AFTER_WINDOW: i64 = 8 * DAY;

/// How busy each hour of a day of exposure is, relative to the busiest. Days begin with
/// the experiment, at any full hour.
const BUSY: [f64; 24] = [
    0.35, 0.25, 0.2, 0.2, 0.25, 0.35, 0.5, 0.6, 0.65, 0.7, 0.7, 0.75, 0.8, 0.8, 0.75, 0.8, 0.85,
    0.95, 1.0, 1.0, 0.95, 0.85, 0.7, 0.5,
];

const GEOS: [(&str, u32); 6] = [
    ("US", 34),
    ("DE", 16),
    ("GB", 14),
    ("BR", 14),
    ("IN", 14),
    ("JP", 8),
];

pub(super) fn events(definition: &Definition, model: &Model, seed: u64) -> Events {
    let id = definition.experiment_id.as_str();
    let rng = Rng::with_seed(mix(seed ^ event_fingerprint(id)));
    let split = Split::from_definition(definition);
    let mut drawer = Drawer {
        definition,
        model,
        rng,
        assignments: Vec::new(),
        metrics: Vec::new(),
    };
    let mut people: Vec<i64> = (0..N_PEOPLE).map(|number| person(number, seed)).collect();
    drawer.rng.shuffle(&mut people);
    let mut n_left = model.n_users;
    for user_id in people {
        let platform = Platform::from_draw(mix(seed ^ mix(user_id as u64)));
        if n_left == 0 || !model.platforms.contains(&platform) {
            continue;
        }
        if let Some(arm_idx) = split.arm_of(user_id) {
            drawer.user(user_id, arm_idx, platform);
            n_left -= 1;
        }
    }
    debug_assert_eq!(n_left, 0, "`{id}` has fewer than {} users", model.n_users);
    drawer.testers();
    Events {
        assignments: in_order_of_delivery(drawer.assignments),
        metrics: in_order_of_delivery(drawer.metrics),
    }
}

/// The user id of a person, the same in every scenario of a seed.
fn person(number: i64, seed: u64) -> i64 {
    let into_stretch = share_of(STRETCH, mix(seed ^ mix(number as u64)));
    FIRST_USER + number * STRETCH as i64 + into_stretch as i64
}

/// Who is enrolled, and in which arm.
struct Split {
    enrol_salt: String,
    variant_salt: String,
    enrolled_below: u16,
    /// The first bucket beyond each arm.
    limits: Vec<u16>,
}

impl Split {
    fn from_definition(definition: &Definition) -> Self {
        let salt = definition
            .salt
            .as_deref()
            .unwrap_or(definition.experiment_id.as_str());
        let buckets = |share: f64| (share * f64::from(N_BUCKETS)).round() as u16;
        let total: f64 = definition.variants.iter().map(|arm| arm.weight).sum();
        let mut cumulative = 0.0;
        let limits = definition.variants.iter().map(|arm| {
            cumulative += arm.weight;
            buckets(cumulative / total)
        });
        Self {
            enrol_salt: format!("enrol:{salt}"),
            variant_salt: format!("variant:{salt}"),
            enrolled_below: buckets(definition.allocation),
            limits: limits.collect(),
        }
    }

    fn arm_of(&self, user_id: i64) -> Option<usize> {
        let unit = user_id.to_string();
        if bucket(&unit, &self.enrol_salt) >= self.enrolled_below {
            return None;
        }
        let place = bucket(&unit, &self.variant_salt);
        self.limits.iter().position(|&limit| place < limit)
    }
}

struct Delivered<E> {
    at: i64,
    event: E,
}

fn in_order_of_delivery<E>(mut deliveries: Vec<Delivered<E>>) -> Vec<E> {
    deliveries.sort_by_key(|delivery| delivery.at);
    deliveries
        .into_iter()
        .map(|delivery| delivery.event)
        .collect()
}

struct Drawer<'a> {
    definition: &'a Definition,
    model: &'a Model,
    rng: Rng,
    assignments: Vec<Delivered<AssignmentEvent>>,
    metrics: Vec<Delivered<MetricEvent>>,
}

impl Drawer<'_> {
    fn user(&mut self, user_id: i64, arm_idx: usize, platform: Platform) {
        let day_idx = self.day();
        let exposure = self.model.started_at.0 + day_idx as i64 * DAY + self.time_of_day();
        if self.rng.f64() >= self.model.arrival(arm_idx, platform) {
            return;
        }
        let place = Place::draw(&mut self.rng, platform);
        self.assign(user_id, arm_idx, exposure, &place);
        if self.happens(SHARE_SEEN_AGAIN) {
            let at = self.between(exposure, self.model.ended_at().0);
            self.assign(user_id, arm_idx, at, &place);
        }
        if self.happens(SHARE_CROSSED) {
            let other_idx = (arm_idx + 1) % self.definition.variants.len();
            let at = self.between(exposure, self.model.ended_at().0);
            self.assign(user_id, other_idx, at, &place);
        }
        self.acts(user_id, exposure, |habit| {
            habit.rate(arm_idx, platform, day_idx)
        });
        self.acts_outside_the_window(user_id, exposure);
    }

    /// What the user does because of what was seen, all within six hours.
    fn acts(&mut self, user_id: i64, exposure: i64, rate: impl Fn(&Habit) -> f64) {
        let model = self.model;
        let shared_luck = self.rng.f64();
        let mut step_at = exposure;
        for habit in &model.habits {
            let luck = match habit.luck {
                Luck::Funnel => shared_luck,
                Luck::Own => self.rng.f64(),
            };
            if luck >= rate(habit) {
                continue;
            }
            let at = match habit.luck {
                Luck::Funnel => {
                    step_at += self.between(20 * SECOND, 40 * MINUTE);
                    step_at
                }
                Luck::Own => exposure + self.between(5 * SECOND, 3 * HOUR),
            };
            self.act(user_id, habit, at);
            if self.happens(habit.again) {
                let later = at + self.between(MINUTE, 90 * MINUTE);
                self.act(user_id, habit, later);
            }
        }
    }

    fn acts_outside_the_window(&mut self, user_id: i64, exposure: i64) {
        let model = self.model;
        if self.happens(SHARE_ACTS_BEFORE) {
            let habit_idx = self.rng.usize(0..model.habits.len());
            let at = exposure - self.between(HOUR, 3 * DAY);
            self.act(user_id, &model.habits[habit_idx], at);
        }
        if self.happens(SHARE_ACTS_AFTER) {
            let habit_idx = self.rng.usize(0..model.habits.len());
            let at = exposure + AFTER_WINDOW + self.between(0, 3 * DAY);
            if at <= model.until.0 - MINUTE {
                self.act(user_id, &model.habits[habit_idx], at);
            }
        }
    }

    /// Draws testers, who see each variant by hand and try everything in it.
    fn testers(&mut self) {
        let model = self.model;
        for user_id in FIRST_TESTER..FIRST_TESTER + N_TESTERS {
            let arm_idx = user_id as usize % self.definition.variants.len();
            let at = model.started_at.0 + self.between(HOUR, 2 * DAY);
            let place = Place::draw(&mut self.rng, model.platforms[0]);
            let n_before = self.assignments.len();
            self.assign(user_id, arm_idx, at, &place);
            // A redelivered copy is the same event, so it is forced as well.
            for delivery in &mut self.assignments[n_before..] {
                delivery.event.forced = true;
            }
            self.acts(user_id, at, |_| 1.0);
        }
    }

    fn assign(&mut self, user_id: i64, arm_idx: usize, at: i64, place: &Place) {
        let event = AssignmentEvent {
            event_id: self.uuid(),
            user_id,
            experiment_id: self.definition.experiment_id.clone(),
            variant: self.definition.variants[arm_idx].variant.clone(),
            assigned_at: UnixMicros(at),
            forced: false,
            context: place.visit(&mut self.rng),
        };
        let delivery = Delivered {
            at: self.delivery(at),
            event,
        };
        if self.happens(SHARE_REDELIVERED) {
            let again = Delivered {
                at: self.redelivery(delivery.at),
                event: delivery.event.clone(),
            };
            self.assignments.push(again);
        }
        self.assignments.push(delivery);
    }

    fn act(&mut self, user_id: i64, habit: &Habit, at: i64) {
        let event = MetricEvent {
            event_id: self.uuid(),
            user_id,
            experiment_id: self.definition.experiment_id.clone(),
            event_type: EventType::new(habit.event_type).expect("habits have short names"),
            value: habit
                .amounts
                .and_then(|amounts| amounts.draw(&mut self.rng)),
            timestamp: UnixMicros(at),
        };
        let delivery = Delivered {
            at: self.delivery(at),
            event,
        };
        if self.happens(SHARE_REDELIVERED) {
            let again = Delivered {
                at: self.redelivery(delivery.at),
                event: delivery.event.clone(),
            };
            self.metrics.push(again);
        }
        self.metrics.push(delivery);
    }

    fn day(&mut self) -> usize {
        let n_days = self.model.n_days;
        let total: f64 = (0..n_days).map(Model::day_weight).sum();
        let mut left = self.rng.f64() * total;
        for day_idx in 0..n_days {
            left -= Model::day_weight(day_idx);
            if left < 0.0 {
                return day_idx;
            }
        }
        n_days - 1
    }

    /// Microseconds into a day of exposure.
    fn time_of_day(&mut self) -> i64 {
        loop {
            let into_day = self.between(0, DAY);
            if self.rng.f64() < BUSY[(into_day / HOUR) as usize] {
                return into_day;
            }
        }
    }

    /// When an event of time `at` arrives: within seconds, or late.
    fn delivery(&mut self, at: i64) -> i64 {
        let delay = if self.happens(SHARE_LATE) {
            self.between(10 * MINUTE, 36 * HOUR)
        } else {
            self.between(SECOND / 10, 5 * SECOND)
        };
        (at + delay).min(self.model.until.0)
    }

    fn redelivery(&mut self, delivered_at: i64) -> i64 {
        (delivered_at + self.between(SECOND, 2 * HOUR)).min(self.model.until.0)
    }

    fn happens(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        self.rng.i64(from..to)
    }

    fn uuid(&mut self) -> String {
        let version_4 = self.rng.u128(..) & !(0xf << 76) | (0x4 << 76);
        let bits = version_4 & !(0x3 << 62) | (0x2 << 62);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

/// What stays the same from visit to visit.
struct Place {
    platform: Platform,
    geo: &'static str,
    device: &'static str,
}

impl Place {
    fn draw(rng: &mut Rng, platform: Platform) -> Self {
        let is_main_device = rng.f64() < 0.8;
        let device = match (platform, is_main_device) {
            (Platform::Web, true) => "desktop",
            (Platform::Web, false) | (_, true) => "phone",
            (_, false) => "tablet",
        };
        Self {
            platform,
            geo: geo(rng),
            device,
        }
    }

    fn visit(&self, rng: &mut Rng) -> Context {
        Context {
            platform: self.platform.as_str(),
            geo: self.geo,
            device: self.device,
            session_id: format!("{:016x}", rng.u64(..)),
        }
    }
}

fn geo(rng: &mut Rng) -> &'static str {
    let mut left = rng.u32(0..100);
    for (name, percent) in GEOS {
        if left < percent {
            return name;
        }
        left -= percent;
    }
    GEOS[0].0
}
