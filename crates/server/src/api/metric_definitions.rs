//! `/v1/metrics`: metric definitions.

mod definition;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::metrics::Metric;
use trialog_model::ids::MetricName;
use trialog_model::metric_definition::{MetricDefinition, NotAMetric};

use super::resource::{Resource, Words, operations};
use super::types::Time;
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::Schema;
use crate::problem::{Answer, Problem};

impl Resource for Metric {
    type Shown = ShownMetric;
    type Page = MetricPage;

    const WORDS: Words = Words {
        path: "/v1/metrics",
        path_of_one: "/v1/metrics/{name}",
        segment: "name",
        max_chars: MetricName::MAX_CHARS,
        example: "revenue",
        member: "name",
        renaming: "define another metric",
        tag: "metrics",
        many: "Definitions",
        one: "The definition.",
        created: "It is defined.",
        entity_tag: "Stands for this state of it; changes with each change.",
    };
    const SEARCH: Option<&'static str> =
        Some("Only those with this text in their name, event type, owner or description.");
    const CONFIRMS_NEW: bool = true;
    const CONFIRMS_CHANGE: bool = true;

    fn read(fields: Value) -> Answer<MetricDefinition> {
        MetricDefinition::from_json(fields).map_err(|error| match error {
            NotAMetric::Rule(error) => error.into(),
            NotAMetric::Shape(error) => Problem::unreadable(error),
            other => Problem::bad_request(other.to_string()),
        })
    }

    fn page(metrics: Vec<ShownMetric>, next: Option<String>) -> MetricPage {
        MetricPage { metrics, next }
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        operations::list::<Metric>("listMetrics", "Lists metric definitions"),
        operations::create::<Metric>("defineMetric", "Defines a metric", example())
            .describe("It stands before an event type of the same name in every experiment that names it; where one that has started is decided by it, that takes `confirm`."),
        operations::read::<Metric>("getMetric", "Reads a metric definition"),
        operations::change::<Metric>("changeMetric", json!({ "window": "14d", "owner": null }))
            .describe("Null puts a member back to its default. Experiments that name it are computed anew with the next run. Where it decides an experiment that has started, only `owner` and `description` change without `confirm`.")
            .problems(&[409]),
        operations::delete::<Metric>(
            "deleteMetric",
            "Deletes a definition that no experiment names",
        ),
    ]
}

fn example() -> Value {
    json!({
        "name": "revenue", "kind": "sum", "event_type": "purchase", "window": "7d",
        "direction": "increase", "description": "net of returns", "owner": "finance",
    })
}

/// The schemas of what clients send.
pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    definition::schemas()
}

/// A metric definition.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Metric")]
pub(crate) struct ShownMetric {
    #[serde(flatten)]
    #[schemars(schema_with = "definition_part")]
    definition: MetricDefinition,
    /// When it was defined.
    created_at: Time,
    /// When it changed last.
    updated_at: Time,
}

fn definition_part(_: &mut SchemaGenerator) -> schemars::Schema {
    derived::written(definition::definition())
}

/// A page of metric definitions.
#[derive(Serialize, JsonSchema)]
pub(crate) struct MetricPage {
    /// The definitions.
    metrics: Vec<ShownMetric>,
    /// What `after` takes for the next page; null on the last.
    next: Option<String>,
}

impl From<Metric> for ShownMetric {
    fn from(metric: Metric) -> Self {
        Self {
            definition: metric.definition,
            created_at: metric.created_at.into(),
            updated_at: metric.updated_at.into(),
        }
    }
}
