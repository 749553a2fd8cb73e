//! Runs `trialog results`: the report of an experiment, whole or by segment, as a table or as
//! JSON.

use std::process::ExitCode;

use anyhow::Context;
use trialog_report::{Breakdown, Report};

use crate::access::{Access, encode, query_text};
use crate::cli::{Format, ResultsArgs};
use crate::config::Config;
use crate::show;

const UNREADABLE: &str = "the answer of the server cannot be read by this version of trialog: use the version of the server, or `--format json`";

pub(crate) fn run(config: &Config, args: &ResultsArgs) -> anyhow::Result<ExitCode> {
    let path = path(args)?;
    let answer = Access::open(config)?.get(&path)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Format::Table if args.by.is_some() => {
            let breakdown: Breakdown = serde_json::from_value(answer).context(UNREADABLE)?;
            print!("{}", show::breakdown(&breakdown));
        }
        Format::Table => {
            let report: Report = serde_json::from_value(answer).context(UNREADABLE)?;
            print!("{}", show::report(&report));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(args: &ResultsArgs) -> anyhow::Result<String> {
    let alpha = args.test.alpha.map(|alpha| alpha.to_string());
    let named = [
        ("metric", args.metric.as_ref()),
        ("kind", args.kind.as_ref()),
        ("from", args.users.from.as_ref()),
        ("to", args.users.to.as_ref()),
        ("control", args.test.control.as_ref()),
        ("alpha", alpha.as_ref()),
        ("correction", args.correction.as_ref()),
        ("as_of", args.as_of.as_ref()),
        ("by", args.by.as_ref()),
    ];
    let query = query_text(named, &args.users.segment)?;
    let route = if args.by.is_some() {
        "breakdown"
    } else {
        "results"
    };
    Ok(format!(
        "/v1/experiments/{}/{route}?{}",
        encode(&args.experiment),
        query
    ))
}
