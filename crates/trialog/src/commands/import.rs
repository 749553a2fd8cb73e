//! `trialog import`: events from a file, with a summary of what was not accepted.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use trialog_model::event::EventKind;
use trialog_pipeline::ingest::Destination;

use crate::access::Access;
use crate::cli::{FileFormat, ImportCommand};
use crate::clock;
use crate::commands::EXIT_PARTIAL;
use crate::config::Config;
use crate::import::columns::Mapping;
use crate::import::sink::{Rows, Sink, Summary};
use crate::import::{delimited, fingerprint, format_of, parquet_file, progress};

pub(crate) fn run(config: &Config, command: &ImportCommand) -> anyhow::Result<ExitCode> {
    let common = command.common();
    let path = &common.file;
    let mapping = Mapping::of(command)?;
    let format = format_of(path, common.format, "--format csv, ndjson or parquet")?;
    let source = source(fingerprint(path)?, &mapping);
    let mark = mark(&source, &mapping);
    let now = clock::now();
    let access = Access::open(config)?;
    let sink = match &access {
        Access::Directory(opened) => Sink::Directory(Destination::from(&opened.node.store)),
        Access::Server { address, agent } => Sink::Server {
            address: address.clone(),
            agent,
        },
    };
    let mut rows = Rows::new(sink, mapping.kind, source, mark, now)?;
    if format == FileFormat::Parquet {
        let bar = progress(parquet_file::count_rows(path)?, false);
        parquet_file::read_parquet(path, &mapping, &bar, now, &mut rows)?;
        bar.finish_and_clear();
    } else {
        let length = std::fs::metadata(path)
            .with_context(|| format!("cannot read `{}`", path.display()))?
            .len();
        let bar = progress(length, true);
        match format {
            FileFormat::Csv => delimited::read_csv(path, &mapping, &bar, now, &mut rows)?,
            _ => delimited::read_ndjson(path, &mapping, &bar, now, &mut rows)?,
        }
        bar.finish_and_clear();
    }
    let summary = rows.finish()?;
    if let Access::Directory(opened) = &access {
        opened.node.close();
    }
    print_summary(mapping.kind, &summary);
    Ok(if summary.rejected.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_PARTIAL)
    })
}

/// Names an import with every setting: another setting, such as a time zone,
/// reads the file from its beginning, for rows that were bad without it.
fn mark(source: &str, mapping: &Mapping) -> String {
    let settings = format!("{mapping:?}");
    let (settings, _) = trialog_model::murmur3::murmur3_x64_128(settings.as_bytes(), 0);
    format!("import:{source}:{settings:016x}")
}

/// Names a file and what its rows become: the same import again is the same
/// source, and another column of the same file is another one.
fn source(content: u64, mapping: &Mapping) -> String {
    let how = json!([
        format!("{:?}", mapping.user),
        format!("{:?}", mapping.experiment),
        format!("{:?}", mapping.name),
        format!("{:?}", mapping.value),
        format!("{:?}", mapping.time),
    ]);
    let (how, _) = trialog_model::murmur3::murmur3_x64_128(how.to_string().as_bytes(), 0);
    let kind = match mapping.kind {
        EventKind::Assignment => "a",
        EventKind::Metric => "m",
    };
    format!("{kind}:{content:016x}{how:016x}")
}

fn print_summary(kind: EventKind, summary: &Summary) {
    println!(
        "{} rows: {} {kind} accepted",
        summary.rows, summary.accepted
    );
    if summary.no_event > 0 {
        println!("{} rows hold no event (--skip-zero)", summary.no_event);
    }
    if summary.stored_before > 0 {
        println!(
            "{} rows were stored by an earlier import of the same file",
            summary.stored_before
        );
    }
    if summary.rejected.is_empty() {
        return;
    }
    println!("{} rows rejected:", summary.rejected.values().sum::<u64>());
    for (field, count) in &summary.rejected {
        println!("  {count} for `{field}`");
    }
    for (row, reason) in &summary.examples {
        println!("  row {row}: {reason}");
    }
}
