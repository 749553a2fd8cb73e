//! Closes a client's connection when the client is too slow.
//!
//! Between requests the client may be idle for a while; once a request has
//! begun its head has to arrive soon. While a request is answered nothing is
//! asked of the reading side (a body has a limit of its own); the writing side
//! has to make progress.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::places::Busy;
use crate::unreadable::answer_instead_of;

/// Whether a request is being handled, for its connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct InWork(Arc<Work>);

#[derive(Debug, Default)]
struct Work {
    is_so: AtomicBool,
    /// Requests so far: one may begin and end without the connection looking.
    n_begun: AtomicU64,
    /// The reader of the connection, while it waits without a deadline.
    reader: Mutex<Option<Waker>>,
}

impl InWork {
    pub(crate) fn begin(&self) {
        self.0.n_begun.fetch_add(1, Ordering::Relaxed);
        self.0.is_so.store(true, Ordering::Relaxed);
    }

    /// The reader is woken, since from now on it has a deadline.
    fn end(&self) {
        let mut reader = self.reader();
        self.0.is_so.store(false, Ordering::Relaxed);
        if let Some(waker) = reader.take() {
            waker.wake();
        }
    }

    /// Wakes `waker` when the request ends; false where none is in work.
    fn wait(&self, waker: &Waker) -> bool {
        let mut reader = self.reader();
        let is_so = self.is_so();
        if is_so {
            *reader = Some(waker.clone());
        }
        is_so
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        (self.0.reader.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn is_so(&self) -> bool {
        self.0.is_so.load(Ordering::Relaxed)
    }

    fn n_begun(&self) -> u64 {
        self.0.n_begun.load(Ordering::Relaxed)
    }
}

/// The body of a response. When it is dropped, the request is no longer being handled.
pub(crate) struct Answering {
    pub(crate) body: axum::body::Body,
    pub(crate) in_work: InWork,
    pub(crate) _busy: Arc<Busy>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.in_work.end();
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The number of bytes of a response that the system buffers before the client has read them.
#[cfg(target_os = "linux")]
const MAX_UNSENT_BYTES: u32 = 128 << 10;

/// Sends small responses at once, and limits the system's buffer of unread ones, which would
/// otherwise take some MiB for each connection.
pub(crate) fn prepare(stream: &TcpStream) {
    // Both are refused only by a connection that is gone.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
}

/// The time limits of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

/// What the client is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expecting {
    /// To wait for its answer.
    Nothing,
    /// To begin a request until then, or to be idle.
    Request(Instant),
    /// To end the head of its request until then.
    Head(Instant),
}

/// A connection with deadlines.
pub(crate) struct Watched<S> {
    stream: S,
    in_work: InWork,
    /// Requests that the expectation takes account of.
    n_seen: u64,
    patience: Patience,
    expecting: Expecting,
    read_alarm: Alarm,
    write_alarm: Alarm,
    is_tls: bool,
    /// The bytes that are written in place of hyper's response.
    instead: Option<Bytes>,
}

impl<S> Watched<S> {
    /// Creates a connection on `stream`, whose first request must arrive in time.
    pub(crate) fn new(stream: S, in_work: InWork, patience: Patience, is_tls: bool) -> Self {
        Self {
            stream,
            in_work,
            n_seen: 0,
            patience,
            expecting: Expecting::Head(Instant::now() + patience.head),
            read_alarm: Alarm::default(),
            write_alarm: Alarm::default(),
            is_tls,
            instead: None,
        }
    }

    /// Until when something has to come; without a deadline, `reader` is woken
    /// once there is one.
    fn read_deadline(&mut self, reader: &Waker) -> Option<Instant> {
        let n_seen = std::mem::replace(&mut self.n_seen, self.in_work.n_begun());
        if self.in_work.wait(reader) {
            self.expecting = Expecting::Nothing;
        } else if self.expecting == Expecting::Nothing || n_seen != self.n_seen {
            self.expecting = Expecting::Request(Instant::now() + self.patience.idle);
        }
        match self.expecting {
            Expecting::Nothing => None,
            Expecting::Request(deadline) | Expecting::Head(deadline) => Some(deadline),
        }
    }

    fn received(&mut self) {
        if !self.in_work.is_so() && !matches!(self.expecting, Expecting::Head(_)) {
            self.expecting = Expecting::Head(Instant::now() + self.patience.head);
        }
    }

    /// Passes `polled` on, or ends a write that makes no progress.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_alarm.clear();
            return polled;
        }
        let deadline =
            (self.write_alarm.deadline()).unwrap_or_else(|| Instant::now() + self.patience.write);
        self.write_alarm.wait(context, deadline)
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Returns whether `bytes` are replaced: no request is being handled, and they are hyper's
    /// response to an unreadable one.
    fn is_replaced(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none() && !self.in_work.is_so() {
            self.instead = answer_instead_of(bytes, self.is_tls).map(Bytes::from);
        }
        self.instead.is_some()
    }

    /// Writes the replacement of `n_bytes` bytes, which count as written when all of it is.
    fn write_instead(
        &mut self,
        context: &mut Context<'_>,
        n_bytes: usize,
    ) -> Poll<io::Result<usize>> {
        while let Some(rest) = self.instead.as_mut().filter(|rest| !rest.is_empty()) {
            let polled = Pin::new(&mut self.stream).poll_write(context, rest);
            if let Poll::Ready(Ok(n_written)) = &polled {
                rest.advance(*n_written);
            }
            match self.written(context, polled) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(_)) => {}
                other => return other,
            }
        }
        self.instead = None;
        Poll::Ready(Ok(n_bytes))
    }
}

