//! Verifies every byte of a file while it is read.
//!
//! A file is cut into blocks of 16 KiB and each block has a CRC-32, kept in
//! `warehouse.sqlite`. A read verifies the blocks it touches, so reading one
//! experiment verifies its slice and not the whole file. CRC-32 finds every
//! error within 32 consecutive bits, so one flipped byte cannot pass.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::error::{Damage, WarehouseError};
use crate::snapshot::go_on;

const BLOCK_BYTES: usize = 16 * 1024;

/// Passes bytes on and computes the checksum of every block.
pub(crate) struct ChecksumWriter<W> {
    inner: W,
    hasher: crc32fast::Hasher,
    n_in_block: usize,
    n_bytes: u64,
    checksums: Vec<u32>,
}

impl<W: Write> ChecksumWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: crc32fast::Hasher::new(),
            n_in_block: 0,
            n_bytes: 0,
            checksums: Vec::new(),
        }
    }

    /// Returns the inner writer, the number of bytes written, and the checksums of their blocks.
    pub(crate) fn finish(mut self) -> (W, u64, Vec<u32>) {
        if self.n_in_block > 0 {
            self.checksums.push(self.hasher.finalize());
        }
        (self.inner, self.n_bytes, self.checksums)
    }
}

impl<W: Write> Write for ChecksumWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n_taken = bytes.len().min(BLOCK_BYTES - self.n_in_block);
        let n_written = self.inner.write(&bytes[..n_taken])?;
        self.hasher.update(&bytes[..n_written]);
        self.n_in_block += n_written;
        self.n_bytes += n_written as u64;
        if self.n_in_block == BLOCK_BYTES {
            self.checksums
                .push(std::mem::take(&mut self.hasher).finalize());
            self.n_in_block = 0;
        }
        Ok(n_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The reason why the last read of a file failed, which the errors of Parquet lose.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    Damage(Damage),
}

/// A file that is verified while it is read; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CheckedFile {
    file: Arc<File>,
    n_bytes: u64,
    checksums: Arc<[u32]>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl CheckedFile {
    /// Opens `path`, which must have the size that was registered for it.
    pub(crate) fn open(
        path: &Path,
        n_bytes: u64,
        checksums: Vec<u32>,
    ) -> Result<Self, WarehouseError> {
        let file = File::open(path).map_err(WarehouseError::io("open", path))?;
        let found = file
            .metadata()
            .map_err(WarehouseError::io("read the size of", path))?
            .len();
        if found != n_bytes {
            return Err(WarehouseError::Damaged {
                path: path.to_owned(),
                what: format!("it has {found} bytes where {n_bytes} were written"),
            });
        }
        Ok(Self {
            file: Arc::new(file),
            n_bytes,
            checksums: checksums.into(),
            failure: Arc::default(),
        })
    }

    /// Verifies every block of the file.
    pub(crate) fn verify(&self, path: &Path, abandoned: &AtomicBool) -> Result<(), WarehouseError> {
        let mut at = 0;
        while at < self.n_bytes {
            go_on(abandoned)?;
            let length = BLOCK_BYTES.min((self.n_bytes - at) as usize);
            self.get_bytes(at, length)
                .map_err(|error| self.explain(path, &error))?;
            at += length as u64;
        }
        Ok(())
    }

    /// Converts a failed read of this file to an error that names its cause.
    pub(crate) fn explain(&self, path: &Path, error: &dyn std::fmt::Display) -> WarehouseError {
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match failure {
            Some(Failure::Io(source)) => WarehouseError::io("read", path)(source),
            Some(Failure::Damage(damage)) => WarehouseError::Damaged {
                path: path.to_owned(),
                what: damage.to_string(),
            },
            None => WarehouseError::Damaged {
                path: path.to_owned(),
                what: error.to_string(),
            },
        }
    }

    fn fail(&self, failure: Failure) -> ParquetError {
        let error = match &failure {
            Failure::Io(error) => ParquetError::General(error.to_string()),
            Failure::Damage(damage) => ParquetError::General(damage.to_string()),
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        error
    }

    fn read_verified(&self, start: u64, length: usize) -> Result<Bytes, Failure> {
        let first_block = start as usize / BLOCK_BYTES;
        let from = (first_block * BLOCK_BYTES) as u64;
        let end = (start + length as u64)
            .next_multiple_of(BLOCK_BYTES as u64)
            .min(self.n_bytes);
        let mut bytes = vec![0; end.saturating_sub(from) as usize];
        self.file
            .read_exact_at(&mut bytes, from)
            .map_err(Failure::Io)?;
        for (block, content) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if self.checksums.get(first_block + block) != Some(&crc32fast::hash(content)) {
                let from = from + (block * BLOCK_BYTES) as u64;
                return Err(Failure::Damage(Damage {
                    from,
                    to: from + content.len() as u64,
                }));
            }
        }
        let offset = (start - from) as usize;
        Ok(Bytes::from(bytes).slice(offset..offset + length))
    }
}

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.n_bytes
    }
}

