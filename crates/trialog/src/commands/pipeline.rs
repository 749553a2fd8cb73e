//! Runs `trialog pipeline`, which shows how far results reach and how the last runs went, and
//! starts a run.

use std::process::ExitCode;

use serde_json::Value;

use crate::access::Access;
use crate::cli::{AggregateArgs, Format, PipelineAction, PipelineArgs};
use crate::commands::aggregate;
use crate::config::Config;
use crate::show::Table;

pub(crate) fn run(config: &Config, options: &PipelineArgs) -> anyhow::Result<ExitCode> {
    match &options.action {
        None | Some(PipelineAction::Status) => status(config, options.format),
        Some(PipelineAction::Run { full }) => {
            let once = AggregateArgs {
                full: *full,
                attempts: 1,
                format: options.format,
            };
            aggregate::run(config, &once)
        }
    }
}

fn status(config: &Config, format: Format) -> anyhow::Result<ExitCode> {
    let state = Access::open(config)?.get("/v1/pipeline")?;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&state)?),
        Format::Table => print!("{}", describe(&state)),
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(state: &Value) -> String {
    let (published, ingested) = (&state["published"], &state["ingested"]);
    let position = |part: &Value| part["position"].as_u64().unwrap_or_default();
    let behind = position(ingested).saturating_sub(position(published));
    let mut text = match published["data_time"].as_str() {
        Some(time) => format!(
            "published up to position {} by run {}, with events up to {time}\n",
            position(published),
            published["run_id"]
        ),
        None => "nothing has been published yet\n".to_owned(),
    };
    text.push_str(&format!(
        "ingested up to position {}: {behind} commits wait for the next run\n",
        position(ingested)
    ));
    if !ingested["runs"].is_null() {
        text.push_str(&format!(
            "{} rows in {} files, {} bytes; {} bytes not yet in a file\n",
            ingested["rows_in_runs"],
            ingested["runs"],
            ingested["bytes_in_runs"],
            ingested["unflushed_bytes"]
        ));
    }
    if let Some(reason) = ingested["flush_failure"].as_str() {
        text.push_str(&format!("events cannot be flushed: {reason}\n"));
    }
    text.push('\n');
    text.push_str(&runs(state["runs"].as_array().map_or(&[], Vec::as_slice)));
    text
}

fn runs(runs: &[Value]) -> String {
    let mut table = Table::new(&[
        "run",
        "cause",
        "try",
        "status",
        "started",
        "experiments",
        "failed",
        "error",
    ]);
    for run in runs {
        let cell = |field: &str| match &run[field] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let fields = [
            "run_id",
            "cause",
            "attempt",
            "status",
            "started_at",
            "experiments",
            "failed_experiments",
            "error",
        ];
        table.row(fields.map(cell));
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_and_why_a_run_failed_are_shown() {
        let state = json!({
            "published": {"position": 3, "data_time": "2026-01-01T00:00:00Z", "run_id": 1},
            "ingested": {"position": 10, "runs": 2, "rows_in_runs": 5, "bytes_in_runs": 70, "unflushed_bytes": 9, "flush_failure": "disk full"},
            "runs": [{"run_id": 2, "cause": "schedule", "attempt": 1, "status": "failed", "started_at": "t", "error": "damaged"}],
        });
        let text = describe(&state);
        for part in ["7 commits wait", "flushed: disk full", "failed", "damaged"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
