//! Ingests events: reads, validates and submits them to be made durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::Serialize;
use trialog_model::event::{Event, EventError, EventKind, Fault, RawEvent, Rules, validate};
use trialog_model::time::UnixMicros;
use trialog_model::user_id::{event_fingerprint, position_fingerprint};
use trialog_model::wire::{BodyError, Layout, decode};
use trialog_warehouse::SourceMark;
use trialog_warehouse::batch::Batch;
use trialog_warehouse::embedded::{Refused, Reply, Submission, Warehouse};

use crate::error::PipelineError;
use crate::store::Store;
use crate::telemetry::IngestMetrics;

/// The default maximum number of events in a request.
pub const MAX_EVENTS: u64 = 100_000;
/// The maximum length of an `Idempotency-Key`, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

/// A rejected event and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rejection {
    /// Its place in the request, from 0.
    pub index: u64,
    /// The member that is wrong; `event` for the whole event.
    pub field: &'static str,
    /// What is wrong and how to fix it.
    pub reason: String,
}

impl Rejection {
    /// Creates the rejection of the event at `index`.
    pub fn new(index: u64, error: EventError) -> Self {
        Self {
            index,
            field: error.field,
            reason: error.reason,
        }
    }
}

/// The maximum number of rejections of a request that are listed one by one.
pub const MAX_LISTED: usize = 1_000;

/// The rejected events of a request: the first ones, and the number by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    /// The first [`MAX_LISTED`] of them.
    pub listed: Vec<Rejection>,
    counts: BTreeMap<(&'static str, Fault), u64>,
}

impl Rejections {
    /// Records that the event at `index` was rejected.
    pub fn note(&mut self, index: u64, error: EventError) {
        *self.counts.entry((error.field, error.fault)).or_default() += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Rejection::new(index, error));
        }
    }

    /// Counts the rejected events.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Counts the rejected events by field and kind of fault.
    pub fn by_reason(&self) -> Vec<RejectionCount> {
        let counts = self.counts.iter();
        let count = |(&(field, fault), &events): (&(&'static str, Fault), &u64)| RejectionCount {
            field,
            fault: fault.as_str(),
            events,
        };
        counts.map(count).collect()
    }
}

/// The number of events that were rejected for a field and a kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RejectionCount {
    /// The member that is wrong; `event` for the whole event.
    pub field: &'static str,
    /// The kind of fault.
    #[schemars(extend("enum" = Fault::ALL.map(Fault::as_str)))]
    pub fault: &'static str,
    /// How many events.
    #[schemars(range(min = 1))]
    pub events: u64,
}

/// The events of a request after validation.
#[derive(Debug)]
pub struct Judged {
    /// The good ones.
    pub batch: Batch,
    /// The others.
    pub rejected: Rejections,
    mark: Option<SourceMark>,
    /// The very same request was stored before: there is nothing to do.
    pub repeated: bool,
}

/// The reason why a whole request was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The body cannot be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The request carries too many events.
    #[error("the request has more than {0} events: send them in several requests")]
    TooMany(u64),
    /// The key is empty or too long.
    #[error("the Idempotency-Key has {0} bytes: give it 1 to {MAX_KEY_BYTES}")]
    BadKey(usize),
    /// The key was used with another body.
    #[error("the Idempotency-Key was used before with another body: use a new key for new events")]
    KeyReused,
    /// The position of the request's key cannot be read.
    #[error(transparent)]
    Store(#[from] PipelineError),
}

/// The destination of valid events, where they become durable.
#[derive(Clone)]
pub enum Destination {
    /// The warehouse of this process.
    Store(Store),
    /// Topics of Kafka, from which consumers take them to the warehouse.
    #[cfg(feature = "kafka")]
    Kafka(Arc<crate::kafka::Producer>),
}

impl From<&Store> for Destination {
    fn from(store: &Store) -> Self {
        Self::Store(store.clone())
    }
}

