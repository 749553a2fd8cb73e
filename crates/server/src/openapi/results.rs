//! `/v1/experiments/{id}/results` in the document.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use trialog_model::experiment::Status;
use trialog_model::ids::Variant;
use trialog_model::metric::{MetricKind, MetricRole};

use super::experiments::{decision_field, experiment_segment, metric_name, pauses_field};
use super::metric_definitions::DIRECTIONS;
use super::operation::Operation;
use super::schema::{
    Schema, boolean, count, extended, field, fraction, level, list, matching, name, nullable,
    number, object, one_of, optional, reference, text, time, with,
};
use super::window::window;
use trialog_report::{Flag, Guardrail};

pub(super) const CORRECTIONS: [&str; 4] = ["holm", "bonferroni", "bh", "none"];

const ROLES: [MetricRole; 4] = [
    MetricRole::Primary,
    MetricRole::Secondary,
    MetricRole::Guardrail,
    MetricRole::Exploratory,
];

pub(super) fn operations() -> Vec<Operation> {
    let results = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/results",
        "getResults",
        "Tests, intervals and warnings",
    );
    let results = experiment_segment(results)
        .tag("results")
        .describe("Without `from`, `to` and segments from the rows that the last run published; with one of them folded on request, over the events which that run read.")
        .query("metric", metric_name(), "Only this one: `name` or `name:kind`.")
        .query("kind", one_of(&MetricKind::ALL), "Every row as this kind.")
        .query("from", time(), "Only users exposed at or after this time.")
        .query("to", time(), "Only users exposed before this time, which is after `from`.")
        .query("control", name(Variant::MAX_CHARS), "Compare with this variant.")
        .query("alpha", level(), "Another level.")
        .query(
            "correction",
            with(one_of(&CORRECTIONS), "default", "holm"),
            "How p-values are adjusted within a family.",
        )
        .query("as_of", time(), "The results as they were published at this time; not together with `from`, `to` or a segment.")
        .parameter(segment_parameter())
        .answer(StatusCode::OK, reference("Report"), "The report.")
        .problems(&[404, 409, 422]);
    vec![results]
}

/// Describes the parameters `segment.<key>`.
pub(super) fn segment_parameter() -> Value {
    json!({
        "name": "segment", "in": "query", "required": false,
        "schema": { "type": "object", "additionalProperties": text(), "propertyNames": matching("^segment\\..+$") },
        "style": "form", "explode": true,
        "description": "`segment.<key>=<value>`: only users whose exposure's context has this value. Repeat it for more keys, all of which must hold. Members of this object are such names, `segment.` included.",
        "examples": { "platform": { "value": { "segment.platform": "ios" } } },
    })
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("Report", report()),
        ("Health", health()),
        ("Warning", warning()),
        ("EventCounts", event_counts()),
        ("SampleRatioCheck", sample_ratio()),
        ("Progress", progress()),
        ("SequenceReport", sequence()),
        ("SequenceBreak", sequence_break()),
        ("MetricReport", metric()),
        ("VariantSums", sums()),
        ("Comparison", comparison()),
        ("Headline", headline()),
        ("Sequential", sequential()),
        ("Power", power()),
        ("NonInferiority", non_inferiority()),
        ("Winsorised", winsorised()),
    ]
}

/// Describes the users that results are about.
pub(super) fn filter() -> Schema {
    object([
        field("from", nullable(time()), "Exposed at or after this time."),
        field("to", nullable(time()), "Exposed before this time."),
        field(
            "segment",
            json!({ "type": "object", "additionalProperties": text() }),
            "Whose exposure's context has these values.",
        ),
    ])
}

/// Describes the users of a variant.
pub(super) fn variant_users() -> Schema {
    object([
        field("variant", text(), "The variant."),
        field("users", count(), "Users exposed to it alone."),
        field(
            "weight",
            nullable(number()),
            "Its planned weight; null where nobody declared it.",
        ),
    ])
}

