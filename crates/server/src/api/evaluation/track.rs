//! `POST /v1/track`: what a unit did, logged for every experiment that it is in.
//!
//! One event of the request becomes one metric event for each experiment that enrols the
//! unit and lists the event type, as `log_metric` of the SDK makes them.

mod read;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, json};
use tokio::runtime::Handle;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_model::wire::{BodyError, elements};
use trialog_pipeline::ingest::{Rejection, RejectionCount, Rejections};

use self::read::{Known, read};
use super::ruleset;
use crate::api::events::{keep, refused};
use crate::app::App;
use crate::body::in_turn;
use crate::body::received;
use crate::limits::Who;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema};
use crate::problem::{Answer, Problem};
use crate::rulesets::Prepared;

/// The most events of a request.
const MAX_EVENTS: usize = 10_000;

pub(super) fn operation() -> Operation {
    let event = json!({
        "event_id": "0198c7a0-5b6e-7c3d-8f00-3b1d5a2c9e10", "name": "purchase",
        "context": { "targetingKey": "42", "platform": "ios" }, "details": { "value": 99.77 },
    });
    Operation::new(Method::POST, "/v1/track", "track", "Logs what units did")
        .describe("Each event becomes a metric event of every experiment that gives the unit a variant and lists the event type, and of every holdout that lists it. Sending an event again with its `event_id` changes nothing.")
        .body(schema::reference("TrackRequest"), json!({ "events": [event] }))
        .answers::<TrackAnswer>(StatusCode::ACCEPTED, "The good events are durable.")
        .problems(&[422])
}

/// The schemas of a request.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("TrackRequest", track_request()),
        ("TrackedEvent", tracked_event()),
    ]
}

fn track_request() -> Schema {
    schema::object([schema::field(
        "events",
        json!({ "type": "array", "items": schema::reference("TrackedEvent"), "maxItems": MAX_EVENTS }),
        "The events.",
    )])
}

fn tracked_event() -> Schema {
    let key = super::context();
    let details = schema::object([schema::optional(
        "value",
        json!({ "type": ["number", "string"] }),
        "The event's value; 1 if absent.",
    )]);
    schema::object([
        schema::field("name", schema::chars(1, 64), "The event type."),
        schema::field("context", key, "Who did it, and what is known about them."),
        schema::optional(
            "event_id",
            schema::text(),
            "Tells copies of the event apart from others.",
        ),
        schema::optional(
            "timestamp",
            json!({ "type": ["string", "integer"] }),
            "When; the time of receipt if absent.",
        ),
        schema::optional("details", details, "What else the application says."),
    ])
}

/// What became of the events of a request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tracked")]
struct TrackAnswer {
    /// Events that were good.
    accepted: usize,
    /// Metric events that were made of them.
    logged: usize,
    /// Good events that count nowhere: nothing that has the unit lists their type.
    unlisted: usize,
    /// The first 1,000 of the events that were refused.
    rejected: Vec<Rejection>,
    /// How many events were refused.
    rejected_total: u64,
    /// How many of them by field and kind of fault.
    rejected_by_reason: Vec<RejectionCount>,
}

/// The most experiments that the events of a request may be tried in, all events together.
const MAX_DECISIONS: usize = 10_000_000;
/// Bytes times experiments up to which a request is judged where it is read.
const MAX_INLINE: usize = 1 << 20;

/// Metric events that are made, stored and acknowledged before more are made of a request.
const PIECE_EVENTS: usize = 10_000;
/// At most so many times the events that a request may bring are made of one.
const MAX_MADE: usize = 10;
/// How often a piece is tried again while the queue of the writer is full.
const MAX_TRIES: u32 = 50;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The events of a request, and where each counts; nothing is made of them yet.
struct Plan<'r> {
    tracked: Vec<Known<'r>>,
    /// Which event counts in which experiment.
    places: Vec<(usize, &'r ExperimentId)>,
    rejected: Rejections,
    n_events: usize,
    n_unlisted: usize,
}

/// What became of a request.
struct Tracked {
    n_logged: usize,
    rejected: Rejections,
    n_events: usize,
    n_unlisted: usize,
}

