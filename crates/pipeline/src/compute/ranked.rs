//! Quantiles and winsorised sums: what takes the order of users, and so further
//! passes over the experiment's events.

use trialog_catalog::experiments::Experiment;
use trialog_model::metric_definition::{MetricDefinition, NamedMetric, Winsorise, WinsoriseOf};
use trialog_model::published::MoreSums;
use trialog_stats::{QuantileRank, RankSearch, RankTally, quantile_levels};
use trialog_warehouse::analysis::ranks::{ClippedSums, Pass, RankedPlan, Ranks, Users};
use trialog_warehouse::analysis::scorecard::{MetricPlan, Shape};
use trialog_warehouse::fold::Plan;
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

use super::{Computed, named_plan, quantity};

/// Different values that a pass over an experiment tells apart, in all: about 256 MB.
const MOST_BUCKETS: usize = 4 << 20;
/// And for one variant of one metric.
const MOST_BUCKETS_OF_ONE: usize = 16 << 10;

/// A metric that takes the order of users.
struct Ranked<'a> {
    definition: &'a MetricDefinition,
    plan: MetricPlan,
    /// For each variant, or one for all of them together.
    searches: Vec<RankSearch>,
    /// What is found out in the end, for each variant.
    outcome: Vec<Option<MoreSums>>,
}

/// Adds to `computed` what the metrics of `experiment` need beside their sums.
pub(super) fn add(
    view: &View,
    experiment: &Experiment,
    plan: &Plan,
    n_threads: usize,
    computed: &mut Computed,
) -> Result<(), WarehouseError> {
    let Ok(computation) = &mut computed.outcome else {
        return Ok(());
    };
    let named = (experiment.definition).named_metrics(&experiment.defined_metrics);
    let n_variants = plan.variants.len();
    let mut metrics: Vec<Ranked<'_>> = Vec::new();
    for metric in &named {
        let is_new = metrics.iter().all(|own| own.plan.name != metric.name);
        metrics.extend(Ranked::of(metric, plan).filter(|_| is_new));
    }
    let n_tallies = metrics.len() * n_variants;
    let most = (MOST_BUCKETS / n_tallies.max(1)).min(MOST_BUCKETS_OF_ONE);
    let searches = metrics.iter_mut().flat_map(|own| &mut own.searches);
    searches.for_each(|search| *search = RankSearch::with_buckets(most));
    while metrics.iter().any(|own| !own.is_done()) {
        match pass(view, plan, n_threads, &mut metrics, n_variants)? {
            Ok(()) => {}
            Err(error) => {
                computed.outcome = Err(error);
                return Ok(());
            }
        }
    }
    for row in &mut computation.metrics {
        let metric = metrics
            .iter_mut()
            .find(|own| own.plan.name == row.metric_name);
        let variant = plan.variants.code(&row.variant);
        if let (Some(metric), Some(variant)) = (metric, variant) {
            row.more = metric.outcome[variant as usize].take();
        }
    }
    Ok(())
}

