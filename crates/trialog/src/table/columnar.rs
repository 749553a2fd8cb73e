//! Reads Parquet and Feather (Arrow IPC) files row by row.

use anyhow::{Context, bail};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use indicatif::ProgressBar;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use trialog_pipeline::decompress::Compression;

use super::feather::Batches;
use super::source::Source;
use super::typed::{Column, is_rounded, prepare};
use super::{As, End, Row, Take, Wanted, breaks_off, places};
use crate::cli::FileFormat;

/// Rows of a batch of Parquet.
const BATCH_ROWS: usize = 8 * 1024;

/// Returns the names of the columns, and the number of rows if the file contains it.
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
    Ok((names(&Batches::open(source, None)?.schema()), 0))
}

/// Passes every row to `take`.
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
    let mut rounded: Vec<&str> = Vec::new();
    let mut batch = |batch: Result<RecordBatch, String>| -> anyhow::Result<()> {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => bail!(breaks_off(source, n_rows, &error)),
        };
        for column in wanted.iter().filter(|column| column.read_as == As::Field) {
            let is_new = !rounded.contains(&column.name.as_str());
            if is_new && batch.column_by_name(&column.name).is_some_and(is_rounded) {
                rounded.push(&column.name);
            }
        }
        hand_on(source.shown(), &batch, wanted, &mut n_rows, take)?;
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
        for next in batches {
            batch(next.map_err(|error| said(&error.to_string())))?;
        }
    } else {
        let mut places = places;
        places.sort_unstable();
        places.dedup();
        for next in Batches::open(source, Some(places))? {
            batch(next)?;
        }
    }
    let warning = |name: &str| {
        format!(
            "column `{name}` of {} holds floating-point numbers so large that different ids may have become one: write ids as integers or texts",
            source.shown()
        )
    };
    Ok(End {
        n_rows,
        warnings: rounded.into_iter().map(warning).collect(),
    })
}

fn hand_on(
    shown: &str,
    batch: &RecordBatch,
    wanted: &[Wanted],
    n_rows: &mut u64,
    take: &mut Take<'_>,
) -> anyhow::Result<()> {
    let column = |named: &Wanted| {
        let array = batch.column_by_name(&named.name);
        (array.context("a column is missing in a part of the file"))
            .and_then(|array| prepare(array, named))
            .with_context(|| format!("cannot read {shown}"))
    };
    let columns: Vec<Column> = wanted.iter().map(column).collect::<anyhow::Result<_>>()?;
    let has_numbers = wanted.iter().any(|named| named.read_as == As::Number);
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
            "{} is not a Parquet file, or was cut short: {}",
            source.shown(),
            said(&error.to_string())
        )
    })
}

/// Rewords a library's message about a file.
fn said(error: &str) -> String {
    const CODEC: &str = "Disabled feature at compile time: ";
    if let Some(at) = error.find(CODEC) {
        return format!(
            "its columns are compressed with {}, which is not read: write them with snappy, gzip, lz4, zstd or none",
            &error[at + CODEC.len()..]
        );
    }
    match error.to_ascii_lowercase() {
        text if text.contains("crc") => "a page of it does not match its checksum".to_owned(),
        _ => "a part of it is missing or damaged".to_owned(),
    }
}
