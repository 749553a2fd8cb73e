//! Writes events to ClickHouse: begins a batch in the journal, inserts it, finishes it in the
//! journal.
//!
//! Each step may be tried again: an insertion has its number, which the journal
//! gives out, and until the last step nobody reads it. So a server that answers
//! late, twice or not at all changes nothing but the time it takes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use trialog_catalog::journal::{Claim, JournalState, Mark};
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::batch::Batch;
use trialog_warehouse::clickhouse::{ClickHouse, View};
use trialog_warehouse::embedded::{Refused, Submission};
use trialog_warehouse::once::{Admission, Once};

use crate::clock::Clock;
use crate::error::PipelineError;
use crate::ingest::process_source;
use crate::retry::{Attempts, Retry};

/// Submissions that may wait, and their bytes.
const QUEUE_LENGTH: usize = 4_096;
const QUEUE_BYTES: usize = 64 << 20;
/// Rows of one insertion of submissions.
const MAX_ROWS: usize = 100_000;
/// How long submissions are gathered: an insertion makes a part on the server's disk, and
/// many small ones are what it bears least.
const LINGER: Duration = Duration::from_millis(100);
/// The maximum number of attempts to store submissions, all steps together, before their senders
/// receive an error: about 15 s.
const MAX_ATTEMPTS: u32 = 8;

/// ClickHouse with a journal in the catalog.
pub struct Journaled {
    clickhouse: ClickHouse,
    catalog: Arc<Catalog>,
    clock: Clock,
    writer: Mutex<Option<Writer>>,
    queued_bytes: AtomicUsize,
    closing: AtomicBool,
}

/// The thread that inserts submissions.
struct Writer {
    submissions: SyncSender<Submission>,
    thread: JoinHandle<()>,
}

