//! Verifies every byte, every position, and every published number.
//!
//! It reads one moment and changes nothing. It goes on after it found damage,
//! so that its report is whole.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::Catalog;
use trialog_catalog::experiments::Experiment;
use trialog_model::event::EventKind;
use trialog_model::published::{Computation, HighWaterMark};
use trialog_warehouse::WarehouseError;
use trialog_warehouse::fold::UserFilter;
use trialog_warehouse::pin::Pinned;
use trialog_warehouse::snapshot::Snapshot;
use trialog_warehouse::view::View;

use super::{Flag, Maintenance, MaintenanceError, Progress, go_on, restore};
use crate::aggregation::Settings;
use crate::compute::{compute, fingerprint};

/// Experiments that are recomputed at a time.
const CHUNK: u32 = 500;
/// Experiments that are named in the report, for each reason.
const MAX_NAMED: usize = 100;

/// The findings of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VerifyReport {
    /// Whether nothing is damaged.
    pub sound: bool,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
    /// The position of events.
    pub position: u64,
    /// The position that results cover.
    pub published_position: u64,
    /// Files of events that were read.
    pub runs: usize,
    /// Their size.
    pub run_bytes: u64,
    /// Entries of the inbox that were read.
    pub inbox_entries: u64,
    /// Experiments whose results were recomputed and are equal.
    pub recomputed: u64,
    /// Some of those that were not compared, at most a hundred.
    pub skipped: Vec<Skipped>,
    /// How many those are.
    pub n_skipped: u64,
}

/// Data that are not as they were written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Damage {
    /// The part of the data: `catalog`, `warehouse`, `run`, `inbox`, `position`, `orphan` or `results`.
    pub part: &'static str,
    /// What is wrong and how to fix it.
    pub message: String,
}

/// An experiment whose results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Skipped {
    /// The experiment.
    pub experiment: String,
    /// The reason why its results were not compared.
    pub reason: &'static str,
}

impl Maintenance {
    /// Verifies the data as of this moment while events come in.
    ///
    /// # Errors
    ///
    /// The data cannot be read; damage is no error, it is reported.
    pub fn verify(&self, progress: Progress<'_>) -> Result<VerifyReport, MaintenanceError> {
        self.verify_until(&Flag::default(), progress)
    }

    /// Verifies as [`Self::verify`] does. Ends with an error soon after `flag` is set.
    ///
    /// # Errors
    ///
    /// Those of [`Self::verify`], and that it was abandoned.
    pub fn verify_until(
        &self,
        flag: &Flag,
        progress: Progress<'_>,
    ) -> Result<VerifyReport, MaintenanceError> {
        let _turn = self.turn();
        go_on(flag)?;
        let files = self
            .files("verification is ClickHouse's: CHECK TABLE checks the checksums of its parts")?;
        let (catalog, warehouse) = self.catalog.pin(|| files.pin())?;
        let mut verification = Verification::new(self.aggregator.settings(), flag);
        for (part, lost) in [
            ("catalog", self.catalog.lost_file()),
            ("warehouse", files.lost_file()),
        ] {
            lost.into_iter()
                .for_each(|what| verification.damage(part, what));
        }
        let warehouse = warehouse?.until(Flag::clone(flag));
        verification.all(&catalog, &warehouse, progress)?;
        Ok(verification.finish())
    }
}

/// Verifies a data directory that no process has open, without changing it.
///
/// # Errors
///
/// The data cannot be read; damage is no error, it is reported.
pub fn verify_directory(
    directory: &Path,
    settings: &Settings,
    progress: Progress<'_>,
) -> Result<VerifyReport, MaintenanceError> {
    restore::check_complete(directory)?;
    let flag = Flag::default();
    let mut verification = Verification::new(settings, &flag);
    let is_there = verification.note("catalog", restore::check_catalog(directory))?;
    let catalog = match is_there {
        Some(()) => verification.note("catalog", Catalog::open_pinned(directory))?,
        None => None,
    };
    let warehouse = verification.note("warehouse", Pinned::open(directory))?;
    if let (Some(catalog), Some(warehouse)) = (&catalog, &warehouse) {
        verification.all(catalog, warehouse, progress)?;
        verification.orphans(warehouse)?;
    } else if let Some(catalog) = &catalog {
        verification.catalog(catalog)?;
    } else if let Some(warehouse) = &warehouse {
        verification.events(warehouse, progress)?;
    }
    Ok(verification.finish())
}

struct Verification<'a> {
    settings: &'a Settings,
    /// Set when no client waits for the report any more.
    flag: &'a Flag,
    report: VerifyReport,
}

