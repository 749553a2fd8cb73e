//! Events as JSON: one object, an array of objects, or one object per line.
//!
//! A body whose outer form is broken is refused whole. Inside a sound body
//! every event is judged on its own, so one bad event spoils no other.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{Event, EventKind, FieldError, RawEvent, RawField, validate};
use crate::time::UnixMicros;

/// Why a whole body was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is empty.
    #[error("the body is empty: send an event, an array of events, or one event per line")]
    Empty,
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The body is JSON, but neither an object nor an array.
    #[error(
        "the body is neither an object nor an array: send an event, an array of events, or one event per line"
    )]
    NotEvents,
}

/// How the events of a body are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Told from the first characters.
    Detect,
    /// One JSON object per line.
    Lines,
}

/// Reads every event of `body` and hands it, or the reason it is refused, to
/// `each` together with its index (0-based, in the order of the body).
///
/// ```
/// use trialog_model::event::EventKind;
/// use trialog_model::time::UnixMicros;
/// use trialog_model::wire::{Layout, decode};
///
/// let body = br#"[{"user_id":1,"experiment_id":"gate","event_type":"buy","timestamp":1700000000000}, 5]"#;
/// let mut seen = Vec::new();
/// let now = UnixMicros(1_700_000_000_000_000);
/// decode(EventKind::Metric, body, Layout::Detect, now, |index, event| seen.push((index, event.is_ok())))?;
/// assert_eq!(seen, [(0, true), (1, false)]);
/// # Ok::<(), trialog_model::wire::BodyError>(())
/// ```
///
/// # Errors
///
/// An empty body, broken JSON, or JSON that is neither object nor array.
pub fn decode<'a>(
    kind: EventKind,
    body: &'a [u8],
    layout: Layout,
    received_at: UnixMicros,
    mut each: impl FnMut(u64, Result<Event<'a>, FieldError>),
) -> Result<(), BodyError> {
    let start = body
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .ok_or(BodyError::Empty)?;
    let mut judge = |index: u64, text: &'a str| {
        each(
            index,
            parse_event(kind, text).and_then(|raw| validate(kind, raw, received_at)),
        );
    };
    match (layout, body[start]) {
        (Layout::Detect, b'[') => {
            let mut array = serde_json::Deserializer::from_slice(body);
            let visitor = Elements { judge: &mut judge };
            serde::Deserializer::deserialize_seq(&mut array, visitor)?;
            array.end()?;
            Ok(())
        }
        (Layout::Detect, b'{') => match serde_json::from_slice::<&'a RawValue>(body) {
            Ok(object) => {
                judge(0, object.get());
                Ok(())
            }
            Err(error) if first_line_is_whole(&body[start..]) => {
                drop(error);
                decode_lines(body, judge)
            }
            Err(error) => Err(error.into()),
        },
        (Layout::Lines, _) => decode_lines(body, judge),
        (Layout::Detect, _) => {
            serde_json::from_slice::<IgnoredAny>(body)?;
            Err(BodyError::NotEvents)
        }
    }
}

fn first_line_is_whole(body: &[u8]) -> bool {
    let line = body.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.len() < body.len() && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

fn decode_lines<'a>(body: &'a [u8], mut judge: impl FnMut(u64, &'a str)) -> Result<(), BodyError> {
    let mut index = 0;
    for line in body.split(|&byte| byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        // A line that is not UTF-8 is not JSON; the empty text says so below.
        judge(index, std::str::from_utf8(line).unwrap_or_default());
        index += 1;
    }
    Ok(())
}

struct Elements<'f, F> {
    judge: &'f mut F,
}

impl<'de, F: FnMut(u64, &'de str)> Visitor<'de> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            (self.judge)(index, element.get());
            index += 1;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Assignment<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    experiment_id: Option<&'a RawValue>,
    #[serde(borrow)]
    variant: Option<&'a RawValue>,
    #[serde(borrow)]
    assigned_at: Option<&'a RawValue>,
    #[serde(borrow)]
    forced: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_fingerprint: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metric<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    experiment_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_fingerprint: Option<&'a RawValue>,
}

/// Reads the fields of one event; fields that are not known are passed over.
fn parse_event(kind: EventKind, text: &str) -> Result<RawEvent<'_>, FieldError> {
    let broken = |error: serde_json::Error| FieldError {
        field: "event",
        reason: if text.trim_start().starts_with('{') {
            format!("is not a sound JSON object: {error}")
        } else {
            "is not a JSON object".to_owned()
        },
    };
    Ok(match kind {
        EventKind::Assignment => {
            let raw: Assignment<'_> = serde_json::from_str(text).map_err(broken)?;
            RawEvent {
                user_id: raw_field(raw.user_id),
                experiment_id: raw_field(raw.experiment_id),
                name: raw_field(raw.variant),
                timestamp: raw_field(raw.assigned_at),
                value: raw_field(raw.forced),
                event_id: raw_field(raw.event_id),
                event_fingerprint: raw_field(raw.event_fingerprint),
                context: raw_field(raw.context),
            }
        }
        EventKind::Metric => {
            let raw: Metric<'_> = serde_json::from_str(text).map_err(broken)?;
            RawEvent {
                user_id: raw_field(raw.user_id),
                experiment_id: raw_field(raw.experiment_id),
                name: raw_field(raw.event_type),
                timestamp: raw_field(raw.timestamp),
                value: raw_field(raw.value),
                event_id: raw_field(raw.event_id),
                event_fingerprint: raw_field(raw.event_fingerprint),
                context: RawField::Absent,
            }
        }
    })
}