impl From<Arc<Warehouse>> for Destination {
    fn from(warehouse: Arc<Warehouse>) -> Self {
        Self::Store(warehouse.into())
    }
}

impl Destination {
    /// Returns the position of a source if the destination stores one. Topics do not, but
    /// duplicates in them are counted once.
    ///
    /// # Errors
    ///
    /// The warehouse or the catalog cannot be read.
    pub fn source_position(&self, source: &str) -> Result<Option<i64>, PipelineError> {
        match self {
            Self::Store(store) => store.source_position(source),
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => Ok(None),
        }
    }

    /// Queues `submission`, whose reply is called once it is durable.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`] at once where too much waits already.
    pub fn submit(&self, submission: Submission) -> Result<(), Refused> {
        match self {
            Self::Store(store) => store.submit(submission),
            #[cfg(feature = "kafka")]
            Self::Kafka(producer) => producer.submit(submission),
        }
    }
}

/// The ingest of one process.
pub struct Ingest {
    destination: Destination,
    /// Tells this process's requests apart from those of any other.
    source: String,
    n_requests: AtomicU64,
    metrics: IngestMetrics,
    settings: IngestSettings,
}

/// The settings of the ingest of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestSettings {
    /// The most events that one request may carry.
    pub max_events: u64,
    /// Whether words such as `null` are user ids like any other.
    pub allows_placeholder_ids: bool,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self {
            max_events: MAX_EVENTS,
            allows_placeholder_ids: false,
        }
    }
}

impl Ingest {
    /// Creates the ingest to `destination`. `started_at` identifies this process.
    pub fn new(
        destination: impl Into<Destination>,
        started_at: UnixMicros,
        settings: IngestSettings,
    ) -> Self {
        Self {
            destination: destination.into(),
            source: process_source(started_at),
            n_requests: AtomicU64::new(0),
            metrics: IngestMetrics::new(),
            settings,
        }
    }

    /// Returns the counts since the start.
    pub fn metrics(&self) -> &IngestMetrics {
        &self.metrics
    }

    /// Parses the events of `body` and validates each of them.
    ///
    /// An event without an id gets one from `key`, `body` and its index, or from this
    /// request and its index: with a key, delivery may be repeated. Here a key that is
    /// stored already is only noticed early; storing notices it in any case.
    ///
    /// # Errors
    ///
    /// A body that cannot be read, too many events, or a misused key.
    pub fn judge(
        &self,
        kind: EventKind,
        body: &[u8],
        layout: Layout,
        key: Option<&str>,
        now: UnixMicros,
    ) -> Result<Judged, IngestError> {
        let mark = key.map(|key| key_mark(key, kind, body)).transpose()?;
        let repeated = match &mark {
            Some(mark) => match self.destination.source_position(&mark.source)? {
                Some(position) if position != mark.position => return Err(IngestError::KeyReused),
                stored => stored.is_some(),
            },
            None => false,
        };
        let source = mark.as_ref().map(source_of_ids);
        let mut judging = self.judging(kind, source.as_deref());
        decode(kind, body, layout, self.rules(now), |index, event| {
            judging.note(index, index, event);
        })?;
        let judged = judging.finish()?;
        Ok(Judged {
            mark,
            repeated,
            ..judged
        })
    }

    /// Validates events that the server creates itself, each with the index in the request under
    /// which a rejection is reported.
    ///
    /// # Errors
    ///
    /// Too many events.
    pub fn judge_made<'a>(
        &self,
        kind: EventKind,
        made: impl IntoIterator<Item = (u64, RawEvent<'a>)>,
        now: UnixMicros,
    ) -> Result<Judged, IngestError> {
        let mut judging = self.judging(kind, None);
        for (place, (index, raw)) in (0..).zip(made) {
            judging.note(place, index, validate(kind, raw, self.rules(now)));
        }
        judging.finish()
    }

    /// Returns the rules of events that are received at `now`.
    pub fn rules(&self, now: UnixMicros) -> Rules {
        Rules {
            allows_placeholder_ids: self.settings.allows_placeholder_ids,
            ..now.into()
        }
    }

