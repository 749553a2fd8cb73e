//! Compressed input, read to its end or refused.
//!
//! Both forms may be made of several parts, one after the other (`cat a.zst
//! b.zst`). Checksums are verified, and what is cut short or followed by
//! anything else is an error: not a byte is passed over in silence.

use std::io::{self, BufRead, ErrorKind, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How input is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It is not.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
}

impl Compression {
    /// The decompressed content of `source`; zstd frames may ask for at most
    /// `max_window_bytes` of memory.
    ///
    /// Reading gives an error of the kind `UnexpectedEof` where the input is
    /// cut short, and `InvalidData` where it is damaged or goes on after its end.
    pub fn reader<'r>(
        self,
        source: impl BufRead + 'r,
        max_window_bytes: u64,
    ) -> Box<dyn Read + 'r> {
        match self {
            Self::None => Box::new(source),
            Self::Gzip => Box::new(Gzip(flate2::bufread::MultiGzDecoder::new(source))),
            Self::Zstd => Box::new(Zstd::new(source, max_window_bytes)),
        }
    }
}

fn cut_short() -> io::Error {
    let reason = "the compressed data ends early: it was cut short, so get it again and whole";
    io::Error::new(ErrorKind::UnexpectedEof, reason)
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the compressed data {reason}"),
    )
}

/// Members of gzip, with errors in plain words.
struct Gzip<R>(flate2::bufread::MultiGzDecoder<R>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => cut_short(),
            ErrorKind::InvalidInput if error.to_string().contains("header") => {
                damaged("is not gzip, or something follows its end")
            }
            ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                damaged(&format!("is damaged: {error}"))
            }
            _ => error,
        })
    }
}

/// Frames of Zstandard, one after the other.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// Bytes that the present frame has given so far; `None` between frames.
    n_bytes: Option<u64>,
    n_frames: u64,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R, max_window_bytes: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(max_window_bytes);
        Self {
            source,
            decoder,
            n_bytes: None,
            n_frames: 0,
        }
    }

    /// Enters the next frame; false at the end of the input.
    fn begin_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return if self.n_frames == 0 {
                    Err(cut_short())
                } else {
                    Ok(false)
                };
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.n_frames += 1;
                    self.n_bytes = Some(0);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    self.n_frames += 1;
                    let mut skipped = Read::take(&mut self.source, length.into());
                    if io::copy(&mut skipped, &mut io::sink())? < u64::from(length) {
                        return Err(cut_short());
                    }
                }
                Err(error) => return Err(explain(&error)),
            }
        }
    }

    /// Compares what a frame gave with what it says of itself.
    fn end_frame(&mut self) -> io::Result<()> {
        let n_bytes = self.n_bytes.take().unwrap_or(0);
        let declared = self.decoder.content_size();
        if declared != 0 && declared != n_bytes {
            return Err(damaged("is damaged: a frame has another size than it says"));
        }
        match self.decoder.get_checksum_from_data() {
            Some(sum) if self.decoder.get_calculated_checksum() != Some(sum) => {
                Err(damaged("is damaged: its checksum does not match"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.n_bytes.is_none() && !self.begin_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                (self.decoder.decode_blocks(&mut self.source, one))
                    .map_err(|error| explain(&error))?;
            }
            if self.decoder.can_collect() == 0 {
                self.end_frame()?;
                continue;
            }
            let n_read = self.decoder.read(into)?;
            self.n_bytes = self.n_bytes.map(|n_bytes| n_bytes + n_read as u64);
            return Ok(n_read);
        }
    }
}

/// The error in plain words: cut short, or damaged.
fn explain(error: &FrameDecoderError) -> io::Error {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == ErrorKind::UnexpectedEof
        {
            return cut_short();
        }
        cause = error.source();
    }
    match error {
        FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(_)) => {
            damaged("is not zstd, or something follows its end")
        }
        FrameDecoderError::WindowSizeTooBig { .. } => damaged(
            "asks for too much memory: compress it with a smaller window, such as `zstd -19` without `--long`",
        ),
        _ => damaged(&format!("is damaged: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn decompressed(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        compression.reader(bytes, 1 << 23).read_to_end(&mut text)?;
        Ok(text)
    }

    type Encode = fn(&[u8]) -> Vec<u8>;
    const FORMS: [(Compression, Encode); 2] =
        [(Compression::Gzip, gzip), (Compression::Zstd, zstd)];

    #[test]
    fn several_parts_are_one_text() {
        for (compression, encode) in FORMS {
            let both = [encode(b"first,"), encode(b""), encode(b"second")].concat();
            assert_eq!(decompressed(compression, &both).unwrap(), b"first,second");
        }
        // A frame that readers skip, of three bytes.
        let skipped = [
            &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
            &zstd(b"x"),
        ]
        .concat();
        assert_eq!(decompressed(Compression::Zstd, &skipped).unwrap(), b"x");
    }

    #[test]
    fn what_is_cut_at_any_byte_is_refused_as_such() {
        for (compression, encode) in FORMS {
            let first = encode(b"some text, some text, some more");
            let bytes = [first.clone(), encode(b"and this")].concat();
            for length in (0..bytes.len()).filter(|length| *length != first.len()) {
                let error = decompressed(compression, &bytes[..length]).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::UnexpectedEof,
                    "{compression:?} {length}: {error}"
                );
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        for (compression, encode) in FORMS {
            for rest in [
                &b"garbage after the end"[..],
                b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ] {
                let bytes = [&encode(b"text"), rest].concat();
                let error = decompressed(compression, &bytes).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::InvalidData,
                    "{compression:?}: {error}"
                );
            }
        }
    }

    #[test]
    fn a_flipped_bit_never_gives_another_text() {
        let text = b"some text, some text, some more, 0123456789";
        for (compression, encode) in FORMS {
            let bytes = encode(text);
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(found) = decompressed(compression, &flipped) {
                    assert_eq!(found, text, "{compression:?}, bit {bit}");
                }
            }
        }
    }
}
