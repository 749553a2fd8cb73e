//! Removes events: the one exception to append-only.
//!
//! Runs never change, so a run with doomed rows is replaced by a new one
//! without them, in one transaction each. Events that are not in a run yet
//! become one on the way. A crash leaves every run old or new; the same
//! request again removes what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use arrow_array::Array;
use trialog_model::event::EventKind;

use crate::background::{self, Gate};
use crate::batch::{Batch, Block};
use crate::embedded::{Shared, State, Warehouse};
use crate::error::WarehouseError;
use crate::run::{Columns, ROW_GROUP_ROWS, Run, RunReader, RunRecord, RunWriter};
use crate::segment::Segment;
use crate::snapshot::go_on;

/// The events to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doomed {
    /// All of a user's, or those in one experiment.
    User {
        /// The user, as stored.
        user: i64,
        /// The one experiment.
        experiment: Option<String>,
    },
    /// All before a time.
    Older {
        /// Microseconds since 1970.
        than: i64,
        /// Experiments whose events are kept.
        spared: BTreeSet<String>,
    },
}

/// The numbers of an erasure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events, copies included.
    pub events: u64,
    /// Runs that were replaced by smaller ones.
    pub runs_rewritten: usize,
    /// Runs of which nothing was left.
    pub runs_dropped: usize,
}

impl Doomed {
    fn takes(&self, block: &Block, row: usize) -> bool {
        match self {
            Self::User { user, experiment } => {
                block.user[row] == *user
                    && experiment
                        .as_ref()
                        .is_none_or(|only| block.experiment_at(row) == only)
            }
            Self::Older { than, spared } => {
                block.timestamp[row] < *than && !spared.contains(block.experiment_at(row))
            }
        }
    }

    /// Adds the doomed events of `block` to `found`, by experiment.
    fn count(&self, block: &Block, found: &mut BTreeMap<String, u64>) {
        for row in (0..block.len()).filter(|row| self.takes(block, *row)) {
            let experiment = block.experiment_at(row);
            match found.get_mut(experiment) {
                Some(count) => *count += 1,
                None => drop(found.insert(experiment.to_owned(), 1)),
            }
        }
    }

    /// Adds the rows of `block` that remain to `kept`, and counts the others.
    fn split_off(&self, block: &Block, kept: &mut Batch) -> u64 {
        let mut experiments = vec![None; block.experiments.len()];
        let mut names = vec![None; block.names.len()];
        let (mut from, mut n_doomed) = (0, 0);
        for row in 0..=block.len() {
            if row < block.len() && !self.takes(block, row) {
                continue;
            }
            kept.extend(block, from..row, &mut experiments, &mut names);
            from = row + 1;
            n_doomed += u64::from(row < block.len());
        }
        n_doomed
    }

    /// Returns `block` without its doomed rows, and the number of those.
    pub(crate) fn without(&self, kind: EventKind, block: &Block) -> (Block, u64) {
        let mut kept = Batch::new(kind);
        let n_doomed = self.split_off(block, &mut kept);
        match n_doomed {
            0 => (block.clone(), 0),
            _ => (kept.into_block(), n_doomed),
        }
    }

    /// Returns whether `run` may hold doomed rows, judging by its index.
    fn may_touch(&self, run: &Run) -> bool {
        match self {
            Self::User { experiment, .. } => experiment
                .as_ref()
                .is_none_or(|only| run.experiment_rows(only).is_some()),
            Self::Older { spared, .. } => {
                let entries = &run.record.index.0;
                entries
                    .iter()
                    .any(|entry| !spared.contains(&entry.experiment))
            }
        }
    }

    fn in_run(
        &self,
        run: &Arc<Run>,
        found: &mut BTreeMap<String, u64>,
    ) -> Result<(), WarehouseError> {
        if !self.may_touch(run) {
            return Ok(());
        }
        let mut reader = all_rows(run, Columns::Plain);
        while let Some(block) = reader.next_block()? {
            self.count(&block, found);
        }
        Ok(())
    }
}

fn all_rows(run: &Arc<Run>, columns: Columns) -> RunReader {
    let all = std::iter::once(0..run.rows()).collect();
    RunReader::new(Arc::clone(run), all, columns)
}

impl Warehouse {
    /// Returns the number of events up to `limit`, copies included, and the time of the newest.
    pub fn extent(&self, limit: u64) -> (u64, Option<i64>) {
        self.reading_snapshot().extent(limit)
    }

    /// Counts the doomed events of each experiment up to `limit`.
    ///
    /// # Errors
    ///
    /// A run is damaged or cannot be read.
    pub fn count_doomed(
        &self,
        doomed: &Doomed,
        limit: u64,
    ) -> Result<BTreeMap<String, u64>, WarehouseError> {
        let snapshot = self.reading_snapshot();
        let mut found = BTreeMap::new();
        for run in &snapshot.runs {
            if run.record.sequences.1 <= limit {
                doomed.in_run(run, &mut found)?;
            }
        }
        for segment in &snapshot.segments {
            if segment.sequences.1 <= limit {
                for kind in EventKind::ALL {
                    doomed.count(&segment.sorted(kind).0, &mut found);
                }
            }
        }
        Ok(found)
    }

