//! What an event is, and the rules that every event passes before it is kept.
//!
//! Both kinds of event have the same shape: somebody (`user_id`) in an
//! experiment, at a time, with a name (the variant, or the event type) and a
//! number (the forced flag, or the value). The warehouse stores them alike.

use std::borrow::Cow;
use std::fmt;

use crate::decimal::Value;
use crate::ids::{EventType, ExperimentId, Variant, check_name};
use crate::time::{EARLIEST, MAX_AHEAD, UnixMicros};
use crate::user_id::{event_fingerprint, user_id_from_text};

/// The most bytes that the context of an assignment may have.
pub const MAX_CONTEXT_BYTES: usize = 4096;
/// The most keys that the context of an assignment may have.
pub const MAX_CONTEXT_KEYS: usize = 64;
/// The most bytes that an `event_id` may have.
pub const MAX_EVENT_ID_BYTES: usize = 64;
/// The most bytes that a `user_id` given as text may have.
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

    /// The plural that paths and tables use: `assignments` or `metrics`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Assignment => "assignments",
            Self::Metric => "metrics",
        }
    }

    /// The JSON field of the time: `assigned_at` or `timestamp`.
    pub fn time_field(self) -> &'static str {
        match self {
            Self::Assignment => "assigned_at",
            Self::Metric => "timestamp",
        }
    }

    /// The JSON field of the name: `variant` or `event_type`.
    pub fn name_field(self) -> &'static str {
        match self {
            Self::Assignment => "variant",
            Self::Metric => "event_type",
        }
    }

    /// The JSON field of the number: `forced` or `value`.
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

/// A valid event, borrowing its texts from what it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The user, as stored (see [`user_id_from_text`]).
    pub user_id: i64,
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

/// One field as it was read, before any rule was applied to it.
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
    /// A cell of a table that has no types, such as CSV.
    Cell(&'a str),
    /// A whole number of a table that has types.
    Integer(i64),
    /// A time of a table that has types.
    Time(UnixMicros),
}

impl RawField<'_> {
    fn describe(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Text(_) | Self::Cell(_) => "a string",
            Self::Number(_) | Self::Integer(_) => "a number",
            Self::Time(_) => "a time",
            Self::Bool(_) => "a boolean",
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
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

/// The field that a rule refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct FieldError {
    /// The JSON name of the field.
    pub field: &'static str,
    /// What is wrong and how to mend it.
    pub reason: String,
}

fn refuse<T>(field: &'static str, reason: impl fmt::Display) -> Result<T, FieldError> {
    Err(FieldError {
        field,
        reason: reason.to_string(),
    })
}

fn wrong_type<T>(field: &'static str, wanted: &str, got: &RawField<'_>) -> Result<T, FieldError> {
    match got {
        RawField::Absent => refuse(field, format_args!("is missing: give {wanted}")),
        other => refuse(
            field,
            format_args!("is {}: give {wanted}", other.describe()),
        ),
    }
}

/// Checks every field of `raw` and gives the event they make.
///
/// `received_at` bounds the time: at most 24 hours after it.
///
/// # Errors
///
/// The first field that breaks a rule, with the reason.
pub fn validate<'a>(
    kind: EventKind,
    raw: RawEvent<'a>,
    received_at: UnixMicros,
) -> Result<Event<'a>, FieldError> {
    let experiment_id = match raw.experiment_id {
        RawField::Absent if kind == EventKind::Metric => refuse(
            "experiment_id",
            "is missing: a metric event names its experiment, one event per experiment",
        ),
        field => name_text("experiment_id", field, ExperimentId::MAX_CHARS),
    }?;
    Ok(Event {
        user_id: user_id(&raw.user_id)?,
        experiment_id,
        name: name_text(kind.name_field(), raw.name, kind.max_name_chars())?,
        timestamp: timestamp(kind.time_field(), &raw.timestamp, received_at)?,
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

fn user_id(field: &RawField<'_>) -> Result<i64, FieldError> {
    const WANTED: &str = "an integer within BIGINT or a string";
    let text: &str = match field {
        RawField::Text(text) => text,
        RawField::Cell(text) if !text.is_empty() => text,
        RawField::Cell(_) => return refuse("user_id", "is empty"),
        RawField::Integer(number) => return Ok(*number),
        RawField::Number(digits) => {
            return digits.parse().or_else(|_| {
                refuse(
                    "user_id",
                    format_args!(
                        "`{}` is not an integer within BIGINT: send it as a string",
                        clip(digits)
                    ),
                )
            });
        }
        other => return wrong_type("user_id", WANTED, other),
    };
    if text.is_empty() {
        return refuse("user_id", "is empty");
    }
    if text.len() > MAX_USER_ID_BYTES {
        return refuse(
            "user_id",
            format_args!(
                "has {} bytes: at most {MAX_USER_ID_BYTES} are allowed",
                text.len()
            ),
        );
    }
    Ok(user_id_from_text(text))
}

fn name_text<'a>(
    field: &'static str,
    raw: RawField<'a>,
    max_chars: usize,
) -> Result<Cow<'a, str>, FieldError> {
    let text = match raw {
        RawField::Text(text) => text,
        RawField::Cell(text) => Cow::Borrowed(text),
        other => return wrong_type(field, "a string", &other),
    };
    match check_name(&text, max_chars) {
        Ok(()) => Ok(text),
        Err(error) => refuse(field, error),
    }
}

