//! Reads settings: flags override the environment, which overrides a TOML file, which overrides
//! defaults.

pub(crate) mod reference;
mod values;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use trialog_model::duration::Window;
use trialog_pipeline::Limits;
use trialog_pipeline::aggregation::Settings;
use trialog_pipeline::lease::LeaseSettings;

use crate::cli::Cli;
use crate::http::{self, HttpConfig};
use crate::secret::Secret;
use crate::storage::Storage;
pub(crate) use values::Values;

const DAY_MICROS: i64 = 86_400_000_000;

/// The settings of this process, complete.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) data_dir_is_default: bool,
    pub(crate) listen: String,
    pub(crate) listen_is_default: bool,
    pub(crate) server: Option<String>,
    pub(crate) key: Option<Secret>,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) http: HttpConfig,
    pub(crate) interval: Duration,
    pub(crate) storage: Storage,
    #[cfg(feature = "kafka")]
    pub(crate) consumers: trialog_pipeline::kafka::ConsumerSettings,
    pub(crate) backup_dir: PathBuf,
    pub(crate) aggregation: Settings,
    pub(crate) keep_user_ids: bool,
    pub(crate) min_free_bytes: u64,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) log: Option<String>,
    pub(crate) log_format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Collects the values of all settings from the command line, the environment and the file.
pub(crate) fn gather(cli: &Cli) -> anyhow::Result<Values> {
    let mut values = cli.settings.clone();
    if let Some(path) = &cli.config {
        values.add_file(path)?;
    }
    Ok(values)
}

/// Parses every value.
pub(crate) fn from_values(values: &Values) -> anyhow::Result<Config> {
    let text = |key| values.text(key).unwrap_or_default().to_owned();
    let mut aggregation = Settings::default();
    let threads = values.number("threads")?;
    if threads == Some(0) {
        bail!("`threads` is 0: give 1 or more");
    }
    aggregation.n_threads = threads.unwrap_or(aggregation.n_threads);
    let usual = aggregation.limits;
    aggregation.limits = Limits {
        unregistered_experiments: values
            .number("unregistered_experiments")?
            .unwrap_or(usual.unregistered_experiments),
        undeclared_event_types: values
            .number("undeclared_event_types")?
            .unwrap_or(usual.undeclared_event_types),
    };
    aggregation.keep_all_micros = values.micros("keep_all_results_for")?;
    let length =
        |key| Ok::<_, anyhow::Error>(Duration::from_micros(values.micros(key)?.unsigned_abs()));
    let log_format = match text("log_format").as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => bail!("`{other}` cannot be the value of `log_format`: give text or json"),
    };
    let data_dir = PathBuf::from(text("data_dir"));
    let backups = match values.text("backup_dir") {
        Some(text) => PathBuf::from(text),
        None => data_dir.join("backups"),
    };
    aggregation.lease = LeaseSettings {
        holder: holder(),
        length: lease(length("lease")?)?,
    };
    aggregation.keep_events_micros = keep_events(&text("keep_events_for"))?;
    aggregation.drop_at_most = share("drop_at_most", &text("drop_at_most"))?;
    Ok(Config {
        backup_dir: std::path::absolute(backups).context("cannot use `backup_dir`")?,
        data_dir_is_default: values.is_default("data_dir"),
        data_dir,
        listen_is_default: values.is_default("listen"),
        listen: text("listen"),
        server: values.text("server").map(str::to_owned),
        key: values.text("key").map(Secret::new),
        tls_ca: values.text("tls_ca").map(PathBuf::from),
        http: http::from_values(values)?,
        interval: length("interval")?,
        storage: Storage::from_values(values)?,
        #[cfg(feature = "kafka")]
        consumers: trialog_pipeline::kafka::ConsumerSettings {
            linger: length("consumer_linger")?,
            allows_placeholder_ids: values.switch("allow_placeholder_ids")?,
            ..Default::default()
        },
        aggregation,
        keep_user_ids: values.switch("keep_user_ids")?,
        min_free_bytes: values.bytes("min_free_disk")?,
        shutdown_timeout: length("shutdown_timeout")?,
        log: values.text("log").map(str::to_owned),
        log_format,
    })
}

/// What this process is called among those that aggregate.
fn holder() -> String {
    let name = rustix::system::uname();
    format!(
        "{}:{}",
        name.nodename().to_string_lossy(),
        std::process::id()
    )
}

fn lease(length: Duration) -> anyhow::Result<Duration> {
    if length < Duration::from_secs(1) {
        bail!(
            "`lease` is {} ms: give at least 1s, since it is renewed three times in its length",
            length.as_millis()
        );
    }
    Ok(length)
}

/// A share of all.
fn share(name: &str, text: &str) -> anyhow::Result<f64> {
    match trialog_model::fraction::parse(text) {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => bail!(
            "`{text}` cannot be the value of `{name}`: give a share such as 50%, from 0% to 100%"
        ),
    }
}

/// How long events are kept; `none` for ever.
fn keep_events(text: &str) -> anyhow::Result<Option<i64>> {
    let window = Window::parse(text).context("cannot use `keep_events_for`")?;
    match window.micros() {
        Some(micros) if micros < DAY_MICROS => {
            bail!("`keep_events_for` is `{text}`: give at least 1d, such as 400d, or none")
        }
        micros => Ok(micros),
    }
}

