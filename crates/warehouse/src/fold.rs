//! Folds events: every analysis is one pass over each user's sorted history.
//!
//! For each experiment of a [`Plan`] and each user, in order: the assignments
//! decide whether and when the user was exposed; the metric events, merged
//! over all sources and freed of duplicates, go to an [`Accumulator`]. A new
//! per-user analysis is one accumulator in one file; it sees users and their
//! events and knows nothing of files.
//!
//! Work is cut into pieces that threads take one by one. What a piece gives
//! can be merged exactly, so the result does not depend on the cut.

mod assigned;
mod exposure;
mod history;
pub(crate) mod pieces;
pub(crate) mod recorded;
mod side;
pub mod source;
mod spill;
pub mod split;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use trialog_model::bucket::bucket;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;

use crate::error::{FoldError, WarehouseError};
use crate::fold::assigned::Assigned;
pub use crate::fold::exposure::{LeftOut, Status};
use crate::fold::history::{Copies, History};
use crate::fold::pieces::{Piece, pieces};
pub use crate::fold::recorded::Exposures;
use crate::fold::side::{Reading, Side};
use crate::fold::source::EventSource;
use crate::fold::split::{Cells, Split};
use crate::run::Columns;

/// One event of a user, as an accumulator sees it. Ordered by time, name,
/// value and event id: the order in which ties are broken everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Microseconds since 1970, UTC.
    pub timestamp: i64,
    /// The variant or the event type.
    pub name: NamePlace,
    /// The forced flag, or the value in 1/10,000.
    pub value: i64,
    /// The fingerprint of the event id.
    pub event_id: i64,
    /// What else tells rows apart.
    detail: Detail,
}

/// Where a name stands among the expected ones, so that places are ordered as
/// the texts are, those of unexpected names included. Unexpected names without
/// an expected one between them share a place, and are told apart by [`Detail`]:
/// none of them is aggregated, and events that differ in nothing before it are
/// ordered by value and event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePlace(u32);

impl NamePlace {
    /// The code of the name; `None` where the plan does not know it.
    pub fn code(self) -> Option<u32> {
        (self.0 % 2 == 1).then_some(self.0 / 2)
    }
}

/// What a row carries beside time, name, value and event id.
///
/// Of an assignment, what a segment filter or a split keeps of its context: in the lowest
/// bit whether it lies in the segment, in the next 31 the number of its cell, and above
/// these its checksum, by which assignments that differ in nothing else are ordered. Of a
/// metric event whose type is not expected, the number of the type among those of the
/// user, in the lowest 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Detail(u64);

impl Detail {
    /// An assignment where nothing is filtered or split, or an event of an expected type.
    const NONE: Self = Self(1);

    fn from_context(context: &str, cell: u32, in_segment: bool) -> Self {
        let checksum = u64::from(crc32fast::hash(context.as_bytes()));
        Self(checksum << 32 | u64::from(cell) << 1 | u64::from(in_segment))
    }

    fn in_segment(self) -> bool {
        self.0 % 2 == 1
    }

    fn cell(self) -> u32 {
        (self.0 as u32) >> 1
    }
}

/// Names that are expected, in the order of their texts; a name's code is its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    expected: Vec<String>,
    ignored: Vec<String>,
}

impl Names {
    /// The distinct `names`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let distinct: std::collections::BTreeSet<String> = names.into_iter().collect();
        Self {
            expected: distinct.into_iter().collect(),
            ignored: Vec::new(),
        }
    }

    /// Adds `names` whose assignments are skipped, as if they had not been sent.
    pub fn ignoring(self, names: impl IntoIterator<Item = String>) -> Self {
        Self {
            ignored: names.into_iter().collect(),
            ..self
        }
    }

    /// The code of `name`, if it is expected.
    pub fn code(&self, name: &str) -> Option<u32> {
        self.expected
            .binary_search_by(|expected| expected.as_str().cmp(name))
            .ok()
            .map(|at| at as u32)
    }

    /// The place of `name`; `None` if rows with it are skipped.
    fn place(&self, name: &str) -> Option<NamePlace> {
        if self.ignored.iter().any(|ignored| ignored == name) {
            return None;
        }
        let found = (self.expected).binary_search_by(|expected| expected.as_str().cmp(name));
        Some(match found {
            Ok(at) => NamePlace(2 * at as u32 + 1),
            Err(at) => NamePlace(2 * at as u32),
        })
    }

    /// The names, by code.
    pub fn texts(&self) -> &[String] {
        &self.expected
    }

    /// The names whose assignments are skipped.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// How many names are expected.
    pub fn len(&self) -> usize {
        self.expected.len()
    }

    /// Whether no name is expected.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }
}

