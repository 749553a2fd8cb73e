//! The position up to which results were computed, and the history of runs.

use serde::Serialize;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use crate::connection::{Catalog, Writes};
use crate::database::{self, Connection, Optional, Row, corrupt, params};
use crate::error::CatalogError;
use crate::journal::{self, JournalState};
use crate::lease::{self, Lease};
use crate::results::{self, Computation, Writing};
use crate::warnings;

/// The one source of the embedded warehouse: its inbox numbers every batch.
const INBOX: &str = "inbox";

/// Up to where published results reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HighWaterMark {
    /// The last position in what was ingested.
    pub position: u64,
    /// The moment the run over it started: later events were left for the next.
    pub data_time: UnixMicros,
    /// The run that published it; 0 before the first.
    pub run_id: i64,
}

/// What became of an attempt to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It has not ended yet.
    Running,
    /// Its results are published.
    Succeeded,
    /// It wrote nothing but this.
    Failed,
    /// The process ended before it did.
    Interrupted,
}

impl RunStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    fn parse(text: &str) -> Self {
        [Self::Running, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .unwrap_or(Self::Interrupted)
    }
}

/// An attempt to run, as the history shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// Its number.
    pub run_id: i64,
    /// What started it: `schedule`, `request`, `command`.
    pub cause: String,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// What became of it.
    pub status: RunStatus,
    /// When it started.
    pub started_at: UnixMicros,
    /// When it ended.
    pub finished_at: Option<UnixMicros>,
    /// Up to where it read.
    pub position: Option<u64>,
    /// Experiments that it recomputed.
    pub n_experiments: Option<u64>,
    /// Experiments among them that have an error of their own.
    pub n_failed: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The outcome for one experiment of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The experiment.
    pub experiment: ExperimentId,
    /// The revision of the definition that was used.
    pub revision: i64,
    /// When the passing of time alone changes the answer.
    pub recompute_at: Option<UnixMicros>,
    /// What was computed, or why it could not be.
    pub computed: Result<Computation, String>,
    /// The codes of what looks wrong in it, each once.
    pub warnings: Vec<&'static str>,
    /// What the looks have come to with this one; none where nothing was computed.
    pub standing: Option<String>,
}

/// A finished run, to be published whole.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedRun {
    /// Its number, from [`Catalog::begin_run`].
    pub run_id: i64,
    /// Up to where it read.
    pub position: u64,
    /// When it started: data time.
    pub data_time: UnixMicros,
    /// When its results count as computed.
    pub computed_at: UnixMicros,
    /// Computations of an experiment before this are thinned out to one a day.
    pub thin_out_before: UnixMicros,
    /// One outcome for each experiment that was touched.
    pub outcomes: Vec<Outcome>,
    /// The lease under which it was made; none where no other process can run.
    pub lease: Option<Lease>,
    /// Which batches it read, where the catalog keeps the warehouse's journal.
    pub journal: Option<JournalState>,
}

