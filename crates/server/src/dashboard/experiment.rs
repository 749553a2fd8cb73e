//! The page of an experiment: header, health, variants, scorecard, filters.

use askama::Template;
use trialog_catalog::experiments::Experiment;
use trialog_model::experiment::Status;
use trialog_model::metric::MetricKind;
use trialog_model::published::EventCounts;
use trialog_model::time::UnixMicros;

use super::assets;
use super::format::{self, Sign};
use super::frame::{Freshness, Moment};
use super::list::{Bar, Choice};
use super::next_step::{NextStep, Origin};
use super::number::{Number, Unit};
use super::query::{self, Pairs};
use super::scorecard::{self, Section};
use trialog_model::percent;
use trialog_report::{Decided, Health, Paused, Report, Severity, SrmReport, Warning};

/// The results of an experiment.
#[derive(Debug, Template)]
#[template(path = "experiment.html")]
pub(super) struct ExperimentPage {
    style: String,
    icon: String,
    id: String,
    hypothesis: String,
    status: &'static str,
    facts: Vec<(&'static str, String)>,
    path: String,
    json: String,
    definition_json: String,
    computed: Option<Moment>,
    freshness: Freshness,
    filter: Vec<String>,
    is_mismatched: bool,
    warnings: Vec<WarningRow>,
    checks: Vec<Check>,
    unchecked: String,
    events: Vec<EventRow>,
    crossovers: Number,
    forced: Number,
    progress: Option<Bar>,
    mde: Option<Number>,
    planned_look: Option<String>,
    power: Option<Number>,
    variants: Vec<VariantRow>,
    sections: Vec<Section>,
    form: Form,
    next_step: Option<NextStep>,
}

#[derive(Debug)]
pub(super) struct Check {
    name: &'static str,
    pub(super) chi_squared: Option<Number>,
    pub(super) df: Number,
    pub(super) p_value: Option<Number>,
    pub(super) sequential: Option<Number>,
    pub(super) failed: bool,
}

/// A warning, and how it looks.
#[derive(Debug)]
pub(super) struct WarningRow {
    pub(super) code: String,
    pub(super) text: String,
    /// `Error`, `Warning` or `Note`.
    pub(super) label: &'static str,
    pub(super) is_severe: bool,
}

/// What became of the events of one type.
#[derive(Debug)]
struct EventRow {
    event_type: String,
    counts: Vec<Number>,
}

#[derive(Debug)]
pub(super) struct VariantRow {
    pub(super) name: String,
    pub(super) is_control: bool,
    pub(super) users: Number,
    pub(super) planned: Option<Number>,
    pub(super) observed: String,
}

/// The filter form, filled in as the query is.
#[derive(Debug)]
struct Form {
    metric: String,
    metrics: Vec<String>,
    kinds: Vec<Choice>,
    segments: Vec<(String, String)>,
    from: Time,
    to: Time,
    as_of: String,
    alpha: String,
    own_alpha: String,
    corrections: Vec<Choice>,
    controls: Vec<Choice>,
    is_filtered: bool,
}

/// A time in a form: a browser's own field knows no more than seconds.
#[derive(Debug)]
struct Time {
    input: &'static str,
    value: String,
}

/// What a page of results is made of.
pub(super) struct Parts<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) report: &'a Report,
    /// The query as the API takes it.
    pub(super) query: &'a Pairs,
    pub(super) freshness: Freshness,
    pub(super) origin: &'a Origin,
    pub(super) now: UnixMicros,
}

impl ExperimentPage {
    pub(super) fn new(parts: Parts<'_>) -> Self {
        let Parts {
            experiment,
            report,
            query,
            freshness,
            origin,
            now,
        } = parts;
        let definition = &experiment.definition;
        let id = definition.experiment_id.to_string();
        let in_path = percent::encode(&id);
        let health = &report.health;
        let plan = report.plan.as_ref();
        let checks = [
            Check::of("users of one variant", "/health/srm", health.srm.as_ref()),
            Check::of(
                "with crossovers at their first variant",
                "/health/srm_with_crossovers",
                health.srm_with_crossovers.as_ref(),
            ),
        ];
        let checks: Vec<Check> = checks.into_iter().flatten().collect();
        Self {
            style: assets::style_address(),
            icon: assets::icon_address(),
            hypothesis: definition.hypothesis.clone().unwrap_or_default(),
            status: report.status.as_str(),
            facts: facts(experiment, report),
            path: format!("/experiments/{in_path}"),
            json: query::address(&format!("/v1/experiments/{in_path}/results"), query),
            definition_json: format!("/v1/experiments/{in_path}"),
            computed: report
                .computed_at
                .as_deref()
                .and_then(|text| Moment::parse(text, now)),
            freshness: if query::value(query, "as_of").is_empty() {
                freshness
            } else {
                Freshness::past(report.data_time.as_deref(), now)
            },
            filter: filter(report),
            is_mismatched: checks.iter().any(|check| check.failed),
            warnings: health.warnings.iter().map(WarningRow::of).collect(),
            checks,
            unchecked: health.srm_reason.clone().unwrap_or_default(),
            events: event_rows(health),
            crossovers: Number::count("/health/crossovers", health.crossovers),
            forced: Number::count("/health/forced", health.forced),
            progress: plan.map(Bar::of),
            mde: plan
                .and_then(|plan| plan.mde)
                .map(|mde| Number::new("/plan/mde", mde, format::significant(mde, 4, Sign::Minus))),
            planned_look: planned_look(report),
            power: plan.and_then(|plan| plan.power).map(|power| {
                Number::new(
                    "/plan/power",
                    power,
                    Unit::Percent.show(power, None, Sign::Minus),
                )
            }),
            variants: variants(report),
            sections: scorecard::sections(report, ""),
            form: Form::of(experiment, report, query),
            next_step: origin.next_step(definition, report),
            id,
        }
    }
}

