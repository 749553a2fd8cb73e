//! Runs `trialog check`: inspects settings, data directory, clock, versions and limits without
//! changing anything, also beside a running server.

mod connections;
mod data;
mod system;

use std::borrow::Cow;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};
use trialog_model::text::without_passwords;

use crate::cli::{CheckArgs, Format};
use crate::clock;
use crate::config::{self, Config, Values};
use crate::front;
use crate::settings::{SETTINGS, Setting};

/// Something warns, and --strict was given.
const EXIT_WARNINGS: u8 = 1;
/// Something has failed.
const EXIT_FAILED: u8 = 2;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Good,
    Warning,
    Failed,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    severity: Severity,
    detail: String,
}

impl Finding {
    pub(super) fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Severity::Good, detail)
    }

    pub(super) fn warning(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Severity::Warning, detail)
    }

    pub(super) fn failed(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, Severity::Failed, detail)
    }

    fn new(check: &'static str, severity: Severity, detail: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            detail: without_passwords(&detail.into()).into_owned(),
        }
    }
}

/// Reports on `values`, which may be unusable.
pub(crate) fn run(values: anyhow::Result<Values>, options: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (values, error) = match values {
        Ok(values) => (values, None),
        Err(error) => (Values::default(), Some(error)),
    };
    let config = match error {
        None => config::from_values(&values),
        Some(error) => Err(error),
    };
    let findings = match &config {
        Ok(config) => inspect(config),
        Err(error) => vec![Finding::failed("configuration", format!("{error:#}"))],
    };
    let worst = findings.iter().map(|finding| finding.severity).max();
    let worst = worst.unwrap_or(Severity::Good);
    match options.format {
        Format::Json => {
            let settings: Vec<Value> = SETTINGS
                .iter()
                .map(|known| setting(&values, known))
                .collect();
            let report = json!({ "status": worst, "checks": findings, "settings": settings });
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Format::Table => print(&values, &findings),
    }
    Ok(match worst {
        Severity::Failed => ExitCode::from(EXIT_FAILED),
        Severity::Warning if options.strict => ExitCode::from(EXIT_WARNINGS),
        _ => ExitCode::SUCCESS,
    })
}

fn inspect(config: &Config) -> Vec<Finding> {
    let now = clock::now();
    let catalog = trialog_catalog::inspect(&config.data_dir, now);
    let seen = catalog.as_ref().ok().copied().flatten();
    let (connections, n_keys_there) = connections::inspect(&config.storage, now);
    let n_usable_keys = n_keys_there
        .or(seen.map(|seen| seen.n_usable_keys))
        .unwrap_or(0);
    let mut findings = vec![Finding::good("configuration", "every setting can be used")];
    findings.extend(front(config, n_usable_keys));
    findings.extend(system::inspect());
    findings.extend(connections);
    if config.storage.needs_directory() {
        findings.extend(data::inspect(config, catalog, now));
    }
    findings
}

/// Who gets in: the address, the keys, the certificate.
fn front(config: &Config, n_usable_keys: u64) -> Vec<Finding> {
    let allowed = config.address().and_then(|address| {
        front::check(config, address, n_usable_keys > 0)?;
        Ok(address)
    });
    let listen = match allowed {
        Ok(address) if n_usable_keys == 0 => {
            Finding::good("listen", format!("{address}, and there are no API keys"))
        }
        Ok(address) => Finding::good("listen", format!("{address}, for {n_usable_keys} API keys")),
        Err(error) => Finding::failed("listen", format!("{error:#}")),
    };
    let tls = match config.http.tls() {
        Ok(None) => None,
        Ok(Some(_)) => Some(Finding::good(
            "tls",
            "the certificate and its key can be used",
        )),
        Err(error) => Some(Finding::failed("tls", format!("{error:#}"))),
    };
    std::iter::once(listen).chain(tls).collect()
}

/// The value of a setting, as far as everybody may see it.
fn shown<'v>(setting: &Setting, value: &'v str) -> Cow<'v, str> {
    match setting.is_secret {
        true => "(set)".into(),
        false => without_passwords(value),
    }
}

fn setting(values: &Values, setting: &Setting) -> Value {
    let (value, source) = values.effective(setting);
    json!({
        "key": setting.key,
        "value": value.map(|value| shown(setting, value)),
        "source": source.describe(setting),
        "default": setting.default_text(),
    })
}

fn print(values: &Values, findings: &[Finding]) {
    for setting in SETTINGS {
        let (value, source) = values.effective(setting);
        let value = match value {
            Some(value) => shown(setting, value),
            None => setting.default_text().into(),
        };
        println!("{} = {value} ({})", setting.key, source.describe(setting));
    }
    println!();
    for finding in findings {
        let word = match finding.severity {
            Severity::Good => "good",
            Severity::Warning => "WARNING",
            Severity::Failed => "FAILED",
        };
        println!("{word:8} {:16} {}", finding.check, finding.detail);
    }
}
