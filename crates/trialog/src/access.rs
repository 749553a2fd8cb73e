//! Gives commands access to the data: through a server, or through the data directory.
//!
//! Either way it speaks the HTTP interface. Without a server the same routes
//! are called inside this process, so there is one way to do everything.

use std::io::{BufReader, Write};
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context, bail};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::Value;
use tower::ServiceExt;
pub(crate) use trialog_model::percent::encode;
use trialog_server::InProcess;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::lock::DirectoryLock;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

use crate::config::Config;
use crate::front::local_key;
use crate::node::{Node, plain, runtime};
use crate::secret::Secret;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 256 << 20;

pub(crate) enum Access {
    /// A server at this address.
    Server { address: String, agent: ureq::Agent },
    /// This process has the data open.
    Directory(Box<Opened>),
}

pub(crate) struct Opened {
    pub(crate) node: Node,
    router: Router,
    runtime: tokio::runtime::Runtime,
}

impl Access {
    /// Connects to the named server, else to the one that holds the directory, else opens the
    /// directory, which must hold data: reading creates nothing.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        if config.server.is_none() && config.storage.needs_directory() {
            check_holds_data(&config.data_dir)?;
        }
        Self::open_or_create(config)
    }

    /// Connects as [`Self::open`] does, and creates the data directory if it does not exist.
    pub(crate) fn open_or_create(config: &Config) -> anyhow::Result<Self> {
        if let Some(address) = &config.server {
            return Self::server(address, config.key.as_ref(), config.tls_ca.as_deref());
        }
        if !config.storage.needs_directory() {
            return Self::here(Node::open(config)?);
        }
        match DirectoryLock::acquire(&config.data_dir) {
            Ok(lock) => Self::here(Node::with_lock(config, Some(lock))?),
            Err(WarehouseError::Locked {
                address: Some(address),
                ..
            }) => Self::beside(config, &address),
            Err(error) => Err(plain(error)),
        }
    }

    /// What this process has open itself.
    fn here(node: Node) -> anyhow::Result<Self> {
        let router = trialog_server::router(std::sync::Arc::clone(&node.app));
        Ok(Self::Directory(Box::new(Opened {
            node,
            router,
            runtime: runtime()?,
        })))
    }

    /// Connects to the server at `address` that holds the data directory of `config`.
    pub(crate) fn beside(config: &Config, address: &str) -> anyhow::Result<Self> {
        let local = local_key(&config.data_dir);
        Self::server(address, config.key.as_ref().or(local.as_ref()), None)
    }

    /// Connects to the server at `address`. Every request carries `key`.
    pub(crate) fn server(
        address: &str,
        key: Option<&Secret>,
        tls_ca: Option<&Path>,
    ) -> anyhow::Result<Self> {
        if !address.starts_with("http://") && !address.starts_with("https://") {
            bail!(
                "cannot talk to `{address}`: give an address such as http://127.0.0.1:8080 or https://trialog.example"
            );
        }
        let mut agent = ureq::Agent::config_builder().http_status_as_error(false);
        if let Some(path) = tls_ca {
            let tls = TlsConfig::builder().root_certs(authorities(path)?);
            agent = agent.tls_config(tls.build());
        }
        if let Some(key) = key {
            let value = bearer(key)?;
            agent = agent.middleware(
                move |mut request: Request<ureq::SendBody<'_>>,
                      next: ureq::middleware::MiddlewareNext<'_>| {
                    (request.headers_mut()).insert(header::AUTHORIZATION, value.clone());
                    next.handle(request)
                },
            );
        }
        Ok(Self::Server {
            address: address.trim_end_matches('/').to_owned(),
            agent: agent.build().new_agent(),
        })
    }

    /// Closes what this process has open.
    pub(crate) fn close(&self) {
        if let Self::Directory(opened) = self {
            opened.node.close();
        }
    }

    /// Reads `path`.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request(&Method::GET, path, None)?.read()
    }

    /// Sends `body` to `path`.
    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.request(&Method::POST, path, body)?.read()
    }

    /// Deletes the resource at `path`.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.request(&Method::DELETE, path, None)?.read()
    }

    /// Writes the body of a successful response to `out` as it comes in.
    pub(crate) fn download(&self, path: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let Self::Directory(opened) = self else {
            std::io::copy(&mut self.stream(path)?, out)?;
            return Ok(());
        };
        opened.runtime.block_on(async {
            let request = Request::get(path)
                .extension(InProcess)
                .body(Body::empty())?;
            let response = opened.router.clone().oneshot(request).await?;
            let (status, mut body) = (response.status(), response.into_body());
            if !status.is_success() {
                let bytes = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await?;
                let text = String::from_utf8(bytes.into())?;
                Answered { status, text }.read()?;
                bail!("the answer was {status}");
            }
            while let Some(frame) =
                std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
            {
                if let Ok(bytes) = frame?.into_data() {
                    out.write_all(&bytes)?;
                }
            }
            Ok(())
        })
    }

    /// Returns the body of a successful response of a server as a stream.
    pub(crate) fn stream(
        &self,
        path: &str,
    ) -> anyhow::Result<BufReader<ureq::BodyReader<'static>>> {
        let Self::Server { address, agent } = self else {
            bail!("`{path}` is asked of a server only");
        };
        let url = format!("{address}{path}");
        let mut response = (agent.get(&url).call())
            .with_context(|| format!("cannot reach `{url}`: is the server running?"))?;
        if !response.status().is_success() {
            let (status, text) = (response.status(), response.body_mut().read_to_string()?);
            Answered { status, text }.read()?;
            bail!("the server answered {status}");
        }
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    /// Sends a request and returns the response, whatever its status.
    pub(crate) fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answered> {
        let text = body.map(Value::to_string).unwrap_or_default();
        match self {
            Self::Server { address, agent } => {
                let url = format!("{address}{path}");
                let request = Request::builder()
                    .method(method)
                    .uri(&url)
                    .header("content-type", "application/json");
                let mut response = agent
                    .run(request.body(text)?)
                    .with_context(|| format!("cannot reach `{url}`: is the server running?"))?;
                let status = response.status();
                let text = response
                    .body_mut()
                    .with_config()
                    .limit(MAX_ANSWER_BYTES as u64)
                    .read_to_string()?;
                Ok(Answered { status, text })
            }
            Self::Directory(opened) => opened.runtime.block_on(async {
                let request = Request::builder()
                    .method(method)
                    .uri(path)
                    .extension(InProcess)
                    .body(Body::from(text))?;
                let response = opened.router.clone().oneshot(request).await?;
                let status = response.status();
                let bytes = axum::body::to_bytes(response.into_body(), MAX_ANSWER_BYTES).await?;
                Ok(Answered {
                    status,
                    text: String::from_utf8(bytes.into())?,
                })
            }),
        }
    }
}

