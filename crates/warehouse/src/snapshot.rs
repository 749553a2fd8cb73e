//! Fixes what a reader sees: the runs and segments up to a position.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trialog_model::event::EventKind;

use crate::cursor::{Cursor, Source};
use crate::error::WarehouseError;
use crate::fold::source::{EventSource, PieceLimits};
use crate::index::{Index, IndexEntry};
use crate::run::{Columns, Run, RunReader};
use crate::segment::Segment;

/// An experiment is cut by users only where it is larger than this: every cut
/// decodes some row groups twice.
const CUT_ROWS: u64 = 8 << 20;

/// Gives [`WarehouseError::Abandoned`] once `abandoned` is set.
pub(crate) fn go_on(abandoned: &AtomicBool) -> Result<(), WarehouseError> {
    match abandoned.load(Ordering::Relaxed) {
        true => Err(WarehouseError::Abandoned),
        false => Ok(()),
    }
}

/// Everything up to a position, whatever is written, flushed or merged meanwhile.
#[derive(Clone)]
pub struct Snapshot {
    /// The last position that it covers.
    pub position: u64,
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Where a fold may spill.
    pub(crate) spill: PathBuf,
    /// Set when folds over this snapshot are to end without an answer.
    pub(crate) abandoned: Option<Arc<AtomicBool>>,
}

impl Snapshot {
    /// Lets whatever reads this snapshot end with [`WarehouseError::Abandoned`]
    /// soon after `abandoned` is set.
    pub fn until(mut self, abandoned: Arc<AtomicBool>) -> Self {
        self.abandoned = Some(abandoned);
        self
    }

    /// The experiments with events of `kind` that came after the position
    /// `after`, in order.
    pub fn experiments_after(&self, kind: EventKind, after: u64) -> Vec<&str> {
        let runs = (self.runs.iter())
            .filter(|run| run.record.kind == kind && run.record.sequences.1 > after)
            .map(|run| &run.record.index);
        let segments = (self.segments.iter())
            .filter(|segment| segment.sequences.1 > after)
            .map(|segment| &segment.sorted(kind).1);
        let mut experiments: Vec<&str> = runs
            .chain(segments)
            .flat_map(|index| index.0.iter().map(|entry| entry.experiment.as_str()))
            .collect();
        experiments.sort_unstable();
        experiments.dedup();
        experiments
    }

    /// How many events there are up to the position `limit`, copies included, and the time of
    /// the newest of all.
    pub fn extent(&self, limit: u64) -> (u64, Option<i64>) {
        let (mut n_events, mut newest) = (0, None);
        let mut add = |index: &Index, is_below: bool| {
            for entry in &index.0 {
                n_events += if is_below { entry.rows } else { 0 };
                newest = newest.max(Some(entry.max_timestamp));
            }
        };
        for run in &self.runs {
            add(&run.record.index, run.record.sequences.1 <= limit);
        }
        for segment in &self.segments {
            for kind in EventKind::ALL {
                add(&segment.sorted(kind).1, segment.sequences.1 <= limit);
            }
        }
        (n_events, newest)
    }

    /// What the snapshot holds of one experiment, for events of `kind`.
    pub fn contents_of(&self, kind: EventKind, experiment: &str) -> Option<IndexEntry> {
        let runs = self
            .runs
            .iter()
            .filter(|run| run.record.kind == kind)
            .map(|run| &run.record.index);
        let segments = self.segments.iter().map(|segment| &segment.sorted(kind).1);
        let mut found: Option<IndexEntry> = None;
        for entry in runs
            .chain(segments)
            .filter_map(|index| index.find(experiment))
        {
            match &mut found {
                Some(found) => found.merge(entry),
                None => found = Some(entry.clone()),
            }
        }
        found
    }

    /// A cursor over the rows of `experiments` (sorted) in every run, of which `ranges_in` says
    /// which ones are wanted, and in every segment.
    fn limited_cursors(
        &self,
        kind: EventKind,
        experiments: &[&str],
        columns: Columns,
        ranges_in: impl Fn(&Run) -> Vec<Range<u64>>,
    ) -> Result<Vec<Cursor>, WarehouseError> {
        let mut cursors = Vec::new();
        for run in self.runs.iter().filter(|run| run.record.kind == kind) {
            let ranges = ranges_in(run);
            if !ranges.is_empty() {
                let reader =
                    RunReader::new(Arc::clone(run), ranges, columns).until(self.abandoned.clone());
                cursors.push(Cursor::new(Source::Run(Box::new(reader)))?);
            }
        }
        for segment in &self.segments {
            let (block, index) = segment.sorted(kind);
            let mut blocks = Vec::new();
            let mut at = 0;
            for entry in &index.0 {
                let end = at + entry.rows as usize;
                if experiments
                    .binary_search(&entry.experiment.as_str())
                    .is_ok()
                {
                    blocks.push(block.slice(at, end));
                }
                at = end;
            }
            if !blocks.is_empty() {
                cursors.push(Cursor::new(Source::Memory(blocks.into_iter()))?);
            }
        }
        Ok(cursors)
    }

