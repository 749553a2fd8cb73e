//! Defines the arguments of the maintenance commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, Formulas};

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The directory to write, which must not exist. With a server it lies on
    /// the server's machine, below its `backup_dir`.
    pub(crate) directory: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup.
    pub(crate) backup: PathBuf,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// The user id, as it was sent: text, or an integer.
    #[arg(allow_hyphen_values = true)]
    pub(crate) user: String,
    /// Only the user's events in this experiment.
    #[arg(long)]
    pub(crate) experiment: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportTable {
    /// Who was assigned to which variant, each event once.
    Assignments,
    /// What users did, each event once.
    Metrics,
    /// The rows of `variant_metrics` with their history.
    Results,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// What to export.
    pub(crate) table: ExportTable,
    /// The file to write: .parquet or .csv.
    pub(crate) file: PathBuf,
    /// What becomes of texts in CSV that a spreadsheet would compute.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) formulas: Formulas,
    /// Only this experiment; repeat it for more.
    #[arg(long)]
    pub(crate) experiment: Vec<String>,
    /// Only events, or results computed, at or after this time, RFC 3339.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Only events, or results computed, before this time, RFC 3339.
    #[arg(long)]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Drop the events that are older than `keep_events_for`. A server does so
    /// by itself, after the first run of a day.
    Apply {
        /// Only show what would be dropped.
        #[arg(long)]
        dry_run: bool,
        /// Drop them even where that is more than `drop_at_most` lets go, or
        /// the clock may have jumped.
        #[arg(long)]
        confirm: bool,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}
