//! `GET /v1/experiments/{id}/breakdowns`: breakdowns by several keys, folded in one pass.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use trialog_report::Breakdown;

use crate::api::breakdown::{check_group, fold_groups, parameters, parse_groups};
use crate::api::experiments::{experiment_segment, id};
use crate::api::results;
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::problem::{Answer, Problem};
use crate::work::Flag;

/// The most breakdowns of a request.
const MAX_GROUPS: usize = 20;

/// Breakdowns of one experiment over the same events.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Breakdowns {
    /// One for each `by` of the request, in its order.
    breakdowns: Vec<Breakdown>,
}

pub(crate) fn operations() -> Vec<Operation> {
    let by = json!({
        "name": "by", "in": "query", "required": true,
        "schema": { "type": "array", "items": { "type": "string", "minLength": 1 }, "minItems": 1, "maxItems": MAX_GROUPS },
        "style": "form", "explode": true,
        "description": "A key of the context at the exposure, or two that are crossed, with a comma between them; repeat it for more breakdowns.",
        "example": ["platform"],
    });
    let breakdowns = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/breakdowns",
        "getBreakdowns",
        "Results by the values of several context keys",
    );
    let breakdowns = parameters(experiment_segment(breakdowns).parameter(by))
        .tag("results")
        .describe("A breakdown for each `by`. The events are read once for all of them, so that twenty keys take little longer than a few.")
        .answers::<Breakdowns>(StatusCode::OK, "A breakdown for each key.")
        .problems(&[404, 409, 422]);
    vec![breakdowns]
}

/// Answers with a breakdown for each `by`.
pub(crate) async fn breakdowns(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Breakdowns>> {
    let id = id(path)?;
    let (groups, results) = parse(query.as_deref().unwrap_or_default())?;
    let pools = Arc::clone(&app.pools);
    let fold = move |flag: &Flag| fold_groups(&app, &id, &groups, &results, flag);
    let breakdowns = pools.folds.run(fold).await?;
    Ok(Json(Breakdowns { breakdowns }))
}

fn parse(query: &str) -> Answer<(Vec<Vec<String>>, results::Query)> {
    let (groups, results) = parse_groups(query)?;
    if groups.is_empty() {
        check_group(&[])?;
    }
    groups.iter().try_for_each(|group| check_group(group))?;
    if groups.len() > MAX_GROUPS {
        let reason = format!("is given {} times: give {MAX_GROUPS} at most", groups.len());
        return Err(Problem::broken_rule("by", &reason));
    }
    for (at, group) in groups.iter().enumerate() {
        if groups[..at].contains(group) {
            let reason = format!("has `{}` twice", group.join(","));
            return Err(Problem::broken_rule("by", &reason));
        }
    }
    Ok((groups, results))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_by_is_a_group_of_keys() {
        let (groups, _) = parse("by=platform&by=geo,plan&metric=buy").unwrap();
        assert_eq!(groups, [vec!["platform"], vec!["geo", "plan"]]);
        let many: Vec<String> = (0..=MAX_GROUPS).map(|n| format!("by=k{n}")).collect();
        let too_many = many.join("&");
        for bad in [
            "",
            "by=",
            "by=a&by=",
            "by=a&by=a",
            "by=a,b,c&by=d",
            "by=a&as_of=2026-01-01T00:00:00Z",
            &too_many,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&many[1..].join("&")).is_ok());
    }
}
