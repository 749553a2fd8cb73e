//! Appends events to files, for `trialog import` or a shipper of logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use trialog_model::event::EventKind;

use super::{Batch, Delivery, Transport};

/// Appends events to `assignments.ndjson` and `metrics.ndjson` in a directory.
///
/// A batch is on the disk before it counts as delivered. The files are opened anew for
/// every batch, so they may be moved away at any time. One process writes a directory: a
/// batch that could be written in part only is cut off again.
#[derive(Debug, Clone)]
pub struct FileTransport {
    directory: PathBuf,
}

impl FileTransport {
    /// Writes into `directory`, which is created when the first batch comes.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }
}

impl Transport for FileTransport {
    fn send(&mut self, kind: EventKind, batch: &Batch, _: Duration) -> Delivery {
        let path = self.directory.join(format!("{}.ndjson", kind.plural()));
        match append(&path, batch.lines()) {
            Ok(()) => Delivery::taken(),
            Err(error) => Delivery::failed(format!("cannot write `{}`: {error}", path.display())),
        }
    }
}

fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    written.inspect_err(|_| cut(&file, before))
}

/// Leaves no half of a batch behind; where that fails too, the last line is a broken one,
/// which a reader refuses, and its copy follows.
fn cut(file: &File, length: u64) {
    let _ = file.set_len(length);
}
