//! Parses events from JSON: one object, an array of objects, or one object per line.
//!
//! A body whose outer form is broken is refused whole. Inside a sound body
//! every event is validated separately, so one bad event spoils no other.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::document;
use crate::event::{Event, EventError, EventKind, Fault, RawEvent, RawField, Rules, validate};

/// The reason why a whole body was rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is empty.
    #[error("the body is empty: send an event, an array of events, or one event per line")]
    Empty,
    /// The body ends within an event or an array.
    #[error(
        "the body ends early, after {n_events} whole events and {n_bytes} bytes: send it whole; none of it was taken"
    )]
    Incomplete {
        /// Events before the place where it breaks off.
        n_events: u64,
        /// Bytes of the whole body.
        n_bytes: usize,
    },
    /// The body goes on after its end.
    #[error(
        "the body goes on at byte {at}, after the end of its {n_events} events: send one array, or one event per line; none of it was taken"
    )]
    Trailing {
        /// Events before that place.
        n_events: u64,
        /// The first byte that is too much, from 0.
        at: usize,
    },
    /// The body is not JSON.
    #[error("the body {}", document::not_json(.0))]
    Json(serde_json::Error),
    /// The object has no such array.
    #[error("the body is no object with one array `{0}`: send `{{\"{0}\": [...]}}`")]
    NoArray(&'static str),
    /// The array is longer than is taken.
    #[error("the body has more than {0} events: send them in several requests")]
    TooMany(usize),
    /// The body is JSON, but neither an object nor an array.
    #[error(
        "the body is neither an object nor an array: send an event, an array of events, or one event per line"
    )]
    NotEvents,
}

// The message holds the cause already, so it is no `source` beside that.
impl From<serde_json::Error> for BodyError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// How the events of a body are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Told from the first characters.
    Detect,
    /// One JSON object per line.
    Lines,
}

/// Parses every event of `body` and passes it, or the reason why it is rejected, to `each`
/// together with its 0-based index in the body.
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
/// A byte order mark before the first event is passed over.
///
/// # Errors
///
/// An empty body, one that breaks off or goes on after its end, or one that is
/// neither object nor array.
pub fn decode<'a>(
    kind: EventKind,
    body: &'a [u8],
    layout: Layout,
    rules: impl Into<Rules>,
    mut each: impl FnMut(u64, Result<Event<'a>, EventError>),
) -> Result<(), BodyError> {
    let rules = rules.into();
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let start = body
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .ok_or(BodyError::Empty)?;
    let mut check = |index: u64, text: &'a [u8]| {
        let text = std::str::from_utf8(text).map_err(|_| EventError {
            field: "event",
            fault: Fault::Malformed,
            reason: "is not UTF-8: send JSON in UTF-8".to_owned(),
        });
        let raw = text.and_then(|text| parse_event(kind, text));
        each(index, raw.and_then(|raw| validate(kind, raw, rules)));
    };
    match (layout, body[start]) {
        (Layout::Detect, b'[') => decode_array(body, start, check),
        (Layout::Detect, b'{') => {
            let incomplete = BodyError::Incomplete {
                n_events: 0,
                n_bytes: body.len(),
            };
            let end = value_end(body, start).ok_or(incomplete)?;
            let has_more_lines = !body[start..end].contains(&b'\n')
                && body[end..].iter().find(|byte| !b" \t\r".contains(byte)) == Some(&b'\n');
            if has_more_lines {
                return decode_lines(body, check);
            }
            check(0, &body[start..end]);
            nothing_follows(body, end, 1)
        }
        (Layout::Lines, _) => decode_lines(body, check),
        (Layout::Detect, _) => {
            serde_json::from_slice::<IgnoredAny>(body)?;
            Err(BodyError::NotEvents)
        }
    }
}