    /// Cursors over the rows of `experiment` that may be assignments of `users`, which are in
    /// order, with their texts.
    pub(crate) fn assignments_of(
        &self,
        experiment: &str,
        users: &[i64],
    ) -> Result<Vec<Cursor>, WarehouseError> {
        let may_hold = |least, greatest| {
            let first = users.partition_point(|user| *user < least);
            users.get(first).is_some_and(|user| *user <= greatest)
        };
        let experiments = [experiment];
        self.limited_cursors(
            EventKind::Assignment,
            &experiments,
            Columns::WithUserText,
            |run| limit_users(run, &run_ranges(run, &experiments), may_hold),
        )
    }

    /// The run of `kind` with the most rows of `experiment`, and these rows.
    fn largest_run_of(&self, kind: EventKind, experiment: &str) -> Option<(&Arc<Run>, Range<u64>)> {
        (self.runs.iter())
            .filter(|run| run.record.kind == kind)
            .filter_map(|run| run.experiment_rows(experiment).map(|rows| (run, rows)))
            .max_by_key(|(_, rows)| rows.end - rows.start)
    }
}

impl EventSource for Snapshot {
    fn go_on(&self) -> Result<(), WarehouseError> {
        self.abandoned.as_deref().map_or(Ok(()), go_on)
    }

    fn spill(&self) -> &Path {
        &self.spill
    }

    fn piece_limits(&self, n_threads: usize) -> PieceLimits {
        PieceLimits {
            cut_rows: if n_threads > 1 { CUT_ROWS } else { u64::MAX },
            experiments: usize::MAX,
        }
    }

    /// Cuts at users that begin row groups of the largest run.
    fn cuts(&self, experiment: &str, n_pieces: u64) -> Result<Vec<i64>, WarehouseError> {
        let Some((run, rows)) = self.largest_run_of(EventKind::Metric, experiment) else {
            return Ok(Vec::new());
        };
        let starts: Vec<i64> = (run.row_groups())
            .filter(|(group, _)| group.start > rows.start && group.end <= rows.end)
            .filter_map(|(_, users)| users.map(|(least, _)| least))
            .collect();
        let step = starts.len().div_ceil(n_pieces as usize).max(1);
        let mut cuts: Vec<i64> = (starts.into_iter().skip(step).step_by(step)).collect();
        cuts.dedup();
        Ok(cuts)
    }

    /// A cursor over the rows of `experiments` in every run and segment; of runs only over row
    /// groups that may hold `users`.
    fn cursors(
        &self,
        kind: EventKind,
        experiments: &[&str],
        users: &Range<Option<i64>>,
        columns: Columns,
    ) -> Result<Vec<Cursor>, WarehouseError> {
        let may_hold = |least, greatest| {
            users.start.is_none_or(|start| greatest >= start)
                && users.end.is_none_or(|end| least < end)
        };
        self.limited_cursors(kind, experiments, columns, |run| {
            let ranges = run_ranges(run, experiments);
            match users.start.is_none() && users.end.is_none() {
                true => ranges,
                false => limit_users(run, &ranges, may_hold),
            }
        })
    }
}

/// The rows of `experiments` in `run`, neighbours joined.
fn run_ranges(run: &Run, experiments: &[&str]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for rows in experiments
        .iter()
        .filter_map(|experiment| run.experiment_rows(experiment))
    {
        match ranges.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => ranges.push(rows),
        }
    }
    ranges
}

/// `ranges` without the row groups whose least and greatest user `may_hold` says no to; each
/// group that remains is kept whole, since no more than these two are known of it.
fn limit_users(
    run: &Run,
    ranges: &[Range<u64>],
    may_hold: impl Fn(i64, i64) -> bool,
) -> Vec<Range<u64>> {
    let mut limited: Vec<Range<u64>> = Vec::new();
    for (rows, bounds) in run.row_groups() {
        if bounds.is_some_and(|(least, greatest)| !may_hold(least, greatest)) {
            continue;
        }
        for range in ranges {
            let (from, to) = (range.start.max(rows.start), range.end.min(rows.end));
            match limited.last_mut() {
                _ if from >= to => {}
                Some(last) if last.end == from => last.end = to,
                _ => limited.push(from..to),
            }
        }
    }
    limited
}
