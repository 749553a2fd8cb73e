//! `GET /v1/experiments/{id}/cohorts`: results by the day of exposure or by the days since it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_catalog::experiments::Experiment;
use trialog_model::ids::{ExperimentId, Variant};
use trialog_model::metric::MetricKind;
use trialog_model::published::Published;
use trialog_pipeline::subject;
use trialog_report::{
    Cohorts, DayResults, DaysSinceExposure, ExposureDays, Report, cohort_metrics, cohort_until,
};
use trialog_warehouse::fold::UserFilter;

use crate::api::experiments::{experiment_segment, id, metric_name};
use crate::api::results::{self, segments};
use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::work::Flag;

/// The most days since the exposure.
const MOST_DAYS: usize = 14;
/// The most rows of metrics and variants on all days of an answer: about 50 MB.
const MOST_ROWS: usize = 20_000;
/// The days since the exposure where a request names no number.
const DEFAULT_DAYS: usize = 7;

pub(crate) fn operations() -> Vec<Operation> {
    let by = json!({
        "name": "by", "in": "query", "required": true,
        "schema": { "type": "string", "enum": ["exposure_day", "days_since_exposure"] },
        "description": "What users are told apart by.",
        "example": "exposure_day",
    });
    let days = json!({
        "type": "integer", "minimum": 1, "maximum": MOST_DAYS, "default": DEFAULT_DAYS,
    });
    let cohorts = Operation::new(
        Method::GET,
        "/v1/experiments/{id}/cohorts",
        "getCohorts",
        "Results by day of exposure, or by days since it",
    );
    let cohorts = experiment_segment(cohorts)
        .tag("results")
        .describe("Folded on request, over the events which the last published run read. By `exposure_day`: the scorecard of each of the latest 90 UTC days whose windows have closed, with its own sample ratio check, and whether effects drift over the calendar. A day's rows equal the results with `from` and `to` around it. By `days_since_exposure`: what a fixed cohort does on each day since its exposure, the same users on every day, and whether effects fade or grow.")
        .parameter(by)
        .query("days", days, "By `days_since_exposure`, the number of days; the cohort are the users whose days have all ended.")
        .query("metric", metric_name(), "Only this one: `name` or `name:kind`.")
        .query("kind", schema::one_of(&MetricKind::ALL), "By `exposure_day`, every row as this kind.")
        .query("from", schema::time(), "Only users exposed at or after this time.")
        .query("to", schema::time(), "Only users exposed before this time, which is after `from`.")
        .query("control", schema::name(Variant::MAX_CHARS), "Compare with this variant.")
        .query("alpha", schema::level(), "Another level.")
        .query(
            "correction",
            schema::with(schema::one_of(&results::CORRECTIONS), "default", "holm"),
            "By `exposure_day`, how p-values are adjusted within a family of a day.",
        )
        .parameter(results::segment_parameter())
        .answers::<Cohorts>(StatusCode::OK, "The days of exposure, or the days since it.")
        .problems(&[404, 409, 422]);
    vec![cohorts]
}

/// What users are told apart by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    ExposureDay,
    /// With the number of days.
    DaysSinceExposure(usize),
}

/// The query of cohorts.
#[derive(Debug, PartialEq)]
struct Query {
    by: By,
    results: results::Query,
}

/// Answers with the results by day of exposure, or by days since it.
pub(crate) async fn cohorts(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Json<Cohorts>> {
    let id = id(path)?;
    let query = parse(query.as_deref().unwrap_or_default())?;
    let pools = Arc::clone(&app.pools);
    let fold = move |flag: &Flag| {
        let experiment = app.catalog.experiment(&id)?;
        let latest = app.catalog.published(&id, None)?;
        let fold = Fold {
            app: &app,
            id: &id,
            experiment: &experiment,
            latest: latest.as_ref(),
            results: &query.results,
            flag,
        };
        match query.by {
            By::ExposureDay => fold.exposure_days(),
            By::DaysSinceExposure(days) => fold.days_since_exposure(days),
        }
    };
    Ok(Json(pools.folds.run(fold).await?))
}

/// A request for cohorts of one experiment.
struct Fold<'a> {
    app: &'a App,
    id: &'a ExperimentId,
    experiment: &'a Experiment,
    /// What the last run published; none before the first.
    latest: Option<&'a Published>,
    results: &'a results::Query,
    flag: &'a Flag,
}

