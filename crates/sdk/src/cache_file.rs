//! Stores the last good configuration on the disk, for a start without a network.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Copy<'a> {
    etag: Option<String>,
    #[serde(borrow)]
    configuration: &'a RawValue,
}

/// A configuration as a server sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) etag: Option<String>,
    pub(crate) text: Vec<u8>,
}

/// Reads the copy; none where there is no file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Sent>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let copy: Copy<'_> = serde_json::from_slice(&text)?;
    let text = copy.configuration.get().as_bytes().to_vec();
    Ok(Some(Sent {
        etag: copy.etag,
        text,
    }))
}

/// Writes the copy: under another name first, so that a reader sees a whole one.
pub(crate) fn write(path: &Path, sent: &Sent) -> io::Result<()> {
    let configuration = serde_json::from_slice(&sent.text)?;
    let copy = Copy {
        etag: sent.etag.clone(),
        configuration,
    };
    let aside = beside(path);
    let mut file = File::create(&aside)?;
    let written = file
        .write_all(&serde_json::to_vec(&copy)?)
        .and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| std::fs::rename(&aside, path)) {
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    Ok(())
}

/// A name of this process beside the file, since several may share it.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_broken_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trialog.json");
        assert_eq!(read(&path).unwrap(), None);
        let sent = Sent {
            etag: Some("\"a\"".to_owned()),
            text: br#"{"experiments": []}"#.to_vec(),
        };
        write(&path, &sent).unwrap();
        assert_eq!(read(&path).unwrap(), Some(sent));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).is_err());
    }
}
