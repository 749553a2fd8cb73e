//! `trialog experiments`: register from files, list, show, start, stop.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use axum::http::{Method, StatusCode};
use serde_json::{Map, Value};
use trialog_model::experiment::Definition;

use crate::access::{Access, encode};
use crate::cli::{ExperimentsCommand, Format};
use crate::config::Config;
use crate::show;

pub(crate) fn run(config: &Config, command: &ExperimentsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ExperimentsCommand::Apply { file } => apply(config, file),
        ExperimentsCommand::List { status, format } => list(config, status.as_deref(), *format),
        ExperimentsCommand::Show { experiment } => {
            let shown =
                Access::open(config)?.get(&format!("/v1/experiments/{}", encode(experiment)))?;
            println!("{}", serde_json::to_string_pretty(&shown)?);
            Ok(ExitCode::SUCCESS)
        }
        ExperimentsCommand::Start { experiment } => step(config, experiment, "start"),
        ExperimentsCommand::Stop { experiment } => step(config, experiment, "stop"),
    }
}

fn step(config: &Config, experiment: &str, step: &str) -> anyhow::Result<ExitCode> {
    let shown = Access::open(config)?.post(
        &format!("/v1/experiments/{}/{step}", encode(experiment)),
        None,
    )?;
    println!(
        "`{experiment}` is {}",
        shown["status"].as_str().unwrap_or_default()
    );
    Ok(ExitCode::SUCCESS)
}

fn apply(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let text = read(file)?;
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", file.display()))?;
    let fields = match value {
        Value::Array(experiments) => experiments,
        one => vec![one],
    };
    // All of the file is checked before any of it is applied.
    for (index, fields) in fields.iter().enumerate() {
        let place = || format!("experiment {index} of `{}`", file.display());
        let definition: Definition = serde_json::from_value(fields.clone()).with_context(place)?;
        definition.check().with_context(place)?;
    }
    let access = Access::open(config)?;
    for fields in &fields {
        apply_one(&access, fields)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn apply_one(access: &Access, fields: &Value) -> anyhow::Result<()> {
    let id = fields["experiment_id"].as_str().unwrap_or_default();
    let path = format!("/v1/experiments/{}", encode(id));
    let created = access.request(&Method::POST, "/v1/experiments", Some(fields))?;
    if created.status != StatusCode::CONFLICT {
        created
            .read()
            .with_context(|| format!("cannot register `{id}`"))?;
        println!("registered `{id}`");
        return Ok(());
    }
    let known = access.get(&path)?;
    let wanted = serde_json::to_value(serde_json::from_value::<Definition>(fields.clone())?)?;
    let Value::Object(wanted) = wanted else {
        bail!("`{id}` is not an object")
    };
    let different: Map<String, Value> = wanted
        .into_iter()
        .filter(|(field, value)| known[field] != *value)
        .collect();
    if different.is_empty() {
        println!("unchanged `{id}`");
        return Ok(());
    }
    let names: Vec<&str> = different.keys().map(String::as_str).collect();
    let names = names.join(", ");
    let changed = access.request(&Method::PATCH, &path, Some(&Value::Object(different)))?;
    changed
        .read()
        .with_context(|| format!("cannot change {names} of `{id}`"))?;
    println!("changed `{id}`: {names}");
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

fn list(config: &Config, status: Option<&str>, format: Format) -> anyhow::Result<ExitCode> {
    let access = Access::open(config)?;
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let status = status
            .map(|status| format!("&status={}", encode(status)))
            .unwrap_or_default();
        let mut page = access.get(&format!(
            "/v1/experiments?limit=1000&after={}{status}",
            encode(&after)
        ))?;
        if let Some(experiments) = page["experiments"].as_array_mut() {
            all.append(experiments);
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        Format::Table => print!("{}", show::experiments(&all)),
    }
    Ok(ExitCode::SUCCESS)
}
