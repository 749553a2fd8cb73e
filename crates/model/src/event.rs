//! Defines events and the rules that every event must pass before it is stored.
//!
//! Both kinds of event have the same shape: somebody (`user_id`) in an
//! experiment, at a time, with a name (the variant, or the event type) and a
//! number (the forced flag, or the value). The warehouse stores them alike.

use std::borrow::Cow;
use std::fmt;

use crate::cell;
use crate::decimal::{Value, ValueError};
use crate::ids::{EventType, ExperimentId, Variant, check_new_name};
use crate::json;
use crate::time::{EARLIEST, MAX_AHEAD, TimeError, TimeUnit, UnixMicros};
use crate::user_id::{event_fingerprint, is_integer_text, user_id_from_text};

/// The maximum size of the context of an assignment, in bytes.
pub const MAX_CONTEXT_BYTES: usize = 4096;
/// The maximum number of keys in the context of an assignment.
pub const MAX_CONTEXT_KEYS: usize = 64;
/// The maximum length of an `event_id`, in bytes.
pub const MAX_EVENT_ID_BYTES: usize = 64;
/// The maximum length of a `user_id` given as text, in bytes.
pub const MAX_USER_ID_BYTES: usize = 1024;

/// Which of the two event streams an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A user was assigned to a variant.
    Assignment,
    /// A user did something.
    Metric,
}

impl EventKind {
    /// Both kinds, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Assignment, Self::Metric];

    /// Returns the plural that paths and tables use: `assignments` or `metrics`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Assignment => "assignments",
            Self::Metric => "metrics",
        }
    }

    /// Returns the JSON field of the time: `assigned_at` or `timestamp`.
    pub fn time_field(self) -> &'static str {
        match self {
            Self::Assignment => "assigned_at",
            Self::Metric => "timestamp",
        }
    }

    /// Returns the JSON field of the name: `variant` or `event_type`.
    pub fn name_field(self) -> &'static str {
        match self {
            Self::Assignment => "variant",
            Self::Metric => "event_type",
        }
    }

    /// Returns the JSON field of the number: `forced` or `value`.
    pub fn value_field(self) -> &'static str {
        match self {
            Self::Assignment => "forced",
            Self::Metric => "value",
        }
    }

    fn max_name_chars(self) -> usize {
        match self {
            Self::Assignment => Variant::MAX_CHARS,
            Self::Metric => EventType::MAX_CHARS,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plural())
    }
}

/// A valid event. It borrows its texts from the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The user, as stored (see [`user_id_from_text`]).
    pub user_id: i64,
    /// The user id as it was sent, if it is a text and not an integer.
    pub user_text: Option<Cow<'a, str>>,
    /// The experiment.
    pub experiment_id: Cow<'a, str>,
    /// The variant of an assignment, the event type of a metric event.
    pub name: Cow<'a, str>,
    /// `assigned_at`, or `timestamp`.
    pub timestamp: UnixMicros,
    /// 1 for a forced assignment, else 0; a metric's value in 1/10,000.
    pub value: i64,
    /// The fingerprint of the `event_id`, where one was given.
    pub event_id: Option<u64>,
    /// The context of an assignment: a JSON object as it was sent.
    pub context: Option<Cow<'a, str>>,
}

/// A field as it was read, before any rule was applied to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawField<'a> {
    /// The field is absent or null.
    Absent,
    /// A JSON string, its escapes resolved.
    Text(Cow<'a, str>),
    /// A JSON number, as written.
    Number(&'a str),
    /// A JSON boolean.
    Bool(bool),
    /// A JSON object, as written.
    Object(Cow<'a, str>),
    /// A JSON array, as written.
    Array(&'a str),
    /// A JSON string with an escape that is half of a surrogate pair.
    HalfCharacter,
    /// A cell of a table that has no types, such as CSV.
    Cell(&'a str),
    /// A whole number of a table that has types.
    Integer(i64),
    /// A time of a table that has types.
    Time(UnixMicros),
}

impl RawField<'_> {
    /// Trims spaces around a text, so that a table and the same events over HTTP are stored alike.
    /// A blank text stays: it is a placeholder id.
    fn trimmed(self) -> Self {
        let text = match self {
            Self::Text(text) if !text.trim().is_empty() => text,
            Self::Cell(text) => return Self::Cell(text.trim()),
            other => return other,
        };
        Self::Text(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) if text.trim().len() < text.len() => {
                Cow::Owned(text.trim().to_owned())
            }
            text @ Cow::Owned(_) => text,
        })
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Text(_) | Self::Cell(_) => "a string",
            Self::Number(_) | Self::Integer(_) => "a number",
            Self::Time(_) => "a time",
            Self::Bool(_) => "a boolean",
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
            Self::HalfCharacter => "a string with half of a surrogate pair, which is no character",
        }
    }
}