    /// Counts a rejected event in the metrics.
    pub fn note_rejected(&self, kind: EventKind, error: &EventError) {
        self.metrics.note_rejected(kind, error);
    }

    /// Begins with a request's events; `source` names the request where its key does.
    fn judging<'i>(&'i self, kind: EventKind, source: Option<&'i str>) -> Judging<'i> {
        let request = self.n_requests.fetch_add(1, Ordering::Relaxed);
        Judging {
            ingest: self,
            source: source.unwrap_or(&self.source),
            sequence: if source.is_some() { 0 } else { request },
            batch: Batch::new(kind),
            rejected: Rejections::default(),
            n_events: 0,
        }
    }

    /// Queues the valid events of a request. `reply` is called once they are durable.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`] at once where too much waits already.
    pub fn submit(&self, judged: Judged, now: UnixMicros, reply: Reply) -> Result<(), Refused> {
        if judged.repeated {
            self.metrics.repeated.inc();
        }
        if judged.repeated || judged.batch.is_empty() {
            reply(Ok(()));
            return Ok(());
        }
        let accepted = self.metrics.accepted(judged.batch.kind());
        let n_events = judged.batch.len() as u64;
        let reply: Reply = Box::new(move |outcome| {
            if outcome.is_ok() {
                accepted.inc_by(n_events);
            }
            reply(outcome);
        });
        let submission = Submission {
            batch: judged.batch,
            mark: judged.mark,
            received_at: now.0,
            reply,
        };
        let outcome = self.destination.submit(submission);
        outcome.inspect_err(|refused| self.metrics.note_refused(refused))
    }
}

/// Returns the name of this process as a source of events, which is unique over machines and
/// starts.
pub(crate) fn process_source(started_at: UnixMicros) -> String {
    format!("http:{}:{:016x}", started_at.0, fastrand::u64(..))
}

/// A request's events on their way into a batch.
struct Judging<'i> {
    ingest: &'i Ingest,
    source: &'i str,
    sequence: u64,
    batch: Batch,
    rejected: Rejections,
    n_events: u64,
}

impl Judging<'_> {
    /// Adds the event at `place`. A rejection reports `index`.
    fn note(&mut self, place: u64, index: u64, event: Result<Event<'_>, EventError>) {
        self.n_events += 1;
        if self.n_events > self.ingest.settings.max_events {
            return;
        }
        match event {
            Ok(event) => {
                // Only an event without an id needs one from its position.
                let id = event
                    .event_id
                    .unwrap_or_else(|| position_fingerprint(self.source, self.sequence, place));
                self.batch.push_event(&event, id);
            }
            Err(error) => {
                let kind = self.batch.kind();
                self.ingest.metrics.note_rejected(kind, &error);
                self.rejected.note(index, error);
            }
        }
    }

    fn finish(self) -> Result<Judged, IngestError> {
        if self.n_events > self.ingest.settings.max_events {
            return Err(IngestError::TooMany(self.ingest.settings.max_events));
        }
        Ok(Judged {
            batch: self.batch,
            rejected: self.rejected,
            mark: None,
            repeated: false,
        })
    }
}

/// Returns the seed of the ids of a request's events: its key and its body. So two bodies with one
/// key are never taken for copies, even if the reuse of the key is not detected.
fn source_of_ids(mark: &SourceMark) -> String {
    format!("{}:{:016x}", mark.source, mark.position)
}

/// Returns the mark of a request's key, whose position stands for the body.
fn key_mark(key: &str, kind: EventKind, body: &[u8]) -> Result<SourceMark, IngestError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(IngestError::BadKey(key.len()));
    }
    let (body, _) = trialog_model::murmur3::murmur3_x64_128(body, 0);
    let position = body ^ event_fingerprint(kind.plural());
    Ok(SourceMark {
        source: format!("key:{key}"),
        position: position.cast_signed(),
        once: true,
    })
}
