//! `GET /v1/experiments/{id}/timeline`: what the publications said over time.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_model::ids::{ExperimentId, Variant};
use trialog_pipeline::{PastMetric, subject};
use trialog_report::{PastRows, Timeline, TimelineLook, TimelineLooks, timeline_metrics};

use crate::api::experiments::{experiment_segment, id, metric_name};
use crate::api::results;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;

/// The most numbers of variants at a time that an answer has: about 20 MB.
const MOST_NUMBERS: usize = 100_000;

/// The words for which past days are computed.
const BACKFILL: [&str; 3] = ["missing", "all", "none"];

pub(crate) fn operations() -> Vec<Operation> {
    let timeline = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/timeline",
        "getTimeline",
        "Results over time, and since when they are stable",
    );
    let timeline = experiment_segment(timeline)
        .tag("results")
        .describe("The rows that runs published, of the last 533 publications: the mean of each variant, and the difference of each treatment with the interval of one look and the one that holds at every look. A changed definition begins a new line. Of a metric that was defined after the first publication, the ends of at most 90 past days are computed from the events.")
        .query("metric", metric_name(), "Only this one, `name` or `name:kind`; all primary metrics unless given.")
        .query("control", schema::name(Variant::MAX_CHARS), "Compare with this variant.")
        .query("alpha", schema::level(), "Another level.")
        .query(
            "backfill",
            json!({ "type": "string", "enum": BACKFILL, "default": "missing" }),
            "Which past days are computed from the events: those of a metric that earlier publications lack, those before the first publication of every metric, or none.",
        )
        .answers::<Timeline>(StatusCode::OK, "Each metric over time.")
        .problems(&[404, 409, 422]);
    vec![timeline]
}

/// Which past days are computed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Backfill {
    Missing,
    All,
    None,
}

/// The query of a timeline.
#[derive(Debug, PartialEq)]
struct Query {
    backfill: Backfill,
    results: results::Query,
}

/// Answers with the metrics over time.
pub(crate) async fn timeline(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Timeline>> {
    let id = id(path)?;
    let query = parse(query.as_deref().unwrap_or_default())?;
    let pools = Arc::clone(&app.pools);
    let fold = move |flag: &Flag| read(&app, &id, &query, flag);
    Ok(Json(pools.folds.run(fold).await?))
}

fn read(app: &App, id: &ExperimentId, query: &Query, flag: &Flag) -> Answer<Timeline> {
    let experiment = app.catalog.experiment(id)?;
    let subject = subject(&experiment);
    let choices = &query.results.choices;
    let metrics = timeline_metrics(&subject, choices.metric.as_ref())?;
    let names: Vec<&str> = metrics.iter().map(String::as_str).collect();
    let published = app.catalog.published(id, None)?;
    let sequence = results::sequence(app, id, published.as_ref(), None)?;
    let n_variants =
        (published.as_ref()).map_or(1, |published| published.computation.exposures.len());
    check_size(app.catalog.history(id, &[])?.len(), &names, n_variants)?;
    let looks = app.catalog.history(id, &names)?.into_iter();
    let looks = looks.map(|look| TimelineLook {
        at: look.look.at,
        counts: sequence.counts(look.look),
        fingerprint: look.fingerprint,
        rows: look.rows,
    });
    let looks: Vec<TimelineLook> = looks.collect();
    let looks = TimelineLooks {
        subject,
        current: &app.aggregator.fingerprint(&experiment),
        looks: &looks,
        choices,
    };
    let past = past(app, id, &looks, (&names, query.backfill), flag)?;
    Ok(Timeline::from_looks(&looks, &past)?)
}

/// Rejects what would be too much for one answer.
fn check_size(n_looks: usize, metrics: &[&str], n_variants: usize) -> Answer<()> {
    let n_metrics = metrics.len();
    if n_metrics < 2 || n_looks * n_metrics * n_variants <= MOST_NUMBERS {
        return Ok(());
    }
    let reason = format!(
        "is missing: {n_metrics} metrics of {n_variants} variants at {n_looks} publications are too much for one answer, so choose one of {}",
        metrics.join(", ")
    );
    Err(Problem::broken_rule("metric", &reason))
}

/// Computes the past of metrics, or says why not.
fn past(
    app: &App,
    id: &ExperimentId,
    looks: &TimelineLooks<'_>,
    (metrics, backfill): (&[&str], Backfill),
    flag: &Flag,
) -> Answer<BTreeMap<String, Result<PastRows, String>>> {
    let mut past = BTreeMap::new();
    if backfill == Backfill::None {
        return Ok(past);
    }
    let dropped = app.catalog.dropped(id)?;
    let mut wanted = Vec::new();
    for metric in metrics {
        let Some(before) = looks.missing_before(metric, backfill == Backfill::All) else {
            continue;
        };
        let dropped = dropped.as_ref().map(|dropped| {
            format!(
                "events before {} were dropped by retention, so past days cannot be computed",
                dropped.before
            )
        });
        match looks.no_past(metric).or(dropped) {
            Some(reason) => {
                past.insert((*metric).to_owned(), Err(reason));
            }
            None => wanted.push(PastMetric {
                metric: (*metric).to_owned(),
                before,
            }),
        }
    }
    if wanted.is_empty() {
        return Ok(past);
    }
    let days = app.aggregator.past(id, &wanted, flag)?;
    for (metric, days) in wanted.into_iter().zip(days) {
        let rows: PastRows = days.into_iter().map(|day| (day.at, day.rows)).collect();
        past.insert(metric.metric, Ok(rows));
    }
    Ok(past)
}

fn parse(query: &str) -> Answer<Query> {
    let mut backfill = None;
    let mut others = Vec::new();
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "backfill" => {
                if backfill.replace(value).is_some() {
                    return Err(Problem::broken_rule(&name, "is given twice"));
                }
            }
            "metric" | "control" | "alpha" => others.push((name, value)),
            _ => {
                return Err(Problem::bad_field(
                    &name,
                    "is no parameter here: use metric, control, alpha or backfill",
                ));
            }
        }
    }
    let backfill = match backfill.as_deref() {
        None | Some("missing") => Backfill::Missing,
        Some("all") => Backfill::All,
        Some("none") => Backfill::None,
        Some(_) => {
            return Err(Problem::bad_field(
                "backfill",
                "is not known: use missing, all or none",
            ));
        }
    };
    Ok(Query {
        backfill,
        results: results::parse_pairs(others)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_timeline_does_not_take_is_refused() {
        let query = parse("metric=buy:sum&alpha=0.1&control=b&backfill=all").unwrap();
        assert_eq!(query.backfill, Backfill::All);
        assert!(query.results.choices.metric.is_some());
        assert_eq!(parse("").unwrap().backfill, Backfill::Missing);
        for bad in [
            "metrics=x",
            "from=2026-01-01T00:00:00Z",
            "segment.a=b",
            "as_of=2026-01-01T00:00:00Z",
            "backfill=some",
            "backfill=all&backfill=all",
            "alpha=2",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
