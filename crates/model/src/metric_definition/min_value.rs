//! Parses the least value with which an event counts for a metric.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::decimal::{Value, parse_units};

/// The least value with which an event counts; written as decimal text.
///
/// At most four decimals, as values have: a fifth one would be rounded, and
/// another bound would hold than the one that was written.
///
/// ```
/// # use trialog_model::metric_definition::MinValue;
/// let least: MinValue = serde_json::from_str(r#""0.010""#).unwrap();
/// assert_eq!(least.units(), 100);
/// assert_eq!(least, serde_json::from_str("0.01").unwrap());
/// assert_eq!(serde_json::to_string(&least).unwrap(), r#""0.01""#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinValue(Value);

impl MinValue {
    /// Returns the value in 1/10,000.
    pub const fn units(self) -> i64 {
        self.0.units()
    }

    /// Reads decimal text without an exponent.
    fn parse(text: &str) -> Option<Self> {
        let text = match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.'),
            false => text,
        };
        let units = parse_units(text)?.try_into().ok()?;
        Value::from_units(units).map(Self)
    }
}

impl fmt::Display for MinValue {
    /// Writes no more decimals than it takes, as in `0.01`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for MinValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MinValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber)
    }
}

struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = MinValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal number such as `0.01`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<MinValue, E> {
        MinValue::parse(text).ok_or_else(|| {
            E::custom(format!(
                "min_value `{text}` is not a decimal number with at most 14 digits before the point and 4 after it: write it like `0.01`, and scale values that are smaller before you send them"
            ))
        })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<MinValue, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<MinValue, E> {
        self.visit_str(&number.to_string())
    }

    /// Rounds a computed number, such as 0.1 + 0.2, which is a few units in the last place away
    /// from the number that is meant.
    fn visit_f64<E: Error>(self, number: f64) -> Result<MinValue, E> {
        let nearest = format!("{number:.4}");
        let is_near = (nearest.parse::<f64>())
            .is_ok_and(|near| (near - number).abs() <= 4.0 * f64::EPSILON * number.abs());
        let text = if is_near { nearest } else { number.to_string() };
        self.visit_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_read_alike() {
        let forms = [
            ("\"0.0001\"", 1, "0.0001"),
            ("0.0001", 1, "0.0001"),
            ("1e-4", 1, "0.0001"),
            ("0.30000000000000004", 3_000, "0.3"),
            ("-0.0", 0, "0"),
            ("-5", -50_000, "-5"),
            ("\"-5.50\"", -55_000, "-5.5"),
            ("100", 1_000_000, "100"),
            ("0", 0, "0"),
            ("\"0.00000\"", 0, "0"),
        ];
        for (text, units, printed) in forms {
            let least: MinValue = serde_json::from_str(text).unwrap();
            assert_eq!(least.units(), units, "{text}");
            assert_eq!(least.to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_would_be_rounded_or_is_no_number_is_refused() {
        for text in [
            "0.00001",
            "\"0.00005\"",
            "\"\"",
            "\"a\"",
            "\"1,5\"",
            "1e14",
            "true",
            "[1]",
        ] {
            let error = serde_json::from_str::<MinValue>(text).unwrap_err();
            assert!(error.to_string().contains("`0.01`"), "{text}: {error}");
        }
    }
}
