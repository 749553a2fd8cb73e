//! `POST /v1/track`: what a unit did, logged for every experiment that it is in.
//!
//! One event of the request becomes one metric event for each experiment that enrols the
//! unit and lists the event type, as `log_metric` of the SDK makes them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use trialog_model::document::not_json;
use trialog_model::event::{EventError, EventKind, Fault, RawEvent, RawField, Rules, validate};
use trialog_model::ids::ExperimentId;
use trialog_model::json;
use trialog_model::time::UnixMicros;
use trialog_model::wire::{BodyError, elements, present, raw_field, raw_value};
use trialog_pipeline::ingest::Rejections;

use super::exposures::blank;
use super::ruleset;
use crate::api::events::{keep, refused};
use crate::app::App;
use crate::body::in_turn;
use crate::body::received;
use crate::limits::Who;
use crate::problem::{Answer, Problem};
use crate::rulesets::Prepared;

/// The most events of a request.
pub(crate) const MAX_EVENTS: usize = 10_000;

/// An event of OpenFeature's tracking, its members as written.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

/// What the application says beside the name; only the value counts.
#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
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
        let (own, runtime) = (Arc::clone(&app), Handle::current());
        in_turn(&app, &who, move || {
            runtime.block_on(log(&own, &prepared, &body, now))
        })
        .await?
    };
    app.answers.fit(&who, &mut rejected);
    let n_accepted = n_events - rejected.total() as usize;
    let answer = json!({
        "accepted": n_accepted, "logged": n_logged, "unlisted": n_unlisted,
        "rejected": rejected.listed, "rejected_total": rejected.total(),
        "rejected_by_reason": rejected.by_reason(),
    });
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
                let own = &self.tracked[place];
                (own.index, own.event(id.as_str(), now))
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
        let mut own = match read(index, raw, app.ingest.rules(now)) {
            Ok(own) => own,
            Err(error) => {
                app.ingest.note_rejected(EventKind::Metric, &error);
                rejected.note(index, error);
                continue;
            }
        };
        n_decisions += prepared.ruleset.n_listing(&own.name);
        let before = places.len();
        if n_decisions <= MAX_DECISIONS {
            let ids = (prepared.ruleset).counting(&own.name, &own.unit, &own.context);
            places.extend(ids.map(|id| (tracked.len(), id)));
        }
        if n_decisions > MAX_DECISIONS || places.len() > max_made {
            return Err(too_many(index, max_made));
        }
        n_unlisted += usize::from(places.len() == before);
        // It has told all that it is for.
        own.context = Map::new();
        tracked.push(own);
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

/// An event that is good, wherever it counts.
struct Known<'a> {
    index: u64,
    name: Cow<'a, str>,
    unit: String,
    context: Map<String, Value>,
    event_id: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    value: Option<&'a RawValue>,
}

fn read(index: u64, sent: &[u8], rules: Rules) -> Result<Known<'_>, EventError> {
    let members: Members<'_> = object("event", sent)?;
    let name = match raw_field(members.name) {
        RawField::Text(name) => name,
        RawField::Absent => {
            return Err(missing("name", "is missing: give the event type"));
        }
        _ => {
            return Err(malformed(
                "name",
                "is no text: give the event type in quotes",
            ));
        }
    };
    let mut context: Map<String, Value> = match members.context {
        Some(context) => {
            json::check(context.get()).map_err(|error| malformed("context", not_json(&error)))?;
            object("context", context.get().as_bytes())?
        }
        None => Map::new(),
    };
    let Some(Value::String(unit)) = context.remove("targetingKey") else {
        let reason = "has no `targetingKey`: give the user id as text";
        return Err(missing("context", reason));
    };
    let details: Option<Details<'_>> = match members.details {
        Some(details) => Some(object("details", details.get().as_bytes())?),
        None => None,
    };
    let known = Known {
        index,
        name,
        unit,
        context,
        event_id: members.event_id,
        timestamp: members.timestamp,
        value: details.and_then(|own| own.value),
    };
    // Judged also where it counts nowhere: the experiment makes no difference.
    match validate(
        EventKind::Metric,
        known.event("any", rules.received_at),
        rules,
    ) {
        Ok(_) => Ok(known),
        Err(error) if error.field == "user_id" => Err(EventError {
            field: "context",
            reason: format!("has a `targetingKey` that {}", error.reason),
            ..error
        }),
        Err(error) => Err(error),
    }
}

fn object<'a, T: Deserialize<'a>>(field: &'static str, sent: &'a [u8]) -> Result<T, EventError> {
    if !sent.starts_with(b"{") {
        return Err(malformed(field, "is not a JSON object"));
    }
    serde_json::from_slice(sent).map_err(|error| malformed(field, not_json(&error)))
}

fn malformed(field: &'static str, reason: impl Into<String>) -> EventError {
    EventError {
        field,
        fault: Fault::Malformed,
        reason: reason.into(),
    }
}

fn missing(field: &'static str, reason: &str) -> EventError {
    EventError {
        field,
        fault: Fault::Missing,
        reason: reason.to_owned(),
    }
}

impl Known<'_> {
    /// The metric event for one experiment.
    fn event<'e>(&'e self, experiment_id: &'e str, now: UnixMicros) -> RawEvent<'e> {
        let mut event = RawEvent {
            experiment_id: RawField::Text(experiment_id.into()),
            name: RawField::Text(self.name.as_ref().into()),
            value: raw_value(self.value),
            event_id: raw_field(self.event_id),
            ..blank(&self.unit, now)
        };
        if let Some(timestamp) = self.timestamp {
            event.timestamp = raw_field(Some(timestamp));
        }
        event
    }
}