impl WarningRow {
    pub(super) fn of(warning: &Warning) -> Self {
        Self {
            code: warning.code.clone(),
            text: warning.text(),
            label: match warning.severity {
                Severity::Error => "Error",
                Severity::Warning => "Warning",
                Severity::Info => "Note",
            },
            is_severe: warning.severity == Severity::Error,
        }
    }
}

/// When the planned look was, or when it will be, in words.
fn planned_look(report: &Report) -> Option<String> {
    let planned = report.sequence.as_ref()?.planned.as_ref()?;
    let lacks_users = report.plan.as_ref().is_some_and(|plan| plan.share < 1.0);
    let has_ended = matches!(report.status, Status::Stopped | Status::Archived);
    Some(match &planned.at {
        Some(at) => format!(
            "The planned look was taken on {}: its outcome stands.",
            format::minute(at)
        ),
        None if has_ended && lacks_users => "The planned look did not come: it ended before every variant had its planned users.".to_owned(),
        None => "The planned look comes once every variant has its planned users, their windows have closed and 7 days have passed. Until then the verdict is that of a test which holds at every look.".to_owned(),
    })
}

/// The counts of events in the order of the table's columns.
fn event_rows(health: &Health) -> Vec<EventRow> {
    let row = |(at, own): (usize, &EventCounts)| {
        let count =
            |name: &str, count: u64| Number::count(format!("/health/events/{at}/{name}"), count);
        EventRow {
            event_type: own.event_type.clone(),
            counts: vec![
                count("events", own.events),
                count("counted", own.counted),
                count("before_exposure", own.before_exposure),
                count("after_window", own.after_window),
                count("unexposed", own.unexposed),
                count("excluded", own.excluded),
                count("unknown_variant", own.unknown_variant),
            ],
        }
    };
    let events = health.events.iter().flatten();
    events.enumerate().map(row).collect()
}

impl Check {
    pub(super) fn of(name: &'static str, path: &str, srm: Option<&SrmReport>) -> Option<Self> {
        let srm = srm?;
        Some(Self {
            name,
            chi_squared: srm.chi_squared.map(|chi| {
                Number::new(
                    format!("{path}/chi_squared"),
                    chi,
                    format::significant(chi, 3, Sign::Minus),
                )
            }),
            df: Number::count(format!("{path}/df"), srm.df as u64),
            p_value: srm
                .p_value
                .map(|p| Number::new(format!("{path}/p_value"), p, format::p_is(p))),
            sequential: srm
                .sequential_p_value
                .map(|p| Number::new(format!("{path}/sequential_p_value"), p, format::p_is(p))),
            failed: srm.failed,
        })
    }
}

