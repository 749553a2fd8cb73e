//! `GET /v1/experiments/{id}/funnel`: how far users get through ordered steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_model::duration::Window;
use trialog_model::ids::{EventType, ExperimentId, Variant};
use trialog_model::nearest::there_are;
use trialog_model::published::Published;
use trialog_pipeline::{FunnelDefinition, FunnelUsers, subject};
use trialog_report::{Funnel, FunnelSteps};
use trialog_stats::Alpha;
use trialog_warehouse::fold::UserFilter;

use crate::api::experiments::{experiment_segment, id};
use crate::api::results::{self, segments};
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;

/// The fewest and the most steps of a funnel.
const N_STEPS: std::ops::RangeInclusive<usize> = 2..=20;

pub(crate) fn operations() -> Vec<Operation> {
    let list = |name: &str, required: bool, description: &str, example: serde_json::Value| {
        json!({
            "name": name, "in": "query", "required": required,
            "schema": { "type": "array", "items": { "type": "string" }, "minItems": N_STEPS.start(), "maxItems": N_STEPS.end() },
            "style": "form", "explode": false, "description": description, "example": example,
        })
    };
    let funnel = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/funnel",
        "getFunnel",
        "How far users get through ordered steps",
    );
    let funnel = experiment_segment(funnel)
        .tag("results")
        .describe("Folded on request, over the events which the last published run read. A user reaches step k if there are k distinct events of the types of the first k steps, each not before the one before it, within the window after the exposure and each within its limit. Whether there is such a chain is asked, not what came first: one more event never lowers a step.")
        .parameter(list("steps", true, "The types of events, in order, with commas between them; a type may repeat.", json!(["purchase", "purchase"])))
        .parameter(list("limits", false, "For each step how long after the step before it may come, such as `10m`; for the first step, after the exposure. Empty for no limit.", json!(["", "1h"])))
        .query("window", schema::with(schema::text(), "default", "7d"), "How long after the exposure events count; `none` for as long as the experiment goes.")
        .query("times", schema::with(schema::boolean(), "default", false), "Whether to add how long users take: for each step the median and the shares that reached it within an hour, a day, a week and the window, and for each treatment a comparison of the shares that reached the last step by these times.")
        .query("from", schema::time(), "Only users exposed at or after this time.")
        .query("to", schema::time(), "Only users exposed before this time, which is after `from`.")
        .query("control", schema::name(Variant::MAX_CHARS), "Compare with this variant.")
        .query("alpha", schema::level(), "Another level.")
        .parameter(results::segment_parameter())
        .answers::<Funnel>(StatusCode::OK, "The users of each step by variant, and comparisons.")
        .problems(&[404, 409, 422]);
    vec![funnel]
}

/// The query of a funnel.
#[derive(Debug, PartialEq)]
struct Query {
    steps: FunnelSteps,
    definition: FunnelDefinition,
    with_times: bool,
    results: results::Query,
}

