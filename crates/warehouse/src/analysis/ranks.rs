//! Ranks users by their totals, for quantiles and winsorising.
//!
//! It takes more than one pass over an experiment's users: at first those that
//! find the values at the ranks that are wanted, and for winsorised sums one more.

#[cfg(feature = "clickhouse")]
mod clickhouse;

use trialog_model::ids::ExperimentId;
use trialog_stats::{QuantileRank, RankTally, WinsorisedSums};

use crate::analysis::Analysis;
#[cfg(feature = "clickhouse")]
use crate::analysis::Answers;
use crate::analysis::scorecard::{MetricPlan, Quantity};
use crate::error::FoldError;
#[cfg(feature = "clickhouse")]
use crate::error::WarehouseError;
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row};

/// What a pass is to find out about one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankedPlan {
    /// The metric; its shape does not matter here.
    pub metric: MetricPlan,
    /// What of a user is ordered.
    pub quantity: Quantity,
    /// Which users are ordered.
    pub users: Users,
    /// What to find out, for each slot.
    pub pass: Vec<Pass>,
}

/// Which users take part in a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Users {
    /// All exposed users, those without an event as 0.
    #[default]
    All,
    /// Users with an event that counts.
    WithEvent,
}

/// What to find out about the users of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// The ranks of values.
    Tally(RankTally),
    /// The sums of values that are set to the ends where they lie beyond them.
    Clip {
        /// The lower and the upper end, where there is one.
        ends: [Option<i128>; 2],
        /// The sums so far.
        sums: ClippedSums,
    },
}

/// Sums of winsorised values; exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClippedSums {
    /// The sum.
    pub total: i128,
    /// The sum of squares.
    pub squared_total: i128,
    /// How many lay beyond an end.
    pub n_clipped: u64,
}

impl WinsorisedSums for ClippedSums {
    /// In the unit of values, 1/10,000.
    type End = i128;

    /// Returns the value at `rank`, rounded to the four decimals of values.
    fn end(rank: QuantileRank, low: i128, high: i128) -> i128 {
        // The distance is small beside 2^53 wherever the share matters.
        low + (rank.share * (high - low) as f64).round_ties_even() as i128
    }

    fn add(&mut self, value: i128, n: u64, [low, high]: [Option<i128>; 2]) -> Option<()> {
        let clipped = value.clamp(low.unwrap_or(i128::MIN), high.unwrap_or(i128::MAX));
        let n_users = i128::from(n);
        self.total = (self.total).checked_add(clipped.checked_mul(n_users)?)?;
        let square = clipped.checked_mul(clipped)?;
        self.squared_total = (self.squared_total).checked_add(square.checked_mul(n_users)?)?;
        self.n_clipped += if clipped == value { 0 } else { n };
        Some(())
    }
}

impl ClippedSums {
    fn merge(&mut self, other: &Self) -> Option<()> {
        self.total = self.total.checked_add(other.total)?;
        self.squared_total = self.squared_total.checked_add(other.squared_total)?;
        self.n_clipped += other.n_clipped;
        Some(())
    }
}

/// Carries out the passes of some metrics.
#[derive(Debug, Clone)]
pub struct Ranks {
    experiment: ExperimentId,
    end_at: i64,
    plans: Vec<RankedPlan>,
    /// What the user has gathered for each metric.
    user: Vec<UserValue>,
    exposure: Exposure,
}

/// What one user has gathered for one metric.
#[derive(Debug, Clone, Copy, Default)]
struct UserValue {
    value: i128,
    has_event: bool,
    /// Where the window begins and ends for this user.
    since: i64,
    until: i64,
}

impl Ranks {
    /// The passes of `plans` over the users of `plan`.
    pub fn new(plan: &Plan, plans: Vec<RankedPlan>) -> Self {
        Self {
            experiment: plan.experiment.clone(),
            end_at: plan.within.end.unwrap_or(i64::MAX),
            user: vec![UserValue::default(); plans.len()],
            exposure: Exposure::default(),
            plans,
        }
    }

    /// What was found out, in the order of the plans.
    pub fn into_plans(self) -> Vec<RankedPlan> {
        self.plans
    }

