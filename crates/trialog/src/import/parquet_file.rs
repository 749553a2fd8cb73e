//! Parquet files, row by row.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use indicatif::ProgressBar;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use trialog_model::event::RawField;
use trialog_model::time::UnixMicros;

use super::cells::Layout;
use super::columns::Mapping;
use super::sink::Rows;

/// How many rows the file has.
pub(crate) fn count_rows(path: &Path) -> anyhow::Result<u64> {
    let reader = builder(path)?;
    Ok(reader.metadata().file_metadata().num_rows().unsigned_abs())
}

fn builder(path: &Path) -> anyhow::Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .with_context(|| format!("`{}` is not a Parquet file", path.display()))
}

/// Hands every row of a Parquet file to `rows`.
pub(crate) fn read_parquet(
    path: &Path,
    mapping: &Mapping,
    progress: &ProgressBar,
    now: UnixMicros,
    rows: &mut Rows<'_>,
) -> anyhow::Result<()> {
    let reader = builder(path)?;
    let all: Vec<String> = reader
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    // An absent column is told here, with the names of all that there are.
    Layout::new(mapping, &all)?;
    let wanted: Vec<usize> = (0..all.len())
        .filter(|&at| mapping.columns().any(|name| name == all[at]))
        .collect();
    let mask = ProjectionMask::roots(reader.parquet_schema(), wanted.iter().copied());
    let names: Vec<String> = wanted.iter().map(|&at| all[at].clone()).collect();
    let layout = Layout::new(mapping, &names)?;
    let batches = reader
        .with_projection(mask)
        .with_batch_size(8 * 1024)
        .build();
    for batch in batches.with_context(|| format!("cannot read `{}`", path.display()))? {
        let batch = batch.with_context(|| format!("cannot read `{}`", path.display()))?;
        let columns = columns(&batch, mapping)?;
        for row in 0..batch.num_rows() {
            rows.take(layout.event(&|column| columns[column].field(row), now))?;
        }
        progress.inc(batch.num_rows() as u64);
    }
    Ok(())
}

/// A column in one of the forms that fields are made from.
enum Column {
    Integers(ArrayRef),
    Times(ArrayRef),
    Booleans(ArrayRef),
    /// Text; numbers that are not integers as their shortest decimal text.
    Texts {
        texts: ArrayRef,
        are_numbers: bool,
    },
}

impl Column {
    fn field(&self, row: usize) -> RawField<'_> {
        match self {
            Self::Integers(column)
            | Self::Times(column)
            | Self::Booleans(column)
            | Self::Texts { texts: column, .. }
                if column.is_null(row) =>
            {
                RawField::Absent
            }
            Self::Integers(column) => {
                RawField::Integer(column.as_primitive::<Int64Type>().value(row))
            }
            Self::Times(column) => RawField::Time(UnixMicros(
                column.as_primitive::<TimestampMicrosecondType>().value(row),
            )),
            Self::Booleans(column) => RawField::Bool(column.as_boolean().value(row)),
            Self::Texts {
                texts,
                are_numbers: true,
            } => RawField::Number(texts.as_string::<i32>().value(row)),
            Self::Texts {
                texts,
                are_numbers: false,
            } => RawField::Text(Cow::Borrowed(texts.as_string::<i32>().value(row))),
        }
    }
}

fn columns(batch: &RecordBatch, mapping: &Mapping) -> anyhow::Result<Vec<Column>> {
    let schema = batch.schema();
    let named = schema.fields().iter().zip(batch.columns());
    named
        .map(|(field, column)| prepare(field.name(), column, mapping))
        .collect()
}

fn prepare(name: &str, column: &ArrayRef, mapping: &Mapping) -> anyhow::Result<Column> {
    let cast = |to: &DataType| {
        arrow_cast::cast(column, to).with_context(|| {
            format!(
                "column `{name}` of type {} cannot be used",
                column.data_type()
            )
        })
    };
    let text = DataType::Utf8;
    Ok(match column.data_type() {
        DataType::Boolean => Column::Booleans(column.clone()),
        kind if kind.is_integer() => Column::Integers(cast(&DataType::Int64)?),
        DataType::Timestamp(_, zone) => {
            Column::Times(times(name, column, zone.is_some(), mapping)?)
        }
        DataType::Float64 => Column::Texts {
            texts: float_texts(column),
            are_numbers: true,
        },
        DataType::Float16 | DataType::Float32 => {
            bail!(
                "column `{name}` has the type {}: values as exact as they need to be have the type DECIMAL or DOUBLE",
                column.data_type()
            )
        }
        DataType::Decimal128(_, scale) => Column::Texts {
            texts: decimal_texts(column, *scale),
            are_numbers: true,
        },
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
            Column::Texts {
                texts: cast(&text)?,
                are_numbers: true,
            }
        }
        _ => Column::Texts {
            texts: cast(&text)?,
            are_numbers: false,
        },
    })
}

/// Times in UTC; a column without a zone is read in the mapping's.
fn times(
    name: &str,
    column: &ArrayRef,
    has_zone: bool,
    mapping: &Mapping,
) -> anyhow::Result<ArrayRef> {
    let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    if has_zone {
        return Ok(arrow_cast::cast(&arrow_cast::cast(column, &utc)?, &plain)?);
    }
    let Some(zone) = &mapping.time_zone else {
        bail!(
            "the times of column `{name}` have no zone: give --time-zone Z, or an offset such as +01:00"
        );
    };
    let offset = UnixMicros::parse_rfc3339(format!("1970-01-02T00:00:00{zone}"))
        .map_or(0, |time| time.0 - 86_400_000_000);
    let local = arrow_cast::cast(column, &plain)?;
    let shifted = local
        .as_primitive::<TimestampMicrosecondType>()
        .unary::<_, TimestampMicrosecondType>(|time| time.saturating_add(offset));
    Ok(std::sync::Arc::new(shifted))
}

fn float_texts(column: &ArrayRef) -> ArrayRef {
    let floats = column.as_primitive::<Float64Type>();
    let texts: arrow_array::StringArray = floats
        .iter()
        .map(|value| value.map(|value| value.to_string()))
        .collect();
    std::sync::Arc::new(texts)
}

fn decimal_texts(column: &ArrayRef, scale: i8) -> ArrayRef {
    let decimals = column.as_primitive::<Decimal128Type>();
    let texts: arrow_array::StringArray = decimals
        .iter()
        .map(|value| value.map(|value| format!("{value}e{}", -i32::from(scale))))
        .collect();
    std::sync::Arc::new(texts)
}
