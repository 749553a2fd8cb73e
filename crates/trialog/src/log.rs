//! Logs to standard error, as text or as JSON; standard output belongs to the commands.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};
use crate::terminal::LogWriter;

/// Starts the log. A service logs its runs by default.
pub(crate) fn start(config: &Config, is_service: bool) -> anyhow::Result<()> {
    let usual = if is_service { "info" } else { "warn" };
    let filter = config.log.as_deref().unwrap_or(usual);
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("`{filter}` cannot be the value of `log`: give a level such as info, or warn,trialog_server=debug")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(false);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
