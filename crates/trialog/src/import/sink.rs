//! Sends imported events on, and counts the rows by their outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, bail};
use axum::http::StatusCode;
use serde_json::Value;
use trialog_model::cell::is_placeholder_id;
use trialog_model::event::{Event, EventError, EventKind};
use trialog_model::time::UnixMicros;
use trialog_model::user_id::event_fingerprint;
use trialog_pipeline::ingest::Destination;
use trialog_warehouse::batch::Batch;
use trialog_warehouse::embedded::{Refused, Submission};
use trialog_warehouse::{SourceMark, WarehouseError};

/// Rows per batch; fixed, so that a repeated import sends the same batches.
const BATCH_ROWS: u64 = 20_000;
/// Batches that may be on their way to the disk at a time.
const MAX_WAITING: usize = 8;
/// Bad rows that the summary shows.
const N_EXAMPLES: usize = 10;

/// The numbers of rows of a file by outcome.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) rows: u64,
    pub(crate) accepted: u64,
    pub(crate) no_event: u64,
    /// Rows that an earlier, interrupted import has stored already.
    pub(crate) stored_before: u64,
    /// Rejected rows by the field that is wrong.
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    /// The first bad rows: the number of the row, from 1, and the reason.
    pub(crate) examples: Vec<(u64, String)>,
}

/// The destination of batches.
pub(crate) enum Sink<'a> {
    /// Into the warehouse that this process has open.
    Directory(Destination),
    /// To a server.
    Server {
        address: String,
        agent: &'a ureq::Agent,
    },
}

/// Takes the rows of one file in order, and passes the valid ones on in batches.
pub(crate) struct Rows<'a> {
    sink: Sink<'a>,
    kind: EventKind,
    /// Names the file and what its rows become.
    source: String,
    /// Names the file and every setting it is read with: how far it was read.
    mark: String,
    received_at: UnixMicros,
    /// Rows that are stored already.
    skip: u64,
    batch: Batch,
    lines: Vec<u8>,
    n_waiting: usize,
    done: Sender<Result<(), Arc<WarehouseError>>>,
    outcomes: Receiver<Result<(), Arc<WarehouseError>>>,
    pub(crate) summary: Summary,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        sink: Sink<'a>,
        kind: EventKind,
        source: String,
        mark: String,
        received_at: UnixMicros,
    ) -> anyhow::Result<Self> {
        let skip = match &sink {
            Sink::Directory(destination) => destination
                .source_position(&mark)?
                .map_or(0, i64::cast_unsigned),
            Sink::Server { .. } => 0,
        };
        let (done, outcomes) = channel();
        Ok(Self {
            sink,
            kind,
            source,
            mark,
            received_at,
            skip,
            batch: Batch::new(kind),
            lines: Vec::new(),
            n_waiting: 0,
            done,
            outcomes,
            summary: Summary::default(),
        })
    }

    /// Takes the next row: an event, none, or the reason why it is invalid.
    pub(crate) fn take(
        &mut self,
        event: Result<Option<Event<'_>>, EventError>,
    ) -> anyhow::Result<()> {
        let row = self.summary.rows;
        self.summary.rows += 1;
        match event {
            Ok(None) => self.summary.no_event += 1,
            Ok(Some(_)) if row < self.skip => self.summary.stored_before += 1,
            Ok(Some(event)) => {
                self.summary.accepted += 1;
                self.add(row, &event);
            }
            Err(error) => self.reject(row, &error),
        }
        if self.summary.rows.is_multiple_of(BATCH_ROWS) {
            self.send()
        } else {
            Ok(())
        }
    }

    fn reject(&mut self, row: u64, error: &EventError) {
        *self.summary.rejected.entry(error.field).or_default() += 1;
        if self.summary.examples.len() < N_EXAMPLES {
            self.summary.examples.push((row + 1, error.to_string()));
        }
    }

    /// Without an id an event is named by its file and row.
    fn add(&mut self, row: u64, event: &Event<'_>) {
        let fingerprint = (event.event_id)
            .unwrap_or_else(|| event_fingerprint(&format!("{}:{row}", self.source)));
        match &self.sink {
            Sink::Directory(_) => self.batch.push_event(event, fingerprint),
            Sink::Server { .. } => write_line(&mut self.lines, self.kind, event, fingerprint),
        }
    }

    /// Sends what is left and waits until all of it is durable.
    pub(crate) fn finish(mut self) -> anyhow::Result<Summary> {
        self.send()?;
        while self.n_waiting > 0 {
            self.wait()?;
        }
        Ok(self.summary)
    }

    fn send(&mut self) -> anyhow::Result<()> {
        match &self.sink {
            Sink::Directory(destination) => {
                let batch = std::mem::replace(&mut self.batch, Batch::new(self.kind));
                if batch.is_empty() {
                    return Ok(());
                }
                let mark = SourceMark {
                    source: self.mark.clone(),
                    position: self.summary.rows.cast_signed(),
                    once: false,
                };
                let done = self.done.clone();
                // The receiver lives as long as the import; without it nobody wants to know.
                let reply = Box::new(move |outcome| drop(done.send(outcome)));
                let submission = Submission {
                    batch,
                    mark: Some(mark),
                    received_at: self.received_at.0,
                    reply,
                };
                match destination.submit(submission) {
                    Ok(()) => self.n_waiting += 1,
                    Err(refused @ (Refused::Full | Refused::Closed)) => {
                        bail!("cannot store events: {refused}")
                    }
                }
                while self.n_waiting >= MAX_WAITING {
                    self.wait()?;
                }
                Ok(())
            }
            Sink::Server { address, agent } => {
                let lines = std::mem::take(&mut self.lines);
                if lines.is_empty() {
                    return Ok(());
                }
                let first_row = (self.summary.rows - 1) / BATCH_ROWS * BATCH_ROWS;
                let key = format!("{}:{first_row}", self.mark);
                post(
                    agent,
                    &format!("{address}/v1/events/{}", self.kind),
                    &key,
                    &lines,
                )
            }
        }
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        self.n_waiting -= 1;
        match self.outcomes.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => bail!(
                "cannot store events: {}; run the same command again to go on",
                error.chain()
            ),
            Err(_) => bail!("cannot store events: the warehouse is closed"),
        }
    }
}

