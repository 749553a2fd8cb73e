//! Runs `trialog holdouts`, which lists, shows, creates, starts and stops holdouts.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::experiments::pages;
use crate::access::{Access, encode};
use crate::cli::{Format, HoldoutsCommand};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, command: &HoldoutsCommand) -> anyhow::Result<ExitCode> {
    let access = match command {
        HoldoutsCommand::Create { .. } => Access::open_or_create(config)?,
        _ => Access::open(config)?,
    };
    let step = |holdout: &str, step: &str| {
        access.post(&format!("/v1/holdouts/{}/{step}", encode(holdout)), None)
    };
    let shown = match command {
        HoldoutsCommand::List { format } => {
            let all = pages(&access, "holdouts", "")?;
            match format {
                Format::Json => println!("{}", serde_json::to_string_pretty(&all)?),
                Format::Table => print!("{}", show::holdouts(&all)),
            }
            return Ok(ExitCode::SUCCESS);
        }
        HoldoutsCommand::Show { holdout } => {
            access.get(&format!("/v1/holdouts/{}", encode(holdout)))?
        }
        HoldoutsCommand::Create {
            holdout,
            size,
            experiments,
            metrics,
        } => {
            let scope = (!experiments.is_empty()).then_some(experiments);
            let wanted = json!({
                "name": holdout, "size": size, "experiments": scope, "metrics": { "primary": metrics },
            });
            access.post("/v1/holdouts", Some(&wanted))?
        }
        HoldoutsCommand::Start { holdout } => step(holdout, "start")?,
        HoldoutsCommand::Stop { holdout } => step(holdout, "stop")?,
    };
    for warning in shown["warnings"].as_array().into_iter().flatten() {
        eprintln!(
            "warning: {}",
            warning["message"].as_str().unwrap_or_default()
        );
    }
    println!("{}", serde_json::to_string_pretty::<Value>(&shown)?);
    Ok(ExitCode::SUCCESS)
}
