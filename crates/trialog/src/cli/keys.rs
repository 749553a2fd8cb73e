//! Defines the arguments of `trialog keys`.

use clap::Subcommand;
use trialog_catalog::keys::Scope;

use super::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it: the only time that it is shown.
    Create {
        /// What to call it: who uses it, and where.
        name: String,
        /// What it allows: sdk, ingest, read or admin; repeat it for more.
        #[arg(long, required = true)]
        scope: Vec<Scope>,
        /// When it ends: a length such as 90d, or a time, RFC 3339 [default: never].
        #[arg(long)]
        expires: Option<String>,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List the keys, without their secrets.
    List {
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// End a key at once.
    Revoke {
        /// Its id, or its name.
        named: String,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}
