//! Receives request bodies: bounded, in time, decompressed.
//!
//! Memory is counted as it is needed, against the share of the caller ([`Budget`]): a client
//! that announces a body and does not send it holds nothing. What takes long, decompressing
//! and reading many events, is done on threads of its own, in turns ([`Turns`]).
//!
//! [`Budget`]: crate::budget::Budget
//! [`Turns`]: crate::turns::Turns

use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use trialog_model::wire::BYTE_ORDER_MARK;
use trialog_pipeline::decompress::{Bounds, Compression};

use crate::app::App;
use crate::budget::{Full, Hold};
use crate::limits::Who;
use crate::problem::{Answer, Problem};

/// The most bytes of a body that holds no events.
const MAX_OTHER_BYTES: usize = 2 << 20;

/// Bodies up to this size are worked on where they are; larger and compressed ones elsewhere,
/// so that no other connection waits for them.
const INLINE_BYTES: usize = 16 << 10;

/// What decompressing a body may cost: parts that were put together, and time. Less than half
/// a second is usual for the largest body on a busy machine.
const MAX_PARTS: u64 = 1_024;
const MAX_DECOMPRESSING: Duration = Duration::from_secs(2);

/// Memory for the first bytes of a body, unless it is known to be shorter; then as much again
/// as there is.
const FIRST_BYTES: usize = 256 << 10;

/// How much of a body that is refused is taken from the client, and for how long.
const DISCARDED_BYTES: usize = 16 << 20;
const DISCARDING_TIME: Duration = Duration::from_secs(2);

/// A body in memory, which is counted against its caller's share until it is dropped.
pub(crate) struct HeldBody {
    pub(crate) bytes: Vec<u8>,
    hold: Hold,
}

impl HeldBody {
    fn new(hold: Hold) -> Self {
        let bytes = Vec::new();
        Self { bytes, hold }
    }

    /// Makes room for `n_more` bytes, and for up to `most` in all, beside `n_others` that the
    /// same request holds.
    fn make_room(&mut self, n_more: usize, most: usize, n_others: usize) -> Result<(), Full> {
        let needed = self.bytes.len() + n_more;
        if needed <= self.bytes.capacity() {
            return Ok(());
        }
        let doubled = self.bytes.capacity().saturating_mul(2);
        let capacity = doubled.max(FIRST_BYTES).min(most).max(needed);
        self.hold.resize(n_others + capacity)?;
        self.bytes.reserve_exact(capacity - self.bytes.len());
        Ok(())
    }
}

/// A body as it was sent.
pub(crate) struct Received {
    body: HeldBody,
    coding: Compression,
    limit: usize,
}

impl Received {
    /// Returns whether the body is parsed in no time.
    pub(crate) fn is_small(&self) -> bool {
        self.coding == Compression::None && self.body.bytes.len() <= INLINE_BYTES
    }

    /// Returns the decompressed content. This may take long if the body is not small.
    pub(crate) fn unpack(self) -> Answer<HeldBody> {
        let Self {
            body,
            coding,
            limit,
        } = self;
        if coding == Compression::None {
            return Ok(body);
        }
        let begun = Instant::now();
        let goes_on = || begun.elapsed() < MAX_DECOMPRESSING;
        let bounds = Bounds {
            max_window_bytes: limit as u64,
            max_parts: MAX_PARTS,
            goes_on: &goes_on,
        };
        decompress(body, coding, bounds, limit)
    }
}

/// Unwraps the body that a handler extracted.
///
/// # Errors
///
/// The body could not be read; the status is the one that the extractor chose.
pub(crate) fn received(body: Result<Bytes, BytesRejection>) -> Answer<Bytes> {
    body.map_err(|error| Problem::new(error.status(), format!("the body cannot be read: {error}")))
}

/// Receives a body of events.
pub(crate) async fn receive(
    app: &App,
    who: Who,
    headers: &HeaderMap,
    body: Body,
) -> Answer<Received> {
    receive_within(app, who, headers, body, app.settings.max_body_bytes).await
}

/// Receives the body before its handler runs, so that no handler waits for a slow client. A body
/// of events is left to its handler.
pub(crate) async fn hold(
    app: &App,
    who: &Who,
    request: Request,
) -> Answer<(Request, Option<Hold>)> {
    let has_events = request.uri().path().starts_with("/v1/events/");
    if has_events || request.body().is_end_stream() {
        return Ok((request, None));
    }
    let (mut parts, body) = request.into_parts();
    let limit = app.settings.max_body_bytes.min(MAX_OTHER_BYTES);
    let received = receive_within(app, who.clone(), &parts.headers, body, limit).await?;
    let HeldBody { mut bytes, hold } = match received.coding {
        Compression::None => received.body,
        _ => in_turn(app, who, move || received.unpack()).await?,
    };
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    parts.headers.remove(header::CONTENT_ENCODING);
    (parts.headers).insert(header::CONTENT_LENGTH, bytes.len().into());
    let request = Request::from_parts(parts, Body::from(bytes));
    Ok((request, Some(hold)))
}