/// Returns the elements of the array `name` in the object `body`, at most `most`. Elements are not
/// parsed, so an invalid one does not spoil the others. The rest of the object must be JSON.
///
/// ```
/// use trialog_model::wire::elements;
/// let body = br#"{"sent_at": 3, "events": [{"value": NaN}, {"value": 1}]}"#;
/// let seen = elements(body, "events", 10)?;
/// assert_eq!(seen, [r#"{"value": NaN}"#.as_bytes(), r#"{"value": 1}"#.as_bytes()]);
/// # Ok::<(), trialog_model::wire::BodyError>(())
/// ```
///
/// # Errors
///
/// A body that breaks off or goes on after its end, one that is no object with one such
/// array, or more elements than `most`.
pub fn elements<'a>(
    body: &'a [u8],
    name: &'static str,
    most: usize,
) -> Result<Vec<&'a [u8]>, BodyError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let incomplete = || BodyError::Incomplete {
        n_events: 0,
        n_bytes: body.len(),
    };
    let at_place = |at: usize| body.get(at).copied().ok_or_else(incomplete);
    let mut at = skip_space(body, 0);
    if body.get(at) != Some(&b'{') {
        return Err(BodyError::NoArray(name));
    }
    let mut found = None;
    loop {
        // Behind the brace or a comma: a key, or the end of an empty object.
        let key = skip_space(body, at + 1);
        match at_place(key)? {
            b'"' => {}
            b'}' if body[at] == b'{' => return Err(BodyError::NoArray(name)),
            _ => return Err(not_json(body)),
        }
        let key_end = string_end(body, key + 1).ok_or_else(incomplete)? + 1;
        let colon = skip_space(body, key_end);
        if at_place(colon)? != b':' {
            return Err(not_json(body));
        }
        let value = skip_space(body, colon + 1);
        let is_own = serde_json::from_slice::<String>(&body[key..key_end])? == name;
        let end = if is_own {
            if at_place(value)? != b'[' || found.is_some() {
                return Err(BodyError::NoArray(name));
            }
            let mut elements = Vec::new();
            let end = array(body, value, |index, element| {
                if index < most as u64 {
                    elements.push(element);
                }
                index < most as u64
            })?;
            let Some(end) = end else {
                return Err(BodyError::TooMany(most));
            };
            found = Some(elements);
            end
        } else {
            let end = value_end(body, value).ok_or_else(incomplete)?;
            serde_json::from_slice::<IgnoredAny>(&body[value..end])?;
            end
        };
        at = skip_space(body, end);
        match at_place(at)? {
            b',' => {}
            b'}' => break,
            _ => return Err(not_json(body)),
        }
    }
    let found = found.ok_or(BodyError::NoArray(name))?;
    nothing_follows(body, at + 1, found.len() as u64)?;
    Ok(found)
}

/// Returns the error of the first fault that serde finds in `body`.
fn not_json(body: &[u8]) -> BodyError {
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(_) => BodyError::NotEvents,
        Err(error) => BodyError::Json(error),
    }
}

/// The byte order mark that some programs write before UTF-8 text.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn decode_array<'a>(
    body: &'a [u8],
    start: usize,
    mut check: impl FnMut(u64, &'a [u8]),
) -> Result<(), BodyError> {
    let mut n_events = 0;
    let end = array(body, start, |index, element| {
        n_events = index + 1;
        check(index, element);
        true
    })?;
    end.map_or(Ok(()), |end| nothing_follows(body, end, n_events))
}

/// Passes each element of the array at `start`, parsed or not, to `each` until that returns false.
/// Returns the place after the array; `None` if `each` ended early.
fn array<'a>(
    body: &'a [u8],
    start: usize,
    mut each: impl FnMut(u64, &'a [u8]) -> bool,
) -> Result<Option<usize>, BodyError> {
    let mut n_events = 0;
    let mut at = start + 1;
    loop {
        at = skip_space(body, at);
        if n_events == 0 && body.get(at) == Some(&b']') {
            return Ok(Some(at + 1));
        }
        let incomplete = BodyError::Incomplete {
            n_events,
            n_bytes: body.len(),
        };
        let end = value_end(body, at).ok_or(incomplete)?;
        if body[at..end].trim_ascii().is_empty() {
            // Two commas, or one before the end.
            return Err(not_json(body));
        }
        let separator = skip_space(body, end);
        match body.get(separator) {
            Some(b',' | b']') => {
                if !each(n_events, &body[at..end]) {
                    return Ok(None);
                }
            }
            Some(_) => {
                return Err(BodyError::Trailing {
                    n_events: n_events + 1,
                    at: separator,
                });
            }
            None => {
                return Err(BodyError::Incomplete {
                    n_events: n_events + 1,
                    n_bytes: body.len(),
                });
            }
        }
        n_events += 1;
        at = separator + 1;
        if body[separator] == b']' {
            return Ok(Some(at));
        }
    }
}

fn skip_space(body: &[u8], from: usize) -> usize {
    let rest = body.get(from..).unwrap_or_default();
    from + rest.len() - rest.trim_ascii_start().len()
}

fn nothing_follows(body: &[u8], end: usize, n_events: u64) -> Result<(), BodyError> {
    let at = skip_space(body, end);
    if at == body.len() {
        Ok(())
    } else {
        Err(BodyError::Trailing { n_events, at })
    }
}

