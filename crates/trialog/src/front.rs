//! Opens the sockets of a serving process, and admits the commands on the same machine.
//!
//! Commands of the same user find the server through the data directory:
//! `LOCK` has an address on this machine, `LOCAL_KEY` (readable by its owner
//! only) a key with all scopes that lives as long as the process. A server
//! that speaks TLS, or listens on another address than loopback, has a second
//! socket for them, on a free port of 127.0.0.1.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use trialog_server::serving::{Listener, is_loopback};
use trialog_server::tls::Tls;

use crate::config::Config;
use crate::node::Node;
use crate::secret::Secret;

/// The file with the key of the commands on this machine.
const LOCAL_KEY: &str = "LOCAL_KEY";

/// The sockets of a process that is about to serve.
pub(crate) struct Front {
    pub(crate) listeners: Vec<Listener>,
    /// Where others reach it.
    pub(crate) url: String,
    /// Where commands on this machine reach it, and with which key.
    pub(crate) local: (String, Secret),
    _key_file: Option<KeyFile>,
}

impl Front {
    /// Opens `socket` and publishes its address on standard output and in the data directory.
    pub(crate) async fn open(
        config: &Config,
        node: &Node,
        socket: TcpListener,
    ) -> anyhow::Result<Self> {
        let tls = config.http.tls()?;
        reload_on_hangup(tls.clone())?;
        let address = socket.local_addr()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let needs_own = tls.is_some() || !is_loopback(address);
        let mut listeners = vec![Listener { socket, tls }];
        let mut local_url = url.clone();
        if needs_own {
            let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
            local_url = format!("http://{}", socket.local_addr()?);
            listeners.push(Listener { socket, tls: None });
        }
        let key = Secret::new(&(node.app.make_local_key()).context("cannot make the local key")?);
        // Without a data directory, commands open the data themselves.
        let key_file = (config.storage.needs_directory())
            .then(|| KeyFile::write(&config.data_dir, &key))
            .transpose()?;
        node.publish_address(&local_url)?;
        Ok(Self {
            listeners,
            url,
            local: (local_url, key),
            _key_file: key_file,
        })
    }
}

/// Rejects an address that others can reach, unless keys protect it and TLS encrypts it.
pub(crate) fn check(
    config: &Config,
    address: SocketAddr,
    has_usable_key: bool,
) -> anyhow::Result<()> {
    if is_loopback(address) {
        return Ok(());
    }
    if !has_usable_key {
        let data = match config.storage.needs_directory() {
            true => format!("--data-dir {} ", config.data_dir.display()),
            false => String::new(),
        };
        bail!(
            "`{}` can be reached from other machines, and there is no API key: make one with `trialog {data}keys create NAME --scope admin`, or listen on 127.0.0.1",
            config.listen
        );
    }
    if !config.http.has_certificate() && !config.http.insecure_http {
        bail!(
            "`{}` can be reached from other machines, and without TLS keys and events travel in clear: give --tls-cert and --tls-key, or --insecure-http where the network or a proxy encrypts",
            config.listen
        );
    }
    Ok(())
}

/// Prints the address, and who gets in, for the person who starts the server.
pub(crate) fn tell(node: &Node, url: &str) -> anyhow::Result<()> {
    println!("listening on {url}");
    std::io::stdout().flush()?;
    if !node.app.requires_keys()? {
        eprintln!("no API keys: {url} answers on this machine only");
    }
    Ok(())
}

pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: stop what listens there, or give --listen 127.0.0.1:0 for a free port"))
}

/// SIGHUP reads the certificate again; without one it does nothing.
fn reload_on_hangup(tls: Option<Arc<Tls>>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    // It ends with the runtime.
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match tls.as_ref().map(|tls| tls.reload()) {
                Some(Ok(())) => tracing::info!("read the certificate again"),
                Some(Err(error)) => {
                    tracing::error!("the certificate in use stays: {error}");
                }
                None => {}
            }
        }
    });
    Ok(())
}

/// The file with the local key, which goes with its process.
struct KeyFile(PathBuf);

impl KeyFile {
    /// Writes a new file, so that no other process has an older, readable one open.
    fn write(directory: &Path, key: &Secret) -> anyhow::Result<Self> {
        let path = directory.join(LOCAL_KEY);
        let write = || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(key.reveal().as_bytes())
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        // A key whose process is gone opens nothing.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Returns the key of the server that holds `directory`, if this user may read it.
pub(crate) fn local_key(directory: &Path) -> Option<Secret> {
    let mut text = String::new();
    (File::open(directory.join(LOCAL_KEY)).ok()?)
        .take(1_024)
        .read_to_string(&mut text)
        .ok()?;
    Some(Secret::new(&text))
}