/// Sends `lines`, again and again while the server is busy.
fn post(agent: &ureq::Agent, url: &str, key: &str, lines: &[u8]) -> anyhow::Result<()> {
    loop {
        let mut response = agent
            .post(url)
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", key)
            .send(lines)
            .with_context(|| {
                format!("cannot reach `{url}`; run the same command again to go on")
            })?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let seconds = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok());
            std::thread::sleep(std::time::Duration::from_secs(seconds.unwrap_or(1)));
            continue;
        }
        let text = response.body_mut().read_to_string()?;
        if response.status() == StatusCode::ACCEPTED {
            return Ok(());
        }
        let detail = serde_json::from_str::<Value>(&text).ok();
        let detail = detail
            .as_ref()
            .and_then(|answer| answer["detail"].as_str())
            .unwrap_or(&text);
        bail!("the server refused a batch: {detail}");
    }
}

/// An event as a line of NDJSON.
fn write_line(lines: &mut Vec<u8>, kind: EventKind, event: &Event<'_>, fingerprint: u64) {
    let mut fields = serde_json::Map::new();
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    let text = event.user_text.as_deref();
    // The server may take no such word as an id, which was allowed here.
    let text = text.filter(|text| !is_placeholder_id(text));
    add(
        "user_id",
        text.map_or_else(|| event.user_id.into(), Value::from),
    );
    add("experiment_id", event.experiment_id.as_ref().into());
    add(kind.name_field(), event.name.as_ref().into());
    add(kind.time_field(), event.timestamp.to_rfc3339().into());
    add("event_fingerprint", fingerprint.cast_signed().into());
    match kind {
        EventKind::Assignment => add("forced", (event.value != 0).into()),
        EventKind::Metric => add(
            "value",
            trialog_model::decimal::format_units(event.value.into()).into(),
        ),
    };
    if let Some(context) = &event.context {
        add("context", serde_json::from_str(context).unwrap_or_default());
    }
    lines.extend_from_slice(Value::Object(fields).to_string().as_bytes());
    lines.push(b'\n');
}
