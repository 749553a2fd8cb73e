//! Computes how many users of each variant get through ordered steps, on request.

mod times;

use std::collections::BTreeMap;

use trialog_catalog::experiments::Experiment;
use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_stats::{Alpha, FunnelSteps, StatsError, StepTimes};
use trialog_warehouse::analysis::funnel::{Funnel, FunnelPlan};
use trialog_warehouse::fold::{Names, UserFilter};
use trialog_warehouse::index::IndexEntry;
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

use super::{Limits, plan, users_of_cell};

/// Describes a funnel: its steps, and how long they may take.
#[derive(Debug, Clone, PartialEq)]
pub struct FunnelDefinition {
    types: Names,
    steps: FunnelSteps,
    window: Window,
    /// The level of the times to the steps, if they are wanted.
    times: Option<Alpha>,
}

/// The users of an experiment who got through a funnel.
#[derive(Debug, Clone, PartialEq)]
pub struct FunnelUsers {
    /// Exposed users by variant, without metrics.
    pub computation: Computation,
    /// For each variant the users who reached each step.
    pub reached: BTreeMap<String, Vec<u64>>,
    /// For each variant how long its users took to each step, if that was asked for.
    pub times: Option<BTreeMap<String, Vec<StepTimes>>>,
    /// What there is of the experiment's metric events; none without any.
    pub events: Option<IndexEntry>,
}

impl FunnelDefinition {
    /// Describes the funnel with these types of events as steps, in order. Events count within
    /// `window` of the exposure. `limits` is empty, or has for each step how long after the step
    /// before it may come; for the first step, after the exposure.
    ///
    /// # Errors
    ///
    /// Fewer than 1 or more than 20 steps, another number of limits, a limit or a window of 0.
    pub fn new(steps: &[String], window: Window, limits: &[Window]) -> Result<Self, StatsError> {
        let types = Names::new(steps.iter().cloned());
        let codes = steps.iter().filter_map(|step| types.code(step));
        // Beyond 20 steps there is an error whatever the codes.
        let codes: Vec<u8> = codes.map(|code| code as u8).collect();
        let micros = |window: &Window| window.micros().map(i64::unsigned_abs);
        let limits: Vec<Option<u64>> = limits.iter().map(micros).collect();
        let steps = FunnelSteps::new(&codes, &limits, micros(&window).unwrap_or(u64::MAX))?;
        Ok(Self {
            types,
            steps,
            window,
            times: None,
        })
    }

    /// Asks for the times to the steps, too, with intervals at the level `alpha`.
    #[must_use]
    pub fn with_times(self, alpha: Alpha) -> Self {
        Self {
            times: Some(alpha),
            ..self
        }
    }
}

/// Computes `funnel` for the users of `experiment` that `filter` accepts; the inner error is the
/// experiment's own.
pub(crate) fn compute_funnel(
    view: &View,
    experiment: &Experiment,
    limits: &Limits,
    data_time: UnixMicros,
    (filter, funnel): (&UserFilter, &FunnelDefinition),
    n_threads: usize,
) -> Result<Result<FunnelUsers, FoldError>, WarehouseError> {
    let id = experiment.definition.experiment_id.as_str();
    let assignments = view.contents(EventKind::Assignment, &[id])?;
    let mut metrics = view.contents(EventKind::Metric, &[id])?;
    let contents = [assignments.get(id), metrics.get(id)];
    let (mut plan, _) = plan(contents, experiment, limits, data_time, filter);
    plan.event_types = funnel.types.clone();
    let plans = std::slice::from_ref(&plan);
    let question = FunnelPlan {
        steps: funnel.steps,
        window: funnel.window,
        times: funnel.times.map(|_| view.spill().to_owned()),
    };
    let outcome = (view.run::<Funnel>(plans, &[question], n_threads)?)
        .pop()
        .expect("there is an answer for each plan");
    let folded = match outcome {
        Ok(folded) => folded,
        Err(error) => return Ok(Err(error)),
    };
    let variants = plan.variants.texts().iter().zip(0..);
    let reached = variants.map(|(variant, code)| {
        let reached = folded.accumulator.reached(plan.slot(0, code));
        (variant.clone(), reached.to_vec())
    });
    let reached = reached.collect();
    let computation = users_of_cell(experiment, &plan, limits, &folded, 0);
    let asked = (funnel.window, funnel.times.unwrap_or(Alpha::P05));
    Ok(Ok(FunnelUsers {
        reached,
        computation,
        times: times::step_times(&plan, folded, funnel.steps.len(), asked)?,
        events: metrics.remove(id),
    }))
}
