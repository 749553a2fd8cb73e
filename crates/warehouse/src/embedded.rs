//! Runs the embedded warehouse: one directory, one process, three threads.
//!
//! The *writer* makes submissions durable in groups and acknowledges them.
//! The *flusher* sorts sealed memory segments and turns them into runs. The
//! *compactor* merges runs of similar size. Readers take a [`Snapshot`] and
//! never wait for any of them.
//!
//! Memory is bounded: queued submissions by [`Options::queue_bytes`], events
//! not yet flushed by three times [`Options::flush_bytes`]. Where flushing
//! falls behind, the writer waits, the queue fills, and callers are told so.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use trialog_model::event::EventKind;
use trialog_sqlite::told::ToldFile;
use trialog_sqlite::watch::Watch;

use crate::background::Gate;
use crate::batch::Batch;
use crate::database::{self, Database, SourceMark};
use crate::error::WarehouseError;
use crate::index::Index;
use crate::lock::DirectoryLock;
use crate::run::{Run, sync_directory};
use crate::segment::{ActiveSegment, Segment};
use crate::snapshot::Snapshot;
use crate::telemetry::{Metrics, gauge};
use crate::{background, codec, disk, writer};

/// Segments that make up a run, unless aggregation seals them earlier.
const SEGMENTS_PER_FLUSH: usize = 12;

/// The thread that makes events durable.
const WRITER: &str = "warehouse-writer";

/// The limits of a warehouse.
#[derive(Debug, Clone)]
pub struct Options {
    /// Submissions that may wait to be written.
    pub queue_length: usize,
    /// Bytes of submissions that may wait to be written.
    pub queue_bytes: usize,
    /// Bytes of events in memory at which they are flushed into a run.
    pub flush_bytes: usize,
    /// How many runs of a size class are merged into one.
    pub fan_in: usize,
    /// Whether users that are texts are kept as such beside their numbers.
    pub keep_user_ids: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_length: 4_096,
            queue_bytes: 64 << 20,
            flush_bytes: 48 << 20,
            fan_in: 4,
            keep_user_ids: true,
        }
    }
}

impl Options {
    /// Bytes at which a segment is sealed: it is sorted while the next one
    /// grows, so that a run that wants to read finds little left to sort.
    pub(crate) fn segment_bytes(&self) -> usize {
        self.flush_bytes / SEGMENTS_PER_FLUSH
    }
}

/// Called once the events are durable, or could not be made so.
pub type Reply = Box<dyn FnOnce(Result<(), Arc<WarehouseError>>) + Send>;

/// Events to make durable, together with how far their source has come.
pub struct Submission {
    /// The events.
    pub batch: Batch,
    /// The source's position after them, if it has one.
    pub mark: Option<SourceMark>,
    /// When they were received, in microseconds since 1970.
    pub received_at: i64,
    /// Told the outcome.
    pub reply: Reply,
}

/// Why a submission was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too much waits to be written already: try again shortly.
    #[error("too many events wait to be written")]
    Full,
    /// The warehouse has been closed.
    #[error("the warehouse is closed")]
    Closed,
}

/// Why the last try of something failed.
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// [`State::n_settles`] when that try began.
    pub(crate) begun_at: u64,
}

pub(crate) struct State {
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) sealed: VecDeque<Arc<Segment>>,
    pub(crate) active: ActiveSegment,
    pub(crate) next_sequence: u64,
    /// No segment and no run lies on both sides of a cut: the last published
    /// position, and the position of the snapshot that may be published next.
    pub(crate) published: u64,
    pub(crate) pending: Option<u64>,
    /// Why the last flush failed, until one succeeds.
    pub(crate) flush_failure: Option<Failure>,
    /// Why the last merge failed, until one succeeds.
    pub(crate) merge_failure: Option<Failure>,
    /// Damaged runs, and how: they are not merged, so that the others can be.
    pub(crate) set_aside: BTreeMap<i64, String>,
    /// How many wait until everything is flushed and merged.
    pub(crate) n_settling: usize,
    /// How many have ever waited for that.
    pub(crate) n_settles: u64,
    pub(crate) closing: bool,
    /// The flusher and the compactor, and who keeps them from their work.
    pub(crate) flushing: Gate,
    pub(crate) merging: Gate,
}

