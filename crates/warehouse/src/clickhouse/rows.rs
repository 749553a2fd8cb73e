//! Rows on their way into ClickHouse, in its format `RowBinary`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use trialog_model::event::EventKind;

use crate::batch::Batch;

/// What becomes of users that are texts, beside their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserTexts {
    Kept,
    Dropped,
}

/// The statement that inserts `batch` under `number`, and its rows.
pub(super) fn insertion(batch: &Batch, number: u64, user_texts: UserTexts) -> (String, Vec<u8>) {
    let mut rows = Vec::with_capacity(batch.len() * 96);
    let is_assignment = batch.kind() == EventKind::Assignment;
    for row in (0..batch.len()).map(|row| batch.row(row)) {
        text(&mut rows, row.experiment);
        rows.extend_from_slice(&row.user.to_le_bytes());
        rows.extend_from_slice(&row.timestamp.to_le_bytes());
        text(&mut rows, row.name);
        if is_assignment {
            rows.push(u8::from(row.value != 0));
        } else {
            rows.extend_from_slice(&row.value.to_le_bytes());
        }
        rows.extend_from_slice(&row.event_id.to_le_bytes());
        if is_assignment {
            text(&mut rows, row.context);
            attributes(&mut rows, row.context);
            match user_texts {
                UserTexts::Kept => text(&mut rows, row.user_text),
                UserTexts::Dropped => text(&mut rows, ""),
            }
        }
        rows.extend_from_slice(&number.to_le_bytes());
    }
    let columns = match batch.kind() {
        EventKind::Assignment => {
            "assignments (experiment_id, user_id, assigned_at, variant, forced, event_id, context, attributes, user_text, batch)"
        }
        EventKind::Metric => {
            "metric_events (experiment_id, user_id, occurred_at, event_type, value, event_id, batch)"
        }
    };
    (format!("INSERT INTO {columns} FORMAT RowBinary"), rows)
}

/// The pairs of a context by which segments are asked for: texts as they are, numbers and
/// booleans as JSON writes them. The embedded warehouse compares the same.
fn attributes(rows: &mut Vec<u8>, context: &str) {
    let pairs: BTreeMap<String, &RawValue> = serde_json::from_str(context).unwrap_or_default();
    let pairs: Vec<(String, String)> = (pairs.into_iter())
        .filter_map(
            |(key, value)| match serde_json::from_str::<String>(value.get()) {
                Ok(text) => Some((key, text)),
                Err(_) if value.get() == "null" => None,
                Err(_) => Some((key, value.get().to_owned())),
            },
        )
        .collect();
    length(rows, pairs.len());
    for (key, value) in &pairs {
        text(rows, key);
        text(rows, value);
    }
}

fn text(rows: &mut Vec<u8>, text: &str) {
    length(rows, text.len());
    rows.extend_from_slice(text.as_bytes());
}

/// A length in LEB128.
fn length(rows: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        rows.push((length as u8) | 0x80);
        length >>= 7;
    }
    rows.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::EventRow;

    #[test]
    fn a_row_has_its_columns_in_order_and_pairs_as_they_are_compared() {
        let mut batch = Batch::new(EventKind::Assignment);
        batch.push(&EventRow {
            experiment: "e",
            user: -1,
            timestamp: 2,
            name: "v",
            value: 1,
            event_id: 3,
            context: r#"{"b":1.50,"a":"x","n":null}"#,
            user_text: "né",
        });
        let (_, rows) = insertion(&batch, 9, UserTexts::Kept);
        let mut expected = vec![1, b'e'];
        expected.extend((-1i64).to_le_bytes());
        expected.extend(2i64.to_le_bytes());
        expected.extend([1, b'v', 1]);
        expected.extend(3i64.to_le_bytes());
        expected.push(27);
        expected.extend(br#"{"b":1.50,"a":"x","n":null}"#);
        expected.extend([2, 1, b'a', 1, b'x', 1, b'b', 4]);
        expected.extend(b"1.50");
        expected.extend([3, b'n', 0xc3, 0xa9]);
        expected.extend(9u64.to_le_bytes());
        assert_eq!(rows, expected);
        let (_, rows) = insertion(&batch, 9, UserTexts::Dropped);
        let n_before = expected.len() - 8 - 4;
        expected.splice(n_before..n_before + 4, [0]);
        assert_eq!(rows, expected);
    }

    #[test]
    fn lengths_are_leb128() {
        let mut rows = Vec::new();
        [0, 127, 128, 300]
            .into_iter()
            .for_each(|n| length(&mut rows, n));
        assert_eq!(rows, [0, 127, 128, 1, 172, 2]);
    }
}
