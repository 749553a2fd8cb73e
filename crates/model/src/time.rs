//! Converts points in time: UTC microseconds and their RFC 3339 text.
//!
//! The reader is written by hand because every event passes through it. Where
//! RFC 3339 leaves a choice: digits beyond microseconds are cut off, and a leap
//! second (`:60`) is read as the last microsecond of its minute, whatever its
//! fraction, so that it stays in its day.

use std::fmt;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// The earliest time an event may have: 2000-01-01T00:00:00Z.
pub const EARLIEST: UnixMicros = UnixMicros(946_684_800 * SECOND);

/// Microseconds that an event's time may lie after its receipt: 24 hours.
pub const MAX_AHEAD: i64 = DAY;

/// 0000-01-01T00:00:00Z in microseconds.
const FIRST: i64 = days_from_civil(0, 1, 1) * DAY;

/// The last microsecond of 9999-12-31.
const LAST: i64 = days_from_civil(10_000, 1, 1) * DAY - 1;

/// A point in time: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// ```
/// # use trialog_model::time::UnixMicros;
/// let noon = UnixMicros::parse_rfc3339("2025-01-31T12:00:00+01:00")?;
/// assert_eq!(noon.0, 1_738_321_200_000_000);
/// assert_eq!(noon.to_string(), "2025-01-31T11:00:00Z");
/// # Ok::<(), trialog_model::time::TimeError>(())
/// ```
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMicros(pub i64);

/// The reason why something is not a point in time.
///
/// The message completes a sentence that names the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// The text does not have the form of RFC 3339.
    #[error("is not an RFC 3339 time: write it like `2025-01-31T09:30:00Z`")]
    Malformed,
    /// The text has a date and a time of day but no zone.
    #[error("has no zone: add `Z` or an offset such as `+01:00`")]
    NoZone,
    /// Something after the time of day that is no zone.
    #[error("has a malformed zone: end it with `Z` or an offset such as `+01:00`")]
    BadZone,
    /// A day that the Gregorian calendar does not have.
    #[error("has the date {year:04}-{month:02}-{day:02}, which is not in the calendar")]
    NoSuchDate {
        /// Year as written, 0 to 9999.
        year: u16,
        /// Month as written, 0 to 99.
        month: u8,
        /// Day as written, 0 to 99.
        day: u8,
    },
    /// A time of day or an offset beyond what a clock shows.
    #[error("is beyond the clock: hours go to 23, minutes and seconds to 59")]
    NoSuchTimeOfDay,
    /// Before year 0000 or after year 9999, in UTC.
    #[error(
        "is outside the years 0000 to 9999 in UTC: give RFC 3339 text or epoch milliseconds, \
         not microseconds or nanoseconds"
    )]
    OutOfRange,
}

impl UnixMicros {
    /// Parses an RFC 3339 time with its zone.
    ///
    /// `YYYY-MM-DDTHH:MM:SS`, optionally a point and any number of digits, then
    /// `Z` or `±HH:MM`. `t`, `z` and a space for the `T` are accepted, as RFC
    /// 3339 section 5.6 allows; `-00:00` is UTC. Digits after the sixth are
    /// dropped, not rounded, so that time never moves ahead. `:60` reads as
    /// `:59.999999`. Spaces around the text are not trimmed.
    ///
    /// # Errors
    ///
    /// When the text has another form or no zone, names a day or time of day
    /// that does not exist, or lies outside the years 0000 to 9999 in UTC.
    ///
    /// ```
    /// # use trialog_model::time::{TimeError, UnixMicros};
    /// assert_eq!(UnixMicros::parse_rfc3339("1970-01-01t00:00:01.5z"), Ok(UnixMicros(1_500_000)));
    /// assert_eq!(UnixMicros::parse_rfc3339("2025-01-31T09:30:00"), Err(TimeError::NoZone));
    /// ```
    pub fn parse_rfc3339(text: impl AsRef<[u8]>) -> Result<Self, TimeError> {
        parse(text.as_ref())
    }

