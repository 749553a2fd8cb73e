//! Runs the aggregation: from the last published position to the next, all or nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use trialog_catalog::audit::Subject;
use trialog_catalog::experiments::{Experiment, Unregistered};
use trialog_catalog::runs::{FinishedRun, Outcome};
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::funnel::FunnelDefinition;
use trialog_model::ids::ExperimentId;
use trialog_model::published::{Computation, HighWaterMark};
use trialog_model::time::UnixMicros;
use trialog_report::findings::{self, Finding};
use trialog_report::{CohortMetric, CohortUsers};
use trialog_stats::Alpha;
use trialog_warehouse::fold::UserFilter;
use trialog_warehouse::view::View;

use crate::clock::Clock;
use crate::compute::by_cell::{Breakdown, compute_by_keys};
use crate::compute::cohorts::{ByDay, Reader, compute_by_day, compute_days_since};
use crate::compute::context::{ContextKeys, compute_context};
use crate::compute::funnel::{FunnelUsers, coded, compute_funnel};
use crate::compute::timeline::{PastDay, PastMetric, compute_past};
use crate::compute::{Limits, compute, compute_for_run};
use crate::error::PipelineError;
use crate::lease::{HeldLease, LeaseSettings};
use crate::look::{Looking, Wait, look};
use crate::parallel::in_parallel;
use crate::retention::{DailyDrop, Keep};
use crate::store::{Reading, Store};
use crate::subject;
use crate::telemetry::AggregationMetrics;
use crate::trust::{RunTime, Witnesses};

/// How long an `Idempotency-Key` is remembered. Repeated events without ids are recognised even
/// later, because their ids are made from the key.
const KEEP_KEYS_MICROS: i64 = 2 * 86_400_000_000;

/// The experiments that a run recomputes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that were touched since the last published position.
    Touched,
    /// All of them.
    Full,
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RunReport {
    /// Its number.
    #[schemars(range(min = 1))]
    pub run_id: i64,
    /// Up to where it read.
    pub position: u64,
    /// When its results count as computed.
    #[schemars(extend("format" = "date-time"))]
    pub computed_at: String,
    /// Experiments that it recomputed.
    pub experiments: usize,
    /// Experiments that could not be computed, each with its error.
    #[schemars(with = "Vec<[String; 2]>")]
    pub failed: Vec<(ExperimentId, String)>,
    /// Experiments whose events are kept and not aggregated: too many are unregistered.
    pub left_out: u64,
    /// Unregistered experiments that lost their place, and their results, to newer ones.
    pub gave_way: u64,
    /// Experiments that keep their results, since retention dropped some of their events.
    pub frozen: usize,
    /// The recomputed experiments with a warning about their integration, by the code of the
    /// warning in their results.
    pub warnings: BTreeMap<&'static str, Warned>,
    /// When the last run was published, where that lies after this one: its clock was ahead, and
    /// this run computed all experiments anew.
    #[schemars(extend("format" = "date-time"))]
    pub before_last: Option<String>,
    /// How long it took, in milliseconds.
    #[schemars(range(min = 0))]
    pub duration_ms: i64,
}

/// The experiments that have a warning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Warned {
    /// How many.
    pub experiments: usize,
    /// Up to five of them, in the order of their ids.
    #[schemars(with = "Vec<String>")]
    pub first: Vec<ExperimentId>,
}

/// Experiments that are named for each warning.
const MAX_NAMED: usize = 5;

/// The settings of the aggregation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The limits on the aggregation of undeclared data.
    pub limits: Limits,
    /// Threads that fold.
    pub n_threads: usize,
    /// For how long every computation is kept; later, the last of each day.
    pub keep_all_micros: i64,
    /// For how long events are kept; none keeps them for ever.
    pub keep_events_micros: Option<i64>,
    /// The maximum share of all events that retention drops at once without confirmation.
    pub drop_at_most: f64,
    /// The lease under which one of several processes aggregates.
    pub lease: LeaseSettings,
}