/// Rejects a directory without data, such as a mistyped path.
pub(crate) fn check_holds_data(directory: &Path) -> anyhow::Result<()> {
    let shown = directory.display();
    let remedy = "give the right --data-dir; `trialog serve`, `import`, `aggregate` and `keys create` make a new one";
    if !directory.is_dir() {
        bail!("there is no data directory `{shown}`: {remedy}");
    }
    // One of the two may be in a service.
    let is_there = |name: &&str| directory.join(name).exists();
    if !["catalog.sqlite", "warehouse.sqlite"].iter().any(is_there) {
        bail!("there is no data in the directory `{shown}`: {remedy}");
    }
    Ok(())
}

fn bearer(key: &Secret) -> anyhow::Result<HeaderValue> {
    let value = HeaderValue::try_from(format!("Bearer {}", key.reveal())).ok();
    let mut value = value
        .context("the API key has characters that no key has: check that it was copied whole")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The certificates in the PEM file `path`.
fn authorities(path: &Path) -> anyhow::Result<RootCerts> {
    let shown = path.display();
    let pem = std::fs::read(path).with_context(|| format!("cannot read `{shown}`"))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        let item = item.with_context(|| format!("`{shown}` is no PEM file"))?;
        if let PemItem::Certificate(certificate) = item {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        bail!("`{shown}` has no certificate: give a PEM file with those of the authority");
    }
    Ok(RootCerts::from(certificates))
}

/// A status and a body.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    text: String,
}

impl Answered {
    /// Returns the body of a successful response, or the detail of a failed one as the error.
    pub(crate) fn read(&self) -> anyhow::Result<Value> {
        let value: Value = (serde_json::from_str(&self.text).ok()).with_context(|| {
            format!(
                "the answer ({}) is not JSON: is this the address of a Trialog server?",
                self.status
            )
        })?;
        if self.status.is_success() {
            return Ok(value);
        }
        match value.get("detail").and_then(Value::as_str) {
            Some(detail) => bail!("{detail}"),
            None => bail!("the server answered {}", self.status),
        }
    }
}

/// Writes the parameters that have a value as a query, and `segment` as `segment.<key>=<value>`.
///
/// # Errors
///
/// A segment without `=`.
pub(crate) fn query_text<const N: usize>(
    named: [(&str, Option<&String>); N],
    segment: &[String],
) -> anyhow::Result<String> {
    let pairs = named.into_iter();
    let mut query: Vec<String> = pairs
        .filter_map(|(name, value)| Some(format!("{name}={}", encode(value?))))
        .collect();
    for pair in segment {
        let (key, value) = pair
            .split_once('=')
            .with_context(|| format!("`{pair}` is no segment: give key=value"))?;
        query.push(format!("segment.{}={}", encode(key), encode(value)));
    }
    Ok(query.join("&"))
}