    /// Parses a time with its zone in any of the forms that databases write.
    ///
    /// What [`Parts`] reads, where it names a zone.
    ///
    /// # Errors
    ///
    /// As [`Parts::parse`], and where no zone is named.
    ///
    /// ```
    /// # use trialog_model::time::UnixMicros;
    /// let time = UnixMicros::parse_text("1970-01-01 02:00:00.5+02")?;
    /// assert_eq!(time, UnixMicros(500_000));
    /// # Ok::<(), trialog_model::time::TimeError>(())
    /// ```
    pub fn parse_text(text: &str) -> Result<Self, TimeError> {
        let parts = Parts::parse(text)?;
        let offset_seconds = parts.offset_seconds.ok_or(TimeError::NoZone)?;
        Self(parts.local - offset_seconds * SECOND).checked()
    }

    /// Converts a number of `unit`s since 1970-01-01T00:00:00Z to a point in time.
    ///
    /// Reads a decimal number, with a fraction or an exponent where it has one;
    /// what is below a microsecond is cut off.
    ///
    /// # Errors
    ///
    /// When the text is not a number, or lies outside the years 0000 to 9999.
    ///
    /// ```
    /// # use trialog_model::time::{TimeUnit, UnixMicros};
    /// assert_eq!(UnixMicros::from_epoch("1.5", TimeUnit::Seconds), Ok(UnixMicros(1_500_000)));
    /// assert_eq!(UnixMicros::from_epoch("1.78e3", TimeUnit::Millis), Ok(UnixMicros(1_780_000)));
    /// ```
    pub fn from_epoch(text: &str, unit: TimeUnit) -> Result<Self, TimeError> {
        if !crate::cell::is_number(text) {
            return Err(TimeError::Malformed);
        }
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i64 = exponent.parse().map_err(|_| TimeError::OutOfRange)?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole.trim_start_matches('-'), fraction].concat();
        // The decimal point, in microseconds, stands after this many of the digits.
        let point =
            (digits.len() - fraction.len()) as i64 + exponent.clamp(-400, 400) + unit.exponent();
        let mut micros: i64 = 0;
        for place in 0..point {
            let digit = usize::try_from(place)
                .ok()
                .and_then(|place| digits.as_bytes().get(place));
            let digit = i64::from(digit.map_or(0, |digit| digit - b'0'));
            micros = (micros.checked_mul(10))
                .and_then(|micros| micros.checked_add(digit))
                .ok_or(TimeError::OutOfRange)?;
        }
        Self(if mantissa.starts_with('-') {
            -micros
        } else {
            micros
        })
        .checked()
    }

    /// Converts `count` units since 1970-01-01T00:00:00Z to a point in time.
    ///
    /// # Errors
    ///
    /// When it lies outside the years 0000 to 9999.
    ///
    /// ```
    /// # use trialog_model::time::{TimeUnit, UnixMicros};
    /// assert_eq!(UnixMicros::from_epoch_integer(2, TimeUnit::Seconds), Ok(UnixMicros(2_000_000)));
    /// assert_eq!(UnixMicros::from_epoch_integer(-1, TimeUnit::Nanos), Ok(UnixMicros(-1)));
    /// ```
    pub fn from_epoch_integer(count: i64, unit: TimeUnit) -> Result<Self, TimeError> {
        let micros = match unit {
            TimeUnit::Nanos => Some(count.div_euclid(1_000)),
            unit => count.checked_mul(10_i64.pow(unit.exponent().unsigned_abs() as u32)),
        };
        Self(micros.ok_or(TimeError::OutOfRange)?).checked()
    }

    /// Converts `millis` milliseconds since 1970-01-01T00:00:00Z to a point in time.
    ///
    /// # Errors
    ///
    /// When it lies outside the years 0000 to 9999, as epoch microseconds given
    /// by mistake do. Epoch seconds given by mistake are in January 1970, which
    /// [`EARLIEST`] catches.
    ///
    /// ```
    /// # use trialog_model::time::UnixMicros;
    /// assert_eq!(UnixMicros::from_millis(1_500), Ok(UnixMicros(1_500_000)));
    /// assert!(UnixMicros::from_millis(1_738_321_200_000_000).is_err());
    /// ```
    pub fn from_millis(millis: i64) -> Result<Self, TimeError> {
        let micros = millis.checked_mul(1_000).ok_or(TimeError::OutOfRange)?;
        Self(micros).checked()
    }

    /// Writes the time as RFC 3339 in UTC, with six decimals unless they are all zero.
    ///
    /// Outside the years 0000 to 9999, which no constructor but the tuple one
    /// gives, the year has a sign and six digits, as in ISO 8601.
    ///
    /// ```
    /// # use trialog_model::time::UnixMicros;
    /// assert_eq!(UnixMicros(0).to_rfc3339(), "1970-01-01T00:00:00Z");
    /// assert_eq!(UnixMicros(1).to_rfc3339(), "1970-01-01T00:00:00.000001Z");
    /// ```
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }

    /// Writes the time as the header `Date` has it, to the second (RFC 9110 section 5.6.7). A time
    /// before 1970 or after the year 9999, which the header cannot hold, becomes the nearest one
    /// that it can.
    ///
    /// ```
    /// # use trialog_model::time::UnixMicros;
    /// assert_eq!(UnixMicros(784_111_777_000_000).to_http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    /// ```
    pub fn to_http_date(self) -> String {
        const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let micros = self.0.clamp(0, LAST);
        let (days, seconds) = (micros / DAY, micros % DAY / SECOND);
        let (year, month, day) = civil_from_days(days);
        format!(
            "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
            WEEKDAYS[(days % 7) as usize],
            MONTHS[month as usize - 1],
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        )
    }

    fn checked(self) -> Result<Self, TimeError> {
        if (FIRST..=LAST).contains(&self.0) {
            Ok(self)
        } else {
            Err(TimeError::OutOfRange)
        }
    }
}

