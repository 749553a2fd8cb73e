//! Selects what is visible in ClickHouse: the batches that were finished by a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trialog_model::event::EventKind;

use super::client::Client;
use super::plans::PIECE_EXPERIMENTS;
use super::sql::{Statement, list};
use crate::error::WarehouseError;
use crate::index::{IndexEntry, MAX_NAMES};

/// What is visible in ClickHouse: the batches that were finished by a moment. The reader that runs
/// analyses over either warehouse is [`crate::view::View`].
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) client: Client,
    /// The last batch that is read.
    last: u64,
    /// Batches up to `last` that readers must skip.
    unreadable_batches: Vec<u64>,
    abandoned: Option<Arc<AtomicBool>>,
}

impl View {
    pub(super) fn new(client: Client, last: u64, unreadable_batches: Vec<u64>) -> Self {
        Self {
            client,
            last,
            unreadable_batches,
            abandoned: None,
        }
    }

    /// Lets analyses end with [`WarehouseError::Abandoned`] soon after `abandoned` is set.
    pub fn until(mut self, abandoned: Arc<AtomicBool>) -> Self {
        self.abandoned = Some(abandoned);
        self
    }

    /// Lists the experiments with events of `kind`, in order.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn experiments(&self, kind: EventKind) -> Result<Vec<String>, WarehouseError> {
        let statement = self
            .statement(&[include_str!("sql/experiments.sql")])
            .with("table", table_of(kind));
        let rows = self
            .client
            .rows::<(String,)>("list experiments", statement.text())?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// Describes what there is of each of `experiments`, for events of `kind`, by experiment.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn contents(
        &self,
        kind: EventKind,
        experiments: &[&str],
    ) -> Result<BTreeMap<String, IndexEntry>, WarehouseError> {
        let mut contents = BTreeMap::new();
        let name = match kind {
            EventKind::Assignment => "variant",
            EventKind::Metric => "event_type",
        };
        for chunk in experiments.chunks(PIECE_EXPERIMENTS) {
            self.check()?;
            let statement = self
                .statement(&[include_str!("sql/contents.sql")])
                .with("table", table_of(kind))
                .with("name", name)
                .with("time", time_of(kind))
                .with("n_names", MAX_NAMES.to_string())
                .with("experiments", list(chunk.iter().copied()));
            type Contents = (String, u64, i64, Vec<String>, u64);
            let rows = self
                .client
                .rows::<Contents>("look at experiments", statement.text())?;
            contents.extend(rows.into_iter().map(
                |(experiment, rows, max_timestamp, names, n_distinct)| {
                    let entry = IndexEntry {
                        user_texts: None,
                        experiment: experiment.clone(),
                        rows,
                        max_timestamp,
                        more_names: n_distinct > names.len() as u64,
                        names,
                    };
                    (experiment, entry)
                },
            ));
        }
        Ok(contents)
    }

    /// Begins a statement that reads the batches of this view.
    pub(crate) fn statement(&self, parts: &[&str]) -> Statement {
        let mut visible = format!("batch <= {}", self.last);
        if !self.unreadable_batches.is_empty() {
            let numbers: Vec<String> = self.unreadable_batches.iter().map(u64::to_string).collect();
            visible.push_str(&format!(" AND batch NOT IN ({})", numbers.join(", ")));
        }
        Statement::new(parts).with("visible", visible)
    }

    /// Gives [`WarehouseError::Abandoned`] once reading is to end.
    pub(crate) fn check(&self) -> Result<(), WarehouseError> {
        let is_set = |abandoned: &Arc<AtomicBool>| abandoned.load(Ordering::Relaxed);
        match self.abandoned.as_ref().is_some_and(is_set) {
            true => Err(WarehouseError::Abandoned),
            false => Ok(()),
        }
    }
}

pub(crate) fn table_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Assignment => "assignments",
        EventKind::Metric => "metric_events",
    }
}

/// The column with the time of events.
pub(crate) fn time_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Assignment => "assigned_at",
        EventKind::Metric => "occurred_at",
    }
}
