//! Every setting, in one table: its key, its kind, its default and its meaning.
//!
//! A setting `data_dir` is the flag `--data-dir`, the environment variable
//! `TRIALOG_DATA_DIR` and the key `data_dir` of the TOML file. A new one is an
//! entry here and a line in `config.rs` that reads it; flags, help, the file's
//! checks, `trialog check` and docs/configuration.md follow from the table.

/// What a setting's value looks like.
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
}

impl Kind {
    /// What a value is, with an example.
    pub(crate) fn shape(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a whole number such as 4",
            Self::Length => "a length such as 1h, 10m or 30s",
            Self::Size => "a size such as 1GiB, 512MiB or 1000000",
        }
    }
}

/// What holds where nobody gives a value.
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
    /// Its name in the TOML file.
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    /// What it does, in one or two sentences without a final stop.
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

    /// Its flag, without the dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Its environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("TRIALOG_{}", self.key.to_ascii_uppercase())
    }

    /// `[default: ...]` as help shows it.
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
        "interval",
        Kind::Length,
        Default::Value("1h"),
        "The time between aggregation runs",
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
        "min_free_disk",
        Kind::Size,
        Default::Value("512MiB"),
        "The free space on the data directory's disk below which `/readyz` and `trialog check` fail; 0 for none",
    ),
    Setting::new(
        "shutdown_timeout",
        Kind::Length,
        Default::Value("30s"),
        "How long a server that was told to stop waits for requests under way before it ends all the same",
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

/// The setting with this key.
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