/// The unit of a number that stands for a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds: what JSON events have.
    #[default]
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl TimeUnit {
    /// Decimal places between the unit and a microsecond.
    fn exponent(self) -> i64 {
        match self {
            Self::Seconds => 6,
            Self::Millis => 3,
            Self::Micros => 0,
            Self::Nanos => -3,
        }
    }
}

/// A date and time of day as written, with its zone if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Microseconds from 1970-01-01T00:00:00 to the time of day as written.
    pub local: i64,
    /// Seconds that the zone is ahead of UTC; `None` where no zone is named.
    pub offset_seconds: Option<i64>,
}

impl Parts {
    /// Parses a time in any of the forms that databases and programs write.
    ///
    /// `YYYY-MM-DD`, then nothing or `T` or a space and `HH:MM`, `HH:MM:SS` or
    /// `HH:MM:SS` with a point or comma and any number of digits; then nothing,
    /// or a zone, with or without a space before it: `Z`, `UTC`, `GMT`, `±HH`,
    /// `±HHMM` or `±HH:MM`. So `BigQuery`, PostgreSQL, Snowflake, Spark, pandas and
    /// R write times. Digits below a microsecond are cut off, and second 60 is
    /// the last microsecond of its minute.
    ///
    /// # Errors
    ///
    /// When the text has another form, or names a day or time of day that does
    /// not exist.
    ///
    /// ```
    /// # use trialog_model::time::Parts;
    /// let parts = Parts::parse("1970-01-01 09:00:00.25 UTC")?;
    /// assert_eq!((parts.local, parts.offset_seconds), (32_400_250_000, Some(0)));
    /// assert_eq!(Parts::parse("1970-01-02")?.offset_seconds, None);
    /// # Ok::<(), trialog_model::time::TimeError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let text = text.as_bytes();
        let (date, rest) = text.split_at_checked(10).ok_or(TimeError::Malformed)?;
        let (clock, rest) = match rest {
            [] => (*b"00:00:00", rest),
            [b'T' | b't' | b' ', rest @ ..] => split_clock(rest)?,
            _ => return Err(TimeError::Malformed),
        };
        let mut head = *b"YYYY-MM-DDT00:00:00";
        head[..10].copy_from_slice(date);
        head[11..].copy_from_slice(&clock);
        let seconds = parse_local(&head)?;
        let (micros, zone) = match rest {
            [b'.' | b',', ..] => parse_fraction(rest)?,
            _ => (0, rest),
        };
        let micros = if clock[6] == b'6' { SECOND - 1 } else { micros };
        Ok(Self {
            local: seconds * SECOND + micros,
            offset_seconds: parse_offset(zone)?,
        })
    }
}

/// Splits `HH:MM:SS` from the start of `text`, adding seconds if there are none.
fn split_clock(text: &[u8]) -> Result<([u8; 8], &[u8]), TimeError> {
    let (minutes, rest) = text.split_first_chunk::<5>().ok_or(TimeError::Malformed)?;
    let mut clock = *b"00:00:00";
    clock[..5].copy_from_slice(minutes);
    if let [b':', tens, ones, rest @ ..] = rest {
        clock[6] = *tens;
        clock[7] = *ones;
        return Ok((clock, rest));
    }
    Ok((clock, rest))
}

