//! `POST /v1/track`: what a unit did, logged for every experiment that it is in.
//!
//! One event of the request becomes one metric event for each experiment that enrols the
//! unit and lists the event type, as `log_metric` of the SDK makes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use trialog_model::assignment::Ruleset;
use trialog_model::event::{EventKind, RawEvent};
use trialog_model::time::UnixMicros;
use trialog_model::wire::raw_field;
use trialog_pipeline::ingest::Rejection;

use super::exposures::blank;
use super::ruleset;
use crate::app::App;
use crate::events::{keep, refused};
use crate::experiments::received;
use crate::problem::{Answer, Problem};

/// The most events of a request.
pub(crate) const MAX_EVENTS: usize = 10_000;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// An event of OpenFeature's tracking.
#[derive(Deserialize)]
struct Tracked<'a> {
    #[serde(borrow, default)]
    event_id: Option<&'a RawValue>,
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(default)]
    context: Map<String, Value>,
    #[serde(borrow, default)]
    details: Option<Details<'a>>,
}

/// What the application says beside the name; only the value counts.
#[derive(Deserialize)]
struct Details<'a> {
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

pub(crate) async fn track(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body = received(body)?;
    let request: Request<'_> = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("not an object with `events`: {error}")))?;
    let n_events = request.events.len();
    if n_events > MAX_EVENTS {
        let detail =
            format!("the request has more than {MAX_EVENTS} events: send them in several requests");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let prepared = ruleset(&app).await?;
    let now = (app.clock)();
    let (judged, mut rejected, n_unlisted) = {
        let mut rejected = Vec::new();
        let mut tracked = Vec::with_capacity(n_events);
        for (index, raw) in (0..).zip(&request.events) {
            match read(index, raw) {
                Ok(own) => tracked.push((index, own)),
                Err(refusal) => rejected.push(refusal),
            }
        }
        let mut made = Vec::new();
        let mut n_unlisted = 0_usize;
        for (index, own) in &tracked {
            let before = made.len();
            add(&prepared.ruleset, *index, own, now, &mut made);
            n_unlisted += usize::from(made.len() == before);
        }
        let judged = (app.ingest.judge_made(EventKind::Metric, made, now))
            .map_err(|error| refused(&error))?;
        (judged, rejected, n_unlisted)
    };
    let mut judged = judged;
    let n_logged = judged.batch.len();
    rejected.append(&mut judged.rejected);
    // An event that is refused is refused for every experiment alike.
    let mut seen = BTreeSet::new();
    rejected.retain(|own| seen.insert(own.index));
    rejected.sort_by_key(|own| own.index);
    keep(&app, judged, now).await?;
    let n_accepted = n_events - rejected.len();
    let answer = json!({
        "accepted": n_accepted, "logged": n_logged, "unlisted": n_unlisted, "rejected": rejected,
    });
    if n_accepted == 0 && n_events > 0 {
        let first = &rejected[0];
        let detail = format!(
            "no event was accepted; the first, at index {}: `{}` {}",
            first.index, first.field, first.reason
        );
        return Ok(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
            .with("accepted", json!(0))
            .with("rejected", json!(rejected))
            .into_response());
    }
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// An event whose name and unit are there.
struct Known<'a> {
    tracked: Tracked<'a>,
    name: String,
    unit: String,
}

fn read<'a>(index: u64, raw: &'a RawValue) -> Result<Known<'a>, Rejection> {
    let reject = |field, reason: String| Rejection {
        index,
        field,
        reason,
    };
    let mut tracked: Tracked<'a> = serde_json::from_str(raw.get())
        .map_err(|error| reject("event", format!("cannot be read: {error}")))?;
    let Some(name) = tracked.name.take() else {
        return Err(reject("name", "is missing: give the event type".to_owned()));
    };
    match tracked.context.remove("targetingKey") {
        Some(Value::String(unit)) if !unit.is_empty() => Ok(Known {
            tracked,
            name,
            unit,
        }),
        _ => {
            let reason = "has no `targetingKey`: give the user id as text".to_owned();
            Err(reject("context", reason))
        }
    }
}

/// Adds the event for every experiment and holdout in which it counts.
fn add<'a>(
    ruleset: &'a Ruleset,
    index: u64,
    own: &'a Known<'_>,
    now: UnixMicros,
    made: &mut Vec<(u64, RawEvent<'a>)>,
) {
    let details = own.tracked.details.as_ref();
    for experiment_id in ruleset.counting(&own.name, &own.unit, &own.tracked.context) {
        let mut event = RawEvent {
            experiment_id: trialog_model::event::RawField::Text(experiment_id.as_str().into()),
            name: trialog_model::event::RawField::Text(own.name.as_str().into()),
            value: raw_field(details.and_then(|own| own.value)),
            event_id: raw_field(own.tracked.event_id),
            ..blank(&own.unit, now)
        };
        if let Some(timestamp) = own.tracked.timestamp {
            event.timestamp = raw_field(Some(timestamp));
        }
        made.push((index, event));
    }
}
