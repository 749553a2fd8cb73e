//! Lists every setting in one table: its key, its kind, its default and its meaning.
//!
//! A setting `data_dir` is the flag `--data-dir`, the environment variable
//! `TRIALOG_DATA_DIR` and the key `data_dir` of the TOML file. A new one is an
//! entry here and a line in `config.rs` that reads it; flags, help, the file's
//! checks, `trialog check` and docs/configuration.md follow from the table.

/// The kind of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A whole number.
    Number,
    /// A number with a unit of time.
    Length,
    /// A whole number of bytes, or one with KiB, MiB or GiB.
    Size,
    /// Yes or no; the flag alone is yes.
    Switch,
}

impl Kind {
    /// Describes a value, with an example.
    pub(crate) fn shape(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a whole number such as 4",
            Self::Length => "a length such as 1h, 10m or 30s",
            Self::Size => "a size such as 1GiB, 512MiB or 1000000",
            Self::Switch => "true or false",
        }
    }
}

/// The default of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Default {
    /// This value.
    Value(&'static str),
    /// No value; what then happens.
    Described(&'static str),
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The name in the TOML file.
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    /// The effect of the setting, in one or two sentences without a final stop.
    pub(crate) meaning: &'static str,
    /// A secret's value is never shown.
    pub(crate) is_secret: bool,
}

impl Setting {
    const fn new(key: &'static str, kind: Kind, default: Default, meaning: &'static str) -> Self {
        Self {
            key,
            kind,
            default,
            meaning,
            is_secret: false,
        }
    }

    const fn secret(self) -> Self {
        Self {
            is_secret: true,
            ..self
        }
    }

    /// Returns the flag, without the dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Returns the environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("TRIALOG_{}", self.key.to_ascii_uppercase())
    }

    /// Returns `[default: ...]` as help shows it.
    pub(crate) fn default_text(&self) -> &'static str {
        match self.default {
            Default::Value(text) | Default::Described(text) => text,
        }
    }
}

