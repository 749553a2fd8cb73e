//! Follows exposed users over time: the days on which they were exposed, and what a fixed cohort
//! does on each day since the exposure.

use std::collections::BTreeMap;

use trialog_model::ids::ExperimentId;

use crate::analysis::Analysis;
use crate::analysis::scorecard::Quantity;
use crate::error::FoldError;
use crate::fold::split::{DAY_MICROS, day_number};
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row};

/// Selects days of exposure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaysQuestion {
    /// The last day that is looked at, as a number of days since 1970.
    pub last: i64,
    /// How many days are kept: the latest ones.
    pub limit: usize,
}

/// The UTC days on which users were exposed, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposureDays {
    question: DaysQuestion,
    /// Exposed users by the number of the day.
    pub users: BTreeMap<i64, u64>,
    /// Users who were exposed before the days that are kept.
    pub earlier_users: u64,
    /// Users who were exposed after the last day that is looked at.
    pub later_users: u64,
}

impl ExposureDays {
    fn add(&mut self, day: i64, users: u64) {
        if day > self.question.last {
            self.later_users += users;
            return;
        }
        *self.users.entry(day).or_default() += users;
        // Later days only come in, so a day that gives way never comes back.
        if self.users.len() > self.question.limit
            && let Some((_, users)) = self.users.pop_first()
        {
            self.earlier_users += users;
        }
    }
}

impl Analysis for ExposureDays {
    type Question = DaysQuestion;
    type Answer = Self;

    fn for_plan(_plan: &Plan, question: &DaysQuestion) -> Self {
        Self {
            question: *question,
            users: BTreeMap::new(),
            earlier_users: 0,
            later_users: 0,
        }
    }

    fn answer(folded: Folded<Self>) -> Self {
        folded.accumulator
    }
}

impl Accumulator for ExposureDays {
    fn horizon(&self, exposure: i64) -> i64 {
        exposure
    }

    fn reads_events(&self) -> bool {
        false
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.add(day_number(exposure.at), 1);
    }

    fn events(&mut self, _events: &[Row]) {}

    fn end(&mut self) -> Result<(), FoldError> {
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        self.earlier_users += other.earlier_users;
        self.later_users += other.later_users;
        for (day, users) in other.users {
            self.add(day, users);
        }
        Ok(())
    }
}

/// Describes what is followed of a fixed cohort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CohortPlan {
    /// How many days since the exposure are told apart.
    pub n_days: usize,
    /// The cohort are the users all of whose days end at this time or before, in microseconds.
    pub until: i64,
    /// What is measured on each day.
    pub metrics: Vec<DayMetric>,
}

/// A quantity of a user on each day since the exposure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayMetric {
    /// The name of the metric.
    pub name: String,
    /// The code of the event type in the plan.
    pub event_type: u32,
    /// Only events of at least this value count, in 1/10,000; all if absent.
    pub min_value: Option<i64>,
    /// What is taken of a day: whether there are events, how many, or the sum of their values.
    pub quantity: Quantity,
}

/// Exact sums of a metric over the users of one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaySums {
    /// For each day the users with at least one event.
    pub active: Vec<u64>,
    /// For each day the sum of the quantity; of values in 1/10,000.
    pub totals: Vec<i128>,
    /// For each pair of days the sum of a user's products: the lower triangle row by row.
    pub products: Vec<i128>,
}

impl DaySums {
    fn new(n_days: usize) -> Self {
        Self {
            active: vec![0; n_days],
            totals: vec![0; n_days],
            products: vec![0; n_days * (n_days + 1) / 2],
        }
    }

    /// Adds a user with these values.
    fn add_user(&mut self, days: &[Day], quantity: Quantity) -> Option<()> {
        for (row, later) in days.iter().enumerate() {
            if later.events == 0 {
                continue;
            }
            let value = later.value(quantity);
            self.active[row] += 1;
            self.totals[row] = self.totals[row].checked_add(value)?;
            let first = row * (row + 1) / 2;
            for (column, earlier) in days[..=row].iter().enumerate() {
                if earlier.events > 0 {
                    let product = value.checked_mul(earlier.value(quantity))?;
                    let sum = &mut self.products[first + column];
                    *sum = sum.checked_add(product)?;
                }
            }
        }
        Some(())
    }

    fn merge(&mut self, other: &Self) -> Option<()> {
        for (active, other) in self.active.iter_mut().zip(&other.active) {
            *active += other;
        }
        let sums = self.totals.iter_mut().chain(&mut self.products);
        for (sum, other) in sums.zip(other.totals.iter().chain(&other.products)) {
            *sum = sum.checked_add(*other)?;
        }
        Some(())
    }
}

/// What a user did on one day.
#[derive(Debug, Clone, Copy, Default)]
struct Day {
    events: u64,
    total: i128,
}

