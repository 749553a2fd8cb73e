//! Converts a row of a file to the fields of an event.

use std::borrow::Cow;

use trialog_model::cell::{boolean, is_no_value, is_zero, whole_number};
use trialog_model::event::{
    Event, EventError, EventKind, Fault, RawEvent, RawField, Rules, validate,
};
use trialog_model::formula::unescaped;

use super::columns::{Mapping, Origin};
use super::survey::Decisions;
use super::times::Times;
use crate::table::decide::{Meaning, as_meant};
use crate::table::decimal::plain;
use crate::table::{Row, Wanted};

/// The position of each field in the rows of a file with known columns.
pub(crate) struct Layout<'m> {
    mapping: &'m Mapping,
    decisions: &'m Decisions,
    times: &'m Times,
    rules: Rules,
    user: Place<'m>,
    experiment: Place<'m>,
    name: Place<'m>,
    time: Place<'m>,
    value: Place<'m>,
    event_id: Place<'m>,
    event_fingerprint: Place<'m>,
    context: Place<'m>,
    context_columns: Vec<(&'m str, usize, Meaning)>,
    /// Whether texts that a spreadsheet would compute have an apostrophe in front.
    has_escaped: bool,
}

#[derive(Debug, Clone, Copy)]
enum Place<'m> {
    Constant(&'m str),
    Column(usize),
    Nothing,
}

impl<'m> Layout<'m> {
    /// Finds the mapping's columns among those that are `wanted`.
    pub(crate) fn new(
        mapping: &'m Mapping,
        wanted: &[Wanted],
        decisions: &'m Decisions,
        times: &'m Times,
        rules: Rules,
    ) -> Self {
        let find = |name: &str| wanted.iter().position(|column| column.name == name);
        let place = |origin: &'m Origin| match origin {
            Origin::Constant(text) => Place::Constant(text),
            Origin::Column(name) | Origin::Optional(name) => {
                find(name).map_or(Place::Nothing, Place::Column)
            }
            Origin::Nothing => Place::Nothing,
        };
        let context_columns = (mapping.context_columns.iter().zip(&decisions.context))
            .filter_map(|(name, meaning)| Some((name.as_str(), find(name)?, *meaning)))
            .collect();
        Self {
            mapping,
            decisions,
            times,
            rules,
            user: place(&mapping.user),
            experiment: place(&mapping.experiment),
            name: place(&mapping.name),
            time: place(&mapping.time),
            value: place(&mapping.value),
            event_id: place(&mapping.event_id),
            event_fingerprint: place(&mapping.event_fingerprint),
            context: place(&mapping.context),
            context_columns,
            has_escaped: false,
        }
    }

    /// Makes the layout unescape the formulas of an exported CSV.
    pub(crate) fn with_escaped(self, has_escaped: bool) -> Self {
        Self {
            has_escaped,
            ..self
        }
    }

    /// Returns the event in a row; `None` for a row without an event.
    pub(crate) fn event<'r>(
        &self,
        row: Result<Row<'r>, String>,
    ) -> Result<Option<Event<'r>>, EventError>
    where
        'm: 'r,
    {
        let row = row.map_err(|reason| EventError {
            field: "row",
            fault: Fault::Malformed,
            reason,
        })?;
        let get = |place: Place<'m>, meaning: Meaning| -> RawField<'r> {
            match place {
                Place::Constant(text) => RawField::Cell(text),
                Place::Column(column) => {
                    let field = absent(as_meant(&row.fields[column], meaning));
                    match field {
                        RawField::Cell(text) if self.has_escaped => RawField::Cell(unescaped(text)),
                        field => field,
                    }
                }
                Place::Nothing => RawField::Absent,
            }
        };
        let Some(value) = self.value(&row) else {
            return Ok(None);
        };
        let context = match self.context_columns.as_slice() {
            [] => get(self.context, Meaning::Text),
            columns => RawField::Object(Cow::Owned(context(columns, &row))),
        };
        let kind = self.mapping.kind;
        let read = (self.times).read(kind.time_field(), get(self.time, Meaning::Text));
        let (timestamp, time_error) = match read {
            Ok(timestamp) => (timestamp, None),
            Err(error) => (RawField::Time(self.rules.received_at), Some(error)),
        };
        let raw = RawEvent {
            user_id: get(self.user, self.decisions.user),
            experiment_id: get(self.experiment, self.decisions.experiment),
            name: get(self.name, self.decisions.name),
            timestamp,
            value,
            event_id: get(self.event_id, self.decisions.event_id),
            event_fingerprint: get(self.event_fingerprint, Meaning::Text),
            context,
        };
        // The message names the first field at fault, in the same order as over HTTP.
        let is_before = |field| ["experiment_id", "user_id", kind.name_field()].contains(&field);
        match (validate(kind, raw, self.rules), time_error) {
            (Ok(event), None) => Ok(Some(event)),
            (Ok(_), Some(error)) => Err(error),
            (Err(error), Some(time_error)) if !is_before(error.field) => Err(time_error),
            (Err(mut error), _) => {
                if error.field == "user_id" && error.fault == Fault::OutOfRange {
                    error.reason += ", or give --ids text where all ids are texts";
                }
                if error.field == kind.time_field() && error.fault == Fault::OutOfRange {
                    error.reason += "; --time-unit says what numbers count";
                }
                Err(error)
            }
        }
    }

    /// Returns the value; `None` if it says that the row has no event.
    fn value<'r>(&self, row: &Row<'r>) -> Option<RawField<'r>>
    where
        'm: 'r,
    {
        let Place::Column(column) = self.value else {
            return Some(match self.value {
                Place::Constant(text) => RawField::Cell(text),
                _ => RawField::Absent,
            });
        };
        // What is empty stays an empty cell: it is no value, and not the value 1.
        let is_value = self.mapping.kind == EventKind::Metric;
        let field = match as_meant(&row.fields[column], Meaning::Text) {
            RawField::Cell(text) if is_value => match plain(text, self.decisions.decimal) {
                Cow::Borrowed(text) => RawField::Cell(text),
                Cow::Owned(text) => RawField::Text(Cow::Owned(text)),
            },
            other => other,
        };
        if !self.mapping.skip_zero {
            return Some(if is_value { field } else { forced(field) });
        }
        match zero_or_one(&field) {
            Some(false) => None,
            Some(true) => Some(RawField::Integer(1)),
            None => Some(field),
        }
    }
}

