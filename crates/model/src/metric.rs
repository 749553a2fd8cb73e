//! Names the metrics of an experiment and their roles.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::MetricName;

/// How the events of a type become one number per user.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// 1 when the user has at least one event in the window, else 0.
    Conversion,
    /// The number of the user's events in the window.
    Count,
    /// The sum of the values of the user's events in the window.
    Sum,
    /// The sum of one event type divided by the sum of another, over all users.
    Ratio,
    /// 1 when the user has an event in a stretch of time after exposure, else 0.
    Retention,
    /// A quantile over users of the sum of the values of their events.
    Quantile,
}

impl MetricKind {
    /// Every kind, in the order in which results list them.
    pub const ALL: [Self; 6] = [
        Self::Conversion,
        Self::Count,
        Self::Sum,
        Self::Ratio,
        Self::Retention,
        Self::Quantile,
    ];

    /// Returns the word used in JSON and in `name:kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conversion => "conversion",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Ratio => "ratio",
            Self::Retention => "retention",
            Self::Quantile => "quantile",
        }
    }

    /// Returns whether the kind needs a definition, because an event type alone does not determine
    /// it.
    pub fn needs_definition(self) -> bool {
        matches!(self, Self::Ratio | Self::Retention | Self::Quantile)
    }

    /// Returns whether each user counts as yes or no.
    pub fn is_rate(self) -> bool {
        matches!(self, Self::Conversion | Self::Retention)
    }

    /// Returns a list of this kind only.
    pub fn alone(self) -> &'static [Self] {
        match self {
            Self::Conversion => &[Self::Conversion],
            Self::Count => &[Self::Count],
            Self::Sum => &[Self::Sum],
            Self::Ratio => &[Self::Ratio],
            Self::Retention => &[Self::Retention],
            Self::Quantile => &[Self::Quantile],
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MetricKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                let kinds = Self::ALL.map(Self::as_str).join(", ");
                format!("`{text}` is not a metric kind: use one of {kinds}")
            })
    }
}

/// A metric as an experiment names it: `name`, or `name:kind`.
///
/// A bare name stands for the kind of its definition; without one it is an
/// event type, which is analysed both as conversion and as sum.
///
/// ```
/// use trialog_model::metric::{MetricKind, MetricRef};
/// let metric: MetricRef = "purchase:sum".parse()?;
/// assert_eq!(metric.name.as_str(), "purchase");
/// assert_eq!(metric.kind, Some(MetricKind::Sum));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricRef {
    /// The name of a definition, or an event type.
    pub name: MetricName,
    /// The kind, where one was named.
    pub kind: Option<MetricKind>,
}

impl MetricRef {
    /// Returns the kinds under which the metric is analysed if it has no definition.
    pub fn kinds(&self) -> &'static [MetricKind] {
        match self.kind {
            None => &[MetricKind::Conversion, MetricKind::Sum],
            Some(kind) => kind.alone(),
        }
    }
}

impl FromStr for MetricRef {
    type Err = String;

    /// Splits at the last colon if a kind follows it; names may hold colons.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, kind) = match text.rsplit_once(':') {
            Some((name, suffix)) => match suffix.parse() {
                Ok(kind) => (name, Some(kind)),
                Err(_) => (text, None),
            },
            None => (text, None),
        };
        let name = MetricName::new(name).map_err(|error| format!("metric `{text}`: {error}"))?;
        Ok(Self { name, kind })
    }
}

impl TryFrom<String> for MetricRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MetricRef> for String {
    fn from(metric: MetricRef) -> Self {
        metric.to_string()
    }
}

impl fmt::Display for MetricRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{}:{kind}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// What a metric decides in an experiment.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricRole {
    /// Decides the experiment; these tests are one family.
    Primary,
    /// Explains the outcome; these tests are another family.
    Secondary,
    /// Must not get worse; each is tested on its own.
    Guardrail,
    /// What the experiment does not name: shown, never flagged.
    Exploratory,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kind_after_the_last_colon_is_a_kind() {
        let plain: MetricRef = "ns:purchase".parse().unwrap();
        assert_eq!((plain.name.as_str(), plain.kind), ("ns:purchase", None));
        let kinded: MetricRef = "ns:purchase:count".parse().unwrap();
        assert_eq!(
            (kinded.name.as_str(), kinded.kind),
            ("ns:purchase", Some(MetricKind::Count))
        );
        assert_eq!(kinded.to_string(), "ns:purchase:count");
    }
}
