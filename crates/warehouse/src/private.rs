//! Restricts the data directory to its owner: 0700 for directories, 0600 for files.
//!
//! The process creates nothing wider (`umask` in `trialog`). What an earlier version,
//! a copy or an administrator left wider is narrowed when the directory is locked.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Bits that let anyone but the owner in.
const OTHERS: u32 = 0o077;
/// A directory in which everybody may create files, such as `/tmp`.
const STICKY: u32 = 0o1000;
/// Directories of a data directory that are narrowed with all that they hold.
const WITHIN: [&str; 3] = ["events", "spill", "backups"];

/// Creates `directory`, which only its owner may enter.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)
}

/// Returns whether anyone but the owner may use the file.
pub(crate) fn is_wide(metadata: &Metadata) -> bool {
    metadata.mode() & OTHERS != 0
}

/// What was narrowed, and what could not be.
#[derive(Debug, Default)]
struct Narrowed {
    n_paths: usize,
    refused: Option<String>,
}

/// Removes the permissions of group and others from the data directory and its files.
///
/// Logs how many were wider. Files of other users cannot be changed: the log
/// says so, and the process goes on. Links are not followed.
pub(crate) fn narrow(directory: &Path) {
    let mut narrowed = Narrowed::default();
    narrowed.top(directory);
    let shown = directory.display();
    if narrowed.n_paths > 0 {
        tracing::warn!(
            "others could read or enter {} paths of the data directory `{shown}`: now only its owner may",
            narrowed.n_paths
        );
    }
    if let Some(reason) = narrowed.refused {
        tracing::warn!("other users may read `{shown}`: {reason}; give the directory to this user");
    }
}

impl Narrowed {
    /// Restricts the directory itself, its files, and the directories that belong to the data.
    fn top(&mut self, directory: &Path) {
        match fs::metadata(directory) {
            Ok(metadata) if metadata.mode() & STICKY != 0 => {
                self.refused = Some("it is a directory for everybody".to_owned());
            }
            Ok(metadata) => self.path(directory, &metadata, 0o700),
            Err(error) => self.failed(directory, &error),
        }
        self.entries(directory, &|name| {
            WITHIN.iter().any(|within| name == *within)
        });
    }

    /// Restricts the entries of `directory`, and those of its directories that `goes_into`
    /// chooses.
    fn entries(&mut self, directory: &Path, goes_into: &dyn Fn(&std::ffi::OsStr) -> bool) {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return self.failed(directory, &error),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // The metadata of the entry itself, not of what a link points at.
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => self.path(&path, &metadata, 0o600),
                Ok(metadata) if metadata.is_dir() && goes_into(&entry.file_name()) => {
                    self.path(&path, &metadata, 0o700);
                    self.entries(&path, &|_| true);
                }
                Ok(_) => {}
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.failed(&path, &error),
            }
        }
    }

    fn path(&mut self, path: &Path, metadata: &Metadata, mode: u32) {
        if !is_wide(metadata) {
            return;
        }
        match fs::set_permissions(path, Permissions::from_mode(mode)) {
            Ok(()) => self.n_paths += 1,
            Err(error) => self.failed(path, &error),
        }
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        let reason = || format!("cannot change `{}`: {error}", path.display());
        self.refused.get_or_insert_with(reason);
    }
}

/// Returns whether every process that locks `file` is known to belong to another user.
///
/// The owner of the file, root and this process's user may hold the directory. A lock of
/// anybody else keeps nothing. Where the kernel does not name the holder (another
/// container, a network file system), the answer is no: two writers are worse than none.
pub(crate) fn is_held_by_others(file: &File) -> bool {
    let (Ok(metadata), Ok(locks)) = (file.metadata(), fs::read_to_string("/proc/locks")) else {
        return false;
    };
    let may_hold = [0, metadata.uid(), rustix::process::geteuid().as_raw()];
    let holders = holders(&locks, metadata.dev(), metadata.ino());
    let is_other = |pid: &u32| {
        users_of(*pid).is_some_and(|users| users.iter().all(|user| !may_hold.contains(user)))
    };
    !holders.is_empty() && holders.iter().all(is_other)
}

/// The processes that hold a lock of the file, by the lines of `/proc/locks`.
fn holders(locks: &str, device: u64, inode: u64) -> Vec<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`; `1: -> ...` waits for it.
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, at, ..] if *at == file => pid.parse().ok(),
            _ => None,
        }
    };
    locks.lines().filter_map(line).collect()
}

/// Every user that the process `pid` is or may become.
fn users_of(pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users
        .split_whitespace()
        .map(|user| user.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_wider_is_narrowed_and_nothing_else_is_touched() {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("data");
        let files = [
            "catalog.sqlite",
            "LOCAL_KEY",
            "events/metrics/1.parquet",
            "backups/b/MANIFEST",
        ];
        for file in files {
            let path = data.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        }
        let strange = data.join("strange/file");
        fs::create_dir_all(strange.parent().unwrap()).unwrap();
        fs::write(&strange, "x").unwrap();
        fs::set_permissions(&strange, Permissions::from_mode(0o644)).unwrap();
        let elsewhere = outer.path().join("elsewhere");
        fs::write(&elsewhere, "x").unwrap();
        fs::set_permissions(&elsewhere, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.join("link")).unwrap();
        fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
        narrow(&data);
        assert_eq!(mode(&data), 0o700);
        for file in files {
            assert_eq!(mode(&data.join(file)), 0o600, "{file}");
            assert_eq!(mode(data.join(file).parent().unwrap()), 0o700, "{file}");
        }
        assert_eq!((mode(&strange), mode(&elsewhere)), (0o644, 0o644));
    }

    #[test]
    fn a_directory_of_everybody_is_left_to_everybody() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), Permissions::from_mode(0o1777)).unwrap();
        fs::write(data.path().join("POSITION"), "x").unwrap();
        narrow(data.path());
        assert_eq!(mode(data.path()), 0o1777);
        assert_eq!(mode(&data.path().join("POSITION")), 0o600);
    }

    #[test]
    fn the_holders_of_a_lock_are_found_by_device_and_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 17 08:01:42 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 18 08:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 19 08:01:43 0 EOF\n\
                     3: POSIX  ADVISORY  READ 20 08:01:42 0 EOF\n";
        assert_eq!(holders(locks, rustix::fs::makedev(8, 1), 42), [17]);
    }

    #[test]
    fn a_lock_of_this_user_is_not_another_users() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("LOCK");
        let file = File::create(&path).unwrap();
        file.try_lock().unwrap();
        assert!(!is_held_by_others(&file));
        assert_eq!(users_of(std::process::id()).unwrap().len(), 4);
    }
}
