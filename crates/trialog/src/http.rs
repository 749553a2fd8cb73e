//! Parses the settings of the HTTP interface.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use trialog_pipeline::ingest::IngestSettings;
use trialog_server::serving::Connections;
use trialog_server::tls::Tls;
use trialog_server::{Settings, WithoutVariant};

use crate::config::Values;
use crate::secret::randomness;

/// The settings of serving, complete.
#[derive(Debug, Clone)]
pub(crate) struct HttpConfig {
    pub(crate) limits: Settings,
    pub(crate) insecure_http: bool,
    certificate: Option<(PathBuf, PathBuf)>,
}

/// Reads the settings of serving.
pub(crate) fn from_values(values: &Values) -> anyhow::Result<HttpConfig> {
    let certificate = match (values.text("tls_cert"), values.text("tls_key")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        _ => bail!("`tls_cert` and `tls_key` go together: give both, or neither"),
    };
    let max_body_bytes = size(values, "max_body", 1 << 10, 1 << 30)?;
    let connections = Connections {
        max: number(values, "max_connections", 1, 1 << 20)?,
        max_header_bytes: size(values, "max_header", 1 << 10, 1 << 20)?,
        header_timeout: length(values, "header_timeout")?,
        idle_timeout: length(values, "idle_timeout")?,
        write_timeout: length(values, "write_timeout")?,
    };
    let limits = Settings {
        max_body_bytes,
        // A caller alone has half, and a compressed body counts with what it decompresses to.
        max_bodies_bytes: size(values, "max_bodies", max_body_bytes * 4, 1 << 40)?,
        ingest: IngestSettings {
            max_events: number(values, "max_events", 1, 10_000_000)?,
            allows_placeholder_ids: values.switch("allow_placeholder_ids")?,
        },
        body_timeout: length(values, "body_timeout")?,
        requests_per_second: number(values, "requests_per_second", 0, 1_000_000)?,
        connections,
        cors_origins: origins(values.text("cors_origins").unwrap_or_default())?,
        without_variant: match values.text("openfeature_no_variant").unwrap_or_default() {
            "control" => WithoutVariant::Control,
            "omit" => WithoutVariant::Omit,
            other => bail!(
                "`{other}` cannot be the value of `openfeature_no_variant`: give control or omit"
            ),
        },
        randomness,
        ..Settings::default()
    };
    Ok(HttpConfig {
        limits,
        insecure_http: values.switch("insecure_http")?,
        certificate,
    })
}

fn between<T: PartialOrd + Copy + std::fmt::Display>(
    key: &str,
    given: T,
    least: T,
    most: T,
) -> anyhow::Result<T> {
    if given < least || given > most {
        bail!("`{key}` is {given}: give {least} to {most}");
    }
    Ok(given)
}

fn number<T>(values: &Values, key: &str, least: T, most: T) -> anyhow::Result<T>
where
    T: PartialOrd + Copy + std::fmt::Display + FromStr,
{
    let given = values.number(key)?;
    between(
        key,
        given.with_context(|| format!("`{key}` has no value"))?,
        least,
        most,
    )
}

fn size(values: &Values, key: &str, least: usize, most: usize) -> anyhow::Result<usize> {
    let given = usize::try_from(values.bytes(key)?).unwrap_or(usize::MAX);
    between(key, given, least, most)
}

fn length(values: &Values, key: &str) -> anyhow::Result<Duration> {
    Ok(Duration::from_micros(values.micros(key)?.unsigned_abs()))
}

/// Origins separated by commas; an origin is a scheme and a host, perhaps a
/// port, and nothing else.
fn origins(text: &str) -> anyhow::Result<Vec<String>> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte);
    let mut origins = Vec::new();
    for origin in text
        .split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
    {
        let host = (origin.strip_prefix("https://")).or_else(|| origin.strip_prefix("http://"));
        let is_origin = host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_plain));
        if origin != "*" && !is_origin {
            bail!(
                "`{origin}` in `cors_origins` is no origin: give a scheme and a host such as https://shop.example, or *"
            );
        }
        origins.push(origin.to_owned());
    }
    Ok(origins)
}

impl HttpConfig {
    pub(crate) fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// Returns the TLS certificate; `None` for plain HTTP.
    pub(crate) fn tls(&self) -> anyhow::Result<Option<Arc<Tls>>> {
        match &self.certificate {
            None => Ok(None),
            Some((certificate, key)) => Ok(Some(Arc::new(Tls::open(certificate, key)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::config::gather;

    fn resolved(text: &str, flags: &[&str]) -> anyhow::Result<HttpConfig> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trialog.toml");
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let arguments = ["trialog", "--config", &path]
            .into_iter()
            .chain(flags.iter().copied());
        from_values(&gather(&Cli::parse_from(arguments.chain(["serve"])))?)
    }

    #[test]
    fn every_limit_can_be_set_and_bad_ones_are_refused() {
        let http = resolved(
            "max_body = \"1KiB\"\nheader_timeout = \"2s\"\nrequests_per_second = 0\nmax_events = 6\nopenfeature_no_variant = \"omit\"",
            &["--max-events", "7", "--insecure-http"],
        );
        let HttpConfig {
            limits,
            insecure_http,
            ..
        } = http.unwrap();
        assert_eq!(
            (limits.max_body_bytes, limits.ingest.max_events),
            (1_024, 7)
        );
        assert_eq!(limits.connections.header_timeout, Duration::from_secs(2));
        assert_eq!((limits.requests_per_second, insecure_http), (0, true));
        assert_eq!(limits.without_variant, WithoutVariant::Omit);
        for bad in [
            "max_connections = 0",
            "max_header = 100",
            "header_timeout = \"soon\"",
            "idle_timeout = \"none\"",
            "max_bodies = \"1KiB\"",
            "tls_cert = \"a\"",
            "insecure_http = \"true\"",
            "openfeature_no_variant = \"default\"",
        ] {
            assert!(resolved(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_and_the_server_agree_on_defaults() {
        let limits = resolved("", &[]).unwrap().limits;
        let usual = Settings {
            randomness,
            ..Settings::default()
        };
        assert_eq!(format!("{limits:?}"), format!("{usual:?}"));
    }

    #[test]
    fn origins_have_a_scheme_a_host_and_no_path() {
        assert_eq!(origins("").unwrap(), [] as [&str; 0]);
        let two = origins("https://shop.example, http://localhost:3000").unwrap();
        assert_eq!(two, ["https://shop.example", "http://localhost:3000"]);
        for bad in [
            "shop.example",
            "https://",
            "https://a/",
            "https://*.a",
            "null",
        ] {
            assert!(origins(bad).is_err(), "{bad}");
        }
    }
}
