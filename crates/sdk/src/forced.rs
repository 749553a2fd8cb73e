//! Stores variants that the application forces, for its tests and its testers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use trialog_model::ids::Variant;

/// By experiment, then by unit.
type ByExperiment = HashMap<String, HashMap<String, Variant>>;

/// The forced variants. Few clients have any, and without any a lookup costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Forced {
    all: ArcSwapOption<ByExperiment>,
    is_used: AtomicBool,
}

impl Forced {
    pub(crate) fn get(&self, unit: &str, experiment: &str) -> Option<Variant> {
        if !self.is_used.load(Ordering::Relaxed) {
            return None;
        }
        let all = self.all.load();
        all.as_ref()?.get(experiment)?.get(unit).cloned()
    }

    /// Forces `unit` into `variant`; `None` lets the rules decide again.
    pub(crate) fn set(&self, unit: &str, experiment: &str, variant: Option<&Variant>) {
        self.is_used.store(true, Ordering::Relaxed);
        self.all.rcu(|all| {
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
