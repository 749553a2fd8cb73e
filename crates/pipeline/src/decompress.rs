//! Decompresses input to its end or rejects it.
//!
//! Both forms may be made of several parts, one after the other (`cat a.zst
//! b.zst`). Checksums are verified, and what is cut short or followed by
//! anything else is an error: not a byte is passed over in silence.
//!
//! Input may be made so that it takes long and gives nothing: empty parts, or empty blocks
//! within a part. [`Bounds`] end both.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// The compression of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It is not.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// Limits on the cost of decompressing.
#[derive(Clone, Copy)]
pub struct Bounds<'b> {
    /// The maximum memory of a zstd frame.
    pub max_window_bytes: u64,
    /// Members of gzip, or frames of zstd.
    pub max_parts: u64,
    /// Called for every 16 KiB of input. Decompressing ends when it returns false.
    pub goes_on: &'b dyn Fn() -> bool,
}

impl Bounds<'_> {
    /// Returns the bounds for a file: no time limit, because the user waits for it.
    pub fn of_file(max_window_bytes: u64) -> Self {
        Self {
            max_window_bytes,
            max_parts: u64::MAX,
            goes_on: &|| true,
        }
    }
}

impl Compression {
    /// Returns a reader of the decompressed content of `source`, within `bounds`.
    ///
    /// Reading gives an error of the kind `UnexpectedEof` where the input is
    /// cut short, `InvalidData` where it is damaged, goes on after its end or has too
    /// many parts, and `TimedOut` where it may not go on.
    pub fn reader<'r>(self, source: impl BufRead + 'r, bounds: Bounds<'r>) -> Box<dyn Read + 'r> {
        let Bounds {
            max_window_bytes,
            max_parts,
            goes_on,
        } = bounds;
        let source = Watched { source, goes_on };
        match self {
            Self::None => Box::new(source),
            Self::Gzip => Box::new(Gzip::new(source, max_parts)),
            Self::Zstd => Box::new(Zstd::new(source, max_window_bytes, max_parts)),
        }
    }
}

/// Input in small pieces, with a question before each whether to go on.
struct Watched<'b, R> {
    source: R,
    goes_on: &'b dyn Fn() -> bool,
}

impl<R> Watched<'_, R> {
    /// Bytes between two questions.
    const PIECE_BYTES: usize = 16 << 10;

    fn ask(&self) -> io::Result<()> {
        if (self.goes_on)() {
            return Ok(());
        }
        let reason = "the compressed data takes too long to decompress: send it in several requests, or compress it anew";
        Err(io::Error::new(ErrorKind::TimedOut, reason))
    }
}

impl<R: BufRead> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut piece = self.fill_buf()?;
        let n_read = piece.read(into)?;
        self.consume(n_read);
        Ok(n_read)
    }
}

impl<R: BufRead> BufRead for Watched<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.ask()?;
        let piece = self.source.fill_buf()?;
        Ok(&piece[..piece.len().min(Self::PIECE_BYTES)])
    }

    fn consume(&mut self, n_bytes: usize) {
        self.source.consume(n_bytes);
    }
}

fn too_many_parts(most: u64) -> io::Error {
    damaged(&format!(
        "has more than {most} parts: compress it as one, or send it in several requests"
    ))
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

/// Members of gzip, one after the other, with errors in plain words.
struct Gzip<R> {
    /// The present member; `None` after the last one, and after an error.
    member: Option<GzDecoder<R>>,
    n_members: u64,
    max_members: u64,
}

impl<R: BufRead> Gzip<R> {
    fn new(source: R, max_members: u64) -> Self {
        Self {
            member: Some(GzDecoder::new(source)),
            n_members: 1,
            max_members,
        }
    }

    /// What reading a member failed with.
    fn explain(error: io::Error) -> io::Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => cut_short(),
            ErrorKind::InvalidInput if error.to_string().contains("header") => {
                damaged("is not gzip, or something follows its end")
            }
            ErrorKind::InvalidInput | ErrorKind::InvalidData => {
                damaged(&format!("is damaged: {error}"))
            }
            _ => error,
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            let n_read = member.read(into).map_err(Self::explain)?;
            if n_read > 0 {
                self.member = Some(member);
                return Ok(n_read);
            }
            let mut source = member.into_inner();
            if source.fill_buf()?.is_empty() {
                break;
            }
            self.n_members += 1;
            if self.n_members > self.max_members {
                return Err(too_many_parts(self.max_members));
            }
            self.member = Some(GzDecoder::new(source));
        }
        Ok(0)
    }
}

