//! Defines the arguments of the command line.

mod analyze;
pub(crate) mod help;
mod keys;
mod maintenance;
pub(crate) mod refused;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use trialog_model::fraction;

use crate::config::Values;
use crate::import::times::Unit;
use crate::table::Separator;
use crate::table::decide::Ids;
use crate::table::decimal::Decimal;
use crate::table::encoding::Encoding;
pub(crate) use analyze::{AnalyzeArgs, Missing, PowerArgs, ReportFormat};
pub(crate) use keys::KeysCommand;
pub(crate) use maintenance::{
    BackupArgs, ExportArgs, ForgetArgs, RestoreArgs, RetentionCommand, VerifyArgs,
};

/// Records which variant of an A/B test each user saw and what they did next,
/// and decides whether a difference is real.
#[derive(Debug, Parser)]
#[command(
    name = "trialog",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// A TOML file with the settings that no flag or variable gives.
    #[arg(long, global = true, hide = true, env = "TRIALOG_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Values,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the HTTP interface and aggregate on schedule.
    Serve,
    /// Serve with simulated experiments whose truth is known, beside their results.
    ///
    /// The data are kept in the directory `trialog-demo`, or in that of --data-dir: a later
    /// demo shows the same ones again. Remove the directory to begin anew, as with another
    /// seed.
    Demo(DemoArgs),
    /// Import events from a CSV, NDJSON, Parquet or Feather file.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Aggregate once. Exits with 0 when published, 3 when some experiments
    /// could not be computed, 1 when the run failed.
    Aggregate(AggregateArgs),
    /// Show the results of an experiment.
    Results(ResultsArgs),
    /// Show how far users get through ordered steps.
    ///
    /// A user reaches a step if there are events of the types of all steps up to it, each not
    /// before the one before it. Events count within the window after the exposure.
    Funnel(FunnelArgs),
    /// Show the keys of contexts with their values.
    ///
    /// What users can be told apart by: `--by` and `--segment` take these keys.
    Context(ContextArgs),
    /// Show results by the day of exposure, or by the days since it.
    ///
    /// By `exposure_day`: the scorecard of each day whose windows have closed, and whether effects
    /// drift over the calendar. By `days_since_exposure`: what the same users do on each day, and
    /// whether effects fade or grow.
    Cohorts(CohortsArgs),
    /// Show what the publications of an experiment said over time.
    ///
    /// Each with the interval of one look and the one that holds at every look, and since when
    /// the difference has been stable. A changed definition begins a new line.
    Timeline(TimelineArgs),
    /// Register and manage experiments.
    #[command(subcommand)]
    Experiments(ExperimentsCommand),
    /// Record what was decided after a stopped experiment.
    ///
    /// With --ship every user gets this variant until the experiment is archived, without an
    /// exposure. Put the variant into the code, then archive the experiment. A later
    /// decision replaces this one.
    Decide(DecideArgs),
    /// Back the data up, beside a running server or without one.
    Backup(BackupArgs),
    /// Restore a backup into an empty data directory.
    Restore(RestoreArgs),
    /// Check that all data is as it was written and all results are right.
    /// Exits with 0 when all is well, 2 when damage was found, 1 when the check failed.
    Verify(VerifyArgs),
    /// Write events, each once, or results to a Parquet or CSV file.
    Export(ExportArgs),
    /// Remove every event of a user, and compute the results anew.
    Forget(ForgetArgs),
    /// Drop events that are older than the setting `keep_events_for`.
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Create, list and revoke API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show metric definitions; `experiments apply` makes them from files.
    #[command(subcommand)]
    Metrics(MetricsCommand),
    /// Show layers with their free buckets, or create one.
    #[command(subcommand)]
    Layers(LayersCommand),
    /// Show holdouts, create, start or stop one.
    #[command(subcommand)]
    Holdouts(HoldoutsCommand),
    /// Show the topics of the event log, or create them.
    #[cfg(feature = "kafka")]
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Say which variant a user gets, and why.
    Assign(AssignArgs),
    /// Print the integer under which a user id given as text is stored.
    UserId {
        /// The user id.
        text: String,
    },
    /// Check the settings, the data directory, the clock and the versions
    /// without changing anything. Exits with 0 when good, 2 when something
    /// has failed, and with --strict 1 when there are warnings.
    Check(CheckArgs),
    /// Show how far results reach and how the last runs went, or run now.
    Pipeline(PipelineArgs),
    /// Analyse a file with one row per user, without a server and without data.
    ///
    /// For example: trialog analyze users.csv --variant arm --control A --metric bought:conversion --metric spend:sum
    Analyze(Box<AnalyzeArgs>),
    /// Plan an experiment: users, minimum detectable effect, power and duration.
    ///
    /// Computes the one of sample size, effect and power that is left out, for example
    /// with: trialog power --rate 10% --mde 5% --daily-users 8000
    ///
    /// Fractions may be in percent: 10% is 0.1. An effect in percent is relative to the
    /// control, and the output says so.
    Power(PowerArgs),
    /// Compute a statistic from JSON: one object, or one object per line.
    Calc(CalcArgs),
    /// Print the OpenAPI document of the HTTP interface.
    Openapi,
    /// What the documentation is written from.
    #[command(subcommand, hide = true)]
    Config(ConfigCommand),
    /// Generate load and data for measurements; see bench/README.md.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Explain a command, or the settings with `trialog help settings`.
    Help {
        /// The command, and the one below it; `settings` for the settings.
        topic: Vec<String>,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// JSON for programs.
    Json,
}

