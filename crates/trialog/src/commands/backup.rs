//! Runs `trialog backup` and `trialog restore`.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use trialog_pipeline::maintenance::restore::restore;

use crate::access::Access;
use crate::cli::{BackupArgs, Format, RestoreArgs};
use crate::config::Config;
use crate::table::progress;

pub(crate) fn backup(config: &Config, options: &BackupArgs) -> anyhow::Result<ExitCode> {
    let directory = std::path::absolute(&options.directory)
        .with_context(|| format!("cannot use `{}`", options.directory.display()))?;
    let report = match Access::open(config)? {
        Access::Directory(opened) => {
            let bar = progress(0, true);
            let report = opened
                .node
                .app
                .maintenance()
                .backup(&directory, &mut |done, all| {
                    bar.set_length(all);
                    bar.set_position(done);
                });
            bar.finish_and_clear();
            let report = json!(report?);
            opened.node.close();
            report
        }
        server @ Access::Server { .. } => {
            let directory = directory
                .to_str()
                .context("the directory's name is not UTF-8")?;
            server.post("/v1/backup", Some(&json!({ "directory": directory })))?
        }
    };
    match options.format {
        Format::Json => println!("{report}"),
        Format::Table => print_backup(&report),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_backup(report: &Value) {
    let text = |name: &str| report[name].as_str().unwrap_or_default();
    println!(
        "backup of {} in {}: {} files, {} bytes",
        text("created_at"),
        text("directory"),
        report["files"],
        report["bytes"]
    );
    println!(
        "events up to position {}, results up to position {}",
        report["position"], report["published_position"]
    );
    if report["linked_bytes"].as_u64() > Some(0) {
        println!(
            "{} bytes are shared with the data directory: copy the backup to another disk or machine to be safe from the loss of this one",
            report["linked_bytes"]
        );
    }
}

pub(crate) fn restore_command(config: &Config, options: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let bar = progress(0, true);
    let report = restore(&options.backup, &config.data_dir, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = report?;
    match options.format {
        Format::Json => println!("{}", json!(report)),
        Format::Table => {
            println!(
                "restored {} files, {} bytes from {} into {}; every byte was checked",
                report.files,
                report.bytes,
                report.backup.display(),
                report.data_dir.display()
            );
            println!(
                "the backup is of {}: events up to position {}, results up to position {}",
                report.created_at, report.position, report.published_position
            );
            println!(
                "start with: trialog serve --data-dir {}",
                report.data_dir.display()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
