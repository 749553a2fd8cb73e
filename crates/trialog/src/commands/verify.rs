//! Runs `trialog verify`: checks that everything is as it was written, and that the results are
//! right.

use std::io::BufRead;
use std::process::ExitCode;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use trialog_pipeline::maintenance::verify::verify_directory;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::lock::DirectoryLock;

use crate::access::{Access, check_holds_data};
use crate::cli::{Format, VerifyArgs};
use crate::config::Config;
use crate::node::plain;
use crate::table::progress;

/// Damage was found.
const EXIT_DAMAGED: u8 = 2;

pub(crate) fn run(config: &Config, options: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let bar = progress(0, true);
    let report = match &config.server {
        Some(_) => from_server(&Access::open(config)?, &bar),
        None => from_directory(config, &bar),
    };
    bar.finish_and_clear();
    let report = report?;
    match options.format {
        Format::Json => println!("{report}"),
        Format::Table => print_report(&report),
    }
    Ok(match report["sound"].as_bool() {
        Some(true) => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_DAMAGED),
    })
}

/// Verifies a directory that no process has open, or else asks the server that holds it.
fn from_directory(config: &Config, bar: &ProgressBar) -> anyhow::Result<Value> {
    let directory = &config.data_dir;
    check_holds_data(directory)?;
    let _lock = match DirectoryLock::acquire(directory) {
        Ok(lock) => lock,
        Err(WarehouseError::Locked {
            address: Some(address),
            ..
        }) => return from_server(&Access::beside(config, &address)?, bar),
        Err(error) => return Err(plain(error)),
    };
    let report = verify_directory(directory, &config.aggregation, &mut |done, all| {
        show(bar, done, all);
    })?;
    Ok(json!(report))
}

fn from_server(server: &Access, bar: &ProgressBar) -> anyhow::Result<Value> {
    for line in server.stream("/v1/verify")?.lines() {
        let line = line.context("the answer ended early")?;
        let mut step: Value = serde_json::from_str(&line).context("the answer is not JSON")?;
        if let Some(error) = step["error"].as_str() {
            bail!("{error}");
        }
        if step["report"].is_object() {
            return Ok(step["report"].take());
        }
        let count = |name: &str| step["progress"][name].as_u64().unwrap_or_default();
        show(bar, count("done"), count("total"));
    }
    bail!("the answer ended before the report")
}

fn show(bar: &ProgressBar, done: u64, all: u64) {
    bar.set_length(all);
    bar.set_position(done);
}

fn print_report(report: &Value) {
    println!(
        "{} runs with {} bytes and {} entries of the inbox were read, up to position {}",
        report["runs"], report["run_bytes"], report["inbox_entries"], report["position"]
    );
    println!(
        "{} experiments were recomputed up to position {}, {} could not be compared",
        report["recomputed"], report["published_position"], report["n_skipped"]
    );
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    for skipped in list("skipped") {
        println!(
            "  not compared: {}: {}",
            skipped["experiment"].as_str().unwrap_or_default(),
            skipped["reason"].as_str().unwrap_or_default()
        );
    }
    for note in list("notes") {
        println!("  note: {}", note.as_str().unwrap_or_default());
    }
    for damage in list("damage") {
        println!(
            "DAMAGED {}: {}",
            damage["part"].as_str().unwrap_or_default(),
            damage["message"].as_str().unwrap_or_default()
        );
    }
    if report["sound"] == true {
        println!("all is as it was written, and the results are right");
    }
}
