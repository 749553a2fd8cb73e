//! Decides variants, and puts events into the buffer.

use std::sync::Arc;
use std::time::Duration;

use trialog_model::assignment::{Decision, Exposure, Ruleset, Step};
use trialog_model::event::MAX_USER_ID_BYTES;
use trialog_model::ids::{EventType, ExperimentId, Variant};

use crate::assignment::{Assignment, Outcome};
use crate::builder::Builder;
use crate::clock::Clock;
use crate::configuration::Current;
use crate::context::Context;
use crate::counters::Counters;
use crate::event::{Event, What, uuid_v7};
use crate::forced::Forced;
use crate::queue::Pushed;
use crate::seen::Seen;
use crate::sender::Outbox;
use crate::value::MetricValue;

/// Assigns units to variants and logs what they see and do; see the crate's page.
///
/// Clones are one client. When the last one is dropped, what waits is still sent for a
/// while in the background; [`Client::shutdown`] waits for that and returns what is left.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    current: Arc<Current>,
    outbox: Arc<Outbox>,
    forced: Forced,
    seen: Seen,
    clock: Clock,
    linger: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.current.end();
        self.outbox.close(self.linger);
    }
}

/// The events left after a shutdown or a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Events that the transport took, since the client was built.
    pub delivered: u64,
    /// Events that are gone, since the client was built.
    pub dropped: u64,
    /// Events that still wait.
    pub queued: u64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.counters()).finish()
    }
}

