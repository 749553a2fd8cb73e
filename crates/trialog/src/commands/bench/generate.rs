//! placeholder
use std::process::ExitCode;
use crate::cli::GenerateArgs;
pub(crate) fn run(_args: &GenerateArgs) -> anyhow::Result<ExitCode> { anyhow::bail!("not yet") }