/// Seconds that a zone is ahead of UTC; `None` where nothing is written.
fn parse_offset(zone: &[u8]) -> Result<Option<i64>, TimeError> {
    let zone = zone.strip_prefix(b" ").unwrap_or(zone);
    let (hours, minutes) = match zone {
        [] => return Ok(None),
        [b'Z' | b'z'] => return Ok(Some(0)),
        name if name.eq_ignore_ascii_case(b"utc") || name.eq_ignore_ascii_case(b"gmt") => {
            return Ok(Some(0));
        }
        [b'+' | b'-', h1, h2] => ([*h1, *h2], *b"00"),
        [b'+' | b'-', h1, h2, b':', m1, m2] | [b'+' | b'-', h1, h2, m1, m2] => {
            ([*h1, *h2], [*m1, *m2])
        }
        _ => return Err(TimeError::BadZone),
    };
    let colon_form = [zone[0], hours[0], hours[1], b':', minutes[0], minutes[1]];
    parse_zone(&colon_form).map(Some)
}

impl fmt::Display for UnixMicros {
    /// Writes the text of [`UnixMicros::to_rfc3339`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0.div_euclid(DAY));
        if (0..=9_999).contains(&year) {
            write!(f, "{year:04}")?;
        } else {
            write!(f, "{year:+07}")?;
        }
        let micros_of_day = self.0.rem_euclid(DAY);
        let second_of_day = micros_of_day / SECOND;
        let (hour, minute) = (second_of_day / 3_600, second_of_day / 60 % 60);
        write!(
            f,
            "-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
            second_of_day % 60
        )?;
        match micros_of_day % SECOND {
            0 => f.write_str("Z"),
            micros => write!(f, ".{micros:06}Z"),
        }
    }
}

fn parse(text: &[u8]) -> Result<UnixMicros, TimeError> {
    let (head, rest) = text.split_first_chunk::<19>().ok_or(TimeError::Malformed)?;
    let local = parse_local(head)?;
    let (micros, zone) = match rest {
        [b',', ..] => return Err(TimeError::BadZone),
        rest => parse_fraction(rest)?,
    };
    let offset_seconds = parse_zone(zone)?;
    let is_leap_second = head[17] == b'6';
    let micros = if is_leap_second { SECOND - 1 } else { micros };
    UnixMicros((local - offset_seconds) * SECOND + micros).checked()
}

/// Seconds from 1970 of `YYYY-MM-DDTHH:MM:SS`, read as if in UTC.
///
/// Second 60 gives the same as second 59.
fn parse_local(head: &[u8; 19]) -> Result<i64, TimeError> {
    let [
        y1,
        y2,
        y3,
        y4,
        dash1,
        mo1,
        mo2,
        dash2,
        d1,
        d2,
        t,
        h1,
        h2,
        colon1,
        mi1,
        mi2,
        colon2,
        s1,
        s2,
    ] = *head;
    let has_form = (dash1, dash2, colon1, colon2) == (b'-', b'-', b':', b':')
        && matches!(t, b'T' | b't' | b' ');
    let pair = |tens: u8, ones: u8| pair_of_digits(tens, ones).ok_or(TimeError::Malformed);
    let year = u16::from(pair(y1, y2)?) * 100 + u16::from(pair(y3, y4)?);
    let (month, day) = (pair(mo1, mo2)?, pair(d1, d2)?);
    let (hour, minute, second) = (pair(h1, h2)?, pair(mi1, mi2)?, pair(s1, s2)?);
    if !has_form {
        return Err(TimeError::Malformed);
    }
    if day == 0 || day > days_in_month(year, month) {
        return Err(TimeError::NoSuchDate { year, month, day });
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimeError::NoSuchTimeOfDay);
    }
    let days = days_from_civil(year.into(), month.into(), day.into());
    let second_of_minute = i64::from(second.min(59));
    Ok(days * 86_400 + i64::from(hour) * 3_600 + i64::from(minute) * 60 + second_of_minute)
}

