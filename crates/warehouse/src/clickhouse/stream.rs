//! Reads events out of ClickHouse in fold order, piece by piece, in its format `RowBinary`.
//!
//! This process keeps one block in memory. ClickHouse reads the tables in their own order, so it
//! keeps one block for each part of a table. Every piece is a statement of its own with the filter
//! of visible batches, and is complete before its first row is used.

use std::io::{BufRead, BufReader, Read, Seek};
use std::ops::Range;
use std::path::Path;

use trialog_model::event::EventKind;

use super::client::Client;
use super::plans::{PIECE_EXPERIMENTS, users_between};
use super::rows::EventDecoder;
use super::sql::list;
use super::view::{View, table_of, time_of};
use crate::batch::{Batch, Block};
use crate::cursor::{Cursor, Source};
use crate::error::WarehouseError;
use crate::fold::pieces::ranges;
use crate::fold::source::{EventSource, PieceLimits};
use crate::run::Columns;

/// An experiment with more rows is read in pieces of half as many.
const CUT_ROWS: u64 = 4 << 20;
/// Rows of a block, and about how many bytes of texts.
const BLOCK_ROWS: usize = 8 * 1024;
const BLOCK_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 128 << 10;
/// What keeps a statement's memory small on the server: small blocks of few parts at a time,
/// and sorting on its disk where it does sort after all.
const SETTINGS: &str =
    "max_threads = 2, max_block_size = 8192, max_bytes_before_external_sort = 500000000";

/// Some experiments, and a range of their users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamPiece {
    /// In order.
    pub(crate) experiments: Vec<String>,
    pub(crate) users: Range<Option<i64>>,
}

/// Which rows of a piece are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    All,
    /// Only those with the text of a user.
    WithUserText,
}

/// Where an answer lies while its rows are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffering {
    /// On the connection, for readers that are faster than the server's timeouts.
    Connection,
    /// In a temporary file, for readers that may wait for somebody else.
    File,
}

/// Reads the events of some pieces, block by block.
pub(crate) struct EventStream {
    view: View,
    kind: EventKind,
    columns: Columns,
    rows: Rows,
    buffering: Buffering,
    pieces: std::vec::IntoIter<StreamPiece>,
    /// The answer of the current piece.
    current: Option<BufReader<Box<dyn Read + Send>>>,
    decoder: EventDecoder,
}

impl EventStream {
    /// Reads `pieces`, which are in order.
    pub(crate) fn new(
        view: &View,
        kind: EventKind,
        columns: Columns,
        pieces: Vec<StreamPiece>,
    ) -> Self {
        Self {
            view: view.clone(),
            kind,
            columns,
            rows: Rows::All,
            buffering: Buffering::Connection,
            pieces: pieces.into_iter(),
            current: None,
            decoder: EventDecoder::new(kind),
        }
    }

    /// Reads only some of the rows.
    pub(crate) fn only(self, rows: Rows) -> Self {
        Self { rows, ..self }
    }

    /// Keeps each answer in `buffering` while its rows are used.
    pub(crate) fn buffered_in(self, buffering: Buffering) -> Self {
        Self { buffering, ..self }
    }

    /// A cursor on the first event.
    pub(crate) fn into_cursor(self) -> Result<Cursor, WarehouseError> {
        Cursor::new(Source::ClickHouse(Box::new(self)))
    }