/// The fields of one event as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// `user_id`
    pub user_id: RawField<'a>,
    /// `experiment_id`
    pub experiment_id: RawField<'a>,
    /// `variant` or `event_type`
    pub name: RawField<'a>,
    /// `assigned_at` or `timestamp`
    pub timestamp: RawField<'a>,
    /// `forced` or `value`
    pub value: RawField<'a>,
    /// `event_id`
    pub event_id: RawField<'a>,
    /// `event_fingerprint`
    pub event_fingerprint: RawField<'a>,
    /// `context`
    pub context: RawField<'a>,
}

/// The rules that an intake adds to those of every event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// When the events were received: their times are at most 24 hours later.
    pub received_at: UnixMicros,
    /// Whether an event that names no time happened when it was received.
    pub defaults_time: bool,
    /// Whether words such as `null` are user ids like any other.
    pub allows_placeholder_ids: bool,
}

impl From<UnixMicros> for Rules {
    /// The rules of events that were received at a time.
    fn from(received_at: UnixMicros) -> Self {
        Self {
            received_at,
            defaults_time: true,
            allows_placeholder_ids: false,
        }
    }
}

/// The kind of fault of a field, by which rejections are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The field is absent or empty.
    Missing,
    /// The field has another type.
    WrongType,
    /// The field cannot be read as what it is to be.
    Malformed,
    /// The field has too many bytes, characters or keys.
    TooLong,
    /// The number or time is outside of its range.
    OutOfRange,
    /// The id is a placeholder, such as `null`.
    PlaceholderId,
    /// The value would be 0 once rounded.
    RoundsToZero,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::WrongType,
        Self::Malformed,
        Self::TooLong,
        Self::OutOfRange,
        Self::PlaceholderId,
        Self::RoundsToZero,
    ];

    /// Returns the name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::WrongType => "wrong_type",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::OutOfRange => "out_of_range",
            Self::PlaceholderId => "placeholder_id",
            Self::RoundsToZero => "rounds_to_zero",
        }
    }
}

/// A field of a definition that a rule rejected, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct FieldError {
    /// The JSON name of the field.
    pub field: &'static str,
    /// What is wrong and how to fix it.
    pub reason: String,
}

/// The reason why an event was rejected: the first field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct EventError {
    /// The JSON name of the field.
    pub field: &'static str,
    /// The kind of fault.
    pub fault: Fault,
    /// What is wrong and how to fix it.
    pub reason: String,
}

fn refuse<T>(
    field: &'static str,
    fault: Fault,
    reason: impl fmt::Display,
) -> Result<T, EventError> {
    Err(EventError {
        field,
        fault,
        reason: reason.to_string(),
    })
}

fn wrong_type<T>(field: &'static str, wanted: &str, got: &RawField<'_>) -> Result<T, EventError> {
    match got {
        RawField::Absent => refuse(
            field,
            Fault::Missing,
            format_args!("is missing: give {wanted}"),
        ),
        RawField::HalfCharacter => {
            let reason = format_args!("is {}: send the whole character", got.describe());
            refuse(field, Fault::Malformed, reason)
        }
        other => refuse(
            field,
            Fault::WrongType,
            format_args!("is {}: give {wanted}", other.describe()),
        ),
    }
}

fn too_long<T>(field: &'static str, n_bytes: usize, limit: usize) -> Result<T, EventError> {
    let reason = format_args!("has {n_bytes} bytes: at most {limit} are allowed");
    refuse(field, Fault::TooLong, reason)
}

