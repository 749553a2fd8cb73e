//! Runs `trialog cohorts`: results by the day of exposure or by the days since it.

use std::process::ExitCode;

use anyhow::Context;
use trialog_report::Cohorts;

use crate::access::{Access, encode, query_text};
use crate::cli::{CohortsArgs, Format};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, args: &CohortsArgs) -> anyhow::Result<ExitCode> {
    let answer = Access::open(config)?.get(&path(args)?)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Format::Table => {
            let cohorts: Cohorts =
                serde_json::from_value(answer).context("the server speaks another version")?;
            print!("{}", show::cohorts(&cohorts));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(args: &CohortsArgs) -> anyhow::Result<String> {
    let alpha = args.test.alpha.map(|alpha| alpha.to_string());
    let named = [
        ("by", Some(&args.by)),
        ("days", args.days.as_ref()),
        ("metric", args.metric.as_ref()),
        ("from", args.users.from.as_ref()),
        ("to", args.users.to.as_ref()),
        ("control", args.test.control.as_ref()),
        ("alpha", alpha.as_ref()),
    ];
    let query = query_text(named, &args.users.segment)?;
    let experiment = encode(&args.experiment);
    Ok(format!("/v1/experiments/{experiment}/cohorts?{query}"))
}
