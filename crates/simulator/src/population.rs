//! Simulates a large population for measurements: experiments of very different size.
//!
//! Nothing is stored: every user's assignment and events are drawn again
//! from the user's number, so the events of any slice of time can be had
//! with the memory of that slice. Slices follow one another in time, as
//! events arrive, so every slice holds events of nearly all experiments.

use crate::mix::{mix, share_of, unit_interval};

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// Users' events spread over this long after their assignment.
const ACTIVE: i64 = 14 * DAY;

/// The size of a population.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Seeds everything.
    pub seed: u64,
    /// Experiments.
    pub n_experiments: u32,
    /// Users, each assigned in one experiment.
    pub n_assignments: u64,
    /// Metric events, before duplicates, to within 1 %.
    pub n_metrics: u64,
    /// When the first users are assigned, in microseconds since 1970.
    pub start: i64,
    /// Over how many days users are assigned.
    pub days: u32,
}

/// A compact assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The experiment's number.
    pub experiment: u32,
    /// The user.
    pub user: i64,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// The variant's number.
    pub variant: u8,
    /// Put into the variant by hand, to test it.
    pub forced: bool,
    /// The event id.
    pub event_id: u64,
}

/// A compact metric event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The experiment's number.
    pub experiment: u32,
    /// The user.
    pub user: i64,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// The number of the event type.
    pub event_type: u8,
    /// The value in 1/10,000.
    pub value: i64,
    /// The event id.
    pub event_id: u64,
}

/// The distribution of a refresh's events over experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// In ten experiments, drawn evenly by size.
    TenExperiments,
    /// In all experiments, in proportion to their size.
    All,
}

/// One user in this number is a tester, whose assignments are forced.
const TESTERS_ONE_IN: u64 = 2_000;

/// The event types, the frequent ones first.
pub const EVENT_TYPES: [&str; 10] = [
    "page_view",
    "click",
    "search",
    "scroll_end",
    "add_to_cart",
    "session_start",
    "wishlist_add",
    "share",
    "purchase",
    "refund",
];
/// Event types from this one on have values with cents.
const FIRST_PRICED: u8 = 8;

/// The names of variants, by number.
pub const VARIANTS: [&str; 3] = ["control", "treatment", "treatment_b"];

const PLATFORMS: [&str; 4] = ["ios", "android", "web", "tv"];
const COUNTRIES: [&str; 8] = ["de", "us", "fr", "br", "in", "jp", "gb", "ng"];

/// A population whose events can be drawn slice by slice.
#[derive(Debug, Clone)]
pub struct Population {
    spec: Spec,
    /// The number of users of all experiments before each, and of all.
    first_users: Vec<u64>,
}

impl Population {
    /// Creates the population of `spec`. Sizes follow a power law: the largest of 1,000
    /// experiments has about a tenth of all users.
    pub fn new(spec: Spec) -> Self {
        let shares: Vec<f64> = (0..spec.n_experiments)
            .map(|rank| 1.0 / (f64::from(rank) + 1.5).powf(0.95))
            .collect();
        let total: f64 = shares.iter().sum();
        let mut first_users = vec![0];
        let mut sum = 0.0;
        for share in shares {
            sum += share;
            first_users.push((sum / total * spec.n_assignments as f64).round() as u64);
        }
        Self { spec, first_users }
    }

    /// Returns the id of an experiment: `exp_0000` is the largest.
    pub fn experiment_id(experiment: u32) -> String {
        format!("exp_{experiment:04}")
    }

    /// Returns the context of a user's assignment.
    pub fn context(assignment: &Assignment) -> String {
        let draw = mix(assignment.user.cast_unsigned() ^ 0x00c0_ffee);
        let platform = PLATFORMS[(draw & 3) as usize];
        let country = COUNTRIES[(draw >> 2 & 7) as usize];
        format!(
            r#"{{"platform":"{platform}","geo":"{country}","session_id":"s{:08x}"}}"#,
            draw >> 32
        )
    }

    /// Returns the number of slices of time.
    pub fn n_slices(&self) -> u32 {
        let span = i64::from(self.spec.days) * DAY + ACTIVE + DAY;
        let per_slice = 1_000_000 * span / (self.spec.n_metrics.max(1).cast_signed());
        u32::try_from(span / per_slice.clamp(HOUR, 7 * DAY) + 1).unwrap_or(u32::MAX)
    }

    /// The span of slice number `slice`.
    fn span(&self, slice: u32) -> std::ops::Range<i64> {
        let begin = self.spec.start - DAY;
        let span = i64::from(self.spec.days) * DAY + ACTIVE + 2 * DAY;
        let n_slices = i64::from(self.n_slices());
        let cut = |slice: i64| begin + span / n_slices * slice;
        let end = if i64::from(slice) + 1 == n_slices {
            i64::MAX
        } else {
            cut(i64::from(slice) + 1)
        };
        cut(i64::from(slice))..end
    }

