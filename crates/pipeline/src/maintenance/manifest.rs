//! Reads and writes `backup.json`, the manifest of a backup. It is written last, so a directory
//! without it is not a backup.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::MaintenanceError;

/// The name of the manifest in a backup.
pub const NAME: &str = "backup.json";
/// The newest format of backups that this version knows.
pub const FORMAT: u32 = 1;

/// The content of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of the backup.
    pub format: u32,
    /// The version of Trialog that made it.
    pub trialog: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// The last position of the events in it.
    pub position: u64,
    /// The position up to which its results were computed.
    pub published_position: u64,
    /// All files beside the manifest.
    pub files: Vec<FileEntry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the backup, and in the data directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The CRC-32 of its content, eight hexadecimal digits.
    pub crc32: String,
}

/// The manifest with the checksum of its text.
#[derive(Deserialize)]
struct Sealed<'a> {
    crc32: String,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

#[derive(Deserialize)]
struct Version {
    format: u32,
    trialog: String,
}

impl Manifest {
    /// Returns the total size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Writes the manifest into `directory`, durably.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), MaintenanceError> {
        let path = directory.join(NAME);
        let text = serde_json::to_string_pretty(self)
            .expect("a manifest has text keys and whole numbers only");
        let crc32 = hexadecimal(crc32fast::hash(text.as_bytes()));
        let write = || {
            let mut file = File::create(&path)?;
            writeln!(file, "{{\"crc32\": \"{crc32}\", \"manifest\": {text}}}")?;
            file.sync_all()
        };
        write().map_err(MaintenanceError::io("write", &path))
    }

    /// Reads the manifest of the backup in `directory`.
    ///
    /// # Errors
    ///
    /// There is none, it is damaged, or a newer version of Trialog wrote it.
    pub fn read(directory: &Path) -> Result<Self, MaintenanceError> {
        let path = directory.join(NAME);
        let no_backup = |why: String| MaintenanceError::NoBackup {
            path: directory.to_owned(),
            why,
        };
        let damaged = |what: &str| MaintenanceError::DamagedBackup {
            path: directory.to_owned(),
            what: vec![format!("`{NAME}` {what}")],
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(no_backup(format!(
                    "it has no `{NAME}`, which a backup is given last"
                )));
            }
            Err(error) => return Err(MaintenanceError::io("read", &path)(error)),
        };
        let sealed: Sealed<'_> =
            serde_json::from_slice(&bytes).map_err(|_| damaged("cannot be read"))?;
        let text = sealed.manifest.get();
        if hexadecimal(crc32fast::hash(text.as_bytes())) != sealed.crc32 {
            return Err(damaged("does not match its checksum"));
        }
        let version: Version =
            serde_json::from_str(text).map_err(|_| damaged("names no version"))?;
        if version.format > FORMAT {
            return Err(no_backup(format!(
                "it has the form {}, this binary knows up to {FORMAT}: run trialog {} or newer",
                version.format, version.trialog
            )));
        }
        let manifest: Self =
            serde_json::from_str(text).map_err(|error| damaged(&error.to_string()))?;
        match manifest.files.iter().find(|file| !is_below(&file.name)) {
            Some(file) => Err(damaged(&format!(
                "names `{}`, which lies outside",
                file.name
            ))),
            None => Ok(manifest),
        }
    }

    /// Compares every file in `directory` with the manifest, and returns the differences.
    ///
    /// # Errors
    ///
    /// A file that is there cannot be read.
    pub fn verify(
        &self,
        directory: &Path,
        progress: super::Progress<'_>,
    ) -> Result<Vec<String>, MaintenanceError> {
        let (mut wrong, mut done) = (Vec::new(), 0);
        for file in &self.files {
            let path = directory.join(&file.name);
            match FileEntry::read_from(&path, &file.name) {
                Ok(found) if found == *file => {}
                Ok(found) if found.bytes != file.bytes => wrong.push(format!(
                    "`{}` has {} bytes where {} were written",
                    file.name, found.bytes, file.bytes
                )),
                Ok(_) => wrong.push(format!("`{}` does not match its checksum", file.name)),
                Err(MaintenanceError::Io { reason, .. })
                    if reason.kind() == std::io::ErrorKind::NotFound =>
                {
                    wrong.push(format!("`{}` is missing", file.name));
                }
                Err(error) => return Err(error),
            }
            done += file.bytes;
            progress(done, self.bytes());
        }
        Ok(wrong)
    }
}

impl FileEntry {
    /// Reads the file at `path` and returns its entry under the name `name`.
    pub(crate) fn read_from(path: &Path, name: &str) -> Result<Self, MaintenanceError> {
        let mut summed = Summed::new(std::io::sink());
        let mut file = File::open(path).map_err(MaintenanceError::io("read", path))?;
        copy(&mut file, &mut summed).map_err(MaintenanceError::io("read", path))?;
        Ok(summed.entry(name))
    }
}

/// Passes bytes on and computes their checksum.
pub(crate) struct Summed<W> {
    pub(crate) inner: W,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

impl<W: Write> Summed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: crc32fast::Hasher::new(),
            bytes: 0,
        }
    }

    pub(crate) fn entry(self, name: &str) -> FileEntry {
        FileEntry {
            name: name.to_owned(),
            bytes: self.bytes,
            crc32: hexadecimal(self.hasher.finalize()),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Copies all of `from` in large pieces.
pub(crate) fn copy(from: &mut impl Read, to: &mut Summed<impl Write>) -> std::io::Result<()> {
    let mut piece = vec![0; 1 << 20];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            n_read => to.take(&piece[..n_read])?,
        }
    }
}

/// Makes the names in `directory` durable.
pub(crate) fn sync(directory: &Path) -> Result<(), MaintenanceError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(MaintenanceError::io("sync the directory", directory))
}

fn hexadecimal(crc32: u32) -> String {
    format!("{crc32:08x}")
}

fn is_below(name: &str) -> bool {
    let path = PathBuf::from(name);
    let mut components = path.components();
    !name.is_empty() && components.all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            trialog: "0.1.0".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
            position: 9,
            published_position: 7,
            files: vec![FileEntry {
                name: name.into(),
                bytes: 3,
                crc32: "352441c2".into(),
            }],
        }
    }

    #[test]
    fn a_manifest_reads_back_and_every_flipped_byte_of_it_is_found() {
        let directory = tempfile::tempdir().unwrap();
        manifest("f").write(directory.path()).unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), manifest("f"));
        let path = directory.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            if let Ok(read) = Manifest::read(directory.path()) {
                assert_eq!(read, manifest("f"), "only white space may differ, {at}");
            }
        }
    }

    #[test]
    fn a_changed_or_missing_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let verify = || {
            manifest("f")
                .verify(directory.path(), &mut |_, _| {})
                .unwrap()
        };
        assert_eq!(verify(), ["`f` is missing"]);
        std::fs::write(directory.path().join("f"), b"abc").unwrap();
        assert!(verify().is_empty());
        std::fs::write(directory.path().join("f"), b"abd").unwrap();
        assert_eq!(verify(), ["`f` does not match its checksum"]);
    }

    #[test]
    fn a_name_outside_of_the_backup_and_a_newer_form_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["../f", "/f", "a/../../f", ""] {
            manifest(name).write(directory.path()).unwrap();
            assert!(Manifest::read(directory.path()).is_err(), "{name}");
        }
        let newer = Manifest {
            format: FORMAT + 1,
            trialog: "9.9.9".into(),
            ..manifest("f")
        };
        newer.write(directory.path()).unwrap();
        let refused = Manifest::read(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("run trialog 9.9.9 or newer"), "{refused}");
    }
}
