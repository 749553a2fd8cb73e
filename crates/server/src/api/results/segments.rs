//! Keys of segments that nobody has: a slip in a key would look like no users.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::nearest::there_are;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::export::Selection;

use crate::app::App;
use crate::problem::{Answer, Problem};
use trialog_report::Report;

/// The assignments whose contexts are looked at.
const N_ASSIGNMENTS: usize = 1_000;

/// Refuses a `segment` with a key that no context has, where `report` has no users.
pub(in crate::api) fn check(
    app: &App,
    id: &ExperimentId,
    segment: &[(String, String)],
    report: &Report,
) -> Answer<()> {
    let has_users = report.variants.iter().any(|variant| variant.users > 0);
    if segment.is_empty() || has_users {
        return Ok(());
    }
    let known = keys(app, id)?;
    let unknown = (segment.iter()).find(|(key, _)| !known.is_empty() && !known.contains(key));
    match unknown {
        Some((key, _)) => {
            let reason = format!(
                "is no key of the contexts in this experiment{}",
                others(key, known)
            );
            Err(Problem::bad_field(&format!("segment.{key}"), &reason))
        }
        None => Ok(()),
    }
}

/// Rejects the first of `wanted` that is no key of a context, as a fault of `field`.
pub(in crate::api) fn check_keys(
    app: &App,
    id: &ExperimentId,
    wanted: &[String],
    field: &str,
) -> Answer<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known = keys(app, id)?;
    let unknown = (wanted.iter()).find(|key| !known.is_empty() && !known.contains(*key));
    match unknown {
        Some(key) => {
            let others = others(key, known);
            let reason = format!(
                "names `{key}`, which is no key of the contexts in this experiment{others}"
            );
            Err(Problem::broken_rule(field, &reason))
        }
        None => Ok(()),
    }
}

/// Lists the keys that there are instead of `key`.
fn others(key: &str, known: BTreeSet<String>) -> String {
    let known: Vec<String> = known.into_iter().collect();
    there_are(key, &known, false)
}

/// Why reading ends.
enum End {
    Enough,
    Failed(WarehouseError),
}

impl From<WarehouseError> for End {
    fn from(error: WarehouseError) -> Self {
        Self::Failed(error)
    }
}

/// The keys in the contexts of the experiment's first assignments; none where the events
/// are not in files.
fn keys(app: &App, id: &ExperimentId) -> Answer<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    let Ok(warehouse) = app.store.embedded("contexts are in ClickHouse") else {
        return Ok(keys);
    };
    let selection = Selection {
        experiments: vec![id.to_string()],
        ..Selection::default()
    };
    let mut n_read = 0;
    let read = (warehouse.published_snapshot()).each_event(
        EventKind::Assignment,
        &selection,
        |assignment| {
            n_read += 1;
            let context: Result<BTreeMap<String, &RawValue>, _> =
                serde_json::from_str(assignment.context);
            keys.extend(context.unwrap_or_default().into_keys());
            match n_read < N_ASSIGNMENTS {
                true => Ok(()),
                false => Err(End::Enough),
            }
        },
    );
    match read {
        Ok(()) | Err(End::Enough) => Ok(keys),
        Err(End::Failed(error)) => Err(Problem::internal(error.to_string())),
    }
}
