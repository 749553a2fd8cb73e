//! Consumes assignments and metric events, with one consumer each, in groups over all processes.
//!
//! For each a thread polls, judges messages and gathers them by partition; a
//! second one stores batches. librdkafka's callbacks only note what happened,
//! and the polling thread decides. Rebalancing is cooperative (KIP-429): what
//! this process keeps goes on meanwhile.
//!
//! Where the warehouse is slower than Kafka, partitions are paused, so that
//! memory is bounded and the consumer stays in its group.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use trialog_model::event::EventKind;
use trialog_model::time::UnixMicros;

use super::buffer::{Buffer, Message};
use super::lag::{ConsumerMetrics, PartitionLabels, of_topic};
use super::writer::{Assigned, Assignments, DeadLetters, Report, Work, Writer};
use super::{KafkaAddress, failed, remedy};
use crate::clock::Clock;
use crate::error::PipelineError;
use crate::store::Store;

/// How long a poll waits for a message.
const POLL: Duration = Duration::from_millis(20);
/// Messages that are read before anything else is looked at.
const MAX_POLLED: usize = 4_096;
/// Bytes of one consumer's events that are read and not stored; beyond it partitions are paused.
const MAX_BYTES: usize = 96 << 20;
const NETWORK_TIMEOUT: Duration = Duration::from_secs(5);

const SETTINGS: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "3000"),
    ("statistics.interval.ms", "1000"),
    ("queued.max.messages.kbytes", "32768"),
    ("fetch.error.backoff.ms", "100"),
    ("allow.auto.create.topics", "false"),
];

/// The settings of consumers: when a batch is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Rows at which a batch is stored.
    pub batch_rows: usize,
    /// How long a message waits for others at most.
    pub linger: Duration,
    /// Whether words such as `null` are user ids like any other.
    pub allows_placeholder_ids: bool,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            batch_rows: 50_000,
            linger: Duration::from_millis(500),
            allows_placeholder_ids: false,
        }
    }
}

/// The consumers of this process.
pub struct Consumers {
    stopping: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    metrics: Arc<ConsumerMetrics>,
}

impl Consumers {
    /// Starts to consume events from the topics at `address` into `store`.
    ///
    /// # Errors
    ///
    /// librdkafka refuses a setting, or a thread cannot be started.
    pub fn start(
        address: &KafkaAddress,
        store: &Store,
        clock: &Clock,
        settings: ConsumerSettings,
    ) -> Result<Self, PipelineError> {
        let consumers = Self {
            stopping: Arc::default(),
            threads: Mutex::default(),
            metrics: Arc::default(),
        };
        for kind in EventKind::ALL {
            consumers.start_one(address, store, clock, settings, kind)?;
        }
        Ok(consumers)
    }

    /// Returns the counts since the start.
    pub fn metrics(&self) -> &ConsumerMetrics {
        &self.metrics
    }

    fn start_one(
        &self,
        address: &KafkaAddress,
        store: &Store,
        clock: &Clock,
        settings: ConsumerSettings,
        kind: EventKind,
    ) -> Result<(), PipelineError> {
        let topic = address.topics().for_kind(kind).to_owned();
        let assignments: Assignments = Arc::default();
        let context = Context {
            topic: topic.clone(),
            changes: Mutex::default(),
            metrics: Arc::clone(&self.metrics),
        };
        let mut config = address.config(SETTINGS);
        config.set("group.id", address.group(kind));
        let wrong = |error: &KafkaError| failed("consume events", address, error);
        let consumer: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(|error| wrong(&error))?;
        consumer
            .subscribe(&[&topic])
            .map_err(|error| wrong(&error))?;
        let (to_writer, work) = channel();
        let (reports, from_writer) = channel();
        let writer = Writer {
            topic: topic.clone(),
            store: store.clone(),
            clock: Arc::clone(clock),
            metrics: Arc::clone(&self.metrics),
            assignments: Arc::clone(&assignments),
            stopping: Arc::clone(&self.stopping),
            reports,
            dead_letters: DeadLetters::new(address)?,
        };
        let reader = Reader {
            kind,
            tools: Tools {
                topic: topic.clone(),
                clock: Arc::clone(clock),
                metrics: Arc::clone(&self.metrics),
            },
            topic,
            consumer,
            settings,
            stopping: Arc::clone(&self.stopping),
            metrics: Arc::clone(&self.metrics),
            assignments,
            generation: 0,
            parts: HashMap::new(),
            n_bytes: 0,
            to_writer,
            from_writer,
            last_error: None,
        };
        self.spawn(format!("{kind}-writer"), move || writer.run(&work))?;
        self.spawn(format!("{kind}-consumer"), move || reader.run())
    }

