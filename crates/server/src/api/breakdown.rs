//! `GET /v1/experiments/{id}/breakdown`: the scorecard for each value of context keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_model::ids::{ExperimentId, Variant};
use trialog_model::metric::MetricKind;
use trialog_model::published::Published;
use trialog_pipeline::{MAX_VALUES, subject};
use trialog_report::{Breakdown, Filter, SegmentCell, adjust_heterogeneity};
use trialog_stats::Alpha;
use trialog_warehouse::fold::split::MAX_KEYS;

use crate::api::experiments::{experiment_segment, id, metric_name};
use crate::api::results::{self, segments};
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;

/// The most rows of metrics and variants in all segments of an answer: about 125 MB.
const MOST_ROWS: usize = 50_000;

pub(crate) fn operations() -> Vec<Operation> {
    let by = json!({
        "name": "by", "in": "query", "required": true,
        "schema": { "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 1, "maxItems": 2, "uniqueItems": true },
        "style": "form", "explode": false,
        "description": "One key of the context at the exposure, or two that are crossed, with a comma between them.",
        "example": ["platform"],
    });
    let breakdown = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/breakdown",
        "getBreakdown",
        "Results by the values of context keys",
    );
    let breakdown = parameters(experiment_segment(breakdown))
        .tag("results")
        .describe("The scorecard of each segment with its own sample ratio check, folded on request over the events which the last published run read. Each of the 50 values with the most users has a segment; users without a value have one, and so have those of all other values. A segment's rows equal the results with `segment.<key>=<value>`. Segments are not corrected for one another.")
        .parameter(by)
        .answers::<Breakdown>(StatusCode::OK, "A scorecard for each segment.")
        .problems(&[404, 409, 422]);
    vec![breakdown]
}

/// Adds the parameters of results that go with a breakdown.
pub(super) fn parameters(operation: Operation) -> Operation {
    operation
        .query(
            "metric",
            metric_name(),
            "Only this one: `name` or `name:kind`.",
        )
        .query(
            "kind",
            schema::one_of(&MetricKind::ALL),
            "Every row as this kind.",
        )
        .query(
            "from",
            schema::time(),
            "Only users exposed at or after this time.",
        )
        .query(
            "to",
            schema::time(),
            "Only users exposed before this time, which is after `from`.",
        )
        .query(
            "control",
            schema::name(Variant::MAX_CHARS),
            "Compare with this variant.",
        )
        .query("alpha", schema::level(), "Another level.")
        .query(
            "correction",
            schema::with(schema::one_of(&results::CORRECTIONS), "default", "holm"),
            "How p-values are adjusted within a family of a segment.",
        )
        .parameter(results::segment_parameter())
}

/// The query of a breakdown.
#[derive(Debug, PartialEq)]
struct Query {
    by: Vec<String>,
    results: results::Query,
}