/// Validates every field of `raw` and returns the event.
///
/// # Errors
///
/// The first field that breaks a rule, with the reason.
pub fn validate<'a>(
    kind: EventKind,
    raw: RawEvent<'a>,
    rules: impl Into<Rules>,
) -> Result<Event<'a>, EventError> {
    let mut rules = rules.into();
    let raw = RawEvent {
        user_id: raw.user_id.trimmed(),
        experiment_id: raw.experiment_id.trimmed(),
        name: raw.name.trimmed(),
        timestamp: raw.timestamp.trimmed(),
        value: raw.value.trimmed(),
        event_id: raw.event_id.trimmed(),
        event_fingerprint: raw.event_fingerprint.trimmed(),
        ..raw
    };
    // Who gives a fingerprint has it from an event that was accepted before.
    rules.allows_placeholder_ids |=
        !matches!(raw.event_fingerprint, RawField::Absent | RawField::Cell(""));
    let experiment_id = match raw.experiment_id {
        RawField::Absent if kind == EventKind::Metric => refuse(
            "experiment_id",
            Fault::Missing,
            "is missing: a metric event names its experiment, one event per experiment",
        ),
        field => name_text("experiment_id", field, ExperimentId::MAX_CHARS),
    }?;
    let (user_id, user_text) = user_id(raw.user_id, rules)?;
    Ok(Event {
        user_id,
        user_text,
        experiment_id,
        name: name_text(kind.name_field(), raw.name, kind.max_name_chars())?,
        timestamp: timestamp(kind.time_field(), &raw.timestamp, rules)?,
        value: match kind {
            EventKind::Assignment => i64::from(forced(&raw.value)?),
            EventKind::Metric => value(&raw.value)?.units(),
        },
        event_id: match (event_id(&raw.event_id)?, raw.event_fingerprint) {
            (id, RawField::Absent | RawField::Cell("")) => id,
            (None, field) => Some(fingerprint(&field)?),
            (Some(_), _) => {
                return refuse(
                    "event_fingerprint",
                    Fault::Malformed,
                    "stands beside an `event_id`, of which it is made: give one of the two",
                );
            }
        },
        context: match kind {
            EventKind::Assignment => context(raw.context)?,
            EventKind::Metric => None,
        },
    })
}

/// The user as stored, and the text of an id that is not an integer.
fn user_id(field: RawField<'_>, rules: Rules) -> Result<(i64, Option<Cow<'_, str>>), EventError> {
    const FIELD: &str = "user_id";
    let text = match field {
        RawField::Text(text) => text,
        RawField::Cell(text) => Cow::Borrowed(text),
        RawField::Integer(number) => return Ok((number, None)),
        RawField::Number(digits) if !cell::is_placeholder_id(digits) => {
            return whole_user_id(digits).map(|number| (number, None));
        }
        RawField::Number(word) => Cow::Borrowed(word),
        other => return wrong_type(FIELD, "an integer within BIGINT or a string", &other),
    };
    if text.is_empty() {
        return refuse(FIELD, Fault::Missing, "is empty");
    }
    if !rules.allows_placeholder_ids && cell::is_placeholder_id(&text) {
        let reason = format!(
            "is `{}`, a word that stands for no user: leave out events of unknown users, or allow such ids with `allow_placeholder_ids`",
            clip(&text)
        );
        return refuse(FIELD, Fault::PlaceholderId, reason);
    }
    if text.len() > MAX_USER_ID_BYTES {
        return too_long(FIELD, text.len(), MAX_USER_ID_BYTES);
    }
    let number = user_id_from_text(&text);
    Ok((number, (!is_integer_text(&text)).then_some(text)))
}

/// The integer that a number is, however it is written.
fn whole_user_id(number: &str) -> Result<i64, EventError> {
    let whole = cell::whole_number(number).and_then(|digits| digits.parse().ok());
    whole.map_or_else(
        || {
            let reason = format!(
                "`{}` is not an integer within BIGINT: send it as a string",
                clip(number)
            );
            refuse("user_id", Fault::OutOfRange, reason)
        },
        Ok,
    )
}

/// A name: a text, a whole number or a boolean, of at most `max_chars`.
fn name_text<'a>(
    field: &'static str,
    raw: RawField<'a>,
    max_chars: usize,
) -> Result<Cow<'a, str>, EventError> {
    let text = match raw {
        RawField::Text(text) => text,
        RawField::Cell(text) => Cow::Borrowed(text),
        RawField::Integer(number) => Cow::Owned(number.to_string()),
        RawField::Bool(true) => Cow::Borrowed("true"),
        RawField::Bool(false) => Cow::Borrowed("false"),
        RawField::Number(digits) => match cell::whole_number(digits) {
            Some(digits) => digits,
            None => {
                let reason = format!(
                    "is the number `{}`, which is not whole: send the name as a string",
                    clip(digits)
                );
                return refuse(field, Fault::WrongType, reason);
            }
        },
        other => return wrong_type(field, "a string", &other),
    };
    match check_new_name(&text, max_chars) {
        Ok(()) => Ok(text),
        Err(error) if text.is_empty() => refuse(field, Fault::Missing, error),
        Err(error) => refuse(field, Fault::Malformed, error),
    }
}

