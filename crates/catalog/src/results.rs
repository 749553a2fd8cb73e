//! Stores published results with their history, and seals them.

pub(crate) mod analyses;
mod arrivals;
mod seal;

use std::collections::HashMap;

use trialog_model::ids::ExperimentId;
use trialog_model::published::{
    AnalysisRow, Computation, HighWaterMark, MoreSums, Published, VariantExposures, VariantMetric,
};
use trialog_model::sequence::PastLook;
use trialog_model::time::UnixMicros;

pub(crate) use self::arrivals::keep_in_samples;

use crate::connection::Catalog;
use crate::database::{
    self, Cells, Connection, DatabaseError, Optional, Parameter, Row, cells, corrupt, params,
    unreadable,
};
use crate::error::CatalogError;
use crate::runs::{high_water_mark, mark_at};

impl Catalog {
    /// Returns the results of `experiment` by the last run, or by the last one that published at
    /// or before `as_of`; `None` if there are none. Runs are ordered by number, because the clock
    /// of an earlier one may have been ahead.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn published(
        &self,
        experiment: &ExperimentId,
        as_of: Option<UnixMicros>,
    ) -> Result<Option<Published>, CatalogError> {
        let limit = as_of.map_or(i64::MAX, |time| time.0);
        self.read("read results", |connection| {
            let mark = match as_of {
                None => high_water_mark(connection)?,
                Some(time) => mark_at(connection, time)?,
            };
            let sql = "SELECT computed_at FROM computations WHERE experiment_id = ?1 AND computed_at <= ?2 ORDER BY run_id DESC LIMIT 1";
            let found = connection
                .prepare_cached(sql)?
                .query_row(params![experiment.as_str(), limit], |row| row.get(0))
                .optional()?;
            match found {
                Some(computed_at) => read_published(connection, experiment, computed_at, mark),
                None => Ok(None),
            }
        })
    }

    /// Returns the results of `experiment` that were published exactly at `computed_at`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn published_at(
        &self,
        experiment: &ExperimentId,
        computed_at: UnixMicros,
    ) -> Result<Option<Published>, CatalogError> {
        self.read("read results", |connection| {
            let mark = mark_at(connection, computed_at)?;
            read_published(connection, experiment, computed_at.0, mark)
        })
    }
}

/// Looks that are read back at most: hourly ones of a week, and a year of daily ones.
const MOST_LOOKS: i64 = 7 * 24 + 365;

impl Catalog {
    /// Returns the rows of `experiment` that were published with the definitions of `fingerprint`,
    /// the newest first; of the last 533 publications.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn looks(
        &self,
        experiment: &ExperimentId,
        fingerprint: &str,
    ) -> Result<Vec<(PastLook, Vec<VariantMetric>)>, CatalogError> {
        let id = experiment.as_str();
        self.read("read earlier results", |connection| {
            let times: Vec<(i64, i64)> = connection
                .prepare_cached(
                    "SELECT computed_at, run_id FROM computations WHERE experiment_id = ?1 AND fingerprint = ?2 ORDER BY run_id DESC LIMIT ?3",
                )?
                .query_map(params![id, fingerprint, MOST_LOOKS], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<database::Result<_>>()?;
            let rows = |(time, run_id): (i64, i64)| {
                let look = PastLook {
                    at: UnixMicros(time),
                    run_id,
                };
                Ok((look, metric_rows(connection, params![id, time])?))
            };
            times.into_iter().map(rows).collect()
        })
    }
}

/// A publication of an experiment, with rows of some of its metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryLook {
    /// When it was published, and by which run.
    pub look: PastLook,
    /// The fingerprint of the definitions that it was computed with.
    pub fingerprint: String,
    /// The rows of the metrics that were asked for, as far as it has them.
    pub rows: Vec<VariantMetric>,
}

