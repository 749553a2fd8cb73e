//! Runs `trialog forget`, which removes every event of a user.

use std::process::ExitCode;

use anyhow::{Context, bail};
use axum::http::Method;
use serde_json::{Value, json};
use trialog_model::ids::ExperimentId;
use trialog_model::user_id::user_id_from_text;

use crate::access::{Access, encode};
use crate::cli::{ForgetArgs, Format};
use crate::config::Config;

pub(crate) fn run(config: &Config, options: &ForgetArgs) -> anyhow::Result<ExitCode> {
    if options.user.is_empty() {
        bail!("the user id is empty");
    }
    let report = match Access::open(config)? {
        Access::Directory(opened) => {
            let experiment = (options.experiment.clone().map(ExperimentId::new))
                .transpose()
                .context("cannot use `--experiment`")?;
            let user = user_id_from_text(options.user.trim());
            let maintenance = opened.node.app.maintenance();
            let report = json!(maintenance.forget(user, experiment.as_ref(), "command")?);
            opened.node.close();
            report
        }
        server @ Access::Server { .. } => {
            let mut path = format!("/v1/users/{}", encode(&options.user));
            if let Some(experiment) = &options.experiment {
                path = format!("{path}?experiment={}", encode(experiment));
            }
            server.request(&Method::DELETE, &path, None)?.read()?
        }
    };
    match options.format {
        Format::Json => println!("{report}"),
        Format::Table => print_report(&report),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(report: &Value) {
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let experiments = list("experiments");
    println!(
        "erasure {}: {} events in {} experiments removed; {} files were rewritten and {} dropped",
        report["erasure_id"],
        report["events"],
        experiments.len(),
        report["runs_rewritten"],
        report["runs_dropped"]
    );
    for experiment in experiments {
        println!("  {}", experiment.as_str().unwrap_or_default());
    }
    if report["recomputed"].is_object() {
        println!(
            "results were computed anew by run {}",
            report["recomputed"]["run_id"]
        );
    }
    for note in list("notes") {
        println!("note: {}", note.as_str().unwrap_or_default());
    }
}
