//! Reads CSV, TSV and their kin row by row.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, bail};
use csv::ByteRecord;
use indicatif::ProgressBar;
use trialog_model::event::RawField;

use super::encoding::as_utf8;
use super::quotes::Quotes;
use super::source::Source;
use super::{End, Options, Row, Take, Wanted, breaks_off};

/// Separators that are looked for in a header.
const SEPARATORS: [u8; 4] = *b",\t;|";
/// The most bytes of a first line.
const MAX_HEADER_BYTES: u64 = 1 << 20;

/// The separators and encoding of a file.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    separator: u8,
    /// Whether the first line only names the separator, as Excel writes it.
    names_separator: bool,
    pub(super) header: Vec<String>,
    /// Whether a name in the header is no text in UTF-8.
    pub(super) is_broken: bool,
}

type Reader = csv::Reader<Quotes<Box<dyn Read>>>;

/// Reads the header.
pub(super) fn open(source: &Source, options: &Options, is_tsv: bool) -> anyhow::Result<Layout> {
    let reading = || format!("cannot read {}", source.shown());
    let mut text = BufReader::new(text(source, options, &ProgressBar::hidden())?);
    let first = line(&mut text).with_context(reading)?;
    let named = first
        .strip_prefix(b"sep=")
        .and_then(|rest| match rest.trim_ascii_end() {
            [] if rest.starts_with(b"\t") => Some(b'\t'),
            [separator] => Some(*separator),
            _ => None,
        });
    let header = match named {
        Some(_) => line(&mut text).with_context(reading)?,
        None => first,
    };
    let separator = options.separator.or(named).unwrap_or_else(|| {
        if is_tsv {
            b'\t'
        } else {
            most_frequent(&header)
        }
    });
    let mut layout = Layout {
        separator,
        names_separator: named.is_some(),
        header: Vec::new(),
        is_broken: false,
    };
    let mut reader = reader(source, options, &layout, &ProgressBar::hidden())?;
    let header = match reader.byte_headers() {
        Ok(header) => header,
        Err(error) => bail!(breaks_off(source, 0, cause(&error))),
    };
    for name in header {
        let text = String::from_utf8_lossy(name);
        layout.is_broken |= matches!(text, std::borrow::Cow::Owned(_));
        layout.header.push(text.trim().to_owned());
    }
    Ok(layout)
}

impl Layout {
    pub(super) fn has_semicolons(&self) -> bool {
        self.separator == b';'
    }
}

/// Passes every row to `take`.
pub(super) fn rows(
    source: &Source,
    options: &Options,
    layout: &Layout,
    wanted: &[Wanted],
    progress: &ProgressBar,
    take: &mut Take<'_>,
) -> anyhow::Result<End> {
    let places = super::places(&layout.header, wanted)?;
    let n_columns = layout.header.len();
    let mut reader = reader(source, options, layout, progress)?;
    let mut record = ByteRecord::new();
    // At the end the reader clears the record that it is given.
    let mut last = ByteRecord::new();
    let mut n_rows = 0;
    let mut swallowed = Swallowed::default();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => bail!(breaks_off(source, n_rows, cause(&error))),
        }
        n_rows += 1;
        if record.len() == n_columns {
            swallowed.note(n_rows, &record, layout.separator);
            match cells(&record, &places, &layout.header) {
                Ok(fields) => take(n_rows, Ok(Row::from_fields(&fields)))?,
                Err(reason) => take(n_rows, Err(reason))?,
            }
        } else {
            let reason = format!(
                "has {} cells where the header has {n_columns}",
                record.len()
            );
            take(n_rows, Err(reason))?;
        }
        std::mem::swap(&mut last, &mut record);
    }
    let is_whole = reader.get_ref().ends_with_line_break();
    if !is_whole && n_rows > 0 && last.len() < n_columns {
        let reason = format!(
            "row {n_rows}, the last one, has {} cells where the header has {n_columns}, and no line break at its end: the file was cut short",
            last.len()
        );
        bail!(breaks_off(source, n_rows - 1, &reason));
    }
    let cut = (!is_whole).then(|| match n_rows {
        0 => format!(
            "{} has no line break after its header: it may have been cut short",
            source.shown()
        ),
        _ => format!(
            "{} has no line break after row {n_rows}, the last one ({}): it may have been cut short",
            source.shown(),
            shown(&last)
        ),
    });
    let warnings = swallowed.warning(source).into_iter().chain(cut).collect();
    Ok(End { n_rows, warnings })
}

