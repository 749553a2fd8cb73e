//! Counts how the events of one type were used.

use serde::{Deserialize, Serialize};

/// What became of the events of one type, after copies were removed.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// The event type.
    pub event_type: String,
    /// All events.
    pub events: u64,
    /// Events that count in at least one metric.
    pub counted: u64,
    /// Events of exposed users before their exposure.
    pub before_exposure: u64,
    /// Events of exposed users after the end of every window.
    pub after_window: u64,
    /// Events of users without an exposure.
    pub unexposed: u64,
    /// Events of users who are left out: of several variants, or forced.
    pub excluded: u64,
    /// Events of users whose variant is not aggregated.
    pub unknown_variant: u64,
    /// Users with events and without an exposure.
    pub unexposed_users: u64,
    /// Users with events and with an exposure.
    pub senders_exposed: u64,
    /// Ids of some users without an exposure; a text id is the integer that `trialog user-id`
    /// gives.
    #[serde(default, with = "decimal_texts")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Vec<String>", inner(regex(pattern = "^-?[0-9]+$")))
    )]
    pub unexposed_sample: Vec<i64>,
}

/// Ids as JSON texts: many readers of JSON round integers beyond 2^53.
mod decimal_texts {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(ids: &[i64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ids.iter().map(i64::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<i64>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let id = |text: String| text.parse().map_err(D::Error::custom);
        texts.into_iter().map(id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::EventCounts;

    #[test]
    fn ids_beyond_the_integers_of_javascript_are_texts_and_read_back() {
        let counts = EventCounts {
            event_type: "buy".to_owned(),
            unexposed_sample: vec![i64::MIN, 42],
            ..EventCounts::default()
        };
        let json = serde_json::to_string(&counts).unwrap();
        assert!(
            json.ends_with(r#""unexposed_sample":["-9223372036854775808","42"]}"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<EventCounts>(&json).unwrap(), counts);
    }
}