impl Client {
    /// Starts to build a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        current: Arc<Current>,
        outbox: Arc<Outbox>,
        forced: Forced,
        seen: Seen,
        clock: Clock,
        linger: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            current,
            outbox,
            forced,
            seen,
            clock,
            linger,
        }))
    }

    /// Returns the variant of `unit` in `experiment` and logs the exposure, once for each unit,
    /// experiment and variant, and the side of every holdout whose scope contains the experiment.
    /// An experiment that ended and ships a variant assigns that one to all units, without an
    /// exposure to it.
    ///
    /// `unit` is the user id in text, as everywhere else. Allocates nothing where the
    /// exposure is known.
    pub fn assign(&self, unit: &str, experiment: &str, context: &Context) -> Assignment {
        if let Some(variant) = self.0.forced.get(unit, experiment) {
            return self.assign_forced(unit, experiment, &variant, context);
        }
        let ruleset = self.0.current.load();
        let Some(ruleset) = ruleset.as_ref() else {
            return Assignment::none(Outcome::NotReady);
        };
        let Some(rules) = ruleset.experiment(experiment) else {
            return Assignment::none(Outcome::NotRunning);
        };
        let decision = ruleset.decide(rules, unit, context.members());
        self.expose(ruleset, rules, unit, decision, context);
        decision.into()
    }

    /// Assigns as [`Client::assign`] does in every experiment that runs or ships a variant, and
    /// logs an exposure to all of them; see [`Client::decide_all`] for a look without exposures.
    pub fn assign_all(&self, unit: &str, context: &Context) -> Vec<(ExperimentId, Assignment)> {
        self.every(unit, context, true)
    }

    /// Returns the variant that `unit` would get in `experiment`, without logging an exposure.
    pub fn decide(&self, unit: &str, experiment: &str, context: &Context) -> Assignment {
        if let Some(variant) = self.0.forced.get(unit, experiment) {
            let value = self.value_of(experiment, &variant);
            return Assignment::forced(variant, value);
        }
        let ruleset = self.0.current.load();
        let Some(ruleset) = ruleset.as_ref() else {
            return Assignment::none(Outcome::NotReady);
        };
        match ruleset.experiment(experiment) {
            Some(rules) => ruleset.decide(rules, unit, context.members()).into(),
            None => Assignment::none(Outcome::NotRunning),
        }
    }

    /// Returns the variants that `unit` would get in every experiment that runs or ships a
    /// variant, without logging exposures.
    pub fn decide_all(&self, unit: &str, context: &Context) -> Vec<(ExperimentId, Assignment)> {
        self.every(unit, context, false)
    }

    /// Returns every step of the decision about `unit` in `experiment`; empty if no such
    /// experiment runs or ships a variant. Ignores variants that the application forces.
    pub fn explain(&self, unit: &str, experiment: &str, context: &Context) -> Vec<Step> {
        let ruleset = self.0.current.load();
        let rules = ruleset
            .as_ref()
            .and_then(|ruleset| Some((ruleset, ruleset.experiment(experiment)?)));
        rules.map_or_else(Vec::new, |(ruleset, rules)| {
            ruleset.explain(rules, unit, context.members()).1
        })
    }

    /// Logs what `unit` did: one event for each experiment that gives it a variant and lists
    /// `event_type` among its metrics, and for each holdout that lists it.
    ///
    /// ```
    /// # use trialog_sdk::{Client, Context, MemoryTransport, MetricValue};
    /// # let client = Client::builder().configuration(br#"{"experiments": []}"#)
    /// #     .transport(MemoryTransport::new()).build()?;
    /// client.log_metric("42", &Context::new(), "purchase", 4.99);
    /// client.log_metric("42", &Context::new(), "visit", MetricValue::ONE);
    /// # Ok::<(), trialog_sdk::BuildError>(())
    /// ```
    pub fn log_metric(
        &self,
        unit: &str,
        context: &Context,
        event_type: &str,
        value: impl Into<MetricValue>,
    ) {
        let ruleset = self.0.current.load();
        let Some(ruleset) = ruleset.as_ref() else {
            return;
        };
        let Some(listed) = ruleset.event_type(event_type) else {
            return;
        };
        let mut shared: Option<Arc<str>> = None;
        let value = value.into();
        for experiment_id in ruleset.counting(event_type, unit, context.members()) {
            let Some(value) = value.0.filter(|_| is_unit(unit)) else {
                self.0.outbox.queue.drop_invalid();
                continue;
            };
            let unit = Arc::clone(shared.get_or_insert_with(|| unit.into()));
            let event_type = listed.clone();
            self.push(
                unit,
                experiment_id.clone(),
                What::Metric { event_type, value },
            );
        }
    }

    /// Logs what `unit` did for `experiment` alone, regardless of the configuration.
    pub fn log_metric_for(
        &self,
        experiment: &str,
        unit: &str,
        event_type: &str,
        value: impl Into<MetricValue>,
    ) {
        let parts = (
            ExperimentId::new(experiment),
            EventType::new(event_type),
            value.into().0,
        );
        match parts {
            (Ok(experiment_id), Ok(event_type), Some(value)) if is_unit(unit) => {
                self.push(
                    unit.into(),
                    experiment_id,
                    What::Metric { event_type, value },
                );
            }
            _ => self.0.outbox.queue.drop_invalid(),
        }
    }

    /// Forces `unit` into `variant` of `experiment` from now on, for tests and testers; `None`
    /// lets the rules decide again. Such exposures are marked, and not analysed. An invalid name
    /// of a variant changes nothing.
    pub fn force(&self, unit: &str, experiment: &str, variant: Option<&str>) {
        match variant.map(Variant::new) {
            Some(Ok(variant)) => self.0.forced.set(unit, experiment, Some(&variant)),
            None => self.0.forced.set(unit, experiment, None),
            Some(Err(_)) => {}
        }
    }

    /// Waits for a configuration, at most as long; whether there is one.
    pub fn wait_until_ready(&self, timeout: Duration) -> bool {
        self.0.current.wait_until_ready(timeout)
    }

    /// Fetches the configuration now, in the background.
    pub fn refresh(&self) {
        self.0.current.refresh();
    }

    /// Sends what waits at once, and waits for that, at most as long.
    pub fn flush(&self, timeout: Duration) -> Report {
        self.0.outbox.flush(timeout);
        self.report()
    }

    /// Rejects new events, sends the queued ones, and waits for that, at most `timeout`.
    /// Assignments still work. Later events are dropped and counted.
    pub fn shutdown(&self, timeout: Duration) -> Report {
        self.0.current.end();
        self.0.outbox.close(timeout);
        self.flush(timeout)
    }

    /// Returns the numbers of events by what happened to them.
    pub fn counters(&self) -> Counters {
        self.0.outbox.queue.counts.read()
    }

    fn report(&self) -> Report {
        let counters = self.counters();
        Report {
            delivered: counters.delivered,
            dropped: counters.dropped.total(),
            queued: counters.queued,
        }
    }

    fn every(
        &self,
        unit: &str,
        context: &Context,
        expose: bool,
    ) -> Vec<(ExperimentId, Assignment)> {
        let ruleset = self.0.current.load();
        let Some(ruleset) = ruleset.as_ref() else {
            return Vec::new();
        };
        let one = |rules: &trialog_model::assignment::Rules| {
            let id = rules.experiment_id();
            let assignment = if expose {
                self.assign(unit, id.as_str(), context)
            } else {
                self.decide(unit, id.as_str(), context)
            };
            (id.clone(), assignment)
        };
        ruleset.experiments().iter().map(one).collect()
    }

    fn value_of(&self, experiment: &str, variant: &Variant) -> Option<Arc<serde_json::Value>> {
        let ruleset = self.0.current.load();
        let rules = ruleset.as_ref()?.experiment(experiment)?;
        rules.arm(variant.as_str())?.value().cloned()
    }

    fn assign_forced(
        &self,
        unit: &str,
        experiment: &str,
        variant: &Variant,
        context: &Context,
    ) -> Assignment {
        if let Ok(experiment_id) = ExperimentId::new(experiment) {
            let exposure = Exposure::forced(&experiment_id, variant);
            self.log_exposure(unit, exposure, context, &mut None);
        }
        Assignment::forced(variant.clone(), self.value_of(experiment, variant))
    }

    fn expose(
        &self,
        ruleset: &Ruleset,
        rules: &trialog_model::assignment::Rules,
        unit: &str,
        decision: Decision<'_>,
        context: &Context,
    ) {
        let mut shared = None;
        for exposure in ruleset.exposures(rules, unit, decision) {
            self.log_exposure(unit, exposure, context, &mut shared);
        }
    }

    fn log_exposure(
        &self,
        unit: &str,
        exposure: Exposure<'_>,
        context: &Context,
        shared: &mut Option<Arc<str>>,
    ) {
        // One from before the start of the analysis does not count, so it comes again.
        let counts = exposure
            .start_at
            .is_none_or(|start| (self.0.clock)() >= start);
        let Exposure {
            experiment_id,
            variant,
            forced,
            fingerprint,
            ..
        } = exposure;
        let Some(noted) = (self.0.seen).note(&(unit, fingerprint, forced, counts)) else {
            return;
        };
        if !is_unit(unit) {
            self.0.outbox.queue.drop_invalid();
            return;
        }
        let unit = Arc::clone(shared.get_or_insert_with(|| unit.into()));
        let what = What::Exposure {
            variant: variant.clone(),
            forced,
            context: context.clone(),
        };
        if self.push(unit, experiment_id.clone(), what) == Pushed::Dropped {
            self.0.seen.forget(noted);
        }
    }

    fn push(&self, unit: Arc<str>, experiment_id: ExperimentId, what: What) -> Pushed {
        let at = (self.0.clock)();
        let id = uuid_v7(at, fastrand::u128(..));
        self.0.outbox.push(Event {
            id,
            at,
            unit,
            experiment_id,
            what,
        })
    }
}

/// Whether a server takes an event of `unit`.
fn is_unit(unit: &str) -> bool {
    (1..=MAX_USER_ID_BYTES).contains(&unit.len())
}
