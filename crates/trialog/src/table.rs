//! Reads tables in files of any format, as a header and rows of cells.
//!
//! CSV and its kin, NDJSON, Parquet and Feather give the same cells for the same table,
//! and a file that was cut short or damaged gives an error that says how far it was read.

mod columnar;
#[cfg(test)]
mod cut;
pub(crate) mod decide;
pub(crate) mod decimal;
mod delimited;
pub(crate) mod encoding;
mod feather;
pub(crate) mod guard;
mod lines;
#[cfg(test)]
mod mutated;
mod quotes;
mod source;
mod typed;

use std::path::Path;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use trialog_model::event::RawField;
use trialog_model::nearest::there_are;

use self::encoding::Encoding;
use self::source::Source;
use crate::cli::{FileFormat, TableArgs};

/// Options for reading a file that does not describe itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    separator: Option<u8>,
    encoding: Option<Encoding>,
    /// Whether a file that may have been cut short is refused.
    is_strict: bool,
}

impl From<&TableArgs> for Options {
    fn from(args: &TableArgs) -> Self {
        Self {
            separator: args.separator.map(|separator| separator.0),
            encoding: args.encoding,
            is_strict: args.strict,
        }
    }
}

/// A byte between cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Separator(u8);

impl std::str::FromStr for Separator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            _ if matches!(text, "tab" | "\\t") => Ok(Self(b'\t')),
            [byte]
                if byte.is_ascii()
                    && !b"\"\r\n".contains(byte)
                    && !byte.is_ascii_alphanumeric() =>
            {
                Ok(Self(*byte))
            }
            _ => Err("give one character such as `;`, or `tab`".to_owned()),
        }
    }
}

/// The type that a column is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// Fields as they are written.
    Field,
    /// Fields; a type that holds too few digits for a value is refused.
    Exact,
    /// Numbers for computing, without the way over text where they are doubles.
    Number,
}

/// A column to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) read_as: As,
}

/// The cells of a row, in the order of the requested columns.
///
/// An empty cell and one that is null are `Cell("")`; what has no key in a JSON object
/// is absent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'r> {
    pub(crate) fields: &'r [RawField<'r>],
    /// The numbers of columns that hold them as such; may be empty.
    numbers: &'r [Option<f64>],
}

impl<'r> Row<'r> {
    fn from_fields(fields: &'r [RawField<'r>]) -> Self {
        Self {
            fields,
            numbers: &[],
        }
    }

    pub(crate) fn number(&self, column: usize) -> Option<f64> {
        self.numbers.get(column).copied().flatten()
    }
}

/// A callback for each row: its number, from 1 for the first after the header, and its cells, or
/// the reason why it cannot be read.
pub(crate) type Take<'t> = dyn FnMut(u64, Result<Row<'_>, String>) -> anyhow::Result<()> + 't;

/// The end of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) n_rows: u64,
    /// Why it may not hold the rows that it was written with.
    pub(crate) warnings: Vec<String>,
}

/// A table that is read from a file or from standard input.
pub(crate) struct Table {
    source: Source,
    format: FileFormat,
    options: Options,
    header: Vec<String>,
    /// How its text is divided into cells.
    layout: Option<delimited::Layout>,
    /// The number of rows, if the file contains it.
    n_rows: u64,
}

impl Table {
    /// Opens `input`, or standard input for `-`, and finds its columns. `option` names the option
    /// that gives the format.
    pub(crate) fn open(
        input: &Path,
        format: Option<FileFormat>,
        option: &str,
        options: Options,
    ) -> anyhow::Result<Self> {
        let source = Source::open(input)?;
        let shown = source.shown().to_owned();
        guard::decoding(&shown, move || {
            let format = source.format(input, format, option)?;
            Self::from_source(source, format, options)
        })
    }

    fn from_source(source: Source, format: FileFormat, options: Options) -> anyhow::Result<Self> {
        let mut table = Self {
            source,
            format,
            options,
            header: Vec::new(),
            layout: None,
            n_rows: 0,
        };
        match format {
            FileFormat::Csv | FileFormat::Tsv => {
                let is_tsv = format == FileFormat::Tsv;
                let layout = delimited::open(&table.source, &options, is_tsv)?;
                table.header.clone_from(&layout.header);
                table.layout = Some(layout);
            }
            FileFormat::Ndjson => table.header = lines::keys(&table.source, &options)?,
            FileFormat::Parquet | FileFormat::Feather => {
                (table.header, table.n_rows) = columnar::open(&table.source, format)?;
            }
        }
        Ok(table)
    }

