//! Runs `trialog experiments`, which applies files, compares, lists, shows and changes
//! experiments, and `trialog decide`.

mod apply;
mod files;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access::{Access, check_holds_data, encode};
use crate::cli::{DecideArgs, ExperimentsCommand, Format, ListArgs};
use crate::config::Config;
use crate::show;

use apply::{Difference, compare};
use files::Declared;

/// What `diff` exits with.
const DIFFERS: u8 = 1;
const FAILED: u8 = 2;

pub(crate) fn run(config: &Config, command: &ExperimentsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ExperimentsCommand::Apply {
            files,
            dry_run,
            confirm,
        } => apply(config, files, *dry_run, *confirm),
        ExperimentsCommand::Diff { files, format } => Ok(diff(config, files, *format)),
        ExperimentsCommand::List(args) => list(config, args),
        ExperimentsCommand::Show { experiment } => {
            let shown =
                Access::open(config)?.get(&format!("/v1/experiments/{}", encode(experiment)))?;
            println!("{}", serde_json::to_string_pretty(&shown)?);
            Ok(ExitCode::SUCCESS)
        }
        ExperimentsCommand::Start { experiment } => step(config, experiment, "start"),
        ExperimentsCommand::Stop { experiment } => step(config, experiment, "stop"),
        ExperimentsCommand::Resume { experiment } => step(config, experiment, "resume"),
        ExperimentsCommand::Archive { experiment } => step(config, experiment, "archive"),
        ExperimentsCommand::Confirm { experiment } => {
            step(config, experiment, "confirm")?;
            println!("what was changed after its start is confirmed");
            Ok(ExitCode::SUCCESS)
        }
        ExperimentsCommand::Delete { experiment } => {
            let path = format!("/v1/experiments/{}", encode(experiment));
            let was = Access::open(config)?.delete(&path)?;
            let status = was["status"].as_str().unwrap_or_default();
            println!("`{experiment}`, which was {status}, is deleted; its events stay");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs `trialog decide`.
pub(crate) fn decide(config: &Config, args: &DecideArgs) -> anyhow::Result<ExitCode> {
    let experiment = &args.experiment;
    let body = json!({ "ship": args.ship, "reason": args.reason });
    let path = format!("/v1/experiments/{}/decide", encode(experiment));
    Access::open(config)?.post(&path, Some(&body))?;
    match &args.ship {
        Some(variant) => println!(
            "`{experiment}` ships `{variant}`: everybody gets it until the experiment is archived"
        ),
        None => println!("`{experiment}` ships nothing: everybody sees the control"),
    }
    Ok(ExitCode::SUCCESS)
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

fn apply(
    config: &Config,
    files: &[PathBuf],
    dry_run: bool,
    confirm: bool,
) -> anyhow::Result<ExitCode> {
    let declared = Declared::read(files)?;
    let empty = match dry_run {
        true => empty_directory(config)?,
        false => None,
    };
    let access = Access::open_or_create(empty.as_ref().map_or(config, |temporary| &temporary.1))?;
    for difference in compare(&access, &declared, confirm)? {
        if dry_run {
            print!("{}", difference.text());
        } else {
            println!("{}", difference.apply(&access, confirm)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where there is no data yet, a directory to compare with in its place, which goes with the
/// value: a comparison creates nothing, and against nothing everything is new.
fn empty_directory(config: &Config) -> anyhow::Result<Option<(TempDir, Config)>> {
    if config.server.is_some() || !config.storage.needs_directory() {
        return Ok(None);
    }
    let Err(missing) = check_holds_data(&config.data_dir) else {
        return Ok(None);
    };
    eprintln!("note: {missing}; as long as there is none, everything is new");
    let empty = tempfile::tempdir().context("cannot create a temporary directory")?;
    let config = Config {
        data_dir: empty.path().to_owned(),
        ..config.clone()
    };
    Ok(Some((empty, config)))
}

/// Exits as `diff` does: with 0 where nothing differs, 1 where something does.
fn diff(config: &Config, files: &[PathBuf], format: Format) -> ExitCode {
    let compared = || -> anyhow::Result<Vec<Difference>> {
        let declared = Declared::read(files)?;
        // What differs is shown, whether or not it may change.
        let empty = empty_directory(config)?;
        let access =
            Access::open_or_create(empty.as_ref().map_or(config, |temporary| &temporary.1))?;
        compare(&access, &declared, true)
    };
    let differences = match compared() {
        Ok(differences) => differences,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(FAILED);
        }
    };
    match format {
        Format::Table => differences
            .iter()
            .for_each(|difference| print!("{}", difference.text())),
        Format::Json => {
            let all: Vec<Value> = differences.iter().map(Difference::json).collect();
            println!("{:#}", Value::Array(all));
        }
    }
    if differences.iter().all(Difference::is_same) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERS)
    }
}

fn list(config: &Config, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let named = [("owner", &args.owner), ("q", &args.search)];
    let statuses = args.status.iter().map(|status| ("status", status));
    let query: String = (named.into_iter())
        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
        .chain(statuses)
        .map(|(name, value)| format!("&{name}={}", encode(value)))
        .collect();
    let all = pages(&Access::open(config)?, "experiments", &query)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        Format::Table => print!("{}", show::experiments(&all)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns everything in the list `/v1/{what}`, page by page.
pub(super) fn pages(access: &Access, what: &str, query: &str) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let mut page = access.get(&format!("/v1/{what}?limit=1000{after}{query}"))?;
        if let Some(elements) = page[what].as_array_mut() {
            all.append(elements);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encode(next)),
            None => return Ok(all),
        }
    }
}