/// Answers with the users of each step.
pub(crate) async fn funnel(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Funnel>> {
    let id = id(path)?;
    let query = parse(query.as_deref().unwrap_or_default())?;
    let pools = Arc::clone(&app.pools);
    let fold = move |flag: &Flag| fold(&app, &id, query, flag);
    Ok(Json(pools.folds.run(fold).await?))
}

fn fold(app: &App, id: &ExperimentId, query: Query, flag: &Flag) -> Answer<Funnel> {
    let experiment = app.catalog.experiment(id)?;
    let latest = app.catalog.published(id, None)?;
    let filter = &query.results.filter;
    let mut definition = query.definition;
    if query.with_times {
        let alpha = query.results.choices.alpha;
        let planned = || Alpha::new(experiment.definition.alpha).ok();
        definition = definition.with_times(alpha.or_else(planned).unwrap_or(Alpha::P05));
    }
    let mut reached = BTreeMap::new();
    let mut times = None;
    let mut published = None;
    if let Some(latest) = latest {
        let (users, mark) = app.aggregator.funnel(id, filter, &definition, flag)?;
        check_types(&query.steps.types, &users)?;
        reached = users.reached;
        times = users.times;
        published = Some(Published {
            computation: users.computation,
            mark,
            ..latest
        });
    }
    let sequence = results::sequence(app, id, published.as_ref(), None)?;
    let mut report = trialog_report::build(
        &subject(&experiment),
        published.as_ref(),
        &app.aggregator.fingerprint(&experiment),
        &sequence,
        Some(results::shown(filter)),
        &query.results.choices,
    )?;
    segments::check(app, id, &filter.segment, &report)?;
    if *filter == UserFilter::default() {
        report.filter = None;
    }
    let funnel = Funnel::from_report(&experiment.definition, report, query.steps, &reached);
    Ok(match times {
        Some(times) => funnel.with_times(&times),
        None => funnel,
    })
}

/// Rejects a step of which no event has come in, as where there is a slip in a name.
fn check_types(steps: &[String], users: &FunnelUsers) -> Answer<()> {
    let Some(events) = &users.events else {
        return Ok(());
    };
    let unknown = steps.iter().find(|step| !events.names.contains(step));
    match unknown.filter(|_| !events.more_names) {
        None => Ok(()),
        Some(step) => {
            let others = there_are(step, &events.names, false);
            let reason = format!(
                "names `{step}`, of which no event has come in for this experiment{others}"
            );
            Err(Problem::broken_rule("steps", &reason))
        }
    }
}

fn parse(query: &str) -> Answer<Query> {
    let mut steps = None;
    let mut limits = None;
    let mut window = None;
    let mut times = None;
    let mut others = Vec::new();
    for (name, value) in pairs(query)? {
        let place = match name.as_str() {
            "steps" => &mut steps,
            "limits" => &mut limits,
            "window" => &mut window,
            "times" => &mut times,
            "metric" | "kind" | "correction" | "as_of" => {
                return Err(Problem::bad_field(
                    &name,
                    "is no parameter here: use steps, window, limits, times, from, to, segment.<key>, control or alpha",
                ));
            }
            _ => {
                others.push((name, value));
                continue;
            }
        };
        if place.replace(value).is_some() {
            return Err(Problem::broken_rule(&name, "is given twice"));
        }
    }
    let results = results::parse_pairs(others)?;
    let with_times = match times.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::bad_field("times", "must be true or false")),
    };
    let types = parse_steps(steps.as_deref().unwrap_or_default())?;
    let window = window.map_or(Ok(Window::DEFAULT), |window| duration("window", &window))?;
    let limits = parse_limits(limits.as_deref(), types.len())?;
    let definition = FunnelDefinition::new(&types, window, &limits)
        .map_err(|error| Problem::broken_rule("steps", &error.to_string()))?;
    Ok(Query {
        steps: FunnelSteps {
            types,
            window,
            limits,
        },
        definition,
        with_times,
        results,
    })
}

fn parse_steps(text: &str) -> Answer<Vec<String>> {
    if text.is_empty() {
        let reason = "is missing: give types of events in order, such as `steps=view,purchase`";
        return Err(Problem::broken_rule("steps", reason));
    }
    let types: Vec<String> = text.split(',').map(str::to_owned).collect();
    if !N_STEPS.contains(&types.len()) {
        let reason = format!(
            "has {}: give 2 to 20 types of events",
            count(types.len(), "step")
        );
        return Err(Problem::broken_rule("steps", &reason));
    }
    for (at, step) in types.iter().enumerate() {
        EventType::new(step).map_err(|error| {
            let reason = format!("has as step {} no type of event: {error}", at + 1);
            Problem::broken_rule("steps", &reason)
        })?;
    }
    Ok(types)
}

fn parse_limits(text: Option<&str>, n_steps: usize) -> Answer<Vec<Window>> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let limits: Vec<&str> = text.split(',').collect();
    if limits.len() != n_steps {
        let reason = format!(
            "has {} for {n_steps} steps: give one for each step, empty for no limit",
            count(limits.len(), "limit"),
        );
        return Err(Problem::broken_rule("limits", &reason));
    }
    let limit = |text: &str| match text.is_empty() {
        true => Ok(Window::UNBOUNDED),
        false => duration("limits", text),
    };
    limits.into_iter().map(limit).collect()
}

fn duration(field: &str, text: &str) -> Answer<Window> {
    Window::parse(text).map_err(|error| Problem::bad_field(field, &error.to_string()))
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_limits_and_window_are_read() {
        let query = parse("steps=a,b,a&limits=,1h,10m&window=2d&segment.age=7&alpha=0.1").unwrap();
        assert_eq!(query.steps.types, ["a", "b", "a"]);
        assert_eq!(query.steps.window, Window::parse("2d").unwrap());
        assert_eq!(query.steps.limits[0], Window::UNBOUNDED);
        assert_eq!(query.steps.limits[2], Window::parse("10m").unwrap());
        assert_eq!(query.results.filter.segment.len(), 1);
        let plain = parse("steps=a,b").unwrap();
        assert_eq!(
            (plain.steps.window, plain.with_times),
            (Window::DEFAULT, false)
        );
        assert!(parse("steps=a,b&times=true").unwrap().with_times);
        let many = format!("steps={}a", "a,".repeat(20));
        for bad in [
            "",
            "steps=",
            "steps=a",
            "steps=a,",
            &many,
            "steps=a,b&limits=1h",
            "steps=a,b&limits=,0s",
            "steps=a,b&window=0d",
            "steps=a,b&window=1",
            "steps=a,b&steps=a,b",
            "steps=a,b&metric=a",
            "steps=a,b&times=yes",
            "steps=a,b&as_of=2026-01-01T00:00:00Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
