//! Parquet and Feather (Arrow IPC) files, row by row.

use std::io::BufReader;

use anyhow::{Context, bail};
use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_schema::Schema;
use indicatif::ProgressBar;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use trialog_pipeline::decompress::Compression;

use super::source::Source;
use super::typed::{Column, prepare};
use super::{As, End, Row, Take, Wanted, breaks_off, places};
use crate::cli::FileFormat;

/// Rows of a batch of Parquet.
const BATCH_ROWS: usize = 8 * 1024;

/// The names of the columns, and how many rows there are where the file tells it.
pub(super) fn open(source: &Source, format: FileFormat) -> anyhow::Result<(Vec<String>, u64)> {
    if source.compression != Compression::None {
        bail!(
            "{} is compressed as a whole: decompress it first, or write it with compressed columns",
            source.shown()
        );
    }
    if format == FileFormat::Parquet {
        let reader = parquet(source)?;
        let n_rows = reader.metadata().file_metadata().num_rows();
        return Ok((names(reader.schema()), n_rows.unsigned_abs()));
    }
    Ok((names(&feather(source, None)?.schema()), 0))
}

/// Hands every row to `take`.
pub(super) fn rows(
    source: &Source,
    format: FileFormat,
    header: &[String],
    wanted: &[Wanted],
    progress: &ProgressBar,
    take: &mut Take<'_>,
) -> anyhow::Result<End> {
    let places = places(header, wanted)?;
    let mut n_rows = 0;
    let mut batch = |batch: Result<RecordBatch, String>| -> anyhow::Result<()> {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => bail!(breaks_off(source, n_rows, &error)),
        };
        hand_on(&batch, wanted, &mut n_rows, take)?;
        progress.inc(batch.num_rows() as u64);
        Ok(())
    };
    if format == FileFormat::Parquet {
        let reader = parquet(source)?;
        let mask = ProjectionMask::roots(reader.parquet_schema(), places);
        let batches = (reader
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build())
        .with_context(|| format!("cannot read {}", source.shown()))?;
        for own in batches {
            batch(own.map_err(|error| error.to_string()))?;
        }
    } else {
        let mut places = places;
        places.sort_unstable();
        places.dedup();
        for own in feather(source, Some(places))? {
            batch(own.map_err(|error| error.to_string()))?;
        }
    }
    Ok(End {
        n_rows,
        warnings: Vec::new(),
    })
}

fn hand_on(
    batch: &RecordBatch,
    wanted: &[Wanted],
    n_rows: &mut u64,
    take: &mut Take<'_>,
) -> anyhow::Result<()> {
    let column = |own: &Wanted| {
        let array = batch.column_by_name(&own.name);
        prepare(
            array.context("a column is missing in a part of the file")?,
            own,
        )
    };
    let columns: Vec<Column> = wanted.iter().map(column).collect::<anyhow::Result<_>>()?;
    let has_numbers = wanted.iter().any(|own| own.read_as == As::Number);
    let mut fields = Vec::with_capacity(columns.len());
    let mut numbers = Vec::new();
    for row in 0..batch.num_rows() {
        *n_rows += 1;
        fields.clear();
        fields.extend(columns.iter().map(|column| column.field(row)));
        numbers.clear();
        if has_numbers {
            numbers.extend(columns.iter().map(|column| column.number(row)));
        }
        let row = Row {
            fields: &fields,
            numbers: &numbers,
        };
        take(*n_rows, Ok(row))?;
    }
    Ok(())
}

fn names(schema: &Schema) -> Vec<String> {
    let fields = schema.fields().iter();
    fields.map(|field| field.name().clone()).collect()
}

fn parquet(source: &Source) -> anyhow::Result<ParquetRecordBatchReaderBuilder<std::fs::File>> {
    ParquetRecordBatchReaderBuilder::try_new(source.file()?).map_err(|error| {
        anyhow::anyhow!(
            "{} is not a Parquet file, or was cut short: {error}",
            source.shown()
        )
    })
}

fn feather(
    source: &Source,
    places: Option<Vec<usize>>,
) -> anyhow::Result<FileReader<BufReader<std::fs::File>>> {
    FileReader::try_new_buffered(source.file()?, places).map_err(|error| {
        anyhow::anyhow!(
            "{} is not a Feather file of version 2 (an Arrow IPC file), or was cut short: {error}",
            source.shown()
        )
    })
}
