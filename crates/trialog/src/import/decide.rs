//! What the columns of a CSV file hold, decided by all of their cells.
//!
//! CSV has no types: `1e+05` is a number among numbers and a text among texts,
//! `1,234` is a thousand in one file and a little more than one in another. One
//! pass over the file looks at every cell before the first one is read.

mod decimals;

use std::borrow::Cow;

use anyhow::bail;
use trialog_model::cell;
use trialog_model::event::RawField;
use trialog_model::user_id::is_integer_text;

use super::columns::{Mapping, Origin};
use crate::cli::IdForm;

pub(crate) use decimals::{Convention, Decimals};

/// Looks at every row of a file before it is read.
pub(crate) struct Decisions {
    columns: Vec<Observed>,
    ids: Option<IdForm>,
    /// The file was exported by this program, which writes ids as they are.
    is_export: bool,
}

struct Observed {
    name: String,
    evidence: Evidence,
}

/// What the cells of a column have shown so far.
enum Evidence {
    /// Nothing is to be decided.
    Unused,
    Ids(Ids),
    Names(Names),
    Values(Decimals),
}

struct Ids {
    are_numbers: bool,
    n_numbers: u64,
    /// Numbers that are not written as whole numbers usually are.
    n_unusual: u64,
    example: Option<String>,
}

struct Names {
    are_whole: bool,
    are_booleans: bool,
    n_cells: u64,
}

impl Decisions {
    /// For a file with the columns `header`, its cells separated by `separator`.
    pub(crate) fn new(mapping: &Mapping, header: &[String], separator: Option<u8>) -> Self {
        let is_of = |origin: &Origin, name: &str| match origin {
            Origin::Column(column) | Origin::Optional(column) => column == name,
            Origin::Constant(_) | Origin::Nothing => false,
        };
        let evidence = |name: &str| {
            if [&mapping.user, &mapping.event_id]
                .iter()
                .any(|origin| is_of(origin, name))
            {
                Evidence::Ids(Ids::new())
            } else if [&mapping.experiment, &mapping.name]
                .iter()
                .any(|origin| is_of(origin, name))
            {
                Evidence::Names(Names::new())
            } else if mapping.has_values() && is_of(&mapping.value, name) {
                Evidence::Values(Decimals::new(mapping.decimal, separator))
            } else {
                Evidence::Unused
            }
        };
        let observed = |name: &String| Observed {
            name: name.clone(),
            evidence: evidence(name),
        };
        Self {
            columns: header.iter().map(observed).collect(),
            ids: mapping.ids,
            is_export: header
                .iter()
                .any(|name| is_of(&mapping.event_fingerprint, name)),
        }
    }

    /// Takes the next row; `cell` gives the trimmed text of a column.
    pub(crate) fn observe<'r>(&mut self, cell: &dyn Fn(usize) -> Option<&'r str>) {
        for (at, column) in self.columns.iter_mut().enumerate() {
            if matches!(column.evidence, Evidence::Unused) {
                continue;
            }
            let Some(text) = cell(at).filter(|text| !cell::is_no_value(text)) else {
                continue;
            };
            match &mut column.evidence {
                Evidence::Unused => {}
                Evidence::Ids(ids) => ids.observe(text),
                Evidence::Names(names) => names.observe(text),
                Evidence::Values(decimals) => decimals.observe(text),
            }
        }
    }

    /// Says how each column is read.
    ///
    /// # Errors
    ///
    /// Where the cells allow two readings and the user has to say which is meant.
    pub(crate) fn decide(self, from_stdin: bool) -> anyhow::Result<Readings> {
        let mut readings = Readings {
            columns: Vec::with_capacity(self.columns.len()),
            notes: Vec::new(),
        };
        for column in self.columns {
            let name = column.name.as_str();
            let reading = match column.evidence {
                Evidence::Unused => Reading::Text,
                Evidence::Ids(_) if self.is_export => Reading::Text,
                Evidence::Ids(ids) => {
                    let reading = ids.decide(name, self.ids, from_stdin)?;
                    if reading == Reading::Number && ids.n_unusual > 0 {
                        readings.notes.push(ids.note(name));
                    }
                    reading
                }
                Evidence::Names(names) => names.decide(),
                Evidence::Values(decimals) => {
                    let convention = decimals.decide(name)?;
                    readings.notes.extend(convention.note(name));
                    Reading::Decimal(convention)
                }
            };
            readings.columns.push(reading);
        }
        Ok(readings)
    }
}

