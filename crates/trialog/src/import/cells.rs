//! A row of a file as the fields of an event.

use std::borrow::Cow;

use anyhow::Context;
use trialog_model::event::{Event, EventError, RawEvent, RawField, Rules, validate};
use trialog_model::time::UnixMicros;

use super::columns::{Mapping, Origin};

/// Where each field is found in the rows of a file with known columns.
pub(crate) struct Layout<'m> {
    mapping: &'m Mapping,
    user: Place<'m>,
    experiment: Place<'m>,
    name: Place<'m>,
    time: Place<'m>,
    value: Place<'m>,
    event_id: Place<'m>,
    event_fingerprint: Place<'m>,
    context: Place<'m>,
    context_columns: Vec<(&'m str, usize)>,
}

/// An event of a row, and its id as it stands there.
pub(crate) struct Imported<'r> {
    pub(crate) event: Event<'r>,
    pub(crate) event_id: Option<Cow<'r, str>>,
}

#[derive(Debug, Clone, Copy)]
enum Place<'m> {
    Constant(&'m str),
    Column(usize),
    Nothing,
}

impl<'m> Layout<'m> {
    /// Finds the mapping's columns in `header`.
    pub(crate) fn new(mapping: &'m Mapping, header: &[String]) -> anyhow::Result<Self> {
        let find = |name: &str| header.iter().position(|own| own == name);
        let must = |name: &str| {
            find(name).with_context(|| {
                format!(
                    "the file has no column `{name}`; it has: {}; name the right ones with --user-column, --time-column and so on",
                    header.join(", ")
                )
            })
        };
        let place = |origin: &'m Origin| -> anyhow::Result<Place<'m>> {
            Ok(match origin {
                Origin::Constant(text) => Place::Constant(text),
                Origin::Column(name) => Place::Column(must(name)?),
                Origin::Optional(name) => find(name).map_or(Place::Nothing, Place::Column),
                Origin::Nothing => Place::Nothing,
            })
        };
        let contexts: anyhow::Result<Vec<_>> = mapping
            .context_columns
            .iter()
            .map(|name| Ok((name.as_str(), must(name)?)))
            .collect();
        Ok(Self {
            mapping,
            user: place(&mapping.user)?,
            experiment: place(&mapping.experiment)?,
            name: place(&mapping.name)?,
            time: place(&mapping.time)?,
            value: place(&mapping.value)?,
            event_id: place(&mapping.event_id)?,
            event_fingerprint: place(&mapping.event_fingerprint)?,
            context: place(&mapping.context)?,
            context_columns: contexts?,
        })
    }

    /// The event in a row whose cells `cell` gives; `None` for a row that
    /// holds no event.
    pub(crate) fn event<'r>(
        &self,
        cell: &dyn Fn(usize) -> RawField<'r>,
        received_at: UnixMicros,
    ) -> Result<Option<Imported<'r>>, EventError>
    where
        'm: 'r,
    {
        let get = |place: Place<'m>| -> RawField<'r> {
            match place {
                Place::Constant(text) => RawField::Cell(text),
                Place::Column(column) => cell(column),
                Place::Nothing => RawField::Absent,
            }
        };
        let mut value = get(self.value);
        if self.mapping.skip_zero {
            match zero_or_one(&value) {
                Some(false) => return Ok(None),
                Some(true) => value = RawField::Integer(1),
                None => {}
            }
        }
        let context = match self.context_columns.as_slice() {
            // A table has no type for objects: there they are text.
            [] => match get(self.context) {
                RawField::Text(text) => RawField::Object(text),
                other => other,
            },
            columns => RawField::Object(Cow::Owned(context(columns, cell))),
        };
        let event_id = get(self.event_id);
        let event_id_text = text_of(&event_id);
        let raw = RawEvent {
            user_id: get(self.user),
            experiment_id: get(self.experiment),
            name: get(self.name),
            timestamp: self.with_zone(get(self.time)),
            value,
            event_id,
            event_fingerprint: get(self.event_fingerprint),
            context,
        };
        let rules = Rules {
            defaults_time: false,
            ..received_at.into()
        };
        let event = validate(self.mapping.kind, raw, rules)?;
        Ok(Some(Imported {
            event,
            event_id: event_id_text,
        }))
    }

    /// Adds the zone to a time that is text and has none.
    fn with_zone<'r>(&self, time: RawField<'r>) -> RawField<'r> {
        let Some(zone) = &self.mapping.time_zone else {
            return time;
        };
        let text = match &time {
            RawField::Cell(text) => text,
            RawField::Text(text) => text.as_ref(),
            _ => return time,
        };
        let has_zone = text.ends_with(['Z', 'z'])
            || text.get(19..).is_some_and(|rest| rest.contains(['+', '-']));
        if has_zone || text.len() < 19 {
            time
        } else {
            RawField::Text(Cow::Owned(format!("{text}{zone}")))
        }
    }
}

/// The text of an id that is a text or a number.
fn text_of<'r>(field: &RawField<'r>) -> Option<Cow<'r, str>> {
    match field {
        RawField::Text(text) => Some(text.clone()),
        RawField::Cell("") => None,
        RawField::Cell(text) | RawField::Number(text) => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

/// What a cell says where 0 means no event: `Some(false)` for none,
/// `Some(true)` for a plain yes, `None` for a number.
fn zero_or_one(value: &RawField<'_>) -> Option<bool> {
    match value {
        RawField::Absent | RawField::Integer(0) | RawField::Bool(false) => Some(false),
        RawField::Bool(true) => Some(true),
        RawField::Cell(text) | RawField::Number(text) => zero_text(text),
        RawField::Text(text) => zero_text(text),
        _ => None,
    }
}

fn zero_text(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "" | "false" => Some(false),
        "true" => Some(true),
        number => (number.starts_with(['0', '.'])
            && number.bytes().all(|byte| b"0.".contains(&byte)))
        .then_some(false),
    }
}

/// A JSON object of the cells of `columns`.
fn context<'r>(columns: &[(&str, usize)], cell: &dyn Fn(usize) -> RawField<'r>) -> String {
    let mut context = serde_json::Map::new();
    for (name, column) in columns {
        let value = match cell(*column) {
            RawField::Absent | RawField::Cell("") => continue,
            RawField::Cell(text) => text.into(),
            RawField::Text(text) => text.into_owned().into(),
            RawField::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
            RawField::Bool(value) => value.into(),
            RawField::Integer(number) => number.into(),
            RawField::Time(time) => time.to_rfc3339().into(),
            RawField::Object(text) => {
                serde_json::from_str(&text).unwrap_or_else(|_| text.into_owned().into())
            }
            RawField::Array(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        context.insert((*name).to_owned(), value);
    }
    serde_json::Value::Object(context).to_string()
}
