//! Parses the delay of a metric, the time from the exposure to the start of its window: `-1s`,
//! `30m`, `1d`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::{DAY, LONGEST_SECONDS, MICROS_PER_SECOND, format_seconds, seconds_per_unit};

/// The seconds by which a window may begin before the exposure, one day.
pub const EARLIEST_SECONDS: i64 = DAY;

/// How long after the exposure the window of a metric begins; before it where negative.
///
/// A whole number of seconds, from one day before the exposure to 3,650 days
/// after it. The window keeps its length. A negative delay is for clocks that
/// differ between services, and for exposures that are logged a moment late:
/// what users did more than a day before the exposure is no effect of a variant.
///
/// ```
/// # use trialog_model::duration::Delay;
/// assert_eq!(Delay::parse("-90s")?.micros(), -90_000_000);
/// assert_eq!(Delay::parse("48h")?.to_string(), "2d");
/// # Ok::<(), trialog_model::duration::DelayError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Delay {
    seconds: i64,
}

/// The reason why a text is not a delay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DelayError {
    /// Not a whole number followed by a unit.
    #[error(
        "delay `{0}` is not a whole number and a unit: write it like `-1s`, `30m`, `12h`, `1d` or `2w`"
    )]
    Malformed(String),
    /// More than a day before the exposure.
    #[error(
        "delay `{0}` begins too early: give at least `-1d`, since what users did long before the exposure is no effect of a variant"
    )]
    TooEarly(String),
    /// More than ten years of 365 days after the exposure.
    #[error("delay `{0}` is too long: give at most `3650d`")]
    TooLong(String),
}

impl Delay {
    /// Parses a delay.
    ///
    /// # Errors
    ///
    /// When the text has another form, or the delay lies before `-1d` or above
    /// `3650d`. The message says what to write.
    ///
    /// ```
    /// # use trialog_model::duration::Delay;
    /// assert!(Delay::parse("-2d").unwrap_err().to_string().contains("at least `-1d`"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, DelayError> {
        let malformed = || DelayError::Malformed(text.to_owned());
        let (sign, length) = match text.strip_prefix('-') {
            Some(length) => (-1, length),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let n_digits = length.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = length.split_at(n_digits);
        let unit = seconds_per_unit(unit).ok_or_else(malformed)?;
        if number.is_empty() {
            return Err(malformed());
        }
        // Only digits are left, so the one way to fail is being too large.
        let length = (number.parse::<i64>().ok()).and_then(|n| n.checked_mul(unit));
        match length {
            Some(seconds) if sign < 0 && seconds <= EARLIEST_SECONDS => {
                Ok(Self { seconds: -seconds })
            }
            _ if sign < 0 => Err(DelayError::TooEarly(text.to_owned())),
            Some(seconds) if seconds <= LONGEST_SECONDS => Ok(Self { seconds }),
            _ => Err(DelayError::TooLong(text.to_owned())),
        }
    }

    /// Returns the delay in microseconds; negative before the exposure.
    ///
    /// ```
    /// # use trialog_model::duration::Delay;
    /// assert_eq!(Delay::default().micros(), 0);
    /// ```
    pub const fn micros(self) -> i64 {
        self.seconds * MICROS_PER_SECOND
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seconds < 0 {
            f.write_str("-")?;
        }
        format_seconds(self.seconds.abs(), f)
    }
}

impl FromStr for Delay {
    type Err = DelayError;

    fn from_str(text: &str) -> Result<Self, DelayError> {
        Self::parse(text)
    }
}

impl Serialize for Delay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Delay {
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
    fn delays_are_signed_and_printed_in_the_largest_unit() {
        let forms = [
            ("-1s", "-1s", -1),
            ("-24h", "-1d", -86_400),
            ("+90m", "90m", 5_400),
            ("1w", "7d", 604_800),
            ("0s", "0d", 0),
            ("-0m", "0d", 0),
            ("3650d", "3650d", 315_360_000),
        ];
        for (text, printed, seconds) in forms {
            let delay = Delay::parse(text).unwrap();
            assert_eq!(delay.micros(), seconds * 1_000_000, "{text}");
            assert_eq!(delay.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn messages_say_what_to_write() {
        let faults = [
            ("", "is not a whole number and a unit"),
            ("-", "is not a whole number and a unit"),
            ("1", "is not a whole number and a unit"),
            ("--1s", "is not a whole number and a unit"),
            ("-1.5s", "is not a whole number and a unit"),
            ("none", "is not a whole number and a unit"),
            ("-86401s", "begins too early"),
            ("-99999999999999999999s", "begins too early"),
            ("3651d", "is too long"),
        ];
        for (text, part) in faults {
            let message = Delay::parse(text).unwrap_err().to_string();
            let names_it = message.contains(&format!("`{text}`"));
            assert!(message.contains(part) && names_it, "{message}");
        }
    }

    proptest! {
        #[test]
        fn printed_delays_read_back(seconds in -EARLIEST_SECONDS..=LONGEST_SECONDS) {
            let delay = Delay { seconds };
            prop_assert_eq!(Delay::parse(&delay.to_string()), Ok(delay));
        }
    }
}
