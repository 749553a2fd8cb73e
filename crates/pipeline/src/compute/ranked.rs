//! Computes quantiles and winsorised sums. They need the order of users, and so further passes over
//! the experiment's events.

use trialog_catalog::experiments::Experiment;
use trialog_model::metric_definition::{MetricDefinition, NamedMetric, WinsoriseOf};
use trialog_model::published::{Computation, MoreSums};
use trialog_stats::{RankGoal, RankPasses, RankTally};
use trialog_warehouse::analysis::ranks::{ClippedSums, Pass, RankedPlan, Ranks, Users};
use trialog_warehouse::analysis::scorecard::{MetricPlan, Shape};
use trialog_warehouse::fold::Plan;
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

use super::{named_plan, quantity};

/// Different values that a pass over an experiment tells apart, in all: about 256 MB.
const MOST_BUCKETS: usize = 4 << 20;
/// And for one variant of one metric.
const MOST_BUCKETS_OF_ONE: usize = 16 << 10;

/// A metric that takes the order of users.
struct Ranked<'a> {
    definition: &'a MetricDefinition,
    plan: MetricPlan,
    /// How many slots are ordered together: one, or all variants of a cell.
    n_together: usize,
    /// For the slots that are ordered together each.
    passes: Vec<RankPasses<ClippedSums>>,
}

/// What the order of users gives for each metric that takes it.
pub(super) struct RankedMetrics<'a>(Vec<Ranked<'a>>);

impl RankedMetrics<'_> {
    /// Adds what was found out about the users of `cell` to the rows of `computation`.
    pub(super) fn add_to(&self, computation: &mut Computation, plan: &Plan, cell: u32) {
        for row in &mut computation.metrics {
            let mut metrics = self.0.iter();
            let metric = metrics.find(|metric| metric.plan.name == row.metric_name);
            let variant = plan.variants.code(&row.variant);
            if let (Some(metric), Some(variant)) = (metric, variant) {
                row.more = metric.outcome(plan.slot(cell, variant));
            }
        }
    }
}

/// Orders the users of `experiment` for the metrics that take it; the inner error is the
/// experiment's own.
pub(super) fn order_users<'e>(
    view: &View,
    experiment: &'e Experiment,
    plan: &Plan,
    n_threads: usize,
) -> Result<Result<RankedMetrics<'e>, FoldError>, WarehouseError> {
    let named = (experiment.definition).named_metrics(&experiment.defined_metrics);
    let mut metrics: Vec<Ranked<'_>> = Vec::new();
    for metric in &named {
        let is_new = metrics.iter().all(|known| known.plan.name != metric.name);
        metrics.extend(Ranked::from_metric(metric, plan).filter(|_| is_new));
    }
    let n_tallies = metrics.len() * plan.n_slots();
    let most = (MOST_BUCKETS / n_tallies.max(1)).min(MOST_BUCKETS_OF_ONE);
    metrics
        .iter_mut()
        .for_each(|metric| metric.begin(plan, most));
    while metrics.iter().any(|metric| !metric.is_done()) {
        if let Err(error) = pass(view, plan, n_threads, &mut metrics)? {
            return Ok(Err(error));
        }
    }
    Ok(Ok(RankedMetrics(metrics)))
}

