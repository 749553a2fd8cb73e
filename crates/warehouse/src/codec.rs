//! Encodes batches and blocks as Arrow: the payload of an inbox row, the columns of a run.
//!
//! Columns that came later stand last and are found by their names, since what was
//! written before has them not and is read for ever.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use trialog_model::event::EventKind;

use crate::batch::{Batch, Block};

/// The columns that are not always read.
pub(crate) const CONTEXT: &str = "context";
pub(crate) const USER_TEXT: &str = "user_text";

/// Returns the columns of a file of `kind`, in order.
pub(crate) fn schema(kind: EventKind) -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("experiment_id", text.clone(), false),
        Field::new("user_id", DataType::Int64, false),
        Field::new(kind.time_field(), time, false),
        Field::new(kind.name_field(), text, false),
        Field::new(kind.value_field(), DataType::Int64, false),
        Field::new("event_id", DataType::Int64, false),
    ];
    if kind == EventKind::Assignment {
        fields.push(Field::new(CONTEXT, DataType::Utf8, false));
        fields.push(Field::new(USER_TEXT, DataType::Utf8, false));
    }
    Arc::new(Schema::new(fields))
}

/// Converts `block` to the columns that Parquet is written from.
pub(crate) fn to_arrow(kind: EventKind, block: &Block) -> Result<RecordBatch, ArrowError> {
    let mut columns = numbers_and_names(block)?;
    if kind == EventKind::Assignment {
        columns.push(texts(block.context.as_ref(), block.len()));
        columns.push(texts(block.user_text.as_ref(), block.len()));
    }
    RecordBatch::try_new(schema(kind), columns)
}

/// `column`, or as many empty texts.
fn texts(column: Option<&StringArray>, n_rows: usize) -> ArrayRef {
    let none = || {
        let offsets = OffsetBuffer::new_zeroed(n_rows);
        StringArray::new(offsets, Vec::<u8>::new().into(), None)
    };
    Arc::new(column.cloned().unwrap_or_else(none))
}

/// The columns that every kind of event has.
fn numbers_and_names(block: &Block) -> Result<Vec<ArrayRef>, ArrowError> {
    let text = |codes: &ScalarBuffer<i32>, texts: &StringArray| -> Result<ArrayRef, ArrowError> {
        let codes = Int32Array::new(codes.clone(), None);
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(
            codes,
            Arc::new(texts.clone()),
        )?))
    };
    let number = |column: &ScalarBuffer<i64>| -> ArrayRef {
        Arc::new(Int64Array::new(column.clone(), None))
    };
    let time = TimestampMicrosecondArray::new(block.timestamp.clone(), None).with_timezone("UTC");
    Ok(vec![
        text(&block.experiment, &block.experiments)?,
        number(&block.user),
        Arc::new(time),
        text(&block.name, &block.names)?,
        number(&block.value),
        number(&block.event_id),
    ])
}

/// Converts `columns`, read from a run or a payload, to a block.
pub(crate) fn from_arrow(columns: &RecordBatch) -> Result<Block, ArrowError> {
    let text = |at: usize| -> Result<(ScalarBuffer<i32>, StringArray), ArrowError> {
        let column = columns
            .column(at)
            .as_dictionary_opt::<Int32Type>()
            .ok_or_else(|| unexpected(columns, at))?;
        let texts = column
            .values()
            .as_string_opt::<i32>()
            .ok_or_else(|| unexpected(columns, at))?;
        Ok((column.keys().values().clone(), texts.clone()))
    };
    let number = |at: usize| -> Result<ScalarBuffer<i64>, ArrowError> {
        let column = columns
            .column(at)
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| unexpected(columns, at))?;
        Ok(column.values().clone())
    };
    let (experiment, experiments) = text(0)?;
    let (name, names) = text(3)?;
    let timestamp = columns
        .column(2)
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| unexpected(columns, 2))?;
    Ok(Block {
        experiments,
        names,
        experiment,
        user: number(1)?,
        timestamp: timestamp.values().clone(),
        name,
        value: number(4)?,
        event_id: number(5)?,
        context: texts_of(columns, CONTEXT)?,
        user_text: texts_of(columns, USER_TEXT)?,
    })
}

/// The column of texts called `name`, if there is one.
fn texts_of(columns: &RecordBatch, name: &str) -> Result<Option<StringArray>, ArrowError> {
    let Some((at, _)) = columns.schema_ref().column_with_name(name) else {
        return Ok(None);
    };
    let texts = columns.column(at).as_string_opt::<i32>();
    Ok(Some(texts.ok_or_else(|| unexpected(columns, at))?.clone()))
}

fn unexpected(columns: &RecordBatch, at: usize) -> ArrowError {
    ArrowError::SchemaError(format!(
        "column {at} has the type {}",
        columns.column(at).data_type()
    ))
}

/// Encodes `batch` as an Arrow IPC stream, compressed with lz4.
pub(crate) fn encode(batch: Batch) -> Result<Vec<u8>, ArrowError> {
    let kind = batch.kind();
    let has_user_texts = batch.has_user_texts();
    let mut columns = to_arrow(kind, &batch.into_block())?;
    if kind == EventKind::Assignment && !has_user_texts {
        // Where all users are integers, nothing is spent on their texts.
        columns.remove_column(columns.num_columns() - 1);
    }
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut stream = StreamWriter::try_new_with_options(Vec::new(), &columns.schema(), options)?;
    stream.write(&columns)?;
    stream.into_inner()
}

/// Decodes a payload that [`encode`] made.
pub(crate) fn decode(kind: EventKind, payload: &[u8]) -> Result<Batch, ArrowError> {
    let mut batch = Batch::new(kind);
    for columns in StreamReader::try_new(Cursor::new(payload), None)? {
        let block = from_arrow(&columns?)?;
        for at in 0..block.len() {
            batch.push(&block.row(at));
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::EventRow;

    #[test]
    fn a_payload_gives_back_the_batch() {
        for kind in EventKind::ALL {
            let mut batch = Batch::new(kind);
            for user in 0..100 {
                let experiment = format!("e{}", user % 3);
                let context = if kind == EventKind::Assignment {
                    "{\"p\":1}"
                } else {
                    ""
                };
                batch.push(&EventRow {
                    experiment: &experiment,
                    user,
                    timestamp: -user,
                    name: "n",
                    value: user * 7,
                    event_id: !user,
                    context,
                    user_text: if user % 2 == 1 && kind == EventKind::Assignment {
                        "ann"
                    } else {
                        ""
                    },
                });
            }
            let back = decode(kind, &encode(batch.clone()).unwrap()).unwrap();
            assert_eq!(back.len(), batch.len());
            assert!((0..batch.len()).all(|row| back.row(row) == batch.row(row)));
        }
    }
}