impl Fold<'_> {
    fn exposure_days(&self) -> Answer<Cohorts> {
        let choices = &self.results.choices;
        let whole = self.report(self.latest, choices)?;
        let current = self.app.aggregator.fingerprint(self.experiment);
        let sequence = results::sequence(self.app, self.id, self.latest, None)?;
        let results = DayResults {
            subject: subject(self.experiment),
            current: &current,
            sequence: &sequence,
            filter: &results::shown(&self.results.filter),
            choices,
        };
        let mut days = Vec::new();
        let mut others = (0, 0);
        if let Some(latest) = self.latest {
            let metric = choices.metric.as_ref().map(|metric| metric.name.as_str());
            let filter = &self.results.filter;
            let aggregator = &self.app.aggregator;
            let (found, mark) = aggregator.by_exposure_day(self.id, filter, metric, self.flag)?;
            others = (found.earlier_users, found.later_users);
            let published = found.days.into_iter().map(|(day, computation)| {
                let published = Published {
                    computed_at: latest.computed_at,
                    run_id: latest.run_id,
                    mark,
                    computation,
                };
                (day, published)
            });
            days = published.collect();
        }
        if days.is_empty() && others == (0, 0) {
            self.check_segment(Vec::new(), &whole)?;
        }
        check_size(days.len(), results.rows_of_a_day(&whole))?;
        let days = ExposureDays::from_days(&results, &days, others)?;
        Ok(self.filtered(Cohorts::by_exposure_day(whole, days)))
    }

    fn days_since_exposure(&self, days: usize) -> Answer<Cohorts> {
        let choices = &self.results.choices;
        let subject = subject(self.experiment);
        let wanted = choices.metric.as_ref();
        let metrics = cohort_metrics(&subject, wanted)?;
        // Users are counted without metrics, which a choice of one would miss.
        let users_only = trialog_report::Choices {
            metric: None,
            ..choices.clone()
        };
        let Some(latest) = self.latest else {
            let whole = self.report(None, &users_only)?;
            let empty = DaysSinceExposure::empty(days);
            return Ok(self.filtered(Cohorts::by_days_since_exposure(whole, empty)));
        };
        let filter = &self.results.filter;
        let aggregator = &self.app.aggregator;
        let (cohort, mark) =
            aggregator.days_since_exposure(self.id, filter, (days, &metrics), self.flag)?;
        let published = Published {
            computed_at: latest.computed_at,
            run_id: latest.run_id,
            mark,
            computation: cohort.computation.clone(),
        };
        let whole = self.report(Some(&published), &users_only)?;
        self.check_segment(whole.variants.clone(), &whole)?;
        let until = cohort_until(&subject, mark.data_time);
        let days = DaysSinceExposure::from_users(&whole, (days, until), &metrics, &cohort, wanted);
        Ok(self.filtered(Cohorts::by_days_since_exposure(whole, days)))
    }

    /// Builds the report of the users in `published`.
    fn report(
        &self,
        published: Option<&Published>,
        choices: &trialog_report::Choices,
    ) -> Answer<Report> {
        let sequence = results::sequence(self.app, self.id, self.latest, None)?;
        Ok(trialog_report::build(
            &subject(self.experiment),
            published,
            &self.app.aggregator.fingerprint(self.experiment),
            &sequence,
            Some(results::shown(&self.results.filter)),
            choices,
        )?)
    }

    /// Rejects a segment with a key that no context has, where there are no users in `variants`.
    fn check_segment(
        &self,
        variants: Vec<trialog_report::VariantUsers>,
        whole: &Report,
    ) -> Answer<()> {
        let found = Report {
            variants,
            ..whole.clone()
        };
        segments::check(self.app, self.id, &self.results.filter.segment, &found)
    }

    /// Shows no filter where none was asked for.
    fn filtered(&self, mut cohorts: Cohorts) -> Cohorts {
        if self.results.filter == UserFilter::default() {
            cohorts.filter = None;
        }
        cohorts
    }
}

