//! Runs `trialog analyze`: the report of a file with one row per user, without a server.

mod funnel;
mod gather;
pub(crate) mod question;
mod ranked;
mod read;
mod report;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;
use trialog_model::experiment::MIN_ALPHA;
use trialog_model::ids::ExperimentId;
use trialog_model::metric::{MetricKind, MetricRole};
use trialog_model::metric_definition::Direction;
use trialog_model::nearest::there_are;
use trialog_report::{Choices, Report};
use trialog_stats::Alpha;

use self::gather::{Gathering, Places};
use self::question::{Asked, Metric, Winsorise};
use self::read::{Cell, Column, Reading};
use crate::cli::{AnalyzeArgs, ReportFormat};
use crate::show;
use crate::table::decide::{Facts, Look, Meaning, look};
use crate::table::decimal::Decimal;
use crate::table::{As, Options, Row, Table, Wanted};

pub(crate) fn run(args: &AnalyzeArgs) -> anyhow::Result<ExitCode> {
    if let Some(steps) = &args.funnel {
        return funnel::run(args, steps);
    }
    let mut columns = Columns::default();
    let metrics = metrics(args, &mut columns)?;
    let choices = choices(args)?;
    let variant = columns.place(&args.variant, false);
    let unit = args.unit.as_ref().map(|unit| columns.place(unit, false));
    let segments = (args.segment.iter())
        .map(|segment| columns.place(segment, false))
        .collect();
    let places = Places {
        variant,
        unit,
        segments,
        names: columns.0.iter().map(|column| column.name.clone()).collect(),
    };
    let option = "--input-format csv, tsv, ndjson, parquet or feather";
    let options = Options::from(&args.table);
    let table = Table::open(&args.file, args.input_format, option, options)?;
    let (wanted, readings) = survey(&table, &columns.0, args.table.decimal)?;
    let mut gathering = Gathering::new(&metrics, &places, args.missing);
    loop {
        gather(&table, &wanted, &readings, &mut gathering)?;
        if !gathering.end_pass() {
            break;
        }
    }
    if gathering.n_dropped > 0 {
        eprintln!(
            "note: {} rows without a value were left out",
            gathering.n_dropped
        );
    }
    let is_checked_in_part = gathering.is_checked_in_part;
    let (found, groups) = gathering.into_groups();
    if found.is_empty() {
        bail!("{} has no rows", table.shown());
    }
    let variants = report::variants(&found, &args.weights, args.control.as_deref())?;
    let frame = report::Frame {
        id: id(&args.file)?,
        metrics: &metrics,
        choices: &choices,
    };
    let reports: Vec<Report> = (groups.iter())
        .map(|group| report::report(&frame, &variants, &found, group))
        .collect::<anyhow::Result<_>>()?;
    if args.weights.is_empty() {
        eprintln!(
            "note: the sample ratio is checked against equal weights; --weights names others"
        );
    }
    if is_checked_in_part {
        eprintln!("note: only the first 14,680,064 units were checked for standing in two rows");
    }
    write(args, &reports)?;
    Ok(ExitCode::SUCCESS)
}

/// The columns to read, and for each one its position among them and how it is read.
type Readings = (Vec<Wanted>, Vec<(usize, Reading)>);

