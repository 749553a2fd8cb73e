//! `GET /v1/verify`: a verification while the server serves.

use std::io::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use trialog_pipeline::maintenance::verify::VerifyReport;

use crate::app::App;
use crate::openapi::operation::Operation;
use crate::problem::Answer;
use crate::stream;

/// Steps of a verification that are told.
const N_STEPS: u64 = 200;

pub(super) fn operation() -> Operation {
    let path = "/v1/verify";
    Operation::new(Method::GET, path, "verifyData", "Verifies all data")
        .tag("maintenance")
        .describe("One JSON object per line: `progress` for each step; the last one has the `report` (a VerifyReport) or an `error`.")
        .answer_as(StatusCode::OK, "application/x-ndjson", "The verification.")
        .mentions::<VerifyReport>()
}

/// A line of the answer.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// How much is verified.
    Progress { done: u64, total: u64 },
    /// What was found: the last line.
    Report(VerifyReport),
    /// Why the verification could not be finished: the last line.
    Error(String),
}

/// Verifies the data; one line of JSON for each step, the report as the last.
/// It ends soon after its client has gone away.
pub(crate) async fn verify(State(app): State<Arc<App>>) -> Answer<Response> {
    let turn = app.pools.verify.turn().await?;
    let body = stream::body(turn, move |sender, flag| {
        let mut told = 0;
        let report = app.maintenance.verify_until(flag, &mut |done, total| {
            let step = (done * N_STEPS).checked_div(total).unwrap_or_default();
            if step > told {
                told = step;
                // Whoever has gone away hears nothing: the flag is set then.
                let _ = line(sender, &Line::Progress { done, total });
            }
        });
        let last = match report {
            Ok(report) => Line::Report(report),
            Err(error) => Line::Error(error.to_string()),
        };
        line(sender, &last).map_err(|error| error.to_string())
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn line(sender: &mut stream::Sender, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *sender, line)?;
    sender.write_all(b"\n")?;
    sender.flush()
}
