//! Flushes memory into runs and compacts runs into fewer, in a thread each.
//!
//! Both write new files first and register them in one transaction. A crash
//! at any point leaves the old state or the new one, and at most a file that
//! nothing registers, which the next start removes.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use trialog_model::event::EventKind;

use crate::cursor::Source;
use crate::embedded::{Failure, Options, Shared, State};
use crate::erase::Doomed;
use crate::error::WarehouseError;
use crate::merge::merge;
use crate::run::{Columns, Run, RunReader, RunRecord, RunWriter};
use crate::segment::Segment;

/// How long a failed flush or merge waits before the next try; doubled up to 32 times this.
const RETRY: Duration = Duration::from_millis(500);

/// Sealed segments that are not due for their size are flushed when this many wait.
const MAX_SEALED: usize = 24;

/// Whether a background thread works, and how many keep it from beginning.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) n_working: usize,
    pub(crate) n_pauses: usize,
}

/// Says that a thread works until it is dropped.
struct Working<'s> {
    shared: &'s Shared,
    gate: fn(&mut State) -> &mut Gate,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        (self.gate)(&mut self.shared.state()).n_working -= 1;
        self.shared.changed.notify_all();
    }
}

/// What the flusher does next.
enum Work {
    /// Write these segments into one run.
    Flush(Vec<Arc<Segment>>),
    /// Sort this one, which is not due yet.
    Sort(Arc<Segment>),
}

/// Sorts and flushes sealed segments until the warehouse closes.
pub(crate) fn flush_loop(shared: &Shared) {
    let mut n_failures = 0;
    loop {
        let gate: fn(&mut State) -> &mut Gate = |state| &mut state.flushing;
        let Some((work, begun_at, _working)) = wait_for_work(shared, n_failures, gate, |state| {
            due_flush(state, &shared.options)
                .map(Work::Flush)
                .or_else(|| unsorted(state).map(Work::Sort))
        }) else {
            return;
        };
        let group = match work {
            Work::Flush(group) => group,
            Work::Sort(segment) => {
                EventKind::ALL.iter().for_each(|kind| {
                    segment.sorted(*kind);
                });
                continue;
            }
        };
        match flush(shared, &group, None) {
            Ok(_) => n_failures = 0,
            Err(error) => {
                n_failures += 1;
                shared.metrics.flush_failures.inc();
                let reason = error.chain();
                tracing::error!(n_failures, "could not flush events: {reason}");
                shared.state().flush_failure = Some(Failure { reason, begun_at });
                shared.changed.notify_all();
            }
        }
    }
}

fn unsorted(state: &State) -> Option<Arc<Segment>> {
    let found = state.sealed.iter().find(|segment| !segment.is_sorted());
    found.cloned()
}

/// Merges runs until the warehouse closes.
pub(crate) fn compact_loop(shared: &Shared) {
    let mut n_failures = 0;
    loop {
        let gate: fn(&mut State) -> &mut Gate = |state| &mut state.merging;
        let Some((runs, begun_at, _working)) = wait_for_work(shared, n_failures, gate, |state| {
            due_merge(state, &shared.options)
        }) else {
            return;
        };
        match compact(shared, &runs) {
            Ok(()) => n_failures = 0,
            Err(error) => {
                n_failures += 1;
                shared.metrics.merge_failures.inc();
                let reason = error.chain();
                tracing::error!(n_failures, "could not merge runs: {reason}");
                let mut state = shared.state();
                if state.set_aside(&error) {
                    n_failures = 0;
                } else {
                    state.merge_failure = Some(Failure { reason, begun_at });
                }
                shared.changed.notify_all();
            }
        }
    }
}

/// Waits until `find` gives work, longer after failures unless somebody wants
/// to know now; `None` on closing. Also tells how often it had been asked to
/// settle by then.
fn wait_for_work<'s, T>(
    shared: &'s Shared,
    n_failures: u32,
    gate: fn(&mut State) -> &mut Gate,
    find: impl Fn(&State) -> Option<T>,
) -> Option<(T, u64, Working<'s>)> {
    let mut state = shared.state();
    if n_failures > 0 {
        state = pause(shared, state, RETRY * 2u32.pow(n_failures.min(5)));
    }
    loop {
        if state.closing {
            return None;
        }
        if gate(&mut state).n_pauses == 0
            && let Some(work) = find(&state)
        {
            gate(&mut state).n_working += 1;
            return Some((work, state.n_settles, Working { shared, gate }));
        }
        state = shared
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

fn pause<'s>(
    shared: &'s Shared,
    state: MutexGuard<'s, State>,
    length: Duration,
) -> MutexGuard<'s, State> {
    let (state, _) = shared
        .changed
        .wait_timeout_while(state, length, |state| {
            !state.closing && state.n_settling == 0
        })
        .unwrap_or_else(PoisonError::into_inner);
    state
}

/// The sealed segments to flush next into one run: the oldest ones that no
/// cut separates, once they are large or many.
fn due_flush(state: &State, options: &Options) -> Option<Vec<Arc<Segment>>> {
    let first = state.sealed.front()?.sequences.0;
    let group: Vec<_> = (state.sealed.iter())
        .take_while(|segment| !state.is_cut(first, segment.sequences.1))
        .cloned()
        .collect();
    let due = state.sealed_bytes() >= options.flush_bytes
        || state.sealed.len() >= MAX_SEALED
        || state.n_settling > 0;
    due.then_some(group)
}

