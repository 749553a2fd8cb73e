//! The scorecard: per variant and metric the exact sums that tests are made of.

use trialog_model::duration::Window;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::error::FoldError;
use crate::fold::arrivals::{Arrivals, LeftOut, Place, TypeArrivals};
use crate::fold::{Accumulator, Exposure, Plan, Row, UserFilter};

/// A metric: the events of a type within a stretch of time after exposure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricPlan {
    /// The name under which its row is published.
    pub name: String,
    /// The code of the event type in the plan.
    pub event_type: u32,
    /// How long after exposure an event counts.
    pub window: Window,
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
    /// The sum of an event type in a period before the exposure.
    Covariate {
        /// Its code.
        event_type: u32,
        /// The length of the period, in microseconds.
        period: i64,
        /// What of a user goes with it.
        quantity: Quantity,
    },
    /// Only events from `from` microseconds after the exposure on, and only users
    /// whose window has ended.
    Retention {
        /// Where it begins.
        from: i64,
    },
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
            let own = match quantity {
                Quantity::Converted => i128::from(user.events > 0),
                Quantity::Events => i128::from(user.events),
                Quantity::Total => user.total,
            };
            self.second.add_user(user.second, own)?;
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

/// Which sum of a metric an event type goes into.
#[derive(Debug, Clone, Copy)]
enum Part {
    First(usize),
    Second(usize),
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
    /// For each event type the metrics whose covariate it is, with its period;
    /// empty where there are none.
    before: Vec<Vec<(usize, i64)>>,
    /// `[variant * n_metrics + metric]`
    sums: Vec<MetricSums>,
    user: Vec<UserSums>,
    exposure: Exposure,
    /// Events of counted users whose type the plan does not know.
    pub not_aggregated: u64,
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
            by_type[metric.event_type as usize].push(Part::First(at));
            match metric.shape {
                Shape::Denominator { event_type } => {
                    by_type[event_type as usize].push(Part::Second(at));
                }
                Shape::Covariate {
                    event_type, period, ..
                } => {
                    before.resize(plan.event_types.len(), Vec::new());
                    before[event_type as usize].push((at, period));
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
            sums: vec![MetricSums::default(); plan.variants.len() * metrics.len()],
            user: vec![UserSums::default(); metrics.len()],
            exposure: Exposure {
                user: 0,
                variant: 0,
                at: 0,
            },
            not_aggregated: 0,
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
        let end = |metric: &MetricPlan| window_end(metric.window, exposure, self.end_at);
        self.metrics.iter().map(end).max().unwrap_or(exposure)
    }

    /// With sums that were gathered elsewhere, in the order of [`Scorecard::sums`].
    #[cfg(feature = "clickhouse")]
    pub(crate) fn with_sums(
        mut self,
        sums: Vec<MetricSums>,
        not_aggregated: u64,
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
            for &(metric, period) in &self.before[code as usize] {
                if event.timestamp >= self.exposure.at.saturating_sub(period) {
                    self.user[metric].second += i128::from(event.value);
                }
            }
        }
    }

    /// The metrics, in the order of the sums.
    pub fn metrics(&self) -> &[MetricPlan] {
        &self.metrics
    }

    /// The sums of metric number `metric` for the variant with the code `variant`.
    pub fn sums(&self, variant: usize, metric: usize) -> &MetricSums {
        &self.sums[variant * self.metrics.len() + metric]
    }

    fn overflow(&self, metric: usize) -> FoldError {
        FoldError::SumOverflow {
            experiment: self.experiment.clone(),
            metric: self.metrics[metric].name.clone(),
        }
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

/// Where the attribution window of a user exposed at `exposure` ends.
pub(super) fn window_end(window: Window, exposure: i64, end_at: i64) -> i64 {
    if window == Window::UNBOUNDED {
        end_at
    } else {
        window.end(UnixMicros(exposure))
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
                since: exposure.at.saturating_add(from),
                until: window_end(metric.window, exposure.at, self.end_at),
                ..UserSums::default()
            };
        }
    }

    fn events(&mut self, events: &[Row]) {
        let first = events.partition_point(|event| event.timestamp < self.exposure.at);
        if !self.before.is_empty() {
            self.events_before(&events[..first]);
        }
        for code in events[..first].iter().filter_map(|event| event.name.code()) {
            self.note(code, Place::Before);
        }
        for event in &events[first..] {
            let Some(code) = event.name.code() else {
                self.not_aggregated += u64::from(event.timestamp < self.horizon);
                continue;
            };
            let parts = &self.by_type[code as usize];
            // An event of a type that is in no metric is not one that came too late.
            let mut counts = parts.is_empty();
            // A value is below 2^60, so a total leaves i128 after 2^67 events.
            for &part in parts {
                match part {
                    Part::First(metric) => {
                        let user = &mut self.user[metric];
                        if event.timestamp < user.until && event.timestamp >= user.since {
                            user.events += 1;
                            user.total += i128::from(event.value);
                            counts = true;
                        }
                    }
                    Part::Second(metric) => {
                        let user = &mut self.user[metric];
                        if event.timestamp < user.until {
                            user.second += i128::from(event.value);
                            counts = true;
                        }
                    }
                }
            }
            let place = if counts { Place::Counted } else { Place::After };
            self.note(code, place);
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        let first = self.exposure.variant as usize * self.metrics.len();
        for metric in 0..self.metrics.len() {
            let user = &self.user[metric];
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

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        self.not_aggregated += other.not_aggregated;
        if let (Some(arrivals), Some(other)) = (&mut self.arrivals, &other.arrivals) {
            arrivals.merge(other);
        }
        self.next_user_at = [self.next_user_at, other.next_user_at]
            .into_iter()
            .flatten()
            .min();
        let n_metrics = self.metrics.len();
        for (at, (own, other)) in self.sums.iter_mut().zip(&other.sums).enumerate() {
            if own.merge(other).is_none() {
                return Err(self.overflow(at % n_metrics));
            }
        }
        Ok(())
    }
}
