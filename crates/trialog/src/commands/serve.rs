//! `trialog serve`: the HTTP interface and the schedule, until told to stop.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use trialog_pipeline::schedule::{Retry, Scheduler};

use crate::config::Config;
use crate::node::{Node, plain, runtime};

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
        eprintln!("no API keys: {url} answers on this machine only");
        trialog_server::serve(listener, Arc::clone(&node.app), stop_signal()?).await?;
        // The scheduler ends its run before the warehouse closes.
        tokio::task::spawn_blocking(move || drop(scheduler)).await?;
        anyhow::Ok(())
    })?;
    node.warehouse.close();
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

/// Completes when the process is asked to end.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