fn timestamp(
    field: &'static str,
    raw: &RawField<'_>,
    rules: Rules,
) -> Result<UnixMicros, EventError> {
    let parsed = match raw {
        RawField::Absent if rules.defaults_time => return Ok(rules.received_at),
        RawField::Text(text) => time_of_text(text),
        RawField::Cell(text) => time_of_text(text),
        RawField::Number(digits) => UnixMicros::from_epoch(digits, TimeUnit::Millis),
        RawField::Integer(millis) => UnixMicros::from_millis(*millis),
        RawField::Time(time) => Ok(*time),
        other => {
            return wrong_type(
                field,
                "RFC 3339 text with a zone, or epoch milliseconds",
                other,
            );
        }
    };
    let at = match parsed {
        Ok(at) => at,
        Err(error @ TimeError::OutOfRange) => return refuse(field, Fault::OutOfRange, error),
        Err(error) => return refuse(field, Fault::Malformed, error),
    };
    let out_of_range = |reason: String| refuse(field, Fault::OutOfRange, reason);
    if at < EARLIEST {
        return out_of_range(format!(
            "`{at}` is before {EARLIEST}: check its unit, epoch milliseconds are expected"
        ));
    }
    if at.0 > rules.received_at.0.saturating_add(MAX_AHEAD) {
        return out_of_range(format!(
            "`{at}` is more than 24 hours after it was received: check the clock and the unit"
        ));
    }
    Ok(at)
}

/// A time in text: a date and time with its zone, or epoch milliseconds.
fn time_of_text(text: &str) -> Result<UnixMicros, TimeError> {
    if cell::is_number(text) {
        UnixMicros::from_epoch(text, TimeUnit::Millis)
    } else {
        UnixMicros::parse_text(text)
    }
}

fn value(raw: &RawField<'_>) -> Result<Value, EventError> {
    const FIELD: &str = "value";
    let text: &str = match raw {
        RawField::Absent => return Ok(Value::ONE),
        RawField::Number(text) => text,
        RawField::Cell("") => {
            return refuse(
                FIELD,
                Fault::Missing,
                "is empty: give a decimal number, or leave the field out, which counts 1",
            );
        }
        RawField::Cell(text) => text,
        RawField::Text(text) => text,
        RawField::Integer(number) => return whole_value(*number),
        // A table without types can only say the word.
        RawField::Bool(_) => return refuse(FIELD, Fault::Malformed, ValueError::NotANumber),
        other => return wrong_type(FIELD, "a decimal number", other),
    };
    Value::parse(text.as_bytes()).or_else(|error| {
        let fault = match error {
            ValueError::Empty => Fault::Missing,
            ValueError::RoundsToZero => Fault::RoundsToZero,
            ValueError::OutOfRange | ValueError::NotFinite => Fault::OutOfRange,
            _ => Fault::Malformed,
        };
        refuse(FIELD, fault, error)
    })
}

fn whole_value(number: i64) -> Result<Value, EventError> {
    let units = number.checked_mul(10_000).and_then(Value::from_units);
    units.map_or_else(
        || refuse("value", Fault::OutOfRange, ValueError::OutOfRange),
        Ok,
    )
}

fn forced(raw: &RawField<'_>) -> Result<bool, EventError> {
    let text: Cow<'_, str> = match raw {
        RawField::Absent | RawField::Cell("") => return Ok(false),
        RawField::Bool(forced) => return Ok(*forced),
        RawField::Integer(number) => Cow::Owned(number.to_string()),
        RawField::Text(text) => Cow::Borrowed(text),
        RawField::Cell(text) | RawField::Number(text) => Cow::Borrowed(*text),
        other => return wrong_type("forced", "true or false", other),
    };
    if cell::is_no_value(&text) {
        return Ok(false);
    }
    let is_one = cell::whole_number(&text).is_some_and(|number| number == "1");
    let word = cell::boolean(&text);
    if is_one || word == Some(true) {
        Ok(true)
    } else if cell::is_zero(&text) || word == Some(false) {
        Ok(false)
    } else {
        refuse(
            "forced",
            Fault::Malformed,
            format_args!("`{}` is neither true nor false", clip(&text)),
        )
    }
}

