//! Computes the scorecard: by variant and metric, the exact sums that tests are made of.

pub mod by_keys;
#[cfg(feature = "clickhouse")]
mod clickhouse;
pub mod history;

use trialog_model::duration::Window;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::analysis::Analysis;
#[cfg(feature = "clickhouse")]
use crate::analysis::Answers;
use crate::analysis::arrivals::{Arrivals, Place, TypeArrivals};
use crate::error::FoldError;
#[cfg(feature = "clickhouse")]
use crate::error::WarehouseError;
use crate::fold::{Accumulator, Exposure, Folded, LeftOut, Plan, Row, UserFilter};

/// A metric: the events of a type within a stretch of time after exposure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricPlan {
    /// The name under which its row is published.
    pub name: String,
    /// The code of the event type in the plan.
    pub event_type: u32,
    /// How long after its beginning the window ends.
    pub window: Window,
    /// How long after the exposure the window begins, in microseconds; before it where negative.
    pub delay: i64,
    /// Only events of at least this value count, in 1/10,000; all if absent. It holds
    /// for a covariate of the same event type, too, and never for denominators.
    pub min_value: Option<i64>,
    /// What else it is made of.
    pub shape: Shape,
}

/// What a metric is made of beside the events of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing else.
    Plain,
    /// The sum of another event type in the same window.
    Denominator {
        /// Its code.
        event_type: u32,
    },
    /// The sum of an event type in a period that ends at the exposure, or where the
    /// window begins if that is earlier.
    Covariate {
        /// Its code.
        event_type: u32,
        /// The length of the period, in microseconds.
        period: i64,
        /// What of a user goes with it.
        quantity: Quantity,
    },
    /// Only events from `from` microseconds after the window's beginning on, and only
    /// users whose window has ended.
    Retention {
        /// Where it begins.
        from: i64,
    },
}

impl MetricPlan {
    /// Where the window of a user exposed at `exposure` begins.
    pub(super) fn window_start(&self, exposure: i64) -> i64 {
        exposure.saturating_add(self.delay)
    }

    /// Where the window of a user exposed at `exposure` ends; `end_at` is when the
    /// experiment does.
    pub(super) fn window_end(&self, exposure: i64, end_at: i64) -> i64 {
        if self.window == Window::UNBOUNDED {
            end_at
        } else {
            self.window.end(UnixMicros(self.window_start(exposure)))
        }
    }

    /// The least value with which an event counts for a covariate of `event_type`.
    pub(crate) fn min_covariate(&self, event_type: u32) -> Option<i64> {
        self.min_value.filter(|_| event_type == self.event_type)
    }
}

/// What is taken of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Whether there are events: 1 or 0.
    Converted,
    /// How many events there are.
    Events,
    /// The sum of their values, in 1/10,000.
    Total,
}

/// Sums over the users of one variant; all exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricSums {
    /// Users with at least one event.
    pub converted_users: u64,
    /// Events.
    pub events: u64,
    /// The sum of the squares of events per user.
    pub squared_events: u128,
    /// The sum of values, in 1/10,000.
    pub total: i128,
    /// The sum of the squares of totals per user, in 1/100,000,000.
    pub squared_total: i128,
    /// Of denominators or covariates.
    pub second: SecondSums,
    /// Users who do not count, as their window has not ended.
    pub waiting_users: u64,
}

/// Sums of denominators or covariates over the users of one variant; all exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecondSums {
    /// The sum, in 1/10,000.
    pub total: i128,
    /// The sum of the squares per user, in 1/100,000,000.
    pub squared_total: i128,
    /// The sum of the products per user with what the metric takes of them, in
    /// 1/10,000 of its unit.
    pub product: i128,
}

impl SecondSums {
    fn add_user(&mut self, value: i128, quantity: i128) -> Option<()> {
        self.total = self.total.checked_add(value)?;
        self.squared_total = (self.squared_total).checked_add(value.checked_mul(value)?)?;
        self.product = self.product.checked_add(value.checked_mul(quantity)?)?;
        Some(())
    }

    fn merge(&mut self, other: &Self) -> Option<()> {
        self.total = self.total.checked_add(other.total)?;
        self.squared_total = self.squared_total.checked_add(other.squared_total)?;
        self.product = self.product.checked_add(other.product)?;
        Some(())
    }
}

