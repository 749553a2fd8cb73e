//! Runs analyses on either of the two warehouses.
//!
//! [`View::run`] runs any [`Analysis`] over whichever warehouse there is: it folds the events of
//! the embedded one and the events that ClickHouse sends by the same accumulator, unless the
//! analysis has SQL for ClickHouse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use trialog_model::event::EventKind;

use crate::analysis::values::{Found, KeyQuestion, KeyValues, Values};
use crate::analysis::{Analysis, Answers};
use crate::batch::EventRow;
use crate::error::{FoldError, WarehouseError};
use crate::export::Selection;
use crate::fold::source::EventSource;
use crate::fold::{Folded, Plan, fold};
use crate::index::IndexEntry;
use crate::snapshot::Snapshot;

/// Runs analyses over either warehouse: reads its raw events of one moment, regardless of later
/// writes.
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
    /// Makes analyses end with [`WarehouseError::Abandoned`] soon after `abandoned` is set.
    pub fn until(self, abandoned: Arc<AtomicBool>) -> Self {
        match self {
            Self::Embedded(snapshot) => snapshot.until(abandoned).into(),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.until(abandoned).into(),
        }
    }

    /// Returns what the warehouse holds of each of `experiments`, for events of `kind`.
    /// Experiments without any are absent.
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

    /// Returns the texts of `users` in `experiment`, as far as they are texts and known. Users who
    /// were never assigned have none. Covers the first [`crate::user_texts::MAX_USERS`] only.
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

    /// Returns the users of each of `experiments` whose number is known to stand for two texts.
    /// Experiments without any are absent. The embedded warehouse knows the users whose texts are
    /// in one run or segment, and so all of them once everything has been merged.
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

    /// Runs the analysis `A` over the experiments of `plans`, which are in the order of their
    /// experiments and have one data time and one segment; `questions` are those of each plan. The
    /// embedded warehouse uses `n_threads`.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read. One experiment's overflow is its own.
    pub fn run<A: Analysis>(
        &self,
        plans: &[Plan],
        questions: &[A::Question],
        n_threads: usize,
    ) -> Result<Answers<A>, WarehouseError> {
        #[cfg(feature = "clickhouse")]
        if let Self::ClickHouse(view) = self
            && let Some(answers) = A::push_down(view, plans, questions)
        {
            return answers;
        }
        self.fold::<A>(plans, questions, n_threads)
    }

    /// Finds the `limit` values of each group of keys with the most exposed users of `plan`, and,
    /// for a single group, what its users come to by them. The keys of a group are crossed.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read.
    pub fn key_values(
        &self,
        plan: &Plan,
        groups: &[Vec<String>],
        limit: usize,
        n_threads: usize,
    ) -> Result<Found, WarehouseError> {
        let question = KeyQuestion {
            groups: groups.to_vec(),
            limit,
            spill: self.spill().to_owned(),
        };
        let mut answers = self.run::<Values>(std::slice::from_ref(plan), &[question], n_threads)?;
        match answers.pop() {
            Some(Ok(found)) => found,
            // Counting users overflows nothing.
            Some(Err(_)) | None => Ok(Found {
                values: vec![KeyValues::default(); groups.len()],
                exposures: None,
            }),
        }
    }

    /// Returns the directory for temporary files.
    pub fn spill(&self) -> &std::path::Path {
        match self {
            Self::Embedded(snapshot) => EventSource::spill(snapshot),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => EventSource::spill(view),
        }
    }

    /// Runs the analysis `A` as [`Self::run`] does, by reading the events and folding them in this
    /// process.
    ///
    /// # Errors
    ///
    /// Those of [`Self::run`].
    pub fn fold<A: Analysis>(
        &self,
        plans: &[Plan],
        questions: &[A::Question],
        n_threads: usize,
    ) -> Result<Answers<A>, WarehouseError> {
        debug_assert_eq!(plans.len(), questions.len(), "each plan has its question");
        let make = |plan: &Plan| {
            let at = plans.partition_point(|other| other.experiment < plan.experiment);
            A::for_plan(plan, &questions[at])
        };
        let outcomes = match self {
            Self::Embedded(snapshot) => fold(snapshot, plans, n_threads, make)?,
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => fold(view, plans, n_threads, make)?,
        };
        let answer = |outcome: Result<Folded<A>, FoldError>| outcome.map(A::answer);
        Ok(outcomes.into_iter().map(answer).collect())
    }

    /// Passes every selected event to `each`, without copies, see [`crate::export`].
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read, or what `each` gives.
    pub fn each_event<E: From<WarehouseError>>(
        &self,
        kind: EventKind,
        selection: &Selection,
        each: impl FnMut(&EventRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Embedded(snapshot) => snapshot.each_event(kind, selection, each),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(view) => view.each_event(kind, selection, each),
        }
    }
}