/// Runs `work` on a thread of the pool when it is the caller's turn.
pub(crate) async fn in_turn<T: Send + 'static>(
    app: &App,
    who: &Who,
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let turn = app.turns.take(who).await.map_err(|_| busy(app))?;
    let turned = move || {
        let _turn = turn;
        work()
    };
    app.pools.jobs.run(turned).await
}

async fn receive_within(
    app: &App,
    who: Who,
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Answer<Received> {
    let coding = coding(headers)?;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        discard(headers, body).await;
        return Err(too_large(limit));
    }
    if declared.is_some_and(|length| !app.bodies.has_room(&who, length)) {
        discard(headers, body).await;
        return Err(busy(app));
    }
    let mut held = HeldBody::new(app.bodies.hold(who));
    let reading = collect(&mut body, &mut held, declared.unwrap_or(limit), limit);
    let outcome = match tokio::time::timeout(app.settings.body_timeout, reading).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Stopped::Late),
    };
    match outcome {
        Ok(()) => Ok(Received {
            body: held,
            coding,
            limit,
        }),
        Err(Stopped::Full) => {
            drop(held);
            discard(headers, body).await;
            Err(busy(app))
        }
        Err(Stopped::TooLarge) => Err(too_large(limit)),
        Err(Stopped::Broken(error)) => Err(Problem::bad_request(format!(
            "the body ended early: {error}"
        ))),
        Err(Stopped::Late) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

/// Why a body was not received.
enum Stopped {
    Full,
    TooLarge,
    Broken(axum::Error),
    Late,
}

/// Collects a body as it arrives, counting memory as it grows.
async fn collect(
    body: &mut Body,
    held: &mut HeldBody,
    expected: usize,
    limit: usize,
) -> Result<(), Stopped> {
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let frame = frame.map_err(Stopped::Broken)?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        if piece.len() > limit - held.bytes.len() {
            return Err(Stopped::TooLarge);
        }
        (held.make_room(piece.len(), expected, 0)).map_err(|Full| Stopped::Full)?;
        held.bytes.extend_from_slice(piece);
    }
    Ok(())
}

fn busy(app: &App) -> Problem {
    app.ingest.metrics().note_busy();
    Problem::busy(
        "too many of this caller's requests are in work: send this one again shortly",
        1,
    )
}

/// Reads and drops a body that is rejected: a client that is still sending when its connection is
/// closed sees a reset instead of the response.
///
/// A client that waits for permission (`Expect`) sends nothing.
pub(crate) async fn discard(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let reading = async {
        let mut n_bytes = 0;
        while n_bytes < DISCARDED_BYTES {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let Some(Ok(frame)) = frame else { break };
            n_bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // However long it takes, the answer is given.
    let _ = tokio::time::timeout(DISCARDING_TIME, reading).await;
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has more than {limit} bytes: send it in several requests"),
    )
}

fn coding(headers: &HeaderMap) -> Answer<Compression> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(Compression::None);
    };
    match value
        .to_str()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "identity" => Ok(Compression::None),
        "gzip" | "x-gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the Content-Encoding `{other}` is not known: use gzip, zstd, or none"),
        )),
    }
}

fn decompress(
    packed: HeldBody,
    coding: Compression,
    bounds: Bounds<'_>,
    limit: usize,
) -> Answer<HeldBody> {
    let HeldBody {
        bytes: source,
        hold,
    } = packed;
    let n_source = source.capacity();
    let mut plain = HeldBody::new(hold);
    let mut reader = coding.reader(source.as_slice(), bounds);
    loop {
        if plain.make_room(1, limit + 1, n_source).is_err() {
            return Err(Problem::busy(
                "what the body decompresses to does not fit beside this caller's other requests: send it again shortly, or in smaller ones",
                1,
            ));
        }
        let room = plain.bytes.capacity() - plain.bytes.len();
        let n_read = (&mut reader)
            .take(room as u64)
            .read_to_end(&mut plain.bytes)
            .map_err(|error| {
                Problem::bad_request(format!(
                    "the body cannot be decompressed: {error}; none of it was taken"
                ))
            })?;
        if plain.bytes.len() > limit {
            return Err(too_large(limit));
        }
        if n_read < room {
            break;
        }
    }
    drop(reader);
    drop(source);
    // Less than before, which is never refused.
    let _ = plain.hold.resize(plain.bytes.capacity());
    Ok(plain)
}
