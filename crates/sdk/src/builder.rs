//! Builds clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cache_file;
use crate::client::Client;
use crate::clock::{self, Clock};
use crate::configuration::{Current, Poller, Source};
use crate::counters::add;
use crate::forced::Forced;
use crate::observer::{Notifier, Observer};
use crate::queue::Queue;
use crate::seen::Seen;
use crate::sender::{self, Outbox, Pace};
use crate::transport::Transport;
use trialog_model::ids::Variant;
use trialog_model::text::without_passwords;

/// The reason why a client could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// There is nowhere to send events to.
    #[error("nothing says where events go: give `server`, or a `transport`")]
    NoTransport,
    /// There is nothing to decide by.
    #[error(
        "nothing says which experiments run: give `server`, a `configuration` or a `cache_file`"
    )]
    NoConfiguration,
    /// The server's address is not a valid URL.
    #[error(
        "the server address `{0}` is not a valid URL: give one such as https://trialog.example"
    )]
    BadServer(String),
    /// A configuration given in the program cannot be read.
    #[error("{0}")]
    BadConfiguration(String),
    /// A number is out of its range.
    #[error("`{setting}` is out of range: give {range}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// What may be given.
        range: &'static str,
    },
    /// A variant that is forced has no such name.
    #[error("the forced variant `{0}` {1}")]
    BadVariant(String, trialog_model::ids::NameError),
    /// The system cannot start a thread.
    #[error("cannot start a thread: {0}")]
    NoThread(std::io::Error),
}

// The message holds the cause already, so it is no `source` beside that.
impl From<std::io::Error> for BuildError {
    fn from(error: std::io::Error) -> Self {
        Self::NoThread(error)
    }
}

/// Builds a [`Client`]. Every setting has a default except the destination of events and the
/// source of the configuration.
pub struct Builder {
    server: Option<String>,
    api_key: Option<String>,
    transport: Option<Box<dyn Transport>>,
    configuration: Option<Vec<u8>>,
    cache_file: Option<PathBuf>,
    poll_interval: Duration,
    max_events: usize,
    max_bytes: usize,
    max_exposures: usize,
    pace: Pace,
    linger: Duration,
    observer: Option<Arc<dyn Observer>>,
    clock: Option<Clock>,
    forced: Vec<(String, String, String)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            server: None,
            api_key: None,
            transport: None,
            configuration: None,
            cache_file: None,
            poll_interval: Duration::from_secs(30),
            max_events: 16_384,
            max_bytes: 16 << 20,
            max_exposures: 65_536,
            pace: Pace {
                batch_events: 500,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(10),
                first_retry: Duration::from_millis(500),
                longest_retry: Duration::from_secs(60),
            },
            linger: Duration::from_secs(5),
            observer: None,
            clock: None,
            forced: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the key.
        f.debug_struct("Builder")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Sets the server that provides the configuration and, without another transport, receives
    /// the events, such as `https://trialog.example`.
    #[must_use]
    pub fn server(mut self, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self
    }