impl State {
    /// Ends the active segment, so that what follows lies in another one.
    pub(crate) fn seal(&mut self) {
        if let Some(segment) = self.active.seal() {
            self.sealed.push_back(Arc::new(segment));
        }
    }

    /// Whether the active segment has to end before events of `sequence` come: it is large, or a
    /// cut separates the two. Both kinds of events of one sequence stay in one segment, since
    /// flushing a segment removes its sequences from the inbox.
    fn ends_before(&self, sequence: u64, segment_bytes: usize) -> bool {
        self.active.sequences.is_some_and(|(first, last)| {
            last < sequence
                && (self.active.size_bytes() >= segment_bytes || self.is_cut(first, sequence))
        })
    }

    pub(crate) fn sealed_bytes(&self) -> usize {
        self.sealed.iter().map(|segment| segment.size_bytes).sum()
    }

    /// Users, each in each experiment, of whom a run or a sorted segment holds two texts.
    fn n_clashing_users(&self) -> usize {
        let in_runs = self.runs.iter().filter(|run| run.has_clashes);
        let in_runs = in_runs.map(|run| &run.record.index);
        let in_segments = (self.sealed.iter()).filter_map(|segment| segment.index_of_assignments());
        let users: BTreeSet<(&str, i64)> = (in_runs.chain(in_segments))
            .flat_map(Index::clashing_users)
            .collect();
        users.len()
    }

    /// Leaves the run that `error` says is damaged out of merges; false where
    /// the error is another one.
    pub(crate) fn set_aside(&mut self, error: &WarehouseError) -> bool {
        let WarehouseError::Damaged { path, .. } = error else {
            return false;
        };
        let Some(run) = self.runs.iter().find(|run| run.path == *path) else {
            return false;
        };
        self.set_aside.insert(run.record.id, error.chain());
        true
    }

    /// Whether a cut separates the sequences `first` and `last`.
    pub(crate) fn is_cut(&self, first: u64, last: u64) -> bool {
        [Some(self.published), self.pending]
            .into_iter()
            .flatten()
            .any(|cut| first <= cut && cut < last)
    }
}

/// What the threads of a warehouse share.
pub(crate) struct Shared {
    pub(crate) directory: PathBuf,
    pub(crate) events: PathBuf,
    pub(crate) spill: PathBuf,
    pub(crate) options: Options,
    pub(crate) database: Mutex<Database>,
    pub(crate) position: ToldFile,
    watch: Watch,
    pub(crate) state: Mutex<State>,
    /// Notified whenever `state` changed in a way a thread may wait for.
    pub(crate) changed: Condvar,
    pub(crate) queued_bytes: AtomicUsize,
    pub(crate) metrics: Metrics,
    /// Set when events are not to be removed any more, as the process stops.
    pub(crate) stopping: Arc<AtomicBool>,
    /// Held until every thread has ended.
    lock: Mutex<Option<DirectoryLock>>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts that describe a warehouse at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The last position that was made durable.
    pub position: u64,
    /// Live runs.
    pub n_runs: usize,
    /// Their rows.
    pub run_rows: u64,
    /// Their bytes.
    pub run_bytes: u64,
    /// Bytes of events that are in memory and in the inbox.
    pub unflushed_bytes: usize,
}

