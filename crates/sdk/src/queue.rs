//! Bounds the buffer between the caller and the sending thread.
//!
//! Policy: when the buffer is full, in events or in bytes, the *newest* event is dropped
//! and counted. A caller never waits; an experiment must not slow what it measures.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::counters::{Counts, add};
use crate::event::{Event, What};

#[derive(Debug)]
pub(crate) struct Queue {
    events: ArrayQueue<Event>,
    n_bytes: AtomicUsize,
    max_bytes: usize,
    is_closed: AtomicBool,
    pub(crate) counts: Counts,
}

/// The outcome of [`Queue::push`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits; with it there are so many.
    Queued(usize),
    Dropped,
}

impl Queue {
    pub(crate) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            events: ArrayQueue::new(max_events),
            n_bytes: AtomicUsize::new(0),
            max_bytes,
            is_closed: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// Queues `event`, or drops and counts it. Returns at once.
    pub(crate) fn push(&self, event: Event) -> Pushed {
        add(&self.counts.offered, 1);
        // Counted before the sender can see the event, so that it never counts below 0.
        self.counts.queued.fetch_add(1, Ordering::SeqCst);
        // Looked at after it was counted: who closes waits for what is counted.
        if self.is_closed.load(Ordering::SeqCst) {
            return self.drop_one(&self.counts.closed);
        }
        let size = size(&event);
        let before = self.n_bytes.fetch_add(size, Ordering::Relaxed);
        if before + size > self.max_bytes || self.events.push(event).is_err() {
            self.n_bytes.fetch_sub(size, Ordering::Relaxed);
            return self.drop_one(&self.counts.full);
        }
        Pushed::Queued(self.events.len())
    }

    fn drop_one(&self, reason: &std::sync::atomic::AtomicU64) -> Pushed {
        add(reason, 1);
        self.counts.queued.fetch_sub(1, Ordering::SeqCst);
        Pushed::Dropped
    }

    /// Counts an event that breaks a rule.
    pub(crate) fn drop_invalid(&self) {
        add(&self.counts.offered, 1);
        add(&self.counts.invalid, 1);
    }

    /// Removes the oldest queued event. It stays counted until [`Self::settle`].
    pub(crate) fn pop(&self) -> Option<Event> {
        let event = self.events.pop()?;
        self.n_bytes.fetch_sub(size(&event), Ordering::Relaxed);
        Some(event)
    }

    /// Counts events that were popped as delivered and refused.
    pub(crate) fn settle(&self, n_delivered: u64, n_refused: u64) {
        add(&self.counts.delivered, n_delivered);
        add(&self.counts.refused, n_refused);
        self.counts
            .queued
            .fetch_sub(n_delivered + n_refused, Ordering::SeqCst);
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Makes the queue drop every event from now on.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}

/// About the memory of an event beyond its place in the queue; a context, which events
/// share, counts for each of them.
fn size(event: &Event) -> usize {
    let more = match &event.what {
        What::Exposure { context, .. } => context.n_bytes(),
        What::Metric { .. } => 0,
    };
    event.unit.len() + more + size_of::<Event>()
}