    fn spawn(
        &self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), PipelineError> {
        let thread = std::thread::Builder::new().name(name).spawn(work);
        let thread = thread
            .map_err(|error| PipelineError::Busy(format!("cannot start a thread: {error}")))?;
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }

    /// Returns whether all threads that move events to the warehouse are running.
    pub fn is_running(&self) -> bool {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        !threads.is_empty() && threads.iter().all(|thread| !thread.is_finished())
    }

    /// Leaves the groups after the batch that is being stored. The next owner of the partitions
    /// reads again what was read beyond it.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Stops the consumers and waits for their threads.
    pub fn close(&self) {
        self.stop();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic of the thread was logged where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a rebalance changed.
enum Change {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
}

struct Context {
    topic: String,
    changes: Mutex<Vec<Change>>,
    metrics: Arc<ConsumerMetrics>,
}

impl Context {
    fn note(&self, change: Change) {
        self.changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(change);
    }

    fn has_changes(&self) -> bool {
        let changes = self.changes.lock();
        !changes.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take_changes(&self) -> Vec<Change> {
        let changes = self.changes.lock();
        std::mem::take(&mut *changes.unwrap_or_else(PoisonError::into_inner))
    }

    fn labels(&self, partition: i32) -> PartitionLabels {
        PartitionLabels {
            topic: self.topic.clone(),
            partition,
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements()
        .iter()
        .map(|partition| partition.partition())
        .collect()
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else {
            return;
        };
        for partition in topic
            .partitions
            .values()
            .filter(|partition| partition.desired && partition.hi_offset >= 0)
        {
            let stored = if partition.committed_offset >= 0 {
                partition.committed_offset
            } else {
                partition.lo_offset.max(0)
            };
            let lag = (partition.hi_offset - stored).max(0);
            self.metrics
                .lag
                .get_or_create(&self.labels(partition.partition))
                .set(lag);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(topic = self.topic, "the event log: {error}: {reason}");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            for partition in partitions(list) {
                self.metrics.lag.remove(&self.labels(partition));
            }
            self.note(Change::Revoked(partitions(list)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // Nothing is read before it is known how far it has been stored.
            if let Err(error) = consumer.pause(list) {
                tracing::warn!(
                    topic = self.topic,
                    "cannot pause what was assigned: {error}"
                );
            }
            self.note(Change::Assigned(partitions(list)));
        }
    }
}

/// A partition that is assigned.
struct Part {
    assigned: Assigned,
    /// What its messages are called; none until it is claimed.
    source: Option<String>,
    /// What lies before is stored already.
    position: i64,
    /// The first message that came before the partition was claimed, and was not taken.
    first_passed: Option<i64>,
    asked: bool,
    /// Where it ended when it was assigned.
    end: i64,
    buffer: Buffer,
    in_flight: bool,
    is_paused: bool,
}

/// What the handling of a message needs beside the partition.
struct Tools {
    topic: String,
    clock: Clock,
    metrics: Arc<ConsumerMetrics>,
}

/// Takes a message in, unless it is stored already or its partition is not this consumer's.
fn take(
    parts: &mut HashMap<i32, Part>,
    n_bytes: &mut usize,
    tools: &Tools,
    message: &impl rdkafka::Message,
) {
    let offset = message.offset();
    let Some(part) = parts.get_mut(&message.partition()) else {
        return;
    };
    let Some(source) = &part.source else {
        part.first_passed = Some(part.first_passed.map_or(offset, |first| first.min(offset)));
        return;
    };
    if offset < part.position {
        let repeated = &tools.metrics.repeated;
        repeated.get_or_create(&of_topic(&tools.topic)).inc();
        return;
    }
    part.position = offset + 1;
    let written = message.timestamp().to_millis();
    let message = Message {
        offset,
        key: message.key().unwrap_or_default(),
        payload: message.payload().unwrap_or_default(),
        received_at: written.map_or_else(
            || (tools.clock)(),
            |millis| UnixMicros(millis.saturating_mul(1_000)),
        ),
    };
    let before = part.buffer.size_bytes();
    part.buffer.add(source, message, Instant::now());
    *n_bytes += part.buffer.size_bytes() - before;
}

/// The polling thread's state.
struct Reader {
    kind: EventKind,
    topic: String,
    tools: Tools,
    consumer: BaseConsumer<Context>,
    settings: ConsumerSettings,
    stopping: Arc<AtomicBool>,
    metrics: Arc<ConsumerMetrics>,
    assignments: Assignments,
    generation: u64,
    parts: HashMap<i32, Part>,
    /// Bytes that are gathered or being stored.
    n_bytes: usize,
    to_writer: Sender<Work>,
    from_writer: Receiver<Report>,
    last_error: Option<String>,
}

impl Reader {
    fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.poll();
            self.take_changes();
            self.open();
            self.take_reports();
            self.send_due();
            self.pace();
        }
        // What was stored by now is committed, so that it is not read again; what is being
        // stored is another consumer's from now on, unless it ends before.
        self.take_reports();
        let assignments = self.assignments.lock();
        assignments.unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Reads messages until there are none, or many.
    fn poll(&mut self) {
        let mut wait = POLL;
        for _ in 0..MAX_POLLED {
            let Some(polled) = self.consumer.poll(wait) else {
                return;
            };
            wait = Duration::ZERO;
            match polled {
                Ok(message) if self.consumer.context().has_changes() => {
                    // Rebalanced before this message: its owner depends on what changed.
                    let message = message.detach();
                    self.take_changes();
                    self.take(&message);
                    return;
                }
                Ok(message) => take(&mut self.parts, &mut self.n_bytes, &self.tools, &message),
                Err(error) => {
                    self.note_error(&error);
                    return;
                }
            }
        }
    }

    fn take(&mut self, message: &impl rdkafka::Message) {
        take(&mut self.parts, &mut self.n_bytes, &self.tools, message);
    }

    /// Logs an error unless it is the one of last time.
    fn note_error(&mut self, error: &KafkaError) {
        let remedy = error.rdkafka_error_code().and_then(remedy);
        let text = remedy.map_or_else(|| error.to_string(), |remedy| format!("{error}; {remedy}"));
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(topic = self.topic, "cannot read the event log: {text}");
            self.last_error = Some(text);
        }
    }

    fn take_changes(&mut self) {
        let changes = self.consumer.context().take_changes();
        let mut assignments = self
            .assignments
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Revoked(partitions) => {
                    for partition in partitions {
                        assignments.remove(&partition);
                        if let Some(part) = self.parts.remove(&partition) {
                            self.n_bytes -= part.buffer.size_bytes();
                        }
                    }
                }
                Change::Assigned(partitions) => {
                    for partition in partitions {
                        self.generation += 1;
                        let assigned = Assigned {
                            partition,
                            generation: self.generation,
                        };
                        assignments.insert(partition, self.generation);
                        let part = Part {
                            assigned,
                            source: None,
                            position: 0,
                            first_passed: None,
                            asked: false,
                            end: 0,
                            buffer: self.empty_buffer(),
                            in_flight: false,
                            is_paused: true,
                        };
                        self.parts.insert(partition, part);
                    }
                }
            }
            let n_parts = i64::try_from(self.parts.len()).unwrap_or(i64::MAX);
            self.metrics
                .partitions
                .get_or_create(&of_topic(&self.topic))
                .set(n_parts);
        }
    }

    /// Asks how far the partitions that were just assigned have been stored.
    fn open(&mut self) {
        for part in self.parts.values_mut().filter(|part| !part.asked) {
            let partition = part.assigned.partition;
            match self
                .consumer
                .fetch_watermarks(&self.topic, partition, NETWORK_TIMEOUT)
            {
                Ok((_, end)) => {
                    part.asked = true;
                    part.end = end;
                    let assigned = part.assigned;
                    // The writer lives as long as this end of the channel.
                    let _ = self.to_writer.send(Work::Open { assigned, end });
                }
                Err(error) => {
                    tracing::warn!(
                        topic = self.topic,
                        partition,
                        "cannot tell where a partition ends: {error}"
                    );
                    return;
                }
            }
        }
    }

    fn take_reports(&mut self) {
        let mut committed = TopicPartitionList::new();
        while let Ok(report) = self.from_writer.try_recv() {
            match report {
                Report::Left { assigned, n_bytes } => {
                    self.n_bytes = self.n_bytes.saturating_sub(n_bytes);
                    self.reopen(assigned);
                }
                Report::Stored {
                    assigned,
                    next_offset,
                    n_bytes,
                } => {
                    self.n_bytes = self.n_bytes.saturating_sub(n_bytes);
                    if let Some(part) = self.part(assigned) {
                        part.in_flight = false;
                        add(&mut committed, &self.topic, assigned.partition, next_offset);
                    }
                }
                Report::Opened {
                    assigned,
                    source,
                    position,
                } => self.start(assigned, source, position, &mut committed),
            }
        }
        if committed.count() > 0
            && let Err(error) = self.consumer.commit(&committed, CommitMode::Async)
        {
            // The warehouse has the positions; those of the group only save reading again.
            tracing::debug!(topic = self.topic, "cannot commit: {error}");
        }
    }

    fn empty_buffer(&self) -> Buffer {
        Buffer::new(self.kind, self.settings.allows_placeholder_ids)
    }

    fn part(&mut self, assigned: Assigned) -> Option<&mut Part> {
        let part = self.parts.get_mut(&assigned.partition)?;
        (part.assigned == assigned).then_some(part)
    }

    /// Re-claims a partition after a stale consumer took its claim. The stale consumer had the
    /// partition before and slept through its revocation.
    fn reopen(&mut self, assigned: Assigned) {
        let Some(part) = self.part(assigned) else {
            return;
        };
        let n_bytes = part.buffer.size_bytes();
        part.buffer = part.buffer.emptied();
        part.source = None;
        // All from where its stored part ends has to be read again.
        part.first_passed = Some(0);
        part.asked = false;
        part.in_flight = false;
        part.is_paused = true;
        self.n_bytes -= n_bytes;
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, assigned.partition);
        if let Err(error) = self.consumer.pause(&list) {
            let (topic, partition) = (&self.topic, assigned.partition);
            // What is read of it meanwhile is read again.
            tracing::warn!(topic, partition, "cannot pause a partition: {error}");
        }
    }

    /// Begins to read a partition where its stored part ends.
    fn start(
        &mut self,
        assigned: Assigned,
        source: String,
        position: i64,
        committed: &mut TopicPartitionList,
    ) {
        let topic = self.topic.clone();
        let Some(part) = self.part(assigned) else {
            return;
        };
        part.source = Some(source);
        part.position = position;
        let lag = part.end.saturating_sub(position).max(0);
        let first_passed = part.first_passed.take();
        // Until librdkafka reports it.
        let labels = self.consumer.context().labels(assigned.partition);
        self.metrics.lag.get_or_create(&labels).set(lag);
        if position > 0 {
            add(committed, &topic, assigned.partition, position);
        }
        // Messages that came too early have to be read again; others need not be read at all.
        let from = first_passed.map_or(position, |passed| passed.max(position));
        if from > 0 || first_passed.is_some() {
            let offset = Offset::Offset(from);
            while let Err(error) =
                self.consumer
                    .seek(&topic, assigned.partition, offset, NETWORK_TIMEOUT)
            {
                if first_passed.is_none() || self.stopping.load(Ordering::Acquire) {
                    break;
                }
                tracing::warn!(
                    topic,
                    partition = assigned.partition,
                    "cannot go back to offset {from}: {error}"
                );
                std::thread::sleep(POLL);
            }
        }
    }

    /// Hands batches that are large or old enough to the writer, one of each partition at a time.
    fn send_due(&mut self) {
        let now = Instant::now();
        let (rows, linger) = (self.settings.batch_rows, self.settings.linger);
        for part in self.parts.values_mut() {
            let is_due = part.buffer.batch.len() >= rows || part.buffer.age(now) >= linger;
            if part.in_flight || part.buffer.is_empty() || !is_due {
                continue;
            }
            let buffer = {
                let emptied = part.buffer.emptied();
                std::mem::replace(&mut part.buffer, emptied)
            };
            part.in_flight = true;
            let work = Work::Store {
                assigned: part.assigned,
                buffer: Box::new(buffer),
            };
            // The writer lives as long as this end of the channel.
            let _ = self.to_writer.send(work);
        }
    }

    /// Pauses partitions of which much waits, and resumes those of which it does no more.
    fn pace(&mut self) {
        let is_full = self.n_bytes > MAX_BYTES;
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        for part in self.parts.values_mut().filter(|part| part.source.is_some()) {
            let waits = !part.buffer.is_empty() || part.in_flight;
            let must_wait = is_full && waits
                || part.in_flight && part.buffer.batch.len() >= self.settings.batch_rows;
            if must_wait != part.is_paused {
                part.is_paused = must_wait;
                let list = if must_wait { &mut pause } else { &mut resume };
                list.add_partition(&self.topic, part.assigned.partition);
            }
        }
        let changed = pause.count() + resume.count() > 0;
        let outcomes = [
            (pause.count() > 0).then(|| self.consumer.pause(&pause)),
            (resume.count() > 0).then(|| self.consumer.resume(&resume)),
        ];
        for error in outcomes.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!(
                topic = self.topic,
                "cannot pause or resume partitions: {error}"
            );
        }
        if changed {
            let n_paused = self.parts.values().filter(|part| part.is_paused).count();
            self.metrics
                .paused
                .get_or_create(&of_topic(&self.topic))
                .set(n_paused as i64);
        }
    }
}

fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, offset: i64) {
    // Fails for offsets that are none, such as negative ones.
    if let Err(error) = list.add_partition_offset(topic, partition, Offset::Offset(offset)) {
        tracing::warn!(topic, partition, offset, "cannot note an offset: {error}");
    }
}
