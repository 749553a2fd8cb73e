//! `GET /v1/experiments/{id}/funnel`: how far users get through ordered steps, those of a request
//! or of a saved funnel.

mod saved;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_catalog::experiments::Experiment;
use trialog_model::duration::Window;
use trialog_model::funnel::{FunnelDefinition, MAX_STEPS, MIN_STEPS};
use trialog_model::ids::{EventType, ExperimentId, FunnelName, Variant};
use trialog_model::nearest::there_are;
use trialog_model::published::Published;
use trialog_pipeline::{FunnelUsers, subject};
use trialog_report::{Funnel, Report};
use trialog_stats::Alpha;
use trialog_warehouse::fold::UserFilter;

use crate::api::experiments::{experiment_segment, id};
use crate::api::results::{self, segments};
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;

pub(crate) use self::saved::{Stored, list, states};

pub(crate) fn operations() -> Vec<Operation> {
    let list = |name: &str, description: &str, example: serde_json::Value| {
        json!({
            "name": name, "in": "query", "required": false,
            "schema": { "type": "array", "items": { "type": "string" }, "minItems": MIN_STEPS, "maxItems": MAX_STEPS },
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
        .describe("With `steps` folded on request, over the events which the last published run read; with `name` from what that run stored of a funnel that is saved with the experiment, unless `from`, `to` or a segment asks for other users. A user reaches step k if there are k distinct events of the types of the first k steps, each not before the one before it, within the window after the exposure and each within its limit. Whether there is such a chain is asked, not what came first: one more event never lowers a step.")
        .query("name", schema::name(FunnelName::MAX_CHARS), "A saved funnel; either this or `steps` is required, and `window` and `limits` go with `steps`.")
        .parameter(list("steps", "The types of events, in order, with commas between them; a type may repeat.", json!(["purchase", "purchase"])))
        .parameter(list("limits", "For each step how long after the step before it may come, such as `10m`; for the first step, after the exposure. Empty for no limit.", json!(["", "1h"])))
        .query("window", schema::with(schema::text(), "default", "7d"), "How long after the exposure events count; `none` for as long as the experiment goes.")
        .query("times", schema::with(schema::boolean(), "default", false), "Whether to add how long users take: for each step the median and the shares that reached it within an hour, a day, a week and the window, and for each treatment a comparison of the shares that reached the last step by these times.")
        .query("from", schema::time(), "Only users exposed at or after this time.")
        .query("to", schema::time(), "Only users exposed before this time, which is after `from`.")
        .query("control", schema::name(Variant::MAX_CHARS), "Compare with this variant.")
        .query("alpha", schema::level(), "Another level.")
        .parameter(results::segment_parameter())
        .answers::<Funnel>(StatusCode::OK, "The users of each step by variant, and comparisons.")
        .problems(&[404, 409, 422]);
    vec![funnel, saved::operation()]
}

/// The query of a funnel.
#[derive(Debug, PartialEq)]
struct Query {
    funnel: Asked,
    with_times: bool,
    results: results::Query,
}

/// Which funnel is asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    /// One that is saved with the experiment.
    Saved(String),
    /// That of the request.
    Given(FunnelDefinition),
}

/// Answers with the users of each step.
pub(crate) async fn funnel(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Funnel>> {
    let id = id(path)?;
    let query = parse(query.as_deref().unwrap_or_default())?;
    // Times are not stored.
    let is_stored = is_whole(&query.results) && !query.with_times;
    if let (Asked::Saved(name), true) = (&query.funnel, is_stored) {
        let (name, choices) = (name.clone(), query.results.choices);
        let answer = move |app: &App| saved::stored(app, &id, &name, &choices);
        return Ok(Json(pools::query(&app, answer).await?));
    }
    let pools = Arc::clone(&app.pools);
    let fold = move |flag: &Flag| fold(&app, &id, query, flag);
    Ok(Json(pools.folds.run(fold).await?))
}

fn is_whole(query: &results::Query) -> bool {
    query.filter == UserFilter::default()
}

fn fold(app: &App, id: &ExperimentId, query: Query, flag: &Flag) -> Answer<Funnel> {
    let experiment = app.catalog.experiment(id)?;
    let is_given = matches!(query.funnel, Asked::Given(_));
    let funnel = match query.funnel {
        Asked::Given(funnel) => funnel,
        Asked::Saved(name) => saved::find(&experiment.definition, &name)?.definition(),
    };
    let latest = app.catalog.published(id, None)?;
    let filter = &query.results.filter;
    let alpha = query.results.choices.alpha;
    let declared = || Alpha::new(experiment.definition.alpha).ok();
    let alpha = alpha.or_else(declared).unwrap_or(Alpha::P05);
    let alpha_of_times = query.with_times.then_some(alpha);
    let mut reached = BTreeMap::new();
    let mut times = None;
    let mut published = None;
    if let Some(latest) = latest {
        let (users, mark) = (app.aggregator).funnel(id, filter, &funnel, alpha_of_times, flag)?;
        if is_given {
            check_types(&funnel.steps, &users)?;
        }
        reached = users.reached;
        times = users.times;
        published = Some(Published {
            computation: users.computation,
            mark,
            ..latest
        });
    }
    let report = report(app, &experiment, published.as_ref(), &query.results)?;
    segments::check(app, id, &filter.segment, &report)?;
    let definition = &experiment.definition;
    let funnel = Funnel::from_report(definition, report, &funnel, &reached);
    Ok(match times {
        Some(times) => funnel.with_times(&times),
        None => funnel,
    })
}

/// Builds the report of the users in `published`, which has no metrics.
fn report(
    app: &App,
    experiment: &Experiment,
    published: Option<&Published>,
    query: &results::Query,
) -> Answer<Report> {
    let id = &experiment.definition.experiment_id;
    let sequence = results::sequence(app, id, published, None)?;
    let mut report = trialog_report::build(
        &subject(experiment),
        published,
        &app.aggregator.fingerprint(experiment),
        &sequence,
        Some(results::shown(&query.filter)),
        &query.choices,
    )?;
    if is_whole(query) {
        report.filter = None;
    }
    Ok(report)
}

/// Rejects a step of which no event has come in, as where there is a slip in a name.
fn check_types(steps: &[EventType], users: &FunnelUsers) -> Answer<()> {
    let Some(events) = &users.events else {
        return Ok(());
    };
    let is_unknown = |step: &&EventType| events.names.iter().all(|name| name != step.as_str());
    let unknown = steps.iter().find(is_unknown);
    match unknown.filter(|_| !events.more_names) {
        None => Ok(()),
        Some(step) => {
            let others = there_are(step.as_str(), &events.names, false);
            let reason = format!(
                "names `{step}`, of which no event has come in for this experiment{others}"
            );
            Err(Problem::broken_rule("steps", &reason))
        }
    }
}

fn parse(query: &str) -> Answer<Query> {
    let mut name_of_saved = None;
    let mut steps = None;
    let mut limits = None;
    let mut window = None;
    let mut times = None;
    let mut others = Vec::new();
    for (name, value) in pairs(query)? {
        let place = match name.as_str() {
            "name" => &mut name_of_saved,
            "steps" => &mut steps,
            "limits" => &mut limits,
            "window" => &mut window,
            "times" => &mut times,
            "metric" | "kind" | "correction" | "as_of" => {
                return Err(Problem::bad_field(
                    &name,
                    "is no parameter here: use name, steps, window, limits, times, from, to, segment.<key>, control or alpha",
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
    let others = [("steps", &steps), ("window", &window), ("limits", &limits)];
    let funnel = match name_of_saved {
        Some(name) => match others.iter().find(|(_, value)| value.is_some()) {
            None => Asked::Saved(name),
            Some((field, _)) => {
                let reason = "does not go with `name`: the saved funnel has its own";
                return Err(Problem::broken_rule(field, reason));
            }
        },
        None => Asked::Given(parse_funnel(
            steps.as_deref().unwrap_or_default(),
            window.as_deref(),
            limits.as_deref(),
        )?),
    };
    Ok(Query {
        funnel,
        with_times,
        results,
    })
}

fn parse_funnel(
    steps: &str,
    window: Option<&str>,
    limits: Option<&str>,
) -> Answer<FunnelDefinition> {
    let steps = parse_steps(steps)?;
    let window = window.map_or(Ok(Window::DEFAULT), |window| duration("window", window))?;
    let limits = limits.map_or(Ok(Vec::new()), |limits| {
        limits.split(',').map(parse_limit).collect()
    })?;
    let funnel = FunnelDefinition::new(steps, window, limits);
    funnel.check()?;
    Ok(funnel)
}

fn parse_steps(text: &str) -> Answer<Vec<EventType>> {
    if text.is_empty() {
        let reason = "is missing: give types of events in order, such as `steps=view,purchase`, or the `name` of a saved funnel";
        return Err(Problem::broken_rule("steps", reason));
    }
    let steps = text.split(',').enumerate().take(MAX_STEPS + 1);
    let steps = steps.map(|(at, step)| {
        EventType::new(step).map_err(|error| {
            let reason = format!("has as step {} no type of event: {error}", at + 1);
            Problem::broken_rule("steps", &reason)
        })
    });
    steps.collect()
}

fn parse_limit(text: &str) -> Answer<Option<Window>> {
    match text.is_empty() {
        true => Ok(None),
        false => duration("limits", text).map(Some),
    }
}

fn duration(field: &str, text: &str) -> Answer<Window> {
    Window::parse(text).map_err(|error| Problem::bad_field(field, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_limits_and_window_are_read() {
        let query = parse("steps=a,b,a&limits=,1h,10m&window=2d&segment.age=7&alpha=0.1").unwrap();
        let steps = ["a", "b", "a"].map(|step| EventType::new(step).unwrap());
        let limits = ["1h", "10m"].map(|limit| Window::parse(limit).ok());
        let funnel = FunnelDefinition {
            steps: steps.to_vec(),
            window: Window::parse("2d").unwrap(),
            limits: vec![None, limits[0], limits[1]],
        };
        assert_eq!(query.funnel, Asked::Given(funnel));
        assert_eq!(query.results.filter.segment.len(), 1);
        let Asked::Given(short) = parse("steps=a,b").unwrap().funnel else {
            panic!("no name is given");
        };
        assert_eq!(short.window, Window::DEFAULT);
        let named = parse("name=my%20funnel&control=b").unwrap();
        assert_eq!(named.funnel, Asked::Saved("my funnel".to_owned()));
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
            "name=f&steps=a,b",
            "name=f&window=7d",
            "name=f&limits=,1h",
            "name=f&name=f",
            "steps=a,b&metric=a",
            "steps=a,b&times=yes",
            "steps=a,b&as_of=2026-01-01T00:00:00Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
