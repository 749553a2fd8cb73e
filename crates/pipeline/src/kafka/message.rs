//! Encodes events as messages: the JSON that the HTTP interface accepts as well.

use std::fmt::Write;

use serde_json::value::RawValue;
use trialog_model::decimal::format_units;
use trialog_model::event::EventKind;
use trialog_model::time::UnixMicros;
use trialog_warehouse::batch::EventRow;

/// Writes an event over `text`. Its id travels as the fingerprint that it is kept as, its user
/// as the text that was sent, where that is kept.
pub(super) fn write(kind: EventKind, row: &EventRow<'_>, text: &mut String) {
    text.clear();
    let quoted = |name: &str| serde_json::Value::from(name).to_string();
    let user = match row.user_text {
        "" => row.user.to_string(),
        sent => quoted(sent),
    };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        r#"{{"user_id":{user},"experiment_id":{},"{}":{},"{}":"{}","event_fingerprint":{}"#,
        quoted(row.experiment),
        kind.name_field(),
        quoted(row.name),
        kind.time_field(),
        UnixMicros(row.timestamp),
        row.event_id,
    );
    match kind {
        EventKind::Metric => {
            let _ = write!(text, r#","value":{}"#, format_units(row.value.into()));
        }
        EventKind::Assignment => {
            if row.value != 0 {
                text.push_str(r#","forced":true"#);
            }
            // What was accepted is an object; anything else would spoil the message.
            if serde_json::from_str::<&RawValue>(row.context).is_ok() {
                let _ = write!(text, r#","context":{}"#, row.context);
            }
        }
    }
    text.push('}');
}

/// Returns the key of an event's message.
pub(super) fn key(row: &EventRow<'_>, shards: u16, text: &mut String) {
    text.clear();
    text.push_str(row.experiment);
    if shards > 1 {
        let _ = write!(text, ":{}", row.user.rem_euclid(shards.into()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trialog_model::user_id::user_id_from_text;
    use trialog_model::wire::{Layout, decode};
    use trialog_warehouse::batch::Batch;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back_the_same(
            user in any::<i64>(),
            micros in 1_000_000_000_000_000i64..1_700_000_000_000_000,
            units in -999_999_999_999_999_999i64..=999_999_999_999_999_999,
            event_id in any::<i64>(),
            name in "[a-z\"\\\\é ]{1,20}",
            forced in any::<bool>(),
            sent in "[a-z\"\\\\é\n ]{0,5}",
        ) {
            for kind in EventKind::ALL {
                let is_metric = kind == EventKind::Metric;
                // What was accepted has no space around it.
                let user_text = if is_metric { "" } else { sent.trim() };
                let row = EventRow {
                    experiment: "gate:1",
                    user: if user_text.is_empty() { user } else { user_id_from_text(user_text) },
                    timestamp: micros,
                    name: name.trim(),
                    value: if is_metric { units } else { forced.into() },
                    event_id,
                    context: if is_metric { "" } else { r#"{"a": [1, "x"]}"# },
                    user_text,
                };
                if row.name.is_empty() {
                    continue;
                }
                let mut text = String::new();
                write(kind, &row, &mut text);
                let mut batch = Batch::new(kind);
                decode(kind, text.as_bytes(), Layout::Detect, UnixMicros(micros), |_, event| {
                    batch.push_event(&event.unwrap(), 0);
                }).unwrap();
                prop_assert_eq!(batch.row(0), row);
            }
        }
    }

    #[test]
    fn a_large_experiment_is_spread_over_its_shards() {
        let mut row = EventRow {
            experiment: "gate",
            user: -1,
            timestamp: 0,
            name: "a",
            value: 0,
            event_id: 0,
            context: "",
            user_text: "",
        };
        let mut text = String::new();
        key(&row, 1, &mut text);
        assert_eq!(text, "gate");
        key(&row, 8, &mut text);
        assert_eq!(text, "gate:7");
        row.user = 9;
        key(&row, 8, &mut text);
        assert_eq!(text, "gate:1");
    }
}
