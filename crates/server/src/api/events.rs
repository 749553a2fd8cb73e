//! `POST /v1/events/assignments` and `/v1/events/metrics`.

mod definition;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use trialog_model::event::EventKind;
use trialog_model::wire::Layout;
use trialog_pipeline::ingest::{IngestError, Judged, Rejection, RejectionCount};
use trialog_warehouse::WarehouseError;
use trialog_warehouse::embedded::Refused;

use crate::app::App;
use crate::body;
use crate::limits::Who;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::problem::{Answer, Problem};

const RULES: &str = "One event, an array of events, or one event per line. Each event is judged on its own: a bad one spoils no other, and the answer names it. Members that are not known are passed over. A body may be compressed with gzip or zstd.";

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        operation(
            "/v1/events/assignments",
            "sendAssignments",
            "Stores who saw which variant",
            "Assignment",
            &json!({ "user_id": "u-1", "experiment_id": "checkout", "variant": "new",
                "assigned_at": "2026-01-05T09:30:00Z", "context": { "platform": "ios" } }),
        ),
        operation(
            "/v1/events/metrics",
            "sendMetricEvents",
            "Stores what users did",
            "MetricEvent",
            &json!({ "user_id": "u-1", "experiment_id": "checkout", "event_type": "purchase",
                "timestamp": "2026-01-05T09:31:00Z", "value": "14.50", "event_id": "order-17" }),
        ),
    ]
}

fn operation(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    event: &'static str,
    example: &Value,
) -> Operation {
    let line = example.to_string();
    let body =
        json!({ "oneOf": [schema::reference(event), schema::list(schema::reference(event))] });
    Operation::new(Method::POST, path, id, summary)
        .tag("events")
        .describe(RULES)
        .header(
            "Idempotency-Key",
            schema::with(schema::matching("^[!-~]+$"), "maxLength", 255),
            "Makes it safe to send the same request again: the same key with the same body counts once, with another body it is refused.",
        )
        .body(body, json!([example]))
        .or_body("application/x-ndjson", "One event per line.", &line)
        .answers::<Accepted>(StatusCode::ACCEPTED, "The good events are on the disk.")
        .problems(&[422])
}

/// The schemas of what clients send.
pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    definition::schemas()
}

/// What became of the events of a request.
#[derive(Serialize, JsonSchema)]
struct Accepted {
    /// Events that are stored.
    accepted: usize,
    /// The first 1,000 of the events that are not, and why.
    rejected: Vec<Rejection>,
    /// How many events are not stored, where any are not.
    #[serde(skip_serializing_if = "is_zero")]
    rejected_total: u64,
    /// How many of them by field and kind of fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected_by_reason: Vec<RejectionCount>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub(crate) async fn assignments(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    ingest(app, EventKind::Assignment, who, &headers, body).await
}

pub(crate) async fn metrics(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    ingest(app, EventKind::Metric, who, &headers, body).await
}

async fn ingest(
    app: Arc<App>,
    kind: EventKind,
    who: Who,
    headers: &HeaderMap,
    body: Body,
) -> Answer<Response> {
    let key = match headers.get("idempotency-key") {
        Some(key) => Some(
            key.to_str()
                .map_err(|_| Problem::bad_request("the Idempotency-Key is not visible ASCII text"))?
                .to_owned(),
        ),
        None => None,
    };
    let layout = layout(headers);
    let received = body::receive(&app, who.clone(), headers, body).await?;
    let now = (app.clock)();
    let is_small = received.is_small();
    let app_of_work = Arc::clone(&app);
    let judge = move || {
        let body = received.unpack()?;
        let judged = (app_of_work.ingest).judge(kind, &body.bytes, layout, key.as_deref(), now);
        judged.map_err(|error| refused(&error))
    };
    let judged = if is_small {
        judge()?
    } else {
        body::in_turn(&app, &who, judge).await?
    };
    store(&app, &who, judged, now).await
}

async fn store(
    app: &Arc<App>,
    who: &Who,
    mut judged: Judged,
    now: trialog_model::time::UnixMicros,
) -> Answer<Response> {
    let mut rejected = std::mem::take(&mut judged.rejected);
    let accepted = judged.batch.len();
    app.names
        .note(app, who, judged.batch.experiments(), now)
        .await;
    keep(app, judged, now).await?;
    app.answers.fit(who, &mut rejected);
    Ok(respond(Accepted {
        accepted,
        rejected_total: rejected.total(),
        rejected_by_reason: rejected.by_reason(),
        rejected: rejected.listed,
    }))
}

/// Hands the good events over; once it returns, they are durable.
pub(crate) async fn keep(
    app: &App,
    judged: Judged,
    now: trialog_model::time::UnixMicros,
) -> Answer<()> {
    let (durable, outcome) = tokio::sync::oneshot::channel();
    // A client that went away does not wait; its events are stored all the same.
    let reply = Box::new(move |outcome| drop(durable.send(outcome)));
    app.ingest
        .submit(judged, now, reply)
        .map_err(|refused| match refused {
            Refused::Full => Problem::busy(
                "events come in faster than they can be written: send these again shortly",
                1,
            ),
            Refused::Closed => Problem::unavailable(
                "the server is shutting down: send these events again shortly",
                5,
            ),
        })?;
    match outcome.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(cannot_write(&error)),
        Err(_) => Err(Problem::unavailable(
            "the server is shutting down: send these events again shortly",
            5,
        )),
    }
}

/// 202 where anything was accepted or nothing was sent; 422 where all of it was bad.
fn respond(answer: Accepted) -> Response {
    match answer.rejected.first() {
        Some(first) if answer.accepted == 0 => {
            let detail = format!(
                "no event was accepted; the first, at index {}: `{}` {}",
                first.index, first.field, first.reason
            );
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
                .with("accepted", json!(0))
                .with("rejected", json!(answer.rejected))
                .with("rejected_total", json!(answer.rejected_total))
                .with("rejected_by_reason", json!(answer.rejected_by_reason))
                .into_response()
        }
        _ => (StatusCode::ACCEPTED, Json(answer)).into_response(),
    }
}

fn layout(headers: &HeaderMap) -> Layout {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match essence {
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines" => Layout::Lines,
        _ => Layout::Detect,
    }
}

pub(crate) fn refused(error: &IngestError) -> Problem {
    let status = match error {
        IngestError::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
        IngestError::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        IngestError::Store(error) => return not_stored(&error.to_string()),
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, error.to_string())
}

fn cannot_write(error: &WarehouseError) -> Problem {
    match error {
        WarehouseError::SourceUsed => refused(&IngestError::KeyReused),
        // What such a server says has its own mend.
        WarehouseError::Server { .. } => not_stored(&error.chain()),
        _ => {
            let mend = "free space on the disk or mend the directory, then send these events again";
            not_stored(&format!("{}; {mend}", error.chain()))
        }
    }
}

fn not_stored(reason: &str) -> Problem {
    Problem::unavailable(format!("the events were not stored: {reason}"), 30)
}
