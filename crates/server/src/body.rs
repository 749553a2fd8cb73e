//! Request bodies: bounded, in time, decompressed.

use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use trialog_model::wire::BYTE_ORDER_MARK;
use trialog_pipeline::decompress::Compression;

use crate::app::App;
use crate::problem::{Answer, Problem};

/// The most bytes of a body that holds no events.
const MAX_OTHER_BYTES: usize = 2 << 20;

/// How much of a body that is refused is taken from the client, and for how long.
const DISCARDED_BYTES: usize = 8 << 20;
const DISCARDING_TIME: Duration = Duration::from_secs(2);

/// A body in memory, counted against the bytes in work until it is dropped.
pub(crate) struct HeldBody {
    pub(crate) bytes: Vec<u8>,
    permit: OwnedSemaphorePermit,
}

/// Reads and decompresses a body of events.
pub(crate) async fn read(app: &App, headers: &HeaderMap, body: Body) -> Answer<HeldBody> {
    read_within(app, headers, body, app.settings.max_body_bytes).await
}

/// Reads the body before its handler does, so that no handler waits for a
/// slow client. A body of events is left to its handler.
pub(crate) async fn hold(
    app: &App,
    request: Request,
) -> Answer<(Request, Option<OwnedSemaphorePermit>)> {
    let has_events = request.uri().path().starts_with("/v1/events/");
    if has_events || request.body().is_end_stream() {
        return Ok((request, None));
    }
    let (mut parts, body) = request.into_parts();
    let limit = app.settings.max_body_bytes.min(MAX_OTHER_BYTES);
    let mut held = read_within(app, &parts.headers, body, limit).await?;
    if held.bytes.starts_with(BYTE_ORDER_MARK) {
        held.bytes.drain(..BYTE_ORDER_MARK.len());
    }
    parts.headers.remove(header::CONTENT_ENCODING);
    (parts.headers).insert(header::CONTENT_LENGTH, held.bytes.len().into());
    let request = Request::from_parts(parts, Body::from(held.bytes));
    Ok((request, Some(held.permit)))
}

async fn read_within(app: &App, headers: &HeaderMap, body: Body, limit: usize) -> Answer<HeldBody> {
    let coding = coding(headers)?;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        discard(headers, body).await;
        return Err(too_large(limit));
    }
    // An undeclared or compressed length may reach the limit, so it is held in full.
    let held = match (coding, declared) {
        (Compression::None, Some(length)) => length,
        _ => limit,
    };
    let permits = u32::try_from(held / 1024 + 1).unwrap_or(u32::MAX);
    let Ok(permit) = Arc::clone(&app.bodies).try_acquire_many_owned(permits) else {
        app.ingest.metrics().note_busy();
        discard(headers, body).await;
        return Err(Problem::busy(
            "too many requests are in work: send this one again shortly",
            1,
        ));
    };
    let reading = axum::body::to_bytes(body, limit);
    let bytes = match tokio::time::timeout(app.settings.body_timeout, reading).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if is_length_limit(&error) => return Err(too_large(limit)),
        Ok(Err(error)) => {
            return Err(Problem::bad_request(format!(
                "the body ended early: {error}"
            )));
        }
        Err(_) => {
            return Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            ));
        }
    };
    Ok(HeldBody {
        bytes: decompress(coding, bytes, limit)?,
        permit,
    })
}

/// Reads and drops a body that is refused: a client that still sends when its
/// connection is closed is told of a reset, not of the answer.
///
/// A client that waits to be told to go on (`Expect`) sends nothing.
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

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        source = error.source();
    }
    false
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

fn decompress(coding: Compression, bytes: Bytes, limit: usize) -> Answer<Vec<u8>> {
    if coding == Compression::None {
        return Ok(bytes.into());
    }
    let mut decompressed = Vec::new();
    coding
        .reader(bytes.as_ref(), limit as u64)
        .take(limit as u64 + 1)
        .read_to_end(&mut decompressed)
        .map_err(|error| {
            Problem::bad_request(format!(
                "the body cannot be decompressed: {error}; none of it was taken"
            ))
        })?;
    if decompressed.len() > limit {
        return Err(too_large(limit));
    }
    Ok(decompressed)
}