/// A timer that is set only while something waits.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|sleep| sleep.deadline())
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    /// Pending until `deadline`, then an error.
    fn wait<T>(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<io::Result<T>> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let deadline = self.read_deadline(context.waker());
        if polled.is_ready() {
            if buffer.filled().len() > before {
                self.received();
            }
            return polled;
        }
        match deadline {
            Some(deadline) => self.read_alarm.wait(context, deadline),
            None => {
                self.read_alarm.clear();
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_replaced(bytes) {
            return self.write_instead(context, bytes.len());
        }
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices
            && self.is_replaced(only)
        {
            return self.write_instead(context, only.len());
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::limits::Who;
    use crate::places::Places;

    const SOON: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_secs(3_600);

    /// A client that sends nothing.
    struct Silent;

    impl AsyncRead for Silent {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// How reading ends where `between` happens after each look.
    fn ended(in_work: &InWork, mut between: impl FnMut()) -> io::ErrorKind {
        let patience = Patience {
            head: NEVER,
            idle: SOON,
            write: NEVER,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let read = async {
            let mut watched = Watched::new(Silent, in_work.clone(), patience, false);
            let mut bytes = [0; 8];
            poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut bytes);
                let polled = Pin::new(&mut watched).poll_read(context, &mut buffer);
                between();
                polled
            })
            .await
        };
        runtime.unwrap().block_on(read).unwrap_err().kind()
    }

    fn begun(in_work: &InWork) -> Answering {
        in_work.begin();
        let place = Places::new(1).enter(Who::address([127, 0, 0, 1].into()));
        Answering {
            body: axum::body::Body::empty(),
            in_work: in_work.clone(),
            _busy: Arc::new(Arc::new(place.unwrap()).begin()),
        }
    }

    #[test]
    fn a_reader_that_waits_while_a_request_ends_gets_a_deadline() {
        let in_work = InWork::default();
        let mut answer = Some(begun(&in_work));
        let kind = ended(&in_work, || drop(answer.take()));
        assert_eq!(kind, io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_request_that_ends_between_two_looks_leaves_the_connection_idle() {
        let in_work = InWork::default();
        drop(begun(&in_work));
        assert_eq!(ended(&in_work, || ()), io::ErrorKind::TimedOut);
    }
}
