//! Computes what the scorecard was at the end of past times, in one pass over the events.
//!
//! A user's sums change only when an event comes. So each change is kept at the first of the times
//! that has seen it, and the sums at a time are those of all changes up to it.

use crate::analysis::Analysis;
use crate::analysis::scorecard::{MetricPlan, MetricSums, Quantity, Scorecard, SecondSums, Shape};
use crate::error::FoldError;
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row};

/// Describes which past scorecards are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPlan {
    /// The times, in order: users and events up to and including a time count, in microseconds.
    pub times: Vec<i64>,
    /// The metrics.
    pub metrics: Vec<MetricPlan>,
}

/// The numbers of a metric that are summed over users: users, converted users, events, squared
/// events, total, squared total, second, squared second and product.
type Numbers = [i128; 9];

/// Sums the scorecard of each slot at each of several times.
///
/// Users who do not count at the end count at no time before, as those who get a second variant
/// later.
#[derive(Debug, Clone)]
pub struct History {
    times: Vec<i64>,
    /// Gathers what the current user has done.
    card: Scorecard,
    /// The first time that sees what the current user has done since the last one.
    at: usize,
    /// For each metric the first time at which the current user counts.
    counts_from: Vec<usize>,
    /// For each metric what is already kept of the current user.
    kept: Vec<Numbers>,
    /// Whether a sum has left its range, of this metric.
    overflow: Option<usize>,
    /// New users: `[slot * n_times + time]`
    users: Vec<u64>,
    /// Changes of sums: `[(slot * n_metrics + metric) * n_times + time]`
    changes: Vec<Numbers>,
}

impl History {
    /// Returns the exposed users of `slot` at each time.
    pub fn users(&self, slot: usize) -> Vec<u64> {
        let new = &self.users[slot * self.times.len()..][..self.times.len()];
        let sums = new.iter().scan(0, |sum, users| {
            *sum += users;
            Some(*sum)
        });
        sums.collect()
    }

    /// Returns the sums of metric number `metric` for a slot at each time; `None` from the first
    /// sum on that leaves its range.
    pub fn sums(&self, slot: usize, metric: usize) -> Vec<Option<MetricSums>> {
        let n_times = self.times.len();
        let first = (slot * self.kept.len() + metric) * n_times;
        let changes = &self.changes[first..][..n_times];
        let mut sum = Some(Numbers::default());
        let sums = changes.iter().zip(self.users(slot)).map(|(change, users)| {
            sum = sum.and_then(|sum| added(&sum, change));
            sum.and_then(|sum| metric_sums(&sum, users))
        });
        sums.collect()
    }

    /// The first time that is not before `time`.
    fn first_at(&self, time: i64) -> usize {
        self.times.partition_point(|at| *at < time)
    }

    /// Keeps what has changed of the current user.
    fn keep(&mut self) {
        let n_metrics = self.kept.len();
        for metric in 0..n_metrics {
            let at = self.at.max(self.counts_from[metric]);
            if at >= self.times.len() {
                continue;
            }
            let slot = self.card.exposure.slot;
            let change = &mut self.changes[(slot * n_metrics + metric) * self.times.len() + at];
            let kept = &mut self.kept[metric];
            let kept_now = numbers(&self.card, metric).and_then(|now| {
                let difference = combined(&now, kept, i128::checked_sub)?;
                *change = added(change, &difference)?;
                *kept = now;
                Some(())
            });
            if kept_now.is_none() {
                self.overflow.get_or_insert(metric);
            }
        }
    }

    fn overflowed(&self, metric: usize) -> FoldError {
        self.card.overflow(metric)
    }
}

/// The numbers of the current user of `card`.
fn numbers(card: &Scorecard, metric: usize) -> Option<Numbers> {
    let user = &card.user[metric];
    let converted = i128::from(user.events > 0);
    let events = i128::from(user.events);
    let first = match card.metrics[metric].shape.quantity() {
        Quantity::Converted => converted,
        Quantity::Events => events,
        Quantity::Total => user.total,
    };
    Some([
        1,
        converted,
        events,
        events.checked_mul(events)?,
        user.total,
        user.total.checked_mul(user.total)?,
        user.second,
        user.second.checked_mul(user.second)?,
        user.second.checked_mul(first)?,
    ])
}

