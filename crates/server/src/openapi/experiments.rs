//! `/v1/experiments` in the document.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use trialog_model::experiment::{Definition, MAX_METRICS, MAX_VARIANTS, Metrics, Operator, Status};
use trialog_model::ids::{ExperimentId, Variant};

use super::operation::Operation;
use super::schema::{
    Field, Schema, between_0_and_1, chars, closed, extended, field, list, matching, name, nullable,
    number, object, one_of, optional, partial, positive, reference, text, time, with,
    with_defaults,
};

/// A whole number and a unit, or no end.
const WINDOW: &str = "^([0-9]+[wdhms]|none)$";

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

pub(super) fn operations() -> Vec<Operation> {
    vec![
        list_all(),
        create(),
        of_one(
            Method::GET,
            "/v1/experiments/{id}",
            "getExperiment",
            "Reads an experiment",
        ),
        change(),
        step(
            "/v1/experiments/{id}/start",
            "startExperiment",
            "Starts a draft",
        ),
        step(
            "/v1/experiments/{id}/stop",
            "stopExperiment",
            "Stops a running experiment, for good",
        ),
    ]
}

fn list_all() -> Operation {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 });
    Operation::new(
        Method::GET,
        "/v1/experiments",
        "listExperiments",
        "Lists experiments, page by page",
    )
    .tag("experiments")
    .query(
        "status",
        one_of(&Status::ALL),
        "Only those with this status.",
    )
    .query("after", text(), "The `next` of the page before.")
    .query("limit", limit, "Experiments on a page.")
    .answer(
        StatusCode::OK,
        reference("ExperimentPage"),
        "A page, in the order of ids.",
    )
}

fn create() -> Operation {
    let path = "/v1/experiments";
    Operation::new(
        Method::POST,
        path,
        "registerExperiment",
        "Registers an experiment",
    )
    .tag("experiments")
    .describe("Makes a draft. Events of the experiment that came before stay.")
    .body(reference("ExperimentDefinition"), definition_example())
    .answer(
        StatusCode::CREATED,
        reference("Experiment"),
        "It is registered.",
    )
    .answer_header(StatusCode::CREATED, "Location", "Where it is.")
    .problems(&[409, 422])
}

fn change() -> Operation {
    of_one(Method::PATCH, "/v1/experiments/{id}", "changeExperiment", "Changes the members that the body names")
        .describe("After the start, salt, variants and layer are frozen, allocation may only grow, and primary metrics stay as they are. A change takes effect with the next run.")
        .body(reference("ExperimentChange"), json!({ "owner": "checkout team" }))
        .problems(&[409, 422])
}

fn step(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    of_one(Method::POST, path, id, summary).problems(&[409])
}

fn of_one(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    experiment_segment(Operation::new(method, path, id, summary))
        .tag("experiments")
        .answer(StatusCode::OK, reference("Experiment"), "The experiment.")
        .problems(&[404])
}

/// The experiment in a path.
pub(super) fn experiment_segment(operation: Operation) -> Operation {
    operation.segment(
        "id",
        name(ExperimentId::MAX_CHARS),
        "checkout",
        "The experiment's id, percent-encoded.",
    )
}

fn definition_example() -> Value {
    json!({
        "experiment_id": "checkout", "hypothesis": "fewer steps sell more", "owner": "shop",
        "control": "old",
        "variants": [{ "variant": "old", "weight": 0.5 }, { "variant": "new", "weight": 0.5 }],
        "targeting": [{ "key": "platform", "op": "in", "value": ["ios", "android"] }],
        "surfaces": ["cart"], "attribution_window": "7d", "alpha": 0.05,
        "plan": { "sample_size_per_variant": 40000, "baseline": 0.19, "mde": 0.01, "power": 0.8 },
        "metrics": { "primary": ["purchase:conversion"], "secondary": ["purchase:sum"] },
    })
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("ExperimentDefinition", closed(definition())),
        ("ExperimentChange", closed(partial(definition()))),
        ("Experiment", extended(shown(), life())),
        ("ExperimentPage", page()),
        ("VariantWeight", variant()),
        ("Condition", condition()),
        ("Plan", plan()),
        ("Metrics", metrics()),
    ]
}

/// What an experiment is, with the defaults of what may be left out.
fn definition() -> Schema {
    let fields = object([
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
            "The share of units that are enrolled.",
        ),
        free(
            "layer",
            "The layer whose units are shared with other experiments.",
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
        optional(
            "attribution_window",
            matching(WINDOW),
            "How long after exposure an event counts, at most 3650d; `none` means until `end_at`.",
        ),
        optional(
            "alpha",
            between_0_and_1(),
            "The two-sided level of tests and intervals.",
        ),
        optional(
            "plan",
            nullable(reference("Plan")),
            "The power analysis made before launch.",
        ),
        optional("metrics", reference("Metrics"), "The metrics, by role."),
    ]);
    match ExperimentId::new("checkout") {
        Ok(id) => with_defaults(fields, &Definition::unregistered(id)),
        Err(_) => fields,
    }
}

fn free(name: &'static str, description: &str) -> Field {
    optional(name, nullable(chars(0, 4096)), description)
}

/// A definition in an answer: every member is there, and nobody may have declared variants.
fn shown() -> Schema {
    let mut shown = definition();
    let names: Vec<Value> = (shown["properties"].as_object().into_iter())
        .flat_map(|properties| properties.keys().map(|name| json!(name)))
        .collect();
    shown["required"] = json!(names);
    shown["properties"]["variants"] = list(reference("VariantWeight"));
    shown
}

fn life() -> [Field; 6] {
    [
        field("status", one_of(&Status::ALL), "Where it is in its life."),
        field("created_at", time(), "When it became known."),
        field("updated_at", time(), "When it changed last."),
        field("started_at", nullable(time()), "When it was started."),
        field("stopped_at", nullable(time()), "When it was stopped."),
        field(
            "failure",
            nullable(text()),
            "Why the last computation of it failed.",
        ),
    ]
}

fn page() -> Schema {
    object([
        field(
            "experiments",
            list(reference("Experiment")),
            "The experiments.",
        ),
        field(
            "next",
            nullable(text()),
            "What `after` takes for the next page; null on the last.",
        ),
    ])
}

fn variant() -> Schema {
    closed(object([
        field("variant", name(Variant::MAX_CHARS), "The variant's name."),
        optional(
            "weight",
            with(positive(), "default", 1),
            "Its share, relative to the sum of all weights.",
        ),
    ]))
}

fn condition() -> Schema {
    closed(object([
        field("key", text(), "The key of the context."),
        field("op", one_of(&OPERATORS), "How the value is compared."),
        field("value", json!({}), "What it is compared with."),
    ]))
}

fn plan() -> Schema {
    let size = json!({ "type": "integer", "format": "int64", "minimum": 1 });
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
            "The minimum detectable effect, absolute, in the metric's unit.",
        ),
        optional("power", nullable(between_0_and_1()), "The planned power."),
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

/// `type` or `type:kind`.
pub(super) fn metric_name() -> Schema {
    name(trialog_model::ids::EventType::MAX_CHARS)
}
