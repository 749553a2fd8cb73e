//! CSV and NDJSON files, row by row.

use std::cell::Cell;
use std::io::{BufRead, Read};
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use indicatif::ProgressBar;
use serde_json::value::RawValue;
use trialog_model::event::{EventError, Fault, RawField};
use trialog_model::time::UnixMicros;
use trialog_model::wire::raw_field;

use super::cells::Layout;
use super::columns::Mapping;
use super::open_text;
use super::sink::Rows;

/// A CSV row beyond this is an error: a quote that is not closed makes one row of the rest.
const MAX_ROW_BYTES: u64 = 8 << 20;
/// A line beyond this is no event.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Hands every row of a CSV file with a header to `rows`.
pub(crate) fn read_csv(
    path: &Path,
    mapping: &Mapping,
    progress: &ProgressBar,
    now: UnixMicros,
    rows: &mut Rows<'_>,
) -> anyhow::Result<()> {
    let (mut reader, mut limit) = csv_reader(path, progress)?;
    let reading = || format!("cannot read `{}`", path.display());
    let header = header(&mut reader).with_context(reading)?;
    let layout = Layout::new(mapping, &header)?;
    let mut record = csv::StringRecord::new();
    loop {
        limit.next_row();
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let cell = |column: usize| {
                    record
                        .get(column)
                        .map_or(RawField::Absent, |cell| RawField::Cell(cell.trim()))
                };
                let event = if record.len() == header.len() {
                    layout.event(&cell, now)
                } else {
                    let reason = format!(
                        "has {} cells where the header has {}",
                        record.len(),
                        header.len()
                    );
                    Err(EventError {
                        field: "row",
                        fault: Fault::Malformed,
                        reason,
                    })
                };
                rows.take(event)?;
            }
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                rows.take(Err(EventError {
                    field: "row",
                    fault: Fault::Malformed,
                    reason: "is not UTF-8".to_owned(),
                }))?;
            }
            Err(error) => return Err(error).with_context(reading),
        }
    }
}

/// A reader of the rows of a CSV file, and the limit of a row, which has to be told
/// where each begins.
pub(crate) fn csv_reader(
    path: &Path,
    progress: &ProgressBar,
) -> anyhow::Result<(csv::Reader<RowReader>, RowLimit)> {
    let limit = RowLimit {
        n_bytes: Rc::new(Cell::new(0)),
    };
    let rows = RowReader {
        inner: open_text(path, progress)?,
        n_bytes: Rc::clone(&limit.n_bytes),
    };
    let reader = csv::ReaderBuilder::new().flexible(true).from_reader(rows);
    Ok((reader, limit))
}

/// The names of the columns.
pub(crate) fn header(reader: &mut csv::Reader<RowReader>) -> Result<Vec<String>, csv::Error> {
    let names = reader.headers()?.iter();
    let name = |name: &str| name.trim_start_matches('\u{feff}').trim().to_owned();
    Ok(names.map(name).collect())
}

/// Bounds what is read for one row.
pub(crate) struct RowLimit {
    n_bytes: Rc<Cell<u64>>,
}

impl RowLimit {
    /// A row begins.
    pub(crate) fn next_row(&mut self) {
        self.n_bytes.set(0);
    }
}

/// Reads on, but not beyond what one row may have.
pub(crate) struct RowReader {
    inner: Box<dyn BufRead>,
    /// Bytes read for the present row.
    n_bytes: Rc<Cell<u64>>,
}

impl Read for RowReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.n_bytes.get() > MAX_ROW_BYTES {
            return Err(std::io::Error::other(
                "a row has more than 8 MiB: is a quote not closed?",
            ));
        }
        let n_read = self.inner.read(into)?;
        self.n_bytes.set(self.n_bytes.get() + n_read as u64);
        Ok(n_read)
    }
}

/// Hands every line of an NDJSON file to `rows`.
pub(crate) fn read_ndjson(
    path: &Path,
    mapping: &Mapping,
    progress: &ProgressBar,
    now: UnixMicros,
    rows: &mut Rows<'_>,
) -> anyhow::Result<()> {
    let mut reader = open_text(path, progress)?;
    let names: Vec<String> = {
        let mut names: Vec<String> = mapping.columns().map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    };
    let layout = Layout::new(mapping, &names)?;
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = Read::take(&mut reader, MAX_LINE_BYTES);
        let n_read = limited
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        if n_read == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if n_read as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
            skip_line(&mut reader)?;
            rows.take(Err(EventError {
                field: "row",
                fault: Fault::Malformed,
                reason: "has more than 1 MiB".to_owned(),
            }))?;
            continue;
        }
        match serde_json::from_slice::<std::collections::HashMap<String, &RawValue>>(&line) {
            Ok(fields) => {
                let cell = |column: usize| raw_field(fields.get(names[column].as_str()).copied());
                rows.take(layout.event(&cell, now))?;
            }
            Err(error) => rows.take(Err(EventError {
                field: "row",
                fault: Fault::Malformed,
                reason: format!("is not a JSON object: {error}"),
            }))?,
        }
    }
}

/// Passes over the rest of a line, without keeping it.
fn skip_line(reader: &mut dyn BufRead) -> anyhow::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}
