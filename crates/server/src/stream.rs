//! Answers that are written while they are sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::Frame;
use tokio::sync::mpsc;

/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that may wait for a slow client; then the writer waits.
const MAX_PIECES: usize = 8;

type Piece = Result<Bytes, io::Error>;

/// A body that `write` fills on a blocking thread. If it fails, the answer
/// ends early, which a client can tell from its end.
pub(crate) fn body(write: impl FnOnce(&mut Sender) -> Result<(), String> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel(MAX_PIECES);
    let mut sender = Sender {
        sender,
        piece: Vec::new(),
    };
    tokio::task::spawn_blocking(move || {
        let outcome = write(&mut sender);
        let sent = outcome.and_then(|()| sender.flush().map_err(|error| error.to_string()));
        if let Err(reason) = sent {
            tracing::warn!("an answer ended early: {reason}");
            // A client that has gone away need not be told.
            let _ = sender.sender.blocking_send(Err(io::Error::other(reason)));
        }
    });
    Body::new(Receiver { receiver })
}

/// Where an answer is written to.
pub(crate) struct Sender {
    sender: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        (self.sender.blocking_send(Ok(piece.into())))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone away"))
    }
}

struct Receiver {
    receiver: mpsc::Receiver<Piece>,
}

impl HttpBody for Receiver {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = self.receiver.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