/// Splits an optional fraction off `rest`: its microseconds, and what follows.
fn parse_fraction(rest: &[u8]) -> Result<(i64, &[u8]), TimeError> {
    let [b'.' | b',', digits @ ..] = rest else {
        return Ok((0, rest));
    };
    let mut micros = 0;
    let mut digit_value = SECOND / 10;
    let mut n_digits = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            break;
        }
        micros += i64::from(byte - b'0') * digit_value;
        // Zero from the seventh digit on, which drops the rest.
        digit_value /= 10;
        n_digits += 1;
    }
    if n_digits == 0 {
        return Err(TimeError::Malformed);
    }
    Ok((micros, &digits[n_digits..]))
}

/// Seconds that `zone` is ahead of UTC.
fn parse_zone(zone: &[u8]) -> Result<i64, TimeError> {
    let (sign, [h1, h2, m1, m2]) = match *zone {
        [b'Z' | b'z'] => return Ok(0),
        [b'+', h1, h2, b':', m1, m2] => (1, [h1, h2, m1, m2]),
        [b'-', h1, h2, b':', m1, m2] => (-1, [h1, h2, m1, m2]),
        [] => return Err(TimeError::NoZone),
        _ => return Err(TimeError::BadZone),
    };
    let hour = pair_of_digits(h1, h2).ok_or(TimeError::BadZone)?;
    let minute = pair_of_digits(m1, m2).ok_or(TimeError::BadZone)?;
    if hour > 23 || minute > 59 {
        return Err(TimeError::NoSuchTimeOfDay);
    }
    Ok(sign * (i64::from(hour) * 3_600 + i64::from(minute) * 60))
}

fn pair_of_digits(tens: u8, ones: u8) -> Option<u8> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens < 10 && ones < 10 {
        Some(tens * 10 + ones)
    } else {
        None
    }
}