/// Answers with the results by the values of the keys in `by`.
pub(crate) async fn breakdown(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Breakdown>> {
    let id = id(path)?;
    let query = parse(query.as_deref().unwrap_or_default())?;
    let pools = Arc::clone(&app.pools);
    let fold = move |flag: &Flag| fold(&app, &id, &query, flag);
    Ok(Json(pools.folds.run(fold).await?))
}

fn fold(app: &App, id: &ExperimentId, query: &Query, flag: &Flag) -> Answer<Breakdown> {
    let groups = std::slice::from_ref(&query.by);
    let mut breakdowns = fold_groups(app, id, groups, &query.results, flag)?;
    // There is one for each group.
    (breakdowns.pop()).ok_or_else(|| Problem::internal("a breakdown without a group of keys"))
}

/// Folds the experiment by each group of keys; the keys of a group are crossed.
pub(super) fn fold_groups(
    app: &App,
    id: &ExperimentId,
    groups: &[Vec<String>],
    results: &results::Query,
    flag: &Flag,
) -> Answer<Vec<Breakdown>> {
    let experiment = app.catalog.experiment(id)?;
    let latest = app.catalog.published(id, None)?;
    let current = app.aggregator.fingerprint(&experiment);
    let sequence = results::sequence(app, id, latest.as_ref(), None)?;
    let subject = subject(&experiment);
    let choices = &results.choices;
    let report = |published: Option<&Published>, filter: Option<Filter>| {
        trialog_report::build(&subject, published, &current, &sequence, filter, choices)
    };
    let whole = report(latest.as_ref(), None)?;
    let Some(latest) = latest else {
        let empty = |by: &Vec<String>| {
            Breakdown::from_reports(
                (&subject, choices),
                whole.clone(),
                by.clone(),
                0,
                Vec::new(),
            )
        };
        return Ok(groups.iter().map(empty).collect());
    };
    let filter = &results.filter;
    let (found, mark) = app.aggregator.breakdowns(id, filter, groups, flag)?;
    let n_segments = found.iter().map(|found| found.cells.len()).sum();
    check_size(n_segments, whole.metrics.len() * whole.variants.len())?;
    let is_filtered = *filter != trialog_warehouse::fold::UserFilter::default();
    let mut breakdowns = Vec::with_capacity(groups.len());
    for (by, found) in groups.iter().zip(found) {
        let mut cells = Vec::with_capacity(found.cells.len());
        for cell in found.cells {
            let published = Published {
                computed_at: latest.computed_at,
                run_id: latest.run_id,
                mark,
                computation: cell.computation,
            };
            cells.push(SegmentCell {
                values: cell.values,
                report: report(Some(&published), Some(results::shown(filter)))?,
                computation: published.computation,
            });
        }
        segments::check_keys(app, id, &keys_without_values(by, &cells), "by")?;
        let breakdown = Breakdown::from_reports(
            (&subject, choices),
            whole.clone(),
            by.clone(),
            found.n_values,
            cells,
        );
        breakdowns.push(Breakdown {
            filter: is_filtered.then(|| results::shown(filter)),
            ..breakdown
        });
    }
    let alpha = Alpha::new(whole.alpha).unwrap_or(Alpha::P05);
    adjust_heterogeneity(&mut breakdowns, alpha);
    Ok(breakdowns)
}

/// Rejects what would be too much for one answer.
fn check_size(n_segments: usize, n_rows: usize) -> Answer<()> {
    if n_segments * n_rows <= MOST_ROWS {
        return Ok(());
    }
    let reason = format!(
        "is missing: {n_segments} segments with {n_rows} rows of metrics and variants each are too much for one answer, so choose a metric, or ask for fewer keys"
    );
    Err(Problem::broken_rule("metric", &reason))
}

/// Returns the keys that no segment has a value of, as where there is a slip in a key; none where
/// values are not all named.
fn keys_without_values(by: &[String], cells: &[SegmentCell]) -> Vec<String> {
    if cells.len() > MAX_VALUES {
        return Vec::new();
    }
    let has_value = |at: usize| {
        let named = cells.iter().filter_map(|cell| cell.values.as_ref());
        named.into_iter().any(|values| values[at].is_some())
    };
    let keys = by.iter().enumerate();
    keys.filter(|(at, _)| !has_value(*at))
        .map(|(_, key)| key.clone())
        .collect()
}

fn parse(query: &str) -> Answer<Query> {
    let (mut groups, results) = parse_groups(query)?;
    if groups.len() > 1 {
        let reason = "is given twice: give keys once, with a comma between two, or ask for `/breakdowns`, which takes several";
        return Err(Problem::broken_rule("by", reason));
    }
    let by = groups.pop().unwrap_or_default();
    check_group(&by)?;
    Ok(Query { by, results })
}

/// Reads the groups of keys, and what goes with results.
pub(super) fn parse_groups(query: &str) -> Answer<(Vec<Vec<String>>, results::Query)> {
    let (by, others): (Vec<_>, Vec<_>) = pairs(query)?
        .into_iter()
        .partition(|(name, _)| name == "by");
    let results = results::parse_pairs(others)?;
    if results.as_of.is_some() {
        let reason =
            "does not go with a breakdown, which is folded from the events as they are now";
        return Err(Problem::broken_rule("as_of", reason));
    }
    let group = |(_, keys): (_, String)| keys.split(',').map(str::to_owned).collect();
    Ok((by.into_iter().map(group).collect(), results))
}

/// Checks that `by` names keys that can be crossed.
pub(super) fn check_group(by: &[String]) -> Answer<()> {
    let reason = if by.is_empty() {
        "is missing: give a key of the context, such as `by=platform`, or two with a comma"
            .to_owned()
    } else if by.len() > MAX_KEYS {
        format!("has {} keys: give {MAX_KEYS} at most", by.len())
    } else if by.iter().any(String::is_empty) {
        "has an empty key".to_owned()
    } else if by.len() == 2 && by[0] == by[1] {
        format!("has the key `{}` twice", by[0])
    } else {
        return Ok(());
    };
    Err(Problem::broken_rule("by", &reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_bound() {
        assert!(check_size(20 * 52, 10 * 2).is_ok());
        let error = check_size(20 * 52, 50).unwrap_err();
        assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn one_or_two_keys_go_with_what_results_take() {
        let query = parse("by=platform,geo&metric=buy&segment.age=7").unwrap();
        assert_eq!(query.by, ["platform", "geo"]);
        assert_eq!(query.results.filter.segment.len(), 1);
        for bad in [
            "",
            "by=",
            "by=a,",
            "by=a,b,c",
            "by=a,a",
            "by=a&by=b",
            "by=a&as_of=2026-01-01T00:00:00Z",
            "by=a&metrics=x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
