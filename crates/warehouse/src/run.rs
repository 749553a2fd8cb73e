//! Writes and reads a sorted, immutable Parquet file of events.

use std::fs::{self, File};
use std::io::BufWriter;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use trialog_model::event::EventKind;

use crate::batch::Block;
use crate::checked_file::{CheckedFile, ChecksumWriter};
use crate::codec;
use crate::error::WarehouseError;
use crate::index::{Index, IndexWriter};
use crate::snapshot::go_on;

/// Rows per row group: what a writer holds in memory.
pub(crate) const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Rows per page: what reading a small experiment costs at least.
const PAGE_ROWS: usize = 4 * 1024;
/// Rows that are decoded at a time; they fit into a core's cache.
const READ_ROWS: usize = 8 * 1024;

/// What `warehouse.sqlite` registers of a run.
#[derive(Debug, Clone)]
pub(crate) struct RunRecord {
    pub(crate) id: i64,
    pub(crate) kind: EventKind,
    /// The file's name below `events/<kind>/`.
    pub(crate) file: String,
    pub(crate) bytes: u64,
    /// The inbox sequences that it covers, both inclusive.
    pub(crate) sequences: (u64, u64),
    pub(crate) checksums: Vec<u32>,
    pub(crate) index: Index,
}

/// A live run, open for reading.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) record: RunRecord,
    pub(crate) path: PathBuf,
    file: CheckedFile,
    metadata: ArrowReaderMetadata,
    /// Rows before each entry of the index.
    first_rows: Vec<u64>,
    /// Whether it has two texts of one user: indexes are long, and hardly any has.
    pub(crate) has_clashes: bool,
    /// Set when a merge replaced it: the last reader that lets go deletes the file.
    obsolete: AtomicBool,
}

impl Run {
    /// Opens the run that `record` describes.
    pub(crate) fn open(record: RunRecord, directory: &Path) -> Result<Self, WarehouseError> {
        let path = directory.join(record.kind.plural()).join(&record.file);
        let file = CheckedFile::open(&path, record.bytes, record.checksums.clone())?;
        let options = ArrowReaderOptions::new()
            .with_offset_index_policy(PageIndexPolicy::Required)
            .with_column_index_policy(PageIndexPolicy::Skip);
        let metadata = ArrowReaderMetadata::load(&file, options)
            .map_err(|error| file.explain(&path, &error))?;
        let mut n_before = 0;
        let first_rows = record.index.0.iter().map(|entry| {
            n_before += entry.rows;
            n_before - entry.rows
        });
        let has_clashes = record.index.clashing_users().next().is_some();
        Ok(Self {
            first_rows: first_rows.collect(),
            has_clashes,
            path,
            file,
            metadata,
            obsolete: AtomicBool::new(false),
            record,
        })
    }

    /// The name of a file that covers `sequences` and replaces runs up to the
    /// id `generation`.
    pub(crate) fn file_name(sequences: (u64, u64), generation: i64) -> String {
        format!(
            "{:012}-{:012}-{generation}.parquet",
            sequences.0, sequences.1
        )
    }

    /// The last sequence that a finished file at `path` covers, by its name.
    pub(crate) fn last_sequence_in(path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
        name.split('-').nth(1)?.parse().ok()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.record.index.rows()
    }

    /// The rows of `experiment`.
    pub(crate) fn experiment_rows(&self, experiment: &str) -> Option<Range<u64>> {
        let entries = &self.record.index.0;
        let at = entries
            .binary_search_by(|entry| entry.experiment.as_str().cmp(experiment))
            .ok()?;
        Some(self.first_rows[at]..self.first_rows[at] + entries[at].rows)
    }

    /// Deletes the file once nobody reads it any more.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    /// Verifies every byte of the file.
    pub(crate) fn verify(&self, abandoned: &AtomicBool) -> Result<(), WarehouseError> {
        self.file.verify(&self.path, abandoned)
    }

