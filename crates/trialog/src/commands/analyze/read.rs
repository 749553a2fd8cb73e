//! Reads the cells of the columns that an analysis needs.

use std::borrow::Cow;
use std::fmt;

use trialog_model::cell::{boolean, is_no_value};
use trialog_model::event::RawField;

use crate::table::Row;
use crate::table::decide::{Meaning, as_meant};
use crate::table::decimal::{Decimal, plain};

/// A column that is read, and its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) is_number: bool,
}

/// How the cells of a column are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) is_number: bool,
    pub(super) meaning: Meaning,
    pub(super) decimal: Decimal,
}

/// The content of a cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'r> {
    Missing,
    Text(Cow<'r, str>),
    Number(f64),
}

impl Cell<'_> {
    /// Reads the cell of `row` in `column`.
    pub(super) fn read_from<'r>(row: &Row<'r>, column: usize, reading: Reading) -> Cell<'r> {
        if let Some(number) = row.number(column) {
            return Cell::Number(number);
        }
        match as_meant(&row.fields[column], reading.meaning) {
            RawField::Absent | RawField::Cell("") => Cell::Missing,
            RawField::Cell(text) if reading.is_number => Cell::Text(plain(text, reading.decimal)),
            RawField::Cell(text) => Cell::Text(text.into()),
            RawField::Number(text) if reading.is_number => Cell::Text(text.into()),
            RawField::Number(text) => Cell::Text(name(text)),
            RawField::Integer(number) => Cell::Text(number.to_string().into()),
            RawField::Bool(value) => Cell::Text(if value { "true" } else { "false" }.into()),
            RawField::Time(time) => Cell::Text(time.to_rfc3339().into()),
            RawField::Text(text) | RawField::Object(text) => Cell::Text(text),
            RawField::Array(text) => Cell::Text(text.into()),
            // As where a text has bytes that are no character.
            RawField::HalfCharacter => Cell::Text("\u{fffd}".into()),
        }
    }

    /// Returns the number in the cell; `TRUE` and `FALSE` are 1 and 0.
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self {
            Self::Missing => None,
            Self::Number(number) => Some(*number),
            Self::Text(text) => match boolean(text) {
                Some(value) => Some(f64::from(u8::from(value))),
                None => text.parse().ok(),
            },
        };
        // Beyond this no square is finite.
        number.filter(|number| number.abs() <= 1e140)
    }

    /// Returns whether the cell is empty, or holds what programs write for it: `NaN`, `NULL` and
    /// the like.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Number(number) => number.is_nan(),
            Self::Text(text) => is_no_value(text),
        }
    }
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// A number as a name: a whole one is an integer, however it is written.
fn name(text: &str) -> Cow<'_, str> {
    trialog_model::cell::whole_number(text).unwrap_or(Cow::Borrowed(text))
}
