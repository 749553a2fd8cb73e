//! Records the last acknowledged commit in a separate file, so that a lost commit is noticed at
//! opening.
//!
//! SQLite takes a damaged last commit of its log for the torn end that a loss
//! of power leaves, and drops it; it takes a damaged header for an empty log,
//! and an absent file for a new one. So after every commit, and before anybody
//! is told that it is durable, the number of that commit is written to a file
//! of its own. It is not synced: a loss of power may leave an older number,
//! never a newer one than was durable. A database that does not reach it has
//! lost what was acknowledged; one that is ahead was killed between the two
//! writes.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// The number, then the CRC-32 of its bytes; both little endian.
const N_BYTES: usize = 12;

/// A file with one number and its checksum.
#[derive(Debug)]
pub struct ToldFile {
    file: File,
    path: PathBuf,
}

impl ToldFile {
    /// Opens or creates the file at `path`, and makes its name durable.
    ///
    /// # Errors
    ///
    /// The file cannot be created or opened.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            if let Some(directory) = path.parent() {
                File::open(directory)?.sync_all()?;
            }
            Ok(file)
        };
        Ok(Self {
            file: open().map_err(failed("open", path))?,
            path: path.to_owned(),
        })
    }

    /// Returns the number in the file at `path`; `None` if the file is missing or damaged. Damage
    /// is logged.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Option<u64>, OpenError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", path)(error)),
        };
        let is_new = bytes.is_empty();
        let told = bytes.try_into().ok().and_then(decode);
        if told.is_none() && !is_new {
            tracing::warn!(
                file = %path.display(),
                "`{}` is damaged; the next start of a server writes it again, but this start cannot check whether an acknowledged change is missing",
                path.display()
            );
        }
        Ok(told)
    }

    /// Records that everything up to `number` is durable.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn tell(&self, number: u64) -> Result<(), OpenError> {
        self.file
            .write_all_at(&encode(number), 0)
            .map_err(failed("write", &self.path))
    }
}

fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(std::io::Error) -> OpenError + use<'a> {
    move |source| OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

fn encode(number: u64) -> [u8; N_BYTES] {
    let mut bytes = [0; N_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&crc32fast::hash(&number.to_le_bytes()).to_le_bytes());
    bytes
}

fn decode(bytes: [u8; N_BYTES]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes[..8].try_into().ok()?);
    (encode(number) == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_back_and_a_flipped_bit_tells_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("POSITION");
        assert_eq!(ToldFile::read(&path).unwrap(), None);
        let file = ToldFile::open(&path).unwrap();
        assert_eq!(ToldFile::read(&path).unwrap(), None, "nothing was told yet");
        for number in [1, 255, 256, 70_000] {
            file.tell(number).unwrap();
            assert_eq!(ToldFile::read(&path).unwrap(), Some(number));
        }
        for bit in 0..8 * N_BYTES {
            let mut bytes = encode(70_000);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(bytes), None, "bit {bit}");
        }
    }
}
