//! Streams responses that are written while they are sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::Frame;
use tokio::sync::mpsc;

use crate::work::{Client, Flag, Turn};

/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that may wait for a slow client; then the writer waits.
const MAX_PIECES: usize = 8;

type Piece = Result<Bytes, io::Error>;

/// Returns a body that `write` fills on a thread of `turn`. If it fails, the response is cut off,
/// which the client notices at its end. Once the client is gone, the flag that `write` gets is
/// set.
pub(crate) fn body(
    turn: Turn,
    write: impl FnOnce(&mut Sender, &Flag) -> Result<(), String> + Send + 'static,
) -> Body {
    let (sender, receiver) = mpsc::channel(MAX_PIECES);
    let mut sender = Sender {
        sender,
        piece: Vec::new(),
    };
    let client = turn.detach(move |flag| {
        let outcome = write(&mut sender, flag);
        let sent = outcome.and_then(|()| sender.flush().map_err(|error| error.to_string()));
        let Err(reason) = sent else { return };
        if sender.sender.is_closed() {
            tracing::debug!("a client went away before the end of its answer");
            return;
        }
        tracing::warn!("an answer ended early: {reason}");
        // A client that has gone away since needs no notice.
        let _ = sender.sender.blocking_send(Err(io::Error::other(reason)));
    });
    Body::new(Receiver {
        receiver,
        _client: client,
    })
}

/// The writer of a response.
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
    _client: Client,
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
