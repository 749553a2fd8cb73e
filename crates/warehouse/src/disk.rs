//! Inspects the file system of a data directory: space, inodes, and kind.

use std::io;
use std::path::Path;

/// The free space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Files that may still be created; none where the file system has no such limit.
    pub free_inodes: Option<u64>,
}

/// Returns the free space on the file system of `directory`.
///
/// # Errors
///
/// The directory does not exist or cannot be looked at.
pub fn space(directory: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(Space {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        free_inodes: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// The suitability of a file system, as far as its kind shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// Nothing speaks against it.
    Local,
    /// It is in memory and lost at the next start of the machine.
    Memory,
    /// It is the writable layer of a container and lost with it.
    ContainerLayer,
    /// It is on another machine or in another program; whether a write that
    /// was acknowledged is durable is up to them.
    Remote(&'static str),
}

/// Returns the kind of file system of `directory`. The numbers are those of Linux's `statfs(2)`.
///
/// # Errors
///
/// The directory does not exist or cannot be looked at.
pub fn file_system(directory: &Path) -> io::Result<FileSystem> {
    let found = rustix::fs::statfs(directory)?;
    Ok(match found.f_type & 0xffff_ffff {
        0x0102_1994 | 0x8584_58f6 => FileSystem::Memory,
        0x794c_7630 => FileSystem::ContainerLayer,
        0x6969 => FileSystem::Remote("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => FileSystem::Remote("SMB"),
        0x6573_5546 => FileSystem::Remote("FUSE"),
        0x0102_1997 => FileSystem::Remote("9P"),
        0x00c3_6400 => FileSystem::Remote("Ceph"),
        _ => FileSystem::Local,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_directory_is_told_and_a_missing_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let space = space(directory.path()).unwrap();
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
        assert!(file_system(directory.path()).is_ok());
        assert!(super::space(&directory.path().join("none")).is_err());
    }

    #[test]
    fn shared_memory_is_not_taken_for_a_disk() {
        if Path::new("/dev/shm").is_dir() {
            assert_eq!(
                file_system(Path::new("/dev/shm")).unwrap(),
                FileSystem::Memory
            );
        }
    }
}
