//! The scorecard: per variant and metric the exact sums that tests are made of.

use trialog_model::duration::Window;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::error::FoldError;
use crate::fold::{Accumulator, Exposure, Plan, Row};

/// A metric: the events of a type within a window after exposure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricPlan {
    /// The name under which its row is published.
    pub name: String,
    /// The code of the event type in the plan.
    pub event_type: u32,
    /// How long after exposure an event counts.
    pub window: Window,
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
}

impl MetricSums {
    fn add_user(&mut self, user: UserSums) -> Option<()> {
        self.converted_users += 1;
        self.events += user.events;
        self.squared_events += u128::from(user.events) * u128::from(user.events);
        self.total = self.total.checked_add(user.total)?;
        self.squared_total = self
            .squared_total
            .checked_add(user.total.checked_mul(user.total)?)?;
        Some(())
    }

    fn merge(&mut self, other: &Self) -> Option<()> {
        self.converted_users += other.converted_users;
        self.events += other.events;
        self.squared_events += other.squared_events;
        self.total = self.total.checked_add(other.total)?;
        self.squared_total = self.squared_total.checked_add(other.squared_total)?;
        Some(())
    }
}

/// What one user has gathered for one metric.
#[derive(Debug, Clone, Copy, Default)]
struct UserSums {
    events: u64,
    total: i128,
    /// Where the window ends for this user.
    until: i64,
}

/// Gathers [`MetricSums`] for every variant and metric.
#[derive(Debug, Clone)]
pub struct Scorecard {
    experiment: ExperimentId,
    /// Where metrics without a window end: with the experiment, if it does.
    end_at: i64,
    metrics: Vec<MetricPlan>,
    /// For each event type the metrics made of it.
    by_type: Vec<Vec<usize>>,
    /// `[variant * n_metrics + metric]`
    sums: Vec<MetricSums>,
    user: Vec<UserSums>,
    exposure: Exposure,
    /// Events of counted users whose type the plan does not know.
    pub not_aggregated: u64,
}

impl Scorecard {
    /// A scorecard of `metrics` for the variants of `plan`.
    pub fn new(plan: &Plan, metrics: Vec<MetricPlan>) -> Self {
        let mut by_type = vec![Vec::new(); plan.event_types.len()];
        for (at, metric) in metrics.iter().enumerate() {
            by_type[metric.event_type as usize].push(at);
        }
        Self {
            experiment: plan.experiment.clone(),
            end_at: plan.within.end.unwrap_or(i64::MAX),
            by_type,
            sums: vec![MetricSums::default(); plan.variants.len() * metrics.len()],
            user: vec![UserSums::default(); metrics.len()],
            exposure: Exposure {
                user: 0,
                variant: 0,
                at: 0,
            },
            not_aggregated: 0,
            metrics,
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

/// Where the attribution window of a user exposed at `exposure` ends.
fn window_end(window: Window, exposure: i64, end_at: i64) -> i64 {
    if window == Window::UNBOUNDED {
        end_at
    } else {
        window.end(UnixMicros(exposure))
    }
}

impl Accumulator for Scorecard {
    fn horizon(&self, exposure: i64) -> i64 {
        let end = |metric: &MetricPlan| window_end(metric.window, exposure, self.end_at);
        self.metrics.iter().map(end).max().unwrap_or(exposure)
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.exposure = *exposure;
        for (user, metric) in self.user.iter_mut().zip(&self.metrics) {
            let until = window_end(metric.window, exposure.at, self.end_at);
            *user = UserSums {
                until,
                ..UserSums::default()
            };
        }
    }

    fn events(&mut self, events: &[Row]) {
        let first = events.partition_point(|event| event.timestamp < self.exposure.at);
        for event in &events[first..] {
            let Some(code) = event.name.code() else {
                self.not_aggregated += 1;
                continue;
            };
            for &metric in &self.by_type[code as usize] {
                let user = &mut self.user[metric];
                if event.timestamp < user.until {
                    user.events += 1;
                    // A value is below 2^60, so a total leaves i128 after 2^67 events.
                    user.total += i128::from(event.value);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        let first = self.exposure.variant as usize * self.metrics.len();
        for metric in 0..self.metrics.len() {
            let user = self.user[metric];
            if user.events > 0 && self.sums[first + metric].add_user(user).is_none() {
                return Err(self.overflow(metric));
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        self.not_aggregated += other.not_aggregated;
        let n_metrics = self.metrics.len();
        for (at, (own, other)) in self.sums.iter_mut().zip(&other.sums).enumerate() {
            if own.merge(other).is_none() {
                return Err(self.overflow(at % n_metrics));
            }
        }
        Ok(())
    }
}
