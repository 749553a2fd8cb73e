//! `trialog context`: the keys of contexts with their values, as a table or as JSON.

use std::process::ExitCode;

use anyhow::Context as _;
use trialog_report::Context;

use crate::access::{Access, encode};
use crate::cli::{ContextArgs, Format};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, args: &ContextArgs) -> anyhow::Result<ExitCode> {
    let experiment = encode(&args.experiment);
    let answer = Access::open(config)?.get(&format!("/v1/experiments/{experiment}/context"))?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Format::Table => {
            let context: Context =
                serde_json::from_value(answer).context("the server speaks another version")?;
            print!("{}", show::context(&context));
        }
    }
    Ok(ExitCode::SUCCESS)
}