/// Which users an analysis looks at; the default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Only users exposed within this range, in microseconds since 1970.
    pub exposed: Range<Option<i64>>,
    /// Only users whose exposure's context has these keys with these values.
    pub segment: Vec<(String, String)>,
}

/// Users who are left out whole, whatever they saw and did: those whose units were let in
/// by a holdout after its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutUnits {
    /// Under which the buckets are told.
    pub salt: String,
    /// The buckets of these units.
    pub buckets: Range<u16>,
}

impl LeftOutUnits {
    /// Whether `user`, who was sent as `text` unless that is empty, is one of them.
    fn has(&self, user: i64, text: &str) -> bool {
        let bucket = match text.is_empty() {
            true => bucket(&user.to_string(), &self.salt),
            false => bucket(text, &self.salt),
        };
        self.buckets.contains(&bucket)
    }
}

/// How one experiment is folded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The experiment.
    pub experiment: ExperimentId,
    /// Assignments outside this range are not looked at.
    pub within: Range<Option<i64>>,
    /// The variants, declared and seen.
    pub variants: Names,
    /// The event types that metrics are made of.
    pub event_types: Names,
    /// Data time: events later than this wait for the next run.
    pub data_time: i64,
    /// Which users are looked at.
    pub filter: UserFilter,
    /// Who is left out whole; nobody if absent.
    pub left_out: Option<LeftOutUnits>,
    /// Into which cells users fall.
    pub split: Split,
    /// What an earlier pass over the same events, with the same filter, has found the users to
    /// come to; the assignments are not read then.
    pub exposures: Option<Arc<Exposures>>,
    /// About how many rows there are to fold.
    pub n_rows: u64,
}

impl Plan {
    /// How many slots there are: one for each variant in each cell.
    pub fn n_slots(&self) -> usize {
        self.variants.len() * self.split.n_cells()
    }

    /// The slot of the variant with the code `variant` in cell number `cell`.
    pub fn slot(&self, cell: u32, variant: u32) -> usize {
        self.counted_cell(cell) as usize * self.variants.len() + variant as usize
    }

    /// The cell that sums are kept by: where the analysis numbers contexts for itself, all users
    /// are in one.
    fn counted_cell(&self, cell: u32) -> u32 {
        match self.split {
            Split::Whole => 0,
            Split::Keys(_) | Split::Days(_) => cell,
        }
    }
}

/// A user who counts, as an accumulator sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exposure {
    /// The user, as stored.
    pub user: i64,
    /// The variant's code.
    pub variant: u32,
    /// The number of the cell.
    pub cell: u32,
    /// The slot of variant and cell, by which sums are kept.
    pub slot: usize,
    /// When the user was first exposed, in microseconds since 1970.
    pub at: i64,
}

impl Exposure {
    /// The same exposure in another cell, of the split of `plan`.
    pub(crate) fn in_cell(self, plan: &Plan, cell: u32) -> Self {
        Self {
            cell,
            slot: plan.slot(cell, self.variant),
            ..self
        }
    }
}

/// An analysis that is made user by user.
///
/// For each user who counts: `begin`, then `events` any number of times with
/// the user's events in order and without duplicates, then `end`.
pub trait Accumulator: Send {
    /// From when on events of a user exposed at `exposure` cannot matter.
    fn horizon(&self, exposure: i64) -> i64;
    /// Whether it looks at events at all; without them only users are seen.
    fn reads_events(&self) -> bool {
        true
    }
    /// What numbers the contexts of assignments, instead of the split of the plan.
    fn cells(&mut self) -> Option<&mut dyn Cells> {
        None
    }
    /// A user with assignments comes to `status`: called once for each, before `begin`.
    fn assigned(&mut self, _user: i64, _status: &Status) {}
    /// Whether it looks at the events of users who do not count, too.
    fn sees_left_out(&self) -> bool {
        false
    }
    /// A user begins who does not count.
    fn begin_left_out(&mut self) {}
    /// Events of that user, in order and without duplicates.
    fn left_out(&mut self, _user: i64, _why: LeftOut, _events: &[Row]) {}
    /// A user begins.
    fn begin(&mut self, exposure: &Exposure);
    /// Events of that user before the horizon; earlier than the exposure, too.
    fn events(&mut self, events: &[Row]);
    /// The user's events are complete.
    ///
    /// # Errors
    ///
    /// A sum left its range; the experiment has no result then.
    fn end(&mut self) -> Result<(), FoldError>;
    /// Takes in what another piece of the same experiment gave.
    ///
    /// # Errors
    ///
    /// A sum left its range.
    fn merge(&mut self, other: Self) -> Result<(), FoldError>;
}

