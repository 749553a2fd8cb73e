//! Computes a scorecard of an experiment for each value of context keys.

use std::sync::Arc;

use trialog_catalog::experiments::Experiment;
use trialog_model::event::EventKind;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_warehouse::analysis::scorecard::Scorecard;
use trialog_warehouse::analysis::scorecard::by_keys::{ByKeys, ByKeysQuestion};
use trialog_warehouse::fold::split::{CellValues, KeyCells, Split};
use trialog_warehouse::fold::{Folded, Plan, UserFilter};
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

use super::ranked::{self, RankedMetrics};
use super::{Limits, computation_of_cell, plan};

/// Values that have a cell of their own: those with the most users. All others share one.
pub const MAX_VALUES: usize = 50;

/// An experiment's results by the values of context keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Breakdown {
    /// The cells with users in the order of their users, then those without a value, then the
    /// others.
    pub cells: Vec<Cell>,
    /// How many values there are, those of exposed users.
    pub n_values: u64,
}

/// The results of the users in one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The values of the keys, none for a key that is missing; absent for all other values.
    pub values: Option<CellValues>,
    /// Their results.
    pub computation: Computation,
}

/// Computes `experiment` by the values of each group of keys at the exposure, for the users that
/// `filter` lets through; the inner error is the experiment's own. The keys of a group are crossed.
pub(crate) fn compute_by_keys(
    view: &View,
    experiment: &Experiment,
    limits: &Limits,
    data_time: UnixMicros,
    (filter, groups): (&UserFilter, &[Vec<String>]),
    n_threads: usize,
) -> Result<Result<Vec<Breakdown>, FoldError>, WarehouseError> {
    let id = experiment.definition.experiment_id.as_str();
    let assignments = view.contents(EventKind::Assignment, &[id])?;
    let metrics = view.contents(EventKind::Metric, &[id])?;
    let contents = [assignments.get(id), metrics.get(id)];
    let (plan, metrics) = plan(contents, experiment, limits, data_time, filter);
    let found = view.key_values(&plan, groups, MAX_VALUES, n_threads)?;
    let exposures = found.exposures.map(Arc::new);
    let cells = groups.iter().zip(&found.values);
    let cells: Vec<KeyCells> = cells.map(|(keys, values)| values.cells(keys)).collect();
    let split = |cells: &KeyCells| Plan {
        split: Split::Keys(cells.clone()),
        exposures: exposures.clone(),
        ..plan.clone()
    };
    let plans: Vec<Plan> = cells.iter().map(split).collect();
    let folded = match plans.len() {
        1 => {
            let outcome = view.run::<Scorecard>(&plans, &[metrics], n_threads)?.pop();
            outcome.map(|folded| folded.map(|folded| vec![folded]))
        }
        _ => {
            let question = ByKeysQuestion {
                metrics,
                groups: cells,
            };
            let plans = std::slice::from_ref(&plan);
            view.run::<ByKeys>(plans, &[question], n_threads)?.pop()
        }
    };
    let folded = match folded.transpose() {
        Ok(folded) => folded.unwrap_or_default(),
        Err(error) => return Ok(Err(error)),
    };
    let mut breakdowns = Vec::with_capacity(groups.len());
    for ((plan, folded), values) in plans.iter().zip(&folded).zip(&found.values) {
        let ranked = match ranked::order_users(view, experiment, plan, n_threads)? {
            Ok(ranked) => ranked,
            Err(error) => return Ok(Err(error)),
        };
        breakdowns.push(Breakdown {
            cells: cells_of(experiment, limits, plan, folded, &ranked),
            n_values: values.n_values,
        });
    }
    Ok(Ok(breakdowns))
}

/// Collects what was folded by cell; cells without anybody are left out at the end.
fn cells_of(
    experiment: &Experiment,
    limits: &Limits,
    plan: &Plan,
    folded: &Folded<Scorecard>,
    ranked: &RankedMetrics<'_>,
) -> Vec<Cell> {
    let values = match &plan.split {
        Split::Keys(cells) => cells.values(),
        _ => &[],
    };
    // Users who do not count may have values that no exposed user has.
    let last = values.len() as u32;
    let first_slot = plan.slot(last, 0);
    let counts = [
        &folded.users[first_slot..],
        &folded.crossovers[first_slot..],
    ];
    let excluded = folded.forced[values.len()] + folded.unknown_variant[values.len()];
    let has_others = excluded > 0 || counts.into_iter().flatten().any(|users| *users > 0);
    let other = has_others.then_some(None);
    let values = values.iter().cloned().map(Some);
    let cells = values.chain(other).zip(0..);
    cells
        .map(|(values, cell)| {
            let mut computation = computation_of_cell(experiment, plan, limits, folded, cell);
            ranked.add_to(&mut computation, plan, cell);
            Cell {
                values,
                computation,
            }
        })
        .collect()
}