/// An empty cell is a field that is absent.
fn absent(field: RawField<'_>) -> RawField<'_> {
    match field {
        RawField::Cell("") => RawField::Absent,
        other => other,
    }
}

/// Returns the flag of an assignment, absent if a word such as `NULL` says so.
fn forced(field: RawField<'_>) -> RawField<'_> {
    match field {
        RawField::Cell(text) if is_no_value(text) => RawField::Absent,
        other => other,
    }
}

/// Interprets a cell in which 0 means no event: `Some(false)` for none, `Some(true)` for a plain
/// yes, `None` for a number.
fn zero_or_one(value: &RawField<'_>) -> Option<bool> {
    let text: &str = match value {
        RawField::Absent | RawField::Integer(0) => return Some(false),
        RawField::Bool(value) => return Some(*value),
        RawField::Cell(text) | RawField::Number(text) => text,
        RawField::Text(text) => text,
        _ => return None,
    };
    if is_zero(text) || is_no_value(text) {
        return Some(false);
    }
    boolean(text)
}

/// Builds a JSON object from the cells of `columns`. A missing value has no key, and a whole
/// number has one form however it is written.
fn context(columns: &[(&str, usize, Meaning)], row: &Row<'_>) -> String {
    let mut context = serde_json::Map::new();
    for (name, column, meaning) in columns {
        let value = match as_meant(&row.fields[*column], *meaning) {
            RawField::Absent => continue,
            RawField::Cell(text) if is_no_value(text) => continue,
            RawField::Cell(text) => text.into(),
            RawField::Text(text) => text.into_owned().into(),
            RawField::Number(text) => {
                let whole = whole_number(text);
                let plain = whole.as_deref().unwrap_or(text);
                serde_json::from_str(plain).unwrap_or_else(|_| text.into())
            }
            RawField::Bool(value) => value.into(),
            RawField::Integer(number) => number.into(),
            RawField::Time(time) => time.to_rfc3339().into(),
            RawField::Object(text) => {
                serde_json::from_str(&text).unwrap_or_else(|_| text.into_owned().into())
            }
            RawField::Array(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            // As where a text has bytes that are no character.
            RawField::HalfCharacter => "\u{fffd}".into(),
        };
        context.insert((*name).to_owned(), value);
    }
    serde_json::Value::Object(context).to_string()
}
