//! Defines metrics: what the name of a metric refers to.

mod min_value;

pub use min_value::MinValue;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{self, DocumentError};
use crate::duration::{Delay, Window};
use crate::event::FieldError;
use crate::experiment::Definition;
use crate::ids::{EventType, MetricName, NameError};
use crate::metric::{MetricKind, MetricRole};

/// The direction in which a metric improves.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(inline))]
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
    /// Returns the word used in JSON.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// How long after the exposure the window begins, before it where negative; at the
    /// exposure if absent. The window keeps its length.
    #[serde(default)]
    pub delay: Option<Delay>,
    /// Only events of at least this value count; all if absent. Of a ratio it holds for
    /// the numerator's events, and for a covariate where it is made of the same events.
    #[serde(default)]
    pub min_value: Option<MinValue>,
    /// Which way is good; more is where it is not said, but then a guardrail has no
    /// verdict.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Of a ratio: the events whose sum it is divided by.
    #[serde(default)]
    pub denominator: Option<EventType>,
    /// Of retention: when after exposure an event counts.
    #[serde(default)]
    pub retention: Option<Retention>,
    /// Of a quantile: its level, such as 0.9.
    #[serde(default)]
    pub quantile: Option<f64>,
    /// Of a count or a sum: users beyond these quantiles are set to them.
    #[serde(default)]
    pub winsorise: Option<Winsorise>,
    /// Of a conversion, a count or a sum: what users did before their exposure, by
    /// which the metric is adjusted (CUPED).
    #[serde(default)]
    pub covariate: Option<Covariate>,
    /// As a guardrail: how much worse than the control it may be, as a fraction of
    /// the control's value.
    #[serde(default)]
    pub margin: Option<f64>,
    /// What it is for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
}

/// The stretch of time after exposure, from `from` on and before `to`, in which
/// any event makes a user retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Where it begins; at the exposure if absent.
    #[serde(default)]
    pub from: Option<Window>,
    /// Where it ends. Only users for whom it has ended count.
    pub to: Window,
}

/// The quantiles over users of the experiment beyond which totals are set to them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Winsorise {
    /// Of which users.
    #[serde(default, skip_serializing_if = "WinsoriseOf::is_all_users")]
    pub of: WinsoriseOf,
    /// The lower one, such as 0.01; none if absent.
    #[serde(default)]
    pub lower: Option<f64>,
    /// The upper one, such as 0.99; none if absent.
    #[serde(default)]
    pub upper: Option<f64>,
}

/// The users whose totals are put in order to find the quantiles of winsorising.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WinsoriseOf {
    /// All exposed users, those without an event as 0.
    #[default]
    AllUsers,
    /// Users with an event that counts. The others stay 0.
    UsersWithEvent,
}

impl WinsoriseOf {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::AllUsers, Self::UsersWithEvent];

    /// Returns the word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllUsers => "all_users",
            Self::UsersWithEvent => "users_with_event",
        }
    }

    fn is_all_users(&self) -> bool {
        *self == Self::AllUsers
    }
}

impl AsRef<str> for WinsoriseOf {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// What users did before their exposure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covariate {
    /// The events that are summed; those of the metric if absent.
    #[serde(default)]
    pub event_type: Option<EventType>,
    /// How long before the exposure an event counts.
    pub period: Window,
}

