//! Being told to stop: in order at the first signal, at once at the second.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Completes at the first SIGTERM or SIGINT, after `begin`.
///
/// From then on a second signal, or `timeout`, ends the process at once. That
/// loses nothing that was acknowledged, as nothing but an acknowledgement
/// depends on a process that ends in order.
pub(crate) fn told_to_stop(
    timeout: Duration,
    begin: impl FnOnce() + Send + 'static,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        next(&mut terminate, &mut interrupt).await;
        tracing::info!(
            timeout_ms = timeout.as_millis() as u64,
            "stopping: requests under way are answered; a second signal ends at once"
        );
        begin();
        // The process ends before this task does, or by it.
        tokio::spawn(async move {
            let reason = tokio::select! {
                () = next(&mut terminate, &mut interrupt) => "there was a second signal",
                () = tokio::time::sleep(timeout) => "requests under way took longer than `shutdown_timeout`",
            };
            tracing::warn!("ended at once: {reason}; every acknowledged event is stored");
            std::process::exit(1);
        });
    })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
