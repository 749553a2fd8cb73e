//! Defines the arguments of `trialog analyze` and `trialog power`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use trialog_model::fraction::{self, Change};

use super::{FileFormat, Format, TableArgs};
use crate::commands::analyze::question::{Asked, Covariate, Weight, Winsorise};

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    /// The file: .csv, .tsv, .ndjson or .jsonl (each also .gz or .zst), .parquet or
    /// .feather, one row per user; `-` is standard input.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) table: TableArgs,
    /// The column of the variant.
    #[arg(long, value_name = "COLUMN", default_value = "variant")]
    pub(crate) variant: String,
    /// The column of the user; then no user may stand in two rows, but with --funnel
    /// [default there: `user_id` or `session_id`].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) unit: Option<String>,
    /// The variant that the others are compared with [default: `control`].
    #[arg(long)]
    pub(crate) control: Option<String>,
    /// A metric that decides: NAME:KIND or NAME:KIND:COLUMN; repeat it for more.
    /// Kinds: conversion, count, sum, ratio (COLUMN/COLUMN), quantile (COLUMN@0.95).
    #[arg(long, value_name = "NAME:KIND[:COLUMN]")]
    pub(crate) metric: Vec<Asked>,
    /// A metric that explains: p-values are adjusted apart from those that decide.
    #[arg(long, value_name = "NAME:KIND[:COLUMN]")]
    pub(crate) secondary: Vec<Asked>,
    /// A metric that must not get worse: tested on its own.
    #[arg(long, value_name = "NAME:KIND[:COLUMN]")]
    pub(crate) guardrail: Vec<Asked>,
    /// How far users get through these types of events, in order: TYPE,TYPE,…; the file then
    /// has one row per event, and needs no variant.
    #[arg(long, value_name = "TYPE,…", conflicts_with_all = ["metric", "secondary", "guardrail", "margin", "decrease", "increase", "covariate", "winsorise", "segment"])]
    pub(crate) funnel: Option<String>,
    /// How long after the first event of a user the steps of the funnel may come, such as 7d.
    #[arg(long, value_name = "DURATION", requires = "funnel")]
    pub(crate) window: Option<String>,
    /// For each step how long after the step before it may come, such as ,1h,10m.
    #[arg(
        long,
        value_name = "DURATION,…",
        requires = "funnel",
        allow_hyphen_values = true
    )]
    pub(crate) limits: Option<String>,
    /// The column of the type of event [default: `event_type` or `event`].
    #[arg(long, value_name = "COLUMN", requires = "funnel")]
    pub(crate) event: Option<String>,
    /// The column of the time [default: `timestamp` or `time`].
    #[arg(long, value_name = "COLUMN", requires = "funnel")]
    pub(crate) time: Option<String>,
    /// How much worse a guardrail may be, relative to the control's value: 0.02 or 2%.
    #[arg(long, value_name = "FRACTION", value_parser = fraction::parse)]
    pub(crate) margin: Option<f64>,
    /// The name of a metric of which less is better; repeat it for more.
    #[arg(long, value_name = "NAME")]
    pub(crate) decrease: Vec<String>,
    /// The name of a metric of which more is better, as of every one that --decrease does
    /// not name; a guardrail has a verdict where one of the two names it.
    #[arg(long, value_name = "NAME")]
    pub(crate) increase: Vec<String>,
    /// What becomes of a row in which the value of a metric is missing.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) missing: Missing,
    /// A column from before the exposure by which sums and counts are adjusted
    /// (CUPED), or NAME=COLUMN for one metric; repeat it for more.
    #[arg(long, value_name = "[NAME=]COLUMN")]
    pub(crate) covariate: Vec<Covariate>,
    /// Sets sums and counts beyond this quantile, such as 0.99 or 99%, to it, or beyond LOWER,UPPER.
    #[arg(long, value_name = "[LOWER,]UPPER")]
    pub(crate) winsorise: Option<Winsorise>,
    /// Takes the quantiles of --winsorise over the rows that are not 0; rows of 0 stay 0.
    #[arg(long, requires = "winsorise")]
    pub(crate) winsorise_nonzero: bool,
    /// A column for each value of which a report is made, too; repeat it for more.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) segment: Vec<String>,
    /// The planned weights for the sample ratio check, VARIANT=WEIGHT,…, such as a=1,b=2 or
    /// a=33%,b=67% [default: all alike].
    #[arg(long, value_delimiter = ',', value_name = "VARIANT=WEIGHT,…")]
    pub(crate) weights: Vec<Weight>,
    /// The two-sided level of tests and intervals: 0.05 or 5%.
    #[arg(long, value_name = "FRACTION", default_value = "0.05", value_parser = fraction::parse)]
    pub(crate) alpha: f64,
    /// How p-values are adjusted: none, bonferroni, holm or bh.
    #[arg(long, default_value = "holm")]
    pub(crate) correction: String,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ReportFormat,
    /// Write to this file instead of standard output.
    #[arg(long, short)]
    pub(crate) output: Option<PathBuf>,
    /// The format of the file, if its name does not show it.
    #[arg(long)]
    pub(crate) input_format: Option<FileFormat>,
}

