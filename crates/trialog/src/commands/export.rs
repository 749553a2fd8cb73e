//! Runs `trialog export`: events or results as a file for other tools.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::access::{Access, encode};
use crate::cli::{ExportArgs, Formulas};
use crate::config::Config;
use crate::table::progress;

pub(crate) fn run(config: &Config, options: &ExportArgs) -> anyhow::Result<ExitCode> {
    let path = request(options)?;
    let draft = draft_of(&options.file)?;
    let access = Access::open(config)?;
    let outcome = write(&access, &path, &draft).and_then(|bytes| {
        std::fs::rename(&draft, &options.file)
            .with_context(|| format!("cannot write `{}`", options.file.display()))?;
        Ok(bytes)
    });
    if outcome.is_err() {
        // Half a file is of no use; what cannot be removed shows by its name what it is.
        let _ = std::fs::remove_file(&draft);
    }
    if let Access::Directory(opened) = &access {
        opened.node.close();
    }
    println!("wrote {} bytes to {}", outcome?, options.file.display());
    Ok(ExitCode::SUCCESS)
}

/// The request that answers with what is wanted.
fn request(options: &ExportArgs) -> anyhow::Result<String> {
    let table = options.table.to_possible_value();
    let table = table.context("every table has a name")?;
    let extension = options.file.extension().and_then(|text| text.to_str());
    let form = match extension {
        Some("parquet" | "pq") => "parquet",
        Some("csv") => "csv",
        _ => bail!(
            "`{}` does not show the format: end the name with .parquet or .csv",
            options.file.display()
        ),
    };
    let mut path = format!("/v1/export/{}?format={form}", table.get_name());
    if options.formulas == Formulas::Kept {
        path += "&formulas=kept";
    }
    let single = [("from", &options.from), ("to", &options.to)];
    let single = single
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let experiments = options.experiment.iter().map(|id| ("experiment", id));
    for (name, value) in experiments.chain(single) {
        path = format!("{path}&{name}={}", encode(value));
    }
    Ok(path)
}

/// Where the file is written until it is complete.
fn draft_of(file: &Path) -> anyhow::Result<PathBuf> {
    let mut name = file.file_name().context("the file has no name")?.to_owned();
    name.push(".incomplete");
    Ok(file.with_file_name(name))
}

fn write(access: &Access, path: &str, draft: &Path) -> anyhow::Result<u64> {
    let writing = || format!("cannot write `{}`", draft.display());
    let file = File::create(draft).with_context(writing)?;
    let bar = progress(0, true);
    let mut out = BufWriter::with_capacity(1 << 20, bar.wrap_write(file));
    access.download(path, &mut out)?;
    out.flush().with_context(writing)?;
    bar.finish_and_clear();
    let file = File::open(draft).with_context(writing)?;
    file.sync_all().with_context(writing)?;
    Ok(file.metadata().with_context(writing)?.len())
}
