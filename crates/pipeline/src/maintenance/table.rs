//! Writes rows as Parquet or CSV while they come.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use trialog_model::decimal::format_units;
use trialog_model::formula::escaped;
use trialog_model::time::UnixMicros;

use super::MaintenanceError;
use super::export::{Form, Formulas};

/// Rows that are held in memory before they are written.
const BATCH_ROWS: usize = 8 * 1024;
/// Rows of a row group, and bytes at which one is written before.
const GROUP_ROWS: usize = 128 * 1024;
const GROUP_BYTES: usize = 32 << 20;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Integer,
    Text,
    /// Microseconds since 1970, UTC.
    Time,
    /// DECIMAL(18,4) or DECIMAL(38,4), in 1/10,000.
    Decimal(u8),
    Float,
    Boolean,
}

/// A value of a row; the variants are those of [`Type`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    Integer(i64),
    Text(&'a str),
    Time(i64),
    Decimal(i128),
    Float(Option<f64>),
    Boolean(bool),
}

/// The columns of a table: their names and types.
pub(crate) type Columns = [(&'static str, Type)];

/// Writes a table to `W`.
pub(crate) enum TableWriter<W: Write + Send> {
    Csv(W, Formulas),
    Parquet(Box<ParquetTable<W>>),
}

pub(crate) struct ParquetTable<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    columns: Vec<Column>,
}

impl<W: Write + Send> TableWriter<W> {
    pub(crate) fn new(form: Form, columns: &Columns, mut out: W) -> Result<Self, MaintenanceError> {
        if let Form::Csv(formulas) = form {
            let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
            writeln!(out, "{}", names.join(",")).map_err(failed)?;
            return Ok(Self::Csv(out, formulas));
        }
        let field = |(name, kind): &(&str, Type)| {
            Field::new(*name, kind.arrow(), matches!(kind, Type::Float))
        };
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties));
        Ok(Self::Parquet(Box::new(ParquetTable {
            writer: writer.map_err(failed)?,
            schema,
            columns: columns.iter().map(|(_, kind)| Column::new(*kind)).collect(),
        })))
    }

    /// Adds a row whose cells have the types of the columns.
    pub(crate) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), MaintenanceError> {
        match self {
            Self::Csv(out, formulas) => write_line(out, cells, *formulas).map_err(failed),
            Self::Parquet(table) => {
                for (column, cell) in table.columns.iter_mut().zip(cells) {
                    column.push(*cell);
                }
                match table.columns.first().map_or(0, Column::len) >= BATCH_ROWS {
                    true => table.write(),
                    false => Ok(()),
                }
            }
        }
    }

    /// Writes what is left, and the end of the file.
    pub(crate) fn finish(self) -> Result<(), MaintenanceError> {
        match self {
            Self::Csv(mut out, _) => out.flush().map_err(failed),
            Self::Parquet(mut table) => {
                table.write()?;
                let mut out = table.writer.into_inner().map_err(failed)?;
                out.flush().map_err(failed)
            }
        }
    }
}