impl MetricSums {
    fn add_user(&mut self, user: &UserSums, quantity: Quantity) -> Option<()> {
        if user.events > 0 {
            self.converted_users += 1;
            self.events += user.events;
            self.squared_events += u128::from(user.events) * u128::from(user.events);
            self.total = self.total.checked_add(user.total)?;
            self.squared_total = self
                .squared_total
                .checked_add(user.total.checked_mul(user.total)?)?;
        }
        if user.second != 0 {
            let first = match quantity {
                Quantity::Converted => i128::from(user.events > 0),
                Quantity::Events => i128::from(user.events),
                Quantity::Total => user.total,
            };
            self.second.add_user(user.second, first)?;
        }
        Some(())
    }

    fn merge(&mut self, other: &Self) -> Option<()> {
        self.converted_users += other.converted_users;
        self.events += other.events;
        self.squared_events += other.squared_events;
        self.total = self.total.checked_add(other.total)?;
        self.squared_total = self.squared_total.checked_add(other.squared_total)?;
        self.waiting_users += other.waiting_users;
        self.second.merge(&other.second)
    }
}

/// What one user has gathered for one metric.
#[derive(Debug, Clone, Copy, Default)]
struct UserSums {
    events: u64,
    total: i128,
    second: i128,
    /// Where the window begins and ends for this user.
    since: i64,
    until: i64,
}

impl UserSums {
    fn is_open(&self, timestamp: i64) -> bool {
        timestamp < self.until && timestamp >= self.since
    }
}

/// Which sum of a metric an event type goes into.
#[derive(Debug, Clone, Copy)]
enum Part {
    First { metric: usize, min_value: i64 },
    Second { metric: usize },
}

/// A covariate: events from `from` on and before `to`, relative to the exposure.
#[derive(Debug, Clone, Copy)]
struct Before {
    metric: usize,
    from: i64,
    to: i64,
    min_value: i64,
}

/// Gathers [`MetricSums`] for every variant and metric.
#[derive(Debug, Clone)]
pub struct Scorecard {
    experiment: ExperimentId,
    /// Where metrics without a window end: with the experiment, if it does.
    end_at: i64,
    data_time: i64,
    metrics: Vec<MetricPlan>,
    /// For each event type the metrics made of it after the exposure.
    by_type: Vec<Vec<Part>>,
    /// For each event type the covariates that it makes; empty where there are none.
    before: Vec<Vec<Before>>,
    /// Where the earliest window begins, relative to the exposure; 0 at the latest.
    earliest: i64,
    /// `[slot * n_metrics + metric]`
    sums: Vec<MetricSums>,
    user: Vec<UserSums>,
    exposure: Exposure,
    /// Events of counted users whose type the plan does not know, by cell.
    pub not_aggregated: Vec<u64>,
    /// When the first of the users who wait will count.
    pub next_user_at: Option<i64>,
    /// What became of events; of all users only.
    arrivals: Option<Arrivals>,
    /// From when on an event of the user is in no window.
    horizon: i64,
}

impl Scorecard {
    /// A scorecard of `metrics` for the variants of `plan`.
    pub fn new(plan: &Plan, metrics: Vec<MetricPlan>) -> Self {
        let mut by_type = vec![Vec::new(); plan.event_types.len()];
        let mut before = Vec::new();
        for (at, metric) in metrics.iter().enumerate() {
            by_type[metric.event_type as usize].push(Part::First {
                metric: at,
                min_value: metric.min_value.unwrap_or(i64::MIN),
            });
            match metric.shape {
                Shape::Denominator { event_type } => {
                    by_type[event_type as usize].push(Part::Second { metric: at });
                }
                Shape::Covariate {
                    event_type, period, ..
                } => {
                    before.resize(plan.event_types.len(), Vec::new());
                    let to = metric.delay.min(0);
                    before[event_type as usize].push(Before {
                        metric: at,
                        from: to.saturating_sub(period),
                        to,
                        min_value: metric.min_covariate(event_type).unwrap_or(i64::MIN),
                    });
                }
                Shape::Plain | Shape::Retention { .. } => {}
            }
        }
        Self {
            experiment: plan.experiment.clone(),
            end_at: plan.within.end.unwrap_or(i64::MAX),
            data_time: plan.data_time,
            by_type,
            before,
            earliest: (metrics.iter().map(|metric| metric.delay.min(0)))
                .min()
                .unwrap_or(0),
            sums: vec![MetricSums::default(); plan.n_slots() * metrics.len()],
            user: vec![UserSums::default(); metrics.len()],
            exposure: Exposure::default(),
            not_aggregated: vec![0; plan.split.n_cells()],
            next_user_at: None,
            arrivals: (plan.filter == UserFilter::default())
                .then(|| Arrivals::new(plan.event_types.len())),
            horizon: 0,
            metrics,
        }
    }