/// Returns the end of the value that begins at `from`: after its last bracket, or before the comma
/// or bracket that ends its container.
///
/// Looks at brackets and strings only, so that one value that is not JSON, such
/// as `NaN`, does not hide the others. `None` where the body ends before it.
fn value_end(body: &[u8], from: usize) -> Option<usize> {
    let is_nested = matches!(body.get(from)?, b'{' | b'[');
    let mut depth = 0usize;
    let mut at = from;
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => at = string_end(body, at + 1)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return Some(at),
            _ => {}
        }
        at += 1;
        if is_nested && depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Returns the place of the quote that ends the string whose text begins at `from`.
fn string_end(body: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let rest = body.get(from..)?;
        let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if rest[at] == b'"' {
            return Some(from + at);
        }
        from += at + 2;
    }
}

fn decode_lines<'a>(body: &'a [u8], mut check: impl FnMut(u64, &'a [u8])) -> Result<(), BodyError> {
    let mut index = 0;
    let mut start = 0;
    for line in body.split(|&byte| byte == b'\n') {
        let end = start + line.len();
        let is_last = end == body.len();
        start = end + 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if is_last && breaks_off(line) {
            return Err(BodyError::Incomplete {
                n_events: index,
                n_bytes: body.len(),
            });
        }
        check(index, line);
        index += 1;
    }
    Ok(())
}

/// Returns whether the JSON object that begins on `line` continues beyond it.
pub fn breaks_off(line: &[u8]) -> bool {
    let start = skip_space(line, 0);
    line.get(start) == Some(&b'{') && value_end(line, start).is_none()
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
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event_fingerprint: Option<&'a RawValue>,
}

/// Deserializes a member that is present, also if it is null.
///
/// # Errors
///
/// Those of the deserializer.
pub fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Returns the value of a metric event as a field: null becomes an empty cell, which is rejected,
/// while a missing member stays missing and means 1.
pub fn raw_value(raw: Option<&RawValue>) -> RawField<'_> {
    match raw {
        Some(raw) if raw.get() == "null" => RawField::Cell(""),
        raw => raw_field(raw),
    }
}

/// Reads the fields of one event; fields that are not known are passed over.
fn parse_event(kind: EventKind, text: &str) -> Result<RawEvent<'_>, EventError> {
    let broken = |error: serde_json::Error| EventError {
        field: "event",
        fault: Fault::Malformed,
        reason: if text.trim_start().starts_with('{') {
            document::not_json(&error)
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
                value: raw_value(raw.value),
                event_id: raw_field(raw.event_id),
                event_fingerprint: raw_field(raw.event_fingerprint),
                context: RawField::Absent,
            }
        }
    })
}

/// Converts a JSON value, as written, to a field.
pub fn raw_field(raw: Option<&RawValue>) -> RawField<'_> {
    let Some(raw) = raw else {
        return RawField::Absent;
    };
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => unescape(text).map_or(RawField::HalfCharacter, RawField::Text),
        Some(b'{') => RawField::Object(Cow::Borrowed(text)),
        Some(b'[') => RawField::Array(text),
        Some(b't') => RawField::Bool(true),
        Some(b'f') => RawField::Bool(false),
        Some(b'n') | None => RawField::Absent,
        Some(_) => RawField::Number(text),
    }
}

