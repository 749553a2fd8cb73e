//! `trialog analyze --funnel`: how far the users of a file with one row per event get through
//! ordered steps.

mod follow;

use std::process::ExitCode;

use anyhow::{Context, bail};
use trialog_model::duration::Window;
use trialog_model::experiment::VariantWeight;
use trialog_model::funnel::FunnelDefinition;
use trialog_model::ids::{EventType, Variant};
use trialog_model::nearest::there_are;
use trialog_report::Funnel;

use self::follow::{Counted, Follower};
use super::gather::Group;
use super::read::{Cell, Column, Reading};
use super::{choices, id, output, report, sound, survey};
use crate::cli::{AnalyzeArgs, ReportFormat};
use crate::show;
use crate::table::{Options, Table, Wanted};

/// The variant of a file without arms.
const EVERYBODY: &str = "all";
/// Names of columns that are found by themselves.
const UNITS: [&str; 2] = ["user_id", "session_id"];
const EVENTS: [&str; 2] = ["event_type", "event"];
const TIMES: [&str; 2] = ["timestamp", "time"];
const VARIANT: &str = "variant";

/// The columns of events, by their places among those that are read.
const UNIT: usize = 0;
const EVENT: usize = 1;
const TIME: usize = 2;
const ARM: usize = 3;

pub(super) fn run(args: &AnalyzeArgs, steps: &str) -> anyhow::Result<ExitCode> {
    if matches!(args.format, ReportFormat::Html) {
        bail!("a funnel has no page: leave --format out, or give --format json");
    }
    let funnel = definition(args, steps)?;
    let option = "--input-format csv, tsv, ndjson, parquet or feather";
    let table = Table::open(
        &args.file,
        args.input_format,
        option,
        Options::from(&args.table),
    )?;
    let columns = columns(args, &table)?;
    let (wanted, readings) = survey(&table, &columns, args.table.decimal)?;
    let mut follower = Follower::new(&funnel)?;
    read(&table, &wanted, &readings, &columns, &mut follower)?;
    check_types(&funnel, &follower, &columns[EVENT].name)?;
    let counted = follower.finish();
    if counted.users.iter().sum::<u64>() == 0 {
        bail!("{} has no users to count", table.shown());
    }
    if counted.n_crossovers > 0 {
        eprintln!(
            "note: {} users with several variants were left out",
            counted.n_crossovers
        );
    }
    let funnel = build(args, &funnel, counted)?;
    output(
        args,
        &match args.format {
            ReportFormat::Json => serde_json::to_string_pretty(&funnel)? + "\n",
            _ => show::funnel(&funnel),
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn definition(args: &AnalyzeArgs, steps: &str) -> anyhow::Result<FunnelDefinition> {
    let step = |text: &str| EventType::new(text).with_context(|| format!("--funnel: `{text}`"));
    let steps: Vec<EventType> = steps.split(',').map(step).collect::<anyhow::Result<_>>()?;
    let duration = |option: &str, text: &str| {
        Window::parse(text).map_err(|error| anyhow::anyhow!("{option}: `{text}`: {error}"))
    };
    let window = match &args.window {
        Some(window) => duration("--window", window)?,
        None => Window::UNBOUNDED,
    };
    let limit = |text: &str| match text {
        "" => Ok(None),
        text => duration("--limits", text).map(Some),
    };
    let limits = args.limits.iter().flat_map(|limits| limits.split(','));
    let limits = limits.map(limit).collect::<anyhow::Result<_>>()?;
    let funnel = FunnelDefinition::new(steps, window, limits);
    (funnel.check())
        .map_err(|error| anyhow::anyhow!("the funnel's `{}` {}", error.field, error.reason))?;
    Ok(funnel)
}

/// Finds the columns of the unit, the event, its time, and the variant where there is one.
fn columns(args: &AnalyzeArgs, table: &Table) -> anyhow::Result<Vec<Column>> {
    let named = |given: &Option<String>, usual: &[&str], option: &str| match given {
        Some(name) => Ok(name.clone()),
        None => match usual.iter().find(|name| table.has(name)) {
            Some(name) => Ok((*name).to_owned()),
            None => bail!(
                "{} has no column {}: name it with {option}",
                table.shown(),
                usual.join(" or ")
            ),
        },
    };
    let mut names = vec![
        named(&args.unit, &UNITS, "--unit")?,
        named(&args.event, &EVENTS, "--event")?,
        named(&args.time, &TIMES, "--time")?,
    ];
    if args.variant != VARIANT || table.has(VARIANT) {
        names.push(args.variant.clone());
    }
    let names = names.into_iter();
    Ok(names
        .map(|name| Column {
            name,
            is_number: false,
        })
        .collect())
}

fn read(
    table: &Table,
    wanted: &[Wanted],
    readings: &[(usize, Reading)],
    columns: &[Column],
    follower: &mut Follower,
) -> anyhow::Result<()> {
    table.rows(wanted, &mut |number, row| {
        let row = sound(table, number, row)?;
        let cells: Vec<Cell<'_>> = (readings.iter())
            .map(|(place, reading)| Cell::read_from(&row, *place, *reading))
            .collect();
        let text = |at: usize| match &cells[at] {
            Cell::Text(text) => Ok(text.as_ref()),
            Cell::Missing | Cell::Number(_) => {
                bail!("row {number}: column `{}` is empty", columns[at].name)
            }
        };
        let time = follow::time(text(TIME)?).map_err(|error| {
            anyhow::anyhow!(
                "row {number}: the time `{}` in column `{}` {error}",
                cells[TIME],
                columns[TIME].name
            )
        })?;
        let variant = match cells.len() > ARM {
            true => text(ARM)?,
            false => EVERYBODY,
        };
        let added = follower.add(text(UNIT)?, variant, text(EVENT)?, time);
        added.with_context(|| format!("row {number}"))
    })?;
    Ok(())
}

/// Rejects a step of which the file has no event, as where there is a slip in a name.
fn check_types(funnel: &FunnelDefinition, follower: &Follower, column: &str) -> anyhow::Result<()> {
    let types = follower.types();
    let is_unknown = |step: &&EventType| !types.iter().any(|name| name == step.as_str());
    match funnel.steps.iter().find(is_unknown) {
        Some(step) if !follower.has_more_types() => bail!(
            "no row has `{step}` in column `{column}`{}",
            there_are(step.as_str(), types, false)
        ),
        _ => Ok(()),
    }
}

fn build(
    args: &AnalyzeArgs,
    funnel: &FunnelDefinition,
    counted: Counted,
) -> anyhow::Result<Funnel> {
    let variants = match counted.variants.as_slice() {
        [only] if only == EVERYBODY => vec![VariantWeight {
            variant: Variant::new(EVERYBODY)?,
            weight: 1.0,
            value: None,
        }],
        several => report::variants(several, &args.weights, args.control.as_deref())?,
    };
    let choices = choices(args)?;
    let frame = report::Frame {
        id: id(&args.file)?,
        metrics: &[],
        choices: &choices,
    };
    let group = Group::from_users(counted.users);
    let definition = report::definition(&frame, &variants);
    let report = report::report(&frame, &variants, &counted.variants, &group)?;
    let reached = counted.variants.into_iter().zip(counted.reached).collect();
    Ok(Funnel::from_report(&definition, report, funnel, &reached))
}