/// What becomes of a row in which the value of a metric is missing: an empty cell, NULL,
/// NaN and the like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Missing {
    /// It ends the command, and is named.
    #[default]
    Error,
    /// The value is 0.
    Zero,
    /// The row is left out, and counted.
    Drop,
}

/// How to print a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// Tables and bars for people.
    #[default]
    Table,
    /// The form of the results API.
    Json,
    /// One page that needs nothing else.
    Html,
}

#[derive(Debug, Args)]
pub(crate) struct PowerArgs {
    /// The control's conversion rate, between 0 and 1: 0.1 or 10%.
    #[arg(long, value_name = "FRACTION", value_parser = fraction::parse, conflicts_with_all = ["sd", "mean"])]
    pub(crate) rate: Option<f64>,
    /// The standard deviation per user of a metric that is a mean.
    #[arg(long)]
    pub(crate) sd: Option<f64>,
    /// The control's mean; needed for effects in percent.
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) mean: Option<f64>,
    /// The minimum detectable effect. 5% is relative: 5 % of the control's value, so 10 %
    /// becomes 10.5 %. 0.01 and 1pp (percentage point) are absolute: 10 % becomes 11 %.
    #[arg(long, value_name = "EFFECT", value_parser = fraction::parse_change, allow_hyphen_values = true)]
    pub(crate) mde: Option<Change>,
    /// Users of the control.
    #[arg(long)]
    pub(crate) users: Option<u64>,
    /// The probability of finding the effect, 0.8 or 80% [default: 0.8, unless users and effect
    /// are given].
    #[arg(long, value_name = "FRACTION", value_parser = fraction::parse)]
    pub(crate) power: Option<f64>,
    /// The two-sided level of the test: 0.05 or 5%.
    #[arg(long, value_name = "FRACTION", default_value = "0.05", value_parser = fraction::parse)]
    pub(crate) alpha: f64,
    /// Users of a treatment for each user of the control.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) ratio: f64,
    /// How many treatments are compared with the control; alpha is divided by it (Bonferroni).
    #[arg(long, default_value_t = 1)]
    pub(crate) treatments: u32,
    /// How many primary metrics there are; alpha is divided by them, too.
    #[arg(long, default_value_t = 1)]
    pub(crate) metrics: u32,
    /// How many guardrails have a margin: all of them have to be kept, so each test gets more
    /// power for the experiment to have the planned one.
    #[arg(long, default_value_t = 0)]
    pub(crate) guardrails: u32,
    /// For the planned look of an experiment with a plan, which has four fifths of alpha.
    #[arg(long)]
    pub(crate) planned_look: bool,
    /// Users that enter the experiment each day, in all variants together, to compute its duration.
    #[arg(long)]
    pub(crate) daily_users: Option<f64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}
