//! Handles signals: stops in order at the first one, at once at the second.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Completes at the first SIGTERM or SIGINT, after `begin`.
///
/// From then on a second signal, or `timeout`, ends the process at once. That
/// loses nothing that was acknowledged, as nothing but an acknowledgement
/// depends on a process that ends in order.
///
/// A thread of its own waits for the signals and for the deadline, so that both
/// are kept whatever the threads of the server do.
pub(crate) fn stop_signal(
    timeout: Duration,
    begin: impl FnOnce() + Send + 'static,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        (terminate, interrupt)
    };
    let (tell, told) = oneshot::channel();
    let wait = async move {
        next(&mut terminate, &mut interrupt).await;
        tracing::info!(
            timeout_ms = timeout.as_millis() as u64,
            "stopping: requests under way are answered, long work is ended; a second signal ends at once"
        );
        begin();
        // Nobody listens any more where the server has failed meanwhile.
        let _ = tell.send(());
        // The process ends before this does, or by it.
        let reason = tokio::select! {
            () = next(&mut terminate, &mut interrupt) => "there was a second signal",
            () = tokio::time::sleep(timeout) => "requests under way took longer than `shutdown_timeout`",
        };
        tracing::warn!("ended at once: {reason}; every acknowledged event is stored");
        std::process::exit(1);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(wait))
        .context("cannot wait for signals")?;
    Ok(async move {
        // The thread tells before it ends.
        let _ = told.await;
    })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
