//! Variants that the application forces, for its tests and its testers.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use trialog_model::ids::Variant;

/// By experiment, then by unit.
type ByExperiment = HashMap<String, HashMap<String, Variant>>;

/// Empty for nearly every client: then a look costs one load.
#[derive(Debug, Default)]
pub(crate) struct Forced(ArcSwapOption<ByExperiment>);

impl Forced {
    pub(crate) fn get(&self, unit: &str, experiment: &str) -> Option<Variant> {
        let all = self.0.load();
        all.as_ref()?.get(experiment)?.get(unit).cloned()
    }

    /// Forces `unit` into `variant`, or lets the rules decide again.
    pub(crate) fn set(&self, unit: &str, experiment: &str, variant: Option<&Variant>) {
        self.0.rcu(|all| {
            let mut all = all.as_deref().cloned().unwrap_or_default();
            let units = all.entry(experiment.to_owned()).or_default();
            match variant {
                Some(variant) => units.insert(unit.to_owned(), variant.clone()),
                None => units.remove(unit),
            };
            all.retain(|_, units| !units.is_empty());
            Some(Arc::new(all)).filter(|all| !all.is_empty())
        });
    }
}