fn timestamp(
    field: &'static str,
    raw: &RawField<'_>,
    received_at: UnixMicros,
) -> Result<UnixMicros, FieldError> {
    let parsed = match raw {
        RawField::Text(text) => UnixMicros::parse_rfc3339(text.as_bytes()),
        RawField::Cell(text) => match text.parse() {
            Ok(millis) => UnixMicros::from_millis(millis),
            Err(_) => UnixMicros::parse_rfc3339(text.as_bytes()),
        },
        RawField::Number(digits) => match digits.parse() {
            Ok(millis) => UnixMicros::from_millis(millis),
            Err(_) => {
                return refuse(
                    field,
                    format_args!(
                        "`{}` is not a whole number of epoch milliseconds",
                        clip(digits)
                    ),
                );
            }
        },
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
    let at = parsed.or_else(|error| refuse(field, error))?;
    if at < EARLIEST {
        return refuse(
            field,
            format_args!(
                "`{at}` is before {EARLIEST}: check its unit, epoch milliseconds are expected"
            ),
        );
    }
    if at.0 > received_at.0.saturating_add(MAX_AHEAD) {
        return refuse(
            field,
            format_args!(
                "`{at}` is more than 24 hours after it was received: check the clock and the unit"
            ),
        );
    }
    Ok(at)
}

fn value(raw: &RawField<'_>) -> Result<Value, FieldError> {
    let text: &str = match raw {
        RawField::Absent => return Ok(Value::ONE),
        RawField::Number(text) => text,
        RawField::Cell("") => return refuse("value", "is empty: give a decimal number"),
        RawField::Cell(text) => text,
        RawField::Text(text) => text,
        RawField::Integer(number) => return whole_value(*number),
        other => return wrong_type("value", "a decimal number", other),
    };
    Value::parse(text.as_bytes()).or_else(|error| refuse("value", error))
}

fn whole_value(number: i64) -> Result<Value, FieldError> {
    let units = number.checked_mul(10_000).and_then(Value::from_units);
    units.map_or_else(
        || {
            refuse(
                "value",
                "is out of range: at most 14 digits before the point are kept",
            )
        },
        Ok,
    )
}

fn forced(raw: &RawField<'_>) -> Result<bool, FieldError> {
    match raw {
        RawField::Absent | RawField::Cell("") => Ok(false),
        RawField::Bool(forced) => Ok(*forced),
        RawField::Integer(number @ 0..=1) => Ok(*number == 1),
        RawField::Cell(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => refuse(
                "forced",
                format_args!("`{}` is neither true nor false", clip(text)),
            ),
        },
        other => wrong_type("forced", "true or false", other),
    }
}

fn event_id(raw: &RawField<'_>) -> Result<Option<u64>, FieldError> {
    let text: &str = match raw {
        RawField::Absent | RawField::Cell("") => return Ok(None),
        RawField::Text(text) => text,
        RawField::Cell(text) | RawField::Number(text) => text,
        other => return wrong_type("event_id", "a UUID or another text", other),
    };
    if text.is_empty() {
        return refuse("event_id", "is empty: leave it out or give 1 to 64 bytes");
    }
    if text.len() > MAX_EVENT_ID_BYTES {
        return refuse(
            "event_id",
            format_args!(
                "has {} bytes: at most {MAX_EVENT_ID_BYTES} are allowed",
                text.len()
            ),
        );
    }
    Ok(Some(event_fingerprint(text)))
}

/// What an exported event carries in place of its id.
fn fingerprint(raw: &RawField<'_>) -> Result<u64, FieldError> {
    let text: &str = match raw {
        RawField::Integer(number) => return Ok(number.cast_unsigned()),
        RawField::Text(text) => text,
        RawField::Cell(text) | RawField::Number(text) => text,
        other => return wrong_type("event_fingerprint", "an integer within BIGINT", other),
    };
    match text.parse::<i64>() {
        Ok(number) => Ok(number.cast_unsigned()),
        Err(_) => refuse(
            "event_fingerprint",
            format_args!("`{}` is not an integer within BIGINT", clip(text)),
        ),
    }
}

fn context(raw: RawField<'_>) -> Result<Option<Cow<'_, str>>, FieldError> {
    let text = match raw {
        RawField::Absent | RawField::Cell("") => return Ok(None),
        RawField::Object(text) => text,
        RawField::Cell(text) => Cow::Borrowed(text),
        other => return wrong_type("context", "a JSON object", &other),
    };
    if text.len() > MAX_CONTEXT_BYTES {
        return refuse(
            "context",
            format_args!(
                "has {} bytes: at most {MAX_CONTEXT_BYTES} are allowed",
                text.len()
            ),
        );
    }
    match crate::wire::count_keys(&text) {
        Err(error) => refuse("context", format_args!("is not a JSON object: {error}")),
        Ok(n_keys) if n_keys > MAX_CONTEXT_KEYS => refuse(
            "context",
            format_args!("has {n_keys} keys: at most {MAX_CONTEXT_KEYS} are allowed"),
        ),
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(text)),
    }
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

    fn refused(raw: RawEvent<'_>) -> FieldError {
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
            ("user_id", RawField::Bool(true)),
            ("user_id", text("")),
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
            let mut found = Err(FieldError {
                field: "none",
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
