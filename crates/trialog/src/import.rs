//! Reading events from files: formats, columns, and where the events go.

pub(crate) mod cells;
pub(crate) mod columns;
pub(crate) mod delimited;
pub(crate) mod parquet_file;
pub(crate) mod sink;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::FileFormat;

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A file's format, told from its name unless given; `option` is how to give it.
pub(crate) fn format_of(
    path: &Path,
    given: Option<FileFormat>,
    option: &str,
) -> anyhow::Result<FileFormat> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let stem = name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(&name);
    let from_name = match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv") => Some(FileFormat::Csv),
        Some("ndjson" | "jsonl" | "json") => Some(FileFormat::Ndjson),
        Some("parquet" | "pq") => Some(FileFormat::Parquet),
        _ => None,
    };
    given.or(from_name).with_context(|| {
        format!(
            "`{}` does not tell its format: give {option}",
            path.display()
        )
    })
}

fn compression_of(path: &Path) -> Compression {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Opens a text file, decompressed, moving `progress` by the bytes of the file.
pub(crate) fn open_text(path: &Path, progress: &ProgressBar) -> anyhow::Result<Box<dyn BufRead>> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let counted = BufReader::with_capacity(256 * 1024, progress.wrap_read(file));
    let text: Box<dyn Read> = match compression_of(path) {
        Compression::None => return Ok(Box::new(counted)),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
        Compression::Zstd => Box::new(
            ruzstd::decoding::StreamingDecoder::new(counted).map_err(|error| {
                anyhow::anyhow!("cannot decompress `{}`: {error}", path.display())
            })?,
        ),
    };
    Ok(Box::new(BufReader::with_capacity(256 * 1024, text)))
}

/// A bar that counts to `length` on a terminal, and is silent elsewhere.
pub(crate) fn progress(length: u64, is_bytes: bool) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let template = if is_bytes {
        "{wide_bar} {bytes}/{total_bytes}, {eta} left"
    } else {
        "{wide_bar} {human_pos}/{human_len} rows, {eta} left"
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A fingerprint of a file's content: the same file gives the same one
/// wherever it lies.
pub(crate) fn fingerprint(path: &Path) -> anyhow::Result<u64> {
    let reading = || format!("cannot read `{}`", path.display());
    let mut file = File::open(path).with_context(reading)?;
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
