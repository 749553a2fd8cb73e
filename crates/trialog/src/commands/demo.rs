//! placeholder
use std::process::ExitCode;
use crate::cli::DemoArgs;
use crate::config::Config;
pub(crate) fn run(_config: Config, _args: &DemoArgs) -> anyhow::Result<ExitCode> { anyhow::bail!("not yet") }