/// One fold over the experiment, for every metric that is not done.
fn pass(
    view: &View,
    plan: &Plan,
    n_threads: usize,
    metrics: &mut [Ranked<'_>],
    n_variants: usize,
) -> Result<Result<(), FoldError>, WarehouseError> {
    let mut open: Vec<&mut Ranked<'_>> = metrics.iter_mut().filter(|own| !own.is_done()).collect();
    let plans: Vec<RankedPlan> = open.iter().map(|own| own.next(n_variants)).collect();
    let found = view
        .run::<Ranks>(std::slice::from_ref(plan), &[plans], n_threads)?
        .pop()
        .expect("there is an answer for each plan");
    let found = match found {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    for (metric, found) in open.iter_mut().zip(found) {
        if let Err(error) = metric.take(found.pass) {
            return Ok(Err(FoldError::SumOverflow {
                experiment: plan.experiment.clone(),
                metric: error,
            }));
        }
    }
    Ok(Ok(()))
}

impl<'a> Ranked<'a> {
    fn of(metric: &NamedMetric<'a>, plan: &Plan) -> Option<Self> {
        let definition = metric.definition?;
        let n_searches = match (definition.quantile, definition.winsorise) {
            (Some(_), _) => plan.variants.len(),
            (None, Some(_)) => 1,
            (None, None) => return None,
        };
        Some(Self {
            definition,
            plan: named_plan(
                metric,
                plan.event_types.code(metric.event_type)?,
                Shape::Plain,
            ),
            searches: vec![RankSearch::default(); n_searches],
            outcome: vec![None; plan.variants.len()],
        })
    }

    fn is_done(&self) -> bool {
        self.outcome.iter().all(Option::is_some)
    }

    fn has_ranks(&self) -> bool {
        self.searches.iter().all(RankSearch::is_done)
    }

    /// What the next pass is to find out.
    fn next(&self, n_variants: usize) -> RankedPlan {
        let pass = |variant: usize| match self.clip_ends() {
            Some(ends) => Pass::Clip {
                ends: range(ends),
                sums: ClippedSums::default(),
            },
            None => Pass::Tally(self.search(variant).tally()),
        };
        RankedPlan {
            metric: self.plan.clone(),
            quantity: quantity(self.definition.kind),
            users: match self.definition.winsorise.map(|winsorise| winsorise.of) {
                Some(WinsoriseOf::UsersWithEvent) => Users::WithEvent,
                Some(WinsoriseOf::AllUsers) | None => Users::All,
            },
            pass: (0..n_variants).map(pass).collect(),
        }
    }

    fn search(&self, variant: usize) -> &RankSearch {
        &self.searches[if self.searches.len() == 1 { 0 } else { variant }]
    }

    /// Takes in what a pass has found out; the metric's name where a sum left its range.
    fn take(&mut self, pass: Vec<Pass>) -> Result<(), String> {
        if let Some(ends) = self.clip_ends() {
            for (outcome, pass) in self.outcome.iter_mut().zip(pass) {
                if let Pass::Clip { sums, .. } = pass {
                    *outcome = Some(winsorised(ends, &sums));
                }
            }
            return Ok(());
        }
        let tallies: Vec<RankTally> = (pass.into_iter())
            .filter_map(|pass| match pass {
                Pass::Tally(tally) => Some(tally),
                Pass::Clip { .. } => None,
            })
            .collect();
        match self.definition.winsorise {
            Some(winsorise) => self.take_together(winsorise, &tallies),
            None => {
                self.take_quantiles(&tallies);
                Ok(())
            }
        }
    }

    /// Users of all variants are ordered together, so that all are treated alike. Those
    /// who are not ordered keep their value, which is 0.
    fn take_together(&mut self, winsorise: Winsorise, tallies: &[RankTally]) -> Result<(), String> {
        let mut all = self.searches[0].tally();
        tallies.iter().for_each(|tally| all.merge(tally));
        let n = self.searches[0].n().unwrap_or(all.n());
        let levels = [winsorise.lower, winsorise.upper].into_iter().flatten();
        let ranks: Vec<u64> = levels
            .filter_map(|level| QuantileRank::of(n, level))
            .flat_map(|rank| [rank.low, rank.high])
            .collect();
        self.searches[0].narrow(&all, &ranks);
        let Some(ends) = self.clip_ends() else {
            return Ok(());
        };
        // Where a pass has told every value apart, the sums need no other one.
        let values: Option<Vec<_>> = tallies.iter().map(RankTally::values).collect();
        for (outcome, values) in self.outcome.iter_mut().zip(values.unwrap_or_default()) {
            let mut sums = ClippedSums::default();
            for (value, n) in values {
                let added = sums.add(value, n, range(ends));
                added.ok_or_else(|| self.plan.name.clone())?;
            }
            *outcome = Some(winsorised(ends, &sums));
        }
        Ok(())
    }

    /// What users are set to where they lie below or above it, rounded to the four
    /// decimals of values; `None` until it is known.
    fn clip_ends(&self) -> Option<[Option<i128>; 2]> {
        let winsorise = self.definition.winsorise.filter(|_| self.has_ranks())?;
        let search = &self.searches[0];
        let end = |level: Option<f64>| {
            let rank = QuantileRank::of(search.n()?, level?)?;
            let (low, high) = (search.value_at(rank.low)?, search.value_at(rank.high)?);
            // The distance is small beside 2^53 wherever the share matters.
            Some(low + (rank.share * (high - low) as f64).round_ties_even() as i128)
        };
        Some([end(winsorise.lower), end(winsorise.upper)])
    }

    fn take_quantiles(&mut self, tallies: &[RankTally]) {
        let Some(level) = self.definition.quantile else {
            return;
        };
        for (at, tally) in tallies.iter().enumerate() {
            let search = &mut self.searches[at];
            if search.is_done() {
                continue;
            }
            let n = search.n().unwrap_or(tally.n());
            let quantiles = quantile_levels(n, level)
                .ok()
                .map(|(low, high)| [level, low, high].map(|level| QuantileRank::of(n, level)));
            let wanted = quantiles.into_iter().flatten().flatten();
            let ranks: Vec<u64> = wanted.flat_map(|rank| [rank.low, rank.high]).collect();
            search.narrow(tally, &ranks);
        }
        if !self.has_ranks() {
            return;
        }
        for (search, outcome) in self.searches.iter().zip(&mut self.outcome) {
            *outcome = Some(quantile(search, level));
        }
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
