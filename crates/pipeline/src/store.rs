//! Opens the warehouse of this process, and reads for runs what it holds.
//!
//! The embedded warehouse numbers its own batches and holds its own journal.
//! For ClickHouse the journal is in the catalog, see [`trialog_catalog::journal`].

use std::sync::Arc;
#[cfg(feature = "kafka")]
use std::sync::mpsc::channel;

use trialog_catalog::Catalog;
#[cfg(feature = "kafka")]
use trialog_catalog::journal::Claim;
use trialog_catalog::journal::JournalState;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::published::HighWaterMark;
use trialog_model::time::UnixMicros;
#[cfg(feature = "kafka")]
use trialog_warehouse::SourceMark;
#[cfg(feature = "kafka")]
use trialog_warehouse::batch::Batch;
use trialog_warehouse::embedded::{Refused, Submission, Warehouse};
use trialog_warehouse::view::View;

use crate::error::PipelineError;
#[cfg(feature = "kafka")]
use crate::retry::Attempts;

/// The warehouse.
#[derive(Clone)]
pub enum Store {
    /// Files in the data directory of this process.
    Embedded(Arc<Warehouse>),
    /// ClickHouse, with its journal in the catalog.
    #[cfg(feature = "clickhouse")]
    ClickHouse(Arc<crate::clickhouse::Journaled>),
}

impl From<Arc<Warehouse>> for Store {
    fn from(warehouse: Arc<Warehouse>) -> Self {
        Self::Embedded(warehouse)
    }
}

/// Everything stored up to one moment.
pub(crate) struct Reading {
    pub(crate) view: View,
    /// The last position that it covers.
    pub(crate) position: u64,
    /// Which batches it covers, where the catalog keeps the journal.
    pub(crate) journal: Option<JournalState>,
}

impl Reading {
    /// Returns the time of the newest event; `otherwise` if only a full read could find it.
    pub(crate) fn newest_event(&self, otherwise: Option<UnixMicros>) -> Option<UnixMicros> {
        #[cfg(not(feature = "clickhouse"))]
        let _ = otherwise;
        match &self.view {
            View::Embedded(snapshot) => snapshot.extent(0).1.map(UnixMicros),
            #[cfg(feature = "clickhouse")]
            View::ClickHouse(_) => otherwise,
        }
    }
}

impl Store {
    /// Returns the embedded warehouse, for operations that need files.
    ///
    /// # Errors
    ///
    /// The events are in ClickHouse; `what` says what cannot be done, and what can instead.
    pub fn embedded(&self, what: &'static str) -> Result<&Arc<Warehouse>, PipelineError> {
        #[cfg(not(feature = "clickhouse"))]
        let _ = what;
        match self {
            Self::Embedded(warehouse) => Ok(warehouse),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(_) => Err(PipelineError::NotEmbedded { what }),
        }
    }

    /// Returns the place of the events for display.
    pub fn place(&self) -> String {
        match self {
            Self::Embedded(_) => "the data directory".to_owned(),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(warehouse) => warehouse.place().to_owned(),
        }
    }

    /// Returns the last durable position.
    ///
    /// # Errors
    ///
    /// The catalog cannot be read.
    pub fn position(&self) -> Result<u64, PipelineError> {
        match self {
            Self::Embedded(warehouse) => Ok(warehouse.position()),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(warehouse) => Ok(warehouse.journal()?.last),
        }
    }

