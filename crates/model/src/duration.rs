//! Parses attribution windows: `7d`, `36h`, `90m`, `30s`, `2w`, `none`.
//!
//! Configuration, the HTTP interface and the registry all carry this text.

mod delay;
pub mod pattern;

pub use delay::{Delay, DelayError, EARLIEST_SECONDS};

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::time::UnixMicros;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

/// The seconds in the longest window, 3,650 days.
pub const LONGEST_SECONDS: i64 = 3_650 * DAY;

/// How long after the exposure a metric event still counts.
///
/// Either a whole number of seconds, from 1 second to 3,650 days, or unbounded.
/// Days are 24 hours. Printed in the largest of `d`, `h`, `m` and `s` that
/// divides it, so equal windows have equal text: `2w` prints as `14d`.
///
/// ```
/// # use trialog_model::duration::Window;
/// let window = Window::parse("48h")?;
/// assert_eq!(window.to_string(), "2d");
/// assert_eq!(Window::DEFAULT, Window::parse("1w")?);
/// # Ok::<(), trialog_model::duration::WindowError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// `None` when unbounded.
    seconds: Option<i64>,
}

/// The reason why a text is not an attribution window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// Not a whole number followed by a unit.
    #[error(
        "window `{text}` is not a whole number and a unit: write it like `7d`, `36h`, `90m`, \
         `30s` or `2w`, or `none` for no end"
    )]
    Malformed {
        /// The text as given.
        text: String,
    },
    /// A number without a unit.
    #[error(
        "window `{text}` has no unit: add `w`, `d`, `h`, `m` or `s` for weeks, days, hours, \
         minutes or seconds"
    )]
    NoUnit {
        /// The text as given.
        text: String,
    },
    /// A unit that is not known.
    #[error(
        "unit of window `{text}` is unknown: use `w`, `d`, `h`, `m` or `s` for weeks, days, \
         hours, minutes or seconds"
    )]
    UnknownUnit {
        /// The text as given.
        text: String,
    },
    /// A window of length zero, in which nothing could count.
    #[error("window `{text}` is empty: give at least `1s`, or `none` for no end")]
    Zero {
        /// The text as given.
        text: String,
    },
    /// Longer than ten years of 365 days.
    #[error("window `{text}` is too long: give at most `3650d`, or `none` for no end")]
    TooLong {
        /// The text as given.
        text: String,
    },
}

impl Window {
    /// The default window of a metric: seven days.
    pub const DEFAULT: Self = Self {
        seconds: Some(7 * DAY),
    };

    /// The window without an end, written `none`.
    pub const UNBOUNDED: Self = Self { seconds: None };

    /// Parses a window.
    ///
    /// The text is taken strictly: no spaces, sign, fraction or capital letters.
    ///
    /// # Errors
    ///
    /// When the text has another form, or its length is zero or above 3,650
    /// days. The message says what to write.
    ///
    /// ```
    /// # use trialog_model::duration::Window;
    /// assert_eq!(Window::parse("none"), Ok(Window::UNBOUNDED));
    /// assert!(Window::parse("7").unwrap_err().to_string().contains("has no unit"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        if text == "none" {
            return Ok(Self::UNBOUNDED);
        }
        let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(n_digits);
        let owned = || text.to_owned();
        if number.is_empty() {
            return Err(WindowError::Malformed { text: owned() });
        }
        let Some(seconds_per_unit) = seconds_per_unit(unit) else {
            let text = owned();
            return Err(if unit.is_empty() {
                WindowError::NoUnit { text }
            } else if unit.starts_with(|c: char| c.is_ascii_alphabetic()) {
                WindowError::UnknownUnit { text }
            } else {
                WindowError::Malformed { text }
            });
        };
        // Only digits are left, so the one way to fail is being too large.
        let length = number
            .parse::<i64>()
            .ok()
            .and_then(|n| n.checked_mul(seconds_per_unit));
        match length {
            Some(0) => Err(WindowError::Zero { text: owned() }),
            Some(seconds) if seconds <= LONGEST_SECONDS => Ok(Self {
                seconds: Some(seconds),
            }),
            _ => Err(WindowError::TooLong { text: owned() }),
        }
    }

    /// Returns the length in microseconds; `None` for the unbounded window.
    ///
    /// ```
    /// # use trialog_model::duration::Window;
    /// assert_eq!(Window::parse("30s")?.micros(), Some(30_000_000));
    /// assert_eq!(Window::UNBOUNDED.micros(), None);
    /// # Ok::<(), trialog_model::duration::WindowError>(())
    /// ```
    pub const fn micros(self) -> Option<i64> {
        match self.seconds {
            Some(seconds) => Some(seconds * MICROS_PER_SECOND),
            None => None,
        }
    }

    /// Returns the first Unix microsecond that no longer counts for a unit exposed at `exposure`.
    ///
    /// An event counts when `exposure <= timestamp < end`. Saturates at
    /// `i64::MAX`, which is also the end of the unbounded window.
    ///
    /// ```
    /// # use trialog_model::{duration::Window, time::UnixMicros};
    /// assert_eq!(Window::parse("1m")?.end(UnixMicros(5)), 60_000_005);
    /// assert_eq!(Window::UNBOUNDED.end(UnixMicros(5)), i64::MAX);
    /// # Ok::<(), trialog_model::duration::WindowError>(())
    /// ```
    pub const fn end(self, exposure: UnixMicros) -> i64 {
        match self.micros() {
            Some(micros) => exposure.0.saturating_add(micros),
            None => i64::MAX,
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(seconds) = self.seconds else {
            return f.write_str("none");
        };
        format_seconds(seconds, f)
    }
}