fn facts(experiment: &Experiment, report: &Report) -> Vec<(&'static str, String)> {
    let definition = &experiment.definition;
    let time = |time: Option<UnixMicros>| time.map(|time| format::minute(&time.to_rfc3339()));
    let exposed = match (time(definition.start_at), time(definition.end_at)) {
        (None, None) => None,
        (Some(from), None) => Some(format!("from {from}")),
        (None, Some(to)) => Some(format!("before {to}")),
        (Some(from), Some(to)) => Some(format!("from {from} to {to}")),
    };
    let window = match definition.attribution_window.to_string().as_str() {
        "none" => "until the experiment’s end".to_owned(),
        window => format!("{window} after exposure"),
    };
    let list = |items: &[String]| (!items.is_empty()).then(|| items.join(", "));
    let decision = report.decision.as_ref().map(|decided| {
        let at = format::minute(&decided.at);
        let Decided { reason, by, .. } = decided;
        format!("{}: {reason} ({by}, {at})", decided.outcome())
    });
    let pause = |pause: &Paused| {
        let (from, to) = (format::minute(&pause.from), format::minute(&pause.to));
        format!("{from} to {to}")
    };
    let pauses: Vec<String> = report.pauses.iter().map(pause).collect();
    [
        ("Decision", decision),
        ("Owner", definition.owner.clone()),
        ("Started", time(experiment.started_at)),
        ("Paused", list(&pauses)),
        ("Stopped", time(experiment.stopped_at)),
        ("Exposures counted", exposed),
        ("Events counted", Some(window)),
        ("Control", report.control.clone()),
        ("Surfaces", list(&definition.surfaces)),
        ("Layer", definition.layer.as_ref().map(ToString::to_string)),
        ("Registered", time(Some(experiment.created_at))),
        ("Changed", time(Some(experiment.updated_at))),
    ]
    .into_iter()
    .filter_map(|(name, fact)| fact.map(|fact| (name, fact)))
    .collect()
}

/// The users that the report is about, in words; nothing for all.
pub(super) fn filter(report: &Report) -> Vec<String> {
    let Some(filter) = &report.filter else {
        return Vec::new();
    };
    let segments = filter
        .segment
        .iter()
        .map(|(key, value)| format!("{key} = {value}"));
    let from = filter
        .from
        .iter()
        .map(|time| format!("exposed from {}", format::minute(time)));
    let to = filter
        .to
        .iter()
        .map(|time| format!("exposed before {}", format::minute(time)));
    segments.chain(from).chain(to).collect()
}

pub(super) fn variants(report: &Report) -> Vec<VariantRow> {
    let users: u64 = report.variants.iter().map(|own| own.users).sum();
    let weights: f64 = report.variants.iter().filter_map(|own| own.weight).sum();
    let row = |(index, own): (usize, &trialog_report::VariantUsers)| {
        let share = own.users as f64 / users.max(1) as f64;
        let error = (share * (1.0 - share) / users.max(1) as f64).sqrt();
        VariantRow {
            name: own.variant.clone(),
            is_control: report.control.as_deref() == Some(own.variant.as_str()),
            users: Number::count(format!("/variants/{index}/users"), own.users),
            planned: own.weight.map(|weight| {
                let shown = format!(
                    "{} %",
                    format::significant(weight / weights * 100.0, 4, Sign::Minus)
                );
                Number::new(format!("/variants/{index}/weight"), weight, shown)
            }),
            observed: if users == 0 {
                format::NONE.to_owned()
            } else {
                Unit::Percent.show(share, Some(error), Sign::Minus)
            },
        }
    };
    report.variants.iter().enumerate().map(row).collect()
}

impl Form {
    fn of(experiment: &Experiment, report: &Report, query: &Pairs) -> Self {
        let value = |name: &str| query::value(query, name);
        let declared = experiment
            .definition
            .metrics
            .iter()
            .map(|(metric, _)| metric.to_string());
        let seen = report
            .metrics
            .iter()
            .map(|own| format!("{}:{}", own.metric, own.kind));
        let mut metrics: Vec<String> = declared.chain(seen).collect();
        metrics.sort();
        metrics.dedup();
        let segment = |(name, value): &(String, String)| {
            name.starts_with("segment.")
                .then(|| (name.clone(), value.clone()))
        };
        Self {
            metric: value("metric").to_owned(),
            metrics,
            kinds: Choice::among(MetricKind::ALL.map(MetricKind::as_str), value("kind")),
            segments: query.iter().filter_map(segment).collect(),
            from: Time::of(value("from")),
            to: Time::of(value("to")),
            as_of: value("as_of").to_owned(),
            alpha: value("alpha").to_owned(),
            own_alpha: report.alpha.to_string(),
            corrections: Choice::among(["holm", "bonferroni", "bh", "none"], value("correction")),
            controls: Choice::among(
                report.variants.iter().map(|own| &own.variant),
                value("control"),
            ),
            is_filtered: !query.is_empty(),
        }
    }
}

impl Time {
    fn of(text: &str) -> Self {
        let shown = UnixMicros::parse_rfc3339(text)
            .map(UnixMicros::to_rfc3339)
            .unwrap_or_default();
        match shown.strip_suffix('Z') {
            Some(seconds) if seconds.len() == "2026-01-31T09:30:00".len() => Self {
                input: "datetime-local",
                value: seconds.to_owned(),
            },
            _ if text.is_empty() => Self {
                input: "datetime-local",
                value: String::new(),
            },
            _ => Self {
                input: "text",
                value: text.to_owned(),
            },
        }
    }
}
