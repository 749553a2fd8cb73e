//! What happened to an experiment after its start: the decision, the pauses, and what it
//! was when it was stopped.
//!
//! It is one column of JSON. `ship`, beside it, is the variant that is answered with now;
//! it is a column of its own so that an index finds the few experiments that have one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trialog_model::bucket::n_of_share;
use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::Variant;
use trialog_model::life::{Decision, Pause};
use trialog_model::murmur3::murmur3_x64_128;
use trialog_model::time::UnixMicros;

use super::Experiment;
use crate::audit;
use crate::documents::to_json;
use crate::holdouts::Holdout;

/// The most characters of the reason for a decision.
pub const MAX_REASON_CHARS: usize = 4_000;
/// The most pauses of an experiment.
pub const MAX_PAUSES: usize = 20;
/// The most experiments that ship a variant at a time: every SDK fetches all of them.
pub(super) const MAX_SHIPPED: u64 = 10_000;

/// What assignment depended on when an experiment was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtStop {
    /// The fingerprint of each field of the definition in [`FIELDS`].
    fields: BTreeMap<String, String>,
    /// The buckets of its layer that it owned.
    pub(super) ranges: Vec<[u16; 2]>,
    /// The holdouts that ran with it in their scope: their names, and how many buckets
    /// they held out.
    holdouts: BTreeMap<String, u16>,
}

/// The fields of a definition that decide who is enrolled, which variant they get, and
/// which exposures count.
const FIELDS: [&str; 8] = [
    "salt",
    "layer",
    "variants",
    "allocation",
    "targeting",
    "forced",
    "start_at",
    "end_at",
];

/// Everything that happened to an experiment after its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) decision: Option<Decision>,
    pub(super) pauses: Vec<Pause>,
    pub(super) at_stop: Option<AtStop>,
}

/// [`Life`] as the column has it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<StoredDecision>,
    /// Microseconds since 1970: from and to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pauses: Vec<[i64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_stop: Option<AtStop>,
}

#[derive(Serialize, Deserialize)]
struct StoredDecision {
    ship: Option<Variant>,
    reason: String,
    by: String,
    at: i64,
}

impl Life {
    /// Parses the column; `None` is what an experiment has before anything happened.
    pub(super) fn from_column(text: Option<&str>) -> serde_json::Result<Self> {
        let stored: Stored = text.map_or_else(|| Ok(Stored::default()), serde_json::from_str)?;
        let decision = stored.decision.map(|stored| Decision {
            ship: stored.ship,
            reason: stored.reason,
            by: stored.by,
            at: UnixMicros(stored.at),
        });
        let pause = |[from, to]: [i64; 2]| Pause {
            from: UnixMicros(from),
            to: UnixMicros(to),
        };
        Ok(Self {
            decision,
            pauses: stored.pauses.into_iter().map(pause).collect(),
            at_stop: stored.at_stop,
        })
    }

    /// Writes the column.
    pub(super) fn to_column(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let decision = self.decision.as_ref().map(|decision| StoredDecision {
            ship: decision.ship.clone(),
            reason: decision.reason.clone(),
            by: decision.by.clone(),
            at: decision.at.0,
        });
        let pauses = self.pauses.iter().map(|pause| [pause.from.0, pause.to.0]);
        Some(to_json(&Stored {
            decision,
            pauses: pauses.collect(),
            at_stop: self.at_stop.clone(),
        }))
    }
}

impl Experiment {
    /// The variant that everybody gets now: the decision's, until it is archived.
    pub fn ships(&self) -> Option<&Variant> {
        let decision = (self.decision.as_ref()).filter(|_| self.status == Status::Stopped)?;
        decision.ship.as_ref()
    }
}

impl AtStop {
    /// Notes what the assignment of `experiment` depends on, with `running` holdouts.
    pub(super) fn new(experiment: &Experiment, running: &[Holdout]) -> Self {
        let ranges = experiment.ranges.iter();
        Self {
            fields: fingerprints(&experiment.definition),
            ranges: ranges.map(|range| [range.start, range.end]).collect(),
            holdouts: covering(&experiment.definition, running),
        }
    }

    /// What differs from `definition` and the `running` holdouts, and what to do about it.
    pub(super) fn difference(
        &self,
        definition: &Definition,
        running: &[Holdout],
    ) -> Option<String> {
        let now = fingerprints(definition);
        let field = FIELDS
            .into_iter()
            .find(|field| now.get(*field) != self.fields.get(*field));
        if let Some(field) = field {
            return Some(format!(
                "`{field}` was changed since the stop: put it back as it was, or register a new experiment"
            ));
        }
        let now = covering(definition, running);
        let new = now.keys().find(|name| !self.holdouts.contains_key(*name));
        if let Some(name) = new {
            return Some(format!(
                "the holdout `{name}` came to hold out its units since the stop: stop the holdout, or register a new experiment"
            ));
        }
        let differs = |(name, size): &(&String, &u16)| now.get(*name) != Some(size);
        let (name, _) = self.holdouts.iter().find(differs)?;
        Some(format!(
            "the holdout `{name}` let units in since the stop, which the experiment would enrol as new ones: register a new experiment"
        ))
    }
}

fn fingerprints(definition: &Definition) -> BTreeMap<String, String> {
    let all = audit::fields(definition);
    let fingerprint = |field: &str| {
        let text = all.get(field).map_or_else(String::new, Value::to_string);
        let (high, low) = murmur3_x64_128(text.as_bytes(), 0);
        (field.to_owned(), format!("{high:016x}{low:016x}"))
    };
    FIELDS.into_iter().map(fingerprint).collect()
}

/// The holdouts of `running` whose scope the experiment is in, with their buckets.
fn covering(definition: &Definition, running: &[Holdout]) -> BTreeMap<String, u16> {
    let id = &definition.experiment_id;
    (running.iter().map(|holdout| &holdout.definition))
        .filter(|holdout| holdout.covers(id))
        .map(|holdout| (holdout.name.to_string(), n_of_share(holdout.size)))
        .collect()
}

/// What the audit trail compares.
pub(super) fn fields(experiment: &Experiment) -> Map<String, Value> {
    let decision = experiment.decision.as_ref().map(|decision| {
        serde_json::json!({
            "ship": decision.ship, "reason": decision.reason,
            "by": decision.by, "at": decision.at.to_rfc3339(),
        })
    });
    let pause = |pause: &Pause| serde_json::json!({"from": pause.from.to_rfc3339(), "to": pause.to.to_rfc3339()});
    let pauses: Vec<Value> = experiment.pauses.iter().map(pause).collect();
    let mut fields = Map::new();
    fields.insert("decision".to_owned(), decision.into());
    fields.insert("pauses".to_owned(), pauses.into());
    fields
}

#[cfg(test)]
mod tests;
