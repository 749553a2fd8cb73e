//! Converts text in other encodings to UTF-8.

use std::io::{self, Cursor, ErrorKind, Read};

use clap::ValueEnum;
use encoding_rs::{Decoder, DecoderResult, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes that are converted at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The encoding of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    #[value(name = "utf-8", alias = "utf8")]
    Utf8,
    /// ISO 8859-1, read as windows-1252, which has all of its letters.
    #[value(name = "latin1", aliases = ["latin-1", "iso-8859-1", "iso8859-1"])]
    Latin1,
    #[value(name = "windows-1252", alias = "cp1252")]
    Windows1252,
    /// In the byte order of its mark, else little-endian.
    #[value(name = "utf-16", alias = "utf16")]
    Utf16,
    #[value(name = "utf-16le")]
    Utf16Le,
    #[value(name = "utf-16be")]
    Utf16Be,
}

/// Converts `bytes` to UTF-8 without a byte order mark: from the encoding that is `given`, else
/// from the one of a byte order mark, else unchanged.
pub(super) fn as_utf8(
    mut bytes: Box<dyn Read>,
    given: Option<Encoding>,
) -> io::Result<Box<dyn Read>> {
    let mut start = [0; 3];
    let mut length = 0;
    while length < start.len() {
        match bytes.read(&mut start[length..])? {
            0 => break,
            n_read => length += n_read,
        }
    }
    let start = &start[..length];
    let marked = match start {
        [0xef, 0xbb, 0xbf] => Some((Encoding::Utf8, 3)),
        [0xff, 0xfe, ..] => Some((Encoding::Utf16Le, 2)),
        [0xfe, 0xff, ..] => Some((Encoding::Utf16Be, 2)),
        _ => None,
    };
    let (encoding, skipped) = match (given, marked) {
        (None, None) => (Encoding::Utf8, 0),
        (None | Some(Encoding::Utf16), Some((Encoding::Utf8, _))) if given.is_some() => {
            (Encoding::Utf16Le, 0)
        }
        (None | Some(Encoding::Utf16), Some(marked)) => marked,
        (Some(given), Some((marked, length))) if given == marked => (given, length),
        (Some(given), _) => (given, 0),
    };
    let rest = Cursor::new(start[skipped..].to_vec()).chain(bytes);
    Ok(match encoding {
        Encoding::Utf8 => Box::new(rest),
        Encoding::Latin1 | Encoding::Windows1252 => Box::new(Transcoder::new(
            rest,
            WINDOWS_1252.new_decoder_without_bom_handling(),
        )),
        Encoding::Utf16 | Encoding::Utf16Le => Box::new(Transcoder::new(
            rest,
            UTF_16LE.new_decoder_without_bom_handling(),
        )),
        Encoding::Utf16Be => Box::new(Transcoder::new(
            rest,
            UTF_16BE.new_decoder_without_bom_handling(),
        )),
    })
}

/// Reads text in UTF-8 from bytes in another encoding.
struct Transcoder<R> {
    inner: R,
    decoder: Decoder,
    /// What was read and is not converted yet.
    input: Vec<u8>,
    converted: Vec<u8>,
    /// How much of `converted` has been handed on.
    at: usize,
    is_at_end: bool,
    is_over: bool,
    n_bytes: u64,
}

impl<R: Read> Transcoder<R> {
    fn new(inner: R, decoder: Decoder) -> Self {
        Self {
            inner,
            decoder,
            input: Vec::new(),
            converted: Vec::new(),
            at: 0,
            is_at_end: false,
            is_over: false,
            n_bytes: 0,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.input.is_empty() && !self.is_at_end {
            self.input.resize(CHUNK_BYTES, 0);
            let n_read = self.inner.read(&mut self.input)?;
            self.input.truncate(n_read);
            self.is_at_end = n_read == 0;
        }
        self.converted.resize(CHUNK_BYTES * 3 + 16, 0);
        let (result, n_read, n_written) = self.decoder.decode_to_utf8_without_replacement(
            &self.input,
            &mut self.converted,
            self.is_at_end,
        );
        self.converted.truncate(n_written);
        self.at = 0;
        self.input.drain(..n_read);
        self.n_bytes += n_read as u64;
        match result {
            DecoderResult::InputEmpty => self.is_over = self.is_at_end,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                let encoding = self.decoder.encoding().name();
                let reason = if self.is_at_end && self.input.is_empty() {
                    format!("the text ends within a character of {encoding}: it was cut short")
                } else {
                    format!(
                        "the text is not {encoding} before byte {}: give its --encoding",
                        self.n_bytes
                    )
                };
                return Err(io::Error::new(ErrorKind::InvalidData, reason));
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Transcoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.converted.len() {
            if self.is_over {
                return Ok(0);
            }
            self.refill()?;
        }
        let length = into.len().min(self.converted.len() - self.at);
        into[..length].copy_from_slice(&self.converted[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