    /// Sets the key for the server, which needs the scope `sdk`.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Sets another destination for events.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport + 'static) -> Self {
        self.transport = Some(Box::new(transport));
        self
    }

    /// Sets the initial configuration, in the form of `GET /v1/sdk/config`. Without a server it
    /// never changes.
    #[must_use]
    pub fn configuration(mut self, json: impl Into<Vec<u8>>) -> Self {
        self.configuration = Some(json.into());
        self
    }

    /// Sets the file that stores the last good configuration, for a start without a network.
    #[must_use]
    pub fn cache_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.cache_file = Some(path.into());
        self
    }

    /// Sets how often the configuration is fetched, a tenth more or less. The default is 30
    /// seconds.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Sets how many events may wait, by default 16,384, and their bytes, by default 16 MiB. The
    /// newest event is dropped beyond.
    #[must_use]
    pub fn buffer(mut self, max_events: usize, max_bytes: usize) -> Self {
        (self.max_events, self.max_bytes) = (max_events, max_bytes);
        self
    }

    /// Sets the number of events in a batch, by default 500, and how long an event waits for a
    /// batch to fill, by default a second.
    #[must_use]
    pub fn batches(mut self, events: usize, interval: Duration) -> Self {
        (self.pace.batch_events, self.pace.interval) = (events, interval);
        self
    }

    /// Sets the wait after a first failure, by default half a second, and the longest wait, by
    /// default a minute. The wait doubles in between.
    #[must_use]
    pub fn retries(mut self, first: Duration, longest: Duration) -> Self {
        (self.pace.first_retry, self.pace.longest_retry) = (first, longest);
        self
    }

    /// Sets how long one attempt to send may take. The default is 10 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.pace.timeout = timeout;
        self
    }

    /// Sets how many exposures are remembered so that they are not logged again, in 8 bytes each.
    /// The default is 65,536.
    #[must_use]
    pub fn remembered_exposures(mut self, n: usize) -> Self {
        self.max_exposures = n;
        self
    }

    /// Sets how long a client that is dropped without a shutdown goes on sending in the
    /// background. The default is 5 seconds.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Sets the observer, which is notified of what the client's threads do.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets the clock for the times of events. The default is the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Forces `unit` into `variant` of `experiment`, as [`Client::force`] does.
    #[must_use]
    pub fn force(
        mut self,
        unit: impl Into<String>,
        experiment: impl Into<String>,
        variant: impl Into<String>,
    ) -> Self {
        (self.forced).push((unit.into(), experiment.into(), variant.into()));
        self
    }

    /// Starts the client. Waits for no network: see [`Client::wait_until_ready`].
    ///
    /// # Errors
    ///
    /// A setting is missing or cannot be used, or there is no thread.
    pub fn build(mut self) -> Result<Client, BuildError> {
        self.check()?;
        let notifier = Notifier(self.observer.take());
        let queue = Queue::new(self.max_events, self.max_bytes);
        let outbox = Arc::new(Outbox::new(queue, self.pace.batch_events));
        let current = Arc::new(Current::default());
        let forced = Forced::default();
        for (unit, experiment, variant) in &self.forced {
            let variant = Variant::new(variant)
                .map_err(|error| BuildError::BadVariant(variant.clone(), error))?;
            forced.set(unit, experiment, Some(&variant));
        }
        let etag = self.begin_with(&current, &outbox, &notifier)?;
        let source = self.source();
        let transport = match self.transport.take() {
            Some(transport) => transport,
            None => self.to_server()?,
        };
        sender::start(Arc::clone(&outbox), transport, self.pace, notifier.clone())?;
        if let Some(source) = source {
            let poller = Poller {
                current: Arc::clone(&current),
                outbox: Arc::clone(&outbox),
                source,
                cache_file: self.cache_file.take(),
                interval: self.poll_interval,
                notifier,
            };
            if let Err(error) = poller.start(etag) {
                outbox.close(Duration::ZERO);
                return Err(error.into());
            }
        }
        let clock = self.clock.take().unwrap_or_else(clock::system);
        let seen = Seen::new(self.max_exposures);
        Ok(Client::new(
            current,
            outbox,
            forced,
            seen,
            clock,
            self.linger,
        ))
    }

    fn check(&self) -> Result<(), BuildError> {
        let within = |holds: bool, setting, range| {
            if holds {
                Ok(())
            } else {
                Err(BuildError::OutOfRange { setting, range })
            }
        };
        within(
            (1..=1 << 24).contains(&self.max_events),
            "buffer",
            "1 to 16,777,216 events",
        )?;
        within(self.max_bytes >= 1 << 16, "buffer", "at least 65,536 bytes")?;
        within(
            (1..=100_000).contains(&self.pace.batch_events),
            "batches",
            "1 to 100,000 events",
        )?;
        within(
            self.pace.interval >= Duration::from_millis(1),
            "batches",
            "an interval of at least 1 ms",
        )?;
        within(
            self.pace.first_retry >= Duration::from_millis(1),
            "retries",
            "a first wait of at least 1 ms",
        )?;
        within(
            self.pace.timeout >= Duration::from_millis(1),
            "timeout",
            "at least 1 ms",
        )?;
        within(
            self.poll_interval >= Duration::from_millis(10),
            "poll_interval",
            "at least 10 ms",
        )?;
        within(
            (1..=1 << 28).contains(&self.max_exposures),
            "remembered_exposures",
            "1 to 268,435,456",
        )?;
        if let Some(server) = &self.server {
            let host = server
                .strip_prefix("https://")
                .or_else(|| server.strip_prefix("http://"));
            let is_address = host.is_some_and(|host| {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_graphic() && byte != b'@')
            });
            if !is_address {
                return Err(BuildError::BadServer(
                    without_passwords(server).into_owned(),
                ));
            }
        }
        if self.server.is_none() && self.configuration.is_none() && self.cache_file.is_none() {
            return Err(BuildError::NoConfiguration);
        }
        Ok(())
    }

    /// Loads the configuration that is available before the first response of a server, and
    /// returns the tag of the one from the disk.
    fn begin_with(
        &self,
        current: &Current,
        outbox: &Outbox,
        notifier: &Notifier,
    ) -> Result<Option<String>, BuildError> {
        let counts = &outbox.queue.counts;
        if let Some(json) = &self.configuration {
            current
                .replace(json, counts, notifier)
                .map_err(BuildError::BadConfiguration)?;
        }
        let Some(path) = &self.cache_file else {
            return Ok(None);
        };
        let read = cache_file::read(path).map_err(|error| error.to_string());
        let taken = read.and_then(|copy| match copy {
            Some(sent) => {
                current.replace(&sent.text, counts, notifier)?;
                Ok(sent.etag)
            }
            None => Ok(None),
        });
        // A copy that is broken is as good as none: the server has the configuration.
        Ok(taken.unwrap_or_else(|reason| {
            let reason = format!("the copy in `{}` is not used: {reason}", path.display());
            add(&counts.configuration_failures, 1);
            notifier.notify(|observer| observer.configuration_failed(&reason));
            None
        }))
    }

    #[cfg(feature = "http")]
    fn source(&self) -> Option<Box<dyn Source>> {
        let server = self.server.as_deref()?;
        Some(Box::new(crate::configuration::HttpSource::new(
            server,
            self.api_key.clone(),
        )))
    }

    #[cfg(not(feature = "http"))]
    fn source(&self) -> Option<Box<dyn Source>> {
        None
    }

    #[cfg(feature = "http")]
    fn to_server(&self) -> Result<Box<dyn Transport>, BuildError> {
        let server = self.server.as_ref().ok_or(BuildError::NoTransport)?;
        Ok(Box::new(crate::transport::HttpTransport::new(
            server,
            self.api_key.clone(),
        )))
    }

    #[cfg(not(feature = "http"))]
    fn to_server(&self) -> Result<Box<dyn Transport>, BuildError> {
        Err(BuildError::NoTransport)
    }
}
