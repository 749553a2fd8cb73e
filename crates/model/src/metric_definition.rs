//! Metric definitions: what stands behind a metric's name.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration::Window;
use crate::event::FieldError;
use crate::experiment::Definition;
use crate::ids::{EventType, MetricName};
use crate::metric::{MetricKind, MetricRole};

/// Kinds that definitions will have, and do not have yet.
const LATER_KINDS: [&str; 3] = ["ratio", "retention", "quantile"];

/// Which way is good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    #[default]
    Increase,
    /// Less is better.
    Decrease,
}

impl Direction {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Increase => "increase",
            Self::Decrease => "decrease",
        }
    }
}

impl AsRef<str> for Direction {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// What `POST /v1/metrics` takes.
///
/// ```
/// use trialog_model::metric_definition::MetricDefinition;
/// let fields = serde_json::json!({"name": "revenue", "kind": "sum", "event_type": "purchase", "window": "14d"});
/// let revenue = MetricDefinition::from_json(fields)?;
/// assert_eq!(revenue.event_type.as_str(), "purchase");
/// # Ok::<(), trialog_model::metric_definition::NotAMetric>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricDefinition {
    /// The name by which experiments name it.
    pub name: MetricName,
    /// How events become a number per user.
    pub kind: MetricKind,
    /// The events that it is made of.
    pub event_type: EventType,
    /// How long after exposure an event counts; as the experiment says if absent.
    #[serde(default)]
    pub window: Option<Window>,
    /// Which way is good.
    #[serde(default)]
    pub direction: Direction,
    /// What it is for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
}

/// Why something is no metric definition.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAMetric {
    /// A field is missing, unknown or of another type.
    #[error("not a metric definition: {0}")]
    Shape(#[from] serde_json::Error),
    /// A rule is broken.
    #[error(transparent)]
    Rule(#[from] FieldError),
}

impl MetricDefinition {
    /// Reads and checks a definition.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with the mend.
    pub fn from_json(fields: Value) -> Result<Self, NotAMetric> {
        let winsorises = |fields: &serde_json::Map<String, Value>| {
            fields.keys().any(|field| field.starts_with("winsor"))
        };
        if fields.as_object().is_some_and(winsorises) {
            return Err(refuse("winsorise", "is not supported yet: leave it out"));
        }
        if let Some(kind) = fields["kind"]
            .as_str()
            .filter(|kind| LATER_KINDS.contains(kind))
        {
            let reason = format!("`{kind}` is not supported yet: use conversion, count or sum");
            return Err(refuse("kind", reason));
        }
        let definition: Self = serde_json::from_value(fields)?;
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), FieldError> {
        let suffix = self
            .name
            .as_str()
            .rsplit_once(':')
            .map(|(_, suffix)| suffix);
        if suffix.is_some_and(|suffix| suffix.parse::<MetricKind>().is_ok()) {
            return Err(FieldError {
                field: "name",
                reason: "ends like `name:kind`, which asks for a kind: choose another name"
                    .to_owned(),
            });
        }
        for (field, text) in [("description", &self.description), ("owner", &self.owner)] {
            let length = text.as_deref().unwrap_or_default().len();
            if length > 4096 {
                let reason = format!("has {length} bytes: at most 4096 are allowed");
                return Err(FieldError { field, reason });
            }
        }
        Ok(())
    }

    /// Whether results of `self` and of `other` mean the same.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let meaning = |own: &Self| (own.kind, own.event_type.clone(), own.window, own.direction);
        meaning(self) == meaning(other)
    }
}

fn refuse(field: &'static str, reason: impl Into<String>) -> NotAMetric {
    let reason = reason.into();
    NotAMetric::Rule(FieldError { field, reason })
}

/// A metric that an experiment names, with what stands behind the name: a
/// definition, else the event type of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedMetric<'a> {
    /// The name.
    pub name: &'a str,
    /// What it decides.
    pub role: MetricRole,
    /// The kinds under which it is analysed.
    pub kinds: &'a [MetricKind],
    /// The events that it is made of.
    pub event_type: &'a str,
    /// How long after exposure an event counts.
    pub window: Window,
    /// Its definition, if it has one.
    pub definition: Option<&'a MetricDefinition>,
}

impl Definition {
    /// The metrics of the experiment in the order of their roles, where
    /// `defined` are the definitions that there are.
    pub fn named_metrics<'a>(&'a self, defined: &'a [MetricDefinition]) -> Vec<NamedMetric<'a>> {
        let named = |(metric, role): (&'a crate::metric::MetricRef, MetricRole)| {
            let definition = defined.iter().find(|own| own.name == metric.name);
            let kinds = match (metric.kind, definition) {
                (None, Some(definition)) => definition.kind.alone(),
                _ => metric.kinds(),
            };
            NamedMetric {
                name: metric.name.as_str(),
                role,
                kinds,
                event_type: definition.map_or(metric.name.as_str(), |own| own.event_type.as_str()),
                window: (definition.and_then(|own| own.window)).unwrap_or(self.attribution_window),
                definition,
            }
        };
        self.metrics.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn revenue() -> Value {
        json!({"name": "revenue", "kind": "sum", "event_type": "purchase"})
    }

    fn with(field: &str, value: Value) -> Result<MetricDefinition, NotAMetric> {
        let mut fields = revenue();
        fields[field] = value;
        MetricDefinition::from_json(fields)
    }

    #[test]
    fn what_is_not_supported_yet_says_so() {
        for (field, value) in [
            ("kind", json!("ratio")),
            ("kind", json!("retention")),
            ("winsorise", json!(0.99)),
        ] {
            let refused = with(field, value).unwrap_err().to_string();
            assert!(refused.contains("not supported yet"), "{refused}");
        }
        assert!(matches!(
            with("unit", json!("€")),
            Err(NotAMetric::Shape(_))
        ));
        assert!(with("name", json!("revenue:sum")).is_err());
        assert!(with("name", json!("shop:revenue")).is_ok());
    }

    #[test]
    fn a_definition_stands_before_the_event_type_of_its_name() {
        let defined = [with("name", json!("buy")).unwrap()];
        let experiment: Definition = serde_json::from_value(json!({
            "experiment_id": "gate", "variants": [{"variant": "a"}],
            "metrics": {"primary": ["buy"], "secondary": ["buy:count", "visit"]}
        }))
        .unwrap();
        let named = experiment.named_metrics(&defined);
        let seen: Vec<_> = (named.iter())
            .map(|own| (own.name, own.event_type, own.kinds))
            .collect();
        let both = [MetricKind::Conversion, MetricKind::Sum];
        assert_eq!(
            seen,
            [
                ("buy", "purchase", &[MetricKind::Sum][..]),
                ("buy", "purchase", &[MetricKind::Count][..]),
                ("visit", "visit", &both[..]),
            ]
        );
    }
}
