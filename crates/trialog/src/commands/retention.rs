//! Runs `trialog retention apply`, which drops old events now.

use std::process::ExitCode;

use serde_json::{Value, json};
use trialog_pipeline::maintenance::retention::Mode;

use crate::access::Access;
use crate::cli::{Format, RetentionCommand};
use crate::config::Config;

pub(crate) fn run(config: &Config, command: &RetentionCommand) -> anyhow::Result<ExitCode> {
    let RetentionCommand::Apply {
        dry_run,
        confirm,
        format,
    } = command;
    let report = match Access::open(config)? {
        Access::Directory(opened) => {
            let mode = match (dry_run, confirm) {
                (true, _) => Mode::DryRun,
                (false, true) => Mode::Confirmed,
                (false, false) => Mode::Apply,
            };
            let report = json!(opened.node.app.maintenance().retain(mode)?);
            opened.node.close();
            report
        }
        server @ Access::Server { .. } => {
            let query = format!("dry_run={dry_run}&confirm={confirm}");
            server.post(&format!("/v1/retention/apply?{query}"), None)?
        }
    };
    match format {
        Format::Json => println!("{report}"),
        Format::Table => print_report(&report),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(report: &Value) {
    let Some(before) = report["before"].as_str() else {
        println!("all events are kept: set keep_events_for, such as 400d, to drop old ones");
        return;
    };
    let done = match report["dry_run"].as_bool() {
        Some(true) => "would be dropped",
        _ => "were dropped",
    };
    println!("{} events before {before} {done}", report["events"]);
    let experiments = report["experiments"].as_object();
    for (experiment, n_events) in experiments.into_iter().flatten() {
        println!(
            "  {experiment}: {n_events}; its results stay as they are and are not computed again"
        );
    }
}