/// Writes `group`, the oldest segments, into a run; without the rows that
/// `doomed` takes, whose number it gives.
pub(crate) fn flush(
    shared: &Shared,
    group: &[Arc<Segment>],
    doomed: Option<&Doomed>,
) -> Result<u64, WarehouseError> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else {
        return Ok(0);
    };
    let mut n_doomed = 0;
    let sequences = (first.sequences.0, last.sequences.1);
    let mut records = Vec::new();
    for kind in EventKind::ALL {
        let sources: Vec<_> = (group.iter())
            .map(|segment| {
                let block = &segment.sorted(kind).0;
                let Some(doomed) = doomed else {
                    return block.clone();
                };
                let (kept, n_removed) = doomed.without(kind, block);
                n_doomed += n_removed;
                kept
            })
            .filter(|block| !block.is_empty())
            .map(|block| Source::Memory(vec![block].into_iter()))
            .collect();
        if sources.is_empty() {
            continue;
        }
        match write_run(shared, kind, sequences, 0, sources) {
            Ok(record) => records.push(record),
            Err(error) => {
                remove_unregistered(shared, &records);
                return Err(error);
            }
        }
    }
    let runs = register(shared, &records, &[], Some(sequences))?;
    let mut state = shared.state();
    state.sealed.drain(..group.len());
    state.runs.extend(runs);
    state.flush_failure = None;
    shared.metrics.flushes.inc();
    shared.changed.notify_all();
    Ok(n_doomed)
}

/// Removes files that were written for a flush that cannot be completed; the
/// next try may cover more segments and then has other names.
fn remove_unregistered(shared: &Shared, records: &[RunRecord]) {
    for record in records {
        let path = shared.events.join(record.kind.plural()).join(&record.file);
        // A file that stays behind is an orphan, which the next start removes.
        let _ = std::fs::remove_file(path);
    }
}

/// The runs to merge next: of one kind, of one size class, on the same side
/// of every cut, at least [`Options::fan_in`] of them.
pub(crate) fn due_merge(state: &State, options: &Options) -> Option<Vec<Arc<Run>>> {
    for kind in EventKind::ALL {
        let mut runs: Vec<_> = state
            .runs
            .iter()
            .filter(|run| run.record.kind == kind && !state.set_aside.contains_key(&run.record.id))
            .collect();
        runs.sort_by_key(|run| run.record.sequences);
        for class in 0..32 {
            let mut side: Vec<Arc<Run>> = Vec::new();
            for run in runs.iter().filter(|run| size_class(run, options) == class) {
                let first = side.first().map_or(0, |first| first.record.sequences.0);
                if !side.is_empty() && state.is_cut(first, run.record.sequences.1) {
                    side.clear();
                }
                side.push(Arc::clone(run));
                if side.len() >= options.fan_in {
                    return Some(side);
                }
            }
        }
    }
    None
}

/// Runs whose sizes differ by less than the fan-in are of one class.
fn size_class(run: &Run, options: &Options) -> u32 {
    (run.rows().max(1) as f64)
        .log(options.fan_in as f64)
        .floor() as u32
}

fn compact(shared: &Shared, runs: &[Arc<Run>]) -> Result<(), WarehouseError> {
    let Some(first) = runs.first() else {
        return Ok(());
    };
    let kind = first.record.kind;
    let sequences = (
        runs.iter()
            .map(|run| run.record.sequences.0)
            .min()
            .unwrap_or_default(),
        runs.iter()
            .map(|run| run.record.sequences.1)
            .max()
            .unwrap_or_default(),
    );
    let replaced: Vec<i64> = runs.iter().map(|run| run.record.id).collect();
    let sources = runs.iter().map(|run| {
        let all = std::iter::once(0..run.rows()).collect();
        Source::Run(Box::new(RunReader::new(Arc::clone(run), all, Columns::All)))
    });
    let generation = replaced.iter().copied().max().unwrap_or_default();
    let record = write_run(shared, kind, sequences, generation, sources.collect())?;
    let merged = register(shared, &[record], &replaced, None)?;
    let mut state = shared.state();
    state.runs.retain(|run| !replaced.contains(&run.record.id));
    state.runs.extend(merged);
    state.merge_failure = None;
    shared.metrics.merges.inc();
    runs.iter().for_each(|run| run.retire());
    shared.changed.notify_all();
    Ok(())
}

/// Writes `sources` into a durable file. Its name is new: the sequences it
/// covers, and the newest run that it replaces.
fn write_run(
    shared: &Shared,
    kind: EventKind,
    sequences: (u64, u64),
    generation: i64,
    sources: Vec<Source>,
) -> Result<RunRecord, WarehouseError> {
    let file = Run::file_name(sequences, generation);
    let mut writer = RunWriter::create(&shared.events, kind, &file)?;
    if let Err(error) = merge(kind, sources, &mut writer) {
        writer.abandon();
        return Err(error);
    }
    let written = writer.finish()?;
    Ok(RunRecord {
        id: 0,
        kind,
        file,
        bytes: written.bytes,
        sequences,
        checksums: written.checksums,
        index: written.index,
    })
}

/// Opens the files of `records` and registers them in one transaction. Once
/// they are registered nothing can fail, so that a retry never meets them.
pub(crate) fn register(
    shared: &Shared,
    records: &[RunRecord],
    replaced: &[i64],
    flushed: Option<(u64, u64)>,
) -> Result<Vec<Arc<Run>>, WarehouseError> {
    let open = |record: &RunRecord| Run::open(record.clone(), &shared.events);
    let mut runs = records.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let ids = shared.database().swap_runs(records, replaced, flushed)?;
    for (run, id) in runs.iter_mut().zip(ids) {
        run.record.id = id;
    }
    Ok(runs.into_iter().map(Arc::new).collect())
}
