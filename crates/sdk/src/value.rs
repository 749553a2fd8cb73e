//! Stores exact values of metric events.

use std::io::{Cursor, Write};

use trialog_model::decimal::Value;

/// The value of a metric event: a decimal with four places, within DECIMAL(18,4).
///
/// Integers and decimal text are exact; a binary float is the shortest decimal that
/// reads as that float, so `4.99` is 4.99. What is out of range, no number, or not zero and
/// would round to it is dropped with its event, and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricValue(pub(crate) Option<Value>);

impl MetricValue {
    /// The default value of an event.
    pub const ONE: Self = Self(Some(Value::ONE));
}

impl From<f64> for MetricValue {
    fn from(value: f64) -> Self {
        if value == 0.0 {
            return Self(Value::from_units(0));
        }
        // Below half of the last place it would round to 0, and its text would be long.
        if !value.is_finite() || value.abs() >= 1e15 || value.abs() < 0.000_05 {
            return Self(None);
        }
        let mut text = Cursor::new([0; 64]);
        let written = write!(text, "{value}").map(|()| text.position());
        let length = written.ok().and_then(|length| usize::try_from(length).ok());
        let text = length.and_then(|length| text.get_ref().get(..length));
        Self(text.and_then(|text| Value::parse(text).ok()))
    }
}

impl From<&str> for MetricValue {
    fn from(text: &str) -> Self {
        Self(Value::parse(text).ok())
    }
}

macro_rules! from_integer {
    ($($integer:ty),*) => {$(
        impl From<$integer> for MetricValue {
            fn from(value: $integer) -> Self {
                let units = i64::from(value).checked_mul(10_000);
                Self(units.and_then(Value::from_units))
            }
        }
    )*};
}

from_integer!(i8, i16, i32, i64, u8, u16, u32);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: impl Into<MetricValue>) -> Option<String> {
        value.into().0.map(|value| value.to_string())
    }

    #[test]
    fn a_float_is_the_decimal_that_it_was_written_as() {
        for (float, decimal) in [
            (4.99, "4.99"),
            (0.1 + 0.2, "0.3"),
            (-1e14 + 0.5, "-99999999999999.5"),
            (0.00006, "0.0001"),
            (-0.0, "0"),
        ] {
            assert_eq!(
                text(float)
                    .map(|mantissa| mantissa
                        .trim_end_matches('0')
                        .trim_end_matches('.')
                        .to_owned())
                    .unwrap(),
                decimal
            );
        }
        for no in [f64::NAN, f64::INFINITY, 1e15, f64::MAX, 1e-300, 0.00005] {
            assert_eq!(text(no), None, "{no}");
        }
    }

    #[test]
    fn integers_and_text_are_exact() {
        assert_eq!(text(-3), text("-3"));
        assert_eq!(text(i64::MAX), None);
        assert_eq!(text("99999999999999.9999").unwrap(), "99999999999999.9999");
        assert_eq!(text("much"), None);
    }
}
