//! `GET /v1/experiments/{id}/results`: the query, where rows come from, the report.

pub(super) mod segments;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use trialog_model::experiment::MIN_ALPHA;
use trialog_model::ids::{ExperimentId, Variant};
use trialog_model::metric::MetricKind;
use trialog_model::published::Published;
use trialog_model::sequence::Sequence;
use trialog_model::time::UnixMicros;
use trialog_pipeline::subject;
use trialog_stats::{Alpha, Correction};
use trialog_warehouse::fold::UserFilter;

use super::experiments::{experiment_segment, id, metric_name};
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;
use trialog_report::{Choices, Filter, Report};

pub(super) const CORRECTIONS: [&str; 4] = ["holm", "bonferroni", "bh", "none"];

pub(crate) fn operations() -> Vec<Operation> {
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
        .query("kind", schema::one_of(&MetricKind::ALL), "Every row as this kind.")
        .query("from", schema::time(), "Only users exposed at or after this time.")
        .query("to", schema::time(), "Only users exposed before this time, which is after `from`.")
        .query("control", schema::name(Variant::MAX_CHARS), "Compare with this variant.")
        .query("alpha", schema::level(), "Another level.")
        .query(
            "correction",
            schema::with(schema::one_of(&CORRECTIONS), "default", "holm"),
            "How p-values are adjusted within a family.",
        )
        .query("as_of", schema::time(), "The results as they were published at this time; not together with `from`, `to` or a segment.")
        .parameter(segment_parameter())
        .answers::<Report>(StatusCode::OK, "The report.")
        .problems(&[404, 409, 422]);
    vec![results]
}

/// Describes the parameters `segment.<key>`.
pub(super) fn segment_parameter() -> Value {
    json!({
        "name": "segment", "in": "query", "required": false,
        "schema": { "type": "object", "additionalProperties": schema::text(), "propertyNames": schema::matching("^segment\\..+$") },
        "style": "form", "explode": true,
        "description": "`segment.<key>=<value>`: only users whose exposure's context has this value. Repeat it for more keys, all of which must hold. Members of this object are such names, `segment.` included.",
        "examples": { "platform": { "value": { "segment.platform": "ios" } } },
    })
}

/// The query of a results request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Query {
    pub(crate) choices: Choices,
    pub(crate) filter: UserFilter,
    pub(crate) as_of: Option<UnixMicros>,
}

pub(crate) async fn results(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let id = id(path)?;
    let query = parse(query.as_deref().unwrap_or_default())?;
    Ok(Json(report(app, id, query).await?).into_response())
}

/// The report that `query` asks for; what the API answers and the dashboard shows.
pub(crate) async fn report(app: Arc<App>, id: ExperimentId, query: Query) -> Answer<Report> {
    if query.filter == UserFilter::default() {
        pools::query(&app, move |app| published(app, &id, &query)).await
    } else {
        folded(app, id, query).await
    }
}

/// From rows that were computed before.
pub(crate) fn published(app: &App, id: &ExperimentId, query: &Query) -> Answer<Report> {
    let experiment = app.catalog.experiment(id)?;
    let published = app.catalog.published(id, query.as_of)?;
    let current = app.aggregator.fingerprint(&experiment);
    let sequence = sequence(app, id, published.as_ref(), query.as_of)?;
    let mut report = trialog_report::build(
        &subject(&experiment),
        published.as_ref(),
        &current,
        &sequence,
        None,
        &query.choices,
    )?;
    if let Some(dropped) = app.catalog.dropped(id)? {
        report.health.freeze(dropped.before);
    }
    Ok(report)
}

/// What the looks at an experiment came to, up to that of `published`.
pub(super) fn sequence(
    app: &App,
    id: &ExperimentId,
    published: Option<&Published>,
    as_of: Option<UnixMicros>,
) -> Answer<Sequence> {
    let of_run = published.map_or(0, |published| published.run_id);
    Ok(app.catalog.sequence(id, of_run, as_of)?)
}

