//! The schemas of what clients say about an experiment.

use serde_json::{Value, json};
use trialog_catalog::experiments::MAX_REASON_CHARS;
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::experiment::{
    Definition, MAX_FORCED, MAX_METRICS, MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_UNITS, MAX_VARIANTS,
    Metrics, Operator,
};
use trialog_model::funnel::{MAX_FUNNELS, MAX_STEPS, MIN_STEPS};
use trialog_model::ids::{EventType, ExperimentId, FunnelName, LayerName, MetricName, Variant};
use trialog_model::metric::MetricKind;

use crate::openapi::schema::{
    Field, Schema, between_0_and_1, boolean, chars, closed, extended, field, free, integer, level,
    list, matching, name, nullable, number, object, one_of, optional, positive, reference,
    resettable, text, time, with, with_defaults,
};
use crate::openapi::window::window;

const OPERATORS: [Operator; 14] = [
    Operator::Eq,
    Operator::Neq,
    Operator::In,
    Operator::NotIn,
    Operator::Lt,
    Operator::Lte,
    Operator::Gt,
    Operator::Gte,
    Operator::SemverLt,
    Operator::SemverLte,
    Operator::SemverEq,
    Operator::SemverGt,
    Operator::SemverGte,
    Operator::Present,
];

/// The components that the operations on experiments share.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("ExperimentDefinition", closed(definition())),
        (
            "ExperimentChange",
            closed(confirmable(resettable(definition()))),
        ),
        ("Decision", decision()),
        ("VariantWeight", variant()),
        ("ForcedVariant", forced()),
        ("Condition", condition()),
        ("Plan", plan()),
        ("Metrics", metrics()),
        ("SavedFunnel", funnel()),
    ]
}

/// What an experiment is, with the defaults of what may be left out.
fn definition() -> Schema {
    let fields = [
        field(
            "experiment_id",
            name(ExperimentId::MAX_CHARS),
            "The name that events carry.",
        ),
        field(
            "variants",
            json!({ "type": "array", "items": reference("VariantWeight"),
                "minItems": 1, "maxItems": MAX_VARIANTS }),
            "The variants and their planned shares; each once.",
        ),
        free("hypothesis", "What is believed, and why."),
        free("owner", "Who answers for it."),
        optional(
            "control",
            nullable(name(Variant::MAX_CHARS)),
            "The variant that the others are compared with; the first one if absent.",
        ),
        optional(
            "allocation",
            json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }),
            "The share of units that are enrolled; in a layer, the share of its buckets.",
        ),
        optional(
            "layer",
            nullable(name(LayerName::MAX_CHARS)),
            "The layer whose units are shared with other experiments; it is registered.",
        ),
        free(
            "salt",
            "Seeds the assignment; the experiment's id if absent.",
        ),
        optional(
            "targeting",
            list(reference("Condition")),
            "Conditions on the context, all of which must hold.",
        ),
        optional(
            "forced",
            json!({ "type": "array", "items": reference("ForcedVariant"), "maxItems": MAX_FORCED }),
            "Units that get a variant whatever the rules say; they are not analysed.",
        ),
        optional(
            "surfaces",
            list(text()),
            "Parts of the product that it touches.",
        ),
        optional(
            "start_at",
            nullable(time()),
            "Assignments before this time are not looked at.",
        ),
        optional(
            "end_at",
            nullable(time()),
            "Assignments from this time on are not looked at.",
        ),
    ];
    let fields = object(fields.into_iter().chain(analysis()));
    match ExperimentId::new("checkout") {
        Ok(id) => with_defaults(fields, &Definition::unregistered(id)),
        Err(_) => fields,
    }
}

/// What results are tested with and made of.
fn analysis() -> [Field; 6] {
    [
        optional(
            "attribution_window",
            window(),
            "How long after exposure an event counts, at most 3650d; `none` means until `end_at`.",
        ),
        optional(
            "alpha",
            level(),
            "The two-sided level of tests and intervals.",
        ),
        optional(
            "plan",
            nullable(reference("Plan")),
            "The power analysis made before launch.",
        ),
        optional("metrics", reference("Metrics"), "The metrics, by role."),
        optional(
            "segments",
            segments(),
            "The segments that are expected to differ.",
        ),
        optional("funnels", funnels(), "Funnels that every run computes."),
    ]
}

fn decision() -> Schema {
    closed(object([
        field(
            "ship",
            nullable(name(Variant::MAX_CHARS)),
            "The variant that everybody gets; null where nothing is shipped.",
        ),
        field("reason", chars(1, MAX_REASON_CHARS), "Why."),
    ]))
}

