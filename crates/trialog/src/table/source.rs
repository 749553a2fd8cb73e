//! Provides the bytes of a table: from a file, or from standard input in a temporary file.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use tempfile::NamedTempFile;
use trialog_pipeline::decompress::{Bounds, Compression};

use crate::cli::FileFormat;

/// The maximum memory of a zstd frame: `zstd --long=29` is accepted.
const MAX_WINDOW_BYTES: u64 = 1 << 29;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A table's bytes, which can be read more than once.
pub(crate) struct Source {
    /// How messages name it.
    shown: String,
    place: Place,
    pub(super) compression: Compression,
}

enum Place {
    File(PathBuf),
    /// What came from a pipe, removed with this.
    Kept(NamedTempFile),
}

impl Source {
    /// Opens a file, or standard input for `-`. What is no regular file is read
    /// to its end and kept, so that it can be read twice as well.
    pub(crate) fn open(input: &Path) -> anyhow::Result<Self> {
        let is_standard_input = input == Path::new("-");
        let shown = if is_standard_input {
            "standard input".to_owned()
        } else {
            format!("`{}`", input.display())
        };
        let reading = || format!("cannot read {shown}");
        let place = if is_standard_input {
            Place::Kept(keep(io::stdin().lock()).with_context(reading)?)
        } else {
            let file = File::open(input).with_context(reading)?;
            if file.metadata().with_context(reading)?.is_file() {
                Place::File(input.to_owned())
            } else {
                Place::Kept(keep(file).with_context(reading)?)
            }
        };
        let mut source = Self {
            shown,
            place,
            compression: Compression::None,
        };
        source.compression = match extension(input) {
            Some("gz") => Compression::Gzip,
            Some("zst") => Compression::Zstd,
            _ => match source.start(4)?.as_slice() {
                [0x1f, 0x8b, ..] => Compression::Gzip,
                [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
                _ => Compression::None,
            },
        };
        Ok(source)
    }

    /// Returns the name of the table in messages.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns whether the table came through a pipe.
    pub(crate) fn is_pipe(&self) -> bool {
        matches!(self.place, Place::Kept(_))
    }

    pub(super) fn file(&self) -> anyhow::Result<File> {
        let path = match &self.place {
            Place::File(path) => path,
            Place::Kept(file) => file.path(),
        };
        File::open(path).with_context(|| format!("cannot read {}", self.shown))
    }

    /// Returns the number of compressed bytes.
    pub(super) fn length(&self) -> anyhow::Result<u64> {
        Ok(self.file()?.metadata()?.len())
    }

    /// Returns the decompressed bytes, moving `progress` by the bytes of the file.
    pub(super) fn bytes(&self, progress: &ProgressBar) -> anyhow::Result<Box<dyn Read>> {
        let counted = BufReader::with_capacity(CHUNK_BYTES, progress.wrap_read(self.file()?));
        let plain = (self.compression).reader(counted, Bounds::of_file(MAX_WINDOW_BYTES));
        Ok(match self.compression {
            Compression::None => plain,
            _ => Box::new(BufReader::with_capacity(CHUNK_BYTES, plain)),
        })
    }

    /// Returns the first bytes, at most `length`, as stored in the file.
    fn start(&self, length: u64) -> anyhow::Result<Vec<u8>> {
        let mut start = Vec::new();
        let mut file = self.file()?.take(length);
        (file.read_to_end(&mut start)).with_context(|| format!("cannot read {}", self.shown))?;
        Ok(start)
    }

    /// Returns the format: the given one, else by the name, else, for a pipe, by the content.
    /// `option` names the option that gives the format.
    pub(crate) fn format(
        &self,
        input: &Path,
        given: Option<FileFormat>,
        option: &str,
    ) -> anyhow::Result<FileFormat> {
        if let Some(format) = given.or_else(|| from_name(input)) {
            return Ok(format);
        }
        if self.is_pipe() {
            return self.content_format();
        }
        anyhow::bail!(
            "the name of {} does not show its format: give {option}",
            self.shown
        )
    }

    fn content_format(&self) -> anyhow::Result<FileFormat> {
        match self.start(6)?.as_slice() {
            [b'P', b'A', b'R', b'1', ..] => return Ok(FileFormat::Parquet),
            b"ARROW1" => return Ok(FileFormat::Feather),
            _ => {}
        }
        let mut start = Vec::new();
        let text = self.bytes(&ProgressBar::hidden())?;
        // Damage is reported when the content is read.
        let _ = text.take(1024).read_to_end(&mut start);
        let is_sign = |byte: &&u8| byte.is_ascii_graphic();
        Ok(match start.iter().find(is_sign) {
            Some(b'{') => FileFormat::Ndjson,
            _ => FileFormat::Csv,
        })
    }

    /// Computes a fingerprint of the content, which does not depend on where the content is
    /// stored.
    pub(crate) fn fingerprint(&self) -> anyhow::Result<u64> {
        let reading = || format!("cannot read {}", self.shown);
        let mut file = self.file()?;
        let mut chunk = vec![0; 1 << 20];
        let mut state = 0u64;
        loop {
            let mut length = 0;
            while length < chunk.len() {
                match file.read(&mut chunk[length..]).with_context(reading)? {
                    0 => break,
                    n_read => length += n_read,
                }
            }
            if length == 0 {
                return Ok(state);
            }
            let (hash, _) = trialog_model::murmur3::murmur3_x64_128(&chunk[..length], 0);
            let (next, _) = trialog_model::murmur3::murmur3_x64_128(
                &[state.to_le_bytes(), hash.to_le_bytes()].concat(),
                0,
            );
            state = next;
        }
    }
}

/// Reads `from` to its end into a temporary file.
fn keep(mut from: impl Read) -> io::Result<NamedTempFile> {
    let mut kept = NamedTempFile::new()?;
    io::copy(&mut from, &mut kept)?;
    kept.flush()?;
    Ok(kept)
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

fn from_name(path: &Path) -> Option<FileFormat> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let stem = name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(&name);
    match stem.rsplit_once('.')?.1 {
        "csv" => Some(FileFormat::Csv),
        "tsv" | "tab" => Some(FileFormat::Tsv),
        "ndjson" | "jsonl" | "json" => Some(FileFormat::Ndjson),
        "parquet" | "pq" => Some(FileFormat::Parquet),
        "feather" | "arrow" | "ipc" => Some(FileFormat::Feather),
        _ => None,
    }
}
