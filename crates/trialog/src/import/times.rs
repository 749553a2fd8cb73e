//! Reads the times of a file: sets the zone of those without one, and the unit of numbers.

use std::cell::Cell;
use std::fmt;

use anyhow::bail;
use clap::ValueEnum;
use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use trialog_model::cell::is_number;
use trialog_model::event::{EventError, Fault, RawField};
use trialog_model::nearest::{nearest, question};
use trialog_model::time::{Parts, TimeError, TimeUnit, UnixMicros};

/// The unit of numbers that are times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    #[default]
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl Unit {
    fn of_model(self) -> TimeUnit {
        match self {
            Self::S => TimeUnit::Seconds,
            Self::Ms => TimeUnit::Millis,
            Self::Us => TimeUnit::Micros,
            Self::Ns => TimeUnit::Nanos,
        }
    }
}

/// The zone of times that name none.
#[derive(Clone)]
pub(crate) struct Zone {
    name: String,
    rule: Rule,
}

#[derive(Clone)]
enum Rule {
    /// Seconds ahead of UTC, all the year.
    Offset(i64),
    Named(TimeZone),
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Zone {
    /// Returns the zone that `text` names: `Z`, an offset such as `+01:00`, or `Europe/Berlin`.
    pub(crate) fn new(text: &str) -> anyhow::Result<Self> {
        let name = text.to_owned();
        let of_text = Parts::parse(&format!("2026-01-01 00:00:00{text}"));
        if let Ok(Parts {
            offset_seconds: Some(offset),
            ..
        }) = of_text
        {
            let rule = Rule::Offset(offset);
            return Ok(Self { name, rule });
        }
        let database = TimeZoneDatabase::bundled();
        if let Ok(zone) = database.get(text) {
            let rule = Rule::Named(zone);
            return Ok(Self { name, rule });
        }
        let known: Vec<String> = database.available().map(|zone| zone.to_string()).collect();
        let near = nearest(text, known.iter().map(String::as_str));
        bail!(
            "`{text}` is no time zone that is known: give Z, an offset such as +01:00, or a name such as Europe/Berlin{}",
            question(near)
        )
    }

    /// The point in time at which clocks show `local`, and whether they show it never or
    /// twice, where summer time begins or ends.
    ///
    /// A time in the gap is read as if clocks had not been moved yet, which is after the
    /// gap; of a time that comes twice it is the first.
    fn at(&self, local: i64) -> Result<(UnixMicros, Shift), TimeError> {
        let zone = match &self.rule {
            Rule::Offset(seconds) => {
                return Ok((UnixMicros(local - seconds * 1_000_000), Shift::None));
            }
            Rule::Named(zone) => zone,
        };
        let since_1970 = SignedDuration::from_micros(local);
        let clock = DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
            .checked_add(since_1970)
            .map_err(|_| TimeError::OutOfRange)?;
        let possible = zone.to_ambiguous_timestamp(clock);
        let shift = match possible.offset() {
            AmbiguousOffset::Unambiguous { .. } => Shift::None,
            AmbiguousOffset::Gap { .. } => Shift::Gap,
            AmbiguousOffset::Fold { .. } => Shift::Twice,
        };
        let time = possible.compatible().map_err(|_| TimeError::OutOfRange)?;
        Ok((UnixMicros(time.as_microsecond()), shift))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shift {
    None,
    Gap,
    Twice,
}

/// How the times of a file are read.
#[derive(Debug)]
pub(crate) struct Times {
    zone: Option<Zone>,
    unit: Unit,
    n_in_gap: Cell<u64>,
    n_twice: Cell<u64>,
}

impl Times {
    pub(crate) fn new(zone: Option<Zone>, unit: Unit) -> Self {
        Self {
            zone,
            unit,
            n_in_gap: Cell::new(0),
            n_twice: Cell::new(0),
        }
    }

    /// Reads the time in a field, the field `name`. What is not a time is returned unchanged.
    pub(crate) fn read<'r>(
        &self,
        name: &'static str,
        field: RawField<'r>,
    ) -> Result<RawField<'r>, EventError> {
        let unit = self.unit.of_model();
        let time = match &field {
            RawField::Integer(count) => UnixMicros::from_epoch_integer(*count, unit),
            RawField::Number(text) => UnixMicros::from_epoch(text, unit),
            RawField::Cell(text) if is_number(text) => UnixMicros::from_epoch(text, unit),
            RawField::Cell(text) => self.text(text),
            _ => return Ok(field),
        };
        let error = match time {
            Ok(time) => return Ok(RawField::Time(time)),
            Err(error) => error,
        };
        let hint = match error {
            TimeError::NoZone => ", or give the zone of all such times with --time-zone",
            TimeError::OutOfRange => "; --time-unit says what numbers count",
            _ => "",
        };
        Err(EventError {
            field: name,
            fault: match error {
                TimeError::OutOfRange => Fault::OutOfRange,
                _ => Fault::Malformed,
            },
            reason: format!("{error}{hint}"),
        })
    }

    fn text(&self, text: &str) -> Result<UnixMicros, TimeError> {
        let parts = Parts::parse(text)?;
        if let Some(offset) = parts.offset_seconds {
            return Ok(UnixMicros(parts.local - offset * 1_000_000));
        }
        let zone = self.zone.as_ref().ok_or(TimeError::NoZone)?;
        let (time, shift) = zone.at(parts.local)?;
        let count = match shift {
            Shift::None => return Ok(time),
            Shift::Gap => &self.n_in_gap,
            Shift::Twice => &self.n_twice,
        };
        count.set(count.get() + 1);
        Ok(time)
    }

    /// Reports how many times fall where summer time begins or ends.
    pub(crate) fn shifted(&self) -> Vec<String> {
        let zone = self.zone.as_ref().map_or("", |zone| &zone.name);
        let mut said = Vec::new();
        if self.n_in_gap.get() > 0 {
            said.push(format!(
                "{} times do not exist in {zone}, as summer time begins there: read as after the change",
                self.n_in_gap.get()
            ));
        }
        if self.n_twice.get() > 0 {
            said.push(format!(
                "{} times come twice in {zone}, as summer time ends there: read as the first",
                self.n_twice.get()
            ));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(zone: &str, text: &str) -> String {
        let times = Times::new(Some(Zone::new(zone).unwrap()), Unit::Ms);
        match times.read("timestamp", RawField::Cell(text)).unwrap() {
            RawField::Time(time) => {
                format!("{time} {}{}", times.n_in_gap.get(), times.n_twice.get())
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_zone_by_name_knows_summer_time_its_gap_and_its_overlap() {
        for (text, expected) in [
            ("2026-03-28 12:00:00", "2026-03-28T11:00:00Z 00"),
            ("2026-03-30 12:00:00", "2026-03-30T10:00:00Z 00"),
            // Clocks go from 02:00 to 03:00.
            ("2026-03-29 02:30:00", "2026-03-29T01:30:00Z 10"),
            // Clocks go from 03:00 back to 02:00.
            ("2026-10-25 02:30:00", "2026-10-25T00:30:00Z 01"),
            // A zone that is named wins.
            ("2026-03-28 12:00:00Z", "2026-03-28T12:00:00Z 00"),
        ] {
            assert_eq!(read("Europe/Berlin", text), expected, "{text}");
        }
        assert_eq!(read("+05:30", "2026-01-01"), "2025-12-31T18:30:00Z 00");
        assert_eq!(read("utc", "2026-01-01T09:00"), "2026-01-01T09:00:00Z 00");
    }

    #[test]
    fn an_unknown_zone_is_told_the_nearest_one() {
        let error = Zone::new("Europe/Berln").unwrap_err().to_string();
        assert!(error.contains("did you mean `Europe/Berlin`"), "{error}");
        let error = Zone::new("Berlin").unwrap_err().to_string();
        assert!(error.contains("did you mean `Europe/Berlin`"), "{error}");
    }

    #[test]
    fn numbers_count_in_the_unit_that_is_given() {
        for (unit, text) in [
            (Unit::S, "1780272000"),
            (Unit::S, "1.780272e+09"),
            (Unit::Ms, "1780272000000.0"),
            (Unit::Us, "1780272000000000"),
            (Unit::Ns, "1780272000000000000"),
        ] {
            let times = Times::new(None, unit);
            let expected = RawField::Time(UnixMicros(1_780_272_000_000_000));
            for field in [RawField::Cell(text), RawField::Number(text)] {
                assert_eq!(times.read("timestamp", field).unwrap(), expected, "{text}");
            }
        }
    }
}
