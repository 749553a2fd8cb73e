//! Runs `trialog import`: events from a file, with a summary of rejected rows.

use std::process::ExitCode;

use serde_json::json;
use trialog_model::event::{EventKind, Rules};
use trialog_pipeline::ingest::Destination;

use crate::access::Access;
use crate::cli::{Format, Formulas, ImportCommand};
use crate::clock;
use crate::commands::EXIT_PARTIAL;
use crate::config::Config;
use crate::import::cells::Layout;
use crate::import::columns::Mapping;
use crate::import::sink::{Rows, Sink, Summary};
use crate::import::survey::survey;
use crate::import::times::Times;
use crate::table::{Options, Table, Wanted};
use crate::when_results;

pub(crate) fn run(config: &Config, command: &ImportCommand) -> anyhow::Result<ExitCode> {
    let common = command.common();
    let mapping = Mapping::from_command(command, config.http.limits.ingest.allows_placeholder_ids)?;
    let option = "--format csv, tsv, ndjson, parquet or feather";
    let options = Options::from(&common.table);
    let table = Table::open(&common.file, common.format, option, options)?;
    let wanted = mapping.wanted(&table)?;
    let survey = survey(&table, &mapping, &wanted)?;
    for warning in &survey.warnings {
        eprintln!("warning: {warning}; --strict refuses such a file");
    }
    let source = source(table.fingerprint()?, &mapping);
    let mark = mark(&source, &mapping);
    let now = clock::now();
    let access = Access::open_or_create(config)?;
    let sink = match &access {
        Access::Directory(opened) => Sink::Directory(Destination::from(&opened.node.store)),
        Access::Server { address, agent } => Sink::Server {
            address: address.clone(),
            agent,
        },
    };
    let rules = Rules {
        defaults_time: false,
        allows_placeholder_ids: mapping.allows_placeholder_ids,
        ..now.into()
    };
    let times = Times::new(mapping.time_zone.clone(), mapping.time_unit);
    // Only an export has that column.
    let is_export = table.is_delimited() && table.has("event_fingerprint");
    let layout = Layout::new(&mapping, &wanted, &survey.decisions, &times, rules)
        .with_escaped(is_export && common.formulas == Formulas::Escaped);
    let mut rows = Rows::new(sink, mapping.kind, source, mark, now)?;
    table.rows(&wanted, &mut |_, row| rows.take(layout.event(row)))?;
    let summary = rows.finish()?;
    let when = (summary.accepted > 0).then(|| when_results::line(config, &access, clock::now()));
    if let Access::Directory(opened) = &access {
        opened.node.close();
    }
    let remarks = Remarks {
        columns: columns(&mapping, &wanted),
        notes: [survey.notes, times.shifted()].concat(),
        warnings: survey.warnings,
    };
    match common.summary {
        Format::Table => {
            print_summary(mapping.kind, &summary, &remarks);
            if let Some(when) = when {
                println!("{when}");
            }
        }
        Format::Json => print_json(mapping.kind, &summary, &remarks),
    }
    Ok(if summary.rejected.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_PARTIAL)
    })
}

/// The content of a summary beside the rows.
struct Remarks {
    /// Fields and the columns that they were read from.
    columns: Vec<(&'static str, String)>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

/// The fields that were read from columns, and those columns.
fn columns(mapping: &Mapping, wanted: &[Wanted]) -> Vec<(&'static str, String)> {
    let is_read = |name: &str| wanted.iter().any(|column| column.name == name);
    let fields = mapping.fields().into_iter().filter_map(|(field, origin)| {
        let column = origin.column().filter(|name| is_read(name))?;
        Some((field, column.to_owned()))
    });
    let keys = (mapping.context_columns.iter()).map(|name| ("context", name.clone()));
    fields.chain(keys).collect()
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

fn print_summary(kind: EventKind, summary: &Summary, remarks: &Remarks) {
    println!(
        "{} rows: {} {kind} accepted",
        summary.rows,
        summary.accepted + summary.stored_before
    );
    let columns: Vec<String> = (remarks.columns.iter())
        .map(|(field, column)| format!("`{column}` -> {}", shown(field)))
        .collect();
    if !columns.is_empty() {
        println!("columns: {}", columns.join(", "));
    }
    for note in &remarks.notes {
        println!("note: {note}");
    }
    if summary.no_event > 0 {
        println!("{} rows hold no event (--skip-zero)", summary.no_event);
    }
    if summary.stored_before > 0 {
        println!(
            "{} of them were stored by an earlier import of the same file, and are not stored again",
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

/// What a field is, in words.
fn shown(field: &'static str) -> &'static str {
    match field {
        "user_id" => "user",
        "experiment_id" => "experiment",
        "event_type" => "event type",
        "assigned_at" | "timestamp" => "time",
        "event_id" => "id of the event",
        "event_fingerprint" => "fingerprint of the event's id",
        other => other,
    }
}

fn print_json(kind: EventKind, summary: &Summary, remarks: &Remarks) {
    let columns: Vec<_> = (remarks.columns.iter())
        .map(|(field, column)| json!({"field": field, "column": column}))
        .collect();
    let examples: Vec<_> = (summary.examples.iter())
        .map(|(row, reason)| json!({"row": row, "reason": reason}))
        .collect();
    let answer = json!({
        "kind": kind.plural(),
        "rows": summary.rows,
        "accepted": summary.accepted + summary.stored_before,
        "no_event": summary.no_event,
        "stored_before": summary.stored_before,
        "rejected": summary.rejected.values().sum::<u64>(),
        "rejected_by_field": summary.rejected,
        "examples": examples,
        "columns": columns,
        "notes": remarks.notes,
        "warnings": remarks.warnings,
    });
    println!("{answer:#}");
}
