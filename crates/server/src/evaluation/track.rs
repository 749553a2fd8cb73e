//! `POST /v1/track`: what a unit did, logged for every experiment that it is in.
//!
//! One event of the request becomes one metric event for each experiment that enrols the
//! unit and lists the event type, as `log_metric` of the SDK makes them.

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
use trialog_model::event::{EventError, EventKind, Fault, RawEvent, RawField, Rules, validate};
use trialog_model::time::UnixMicros;
use trialog_model::wire::raw_field;
use trialog_pipeline::ingest::Rejections;

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
    let (judged, rejected, n_unlisted) = {
        let mut rejected = Rejections::default();
        let mut made = Vec::new();
        let mut n_unlisted = 0_usize;
        let tracked: Vec<_> = (0..)
            .zip(&request.events)
            .filter_map(|(index, raw)| {
                let read = read(index, raw, app.ingest.rules(now));
                let note = |error| {
                    app.ingest.note_rejected(EventKind::Metric, &error);
                    rejected.note(index, error);
                };
                read.map_err(note).ok()
            })
            .collect();
        for own in &tracked {
            let before = made.len();
            let places = (prepared.ruleset).counting(&own.name, &own.unit, &own.tracked.context);
            made.extend(places.map(|id| (own.index, own.event(id.as_str(), now))));
            n_unlisted += usize::from(made.len() == before);
        }
        let judged = app.ingest.judge_made(EventKind::Metric, made, now);
        (
            judged.map_err(|error| refused(&error))?,
            rejected,
            n_unlisted,
        )
    };
    let n_logged = judged.batch.len();
    keep(&app, judged, now).await?;
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

/// An event that is good, wherever it counts.
struct Known<'a> {
    index: u64,
    tracked: Tracked<'a>,
    name: String,
    unit: String,
}

fn read<'a>(index: u64, raw: &'a RawValue, rules: Rules) -> Result<Known<'a>, EventError> {
    let reject = |field, fault, reason: String| EventError {
        field,
        fault,
        reason,
    };
    let mut tracked: Tracked<'a> = serde_json::from_str(raw.get()).map_err(|error| {
        reject(
            "event",
            Fault::Malformed,
            format!("cannot be read: {error}"),
        )
    })?;
    let Some(name) = tracked.name.take() else {
        return Err(reject(
            "name",
            Fault::Missing,
            "is missing: give the event type".to_owned(),
        ));
    };
    let Some(Value::String(unit)) = tracked.context.remove("targetingKey") else {
        let reason = "has no `targetingKey`: give the user id as text".to_owned();
        return Err(reject("context", Fault::Missing, reason));
    };
    let known = Known {
        index,
        tracked,
        name,
        unit,
    };
    // Judged also where it counts nowhere: the experiment makes no difference.
    match validate(
        EventKind::Metric,
        known.event("any", rules.received_at),
        rules,
    ) {
        Ok(_) => Ok(known),
        Err(error) if error.field == "user_id" => Err(reject(
            "context",
            error.fault,
            format!("has a `targetingKey` that {}", error.reason),
        )),
        Err(error) => Err(error),
    }
}

impl Known<'_> {
    /// The metric event for one experiment.
    fn event<'e>(&'e self, experiment_id: &'e str, now: UnixMicros) -> RawEvent<'e> {
        let tracked = &self.tracked;
        let value = tracked.details.as_ref().and_then(|own| own.value);
        let mut event = RawEvent {
            experiment_id: RawField::Text(experiment_id.into()),
            name: RawField::Text(self.name.as_str().into()),
            value: raw_field(value),
            event_id: raw_field(tracked.event_id),
            ..blank(&self.unit, now)
        };
        if let Some(timestamp) = tracked.timestamp {
            event.timestamp = raw_field(Some(timestamp));
        }
        event
    }
}
