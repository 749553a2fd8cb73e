//! Runs `trialog bench`: the measurements of `bench/run`.

mod body;
mod generate;
mod load;
#[cfg(feature = "kafka")]
mod produce;
mod registry;
mod statistics;

use std::process::ExitCode;

use crate::access::Access;
use crate::cli::BenchCommand;
use crate::config::Config;

pub(crate) fn run(config: &Config, command: &BenchCommand) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Generate(args) => generate::run(args),
        BenchCommand::Bodies(args) => body::run(args),
        BenchCommand::Load(args) => load::run(config, args),
        #[cfg(feature = "kafka")]
        BenchCommand::Produce(args) => produce::run(config, args),
        BenchCommand::Registry(args) => registry::run(config, args),
        BenchCommand::Statistics => statistics::run(),
        BenchCommand::Settle => {
            match Access::open(config)? {
                Access::Directory(opened) => {
                    let warehouse = opened.node.store.embedded("files are settled by itself")?;
                    warehouse.settle()?;
                    println!("{:?}", warehouse.usage());
                    opened.node.close();
                }
                Access::Server { address, .. } => {
                    anyhow::bail!("{address} has the directory open: stop it first")
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
