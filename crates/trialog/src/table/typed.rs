//! Converts typed columns of Parquet and Arrow files to fields.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float16Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_schema::{DataType, TimeUnit};
use trialog_model::event::RawField;
use trialog_model::time::UnixMicros;

use super::{As, Wanted};

/// A column in one of the forms that fields are made from.
pub(super) enum Column {
    Integers(ArrayRef),
    Times(ArrayRef),
    Booleans(ArrayRef),
    /// Doubles that are used as numbers.
    Doubles(ArrayRef),
    Texts(ArrayRef),
    /// Numbers as exact decimal texts.
    Numbers(ArrayRef),
    /// Times without a zone, as text.
    Empty,
}

impl Column {
    /// Returns the field in `row`; null is an empty cell.
    pub(super) fn field(&self, row: usize) -> RawField<'_> {
        let array = match self {
            Self::Empty => return RawField::Cell(""),
            Self::Integers(array)
            | Self::Times(array)
            | Self::Booleans(array)
            | Self::Doubles(array)
            | Self::Texts(array)
            | Self::Numbers(array) => array,
        };
        if array.is_null(row) {
            return RawField::Cell("");
        }
        match self {
            Self::Empty | Self::Doubles(_) => RawField::Absent,
            Self::Integers(array) => {
                RawField::Integer(array.as_primitive::<Int64Type>().value(row))
            }
            Self::Times(array) => RawField::Time(UnixMicros(
                array.as_primitive::<TimestampMicrosecondType>().value(row),
            )),
            Self::Booleans(array) => RawField::Bool(array.as_boolean().value(row)),
            Self::Texts(array) => {
                RawField::Text(Cow::Borrowed(array.as_string::<i32>().value(row).trim()))
            }
            Self::Numbers(array) => RawField::Number(array.as_string::<i32>().value(row)),
        }
    }

    /// Returns the number in `row`, if the column is used as numbers and holds doubles.
    pub(super) fn number(&self, row: usize) -> Option<f64> {
        match self {
            Self::Doubles(array) if !array.is_null(row) => {
                Some(array.as_primitive::<Float64Type>().value(row))
            }
            _ => None,
        }
    }
}

/// Prepares a column for reading its fields.
pub(super) fn prepare(array: &ArrayRef, wanted: &Wanted) -> anyhow::Result<Column> {
    let name = &wanted.name;
    let cast = |to: &DataType| {
        arrow_cast::cast(array, to).with_context(|| unusable(name, array.data_type()))
    };
    Ok(match array.data_type() {
        DataType::Null => Column::Empty,
        DataType::Boolean => Column::Booleans(array.clone()),
        DataType::UInt64 => match unsigned_texts(array) {
            Some(texts) => Column::Numbers(texts),
            None => Column::Integers(cast(&DataType::Int64)?),
        },
        kind if kind.is_integer() => Column::Integers(cast(&DataType::Int64)?),
        DataType::Float64 if wanted.read_as == As::Number => Column::Doubles(array.clone()),
        DataType::Float16 | DataType::Float32 if wanted.read_as == As::Exact => bail!(
            "column `{name}` has the type FLOAT: values as exact as they need to be have the type DECIMAL or DOUBLE"
        ),
        DataType::Float16 => Column::Numbers(texts(
            array
                .as_primitive::<Float16Type>()
                .iter()
                .map(|number| number.map(|number| number.to_f32())),
        )),
        DataType::Float32 => Column::Numbers(texts(array.as_primitive::<Float32Type>().iter())),
        DataType::Float64 => Column::Numbers(texts(array.as_primitive::<Float64Type>().iter())),
        DataType::Decimal128(_, scale) => {
            let exponent = -i32::from(*scale);
            let decimals = array.as_primitive::<Decimal128Type>().iter();
            Column::Numbers(texts(
                decimals.map(|decimal| decimal.map(|decimal| format!("{decimal}e{exponent}"))),
            ))
        }
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
            Column::Numbers(cast(&DataType::Utf8)?)
        }
        DataType::Timestamp(_, Some(_)) => {
            let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
            Column::Times(arrow_cast::cast(&cast(&utc)?, &plain)?)
        }
        DataType::Timestamp(_, None) | DataType::Date64 => Column::Texts(local_texts(&cast(
            &DataType::Timestamp(TimeUnit::Microsecond, None),
        )?)),
        DataType::Dictionary(_, value) => return prepare(&cast(value)?, wanted),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            Column::Texts(texts_of_bytes(name, &cast(&DataType::LargeBinary)?)?)
        }
        kind if kind.is_nested() => bail!(unusable(name, kind)),
        _ => Column::Texts(cast(&DataType::Utf8)?),
    })
}

fn unusable(name: &str, kind: &DataType) -> String {
    let kind = match kind {
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => "holds lists",
        DataType::Struct(_) => "holds structures of several fields",
        DataType::Map(..) => "holds maps",
        DataType::Duration(_) | DataType::Interval(_) => "holds lengths of time",
        _ => "is of a type that cannot be read",
    };
    format!("column `{name}` {kind}: give one with numbers, texts, booleans or times")
}

/// Texts of what shows itself in its shortest exact form.
fn texts<T: ToString>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    let texts: StringArray = values
        .map(|value| value.map(|value| value.to_string()))
        .collect();
    Arc::new(texts)
}

/// Returns whether a column of doubles that may be ids holds numbers so large that neighbouring
/// whole ones are the same double.
pub(super) fn is_rounded(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => (array.as_primitive::<Float32Type>().iter().flatten())
            .any(|number| number.is_finite() && number.abs() >= 16_777_216.0),
        DataType::Float64 => (array.as_primitive::<Float64Type>().iter().flatten())
            .any(|number| number.is_finite() && number.abs() >= 9_007_199_254_740_992.0),
        _ => false,
    }
}

/// The texts of unsigned numbers, if one of them is beyond BIGINT.
fn unsigned_texts(array: &ArrayRef) -> Option<ArrayRef> {
    let numbers = array.as_primitive::<UInt64Type>();
    let is_beyond = |number: Option<u64>| number.is_some_and(|number| number > i64::MAX as u64);
    numbers.iter().any(is_beyond).then(|| texts(numbers.iter()))
}

/// Times of day without a zone, as texts that name none.
fn local_texts(array: &ArrayRef) -> ArrayRef {
    let times = array.as_primitive::<TimestampMicrosecondType>().iter();
    texts(times.map(|time| {
        time.map(|time| {
            let utc = UnixMicros(time).to_rfc3339();
            utc.strip_suffix('Z').unwrap_or(&utc).to_owned()
        })
    }))
}

fn texts_of_bytes(name: &str, array: &ArrayRef) -> anyhow::Result<ArrayRef> {
    let mut texts = StringBuilder::new();
    for bytes in array.as_binary::<i64>() {
        match bytes.map(std::str::from_utf8) {
            None => texts.append_null(),
            Some(Ok(text)) => texts.append_value(text),
            Some(Err(_)) => bail!("column `{name}` holds bytes that are no text in UTF-8"),
        }
    }
    Ok(Arc::new(texts.finish()))
}