pub(crate) async fn track(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Who>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body = received(body)?;
    let prepared = ruleset(&app).await?;
    let now = (app.clock)();
    let n_experiments = prepared.ruleset.experiments().len();
    let Tracked {
        n_logged,
        mut rejected,
        n_events,
        n_unlisted,
    } = if body.len().saturating_mul(n_experiments + 1) <= MAX_INLINE {
        log(&app, &prepared, &body, now).await?
    } else {
        let (app_of_work, runtime) = (Arc::clone(&app), Handle::current());
        in_turn(&app, &who, move || {
            runtime.block_on(log(&app_of_work, &prepared, &body, now))
        })
        .await?
    };
    app.answers.fit(&who, &mut rejected);
    let n_accepted = n_events - rejected.total() as usize;
    if n_accepted == 0 && n_events > 0 {
        let first = &rejected.listed[0];
        let detail = format!(
            "no event was accepted; the first, at index {}: `{}` {}",
            first.index, first.field, first.reason
        );
        return Ok(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
            .with("accepted", json!(0))
            .with("rejected", json!(rejected.listed))
            .with("rejected_total", json!(rejected.total()))
            .with("rejected_by_reason", json!(rejected.by_reason()))
            .into_response());
    }
    let answer = TrackAnswer {
        accepted: n_accepted,
        logged: n_logged,
        unlisted: n_unlisted,
        rejected_total: rejected.total(),
        rejected_by_reason: rejected.by_reason(),
        rejected: rejected.listed,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Makes metric events of a request and stores them, piece by piece: memory is for one piece,
/// however many experiments an event counts in.
async fn log(app: &App, prepared: &Prepared, body: &[u8], now: UnixMicros) -> Answer<Tracked> {
    let max_events = usize::try_from(app.settings.ingest.max_events).unwrap_or(usize::MAX);
    let plan = plan(app, prepared, body, max_events, now)?;
    let mut n_logged = 0;
    for piece in plan.places.chunks(PIECE_EVENTS.min(max_events).max(1)) {
        let stored = plan.store(app, piece, now).await;
        n_logged += stored.map_err(|problem| after(problem, n_logged))?;
    }
    Ok(Tracked {
        n_logged,
        rejected: plan.rejected,
        n_events: plan.n_events,
        n_unlisted: plan.n_unlisted,
    })
}

/// Tells that some pieces are stored already.
fn after(problem: Problem, n_logged: usize) -> Problem {
    if n_logged == 0 {
        return problem;
    }
    let detail = format!(
        "{}; {n_logged} of the metric events that this request makes are stored: send it again, events with an `event_id` count once",
        problem.detail()
    );
    problem.with_detail(detail).with("logged", json!(n_logged))
}

impl Plan<'_> {
    /// Makes the events of `piece` and gives how many, once they are durable.
    async fn store(
        &self,
        app: &App,
        piece: &[(usize, &ExperimentId)],
        now: UnixMicros,
    ) -> Answer<usize> {
        let mut n_tries = 0;
        loop {
            let made = piece.iter().map(|&(place, id)| {
                let event = &self.tracked[place];
                (event.index, event.event(id.as_str(), now))
            });
            let judged = app.ingest.judge_made(EventKind::Metric, made, now);
            let judged = judged.map_err(|error| refused(&error))?;
            let n_made = judged.batch.len();
            n_tries += 1;
            match keep(app, judged, now).await {
                Ok(()) => return Ok(n_made),
                // A request of one piece is sent again by its client.
                Err(problem)
                    if problem.status() == StatusCode::TOO_MANY_REQUESTS
                        && self.places.len() > piece.len()
                        && n_tries < MAX_TRIES =>
                {
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                Err(problem) => return Err(problem),
            }
        }
    }
}

/// Judges every event, and counts what it makes before any of it is made.
fn plan<'r>(
    app: &App,
    prepared: &'r Prepared,
    body: &'r [u8],
    max_events: usize,
    now: UnixMicros,
) -> Answer<Plan<'r>> {
    let sent = elements(body, "events", MAX_EVENTS).map_err(|error| {
        let status = match error {
            BodyError::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, error.to_string())
    })?;
    let max_made = max_events.saturating_mul(MAX_MADE);
    let mut rejected = Rejections::default();
    let mut tracked = Vec::new();
    let mut places = Vec::new();
    let (mut n_decisions, mut n_unlisted) = (0_usize, 0_usize);
    for (index, raw) in (0..).zip(&sent) {
        let mut event = match read(index, raw, app.ingest.rules(now)) {
            Ok(event) => event,
            Err(error) => {
                app.ingest.note_rejected(EventKind::Metric, &error);
                rejected.note(index, error);
                continue;
            }
        };
        n_decisions += prepared.ruleset.n_listing(&event.name);
        let before = places.len();
        if n_decisions <= MAX_DECISIONS {
            let ids = (prepared.ruleset).counting(&event.name, &event.unit, &event.context);
            places.extend(ids.map(|id| (tracked.len(), id)));
        }
        if n_decisions > MAX_DECISIONS || places.len() > max_made {
            return Err(too_many(index, max_made));
        }
        n_unlisted += usize::from(places.len() == before);
        // It has told all that it is for.
        event.context = Map::new();
        tracked.push(event);
    }
    Ok(Plan {
        tracked,
        places,
        rejected,
        n_events: sent.len(),
        n_unlisted,
    })
}

/// The first `n_fitting` events make all that a request may make.
fn too_many(n_fitting: u64, max_made: usize) -> Problem {
    let detail = format!(
        "the events of the request count in too many experiments: one request makes at most {max_made} events of them, and tries at most {MAX_DECISIONS} times whether one counts; nothing was stored; send at most {} events at a time",
        n_fitting.max(1)
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}
