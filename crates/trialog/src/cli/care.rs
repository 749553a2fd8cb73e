//! The arguments of the commands that take care of the data.

use std::path::PathBuf;

use clap::Args;

use super::Format;

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