impl Default for Settings {
    fn default() -> Self {
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            limits: Limits::default(),
            n_threads,
            keep_all_micros: 7 * 86_400_000_000,
            keep_events_micros: None,
            drop_at_most: 0.5,
            lease: LeaseSettings::default(),
        }
    }
}

impl Settings {
    /// Returns how long events are kept, and how many may be dropped at once.
    pub(crate) fn keep(&self) -> Keep {
        Keep {
            micros: self.keep_events_micros,
            drop_at_most: self.drop_at_most,
        }
    }
}

/// Computes results and publishes them; one run at a time.
pub struct Aggregator {
    catalog: Arc<Catalog>,
    store: Store,
    clock: Clock,
    settings: Settings,
    turn: Mutex<()>,
    started_at: UnixMicros,
    metrics: AggregationMetrics,
    /// Set when the process stops: no run begins any more, and one under way ends.
    stopping: Arc<AtomicBool>,
    daily_drop: DailyDrop,
}

impl Aggregator {
    /// Creates an aggregator over the events in `store` that publishes to `catalog`.
    pub fn new(
        catalog: Arc<Catalog>,
        store: impl Into<Store>,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        let metrics = AggregationMetrics::new();
        match catalog.high_water_mark() {
            Ok(mark) => metrics.note_mark(&mark),
            Err(error) => tracing::error!("cannot tell up to where results reach: {error}"),
        }
        count_warnings(&catalog, &metrics);
        Self {
            catalog,
            store: store.into(),
            started_at: clock(),
            clock,
            settings,
            turn: Mutex::new(()),
            metrics,
            stopping: Arc::default(),
            daily_drop: DailyDrop::default(),
        }
    }

    /// Prevents further runs, and abandons one that is under way unless it is about to publish.
    /// The events remain for the next run.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns the counts since the start, updated now.
    pub fn metrics(&self) -> &AggregationMetrics {
        let (now, ingested) = ((self.clock)(), self.store.position());
        self.metrics.refresh(now, self.started_at, ingested.ok());
        &self.metrics
    }

    /// Runs once, after waiting for a run that is under way.
    ///
    /// # Errors
    ///
    /// The reason, which is also noted in the history of runs; nothing else
    /// was written then.
    pub fn run(&self, cause: &str, attempt: u32, scope: Scope) -> Result<RunReport, PipelineError> {
        let _turn = self.turn();
        if self.stopping.load(Ordering::Relaxed) {
            return Err(PipelineError::Stopping);
        }
        let lease = self.acquire_lease()?;
        let outcome = self.run_under(lease.as_ref(), cause, attempt, scope);
        if let Some(held) = lease {
            held.release();
        }
        outcome
    }

    /// Runs; nothing is published once `lease` is another process's.
    fn run_under(
        &self,
        lease: Option<&HeldLease>,
        cause: &str,
        attempt: u32,
        scope: Scope,
    ) -> Result<RunReport, PipelineError> {
        let time = RunTime::from_clock((self.clock)(), self.catalog.last_published_at()?);
        if lease.is_some() {
            // Whoever held the lease before and did not end its run will not end it any more.
            self.catalog.mark_interrupted_runs()?;
        }
        let run_id = self.catalog.begin_run(cause, attempt, time.at)?;
        let outcome = match self.attempt(run_id, lease, time, scope) {
            Err(error) if error.is_stopping() => match lease {
                Some(lease) if lease.is_lost() => Err(lease.lost().into()),
                _ => Err(PipelineError::Stopping),
            },
            outcome => outcome,
        };
        self.metrics.note_run(&outcome);
        match &outcome {
            Ok(report) => {
                tracing::info!(
                    run.id = run_id,
                    cause,
                    experiments = report.experiments,
                    failed = report.failed.len(),
                    position = report.position,
                    duration_ms = report.duration_ms,
                    "published run {run_id}"
                );
                warn_of_integration(report);
            }
            Err(error) => {
                if error.is_stopping() {
                    tracing::info!(run.id = run_id, "abandoned run {run_id}: {error}");
                } else {
                    tracing::error!(run.id = run_id, attempt, "run {run_id} failed: {error}");
                }
                self.catalog
                    .fail_run(run_id, &error.to_string(), (self.clock)())?;
            }
        }
        outcome
    }

