//! The seam between an analysis and the two warehouses.
//!
//! An analysis is asked here, of whichever warehouse there is: over the embedded
//! one it is an accumulator of the fold, over ClickHouse statements in files. A
//! new analysis is one more method, and one test that both give the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use trialog_model::event::EventKind;

use crate::analysis::ranks::{RankedPlan, Ranks};
use crate::analysis::scorecard::{MetricPlan, Scorecard};
use crate::analysis::values::{KeyValues, Values};
use crate::error::{FoldError, WarehouseError};
use crate::fold::{Outcomes, Plan, fold};
use crate::index::IndexEntry;
use crate::snapshot::Snapshot;

/// Raw events at one moment, whatever comes in meanwhile.
#[derive(Clone)]
pub enum View {
    /// Of the embedded warehouse.
    Embedded(Snapshot),
    /// Of ClickHouse.
    #[cfg(feature = "clickhouse")]
    ClickHouse(crate::clickhouse::View),
}

impl From<Snapshot> for View {
    fn from(snapshot: Snapshot) -> Self {
        Self::Embedded(snapshot)
    }
}

#[cfg(feature = "clickhouse")]
impl From<crate::clickhouse::View> for View {
    fn from(view: crate::clickhouse::View) -> Self {
        Self::ClickHouse(view)
    }
}

impl View {
    /// Lets analyses end with [`WarehouseError::Abandoned`] soon after `abandoned` is set.
    pub fn until(self, abandoned: Arc<AtomicBool>) -> Self {
        match self {
            Self::Embedded(snapshot) => snapshot.until(abandoned).into(),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.until(abandoned).into(),
        }
    }

    /// What there is of each of `experiments`, for events of `kind`; those without any are absent.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read.
    pub fn contents(
        &self,
        kind: EventKind,
        experiments: &[&str],
    ) -> Result<BTreeMap<String, IndexEntry>, WarehouseError> {
        match self {
            Self::Embedded(snapshot) => Ok((experiments.iter())
                .filter_map(|id| Some(((*id).to_owned(), snapshot.contents_of(kind, id)?)))
                .collect()),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.contents(kind, experiments),
        }
    }

    /// The texts of `users` in `experiment`, as far as they are texts and known: users who were
    /// never assigned have none. Of the first [`crate::user_texts::MAX_USERS`] only.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read.
    pub fn user_texts(
        &self,
        experiment: &str,
        users: &[i64],
    ) -> Result<BTreeMap<i64, String>, WarehouseError> {
        match self {
            Self::Embedded(snapshot) => snapshot.user_texts(experiment, users),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.user_texts(experiment, users),
        }
    }

    /// The users of each of `experiments` of which one number is known to stand for two texts;
    /// experiments without any are absent. The embedded warehouse knows those whose texts lie in
    /// one run or segment, and so all of them once what there is has been merged.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read.
    pub fn clashing_users(
        &self,
        experiments: &[&str],
    ) -> Result<BTreeMap<String, Vec<i64>>, WarehouseError> {
        match self {
            Self::Embedded(snapshot) => Ok((experiments.iter())
                .filter_map(|id| {
                    let contents = snapshot.contents_of(EventKind::Assignment, id)?;
                    let clashing = contents.user_texts?.clashing;
                    (!clashing.is_empty()).then(|| ((*id).to_owned(), clashing))
                })
                .collect()),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.clashing_users(experiments),
        }
    }

    /// The scorecards of `plans`, which are in the order of their experiments and have one data
    /// time and one segment; `metrics` are those of each plan. Where the work is done here,
    /// `n_threads` do it.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read. One experiment's overflow is its own.
    pub fn scorecards(
        &self,
        plans: &[Plan],
        metrics: &[Vec<MetricPlan>],
        n_threads: usize,
    ) -> Result<Outcomes<Scorecard>, WarehouseError> {
        match self {
            Self::Embedded(snapshot) => fold(snapshot, plans, n_threads, |plan| {
                let at = plans.partition_point(|other| other.experiment < plan.experiment);
                Scorecard::new(plan, metrics[at].clone())
            }),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.scorecards(plans, metrics),
        }
    }

    /// Finds the `limit` values of `keys` with the most exposed users of `plan`.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read.
    pub fn key_values(
        &self,
        plan: &Plan,
        keys: &[String],
        limit: usize,
        n_threads: usize,
    ) -> Result<KeyValues, WarehouseError> {
        match self {
            Self::Embedded(snapshot) => {
                let make = |_: &Plan| Values::new(snapshot, keys);
                let outcome = fold(snapshot, std::slice::from_ref(plan), n_threads, make)?.pop();
                match outcome {
                    Some(Ok(folded)) => folded.accumulator.into_largest(limit),
                    // Counting users overflows nothing; without events there is no outcome.
                    Some(Err(_)) | None => Ok(KeyValues::default()),
                }
            }
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.key_values(plan, keys, limit),
        }
    }

    /// Carries out the passes of `ranked` over the users of `plan`.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read; the inner error is the experiment's own.
    pub fn ranks(
        &self,
        plan: &Plan,
        ranked: Vec<RankedPlan>,
        n_threads: usize,
    ) -> Result<Result<Vec<RankedPlan>, FoldError>, WarehouseError> {
        match self {
            Self::Embedded(snapshot) => {
                let make = |plan: &Plan| Ranks::new(plan, ranked.clone());
                let mut outcomes = fold(snapshot, std::slice::from_ref(plan), n_threads, make)?;
                let outcome = outcomes
                    .pop()
                    .map(|outcome| outcome.map(|folded| folded.accumulator.into_plans()));
                Ok(outcome.unwrap_or(Ok(ranked)))
            }
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.ranks(plan, ranked),
        }
    }
}
