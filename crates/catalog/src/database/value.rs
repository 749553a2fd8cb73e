//! Converts values to parameters of statements and from columns of rows.

/// A value of one of the types that both databases have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'v> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'v str),
    Bytes(&'v [u8]),
}

/// A type that can be a parameter.
pub(crate) trait Parameter {
    fn value(&self) -> Value<'_>;
}

/// A type that a column can be read as.
pub(crate) trait Column: Sized {
    /// `None` where `value` is of another type or out of range.
    fn read(value: &Value<'_>) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Parameter for $integer {
            fn value(&self) -> Value<'_> {
                // What does not fit is no number that a row could have.
                i64::try_from(*self).map_or(Value::Integer(i64::MAX), Value::Integer)
            }
        }

        impl Column for $integer {
            fn read(value: &Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(number) => Self::try_from(*number).ok(),
                    _ => None,
                }
            }
        }
    )*};
}
integers!(i64, u64, u32, u16, usize);

impl Parameter for f64 {
    fn value(&self) -> Value<'_> {
        Value::Real(*self)
    }
}

impl Parameter for str {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Parameter for String {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Parameter for [u8; 32] {
    fn value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl<T: Parameter + ?Sized> Parameter for &T {
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}

impl<T: Parameter> Parameter for Option<T> {
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Parameter::value)
    }
}

impl Column for bool {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(*number != 0),
            _ => None,
        }
    }
}

impl Column for f64 {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Real(number) => Some(*number),
            Value::Integer(number) => Some(*number as Self),
            _ => None,
        }
    }
}

impl Column for String {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some((*text).to_owned()),
            _ => None,
        }
    }
}

impl Column for [u8; 32] {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => (*bytes).try_into().ok(),
            _ => None,
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn read(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::read(other).map(Some),
        }
    }
}
