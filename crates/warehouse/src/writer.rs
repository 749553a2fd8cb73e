//! Commits submissions to the inbox in groups, in the writer thread, then acknowledges them.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use trialog_model::event::EventKind;

use crate::batch::Batch;
use crate::codec;
use crate::database::{InboxEntry, SourceMark};
use crate::embedded::{Reply, Shared, Submission};
use crate::error::WarehouseError;
use crate::once::{Admission, Once};

/// Rows after which a group is committed even though more submissions wait.
const GROUP_ROWS: usize = 64 * 1024;

/// Writes submissions until the queue is closed and empty.
pub(crate) fn run(shared: &Shared, queue: &Receiver<Submission>) {
    while let Ok(first) = queue.recv() {
        let mut group = Group::new();
        let mut next = Some(first);
        while let Some(submission) = next {
            shared
                .queued_bytes
                .fetch_sub(submission.batch.size_bytes(), Ordering::AcqRel);
            group.take(submission, shared);
            next = if group.n_rows() < GROUP_ROWS {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        if group.replies.is_empty() {
            continue;
        }
        let outcome = wait_for_room(shared)
            .and_then(|()| group.commit_measured(shared))
            .map_err(Arc::new);
        if let Err(error) = &outcome {
            shared.metrics.group_commit_failures.inc();
            tracing::error!(
                n_events = group.n_rows(),
                "could not make events durable: {}",
                error.chain()
            );
        }
        for reply in group.replies {
            reply(outcome.clone());
        }
    }
}

/// Waits while too many sealed segments wait to be flushed.
fn wait_for_room(shared: &Shared) -> Result<(), WarehouseError> {
    let mut state = shared.state();
    while state.sealed_bytes() > 2 * shared.options.flush_bytes && !state.closing {
        if let Some(failure) = &state.flush_failure {
            let reason = failure.reason.clone();
            return Err(WarehouseError::CannotWrite { reason });
        }
        state = shared
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
    Ok(())
}

/// Submissions that are committed together.
struct Group {
    batches: [Batch; 2],
    once: Once,
    marks: Vec<SourceMark>,
    received_at: i64,
    replies: Vec<Reply>,
}

impl Group {
    fn new() -> Self {
        Self {
            batches: EventKind::ALL.map(Batch::new),
            once: Once::default(),
            marks: Vec::new(),
            received_at: 0,
            replies: Vec::new(),
        }
    }

    /// Adds a submission, unless its source was used before: then it is answered at once.
    fn take(&mut self, submission: Submission, shared: &Shared) {
        let stored = |source: &str| shared.database().position(source);
        match self.once.admit(submission.mark.as_ref(), stored) {
            Ok(Admission::Store) => self.add(submission),
            Ok(Admission::WithGroup) => self.replies.push(submission.reply),
            Ok(Admission::Stored) => (submission.reply)(Ok(())),
            Ok(Admission::Used) => (submission.reply)(Err(Arc::new(WarehouseError::SourceUsed))),
            Err(error) => (submission.reply)(Err(Arc::new(error))),
        }
    }

    fn add(&mut self, submission: Submission) {
        let Submission {
            batch,
            mark,
            received_at,
            reply,
        } = submission;
        for gathered in &mut self.batches {
            if gathered.kind() == batch.kind() {
                gathered.append(&batch);
            }
        }
        self.marks.extend(mark);
        self.received_at = self.received_at.max(received_at);
        self.replies.push(reply);
    }

    fn n_rows(&self) -> usize {
        self.batches.iter().map(Batch::len).sum()
    }

    /// Commits, and counts it.
    fn commit_measured(&mut self, shared: &Shared) -> Result<(), WarehouseError> {
        let begun = Instant::now();
        let outcome = self.commit(shared);
        let metrics = &shared.metrics;
        let taken = begun.elapsed().as_secs_f64();
        metrics.group_commit_duration.observe(taken);
        if outcome.is_ok() {
            metrics.durable_batches.inc_by(self.replies.len() as u64);
            metrics.durable_events.inc_by(self.n_rows() as u64);
        }
        outcome
    }

    /// Makes the group durable, then visible.
    fn commit(&mut self, shared: &Shared) -> Result<(), WarehouseError> {
        let filled = || self.batches.iter().filter(|batch| !batch.is_empty());
        let sequence = shared.state().next_sequence;
        let mut payloads = Vec::new();
        for batch in filled() {
            let payload =
                codec::encode(batch.clone()).map_err(|source| WarehouseError::WriteRun {
                    path: shared.events.clone(),
                    source: source.into(),
                })?;
            payloads.push((batch.kind(), batch.len(), payload));
        }
        let entries: Vec<_> = payloads
            .iter()
            .map(|(kind, n_rows, payload)| InboxEntry {
                sequence,
                kind: *kind,
                n_rows: *n_rows,
                payload,
            })
            .collect();
        shared
            .database()
            .append(&entries, &self.marks, self.received_at)?;
        if !entries.is_empty()
            && let Err(error) = shared.position.tell(sequence)
        {
            // The events are durable; only the guard against a damaged log lags behind.
            tracing::error!("cannot tell the position of the events: {error}");
        }
        let mut state = shared.state();
        for batch in filled() {
            state.active.append(sequence, batch);
        }
        if !entries.is_empty() {
            state.next_sequence = sequence + 1;
        }
        if state.active.size_bytes() >= shared.options.segment_bytes() {
            state.seal();
            shared.changed.notify_all();
        }
        Ok(())
    }
}