    /// Returns the name of the table in messages.
    pub(crate) fn shown(&self) -> &str {
        self.source.shown()
    }

    /// Returns whether the table came through a pipe.
    pub(crate) fn is_pipe(&self) -> bool {
        self.source.is_pipe()
    }

    /// Returns whether the table is CSV or its kin.
    pub(crate) fn is_delimited(&self) -> bool {
        self.layout.is_some()
    }

    /// Returns whether semicolons separate its cells, as is usual if the comma is the decimal
    /// point.
    pub(crate) fn has_semicolons(&self) -> bool {
        (self.layout.as_ref()).is_some_and(delimited::Layout::has_semicolons)
    }

    /// Computes a fingerprint of its content as stored in the file.
    pub(crate) fn fingerprint(&self) -> anyhow::Result<u64> {
        self.source.fingerprint()
    }

    /// Returns whether there is a column `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.header.iter().any(|column| column == name)
    }

    /// Checks that there is one column `name`. `hint` ends the message if there is none.
    pub(crate) fn check(&self, name: &str, hint: &str) -> anyhow::Result<()> {
        let mut found = (1..)
            .zip(&self.header)
            .filter(|(_, column)| *column == name);
        match (found.next(), found.next()) {
            (Some(_), None) => Ok(()),
            (Some((first, _)), Some((second, _))) => bail!(
                "{} has two columns `{name}`, the {first}. and the {second}.: rename one of them, or leave one out",
                self.shown()
            ),
            (None, _) => bail!("{}", self.missing(name, hint)),
        }
    }

    fn missing(&self, name: &str, hint: &str) -> String {
        let shown = self.shown();
        let others = there_are(name, &self.header, false);
        let place = match self.format {
            FileFormat::Ndjson => "no row of",
            _ => "",
        };
        let says = match self.format {
            FileFormat::Ndjson => format!("{place} {shown} has a key `{name}`"),
            _ => format!("{shown} has no column `{name}`"),
        };
        let encoding = match &self.layout {
            Some(layout) if layout.is_broken => {
                "; its header is not UTF-8: give its --encoding, such as windows-1252"
            }
            Some(_) if self.header.len() == 1 => "; is --separator another one?",
            _ => "",
        };
        format!("{says}{others}{encoding}{hint}")
    }

    /// Passes every row to `take`.
    pub(crate) fn rows(&self, wanted: &[Wanted], take: &mut Take<'_>) -> anyhow::Result<End> {
        guard::decoding(self.shown(), || self.decode(wanted, take))
    }

    fn decode(&self, wanted: &[Wanted], take: &mut Take<'_>) -> anyhow::Result<End> {
        let progress = match self.n_rows {
            0 => progress(self.source.length()?, true),
            n_rows => progress(n_rows, false),
        };
        let (source, options) = (&self.source, &self.options);
        let end = match (&self.layout, self.format) {
            (Some(layout), _) => delimited::rows(source, options, layout, wanted, &progress, take)?,
            (None, FileFormat::Ndjson) => lines::rows(source, options, wanted, &progress, take)?,
            (None, format) => {
                columnar::rows(source, format, &self.header, wanted, &progress, take)?
            }
        };
        progress.finish_and_clear();
        match end.warnings.first() {
            Some(warning) if options.is_strict => {
                bail!("{warning}; --strict takes no such file")
            }
            _ => Ok(end),
        }
    }
}

/// Returns the positions of the columns in `header`.
fn places(header: &[String], wanted: &[Wanted]) -> anyhow::Result<Vec<usize>> {
    let place = |column: &Wanted| {
        let found = header.iter().position(|name| *name == column.name);
        found.ok_or_else(|| anyhow::anyhow!("there is no column `{}`", column.name))
    };
    wanted.iter().map(place).collect()
}

/// Says where a file breaks off.
fn breaks_off(source: &Source, n_rows: u64, reason: impl std::fmt::Display) -> String {
    let shown = source.shown();
    let rows = if n_rows == 1 { "row" } else { "rows" };
    format!("cannot read {shown} to its end, only {n_rows} {rows}: {reason}")
}

/// Creates a progress bar that counts to `length` on a terminal, and is silent elsewhere.
pub(crate) fn progress(length: u64, is_bytes: bool) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let template = if is_bytes {
        "{wide_bar} {bytes}/{total_bytes}, {eta} left"
    } else {
        "{wide_bar} {human_pos}/{human_len} rows, {eta} left"
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
