//! Holds the configuration for decisions, and refreshes it in a thread.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use trialog_model::assignment::Ruleset;
use trialog_model::configuration::Configuration;

use crate::cache_file::{self, Sent};
use crate::clock::monotonic;
use crate::counters::{Counts, add};
use crate::observer::Notifier;

/// The configuration in use: replaced as a whole, read without waiting.
#[derive(Default)]
pub(crate) struct Current {
    ruleset: ArcSwapOption<Ruleset>,
    is_ready: Mutex<bool>,
    ready: Condvar,
    is_over: AtomicBool,
    is_wanted: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Current {
    pub(crate) fn load(&self) -> arc_swap::Guard<Option<Arc<Ruleset>>> {
        self.ruleset.load()
    }

    /// Replaces the configuration by what was sent; fails if it cannot be read.
    pub(crate) fn replace(
        &self,
        text: &[u8],
        counts: &Counts,
        notifier: &Notifier,
    ) -> Result<(), String> {
        let read = Configuration::read(text)
            .map_err(|error| format!("the configuration cannot be read: {error}"))?;
        for error in &read.left_out {
            let reason = format!(
                "an experiment is left out, which a newer version of the SDK may know: {error}"
            );
            notifier.notify(|observer| observer.configuration_failed(&reason));
        }
        let n_experiments = read.configuration.experiments.len() + read.configuration.shipped.len();
        self.ruleset
            .store(Some(Arc::new(Ruleset::new(&read.configuration))));
        add(&counts.configurations, 1);
        *self.is_ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ready.notify_all();
        notifier.notify(|observer| observer.configured(n_experiments));
        Ok(())
    }

    /// Waits for a configuration; whether there is one.
    pub(crate) fn wait_until_ready(&self, timeout: Duration) -> bool {
        let is_ready = self.is_ready.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = timeout.min(Duration::from_secs(86_400));
        let waited = self
            .ready
            .wait_timeout_while(is_ready, timeout, |is_ready| !*is_ready);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Requests a fetch of the configuration now.
    pub(crate) fn refresh(&self) {
        self.is_wanted.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Stops the thread.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Waits as long; false where the thread is to end.
    fn rest(&self, time: Duration) -> bool {
        let until = monotonic() + time;
        loop {
            if self.is_over.load(Ordering::SeqCst) {
                return false;
            }
            let left = until.saturating_duration_since(monotonic());
            if left.is_zero() || self.is_wanted.swap(false, Ordering::SeqCst) {
                return true;
            }
            std::thread::park_timeout(left);
        }
    }
}

/// A source of configurations.
pub(crate) trait Source: Send {
    /// Fetches it; none where the one with `etag` is the newest.
    fn fetch(&mut self, etag: Option<&str>) -> Result<Option<Sent>, Failure>;
}

/// The reason why a configuration could not be fetched.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) wait: Option<Duration>,
}

/// Refreshes the configuration.
pub(crate) struct Poller {
    pub(crate) current: Arc<Current>,
    pub(crate) outbox: Arc<crate::sender::Outbox>,
    pub(crate) source: Box<dyn Source>,
    pub(crate) cache_file: Option<PathBuf>,
    pub(crate) interval: Duration,
    pub(crate) notifier: Notifier,
}

/// The first wait after a failure, and the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

impl Poller {
    /// Starts the thread.
    pub(crate) fn start(mut self, mut etag: Option<String>) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("trialog-config".to_owned())
            .spawn(move || {
                let _ = self.current.thread.set(std::thread::current());
                let longest = LONGEST_RETRY.max(self.interval);
                let mut backoff =
                    crate::backoff::Backoff::new(FIRST_RETRY.min(self.interval), longest);
                loop {
                    let wait = match self.fetch(&mut etag) {
                        Ok(()) => {
                            backoff.reset();
                            crate::backoff::jittered(self.interval)
                        }
                        Err(failure) => {
                            self.fail(&failure.reason);
                            backoff.next(failure.wait)
                        }
                    };
                    if !self.current.rest(wait) {
                        return;
                    }
                }
            })
    }

    fn fetch(&mut self, etag: &mut Option<String>) -> Result<(), Failure> {
        let Some(sent) = self.source.fetch(etag.as_deref())? else {
            return Ok(());
        };
        let taken = self
            .current
            .replace(&sent.text, &self.outbox.queue.counts, &self.notifier);
        taken.map_err(|reason| Failure { reason, wait: None })?;
        if let Some(path) = &self.cache_file
            && let Err(error) = cache_file::write(path, &sent)
        {
            self.fail(&format!(
                "cannot keep a copy in `{}`: {error}",
                path.display()
            ));
        }
        *etag = sent.etag;
        Ok(())
    }

    fn fail(&self, reason: &str) {
        add(&self.outbox.queue.counts.configuration_failures, 1);
        self.notifier
            .notify(|observer| observer.configuration_failed(reason));
    }
}

#[cfg(feature = "http")]
pub(crate) use http::HttpSource;

#[cfg(feature = "http")]
mod http {
    use std::time::Duration;

    use trialog_model::text::without_passwords;
    use ureq::Agent;
    use ureq::http::{StatusCode, header};

    use super::{Failure, Source};
    use crate::cache_file::Sent;
    use crate::transport::agent;

    /// The most bytes of a configuration: about a million experiments.
    const MAX_BYTES: u64 = 256 << 20;
    const TIMEOUT: Duration = Duration::from_secs(30);

    /// `GET /v1/sdk/config` of a server.
    pub(crate) struct HttpSource {
        agent: Agent,
        address: String,
        api_key: Option<String>,
    }

    impl HttpSource {
        pub(crate) fn new(server: &str, api_key: Option<String>) -> Self {
            let address = format!("{}/v1/sdk/config", server.trim_end_matches('/'));
            Self {
                agent: agent(),
                address,
                api_key,
            }
        }
    }

    impl Source for HttpSource {
        fn fetch(&mut self, etag: Option<&str>) -> Result<Option<Sent>, Failure> {
            let address = &self.address;
            let shown = without_passwords(address);
            let failed = |reason: String| Failure {
                reason: without_passwords(&reason).into_owned(),
                wait: None,
            };
            let mut request = self.agent.get(address);
            if let Some(key) = &self.api_key {
                request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
            }
            if let Some(etag) = etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            let request = request.config().timeout_global(Some(TIMEOUT)).build();
            let mut answer = (request.call())
                .map_err(|error| failed(format!("cannot reach `{address}`: {error}")))?;
            match answer.status() {
                StatusCode::NOT_MODIFIED => Ok(None),
                StatusCode::OK => {
                    let tag = answer.headers().get(header::ETAG);
                    let etag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
                    let text = (answer
                        .body_mut()
                        .with_config()
                        .limit(MAX_BYTES)
                        .read_to_vec())
                    .map_err(|error| failed(format!("`{address}` ended early: {error}")))?;
                    Ok(Some(Sent { etag, text }))
                }
                status => Err(Failure {
                    reason: format!("`{shown}` answers {status}"),
                    wait: crate::transport::wait(&answer),
                }),
            }
        }
    }
}
