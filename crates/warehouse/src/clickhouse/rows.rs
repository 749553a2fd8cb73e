//! Encodes and decodes rows in ClickHouse's format `RowBinary`.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde_json::value::RawValue;
use trialog_model::event::EventKind;

use crate::batch::{Batch, EventRow};
use crate::fold::split::value_text;

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
        .filter_map(|(key, value)| Some((key, value_text(value.get())?.into_owned())))
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

/// The longest text that is read: none that was ingested is longer.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Reads rows as `sql/events.sql` selects them.
pub(super) struct EventDecoder {
    kind: EventKind,
    experiment: String,
    name: String,
    context: String,
    user_text: String,
    /// Bytes of texts of the current block.
    n_bytes: usize,
}

impl EventDecoder {
    /// Reads events of `kind`.
    pub(super) fn new(kind: EventKind) -> Self {
        Self {
            kind,
            experiment: String::new(),
            name: String::new(),
            context: String::new(),
            user_text: String::new(),
            n_bytes: 0,
        }
    }

    /// Bytes of texts since the block began.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Begins with another block.
    pub(super) fn begin_block(&mut self) {
        self.n_bytes = 0;
    }

    /// Adds the next row to `batch`; false at the end.
    pub(super) fn read_row(
        &mut self,
        from: &mut impl BufRead,
        batch: &mut Batch,
    ) -> io::Result<bool> {
        if from.fill_buf()?.is_empty() {
            return Ok(false);
        }
        read_text(from, &mut self.experiment)?;
        let user = read_integer(from)?;
        let timestamp = read_integer(from)?;
        read_text(from, &mut self.name)?;
        let value = read_integer(from)?;
        let event_id = read_integer(from)?;
        if self.kind == EventKind::Assignment {
            read_text(from, &mut self.context)?;
            read_text(from, &mut self.user_text)?;
            self.n_bytes += self.context.len() + self.user_text.len();
        }
        batch.push(&EventRow {
            experiment: &self.experiment,
            user,
            timestamp,
            name: &self.name,
            value,
            event_id,
            context: &self.context,
            user_text: &self.user_text,
        });
        Ok(true)
    }
}

fn read_integer(from: &mut impl BufRead) -> io::Result<i64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(i64::from_le_bytes(bytes))
}

/// Reads a text that stands after its length in LEB128.
fn read_text(from: &mut impl BufRead, text: &mut String) -> io::Result<()> {
    let (mut length, mut shift) = (0u64, 0);
    loop {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        length |= u64::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] < 0x80 {
            break;
        }
        if length > MAX_TEXT_BYTES || shift > 56 {
            return Err(unreadable());
        }
    }
    if length > MAX_TEXT_BYTES {
        return Err(unreadable());
    }
    let mut bytes = std::mem::take(text).into_bytes();
    bytes.clear();
    bytes.resize(length as usize, 0);
    from.read_exact(&mut bytes)?;
    *text = String::from_utf8(bytes).map_err(|_| unreadable())?;
    Ok(())
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer that cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_row_that_is_sent_is_the_row_that_comes_back() {
        let rows = [("e", -1, "v", i64::MIN, ""), ("é", i64::MAX, "", -3, "ann")];
        let sent: Vec<EventRow<'_>> = (rows.iter())
            .map(|&(experiment, user, name, event_id, user_text)| EventRow {
                experiment,
                user,
                timestamp: 2,
                name,
                value: 1,
                event_id,
                context: r#"{"a":"x"}"#,
                user_text,
            })
            .collect();
        let mut bytes = Vec::new();
        for row in &sent {
            text(&mut bytes, row.experiment);
            bytes.extend(row.user.to_le_bytes());
            bytes.extend(row.timestamp.to_le_bytes());
            text(&mut bytes, row.name);
            bytes.extend(row.value.to_le_bytes());
            bytes.extend(row.event_id.to_le_bytes());
            text(&mut bytes, row.context);
            text(&mut bytes, row.user_text);
        }
        let mut batch = Batch::new(EventKind::Assignment);
        let mut decoder = EventDecoder::new(EventKind::Assignment);
        let mut answer = bytes.as_slice();
        while decoder.read_row(&mut answer, &mut batch).unwrap() {}
        assert_eq!(
            (0..batch.len())
                .map(|row| batch.row(row))
                .collect::<Vec<_>>(),
            sent
        );
        // An answer that ends within a row is an error, never a shorter answer.
        let whole = bytes.len() / 2;
        for end in (1..bytes.len()).filter(|end| bytes[..*end].len() != whole) {
            let mut answer = &bytes[..end];
            let mut decoder = EventDecoder::new(EventKind::Assignment);
            let mut batch = Batch::new(EventKind::Assignment);
            let outcome = loop {
                match decoder.read_row(&mut answer, &mut batch) {
                    Ok(true) => {}
                    other => break other,
                }
            };
            assert!(outcome.is_err() || batch.len() == 1, "{end}");
        }
    }
}
