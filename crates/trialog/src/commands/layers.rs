//! Runs `trialog layers`, which lists, shows and creates layers.

use std::process::ExitCode;

use serde_json::json;

use super::experiments::pages;
use crate::access::{Access, encode};
use crate::cli::{Format, LayersCommand};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, command: &LayersCommand) -> anyhow::Result<ExitCode> {
    let access = match command {
        LayersCommand::Create { .. } => Access::open_or_create(config)?,
        _ => Access::open(config)?,
    };
    let shown = match command {
        LayersCommand::List { format } => {
            let all = pages(&access, "layers", "")?;
            match format {
                Format::Json => println!("{}", serde_json::to_string_pretty(&all)?),
                Format::Table => print!("{}", show::layers(&all)),
            }
            return Ok(ExitCode::SUCCESS);
        }
        LayersCommand::Show { layer } => access.get(&format!("/v1/layers/{}", encode(layer)))?,
        LayersCommand::Create {
            layer,
            description,
            owner,
        } => {
            let wanted = json!({ "name": layer, "description": description, "owner": owner });
            access.post("/v1/layers", Some(&wanted))?
        }
    };
    println!("{}", serde_json::to_string_pretty(&shown)?);
    Ok(ExitCode::SUCCESS)
}