    fn users(&self) -> impl Iterator<Item = User> + '_ {
        (0..self.spec.n_experiments).flat_map(move |experiment| {
            let bounds =
                self.first_users[experiment as usize]..self.first_users[experiment as usize + 1];
            bounds.map(move |number| self.user(experiment, number))
        })
    }

    fn user(&self, experiment: u32, number: u64) -> User {
        let draw = mix(self.spec.seed ^ mix(number));
        let span = u64::from(self.spec.days) * DAY.unsigned_abs();
        User {
            experiment,
            id: mix(number ^ 0x5eed).cast_signed(),
            assigned_at: self.spec.start + share_of(span, mix(draw ^ 1)).cast_signed(),
            variant: (share_of(if experiment % 10 == 7 { 3 } else { 2 }, mix(draw ^ 2))) as u8,
            draw,
        }
    }

    /// Returns the assignments of a slice in order of time. One user in a hundred is assigned
    /// again, one in two hundred to another variant; one in two thousand is a tester.
    pub fn assignments(&self, slice: u32) -> Vec<Assignment> {
        let span = self.span(slice);
        let mut assignments = Vec::new();
        for user in self.users() {
            let first = user.assignment(user.assigned_at, user.variant, 3);
            let second_at = user.assigned_at
                + share_of(ACTIVE.unsigned_abs(), mix(user.draw ^ 5)).cast_signed();
            let again = match share_of(1_000, mix(user.draw ^ 4)) {
                0..10 => Some(user.assignment(second_at, user.variant, 6)),
                10..15 => Some(user.assignment(second_at, (user.variant + 1) % 2, 6)),
                _ => None,
            };
            assignments.extend(
                [Some(first), again]
                    .into_iter()
                    .flatten()
                    .filter(|assignment| span.contains(&assignment.at)),
            );
        }
        assignments.sort_unstable_by_key(|assignment| (assignment.at, assignment.user));
        assignments
    }

    /// Returns the metric events of a slice in order of time. One in a hundred is delivered a
    /// second time, up to a day later.
    pub fn metrics(&self, slice: u32) -> Vec<Metric> {
        let span = self.span(slice);
        let mut metrics = Vec::new();
        let per_user = self.spec.n_metrics as f64 / self.spec.n_assignments.max(1) as f64;
        for user in self.users() {
            // No event of this user can fall into the slice.
            if user.assigned_at - DAY >= span.end || user.assigned_at + ACTIVE + DAY < span.start {
                continue;
            }
            for number in 0..user.n_events(per_user) {
                let (metric, again_at) = user.metric(number);
                if span.contains(&metric.at) {
                    metrics.push((metric.at, metric));
                }
                if again_at.is_some_and(|at| span.contains(&at)) {
                    metrics.push((again_at.unwrap_or_default(), metric));
                }
            }
        }
        metrics.sort_unstable_by_key(|(arrival, metric)| (*arrival, metric.event_id));
        metrics.into_iter().map(|(_, metric)| metric).collect()
    }

    /// Returns `fraction` of [`Spec::n_metrics`] new events of users that are assigned already,
    /// from the day after the last assignments on.
    pub fn refresh(&self, fraction: f64, spread: Spread) -> Vec<Metric> {
        let n_events = (self.spec.n_metrics as f64 * fraction) as u64;
        let n_experiments = self.spec.n_experiments;
        let of_ten: Vec<u32> = (0..10)
            .map(|tenth| tenth * n_experiments / 10 + n_experiments / 20)
            .collect();
        let n_all = self.spec.n_assignments;
        let at = self.spec.start + i64::from(self.spec.days) * DAY;
        let events = (0..n_events).map(|number| {
            let draw = mix(mix(self.spec.seed ^ 0x0f0f) ^ number);
            let experiment = match spread {
                Spread::TenExperiments => of_ten[(number % 10) as usize],
                Spread::All => {
                    (self
                        .first_users
                        .partition_point(|first| *first <= share_of(n_all, draw))
                        - 1) as u32
                }
            };
            let first = self.first_users[experiment as usize];
            let n_users = self.first_users[experiment as usize + 1] - first;
            let user = self.user(experiment, first + share_of(n_users.max(1), mix(draw ^ 1)));
            let (metric, _) = user.metric(1_000_000 + number as u32);
            Metric {
                at: at + share_of(DAY.unsigned_abs(), mix(draw ^ 2)).cast_signed(),
                ..metric
            }
        });
        events.collect()
    }
}

/// A user of one experiment.
struct User {
    experiment: u32,
    id: i64,
    assigned_at: i64,
    variant: u8,
    draw: u64,
}

