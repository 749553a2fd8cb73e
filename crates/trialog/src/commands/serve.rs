//! Runs `trialog serve`: the HTTP interface and the schedule, until a signal.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use trialog_pipeline::retry::Retry;
use trialog_pipeline::schedule::Scheduler;

use crate::config::Config;
use crate::front::{self, Front, bind};
use crate::node::{Node, runtime};
use crate::stop::stop_signal;

pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let address = config.address()?;
    let roles = config.storage.roles;
    check_topics(config)?;
    let node = Node::open(config)?;
    front::check(config, address, node.app.has_usable_key()?)?;
    runtime()?.block_on(async {
        let mut front = Front::open(config, &node, bind(address).await?).await?;
        let url = &front.url;
        #[cfg(feature = "kafka")]
        let consumers = node.start_consumers(config)?;
        let scheduler = (roles.aggregator).then(|| {
            let aggregator = Arc::clone(&node.aggregator);
            Scheduler::start(
                aggregator,
                config.interval,
                Retry::default(),
                fastrand::Rng::new(),
            )
        });
        let scheduler = scheduler.transpose().context("cannot start the schedule")?;
        if scheduler.is_some() {
            node.app.runs_every(config.interval);
        }
        let schedule = scheduler.as_ref().map(Scheduler::stopper);
        let (aggregator, app) = (Arc::clone(&node.aggregator), Arc::clone(&node.app));
        #[cfg(feature = "kafka")]
        let reading = consumers.clone();
        let stop = stop_signal(config.shutdown_timeout, move || {
            if let Some(schedule) = &schedule {
                schedule.stop();
            }
            aggregator.stop();
            app.stop();
            #[cfg(feature = "kafka")]
            if let Some(consumers) = &reading {
                consumers.stop();
            }
        })?;
        // Whoever reads the address may send a signal at once.
        front::tell(&node, url)?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            roles = %roles,
            catalog = node.catalog.place(),
            warehouse = node.store.place(),
            "serving {url}"
        );
        let listeners = std::mem::take(&mut front.listeners);
        trialog_server::serve(listeners, Arc::clone(&node.app), stop).await?;
        // Still within the deadline of `stop_signal`: a run that is about to
        // publish ends, what is queued is written. No other work is under way.
        let closing = move || {
            drop(scheduler);
            #[cfg(feature = "kafka")]
            if let Some(consumers) = &consumers {
                consumers.close();
            }
            node.close();
        };
        tokio::task::spawn_blocking(closing).await?;
        tracing::info!("stopped");
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses to start where the event log cannot be reached or lacks a topic.
#[cfg(feature = "kafka")]
fn check_topics(config: &Config) -> anyhow::Result<()> {
    if let Some(address) = &config.storage.event_log {
        trialog_pipeline::kafka::topics::check(address).context("cannot use `event_log`")?;
    }
    Ok(())
}

#[cfg(not(feature = "kafka"))]
fn check_topics(_: &Config) -> anyhow::Result<()> {
    Ok(())
}