fn report() -> Schema {
    object([
        field("experiment_id", text(), "The experiment."),
        field("status", one_of(&Status::ALL), "Where it is in its life."),
        decision_field(),
        pauses_field(),
        field(
            "computed_at",
            nullable(time()),
            "When the numbers were published; null before the first run.",
        ),
        field(
            "position",
            nullable(count()),
            "The position in what was ingested that they hold for.",
        ),
        field(
            "data_time",
            nullable(time()),
            "The moment that they hold for.",
        ),
        field(
            "filter",
            nullable(filter()),
            "The users that it is about; null for all.",
        ),
        field(
            "alpha",
            level(),
            "The two-sided level of tests and intervals.",
        ),
        field(
            "correction",
            one_of(&CORRECTIONS),
            "How p-values are adjusted within a family.",
        ),
        field(
            "control",
            nullable(text()),
            "The variant that the others are compared with.",
        ),
        field("variants", list(variant_users()), "Users by variant."),
        field(
            "health",
            reference("Health"),
            "Whether the numbers can be trusted.",
        ),
        field(
            "plan",
            nullable(reference("Progress")),
            "How far it is on the way to its planned sample.",
        ),
        field(
            "sequence",
            nullable(reference("SequenceReport")),
            "The looks that were taken; null where users were chosen by a filter, and before the first run.",
        ),
        field(
            "metrics",
            list(reference("MetricReport")),
            "Each metric, once for each kind.",
        ),
    ])
}

fn warning() -> Schema {
    object([
        field(
            "severity",
            one_of(&["error", "warning", "info"]),
            "`error`: the numbers cannot be trusted until it is mended; `warning`: something is left out or looks wrong; `info`: worth knowing.",
        ),
        field("code", matching("^[a-z_]+$"), "For programs."),
        field("message", text(), "For people: what is so."),
        field(
            "action",
            nullable(text()),
            "For people: what to do now; null where nothing has to be done.",
        ),
        field(
            "event_type",
            nullable(text()),
            "The event type that it is about, if it is about one.",
        ),
        field(
            "metric",
            nullable(text()),
            "The metric that it is about, if it is about one.",
        ),
        field(
            "numbers",
            json!({ "type": "object", "additionalProperties": number() }),
            "The numbers in the message, by name.",
        ),
    ])
}

fn event_counts() -> Schema {
    object([
        field("event_type", text(), "The event type."),
        field("events", count(), "All events, after copies were removed."),
        field(
            "counted",
            count(),
            "Events that count in at least one metric.",
        ),
        field(
            "before_exposure",
            count(),
            "Events of exposed users before their exposure.",
        ),
        field(
            "after_window",
            count(),
            "Events of exposed users after the end of every window.",
        ),
        field("unexposed", count(), "Events of users without an exposure."),
        field(
            "excluded",
            count(),
            "Events of users who are left out: of several variants, or forced.",
        ),
        field(
            "unknown_variant",
            count(),
            "Events of users whose variant is not aggregated.",
        ),
        field(
            "unexposed_users",
            count(),
            "Users with events and without an exposure.",
        ),
        field(
            "senders_exposed",
            count(),
            "Users with events and with an exposure.",
        ),
        field(
            "unexposed_sample",
            list(matching("^-?[0-9]+$")),
            "Ids of some users without an exposure; a text id is the integer that `trialog user-id` gives.",
        ),
    ])
}

fn health() -> Schema {
    let check = || nullable(reference("SampleRatioCheck"));
    object([
        field(
            "srm",
            check(),
            "Users with one variant; null where nothing could be checked.",
        ),
        field(
            "srm_reason",
            nullable(text()),
            "Why there is no sample ratio check; null where there is one.",
        ),
        field(
            "srm_with_crossovers",
            check(),
            "The same with crossovers counted at their first variant.",
        ),
        field(
            "crossovers",
            count(),
            "Users with two or more variants; they count in no metric.",
        ),
        field(
            "forced",
            count(),
            "Users with a forced assignment; they count in no metric.",
        ),
        field(
            "events_dropped_before",
            nullable(time()),
            "Retention dropped the events before this time: the results are from before that and are not computed again. Null where all are kept.",
        ),
        field(
            "events",
            nullable(list(reference("EventCounts"))),
            "What became of the events of each type; null where it was not counted: for users that a filter chose, and before the first run.",
        ),
        field(
            "warnings",
            list(reference("Warning")),
            "What a reader has to know, the most severe first.",
        ),
    ])
}