fn combined(
    left: &Numbers,
    right: &Numbers,
    combine: impl Fn(i128, i128) -> Option<i128>,
) -> Option<Numbers> {
    let mut all = *left;
    for (number, other) in all.iter_mut().zip(right) {
        *number = combine(*number, *other)?;
    }
    Some(all)
}

fn added(left: &Numbers, right: &Numbers) -> Option<Numbers> {
    combined(left, right, i128::checked_add)
}

/// The sums that stand for `numbers`, of `exposed` users.
fn metric_sums(numbers: &Numbers, exposed: u64) -> Option<MetricSums> {
    let [
        users,
        converted,
        events,
        squared_events,
        total,
        squared_total,
        second,
        squared_second,
        product,
    ] = *numbers;
    Some(MetricSums {
        converted_users: converted.try_into().ok()?,
        events: events.try_into().ok()?,
        squared_events: squared_events.try_into().ok()?,
        total,
        squared_total,
        second: SecondSums {
            total: second,
            squared_total: squared_second,
            product,
        },
        waiting_users: exposed.checked_sub(users.try_into().ok()?)?,
    })
}

impl Analysis for History {
    type Question = HistoryPlan;
    type Answer = Folded<Self>;

    fn for_plan(plan: &Plan, question: &HistoryPlan) -> Self {
        let n_metrics = question.metrics.len();
        let n_times = question.times.len();
        let mut card = Scorecard::new(plan, question.metrics.clone());
        // The card is of one user, and of no events beyond the windows.
        card.arrivals = None;
        Self {
            times: question.times.clone(),
            card,
            at: 0,
            counts_from: vec![0; n_metrics],
            kept: vec![Numbers::default(); n_metrics],
            overflow: None,
            users: vec![0; plan.n_slots() * n_times],
            changes: vec![Numbers::default(); plan.n_slots() * n_metrics * n_times],
        }
    }

    fn answer(folded: Folded<Self>) -> Folded<Self> {
        folded
    }
}

impl Accumulator for History {
    fn horizon(&self, exposure: i64) -> i64 {
        let last = self
            .times
            .last()
            .map_or(exposure, |time| time.saturating_add(1));
        self.card.horizon(exposure).min(last)
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.card.begin(exposure);
        self.at = self.first_at(exposure.at);
        if let Some(users) = (self.at < self.times.len())
            .then(|| &mut self.users[exposure.slot * self.times.len() + self.at])
        {
            *users += 1;
        }
        for metric in 0..self.kept.len() {
            self.kept[metric] = Numbers::default();
            self.counts_from[metric] = match self.card.metrics[metric].shape {
                Shape::Retention { .. } => self.first_at(self.card.user[metric].until),
                _ => self.at,
            };
        }
        self.keep();
    }

    fn events(&mut self, events: &[Row]) {
        let mut rest = events;
        while let Some(time) = self.times.get(self.at) {
            let n_seen = rest.partition_point(|event| event.timestamp <= *time);
            let (seen, later) = rest.split_at(n_seen);
            self.card.events(seen);
            let Some(next) = later.first() else {
                return;
            };
            self.keep();
            self.at = self.first_at(next.timestamp);
            rest = later;
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        self.keep();
        match self.overflow {
            Some(metric) => Err(self.overflowed(metric)),
            None => Ok(()),
        }
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let pairs = self.users.iter_mut().zip(&other.users);
        pairs.for_each(|(users, others)| *users += others);
        let (n_metrics, n_times) = (self.kept.len(), self.times.len());
        for (at, (change, other)) in self.changes.iter_mut().zip(&other.changes).enumerate() {
            match added(change, other) {
                Some(sum) => *change = sum,
                None => return Err(self.overflowed(at / n_times % n_metrics)),
            }
        }
        Ok(())
    }
}
