//! Renders numbers: rounded, in full, and with their path in the report.

use askama::Template;
use askama::filters::HtmlSafe;
use serde::Serialize;

use super::format::{self, Sign};

/// A number of the results report.
///
/// `<data value="0.05" data-path="/metrics/0/comparisons/0/difference">+5.0 pp</data>`:
/// the value is the text that the API gives, the path its JSON pointer there.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(
    source = r#"<data value="{{ value }}"{% if !path.is_empty() %} data-path="{{ path }}"{% endif %}>{{ shown }}</data>"#,
    ext = "html"
)]
pub(crate) struct Number {
    value: String,
    path: String,
    shown: String,
}

impl HtmlSafe for Number {}

impl Number {
    /// Creates the number `value`, which the report has at `path`, displayed as `shown`.
    pub(crate) fn new(path: impl Into<String>, value: impl Serialize, shown: String) -> Self {
        // Text is compared as text, so it stands without quotes; what has no JSON has no value.
        let value = match serde_json::to_value(value) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(value) => value.to_string(),
            Err(_) => String::new(),
        };
        Self {
            value,
            path: path.into(),
            shown,
        }
    }

    /// Returns the rounded number.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn count(path: impl Into<String>, count: u64) -> Self {
        Self::new(path, count, format::count(count))
    }

    pub(crate) fn p_value(path: impl Into<String>, p_value: f64) -> Self {
        Self::new(path, p_value, format::p_value(p_value))
    }
}

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As it is.
    Plain,
    /// A fraction, shown in percent.
    Percent,
    /// A difference of fractions, shown in percentage points.
    Points,
}

impl Unit {
    pub(crate) fn factor(self) -> f64 {
        if self == Self::Plain { 1.0 } else { 100.0 }
    }

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Percent => " %",
            Self::Points => " pp",
        }
    }

    /// Formats `number` with the digits that `uncertainty` leaves, or three if it is not known.
    pub(crate) fn show(self, number: f64, uncertainty: Option<f64>, sign: Sign) -> String {
        format!(
            "{}{}",
            self.digits(number, uncertainty, sign),
            self.suffix()
        )
    }

    fn digits(self, number: f64, uncertainty: Option<f64>, sign: Sign) -> String {
        let scaled = number * self.factor();
        match uncertainty.and_then(|error| format::decimals_of(error * self.factor())) {
            Some(decimals) => format::rounded(scaled, decimals, sign),
            None => format::significant(scaled, 3, sign),
        }
    }
}

/// An interval: both ends with the same decimals, the unit once.
#[derive(Debug, Clone, PartialEq, Template)]
#[template(source = "{{ low }} to {{ high }}", ext = "html")]
pub(crate) struct Range {
    low: Number,
    high: Number,
    ends: [f64; 2],
}

impl HtmlSafe for Range {}

impl Range {
    /// Creates the interval at `path`, where the report has an array of both ends.
    pub(crate) fn new(path: &str, ends: [f64; 2], unit: Unit) -> Self {
        let [low, high] = ends;
        let half = (high - low) / 2.0;
        let end = |index: usize, value: f64, shown: String| {
            Number::new(format!("{path}/{index}"), value, shown)
        };
        Self {
            low: end(0, low, unit.digits(low, Some(half), Sign::Both)),
            high: end(1, high, unit.show(high, Some(half), Sign::Both)),
            ends,
        }
    }

    pub(crate) fn ends(&self) -> [f64; 2] {
        self.ends
    }

    /// Describes the interval in words, for a picture's description.
    pub(crate) fn text(&self) -> String {
        format!("{} to {}", self.low.shown, self.high.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_carries_its_value_in_full_and_its_place() {
        let number = Number::new("/a/0", 0.1 + 0.2, "<0.3".to_owned());
        assert_eq!(
            number.to_string(),
            r#"<data value="0.30000000000000004" data-path="/a/0">&#60;0.3</data>"#
        );
        assert_eq!(
            Number::new("", "12.5000", "12.5".to_owned()).to_string(),
            r#"<data value="12.5000">12.5</data>"#
        );
    }

    #[test]
    fn an_interval_has_the_same_decimals_at_both_ends() {
        let range = Range::new("/ci", [0.0134, 0.0866], Unit::Points);
        assert_eq!(range.text(), "+1.3 to +8.7 pp");
        assert_eq!(
            Range::new("/ci", [-0.0000001, 250.0], Unit::Plain).text(),
            "0 to +250"
        );
    }
}