/// What the fold gives for one experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded<A> {
    /// Exposed users by slot, crossovers and forced ones excluded.
    pub users: Vec<u64>,
    /// Users with two or more variants, by the slot of the first one.
    pub crossovers: Vec<u64>,
    /// Users with a forced assignment, by cell.
    pub forced: Vec<u64>,
    /// Users whose variant the plan does not know, by cell.
    pub unknown_variant: Vec<u64>,
    /// The time of the first event that waits for a later run.
    pub next_event_at: Option<i64>,
    /// What the accumulator gathered.
    pub accumulator: A,
}

impl<A: Accumulator> Folded<A> {
    pub(crate) fn new(plan: &Plan, accumulator: A) -> Self {
        let (n_slots, n_cells) = (plan.n_slots(), plan.split.n_cells());
        Self {
            users: vec![0; n_slots],
            crossovers: vec![0; n_slots],
            forced: vec![0; n_cells],
            unknown_variant: vec![0; n_cells],
            next_event_at: (plan.exposures.as_ref()).and_then(|found| found.next_event_at),
            accumulator,
        }
    }

    /// Counts a user.
    pub(crate) fn count(&mut self, plan: &Plan, status: &Status) {
        let counted = |cell: u32| plan.counted_cell(cell) as usize;
        match *status {
            Status::Unexposed | Status::LeftOut => {}
            Status::Forced { cell } => self.forced[counted(cell)] += 1,
            Status::UnknownVariant { cell } => self.unknown_variant[counted(cell)] += 1,
            Status::Crossover { cell, variant } => self.crossovers[plan.slot(cell, variant)] += 1,
            Status::Exposed(exposure) => self.users[exposure.slot] += 1,
        }
    }

    pub(crate) fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        add(&mut self.users, &other.users);
        add(&mut self.crossovers, &other.crossovers);
        add(&mut self.forced, &other.forced);
        add(&mut self.unknown_variant, &other.unknown_variant);
        self.next_event_at = [self.next_event_at, other.next_event_at]
            .into_iter()
            .flatten()
            .min();
        self.accumulator.merge(other.accumulator)
    }
}

fn add(into: &mut [u64], from: &[u64]) {
    into.iter_mut()
        .zip(from)
        .for_each(|(into, from)| *into += from);
}

/// The outcome for each experiment, in the order of the plans.
pub type Outcomes<A> = Vec<Result<Folded<A>, FoldError>>;

