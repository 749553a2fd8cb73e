//! The columns of a CSV or Parquet file, row by row.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::cli::FileFormat;
use crate::import;

/// A column that is read, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) is_number: bool,
}

/// What stands in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'r> {
    Missing,
    Text(&'r str),
    Number(f64),
}

impl Cell<'_> {
    /// The number in the cell; `TRUE` and `FALSE` are 1 and 0.
    pub(super) fn number(self) -> Option<f64> {
        let number = match self {
            Self::Missing => None,
            Self::Number(number) => Some(number),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(1.0),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(0.0),
            Self::Text(text) => text.parse().ok(),
        };
        // Beyond this no square is finite.
        number.filter(|number| number.abs() <= 1e140)
    }
}

/// What is done with each row: its number, from 1 for the first after the header,
/// and its cells in the order of the columns.
pub(super) type Take<'t> = dyn FnMut(u64, &[Cell<'_>]) -> anyhow::Result<()> + 't;

/// Hands every row of the file to `take`.
pub(super) fn each_row(
    path: &Path,
    format: FileFormat,
    columns: &[Column],
    take: &mut Take<'_>,
) -> anyhow::Result<()> {
    match format {
        FileFormat::Csv => csv_rows(path, columns, take),
        FileFormat::Parquet => parquet_rows(path, columns, take),
        FileFormat::Ndjson => bail!("`{}`: give a CSV or a Parquet file", path.display()),
    }
}

/// Where `columns` stand in `header`.
fn places(columns: &[Column], header: &[String], path: &Path) -> anyhow::Result<Vec<usize>> {
    let place = |column: &Column| {
        let found = header.iter().position(|own| *own == column.name);
        found.with_context(|| {
            let hint = match header {
                [all] if all.contains([';', '\t']) => "; is it separated by commas?",
                _ => "",
            };
            format!(
                "`{}` has no column `{}`; it has: {}{hint}",
                path.display(),
                column.name,
                header.join(", ")
            )
        })
    };
    columns.iter().map(place).collect()
}

fn csv_rows(path: &Path, columns: &[Column], take: &mut Take<'_>) -> anyhow::Result<()> {
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    let progress = import::progress(length, true);
    let (mut reader, mut limit) = import::delimited::csv_reader(path, &progress)?;
    let reading = || format!("cannot read `{}`", path.display());
    let header = import::delimited::header(&mut reader).with_context(reading)?;
    let places = places(columns, &header, path)?;
    let mut record = csv::StringRecord::new();
    let mut n_rows = 0;
    loop {
        limit.next_row();
        if !reader.read_record(&mut record).with_context(reading)? {
            progress.finish_and_clear();
            return Ok(());
        }
        n_rows += 1;
        if record.len() != header.len() {
            bail!(
                "row {n_rows} of `{}` has {} cells where the header has {}",
                path.display(),
                record.len(),
                header.len()
            );
        }
        let cells: Vec<Cell<'_>> = (places.iter())
            .map(|place| match record.get(*place).map(str::trim) {
                None | Some("") => Cell::Missing,
                Some(text) => Cell::Text(text),
            })
            .collect();
        take(n_rows, &cells)?;
    }
}

fn parquet_rows(path: &Path, columns: &[Column], take: &mut Take<'_>) -> anyhow::Result<()> {
    let reading = || format!("cannot read `{}`", path.display());
    let file = File::open(path).with_context(reading)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("`{}` is not a Parquet file", path.display()))?;
    let header: Vec<String> = (reader.schema().fields().iter())
        .map(|field| field.name().clone())
        .collect();
    let places = places(columns, &header, path)?;
    let n_rows = reader.metadata().file_metadata().num_rows().unsigned_abs();
    let progress = import::progress(n_rows, false);
    let mask = ProjectionMask::roots(reader.parquet_schema(), places.iter().copied());
    let batches = reader
        .with_projection(mask)
        .with_batch_size(8 * 1024)
        .build();
    let mut row_number = 0;
    for batch in batches.with_context(reading)? {
        let batch = batch.with_context(reading)?;
        let cast = |column: &Column| {
            let own = batch.column_by_name(&column.name);
            convert(own.context("a column is missing in a row group")?, column)
        };
        let converted: Vec<ArrayRef> = columns.iter().map(cast).collect::<anyhow::Result<_>>()?;
        let mut cells = Vec::with_capacity(columns.len());
        for row in 0..batch.num_rows() {
            row_number += 1;
            cells.clear();
            cells.extend(converted.iter().map(|column| cell(column, row)));
            take(row_number, &cells)?;
        }
        progress.inc(batch.num_rows() as u64);
    }
    progress.finish_and_clear();
    Ok(())
}

/// A column as numbers or as texts; texts stay texts, as they may hold numbers.
fn convert(own: &ArrayRef, column: &Column) -> anyhow::Result<ArrayRef> {
    let is_text = matches!(
        own.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let to = if column.is_number && !is_text {
        DataType::Float64
    } else {
        DataType::Utf8
    };
    arrow_cast::cast(own, &to).with_context(|| {
        format!(
            "column `{}` of type {} cannot be used",
            column.name,
            own.data_type()
        )
    })
}

fn cell(column: &ArrayRef, row: usize) -> Cell<'_> {
    if column.is_null(row) {
        return Cell::Missing;
    }
    match column.data_type() {
        DataType::Float64 => Cell::Number(column.as_primitive::<Float64Type>().value(row)),
        _ => match column.as_string::<i32>().value(row) {
            "" => Cell::Missing,
            text => Cell::Text(text),
        },
    }
}