    /// The lease, where other processes may aggregate as well.
    fn acquire_lease(&self) -> Result<Option<HeldLease>, PipelineError> {
        if !self.catalog.is_shared() {
            return Ok(None);
        }
        let (catalog, clock) = (Arc::clone(&self.catalog), Arc::clone(&self.clock));
        let stopping = Arc::clone(&self.stopping);
        HeldLease::acquire(catalog, clock, &self.settings.lease, stopping).map(Some)
    }

    /// Returns how long to wait until a run is due, which is `interval` after the previous one,
    /// whichever process made that one.
    pub(crate) fn wait_until_due(&self, interval: Duration) -> Result<Duration, PipelineError> {
        let mark = self.catalog.high_water_mark()?;
        let due = mark
            .data_time
            .0
            .saturating_add(i64::try_from(interval.as_micros()).unwrap_or(i64::MAX));
        let now = (self.clock)();
        if now < mark.data_time {
            // The clock of the run before was ahead: it does not say when the next one is due.
            return Ok(Duration::ZERO);
        }
        let left = due.saturating_sub(now.0);
        Ok(Duration::from_micros(left.max(0).unsigned_abs()))
    }

    /// Returns whether other processes may aggregate as well.
    pub(crate) fn is_one_of_many(&self) -> bool {
        self.catalog.is_shared()
    }