    /// For each row group its rows, and the least and greatest user in it.
    pub(crate) fn row_groups(&self) -> impl Iterator<Item = (Range<u64>, Option<(i64, i64)>)> + '_ {
        let metadata: &ParquetMetaData = self.metadata.metadata();
        let mut start = 0;
        metadata.row_groups().iter().map(move |group| {
            let rows = start..start + group.num_rows().cast_unsigned();
            start = rows.end;
            let users = match group.column(1).statistics() {
                Some(Statistics::Int64(users)) => {
                    users.min_opt().copied().zip(users.max_opt().copied())
                }
                _ => None,
            };
            (rows, users)
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            // A file that stays behind is an orphan, which the next start removes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Those without texts of their own.
    Plain,
    /// These and the contexts.
    WithContext,
    /// These and the users as texts.
    WithUserText,
    /// All that there are.
    All,
}

impl Columns {
    fn take(self, name: &str) -> bool {
        match name {
            codec::CONTEXT => self.have_context(),
            codec::USER_TEXT => self.have_user_text(),
            _ => true,
        }
    }

    /// Whether contexts are among them.
    pub(crate) fn have_context(self) -> bool {
        matches!(self, Self::WithContext | Self::All)
    }

    /// Whether the users as texts are among them.
    pub(crate) fn have_user_text(self) -> bool {
        matches!(self, Self::WithUserText | Self::All)
    }
}

/// Reads some rows of a run, block by block.
pub(crate) struct RunReader {
    run: Arc<Run>,
    ranges: Vec<Range<u64>>,
    columns: Columns,
    /// The next row group and its first row.
    next_group: usize,
    next_row: u64,
    current: Option<ParquetRecordBatchReader>,
    /// Set when nobody waits for the rows any more.
    abandoned: Option<Arc<AtomicBool>>,
}

impl RunReader {
    /// A reader of the rows in `ranges`, which are in order and do not touch.
    pub(crate) fn new(run: Arc<Run>, ranges: Vec<Range<u64>>, columns: Columns) -> Self {
        Self {
            run,
            ranges,
            columns,
            next_group: 0,
            next_row: 0,
            current: None,
            abandoned: None,
        }
    }

    /// Makes reading fail with [`WarehouseError::Abandoned`] once the flag is set.
    pub(crate) fn until(self, abandoned: Option<Arc<AtomicBool>>) -> Self {
        Self { abandoned, ..self }
    }

    /// The next block, or `None` at the end.
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>, WarehouseError> {
        self.abandoned.as_deref().map_or(Ok(()), go_on)?;
        loop {
            if let Some(reader) = &mut self.current {
                match reader.next() {
                    Some(columns) => {
                        let block = columns.and_then(|columns| codec::from_arrow(&columns));
                        return block
                            .map(Some)
                            .map_err(|error| self.run.file.explain(&self.run.path, &error));
                    }
                    None => self.current = None,
                }
            }
            if !self.open_next_group()? {
                return Ok(None);
            }
        }
    }

    /// Opens the next row group that has rows to read; false at the end.
    fn open_next_group(&mut self) -> Result<bool, WarehouseError> {
        let metadata = self.run.metadata.clone();
        while let Some(group) = metadata.metadata().row_groups().get(self.next_group) {
            let rows = self.next_row..self.next_row + group.num_rows().cast_unsigned();
            let selection = select(&self.ranges, &rows);
            let group_idx = self.next_group;
            self.next_group += 1;
            self.next_row = rows.end;
            let Some(selection) = selection else { continue };
            let schema = metadata.parquet_schema();
            let leaves = (schema.columns().iter().enumerate())
                .filter(|(_, column)| self.columns.take(column.name()))
                .map(|(at, _)| at);
            let mask = ProjectionMask::leaves(schema, leaves);
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
                self.run.file.clone(),
                metadata.clone(),
            )
            .with_batch_size(READ_ROWS)
            .with_projection(mask)
            .with_row_groups(vec![group_idx]);
            if selection.iter().any(|selector| selector.skip) {
                builder = builder.with_row_selection(RowSelection::from(selection));
            }
            let reader = builder
                .build()
                .map_err(|error| self.run.file.explain(&self.run.path, &error))?;
            self.current = Some(reader);
            return Ok(true);
        }
        Ok(false)
    }
}

/// Which of `rows` the sorted `ranges` select; `None` where they select none.
fn select(ranges: &[Range<u64>], rows: &Range<u64>) -> Option<Vec<RowSelector>> {
    let first = ranges.partition_point(|range| range.end <= rows.start);
    let mut selectors = Vec::new();
    let mut at = rows.start;
    for range in &ranges[first..] {
        let (from, to) = (range.start.max(rows.start), range.end.min(rows.end));
        if from >= to {
            break;
        }
        if from > at {
            selectors.push(RowSelector::skip((from - at) as usize));
        }
        selectors.push(RowSelector::select((to - from) as usize));
        at = to;
    }
    if selectors.is_empty() {
        return None;
    }
    if at < rows.end {
        selectors.push(RowSelector::skip((rows.end - at) as usize));
    }
    Some(selectors)
}

/// Writes sorted blocks to a file under a temporary name.
pub(crate) struct RunWriter {
    kind: EventKind,
    path: PathBuf,
    temporary: PathBuf,
    writer: ArrowWriter<ChecksumWriter<BufWriter<File>>>,
    index: IndexWriter,
}

/// A finished file, not yet registered.
pub(crate) struct WrittenRun {
    pub(crate) bytes: u64,
    pub(crate) checksums: Vec<u32>,
    pub(crate) index: Index,
}

impl RunWriter {
    /// Starts `directory/<kind>/<file>` under the name `<file>.tmp`.
    pub(crate) fn create(
        directory: &Path,
        kind: EventKind,
        file: &str,
    ) -> Result<Self, WarehouseError> {
        let path = directory.join(kind.plural()).join(file);
        let temporary = path.with_extension("parquet.tmp");
        let output = File::create(&temporary).map_err(WarehouseError::io("create", &temporary))?;
        let output = ChecksumWriter::new(BufWriter::with_capacity(256 * 1024, output));
        let writer = ArrowWriter::try_new(output, codec::schema(kind), Some(properties(kind)))
            .map_err(|source| WarehouseError::WriteRun {
                path: temporary.clone(),
                source,
            })?;
        Ok(Self {
            kind,
            path,
            temporary,
            writer,
            index: IndexWriter::default(),
        })
    }