    /// The next block, or `None` at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>, WarehouseError> {
        loop {
            self.view.check()?;
            if let Some(answer) = &mut self.current {
                let mut batch = Batch::new(self.kind);
                while batch.len() < BLOCK_ROWS && self.decoder.n_bytes() < BLOCK_BYTES {
                    let read = self.decoder.read_row(answer, &mut batch);
                    if !read.map_err(|error| self.view.client.broken(ACTION, error))? {
                        self.current = None;
                        break;
                    }
                }
                self.decoder.begin_block();
                if !batch.is_empty() {
                    return Ok(Some(batch.into_block()));
                }
                continue;
            }
            let Some(piece) = self.pieces.next() else {
                return Ok(None);
            };
            self.current = Some(self.open(&piece)?);
        }
    }

    fn open(&self, piece: &StreamPiece) -> Result<BufReader<Box<dyn Read + Send>>, WarehouseError> {
        let sql = self.statement(piece);
        let answer = self.view.client.read(ACTION, &sql)?;
        let answer = match self.buffering {
            Buffering::Connection => answer,
            Buffering::File => {
                Box::new(copy_to_file(answer, &self.view.client, self.view.spill())?)
            }
        };
        Ok(BufReader::with_capacity(READ_BYTES, answer))
    }

    fn statement(&self, piece: &StreamPiece) -> String {
        let (name, value, order_value) = match self.kind {
            EventKind::Assignment => ("variant", "toInt64(forced)", "forced"),
            EventKind::Metric => ("event_type", "value", "value"),
        };
        let wanted = |column, is_wanted| if is_wanted { column } else { "''" };
        let texts = match self.kind {
            EventKind::Metric => String::new(),
            EventKind::Assignment => format!(
                ", {}, {}",
                wanted("context", self.columns.have_context()),
                wanted("user_text", self.columns.have_user_text())
            ),
        };
        let condition = match self.rows {
            Rows::All => "",
            Rows::WithUserText => " AND user_text <> ''",
        };
        let experiments = piece.experiments.iter().map(String::as_str);
        (self.view.statement(&[include_str!("sql/events.sql")]))
            .with("time", time_of(self.kind))
            .with("name", name)
            .with("value", value)
            .with("order_value", order_value)
            .with("texts", texts)
            .with("table", table_of(self.kind))
            .with("users", users_between(&piece.users))
            .with("condition", condition)
            .with("settings", SETTINGS)
            .with("experiments", list(experiments))
            .text()
            .to_owned()
    }
}

const ACTION: &str = "read events";

/// Copies an answer into a temporary file in `directory`, which nobody else sees.
fn copy_to_file(
    mut answer: Box<dyn Read + Send>,
    client: &Client,
    directory: &Path,
) -> Result<std::fs::File, WarehouseError> {
    let failed = WarehouseError::io("write a temporary file in", directory);
    let mut file = match tempfile::tempfile_in(directory) {
        Ok(file) => file,
        Err(error) => return Err(failed(error)),
    };
    let mut source = BufReader::with_capacity(READ_BYTES, &mut answer);
    loop {
        let bytes = (source.fill_buf()).map_err(|error| client.broken(ACTION, error))?;
        if bytes.is_empty() {
            break;
        }
        let n_bytes = bytes.len();
        if let Err(error) = std::io::Write::write_all(&mut file, bytes) {
            return Err(failed(error));
        }
        source.consume(n_bytes);
    }
    match file.rewind() {
        Ok(()) => Ok(file),
        Err(error) => Err(failed(error)),
    }
}

impl EventSource for View {
    fn go_on(&self) -> Result<(), WarehouseError> {
        self.check()
    }

    fn spill(&self) -> &Path {
        self.client.spill()
    }

    fn piece_limits(&self, _n_threads: usize) -> PieceLimits {
        PieceLimits {
            cut_rows: CUT_ROWS,
            experiments: PIECE_EXPERIMENTS,
        }
    }

    fn cuts(&self, experiment: &str, n_pieces: u64) -> Result<Vec<i64>, WarehouseError> {
        self.user_cuts(experiment, n_pieces)
    }

    fn cursors(
        &self,
        kind: EventKind,
        experiments: &[&str],
        users: &Range<Option<i64>>,
        columns: Columns,
    ) -> Result<Vec<Cursor>, WarehouseError> {
        let piece = StreamPiece {
            experiments: experiments.iter().map(|id| (*id).to_owned()).collect(),
            users: users.clone(),
        };
        let stream = EventStream::new(self, kind, columns, vec![piece]);
        Ok(vec![stream.into_cursor()?])
    }
}

