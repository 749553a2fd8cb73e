//! `POST /v1/track`: what a unit did, logged for every experiment that it is in.
//!
//! One event of the request becomes one metric event for each experiment that enrols the
//! unit and lists the event type, as `log_metric` of the SDK makes them.

use std::borrow::Cow;
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
use trialog_model::document::not_json;
use trialog_model::event::{EventError, EventKind, Fault, RawEvent, RawField, Rules, validate};
use trialog_model::json;
use trialog_model::time::UnixMicros;
use trialog_model::wire::{BodyError, elements, present, raw_field, raw_value};
use trialog_pipeline::ingest::Rejections;

use super::exposures::blank;
use super::ruleset;
use crate::app::App;
use crate::events::{keep, refused};
use crate::experiments::received;
use crate::problem::{Answer, Problem};

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

pub(crate) async fn track(
    State(app): State<Arc<App>>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body = received(body)?;
    let sent = elements(&body, "events", MAX_EVENTS).map_err(|error| {
        let status = match error {
            BodyError::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, error.to_string())
    })?;
    let n_events = sent.len();
    let prepared = ruleset(&app).await?;
    let now = (app.clock)();
    let (judged, rejected, n_unlisted) = {
        let mut rejected = Rejections::default();
        let mut made = Vec::new();
        let mut n_unlisted = 0_usize;
        let tracked: Vec<_> = (0..)
            .zip(&sent)
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
            let places = (prepared.ruleset).counting(&own.name, &own.unit, &own.context);
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