/// The fingerprint of the id of an event; words for no value are no id.
fn event_id(raw: &RawField<'_>) -> Result<Option<u64>, EventError> {
    const FIELD: &str = "event_id";
    let text: Cow<'_, str> = match raw {
        RawField::Absent | RawField::Cell("") => return Ok(None),
        RawField::Text(text) if text.is_empty() => {
            let reason = "is empty: leave it out or give 1 to 64 bytes";
            return refuse(FIELD, Fault::Missing, reason);
        }
        RawField::Text(text) => Cow::Borrowed(text),
        RawField::Cell(text) => Cow::Borrowed(*text),
        RawField::Integer(number) => Cow::Owned(number.to_string()),
        RawField::Number(text) => cell::whole_number(text).unwrap_or(Cow::Borrowed(text)),
        other => return wrong_type(FIELD, "a UUID or another text", other),
    };
    // One id for many events would make copies of all but one of them.
    if cell::is_no_value(&text) {
        return Ok(None);
    }
    if text.len() > MAX_EVENT_ID_BYTES {
        return too_long(FIELD, text.len(), MAX_EVENT_ID_BYTES);
    }
    Ok(Some(event_fingerprint(&text)))
}

/// What an exported event carries in place of its id.
fn fingerprint(raw: &RawField<'_>) -> Result<u64, EventError> {
    const FIELD: &str = "event_fingerprint";
    let text: &str = match raw {
        RawField::Integer(number) => return Ok(number.cast_unsigned()),
        RawField::Text(text) => text,
        RawField::Cell(text) | RawField::Number(text) => text,
        other => return wrong_type(FIELD, "an integer within BIGINT", other),
    };
    match text.parse::<i64>() {
        Ok(number) => Ok(number.cast_unsigned()),
        Err(_) => refuse(
            FIELD,
            Fault::Malformed,
            format_args!("`{}` is not an integer within BIGINT", clip(text)),
        ),
    }
}

fn context(raw: RawField<'_>) -> Result<Option<Cow<'_, str>>, EventError> {
    const FIELD: &str = "context";
    let text = match raw {
        RawField::Absent => return Ok(None),
        RawField::Object(text) => text,
        RawField::Cell(text) => Cow::Borrowed(text),
        // A table can only hold it as text, so that all of it is malformed alike.
        other => {
            let reason = format!("is {}: give a JSON object", other.describe());
            return refuse(FIELD, Fault::Malformed, reason);
        }
    };
    // Tables have no type for objects, and write an absent one in many ways.
    if cell::is_no_value(&text) {
        return Ok(None);
    }
    if text.len() > MAX_CONTEXT_BYTES {
        return too_long(FIELD, text.len(), MAX_CONTEXT_BYTES);
    }
    match crate::wire::count_keys(&text).and_then(|n_keys| may_be_kept(&text).map(|()| n_keys)) {
        Err(error) => refuse(FIELD, Fault::Malformed, crate::document::not_json(&error)),
        Ok(n_keys) if n_keys > MAX_CONTEXT_KEYS => refuse(
            FIELD,
            Fault::TooLong,
            format_args!("has {n_keys} keys: at most {MAX_CONTEXT_KEYS} are allowed"),
        ),
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(text)),
    }
}

/// Checks the levels, the keys and the characters of a context that is JSON.
fn may_be_kept(text: &str) -> Result<(), serde_json::Error> {
    // Most contexts are plain: too few brackets to be deep, and no escape or `$` to hide in.
    let n_brackets = text
        .bytes()
        .filter(|byte| matches!(byte, b'{' | b'['))
        .count();
    let is_plain = n_brackets <= json::MAX_DEPTH && !text.contains(['\\', '$']);
    if is_plain { Ok(()) } else { json::check(text) }
}

