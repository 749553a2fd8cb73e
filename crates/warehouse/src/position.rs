//! `POSITION`: the last acknowledged sequence, told outside the database.
//!
//! SQLite takes a damaged last commit of its log for the torn end that a loss
//! of power leaves, and drops it. So after every commit, and before anybody is
//! told that it is durable, its sequence is written here. It is not synced: a
//! loss of power may leave an older one, never a newer one than was durable.
//! A database that does not reach it has lost acknowledged events.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::WarehouseError;

/// The sequence, then the CRC-32 of its bytes; both little endian.
const N_BYTES: usize = 12;

pub(crate) struct PositionFile {
    file: File,
    path: PathBuf,
}

impl PositionFile {
    /// Opens `POSITION` in `directory` and gives what it tells; nothing where
    /// it is new or damaged, which is logged.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Option<u64>), WarehouseError> {
        let path = directory.join("POSITION");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(WarehouseError::io("open", &path))?;
        let mut bytes = [0; N_BYTES];
        let told = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(WarehouseError::io("read", &path)(error)),
        };
        let is_new = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if told.is_none() && !is_new {
            tracing::warn!(
                file = %path.display(),
                "`POSITION` is damaged and is written anew: whether the last events before this start are all there cannot be told"
            );
        }
        Ok((Self { file, path }, told))
    }

    /// What `POSITION` in `directory` tells; nothing where it is absent or damaged.
    pub(crate) fn read(directory: &Path) -> Result<Option<u64>, WarehouseError> {
        let path = directory.join("POSITION");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(bytes.try_into().ok().and_then(decode)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(WarehouseError::io("read", &path)(error)),
        }
    }

    /// Tells that everything up to `sequence` is durable.
    pub(crate) fn tell(&self, sequence: u64) -> Result<(), WarehouseError> {
        self.file
            .write_all_at(&encode(sequence), 0)
            .map_err(WarehouseError::io("write", &self.path))
    }
}

fn encode(sequence: u64) -> [u8; N_BYTES] {
    let mut bytes = [0; N_BYTES];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    bytes[8..].copy_from_slice(&crc32fast::hash(&sequence.to_le_bytes()).to_le_bytes());
    bytes
}

fn decode(bytes: [u8; N_BYTES]) -> Option<u64> {
    let sequence = u64::from_le_bytes(bytes[..8].try_into().ok()?);
    (encode(sequence) == bytes).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_back_and_a_flipped_byte_tells_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (file, told) = PositionFile::open(directory.path()).unwrap();
        assert_eq!(told, None);
        for sequence in [1, 255, 256, 70_000] {
            file.tell(sequence).unwrap();
            let (_, told) = PositionFile::open(directory.path()).unwrap();
            assert_eq!(told, Some(sequence));
        }
        for at in 0..N_BYTES {
            let mut bytes = encode(70_000);
            bytes[at] ^= 4;
            assert_eq!(decode(bytes), None, "byte {at}");
        }
    }
}