/// Rows that a stray quote may have made into one cell of another row.
#[derive(Default)]
struct Swallowed {
    n_rows: u64,
    /// The first row with such a cell, and the cell.
    first: Option<(u64, String)>,
}

impl Swallowed {
    /// A quote that is opened in one row and closed in a later one takes all separators
    /// between: as many as the rows that it made one have.
    fn note(&mut self, row: u64, record: &ByteRecord, separator: u8) {
        if !record.as_slice().contains(&b'\n') {
            return;
        }
        for cell in record {
            let count = |wanted| cell.iter().filter(|byte| **byte == wanted).count();
            let n_breaks = count(b'\n');
            if n_breaks > 0 && count(separator) == n_breaks * (record.len() - 1) {
                self.n_rows += n_breaks as u64;
                self.first
                    .get_or_insert_with(|| (row, shortened(&String::from_utf8_lossy(cell))));
            }
        }
    }

    fn warning(&self, source: &Source) -> Option<String> {
        let (row, cell) = self.first.as_ref()?;
        let lines = if self.n_rows == 1 { "line" } else { "lines" };
        Some(format!(
            "{} has {} {lines} that look like rows but stand between quotes, first in row {row} ({cell}): a quote may be open; close it, or double it where the quote itself is meant",
            source.shown(),
            self.n_rows
        ))
    }
}

/// The cells in use.
fn cells<'r>(
    record: &'r ByteRecord,
    places: &[usize],
    header: &[String],
) -> Result<Vec<RawField<'r>>, String> {
    let cell = |&place: &usize| {
        let bytes = record.get(place).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(RawField::Cell(text.trim())),
            Err(_) => Err(format!(
                "is not UTF-8 in column `{}` (`{}`): give the file's --encoding, such as windows-1252",
                header[place],
                String::from_utf8_lossy(bytes)
            )),
        }
    };
    places.iter().map(cell).collect()
}

/// Returns a row as it is written, for a message.
fn shown(record: &ByteRecord) -> String {
    let cells: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    shortened(&cells.join(","))
}

/// The first characters of a text, in one line.
fn shortened(text: &str) -> String {
    let text = text.replace(['\r', '\n'], " ");
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("`{}...`", &text[..at]),
        None => format!("`{text}`"),
    }
}

fn reader(
    source: &Source,
    options: &Options,
    layout: &Layout,
    progress: &ProgressBar,
) -> anyhow::Result<Reader> {
    let mut text = text(source, options, progress)?;
    if layout.names_separator {
        let mut buffered = BufReader::new(text);
        line(&mut buffered)?;
        text = Box::new(buffered);
    }
    let first_line = 1 + u64::from(layout.names_separator);
    let quotes = Quotes::new(text, layout.separator, first_line);
    Ok(csv::ReaderBuilder::new()
        .flexible(true)
        .delimiter(layout.separator)
        .from_reader(quotes))
}

fn text(
    source: &Source,
    options: &Options,
    progress: &ProgressBar,
) -> anyhow::Result<Box<dyn Read>> {
    let bytes = source.bytes(progress)?;
    as_utf8(bytes, options.encoding)
        .map_err(|error| anyhow::anyhow!(breaks_off(source, 0, error.to_string())))
}

/// The next line, without more of it than a header may have.
fn line(text: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    Read::take(text, MAX_HEADER_BYTES).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// Returns the most frequent separator in a header.
fn most_frequent(header: &[u8]) -> u8 {
    let mut counts = [0u32; SEPARATORS.len()];
    let mut is_quoted = false;
    for byte in header {
        is_quoted ^= *byte == b'"';
        let found = SEPARATORS.iter().position(|separator| separator == byte);
        if let Some(found) = found.filter(|_| !is_quoted) {
            counts[found] += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let found = counts.iter().position(|count| *count == most);
    SEPARATORS[found.unwrap_or(0)]
}

/// What went wrong while reading, without the words of the library.
fn cause(error: &csv::Error) -> &dyn std::fmt::Display {
    match error.kind() {
        csv::ErrorKind::Io(error) => error,
        _ => error,
    }
}