impl Day {
    fn value(self, quantity: Quantity) -> i128 {
        match quantity {
            Quantity::Converted => i128::from(self.events > 0),
            Quantity::Events => i128::from(self.events),
            Quantity::Total => self.total,
        }
    }
}

/// Sums what the users of a fixed cohort do on each day since their exposure.
#[derive(Debug, Clone)]
pub struct DaysSince {
    experiment: ExperimentId,
    plan: CohortPlan,
    /// For each event type the metrics made of it.
    by_type: Vec<Vec<usize>>,
    /// Users of the cohort by slot.
    users: Vec<u64>,
    /// `[slot * n_metrics + metric]`
    sums: Vec<DaySums>,
    exposure: Exposure,
    /// The days of the current user: `[metric * n_days + day]`
    days: Vec<Day>,
}

impl DaysSince {
    /// Returns the users of the cohort in `slot`.
    pub fn users(&self, slot: usize) -> u64 {
        self.users[slot]
    }

    /// Returns the sums of metric number `metric` for a slot.
    pub fn sums(&self, slot: usize, metric: usize) -> &DaySums {
        &self.sums[slot * self.plan.metrics.len() + metric]
    }

    /// Where the days of a user end who was exposed at `exposure`.
    fn last_day_end(&self, exposure: i64) -> i64 {
        exposure.saturating_add(DAY_MICROS.saturating_mul(self.plan.n_days as i64))
    }

    fn is_in_cohort(&self, exposure: i64) -> bool {
        self.last_day_end(exposure) <= self.plan.until
    }

    fn overflow(&self, metric: usize) -> FoldError {
        FoldError::SumOverflow {
            experiment: self.experiment.clone(),
            metric: self.plan.metrics[metric].name.clone(),
        }
    }
}

impl Analysis for DaysSince {
    type Question = CohortPlan;
    type Answer = Folded<Self>;

    fn for_plan(plan: &Plan, question: &CohortPlan) -> Self {
        let n_metrics = question.metrics.len();
        let mut by_type = vec![Vec::new(); plan.event_types.len()];
        for (at, metric) in question.metrics.iter().enumerate() {
            by_type[metric.event_type as usize].push(at);
        }
        Self {
            experiment: plan.experiment.clone(),
            by_type,
            users: vec![0; plan.n_slots()],
            sums: vec![DaySums::new(question.n_days); plan.n_slots() * n_metrics],
            exposure: Exposure::default(),
            days: vec![Day::default(); n_metrics * question.n_days],
            plan: question.clone(),
        }
    }

    fn answer(folded: Folded<Self>) -> Folded<Self> {
        folded
    }
}

impl Accumulator for DaysSince {
    fn horizon(&self, exposure: i64) -> i64 {
        match self.is_in_cohort(exposure) {
            true => self.last_day_end(exposure),
            false => exposure,
        }
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.exposure = *exposure;
        self.days.fill(Day::default());
    }

    fn events(&mut self, events: &[Row]) {
        if !self.is_in_cohort(self.exposure.at) {
            return;
        }
        let first = events.partition_point(|event| event.timestamp < self.exposure.at);
        for event in &events[first..] {
            let since = event.timestamp.saturating_sub(self.exposure.at) / DAY_MICROS;
            let day = usize::try_from(since).unwrap_or(usize::MAX);
            let Some(code) = event.name.code().filter(|_| day < self.plan.n_days) else {
                continue;
            };
            for &metric in &self.by_type[code as usize] {
                let least = self.plan.metrics[metric].min_value;
                if least.is_none_or(|least| event.value >= least) {
                    let day = &mut self.days[metric * self.plan.n_days + day];
                    day.events += 1;
                    // A value is below 2^60, so a total leaves i128 after 2^67 events.
                    day.total += i128::from(event.value);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        if !self.is_in_cohort(self.exposure.at) {
            return Ok(());
        }
        let slot = self.exposure.slot;
        self.users[slot] += 1;
        let n_metrics = self.plan.metrics.len();
        for metric in 0..n_metrics {
            let days = &self.days[metric * self.plan.n_days..][..self.plan.n_days];
            let quantity = self.plan.metrics[metric].quantity;
            let sums = &mut self.sums[slot * n_metrics + metric];
            if sums.add_user(days, quantity).is_none() {
                return Err(self.overflow(metric));
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let pairs = self.users.iter_mut().zip(&other.users);
        pairs.for_each(|(users, others)| *users += others);
        let n_metrics = self.plan.metrics.len();
        for (at, (sums, other)) in self.sums.iter_mut().zip(&other.sums).enumerate() {
            if sums.merge(other).is_none() {
                return Err(self.overflow(at % n_metrics));
            }
        }
        Ok(())
    }
}