    /// Appends `block`, whose rows follow all rows before.
    pub(crate) fn write(&mut self, block: &Block) -> Result<(), WarehouseError> {
        self.index.add(block);
        let failed = |source| WarehouseError::WriteRun {
            path: self.temporary.clone(),
            source,
        };
        let columns = codec::to_arrow(self.kind, block).map_err(|error| failed(error.into()))?;
        self.writer.write(&columns).map_err(failed)
    }

    /// Makes the file durable under its own name: fsync, rename, fsync the directory.
    pub(crate) fn finish(self) -> Result<WrittenRun, WarehouseError> {
        let Self {
            path,
            temporary,
            writer,
            index,
            ..
        } = self;
        let failed = |source| WarehouseError::WriteRun {
            path: temporary.clone(),
            source,
        };
        let (output, bytes, checksums) = writer.into_inner().map_err(failed)?.finish();
        let write_error = WarehouseError::io("write", &temporary);
        let output = output
            .into_inner()
            .map_err(|error| write_error(error.into_error()))?;
        output
            .sync_all()
            .map_err(WarehouseError::io("sync", &temporary))?;
        fs::rename(&temporary, &path).map_err(WarehouseError::io("rename", &temporary))?;
        let parent = path.parent().unwrap_or(&path);
        sync_directory(parent)?;
        Ok(WrittenRun {
            bytes,
            checksums,
            index: index.finish(),
        })
    }

    /// Removes what was written so far.
    pub(crate) fn abandon(self) {
        drop(self.writer);
        // What stays behind is an orphan, which the next start removes.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes the names in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), WarehouseError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(WarehouseError::io("sync the directory", directory))
}

fn properties(kind: EventKind) -> WriterProperties {
    let column = ColumnPath::from;
    let mut properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(column("user_id"), EnabledStatistics::Chunk)
        .set_column_statistics_enabled(column("experiment_id"), EnabledStatistics::Chunk);
    for sorted in ["user_id", kind.time_field()] {
        properties = properties
            .set_column_dictionary_enabled(column(sorted), false)
            .set_column_encoding(column(sorted), Encoding::DELTA_BINARY_PACKED);
    }
    properties = properties
        .set_column_dictionary_enabled(column("event_id"), false)
        .set_column_encoding(column("event_id"), Encoding::PLAIN)
        .set_column_dictionary_enabled(column(kind.value_field()), false)
        .set_column_compression(column(kind.value_field()), Compression::LZ4_RAW);
    if kind == EventKind::Assignment {
        properties = properties
            .set_column_compression(column(codec::CONTEXT), Compression::LZ4_RAW)
            // Nearly every text is of one user, so a dictionary would only be given up.
            .set_column_dictionary_enabled(column(codec::USER_TEXT), false)
            .set_column_encoding(column(codec::USER_TEXT), Encoding::DELTA_LENGTH_BYTE_ARRAY)
            .set_column_compression(column(codec::USER_TEXT), Compression::LZ4_RAW);
    }
    properties.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_covers_its_row_group_exactly() {
        let all = [10..20, 30..40];
        let steps = |rows: Range<u64>| {
            select(&all, &rows).map(|selectors| {
                selectors
                    .iter()
                    .map(|s| {
                        if s.skip {
                            -(s.row_count as i64)
                        } else {
                            s.row_count as i64
                        }
                    })
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(steps(0..10), None);
        assert_eq!(steps(0..15), Some(vec![-10, 5]));
        assert_eq!(steps(15..35), Some(vec![5, -10, 5]));
        assert_eq!(steps(12..18), Some(vec![6]));
        assert_eq!(steps(35..50), Some(vec![5, -10]));
        assert_eq!(steps(40..50), None);
    }
}
