//! Sends statements to ClickHouse over its HTTP interface.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::address::Address;
use crate::error::WarehouseError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an insertion may take; a query over all events may take longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
const QUERY_TIMEOUT: Duration = Duration::from_secs(1_800);
/// The most of an error's text that is shown.
const MAX_ERROR_BYTES: u64 = 16 << 10;

/// Settings that go with every query.
const SETTINGS: &[(&str, &str)] = &[
    // An answer begins when it is complete, so that an error comes instead of half an answer.
    ("wait_end_of_query", "1"),
    ("output_format_json_quote_64bit_integers", "0"),
    // A name means a column before it means what the same query calls by it.
    ("prefer_column_name_to_alias", "1"),
    ("max_query_size", "67108864"),
    // What does not fit into memory goes to disk.
    ("max_bytes_before_external_group_by", "2000000000"),
    // A user's events may lie in any number of months.
    ("max_partitions_per_insert_block", "0"),
];

/// On a cluster: an insertion is answered by a majority, and what was answered is read.
const CLUSTER_SETTINGS: &[(&str, &str)] = &[
    ("insert_quorum", "auto"),
    ("insert_quorum_parallel", "1"),
    ("distributed_foreground_insert", "1"),
    ("select_sequential_consistency", "1"),
];

/// Codes of errors that stay until somebody changes a setting; the name of what to change.
const LASTING: &[(u32, &str)] = &[
    (516, "check the user and the password in `warehouse`"),
    (194, "check the user and the password in `warehouse`"),
    (192, "check the user in `warehouse`"),
    (193, "check the password in `warehouse`"),
    (497, "give the user of `warehouse` the right to do this"),
    (
        81,
        "create the database that `warehouse` names: CREATE DATABASE trialog",
    ),
    (
        60,
        "start `trialog serve` once, which brings the tables, and check the database in `warehouse`",
    ),
    (
        115,
        "check the settings in `warehouse`: one of them does not exist",
    ),
    (170, "check the `cluster` in `warehouse`"),
];

/// Codes of errors that end by themselves or with help on the server's side.
const DISK_FULL: &[u32] = &[243, 1002];

/// The certificates in a PEM file.
fn authorities(file: &str) -> Result<RootCerts, String> {
    let pem = std::fs::read(file).map_err(|error| error.to_string())?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err("it has no certificate".to_owned());
    }
    Ok(RootCerts::from(certificates))
}

/// A connection's address and what goes with every query.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    address: Arc<Address>,
    place: Arc<str>,
    /// Where what does not fit into memory goes.
    spill: Arc<Path>,
}