/// The topics of `event_log`, whose names begin with its `topic_prefix`.
#[cfg(feature = "kafka")]
#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create the topics that do not exist: two of events and one of dead letters.
    Create {
        /// Partitions of each topic of events: as many consumers can share it.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        partitions: u16,
        /// Copies of each partition; no more than there are brokers.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
        replication: u16,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the topics and their partitions. Exits with 2 where one is missing.
    List {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `trialog calc --list` names the families, `trialog calc FAMILY --help` shows an
/// example of one.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct CalcArgs {
    /// What to compute.
    pub(crate) family: Option<String>,
    /// Where the input is, `-` for standard input.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Name every family, with a line about each.
    #[arg(long)]
    pub(crate) list: bool,
    /// Print help, of a family with an example.
    #[arg(short, long)]
    pub(crate) help: bool,
}

/// The data directory of `trialog demo`, unless another one is given.
pub(crate) const DEMO_DIRECTORY: &str = "trialog-demo";

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Seeds the simulation: the same seed gives the same numbers on any day.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// End after the results were printed instead of serving on.
    #[arg(long)]
    pub(crate) exit: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Import who was assigned to which variant.
    Assignments(AssignmentColumns),
    /// Import what users did.
    Metrics(MetricColumns),
}

/// How a file with a table is read.
#[derive(Debug, Clone, Args)]
pub(crate) struct TableArgs {
    /// The character between cells, such as `;`, or `tab` [default: recognised from the
    /// header].
    #[arg(long, value_name = "CHARACTER")]
    pub(crate) separator: Option<Separator>,
    /// The encoding of a text file [default: utf-8, or that of a byte order mark].
    #[arg(long)]
    pub(crate) encoding: Option<Encoding>,
    /// How numbers are written: 12,50 or 12.50 [default: recognised from the column].
    #[arg(long)]
    pub(crate) decimal: Option<Decimal>,
    /// Refuse a file that may have been cut short: a CSV without a line break at its end.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// What both kinds of import take.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The file: .csv, .tsv, .ndjson or .jsonl (each also .gz or .zst), .parquet or
    /// .feather; `-` is standard input.
    pub(crate) file: PathBuf,
    /// The format, if the file's name does not show it.
    #[arg(long)]
    pub(crate) format: Option<FileFormat>,
    #[command(flatten)]
    pub(crate) table: TableArgs,
    /// The column of the user [default: `user_id`].
    #[arg(long)]
    pub(crate) user_column: Option<String>,
    /// The experiment of every row.
    #[arg(long, conflicts_with = "experiment_column")]
    pub(crate) experiment: Option<String>,
    /// The column of the experiment [default: `experiment_id`].
    #[arg(long)]
    pub(crate) experiment_column: Option<String>,
    /// The column of the time [default: `assigned_at` or timestamp].
    #[arg(long, conflicts_with = "time")]
    pub(crate) time_column: Option<String>,
    /// The time of every row, RFC 3339, for files without times.
    #[arg(long)]
    pub(crate) time: Option<String>,
    /// The zone of times that name none: Z, an offset such as +01:00, or a name such as
    /// Europe/Berlin.
    #[arg(long)]
    pub(crate) time_zone: Option<String>,
    /// What numbers count that are times, since 1970-01-01T00:00:00Z.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) time_unit: Unit,
    /// The column of the event id [default: `event_id`, where there is one].
    #[arg(long)]
    pub(crate) id_column: Option<String>,
    /// How ids are read: as numbers, so that 1.0 and 1e0 are 1, or as texts [default:
    /// as numbers where every id of the column is one].
    #[arg(long)]
    pub(crate) ids: Option<Ids>,
    /// How the CSV was exported that is imported again, as the option of that name of
    /// `trialog export` said.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) formulas: Formulas,
    /// How to print the summary.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) summary: Format,
}