impl<'a> Verification<'a> {
    fn new(settings: &'a Settings, flag: &'a Flag) -> Self {
        Self {
            settings,
            flag,
            report: VerifyReport::default(),
        }
    }

    fn finish(mut self) -> VerifyReport {
        self.report.sound = self.report.damage.is_empty();
        self.report
    }

    fn damage(&mut self, part: &'static str, message: String) {
        self.report.damage.push(Damage { part, message });
    }

    /// Returns the result of a step. Damage is recorded and gives `None`.
    fn note<T, E: Into<MaintenanceError>>(
        &mut self,
        part: &'static str,
        outcome: Result<T, E>,
    ) -> Result<Option<T>, MaintenanceError> {
        match outcome.map_err(Into::into) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_damage() => {
                self.damage(part, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn all(
        &mut self,
        catalog: &Catalog,
        warehouse: &Pinned,
        progress: Progress<'_>,
    ) -> Result<(), MaintenanceError> {
        self.catalog(catalog)?;
        self.events(warehouse, progress)?;
        let Some(mark) = self.note("catalog", catalog.high_water_mark())? else {
            return Ok(());
        };
        self.report.published_position = mark.position;
        if mark.position > self.report.position {
            self.damage("position", format!(
                "results are published up to position {}, but the events end at {}: one of the two files is not of this time",
                mark.position, self.report.position
            ));
            return Ok(());
        }
        let unreadable = |damage: &Damage| ["run", "inbox", "warehouse"].contains(&damage.part);
        if self.report.damage.iter().any(unreadable) {
            let note = "results were not recomputed, as events are damaged";
            self.report.notes.push(note.to_owned());
            return Ok(());
        }
        self.clashing_users(&warehouse.snapshot(self.report.position)?)?;
        let snapshot = warehouse.snapshot(mark.position)?;
        self.results(catalog, &snapshot.into(), mark, progress)
    }

    /// Records users whose number stands for two texts: two people who are counted as one.
    fn clashing_users(&mut self, snapshot: &Snapshot) -> Result<(), MaintenanceError> {
        let ids = snapshot.experiments_after(EventKind::Assignment, 0);
        let clashing = snapshot.clashing_users(&ids)?;
        let Some((experiment, users)) = clashing.first_key_value() else {
            return Ok(());
        };
        let n_users: usize = clashing.values().map(Vec::len).sum();
        let n_experiments = clashing.len();
        self.report.notes.push(format!(
            "{n_users} users in {n_experiments} experiments were sent as two texts that have one number, and are counted as one user each; in `{experiment}` user {}: give these users integers as ids",
            users[0]
        ));
        Ok(())
    }

    fn catalog(&mut self, catalog: &Catalog) -> Result<(), MaintenanceError> {
        let found = self.note("catalog", catalog.find_damage())?;
        for what in found.into_iter().flatten() {
            self.damage("catalog", format!("`{}`: {what}", catalog.place()));
        }
        Ok(())
    }

    fn events(
        &mut self,
        warehouse: &Pinned,
        progress: Progress<'_>,
    ) -> Result<(), MaintenanceError> {
        let found = self.note("warehouse", warehouse.find_database_damage())?;
        for what in found.into_iter().flatten() {
            self.damage("warehouse", format!("`warehouse.sqlite`: {what}"));
        }
        for error in warehouse.unreadable() {
            self.damage("run", error.chain());
        }
        if let Some(position) = self.note("warehouse", warehouse.position())? {
            self.report.position = position;
        }
        if let Some(told) = warehouse.told()
            && told > self.report.position
        {
            self.damage("position", format!(
                "events up to position {told} were acknowledged, but they end at {}: `warehouse.sqlite` lost its end, or is older than `POSITION`",
                self.report.position
            ));
        }
        if let Some(n_entries) = self.note("inbox", warehouse.verify_inbox())? {
            self.report.inbox_entries = n_entries;
        }
        let runs = warehouse.run_files();
        let total = runs.iter().map(|run| run.bytes).sum();
        for run in runs {
            let verified = match warehouse.verify_run(&run.path) {
                // The file is there and cannot be read: a broken disk says so.
                Err(error @ WarehouseError::Io { .. }) => {
                    self.damage("run", error.chain());
                    None
                }
                outcome => self.note("run", outcome)?,
            };
            self.report.runs += usize::from(verified.is_some());
            self.report.run_bytes += run.bytes;
            progress(self.report.run_bytes, total);
        }
        Ok(())
    }

    fn orphans(&mut self, warehouse: &Pinned) -> Result<(), MaintenanceError> {
        for path in warehouse.orphans()? {
            let shown = path.display();
            if warehouse.is_from_later(&path)? {
                self.damage("orphan", format!(
                    "`{shown}` holds events that `warehouse.sqlite` has never seen: one of the two is not of this time"
                ));
            } else {
                self.report.notes.push(format!(
                    "`{shown}` is left over from an interrupted write: the next start removes it"
                ));
            }
        }
        Ok(())
    }

    fn results(
        &mut self,
        catalog: &Catalog,
        snapshot: &View,
        mark: HighWaterMark,
        progress: Progress<'_>,
    ) -> Result<(), MaintenanceError> {
        let mut after = String::new();
        loop {
            let ids = catalog.experiment_ids(&after, CHUNK)?;
            let Some(last) = ids.last() else {
                return Ok(());
            };
            after = last.to_string();
            let due = catalog.due_experiments(mark.data_time)?;
            let frozen = catalog.frozen_experiments()?;
            let mut comparable = Vec::new();
            for id in &ids {
                go_on(self.flag)?;
                let Some(experiment) = self.note("catalog", catalog.experiment(id))? else {
                    continue;
                };
                let Some(published) = self.note("results", catalog.published(id, None))? else {
                    continue;
                };
                if frozen.contains(id) {
                    self.skip(id.as_str(), "retention dropped events of it");
                    continue;
                }
                let published = published.map(|published| published.computation);
                match self.incomparable(&experiment, published.as_ref(), due.contains(id)) {
                    Some(reason) => self.skip(id.as_str(), reason),
                    None => comparable.extend(published.map(|rows| (experiment, rows))),
                }
            }
            self.compare(snapshot, mark, &comparable)?;
            progress(0, 0);
        }
    }

    /// Why an experiment's rows need not equal a recomputation.
    fn incomparable(
        &self,
        experiment: &Experiment,
        published: Option<&Computation>,
        is_due: bool,
    ) -> Option<&'static str> {
        if experiment.failure.is_some() {
            return Some("its last computation failed");
        }
        let Some(published) = published else {
            return Some("it has no results yet");
        };
        let current = fingerprint(experiment, &self.settings.limits);
        if published.fingerprint != current {
            return Some("its definition changed since its results were computed");
        }
        is_due.then_some("the next run recomputes it")
    }

    fn skip(&mut self, experiment: &str, reason: &'static str) {
        self.report.n_skipped += 1;
        if self.report.skipped.len() < MAX_NAMED {
            let experiment = experiment.to_owned();
            self.report.skipped.push(Skipped { experiment, reason });
        }
    }

    fn compare(
        &mut self,
        snapshot: &View,
        mark: HighWaterMark,
        comparable: &[(Experiment, Computation)],
    ) -> Result<(), MaintenanceError> {
        let experiments: Vec<_> = (comparable.iter())
            .map(|(experiment, _)| experiment.clone())
            .collect();
        let computed = compute(
            snapshot,
            &experiments,
            &self.settings.limits,
            mark.data_time,
            &UserFilter::default(),
            self.settings.n_threads,
        )?;
        for ((experiment, published), computed) in comparable.iter().zip(computed) {
            let id = &experiment.definition.experiment_id;
            match computed.outcome {
                Ok(computed) if ordered(&computed) == ordered(published) => {
                    self.report.recomputed += 1;
                }
                Ok(computed) => self.damage("results", format!(
                    "the results of `{id}` do not equal a recomputation: {}; `trialog aggregate --full` computes them anew",
                    difference(published, &computed)
                )),
                Err(error) => self.damage("results", format!(
                    "`{id}` has results, but cannot be computed: {error}"
                )),
            }
        }
        Ok(())
    }
}

/// `computation` with its rows in one order.
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

/// The first thing in which two computations differ, in words.
fn difference(published: &Computation, computed: &Computation) -> String {
    let (published, computed) = (ordered(published), ordered(computed));
    let users = published.exposures.iter().zip(&computed.exposures);
    if let Some((old, new)) = users.into_iter().find(|(old, new)| old != new) {
        return format!(
            "variant `{}` has {} users where {} are found",
            old.variant, old.user_count, new.user_count
        );
    }
    let rows = published.metrics.iter().zip(&computed.metrics);
    match rows.into_iter().find(|(old, new)| old != new) {
        Some((old, new)) => format!(
            "`{}` of variant `{}` has {} events with the sum {} where {} with {} are found",
            old.metric_name,
            old.variant,
            old.event_count,
            trialog_model::decimal::format_units(old.total),
            new.event_count,
            trialog_model::decimal::format_units(new.total)
        ),
        None => "the counts of events or users beside the metrics differ".to_owned(),
    }
}
