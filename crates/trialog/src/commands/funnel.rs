//! `trialog funnel`: how far users get through ordered steps, as a table or as JSON.

use std::process::ExitCode;

use anyhow::Context;
use trialog_report::Funnel;

use crate::access::{Access, encode, query_text};
use crate::cli::{Format, FunnelArgs};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, args: &FunnelArgs) -> anyhow::Result<ExitCode> {
    let answer = Access::open(config)?.get(&path(args)?)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Format::Table => {
            let funnel: Funnel =
                serde_json::from_value(answer).context("the server speaks another version")?;
            print!("{}", show::funnel(&funnel));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(args: &FunnelArgs) -> anyhow::Result<String> {
    let alpha = args.test.alpha.map(|alpha| alpha.to_string());
    let times = args.times.then(|| "true".to_owned());
    let named = [
        ("name", args.name.as_ref()),
        ("steps", args.steps.as_ref()),
        ("window", args.window.as_ref()),
        ("limits", args.limits.as_ref()),
        ("times", times.as_ref()),
        ("from", args.users.from.as_ref()),
        ("to", args.users.to.as_ref()),
        ("control", args.test.control.as_ref()),
        ("alpha", alpha.as_ref()),
    ];
    let query = query_text(named, &args.users.segment)?;
    let experiment = encode(&args.experiment);
    Ok(format!("/v1/experiments/{experiment}/funnel?{query}"))
}