    /// Checks that events can be stored and read.
    ///
    /// # Errors
    ///
    /// They cannot, and why.
    #[cfg(feature = "clickhouse")]
    pub fn check_server(&self) -> Result<(), PipelineError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::ClickHouse(warehouse) => Ok(warehouse.server().check()?),
        }
    }

    /// Returns everything stored by now, for a run that may be published next.
    pub(crate) fn reading(&self) -> Result<Reading, PipelineError> {
        match self {
            Self::Embedded(warehouse) => {
                let snapshot = warehouse.snapshot();
                Ok(Reading {
                    position: snapshot.position,
                    view: snapshot.into(),
                    journal: None,
                })
            }
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(warehouse) => {
                let journal = warehouse.journal()?;
                Ok(Reading {
                    position: journal.last,
                    view: warehouse
                        .view(journal.last, journal.unreadable_batches())
                        .into(),
                    journal: Some(journal),
                })
            }
        }
    }

    /// Returns everything stored by now, for a reader that publishes nothing.
    pub(crate) fn view(&self) -> Result<View, PipelineError> {
        match self {
            Self::Embedded(warehouse) => Ok(warehouse.reading_snapshot().into()),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(_) => Ok(self.reading()?.view),
        }
    }

    /// Returns what the last published run read, and its position.
    pub(crate) fn published(
        &self,
        catalog: &Catalog,
    ) -> Result<(View, HighWaterMark), PipelineError> {
        match self {
            Self::Embedded(warehouse) => loop {
                let mark = catalog.high_water_mark()?;
                let snapshot = warehouse.published_snapshot();
                if snapshot.position == mark.position {
                    return Ok((snapshot.into(), mark));
                }
                // A run is between its two last steps: it has notified the catalog
                // and is about to tell the warehouse.
                std::thread::yield_now();
            },
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(warehouse) => {
                let (mark, unreadable) = catalog.covered()?;
                Ok((warehouse.view(mark.position, unreadable).into(), mark))
            }
        }
    }

    /// Returns the experiments with events after the position `after`; all with events if it is 0.
    pub(crate) fn touched(
        &self,
        reading: &Reading,
        after: u64,
    ) -> Result<Vec<ExperimentId>, PipelineError> {
        match &reading.view {
            View::Embedded(snapshot) => {
                let all = EventKind::ALL.into_iter();
                let ids = all.flat_map(|kind| snapshot.experiments_after(kind, after));
                // What was ingested passed the same rule, so every id is a good one.
                Ok(ids.filter_map(|id| ExperimentId::new(id).ok()).collect())
            }
            #[cfg(feature = "clickhouse")]
            View::ClickHouse(view) => {
                let Self::ClickHouse(warehouse) = self else {
                    return Ok(Vec::new());
                };
                let mut touched = warehouse.touched()?;
                if after == 0 {
                    for kind in EventKind::ALL {
                        let ids = view.experiments(kind)?.into_iter();
                        touched.extend(ids.filter_map(|id| ExperimentId::new(id).ok()));
                    }
                }
                Ok(touched)
            }
        }
    }

    /// Estimates the number of events of an experiment, if that needs no read of them.
    pub(crate) fn n_events(&self, reading: &Reading, id: &ExperimentId) -> u64 {
        match &reading.view {
            View::Embedded(snapshot) => EventKind::ALL
                .into_iter()
                .filter_map(|kind| Some(snapshot.contents_of(kind, id.as_str())?.rows))
                .sum(),
            #[cfg(feature = "clickhouse")]
            View::ClickHouse(_) => 0,
        }
    }

    /// Records that results up to `position` are published.
    pub(crate) fn note_published(&self, position: u64) {
        match self {
            Self::Embedded(warehouse) => warehouse.publish(position),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(_) => {}
        }
    }

    /// Returns the stored position of a source.
    ///
    /// # Errors
    ///
    /// The warehouse or the catalog cannot be read.
    pub fn source_position(&self, source: &str) -> Result<Option<i64>, PipelineError> {
        match self {
            Self::Embedded(warehouse) => Ok(warehouse.source_position(source)?),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(journaled) => Ok(journaled.source_position(source)?),
        }
    }

    /// Queues `submission`, whose reply is called once it is durable.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`] at once where too much waits already.
    pub fn submit(&self, submission: Submission) -> Result<(), Refused> {
        match self {
            Self::Embedded(warehouse) => warehouse.submit(submission),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(journaled) => journaled.submit(submission),
        }
    }

    /// Claims a source for a consumer, and returns its stored position.
    #[cfg(feature = "kafka")]
    pub(crate) fn claim(&self, source: &str) -> Result<Claim, PipelineError> {
        match self {
            // One process has the data directory, so nobody else can claim it.
            Self::Embedded(warehouse) => Ok(Claim {
                source: source.to_owned(),
                epoch: 0,
                position: warehouse.source_position(source)?,
            }),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(journaled) => journaled.claim(source),
        }
    }

    /// Stores `batch` of a claimed source and the new `position` of the source; both are durable
    /// on return.
    #[cfg(feature = "kafka")]
    pub(crate) fn write(
        &self,
        claim: &Claim,
        batch: &Batch,
        position: i64,
        now: UnixMicros,
        attempts: &mut Attempts<'_>,
    ) -> Result<(), PipelineError> {
        match self {
            Self::Embedded(warehouse) => {
                let mark = SourceMark {
                    source: claim.source.clone(),
                    position,
                    once: false,
                };
                attempts.retry(|_| write_embedded(warehouse, batch, &mark, now))
            }
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(journaled) => {
                let mark = trialog_catalog::journal::Mark {
                    source: claim.source.clone(),
                    position,
                    once: false,
                };
                journaled.write(claim, batch, &[mark], attempts)
            }
        }
    }

    /// Removes request keys last used before `before`.
    pub(crate) fn forget_keys(&self, before: UnixMicros) -> Result<(), PipelineError> {
        match self {
            Self::Embedded(warehouse) => {
                warehouse.forget_keys(before.0)?;
            }
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(warehouse) => {
                warehouse.forget_keys(before)?;
            }
        }
        Ok(())
    }

    /// Ends an erasure under way early and prevents new ones, because the process stops.
    pub fn stop_erasing(&self) {
        match self {
            Self::Embedded(warehouse) => warehouse.stop_erasing(),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(_) => {}
        }
    }

    /// Closes the files and connections of this process.
    pub fn close(&self) {
        match self {
            Self::Embedded(warehouse) => warehouse.close(),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(warehouse) => warehouse.close(),
        }
    }
}

/// Submits a batch, and waits until it is durable.
#[cfg(feature = "kafka")]
fn write_embedded(
    warehouse: &Warehouse,
    batch: &Batch,
    mark: &SourceMark,
    now: UnixMicros,
) -> Result<(), PipelineError> {
    let (done, outcome) = channel();
    let submission = Submission {
        batch: batch.clone(),
        mark: Some(mark.clone()),
        received_at: now.0,
        // A caller that no longer waits was asked to stop.
        reply: Box::new(move |outcome| drop(done.send(outcome))),
    };
    match warehouse.submit(submission) {
        Ok(()) => match outcome.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(PipelineError::Busy(error.chain())),
            Err(_) => Err(PipelineError::Stopping),
        },
        Err(refused @ Refused::Full) => Err(PipelineError::Busy(refused.to_string())),
        Err(Refused::Closed) => Err(PipelineError::Stopping),
    }
}