/// One fold over the experiment, for every metric that is not done.
fn pass(
    view: &View,
    plan: &Plan,
    n_threads: usize,
    metrics: &mut [Ranked<'_>],
) -> Result<Result<(), FoldError>, WarehouseError> {
    let open = metrics.iter_mut().filter(|metric| !metric.is_done());
    let mut open: Vec<&mut Ranked<'_>> = open.collect();
    let plans: Vec<RankedPlan> = open.iter().map(|metric| metric.next_pass()).collect();
    let found = view
        .run::<Ranks>(std::slice::from_ref(plan), &[plans], n_threads)?
        .pop()
        .expect("there is an answer for each plan");
    let found = match found {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    for (metric, found) in open.iter_mut().zip(found) {
        if metric.take(found.pass).is_none() {
            return Ok(Err(FoldError::SumOverflow {
                experiment: plan.experiment.clone(),
                metric: metric.plan.name.clone(),
            }));
        }
    }
    Ok(Ok(()))
}

impl<'a> Ranked<'a> {
    fn from_metric(metric: &NamedMetric<'a>, plan: &Plan) -> Option<Self> {
        let definition = metric.definition?;
        let n_together = match (definition.quantile, definition.winsorise) {
            (Some(_), _) => 1,
            (None, Some(_)) => plan.variants.len().max(1),
            (None, None) => return None,
        };
        Some(Self {
            definition,
            plan: named_plan(
                metric,
                plan.event_types.code(metric.event_type)?,
                Shape::Plain,
            ),
            n_together,
            passes: Vec::new(),
        })
    }

    /// Begins with the first pass; `most_buckets` bounds the memory of a slot's tally.
    fn begin(&mut self, plan: &Plan, most_buckets: usize) {
        let goal = match (self.definition.quantile, self.definition.winsorise) {
            (None, Some(winsorise)) => RankGoal::Winsorised([winsorise.lower, winsorise.upper]),
            (level, _) => RankGoal::Quantile(level.unwrap_or_default()),
        };
        let passes = RankPasses::new(goal, self.n_together, most_buckets);
        self.passes = vec![passes; plan.n_slots() / self.n_together];
    }

    fn is_done(&self) -> bool {
        self.passes.iter().all(RankPasses::is_done)
    }

    /// What the next pass is to find out.
    fn next_pass(&self) -> RankedPlan {
        let clip = |ends| Pass::Clip {
            ends,
            sums: ClippedSums::default(),
        };
        let pass = |slot: usize| {
            let passes = &self.passes[slot / self.n_together];
            match (passes.is_done(), passes.ends()) {
                // Nothing is left to find out.
                (true, _) => clip([None, None]),
                (false, Some(ends)) => clip(ends),
                (false, None) => Pass::Tally(passes.tally(slot % self.n_together)),
            }
        };
        RankedPlan {
            metric: self.plan.clone(),
            quantity: quantity(self.definition.kind),
            users: match self.definition.winsorise.map(|winsorise| winsorise.of) {
                Some(WinsoriseOf::UsersWithEvent) => Users::WithEvent,
                Some(WinsoriseOf::AllUsers) | None => Users::All,
            },
            pass: (0..self.passes.len() * self.n_together).map(pass).collect(),
        }
    }

    /// Takes in what a pass has found out; `None` where a sum left its range. Users who are not
    /// ordered keep their value, which is 0, so the sums never need them.
    fn take(&mut self, found: Vec<Pass>) -> Option<()> {
        let mut found = found.into_iter();
        for passes in &mut self.passes {
            let found: Vec<Pass> = found.by_ref().take(self.n_together).collect();
            if passes.is_done() {
                continue;
            }
            if passes.ends().is_some() {
                passes.take_sums(found.iter().filter_map(clipped_sums).collect());
            } else {
                let tallies: Vec<RankTally> = found.into_iter().filter_map(tally).collect();
                passes.take_tallies(&tallies, true)?;
            }
        }
        Some(())
    }

    /// What was found out about the users of `slot`; none before all passes are done.
    fn outcome(&self, slot: usize) -> Option<MoreSums> {
        let passes = &self.passes[slot / self.n_together];
        let Some(ends) = passes.ends() else {
            return Some(quantile(passes)).filter(|_| passes.is_done());
        };
        let sums = passes.sums()?.get(slot % self.n_together)?;
        Some(MoreSums::Winsorised {
            total: sums.total,
            squared_total: sums.squared_total,
            ends,
            users: sums.n_clipped,
        })
    }
}

fn tally(pass: Pass) -> Option<RankTally> {
    match pass {
        Pass::Tally(tally) => Some(tally),
        Pass::Clip { .. } => None,
    }
}

fn clipped_sums(pass: &Pass) -> Option<ClippedSums> {
    match pass {
        Pass::Clip { sums, .. } => Some(*sums),
        Pass::Tally(_) => None,
    }
}

/// The quantile and the ends of its interval; 0 without users.
fn quantile(passes: &RankPasses<ClippedSums>) -> MoreSums {
    let found = passes.quantile(0, |value| value as f64);
    MoreSums::Quantile {
        quantile: found.map_or(0.0, |found| found.quantile),
        ends: found.map_or([0.0; 2], |found| [found.lower, found.upper]),
        tied: found.and_then(|found| found.tied),
    }
}