impl Config {
    /// Returns the address to listen on.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        let mut addresses = (self.listen.as_str()).to_socket_addrs().with_context(|| {
            format!(
                "cannot listen on `{}`: give an address and a port such as 127.0.0.1:8080",
                self.listen
            )
        })?;
        match addresses.next() {
            Some(address) => Ok(address),
            None => bail!("`{}` names no address", self.listen),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn resolved(text: &str, flags: &[&str]) -> anyhow::Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trialog.toml");
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let arguments = ["trialog", "--config", &path]
            .into_iter()
            .chain(flags.iter().copied())
            .chain(["serve"]);
        from_values(&gather(&Cli::parse_from(arguments))?)
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let config = resolved(
            "interval = \"10m\"\nlisten = \"127.0.0.1:1\"",
            &["--interval", "30s"],
        )
        .unwrap();
        assert_eq!(
            (config.interval.as_secs(), config.listen.as_str()),
            (30, "127.0.0.1:1")
        );
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused() {
        let error = format!("{:#}", resolved("intervall = \"10m\"", &[]).unwrap_err());
        assert!(error.contains("intervall"), "{error}");
        assert!(resolved("interval = \"often\"", &[]).is_err());
        assert!(resolved("", &["--threads", "0"]).is_err());
        let error = format!("{:#}", resolved("threads = \"4\"", &[]).unwrap_err());
        assert!(error.contains("without quotes"), "{error}");
        assert!(resolved("log_format = \"xml\"", &[]).is_err());
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told_in_plain_words() {
        for (text, expected) in [
            (
                "threads = 2\ninterval = 10m",
                "line 2, `interval = 10m`, is not TOML",
            ),
            (
                "interval",
                "line 1, `interval`, is not TOML: write key = value",
            ),
            (
                "threads = 1\nthreads = 2",
                "line 2, `threads = 2`, gives a key that stands there",
            ),
            ("intervall = \"10m\"", "is no setting; there are "),
            ("intervall = \"10m\"", "did you mean `interval`?"),
            (
                "interval = 10",
                "`interval` is a number: give a length such as 1h",
            ),
            ("interval = [\"1h\"]", "`interval` is a list: give a length"),
            (
                "threads = \"4\"",
                "`threads` is a text: give a whole number",
            ),
            ("interval = \"often\"", "`interval`"),
            ("threads = -1", "`-1` cannot be the value of `threads`"),
            ("min_free_disk = \"1GB\"", "such as 1GiB"),
            (
                "listen = 8080",
                "`listen` is a number: give text, in quotes",
            ),
        ] {
            let said = format!("{:#}", resolved(text, &[]).unwrap_err());
            assert!(said.contains(expected), "{text}: {said}");
            for word in [
                "expected",
                "invalid",
                "TOML parse error",
                "struct",
                "ParseInt",
            ] {
                assert!(!said.contains(word), "{text}: {said}");
            }
        }
    }

    #[test]
    fn a_file_with_a_mistake_does_not_show_its_secrets() {
        for text in [
            "key = tlk_a_s3cret",
            "catalog = \"postgres://u:s3cret@h/d",
            "warehouse = clickhouse://u:s3cret@h/d",
            "server = http://u:s3cret@h",
            "[s3cret",
            "threads = 1\n\"s3cret",
            "key = \"s3cret\"\nkey = \"s3cret\"",
            "catalog = \"mysql://u:s3cret@h/d\"",
            "warehouse = \"clickhouse://u:s3cret@h:port/d\"",
            "warehouse = \"clickhouse://u@h/d?a=b&s3cret\"",
            "event_log = \"kafka://u:s3cret@h\"",
            "event_log = \"kafka://h?sasl.username=u&sasl.password=a&s3cret\"",
            "server = [\"http://u:s3cret@h\"]",
        ] {
            let Err(error) = resolved(text, &[]) else {
                continue;
            };
            let said = trialog_model::text::without_passwords(&format!("{error:#}")).into_owned();
            assert!(!said.contains("s3cret"), "{text}: {said}");
        }
    }

    #[test]
    fn the_table_and_the_libraries_agree_on_defaults() {
        let config = from_values(&Values::default()).unwrap();
        let usual = Settings::default();
        assert_eq!(config.aggregation.limits, usual.limits);
        assert_eq!(config.aggregation.keep_all_micros, usual.keep_all_micros);
        assert_eq!(config.aggregation.n_threads, usual.n_threads);
        assert!(config.data_dir_is_default && config.listen_is_default);
    }

    #[test]
    fn ids_are_kept_unless_that_is_switched_off() {
        assert!(resolved("", &[]).unwrap().keep_user_ids);
        assert!(resolved("", &["--keep-user-ids"]).unwrap().keep_user_ids);
        assert!(
            !resolved("", &["--keep-user-ids=false"])
                .unwrap()
                .keep_user_ids
        );
        assert!(
            !resolved("keep_user_ids = false", &[])
                .unwrap()
                .keep_user_ids
        );
    }

    #[test]
    fn each_value_knows_where_it_came_from() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trialog.toml");
        std::fs::write(&path, "interval = \"10m\"\nthreads = 2\nmin_free_disk = 7").unwrap();
        let shown = path.display().to_string();
        let cli = Cli::parse_from(["trialog", "--config", &shown, "serve", "--interval", "30s"]);
        let values = gather(&cli).unwrap();
        let source = |key: &str| {
            let setting = crate::settings::find(key).unwrap();
            values.effective(setting).1.describe(setting)
        };
        let sources = ["interval", "threads", "listen"].map(source);
        assert_eq!(sources, ["--interval", &shown, "default"]);
        assert_eq!(from_values(&values).unwrap().min_free_bytes, 7);
    }

    #[test]
    fn a_key_never_shows() {
        let config = resolved("", &["--key", "tlk_a_b"]).unwrap();
        assert!(!format!("{config:?}").contains("tlk_a_b"));
    }
}