impl<W: Write + Send> ParquetTable<W> {
    fn write(&mut self) -> Result<(), MaintenanceError> {
        let columns: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        self.writer.write(&batch).map_err(failed)?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush().map_err(failed)?;
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> MaintenanceError {
    MaintenanceError::Write(error.to_string())
}

impl Type {
    fn arrow(self) -> DataType {
        match self {
            Self::Integer => DataType::Int64,
            Self::Text => DataType::Utf8,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Decimal(precision) => DataType::Decimal128(precision, 4),
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
        }
    }
}

/// The values of a column that are not yet written.
enum Column {
    Integers(Int64Builder),
    Texts(StringBuilder),
    Times(TimestampMicrosecondBuilder),
    Decimals(Decimal128Builder),
    Floats(Float64Builder),
    Booleans(BooleanBuilder),
}

impl Column {
    fn new(kind: Type) -> Self {
        match kind {
            Type::Integer => Self::Integers(Int64Builder::new()),
            Type::Text => Self::Texts(StringBuilder::new()),
            Type::Time => {
                Self::Times(TimestampMicrosecondBuilder::new().with_data_type(Type::Time.arrow()))
            }
            Type::Decimal(_) => {
                Self::Decimals(Decimal128Builder::new().with_data_type(kind.arrow()))
            }
            Type::Float => Self::Floats(Float64Builder::new()),
            Type::Boolean => Self::Booleans(BooleanBuilder::new()),
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        match (self, cell) {
            (Self::Integers(column), Cell::Integer(value)) => column.append_value(value),
            (Self::Texts(column), Cell::Text(value)) => column.append_value(value),
            (Self::Times(column), Cell::Time(value)) => column.append_value(value),
            (Self::Decimals(column), Cell::Decimal(value)) => column.append_value(value),
            (Self::Floats(column), Cell::Float(value)) => column.append_option(value),
            (Self::Booleans(column), Cell::Boolean(value)) => column.append_value(value),
            _ => debug_assert!(false, "a cell has the type of its column"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Integers(column) => column.len(),
            Self::Texts(column) => column.len(),
            Self::Times(column) => column.len(),
            Self::Decimals(column) => column.len(),
            Self::Floats(column) => column.len(),
            Self::Booleans(column) => column.len(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Integers(column) => Arc::new(column.finish()),
            Self::Texts(column) => Arc::new(column.finish()),
            Self::Times(column) => Arc::new(column.finish()),
            Self::Decimals(column) => Arc::new(column.finish()),
            Self::Floats(column) => Arc::new(column.finish()),
            Self::Booleans(column) => Arc::new(column.finish()),
        }
    }
}

/// A line of CSV (RFC 4180, without the carriage return).
fn write_line(out: &mut impl Write, cells: &[Cell<'_>], formulas: Formulas) -> std::io::Result<()> {
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        match cell {
            Cell::Integer(value) => write!(out, "{value}")?,
            Cell::Text(text) => write_text(out, &shown(text, formulas))?,
            Cell::Time(value) => write!(out, "{}", UnixMicros(*value).to_rfc3339())?,
            Cell::Decimal(value) => write!(out, "{}", format_units(*value))?,
            Cell::Float(Some(value)) => write!(out, "{value}")?,
            Cell::Float(None) => {}
            Cell::Boolean(value) => write!(out, "{value}")?,
        }
    }
    out.write_all(b"\n")
}

/// Returns a text as it is written into its cell.
fn shown(text: &str, formulas: Formulas) -> Cow<'_, str> {
    match formulas {
        Formulas::Escaped => escaped(text),
        Formulas::Kept => Cow::Borrowed(text),
    }
}

fn write_text(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    match is_quoted(text) {
        true => write!(out, "\"{}\"", text.replace('"', "\"\"")),
        false => out.write_all(text.as_bytes()),
    }
}

/// Whether a text would end its cell, or lose spaces to a reader that trims.
fn is_quoted(text: &str) -> bool {
    text.contains([',', '"', '\n', '\r']) || text.trim() != text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_csv_quotes_what_would_end_a_cell() {
        let mut out = Vec::new();
        let cells = [
            Cell::Text("{\"a\":1,\"b\":2}"),
            Cell::Text("plain"),
            Cell::Integer(-5),
            Cell::Decimal(-123_400),
            Cell::Float(None),
            Cell::Boolean(true),
            Cell::Time(1_500_000),
            Cell::Text(" a\nb"),
            Cell::Text("c "),
            Cell::Text("=1,2"),
            Cell::Text("-42"),
        ];
        write_line(&mut out, &cells, Formulas::Escaped).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"{\"\"a\"\":1,\"\"b\"\":2}\",plain,-5,-12.3400,,true,1970-01-01T00:00:01.500000Z,\" a\nb\",\"c \",\"'=1,2\",-42\n"
        );
        let mut kept = Vec::new();
        write_line(&mut kept, &[Cell::Text("=1")], Formulas::Kept).unwrap();
        assert_eq!(kept, b"=1\n");
    }
}
