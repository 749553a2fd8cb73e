//! Runs the commands, one file for each.

pub(crate) mod aggregate;
pub(crate) mod analyze;
pub(crate) mod assign;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod calc;
pub(crate) mod check;
pub(crate) mod cohorts;
pub(crate) mod context;
pub(crate) mod demo;
pub(crate) mod experiments;
pub(crate) mod export;
pub(crate) mod forget;
pub(crate) mod funnel;
pub(crate) mod holdouts;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod metrics;
pub(crate) mod pipeline;
pub(crate) mod power;
pub(crate) mod results;
pub(crate) mod retention;
pub(crate) mod serve;
pub(crate) mod timeline;
#[cfg(feature = "kafka")]
pub(crate) mod topics;
pub(crate) mod verify;

/// The exit code if some experiments or rows could not be used, but the others were.
pub(crate) const EXIT_PARTIAL: u8 = 3;

/// Runs `trialog help`: prints the overview, the settings, a command, or a family of `trialog
/// calc`.
pub(crate) fn help(topic: &[String]) -> anyhow::Result<std::process::ExitCode> {
    match topic {
        [calc, family] if calc == "calc" => calc::help_of(family)?,
        topic => print!("{}", crate::cli::help::topic(topic)?),
    }
    Ok(std::process::ExitCode::SUCCESS)
}
