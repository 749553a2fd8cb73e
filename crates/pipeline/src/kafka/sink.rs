//! Where consumers take events to.

use std::sync::Arc;
use std::sync::mpsc::channel;

use trialog_catalog::journal::Claim;
#[cfg(feature = "clickhouse")]
use trialog_catalog::journal::Mark;
use trialog_model::time::UnixMicros;
use trialog_warehouse::SourceMark;
use trialog_warehouse::batch::Batch;
use trialog_warehouse::embedded::{Refused, Submission, Warehouse};

use crate::error::PipelineError;
use crate::store::Store;

/// The warehouse, as consumers write to it.
#[derive(Clone)]
pub enum Sink {
    /// The embedded one of this process.
    Embedded(Arc<Warehouse>),
    /// ClickHouse.
    #[cfg(feature = "clickhouse")]
    ClickHouse(Arc<crate::clickhouse::Journaled>),
}

impl From<&Store> for Sink {
    fn from(store: &Store) -> Self {
        match store {
            Store::Embedded(warehouse) => Self::Embedded(Arc::clone(warehouse)),
            #[cfg(feature = "clickhouse")]
            Store::ClickHouse(own) => Self::ClickHouse(Arc::clone(own)),
        }
    }
}

impl Sink {
    /// Claims a source for this consumer, and tells how far it has been stored.
    pub(super) fn claim(&self, source: &str) -> Result<Claim, PipelineError> {
        match self {
            // One process has the data directory, so nobody else can claim it.
            Self::Embedded(warehouse) => Ok(Claim {
                source: source.to_owned(),
                epoch: 0,
                position: warehouse.source_position(source)?,
            }),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(own) => own.claim(source),
        }
    }

    /// Stores `batch` and that its source has come to `position`; once it returns, both are
    /// durable. What may be mended by itself is tried again while `pause` waits and says so.
    pub(super) fn write(
        &self,
        claim: &Claim,
        batch: &Batch,
        position: i64,
        now: UnixMicros,
        pause: &mut dyn FnMut(u32, &PipelineError) -> bool,
    ) -> Result<(), PipelineError> {
        match self {
            Self::Embedded(warehouse) => embedded(warehouse, claim, batch, position, now, pause),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(own) => {
                let mark = Mark {
                    source: claim.source.clone(),
                    position,
                    once: false,
                };
                own.write(claim, batch, &[mark], pause)
            }
        }
    }
}

/// Submits a batch until it is taken, and waits until it is durable.
fn embedded(
    warehouse: &Warehouse,
    claim: &Claim,
    batch: &Batch,
    position: i64,
    now: UnixMicros,
    pause: &mut dyn FnMut(u32, &PipelineError) -> bool,
) -> Result<(), PipelineError> {
    let mut attempt = 1;
    loop {
        let (done, outcome) = channel();
        let submission = Submission {
            batch: batch.clone(),
            mark: Some(SourceMark {
                source: claim.source.clone(),
                position,
                once: false,
            }),
            received_at: now.0,
            // Who does not wait any more has been told to stop.
            reply: Box::new(move |outcome| drop(done.send(outcome))),
        };
        let error = match warehouse.submit(submission) {
            Ok(()) => match outcome.recv() {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => PipelineError::Busy(error.chain()),
                Err(_) => return Err(PipelineError::Stopping),
            },
            Err(refused @ Refused::Full) => PipelineError::Busy(refused.to_string()),
            Err(Refused::Closed) => return Err(PipelineError::Stopping),
        };
        if !pause(attempt, &error) {
            return Err(error);
        }
        attempt += 1;
    }
}