fn sample_ratio() -> Schema {
    object([
        field("chi_squared", nullable(number()), "The statistic."),
        field("df", count(), "Variants minus one."),
        field("p_value", nullable(fraction()), "Its upper tail."),
        field(
            "test",
            one_of(&["sequential", "chi_squared"]),
            "Which test decides: the sequential one while looks are taken, else chi-squared.",
        ),
        field(
            "sequential_p_value",
            nullable(fraction()),
            "The smallest of every look, users of several variants counted at their first one.",
        ),
        field(
            "failed",
            boolean(),
            "Whether p of the sequential test is below 0.01, or that of chi-squared below 0.001.",
        ),
    ])
}

fn sequence() -> Schema {
    let planned = object([
        field(
            "sample_size_per_variant",
            count(),
            "Users whose windows have closed that each arm needs.",
        ),
        field("alpha", fraction(), "The level that it spends."),
        field(
            "at",
            nullable(time()),
            "When it was published; null as long as it has not come.",
        ),
    ]);
    object([
        field("looks", count(), "How many count, this one included."),
        field(
            "since",
            nullable(time()),
            "When the first of them was published; null where only the last one counts.",
        ),
        field(
            "early_alpha",
            fraction(),
            "The level of always-valid tests: alpha, or with a plan a fifth of it.",
        ),
        field(
            "planned",
            nullable(planned),
            "The planned look; null without a plan.",
        ),
        field(
            "breaks",
            list(reference("SequenceBreak")),
            "Why earlier looks no longer count, the last time of each reason.",
        ),
    ])
}

fn sequence_break() -> Schema {
    object([
        field(
            "reason",
            one_of(&["erasure", "retention", "definition"]),
            "Why looks from before no longer count.",
        ),
        field("at", time(), "When."),
        field("actor", text(), "Who did it."),
        field(
            "fields",
            list(text()),
            "What was changed; empty for other reasons.",
        ),
        field(
            "confirmed_at",
            nullable(time()),
            "When a change was confirmed; null as long as nobody has.",
        ),
        field("confirmed_by", nullable(text()), "Who confirmed it."),
    ])
}

fn progress() -> Schema {
    object([
        field(
            "sample_size_per_variant",
            count(),
            "Users that each variant needs.",
        ),
        field(
            "share",
            number(),
            "Users of the smallest variant, divided by that.",
        ),
        field(
            "mde",
            nullable(number()),
            "The absolute difference that the plan can detect.",
        ),
        field("power", nullable(fraction()), "The planned power."),
    ])
}

fn metric() -> Schema {
    object([
        field("metric", text(), "The metric."),
        field(
            "kind",
            one_of(&MetricKind::ALL),
            "How events become a number per user.",
        ),
        field("role", one_of(&ROLES), "What it decides."),
        field(
            "direction",
            nullable(one_of(&DIRECTIONS)),
            "Which way is good; null for a guardrail of which nobody said it.",
        ),
        field("event_type", text(), "The events that it is made of."),
        field(
            "window",
            window(),
            "How long after exposure an event counts.",
        ),
        field(
            "description",
            nullable(text()),
            "What it is, as its definition says.",
        ),
        field(
            "variants",
            list(reference("VariantSums")),
            "Its sums by variant.",
        ),
        field(
            "comparisons",
            list(reference("Comparison")),
            "Each other variant against the control.",
        ),
    ])
}

