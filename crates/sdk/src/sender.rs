//! Sends queued events from a thread, in batches by size and by time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use trialog_model::event::EventKind;

use crate::backoff::Backoff;
use crate::clock::monotonic;
use crate::counters::add;
use crate::observer::Notifier;
use crate::queue::{Pushed, Queue};
use crate::transport::{Batch, Delivery, Transport};

/// The sizes of batches and the durations of attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) batch_events: usize,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) first_retry: Duration,
    pub(crate) longest_retry: Duration,
}

/// What calls and the thread share.
pub(crate) struct Outbox {
    pub(crate) queue: Queue,
    batch_events: usize,
    thread: OnceLock<Thread>,
    /// How often a caller asked to send at once.
    n_flush_requests: AtomicU64,
    is_closing: AtomicBool,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    /// Events that were popped and are delivered or refused.
    n_settled: u64,
    /// Deadline for draining the queue after `close`.
    deadline: Option<Instant>,
    is_over: bool,
}

impl Outbox {
    pub(crate) fn new(queue: Queue, batch_events: usize) -> Self {
        Self {
            queue,
            batch_events,
            thread: OnceLock::new(),
            n_flush_requests: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            state: Mutex::default(),
            settled: Condvar::new(),
        }
    }

    /// Queues an event, and wakes the thread if a batch is full.
    pub(crate) fn push(&self, event: crate::event::Event) -> Pushed {
        let pushed = self.queue.push(event);
        if let Pushed::Queued(n) = pushed
            && n == self.batch_events
        {
            self.wake();
        }
        pushed
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Asks the thread to send what is queued now, even if it is waiting after a failure.
    fn request_flush(&self) {
        self.n_flush_requests.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the thread to send now, waits until the events queued so far are delivered or refused,
    /// and returns false at the timeout, or if the thread ends first.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let deadline = monotonic().checked_add(timeout);
        let mut state = self.state();
        let goal = state.n_settled + self.queue.counts.queued.load(Ordering::SeqCst);
        self.request_flush();
        loop {
            if state.n_settled >= goal {
                return true;
            }
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(monotonic())
            });
            if left.is_zero() || state.is_over {
                return false;
            }
            // An hour at a time: some systems cannot wait for ever.
            let left = left.min(Duration::from_secs(3_600));
            state = (self.settled.wait_timeout(state, left))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Rejects new events and sends the queued ones within `time`, without waiting for that.
    pub(crate) fn close(&self, time: Duration) {
        self.queue.close();
        let deadline = monotonic() + time.min(Duration::from_secs(86_400));
        let mut state = self.state();
        state.deadline = Some(state.deadline.map_or(deadline, |known| known.max(deadline)));
        drop(state);
        self.is_closing.store(true, Ordering::SeqCst);
        self.request_flush();
    }

    fn settle(&self, n_delivered: u64, n_refused: u64) {
        // Both under the lock: a flush adds the two numbers up.
        let mut state = self.state();
        self.queue.settle(n_delivered, n_refused);
        state.n_settled += n_delivered + n_refused;
        drop(state);
        self.settled.notify_all();
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Returns the time until the deadline of a client that closes, `None` once it has passed; a
    /// client that does not close has no deadline.
    fn time_left(&self) -> Option<Duration> {
        let Some(deadline) = self.state().deadline else {
            return Some(Duration::MAX);
        };
        let left = deadline.saturating_duration_since(monotonic());
        (!left.is_zero()).then_some(left)
    }
}

/// Starts the thread that sends what waits in `outbox`.
pub(crate) fn start(
    outbox: Arc<Outbox>,
    transport: Box<dyn Transport>,
    pace: Pace,
    notifier: Notifier,
) -> std::io::Result<JoinHandle<()>> {
    let backoff = Backoff::new(pace.first_retry, pace.longest_retry);
    let mut sender = Sender {
        outbox,
        transport,
        pace,
        notifier,
        backoff,
        n_flushes_seen: 0,
    };
    std::thread::Builder::new()
        .name("trialog-send".to_owned())
        .spawn(move || sender.run())
}

struct Sender {
    outbox: Arc<Outbox>,
    transport: Box<dyn Transport>,
    pace: Pace,
    notifier: Notifier,
    backoff: Backoff,
    /// The requests to flush that this thread has taken up.
    n_flushes_seen: u64,
}

impl Sender {
    fn run(&mut self) {
        // Set by this thread before it waits; until then nobody needs to wake it.
        let _ = self.outbox.thread.set(std::thread::current());
        loop {
            self.wait_for_work();
            let is_closing = self.outbox.is_closing();
            let emptied = self.send_all();
            if is_closing
                && (!emptied || self.outbox.queue.counts.queued.load(Ordering::SeqCst) == 0)
            {
                break;
            }
            if is_closing {
                // A call counted its event and is about to queue it.
                std::thread::yield_now();
            }
        }
        self.outbox.state().is_over = true;
        self.outbox.settled.notify_all();
    }

    /// Waits for a full batch, the end of the interval, a request to flush, or closing.
    fn wait_for_work(&mut self) {
        let until = monotonic() + self.pace.interval;
        while !self.has_flush_request()
            && !self.outbox.is_closing()
            && self.outbox.queue.len() < self.pace.batch_events
        {
            let left = until.saturating_duration_since(monotonic());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    /// Returns whether a caller requested a flush since the last check.
    fn has_flush_request(&mut self) -> bool {
        let n = self.outbox.n_flush_requests.load(Ordering::SeqCst);
        std::mem::replace(&mut self.n_flushes_seen, n) != n
    }

    /// Sends batch after batch until the queue is empty; returns false if the deadline passes
    /// first.
    fn send_all(&mut self) -> bool {
        loop {
            let batches = self.take();
            if batches.iter().all(|(_, batch)| batch.is_empty()) {
                return true;
            }
            for (kind, batch) in &batches {
                if !batch.is_empty() && !self.deliver(*kind, batch) {
                    return false;
                }
            }
        }
    }

    /// Takes the oldest events out of the queue, by kind.
    fn take(&self) -> [(EventKind, Batch); 2] {
        let [mut assignments, mut metrics] = [Batch::default(), Batch::default()];
        for _ in 0..self.pace.batch_events {
            let Some(event) = self.outbox.queue.pop() else {
                break;
            };
            match event.kind() {
                EventKind::Assignment => assignments.push(&event),
                EventKind::Metric => metrics.push(&event),
            }
        }
        add(
            &self.outbox.queue.counts.contexts_left_out,
            assignments.n_left_out,
        );
        // Exposures are sent before metric events.
        [
            (EventKind::Assignment, assignments),
            (EventKind::Metric, metrics),
        ]
    }

    /// Sends a batch, and retries until it is delivered or refused; returns false if the deadline
    /// passes first.
    fn deliver(&mut self, kind: EventKind, batch: &Batch) -> bool {
        let n_events = batch.len() as u64;
        loop {
            let Some(left) = self.outbox.time_left() else {
                return false;
            };
            let started = monotonic();
            match self.attempt(kind, batch, left.min(self.pace.timeout)) {
                Delivery::Taken { n_refused, reason } => {
                    let n_refused = n_refused.min(n_events);
                    self.backoff.reset();
                    self.outbox.settle(n_events - n_refused, n_refused);
                    let took = monotonic() - started;
                    self.notifier
                        .notify(|observer| observer.delivered(kind, n_events - n_refused, took));
                    if n_refused > 0 {
                        self.notifier
                            .notify(|observer| observer.refused(kind, n_refused, &reason));
                    }
                    return true;
                }
                Delivery::TooLarge if n_events > 1 => {
                    let [first, second] = batch.halves();
                    return self.deliver(kind, &first) && self.deliver(kind, &second);
                }
                Delivery::TooLarge => {
                    self.outbox.settle(0, 1);
                    self.notifier
                        .notify(|observer| observer.refused(kind, 1, "the event is too large"));
                    return true;
                }
                Delivery::Failed { reason, wait } => {
                    add(&self.outbox.queue.counts.retries, 1);
                    let wait = self.backoff.next(wait);
                    self.notifier
                        .notify(|observer| observer.retrying(kind, n_events, wait, &reason));
                    self.wait_to_retry(wait);
                }
            }
        }
    }

    /// Sends `batch` once. A panic of the transport counts as a failure, and the thread goes on.
    fn attempt(&mut self, kind: EventKind, batch: &Batch, timeout: Duration) -> Delivery {
        let transport = AssertUnwindSafe(&mut self.transport);
        let sent = catch_unwind(move || {
            let transport = transport;
            transport.0.send(kind, batch, timeout)
        });
        sent.unwrap_or_else(|_| Delivery::failed("the transport panicked"))
    }

    /// Waits after a failure; a request to flush or the deadline cuts the wait short.
    fn wait_to_retry(&mut self, wait: Duration) {
        let until = monotonic() + wait;
        loop {
            let left = until.saturating_duration_since(monotonic());
            let Some(time_left) = self.outbox.time_left() else {
                return;
            };
            if left.is_zero() || self.has_flush_request() {
                return;
            }
            std::thread::park_timeout(left.min(time_left));
        }
    }
}