/// The table.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::new(
        "data_dir",
        Kind::Text,
        Default::Value("trialog-data"),
        "The directory that holds all data",
    ),
    Setting::new(
        "catalog",
        Kind::Text,
        Default::Described("a file in the data directory"),
        "The PostgreSQL database with everything that is no event, such as postgres://user:password@host:5432/trialog; sslmode=require in its query asks for TLS, sslrootcert=FILE names the authorities",
    )
    .secret(),
    Setting::new(
        "warehouse",
        Kind::Text,
        Default::Described("files in the data directory"),
        "The ClickHouse database with the events, such as clickhouse://user:password@host:8123/trialog; secure=true in its query asks for HTTPS, ca=FILE names the authorities, cluster=NAME for replicated tables, other keys are ClickHouse's settings",
    )
    .secret(),
    Setting::new(
        "event_log",
        Kind::Text,
        Default::Described("none: events go to the warehouse at once"),
        "The Kafka brokers through which events go, such as kafka://host:9092,host:9092; topic_prefix, group and shards in its query are ours, other keys such as security.protocol and sasl.password are librdkafka's",
    )
    .secret(),
    Setting::new(
        "roles",
        Kind::Text,
        Default::Value("api,consumer,aggregator"),
        "What this process does: serve the API, take events from `event_log` to the warehouse, aggregate on schedule; fewer than all take `catalog` and `warehouse`",
    ),
    Setting::new(
        "listen",
        Kind::Text,
        Default::Value("127.0.0.1:8080"),
        "The address to listen on; port 0 picks a free one",
    ),
    Setting::new(
        "server",
        Kind::Text,
        Default::Described("the server that holds the data directory, else the directory itself"),
        "The address of a running server that commands talk to, such as http://127.0.0.1:8080",
    ),
    Setting::new(
        "key",
        Kind::Text,
        Default::Described("for the server that holds the data directory, its own key of this machine"),
        "The API key that commands send to a server; better given as a variable, since other users of the machine see flags",
    )
    .secret(),
    Setting::new(
        "tls_ca",
        Kind::Text,
        Default::Described("the public ones"),
        "A PEM file with the authorities that the certificate of `server` may come from",
    ),
    Setting::new(
        "tls_cert",
        Kind::Text,
        Default::Described("plain HTTP"),
        "A PEM file with the certificate to serve HTTPS with, and its chain; read again on SIGHUP",
    ),
    Setting::new(
        "tls_key",
        Kind::Text,
        Default::Described("plain HTTP"),
        "A PEM file with the private key of `tls_cert`",
    ),
    Setting::new(
        "insecure_http",
        Kind::Switch,
        Default::Value("false"),
        "Serve plain HTTP to other machines, though keys and events travel in clear",
    ),
    Setting::new(
        "cors_origins",
        Kind::Text,
        Default::Described("none"),
        "Origins such as https://shop.example whose pages may send events and evaluate, separated by commas; * for all",
    ),
    Setting::new(
        "openfeature_no_variant",
        Kind::Text,
        Default::Value("control"),
        "What OpenFeature clients get for a unit without a variant: control for the control's value, with the decision as the variant's name; omit for neither, so that the default of the code holds, which most published clients report as an error",
    ),
    Setting::new(
        "max_body",
        Kind::Size,
        Default::Value("16MiB"),
        "The largest body of a request with events, before and after decompression",
    ),
    Setting::new(
        "max_bodies",
        Kind::Size,
        Default::Value("128MiB"),
        "All bodies in work together, at least four times `max_body`; a caller has no more of it than is still free",
    ),
    Setting::new(
        "max_events",
        Kind::Number,
        Default::Value("100000"),
        "The most events of a request",
    ),
    Setting::new(
        "allow_placeholder_ids",
        Kind::Switch,
        Default::Value("false"),
        "Accept placeholder words such as null and undefined as user ids",
    ),
    Setting::new(
        "max_header",
        Kind::Size,
        Default::Value("16KiB"),
        "The largest head of a request: its line and all headers",
    ),
    Setting::new(
        "requests_per_second",
        Kind::Number,
        Default::Value("5000"),
        "Requests a second for each key, or for each address without one; 0 for no limit",
    ),
    Setting::new(
        "max_connections",
        Kind::Number,
        Default::Value("1024"),
        "The most connections at a time",
    ),
    Setting::new(
        "header_timeout",
        Kind::Length,
        Default::Value("10s"),
        "How long the head of a request may take to arrive",
    ),
    Setting::new(
        "body_timeout",
        Kind::Length,
        Default::Value("30s"),
        "How long the body of a request may take to arrive",
    ),
    Setting::new(
        "idle_timeout",
        Kind::Length,
        Default::Value("75s"),
        "How long a connection may be idle between two requests",
    ),
    Setting::new(
        "write_timeout",
        Kind::Length,
        Default::Value("30s"),
        "How long a client may take nothing of its answer",
    ),
    Setting::new(
        "interval",
        Kind::Length,
        Default::Value("1h"),
        "The time between aggregation runs",
    ),
    Setting::new(
        "lease",
        Kind::Length,
        Default::Value("30s"),
        "With a shared `catalog`: how long after an aggregator died another one takes over",
    ),
    Setting::new(
        "consumer_linger",
        Kind::Length,
        Default::Value("1s"),
        "How long an event that was read from `event_log` waits for others before it is stored",
    ),
    Setting::new(
        "backup_dir",
        Kind::Text,
        Default::Described("`backups` in the data directory"),
        "The directory below which a server makes backups",
    ),
    Setting::new(
        "threads",
        Kind::Number,
        Default::Described("one per core"),
        "Threads that fold events, 1 or more",
    ),
    Setting::new(
        "unregistered_experiments",
        Kind::Number,
        Default::Value("10000"),
        "How many experiments that nobody registered are aggregated; the events of further ones are kept and reported",
    ),
    Setting::new(
        "undeclared_event_types",
        Kind::Number,
        Default::Value("100"),
        "How many event types of an experiment that it does not declare are aggregated",
    ),
    Setting::new(
        "keep_all_results_for",
        Kind::Length,
        Default::Value("7d"),
        "For how long every computation is kept; of older ones, the last of each UTC day",
    ),
    Setting::new(
        "keep_events_for",
        Kind::Length,
        Default::Value("none"),
        "For how long events are kept, at least 1d, such as 400d; older ones are dropped and their experiments keep the results they have",
    ),
    Setting::new(
        "drop_at_most",
        Kind::Text,
        Default::Value("50%"),
        "The share of all events that `keep_events_for` drops at once, such as 50%; more are dropped by `trialog retention apply --confirm` only",
    ),
    Setting::new(
        "keep_user_ids",
        Kind::Switch,
        Default::Value("true"),
        "Keep user ids that are texts as they were sent, with the assignments, so that exports give them back; false keeps no more than their 64-bit hashes",
    ),
    Setting::new(
        "min_free_disk",
        Kind::Size,
        Default::Value("512MiB"),
        "The free space on the data directory's disk below which `/readyz` and `trialog check` fail; 0 for none",
    ),
    Setting::new(
        "shutdown_timeout",
        Kind::Length,
        Default::Value("30s"),
        "How long a stopping server waits for requests under way before it closes their connections",
    ),
    Setting::new(
        "log",
        Kind::Text,
        Default::Described("info for `serve`, warn for other commands"),
        "What to log: error, warn, info, debug or trace, also by part as in warn,trialog_server=debug",
    ),
    Setting::new(
        "log_format",
        Kind::Text,
        Default::Value("text"),
        "How to log to standard error: text, or json with one object per line",
    ),
];

/// Returns the setting with this key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_plain() {
        let mut keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), SETTINGS.len());
        for setting in SETTINGS {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(setting.key.bytes().all(is_plain), "{}", setting.key);
            assert!(!setting.meaning.ends_with('.'), "{}", setting.key);
        }
    }
}