/// Reads the table to its end, and decides how its cells are read.
fn survey(table: &Table, columns: &[Column], decimal: Option<Decimal>) -> anyhow::Result<Readings> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut looks: Vec<Look> = Vec::new();
    let mut places = Vec::new();
    for column in columns {
        table.check(&column.name, "")?;
        let found = wanted.iter().position(|known| known.name == column.name);
        let place = found.unwrap_or_else(|| {
            wanted.push(Wanted {
                name: column.name.clone(),
                read_as: As::Number,
            });
            looks.push(Look::default());
            wanted.len() - 1
        });
        // A name is read from the field, also where it is a double.
        if !column.is_number {
            wanted[place].read_as = As::Field;
        }
        looks[place].types |= !column.is_number;
        looks[place].decimals |= column.is_number;
        places.push(place);
    }
    let mut facts = vec![Facts::new(); wanted.len()];
    let end = table.rows(&wanted, &mut |number, row| {
        look(&looks, &mut facts, &sound(table, number, row)?);
        Ok(())
    })?;
    for warning in end.warnings {
        eprintln!("warning: {warning}; --strict refuses such a file");
    }
    let reading = |(column, place): (&Column, usize)| {
        let facts = &facts[place];
        let told = match (decimal, column.is_number) {
            (Some(decimal), _) => Ok(decimal),
            (None, false) => Ok(Decimal::Point),
            (None, true) => facts.decimals.decimal(table.has_semicolons()),
        };
        let decimal = told.map_err(|unclear| {
            anyhow::anyhow!(
                "`{unclear}` in column `{}` can be read in two ways: say with --decimal comma or --decimal point how its numbers are written",
                column.name
            )
        })?;
        let meaning = match column.is_number {
            true => Meaning::Text,
            false => facts.names(),
        };
        let reading = Reading {
            is_number: column.is_number,
            meaning,
            decimal,
        };
        Ok((place, reading))
    };
    let readings = columns.iter().zip(places).map(reading);
    let readings = readings.collect::<anyhow::Result<_>>()?;
    Ok((wanted, readings))
}

/// One pass over the rows.
fn gather(
    table: &Table,
    wanted: &[Wanted],
    readings: &[(usize, Reading)],
    gathering: &mut Gathering<'_>,
) -> anyhow::Result<()> {
    table.rows(wanted, &mut |number, row| {
        let row = sound(table, number, row)?;
        let cells: Vec<Cell<'_>> = (readings.iter())
            .map(|(place, reading)| Cell::read_from(&row, *place, *reading))
            .collect();
        gathering.row(number, &cells)
    })?;
    Ok(())
}

/// A row that can be read; here any other one ends the command.
fn sound<'r>(table: &Table, number: u64, row: Result<Row<'r>, String>) -> anyhow::Result<Row<'r>> {
    row.map_err(|reason| anyhow::anyhow!("row {number} of {} {reason}", table.shown()))
}

/// The columns that are read, each once for each way to read it.
#[derive(Default)]
struct Columns(Vec<Column>);

impl Columns {
    fn place(&mut self, name: &str, is_number: bool) -> usize {
        let column = Column {
            name: name.to_owned(),
            is_number,
        };
        let found = self.0.iter().position(|known| *known == column);
        found.unwrap_or_else(|| {
            self.0.push(column);
            self.0.len() - 1
        })
    }
}

fn metrics(args: &AnalyzeArgs, columns: &mut Columns) -> anyhow::Result<Vec<Metric>> {
    let with = |role| move |asked| (asked, role);
    let asked: Vec<(&Asked, MetricRole)> = (args.metric.iter().map(with(MetricRole::Primary)))
        .chain(args.secondary.iter().map(with(MetricRole::Secondary)))
        .chain(args.guardrail.iter().map(with(MetricRole::Guardrail)))
        .collect();
    if asked.is_empty() {
        bail!("name a metric: --metric bought:conversion, or --metric revenue:sum:spend");
    }
    let mut metrics: Vec<Metric> = Vec::new();
    for (asked, role) in asked {
        let metric = metric(args, asked, role, columns)?;
        if metrics
            .iter()
            .any(|earlier| earlier.name == metric.name && earlier.kind == metric.kind)
        {
            bail!(
                "the metric `{}:{}` is named twice",
                metric.name,
                metric.kind
            );
        }
        metrics.push(metric);
    }
    let is_known = |name: &String| metrics.iter().any(|metric| metric.name == *name);
    let covariates = args
        .covariate
        .iter()
        .filter_map(|covariate| covariate.metric.as_ref());
    let directed = args.decrease.iter().chain(&args.increase);
    if let Some(name) = directed.chain(covariates).find(|name| !is_known(name)) {
        let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        bail!(
            "there is no metric `{name}` among those that are named{}",
            there_are(name, &names, false)
        );
    }
    if let Some(name) = (args.decrease.iter()).find(|name| args.increase.contains(name)) {
        bail!("`{name}` is named by --increase and by --decrease: leave one of them out");
    }
    Ok(metrics)
}