/// Rejects what would be too much for one answer.
fn check_size(n_days: usize, n_rows: usize) -> Answer<()> {
    if n_days * n_rows <= MOST_ROWS {
        return Ok(());
    }
    let reason = format!(
        "is missing: {n_days} days with {n_rows} rows of metrics and variants each are too much for one answer, so choose a metric, or fewer days by `from` and `to`"
    );
    Err(Problem::broken_rule("metric", &reason))
}

fn parse(query: &str) -> Answer<Query> {
    let mut by = None;
    let mut days = None;
    let mut others = Vec::new();
    for (name, value) in pairs(query)? {
        let place = match name.as_str() {
            "by" => &mut by,
            "days" => &mut days,
            "as_of" => {
                let reason =
                    "does not go with cohorts, which are folded from the events as they are now";
                return Err(Problem::broken_rule("as_of", reason));
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
    let by = match by.as_deref() {
        Some("exposure_day") => By::ExposureDay,
        Some("days_since_exposure") => {
            for name in ["kind", "correction"] {
                if others.iter().any(|(other, _)| other == name) {
                    let reason = "does not go with `by=days_since_exposure`: give the kind with the metric, as in `metric=name:kind`; p-values are adjusted by Holm";
                    return Err(Problem::broken_rule(name, reason));
                }
            }
            By::DaysSinceExposure(n_days(days.as_deref())?)
        }
        Some(_) => {
            return Err(Problem::bad_field(
                "by",
                "is not known: use exposure_day or days_since_exposure",
            ));
        }
        None => {
            let reason = "is missing: give `by=exposure_day` or `by=days_since_exposure`";
            return Err(Problem::broken_rule("by", reason));
        }
    };
    if by == By::ExposureDay && days.is_some() {
        let reason =
            "goes with `by=days_since_exposure`: choose days of exposure by `from` and `to`";
        return Err(Problem::broken_rule("days", reason));
    }
    Ok(Query {
        by,
        results: results::parse_pairs(others)?,
    })
}

fn n_days(text: Option<&str>) -> Answer<usize> {
    let Some(text) = text else {
        return Ok(DEFAULT_DAYS);
    };
    let days = text.parse().ok();
    days.filter(|days| (1..=MOST_DAYS).contains(days))
        .ok_or_else(|| {
            let reason = format!("is not a number of days from 1 to {MOST_DAYS}");
            Problem::bad_field("days", &reason)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_at_most_so_many_rows() {
        assert!(check_size(90, 200).is_ok() && check_size(0, usize::MAX).is_ok());
        assert!(check_size(90, 300).is_err());
    }

    #[test]
    fn days_are_read_and_what_does_not_go_with_them_is_refused() {
        let query = parse("by=exposure_day&metric=buy&kind=sum&segment.age=7").unwrap();
        assert_eq!(query.by, By::ExposureDay);
        assert_eq!(query.results.filter.segment.len(), 1);
        let by = |query| parse(query).unwrap().by;
        assert_eq!(by("by=days_since_exposure"), By::DaysSinceExposure(7));
        assert_eq!(
            by("by=days_since_exposure&days=14"),
            By::DaysSinceExposure(14)
        );
        for bad in [
            "",
            "by=",
            "by=week",
            "by=exposure_day&by=exposure_day",
            "by=exposure_day&days=3",
            "by=exposure_day&as_of=2026-01-01T00:00:00Z",
            "by=days_since_exposure&days=0",
            "by=days_since_exposure&days=15",
            "by=days_since_exposure&days=-1",
            "by=days_since_exposure&days=1.5",
            "by=days_since_exposure&kind=sum",
            "by=days_since_exposure&correction=none",
            "by=days_since_exposure&platform=ios",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