/// Folds every plan over `source` with `n_threads` threads; the plans are
/// in the order of their experiments. One experiment's overflow is its own.
///
/// # Errors
///
/// The warehouse cannot be read: no result is given for any experiment.
pub fn fold<A: Accumulator>(
    source: &impl EventSource,
    plans: &[Plan],
    n_threads: usize,
    make: impl Fn(&Plan) -> A + Sync,
) -> Result<Outcomes<A>, WarehouseError> {
    debug_assert!(
        plans.is_sorted_by(|a, b| a.experiment < b.experiment),
        "plans are in order"
    );
    let work = pieces(source, plans, n_threads)?;
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let parts: Mutex<BTreeMap<usize, Result<Folded<A>, FoldError>>> = Mutex::default();
    let worker = || -> Result<(), WarehouseError> {
        let mut history = History::new(source.spill());
        while let Some(piece) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            source.go_on()?;
            let folded = fold_piece(source, plans, piece, &make, &mut history)
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            for (at, part) in folded {
                let merged = match parts.remove(&at) {
                    None => part,
                    Some(earlier) => earlier.and_then(|mut earlier| {
                        earlier.merge(part?)?;
                        Ok(earlier)
                    }),
                };
                parts.insert(at, merged);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads.min(work.len()))
            .map(|_| scope.spawn(worker))
            .collect();
        let first = worker();
        (others.into_iter()).fold(first, |outcome, other| match other.join() {
            Ok(joined) => outcome.and(joined),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(parts.into_values().collect())
}

type Parts<A> = Vec<(usize, Result<Folded<A>, FoldError>)>;

fn fold_piece<A: Accumulator>(
    source: &impl EventSource,
    plans: &[Plan],
    piece: &Piece,
    make: &impl Fn(&Plan) -> A,
    history: &mut History,
) -> Result<Parts<A>, WarehouseError> {
    let plans_of_piece = &plans[piece.plans.clone()];
    let experiments = plans_of_piece.iter().map(|plan| plan.experiment.as_str());
    let experiments: Vec<&str> = experiments.collect();
    let mut accumulators: Vec<A> = plans_of_piece.iter().map(make).collect();
    let reads_assignments = plans_of_piece.iter().any(|plan| plan.exposures.is_none());
    let has_segment = (plans_of_piece.iter())
        .any(|plan| !plan.filter.segment.is_empty() || plan.split.reads_contexts());
    let has_cells = (accumulators.iter_mut()).any(|accumulator| accumulator.cells().is_some());
    let leaves_out = plans_of_piece.iter().any(|plan| plan.left_out.is_some());
    let columns = match (has_segment || has_cells, leaves_out) {
        (false, false) => Columns::Plain,
        (true, false) => Columns::WithContext,
        (false, true) => Columns::WithUserText,
        (true, true) => Columns::All,
    };
    let open = |kind, columns| source.cursors(kind, &experiments, &piece.users, columns);
    let mut assignments = Side::new(match reads_assignments {
        true => open(EventKind::Assignment, columns)?,
        false => Vec::new(),
    });
    let reads_events = accumulators.iter().any(Accumulator::reads_events);
    let mut metrics = Side::new(match reads_events {
        true => open(EventKind::Metric, Columns::Plain)?,
        false => Vec::new(),
    });
    let mut parts = Vec::new();
    let numbered = piece.plans.clone().zip(plans_of_piece);
    for ((at, plan), accumulator) in numbered.zip(accumulators) {
        let mut folded = Folded::new(plan, accumulator);
        assignments.enter(plan.experiment.as_str())?;
        metrics.enter(plan.experiment.as_str())?;
        let mut assigned = match &plan.exposures {
            Some(exposures) => Assigned::Recorded(exposures.open(piece.part)?),
            None => Assigned::from_events(plan, &mut assignments),
        };
        let outcome = fold_experiment(
            plan,
            &piece.users,
            &mut assigned,
            &mut metrics,
            history,
            &mut folded,
        )?;
        parts.push((at, outcome.map(|()| folded)));
    }
    Ok(parts)
}

/// Folds the users of one experiment; the inner result is the experiment's own.
fn fold_experiment<A: Accumulator>(
    plan: &Plan,
    users: &Range<Option<i64>>,
    assigned: &mut Assigned<'_>,
    metrics: &mut Side,
    history: &mut History,
    folded: &mut Folded<A>,
) -> Result<Result<(), FoldError>, WarehouseError> {
    let after_data_time = plan.data_time.saturating_add(1);
    let sees_left_out = folded.accumulator.sees_left_out();
    let reads_events = folded.accumulator.reads_events();
    if let Some(start) = users.start {
        assigned.skip_to(start)?;
        if sees_left_out {
            metrics.skip_to(start)?;
        }
    }
    loop {
        let sender = metrics.user().filter(|_| sees_left_out);
        let next = [assigned.user(), sender].into_iter().flatten().min();
        let Some(user) = next.filter(|user| users.end.is_none_or(|end| *user < end)) else {
            return Ok(Ok(()));
        };
        let mut status = Status::Unexposed;
        if assigned.user() == Some(user) {
            let cells = folded.accumulator.cells();
            let waiting = &mut folded.next_event_at;
            status = assigned.take(plan, user, cells, history, waiting)?;
            folded.accumulator.assigned(user, &status);
        }
        folded.count(plan, &status);
        let horizon = match status {
            Status::Exposed(exposure) => folded.accumulator.horizon(exposure.at),
            _ if sees_left_out => after_data_time,
            _ => continue,
        };
        history.begin(Copies::SameIdAndName);
        if reads_events {
            metrics.skip_to(user)?;
            let mut reading = Reading {
                horizon: horizon.min(after_data_time),
                names: &plan.event_types,
                segment: None,
                cells: None,
                text: None,
            };
            metrics.take(user, &mut reading, history)?;
            note_waiting(
                &mut folded.next_event_at,
                history.first_beyond(plan.data_time),
            );
        }
        if let Err(error) = hand_on(user, &status, history, &mut folded.accumulator)? {
            return Ok(Err(error));
        }
    }
}

/// Hands a user's events to `accumulator`; the inner result is the experiment's own.
fn hand_on<A: Accumulator>(
    user: i64,
    status: &Status,
    history: &mut History,
    accumulator: &mut A,
) -> Result<Result<(), FoldError>, WarehouseError> {
    let why = match status {
        Status::Exposed(exposure) => {
            accumulator.begin(exposure);
            history.each_chunk(|rows| accumulator.events(rows))?;
            return Ok(accumulator.end());
        }
        Status::Unexposed => LeftOut::Unexposed,
        Status::LeftOut | Status::Forced { .. } | Status::Crossover { .. } => LeftOut::Excluded,
        Status::UnknownVariant { .. } => LeftOut::UnknownVariant,
    };
    accumulator.begin_left_out();
    history.each_chunk(|rows| accumulator.left_out(user, why, rows))?;
    Ok(Ok(()))
}

fn note_waiting(earliest: &mut Option<i64>, found: Option<i64>) {
    if let Some(found) = found {
        *earliest = Some(earliest.map_or(found, |earliest| earliest.min(found)));
    }
}
