//! Quantiles and winsorised sums: what takes the order of users, and so further
//! passes over the experiment's events.

use trialog_catalog::experiments::Experiment;
use trialog_model::metric_definition::{MetricDefinition, NamedMetric, Winsorise, WinsoriseOf};
use trialog_model::published::{Computation, MoreSums};
use trialog_stats::{QuantileRank, RankSearch, RankTally, quantile_levels};
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
    /// For each slot, or for each cell one for all variants together.
    searches: Vec<RankSearch>,
    /// How many slots share a search.
    n_together: usize,
    /// What is found out in the end, for each slot.
    outcome: Vec<Option<MoreSums>>,
}

/// What the order of users gives for each metric that takes it.
pub(super) struct RankedMetrics<'a>(Vec<Ranked<'a>>);

impl RankedMetrics<'_> {
    /// Moves what was found out about the users of `cell` into the rows of `computation`.
    pub(super) fn add_to(&mut self, computation: &mut Computation, plan: &Plan, cell: u32) {
        for row in &mut computation.metrics {
            let mut metrics = self.0.iter_mut();
            let metric = metrics.find(|metric| metric.plan.name == row.metric_name);
            let variant = plan.variants.code(&row.variant);
            if let (Some(metric), Some(variant)) = (metric, variant) {
                row.more = metric.outcome[plan.slot(cell, variant)].take();
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
    let searches = metrics.iter_mut().flat_map(|metric| &mut metric.searches);
    searches.for_each(|search| *search = RankSearch::with_buckets(most));
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
        if let Err(error) = metric.take(&found.pass) {
            return Ok(Err(FoldError::SumOverflow {
                experiment: plan.experiment.clone(),
                metric: error,
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
            searches: vec![RankSearch::default(); plan.n_slots() / n_together],
            n_together,
            outcome: vec![None; plan.n_slots()],
        })
    }

    fn is_done(&self) -> bool {
        self.outcome.iter().all(Option::is_some)
    }

    /// What the next pass is to find out.
    fn next_pass(&self) -> RankedPlan {
        let clip = |ends: (i128, i128)| Pass::Clip {
            ends,
            sums: ClippedSums::default(),
        };
        let pass = |slot: usize| {
            let search = &self.searches[slot / self.n_together];
            match (self.outcome[slot].is_some(), self.clip_ends(search)) {
                // Nothing is left to find out.
                (true, _) => clip((0, 0)),
                (false, Some(ends)) => clip(range(ends)),
                (false, None) => Pass::Tally(search.tally()),
            }
        };
        RankedPlan {
            metric: self.plan.clone(),
            quantity: quantity(self.definition.kind),
            users: match self.definition.winsorise.map(|winsorise| winsorise.of) {
                Some(WinsoriseOf::UsersWithEvent) => Users::WithEvent,
                Some(WinsoriseOf::AllUsers) | None => Users::All,
            },
            pass: (0..self.outcome.len()).map(pass).collect(),
        }
    }

    /// Takes in what a pass has found out; the metric's name where a sum left its range.
    fn take(&mut self, passes: &[Pass]) -> Result<(), String> {
        for (at, passes) in passes.chunks(self.n_together).enumerate() {
            let first = at * self.n_together;
            if self.outcome[first].is_some() {
                continue;
            }
            let tallies: Option<Vec<&RankTally>> = passes.iter().map(tally).collect();
            match (tallies, self.definition.winsorise) {
                (Some(tallies), Some(winsorise)) => self.take_together(at, winsorise, &tallies)?,
                (Some(tallies), None) => self.take_quantile(at, tallies[0]),
                (None, _) => self.take_clipped(at, passes),
            }
        }
        Ok(())
    }

    fn take_clipped(&mut self, at: usize, passes: &[Pass]) {
        let Some(ends) = self.clip_ends(&self.searches[at]) else {
            return;
        };
        let outcome = &mut self.outcome[at * self.n_together..];
        for (outcome, pass) in outcome.iter_mut().zip(passes) {
            if let Pass::Clip { sums, .. } = pass {
                *outcome = Some(winsorised(ends, sums));
            }
        }
    }

    /// Orders the users of all variants of a cell together, so that all are treated alike.
    /// Those who are not ordered keep their value, which is 0.
    fn take_together(
        &mut self,
        at: usize,
        winsorise: Winsorise,
        tallies: &[&RankTally],
    ) -> Result<(), String> {
        let search = &mut self.searches[at];
        let mut all = search.tally();
        tallies.iter().for_each(|tally| all.merge(tally));
        let n = search.n().unwrap_or(all.n());
        let levels = [winsorise.lower, winsorise.upper].into_iter().flatten();
        let ranks: Vec<u64> = levels
            .filter_map(|level| QuantileRank::of(n, level))
            .flat_map(|rank| [rank.low, rank.high])
            .collect();
        search.narrow(&all, &ranks);
        let Some(ends) = self.clip_ends(&self.searches[at]) else {
            return Ok(());
        };
        // Where a pass has told every value apart, the sums need no other one.
        let values: Option<Vec<_>> = tallies.iter().map(|tally| tally.values()).collect();
        let outcome = &mut self.outcome[at * self.n_together..];
        for (outcome, values) in outcome.iter_mut().zip(values.unwrap_or_default()) {
            let mut sums = ClippedSums::default();
            for (value, n) in values {
                let added = sums.add(value, n, range(ends));
                added.ok_or_else(|| self.plan.name.clone())?;
            }
            *outcome = Some(winsorised(ends, &sums));
        }
        Ok(())
    }

    /// Returns what users are set to where they lie below or above it, rounded to the four
    /// decimals of values; none until it is known.
    fn clip_ends(&self, search: &RankSearch) -> Option<[Option<i128>; 2]> {
        let winsorise = self.definition.winsorise.filter(|_| search.is_done())?;
        let end = |level: Option<f64>| {
            let rank = QuantileRank::of(search.n()?, level?)?;
            let (low, high) = (search.value_at(rank.low)?, search.value_at(rank.high)?);
            // The distance is small beside 2^53 wherever the share matters.
            Some(low + (rank.share * (high - low) as f64).round_ties_even() as i128)
        };
        Some([end(winsorise.lower), end(winsorise.upper)])
    }

    fn take_quantile(&mut self, at: usize, tally: &RankTally) {
        let Some(level) = self.definition.quantile else {
            return;
        };
        let search = &mut self.searches[at];
        let n = search.n().unwrap_or(tally.n());
        let quantiles = quantile_levels(n, level)
            .ok()
            .map(|(low, high)| [level, low, high].map(|level| QuantileRank::of(n, level)));
        let wanted = quantiles.into_iter().flatten().flatten();
        let ranks: Vec<u64> = wanted.flat_map(|rank| [rank.low, rank.high]).collect();
        search.narrow(tally, &ranks);
        if search.is_done() {
            self.outcome[at] = Some(quantile(search, level));
        }
    }
}

fn tally(pass: &Pass) -> Option<&RankTally> {
    match pass {
        Pass::Tally(tally) => Some(tally),
        Pass::Clip { .. } => None,
    }
}

/// The values that stay as they are.
fn range(ends: [Option<i128>; 2]) -> (i128, i128) {
    (ends[0].unwrap_or(i128::MIN), ends[1].unwrap_or(i128::MAX))
}

fn winsorised(ends: [Option<i128>; 2], sums: &ClippedSums) -> MoreSums {
    MoreSums::Winsorised {
        total: sums.total,
        squared_total: sums.squared_total,
        ends,
        users: sums.n_clipped,
    }
}

/// The quantile and the ends of its interval; 0 without users.
fn quantile(search: &RankSearch, level: f64) -> MoreSums {
    let n = search.n().unwrap_or(0);
    let at = |level: f64| {
        let rank = QuantileRank::of(n, level)?;
        let (low, high) = (search.value_at(rank.low)?, search.value_at(rank.high)?);
        Some(rank.between(low as f64, high as f64))
    };
    let (low, high) = quantile_levels(n, level).unwrap_or((level, level));
    let [quantile, low, high] = [level, low, high].map(|level| at(level).unwrap_or(0.0));
    MoreSums::Quantile {
        quantile,
        ends: [low, high],
        tied: search.most_tied(),
    }
}
