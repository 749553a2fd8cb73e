//! Reads Feather (Arrow IPC) files. They carry no checksums, so their offsets and sizes are
//! checked against the file before use.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use anyhow::{Context, anyhow, bail, ensure};
use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_ipc::{Block, MessageHeader, root_as_footer, root_as_message};
use arrow_schema::SchemaRef;

use super::source::Source;

/// What begins and ends such a file.
const MAGIC: &[u8; 6] = b"ARROW1";
/// The largest part of a file that is taken, and the most rows of one.
const MOST_BYTES: u64 = 1 << 31;

/// The batches of a file whose parts are where its offsets say.
pub(super) struct Batches(FileReader<BufReader<File>>);

impl Batches {
    /// Opens `source`; of all columns, or those at `places`.
    pub(super) fn open(source: &Source, places: Option<Vec<usize>>) -> anyhow::Result<Self> {
        let file = source.file()?;
        let opened = check(&file).and_then(|()| {
            let read = || FileReader::try_new_buffered(source.file()?, places).map_err(plain);
            Ok(Self(quietly(read)??))
        });
        opened.map_err(|reason| {
            anyhow!(
                "{} is not a Feather file of version 2 (an Arrow IPC file), or was cut short or damaged: {reason:#}",
                source.shown()
            )
        })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = quietly(|| self.0.next().map(|batch| batch.map_err(plain)));
        match next {
            Ok(batch) => batch.map(|batch| batch.map_err(|error| format!("{error:#}"))),
            Err(error) => Some(Err(format!("{error:#}"))),
        }
    }
}

fn plain(_: arrow_schema::ArrowError) -> anyhow::Error {
    anyhow!("a part of it does not hold what it says")
}

/// Returns the result of `read`; an error if the library panics over senseless bytes.
fn quietly<T>(read: impl FnOnce() -> T) -> anyhow::Result<T> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(read));
    set_hook(hook);
    outcome.map_err(|_| anyhow!("a part of it makes no sense"))
}

/// Holds every part against the length of the file.
fn check(mut file: &File) -> anyhow::Result<()> {
    let length = file.metadata()?.len();
    ensure!(length >= 20, "it is too short");
    let mut end = [0; 10];
    file.seek(SeekFrom::Start(length - 10))?;
    file.read_exact(&mut end)?;
    ensure!(end[4..] == *MAGIC, "it does not end as one");
    let n_footer = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    ensure!(n_footer + 18 <= length, "its end says that it is longer");
    let parts_end = length - 10 - n_footer;
    let footer = bytes(file, parts_end, n_footer)?;
    let footer = root_as_footer(&footer)
        .ok()
        .context("its end cannot be read")?;
    let batches = footer.recordBatches().into_iter().flatten();
    for block in footer.dictionaries().into_iter().flatten().chain(batches) {
        check_block(file, block, parts_end)?;
    }
    Ok(())
}

fn check_block(file: &File, block: &Block, parts_end: u64) -> anyhow::Result<()> {
    let within = |number: i64| u64::try_from(number).ok().context("a part has no place");
    let (at, body) = (within(block.offset())?, within(block.bodyLength())?);
    let head = within(i64::from(block.metaDataLength()))?;
    let whole = at.checked_add(head).and_then(|sum| sum.checked_add(body));
    ensure!(
        head >= 8 && whole.is_some_and(|end| end <= parts_end),
        "a part lies beyond its end"
    );
    let message = bytes(file, at, head)?;
    // Since version 0.15 a mark and the length come first, before that the length alone.
    let skipped = if message.starts_with(&[0xff; 4]) {
        8
    } else {
        4
    };
    let message = root_as_message(&message[skipped..])
        .ok()
        .context("a part's head cannot be read")?;
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => message
            .header_as_dictionary_batch()
            .and_then(|dictionary| dictionary.data()),
        _ => bail!("a part is neither rows nor a dictionary"),
    };
    let batch = batch.context("a part has no rows")?;
    let n_rows = within(batch.length())?;
    ensure!(
        n_rows <= MOST_BYTES,
        "a part says that it has {n_rows} rows"
    );
    for node in batch.nodes().into_iter().flatten() {
        let (rows, nulls) = (within(node.length())?, within(node.null_count())?);
        ensure!(
            rows <= MOST_BYTES && nulls <= rows,
            "a column has no sound length"
        );
    }
    for buffer in batch.buffers().into_iter().flatten() {
        let (start, length) = (within(buffer.offset())?, within(buffer.length())?);
        let end = start.checked_add(length);
        ensure!(
            end.is_some_and(|end| end <= body),
            "a column lies beyond its part"
        );
        if batch.compression().is_some() && length > 0 {
            ensure!(length >= 8, "a compressed column is too short");
            let size = bytes(file, at + head + start, 8)?;
            let size = i64::from_le_bytes(size.try_into().unwrap_or_default());
            // -1 says that it is not compressed after all.
            let is_sound = size == -1 || u64::try_from(size).is_ok_and(|size| size <= MOST_BYTES);
            ensure!(is_sound, "a compressed column has no sound size");
        }
    }
    Ok(())
}

fn bytes(mut file: &File, at: u64, length: u64) -> anyhow::Result<Vec<u8>> {
    ensure!(length <= MOST_BYTES, "a part is larger than 2 GiB");
    let mut bytes = vec![0; length as usize];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
