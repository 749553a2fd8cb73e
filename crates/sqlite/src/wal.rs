//! Distinguishes damage in SQLite's write-ahead log from a torn end.
//!
//! SQLite takes the first frame whose checksum is wrong for the end of the
//! log. That is right after a loss of power: every commit is synced before
//! the next begins, so at most one transaction can be torn. But a frame that
//! is damaged later would silently take every acknowledged commit after it
//! along. Two commits behind a bad frame cannot be a torn end.
//!
//! The format is that of <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use crate::error::OpenError;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Checks the log at `path`, if there is one, before SQLite opens it.
pub(crate) fn check(path: &Path) -> Result<(), OpenError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(OpenError::Io {
                action: "open",
                path: path.to_owned(),
                source,
            });
        }
    };
    let mut log = BufReader::with_capacity(1 << 20, file);
    let lost = lost_commits(&mut log).map_err(|source| OpenError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    match lost {
        0 | 1 => Ok(()),
        lost => Err(OpenError::Damaged {
            path: path.to_owned(),
            what: format!("a frame does not match its checksum, and {lost} commits follow it"),
        }),
    }
}

/// How many commits follow the first bad frame.
fn lost_commits(log: &mut impl Read) -> std::io::Result<usize> {
    let mut header = [0; HEADER_BYTES];
    if !fill(log, &mut header)? {
        return Ok(0);
    }
    let is_big_endian = word(&header, 0) & 1 == 1;
    let mut sums = Sums {
        s0: 0,
        s1: 0,
        is_big_endian,
    };
    sums.add(&header[..24]);
    let page_bytes = word(&header, 8) as usize;
    let is_sound = (sums.s0, sums.s1) == (word(&header, 24), word(&header, 28));
    // A header that is wrong itself is a log that SQLite starts anew.
    if !is_sound || !(512..=65_536).contains(&page_bytes) {
        return Ok(0);
    }
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let mut is_good = true;
    let mut lost = 0;
    while fill(log, &mut frame)? {
        let is_of_this_log = frame[8..16] == header[16..24];
        let is_commit = word(&frame, 4) != 0;
        if is_good {
            sums.add(&frame[..8]);
            sums.add(&frame[FRAME_HEADER_BYTES..]);
            is_good = is_of_this_log && (sums.s0, sums.s1) == (word(&frame, 16), word(&frame, 20));
        }
        if !is_good && is_of_this_log && is_commit {
            lost += 1;
        }
    }
    Ok(lost)
}

/// Fills `into`; false where the log ends before.
fn fill(log: &mut impl Read, into: &mut [u8]) -> std::io::Result<bool> {
    match log.read_exact(into) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The running checksum of the log.
struct Sums {
    s0: u32,
    s1: u32,
    is_big_endian: bool,
}

impl Sums {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let read = |at: usize| {
                let word = word(pair, at);
                if self.is_big_endian {
                    word
                } else {
                    word.swap_bytes()
                }
            };
            let (first, second) = (read(0), read(4));
            self.s0 = self.s0.wrapping_add(first).wrapping_add(self.s1);
            self.s1 = self.s1.wrapping_add(second).wrapping_add(self.s0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of a database into which ten rows were committed one by one.
    fn log() -> (tempfile::TempDir, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let connection = rusqlite::Connection::open(directory.path().join("db")).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x);")
            .unwrap();
        for number in 0..10 {
            connection
                .execute("INSERT INTO t VALUES (?1)", [number])
                .unwrap();
        }
        let log = std::fs::read(directory.path().join("db-wal")).unwrap();
        (directory, log)
    }

    #[test]
    fn a_sound_log_and_a_torn_end_are_accepted() {
        let (_directory, log) = log();
        assert_eq!(lost_commits(&mut log.as_slice()).unwrap(), 0);
        for cut in 0..log.len() / 100 {
            assert!(lost_commits(&mut &log[..cut * 100]).unwrap() <= 1);
        }
    }

    #[test]
    fn a_flipped_byte_with_commits_after_it_is_found() {
        let (_directory, log) = log();
        for at in [log.len() / 4, log.len() / 2, log.len() * 3 / 4] {
            let mut flipped = log.clone();
            flipped[at] ^= 1;
            assert!(lost_commits(&mut flipped.as_slice()).unwrap() >= 2, "{at}");
        }
    }
}