impl Client {
    pub(crate) fn new(address: Address) -> Result<Self, WarehouseError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .max_idle_connections_per_host(8);
        if let Some(file) = &address.authorities {
            let roots = authorities(file).map_err(|what| WarehouseError::Server {
                action: "connect",
                place: address.to_string(),
                what: format!("ca `{file}`: {what}; check `ca` in `warehouse`"),
                is_transient: false,
            })?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self {
            agent: config.build().into(),
            place: address.to_string().into(),
            address: Arc::new(address),
            spill: std::env::temp_dir().into(),
        })
    }

    pub(super) fn spilling_into(self, directory: &Path) -> Self {
        Self {
            spill: directory.into(),
            ..self
        }
    }

    pub(crate) fn spill(&self) -> &Path {
        &self.spill
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Runs a statement.
    pub(crate) fn run(&self, action: &'static str, sql: &str) -> Result<(), WarehouseError> {
        self.answer(action, sql).map(drop)
    }

    /// The rows of a query, whose format is `JSONCompactEachRow`.
    pub(crate) fn rows<T: DeserializeOwned>(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<Vec<T>, WarehouseError> {
        let mut rows = Vec::new();
        self.each_row(action, sql, |row| rows.push(row))?;
        Ok(rows)
    }

    /// Hands on the rows of a query one by one.
    pub(crate) fn each_row<T: DeserializeOwned>(
        &self,
        action: &'static str,
        sql: &str,
        mut each: impl FnMut(T),
    ) -> Result<(), WarehouseError> {
        let body = self.answer(action, sql)?.into_body().into_reader();
        let mut lines = BufReader::new(body);
        let mut line = Vec::new();
        loop {
            line.clear();
            let n_bytes = (lines.read_until(b'\n', &mut line))
                .map_err(|error| self.unreachable(action, error))?;
            if n_bytes == 0 {
                return Ok(());
            }
            let row = serde_json::from_slice(&line).map_err(|error| {
                let line = String::from_utf8_lossy(&line);
                self.failed(
                    action,
                    format!("an answer that cannot be read ({error}): {line}"),
                    false,
                )
            })?;
            each(row);
        }
    }

    /// Reads the answer of a query, in whatever format it names.
    pub(crate) fn read(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<Box<dyn Read + Send>, WarehouseError> {
        Ok(Box::new(
            self.answer(action, sql)?.into_body().into_reader(),
        ))
    }

    /// Converts an error from the middle of an answer: the query may be made again.
    pub(crate) fn broken(&self, action: &'static str, error: std::io::Error) -> WarehouseError {
        self.unreachable(action, error)
    }

    /// Sends rows of an insertion.
    pub(crate) fn send(
        &self,
        action: &'static str,
        query: &str,
        settings: &[(&str, String)],
        rows: &[u8],
    ) -> Result<(), WarehouseError> {
        let mut request = self.request(SEND_TIMEOUT).query("query", query);
        for (name, value) in settings {
            request = request.query(name, value);
        }
        let answer = request
            .send(rows)
            .map_err(|error| self.unreachable(action, error))?;
        self.judged(action, answer).map(drop)
    }

    fn answer(
        &self,
        action: &'static str,
        sql: &str,
    ) -> Result<ureq::http::Response<ureq::Body>, WarehouseError> {
        let request = self.request(QUERY_TIMEOUT);
        let answer = request
            .send(sql.as_bytes())
            .map_err(|error| self.unreachable(action, error))?;
        self.judged(action, answer)
    }

    fn request(&self, timeout: Duration) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let address = &self.address;
        let scheme = if address.is_secure { "https" } else { "http" };
        let url = format!("{scheme}://{}:{}/", address.host, address.port);
        let mut request = (self.agent.post(url))
            .config()
            .timeout_global(Some(timeout))
            .build()
            .header("x-clickhouse-user", &address.user)
            .header("x-clickhouse-key", &address.password)
            .query("database", &address.database);
        let on_cluster = if address.cluster.is_some() {
            CLUSTER_SETTINGS
        } else {
            &[]
        };
        for (name, value) in SETTINGS.iter().chain(on_cluster) {
            request = request.query(name, value);
        }
        for (name, value) in &address.settings {
            request = request.query(name, value);
        }
        request
    }

    /// The answer, or what it says is wrong.
    fn judged(
        &self,
        action: &'static str,
        mut answer: ureq::http::Response<ureq::Body>,
    ) -> Result<ureq::http::Response<ureq::Body>, WarehouseError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let code: Option<u32> = (answer.headers().get("x-clickhouse-exception-code"))
            .and_then(|code| code.to_str().ok()?.parse().ok());
        let limited = answer.body_mut().with_config().limit(MAX_ERROR_BYTES);
        let text = limited.read_to_string().unwrap_or_default();
        let text = text.lines().next().unwrap_or_default();
        let Some(code) = code else {
            let what = format!(
                "HTTP status {status} ({text}): check the address in `warehouse`, which is to be ClickHouse's HTTP port"
            );
            return Err(self.failed(action, what, status.is_server_error()));
        };
        let lasting = LASTING.iter().find(|(lasting, _)| *lasting == code);
        Err(match lasting {
            Some((_, mend)) => self.failed(action, format!("{text}; {mend}"), false),
            None if DISK_FULL.contains(&code) && text.to_lowercase().contains("space") => self
                .failed(
                    action,
                    format!("{text}; free space on the disk of the server in `warehouse`"),
                    true,
                ),
            None => self.failed(action, text.to_owned(), true),
        })
    }

    fn unreachable(&self, action: &'static str, error: impl std::fmt::Display) -> WarehouseError {
        self.failed(
            action,
            format!("{error}; check that the server in `warehouse` runs"),
            true,
        )
    }

    fn failed(&self, action: &'static str, what: String, is_transient: bool) -> WarehouseError {
        WarehouseError::Server {
            action,
            place: self.place.to_string(),
            what,
            is_transient,
        }
    }
}