/// Raw events in one directory.
pub struct Warehouse {
    pub(crate) shared: Arc<Shared>,
    submissions: Mutex<Option<SyncSender<Submission>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Warehouse {
    /// Opens the directory that `lock` holds, and recovers what a crash left:
    /// the inbox is read back, files that nothing registers are removed.
    ///
    /// `published` is the last position for which results were published.
    ///
    /// # Errors
    ///
    /// Damage and I/O errors, each naming the file.
    pub fn open(
        directory: &Path,
        lock: DirectoryLock,
        options: Options,
        published: u64,
    ) -> Result<Self, WarehouseError> {
        let events = directory.join("events");
        for kind in EventKind::ALL {
            let path = events.join(kind.plural());
            fs::create_dir_all(&path).map_err(WarehouseError::io("create", &path))?;
        }
        sync_directory(&events)?;
        let spill = directory.join("spill");
        // What an earlier process spilled is of no use to this one.
        let _ = fs::remove_dir_all(&spill);
        fs::create_dir_all(&spill).map_err(WarehouseError::io("create", &spill))?;
        let database = Database::open(directory)?;
        let last = database.last_sequence()?;
        if published > last {
            return Err(database.damaged(format!(
                "it ends at position {last}, but results are published up to {published}: \
                 the file is older than the catalog"
            )));
        }
        let position = ToldFile::open(&database::told(directory))?;
        position.tell(last)?;
        let runs = open_runs(&database, &events)?;
        remove_orphans(&database, &events, &runs, last)?;
        let state = recover(&database, runs, last, published, options.segment_bytes())?;
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            events,
            spill,
            watch: database.watch(),
            database: Mutex::new(database),
            position,
            state: Mutex::new(state),
            changed: Condvar::new(),
            queued_bytes: AtomicUsize::new(0),
            stopping: Arc::default(),
            metrics: Metrics::new(),
            lock: Mutex::new(Some(lock)),
            options,
        });
        let (submissions, queue) = sync_channel(shared.options.queue_length);
        let threads = spawn_threads(&shared, queue, directory)?;
        Ok(Self {
            shared,
            submissions: Mutex::new(Some(submissions)),
            threads: Mutex::new(threads),
        })
    }

    /// Which file of the database was removed, replaced or cut short beneath this process, with
    /// the mend.
    pub fn lost_file(&self) -> Option<String> {
        match self.shared.database.try_lock() {
            // Nobody writes, so the length is what the header says.
            Ok(_still) => self.shared.watch.check_length().err(),
            Err(_) => self.shared.watch.check().err(),
        }
    }

    /// Queues `submission`; its reply is called once it is durable.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`] at once where the queue is full: nothing waits here.
    pub fn submit(&self, mut submission: Submission) -> Result<(), Refused> {
        if !self.shared.options.keep_user_ids {
            submission.batch.drop_user_texts();
        }
        let n_bytes = submission.batch.size_bytes();
        let queued = self
            .shared
            .queued_bytes
            .fetch_add(n_bytes, Ordering::AcqRel);
        let outcome = if queued > 0 && queued + n_bytes > self.shared.options.queue_bytes {
            Err(Refused::Full)
        } else {
            let sender = self
                .submissions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match sender.as_ref() {
                None => Err(Refused::Closed),
                Some(sender) => sender
                    .try_send(submission)
                    .map_err(|refused| match refused {
                        TrySendError::Full(_) => Refused::Full,
                        TrySendError::Disconnected(_) => Refused::Closed,
                    }),
            }
        };
        if outcome.is_err() {
            self.shared
                .queued_bytes
                .fetch_sub(n_bytes, Ordering::AcqRel);
        }
        outcome
    }

    /// How far `source` has been stored.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn source_position(&self, source: &str) -> Result<Option<i64>, WarehouseError> {
        self.shared.database().position(source)
    }

    /// Everything durable at this moment; a run over it may be published next.
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.shared.state();
        state.seal();
        let position = state.next_sequence - 1;
        state.pending = Some(position);
        self.shared.changed.notify_all();
        self.snapshot_of(&state, position)
    }

    /// What the last published results were computed from.
    pub fn published_snapshot(&self) -> Snapshot {
        let state = self.shared.state();
        self.snapshot_of(&state, state.published)
    }

    /// Everything durable at this moment, for a reader that publishes nothing:
    /// a run in progress does not notice it.
    pub fn reading_snapshot(&self) -> Snapshot {
        let mut state = self.shared.state();
        state.seal();
        let position = state.next_sequence - 1;
        self.shared.changed.notify_all();
        self.snapshot_of(&state, position)
    }

    fn snapshot_of(&self, state: &State, position: u64) -> Snapshot {
        Snapshot {
            position,
            runs: state
                .runs
                .iter()
                .filter(|run| run.record.sequences.1 <= position)
                .cloned()
                .collect(),
            segments: state
                .sealed
                .iter()
                .filter(|segment| segment.sequences.1 <= position)
                .cloned()
                .collect(),
            spill: self.shared.spill.clone(),
            abandoned: None,
        }
    }

    /// Notes that results up to `position` are published.
    pub fn publish(&self, position: u64) {
        let mut state = self.shared.state();
        state.published = position;
        state.pending = None;
        self.shared.changed.notify_all();
    }

    /// The last position that was made durable.
    pub fn position(&self) -> u64 {
        self.shared.state().next_sequence - 1
    }

    /// Counts that describe the warehouse now.
    pub fn usage(&self) -> Usage {
        let state = self.shared.state();
        Usage {
            position: state.next_sequence - 1,
            n_runs: state.runs.len(),
            run_rows: state.runs.iter().map(|run| run.rows()).sum(),
            run_bytes: state.runs.iter().map(|run| run.record.bytes).sum(),
            unflushed_bytes: state.sealed_bytes() + state.active.size_bytes(),
        }
    }

    /// Why events cannot be flushed at present, if that is so.
    pub fn flush_failure(&self) -> Option<String> {
        let state = self.shared.state();
        let failure = state.flush_failure.as_ref()?;
        Some(failure.reason.clone())
    }

    /// The counts of this warehouse, as of now.
    pub fn metrics(&self) -> &Metrics {
        let shared = &self.shared;
        let metrics = &shared.metrics;
        let usage = self.usage();
        metrics.rows.set(gauge(usage.run_rows));
        metrics.files.set(gauge(usage.n_runs));
        metrics.file_bytes.set(gauge(usage.run_bytes));
        metrics.unflushed_bytes.set(gauge(usage.unflushed_bytes));
        let queued = shared.queued_bytes.load(Ordering::Acquire);
        metrics.queued_bytes.set(gauge(queued));
        let state = shared.state();
        metrics.damaged_files.set(gauge(state.set_aside.len()));
        metrics.clashing_users.set(gauge(state.n_clashing_users()));
        drop(state);
        metrics
    }

    /// Whether the thread that makes events durable is there.
    pub fn takes_events(&self) -> bool {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads
            .iter()
            .any(|thread| thread.thread().name() == Some(WRITER) && !thread.is_finished())
    }

    /// The room on the disk that events are written to.
    ///
    /// # Errors
    ///
    /// The directory cannot be looked at.
    pub fn space(&self) -> Result<disk::Space, WarehouseError> {
        let events = &self.shared.events;
        disk::space(events).map_err(WarehouseError::io("find the free space of", events))
    }

    /// Tells other processes where this one answers.
    ///
    /// # Errors
    ///
    /// The LOCK file cannot be written, or the warehouse has been closed.
    pub fn publish_address(&self, address: &str) -> Result<(), WarehouseError> {
        let lock = self
            .shared
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lock.as_ref()
            .ok_or(WarehouseError::Closed)?
            .publish(address)
    }

    /// Forgets request keys last used before `before` (microseconds since 1970).
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn forget_keys(&self, before: i64) -> Result<usize, WarehouseError> {
        self.shared.database().forget_keys(before)
    }

    /// Verifies every byte of every live run.
    ///
    /// # Errors
    ///
    /// The first damaged file.
    pub fn verify(&self) -> Result<(), WarehouseError> {
        let runs = self.shared.state().runs.clone();
        runs.iter()
            .try_for_each(|run| run.verify(&AtomicBool::new(false)))
    }

    /// Waits until every event lies in a run and no merge is due; what failed
    /// before is tried again at once.
    ///
    /// # Errors
    ///
    /// The reason for which flushing or merging fails, or that the warehouse
    /// was closed meanwhile.
    pub fn settle(&self) -> Result<(), WarehouseError> {
        let mut state = self.shared.state();
        state.seal();
        state.set_aside.clear();
        state.n_settling += 1;
        state.n_settles += 1;
        let begun_at = state.n_settles;
        let limit = state.next_sequence - 1;
        self.shared.changed.notify_all();
        let settled = |state: &State| {
            // A try that began before may have met what is mended by now.
            let failure = [&state.flush_failure, &state.merge_failure]
                .into_iter()
                .flatten()
                .find(|failure| failure.begun_at >= begun_at);
            if let Some(Failure { reason, .. }) = failure {
                return Some(Err(WarehouseError::CannotWrite {
                    reason: reason.clone(),
                }));
            }
            let waiting = state
                .sealed
                .iter()
                .any(|segment| segment.sequences.0 <= limit);
            match waiting || background::due_merge(state, &self.shared.options).is_some() {
                true if state.closing => Some(Err(WarehouseError::Closed)),
                true => None,
                false => Some(match state.set_aside.values().next() {
                    Some(reason) => Err(WarehouseError::CannotWrite {
                        reason: reason.clone(),
                    }),
                    None => Ok(()),
                }),
            }
        };
        loop {
            if let Some(outcome) = settled(&state) {
                state.n_settling -= 1;
                return outcome;
            }
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets an erasure under way end with [`WarehouseError::Abandoned`], and none begin. What is
    /// left of it the same erasure removes later.
    pub fn stop_erasing(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// Writes what is queued, ends the threads, and lets go of the directory.
    pub fn close(&self) {
        drop(
            self.submissions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.shared.state().closing = true;
        self.shared.changed.notify_all();
        // Held until the end, so that who closes at the same time waits, too.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread that panicked has said so; the others still end in order.
            let _ = thread.join();
        }
        drop(
            self.shared
                .lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

impl Drop for Warehouse {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn_threads(
    shared: &Arc<Shared>,
    queue: Receiver<Submission>,
    directory: &Path,
) -> Result<Vec<JoinHandle<()>>, WarehouseError> {
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(WarehouseError::io("start a thread for", directory))
    };
    let [for_writer, for_flusher, for_compactor] = [shared, shared, shared].map(Arc::clone);
    Ok(vec![
        spawn(WRITER, Box::new(move || writer::run(&for_writer, &queue)))?,
        spawn(
            "warehouse-flusher",
            Box::new(move || background::flush_loop(&for_flusher)),
        )?,
        spawn(
            "warehouse-compactor",
            Box::new(move || background::compact_loop(&for_compactor)),
        )?,
    ])
}

fn open_runs(database: &Database, events: &Path) -> Result<Vec<Arc<Run>>, WarehouseError> {
    database
        .runs()?
        .into_iter()
        .map(|record| Run::open(record, events).map(Arc::new))
        .collect()
}

/// Removes files that no run names: a crash left them between two steps, so
/// the database knows their events. Where it does not, it is older than the
/// files, and what they hold is nowhere else.
fn remove_orphans(
    database: &Database,
    events: &Path,
    runs: &[Arc<Run>],
    last_known: u64,
) -> Result<(), WarehouseError> {
    let live: HashSet<&Path> = runs.iter().map(|run| run.path.as_path()).collect();
    for kind in EventKind::ALL {
        let directory = events.join(kind.plural());
        let entries = fs::read_dir(&directory).map_err(WarehouseError::io("list", &directory))?;
        for entry in entries {
            let path = entry
                .map_err(WarehouseError::io("list", &directory))?
                .path();
            if !live.contains(path.as_path()) {
                if Run::last_sequence_in(&path).is_some_and(|last| last > last_known) {
                    return Err(database.older_than(&path));
                }
                tracing::info!(file = %path.display(), "removed a file that an interrupted write left behind");
                fs::remove_file(&path).map_err(WarehouseError::io("remove", &path))?;
            }
        }
    }
    Ok(())
}

/// Reads the inbox back into memory, split at the published position.
fn recover(
    database: &Database,
    runs: Vec<Arc<Run>>,
    last: u64,
    published: u64,
    segment_bytes: usize,
) -> Result<State, WarehouseError> {
    let mut state = State {
        next_sequence: last.max(published) + 1,
        runs,
        sealed: VecDeque::new(),
        active: ActiveSegment::new(),
        published,
        pending: None,
        flush_failure: None,
        merge_failure: None,
        set_aside: BTreeMap::new(),
        n_settling: 0,
        n_settles: 0,
        closing: false,
        flushing: Gate::default(),
        merging: Gate::default(),
    };
    database.each_payload(|stored| {
        if state.ends_before(stored.sequence, segment_bytes) {
            state.seal();
        }
        let batch = codec::decode(stored.kind, &stored.payload)
            .map_err(|error| database.damaged_entry(stored.sequence, &error))?;
        state.active.append(stored.sequence, &batch);
        state.next_sequence = state.next_sequence.max(stored.sequence + 1);
        Ok(())
    })?;
    // What comes next may lie on the other side of the published position.
    if state.ends_before(state.next_sequence, segment_bytes) {
        state.seal();
    }
    Ok(state)
}
