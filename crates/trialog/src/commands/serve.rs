//! `trialog serve`: the HTTP interface and the schedule, until told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use trialog_pipeline::schedule::{Retry, Scheduler};

use crate::config::Config;
use crate::front::{self, Front, bind};
use crate::node::{Node, runtime};
use crate::stop::told_to_stop;

pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let address = config.address()?;
    let node = Node::open(config)?;
    front::check(config, address, node.app.has_usable_key()?)?;
    runtime()?.block_on(async {
        let mut front = Front::open(config, &node, bind(address).await?).await?;
        let url = &front.url;
        let scheduler = Scheduler::start(
            Arc::clone(&node.aggregator),
            config.interval,
            Retry::default(),
            fastrand::Rng::new(),
        )
        .context("cannot start the schedule")?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %config.data_dir.display(),
            "serving {url} from `{}`",
            config.data_dir.display()
        );
        front::tell(&node, url)?;
        let (schedule, aggregator) = (scheduler.stopper(), Arc::clone(&node.aggregator));
        let told = told_to_stop(config.shutdown_timeout, move || {
            schedule.stop();
            aggregator.stop();
        })?;
        let listeners = std::mem::take(&mut front.listeners);
        trialog_server::serve(listeners, Arc::clone(&node.app), told).await?;
        // Still under the eyes of `told_to_stop`: a run that is about to
        // publish ends, what is queued is written.
        let warehouse = Arc::clone(&node.warehouse);
        let closing = move || {
            drop(scheduler);
            warehouse.close();
        };
        tokio::task::spawn_blocking(closing).await?;
        tracing::info!("stopped");
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