    /// Locks the runs of this process: none begins while the guard is held.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn attempt(
        &self,
        run_id: i64,
        lease: Option<&HeldLease>,
        time: RunTime,
        scope: Scope,
    ) -> Result<RunReport, PipelineError> {
        let data_time = time.at;
        let mark = self.catalog.high_water_mark()?;
        let abandoned = lease.map_or(&self.stopping, HeldLease::abandoned);
        let reading = self.store.reading()?;
        let view = reading.view.clone().until(Arc::clone(abandoned));
        self.check_clock(&reading, time)?;
        let after = match scope {
            Scope::Touched if time.before_last.is_none() => mark.position,
            // What the last run computed by its clock does not hold at this time.
            Scope::Touched | Scope::Full => 0,
        };
        let mut touched = self.touched(&reading, after, data_time)?;
        let frozen = self.catalog.frozen_experiments()?;
        let n_touched = touched.len();
        touched.retain(|id| !frozen.contains(id));
        let n_frozen = n_touched - touched.len();
        let found_at = (self.clock)();
        let places = self.allocate_places(run_id, &reading, &touched, data_time)?;
        let experiments = self.catalog.known_experiments(&touched)?;
        let limits = &self.settings.limits;
        let n_threads = self.settings.n_threads;
        let computed = compute_for_run(&view, &experiments, limits, data_time, n_threads)?;
        let folding = (&view, limits, n_threads);
        let looking = Looking::at(&self.catalog, folding, &experiments, data_time)?;
        let plans: Vec<Wait> = (experiments.iter().zip(&computed).enumerate())
            .map(|(at, (experiment, computed))| looking.wait(at, experiment, computed))
            .collect::<Result<_, PipelineError>>()?;
        let computed_at = self.computed_at(time)?;
        let published = HighWaterMark {
            position: reading.position,
            data_time,
            run_id,
        };
        let reported = in_parallel(experiments.len(), n_threads, |at| {
            let (experiment, outcome) = (&experiments[at], &computed[at].outcome);
            let Ok(sums) = outcome else {
                return (Vec::new(), Vec::new());
            };
            let look = look(experiment, sums, computed_at, plans[at]);
            let mut rows = looking.rows(at, &look, published);
            rows.extend_from_slice(&computed[at].funnels);
            (codes(experiment, sums), rows)
        });
        let outcomes = (experiments.iter().zip(computed).zip(plans).zip(reported)).map(
            |(((experiment, computed), wait), (warnings, analyses))| Outcome {
                experiment: experiment.definition.experiment_id.clone(),
                revision: experiment.revision,
                recompute_at: wait.until(computed.next_event_at, data_time),
                warnings,
                analyses,
                computed: computed.outcome.map_err(|error| error.to_string()),
            },
        );
        tracing::debug!(
            run.id = run_id,
            find_ms = found_at.0.saturating_sub(data_time.0) / 1_000,
            compute_ms = computed_at.0.saturating_sub(found_at.0) / 1_000,
            "computed run {run_id}"
        );
        let run = FinishedRun {
            run_id,
            position: reading.position,
            data_time,
            computed_at,
            thin_out_before: UnixMicros(
                computed_at.0.saturating_sub(self.settings.keep_all_micros),
            ),
            outcomes: outcomes.collect(),
            lease: lease.map(|held| held.lease().clone()),
            journal: reading.journal,
        };
        self.catalog.publish(&run)?;
        self.follow(&run);
        Ok(report(&run, &places, n_frozen, time, (self.clock)()))
    }

    /// What comes after `run` is published, and is done by the next one where it fails.
    fn follow(&self, run: &FinishedRun) {
        self.store.note_published(run.position);
        self.metrics.note_mark(&HighWaterMark {
            position: run.position,
            data_time: run.data_time,
            run_id: run.run_id,
        });
        count_warnings(&self.catalog, &self.metrics);
        let forgotten = UnixMicros(run.computed_at.0.saturating_sub(KEEP_KEYS_MICROS));
        if let Err(error) = self.store.forget_keys(forgotten) {
            // The results are published; old keys only take space until the next run.
            tracing::warn!("could not forget old request keys: {error}");
        }
        let keep = self.settings.keep();
        (self.daily_drop).run(&self.catalog, &self.store, keep, run.computed_at);
    }

    /// Rejects a clock that cannot be right, and logs if that of the last run was not.
    fn check_clock(&self, reading: &Reading, time: RunTime) -> Result<(), PipelineError> {
        let storage = self.catalog.storage_time();
        // Where events are not read for it, the server of the database speaks for both.
        let server = storage.filter(|_| self.catalog.is_shared());
        let witnesses = Witnesses {
            storage,
            newest_event: reading.newest_event(server),
        };
        witnesses.check(time.at)?;
        if let Some(last) = time.before_last {
            tracing::warn!(
                "the time of this run, {}, lies before that of the last one, {last}: the clock was ahead then, and all experiments are computed anew",
                time.at
            );
        }
        Ok(())
    }

    /// When the results of a run count as computed: no other run's were at that time.
    fn computed_at(&self, time: RunTime) -> Result<UnixMicros, CatalogError> {
        let now = (self.clock)().max(UnixMicros(time.at.0.saturating_add(1)));
        match time.before_last {
            Some(_) => self.catalog.free_time(now),
            None => Ok(now),
        }
    }

    /// Gives places to those of `touched` that are not registered, as far as there are any: those
    /// with the most events first.
    fn allocate_places(
        &self,
        run_id: i64,
        reading: &Reading,
        touched: &[ExperimentId],
        now: UnixMicros,
    ) -> Result<Unregistered, PipelineError> {
        let limit = self.settings.limits.unregistered_experiments;
        let mut ids = touched.to_vec();
        ids.sort_by_cached_key(|id| Reverse(self.store.n_events(reading, id)));
        let places = self.catalog.add_unregistered(&ids, limit, now)?;
        warn_of_places(run_id, &places, limit);
        Ok(places)
    }

    /// Every experiment that may have another answer than the published one.
    fn touched(
        &self,
        reading: &Reading,
        after: u64,
        data_time: UnixMicros,
    ) -> Result<Vec<ExperimentId>, PipelineError> {
        let mut touched = self.catalog.due_experiments(data_time)?;
        touched.extend(self.store.touched(reading, after)?);
        touched.sort_unstable();
        touched.dedup();
        Ok(touched)
    }

    /// Folds one experiment for the users that `filter` accepts, over exactly the events that the
    /// last published run read, and returns the position of that run. Ends with an error soon
    /// after `abandoned` is set.
    ///
    /// # Errors
    ///
    /// The experiment is not known, a file is damaged, or a sum overflows.
    pub fn query(
        &self,
        id: &ExperimentId,
        filter: &UserFilter,
        abandoned: &Arc<AtomicBool>,
    ) -> Result<(Computation, HighWaterMark), PipelineError> {
        let (experiment, view, mark) = self.published_view(id, abandoned)?;
        let limits = &self.settings.limits;
        let experiments = std::slice::from_ref(&experiment);
        let mut computed = compute(
            &view,
            experiments,
            limits,
            mark.data_time,
            filter,
            self.settings.n_threads,
        )?;
        match computed.pop() {
            Some(computed) => Ok((computed.outcome?, mark)),
            None => Err(CatalogError::not_found(Subject::Experiment, id.as_str()).into()),
        }
    }

    /// Computes an experiment by the values of each group of context keys at the exposure, for the
    /// users that `filter` lets through, over the events that the last published run read. The
    /// keys of a group are crossed; several groups take one pass together. It ends with an error
    /// soon after `abandoned` is set.
    ///
    /// # Errors
    ///
    /// The experiment is not known, its events were dropped, a file is damaged, or a sum
    /// overflows.
    pub fn breakdowns(
        &self,
        id: &ExperimentId,
        filter: &UserFilter,
        groups: &[Vec<String>],
        abandoned: &Arc<AtomicBool>,
    ) -> Result<(Vec<Breakdown>, HighWaterMark), PipelineError> {
        let (experiment, view, mark) = self.published_view(id, abandoned)?;
        let settings = &self.settings;
        let users = (filter, groups);
        let breakdowns = compute_by_keys(
            &view,
            &experiment,
            &settings.limits,
            mark.data_time,
            users,
            settings.n_threads,
        )?;
        Ok((breakdowns?, mark))
    }

    /// Lists the keys of the contexts of an experiment's exposed users with their values, over the
    /// events that the last published run read. It ends with an error soon after `abandoned` is
    /// set.
    ///
    /// # Errors
    ///
    /// The experiment is not known, its events were dropped, or a file is damaged.
    pub fn context(
        &self,
        id: &ExperimentId,
        abandoned: &Arc<AtomicBool>,
    ) -> Result<(ContextKeys, HighWaterMark), PipelineError> {
        let (experiment, view, mark) = self.published_view(id, abandoned)?;
        let Settings {
            limits, n_threads, ..
        } = &self.settings;
        let keys = compute_context(&view, &experiment, limits, mark.data_time, *n_threads)?;
        Ok((keys, mark))
    }

    /// Computes how many users of each variant get through `funnel`, of the users that `filter`
    /// accepts, over the events that the last published run read; and how long they take, with
    /// intervals at the level `times`, if there is one. It ends with an error soon after
    /// `abandoned` is set.
    ///
    /// # Errors
    ///
    /// There is no such funnel, the experiment is not known, its events were dropped, or a file is
    /// damaged.
    pub fn funnel(
        &self,
        id: &ExperimentId,
        filter: &UserFilter,
        funnel: &FunnelDefinition,
        times: Option<Alpha>,
        abandoned: &Arc<AtomicBool>,
    ) -> Result<(FunnelUsers, HighWaterMark), PipelineError> {
        let funnel = coded(funnel).map_err(|error| PipelineError::Funnel(error.to_string()))?;
        let (experiment, view, mark) = self.published_view(id, abandoned)?;
        let settings = &self.settings;
        let users = compute_funnel(
            &view,
            &experiment,
            &settings.limits,
            mark.data_time,
            (filter, &funnel, times),
            settings.n_threads,
        )?;
        Ok((users?, mark))
    }

    /// Computes an experiment for each day of exposure whose windows have closed, for the users
    /// that `filter` accepts, over the events that the last published run read; `metric` is the
    /// only metric whose window matters, if there is one. It ends with an error soon after
    /// `abandoned` is set.
    ///
    /// # Errors
    ///
    /// The experiment is not known, its events were dropped, a file is damaged, or a sum
    /// overflows.
    pub fn by_exposure_day(
        &self,
        id: &ExperimentId,
        filter: &UserFilter,
        metric: Option<&str>,
        abandoned: &Arc<AtomicBool>,
    ) -> Result<(ByDay, HighWaterMark), PipelineError> {
        let (experiment, view, mark) = self.published_view(id, abandoned)?;
        let last = trialog_report::last_closed_day(&subject(&experiment), metric, mark.data_time);
        let reader = self.reader(&view, &experiment, filter, mark.data_time);
        let days = compute_by_day(&reader, last.unwrap_or(i64::MIN))?;
        Ok((days?, mark))
    }

    /// Computes what a fixed cohort does on each of `n_days` days since its exposure, of the users
    /// that `filter` accepts, over the events that the last published run read. It ends with an
    /// error soon after `abandoned` is set.
    ///
    /// # Errors
    ///
    /// The experiment is not known, its events were dropped, a file is damaged, or a sum
    /// overflows.
    pub fn days_since_exposure(
        &self,
        id: &ExperimentId,
        filter: &UserFilter,
        (n_days, metrics): (usize, &[CohortMetric]),
        abandoned: &Arc<AtomicBool>,
    ) -> Result<(CohortUsers, HighWaterMark), PipelineError> {
        let (experiment, view, mark) = self.published_view(id, abandoned)?;
        let until = trialog_report::cohort_until(&subject(&experiment), mark.data_time);
        let reader = self.reader(&view, &experiment, filter, mark.data_time);
        let users = compute_days_since(&reader, n_days, until, metrics)?;
        Ok((users?, mark))
    }

    /// Computes the rows of `metrics` at the ends of past days, over the events that the last
    /// published run read: for each metric those of at most 90 days. Events are cut by their time
    /// and not by their arrival, and users who do not count now count on no day. It ends with an
    /// error soon after `abandoned` is set.
    ///
    /// # Errors
    ///
    /// The experiment is not known, its events were dropped, a file is damaged, or a sum
    /// overflows.
    pub fn past(
        &self,
        id: &ExperimentId,
        metrics: &[PastMetric],
        abandoned: &Arc<AtomicBool>,
    ) -> Result<Vec<Vec<PastDay>>, PipelineError> {
        let (experiment, view, mark) = self.published_view(id, abandoned)?;
        let everybody = UserFilter::default();
        let reader = self.reader(&view, &experiment, &everybody, mark.data_time);
        Ok(compute_past(&reader, metrics)??)
    }

    fn reader<'a>(
        &'a self,
        view: &'a View,
        experiment: &'a Experiment,
        filter: &'a UserFilter,
        data_time: UnixMicros,
    ) -> Reader<'a> {
        Reader {
            view,
            experiment,
            limits: &self.settings.limits,
            data_time,
            filter,
            n_threads: self.settings.n_threads,
        }
    }

    /// Returns an experiment, and the events that the last published run read.
    fn published_view(
        &self,
        id: &ExperimentId,
        abandoned: &Arc<AtomicBool>,
    ) -> Result<(Experiment, View, HighWaterMark), PipelineError> {
        let experiment = self.catalog.experiment(id)?;
        let (view, mark) = self.store.published(&self.catalog)?;
        let view = view.until(Arc::clone(abandoned));
        // Asked after the view was taken, which is whole if nothing was noted by now.
        match self.catalog.dropped(id)? {
            None => Ok((experiment, view, mark)),
            Some(dropped) => Err(PipelineError::EventsDropped {
                experiment: id.clone(),
                before: dropped.before,
            }),
        }
    }

    /// Returns the fingerprint that `experiment`'s rows have if they are computed now.
    pub fn fingerprint(&self, experiment: &Experiment) -> String {
        crate::compute::fingerprint(experiment, &self.settings.limits)
    }
}