/// Returns the seconds of a unit; `None` for an unknown one.
fn seconds_per_unit(unit: &str) -> Option<i64> {
    match unit {
        "w" => Some(WEEK),
        "d" => Some(DAY),
        "h" => Some(HOUR),
        "m" => Some(MINUTE),
        "s" => Some(1),
        _ => None,
    }
}

/// Writes `seconds` in the largest of `d`, `h`, `m` and `s` that divides them.
fn format_seconds(seconds: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (length, unit) in [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm')] {
        if seconds % length == 0 {
            return write!(f, "{}{unit}", seconds / length);
        }
    }
    write!(f, "{seconds}s")
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        Self::parse(text)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Window {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": pattern::window() })
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_forms_have_these_lengths() {
        let forms = [
            ("7d", "7d", 604_800),
            ("36h", "36h", 129_600),
            ("90m", "90m", 5_400),
            ("30s", "30s", 30),
            ("2w", "14d", 1_209_600),
            ("0120m", "2h", 7_200),
            ("3650d", "3650d", 315_360_000),
        ];
        for (text, printed, seconds) in forms {
            let window = Window::parse(text).unwrap();
            assert_eq!(window.micros(), Some(seconds * 1_000_000), "{text}");
            assert_eq!(window.to_string(), printed);
        }
    }

    #[test]
    fn messages_say_what_to_write() {
        let faults = [
            ("", "is not a whole number and a unit"),
            ("-7d", "is not a whole number and a unit"),
            ("1.5d", "is not a whole number and a unit"),
            ("7 d", "is not a whole number and a unit"),
            ("7é", "is not a whole number and a unit"),
            ("None", "is not a whole number and a unit"),
            ("7", "has no unit"),
            ("7D", "is unknown"),
            ("7days", "is unknown"),
            ("0s", "is empty"),
            ("3651d", "is too long"),
            ("99999999999999999999s", "is too long"),
            ("9223372036854775807w", "is too long"),
        ];
        for (text, part) in faults {
            let message = Window::parse(text).unwrap_err().to_string();
            assert!(
                message.contains(part) && message.contains(&format!("`{text}`")),
                "{message}"
            );
        }
    }

    #[test]
    fn json_carries_the_text() {
        let windows: Vec<Window> = serde_json::from_str(r#"["168h", "none"]"#).unwrap();
        assert_eq!(windows, [Window::DEFAULT, Window::UNBOUNDED]);
        assert_eq!(serde_json::to_string(&windows).unwrap(), r#"["7d","none"]"#);
        assert!(serde_json::from_str::<Window>("7").is_err());
        assert!(serde_json::from_str::<Window>(r#""7x""#).is_err());
    }

    #[test]
    fn end_saturates() {
        assert_eq!(Window::DEFAULT.end(UnixMicros(i64::MAX - 1)), i64::MAX);
    }

    proptest! {
        #[test]
        fn printed_windows_read_back(seconds in 1..=LONGEST_SECONDS) {
            let window = Window { seconds: Some(seconds) };
            prop_assert_eq!(Window::parse(&window.to_string()), Ok(window));
        }

        #[test]
        fn any_text_is_answered(text: String) {
            if let Ok(window) = Window::parse(&text) {
                prop_assert_eq!(Window::parse(&window.to_string()), Ok(window));
            }
        }
    }
}
