//! Runs `trialog calc`: statistics from JSON, without a server and without data.

use std::io::{BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use trialog_model::document::not_json;
use trialog_report::calc::{calc, families};
use trialog_server::no_family;
use trialog_stats::calc::Family;

use crate::cli::{CalcArgs, help};
use crate::show::Table;

pub(crate) fn run(args: &CalcArgs) -> anyhow::Result<ExitCode> {
    match &args.family {
        _ if args.list => list(),
        Some(name) if args.help => help_of(name)?,
        Some(name) => return compute(name, &args.file),
        None if args.help => print!("{}", help::topic(&["calc".to_owned()])?),
        None => bail!("name a family: `trialog calc --list` shows all of them"),
    }
    Ok(ExitCode::SUCCESS)
}

fn list() {
    let mut table = Table::new(&["family", "what it answers"]);
    for family in families() {
        table.row([family.name, family.summary].map(str::to_owned));
    }
    print!("{}", table.text());
}

/// The family called `name`; the error for another name lists those that there are.
fn family(name: &str) -> anyhow::Result<&'static Family> {
    let found = families().find(|family| family.name == name);
    found.with_context(|| no_family(name))
}

pub(crate) fn help_of(name: &str) -> anyhow::Result<()> {
    let Family {
        name,
        summary,
        example,
        ..
    } = family(name)?;
    let answer = calc(name, &serde_json::from_str(example)?)?;
    println!("{name}: {summary}\n");
    println!("$ echo '{example}' | trialog calc {name}\n{answer}");
    println!("\nFields, formulas and sources: docs/statistics.md");
    Ok(())
}

/// One line of output for each object of the input, in its order: an answer, or an object
/// with the `error`.
fn compute(name: &str, file: &Path) -> anyhow::Result<ExitCode> {
    family(name)?;
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let opened = std::fs::File::open(file);
        Box::new(opened.with_context(|| format!("cannot read `{}`", file.display()))?)
    };
    let inputs = serde_json::Deserializer::from_reader(BufReader::new(input)).into_iter::<Value>();
    let mut n_failed = 0_u64;
    let mut n_inputs = 0_u64;
    for input in inputs {
        n_inputs += 1;
        let input = input.map_err(|error| {
            let reason = not_json(&error);
            anyhow!("object {n_inputs} of the input {reason}: `trialog calc {name} --help` shows an example")
        })?;
        match calc(name, &input) {
            Ok(answer) => println!("{answer}"),
            Err(error) => {
                n_failed += 1;
                eprintln!("error: object {n_inputs}: {error}");
                println!("{}", json!({ "error": error.to_string() }));
            }
        }
    }
    if n_inputs == 0 {
        bail!("the input is empty: `trialog calc {name} --help` shows an example");
    }
    Ok(if n_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
