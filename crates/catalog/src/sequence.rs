//! Stores the breaks of an experiment's sequence of looks, and reads them with the last look.
//!
//! The standing of a look is published with it: a text that the report writes and parses. A
//! break says from when on looks that came before it do not count.

use trialog_model::ids::ExperimentId;
use trialog_model::sequence::{Break, BreakReason, PastLook, Sequence};
use trialog_model::time::UnixMicros;

use crate::audit::Edit;
use crate::connection::Catalog;
use crate::database::{
    self, Connection, DatabaseError, Optional, Row, corrupt, params, unreadable,
};
use crate::documents;
use crate::error::CatalogError;
use crate::experiments::{self, Experiment};
use crate::results::analyses;

/// The analysis that holds the standing of a look. It has one row, without a key.
pub const STANDING: &str = "standing";

/// A break to be written.
pub(crate) struct NewBreak<'a> {
    pub(crate) experiment: &'a str,
    pub(crate) reason: BreakReason,
    pub(crate) at: UnixMicros,
    pub(crate) actor: &'a str,
    /// The changed fields, one per line.
    pub(crate) fields: &'a str,
}

/// Records that looks before `new` do not count.
pub(crate) fn note_break(transaction: &Connection<'_>, new: &NewBreak<'_>) -> database::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO sequence_breaks (experiment_id, reason, at, actor, fields, after_run) VALUES (?1, ?2, ?3, ?4, ?5, (SELECT coalesce(max(run_id), 0) FROM pipeline_runs WHERE status = 'succeeded'))
             ON CONFLICT (experiment_id, reason) DO UPDATE SET at = excluded.at, after_run = excluded.after_run, actor = excluded.actor, fields = excluded.fields, confirmed_at = NULL, confirmed_by = NULL",
        )?
        .execute(params![
            new.experiment,
            new.reason.as_str(),
            new.at.0,
            new.actor,
            new.fields
        ])?;
    Ok(())
}

/// Records that `fields` were changed after the start, beside those that are not confirmed yet.
pub(crate) fn note_change(
    transaction: &Connection<'_>,
    experiment: &str,
    fields: &[String],
    edit: &Edit,
) -> database::Result<()> {
    let mut all: Vec<String> = breaks(transaction, experiment)?
        .into_iter()
        .filter(|broken| broken.reason == BreakReason::Definition && broken.confirmed.is_none())
        .flat_map(|broken| broken.fields)
        .collect();
    all.extend_from_slice(fields);
    all.sort_unstable();
    all.dedup();
    let new = NewBreak {
        experiment,
        reason: BreakReason::Definition,
        at: edit.at,
        actor: edit.actor.as_str(),
        fields: &all.join("\n"),
    };
    note_break(transaction, &new)
}

/// Removes the breaks of an experiment that is deleted.
pub(crate) fn forget(transaction: &Connection<'_>, experiment: &str) -> database::Result<()> {
    transaction.execute(
        "DELETE FROM sequence_breaks WHERE experiment_id = ?1",
        [experiment],
    )?;
    Ok(())
}

fn breaks(connection: &Connection<'_>, experiment: &str) -> database::Result<Vec<Break>> {
    let sql = "SELECT experiment_id, reason, at, actor, fields, confirmed_at, confirmed_by, after_run, seal FROM sequence_breaks
               WHERE experiment_id = ?1 ORDER BY reason";
    let found = |row: &Row<'_>| {
        if !row.is_sound(8)? {
            return Err(corrupt(format!(
                "what broke the sequence of looks at `{experiment}` does not match its checksum"
            )));
        }
        let word: String = row.get(1)?;
        let reason = (BreakReason::ALL.into_iter()).find(|reason| reason.as_str() == word);
        let fields: String = row.get(4)?;
        let confirmed_at = row.get::<Option<i64>>(5)?.map(UnixMicros);
        Ok(Break {
            reason: reason.ok_or_else(|| unreadable(1, format!("`{word}` is no reason")))?,
            at: UnixMicros(row.get(2)?),
            after_run: row.get(7)?,
            actor: row.get(3)?,
            fields: fields.lines().map(str::to_owned).collect(),
            confirmed: confirmed_at.zip(row.get::<Option<String>>(6)?),
        })
    };
    connection
        .prepare_cached(sql)?
        .query_map([experiment], found)?
        .collect()
}