impl Ids {
    fn new() -> Self {
        Self {
            are_numbers: true,
            n_numbers: 0,
            n_unusual: 0,
            example: None,
        }
    }

    fn observe(&mut self, text: &str) {
        if !self.are_numbers {
            return;
        }
        if !cell::is_number(text) {
            self.are_numbers = false;
            return;
        }
        self.n_numbers += 1;
        if !is_integer_text(text) {
            self.n_unusual += 1;
            if self.example.is_none() {
                self.example = Some(text.to_owned());
            }
        }
    }

    fn decide(
        &self,
        name: &str,
        given: Option<IdForm>,
        from_stdin: bool,
    ) -> anyhow::Result<Reading> {
        match (given, &self.example) {
            (Some(IdForm::Numeric), _) => Ok(Reading::Number),
            (Some(IdForm::Text), _) => Ok(Reading::Text),
            (None, Some(example)) if self.are_numbers && from_stdin => bail!(
                "column `{name}` has ids such as `{example}`, which may be numbers or texts: say which with --ids numeric or --ids text"
            ),
            (None, _) if self.are_numbers && self.n_numbers > 0 => Ok(Reading::Number),
            (None, _) => Ok(Reading::Text),
        }
    }

    fn note(&self, name: &str) -> String {
        let example = self.example.as_deref().unwrap_or_default();
        let ids = if self.n_unusual == 1 {
            "id was a number"
        } else {
            "ids were numbers"
        };
        format!(
            "`{name}`: {} {ids} written otherwise, such as `{example}`; read as whole numbers; --ids text reads them as texts",
            self.n_unusual
        )
    }
}

impl Names {
    fn new() -> Self {
        Self {
            are_whole: true,
            are_booleans: true,
            n_cells: 0,
        }
    }

    fn observe(&mut self, text: &str) {
        self.n_cells += 1;
        self.are_whole = self.are_whole && cell::whole_number(text).is_some();
        self.are_booleans = self.are_booleans && boolean(text).is_some();
    }

    fn decide(&self) -> Reading {
        match self.n_cells {
            0 => Reading::Text,
            _ if self.are_whole => Reading::Number,
            _ if self.are_booleans => Reading::Bool,
            _ => Reading::Text,
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") {
        Some(true)
    } else {
        is("false").then_some(false)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Text,
    Number,
    Bool,
    Decimal(Convention),
}

/// How each column of a CSV file is read.
#[derive(Debug)]
pub(crate) struct Readings {
    columns: Vec<Reading>,
    notes: Vec<String>,
}

impl Readings {
    /// The field that the trimmed text `cell` of a column is.
    pub(crate) fn field<'r>(&self, column: usize, cell: &'r str) -> RawField<'r> {
        match self.columns.get(column).copied().unwrap_or(Reading::Text) {
            _ if cell.is_empty() => RawField::Cell(cell),
            Reading::Text => RawField::Cell(cell),
            Reading::Number => RawField::Number(cell),
            Reading::Bool => boolean(cell).map_or(RawField::Cell(cell), RawField::Bool),
            Reading::Decimal(convention) => match convention.normalise(cell) {
                Cow::Borrowed(text) => RawField::Cell(text),
                Cow::Owned(text) => RawField::Text(Cow::Owned(text)),
            },
        }
    }

    /// What the summary of an import says about the readings.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