/// Texts in CSV that a spreadsheet would compute, such as `=1+1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Formulas {
    /// They have an apostrophe in front.
    #[default]
    Escaped,
    /// They are as they were sent.
    Kept,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AssignmentColumns {
    #[command(flatten)]
    pub(crate) common: ImportArgs,
    /// The column of the variant [default: variant].
    #[arg(long)]
    pub(crate) variant_column: Option<String>,
    /// A column that becomes a key of the context; repeat it for more
    /// [default: the column `context`, a JSON object, where there is one].
    #[arg(long)]
    pub(crate) context_column: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MetricColumns {
    #[command(flatten)]
    pub(crate) common: ImportArgs,
    /// The event type of every row.
    #[arg(long, conflicts_with = "event_column")]
    pub(crate) event: Option<String>,
    /// The column of the event type [default: `event_type`].
    #[arg(long)]
    pub(crate) event_column: Option<String>,
    /// The column of the value [default: value, where there is one; else 1].
    #[arg(long)]
    pub(crate) value_column: Option<String>,
    /// A value of 0, FALSE or nothing is no event, TRUE is 1: for files with
    /// one row per user and a column per event type.
    #[arg(long)]
    pub(crate) skip_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// Told from the header: commas, semicolons, tabs or `|` between cells.
    Csv,
    /// Tabs between cells.
    Tsv,
    Ndjson,
    Parquet,
    /// Feather of version 2: an Arrow IPC file.
    Feather,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Exit with 1 when there are warnings.
    #[arg(long)]
    pub(crate) strict: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    #[command(subcommand)]
    pub(crate) action: Option<PipelineAction>,
    /// How to print.
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PipelineAction {
    /// Show how far results reach and how the last runs went.
    Status,
    /// Run now and wait until the results are published.
    Run {
        /// Recompute every experiment, not only those with new events.
        #[arg(long)]
        full: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print docs/configuration.md.
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct AggregateArgs {
    /// Recompute every experiment, not only those with new events.
    #[arg(long)]
    pub(crate) full: bool,
    /// Tries in a row before giving up.
    #[arg(long, default_value_t = 5)]
    pub(crate) attempts: u32,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    /// Only users exposed at or after this time, RFC 3339.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Only users exposed before this time, RFC 3339.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Only users whose context has this value, as key=value; repeat it for more.
    #[arg(long)]
    pub(crate) segment: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The variant to compare with.
    #[arg(long)]
    pub(crate) control: Option<String>,
    /// The level of tests and intervals: 0.05 or 5%.
    #[arg(long, value_name = "FRACTION", value_parser = fraction::parse)]
    pub(crate) alpha: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// The experiment.
    pub(crate) experiment: String,
    /// Only this metric: an event type, or `type:kind`.
    #[arg(long)]
    pub(crate) metric: Option<String>,
    /// Only this kind: conversion, count or sum.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    #[command(flatten)]
    pub(crate) users: UserArgs,
    /// A scorecard for each value of this key of the context; two with a comma are crossed.
    ///
    /// The 50 values with the most users have one, and users of all others share one.
    /// Segments are not corrected for one another.
    #[arg(long, value_name = "KEY", conflicts_with = "as_of")]
    pub(crate) by: Option<String>,
    #[command(flatten)]
    pub(crate) test: TestArgs,
    /// How p-values are adjusted: none, bonferroni, holm or bh.
    #[arg(long)]
    pub(crate) correction: Option<String>,
    /// The results as published at this time, RFC 3339.
    #[arg(long)]
    pub(crate) as_of: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    /// The experiment.
    pub(crate) experiment: String,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct FunnelArgs {
    /// The experiment.
    pub(crate) experiment: String,
    /// The types of events of the steps, in order, with commas between them.
    #[arg(long, value_name = "TYPE,...", required_unless_present = "name")]
    pub(crate) steps: Option<String>,
    /// A funnel that is saved with the experiment, instead of --steps.
    #[arg(long, conflicts_with_all = ["steps", "window", "limits"])]
    pub(crate) name: Option<String>,
    /// How long after the exposure events count, such as 12h; none for as long as the experiment
    /// goes.
    ///
    /// 7d unless given.
    #[arg(long)]
    pub(crate) window: Option<String>,
    /// For each step how long after the step before it may come, such as ,1h,10m.
    ///
    /// The first one is counted from the exposure. Empty for no limit.
    #[arg(long, value_name = "DURATION,...", allow_hyphen_values = true)]
    pub(crate) limits: Option<String>,
    /// Add how long users take to each step, and compare who reached the last one by preset
    /// times.
    #[arg(long)]
    pub(crate) times: bool,
    #[command(flatten)]
    pub(crate) users: UserArgs,
    #[command(flatten)]
    pub(crate) test: TestArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CohortsArgs {
    /// The experiment.
    pub(crate) experiment: String,
    /// What users are told apart by: `exposure_day` or `days_since_exposure`.
    #[arg(long, value_name = "DAYS")]
    pub(crate) by: String,
    /// By `days_since_exposure`, the number of days, 1 to 14; 7 unless given.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) days: Option<String>,
    /// Only this metric: its name, or `name:kind`.
    #[arg(long)]
    pub(crate) metric: Option<String>,
    #[command(flatten)]
    pub(crate) users: UserArgs,
    #[command(flatten)]
    pub(crate) test: TestArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    /// The experiment.
    pub(crate) experiment: String,
    /// Only this metric: its name, or `name:kind`; all primary metrics unless given.
    #[arg(long)]
    pub(crate) metric: Option<String>,
    /// Which past days are computed from the events: missing, all or none.
    ///
    /// Missing ones, unless given: those of a metric that earlier publications lack.
    #[arg(long, value_name = "WHICH")]
    pub(crate) backfill: Option<String>,
    #[command(flatten)]
    pub(crate) test: TestArgs,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentsCommand {
    /// Register what JSON files declare; change what is registered and differs.
    ///
    /// A file has an experiment, an array of them, or
    /// `{"metrics": [...], "experiments": [...]}` with metric definitions.
    /// All of it is checked before any of it is applied.
    Apply {
        /// Files, directories (all .json files in them), or - for standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        /// Change what results are tested with after the start, too: alpha, plan, window,
        /// control, start, definitions of primary metrics. The sequence of looks starts anew,
        /// and there is no verdict until `experiments confirm`.
        #[arg(long)]
        confirm: bool,
    },
    /// Show what apply would change. Exits with 0 when nothing differs, 1
    /// when something does, 2 when they cannot be compared.
    Diff {
        /// Files, directories (all .json files in them), or - for standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List experiments.
    List(ListArgs),
    /// Show one experiment as JSON.
    Show {
        /// The experiment.
        experiment: String,
    },
    /// Start a draft.
    Start {
        /// The experiment.
        experiment: String,
    },
    /// Stop a running experiment: everybody sees the control until it is decided.
    Stop {
        /// The experiment.
        experiment: String,
    },
    /// Resume a stopped experiment that is not decided, and is what it was.
    Resume {
        /// The experiment.
        experiment: String,
    },
    /// Put away a draft or a stopped experiment, for good; it ships nothing any more.
    Archive {
        /// The experiment.
        experiment: String,
    },
    /// Confirm what was changed after the start, so that results have a verdict again.
    Confirm {
        /// The experiment.
        experiment: String,
    },
    /// Delete a draft or an unregistered experiment with its results.
    ///
    /// Its events stay: if more of them come in, it is unregistered again.
    Delete {
        /// The experiment.
        experiment: String,
    },
}

/// What was decided.
#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The experiment.
    pub(crate) experiment: String,
    /// The variant that everybody gets.
    #[arg(long, value_name = "VARIANT", required_unless_present = "none")]
    pub(crate) ship: Option<String>,
    /// Nothing is shipped: everybody sees the control.
    #[arg(long, conflicts_with = "ship")]
    pub(crate) none: bool,
    /// The reason, for readers in a year.
    #[arg(long)]
    pub(crate) reason: String,
}

/// Which experiments to list.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only of this status; repeat it for more [default: all but archived].
    #[arg(long)]
    pub(crate) status: Vec<String>,
    /// Only of this owner.
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Only with this text in their id, owner or hypothesis, last change first.
    #[arg(long)]
    pub(crate) search: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MetricsCommand {
    /// List metric definitions.
    List {
        /// Only with this text in their name, event type, owner or description.
        #[arg(long)]
        search: Option<String>,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show one metric definition as JSON.
    Show {
        /// The metric.
        metric: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LayersCommand {
    /// List layers.
    List {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show one layer as JSON: who owns which buckets, and what is free.
    Show {
        /// The layer.
        layer: String,
    },
    /// Create a layer.
    Create {
        /// Its name.
        layer: String,
        /// What it is for people.
        #[arg(long)]
        description: Option<String>,
        /// Who answers for it.
        #[arg(long)]
        owner: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldoutsCommand {
    /// List holdouts.
    List {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show one holdout as JSON.
    Show {
        /// The holdout.
        holdout: String,
    },
    /// Create a draft of a holdout.
    Create {
        /// Its name.
        holdout: String,
        /// The share of users that are held out, such as 0.05 or 5%.
        #[arg(long, value_name = "FRACTION", value_parser = fraction::parse)]
        size: f64,
        /// Experiments in its scope; every one without it.
        #[arg(long = "experiment")]
        experiments: Vec<String>,
        /// Metrics by which it is measured, such as purchase:sum.
        #[arg(long = "metric")]
        metrics: Vec<String>,
    },
    /// Start a draft: its users are held out from now on.
    Start {
        /// The holdout.
        holdout: String,
    },
    /// Stop a holdout, for good.
    Stop {
        /// The holdout.
        holdout: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AssignArgs {
    /// The user id, as the application gives it.
    pub(crate) user: String,
    /// The experiment; without it, every one that runs.
    pub(crate) experiment: Option<String>,
    /// What is known about the user: KEY=VALUE, where VALUE is JSON, or text.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) context: Vec<String>,
    /// Show the steps of the decision.
    #[arg(long)]
    pub(crate) why: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Write the events of a simulated population as Parquet.
    Generate(GenerateArgs),
    /// Send metric events to a server as fast as it accepts them.
    Load(LoadArgs),
    /// Produce events to the event log as fast as it accepts them.
    #[cfg(feature = "kafka")]
    Produce(ProduceArgs),
    /// Write the request bodies that `load` sends to a file, one per line.
    Bodies(BodiesArgs),
    /// Time lists, searches, reads and results of a registry filled with experiments.
    Registry(RegistryArgs),
    /// Time comparisons: test, interval, effect size and always-valid inference.
    Statistics,
    /// Flush the data directory's inbox and merge its runs until none is due.
    Settle,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The directory to write to.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Seeds the simulation.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many experiments.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) experiments: u32,
    /// How many assignments.
    #[arg(long, default_value_t = 3_000_000)]
    pub(crate) assignments: u64,
    /// How many metric events.
    #[arg(long, default_value_t = 42_000_000)]
    pub(crate) metrics: u64,
}

#[cfg(feature = "kafka")]
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// How many metric events; a twentieth as many assignments go before them.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) events: u64,
    /// The share of events of one experiment; the others are spread over `--experiments`.
    #[arg(long, value_name = "FRACTION", default_value = "0.9", value_parser = fraction::parse)]
    pub(crate) hot: f64,
    /// How many other experiments.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) experiments: u32,
    /// At most this many events a second.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// Seeds the choice of users and experiments.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct BodiesArgs {
    /// The file to write to.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// How many bodies.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) bodies: usize,
    /// Clients whose bodies stand in turn.
    #[arg(long, default_value = "8")]
    pub(crate) clients: NonZeroUsize,
    /// Events per body.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) batch: usize,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// How many experiments the registry has; what is missing is added.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) experiments: u32,
    /// How many requests of each sort.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) requests: u32,
    /// Publish runs of 1,000 experiments meanwhile.
    #[arg(long)]
    pub(crate) publish: bool,
    /// Seeds what is asked for.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// How long, in seconds.
    #[arg(long, default_value_t = 30)]
    pub(crate) seconds: u64,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    pub(crate) clients: usize,
    /// Events per request.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) batch: usize,
    /// Events per second to aim at; as fast as possible if absent.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        help::command().debug_assert();
    }
}