fn variant() -> Schema {
    closed(object([
        field("variant", name(Variant::MAX_CHARS), "The variant's name."),
        optional(
            "weight",
            json!({ "type": "number", "minimum": 0, "default": 1 }),
            "Its share, relative to the sum of all weights, which is above 0; nobody is assigned a variant of weight 0.",
        ),
        optional(
            "value",
            json!({}),
            "What it stands for in the application, any JSON; the variant's name if absent.",
        ),
    ]))
}

fn forced() -> Schema {
    closed(object([
        field(
            "user_id",
            chars(1, MAX_USER_ID_BYTES),
            "The user id as the application gives it.",
        ),
        field("variant", name(Variant::MAX_CHARS), "The variant."),
    ]))
}

fn condition() -> Schema {
    closed(object([
        field("key", chars(1, 256), "The key of the context."),
        field("op", one_of(&OPERATORS), "How the value is compared."),
        field("value", json!({}), "What it is compared with."),
    ]))
}

fn plan() -> Schema {
    let size = with(integer(1), "maximum", MAX_UNITS);
    closed(object([
        field(
            "sample_size_per_variant",
            size,
            "Units that each variant needs.",
        ),
        optional(
            "baseline",
            nullable(number()),
            "The control's expected mean or rate.",
        ),
        optional(
            "mde",
            nullable(positive()),
            "The minimum detectable effect of the first primary metric, absolute, in its unit.",
        ),
        optional("power", nullable(between_0_and_1()), "The planned power."),
        optional(
            "mdes",
            json!({ "type": "object", "additionalProperties": positive() }),
            "The minimum detectable effects of other primary metrics than the first, by their names, `name` or `name:kind`.",
        ),
    ]))
}

fn funnels() -> Schema {
    json!({ "type": "array", "items": reference("SavedFunnel"), "maxItems": MAX_FUNNELS, "default": [] })
}

fn funnel() -> Schema {
    let steps = json!({ "type": "array", "items": name(EventType::MAX_CHARS),
        "minItems": MIN_STEPS, "maxItems": MAX_STEPS });
    let limits = json!({ "type": "array", "items": nullable(window()), "maxItems": MAX_STEPS });
    closed(object([
        field(
            "name",
            name(FunnelName::MAX_CHARS),
            "The funnel's name, which no other one of the experiment has.",
        ),
        field(
            "steps",
            steps,
            "The types of events, in order; a type may repeat.",
        ),
        optional(
            "window",
            with(window(), "default", "7d"),
            "How long after the exposure events count, at most 3650d; `none` for as long as the experiment goes.",
        ),
        optional(
            "limits",
            limits,
            "For each step how long after the step before it may come; for the first step, after the exposure. Null for no limit.",
        ),
    ]))
}

fn metrics() -> Schema {
    let names = || json!({ "type": "array", "items": metric_name(), "maxItems": MAX_METRICS });
    let fields = object([
        optional("primary", names(), "Decide the experiment."),
        optional("secondary", names(), "Explain the outcome."),
        optional("guardrail", names(), "Must not get worse."),
    ]);
    closed(with_defaults(fields, &Metrics::default()))
}

/// With the member by which a change after the start is confirmed.
pub(crate) fn confirmable(object: Schema) -> Schema {
    extended(
        object,
        [optional(
            "confirm",
            nullable(boolean()),
            "Whether what results are tested with may change after the start.",
        )],
    )
}

/// `name` or `name:kind`.
pub(crate) fn metric_name() -> Schema {
    let kinds = MetricKind::ALL.map(MetricKind::as_str).join("|");
    let most = MetricName::MAX_CHARS;
    matching(&format!(
        "^[^\\u0000-\\u001f\\u007f]{{1,{most}}}(:({kinds}))?$"
    ))
}

fn segments() -> Schema {
    let keys = json!({ "type": "array", "items": chars(1, MAX_SEGMENT_BYTES), "maxItems": MAX_SEGMENTS, "uniqueItems": true, "default": [] });
    let what = "Keys of the context by whose values the effects are expected to differ. A breakdown by them is confirmatory, by other keys exploratory.";
    with(keys, "description", what)
}

/// Lists that an answer leaves out where they are empty.
const LEFT_OUT: [&str; 2] = ["segments", "funnels"];

/// A definition in an answer: every other member is there, and nobody may have declared variants.
pub(super) fn shown() -> Schema {
    let mut shown = definition();
    let names: Vec<Value> = (shown["properties"].as_object().into_iter())
        .flat_map(|properties| properties.keys())
        .filter(|name| !LEFT_OUT.contains(&name.as_str()))
        .map(|name| json!(name))
        .collect();
    shown["required"] = json!(names);
    shown["properties"]["variants"] = list(reference("VariantWeight"));
    shown
}
