//! Runs `trialog metrics`, which lists and shows metric definitions.

use std::process::ExitCode;

use super::experiments::pages;
use crate::access::{Access, encode};
use crate::cli::{Format, MetricsCommand};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, command: &MetricsCommand) -> anyhow::Result<ExitCode> {
    let access = Access::open(config)?;
    match command {
        MetricsCommand::List { search, format } => {
            let query = (search.as_ref()).map(|text| format!("&q={}", encode(text)));
            let all = pages(&access, "metrics", &query.unwrap_or_default())?;
            match format {
                Format::Json => println!("{}", serde_json::to_string_pretty(&all)?),
                Format::Table => print!("{}", show::metrics(&all)),
            }
        }
        MetricsCommand::Show { metric } => {
            let shown = access.get(&format!("/v1/metrics/{}", encode(metric)))?;
            println!("{}", serde_json::to_string_pretty(&shown)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