/// Days of the month, zero for a month that does not exist.
fn days_in_month(year: u16, month: u8) -> u8 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    }
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar.
///
/// Howard Hinnant, "chrono-compatible low-level date algorithms": years start in
/// March, so that the leap day is the last of its year.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day counted from 1970-01-01: the inverse of the above.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::Date;
    use jiff::tz::Offset;
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Result<i64, TimeError> {
        UnixMicros::parse_rfc3339(text).map(|time| time.0)
    }

    #[test]
    fn forms_that_are_the_same_instant() {
        let forms = [
            "2024-02-29T23:59:59.123456Z",
            "2024-02-29t23:59:59.123456z",
            "2024-02-29 23:59:59.123456-00:00",
            "2024-02-29T23:59:59.1234569999999999999999999999Z",
            "2024-03-01T05:29:59.123456+05:30",
            "2024-02-29T00:00:59.123456-23:59",
        ];
        for text in forms {
            assert_eq!(micros(text), Ok(1_709_251_199_123_456), "{text}");
        }
    }

    #[test]
    fn forms_of_databases_are_read() {
        let nine = micros("2026-06-01T09:00:00Z").unwrap();
        let forms = [
            "2026-06-01 09:00:00 UTC",
            "2026-06-01 09:00:00.000000 UTC",
            "2026-06-01 11:00:00+02",
            "2026-06-01 14:30:00+05:30",
            "2026-06-01T11:00:00+0200",
            "2026-06-01 09:00:00.000 +0000",
            "2026-06-01T09:00:00,000Z",
            "2026-06-01T09:00Z",
            "2026-06-01 09:00 gmt",
            "2026-06-01 00:00:00-09",
            "2026-06-01 09:00:00.0000009 Z",
        ];
        for form in forms {
            assert_eq!(UnixMicros::parse_text(form), Ok(UnixMicros(nine)), "{form}");
        }
        let day = Parts::parse("2026-06-01").unwrap();
        assert_eq!(
            (day.local, day.offset_seconds),
            (nine - 9 * 3_600 * SECOND, None)
        );
        for (bad, error) in [
            ("2026-06-01 09:00:00", TimeError::NoZone),
            ("2026-06-01", TimeError::NoZone),
            ("2026-06-01 09", TimeError::Malformed),
            ("2026-06-01 09:00:00 CET", TimeError::BadZone),
            ("2026-06-01 09:00:00  UTC", TimeError::BadZone),
            ("2026-06-01 09:00:00+2", TimeError::BadZone),
            ("2026-06-01 09:00:00+25", TimeError::NoSuchTimeOfDay),
            ("2026-06-01 24:00Z", TimeError::NoSuchTimeOfDay),
            ("2026-06-01 09:00:00.", TimeError::Malformed),
            ("20260601T090000Z", TimeError::Malformed),
            ("01.06.2026 09:00Z", TimeError::Malformed),
        ] {
            assert_eq!(UnixMicros::parse_text(bad), Err(error), "{bad}");
        }
        let leap = UnixMicros::parse_text("2016-12-31 23:59:60.5 UTC");
        assert_eq!(leap, UnixMicros::parse_text("2016-12-31T23:59:59.999999Z"));
    }

    #[test]
    fn numbers_are_times_in_their_unit() {
        use TimeUnit::{Micros, Millis, Nanos, Seconds};
        let time = 1_780_272_000_123_456;
        for (text, unit) in [
            ("1780272000.123456", Seconds),
            ("1780272000123.456", Millis),
            ("1.780272000123456e12", Millis),
            ("1780272000123456", Micros),
            ("1780272000123456.9", Micros),
            ("1780272000123456999", Nanos),
        ] {
            assert_eq!(
                UnixMicros::from_epoch(text, unit),
                Ok(UnixMicros(time)),
                "{text}"
            );
        }
        assert_eq!(
            UnixMicros::from_epoch("-1.5", Seconds),
            Ok(UnixMicros(-1_500_000))
        );
        for bad in ["1e400", "1e30", "9223372036854775807000"] {
            assert_eq!(
                UnixMicros::from_epoch(bad, Seconds),
                Err(TimeError::OutOfRange),
                "{bad}"
            );
        }
        for bad in ["", "x", "0x10", "NaN", "1_000"] {
            assert_eq!(
                UnixMicros::from_epoch(bad, Seconds),
                Err(TimeError::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn leap_second_is_the_last_microsecond_of_its_minute() {
        for text in ["2016-12-31T23:59:60Z", "2017-01-01T00:59:60.5+01:00"] {
            let time = UnixMicros::parse_rfc3339(text).unwrap();
            assert_eq!(time.to_rfc3339(), "2016-12-31T23:59:59.999999Z");
        }
    }

    #[test]
    fn bounds_are_what_they_say() {
        assert_eq!(EARLIEST.to_rfc3339(), "2000-01-01T00:00:00Z");
        assert_eq!(UnixMicros(FIRST).to_rfc3339(), "0000-01-01T00:00:00Z");
        assert_eq!(UnixMicros(LAST).to_rfc3339(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(
            UnixMicros(FIRST - 1).to_rfc3339(),
            "-000001-12-31T23:59:59.999999Z"
        );
        assert_eq!(
            UnixMicros(i64::MAX).to_rfc3339(),
            "+294247-01-10T04:00:54.775807Z"
        );
        assert_eq!(
            UnixMicros(i64::MIN).to_rfc3339(),
            "-290308-12-21T19:59:05.224192Z"
        );
        assert_eq!(
            UnixMicros::from_millis(i64::MAX),
            Err(TimeError::OutOfRange)
        );
        assert_eq!(UnixMicros::from_millis(-1), Ok(UnixMicros(-1_000)));
    }

    #[test]
    fn faults_are_told_apart() {
        use TimeError::*;
        let table = [
            ("", Malformed),
            ("2025-01-31", Malformed),
            ("2025-01-31T09:30Z", Malformed),
            ("20250131T093000Z", Malformed),
            ("2025/01/31T09:30:00Z", Malformed),
            ("2025-01-31_09:30:00Z", Malformed),
            ("2025-01-3aT09:30:00Z", Malformed),
            ("2025-01-31T09:30:00.Z", Malformed),
            ("+025-01-31T09:30:00Z", Malformed),
            (" 2025-01-31T09:30:00Z", Malformed),
            ("1738321200000", Malformed),
            ("2025-01-31T09:30:00", NoZone),
            ("2025-01-31 09:30:00.25", NoZone),
            ("2025-01-31T09:30:00+01", BadZone),
            ("2025-01-31T09:30:00+0100", BadZone),
            ("2025-01-31T09:30:00+1:000", BadZone),
            ("2025-01-31T09:30:00 Z", BadZone),
            ("2025-01-31T09:30:00Z ", BadZone),
            ("2025-01-31T09:30:00,5Z", BadZone),
            ("2025-01-31T09:30:00CET", BadZone),
            ("2025-01-31T09:30:00+24:00", NoSuchTimeOfDay),
            ("2025-01-31T24:00:00Z", NoSuchTimeOfDay),
            ("2025-01-31T09:60:00Z", NoSuchTimeOfDay),
            ("2025-01-31T09:30:61Z", NoSuchTimeOfDay),
            (
                "2025-02-29T09:30:00Z",
                NoSuchDate {
                    year: 2025,
                    month: 2,
                    day: 29,
                },
            ),
            (
                "1900-02-29T09:30:00Z",
                NoSuchDate {
                    year: 1900,
                    month: 2,
                    day: 29,
                },
            ),
            (
                "2025-13-01T09:30:00Z",
                NoSuchDate {
                    year: 2025,
                    month: 13,
                    day: 1,
                },
            ),
            (
                "2025-00-01T09:30:00Z",
                NoSuchDate {
                    year: 2025,
                    month: 0,
                    day: 1,
                },
            ),
            ("0000-01-01T00:00:00+00:01", OutOfRange),
            ("9999-12-31T23:59:59-00:01", OutOfRange),
        ];
        for (text, error) in table {
            assert_eq!(micros(text), Err(error), "{text}");
        }
    }

    #[test]
    fn messages_say_the_mend() {
        let error = micros("2025-01-31T09:30:00").unwrap_err();
        assert_eq!(
            error.to_string(),
            "has no zone: add `Z` or an offset such as `+01:00`"
        );
        let error = micros("2025-02-30T09:30:00Z").unwrap_err();
        assert_eq!(
            error.to_string(),
            "has the date 2025-02-30, which is not in the calendar"
        );
    }

    proptest! {
        #[test]
        fn a_time_has_a_form_for_http_whatever_it_is(time: i64, near in 0..LAST - 86_400 * SECOND) {
            let text = |micros| UnixMicros(micros).to_http_date();
            prop_assert_eq!(text(time).len(), "Thu, 01 Jan 1970 00:00:00 GMT".len());
            let expected = Timestamp::from_second(near / SECOND).unwrap();
            let expected = expected.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            prop_assert_eq!(text(near), expected);
        }
    }

    proptest! {
        #[test]
        fn printed_times_read_back(time in FIRST..=LAST) {
            prop_assert_eq!(micros(&UnixMicros(time).to_rfc3339()), Ok(time));
        }

        #[test]
        fn jiff_reads_what_is_printed(time in FIRST..=LAST - 2 * DAY) {
            let read: Timestamp = UnixMicros(time).to_rfc3339().parse().unwrap();
            prop_assert_eq!(read.as_microsecond(), time);
        }

        #[test]
        fn texts_of_jiff_are_read(
            time in FIRST + 2 * DAY..=LAST - 2 * DAY,
            offset_minutes in -1_439i32..=1_439,
            precision in 6u8..=9,
        ) {
            let timestamp = Timestamp::from_microsecond(time).unwrap();
            let offset = Offset::from_seconds(offset_minutes * 60).unwrap();
            prop_assert_eq!(micros(&timestamp.to_string()), Ok(time));
            prop_assert_eq!(micros(&timestamp.display_with_offset(offset).to_string()), Ok(time));
            prop_assert_eq!(micros(&format!("{timestamp:.*}", usize::from(precision))), Ok(time));
        }

        #[test]
        fn dates_exist_where_jiff_says_so(year in 1i16..=9_998, month in 0i8..=14, day in 0i8..=33) {
            let read = micros(&format!("{year:04}-{month:02}-{day:02}T00:00:00Z"));
            prop_assert_eq!(read.is_ok(), Date::new(year, month, day).is_ok());
        }

        #[test]
        fn a_changed_byte_is_never_read_differently_from_jiff(
            time in FIRST + 2 * DAY..=LAST - 2 * DAY,
            place in 1usize..27,
            byte in 0x20u8..0x7f,
        ) {
            let mut text = UnixMicros(time | 1).to_rfc3339().into_bytes();
            if let Some(changed) = text.get_mut(place) {
                *changed = byte;
            }
            let text = String::from_utf8(text).unwrap();
            let is_leap_second = text.as_bytes()[17] == b'6';
            if let Ok(read) = micros(&text) && !is_leap_second {
                let want: Timestamp = text.parse().unwrap();
                prop_assert_eq!(read, want.as_microsecond(), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, near in "[-+:.TZ0-9 ]{0,40}") {
            let _ = UnixMicros::parse_rfc3339(bytes);
            let _ = UnixMicros::parse_rfc3339(near);
        }
    }
}