fn metric(
    args: &AnalyzeArgs,
    asked: &Asked,
    role: MetricRole,
    columns: &mut Columns,
) -> anyhow::Result<Metric> {
    let name = asked.name.to_string();
    if asked.kind == MetricKind::Retention {
        bail!("`{name}:retention`: a row says who came back, so ask for {name}:conversion");
    }
    let is_amount = matches!(asked.kind, MetricKind::Count | MetricKind::Sum);
    let covariate = (args.covariate.iter()).find(|covariate| match &covariate.metric {
        Some(metric) => *metric == name,
        None => is_amount,
    });
    if covariate.is_some() && matches!(asked.kind, MetricKind::Ratio | MetricKind::Quantile) {
        bail!(
            "a covariate does not go with `{name}:{}`: only with conversion, count and sum",
            asked.kind
        );
    }
    if covariate.is_some() && is_amount && args.winsorise.is_some() {
        bail!("--covariate does not go with --winsorise: choose one for `{name}`");
    }
    if args
        .margin
        .is_some_and(|margin| !(margin > 0.0 && margin < 1.0))
    {
        bail!("--margin is a fraction of the control's value between 0 and 1, such as 0.02");
    }
    let second = (asked.denominator.as_ref()).or(covariate.map(|covariate| &covariate.column));
    let shown = match (&asked.denominator, covariate) {
        (Some(denominator), _) => format!("{}/{denominator}", asked.column),
        (None, Some(covariate)) => format!("{} by {}", asked.column, covariate.column),
        (None, None) => asked.column.clone(),
    };
    Ok(Metric {
        kind: asked.kind,
        role,
        direction: {
            let is_named = |names: &[String]| names.contains(&name);
            let declared = is_named(&args.decrease)
                .then_some(Direction::Decrease)
                .or_else(|| is_named(&args.increase).then_some(Direction::Increase));
            trialog_report::direction(role, declared)
        },
        margin: args.margin,
        columns: shown,
        value: columns.place(&asked.column, true),
        second: second.map(|column| columns.place(column, true)),
        level: asked.level,
        winsorise: (args.winsorise.filter(|_| is_amount)).map(|winsorise| Winsorise {
            nonzero: args.winsorise_nonzero,
            ..winsorise
        }),
        name,
    })
}

fn choices(args: &AnalyzeArgs) -> anyhow::Result<Choices> {
    let alpha = Some(args.alpha).filter(|alpha| *alpha >= MIN_ALPHA);
    let alpha = alpha.and_then(|alpha| Alpha::new(alpha).ok());
    Ok(Choices {
        alpha: Some(alpha.context("--alpha is a level from 1e-12 to below 1, such as 0.05")?),
        correction: trialog_report::correction(&args.correction)
            .context("--correction is one of none, bonferroni, holm and bh")?,
        ..Choices::default()
    })
}

/// The file's name without its extensions.
fn id(file: &Path) -> anyhow::Result<ExperimentId> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("file");
    let stem = match name {
        "-" => "standard input",
        name => (name.split('.').find(|part| !part.is_empty())).unwrap_or("file"),
    };
    let short: String = stem.chars().take(ExperimentId::MAX_CHARS).collect();
    ExperimentId::new(short).context("the file's name")
}

fn write(args: &AnalyzeArgs, reports: &[Report]) -> anyhow::Result<()> {
    let text = match args.format {
        ReportFormat::Table => reports
            .iter()
            .map(show::analysis)
            .collect::<Vec<_>>()
            .join("\n"),
        ReportFormat::Html => trialog_server::report_page(reports)?,
        ReportFormat::Json => {
            let value = match reports {
                [report] => json!(report),
                all => json!(all),
            };
            serde_json::to_string_pretty(&value)? + "\n"
        }
    };
    output(args, &text)
}

/// Writes `text` where the arguments say.
fn output(args: &AnalyzeArgs, text: &str) -> anyhow::Result<()> {
    match &args.output {
        None if matches!(args.format, ReportFormat::Html) => crate::terminal::document(text),
        None => print!("{text}"),
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write `{}`", path.display()))?,
    }
    Ok(())
}