impl Catalog {
    /// Up to where published results reach.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn high_water_mark(&self) -> Result<HighWaterMark, CatalogError> {
        self.read("read the high-water mark", high_water_mark)
    }

    /// Up to where published results reach, and the batches below that they do not cover.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn covered(&self) -> Result<(HighWaterMark, Vec<u64>), CatalogError> {
        self.read("read the high-water mark", covered)
    }

    /// When the last published run was published; none before the first.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn last_published_at(&self) -> Result<Option<UnixMicros>, CatalogError> {
        self.read("read the last run", |connection| {
            let sql = "SELECT finished_at FROM pipeline_runs WHERE status = 'succeeded' ORDER BY run_id DESC LIMIT 1";
            let found = connection.query_row(sql, params![], |row| row.get::<i64>(0));
            Ok(found.optional()?.map(UnixMicros))
        })
    }

    /// The first time from `at` on at which no run was published: rows are kept by it.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn free_time(&self, at: UnixMicros) -> Result<UnixMicros, CatalogError> {
        self.read("read the times of runs", |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM pipeline_runs WHERE status = 'succeeded' AND finished_at = ?1)";
            let mut statement = connection.prepare_cached(sql)?;
            let mut free = at;
            while statement.query_row([free.0], |row| row.get(0))? {
                free.0 += 1;
            }
            Ok(free)
        })
    }

    /// Whether a run was published between `from` and `to`, by its clock.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn ran_between(&self, from: UnixMicros, to: UnixMicros) -> Result<bool, CatalogError> {
        self.read("read the times of runs", |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM pipeline_runs WHERE status = 'succeeded' AND finished_at BETWEEN ?1 AND ?2)";
            connection.query_row(sql, [from.0, to.0], |row| row.get(0))
        })
    }

    /// What the catalog's storage says the time is, right after something was written: the
    /// file system, or the server of the database. None where it cannot be told.
    pub fn storage_time(&self) -> Option<UnixMicros> {
        let Ok(file) = self.file("it has a clock of its own") else {
            let now = self.read("read the time", |connection| {
                let sql = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)";
                connection.query_row(sql, params![], |row| row.get(0))
            });
            return now.ok().map(UnixMicros);
        };
        file.written_at()
    }

    /// Notes that an attempt to run begins, and gives its number.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn begin_run(
        &self,
        cause: &str,
        attempt: u32,
        now: UnixMicros,
    ) -> Result<i64, CatalogError> {
        let failed = CatalogError::database("begin a run", self.place());
        self.write_as(Writes::Rows, "begin a run", |transaction| {
            transaction
                .query_row(
                    "INSERT INTO pipeline_runs (cause, attempt, status, started_at) VALUES (?1, ?2, 'running', ?3) RETURNING run_id",
                    params![cause, attempt, now.0],
|row| row.get(0),
)
.map_err(&failed)

        })
    }

    /// Publishes a run: its results, their position and the run's own record,
    /// in one transaction.
    ///
    /// # Errors
    ///
    /// The database cannot be written; nothing of the run is visible then.
    pub fn publish(&self, run: &FinishedRun) -> Result<(), CatalogError> {
        let failed = CatalogError::database("publish a run", self.place());
        let except_for = (run.journal.as_ref()).map_or_else(Vec::new, JournalState::except_for);
        self.write_as(Writes::Rows, "publish a run", |transaction| {
            if let Some(lease) = &run.lease
                && !lease::is_held(transaction, lease).map_err(&failed)?
            {
                return Err(CatalogError::LeaseLost {
                    name: lease.name.clone(),
                });
            }
            write_computations(transaction, run).map_err(&failed)?;
            warnings::replace(transaction, run).map_err(&failed)?;
            for outcome in &run.outcomes {
                publish_outcome(transaction, run, outcome).map_err(&failed)?;
            }
            transaction
                .execute(
                    "INSERT INTO pipeline_state (source, position, data_time, run_id, except_for) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (source) DO UPDATE SET position = excluded.position, data_time = excluded.data_time, run_id = excluded.run_id, except_for = excluded.except_for",
                    params![
                        INBOX,
                        run.position.cast_signed(),
                        run.data_time.0,
                        run.run_id,
                        text_of(&except_for)
                    ],
                )
                .map_err(&failed)?;
            if let Some(covered) = &run.journal {
                journal::clear(transaction, covered, run.computed_at).map_err(&failed)?;
            }
            let n_failed = run.outcomes.iter().filter(|outcome| outcome.computed.is_err()).count();
            transaction
                .execute(
                    "UPDATE pipeline_runs SET status = 'succeeded', finished_at = ?2, position = ?3, n_experiments = ?4, n_failed = ?5 WHERE run_id = ?1",
                    params![
                        run.run_id,
                        run.computed_at.0,
                        run.position.cast_signed(),
                        run.outcomes.len() as i64,
                        n_failed as i64
                    ],
                )
                .map_err(&failed)?;
            Ok(())
        })
    }

    /// Notes that a run failed; it published nothing.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn fail_run(&self, run_id: i64, error: &str, now: UnixMicros) -> Result<(), CatalogError> {
        let failed = CatalogError::database("note a failed run", self.place());
        self.write_as(Writes::Rows, "note a failed run", |transaction| {
            transaction
                .execute(
                    "UPDATE pipeline_runs SET status = 'failed', finished_at = ?2, error = ?3 WHERE run_id = ?1",
                    params![run_id, now.0, error],
                )
                .map_err(&failed)?;
            Ok(())
        })
    }

    /// Marks the runs that an earlier process left unfinished.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn mark_interrupted_runs(&self) -> Result<usize, CatalogError> {
        let failed = CatalogError::database("mark interrupted runs", self.place());
        self.write_as(Writes::Rows, "mark interrupted runs", |transaction| {
            transaction
                .execute(
                    "UPDATE pipeline_runs SET status = 'interrupted' WHERE status = 'running'",
                    params![],
                )
                .map_err(&failed)
        })
    }

    /// The last runs, newest first.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn runs(&self, limit: u32) -> Result<Vec<RunRecord>, CatalogError> {
        let record = |row: &Row<'_>| {
            Ok(RunRecord {
                run_id: row.get(0)?,
                cause: row.get(1)?,
                attempt: row.get(2)?,
                status: RunStatus::parse(&row.get::<String>(3)?),
                started_at: UnixMicros(row.get(4)?),
                finished_at: row.get::<Option<i64>>(5)?.map(UnixMicros),
                position: row.get::<Option<i64>>(6)?.map(i64::cast_unsigned),
                n_experiments: row.get(7)?,
                n_failed: row.get(8)?,
                error: row.get(9)?,
            })
        };
        self.read("read the history of runs", |connection| {
            connection
                .prepare_cached("SELECT run_id, cause, attempt, status, started_at, finished_at, position, n_experiments, n_failed, error FROM pipeline_runs ORDER BY run_id DESC LIMIT ?1")?
                .query_map([limit], record)?
                .collect()
        })
    }
}

