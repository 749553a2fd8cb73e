//! Caches the ruleset for evaluations, prepared once for each version of the configuration.
//!
//! The catalog's count of writes shows whether the ruleset is the newest. Where
//! every change passes the one catalog of the process, an evaluation never sees an older one
//! than the change that was answered before it; of a change that another process made in a
//! shared catalog this one is notified within moments.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use trialog_catalog::configuration::Control;
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::assignment::{Arm, Rules, Ruleset};
use trialog_model::ids::{ExperimentId, Variant};
use trialog_model::murmur3::murmur3_x64_128;

/// A version of the configuration in the forms that evaluations need.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) ruleset: Ruleset,
    /// As `GET /v1/sdk/config` answers it.
    pub(crate) json: Bytes,
    /// The fingerprint of `json`.
    pub(crate) version: String,
    /// The controls that are not the first variant.
    controls: HashMap<ExperimentId, Variant>,
    /// The controls of experiments that were stopped, in the order of their ids.
    pub(crate) stopped: Vec<Control>,
    /// The catalog's number of the configuration.
    number: i64,
}

impl Prepared {
    /// Returns the control of `rules`, an experiment of this ruleset.
    pub(crate) fn control<'p>(&self, rules: &'p Rules) -> Option<&'p Arm> {
        let named = self.controls.get(rules.experiment_id());
        named
            .and_then(|control| rules.arm(control.as_str()))
            .or_else(|| rules.arms().first())
    }

    /// Returns the control of the experiment `id`, if it is one of `stopped`.
    pub(crate) fn stopped(&self, id: &str) -> Option<&Control> {
        let found =
            (self.stopped).binary_search_by(|control| control.experiment_id.as_str().cmp(id));
        found.ok().map(|place| &self.stopped[place])
    }
}

#[derive(Default)]
pub(crate) struct Rulesets {
    current: RwLock<Option<Current>>,
    preparing: Mutex<()>,
}

struct Current {
    prepared: Arc<Prepared>,
    /// The count of writes up to which it is the newest.
    n_writes: u64,
}

impl Rulesets {
    /// Returns the newest ruleset, if it is known without reading the catalog.
    pub(crate) fn current(&self, catalog: &Catalog) -> Option<Arc<Prepared>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let current = current.as_ref()?;
        (current.n_writes == catalog.n_writes()).then(|| Arc::clone(&current.prepared))
    }

    /// Returns the newest ruleset. One request prepares it while others wait.
    pub(crate) fn refresh(&self, catalog: &Catalog) -> Result<Arc<Prepared>, CatalogError> {
        let _preparing = self
            .preparing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = self.current(catalog) {
            return Ok(current);
        }
        let n_writes = catalog.n_writes();
        let known = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            current
                .as_ref()
                .map(|current| Arc::clone(&current.prepared))
        };
        let prepared = match known {
            Some(known) if known.number == catalog.configuration_version()? => known,
            _ => Arc::new(prepare(catalog)?),
        };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Current {
            prepared: Arc::clone(&prepared),
            n_writes,
        });
        Ok(prepared)
    }
}

fn prepare(catalog: &Catalog) -> Result<Prepared, CatalogError> {
    let configuration = catalog.configuration()?;
    let json = serde_json::to_vec(&configuration.rules)
        .expect("rules have text keys and finite numbers only");
    Ok(Prepared {
        ruleset: Ruleset::new(&configuration.rules),
        version: fingerprint(&json),
        json: json.into(),
        controls: configuration.controls.into_iter().collect(),
        stopped: configuration.stopped,
        number: configuration.version,
    })
}

/// Returns the hash of `bytes` for an `ETag`.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    let (high, low) = murmur3_x64_128(bytes, 0);
    format!("{high:016x}{low:016x}")
}