impl Catalog {
    /// Returns the publications of `experiment` with their rows of `metrics`, whatever their
    /// definitions were, the oldest first; the last 533 of them.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn history(
        &self,
        experiment: &ExperimentId,
        metrics: &[&str],
    ) -> Result<Vec<HistoryLook>, CatalogError> {
        let id = experiment.as_str();
        self.read("read earlier results", |connection| {
            let look = |row: &Row<'_>| {
                Ok(HistoryLook {
                    look: PastLook {
                        at: row.get(0)?,
                        run_id: row.get(1)?,
                    },
                    fingerprint: row.get(2)?,
                    rows: Vec::new(),
                })
            };
            let mut looks: Vec<HistoryLook> = connection
                .prepare_cached(
                    "SELECT computed_at, run_id, fingerprint FROM computations WHERE experiment_id = ?1 ORDER BY run_id DESC LIMIT ?2",
                )?
                .query_map(params![id, MOST_LOOKS], look)?
                .collect::<database::Result<_>>()?;
            looks.reverse();
            let Some(first) = looks.iter().map(|look| look.look.at.0).min() else {
                return Ok(looks);
            };
            let by_time: HashMap<i64, usize> = (looks.iter().enumerate())
                .map(|(at, look)| (look.look.at.0, at))
                .collect();
            for metric in metrics {
                let rows: Vec<(i64, VariantMetric)> = connection
                    .prepare_cached(
                        "SELECT variant, metric_name, user_count, event_count, total_value, conversion_rate, mean_value, variance, converted_users, squared_total, squared_events, more, computed_at
                         FROM variant_metrics WHERE experiment_id = ?1 AND computed_at >= ?2 AND metric_name = ?3 ORDER BY computed_at, variant",
                    )?
                    .query_map(params![id, first, *metric], |row| {
                        Ok((row.get(12)?, variant_metric(row)?))
                    })?
                    .collect::<database::Result<_>>()?;
                for (time, row) in rows {
                    if let Some(at) = by_time.get(&time) {
                        looks[*at].rows.push(row);
                    }
                }
            }
            Ok(looks)
        })
    }
}

/// The rows of the computation of an experiment at a time.
fn metric_rows(
    connection: &Connection<'_>,
    key: &[&dyn Parameter],
) -> database::Result<Vec<VariantMetric>> {
    connection
        .prepare_cached(
            "SELECT variant, metric_name, user_count, event_count, total_value, conversion_rate, mean_value, variance, converted_users, squared_total, squared_events, more
             FROM variant_metrics WHERE experiment_id = ?1 AND computed_at = ?2 ORDER BY metric_name, variant",
        )?
        .query_map(key, variant_metric)?
        .collect()
}

fn read_published(
    connection: &Connection<'_>,
    experiment: &ExperimentId,
    computed_at: i64,
    mark: HighWaterMark,
) -> database::Result<Option<Published>> {
    let sql = "SELECT computed_at, run_id, fingerprint, forced_users, unknown_variant, not_aggregated, checksum, seal_version FROM computations
               WHERE experiment_id = ?1 AND computed_at = ?2";
    let header = |row: &Row<'_>| {
        let sealed: (i64, u32) = (row.get(6)?, row.get(7)?);
        let published = Published {
            computed_at: row.get(0)?,
            run_id: row.get(1)?,
            mark,
            computation: Computation {
                fingerprint: row.get(2)?,
                forced_users: row.get(3)?,
                unknown_variant: row.get(4)?,
                not_aggregated: row.get(5)?,
                ..Computation::empty(experiment.clone())
            },
        };
        Ok((published, sealed))
    };
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![experiment.as_str(), computed_at], header)
        .optional()?;
    let Some((mut published, (checksum, version))) = found else {
        return Ok(None);
    };
    let (id, computed_at) = (experiment.as_str(), published.computed_at.0);
    let key = params![id, computed_at];
    published.computation.exposures = connection
        .prepare_cached("SELECT variant, user_count, crossover_users FROM variant_exposures WHERE experiment_id = ?1 AND computed_at = ?2 ORDER BY variant")?
        .query_map(key, |row| {
            Ok(VariantExposures { variant: row.get(0)?, user_count: row.get(1)?, crossover_users: row.get(2)? })
        })?
        .collect::<database::Result<_>>()?;
    published.computation.metrics = metric_rows(connection, key)?;
    published.computation.arrivals = arrivals::read(connection, experiment, computed_at)?;
    let look = PastLook {
        at: published.computed_at,
        run_id: published.run_id,
    };
    match seal::checksum(version, &published.computation, look) {
        Some(computed) if computed == checksum => {}
        Some(_) => {
            return Err(corrupt(format!(
                "the results of `{experiment}` do not match their checksum"
            )));
        }
        None => {
            return Err(corrupt(format!(
                "the results of `{experiment}` have a checksum of version {version}, which this version of Trialog does not know"
            )));
        }
    }
    Ok(Some(published))
}