impl ChunkReader for CheckedFile {
    type T = BlockReader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<BlockReader> {
        Ok(BlockReader {
            file: self.clone(),
            at: start,
            block: Bytes::new(),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        if start
            .checked_add(length as u64)
            .is_none_or(|end| end > self.n_bytes)
        {
            return Err(ParquetError::EOF(format!(
                "bytes {start}.. end beyond the file"
            )));
        }
        self.read_verified(start, length)
            .map_err(|failure| self.fail(failure))
    }
}

/// Reads on from a position, block by block.
pub(crate) struct BlockReader {
    file: CheckedFile,
    at: u64,
    block: Bytes,
}

impl Read for BlockReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            let to_block_end = BLOCK_BYTES - self.at as usize % BLOCK_BYTES;
            let length = to_block_end.min(self.file.n_bytes.saturating_sub(self.at) as usize);
            self.block = self
                .file
                .get_bytes(self.at, length)
                .map_err(io::Error::other)?;
            self.at += length as u64;
        }
        let n_copied = into.len().min(self.block.len());
        into[..n_copied].copy_from_slice(&self.block.split_to(n_copied));
        Ok(n_copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf, u64, Vec<u32>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut writer = ChecksumWriter::new(File::create(&path).unwrap());
        writer.write_all(content).unwrap();
        let (_, n_bytes, checksums) = writer.finish();
        (directory, path, n_bytes, checksums)
    }

    #[test]
    fn any_range_reads_back_and_any_flipped_byte_is_found() {
        let content: Vec<u8> = (0..200_000u32).map(|at| (at * 31 % 251) as u8).collect();
        let (_directory, path, n_bytes, checksums) = written(&content);
        let file = CheckedFile::open(&path, n_bytes, checksums.clone()).unwrap();
        for (from, length) in [
            (0, 10),
            (65_535, 2),
            (0, 200_000),
            (199_999, 1),
            (131_072, 60_000),
        ] {
            assert_eq!(
                file.get_bytes(from as u64, length).unwrap(),
                content[from..from + length]
            );
        }
        for at in [0, 65_535, 65_536, 199_999] {
            let mut flipped = content.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            let file = CheckedFile::open(&path, n_bytes, checksums.clone()).unwrap();
            let error = file
                .verify(&path, &AtomicBool::new(false))
                .unwrap_err()
                .to_string();
            assert!(error.contains("is damaged: the checksum"), "{error}");
        }
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let (_directory, path, n_bytes, checksums) = written(b"four");
        std::fs::write(&path, b"fou").unwrap();
        assert!(
            CheckedFile::open(&path, n_bytes, checksums)
                .unwrap_err()
                .to_string()
                .contains("3 bytes where 4")
        );
    }
}