fn sums() -> Schema {
    object([
        field("variant", text(), "The variant."),
        field("users", count(), "Exposed users."),
        field("converted_users", count(), "Users with at least one event."),
        field("events", nullable(count()), "Events."),
        field(
            "total",
            matching(r"^-?[0-9]+\.[0-9]{4}$"),
            "The sum of values, exact, as decimal text.",
        ),
        field("conversion_rate", fraction(), "`converted_users / users`."),
        field(
            "mean",
            number(),
            "The mean per user of what the kind measures; the ratio or the quantile itself.",
        ),
        field(
            "variance",
            nullable(number()),
            "The sample variance of a user's part in it; null below two users.",
        ),
        field(
            "second_total",
            nullable(decimal()),
            "The sum of a ratio's denominators, exact; null for other kinds.",
        ),
        field(
            "winsorised",
            nullable(reference("Winsorised")),
            "What winsorising did; null where nothing is winsorised.",
        ),
    ])
}

/// An exact sum as decimal text.
fn decimal() -> Schema {
    matching(r"^-?[0-9]+\.[0-9]{4}$")
}

fn winsorised() -> Schema {
    object([
        field(
            "lower",
            nullable(decimal()),
            "What users below it were set to, exact.",
        ),
        field(
            "upper",
            nullable(decimal()),
            "What users above it were set to, exact.",
        ),
        field("users", count(), "How many users were set to an end."),
    ])
}

fn sequential() -> Schema {
    object([
        field(
            "test",
            one_of(&["msprt"]),
            "The mixture sequential probability ratio test, with the guarded variance.",
        ),
        field(
            "p_value",
            fraction(),
            "The smallest always-valid p-value of all looks.",
        ),
        field(
            "difference",
            number(),
            "The difference at the look that gave it.",
        ),
        field("ci", interval(), "The always-valid interval of this look."),
        field(
            "relative_ci",
            interval(),
            "That of the relative difference; null where the control may be 0.",
        ),
        field(
            "significant",
            boolean(),
            "Whether the p-value is below alpha.",
        ),
        field(
            "looks",
            count(),
            "Published looks with these definitions, this one included.",
        ),
        field(
            "since",
            nullable(time()),
            "When the first of these looks was published; null where none was.",
        ),
        field(
            "tuning",
            number(),
            "Units of both arms together at which it is sharpest: the planned ones, else 5,000.",
        ),
        field("tuning_reason", text(), "Why these."),
        field(
            "mixing_variance",
            number(),
            "The variance of the mixture at this look, in the square of the metric's unit.",
        ),
    ])
}

fn headline() -> Schema {
    let flags = [Flag::Significant, Flag::NotSignificant];
    object([
        field(
            "test",
            nullable(one_of(&["always_valid", "fixed_horizon"])),
            "Which test it is; null where there is none.",
        ),
        field(
            "difference",
            nullable(number()),
            "Treatment minus control, of the look which the test is of.",
        ),
        field(
            "relative_difference",
            nullable(number()),
            "The same divided by the absolute value of the control's mean.",
        ),
        field(
            "p_value",
            nullable(fraction()),
            "Adjusted within the family.",
        ),
        field(
            "alpha",
            nullable(fraction()),
            "The level that the test spends: with a plan 0.2 alpha at every look and 0.8 alpha at the planned one, else alpha.",
        ),
        field(
            "ci",
            interval(),
            "The interval of the difference that goes with the test, at one minus that level.",
        ),
        field(
            "at",
            nullable(time()),
            "When the planned look was that it is of; null for other tests.",
        ),
        field(
            "relative_ci",
            interval(),
            "That of the relative difference; null where the control may be 0.",
        ),
        field(
            "flag",
            nullable(one_of(&flags)),
            "What the test comes to; null where there is none.",
        ),
        field(
            "desirable",
            nullable(boolean()),
            "Whether a significant difference goes the way that is good; null where it is not significant, where nobody said which way is good, and where the look that showed it had a difference of the other sign.",
        ),
        field("reason", text(), "Why this test, or why none."),
    ])
}

fn power() -> Schema {
    object([
        field(
            "power",
            fraction(),
            "The power of this test: one minus the planned chance to miss the effect, else 0.2, shared among it and the guardrails that have a margin.",
        ),
        field(
            "alpha",
            fraction(),
            "The level of this test: that of the planned look, else alpha, divided by the number of tests in its family.",
        ),
        field(
            "detectable_effect",
            number(),
            "The absolute difference that is found with this power by the users so far.",
        ),
        field(
            "planned_mde",
            nullable(number()),
            "The planned minimum detectable effect: `plan.mde` of the first primary metric, `plan.mdes` of others; null where nothing is planned.",
        ),
        field(
            "users_needed",
            nullable(count()),
            "Users of both arms together that are still needed for the planned effect.",
        ),
    ])
}

