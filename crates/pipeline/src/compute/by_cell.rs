//! Computes a scorecard of an experiment for each value of context keys.

use std::sync::Arc;

use trialog_catalog::experiments::Experiment;
use trialog_model::event::EventKind;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_warehouse::analysis::scorecard::Scorecard;
use trialog_warehouse::fold::UserFilter;
use trialog_warehouse::fold::split::{CellValues, Split};
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

use super::{Limits, computation_of_cell, plan, ranked};

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

/// Computes `experiment` by the values of `keys` at the exposure, for the users that `filter`
/// lets through; the inner error is the experiment's own.
pub(crate) fn compute_by_keys(
    view: &View,
    experiment: &Experiment,
    limits: &Limits,
    data_time: UnixMicros,
    (filter, keys): (&UserFilter, &[String]),
    n_threads: usize,
) -> Result<Result<Breakdown, FoldError>, WarehouseError> {
    let id = experiment.definition.experiment_id.as_str();
    let assignments = view.contents(EventKind::Assignment, &[id])?;
    let metrics = view.contents(EventKind::Metric, &[id])?;
    let contents = [assignments.get(id), metrics.get(id)];
    let (mut plan, metrics) = plan(contents, experiment, limits, data_time, filter);
    let found = view.key_values(&plan, keys, MAX_VALUES, n_threads)?;
    let cells = found.values.cells(keys);
    let values = cells.values().to_vec();
    plan.split = Split::Keys(cells);
    plan.exposures = found.exposures.map(Arc::new);
    let plans = std::slice::from_ref(&plan);
    let outcome = view.run::<Scorecard>(plans, &[metrics], n_threads)?.pop();
    let Some(outcome) = outcome else {
        return Ok(Ok(Breakdown {
            cells: Vec::new(),
            n_values: 0,
        }));
    };
    let folded = match outcome {
        Ok(folded) => folded,
        Err(error) => return Ok(Err(error)),
    };
    let ranked = match ranked::order_users(view, experiment, &plan, n_threads)? {
        Ok(ranked) => ranked,
        Err(error) => return Ok(Err(error)),
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
    let cells = values.into_iter().map(Some).chain(other).zip(0..);
    let cells = cells.map(|(values, cell)| {
        let mut computation = computation_of_cell(experiment, &plan, limits, &folded, cell);
        ranked.add_to(&mut computation, &plan, cell);
        Cell {
            values,
            computation,
        }
    });
    Ok(Ok(Breakdown {
        cells: cells.collect(),
        n_values: found.values.n_values,
    }))
}
