//! Writes a simulated population as Parquet, in the order in which its events arrive.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use trialog_model::time::UnixMicros;
use trialog_simulator::population::{
    Assignment, EVENT_TYPES, Metric, Population, Spec, Spread, VARIANTS,
};

use crate::cli::GenerateArgs;
use crate::table::progress;

/// The time at which the first users are assigned: fixed, so that a seed gives the same files.
const START: &str = "2026-01-05T00:00:00Z";
/// The share of new events in a refresh.
const REFRESH: f64 = 0.01;

pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create `{}`", args.out.display()))?;
    let population = Population::new(Spec {
        seed: args.seed,
        n_experiments: args.experiments,
        n_assignments: args.assignments,
        n_metrics: args.metrics,
        start: UnixMicros::parse_rfc3339(START)?.0,
        days: 28,
    });
    let bar = progress(u64::from(population.n_slices()), false);
    let mut assignments = Output::new(&args.out.join("assignments.parquet"));
    let mut metrics = Output::new(&args.out.join("metrics.parquet"));
    for slice in 0..population.n_slices() {
        assignments.write(&assignment_columns(&population.assignments(slice))?)?;
        metrics.write(&metric_columns(&population.metrics(slice))?)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let n_rows = (assignments.close()?, metrics.close()?);
    for (name, spread) in [
        ("refresh_ten", Spread::TenExperiments),
        ("refresh_all", Spread::All),
    ] {
        let mut output = Output::new(&args.out.join(format!("{name}.parquet")));
        output.write(&metric_columns(&population.refresh(REFRESH, spread))?)?;
        output.close()?;
    }
    println!(
        "{} assignments and {} metric events in `{}`",
        n_rows.0,
        n_rows.1,
        args.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// A Parquet file that is created with its first rows.
struct Output<'p> {
    path: std::borrow::Cow<'p, Path>,
    writer: Option<ArrowWriter<File>>,
    n_rows: u64,
}

impl Output<'_> {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned().into(),
            writer: None,
            n_rows: 0,
        }
    }

    fn write(&mut self, columns: &RecordBatch) -> anyhow::Result<()> {
        self.n_rows += columns.num_rows() as u64;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let file = File::create(&self.path)
                    .with_context(|| format!("cannot create `{}`", self.path.display()))?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::LZ4_RAW)
                    .build();
                none.insert(ArrowWriter::try_new(
                    file,
                    columns.schema(),
                    Some(properties),
                )?)
            }
        };
        Ok(writer.write(columns)?)
    }

    fn close(self) -> anyhow::Result<u64> {
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        Ok(self.n_rows)
    }
}

fn assignment_columns(events: &[Assignment]) -> anyhow::Result<RecordBatch> {
    let contexts: StringArray = events
        .iter()
        .map(|event| Some(Population::context(event)))
        .collect();
    let forced: BooleanArray = events.iter().map(|event| Some(event.forced)).collect();
    Ok(RecordBatch::try_from_iter([
        ("user_id", users(events.iter().map(|event| event.user))),
        (
            "experiment_id",
            experiments(events.iter().map(|event| event.experiment)),
        ),
        (
            "variant",
            names(events.iter().map(|event| VARIANTS[event.variant as usize])),
        ),
        ("assigned_at", times(events.iter().map(|event| event.at))),
        ("forced", Arc::new(forced) as ArrayRef),
        ("context", Arc::new(contexts) as ArrayRef),
        ("event_id", ids(events.iter().map(|event| event.event_id))),
    ])?)
}

fn metric_columns(events: &[Metric]) -> anyhow::Result<RecordBatch> {
    let values = Decimal128Array::from_iter_values(events.iter().map(|event| event.value.into()));
    Ok(RecordBatch::try_from_iter([
        ("user_id", users(events.iter().map(|event| event.user))),
        (
            "experiment_id",
            experiments(events.iter().map(|event| event.experiment)),
        ),
        (
            "event_type",
            names(
                events
                    .iter()
                    .map(|event| EVENT_TYPES[event.event_type as usize]),
            ),
        ),
        (
            "value",
            Arc::new(values.with_precision_and_scale(18, 4)?) as ArrayRef,
        ),
        ("timestamp", times(events.iter().map(|event| event.at))),
        ("event_id", ids(events.iter().map(|event| event.event_id))),
    ])?)
}

fn users(users: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(users))
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn ids(ids: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(
        ids.map(|id| format!("{id:016x}")),
    ))
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> ArrayRef {
    let mut column = StringDictionaryBuilder::<Int32Type>::new();
    names.for_each(|name| column.append_value(name));
    Arc::new(column.finish())
}

fn experiments(experiments: impl Iterator<Item = u32>) -> ArrayRef {
    let mut column = StringDictionaryBuilder::<Int32Type>::new();
    experiments.for_each(|experiment| column.append_value(Population::experiment_id(experiment)));
    Arc::new(column.finish())
}