fn sequence(
    connection: &Connection<'_>,
    experiment: &ExperimentId,
    of_run: i64,
    as_of: i64,
) -> database::Result<Sequence> {
    let id = experiment.as_str();
    let look = |row: &Row<'_>| {
        Ok(PastLook {
            at: UnixMicros(row.get(0)?),
            run_id: row.get(1)?,
        })
    };
    let looked_at: Option<PastLook> = connection
        .prepare_cached(
            "SELECT computed_at, run_id FROM computations WHERE experiment_id = ?1 AND run_id <= ?2 ORDER BY run_id DESC LIMIT 1",
        )?
        .query_row(params![id, of_run], look)
        .optional()?;
    let standing = |look: PastLook| {
        let rows = analyses::read(connection, experiment, look.at.0, STANDING)?;
        Ok::<_, DatabaseError>(rows.into_iter().next().map(|row| row.body))
    };
    let mut breaks = breaks(connection, id)?;
    breaks.retain(|broken| broken.at.0 <= as_of);
    for broken in &mut breaks {
        broken.confirmed.take_if(|(at, _)| at.0 > as_of);
    }
    Ok(Sequence {
        looked_at,
        standing: looked_at.map(standing).transpose()?.flatten(),
        breaks,
    })
}

impl Catalog {
    /// Returns the last looks at `experiments`, in their order.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or a row is not as it was written.
    pub fn sequences(&self, experiments: &[&ExperimentId]) -> Result<Vec<Sequence>, CatalogError> {
        self.read("read what looks have come to", |connection| {
            let read = |id: &&ExperimentId| sequence(connection, id, i64::MAX, i64::MAX);
            experiments.iter().map(read).collect()
        })
    }

    /// Returns the breaks in the sequence of looks at `experiment`, at most one of each reason.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or a row is not as it was written.
    pub fn breaks(&self, experiment: &ExperimentId) -> Result<Vec<Break>, CatalogError> {
        self.read("read what looks have come to", |connection| {
            breaks(connection, experiment.as_str())
        })
    }

    /// Returns the look at `experiment` that the run `of_run` published, with the breaks up to
    /// `as_of`.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or a row is not as it was written.
    pub fn sequence(
        &self,
        experiment: &ExperimentId,
        of_run: i64,
        as_of: Option<UnixMicros>,
    ) -> Result<Sequence, CatalogError> {
        let limit = as_of.map_or(i64::MAX, |time| time.0);
        self.read("read what looks have come to", |connection| {
            sequence(connection, experiment, of_run, limit)
        })
    }

    /// Confirms the changes of `experiment` after its start.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NothingToConfirm`] where nothing waits for it; the experiment is not
    /// known, or `edit` names another state of it.
    pub fn confirm_change(
        &self,
        experiment: &ExperimentId,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        self.write("confirm a change", |transaction| {
            let known: Experiment = documents::to_edit(transaction, experiment, edit)?;
            let id = experiment.as_str();
            let all = breaks(transaction, id)?;
            let waits = |broken: &&Break| {
                broken.reason == BreakReason::Definition && broken.confirmed.is_none()
            };
            let Some(waiting) = all.iter().find(waits) else {
                return Err(CatalogError::NothingToConfirm(experiment.clone()).into());
            };
            transaction.execute(
                "UPDATE sequence_breaks SET confirmed_at = ?3, confirmed_by = ?4
                     WHERE experiment_id = ?1 AND reason = ?2",
                params![
                    id,
                    BreakReason::Definition.as_str(),
                    edit.at.0,
                    edit.actor.as_str()
                ],
            )?;
            let fields = &waiting.fields;
            Ok(experiments::note_fields(
                transaction,
                edit,
                "confirm",
                &known,
                fields,
            )?)
        })
    }
}

#[cfg(test)]
mod tests {
    use trialog_model::experiment::Definition;
    use trialog_model::metric_definition::MetricDefinition;

    use super::*;
    use crate::audit::{Actor, Subject};
    use crate::erasures::ErasureRequest;
    use crate::metrics::Metric;

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    fn at(micros: i64) -> Edit {
        Edit::new(Actor::new("mia"), UnixMicros(NOW.0 + micros))
    }

    fn confirmed(micros: i64) -> Edit {
        Edit {
            confirmed: true,
            ..at(micros)
        }
    }

    fn started(catalog: &Catalog, id: &str) -> ExperimentId {
        let definition: Definition = serde_json::from_value(serde_json::json!({
            "experiment_id": id, "variants": [{"variant": "a"}, {"variant": "b"}],
            "metrics": {"primary": ["revenue"], "secondary": ["visit"]}
        }))
        .unwrap();
        catalog.create_experiment(&definition, &at(0)).unwrap();
        let id = definition.experiment_id;
        catalog.start_experiment(&id, &at(1)).unwrap();
        id
    }