    /// What became of the events of each type, by its code; empty where only some users
    /// are looked at.
    pub fn arrivals(&self) -> &[TypeArrivals] {
        self.arrivals.as_ref().map_or(&[], Arrivals::types)
    }

    #[cfg(feature = "clickhouse")]
    pub(crate) fn arrivals_mut(&mut self) -> &mut [TypeArrivals] {
        self.arrivals.as_mut().map_or(&mut [], Arrivals::types_mut)
    }

    fn note(&mut self, code: u32, place: Place) {
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.of_exposed(code, place);
        }
    }

    /// From when on an event of a user exposed at `exposure` is in no window.
    fn last_window_end(&self, exposure: i64) -> i64 {
        let end = |metric: &MetricPlan| metric.window_end(exposure, self.end_at);
        self.metrics.iter().map(end).max().unwrap_or(exposure)
    }

    /// With sums that were gathered elsewhere, in the order of [`Scorecard::sums`].
    #[cfg(feature = "clickhouse")]
    pub(crate) fn with_sums(
        mut self,
        sums: Vec<MetricSums>,
        not_aggregated: Vec<u64>,
        next_user_at: Option<i64>,
    ) -> Self {
        debug_assert_eq!(self.sums.len(), sums.len(), "each variant has each metric");
        self.sums = sums;
        self.not_aggregated = not_aggregated;
        self.next_user_at = next_user_at;
        self
    }

    /// Sums what the user did before the exposure.
    fn events_before(&mut self, events: &[Row]) {
        for event in events {
            let Some(code) = event.name.code() else {
                continue;
            };
            let since_exposure = event.timestamp.saturating_sub(self.exposure.at);
            for covariate in &self.before[code as usize] {
                let is_within = (covariate.from..covariate.to).contains(&since_exposure);
                if is_within && event.value >= covariate.min_value {
                    self.user[covariate.metric].second += i128::from(event.value);
                }
            }
        }
    }

    /// The metrics, in the order of the sums.
    pub fn metrics(&self) -> &[MetricPlan] {
        &self.metrics
    }

    /// Returns the sums of metric number `metric` for a slot.
    pub fn sums(&self, slot: usize, metric: usize) -> &MetricSums {
        &self.sums[slot * self.metrics.len() + metric]
    }

    /// Adds what a user has gathered for each metric to the sums of `slot`.
    fn add_user(&mut self, user: &[UserSums], slot: usize) -> Result<(), FoldError> {
        let first = slot * self.metrics.len();
        for (metric, user) in user.iter().enumerate() {
            let sums = &mut self.sums[first + metric];
            let shape = self.metrics[metric].shape;
            if matches!(shape, Shape::Retention { .. }) && user.until > self.data_time {
                sums.waiting_users += 1;
                let next = self.next_user_at.get_or_insert(user.until);
                *next = user.until.min(*next);
                continue;
            }
            if sums.add_user(user, shape.quantity()).is_none() {
                return Err(self.overflow(metric));
            }
        }
        Ok(())
    }

    fn overflow(&self, metric: usize) -> FoldError {
        FoldError::SumOverflow {
            experiment: self.experiment.clone(),
            metric: self.metrics[metric].name.clone(),
        }
    }
}

impl Analysis for Scorecard {
    type Question = Vec<MetricPlan>;
    type Answer = Folded<Self>;

    fn for_plan(plan: &Plan, metrics: &Vec<MetricPlan>) -> Self {
        Self::new(plan, metrics.clone())
    }

    fn answer(folded: Folded<Self>) -> Folded<Self> {
        folded
    }