/// Frames of Zstandard, one after the other.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// Bytes that the present frame has given so far; `None` between frames.
    n_bytes: Option<u64>,
    n_frames: u64,
    max_frames: u64,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R, max_window_bytes: u64, max_frames: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(max_window_bytes);
        Self {
            source,
            decoder,
            n_bytes: None,
            n_frames: 0,
            max_frames,
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
            self.n_frames += 1;
            if self.n_frames > self.max_frames {
                return Err(too_many_parts(self.max_frames));
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.n_bytes = Some(0);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = Read::take(&mut self.source, length.into());
                    if io::copy(&mut skipped, &mut io::sink())? < u64::from(length) {
                        return Err(cut_short());
                    }
                }
                Err(error) => return Err(explain(&error)),
            }
        }
    }

    /// Compares what a frame contained with what its header says.
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
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.kind() {
                ErrorKind::UnexpectedEof => return cut_short(),
                ErrorKind::TimedOut => return io::Error::new(error.kind(), error.to_string()),
                _ => {}
            }
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
        let bounds = Bounds::of_file(1 << 23);
        compression.reader(bytes, bounds).read_to_end(&mut text)?;
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

    /// As [`decompressed`], with at most `max_parts` parts and `n_pieces` pieces of input.
    fn bounded(
        compression: Compression,
        bytes: &[u8],
        max_parts: u64,
        n_pieces: u32,
    ) -> io::Result<Vec<u8>> {
        let n_asked = std::cell::Cell::new(0);
        let goes_on = || n_asked.replace(n_asked.get() + 1) < n_pieces;
        let bounds = Bounds {
            max_window_bytes: 1 << 23,
            max_parts,
            goes_on: &goes_on,
        };
        let mut text = Vec::new();
        compression.reader(bytes, bounds).read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn so_many_parts_are_read_and_not_one_more() {
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].to_vec();
        let mut parts: Vec<_> = (FORMS.iter())
            .map(|(compression, encode)| (*compression, encode(b"")))
            .collect();
        parts.push((Compression::Zstd, skipped));
        for (compression, part) in parts {
            assert!(bounded(compression, &part.repeat(8), 8, u32::MAX).is_ok());
            let error = bounded(compression, &part.repeat(9), 8, u32::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(
                error.to_string().contains("has more than 8 parts"),
                "{error}"
            );
        }
    }

    /// Blocks that hold nothing, in one part: of gzip with fixed codes, of zstd raw ones.
    fn empty_blocks(compression: Compression, n_blocks: usize) -> Vec<u8> {
        match compression {
            // An empty block of fixed codes takes ten bits, so four of them five bytes.
            Compression::Gzip => {
                let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
                let four = [0x02, 0x08, 0x20, 0x80, 0x00];
                [&header[..], &four.repeat(n_blocks / 4)].concat()
            }
            _ => {
                let header = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
                [&header[..], &[0, 0, 0].repeat(n_blocks)].concat()
            }
        }
    }

    #[test]
    fn input_that_gives_nothing_ends_when_it_may_not_go_on() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let bytes = empty_blocks(compression, 400_000);
            let error = bounded(compression, &bytes, 1, u32::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{compression:?}");
            let error = bounded(compression, &bytes, 1, 3).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::TimedOut,
                "{compression:?}: {error}"
            );
        }
    }
}