fn non_inferiority() -> Schema {
    let verdicts = [
        Guardrail::Kept,
        Guardrail::Violated,
        Guardrail::Inconclusive,
    ];
    object([
        field(
            "margin",
            fraction(),
            "How much worse it may be, as a fraction of the control's value.",
        ),
        field(
            "p_value",
            nullable(fraction()),
            "Of \"worse by the margin or more\", one-sided.",
        ),
        field(
            "p_violated",
            nullable(fraction()),
            "Of \"not worse by more than the margin\", one-sided.",
        ),
        field(
            "verdict",
            nullable(one_of(&verdicts)),
            "What the linear test says at alpha/2 on each side; null where nobody declared which way is good.",
        ),
    ])
}

fn interval() -> Schema {
    nullable(json!({ "type": "array", "items": number(), "minItems": 2, "maxItems": 2 }))
}

/// Every test of a report.
const TESTS: [&str; 6] = [
    "two_proportion_z",
    "fisher_exact",
    "welch_t",
    "ratio_metric",
    "cuped",
    "quantile_metric",
];

fn comparison() -> Schema {
    let flags = [Flag::Significant, Flag::Trending, Flag::NotSignificant];
    let verdict = [
        field("p_value", nullable(fraction()), "Two-sided."),
        field(
            "adjusted_p_value",
            nullable(fraction()),
            "Adjusted within its family; null for event types that nobody declared.",
        ),
        field(
            "adjusted_ci",
            interval(),
            "The interval of the difference at level `1 - alpha / m` for the m tests of its family: all of them hold together.",
        ),
        field(
            "cohens_d",
            nullable(number()),
            "The difference in pooled standard deviations; null for ratios and quantiles.",
        ),
        field(
            "flag",
            nullable(one_of(&flags)),
            "What the test of this one look comes to; null as `flag_reason` says.",
        ),
        field(
            "flag_reason",
            nullable(text()),
            "Why there is no flag; null where there is one.",
        ),
        field(
            "sparse",
            boolean(),
            "Whether the variance within the arms, pooled, exceeds 1.5 times that of each arm by its own, so that a mean has no verdict.",
        ),
        field(
            "desirable",
            nullable(boolean()),
            "Whether a significant difference goes the way that is good; null where it is not significant.",
        ),
        field("headline", reference("Headline"), "What to act on."),
        field(
            "sequential",
            nullable(reference("Sequential")),
            "Inference that holds at every look; null without spread and for quantiles.",
        ),
        field(
            "power",
            nullable(reference("Power")),
            "What the users so far are enough for; null without spread.",
        ),
        field(
            "non_inferiority",
            nullable(reference("NonInferiority")),
            "Whether a guardrail is kept; null for other metrics and without a margin.",
        ),
    ];
    extended(difference(), verdict)
}

fn difference() -> Schema {
    object([
        field("treatment", text(), "The variant that is compared."),
        field("test", one_of(&TESTS), "The test: a family of `/v1/calc`."),
        field(
            "difference",
            nullable(number()),
            "Treatment minus control, in the metric's unit.",
        ),
        field(
            "ci",
            interval(),
            "Its interval at level `1 - alpha`, low and high.",
        ),
        field(
            "relative_difference",
            nullable(number()),
            "The difference divided by the absolute value of the control's mean.",
        ),
        field("relative_ci", interval(), "Its interval."),
        optional(
            "relative_ci_reason",
            text(),
            "Why there is no relative interval.",
        ),
        field(
            "statistic",
            nullable(number()),
            "z or t; null for the exact test.",
        ),
        field(
            "df",
            nullable(number()),
            "Degrees of freedom of t; null for z.",
        ),
    ])
}
