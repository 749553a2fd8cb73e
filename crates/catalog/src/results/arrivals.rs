//! Stores how the events of each type were used, beside the scorecard.

use serde::{Deserialize, Serialize};
use trialog_model::ids::ExperimentId;
use trialog_model::published::EventCounts;

use crate::connection::Catalog;
use crate::database::{self, Connection, params};
use crate::error::CatalogError;

use super::analyses;

/// The name of this analysis in `analysis_results`; its keys are event types.
pub(super) const ANALYSIS: &str = "arrivals";

/// The version that bodies are written in.
const VERSION: u32 = 1;

/// Returns the counts in the order in which they are sealed. The sample of ids is not among them,
/// because erasures remove ids from it.
pub(super) fn counts(row: &EventCounts) -> [u64; 9] {
    [
        row.events,
        row.counted,
        row.before_exposure,
        row.after_window,
        row.unexposed,
        row.excluded,
        row.unknown_variant,
        row.unexposed_users,
        row.senders_exposed,
    ]
}

/// The body of a row. It holds the ids as numbers beside the counts, whose sample is empty.
#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    sample: Vec<i64>,
    #[serde(flatten)]
    counts: EventCounts,
}

/// Writes `row` as the body that holds it.
pub(super) fn body(row: &EventCounts) -> String {
    let body = Body {
        version: VERSION,
        sample: row.unexposed_sample.clone(),
        counts: EventCounts {
            unexposed_sample: Vec::new(),
            ..row.clone()
        },
    };
    serde_json::to_string(&body).expect("counts and a name are always JSON")
}

/// Parses what [`body`] wrote; `None` for other text and other versions.
fn parse(text: &str) -> Option<EventCounts> {
    let body: Body = serde_json::from_str(text).ok()?;
    (body.version == VERSION).then_some(EventCounts {
        unexposed_sample: body.sample,
        ..body.counts
    })
}

/// Reads the counts of the computation of an experiment at a time, by event type.
pub(super) fn read(
    connection: &Connection<'_>,
    experiment: &ExperimentId,
    computed_at: i64,
) -> database::Result<Vec<EventCounts>> {
    let rows = analyses::read(connection, experiment, computed_at, ANALYSIS)?;
    (rows.iter())
        .map(|row| parse(&row.body).ok_or_else(|| analyses::damaged(experiment, ANALYSIS)))
        .collect()
}

impl Catalog {
    /// Removes `user` from the samples of ids in all results, or in those of one
    /// experiment, whether or not they will be computed again. Gives the number of results
    /// that changed; the file then holds no trace of the id.
    ///
    /// # Errors
    ///
    /// The database cannot be read or written.
    pub fn forget_in_samples(
        &self,
        user: i64,
        experiment: Option<&ExperimentId>,
    ) -> Result<usize, CatalogError> {
        let keep = |id: &i64| *id != user;
        let holding = format!("%{user}%");
        let n_changed = self.change_samples(experiment, &holding, keep)?;
        if n_changed > 0 && !self.is_shared() {
            self.scrub()?;
        }
        Ok(n_changed)
    }

    /// Keeps the ids of samples that `keep` lets through, in bodies like `pattern`.
    fn change_samples(
        &self,
        experiment: Option<&ExperimentId>,
        pattern: &str,
        keep: impl Fn(&i64) -> bool,
    ) -> Result<usize, CatalogError> {
        self.write("remove a user from samples", |transaction| {
            Ok(keep_in_samples(transaction, experiment, pattern, keep)?)
        })
    }
}

/// Removes the ids that `keep` does not accept from the samples in the bodies that match
/// `pattern`, of all experiments or of one. Returns the number of changed rows.
pub(crate) fn keep_in_samples(
    transaction: &Connection<'_>,
    experiment: Option<&ExperimentId>,
    pattern: &str,
    keep: impl Fn(&i64) -> bool,
) -> database::Result<usize> {
    let sql = "SELECT experiment_id, computed_at, key, body FROM analysis_results
               WHERE analysis = ?1 AND body LIKE ?2 AND (?3 = '' OR experiment_id = ?3)";
    let only = experiment.map_or("", ExperimentId::as_str);
    let rows: Vec<(String, i64, String, String)> = transaction
        .prepare_cached(sql)?
        .query_map(params![ANALYSIS, pattern, only], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<database::Result<_>>()?;
    let mut n_changed = 0;
    for (id, computed_at, key, text) in rows {
        // A body that cannot be read is reported by the reader of the results.
        let Some(mut counts) = parse(&text) else {
            continue;
        };
        let n_before = counts.unexposed_sample.len();
        counts.unexposed_sample.retain(&keep);
        if counts.unexposed_sample.len() == n_before {
            continue;
        }
        n_changed += transaction
            .prepare_cached(
                "UPDATE analysis_results SET body = ?5 WHERE experiment_id = ?1 AND computed_at = ?2 AND analysis = ?3 AND key = ?4",
            )?
            .execute(params![id, computed_at, ANALYSIS, key, body(&counts)])?;
    }
    Ok(n_changed)
}