    #[cfg(feature = "clickhouse")]
    pub(crate) fn plans(&self) -> &[RankedPlan] {
        &self.plans
    }

    /// Takes in that `n` users of a slot have this value in a metric.
    ///
    /// # Errors
    ///
    /// A sum left its range.
    pub(crate) fn add_users(
        &mut self,
        slot: usize,
        metric: usize,
        value: i128,
        n: u64,
    ) -> Result<(), FoldError> {
        let added = match &mut self.plans[metric].pass[slot] {
            Pass::Tally(tally) => {
                tally.add_many(value, n);
                Some(())
            }
            Pass::Clip { ends, sums } => sums.add(value, n, *ends),
        };
        added.ok_or_else(|| self.overflow(metric))
    }

    fn overflow(&self, metric: usize) -> FoldError {
        FoldError::SumOverflow {
            experiment: self.experiment.clone(),
            metric: self.plans[metric].metric.name.clone(),
        }
    }
}

impl Analysis for Ranks {
    type Question = Vec<RankedPlan>;
    type Answer = Vec<RankedPlan>;

    fn for_plan(plan: &Plan, ranked: &Vec<RankedPlan>) -> Self {
        Self::new(plan, ranked.clone())
    }

    fn answer(folded: Folded<Self>) -> Vec<RankedPlan> {
        folded.accumulator.into_plans()
    }

    #[cfg(feature = "clickhouse")]
    fn push_down(
        view: &crate::clickhouse::View,
        plans: &[Plan],
        ranked: &[Vec<RankedPlan>],
    ) -> Option<Result<Answers<Self>, WarehouseError>> {
        let mut questions = plans.iter().zip(ranked);
        Some(
            questions.try_fold(Vec::new(), |mut answers, (plan, ranked)| {
                answers.push(view.ranks(plan, ranked.clone())?);
                Ok(answers)
            }),
        )
    }
}

impl Accumulator for Ranks {
    fn horizon(&self, exposure: i64) -> i64 {
        let end = |plan: &RankedPlan| plan.metric.window_end(exposure, self.end_at);
        self.plans.iter().map(end).max().unwrap_or(exposure)
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.exposure = *exposure;
        for (user, plan) in self.user.iter_mut().zip(&self.plans) {
            *user = UserValue {
                since: plan.metric.window_start(exposure.at),
                until: plan.metric.window_end(exposure.at, self.end_at),
                ..UserValue::default()
            };
        }
    }

    fn events(&mut self, events: &[Row]) {
        for event in events {
            for (user, plan) in self.user.iter_mut().zip(&self.plans) {
                let is_open = (user.since..user.until).contains(&event.timestamp);
                if !is_open
                    || event.name.code() != Some(plan.metric.event_type)
                    || plan
                        .metric
                        .min_value
                        .is_some_and(|least| event.value < least)
                {
                    continue;
                }
                user.has_event = true;
                match plan.quantity {
                    Quantity::Converted => user.value = UNITS_PER_ONE,
                    Quantity::Events => user.value += UNITS_PER_ONE,
                    Quantity::Total => user.value += i128::from(event.value),
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        let slot = self.exposure.slot;
        for at in 0..self.plans.len() {
            let user = self.user[at];
            if user.has_event || self.plans[at].users == Users::All {
                self.add_users(slot, at, user.value, 1)?;
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        for at in 0..self.plans.len() {
            let passes = self.plans[at].pass.iter_mut().zip(&other.plans[at].pass);
            for (pass, other) in passes {
                let merged = match (pass, other) {
                    (Pass::Tally(tally), Pass::Tally(other)) => {
                        tally.merge(other);
                        Some(())
                    }
                    (Pass::Clip { sums, .. }, Pass::Clip { sums: other, .. }) => sums.merge(other),
                    // Both parts of a fold were made from the same plans.
                    _ => Some(()),
                };
                if merged.is_none() {
                    return Err(self.overflow(at));
                }
            }
        }
        Ok(())
    }
}

/// Counts are ordered in the unit of values, so that a quantile may lie between two.
const UNITS_PER_ONE: i128 = 10_000;