/// Folded for this request, over the events that the published rows cover.
async fn folded(app: Arc<App>, id: ExperimentId, query: Query) -> Answer<Report> {
    let pools = Arc::clone(&app.pools);
    let fold = move |flag: &Flag| {
        let experiment = app.catalog.experiment(&id)?;
        let latest = app.catalog.published(&id, None)?;
        let current = app.aggregator.fingerprint(&experiment);
        let sequence = sequence(&app, &id, latest.as_ref(), None)?;
        let shown = shown(&query.filter);
        let Some(latest) = latest else {
            return Ok(trialog_report::build(
                &subject(&experiment),
                None,
                &current,
                &sequence,
                Some(shown),
                &query.choices,
            )?);
        };
        let (computation, mark) = app.aggregator.query(&id, &query.filter, flag)?;
        let published = Published {
            computation,
            mark,
            ..latest
        };
        let report = trialog_report::build(
            &subject(&experiment),
            Some(&published),
            &current,
            &sequence,
            Some(shown),
            &query.choices,
        )?;
        segments::check(&app, &id, &query.filter.segment, &report)?;
        Ok(report)
    };
    pools.folds.run(fold).await
}

pub(crate) fn parse(query: &str) -> Answer<Query> {
    parse_pairs(pairs(query)?)
}

/// Parses the names and values of a query.
pub(super) fn parse_pairs(pairs: Vec<(String, String)>) -> Answer<Query> {
    let mut parsed = Query::default();
    for (name, value) in pairs {
        let reason = |reason: &str| Problem::bad_field(&name, reason);
        let time = || {
            UnixMicros::parse_rfc3339(value.as_bytes()).map_err(|error| reason(&error.to_string()))
        };
        match name.as_str() {
            "metric" => {
                parsed.choices.metric = Some(value.parse().map_err(|error: String| reason(&error))?)
            }
            "kind" => {
                parsed.choices.kind = Some(
                    value
                        .parse::<MetricKind>()
                        .map_err(|error| reason(&error))?,
                )
            }
            "from" => parsed.filter.exposed.start = Some(time()?.0),
            "to" => parsed.filter.exposed.end = Some(time()?.0),
            "control" => {
                parsed.choices.control =
                    Some(Variant::new(&value).map_err(|error| reason(&error.to_string()))?);
            }
            "alpha" => {
                let alpha = value.parse().ok().filter(|alpha| *alpha >= MIN_ALPHA);
                let alpha = alpha.and_then(|alpha| Alpha::new(alpha).ok());
                parsed.choices.alpha =
                    Some(alpha.ok_or_else(|| {
                        reason("is not a level from 1e-12 to below 1, such as 0.05")
                    })?);
            }
            "correction" => parsed.choices.correction = correction(&value)?,
            "as_of" => parsed.as_of = Some(time()?),
            other => match other.strip_prefix("segment.") {
                Some(key) if !key.is_empty() => parsed.filter.segment.push((key.to_owned(), value)),
                _ => {
                    return Err(reason(
                        "is no parameter here: use metric, kind, from, to, segment.<key>, control, alpha, correction or as_of",
                    ));
                }
            },
        }
    }
    check(&parsed)?;
    Ok(parsed)
}

fn check(query: &Query) -> Answer<()> {
    if let (Some(from), Some(to)) = (query.filter.exposed.start, query.filter.exposed.end)
        && from >= to
    {
        return Err(Problem::broken_rule("to", "is not after `from`"));
    }
    if query.as_of.is_some() && query.filter != UserFilter::default() {
        return Err(Problem::broken_rule(
            "as_of",
            "does not go with from, to or a segment: those are folded from the events as they are now",
        ));
    }
    Ok(())
}

fn correction(value: &str) -> Answer<Option<Correction>> {
    trialog_report::correction(value).ok_or_else(|| {
        Problem::bad_field(
            "correction",
            "is not known: use none, bonferroni, holm or bh",
        )
    })
}

/// `filter` as a report shows it.
pub(super) fn shown(filter: &UserFilter) -> Filter {
    let text = |time: Option<i64>| time.map(|time| UnixMicros(time).to_rfc3339());
    Filter {
        from: text(filter.exposed.start),
        to: text(filter.exposed.end),
        segment: filter.segment.iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whole_and_what_it_does_not_know_is_refused() {
        let query = parse("metric=buy:sum&from=2026-01-01T00:00:00Z&segment.platform=i%20os&segment.geo=de&correction=bh&alpha=0.1").unwrap();
        assert_eq!(
            query.filter.segment,
            [
                ("platform".into(), "i os".into()),
                ("geo".into(), "de".into())
            ]
        );
        assert_eq!(
            query.choices.correction,
            Some(Correction::BenjaminiHochberg)
        );
        for bad in [
            "metrics=x",
            "segment.=x",
            "alpha=2",
            "from=2026",
            "correction=sidak",
            "kind=mean",
            "as_of=2026-01-01T00:00:00Z&segment.a=b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
