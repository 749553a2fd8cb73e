//! Records which key first named an experiment, when its first events come in, so that a later run
//! can distribute the places of unregistered experiments.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::app::App;
use crate::limits::Who;
use crate::pools;

/// Names that this process remembers to have noted; beyond it, it starts over.
const MAX_SEEN: usize = 100_000;
/// The most names that are looked up for a request; a client that sends more than that has no
/// share of places for the others.
const MAX_PER_REQUEST: usize = 1_000;

/// The recorded names, as hashes with a secret seed.
#[derive(Debug, Default)]
pub(crate) struct Names {
    hasher: RandomState,
    seen: Mutex<HashSet<u64>>,
}

impl Names {
    /// Records that `who` sent events of `experiments`; nothing without a key. If the catalog
    /// cannot be written, the events are stored anyway.
    pub(crate) async fn note(
        &self,
        app: &Arc<App>,
        who: &Who,
        experiments: &[String],
        now: UnixMicros,
    ) {
        let Who::Key(key) = who else {
            return;
        };
        let new = self.new_ones(experiments);
        if new.is_empty() {
            return;
        }
        let (key, ids) = (key.clone(), new.clone());
        let noted = pools::change(app, move |app| {
            Ok(app.catalog.note_sender(&key, &ids, now)?)
        });
        match noted.await {
            Ok(()) => self.remember(&new),
            Err(problem) => {
                tracing::debug!(
                    problem = problem.detail(),
                    "who named experiments was not noted"
                );
            }
        }
    }

    fn new_ones(&self, experiments: &[String]) -> Vec<ExperimentId> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            (experiments.iter()).filter(|id| !seen.contains(&self.hasher.hash_one(id.as_str())));
        let new = new.take(MAX_PER_REQUEST);
        new.filter_map(|id| ExperimentId::new(id).ok()).collect()
    }

    fn remember(&self, experiments: &[ExperimentId]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() + experiments.len() > MAX_SEEN {
            seen.clear();
        }
        seen.extend(
            experiments
                .iter()
                .map(|id| self.hasher.hash_one(id.as_str())),
        );
    }
}
