//! Runs `trialog aggregate`: one run, for cron and Airflow.

use std::process::ExitCode;

use serde_json::{Value, json};
use trialog_pipeline::aggregation::Scope;
use trialog_pipeline::retry::Retry;
use trialog_pipeline::schedule::run_with_retries;

use crate::access::Access;
use crate::cli::{AggregateArgs, Format};
use crate::commands::EXIT_PARTIAL;
use crate::config::Config;

pub(crate) fn run(config: &Config, options: &AggregateArgs) -> anyhow::Result<ExitCode> {
    let report = match Access::open_or_create(config)? {
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
    if let Some(last) = report["before_last"].as_str() {
        println!(
            "its time lies before that of the last run, {last}, whose clock was ahead: all experiments were computed anew"
        );
    }
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
    for line in warnings(&report["warnings"]) {
        println!("{line}");
    }
    for failure in failed {
        println!("not computed: {}", failure[1].as_str().unwrap_or_default());
    }
}

/// A line for each warning, with the first experiments that have it.
fn warnings(warnings: &Value) -> Vec<String> {
    let line = |(code, warned): (&String, &Value)| {
        let n = warned["experiments"].as_u64().unwrap_or_default();
        let first = warned["first"].as_array().into_iter().flatten();
        let first: Vec<&str> = first.filter_map(Value::as_str).collect();
        let what = match code.as_str() {
            "events_without_exposure" => "events of users without an exposure".to_owned(),
            other => format!("the warning `{other}`"),
        };
        let (noun, verb) = if n == 1 {
            ("experiment", "has")
        } else {
            ("experiments", "have")
        };
        let more = if n > first.len() as u64 { ", ..." } else { "" };
        format!(
            "{n} {noun} {verb} {what}: {}{more}; `trialog results ID` says what to check",
            first.join(", ")
        )
    };
    let warnings = warnings.as_object().into_iter().flatten();
    warnings.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_names_the_first_experiments_with_events_that_no_exposure_explains() {
        let report = json!({
            "events_without_exposure": {"experiments": 7, "first": ["a", "b"]},
            "one_arm": {"experiments": 1, "first": ["a"]},
        });
        assert_eq!(
            warnings(&report),
            [
                "7 experiments have events of users without an exposure: a, b, ...; `trialog results ID` says what to check",
                "1 experiment has the warning `one_arm`: a; `trialog results ID` says what to check",
            ]
        );
        assert_eq!(warnings(&Value::Null), Vec::<String>::new());
    }
}
