//! `trialog aggregate`: one run, for cron and Airflow.

use std::process::ExitCode;

use serde_json::{Value, json};
use trialog_pipeline::aggregation::Scope;
use trialog_pipeline::schedule::{Retry, run_with_retries};

use crate::access::Access;
use crate::cli::{AggregateArgs, Format};
use crate::commands::EXIT_PARTIAL;
use crate::config::Config;

pub(crate) fn run(config: &Config, options: &AggregateArgs) -> anyhow::Result<ExitCode> {
    let report = match Access::open(config)? {
        Access::Directory(opened) => {
            let scope = if options.full {
                Scope::Full
            } else {
                Scope::Touched
            };
            let retry = Retry {
                attempts: options.attempts.max(1),
                ..Retry::default()
            };
            let wait = |length| {
                std::thread::sleep(length);
                true
            };
            let aggregator = &opened.node.aggregator;
            let report = run_with_retries(
                aggregator,
                "command",
                scope,
                &retry,
                &mut fastrand::Rng::new(),
                wait,
            );
            let report = json!(report?);
            opened.node.close();
            report
        }
        server @ Access::Server { .. } => {
            server.post(&format!("/v1/pipeline/run?full={}", options.full), None)?
        }
    };
    let failed = report["failed"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    match options.format {
        Format::Json => println!("{report}"),
        Format::Table => print_report(&report, failed),
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_PARTIAL)
    })
}

fn print_report(report: &Value, failed: &[Value]) {
    println!(
        "published run {} at {}: {} experiments in {} ms, up to position {}",
        report["run_id"],
        report["computed_at"].as_str().unwrap_or_default(),
        report["experiments"],
        report["duration_ms"],
        report["position"]
    );
    if report["left_out"]
        .as_u64()
        .is_some_and(|left_out| left_out > 0)
    {
        println!(
            "{} unregistered experiments are kept but not aggregated: register them, or raise unregistered_experiments",
            report["left_out"]
        );
    }
    if report["frozen"].as_u64() > Some(0) {
        println!(
            "{} experiments keep the results they have: retention dropped events of theirs",
            report["frozen"]
        );
    }
    for failure in failed {
        println!("not computed: {}", failure[1].as_str().unwrap_or_default());
    }
}
