//! Accepts connections, within limits, until the server stops.
//!
//! A connection beyond the most takes the place of an idle one ([`places`](crate::places)), else
//! a reserved one: there a request without a key is answered with 503, so that the client learns
//! what is going on. Those beyond the reserved places are closed without a word.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;

use crate::access;
use crate::app::App;
use crate::connection::{self, Answering, InWork, Patience, Watched};
use crate::limits::Who;
use crate::places::{Place, Places};
use crate::pools;
use crate::routes::router;
use crate::tls::Tls;

/// What a connection may buffer of a body.
const MAX_BUFFER_BYTES: usize = 64 << 10;
/// The smallest buffer that hyper allows.
const MIN_BUFFER_BYTES: usize = 8 << 10;

/// The limits of connections.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// The maximum number of connections. Beyond it idle ones are closed, or else the answer is
    /// 503.
    pub max: usize,
    /// The request line and all headers; beyond it the answer is 431.
    pub max_header_bytes: usize,
    /// From a request's first byte, or from connecting, to the end of its head.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// How long an answer may make no progress.
    pub write_timeout: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max: 1_024,
            max_header_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// The certificate, unless the socket speaks plain HTTP.
    pub tls: Option<Arc<Tls>>,
}

/// The other end of a connection, in the extensions of its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) is_tls: bool,
    /// Only this machine reaches the socket, so no key is needed while there are no keys.
    pub(crate) is_open: bool,
}

/// Returns whether `address` can be reached from this machine only.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Serves `app` on `listeners` until `shutdown`, then completes the requests under way, for which
/// the caller sets a limit.
///
/// # Errors
///
/// A listener has no address.
pub async fn serve(
    listeners: Vec<Listener>,
    app: Arc<App>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let limits = app.settings.connections;
    let doors = Arc::new(Doors {
        router: router(Arc::clone(&app)),
        limits,
        places: Places::new(limits.max),
    });
    let (stop, stopped) = watch::channel(false);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let is_open = is_loopback(listener.socket.local_addr()?);
        accepting.spawn(accept(
            listener,
            is_open,
            Arc::clone(&doors),
            stopped.clone(),
        ));
    }
    drop(stopped);
    let mut shutdown = std::pin::pin!(shutdown);
    // Both branches may be left and begun again.
    while tokio::time::timeout(access::LOG_REFUSALS_EVERY, shutdown.as_mut())
        .await
        .is_err()
    {
        access::log_refusals(&app);
    }
    // Nobody listens any more where there are no connections left.
    let _ = stop.send(true);
    while accepting.join_next().await.is_some() {}
    // What clients left behind may still be under way.
    app.pools.jobs.idle().await;
    access::log_refusals(&app);
    let note = |app: &App| Ok(app.keyring.note_uses(&app.catalog)?);
    if let Err(problem) = pools::upkeep(&app, note).await {
        let reason = problem.detail();
        tracing::warn!("the last use of API keys was not noted: {reason}");
    }
    Ok(())
}

/// What all listeners share.
struct Doors {
    router: Router,
    limits: Connections,
    places: Arc<Places>,
}

/// Accepts connections until the server stops, then waits for them.
async fn accept(
    listener: Listener,
    is_open: bool,
    doors: Arc<Doors>,
    mut stopped: watch::Receiver<bool>,
) {
    let Listener { socket, tls } = listener;
    let mut connections = JoinSet::new();
    loop {
        // Both branches may be left and begun again.
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = socket.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                wait_after(&error).await;
                continue;
            }
        };
        let Some(place) = doors.places.enter(Who::address(address.ip())) else {
            continue;
        };
        let peer = Peer {
            address,
            is_tls: tls.is_some(),
            is_open,
        };
        connections.spawn(converse(
            stream,
            peer,
            tls.clone(),
            (Arc::clone(&doors), Arc::new(place)),
            stopped.clone(),
        ));
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// Waits after a failed accept: not at all if the client went away, longer if file descriptors are
/// missing.
async fn wait_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind()) {
        return;
    }
    tracing::error!("cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// One connection from its beginning to its end.
async fn converse(
    stream: TcpStream,
    peer: Peer,
    tls: Option<Arc<Tls>>,
    (doors, place): (Arc<Doors>, Arc<Place>),
    mut stopped: watch::Receiver<bool>,
) {
    connection::prepare(&stream);
    let Some(tls) = tls else {
        return answer(stream, peer, &doors, &place, stopped).await;
    };
    let shaken = tokio::select! {
        _ = stopped.changed() => return,
        () = place.evicted() => return,
        shaken = tokio::time::timeout(doors.limits.header_timeout, tls.acceptor().accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => answer(stream, peer, &doors, &place, stopped).await,
        Ok(Err(error)) => tracing::debug!("a client failed to agree on TLS: {error}"),
        Err(_) => tracing::debug!("a client did not agree on TLS in time"),
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    doors: &Doors,
    place: &Arc<Place>,
    mut stopped: watch::Receiver<bool>,
) {
    let limits = doors.limits;
    let in_work = InWork::default();
    let patience = Patience {
        head: limits.header_timeout,
        idle: limits.idle_timeout,
        write: limits.write_timeout,
    };
    let watched = Watched::new(stream, in_work.clone(), patience, peer.is_tls);
    let service = service_fn(move |request: Request<Incoming>| {
        in_work.begin();
        let busy = Arc::new(place.begin());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(Arc::clone(&busy));
        let (mut router, in_work) = (doors.router.clone(), in_work.clone());
        async move {
            let Ok(mut response) = router.call(request).await;
            if busy.is_reserved() {
                // Others wait for the place.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| Answering {
                body,
                in_work,
                _busy: busy,
            }))
        }
    });
    let connection = http1::Builder::new()
        // Its own stays in the future once the clock was there; `headers::add_response_headers` has one.
        .auto_date_header(false)
        // `Watched` has the deadlines.
        .header_read_timeout(None)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(
            MAX_BUFFER_BYTES
                .max(limits.max_header_bytes)
                .max(MIN_BUFFER_BYTES),
        )
        .serve_connection(TokioIo::new(watched), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = place.evicted() => {
            if !place.may_finish() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