/// The reason why a document is not a metric definition.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAMetric {
    /// A field is missing, unknown or of another type.
    #[error(transparent)]
    Shape(#[from] DocumentError),
    /// A rule is broken.
    #[error(transparent)]
    Rule(#[from] FieldError),
}

impl MetricDefinition {
    /// Parses and checks a definition.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with the remedy.
    pub fn from_json(fields: Value) -> Result<Self, NotAMetric> {
        let definition: Self = document::from_value(fields)?;
        definition.check()?;
        Ok(definition)
    }

    fn check(&self) -> Result<(), FieldError> {
        self.check_texts()?;
        self.check_parts()?;
        self.check_numbers()
    }

    /// Each kind has the parts that it is made of, and no others.
    fn check_parts(&self) -> Result<(), FieldError> {
        use MetricKind::{Conversion, Count, Quantile, Ratio, Retention, Sum};
        let parts: [(&'static str, bool, &[MetricKind], bool); 5] = [
            ("denominator", self.denominator.is_some(), &[Ratio], true),
            ("retention", self.retention.is_some(), &[Retention], true),
            ("quantile", self.quantile.is_some(), &[Quantile], true),
            ("winsorise", self.winsorise.is_some(), &[Count, Sum], false),
            (
                "covariate",
                self.covariate.is_some(),
                &[Conversion, Count, Sum],
                false,
            ),
        ];
        for (field, is_given, kinds, is_needed) in parts {
            let belongs = kinds.contains(&self.kind);
            if is_given && !belongs {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
                let reason = format!(
                    "does not go with a {}: only with {}",
                    self.kind,
                    kinds.join(" or ")
                );
                return Err(FieldError { field, reason });
            }
            if belongs && is_needed && !is_given {
                let reason = format!("is missing: a {} is made of it", self.kind);
                return Err(FieldError { field, reason });
            }
        }
        if self.winsorise.is_some() && self.covariate.is_some() {
            let reason = "does not go with winsorise: choose one".to_owned();
            return Err(FieldError {
                field: "covariate",
                reason,
            });
        }
        if self.kind == Retention && self.window.is_some() {
            let reason = "does not go with a retention: `retention` says when an event counts";
            return Err(rule("window", reason));
        }
        if self.kind == Retention && self.delay.is_some() {
            let reason = "does not go with a retention: `retention.from` says when it begins";
            return Err(rule("delay", reason));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), FieldError> {
        if let Some(Retention { from, to }) = self.retention {
            let ends = to
                .micros()
                .ok_or_else(|| rule("retention", "has no end: give `to` a length such as 8d"))?;
            let begins = match from {
                None => 0,
                Some(from) => from.micros().unwrap_or(i64::MAX),
            };
            if begins >= ends {
                return Err(rule("retention", "is empty: `from` is not before `to`"));
            }
        }
        if self.quantile.is_some_and(|level| !is_fraction(level)) {
            return Err(rule("quantile", "is not between 0 and 1, such as 0.9"));
        }
        if let Some(Winsorise { lower, upper, .. }) = self.winsorise {
            let levels = [lower, upper].into_iter().flatten();
            if levels.clone().count() == 0 || !levels.clone().all(is_fraction) {
                let reason = "needs `lower` or `upper`, each between 0 and 1, such as 0.99";
                return Err(rule("winsorise", reason));
            }
            if lower
                .zip(upper)
                .is_some_and(|(lower, upper)| lower >= upper)
            {
                return Err(rule("winsorise", "has a `lower` that is not below `upper`"));
            }
        }
        if (self.covariate.as_ref()).is_some_and(|covariate| covariate.period.micros().is_none()) {
            let reason = "has no beginning: give `period` a length such as 14d";
            return Err(rule("covariate", reason));
        }
        if self.margin.is_some_and(|margin| !is_fraction(margin)) {
            let reason = "is not a fraction of the control's value between 0 and 1, such as 0.02";
            return Err(rule("margin", reason));
        }
        Ok(())
    }

    fn check_texts(&self) -> Result<(), FieldError> {
        let refused = |field| {
            move |error: NameError| FieldError {
                field,
                reason: error.to_string(),
            }
        };
        self.name.check_new().map_err(refused("name"))?;
        for event_type in self.event_types() {
            event_type.check_new().map_err(refused("event_type"))?;
        }
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

    /// Returns how long after exposure an event counts, if the definition says so.
    pub fn declared_window(&self) -> Option<Window> {
        self.retention.map(|retention| retention.to).or(self.window)
    }

    /// Returns the fields that results are tested with and that differ in `changed`.
    ///
    /// ```
    /// use trialog_model::metric_definition::MetricDefinition;
    /// let parse = |fields| MetricDefinition::from_json(fields);
    /// let known = parse(serde_json::json!({"name": "buy", "kind": "sum", "event_type": "buy"}))?;
    /// let changed = parse(serde_json::json!({"name": "buy", "kind": "sum", "event_type": "order", "owner": "shop"}))?;
    /// assert_eq!(known.locked_changes(&changed), ["event_type"]);
    /// # Ok::<(), trialog_model::metric_definition::NotAMetric>(())
    /// ```
    pub fn locked_changes(&self, changed: &Self) -> Vec<&'static str> {
        let direction = |metric: &Self| metric.direction.unwrap_or_default();
        let locked = [
            ("covariate", self.covariate == changed.covariate),
            ("delay", self.delay == changed.delay),
            ("denominator", self.denominator == changed.denominator),
            ("direction", direction(self) == direction(changed)),
            ("event_type", self.event_type == changed.event_type),
            ("kind", self.kind == changed.kind),
            ("margin", self.margin == changed.margin),
            ("min_value", self.min_value == changed.min_value),
            ("quantile", self.quantile == changed.quantile),
            ("retention", self.retention == changed.retention),
            ("window", self.window == changed.window),
            ("winsorise", self.winsorise == changed.winsorise),
        ];
        let differing = locked.into_iter().filter(|(_, is_same)| !is_same);
        differing.map(|(field, _)| field).collect()
    }

    /// Returns whether results of `self` and of `other` mean the same.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let meaning = |metric: &Self| Self {
            description: None,
            owner: None,
            ..metric.clone()
        };
        meaning(self) == meaning(other)
    }
}

fn is_fraction(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

fn rule(field: &'static str, reason: &str) -> FieldError {
    let reason = reason.to_owned();
    FieldError { field, reason }
}

/// A metric that an experiment names, resolved: its definition, or else the event type of this
/// name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NamedMetric<'a> {
    /// The name.
    pub name: &'a str,
    /// What it decides.
    pub role: MetricRole,
    /// The kinds under which it is analysed.
    pub kinds: &'a [MetricKind],
    /// The events that it is made of.
    pub event_type: &'a str,
    /// How long after exposure, or after the delay of its definition, an event counts.
    pub window: Window,
    /// Its definition, if it has one.
    pub definition: Option<&'a MetricDefinition>,
}

impl MetricDefinition {
    /// Returns the event types that the metric uses.
    pub fn event_types(&self) -> impl Iterator<Item = &EventType> {
        let covariate = self
            .covariate
            .as_ref()
            .and_then(|covariate| covariate.event_type.as_ref());
        [Some(&self.event_type), self.denominator.as_ref(), covariate]
            .into_iter()
            .flatten()
    }
}

impl Definition {
    /// Returns the metrics of the experiment in the order of their roles. `defined` holds the
    /// known definitions.
    pub fn named_metrics<'a>(&'a self, defined: &'a [MetricDefinition]) -> Vec<NamedMetric<'a>> {
        let named = |(metric, role): (&'a crate::metric::MetricRef, MetricRole)| {
            let definition = defined
                .iter()
                .find(|definition| definition.name == metric.name);
            let kinds = match (metric.kind, definition) {
                (None, Some(definition)) => definition.kind.alone(),
                // What needs a definition is there only where a definition says so.
                (Some(kind), definition)
                    if kind.needs_definition()
                        && definition.is_none_or(|definition| definition.kind != kind) =>
                {
                    &[]
                }
                _ => metric.kinds(),
            };
            NamedMetric {
                name: metric.name.as_str(),
                role,
                kinds,
                event_type: definition.map_or(metric.name.as_str(), |definition| {
                    definition.event_type.as_str()
                }),
                window: (definition.and_then(MetricDefinition::declared_window))
                    .unwrap_or(self.attribution_window),
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
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn each_kind_has_its_own_parts_and_no_others() {
        let parse = |fields: Value| {
            let mut all = revenue();
            for (field, value) in fields.as_object().unwrap() {
                all[field] = value.clone();
            }
            MetricDefinition::from_json(all)
        };
        let good = [
            json!({"kind": "ratio", "denominator": "visit"}),
            json!({"kind": "retention", "retention": {"from": "7d", "to": "14d"}}),
            json!({"kind": "retention", "retention": {"to": "1d"}}),
            json!({"kind": "quantile", "quantile": 0.9}),
            json!({"winsorise": {"upper": 0.99}}),
            json!({"kind": "count", "winsorise": {"lower": 0.01, "upper": 0.99}}),
            json!({"covariate": {"period": "14d"}, "margin": 0.02}),
            json!({"kind": "conversion", "covariate": {"event_type": "visit", "period": "7d"}}),
            json!({"kind": "conversion", "min_value": "0.0001", "delay": "-1s"}),
            json!({"kind": "ratio", "denominator": "visit", "min_value": 5, "delay": "1d"}),
            json!({"kind": "retention", "retention": {"to": "1d"}, "min_value": 0.5}),
            json!({"winsorise": {"upper": 0.99, "of": "users_with_event"}}),
        ];
        for fields in good {
            let outcome = parse(fields.clone());
            assert!(outcome.is_ok(), "{fields}: {outcome:?}");
        }
        let bad = [
            (json!({"kind": "ratio"}), "denominator"),
            (json!({"denominator": "visit"}), "denominator"),
            (json!({"kind": "retention"}), "retention"),
            (
                json!({"kind": "retention", "retention": {"from": "7d", "to": "7d"}}),
                "retention",
            ),
            (
                json!({"kind": "retention", "retention": {"from": "none", "to": "7d"}}),
                "retention",
            ),
            (
                json!({"kind": "retention", "retention": {"to": "none"}}),
                "retention",
            ),
            (
                json!({"kind": "retention", "retention": {"to": "7d"}, "window": "7d"}),
                "window",
            ),
            (
                json!({"kind": "retention", "retention": {"to": "7d"}, "delay": "1d"}),
                "delay",
            ),
            (json!({"kind": "quantile", "quantile": 1.0}), "quantile"),
            (
                json!({"winsorise": {"of": "users_with_event"}}),
                "winsorise",
            ),
            (
                json!({"kind": "conversion", "winsorise": {"upper": 0.99}}),
                "winsorise",
            ),
            (json!({"winsorise": {}}), "winsorise"),
            (
                json!({"winsorise": {"lower": 0.9, "upper": 0.1}}),
                "winsorise",
            ),
            (
                json!({"winsorise": {"upper": 0.9}, "covariate": {"period": "7d"}}),
                "covariate",
            ),
            (json!({"covariate": {"period": "none"}}), "covariate"),
            (json!({"margin": 0.0}), "margin"),
        ];
        for (fields, named) in bad {
            match parse(fields.clone()) {
                Err(NotAMetric::Rule(error)) => assert_eq!(error.field, named, "{fields}"),
                other => panic!("{fields}: {other:?}"),
            }
        }
        assert!(matches!(
            with("unit", json!("€")),
            Err(NotAMetric::Shape(_))
        ));
        assert!(with("name", json!("revenue:sum")).is_err());
        assert!(with("name", json!("shop:revenue")).is_ok());
    }

    #[test]
    fn a_kind_that_needs_a_definition_is_there_only_with_one() {
        let mut ratio = revenue();
        ratio["kind"] = json!("ratio");
        ratio["denominator"] = json!("visit");
        let defined = [MetricDefinition::from_json(ratio).unwrap()];
        let experiment: Definition = serde_json::from_value(json!({
            "experiment_id": "gate", "variants": [{"variant": "a"}],
            "metrics": {"primary": ["revenue:ratio"], "secondary": ["revenue:quantile", "buy:ratio"]}
        }))
        .unwrap();
        let kinds: Vec<_> = (experiment.named_metrics(&defined).iter())
            .map(|named| named.kinds)
            .collect();
        assert_eq!(kinds, [&[MetricKind::Ratio][..], &[], &[]]);
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
            .map(|named| (named.name, named.event_type, named.kinds))
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