fn variant_metric(row: &Row<'_>) -> database::Result<VariantMetric> {
    Ok(VariantMetric {
        variant: row.get(0)?,
        metric_name: row.get(1)?,
        user_count: row.get(2)?,
        event_count: row.get(3)?,
        total: trialog_model::decimal::parse_units(&row.get::<String>(4)?)
            .ok_or_else(|| not_exact(4))?,
        conversion_rate: row.get(5)?,
        mean_value: row.get(6)?,
        variance: row.get(7)?,
        converted_users: row.get(8)?,
        squared_total: row.get::<String>(9)?.parse().map_err(|_| not_exact(9))?,
        squared_events: row.get::<String>(10)?.parse().map_err(|_| not_exact(10))?,
        more: match row.get::<Option<String>>(11)? {
            None => None,
            Some(text) => Some(MoreSums::parse(&text).ok_or_else(|| not_exact(11))?),
        },
    })
}

fn not_exact(column: usize) -> DatabaseError {
    unreadable(column, "it does not hold an exact sum")
}

/// `computation` with its rows in the order in which they are read back.
fn ordered(computation: &Computation) -> Computation {
    let mut ordered = computation.clone();
    ordered.exposures.sort_by(|a, b| a.variant.cmp(&b.variant));
    ordered
        .metrics
        .sort_by(|a, b| (&a.metric_name, &a.variant).cmp(&(&b.metric_name, &b.variant)));
    ordered
        .arrivals
        .sort_by(|a, b| a.event_type.cmp(&b.event_type));
    ordered
}

/// The rows of computations that are about to be written.
#[derive(Default)]
pub(crate) struct Writing<'c> {
    computations: Vec<Cells<'c>>,
    exposures: Vec<Cells<'c>>,
    metrics: Vec<Cells<'c>>,
    analyses: Vec<Cells<'c>>,
}

impl<'c> Writing<'c> {
    pub(crate) fn add(
        &mut self,
        computation: &'c Computation,
        computed_at: UnixMicros,
        run_id: i64,
    ) {
        let (id, at) = (computation.experiment.as_str(), computed_at.0);
        let fingerprint = &computation.fingerprint;
        let look = PastLook {
            at: computed_at,
            run_id,
        };
        let checksum = seal::checksum(seal::VERSION, &ordered(computation), look)
            .expect("rows are written with a version that is known");
        self.computations.push(cells![
            id,
            at,
            run_id,
            fingerprint,
            computation.forced_users,
            computation.unknown_variant,
            computation.not_aggregated,
            checksum,
            seal::VERSION,
        ]);
        self.exposures.extend(
            computation
                .exposures
                .iter()
                .map(|row| cells![id, at, &row.variant, row.user_count, row.crossover_users]),
        );
        self.metrics.extend(computation.metrics.iter().map(|row| {
            cells![
                id,
                &row.variant,
                &row.metric_name,
                at,
                row.user_count,
                row.event_count,
                trialog_model::decimal::format_units(row.total),
                row.conversion_rate,
                row.mean_value,
                row.variance,
                row.converted_users,
                row.squared_total.to_string(),
                row.squared_events.to_string(),
                run_id,
                fingerprint,
                row.more.as_ref().map(MoreSums::text),
            ]
        }));
        self.analyses.extend(computation.arrivals.iter().map(|row| {
            cells![
                id,
                at,
                arrivals::ANALYSIS,
                &row.event_type,
                arrivals::body(row)
            ]
        }));
    }