impl View {
    /// Cuts the events of `experiments`, which are in order, into pieces for a stream.
    pub(crate) fn stream_pieces(
        &self,
        experiments: &[&str],
    ) -> Result<Vec<StreamPiece>, WarehouseError> {
        let mut n_rows = std::collections::BTreeMap::<String, u64>::new();
        for kind in EventKind::ALL {
            for (experiment, entry) in self.contents(kind, experiments)? {
                *n_rows.entry(experiment).or_default() += entry.rows;
            }
        }
        let mut pieces = Vec::new();
        let (mut open, mut open_rows) = (Vec::new(), 0);
        for (experiment, n_rows) in n_rows {
            if open_rows + n_rows > CUT_ROWS || open.len() >= PIECE_EXPERIMENTS {
                pieces.extend(StreamPiece::of_all_users(std::mem::take(&mut open)));
                open_rows = 0;
            }
            if n_rows <= CUT_ROWS {
                open.push(experiment);
                open_rows += n_rows;
                continue;
            }
            let cuts = self.user_cuts(&experiment, n_rows.div_ceil(CUT_ROWS / 2))?;
            pieces.extend(ranges(&cuts).into_iter().map(|users| StreamPiece {
                experiments: vec![experiment.clone()],
                users,
            }));
        }
        pieces.extend(StreamPiece::of_all_users(open));
        Ok(pieces)
    }
}

impl StreamPiece {
    /// All users of `experiments`; none where there are no experiments.
    fn of_all_users(experiments: Vec<String>) -> Option<Self> {
        (!experiments.is_empty()).then_some(Self {
            experiments,
            users: None..None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::super::address::Address;
    use super::*;

    /// A server that answers one query with `answer` and closes the connection.
    fn serve(answer: Vec<u8>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut bytes = [0; 4_096];
            while !String::from_utf8_lossy(&request).contains("FORMAT RowBinary") {
                let n_bytes = connection.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..n_bytes]);
            }
            connection.write_all(&answer).unwrap();
        });
        format!("clickhouse://u:p@127.0.0.1:{port}/d")
            .parse()
            .unwrap()
    }

    fn row(user: i64) -> Vec<u8> {
        let mut row = vec![1, b'e'];
        row.extend(user.to_le_bytes());
        row.extend(2i64.to_le_bytes());
        row.extend([3, b'b', b'u', b'y']);
        row.extend(5i64.to_le_bytes());
        row.extend(6i64.to_le_bytes());
        row
    }

    fn chunk(bytes: &[u8]) -> Vec<u8> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend(bytes);
        chunk.extend(b"\r\n");
        chunk
    }

    /// The users that come out of `chunks`, through each way that an answer takes.
    fn users(chunks: &[Vec<u8>]) -> Vec<Result<Vec<i64>, WarehouseError>> {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        chunks.iter().for_each(|chunk| answer.extend(chunk));
        [Buffering::Connection, Buffering::File]
            .map(|buffering| {
                let client = Client::new(serve(answer.clone())).unwrap();
                let view = View::new(client, 1, Vec::new());
                let piece = StreamPiece::of_all_users(vec!["e".to_owned()]).unwrap();
                let stream =
                    EventStream::new(&view, EventKind::Metric, Columns::Plain, vec![piece]);
                let mut stream = stream.buffered_in(buffering);
                let mut users = Vec::new();
                while let Some(block) = stream.next_block()? {
                    users.extend_from_slice(&block.user);
                }
                Ok(users)
            })
            .into()
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error_also_between_two_rows() {
        let end = b"0\r\n\r\n".to_vec();
        for whole in users(&[chunk(&row(1)), chunk(&row(2)), end]) {
            assert_eq!(whole.unwrap(), [1, 2]);
        }
        for cut in users(&[chunk(&row(1)), chunk(&row(2))]) {
            let error = cut.unwrap_err();
            assert!(
                matches!(
                    error,
                    WarehouseError::Server {
                        is_transient: true,
                        ..
                    }
                ),
                "{error}"
            );
        }
    }
}