/// The start of a text, short enough to quote in a message.
fn clip(text: &str) -> &str {
    match text.char_indices().nth(40) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric<'a>() -> RawEvent<'a> {
        RawEvent {
            user_id: RawField::Number("7"),
            experiment_id: RawField::Text("gate".into()),
            name: RawField::Text("purchase".into()),
            timestamp: RawField::Number("1700000000000"),
            value: RawField::Absent,
            event_id: RawField::Absent,
            event_fingerprint: RawField::Absent,
            context: RawField::Absent,
        }
    }

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

    fn refused(raw: RawEvent<'_>) -> EventError {
        validate(EventKind::Metric, raw, NOW).unwrap_err()
    }

    #[test]
    fn a_metric_without_value_counts_one() {
        let event = validate(EventKind::Metric, metric(), NOW).unwrap();
        assert_eq!(
            (event.user_id, event.value, event.timestamp),
            (7, 10_000, NOW)
        );
    }

    #[test]
    fn a_missing_experiment_says_what_to_do() {
        let error = refused(RawEvent {
            experiment_id: RawField::Absent,
            ..metric()
        });
        assert_eq!(error.field, "experiment_id");
        assert!(error.reason.contains("names its experiment"), "{error}");
    }

    /// A metric event with one field replaced, by its JSON name.
    fn with<'a>(field: &str, value: RawField<'a>) -> RawEvent<'a> {
        let mut raw = metric();
        match field {
            "user_id" => raw.user_id = value,
            "experiment_id" => raw.experiment_id = value,
            "event_type" => raw.name = value,
            "timestamp" => raw.timestamp = value,
            "value" => raw.value = value,
            _ => raw.event_id = value,
        }
        raw
    }

    #[test]
    fn each_bad_field_is_named() {
        let long = "x".repeat(65);
        let text = |text: &'static str| RawField::Text(text.into());
        let cases = [
            ("user_id", RawField::Number("1.5")),
            ("user_id", RawField::Number("9223372036854775808")),
            ("user_id", RawField::Bool(true)),
            ("user_id", text("")),
            ("user_id", text("null")),
            ("experiment_id", RawField::Number("1.5")),
            ("experiment_id", RawField::Text(long.as_str().into())),
            ("event_type", RawField::Text(long.as_str().into())),
            ("timestamp", text("2023-11-14T22:13:20")),
            ("timestamp", text("9999-11-14T22:13:20Z")),
            ("timestamp", RawField::Number("1700000000")),
            ("value", text("NaN")),
            ("value", RawField::Number("1234567890123456789")),
            ("value", RawField::Bool(true)),
            ("event_id", RawField::Text(long.as_str().into())),
        ];
        for (field, value) in cases {
            assert_eq!(
                refused(with(field, value.clone())).field,
                field,
                "{value:?}"
            );
        }
    }

    #[test]
    fn numbers_and_booleans_are_ids_and_names_however_they_are_written() {
        let with = |user: &'static str, name: RawField<'static>| {
            let raw = RawEvent {
                user_id: RawField::Number(user),
                name,
                ..metric()
            };
            let event = validate(EventKind::Assignment, raw, NOW).unwrap();
            (event.user_id, event.name.into_owned())
        };
        for spelling in ["100000", "1e+05", "100000.0"] {
            assert_eq!(
                with(spelling, RawField::Number(spelling)),
                (100_000, "100000".into())
            );
        }
        assert_eq!(with("-0", RawField::Bool(true)), (0, "true".into()));
        assert_eq!(with("1", RawField::Integer(-3)), (1, "-3".into()));
    }

    #[test]
    fn the_text_of_an_id_is_kept_where_it_is_no_integer() {
        let text = |id: &'static str| {
            let raw = with("user_id", RawField::Text(id.into()));
            let event = validate(EventKind::Metric, raw, NOW).unwrap();
            (event.user_id, event.user_text.map(Cow::into_owned))
        };
        assert_eq!(text("42"), (42, None));
        assert_eq!(text("042").1.as_deref(), Some("042"));
        assert_eq!(text("ann"), (user_id_from_text("ann"), Some("ann".into())));
    }

    #[test]
    fn words_that_stand_for_nobody_are_ids_only_where_they_are_allowed() {
        let allowing = Rules {
            allows_placeholder_ids: true,
            ..NOW.into()
        };
        for word in [
            "null",
            "undefined",
            "NaN",
            "None",
            "\\N",
            " ",
            "[object Object]",
        ] {
            let raw = || with("user_id", RawField::Text(word.into()));
            assert_eq!(refused(raw()).fault, Fault::PlaceholderId, "{word}");
            assert!(validate(EventKind::Metric, raw(), allowing).is_ok());
            let accepted_before = RawEvent {
                event_fingerprint: RawField::Integer(7),
                ..raw()
            };
            assert!(validate(EventKind::Metric, accepted_before, NOW).is_ok());
        }
        let cell = with("user_id", RawField::Number("NaN"));
        assert_eq!(refused(cell).fault, Fault::PlaceholderId);
        let id = with("event_id", RawField::Text("NULL".into()));
        assert_eq!(validate(EventKind::Metric, id, NOW).unwrap().event_id, None);
    }

    #[test]
    fn an_event_without_a_time_happened_when_it_was_received() {
        let raw = || with("timestamp", RawField::Absent);
        let event = validate(EventKind::Metric, raw(), NOW).unwrap();
        assert_eq!(event.timestamp, NOW);
        let strict = Rules {
            defaults_time: false,
            ..NOW.into()
        };
        let error = validate(EventKind::Metric, raw(), strict).unwrap_err();
        assert_eq!((error.field, error.fault), ("timestamp", Fault::Missing));
    }

    #[test]
    fn whole_milliseconds_are_a_time_however_they_are_written() {
        for time in ["1700000000000", "1700000000000.0", "1.7e12"] {
            for field in [
                RawField::Number(time),
                RawField::Cell(time),
                RawField::Text(time.into()),
            ] {
                let event = validate(EventKind::Metric, with("timestamp", field), NOW).unwrap();
                assert_eq!(event.timestamp, NOW, "{time}");
            }
        }
    }

    #[test]
    fn a_time_up_to_a_day_ahead_is_accepted() {
        let ahead = |micros: i64| {
            let text = UnixMicros(NOW.0 + micros).to_rfc3339();
            let raw = RawEvent {
                timestamp: RawField::Text(text.into()),
                ..metric()
            };
            validate(EventKind::Metric, raw, NOW).is_ok()
        };
        assert!(ahead(MAX_AHEAD));
        assert!(!ahead(MAX_AHEAD + 1));
    }

    #[test]
    fn contexts_are_bounded() {
        let assignment = |context: String| {
            let raw = RawEvent {
                context: RawField::Object(context.into()),
                ..metric()
            };
            validate(EventKind::Assignment, raw, NOW)
                .map(|event| event.context.map(Cow::into_owned))
        };
        let keys = |n: usize| {
            let pairs: Vec<String> = (0..n).map(|key| format!("\"k{key}\":1")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        assert!(assignment(keys(64)).is_ok());
        assert_eq!(assignment(keys(65)).unwrap_err().field, "context");
        assert_eq!(
            assignment(format!("{{\"k\":\"{}\"}}", "x".repeat(5000)))
                .unwrap_err()
                .field,
            "context"
        );
        assert_eq!(assignment("{}".into()), Ok(None));
    }

    #[test]
    fn a_fingerprint_stands_in_for_the_id_it_was_made_of() {
        let plain = r#"{"user_id":1,"experiment_id":"e","event_type":"buy","timestamp":"2026-01-01T00:00:00Z""#;
        let id = |rest: &str| {
            let mut found = Err(EventError {
                field: "none",
                fault: Fault::Missing,
                reason: String::new(),
            });
            let body = format!("{plain}{rest}}}");
            let now = UnixMicros(1_800_000_000_000_000);
            let layout = crate::wire::Layout::Detect;
            crate::wire::decode(
                EventKind::Metric,
                body.as_bytes(),
                layout,
                now,
                |_, event| {
                    found = event.map(|event| event.event_id);
                },
            )
            .unwrap();
            found
        };
        let made = event_fingerprint("hello");
        let signed = made.cast_signed();
        assert_eq!(id(r#","event_id":"hello""#), Ok(Some(made)));
        assert_eq!(
            id(&format!(r#","event_fingerprint":{signed}"#)),
            Ok(Some(made))
        );
        assert_eq!(
            id(&format!(r#","event_fingerprint":"{signed}""#)),
            Ok(Some(made))
        );
        for bad in [
            r#","event_fingerprint":1.5"#,
            r#","event_fingerprint":"x""#,
            r#","event_fingerprint":1,"event_id":"hello""#,
        ] {
            assert_eq!(id(bad).unwrap_err().field, "event_fingerprint", "{bad}");
        }
    }
}
