//! Computes how many users of each variant get through ordered steps: on request, and with each
//! run for the funnels that are saved with experiments.

mod times;

use std::collections::BTreeMap;

use trialog_catalog::experiments::Experiment;
use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_model::funnel::FunnelDefinition;
use trialog_model::ids::EventType;
use trialog_model::published::Computation;
use trialog_model::time::UnixMicros;
use trialog_report::stored_funnel::StoredFunnel;
use trialog_stats::{Alpha, FunnelSteps, StatsError, StepTimes};
use trialog_warehouse::analysis::funnel::several::{Funnels, OneFunnel};
use trialog_warehouse::analysis::funnel::{Funnel, FunnelPlan};
use trialog_warehouse::fold::{Folded, Names, Plan, UserFilter};
use trialog_warehouse::index::IndexEntry;
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

use super::{Computed, Limits, plan, users_of_cell};

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

/// Converts a definition to types of events with codes, and steps with these.
pub(crate) fn coded(definition: &FunnelDefinition) -> Result<OneFunnel, StatsError> {
    let types = Names::new(definition.steps.iter().map(EventType::to_string));
    let codes = (definition.steps.iter()).filter_map(|step| types.code(step.as_str()));
    // Beyond 20 steps there is an error whatever the codes.
    let codes: Vec<u8> = codes.map(|code| code as u8).collect();
    let micros = |window: Window| window.micros().map(i64::unsigned_abs);
    let limits = definition.limits.iter();
    let limits: Vec<Option<u64>> = limits.map(|limit| limit.and_then(micros)).collect();
    let window = definition.window;
    let steps = FunnelSteps::new(&codes, &limits, micros(window).unwrap_or(u64::MAX))?;
    Ok(OneFunnel {
        types,
        plan: FunnelPlan {
            steps,
            window,
            times: None,
        },
    })
}

/// Computes `funnel` for the users of `experiment` that `filter` accepts, and how long they take
/// with intervals at the level `times`, if there is one; the inner error is the experiment's own.
pub(crate) fn compute_funnel(
    view: &View,
    experiment: &Experiment,
    limits: &Limits,
    data_time: UnixMicros,
    (filter, funnel, times): (&UserFilter, &OneFunnel, Option<Alpha>),
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
        times: times.map(|_| view.spill().to_owned()),
        ..funnel.plan.clone()
    };
    let outcome = (view.run::<Funnel>(plans, &[question], n_threads)?)
        .pop()
        .expect("there is an answer for each plan");
    let folded = match outcome {
        Ok(folded) => folded,
        Err(error) => return Ok(Err(error)),
    };
    let reached = by_variant(&plan, |slot| folded.accumulator.reached(slot).to_vec());
    let computation = users_of_cell(experiment, &plan, limits, &folded, 0);
    let asked = (funnel.plan.window, times.unwrap_or(Alpha::P05));
    Ok(Ok(FunnelUsers {
        reached,
        computation,
        times: times::step_times(&plan, folded, funnel.plan.steps.len(), asked)?,
        events: metrics.remove(id),
    }))
}

/// Computes the saved funnels of `experiments` and adds them to what was `computed` of each, in
/// one pass over the events of those that have any.
pub(crate) fn add_saved_funnels(
    view: &View,
    experiments: &[Experiment],
    computed: &mut [Computed],
    (limits, data_time, n_threads): (&Limits, UnixMicros, usize),
) -> Result<(), WarehouseError> {
    let has_funnels = |at: &usize| {
        let definition = &experiments[*at].definition;
        !definition.funnels.is_empty() && computed[*at].outcome.is_ok()
    };
    let places: Vec<usize> = (0..experiments.len()).filter(has_funnels).collect();
    if places.is_empty() {
        return Ok(());
    }
    let ids = (places.iter()).map(|at| experiments[*at].definition.experiment_id.as_str());
    let ids: Vec<&str> = ids.collect();
    let assignments = view.contents(EventKind::Assignment, &ids)?;
    let metrics = view.contents(EventKind::Metric, &ids)?;
    let (plans, saved): (Vec<Plan>, Vec<Saved>) = (places.iter().zip(ids))
        .map(|(at, id)| {
            let experiment = &experiments[*at];
            let contents = [assignments.get(id), metrics.get(id)];
            let all = UserFilter::default();
            let (mut plan, _) = plan(contents, experiment, limits, data_time, &all);
            let saved = Saved::from_experiment(experiment);
            plan.event_types = saved.types();
            (plan, saved)
        })
        .unzip();
    let questions: Vec<Vec<OneFunnel>> = saved.iter().map(|saved| saved.coded.clone()).collect();
    let outcomes = view.run::<Funnels>(&plans, &questions, n_threads)?;
    for (((at, plan), saved), outcome) in places.into_iter().zip(&plans).zip(saved).zip(outcomes) {
        saved.add_to(&mut computed[at], plan, outcome);
    }
    Ok(())
}

/// The saved funnels of an experiment.
struct Saved {
    named: Vec<(String, FunnelDefinition)>,
    coded: Vec<OneFunnel>,
}

impl Saved {
    fn from_experiment(experiment: &Experiment) -> Self {
        let funnels = experiment.definition.funnels.iter().filter_map(|funnel| {
            let definition = funnel.definition();
            // Every definition was checked when it was registered.
            let coded = coded(&definition).ok()?;
            Some(((funnel.name.to_string(), definition), coded))
        });
        let (named, coded) = funnels.unzip();
        Self { named, coded }
    }

    /// The types of events of all funnels.
    fn types(&self) -> Names {
        let types = self.coded.iter().flat_map(|one| one.types.texts());
        Names::new(types.cloned())
    }

    fn add_to(
        self,
        computed: &mut Computed,
        plan: &Plan,
        outcome: Result<Folded<Funnels>, FoldError>,
    ) {
        let folded = match outcome {
            Ok(folded) => folded,
            Err(error) => {
                computed.outcome = Err(error);
                return;
            }
        };
        // A funnel may look further than every metric.
        let next = folded.next_event_at.map(UnixMicros);
        let times = [computed.next_event_at, next];
        computed.next_event_at = times.into_iter().flatten().min();
        let users = by_variant(plan, |slot| folded.users[slot]);
        let funnels = self.named.into_iter().enumerate();
        let funnels = funnels.map(|(number, (name, definition))| {
            let reached = |slot| folded.accumulator.reached(number, slot).to_vec();
            let stored = StoredFunnel {
                definition,
                users: users.clone(),
                reached: by_variant(plan, reached),
            };
            stored.to_row(&name)
        });
        computed.funnels = funnels.collect();
    }
}

/// Reads a number of each variant by its slot.
fn by_variant<T>(plan: &Plan, value: impl Fn(usize) -> T) -> BTreeMap<String, T> {
    let variants = plan.variants.texts().iter().zip(0..);
    let values = variants.map(|(variant, code)| (variant.clone(), value(plan.slot(0, code))));
    values.collect()
}
