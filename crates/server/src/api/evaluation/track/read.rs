//! Reads the events of OpenFeature's tracking.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use trialog_model::document::not_json;
use trialog_model::event::{EventError, EventKind, Fault, RawEvent, RawField, Rules, validate};
use trialog_model::json;
use trialog_model::time::UnixMicros;
use trialog_model::wire::{present, raw_field, raw_value};

use crate::api::evaluation::exposures::blank;

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

/// A valid event, wherever it counts.
pub(super) struct Known<'a> {
    pub(super) index: u64,
    pub(super) name: Cow<'a, str>,
    pub(super) unit: String,
    pub(super) context: Map<String, Value>,
    event_id: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    value: Option<&'a RawValue>,
}

/// Reads the event at `index`, and validates it.
///
/// # Errors
///
/// The member that breaks a rule, and how.
pub(super) fn read(index: u64, sent: &[u8], rules: Rules) -> Result<Known<'_>, EventError> {
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
        value: details.and_then(|details| details.value),
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
    /// Makes the metric event for one experiment.
    pub(super) fn event<'e>(&'e self, experiment_id: &'e str, now: UnixMicros) -> RawEvent<'e> {
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
