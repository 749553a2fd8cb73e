//! `/v1/experiments` in the document.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use trialog_catalog::experiments::MAX_REASON_CHARS;
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::experiment::{
    Definition, MAX_FORCED, MAX_METRICS, MAX_UNITS, MAX_VARIANTS, Metrics, Operator, Status,
};
use trialog_model::ids::{ExperimentId, LayerName, MetricName, Variant};
use trialog_model::metric::MetricKind;

use super::operation::Operation;
use super::schema::{
    Field, Schema, between_0_and_1, boolean, chars, closed, count, extended, field, integer, level,
    list, matching, name, nullable, number, object, one_of, optional, page_limit, positive,
    reference, resettable, text, time, with, with_defaults,
};
use super::window::window;
use crate::page::MAX_SEARCH;

/// What an `ETag` is.
const TAG: &str = "Stands for this state of it; changes with each change.";

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
        delete(),
        step(
            "/v1/experiments/{id}/start",
            "startExperiment",
            "Starts a draft",
        ),
        step(
            "/v1/experiments/{id}/stop",
            "stopExperiment",
            "Stops a running experiment",
        ),
        step(
            "/v1/experiments/{id}/resume",
            "resumeExperiment",
            "Resumes a stopped experiment",
        )
        .describe("Only without a decision, and while its buckets are free and definition and holdouts are as they were when it was stopped. `pauses` keeps the time, since exposed users saw the control meanwhile."),
        decide(),
        step(
            "/v1/experiments/{id}/archive",
            "archiveExperiment",
            "Puts away a draft or a stopped experiment, for good",
        ),
        step(
            "/v1/experiments/{id}/confirm",
            "confirmChange",
            "Confirms what was changed after the start",
        )
        .describe("Until somebody does, results have no verdict: what they are tested with was changed with `confirm` after people could see them. Only looks since the change count."),
    ]
}

fn list_all() -> Operation {
    Operation::new(
        Method::GET,
        "/v1/experiments",
        "listExperiments",
        "Lists experiments, page by page",
    )
    .tag("experiments")
    .queries(
        "status",
        one_of(&Status::ALL),
        "Only those with one of these; without it, all but archived ones.",
    )
    .query("owner", text(), "Only those of this owner.")
    .query(
        "q",
        chars(0, MAX_SEARCH),
        "Only those that have each of these words anywhere in their id, owner or hypothesis, in any case; the last change comes first.",
    )
    .query(
        "sort",
        one_of(&["id", "updated_at"]),
        "By id, which does not go with `q`, or the last change first.",
    )
    .query("after", text(), "The `next` of the page before.")
    .query("limit", page_limit(), "Experiments on a page.")
    .answer(StatusCode::OK, reference("ExperimentPage"), "A page.")
        .problems(&[422])
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
    .answer_header(StatusCode::CREATED, "ETag", TAG)
    .problems(&[409, 422])
}

fn change() -> Operation {
    of_one(Method::PATCH, "/v1/experiments/{id}", "changeExperiment", "Changes the members that the body names")
        .describe("Null puts a member back to its default. After the start, salt, variants and layer are frozen, allocation may only grow, and primary metrics stay as they are. A change of `alpha`, `attribution_window`, `control`, `plan` or `start_at` is refused then, as results are tested with them; with `confirm` the sequence of looks starts anew, and there is no verdict until somebody confirms it. A change takes effect with the next run.")
        .body(reference("ExperimentChange"), json!({ "owner": "checkout team", "hypothesis": null }))
        .if_match()
        .problems(&[409, 422])
}

fn decide() -> Operation {
    let example = json!({ "ship": "new", "reason": "sells 4 % more at the planned sample" });
    step(
        "/v1/experiments/{id}/decide",
        "decideExperiment",
        "Records what was decided after a stopped experiment",
    )
    .describe("Until the experiment is archived, every evaluation answers with the variant `ship`, and logs no exposure to it; with null nothing is shipped. A later decision takes the place of this one.")
    .body(reference("Decision"), example)
    .problems(&[422])
}

fn delete() -> Operation {
    of_one(
        Method::DELETE,
        "/v1/experiments/{id}",
        "deleteExperiment",
        "Deletes a draft or an unregistered experiment",
    )
    .describe("With its results, and answers with it as it was. Its events and its audit trail stay: if more events come in, it is unregistered again. One that was started is archived instead.")
    .if_match()
    .problems(&[409])
}

fn step(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    of_one(Method::POST, path, id, summary)
        .if_match()
        .problems(&[409])
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
        .answer_header(StatusCode::OK, "ETag", TAG)
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
        (
            "ExperimentChange",
            closed(confirmable(resettable(definition()))),
        ),
        ("Experiment", extended(shown(), life())),
        ("Decision", decision()),
        ("Decided", decided()),
        ("Pause", pause()),
        ("ExperimentPage", page()),
        ("VariantWeight", variant()),
        ("ForcedVariant", forced()),
        ("SharedSurface", shared_surface()),
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

fn life() -> [Field; 11] {
    [
        field("status", one_of(&Status::ALL), "Where it is in its life."),
        field("created_at", time(), "When it became known."),
        field("updated_at", time(), "When it changed last."),
        field("started_at", nullable(time()), "When it was started."),
        field("stopped_at", nullable(time()), "When it was stopped."),
        field("archived_at", nullable(time()), "When it was put away."),
        decision_field(),
        pauses_field(),
        field(
            "failure",
            nullable(text()),
            "Why the last computation of it failed.",
        ),
        field(
            "ranges",
            list(list(count())),
            "The buckets of its layer that it owns, from the first on and before the second.",
        ),
        optional(
            "warnings",
            list(reference("SharedSurface")),
            "Of an answer to a change: experiments that run and touch the same surface without a layer that keeps them apart.",
        ),
    ]
}

pub(super) fn decision_field() -> Field {
    field(
        "decision",
        nullable(reference("Decided")),
        "What was decided after it; null while nothing is.",
    )
}

pub(super) fn pauses_field() -> Field {
    field(
        "pauses",
        list(reference("Pause")),
        "The times in which it was stopped before it was resumed, oldest first.",
    )
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

fn decided() -> Schema {
    object([
        field(
            "ship",
            nullable(text()),
            "The variant that everybody gets until the experiment is archived; null where nothing is shipped.",
        ),
        field("reason", text(), "Why."),
        field("by", text(), "Who decided: the name of an access key."),
        field("at", time(), "When."),
    ])
}

fn pause() -> Schema {
    object([
        field("from", time(), "When it was stopped."),
        field("to", time(), "When it was resumed."),
    ])
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

fn shared_surface() -> Schema {
    object([
        field("code", one_of(&["shared_surface"]), "What it is about."),
        field("surface", text(), "The part of the product."),
        field("experiment_id", text(), "The experiment that runs."),
        field("message", text(), "What to do about it."),
    ])
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
pub(super) fn confirmable(object: Schema) -> Schema {
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
pub(super) fn metric_name() -> Schema {
    let kinds = MetricKind::ALL.map(MetricKind::as_str).join("|");
    let most = MetricName::MAX_CHARS;
    matching(&format!(
        "^[^\\u0000-\\u001f\\u007f]{{1,{most}}}(:({kinds}))?$"
    ))
}