pub(crate) fn high_water_mark(connection: &Connection<'_>) -> database::Result<HighWaterMark> {
    Ok(covered(connection)?.0)
}

/// The high-water mark, and the positions below it that the results do not cover.
fn covered(connection: &Connection<'_>) -> database::Result<(HighWaterMark, Vec<u64>)> {
    let mark = |row: &Row<'_>| {
        if !row.is_sound(5)? {
            return Err(corrupt(
                "the high-water mark does not match its checksum".to_owned(),
            ));
        }
        let position: i64 = row.get(1)?;
        let mark = HighWaterMark {
            position: position.cast_unsigned(),
            data_time: UnixMicros(row.get(2)?),
            run_id: row.get(3)?,
        };
        Ok((mark, numbers(&row.get::<String>(4)?)))
    };
    let sql = "SELECT source, position, data_time, run_id, except_for, seal FROM pipeline_state WHERE source = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([INBOX], mark)
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Numbers as a column holds them.
fn text_of(numbers: &[u64]) -> String {
    let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
    texts.join(" ")
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The high-water mark as it was published at `time`.
pub(crate) fn mark_at(
    connection: &Connection<'_>,
    time: UnixMicros,
) -> database::Result<HighWaterMark> {
    let mark = |row: &Row<'_>| {
        let position: i64 = row.get(0)?;
        Ok(HighWaterMark {
            position: position.cast_unsigned(),
            data_time: UnixMicros(row.get(1)?),
            run_id: row.get(2)?,
        })
    };
    let sql = "SELECT position, started_at, run_id FROM pipeline_runs
               WHERE status = 'succeeded' AND finished_at <= ?1 ORDER BY run_id DESC LIMIT 1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([time.0], mark)
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Rows that are gathered before they are written.
const MOST_ROWS: usize = 10_000;

fn write_computations(transaction: &Connection<'_>, run: &FinishedRun) -> database::Result<()> {
    let mut writing = Writing::default();
    for outcome in &run.outcomes {
        let Ok(computation) = &outcome.computed else {
            continue;
        };
        writing.add(computation, run.computed_at, run.run_id);
        if let Some(standing) = &outcome.standing {
            writing.add_standing(&computation.experiment, run.computed_at, standing);
        }
        if writing.len() >= MOST_ROWS {
            std::mem::take(&mut writing).write(transaction)?;
        }
    }
    writing.write(transaction)
}

fn publish_outcome(
    transaction: &Connection<'_>,
    run: &FinishedRun,
    outcome: &Outcome,
) -> database::Result<()> {
    let id = outcome.experiment.as_str();
    if outcome.computed.is_ok() {
        results::thin_out(transaction, id, run.thin_out_before.0)?;
    }
    let computed_revision = outcome.computed.is_ok().then_some(outcome.revision);
    let n_known = transaction
        .prepare_cached(
            "UPDATE experiments SET computed_revision = coalesce(?2, computed_revision), recompute_at = ?3, failure = ?4 WHERE experiment_id = ?1",
        )?
        .execute(params![
            id,
            computed_revision,
            outcome.recompute_at.map(|time| time.0),
            outcome.computed.as_ref().err()
        ])?;
    if n_known == 0 {
        // It was deleted while the run was computing it.
        results::remove(transaction, id)?;
        warnings::remove(transaction, id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use trialog_model::experiment::Definition;

    use super::*;
    use crate::audit::{Actor, Edit};
    use crate::results::{Arrivals, VariantExposures, VariantMetric};

    const DAY: i64 = 86_400_000_000;
    const NOW: UnixMicros = UnixMicros(20_000 * DAY);

    fn arrivals(event_type: &str, events: u64) -> Arrivals {
        Arrivals {
            event_type: event_type.into(),
            events,
            counted: 1,
            before_exposure: 2,
            after_window: 3,
            unexposed: 4,
            excluded: 5,
            unknown_variant: 6,
            unexposed_users: 7,
            senders_exposed: 8,
            sample: vec![i64::MIN, -42, 42, 4_242],
        }
    }

    fn computation(id: &ExperimentId, users: u64) -> Computation {
        Computation {
            experiment: id.clone(),
            fingerprint: "f".into(),
            forced_users: 1,
            unknown_variant: 0,
            not_aggregated: 2,
            exposures: vec![VariantExposures {
                variant: "a".into(),
                user_count: users,
                crossover_users: 3,
            }],
            metrics: vec![VariantMetric {
                variant: "a".into(),
                metric_name: "buy".into(),
                user_count: users,
                event_count: 5,
                total: i128::from(i64::MAX) * 1_000_000,
                conversion_rate: 0.5,
                mean_value: -1.25,
                variance: None,
                converted_users: 4,
                squared_total: i128::MAX,
                squared_events: 9,
                more: None,
            }],
            arrivals: ["visit", "buy"]
                .map(|event_type| arrivals(event_type, users))
                .into(),
        }
    }

    fn run(
        catalog: &Catalog,
        id: &ExperimentId,
        at: UnixMicros,
        computed: Result<Computation, String>,
    ) {
        let run_id = catalog.begin_run("request", 1, at).unwrap();
        let outcome = Outcome {
            experiment: id.clone(),
            revision: 1,
            recompute_at: Some(UnixMicros(at.0 + 5)),
            standing: computed.is_ok().then(|| "{}".to_owned()),
            warnings: match &computed {
                Ok(computed) if computed.exposures[0].user_count == 10 => {
                    vec!["events_without_exposure", "one_arm"]
                }
                _ => Vec::new(),
            },
            computed,
        };
        let thin_out_before = UnixMicros(at.0 - 7 * DAY);
        catalog
            .publish(&FinishedRun {
                run_id,
                position: 7,
                data_time: at,
                computed_at: at,
                thin_out_before,
                outcomes: vec![outcome],
                lease: None,
                journal: None,
            })
            .unwrap();
    }

    fn catalog() -> (tempfile::TempDir, Catalog, ExperimentId) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let id = ExperimentId::new("gate").unwrap();
        let edit = Edit::new(Actor::local(), NOW);
        catalog
            .create_experiment(&Definition::unregistered(id.clone()), &edit)
            .unwrap();
        (directory, catalog, id)
    }

    #[test]
    fn what_is_published_reads_back_exactly() {
        let (_directory, catalog, id) = catalog();
        assert_eq!(catalog.published(&id, None).unwrap(), None);
        run(&catalog, &id, NOW, Ok(computation(&id, 10)));
        let published = catalog.published(&id, None).unwrap().unwrap();
        let mut written = computation(&id, 10);
        written.arrivals.reverse();
        assert_eq!(published.computation, written);
        assert_eq!(catalog.high_water_mark().unwrap().position, 7);
        assert!(catalog.due_experiments(NOW).unwrap().is_empty());
        assert_eq!(
            catalog.due_experiments(UnixMicros(NOW.0 + 5)).unwrap(),
            [id]
        );
    }

    #[test]
    fn a_failed_experiment_keeps_its_last_rows_and_stays_due() {
        let (_directory, catalog, id) = catalog();
        run(&catalog, &id, NOW, Ok(computation(&id, 10)));
        run(
            &catalog,
            &id,
            UnixMicros(NOW.0 + 1),
            Err("too large".into()),
        );
        assert_eq!(
            catalog.published(&id, None).unwrap().unwrap().computed_at,
            NOW
        );
        assert_eq!(
            catalog.experiment(&id).unwrap().failure.as_deref(),
            Some("too large")
        );
        assert_eq!(catalog.due_experiments(NOW).unwrap(), [id]);
    }

    #[test]
    fn an_experiment_that_is_deleted_during_a_run_leaves_nothing_behind() {
        let (_directory, catalog, id) = catalog();
        run(&catalog, &id, NOW, Ok(computation(&id, 10)));
        let edit = Edit::new(Actor::local(), NOW);
        catalog.delete_experiment(&id, &edit).unwrap();
        run(
            &catalog,
            &id,
            UnixMicros(NOW.0 + 1),
            Ok(computation(&id, 11)),
        );
        assert_eq!(catalog.published(&id, None).unwrap(), None);
        for table in [
            "computations",
            "variant_exposures",
            "variant_metrics",
            "analysis_results",
            "experiment_warnings",
        ] {
            let left = catalog.read("count rows", |connection| {
                let sql = format!("SELECT count(*) FROM {table}");
                connection.query_row(&sql, params![], |row| row.get::<i64>(0))
            });
            assert_eq!(left.unwrap(), 0, "{table}");
        }
        assert!(
            catalog
                .due_experiments(UnixMicros(i64::MAX))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn an_erased_user_is_in_no_sample_of_any_look_and_the_counts_stay() {
        let (_directory, catalog, id) = catalog();
        run(&catalog, &id, NOW, Ok(computation(&id, 10)));
        run(
            &catalog,
            &id,
            UnixMicros(NOW.0 + 1),
            Ok(computation(&id, 11)),
        );
        let other = ExperimentId::new("other").unwrap();
        assert_eq!(catalog.forget_in_samples(42, Some(&other)).unwrap(), 0);
        assert_eq!(catalog.forget_in_samples(42, None).unwrap(), 4);
        assert_eq!(catalog.forget_in_samples(42, None).unwrap(), 0);
        for at in [NOW, UnixMicros(NOW.0 + 1)] {
            let published = catalog.published(&id, Some(at)).unwrap().unwrap();
            for row in published.computation.arrivals {
                assert_eq!(row.sample, [i64::MIN, -42, 4_242]);
                assert_eq!(row.unexposed_users, 7);
            }
        }
    }

    #[test]
    fn warnings_are_those_of_the_last_computation_of_experiments_that_run() {
        let (_directory, catalog, id) = catalog();
        let warned = || {
            let codes = catalog.experiments_with_warnings().unwrap();
            codes.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(warned(), []);
        run(&catalog, &id, NOW, Ok(computation(&id, 10)));
        let both = [
            ("events_without_exposure".to_owned(), 1),
            ("one_arm".to_owned(), 1),
        ];
        assert_eq!(warned(), both);
        let later = |n: i64| UnixMicros(NOW.0 + n);
        run(&catalog, &id, later(1), Err("too large".into()));
        assert_eq!(warned(), both, "a failed computation leaves the last one's");
        run(&catalog, &id, later(2), Ok(computation(&id, 11)));
        assert_eq!(warned(), []);
    }

    #[test]
    fn samples_go_with_the_events_that_retention_drops() {
        let (_directory, catalog, id) = catalog();
        run(&catalog, &id, NOW, Ok(computation(&id, 10)));
        let counts = std::collections::BTreeMap::from([(id.to_string(), 3)]);
        catalog.note_dropped(&counts, NOW, NOW).unwrap();
        let published = catalog.published(&id, None).unwrap().unwrap();
        let arrivals = published.computation.arrivals;
        assert_eq!(arrivals.len(), 2);
        assert!(arrivals.iter().all(|row| row.sample.is_empty()));
    }

    #[test]
    fn a_count_of_events_that_is_changed_or_gone_is_found() {
        for spoil in [
            "UPDATE analysis_results SET body = replace(body, '\"unexposed\":4', '\"unexposed\":3')",
            "UPDATE analysis_results SET body = '{}'",
            "DELETE FROM analysis_results WHERE key = 'visit'",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let catalog = Catalog::open(directory.path()).unwrap();
            let id = ExperimentId::new("gate").unwrap();
            let edit = Edit::new(Actor::local(), NOW);
            let definition = Definition::unregistered(id.clone());
            catalog.create_experiment(&definition, &edit).unwrap();
            run(&catalog, &id, NOW, Ok(computation(&id, 10)));
            let file = rusqlite::Connection::open(directory.path().join("catalog.sqlite"));
            file.unwrap().execute_batch(spoil).unwrap();
            let error = catalog.published(&id, None).unwrap_err();
            assert!(error.to_string().contains("checksum"), "{spoil}: {error}");
        }
    }

    #[test]
    fn history_is_kept_and_after_a_week_thinned_out_to_one_a_day() {
        let (_directory, catalog, id) = catalog();
        let hours = |n: i64| UnixMicros(NOW.0 + n * DAY / 24);
        for hour in 0..48 {
            run(
                &catalog,
                &id,
                hours(hour),
                Ok(computation(&id, hour as u64)),
            );
        }
        let as_of = |time| {
            catalog
                .published(&id, Some(time))
                .unwrap()
                .unwrap()
                .computed_at
        };
        assert_eq!(as_of(hours(5)), hours(5));
        run(&catalog, &id, hours(24 * 8 + 12), Ok(computation(&id, 1)));
        assert_eq!(as_of(hours(23)), hours(23));
        let arrivals = |connection: &Connection<'_>| {
            let sql = "SELECT count(DISTINCT computed_at) FROM analysis_results";
            connection.query_row(sql, params![], |row| row.get::<i64>(0))
        };
        let left = catalog.read("count what is left", arrivals).unwrap();
        let looks = |connection: &Connection<'_>| {
            let sql = "SELECT count(*) FROM computations";
            connection.query_row(sql, params![], |row| row.get::<i64>(0))
        };
        assert_eq!(left, catalog.read("count looks", looks).unwrap());
        assert_eq!(catalog.published(&id, Some(hours(22))).unwrap(), None);
        assert_eq!(
            as_of(hours(30)),
            hours(23),
            "the second day is only half past a week"
        );
    }
}