/// The codes of what looks wrong in `computation`, each once.
fn codes(experiment: &Experiment, computation: &Computation) -> Vec<&'static str> {
    let found = findings::find(&subject(experiment), computation);
    let mut codes: Vec<_> = found.iter().map(Finding::code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Brings the gauges of warnings up to date.
fn count_warnings(catalog: &Catalog, metrics: &AggregationMetrics) {
    match catalog.experiments_with_warnings() {
        Ok(counts) => metrics.note_warnings(&counts),
        Err(error) => tracing::warn!("cannot count the experiments with warnings: {error}"),
    }
}

/// Logs which experiments have events that no exposure explains.
fn warn_of_integration(report: &RunReport) {
    let Some(warned) = report.warnings.get("events_without_exposure") else {
        return;
    };
    let first: Vec<&str> = warned.first.iter().map(ExperimentId::as_str).collect();
    tracing::warn!(
        run.id = report.run_id,
        experiments = warned.experiments,
        "{} experiments have events of users without an exposure: {}; their results say what to check",
        warned.experiments,
        first.join(", ")
    );
}

/// The experiments with each warning, of which the first are named.
fn warned(run: &FinishedRun) -> BTreeMap<&'static str, Warned> {
    let mut warnings: BTreeMap<&'static str, Warned> = BTreeMap::new();
    for outcome in &run.outcomes {
        for code in &outcome.warnings {
            let warned = warnings.entry(code).or_default();
            warned.experiments += 1;
            if warned.first.len() < MAX_NAMED {
                warned.first.push(outcome.experiment.clone());
            }
        }
    }
    warnings
}