    /// Adds the rows of analyses that belong to the computation of this time.
    pub(crate) fn add_analyses(
        &mut self,
        experiment: &'c ExperimentId,
        computed_at: UnixMicros,
        rows: &'c [AnalysisRow],
    ) {
        let (id, at) = (experiment.as_str(), computed_at.0);
        let cells = rows
            .iter()
            .map(|row| cells![id, at, &row.analysis, &row.key, &row.body]);
        self.analyses.extend(cells);
    }

    /// Counts the rows.
    pub(crate) fn len(&self) -> usize {
        self.computations.len() + self.exposures.len() + self.metrics.len() + self.analyses.len()
    }

    /// Inserts the gathered rows into the tables of results.
    pub(crate) fn write(self, transaction: &Connection<'_>) -> database::Result<()> {
        transaction.insert_all(
            "computations",
            &[
                "experiment_id",
                "computed_at",
                "run_id",
                "fingerprint",
                "forced_users",
                "unknown_variant",
                "not_aggregated",
                "checksum",
                "seal_version",
            ],
            &self.computations,
        )?;
        transaction.insert_all(
            "variant_exposures",
            &[
                "experiment_id",
                "computed_at",
                "variant",
                "user_count",
                "crossover_users",
            ],
            &self.exposures,
        )?;
        transaction.insert_all(
            "variant_metrics",
            &[
                "experiment_id",
                "variant",
                "metric_name",
                "computed_at",
                "user_count",
                "event_count",
                "total_value",
                "conversion_rate",
                "mean_value",
                "variance",
                "converted_users",
                "squared_total",
                "squared_events",
                "run_id",
                "fingerprint",
                "more",
            ],
            &self.metrics,
        )?;
        transaction.insert_sealed(
            "analysis_results",
            &["experiment_id", "computed_at", "analysis", "key", "body"],
            &self.analyses,
        )
    }
}

/// The tables that hold what was published of an experiment.
const TABLES: [&str; 4] = [
    "computations",
    "variant_exposures",
    "variant_metrics",
    "analysis_results",
];

/// Removes everything that was published of an experiment.
pub(crate) fn remove(transaction: &Connection<'_>, experiment: &str) -> database::Result<()> {
    for table in TABLES {
        transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE experiment_id = ?1"))?
            .execute([experiment])?;
    }
    Ok(())
}

/// Keeps only the last computation of each UTC day of `experiment` before `before`.
pub(crate) fn thin_out(
    transaction: &Connection<'_>,
    experiment: &str,
    before: i64,
) -> database::Result<()> {
    const DAY_MICROS: i64 = 86_400_000_000;
    let superseded: Vec<i64> = transaction
        .prepare_cached(
            "SELECT computed_at FROM computations WHERE experiment_id = ?1 AND computed_at < ?2
             AND run_id NOT IN (SELECT max(run_id) FROM computations WHERE experiment_id = ?1 GROUP BY computed_at / ?3)",
        )?
        .query_map(params![experiment, before, DAY_MICROS], |row| row.get(0))?
        .collect::<database::Result<_>>()?;
    for computed_at in superseded {
        for table in TABLES {
            transaction
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE experiment_id = ?1 AND computed_at = ?2"
                ))?
                .execute(params![experiment, computed_at])?;
        }
    }
    Ok(())
}
