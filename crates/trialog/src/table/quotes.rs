//! Checks the quotes of CSV while it is read: an open quote would join all following rows into one
//! cell.

use std::io::{self, ErrorKind, Read};

/// A row beyond this is an error.
const MAX_ROW_BYTES: u64 = 8 << 20;

/// The position of the next byte in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a row.
    Row,
    /// At the start of a cell.
    Cell,
    /// In a cell without quotes, or after the closing quote of one.
    Plain,
    /// Between quotes.
    Quoted,
    /// After a quote between quotes: it closes them, or is the first of two.
    Closing,
}

/// A reader that fails if quotes do not match.
pub(super) struct Quotes<R> {
    inner: R,
    separator: u8,
    state: State,
    /// Rows that have begun; the first is the header.
    n_rows: u64,
    line: u64,
    is_after_cr: bool,
    /// The row and the line on which the present quotes were opened.
    opened: (u64, u64),
    /// Whether there is a line break between the present quotes.
    spans_lines: bool,
    row_bytes: u64,
    /// What is wrong after the bytes that were handed on.
    pending: Option<io::Error>,
}

impl<R: Read> Quotes<R> {
    /// Starts at line number `line`.
    pub(super) fn new(inner: R, separator: u8, line: u64) -> Self {
        Self {
            inner,
            separator,
            state: State::Row,
            n_rows: 0,
            line,
            is_after_cr: false,
            opened: (0, 0),
            spans_lines: false,
            row_bytes: 0,
            pending: None,
        }
    }

    /// Returns whether the last row that was read ends with a line break.
    pub(super) fn ends_with_line_break(&self) -> bool {
        self.state == State::Row
    }

    /// How many of `bytes` are sound; what is wrong after them is left in `pending`.
    fn watch(&mut self, bytes: &[u8]) -> usize {
        for (at, &byte) in bytes.iter().enumerate() {
            self.row_bytes += 1;
            let is_break = byte == b'\n' || byte == b'\r';
            // CR and LF together end one line.
            if byte == b'\r' || byte == b'\n' && !self.is_after_cr {
                self.line += 1;
            }
            self.is_after_cr = byte == b'\r';
            self.state = match self.state {
                State::Quoted => match byte {
                    b'"' => State::Closing,
                    _ => {
                        self.spans_lines |= is_break;
                        State::Quoted
                    }
                },
                State::Closing if byte == b'"' => State::Quoted,
                State::Closing if !is_break && byte != self.separator && self.spans_lines => {
                    self.pending = Some(self.left_open());
                    return at;
                }
                _ if is_break => {
                    self.row_bytes = 0;
                    State::Row
                }
                before => {
                    if before == State::Row {
                        self.n_rows += 1;
                    }
                    match (before, byte) {
                        (_, byte) if byte == self.separator => State::Cell,
                        (State::Row | State::Cell, b'"') => {
                            self.opened = (self.n_rows, self.line);
                            self.spans_lines = false;
                            State::Quoted
                        }
                        _ => State::Plain,
                    }
                }
            };
        }
        if self.row_bytes > MAX_ROW_BYTES {
            self.pending = Some(match self.state {
                State::Quoted => self.left_open(),
                _ => broken("a row has more than 8 MiB".to_owned()),
            });
        }
        bytes.len()
    }

    fn left_open(&self) -> io::Error {
        let (row, line) = self.opened;
        let place = match row {
            1 => format!("the header (line {line})"),
            row => format!("row {} (line {line})", row - 1),
        };
        broken(format!(
            "a quote that is opened in {place} is not closed: close it, or double it where the quote itself is meant"
        ))
    }
}

fn broken(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        let n_read = self.inner.read(into)?;
        if n_read == 0 && !into.is_empty() && self.state == State::Quoted {
            return Err(self.left_open());
        }
        match self.watch(&into[..n_read]) {
            // Nothing read would mean the end.
            0 => self.pending.take().map_or(Ok(0), Err),
            n_sound => Ok(n_sound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(source: impl Read) -> Result<Vec<Vec<String>>, csv::Error> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .from_reader(source);
        let texts = |row: csv::StringRecord| row.iter().map(str::to_owned).collect();
        reader.records().map(|row| row.map(texts)).collect()
    }

    /// Hands on one to three bytes at a time, so that blocks end anywhere.
    struct Blocks<'b>(&'b [u8], fastrand::Rng);

    impl Read for Blocks<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = self.1.usize(1..4).min(self.0.len()).min(into.len());
            into[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn it_sees_the_rows_and_the_open_quotes_that_the_reader_of_csv_sees() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut n_read, mut n_refused) = (0, 0);
        for _ in 0..20_000 {
            let length = rng.usize(..24);
            let text: String = (0..length)
                .map(|_| char::from(b"aa,,\"\"\n\r"[rng.usize(..8)]))
                .collect();
            let mut quotes = Quotes::new(Blocks(text.as_bytes(), rng.fork()), b',', 1);
            let plain = rows(text.as_bytes()).unwrap();
            // What comes after an open quote is no row.
            let is_open = rows(format!("{text}\nend\n").as_bytes()).unwrap().last()
                != Some(&vec!["end".to_owned()]);
            match rows(&mut quotes) {
                Ok(seen) => {
                    n_read += 1;
                    assert_eq!(seen, plain, "{text:?}");
                    assert!(!is_open, "{text:?}");
                    assert_eq!(quotes.n_rows, plain.len() as u64, "{text:?}");
                    let is_ended = text.is_empty() || text.ends_with(['\n', '\r']);
                    assert_eq!(quotes.ends_with_line_break(), is_ended, "{text:?}");
                }
                Err(error) => {
                    n_refused += 1;
                    let spans = |cell: &String| cell.contains(['\n', '\r']);
                    assert!(
                        is_open || plain.iter().flatten().any(spans),
                        "{text:?}: {error}"
                    );
                }
            }
        }
        assert!(n_read > 1_000 && n_refused > 1_000, "{n_read} {n_refused}");
    }
}