    /// Removes the events up to `limit` that `doomed` takes, from the inbox,
    /// from memory and from runs. What readers hold is theirs until they end.
    ///
    /// # Errors
    ///
    /// A run is damaged or cannot be written, or the process stops; what was
    /// removed until then stays so, and the same call again removes the rest.
    pub fn erase(&self, doomed: &Doomed, limit: u64) -> Result<Erased, WarehouseError> {
        let shared = &self.shared;
        let mut erased = Erased::default();
        {
            let _paused = Pause::begin(shared, |state| &mut state.flushing)?;
            for group in doomed_groups(shared, doomed, limit) {
                erased.events += background::flush(shared, &group, Some(doomed))?;
            }
        }
        let _paused = Pause::begin(shared, |state| &mut state.merging)?;
        let runs: Vec<_> = (shared.state().runs.iter())
            .filter(|run| run.record.sequences.1 <= limit)
            .cloned()
            .collect();
        for run in runs {
            go_on(&shared.stopping)?;
            let mut found = BTreeMap::new();
            doomed.in_run(&run, &mut found)?;
            if !found.is_empty() {
                rewrite(shared, &run, doomed, &mut erased)?;
            }
        }
        Ok(erased)
    }

    /// Removes every trace of deleted events from `warehouse.sqlite` and its log.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or a reader keeps its log in use.
    pub fn scrub(&self) -> Result<(), WarehouseError> {
        self.shared.database().scrub()
    }
}

/// The groups of segments up to `limit` that have to be flushed for doomed
/// rows to go: those that lie between the same cuts as one that has some.
fn doomed_groups(shared: &Shared, doomed: &Doomed, limit: u64) -> Vec<Vec<Arc<Segment>>> {
    let mut groups: Vec<Vec<Arc<Segment>>> = Vec::new();
    {
        let mut state = shared.state();
        state.seal();
        for segment in &state.sealed {
            if segment.sequences.1 > limit {
                break;
            }
            let fits = (groups.last().and_then(|group| group.first()))
                .is_some_and(|first| !state.is_cut(first.sequences.0, segment.sequences.1));
            match groups.last_mut() {
                Some(group) if fits => group.push(Arc::clone(segment)),
                _ => groups.push(vec![Arc::clone(segment)]),
            }
        }
    }
    let holds = |segment: &Arc<Segment>| {
        let mut found = BTreeMap::new();
        for kind in EventKind::ALL {
            doomed.count(&segment.sorted(kind).0, &mut found);
        }
        !found.is_empty()
    };
    // The oldest segments are flushed first, so all before the last doomed one go along.
    match groups.iter().rposition(|group| group.iter().any(holds)) {
        Some(last) => groups.truncate(last + 1),
        None => groups.clear(),
    }
    groups
}

/// Replaces `run` by one without doomed rows.
fn rewrite(
    shared: &Shared,
    run: &Arc<Run>,
    doomed: &Doomed,
    erased: &mut Erased,
) -> Result<(), WarehouseError> {
    let (kind, sequences) = (run.record.kind, run.record.sequences);
    let file = Run::file_name(sequences, run.record.id);
    let mut writer = RunWriter::create(&shared.events, kind, &file)?;
    let (n_kept, n_doomed) = match rewrite_run(shared, run, doomed, &mut writer) {
        Ok(counts) => counts,
        Err(error) => {
            writer.abandon();
            return Err(error);
        }
    };
    let replacement = if n_kept == 0 {
        writer.abandon();
        erased.runs_dropped += 1;
        Vec::new()
    } else {
        let written = writer.finish()?;
        erased.runs_rewritten += 1;
        vec![RunRecord {
            id: 0,
            kind,
            file,
            bytes: written.bytes,
            sequences,
            checksums: written.checksums,
            index: written.index,
        }]
    };
    let new = background::register(shared, &replacement, &[run.record.id], None)?;
    let mut state = shared.state();
    state.runs.retain(|other| other.record.id != run.record.id);
    state.runs.extend(new);
    run.retire();
    erased.events += n_doomed;
    shared.changed.notify_all();
    Ok(())
}

/// Writes the rows of `run` that stay; the numbers of those and of the others.
fn rewrite_run(
    shared: &Shared,
    run: &Arc<Run>,
    doomed: &Doomed,
    writer: &mut RunWriter,
) -> Result<(u64, u64), WarehouseError> {
    let kind = run.record.kind;
    let stopping = Arc::clone(&shared.stopping);
    let mut reader = all_rows(run, Columns::All).until(Some(stopping));
    let mut kept = Batch::new(kind);
    let (mut n_kept, mut n_doomed) = (0, 0);
    loop {
        let block = reader.next_block()?;
        if let Some(block) = &block {
            n_doomed += doomed.split_off(block, &mut kept);
        }
        if kept.len() >= ROW_GROUP_ROWS || (block.is_none() && !kept.is_empty()) {
            n_kept += kept.len() as u64;
            writer.write(&std::mem::replace(&mut kept, Batch::new(kind)).into_block())?;
        }
        if block.is_none() {
            return Ok((n_kept, n_doomed));
        }
    }
}

/// Keeps a background thread from its work until it is dropped.
struct Pause<'s> {
    shared: &'s Shared,
    gate: fn(&mut State) -> &mut Gate,
}

impl<'s> Pause<'s> {
    /// Waits until the work under way has ended.
    fn begin(
        shared: &'s Shared,
        gate: fn(&mut State) -> &mut Gate,
    ) -> Result<Self, WarehouseError> {
        let mut state = shared.state();
        gate(&mut state).n_pauses += 1;
        let pause = Self { shared, gate };
        while gate(&mut state).n_working > 0 {
            if state.closing {
                // Dropping the pause takes the lock itself.
                drop(state);
                return Err(WarehouseError::Closed);
            }
            state = (shared.changed.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Ok(pause)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        (self.gate)(&mut self.shared.state()).n_pauses -= 1;
        self.shared.changed.notify_all();
    }
}