/// A JSON value, as written, as a field.
pub fn raw_field(raw: Option<&RawValue>) -> RawField<'_> {
    let Some(raw) = raw else {
        return RawField::Absent;
    };
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => RawField::Text(unescape(text)),
        Some(b'{') => RawField::Object(Cow::Borrowed(text)),
        Some(b'[') => RawField::Array(text),
        Some(b't') => RawField::Bool(true),
        Some(b'f') => RawField::Bool(false),
        Some(b'n') | None => RawField::Absent,
        Some(_) => RawField::Number(text),
    }
}

/// The text of a JSON string literal, without a copy where it has no escapes.
fn unescape(literal: &str) -> Cow<'_, str> {
    let inner = &literal[1..literal.len() - 1];
    if inner.contains('\\') {
        // An unpaired surrogate is the one literal that passes the scan and fails here.
        Cow::Owned(serde_json::from_str(literal).unwrap_or_else(|_| inner.to_owned()))
    } else {
        Cow::Borrowed(inner)
    }
}

/// How many keys the JSON object `text` has.
///
/// # Errors
///
/// `text` is not a JSON object.
pub fn count_keys(text: &str) -> Result<usize, serde_json::Error> {
    struct Keys(usize);
    impl<'de> Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Counter;
            impl<'de> Visitor<'de> for Counter {
                type Value = Keys;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut n_keys = 0;
                    while map.next_entry::<String, IgnoredAny>()?.is_some() {
                        n_keys += 1;
                    }
                    Ok(Keys(n_keys))
                }
            }
            deserializer.deserialize_map(Counter)
        }
    }
    serde_json::from_str::<Keys>(text).map(|keys| keys.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);
    const GOOD: &str = r#"{"user_id":"a\u0062","experiment_id":"gate","event_type":"buy","timestamp":"2023-11-14T00:00:00Z","value":1.5}"#;

    fn outcomes(body: &str, layout: Layout) -> Result<Vec<String>, BodyError> {
        let mut seen = Vec::new();
        decode(
            EventKind::Metric,
            body.as_bytes(),
            layout,
            NOW,
            |index, event| {
                seen.push(match event {
                    Ok(event) => format!("{index} ok {}", event.value),
                    Err(error) => format!("{index} {}", error.field),
                });
            },
        )?;
        Ok(seen)
    }

    #[test]
    fn one_object_an_array_and_lines_are_told_apart() {
        let pretty = GOOD.replace(",\"", ",\n\"");
        assert_eq!(outcomes(GOOD, Layout::Detect).unwrap(), ["0 ok 15000"]);
        assert_eq!(outcomes(&pretty, Layout::Detect).unwrap(), ["0 ok 15000"]);
        assert_eq!(
            outcomes(&format!(" [{GOOD},{GOOD}]"), Layout::Detect)
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            outcomes(&format!("{GOOD}\r\n\n{GOOD}\n"), Layout::Detect)
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            outcomes(&format!("{GOOD}\n"), Layout::Lines).unwrap().len(),
            1
        );
        assert_eq!(outcomes("[]", Layout::Detect).unwrap().len(), 0);
    }

    #[test]
    fn one_bad_event_spoils_no_other() {
        let array = format!(r#"[{GOOD}, 7, {{"user_id":[]}}, {GOOD}]"#);
        assert_eq!(
            outcomes(&array, Layout::Detect).unwrap(),
            ["0 ok 15000", "1 event", "2 experiment_id", "3 ok 15000"]
        );
        let lines = format!("{GOOD}\n{{oops\n{GOOD}");
        assert_eq!(
            outcomes(&lines, Layout::Detect).unwrap(),
            ["0 ok 15000", "1 event", "2 ok 15000"]
        );
    }

    #[test]
    fn a_broken_body_is_refused_whole() {
        for body in [
            "",
            "  ",
            "{\"user_id\":",
            "[{}",
            "[{}]x",
            "\"text\"",
            "17",
            "nope",
            "{} x",
        ] {
            assert!(outcomes(body, Layout::Detect).is_err(), "{body}");
        }
    }

    #[test]
    fn escaped_text_is_resolved() {
        let mut user = None;
        decode(
            EventKind::Metric,
            GOOD.as_bytes(),
            Layout::Detect,
            NOW,
            |_, event| {
                user = event.ok().map(|event| event.user_id);
            },
        )
        .unwrap();
        assert_eq!(user, Some(crate::user_id::user_id_from_text("ab")));
    }
}
