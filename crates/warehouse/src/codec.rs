//! Batches and blocks as Arrow: the payload of an inbox row, the columns of a run.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::ScalarBuffer;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use trialog_model::event::EventKind;

use crate::batch::{Batch, Block};

/// The columns of a file of `kind`, in order.
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
        fields.push(Field::new("context", DataType::Utf8, false));
    }
    Arc::new(Schema::new(fields))
}

/// The columns of `block` in the form that Parquet is written from.
pub(crate) fn to_arrow(kind: EventKind, block: &Block) -> Result<RecordBatch, ArrowError> {
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
    let mut columns = vec![
        text(&block.experiment, &block.experiments)?,
        number(&block.user),
        Arc::new(time),
        text(&block.name, &block.names)?,
        number(&block.value),
        number(&block.event_id),
    ];
    if let Some(contexts) = &block.context {
        columns.push(Arc::new(contexts.clone()));
    }
    RecordBatch::try_new(schema(kind), columns)
}

/// The block that `columns`, read from a run or a payload, hold.
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
        context: match columns.num_columns() {
            7 => Some(
                columns
                    .column(6)
                    .as_string_opt::<i32>()
                    .ok_or_else(|| unexpected(columns, 6))?
                    .clone(),
            ),
            _ => None,
        },
    })
}

fn unexpected(columns: &RecordBatch, at: usize) -> ArrowError {
    ArrowError::SchemaError(format!(
        "column {at} has the type {}",
        columns.column(at).data_type()
    ))
}

/// `batch` as an Arrow IPC stream, compressed with lz4.
pub(crate) fn encode(batch: Batch) -> Result<Vec<u8>, ArrowError> {
    let kind = batch.kind();
    let block = batch.into_block();
    let columns = to_arrow(kind, &block)?;
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut stream = StreamWriter::try_new_with_options(Vec::new(), &columns.schema(), options)?;
    stream.write(&columns)?;
    stream.into_inner()
}

/// The batch that [`encode`] made `payload` from.
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
                });
            }
            let back = decode(kind, &encode(batch.clone()).unwrap()).unwrap();
            assert_eq!(back.len(), batch.len());
            assert!((0..batch.len()).all(|row| back.row(row) == batch.row(row)));
        }
    }
}
