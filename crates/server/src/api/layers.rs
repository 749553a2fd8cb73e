//! `/v1/layers`: layers, and which of their buckets are free.

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};
use trialog_catalog::layers::Layer;
use trialog_model::bucket::N_BUCKETS;
use trialog_model::document;
use trialog_model::holdout::LayerDefinition;
use trialog_model::ids::LayerName;
use trialog_model::ranges::n_buckets;

use super::resource::{Resource, Words, operations};
use super::types::{BucketRange, Time, bucket_range};
use crate::openapi::derived;
use crate::openapi::operation::Operation;
use crate::openapi::schema::{self, Schema, free};
use crate::problem::{Answer, Problem};

impl Resource for Layer {
    type Shown = ShownLayer;
    type Page = LayerPage;

    const WORDS: Words = Words {
        path: "/v1/layers",
        path_of_one: "/v1/layers/{name}",
        segment: "name",
        max_chars: LayerName::MAX_CHARS,
        example: "checkout",
        member: "name",
        renaming: "it seeds the buckets, register another layer",
        tag: "layers",
        many: "Layers",
        one: "The layer.",
        created: "It is registered.",
        entity_tag: "Stands for this state of its definition.",
    };

    fn read(fields: Value) -> Answer<LayerDefinition> {
        let definition: LayerDefinition =
            document::from_value(fields).map_err(Problem::unreadable)?;
        definition.check()?;
        Ok(definition)
    }

    fn page(layers: Vec<ShownLayer>, next: Option<String>) -> LayerPage {
        LayerPage { layers, next }
    }
}

pub(crate) fn operations() -> Vec<Operation> {
    let example = json!({
        "name": "checkout", "description": "one test at a time on the way to pay", "owner": "shop",
    });
    vec![
        operations::list::<Layer>("listLayers", "Lists layers"),
        operations::create::<Layer>("registerLayer", "Registers a layer", example)
            .describe("Experiments of a layer own disjoint shares of its 10,000 buckets, so no unit is in two of them."),
        operations::read::<Layer>("getLayer", "Reads a layer with its free buckets"),
        operations::change::<Layer>("changeLayer", json!({ "owner": "payments" })),
        operations::delete::<Layer>(
            "deleteLayer",
            "Deletes a layer in which no draft or running experiment is",
        ),
    ]
}

pub(crate) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("LayerDefinition", schema::closed(definition())),
        (
            "LayerChange",
            schema::closed(schema::resettable(definition())),
        ),
    ]
}

fn definition() -> Schema {
    schema::object([
        schema::field(
            "name",
            schema::name(LayerName::MAX_CHARS),
            "The name by which experiments name it; it seeds the buckets.",
        ),
        free("description", "What it is for people."),
        free("owner", "Who answers for it."),
    ])
}

/// A layer: who owns which buckets, and what is free.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Layer")]
pub(crate) struct ShownLayer {
    #[serde(flatten)]
    #[schemars(schema_with = "definition_part")]
    definition: LayerDefinition,
    /// When it was registered.
    created_at: Time,
    /// When it changed last.
    updated_at: Time,
    /// Who owns which buckets: drafts and running experiments.
    experiments: Vec<Owner>,
    /// The buckets that nobody owns.
    free: Vec<BucketRange>,
    /// Their share: the largest allocation that fits.
    #[schemars(range(min = 0, max = 1))]
    free_share: f64,
}

fn definition_part(_: &mut SchemaGenerator) -> schemars::Schema {
    derived::written(definition())
}

/// An experiment and its buckets.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Owner {
    /// The experiment.
    experiment_id: String,
    /// Its buckets, from the first on and before the second.
    ranges: Vec<BucketRange>,
}

/// A page of layers.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LayerPage {
    /// The layers.
    layers: Vec<ShownLayer>,
    /// What `after` takes for the next page; null on the last.
    next: Option<String>,
}

impl From<Layer> for ShownLayer {
    fn from(layer: Layer) -> Self {
        let free = layer.free();
        Self {
            created_at: layer.created_at.into(),
            updated_at: layer.updated_at.into(),
            experiments: owners(&layer),
            free_share: f64::from(n_buckets(&free)) / f64::from(N_BUCKETS),
            free: free.iter().map(bucket_range).collect(),
            definition: layer.definition,
        }
    }
}

/// The experiments of `layer`, each once with all its buckets, in the order of their first ones.
fn owners(layer: &Layer) -> Vec<Owner> {
    let mut owners: Vec<Owner> = Vec::new();
    for (id, range) in &layer.owned {
        let range = bucket_range(range);
        let known = owners
            .iter_mut()
            .find(|owner| owner.experiment_id == id.as_str());
        match known {
            Some(owner) => owner.ranges.push(range),
            None => owners.push(Owner {
                experiment_id: id.to_string(),
                ranges: vec![range],
            }),
        }
    }
    owners
}