/// The text of a JSON string literal, without a copy where it has no escapes; none where an
/// escape is an unpaired surrogate, the one fault that the scan lets pass.
fn unescape(literal: &str) -> Option<Cow<'_, str>> {
    let inner = &literal[1..literal.len() - 1];
    if inner.contains('\\') {
        serde_json::from_str(literal).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Counts the keys of the JSON object `text`.
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
    use crate::time::UnixMicros;

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
    fn one_event_that_is_not_json_spoils_no_other() {
        let nan = GOOD.replace("1.5", "NaN");
        let expected = ["0 ok 15000", "1 event", "2 ok 15000"];
        let array = format!("[{GOOD} , {nan},\n{GOOD}]");
        assert_eq!(outcomes(&array, Layout::Detect).unwrap(), expected);
        let lines = format!("{GOOD}\n{nan}\n{GOOD}");
        assert_eq!(outcomes(&lines, Layout::Detect).unwrap(), expected);
        assert_eq!(outcomes(&nan, Layout::Detect).unwrap(), ["0 event"]);
        let first = format!("{nan}\n{GOOD}");
        assert_eq!(
            outcomes(&first, Layout::Detect).unwrap(),
            ["0 event", "1 ok 15000"]
        );
    }

    #[test]
    fn an_array_in_an_object_is_split_and_the_rest_has_to_be_json() {
        let whole = r#" {"a": {"b": [1, "]"]}, "\u0065vents" : [{"x": NaN}, 7 ,"y"], "c": null} "#;
        let seen = elements(whole.as_bytes(), "events", 3).unwrap();
        assert_eq!(seen, [r#"{"x": NaN}"#, "7 ", r#""y""#].map(str::as_bytes));
        let error = elements(whole.as_bytes(), "events", 2).unwrap_err();
        assert!(matches!(error, BodyError::TooMany(2)), "{error}");
        assert_eq!(elements(br#"{"events":[]}"#, "events", 0).unwrap().len(), 0);
        for length in 0..whole.trim_end().len() {
            elements(&whole.as_bytes()[..length], "events", 9).unwrap_err();
        }
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"events": {}}"#,
            r#"{"events": 1}"#,
            r#"{"events": [], "events": []}"#,
            r#"{"events": [], "a": }"#,
            r#"{"a": , "events": []}"#,
            r#"{"a": [1}, "events": []}"#,
            r#"{"a": 1 2, "events": []}"#,
            r#"{"a": "x" y "z", "events": []}"#,
            r#"{"a": tru, "events": []}"#,
            r#"{"events": [],}"#,
            r#"{"events" []}"#,
            r#"{"events": [1 2]}"#,
            r#"{"events": []} x"#,
            r#"{events: []}"#,
        ] {
            let error = elements(wrong.as_bytes(), "events", 9);
            assert!(error.is_err() || wrong.contains("[1 2]"), "{wrong}");
        }
    }

    #[test]
    fn an_event_that_is_not_utf_8_says_so() {
        let mut body = GOOD.replace("1.5", "1,\"city\":\"M#\"").into_bytes();
        let at = body.iter().position(|byte| *byte == b'#').unwrap();
        body[at] = 0xfc;
        let mut reason = String::new();
        decode(EventKind::Metric, &body, Layout::Detect, NOW, |_, event| {
            reason = event.unwrap_err().reason;
        })
        .unwrap();
        assert!(reason.contains("not UTF-8"), "{reason}");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        for body in [
            format!("\u{feff}[{GOOD}]"),
            format!("\u{feff}{GOOD}\n{GOOD}\n"),
        ] {
            for layout in [Layout::Detect, Layout::Lines] {
                if layout == Layout::Lines && body.contains('[') {
                    continue;
                }
                let seen = outcomes(&body, layout).unwrap();
                assert!(
                    seen.iter().all(|outcome| outcome.ends_with("ok 15000")),
                    "{seen:?}"
                );
            }
        }
    }

    #[test]
    fn a_body_that_is_cut_at_any_byte_is_refused_or_ends_between_lines() {
        let array = format!("[{GOOD},{GOOD}]");
        for length in 0..array.len() {
            let error = outcomes(&array[..length], Layout::Detect).unwrap_err();
            assert!(
                matches!(error, BodyError::Incomplete { .. } | BodyError::Empty),
                "{length}: {error}"
            );
        }
        let lines = format!("{GOOD}\n{GOOD}\n");
        for length in 1..lines.len() {
            for layout in [Layout::Lines, Layout::Detect] {
                let n_whole = (length + 1) / (GOOD.len() + 1);
                let rest = length - (n_whole * (GOOD.len() + 1)).min(length);
                match outcomes(&lines[..length], layout) {
                    Ok(seen) => assert_eq!((seen.len(), rest), (n_whole, 0), "{length}"),
                    Err(BodyError::Incomplete { n_events, n_bytes }) => {
                        assert_eq!((n_events as usize, n_bytes), (n_whole, length));
                        assert!(rest > 0);
                    }
                    Err(error) => panic!("{length}: {error}"),
                }
            }
        }
    }

    #[test]
    fn what_follows_the_end_of_a_body_is_refused() {
        for body in [
            format!("[{GOOD}]x"),
            format!("[{GOOD}][{GOOD}]"),
            format!("{GOOD}{GOOD}"),
            format!("[{GOOD} {GOOD}]"),
        ] {
            let error = outcomes(&body, Layout::Detect).unwrap_err();
            assert!(
                matches!(error, BodyError::Trailing { n_events: 1, .. }),
                "{body}: {error}"
            );
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
