//! Renders the page of an experiment: header, health, variants, scorecard, filters.

mod form;

use askama::Template;
use trialog_catalog::experiments::Experiment;
use trialog_model::experiment::Status;
use trialog_model::funnel::SavedFunnel;
use trialog_model::percent;
use trialog_model::published::EventCounts;
use trialog_model::time::UnixMicros;
use trialog_report::{Decided, Health, Paused, Report};

use self::form::Form;
use crate::api::funnel::Stored;
use crate::dashboard::assets;
use crate::dashboard::parts::format::{self, Sign};
use crate::dashboard::parts::freshness::{Freshness, Moment};
use crate::dashboard::parts::funnels::Funnels;
use crate::dashboard::parts::health::{Check, WarningRow};
use crate::dashboard::parts::next_step::{NextStep, Origin};
use crate::dashboard::parts::number::{Number, Unit};
use crate::dashboard::parts::progress::Bar;
use crate::dashboard::parts::scorecard::{self, Section};
use crate::dashboard::parts::variants::{VariantRow, filter, variants};
use crate::dashboard::query::{self, Pairs};

/// The results of an experiment.
#[derive(Debug, Template)]
#[template(path = "experiment.html")]
pub(crate) struct ExperimentPage {
    style: String,
    icon: String,
    id: String,
    hypothesis: String,
    status: &'static str,
    facts: Vec<(&'static str, String)>,
    path: String,
    json: String,
    definition_json: String,
    /// The breakdowns by the declared segments; none where there are no such segments.
    segments_json: Option<String>,
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
    funnels: Option<Funnels>,
    /// Whether the page is about other users than its saved funnels.
    hides_funnels: bool,
    form: Form,
    next_step: Option<NextStep>,
}

/// What became of the events of one type.
#[derive(Debug)]
struct EventRow {
    event_type: String,
    counts: Vec<Number>,
}

/// The inputs of a page of results.
pub(crate) struct Parts<'a> {
    pub(crate) experiment: &'a Experiment,
    pub(crate) report: &'a Report,
    /// The saved funnels, where they are of the users of the report.
    pub(crate) funnels: Option<&'a [(SavedFunnel, Stored)]>,
    /// The query as the API accepts it.
    pub(crate) query: &'a Pairs,
    pub(crate) freshness: Freshness,
    pub(crate) origin: &'a Origin,
    pub(crate) now: UnixMicros,
}

impl ExperimentPage {
    pub(crate) fn new(parts: Parts<'_>) -> Self {
        let Parts {
            experiment,
            report,
            funnels,
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
            Check::from_report("users of one variant", "/health/srm", health.srm.as_ref()),
            Check::from_report(
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
            segments_json: segments_json(&in_path, &definition.segments),
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
            warnings: health
                .warnings
                .iter()
                .map(WarningRow::from_warning)
                .collect(),
            checks,
            unchecked: health.srm_reason.clone().unwrap_or_default(),
            events: event_rows(health),
            crossovers: Number::count("/health/crossovers", health.crossovers),
            forced: Number::count("/health/forced", health.forced),
            progress: plan.map(Bar::from_progress),
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
            funnels: funnels.and_then(|funnels| Funnels::new(&id, query, funnels)),
            hides_funnels: funnels.is_none() && !definition.funnels.is_empty(),
            form: Form::new(experiment, report, query),
            next_step: origin.next_step(definition, report),
            id,
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
    let row = |(at, of_type): (usize, &EventCounts)| {
        let count =
            |name: &str, count: u64| Number::count(format!("/health/events/{at}/{name}"), count);
        EventRow {
            event_type: of_type.event_type.clone(),
            counts: vec![
                count("events", of_type.events),
                count("counted", of_type.counted),
                count("before_exposure", of_type.before_exposure),
                count("after_window", of_type.after_window),
                count("unexposed", of_type.unexposed),
                count("excluded", of_type.excluded),
                count("unknown_variant", of_type.unknown_variant),
            ],
        }
    };
    let events = health.events.iter().flatten();
    events.enumerate().map(row).collect()
}

/// The address of the breakdowns by `segments`.
fn segments_json(in_path: &str, segments: &[String]) -> Option<String> {
    let by: Vec<String> = (segments.iter())
        .map(|key| format!("by={}", percent::encode(key)))
        .collect();
    (!by.is_empty()).then(|| format!("/v1/experiments/{in_path}/breakdowns?{}", by.join("&")))
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
        ("Segments", list(&definition.segments)),
        ("Layer", definition.layer.as_ref().map(ToString::to_string)),
        ("Registered", time(Some(experiment.created_at))),
        ("Changed", time(Some(experiment.updated_at))),
    ]
    .into_iter()
    .filter_map(|(name, fact)| fact.map(|fact| (name, fact)))
    .collect()
}
