//! CSV and NDJSON files, row by row.

use std::io::BufRead;
use std::path::Path;

use anyhow::Context;
use indicatif::ProgressBar;
use serde_json::value::RawValue;
use trialog_model::event::{FieldError, RawField};
use trialog_model::time::UnixMicros;
use trialog_model::wire::raw_field;

use super::cells::Layout;
use super::columns::Mapping;
use super::open_text;
use super::sink::Rows;

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
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(open_text(path, progress)?);
    let reading = || format!("cannot read `{}`", path.display());
    let header: Vec<String> = reader
        .headers()
        .with_context(reading)?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').trim().to_owned())
        .collect();
    let layout = Layout::new(mapping, &header)?;
    let mut record = csv::StringRecord::new();
    loop {
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
                    Err(FieldError {
                        field: "row",
                        reason,
                    })
                };
                rows.take(event)?;
            }
            Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                rows.take(Err(FieldError {
                    field: "row",
                    reason: "is not UTF-8".to_owned(),
                }))?;
            }
            Err(error) => return Err(error).with_context(reading),
        }
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
        let mut limited = std::io::Read::take(&mut reader, MAX_LINE_BYTES);
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
            rows.take(Err(FieldError {
                field: "row",
                reason: "has more than 1 MiB".to_owned(),
            }))?;
            continue;
        }
        match serde_json::from_slice::<std::collections::HashMap<&str, &RawValue>>(&line) {
            Ok(fields) => {
                let cell = |column: usize| raw_field(fields.get(names[column].as_str()).copied());
                rows.take(layout.event(&cell, now))?;
            }
            Err(error) => rows.take(Err(FieldError {
                field: "row",
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