    fn metric(window: &str) -> MetricDefinition {
        MetricDefinition::from_json(serde_json::json!({
            "name": "revenue", "kind": "sum", "event_type": "buy", "window": window
        }))
        .unwrap()
    }

    fn alpha(
        catalog: &Catalog,
        id: &ExperimentId,
        alpha: f64,
        edit: &Edit,
    ) -> Result<Experiment, CatalogError> {
        catalog.change::<Experiment, _>(id, edit, |known| {
            Ok::<_, CatalogError>(Definition {
                alpha,
                ..known.definition.clone()
            })
        })
    }

    fn sequence_of(catalog: &Catalog, id: &ExperimentId) -> Sequence {
        catalog.sequences(&[id]).unwrap().remove(0)
    }

    #[test]
    fn what_results_are_tested_with_changes_with_a_confirmation_only() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        catalog.create::<Metric>(&metric("7d"), &at(0)).unwrap();
        let id = started(&catalog, "gate");
        let other = started(&catalog, "other");
        let refused = alpha(&catalog, &id, 0.1, &at(2)).unwrap_err();
        assert!(
            matches!(&refused, CatalogError::Locked { fields, .. } if fields == &["alpha"]),
            "{refused}"
        );
        let change = |edit: &Edit| {
            let name = metric("7d").name;
            catalog.change::<Metric, _>(&name, edit, |_| Ok::<_, CatalogError>(metric("14d")))
        };
        assert!(matches!(change(&at(3)), Err(CatalogError::Locked { .. })));
        assert_eq!(sequence_of(&catalog, &id), Sequence::default());
        // The second change joins the first, as nobody has confirmed that.
        alpha(&catalog, &id, 0.1, &confirmed(4)).unwrap();
        change(&confirmed(5)).unwrap();
        let broken = sequence_of(&catalog, &id);
        assert_eq!(broken.breaks[0].fields, ["alpha", "revenue.window"]);
        assert_eq!(
            sequence_of(&catalog, &other).breaks[0].fields,
            ["revenue.window"]
        );
        // By the order of runs, whatever their clocks said.
        let look = |run_id| PastLook {
            at: UnixMicros(NOW.0 - 9),
            run_id,
        };
        assert!(!broken.counts(look(0)) && broken.counts(look(1)));
        catalog.confirm_change(&id, &at(7)).unwrap();
        let confirmed_at = sequence_of(&catalog, &id).breaks[0].confirmed.clone();
        assert_eq!(
            confirmed_at,
            Some((UnixMicros(NOW.0 + 7), "mia".to_owned()))
        );
        assert!(matches!(
            catalog.confirm_change(&id, &at(8)),
            Err(CatalogError::NothingToConfirm(_))
        ));
        alpha(&catalog, &id, 0.2, &confirmed(9)).unwrap();
        let again = sequence_of(&catalog, &id);
        assert_eq!(
            (&again.breaks[0].fields[..], &again.breaks[0].confirmed),
            (&["alpha".to_owned()][..], &None)
        );
        let entries = catalog
            .audit(Some((Subject::Experiment, "gate")), 0, 20)
            .unwrap();
        let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
        let late = "change_after_start";
        assert_eq!(actions, ["create", "start", late, late, "confirm", late]);
        // A draft has no looks that anybody could have chosen by.
        let draft = Definition {
            experiment_id: ExperimentId::new("draft").unwrap(),
            ..catalog.experiment(&id).unwrap().definition
        };
        catalog.create_experiment(&draft, &at(10)).unwrap();
        alpha(&catalog, &draft.experiment_id, 0.3, &at(11)).unwrap();
    }

    #[test]
    fn an_erasure_breaks_the_sequence_of_its_experiments() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let (id, other) = (started(&catalog, "gate"), started(&catalog, "other"));
        let request = ErasureRequest {
            actor: "mia",
            salt: "s",
            user: 7,
            experiment: None,
            n_events: 3,
            experiments: std::slice::from_ref(&id),
        };
        catalog.begin_erasure(&request, NOW).unwrap();
        let broken = sequence_of(&catalog, &id);
        let erased = &broken.breaks[0];
        assert_eq!(
            (erased.reason, erased.at, erased.actor.as_str()),
            (BreakReason::Erasure, NOW, "mia")
        );
        assert_eq!(sequence_of(&catalog, &other).breaks, []);
        let before = UnixMicros(NOW.0 - 1);
        let then = catalog.sequence(&id, 0, Some(before)).unwrap();
        assert_eq!(
            then.breaks,
            [],
            "what came later is not part of a past answer"
        );
    }
}
