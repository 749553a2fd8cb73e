//! Decides over the whole column how its cells are interpreted.
//!
//! CSV has no types: a column of ids in which every cell is a number holds numbers, and
//! one in which a single cell is a text holds texts.

use std::borrow::Cow;

use clap::ValueEnum;
use trialog_model::cell::{boolean, is_no_value, is_number, whole_number};
use trialog_model::event::RawField;
use trialog_model::user_id::is_integer_text;

use super::Row;
use super::decimal::Evidence;

/// How ids in a table without types are interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ids {
    /// As numbers: `1.0` and `1e0` are 1.
    Numeric,
    /// As texts, as they are written.
    Text,
}

/// The interpretation of a column's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Text,
    Number,
    Boolean,
}

/// The known facts about a column's cells.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Whether there is a cell that is not empty.
    has_cells: bool,
    are_numbers: bool,
    are_whole: bool,
    are_booleans: bool,
    /// The first number that is not written as a plain integer.
    pub(crate) unusual: Option<String>,
    /// A number that is not written as a plain integer, and the first text after it: it makes
    /// texts of all of them.
    pub(crate) mixed: Option<(String, String)>,
    /// How its numbers are written.
    pub(crate) decimals: Evidence,
}

impl Facts {
    pub(crate) fn new() -> Self {
        Self {
            has_cells: false,
            are_numbers: true,
            are_whole: true,
            are_booleans: true,
            unusual: None,
            mixed: None,
            decimals: Evidence::default(),
        }
    }

    fn add(&mut self, text: &str) {
        let is_open = self.are_numbers || self.are_booleans;
        if !is_open || is_no_value(text) {
            return;
        }
        self.has_cells = true;
        self.are_booleans = self.are_booleans && boolean(text).is_some();
        if !self.are_numbers {
            return;
        }
        if is_integer_text(text) {
            return;
        }
        self.are_numbers = is_number(text);
        if let (false, Some(number)) = (self.are_numbers, &self.unusual) {
            self.mixed = Some((number.clone(), text.to_owned()));
        }
        self.are_whole = self.are_whole && whole_number(text).is_some();
        if self.unusual.is_none() {
            self.unusual = Some(text.to_owned());
        }
    }

    /// Returns the interpretation of ids.
    pub(crate) fn ids(&self) -> Meaning {
        match self.has_cells && self.are_numbers {
            true => Meaning::Number,
            false => Meaning::Text,
        }
    }

    /// Returns the interpretation of values of unknown type, such as those of a context.
    pub(crate) fn values(&self) -> Meaning {
        match self.has_cells {
            true if self.are_numbers => Meaning::Number,
            true if self.are_booleans => Meaning::Boolean,
            _ => Meaning::Text,
        }
    }

    /// Returns the interpretation of names, of variants and the like.
    pub(crate) fn names(&self) -> Meaning {
        match self.has_cells {
            true if self.are_numbers && self.are_whole => Meaning::Number,
            true if self.are_booleans => Meaning::Boolean,
            _ => Meaning::Text,
        }
    }
}

/// What to observe about a column's cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether cells without types are numbers or booleans.
    pub(crate) types: bool,
    /// How numbers in text are written.
    pub(crate) decimals: bool,
}

/// Observes the cells of a row.
pub(crate) fn look(looks: &[Look], facts: &mut [Facts], row: &Row<'_>) {
    for ((look, facts), field) in looks.iter().zip(facts).zip(row.fields) {
        let text: &str = match field {
            RawField::Cell(text) => {
                if look.types {
                    facts.add(text);
                }
                text
            }
            RawField::Text(text) => text,
            _ => continue,
        };
        if look.decimals {
            facts.decimals.add(text);
        }
    }
}

/// Interprets a field of a column, without spaces around a text.
///
/// An empty text is a cell that is empty, so that all formats agree.
pub(crate) fn as_meant<'r>(field: &'r RawField<'r>, meaning: Meaning) -> RawField<'r> {
    let text = match field {
        RawField::Cell(text) => *text,
        RawField::Text(text) => return RawField::Cell(text.trim()),
        RawField::Number(text) => return RawField::Number(text),
        RawField::Object(text) => return RawField::Object(Cow::Borrowed(text)),
        other => return other.clone(),
    };
    match (meaning, boolean(text)) {
        (_, _) if text.is_empty() => RawField::Cell(""),
        // What stands for no value in a column of numbers is no number.
        (Meaning::Number, _) if !is_no_value(text) => RawField::Number(text),
        (Meaning::Boolean, Some(value)) => RawField::Bool(value),
        _ => RawField::Cell(text),
    }
}