impl Journaled {
    /// Stores events in `clickhouse` and their journal in `catalog`.
    pub fn new(clickhouse: ClickHouse, catalog: Arc<Catalog>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clickhouse,
            catalog,
            clock,
            writer: Mutex::new(None),
            queued_bytes: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        })
    }

    pub(crate) fn place(&self) -> &str {
        self.clickhouse.place()
    }

    /// Returns the ClickHouse database.
    pub fn server(&self) -> &ClickHouse {
        &self.clickhouse
    }

    pub(crate) fn journal(&self) -> Result<JournalState, CatalogError> {
        self.catalog.journal()
    }

    pub(crate) fn view(&self, last: u64, unreadable: Vec<u64>) -> View {
        self.clickhouse.view(last, unreadable)
    }

    pub(crate) fn touched(&self) -> Result<Vec<ExperimentId>, CatalogError> {
        self.catalog.touched_experiments()
    }

    pub(crate) fn forget_keys(&self, before: UnixMicros) -> Result<usize, CatalogError> {
        self.catalog.forget_request_keys(before)
    }

    pub(crate) fn source_position(&self, source: &str) -> Result<Option<i64>, CatalogError> {
        self.catalog.source_position(source)
    }

    pub(crate) fn claim(&self, source: &str) -> Result<Claim, PipelineError> {
        Ok(self.catalog.claim_source(source, (self.clock)())?)
    }

    /// Stores `batch` and the positions after it, with at most `attempts` attempts.
    pub(crate) fn write(
        &self,
        claim: &Claim,
        batch: &Batch,
        marks: &[Mark],
        attempts: &mut Attempts<'_>,
    ) -> Result<(), PipelineError> {
        if batch.is_empty() && marks.is_empty() {
            return Ok(());
        }
        let experiments: Vec<&str> = batch.experiments().iter().map(String::as_str).collect();
        let number = attempts.retry(|_| {
            let number = self
                .catalog
                .begin_batch(claim, &experiments, (self.clock)());
            Ok(number?)
        })?;
        let stored = self.store_begun(claim, batch, number, marks, attempts);
        if stored.is_err()
            && let Err(error) = self.catalog.abandon_batch(number)
        {
            // The next claim of the source abandons it.
            tracing::warn!(batch = number, "could not abandon a batch: {error}");
        }
        stored
    }

    fn store_begun(
        &self,
        claim: &Claim,
        batch: &Batch,
        number: u64,
        marks: &[Mark],
        attempts: &mut Attempts<'_>,
    ) -> Result<(), PipelineError> {
        if !batch.is_empty() {
            attempts.retry(|_| Ok(self.clickhouse.insert(batch, number)?))?;
        }
        attempts.retry(|_| {
            let now = (self.clock)();
            Ok(self.catalog.finish_batch(claim, number, marks, now)?)
        })
    }

    /// Queues `submission`, whose reply is called once it is durable.
    pub(crate) fn submit(self: &Arc<Self>, submission: Submission) -> Result<(), Refused> {
        let n_bytes = submission.batch.size_bytes();
        let queued = self.queued_bytes.fetch_add(n_bytes, Ordering::AcqRel);
        let outcome = if queued > 0 && queued + n_bytes > QUEUE_BYTES {
            Err(Refused::Full)
        } else {
            self.send(submission)
        };
        if outcome.is_err() {
            self.queued_bytes.fetch_sub(n_bytes, Ordering::AcqRel);
        }
        outcome
    }

    fn send(self: &Arc<Self>, submission: Submission) -> Result<(), Refused> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Refused::Closed);
        }
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            *writer = Some(self.start().map_err(|_| Refused::Closed)?);
        }
        let Some(writer) = writer.as_ref() else {
            return Err(Refused::Closed);
        };
        writer
            .submissions
            .try_send(submission)
            .map_err(|refused| match refused {
                TrySendError::Full(_) => Refused::Full,
                TrySendError::Disconnected(_) => Refused::Closed,
            })
    }

    fn start(self: &Arc<Self>) -> std::io::Result<Writer> {
        let (submissions, queue) = sync_channel(QUEUE_LENGTH);
        let warehouse = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("clickhouse-writer".to_owned())
            .spawn(move || warehouse.write_submissions(&queue))?;
        Ok(Writer {
            submissions,
            thread,
        })
    }

    /// Rejects new submissions and writes the queued ones.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let writer = (self.writer.lock().unwrap_or_else(PoisonError::into_inner)).take();
        if let Some(Writer {
            submissions,
            thread,
        }) = writer
        {
            drop(submissions);
            // A panic of the thread was logged where it happened.
            let _ = thread.join();
        }
    }

    fn write_submissions(&self, queue: &Receiver<Submission>) {
        let source = process_source((self.clock)());
        let mut claim: Option<Claim> = None;
        let mut random = fastrand::Rng::new();
        while let Ok(first) = queue.recv() {
            let gathered = gather(first, queue);
            let n_bytes: usize = (gathered.iter())
                .map(|submission| submission.batch.size_bytes())
                .sum();
            let is_assignment =
                |submission: &Submission| submission.batch.kind() == EventKind::Assignment;
            let (assignments, metrics): (Vec<_>, Vec<_>) =
                gathered.into_iter().partition(is_assignment);
            for submissions in [assignments, metrics] {
                self.store(&source, &mut claim, &mut random, submissions);
            }
            self.queued_bytes.fetch_sub(n_bytes, Ordering::AcqRel);
        }
    }

    /// Stores submissions of one kind in one batch, and replies to each with its outcome.
    fn store(
        &self,
        source: &str,
        claim: &mut Option<Claim>,
        random: &mut fastrand::Rng,
        submissions: Vec<Submission>,
    ) {
        let mut left = self.admit(submissions);
        let mut n_tries = 0;
        while !left.is_empty() {
            n_tries += 1;
            let outcome = self.store_admitted(source, claim, random, &left);
            let is_used = matches!(
                outcome,
                Err(PipelineError::Catalog(CatalogError::SourceUsed))
            );
            if is_used && n_tries < MAX_ATTEMPTS {
                // Another process was faster with a key: the others are stored without it.
                left = self.admit(left);
                continue;
            }
            let outcome = outcome.map_err(|error| Arc::new(as_warehouse(error)));
            for submission in std::mem::take(&mut left) {
                (submission.reply)(outcome.clone());
            }
        }
    }

    /// Those that are to be stored, with the copies among them; the others are answered.
    fn admit(&self, submissions: Vec<Submission>) -> Vec<Submission> {
        let mut once = Once::default();
        let mut admitted = Vec::new();
        for mut submission in submissions {
            let stored = |source: &str| self.source_position(source);
            match once.admit(submission.mark.as_ref(), stored) {
                Ok(Admission::Store) => admitted.push(submission),
                Ok(Admission::WithGroup) => {
                    submission.batch = Batch::new(submission.batch.kind());
                    admitted.push(submission);
                }
                Ok(Admission::Stored) => (submission.reply)(Ok(())),
                Ok(Admission::Used) => {
                    (submission.reply)(Err(Arc::new(WarehouseError::SourceUsed)));
                }
                Err(error) => {
                    (submission.reply)(Err(Arc::new(as_warehouse(error.into()))));
                }
            }
        }
        admitted
    }

    fn store_admitted(
        &self,
        source: &str,
        claim: &mut Option<Claim>,
        random: &mut fastrand::Rng,
        submissions: &[Submission],
    ) -> Result<(), PipelineError> {
        let Some(first) = submissions.first() else {
            return Ok(());
        };
        let mut batch = Batch::new(first.batch.kind());
        let mut marks = Vec::new();
        for submission in submissions {
            batch.append(&submission.batch);
            marks.extend(submission.mark.as_ref().map(|mark| Mark {
                source: mark.source.clone(),
                position: mark.position,
                once: mark.once,
            }));
        }
        let mut pause = |attempt: u32, error: &PipelineError| {
            if !error.is_transient() || attempt >= MAX_ATTEMPTS {
                return false;
            }
            tracing::warn!(attempt, "events are not stored yet: {error}");
            std::thread::sleep(Retry::OF_STORING.wait(attempt + 1, random));
            true
        };
        let mut attempts = Attempts::new(&mut pause);
        let held = match claim.take() {
            Some(held) => held,
            None => attempts.retry(|_| self.claim(source))?,
        };
        self.write(&held, &batch, &marks, &mut attempts)?;
        // After a failure the source is claimed again, which abandons what is left of the batch.
        *claim = Some(held);
        Ok(())
    }
}

/// Takes what comes shortly after `first`, up to a limit.
fn gather(first: Submission, queue: &Receiver<Submission>) -> Vec<Submission> {
    let mut n_rows = first.batch.len();
    let mut gathered = vec![first];
    std::thread::sleep(LINGER);
    while n_rows < MAX_ROWS {
        let Ok(next) = queue.try_recv() else { break };
        n_rows += next.batch.len();
        gathered.push(next);
    }
    gathered
}

/// Converts a pipeline error into the one reported to the submitter.
pub(crate) fn as_warehouse(error: PipelineError) -> WarehouseError {
    match error {
        PipelineError::Warehouse(error) => error,
        other => WarehouseError::CannotWrite {
            reason: other.to_string(),
        },
    }
}
