//! Simulates a handful of experiments whose true effects are known.
//!
//! Contract: a scenario is built so that its data hold every difficulty that an
//! analysis has to deal with (repeated and late deliveries, crossovers, testers,
//! events outside the attribution window), and none of them moves the truth.
//! Whatever counts happens within six hours of exposure and before `now`.

use trialog_model::experiment::{Definition, Status};
use trialog_model::ids::{EventType, Variant};
use trialog_model::metric::MetricKind;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::time::UnixMicros;

mod behaviour;
mod draw;
mod scenarios;
mod truth;
mod wire;

pub use wire::{AssignmentEvent, Context, Events, MetricEvent};

/// An experiment, its story, and its true effects.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What to register.
    pub definition: Definition,
    /// What to register before it: the guardrails, of which less is better.
    pub guardrails: Vec<MetricDefinition>,
    /// The story in one line.
    pub title: String,
    /// What the results should teach, in a sentence or two.
    pub lesson: String,
    /// Whether it is running or stopped at `now`.
    pub status: Status,
    /// When exposure began; also the definition's `start_at`.
    pub started_at: UnixMicros,
    /// When it was stopped; also the definition's `end_at`.
    pub stopped_at: Option<UnixMicros>,
    /// The true effect on every metric that the definition names.
    pub truth: Vec<Statement>,
    model: behaviour::Model,
}

/// The true effect of a treatment on a metric, against the control.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The event type.
    pub metric: EventType,
    /// How its events become one number per user.
    pub kind: MetricKind,
    /// Compared with the control.
    pub treatment: Variant,
    /// The users meant; all of them if absent.
    pub segment: Option<Segment>,
    /// The exposure times meant, `[from, to)`; all of them if absent.
    pub exposed: Option<(UnixMicros, UnixMicros)>,
    /// The control's true average per user.
    pub control: f64,
    /// What the treatment adds to the average per user; exact.
    pub difference: f64,
    /// What a correct analysis measures on average.
    ///
    /// Equal to `difference` unless users were lost: then the data are biased,
    /// and no analysis of them finds the true effect.
    pub expected: f64,
    /// Where the difference comes from, in words.
    pub note: String,
}

/// The users with one value of one context key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The context key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Returns the demo's experiments as of `now`, in the order to show them.
///
/// Together they have about 200,000 events, all before `now`.
///
/// ```
/// use trialog_model::time::UnixMicros;
/// let scenarios = trialog_simulator::demo::scenarios(UnixMicros(1_788_000_000_000_000));
/// let checkout = &scenarios[0];
/// assert_eq!(checkout.definition.experiment_id.as_str(), "checkout_one_page");
/// assert!((checkout.truth[0].difference - 0.015).abs() < 1e-12);
/// ```
pub fn scenarios(now: UnixMicros) -> Vec<Scenario> {
    scenarios::all(now)
}

impl Scenario {
    /// Draws what happened: the same for the same `seed`, on any day. Another `now` moves
    /// all times alike.
    ///
    /// A person has the same user id and platform in every scenario of a seed.
    pub fn events(&self, seed: u64) -> Events {
        draw::events(&self.definition, &self.model, seed)
    }
}
