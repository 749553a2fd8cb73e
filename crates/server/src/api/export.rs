//! `GET /v1/export/{table}`: events and results as files, while the server serves.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_pipeline::maintenance::export::{ExportRequest, Form, Formulas, Table};

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::problem::{Answer, Problem};
use crate::query::pairs;
use crate::stream;
use crate::work::Flag;

pub(crate) fn operations() -> Vec<Operation> {
    let tables: Vec<&str> = (EventKind::ALL.iter().map(|kind| kind.plural()))
        .chain(["results"])
        .collect();
    let format = schema::with(schema::one_of(&["parquet", "csv"]), "default", "parquet");
    let path = "/v1/export/{table}";
    let export = Operation::new(
        Method::GET,
        path,
        "exportTable",
        "Exports events or results",
    )
    .tag("maintenance")
    .describe("In events `user_id` is the id that was sent, as text, and `user_key` the number that it is stored under; where the text is not known, both are the number.")
    .segment("table", schema::one_of(&tables), "results", "What to export.")
    .query("format", format, "The form of the file.")
    .queries(
        "experiment",
        schema::name(ExperimentId::MAX_CHARS),
        "Only these experiments.",
    )
    .query(
        "formulas",
        schema::with(schema::one_of(&["escaped", "kept"]), "default", "escaped"),
        "Whether texts in CSV that a spreadsheet would compute get an apostrophe in front.",
    )
    .query("from", schema::time(), "Only what is at or after this time.")
    .query(
        "to",
        schema::time(),
        "Only what is before this time, which is after `from`.",
    )
    .answer_as(
        StatusCode::OK,
        "application/vnd.apache.parquet",
        "The file.",
    )
    .answer_as(StatusCode::OK, "text/csv", "The file.")
    .answer_header(
        StatusCode::OK,
        "Content-Disposition",
        "The name of the file.",
    )
    .problems(&[404, 422]);
    vec![export]
}

pub(crate) async fn export(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let Path(table) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let request = parse(&table, query.as_deref().unwrap_or_default())?;
    let turn = app.pools.exports.turn().await?;
    let (kind, extension) = match request.form {
        Form::Parquet => ("application/vnd.apache.parquet", "parquet"),
        Form::Csv(_) => ("text/csv; charset=utf-8", "csv"),
    };
    let begin = move |flag: &Flag| Ok(app.maintenance.export_until(flag, request)?);
    let (export, turn) = turn.run(begin).await?;
    let body = stream::body(turn, move |sender, _| {
        let written = export.write(&mut *sender);
        written.map(drop).map_err(|error| error.to_string())
    });
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{table}.{extension}\""),
        ),
    ];
    Ok((headers, body).into_response())
}

fn parse(table: &str, query: &str) -> Answer<ExportRequest> {
    let kinds = EventKind::ALL.into_iter();
    let table = match (table, kinds.into_iter().find(|kind| kind.plural() == table)) {
        (_, Some(kind)) => Table::Events(kind),
        ("results", None) => Table::Results,
        (other, None) => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!("`{other}` cannot be exported: use assignments, metrics or results"),
            ));
        }
    };
    let mut request = ExportRequest {
        table,
        form: Form::Parquet,
        experiments: Vec::new(),
        within: None..None,
    };
    let mut formulas = Formulas::Escaped;
    for (name, value) in pairs(query)? {
        let reason = |reason: &str| Problem::bad_field(&name, reason);
        let time = || {
            UnixMicros::parse_rfc3339(value.as_bytes())
                .map(|time| Some(time.0))
                .map_err(|error| reason(&error.to_string()))
        };
        match name.as_str() {
            "format" => {
                request.form = match value.as_str() {
                    "parquet" => Form::Parquet,
                    "csv" => Form::Csv(Formulas::Escaped),
                    _ => return Err(reason("is not known: use parquet or csv")),
                }
            }
            "formulas" => {
                formulas = match value.as_str() {
                    "escaped" => Formulas::Escaped,
                    "kept" => Formulas::Kept,
                    _ => return Err(reason("is not known: use escaped or kept")),
                }
            }
            "experiment" => {
                let id = ExperimentId::new(&value).map_err(|error| reason(&error.to_string()))?;
                request.experiments.push(id);
            }
            "from" => request.within.start = time()?,
            "to" => request.within.end = time()?,
            _ => {
                return Err(reason(
                    "is no parameter here: use format, formulas, experiment, from or to",
                ));
            }
        }
    }
    if let Form::Csv(form) = &mut request.form {
        *form = formulas;
    }
    match (request.within.start, request.within.end) {
        (Some(from), Some(to)) if from >= to => {
            Err(Problem::broken_rule("to", "is not after `from`"))
        }
        _ => Ok(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_asked_for_whole_and_what_it_does_not_know_is_refused() {
        let request = parse(
            "metrics",
            "format=csv&experiment=a&experiment=b&from=2026-01-01T00:00:00Z",
        )
        .unwrap();
        assert_eq!(request.table, Table::Events(EventKind::Metric));
        assert_eq!(
            (request.form, request.experiments.len()),
            (Form::Csv(Formulas::Escaped), 2)
        );
        assert!(request.within.start.is_some() && request.within.end.is_none());
        let kept = parse("metrics", "formulas=kept&format=csv").unwrap();
        assert_eq!(kept.form, Form::Csv(Formulas::Kept));
        for bad in [
            "format=xlsx",
            "formulas=no",
            "since=2026-01-01T00:00:00Z",
            "to=today",
            "experiment=",
            "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        ] {
            assert!(parse("results", bad).is_err(), "{bad}");
        }
        assert!(parse("users", "").is_err());
    }
}