/// Logs that the places of unregistered experiments are taken, or nearly so.
fn warn_of_places(run_id: i64, places: &Unregistered, limit: u64) {
    let is_crowded = limit > 0 && places.n_present >= limit - limit / 10;
    if places.left_out == 0 && places.gave_way == 0 && !is_crowded {
        return;
    }
    let largest = match &places.largest {
        Some((key, n_places)) => format!("; the key `{key}` named {n_places} of them"),
        None => String::new(),
    };
    tracing::warn!(
        run.id = run_id,
        unregistered = places.n_present,
        gave_way = places.gave_way,
        left_out = places.left_out,
        "{} of {limit} places of unregistered experiments are taken; {} gave way to others, {} are left out{largest}: register those that matter and delete the others",
        places.n_present,
        places.gave_way,
        places.left_out
    );
}

fn report(
    run: &FinishedRun,
    places: &Unregistered,
    frozen: usize,
    time: RunTime,
    now: UnixMicros,
) -> RunReport {
    let failed = run.outcomes.iter().filter_map(|outcome| {
        let error = outcome.computed.as_ref().err()?;
        Some((outcome.experiment.clone(), error.clone()))
    });
    RunReport {
        run_id: run.run_id,
        position: run.position,
        computed_at: run.computed_at.to_rfc3339(),
        experiments: run.outcomes.len(),
        failed: failed.collect(),
        left_out: places.left_out,
        gave_way: places.gave_way,
        frozen,
        warnings: warned(run),
        before_last: time.before_last.map(UnixMicros::to_rfc3339),
        duration_ms: now.0.saturating_sub(run.data_time.0) / 1_000,
    }
}
