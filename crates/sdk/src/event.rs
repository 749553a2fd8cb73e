//! Defines an event between the call that logs it and the batch that carries it.

use std::sync::Arc;

use serde::Serialize;
use trialog_model::decimal::Value;
use trialog_model::event::{EventKind, MAX_CONTEXT_BYTES, MAX_CONTEXT_KEYS};
use trialog_model::ids::{EventType, ExperimentId, Variant};
use trialog_model::time::UnixMicros;

use crate::context::Context;

/// A queued event. Everything in it is shared or fixed in size.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: u128,
    pub(crate) at: UnixMicros,
    pub(crate) unit: Arc<str>,
    pub(crate) experiment_id: ExperimentId,
    pub(crate) what: What,
}

/// The exposure or the action of the unit.
#[derive(Debug)]
pub(crate) enum What {
    Exposure {
        variant: Variant,
        forced: bool,
        context: Context,
    },
    Metric {
        event_type: EventType,
        value: Value,
    },
}

impl Event {
    pub(crate) fn kind(&self) -> EventKind {
        match self.what {
            What::Exposure { .. } => EventKind::Assignment,
            What::Metric { .. } => EventKind::Metric,
        }
    }

    /// Adds the event as a line of JSON; whether its context had to be left out.
    pub(crate) fn write(&self, line: &mut Vec<u8>) -> bool {
        let (experiment_id, time) = (self.experiment_id.as_str(), self.at.to_rfc3339());
        let event_id = uuid_text(self.id);
        let (written, left_out) = match &self.what {
            What::Exposure {
                variant,
                forced,
                context,
            } => {
                let members = context.members();
                let text = serde_json::to_string(members).unwrap_or_default();
                let fits = text.len() <= MAX_CONTEXT_BYTES && members.len() <= MAX_CONTEXT_KEYS;
                let exposure = Exposure {
                    user_id: &self.unit,
                    experiment_id,
                    variant: variant.as_str(),
                    assigned_at: &time,
                    forced: *forced,
                    context: Some(members).filter(|members| fits && !members.is_empty()),
                    event_id: &event_id,
                };
                (serde_json::to_writer(&mut *line, &exposure), !fits)
            }
            What::Metric { event_type, value } => {
                let metric = Metric {
                    user_id: &self.unit,
                    experiment_id,
                    event_type: event_type.as_str(),
                    value: &value.to_string(),
                    timestamp: &time,
                    event_id: &event_id,
                };
                (serde_json::to_writer(&mut *line, &metric), false)
            }
        };
        debug_assert!(written.is_ok(), "text keys and finite numbers only");
        line.push(b'\n');
        left_out
    }
}

#[derive(Serialize)]
struct Exposure<'a> {
    user_id: &'a str,
    experiment_id: &'a str,
    variant: &'a str,
    assigned_at: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    forced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a trialog_model::assignment::Context>,
    event_id: &'a str,
}

#[derive(Serialize)]
struct Metric<'a> {
    user_id: &'a str,
    experiment_id: &'a str,
    event_type: &'a str,
    value: &'a str,
    timestamp: &'a str,
    event_id: &'a str,
}

/// Creates a UUID of version 7 (RFC 9562, section 5.7): milliseconds, then 74 random bits, which
/// keep it unique even if the clock jumps back.
pub(crate) fn uuid_v7(at: UnixMicros, random: u128) -> u128 {
    let millis = (at.0.max(0) / 1_000) as u128 & 0xffff_ffff_ffff;
    let random_a = random >> 62 & 0xfff;
    let random_b = random & ((1 << 62) - 1);
    millis << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b
}

fn uuid_text(id: u128) -> String {
    let (first, second, third) = (id >> 96, id >> 80 & 0xffff, id >> 64 & 0xffff);
    let (fourth, fifth) = (id >> 48 & 0xffff, id & 0xffff_ffff_ffff);
    format!("{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{fifth:012x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_of_the_standard() {
        // RFC 9562, appendix A.6.
        let random = 0xcc3 << 62 | 0x18c4_dc0c_0c07_398f;
        let id = uuid_v7(UnixMicros(0x017f_22e2_79b0 * 1_000), random);
        assert_eq!(uuid_text(id), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    #[test]
    fn a_context_that_is_too_large_is_left_out_and_the_exposure_is_not() {
        let line = |context: Context| {
            let event = Event {
                id: 1,
                at: UnixMicros(1_700_000_000_000_000),
                unit: "42".into(),
                experiment_id: ExperimentId::new("gate").unwrap(),
                what: What::Exposure {
                    variant: Variant::new("a").unwrap(),
                    forced: false,
                    context,
                },
            };
            let mut line = Vec::new();
            let left_out = event.write(&mut line);
            (
                left_out,
                serde_json::from_slice::<serde_json::Value>(&line).unwrap(),
            )
        };
        let (left_out, written) = line(Context::new().with("platform", "ios"));
        assert_eq!(
            (left_out, &written["context"]["platform"]),
            (false, &"ios".into())
        );
        let (left_out, written) = line(Context::new().with("long", "x".repeat(5_000)));
        assert!(left_out && written["context"].is_null());
        assert_eq!(written["variant"], "a");
    }
}
