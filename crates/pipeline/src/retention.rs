//! Drops events by age: those older than a number of days.
//!
//! An experiment that lost events cannot be computed from what is left
//! without a change to its numbers. So it is frozen, before the first event
//! goes: its published results stay, no run and no filter computes it again,
//! and its results say why. Only events that a published run has read are
//! dropped, and none of an experiment that is due or whose last computation
//! failed.
//!
//! What is dropped is gone, and a clock can be wrong. So retention asks for a
//! confirmation where it would drop more than a share of all events at once,
//! and where no run was published a day to [`STEADY_DAYS`] days before: the
//! clock has not been near this time for long then. A clock that its witnesses
//! speak against drops nothing, confirmed or not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::Catalog;
use trialog_model::time::UnixMicros;
use trialog_warehouse::embedded::Warehouse;
use trialog_warehouse::erase::Doomed;

use crate::maintenance::MaintenanceError;
use crate::store::Store;
use crate::trust::Witnesses;

const DAY_MICROS: i64 = 86_400_000_000;

/// The reason why retention needs the embedded warehouse.
pub(crate) const NOT_EMBEDDED: &str = "retention is ClickHouse's: ALTER TABLE assignments and metric_events DROP PARTITION drops a month, or give them a TTL";

/// The events that retention dropped, or would drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RetentionReport {
    /// Events before this time are dropped; null where all are kept.
    #[schemars(extend("format" = "date-time"))]
    pub before: Option<String>,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Events that were dropped, copies included.
    pub events: u64,
    /// The same by experiment; all of these are frozen.
    pub experiments: BTreeMap<String, u64>,
    /// Files that were written anew.
    pub runs_rewritten: usize,
    /// Files of which nothing remained.
    pub runs_dropped: usize,
}

/// Whether retention changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Report what would be dropped.
    DryRun,
    /// Drop it, unless that is more than should go without a confirmation.
    Apply,
    /// Drop it, however much it is.
    Confirmed,
}

/// How many days before now the clock must have been seen, a day ago at the latest.
const STEADY_DAYS: i64 = 8;

/// How long events are kept, and how many may be dropped at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Keep {
    /// For how long; `None` keeps them for ever.
    pub(crate) micros: Option<i64>,
    /// The share of all events that is dropped without a confirmation.
    pub(crate) drop_at_most: f64,
}

/// Drops old events after runs, once each day.
#[derive(Debug, Default)]
pub(crate) struct DailyDrop {
    /// Before which time events were last dropped by this process.
    last: Mutex<Option<UnixMicros>>,
}

impl DailyDrop {
    /// Drops the events that are too old at `now`, unless that was done on this day. The caller
    /// holds the lease.
    pub(crate) fn run(&self, catalog: &Catalog, store: &Store, keep: Keep, now: UnixMicros) {
        let Some(keep_micros) = keep.micros else {
            return;
        };
        let before = Some(cutoff(keep_micros, now));
        let mut last = (self.last.lock()).unwrap_or_else(PoisonError::into_inner);
        if *last == before {
            return;
        }
        let retained = (store.embedded(NOT_EMBEDDED))
            .map_err(MaintenanceError::from)
            .and_then(|warehouse| retain(catalog, warehouse, keep, now, Mode::Apply));
        match retained {
            Ok(_) => *last = before,
            // Checked once a day: the result is the same until an operator confirms, or a day passed.
            Err(MaintenanceError::Unconfirmed(why)) => {
                tracing::error!("no old events were dropped: {why}");
                *last = before;
            }
            // The results are published; the next run tries again.
            Err(error) => tracing::warn!("could not drop old events: {error}"),
        }
    }
}

/// The time before which events are dropped at `now`: a whole day, so that
/// files are rewritten once a day at most.
fn cutoff(keep_micros: i64, now: UnixMicros) -> UnixMicros {
    let days = (now.0.saturating_sub(keep_micros)).div_euclid(DAY_MICROS);
    UnixMicros(days.saturating_mul(DAY_MICROS))
}

/// Refuses to drop more than a share of all events.
fn check_share(n_doomed: u64, n_events: u64, at_most: f64) -> Result<(), MaintenanceError> {
    let share = n_doomed as f64 / n_events.max(1) as f64;
    if share <= at_most {
        return Ok(());
    }
    Err(MaintenanceError::Unconfirmed(format!(
        "{n_doomed} of {n_events} events are older than `keep_events_for`, more than the share {at_most} that `drop_at_most` lets go at once"
    )))
}

/// Refuses a clock that was not near this time for a day.
fn check_steady(catalog: &Catalog, now: UnixMicros) -> Result<(), MaintenanceError> {
    let before = |days: i64| UnixMicros(now.0.saturating_sub(days * DAY_MICROS));
    if catalog.ran_between(before(STEADY_DAYS), before(1))? {
        return Ok(());
    }
    Err(MaintenanceError::Unconfirmed(format!(
        "no run was published between {} and {}, so the clock may have jumped, or the server was off; events are dropped again once it has run for a day",
        before(STEADY_DAYS),
        before(1)
    )))
}

/// Drops the events that are too old at `now`. The caller holds the lease, so that no run reads
/// them meanwhile.
pub(crate) fn retain(
    catalog: &Catalog,
    warehouse: &Warehouse,
    keep: Keep,
    now: UnixMicros,
    mode: Mode,
) -> Result<RetentionReport, MaintenanceError> {
    let mut report = RetentionReport {
        before: None,
        dry_run: mode == Mode::DryRun,
        events: 0,
        experiments: BTreeMap::new(),
        runs_rewritten: 0,
        runs_dropped: 0,
    };
    let Some(keep_micros) = keep.micros else {
        return Ok(report);
    };
    let before = cutoff(keep_micros, now);
    report.before = Some(before.to_rfc3339());
    let frozen = catalog.frozen_experiments()?;
    let due = catalog.due_experiments(now)?.into_iter();
    let doomed = Doomed::Older {
        than: before.0,
        spared: due
            .filter(|id| !frozen.contains(id))
            .map(|id| id.to_string())
            .collect(),
    };
    let limit = catalog.high_water_mark()?.position;
    report.experiments = warehouse.count_doomed(&doomed, limit)?;
    report.events = report.experiments.values().sum();
    if mode == Mode::DryRun || report.events == 0 {
        return Ok(report);
    }
    let (n_events, newest) = warehouse.extent(limit);
    let witnesses = Witnesses {
        storage: catalog.storage_time(),
        newest_event: newest.map(UnixMicros),
    };
    witnesses.check(now)?;
    if mode == Mode::Apply {
        check_share(report.events, n_events, keep.drop_at_most)?;
        check_steady(catalog, now)?;
    }
    catalog.note_dropped(&report.experiments, before, now)?;
    let erased = warehouse.erase(&doomed, limit)?;
    (report.runs_rewritten, report.runs_dropped) = (erased.runs_rewritten, erased.runs_dropped);
    if let Err(error) = warehouse.scrub() {
        // The events are gone; their traces in the database go with a later try.
        tracing::warn!("could not scrub the database: {}", error.chain());
    }
    tracing::info!(
        events = report.events,
        experiments = report.experiments.len(),
        "dropped the events before {before}"
    );
    Ok(report)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_limit_is_a_whole_day_that_is_old_enough(now: i64, days in 1_i64..100_000) {
            let keep = days * DAY_MICROS;
            let before = cutoff(keep, UnixMicros(now));
            prop_assert!(before.0 <= now.saturating_sub(keep));
            prop_assert!(before.0 % DAY_MICROS == 0 || before.0 == i64::MIN);
        }
    }
}
