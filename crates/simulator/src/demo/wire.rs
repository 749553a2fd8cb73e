//! Defines the demo's events, which serialise to the JSON that the ingest API accepts.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use trialog_model::decimal::Value;
use trialog_model::ids::{EventType, ExperimentId, Variant};
use trialog_model::time::UnixMicros;

/// The events of one scenario, each list in the order of delivery.
///
/// Delivery is not the order of time: some events are late, some come twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    /// Who saw what.
    pub assignments: Vec<AssignmentEvent>,
    /// What they did.
    pub metrics: Vec<MetricEvent>,
}

/// One assignment event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AssignmentEvent {
    /// A UUID; a repeated delivery has the same.
    pub event_id: String,
    /// The user.
    pub user_id: i64,
    /// The experiment.
    pub experiment_id: ExperimentId,
    /// What the user saw.
    pub variant: Variant,
    /// When the user saw it.
    #[serde(serialize_with = "rfc3339")]
    pub assigned_at: UnixMicros,
    /// Whether a person chose the variant by hand, as testers do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// Where the user was.
    pub context: Context,
}

/// The context of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Context {
    /// `ios`, `android` or `web`.
    pub platform: &'static str,
    /// Country code.
    pub geo: &'static str,
    /// `phone`, `tablet` or `desktop`.
    pub device: &'static str,
    /// The visit.
    pub session_id: String,
}

/// One metric event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricEvent {
    /// A UUID; a repeated delivery has the same.
    pub event_id: String,
    /// The user.
    pub user_id: i64,
    /// The experiment.
    pub experiment_id: ExperimentId,
    /// What the user did.
    pub event_type: EventType,
    /// Its value; absent for events that only count.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "exact_number"
    )]
    pub value: Option<Value>,
    /// When the user did it.
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: UnixMicros,
}

fn rfc3339<S: Serializer>(time: &UnixMicros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// Writes the decimal digits as a JSON number, past any binary float.
#[expect(
    clippy::ref_option,
    reason = "the shape that serde's `serialize_with` asks for"
)]
fn exact_number<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    let digits = value
        .map(|value| RawValue::from_string(value.to_string()))
        .transpose();
    digits
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_documented_json() {
        let metric = MetricEvent {
            event_id: "e1".to_owned(),
            user_id: 7,
            experiment_id: ExperimentId::new("gate").unwrap(),
            event_type: EventType::new("purchase").unwrap(),
            value: Value::from_units(199_900),
            timestamp: UnixMicros(1_700_000_000_000_000),
        };
        assert_eq!(
            serde_json::to_string(&metric).unwrap(),
            r#"{"event_id":"e1","user_id":7,"experiment_id":"gate","event_type":"purchase","value":19.9900,"timestamp":"2023-11-14T22:13:20Z"}"#
        );
        let assignment = AssignmentEvent {
            event_id: "e2".to_owned(),
            user_id: 7,
            experiment_id: ExperimentId::new("gate").unwrap(),
            variant: Variant::new("late").unwrap(),
            assigned_at: UnixMicros(1_700_000_000_000_000),
            forced: false,
            context: Context {
                platform: "ios",
                geo: "DE",
                device: "phone",
                session_id: "s".to_owned(),
            },
        };
        assert_eq!(
            serde_json::to_string(&assignment).unwrap(),
            r#"{"event_id":"e2","user_id":7,"experiment_id":"gate","variant":"late","assigned_at":"2023-11-14T22:13:20Z","context":{"platform":"ios","geo":"DE","device":"phone","session_id":"s"}}"#
        );
    }
}
