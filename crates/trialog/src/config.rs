//! Settings: flags over environment over a TOML file over defaults.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use trialog_model::duration::Window;
use trialog_pipeline::Limits;
use trialog_pipeline::aggregation::Settings;

use crate::cli::Cli;

/// The settings of this process, complete.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) data_dir_is_default: bool,
    pub(crate) listen: String,
    pub(crate) listen_is_default: bool,
    pub(crate) server: Option<String>,
    pub(crate) interval: Duration,
    pub(crate) backup_dir: PathBuf,
    pub(crate) aggregation: Settings,
}

/// The TOML file; a key that is not known is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<String>,
    server: Option<String>,
    interval: Option<String>,
    backup_dir: Option<PathBuf>,
    threads: Option<usize>,
    unregistered_experiments: Option<u64>,
    undeclared_event_types: Option<usize>,
    keep_all_results_for: Option<String>,
}

pub(crate) fn resolve(cli: &Cli) -> anyhow::Result<Config> {
    let file = match &cli.config {
        None => File::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration `{}`", path.display()))?;
            toml::from_str(&text)
                .with_context(|| format!("cannot use the configuration `{}`", path.display()))?
        }
    };
    let flags = cli.settings.clone();
    let data_dir = flags.data_dir.or(file.data_dir);
    let listen = flags.listen.or(file.listen);
    let threads = flags.threads.or(file.threads);
    if threads == Some(0) {
        bail!("`threads` is 0: give 1 or more");
    }
    let mut aggregation = Settings::default();
    aggregation.n_threads = threads.unwrap_or(aggregation.n_threads);
    aggregation.limits = Limits {
        unregistered_experiments: file
            .unregistered_experiments
            .unwrap_or(aggregation.limits.unregistered_experiments),
        undeclared_event_types: file
            .undeclared_event_types
            .unwrap_or(aggregation.limits.undeclared_event_types),
    };
    if let Some(text) = &file.keep_all_results_for {
        aggregation.keep_all_micros = micros("keep_all_results_for", text)?;
    }
    let interval = flags.interval.or(file.interval);
    let interval = interval.map_or(Ok(3_600_000_000), |text| micros("interval", &text))?;
    let data_dir_is_default = data_dir.is_none();
    let data_dir = data_dir.unwrap_or_else(|| "trialog-data".into());
    let backup_dir = flags.backup_dir.or(file.backup_dir);
    let backup_dir = backup_dir.unwrap_or_else(|| data_dir.join("backups"));
    Ok(Config {
        data_dir_is_default,
        data_dir,
        backup_dir: std::path::absolute(backup_dir).context("cannot use `backup_dir`")?,
        listen_is_default: listen.is_none(),
        listen: listen.unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
        server: flags.server.or(file.server),
        interval: Duration::from_micros(interval.unsigned_abs()),
        aggregation,
    })
}

fn micros(name: &str, text: &str) -> anyhow::Result<i64> {
    let window = Window::parse(text).with_context(|| format!("cannot use `{name}`"))?;
    window
        .micros()
        .with_context(|| format!("`{name}` is `none`: give a length such as 1h"))
}

impl Config {
    /// The address to listen on, which without keys is on this machine only.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        let mut addresses = (self.listen.as_str()).to_socket_addrs().with_context(|| {
            format!(
                "cannot listen on `{}`: give an address and a port such as 127.0.0.1:8080",
                self.listen
            )
        })?;
        let Some(address) = addresses.next() else {
            bail!("`{}` names no address", self.listen)
        };
        let is_loopback = match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        if !is_loopback {
            bail!(
                "`{}` can be reached from other machines, and there are no API keys yet: listen on 127.0.0.1 and put a proxy that checks access in front",
                self.listen
            );
        }
        Ok(address)
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
        resolve(&Cli::parse_from(arguments))
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
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        assert!(
            resolved("listen = \"0.0.0.0:8080\"", &[])
                .unwrap()
                .address()
                .is_err()
        );
        assert!(
            resolved("listen = \"127.0.0.1:0\"", &[])
                .unwrap()
                .address()
                .is_ok()
        );
    }
}
