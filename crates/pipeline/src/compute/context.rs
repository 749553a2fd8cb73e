//! Lists the keys of contexts with their values, on request.

use trialog_catalog::experiments::Experiment;
use trialog_model::event::EventKind;
use trialog_model::time::UnixMicros;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::analysis::keys::{FoundKeys, Keys};
use trialog_warehouse::analysis::values::KeyValues;
use trialog_warehouse::fold::UserFilter;
use trialog_warehouse::view::View;

use super::by_cell::MAX_VALUES;
use super::{Limits, plan};

/// Keys whose values are listed: those with the most users.
pub const MAX_CONTEXT_KEYS: usize = 100;

/// The keys of the contexts of an experiment's exposed users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextKeys {
    /// All keys.
    pub found: FoundKeys,
    /// The values of the first [`MAX_CONTEXT_KEYS`] keys, in their order.
    pub values: Vec<KeyValues>,
}

/// Lists the keys of the contexts of `experiment`'s exposed users.
pub(crate) fn compute_context(
    view: &View,
    experiment: &Experiment,
    limits: &Limits,
    data_time: UnixMicros,
    n_threads: usize,
) -> Result<ContextKeys, WarehouseError> {
    let id = experiment.definition.experiment_id.as_str();
    let assignments = view.contents(EventKind::Assignment, &[id])?;
    let contents = [assignments.get(id), None];
    let (plan, _) = plan(
        contents,
        experiment,
        limits,
        data_time,
        &UserFilter::default(),
    );
    let plans = std::slice::from_ref(&plan);
    // Counting users overflows nothing.
    let answer = view.run::<Keys>(plans, &[()], n_threads)?.pop();
    let found = answer.and_then(Result::ok).unwrap_or_default();
    let listed = found.keys.iter().take(MAX_CONTEXT_KEYS);
    let groups: Vec<Vec<String>> = listed.map(|key| vec![key.key.clone()]).collect();
    let values = match groups.is_empty() {
        true => Vec::new(),
        false => {
            view.key_values(&plan, &groups, MAX_VALUES, n_threads)?
                .values
        }
    };
    Ok(ContextKeys { found, values })
}