impl User {
    fn assignment(&self, at: i64, variant: u8, salt: u64) -> Assignment {
        Assignment {
            experiment: self.experiment,
            user: self.id,
            at,
            variant,
            forced: share_of(TESTERS_ONE_IN, mix(self.draw ^ 9)) == 0,
            event_id: mix(self.draw ^ salt),
        }
    }

    /// Between none and twice the average, evenly.
    fn n_events(&self, average: f64) -> u32 {
        (unit_interval(mix(self.draw ^ 7)) * 2.0 * average).round() as u32
    }

    /// Event number `number`, and when it is delivered again if it is.
    fn metric(&self, number: u32) -> (Metric, Option<i64>) {
        let draw = mix(self.draw ^ mix(u64::from(number) + 8));
        // A few events come before the assignment.
        let offset =
            share_of((ACTIVE + HOUR * 6).unsigned_abs(), mix(draw ^ 1)).cast_signed() - HOUR * 6;
        let at = self.assigned_at + offset;
        let skewed = unit_interval(mix(draw ^ 2));
        let event_type = (skewed * skewed * EVENT_TYPES.len() as f64) as u8;
        let lift = i64::from(self.variant == 1) * 300;
        let value = if event_type >= FIRST_PRICED {
            (share_of(15_000, mix(draw ^ 3)).cast_signed() + 99 + lift) * 100
        } else {
            10_000
        };
        let metric = Metric {
            experiment: self.experiment,
            user: self.id,
            at,
            event_type,
            value,
            event_id: mix(draw ^ 4),
        };
        let is_repeated = share_of(100, mix(draw ^ 5)) == 0;
        (
            metric,
            is_repeated.then(|| at + share_of(DAY.unsigned_abs(), mix(draw ^ 6)).cast_signed()),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn population() -> Population {
        Population::new(Spec {
            seed: 7,
            n_experiments: 40,
            n_assignments: 5_000,
            n_metrics: 70_000,
            start: 1_760_000_000_000_000,
            days: 28,
        })
    }

    #[test]
    fn slices_hold_every_event_once_but_for_duplicates() {
        let population = population();
        let all: Vec<Metric> = (0..population.n_slices())
            .flat_map(|slice| population.metrics(slice))
            .collect();
        let mut copies: HashMap<u64, Vec<Metric>> = HashMap::new();
        for metric in &all {
            copies.entry(metric.event_id).or_default().push(*metric);
        }
        let n_distinct = copies.len() as f64;
        assert!((n_distinct / 70_000.0 - 1.0).abs() < 0.02, "{n_distinct}");
        assert!(((all.len() as f64 - n_distinct) / n_distinct - 0.01).abs() < 0.003);
        assert!(
            copies
                .values()
                .all(|copies| copies.iter().all(|copy| *copy == copies[0]))
        );
        let n_assignments: usize = (0..population.n_slices())
            .map(|slice| population.assignments(slice).len())
            .sum();
        assert!((5_050..5_110).contains(&n_assignments), "{n_assignments}");
    }

    #[test]
    fn a_tester_is_forced_in_every_assignment() {
        let population = Population::new(Spec {
            n_assignments: 100_000,
            n_metrics: 0,
            ..population().spec
        });
        let all: Vec<Assignment> = (0..population.n_slices())
            .flat_map(|slice| population.assignments(slice))
            .collect();
        let testers: std::collections::HashSet<i64> = all
            .iter()
            .filter(|assignment| assignment.forced)
            .map(|assignment| assignment.user)
            .collect();
        assert!((30..70).contains(&testers.len()), "{}", testers.len());
        assert!(
            all.iter()
                .all(|assignment| assignment.forced == testers.contains(&assignment.user))
        );
    }

    #[test]
    fn a_seed_gives_the_same_events_and_another_seed_others() {
        let population = population();
        assert_eq!(population.metrics(3), population.metrics(3));
        let other = Population::new(Spec {
            seed: 8,
            ..population.spec
        });
        assert_ne!(population.metrics(3), other.metrics(3));
    }

    #[test]
    fn a_refresh_names_users_that_exist() {
        let population = population();
        let users: std::collections::HashSet<(u32, i64)> = population
            .users()
            .map(|user| (user.experiment, user.id))
            .collect();
        for spread in [Spread::TenExperiments, Spread::All] {
            let events = population.refresh(0.01, spread);
            assert_eq!(events.len(), 700);
            assert!(
                events
                    .iter()
                    .all(|event| users.contains(&(event.experiment, event.user)))
            );
        }
        let ten: std::collections::HashSet<u32> = population
            .refresh(0.01, Spread::TenExperiments)
            .iter()
            .map(|event| event.experiment)
            .collect();
        assert_eq!(ten.len(), 10);
    }
}
