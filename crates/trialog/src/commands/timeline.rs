//! Runs `trialog timeline`: what the publications of an experiment said over time.

use std::process::ExitCode;

use anyhow::Context;
use trialog_report::Timeline;

use crate::access::{Access, encode, query_text};
use crate::cli::{Format, TimelineArgs};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, args: &TimelineArgs) -> anyhow::Result<ExitCode> {
    let answer = Access::open(config)?.get(&path(args)?)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Format::Table => {
            let timeline: Timeline =
                serde_json::from_value(answer).context("the server speaks another version")?;
            print!("{}", show::timeline(&timeline));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(args: &TimelineArgs) -> anyhow::Result<String> {
    let alpha = args.test.alpha.map(|alpha| alpha.to_string());
    let named = [
        ("metric", args.metric.as_ref()),
        ("control", args.test.control.as_ref()),
        ("alpha", alpha.as_ref()),
        ("backfill", args.backfill.as_ref()),
    ];
    let query = query_text(named, &[])?;
    let experiment = encode(&args.experiment);
    Ok(format!("/v1/experiments/{experiment}/timeline?{query}"))
}