    #[cfg(feature = "clickhouse")]
    fn push_down(
        view: &crate::clickhouse::View,
        plans: &[Plan],
        metrics: &[Vec<MetricPlan>],
    ) -> Option<Result<Answers<Self>, WarehouseError>> {
        Some(view.scorecards(plans, metrics))
    }
}

impl Shape {
    fn quantity(self) -> Quantity {
        match self {
            Self::Covariate { quantity, .. } => quantity,
            Self::Plain | Self::Denominator { .. } | Self::Retention { .. } => Quantity::Total,
        }
    }
}

impl Accumulator for Scorecard {
    fn horizon(&self, exposure: i64) -> i64 {
        match self.arrivals {
            Some(_) => i64::MAX,
            None => self.last_window_end(exposure),
        }
    }

    fn sees_left_out(&self) -> bool {
        self.arrivals.is_some()
    }

    fn begin_left_out(&mut self) {
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.begin();
        }
    }

    fn left_out(&mut self, user: i64, why: LeftOut, events: &[Row]) {
        if let Some(arrivals) = &mut self.arrivals {
            let codes = events.iter().filter_map(|event| event.name.code());
            codes.for_each(|code| arrivals.of_left_out(code, user, why));
        }
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.exposure = *exposure;
        self.horizon = self.last_window_end(exposure.at);
        self.begin_left_out();
        for (user, metric) in self.user.iter_mut().zip(&self.metrics) {
            let from = match metric.shape {
                Shape::Retention { from } => from,
                _ => 0,
            };
            *user = UserSums {
                since: metric.window_start(exposure.at).saturating_add(from),
                until: metric.window_end(exposure.at, self.end_at),
                ..UserSums::default()
            };
        }
    }

    fn events(&mut self, events: &[Row]) {
        let exposure = self.exposure.at;
        if !self.before.is_empty() {
            let n_before = events.partition_point(|event| event.timestamp < exposure);
            self.events_before(&events[..n_before]);
        }
        let start = exposure.saturating_add(self.earliest);
        let first = events.partition_point(|event| event.timestamp < start);
        for code in events[..first].iter().filter_map(|event| event.name.code()) {
            self.note(code, Place::Before);
        }
        for event in &events[first..] {
            let Some(code) = event.name.code() else {
                let is_within = event.timestamp >= exposure && event.timestamp < self.horizon;
                self.not_aggregated[self.exposure.cell as usize] += u64::from(is_within);
                continue;
            };
            let parts = &self.by_type[code as usize];
            // An event of a type that is in no metric is not one that came too late.
            let mut counts = parts.is_empty() && event.timestamp >= exposure;
            // A value is below 2^60, so a total leaves i128 after 2^67 events.
            for &part in parts {
                match part {
                    Part::First { metric, min_value } => {
                        let user = &mut self.user[metric];
                        let is_open = user.is_open(event.timestamp);
                        counts |= is_open;
                        if is_open && event.value >= min_value {
                            user.events += 1;
                            user.total += i128::from(event.value);
                        }
                    }
                    Part::Second { metric } => {
                        let user = &mut self.user[metric];
                        if user.is_open(event.timestamp) {
                            user.second += i128::from(event.value);
                            counts = true;
                        }
                    }
                }
            }
            let place = match (counts, event.timestamp < exposure) {
                (true, _) => Place::Counted,
                (false, true) => Place::Before,
                (false, false) => Place::After,
            };
            self.note(code, place);
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        let slot = self.exposure.slot;
        let user = std::mem::take(&mut self.user);
        let outcome = self.add_user(&user, slot);
        self.user = user;
        outcome
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let counts = self.not_aggregated.iter_mut().zip(&other.not_aggregated);
        counts.for_each(|(count, other)| *count += other);
        if let (Some(arrivals), Some(other)) = (&mut self.arrivals, &other.arrivals) {
            arrivals.merge(other);
        }
        self.next_user_at = [self.next_user_at, other.next_user_at]
            .into_iter()
            .flatten()
            .min();
        let n_metrics = self.metrics.len();
        for (at, (sums, other)) in self.sums.iter_mut().zip(&other.sums).enumerate() {
            if sums.merge(other).is_none() {
                return Err(self.overflow(at % n_metrics));
            }
        }
        Ok(())
    }
}
