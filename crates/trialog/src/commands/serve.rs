//! `trialog serve`: the HTTP interface and the schedule, until told to stop.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use trialog_pipeline::schedule::{Retry, Scheduler};

use crate::config::Config;
use crate::node::{Node, plain, runtime};
use crate::stop::told_to_stop;

pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let address = config.address()?;
    let node = Node::open(config)?;
    runtime()?.block_on(async {
        let listener = bind(address).await?;
        let url = announce(&node, &listener)?;
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
        eprintln!("no API keys: {url} answers on this machine only");
        let (schedule, aggregator) = (scheduler.stopper(), Arc::clone(&node.aggregator));
        let told = told_to_stop(config.shutdown_timeout, move || {
            schedule.stop();
            aggregator.stop();
        })?;
        trialog_server::serve(listener, Arc::clone(&node.app), told).await?;
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

pub(crate) async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: stop what listens there, or give --listen 127.0.0.1:0 for a free port"))
}

/// Prints where the server answers, and writes it into the LOCK file.
pub(crate) fn announce(node: &Node, listener: &TcpListener) -> anyhow::Result<String> {
    let url = format!("http://{}", listener.local_addr()?);
    node.warehouse.publish_address(&url).map_err(plain)?;
    println!("listening on {url}");
    std::io::stdout().flush()?;
    Ok(url)
}
