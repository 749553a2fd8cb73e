//! Computes the rows that a run publishes, from definitions and events.

pub(crate) mod by_cell;
pub(crate) mod cohorts;
pub(crate) mod context;
pub(crate) mod funnel;
mod ranked;
pub(crate) mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use trialog_catalog::experiments::Experiment;
use trialog_model::assignment::WITHOUT_VARIANT;
use trialog_model::duration::{Delay, Window};
use trialog_model::event::EventKind;
use trialog_model::experiment::{Definition, MAX_VARIANTS};
use trialog_model::holdout::released;
use trialog_model::ids::{EventType, HoldoutName};
use trialog_model::metric::MetricKind;
use trialog_model::metric_definition::{MetricDefinition, MinValue, NamedMetric};
use trialog_model::published::{
    AnalysisRow, Computation, EventCounts, MoreSums, VariantExposures, VariantMetric,
};
use trialog_model::time::UnixMicros;
use trialog_stats::Summary;
use trialog_warehouse::analysis::arrivals::TypeArrivals;
use trialog_warehouse::analysis::scorecard::{MetricPlan, MetricSums, Quantity, Scorecard, Shape};
use trialog_warehouse::fold::split::Split;
use trialog_warehouse::fold::{Folded, LeftOutUnits, Names, Plan, UserFilter};
use trialog_warehouse::index::IndexEntry;
use trialog_warehouse::view::View;
use trialog_warehouse::{FoldError, WarehouseError};

/// Changes whenever the meaning of published rows changes, together with a step of the
/// catalog's schema that makes every experiment due.
///
/// 2: metric events are copies where they share the event type as well as the id.
const MEANING: u32 = 2;

/// How much of what nobody declared is aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Experiments that nobody registered.
    pub unregistered_experiments: u64,
    /// Event types of one experiment that nobody declared.
    pub undeclared_event_types: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unregistered_experiments: 10_000,
            undeclared_event_types: 100,
        }
    }
}

/// What was computed of an experiment.
pub(crate) struct Computed {
    pub(crate) outcome: Result<Computation, FoldError>,
    /// When an event that lies in the future becomes part of the answer.
    pub(crate) next_event_at: Option<UnixMicros>,
    /// The rows of its saved funnels, where a run computed them.
    pub(crate) funnels: Vec<AnalysisRow>,
}

/// Computes what a run publishes of `experiments`, which are in the order of their ids: all users,
/// and the saved funnels.
pub(crate) fn compute_for_run(
    view: &View,
    experiments: &[Experiment],
    limits: &Limits,
    data_time: UnixMicros,
    n_threads: usize,
) -> Result<Vec<Computed>, WarehouseError> {
    let all = UserFilter::default();
    let mut computed = compute(view, experiments, limits, data_time, &all, n_threads)?;
    let with = (limits, data_time, n_threads);
    funnel::add_saved_funnels(view, experiments, &mut computed, with)?;
    Ok(computed)
}

/// Computes `experiments`, which are in the order of their ids.
pub(crate) fn compute(
    view: &View,
    experiments: &[Experiment],
    limits: &Limits,
    data_time: UnixMicros,
    filter: &UserFilter,
    n_threads: usize,
) -> Result<Vec<Computed>, WarehouseError> {
    let ids = (experiments.iter()).map(|experiment| experiment.definition.experiment_id.as_str());
    let ids: Vec<&str> = ids.collect();
    let assignments = view.contents(EventKind::Assignment, &ids)?;
    let metrics = view.contents(EventKind::Metric, &ids)?;
    let (plans, metrics): (Vec<Plan>, Vec<Vec<MetricPlan>>) = (experiments.iter().zip(ids))
        .map(|(experiment, id)| {
            let contents = [assignments.get(id), metrics.get(id)];
            plan(contents, experiment, limits, data_time, filter)
        })
        .unzip();
    let outcomes = view.run::<Scorecard>(&plans, &metrics, n_threads)?;
    let results = experiments.iter().zip(&plans).zip(outcomes);
    results
        .map(|((experiment, plan), outcome)| {
            let mut computed = computed(experiment, plan, limits, outcome);
            if let Ok(computation) = &mut computed.outcome {
                match ranked::order_users(view, experiment, plan, n_threads)? {
                    Ok(ranked) => ranked.add_to(computation, plan, 0),
                    Err(error) => computed.outcome = Err(error),
                }
            }
            Ok(computed)
        })
        .collect()
}

/// What is read of an experiment's events, and the metrics that are made of them; `contents`
/// is what there is of assignments and of metric events.
fn plan(
    [assignments, metrics]: [Option<&IndexEntry>; 2],
    experiment: &Experiment,
    limits: &Limits,
    data_time: UnixMicros,
    filter: &UserFilter,
) -> (Plan, Vec<MetricPlan>) {
    let definition = &experiment.definition;
    let n_rows = |entry: Option<&IndexEntry>| entry.map_or(0, |entry| entry.rows);
    let named = definition.named_metrics(&experiment.defined_metrics);
    let declared = named.iter().flat_map(event_types_of);
    let types_seen = (metrics.into_iter()).flat_map(|entry| entry.names.iter().map(String::as_str));
    let event_types = names(declared, types_seen, limits.undeclared_event_types);
    let metric_plans = metric_plans(definition, &named, &event_types, metrics);
    let plan = Plan {
        experiment: definition.experiment_id.clone(),
        within: Range {
            start: definition.start_at.map(|time| time.0),
            end: definition.end_at.map(|time| time.0),
        },
        n_rows: n_rows(assignments) + n_rows(metrics),
        variants: variant_names(definition, assignments),
        event_types,
        data_time: data_time.0,
        filter: filter.clone(),
        left_out: left_out(definition),
        split: Split::Whole,
        exposures: None,
    };
    (plan, metric_plans)
}

/// The units who were let in by the holdout that the experiment measures, if it does: they saw
/// both, so neither group may have any of them, those who do not come back neither.
fn left_out(definition: &Definition) -> Option<LeftOutUnits> {
    let id = definition.experiment_id.as_str();
    let buckets = id
        .starts_with(HoldoutName::PREFIX)
        .then(|| released(definition))?;
    (!buckets.is_empty()).then(|| LeftOutUnits {
        salt: id.to_owned(),
        buckets,
    })
}

/// A row for each metric that the experiment names, and for each event type
/// that came in, unless a definition has its name.
fn metric_plans(
    definition: &Definition,
    named: &[NamedMetric<'_>],
    event_types: &Names,
    seen: Option<&IndexEntry>,
) -> Vec<MetricPlan> {
    let mut plans: BTreeMap<&str, MetricPlan> = BTreeMap::new();
    let seen = (seen.into_iter()).flat_map(|entry| entry.names.iter().map(String::as_str));
    for event_type in seen {
        // Names beyond the limit of undeclared ones have no code.
        if let Some(code) = event_types.code(event_type) {
            let plan = MetricPlan {
                name: event_type.to_owned(),
                event_type: code,
                window: definition.attribution_window,
                delay: 0,
                min_value: None,
                shape: Shape::Plain,
            };
            plans.insert(event_type, plan);
        }
    }
    for metric in named {
        let Some(code) = event_types.code(metric.event_type) else {
            continue;
        };
        let plan = named_plan(metric, code, shape(metric, event_types));
        plans.insert(metric.name, plan);
    }
    plans.into_values().collect()
}

/// The plan of a metric whose event type has the code `event_type`.
fn named_plan(metric: &NamedMetric<'_>, event_type: u32, shape: Shape) -> MetricPlan {
    let definition = metric.definition;
    MetricPlan {
        name: metric.name.to_owned(),
        event_type,
        window: metric.window,
        delay: (definition.and_then(|definition| definition.delay)).map_or(0, Delay::micros),
        min_value: (definition.and_then(|definition| definition.min_value)).map(MinValue::units),
        shape,
    }
}

fn shape(metric: &NamedMetric<'_>, event_types: &Names) -> Shape {
    let Some(definition) = metric.definition else {
        return Shape::Plain;
    };
    let code = |event_type: &EventType| event_types.code(event_type.as_str());
    if let Some(event_type) = definition.denominator.as_ref().and_then(code) {
        return Shape::Denominator { event_type };
    }
    if let Some(retention) = definition.retention {
        let from = retention.from.and_then(Window::micros).unwrap_or(0);
        return Shape::Retention { from };
    }
    let covariate = definition.covariate.as_ref();
    let covariate = covariate.and_then(|covariate| {
        let event_type = covariate.event_type.as_ref();
        Some(Shape::Covariate {
            event_type: code(event_type.unwrap_or(&definition.event_type))?,
            period: covariate.period.micros()?,
            quantity: quantity(definition.kind),
        })
    });
    covariate.unwrap_or(Shape::Plain)
}

/// What a metric of this kind takes of a user.
pub(crate) fn quantity(kind: MetricKind) -> Quantity {
    match kind {
        MetricKind::Conversion | MetricKind::Retention => Quantity::Converted,
        MetricKind::Count => Quantity::Events,
        MetricKind::Sum | MetricKind::Ratio | MetricKind::Quantile => Quantity::Total,
    }
}

/// Every event type that the definition of a metric names.
fn event_types_of<'a>(metric: &NamedMetric<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let definition = metric.definition;
    let denominator = definition.and_then(|definition| definition.denominator.as_ref());
    let covariate = definition.and_then(|definition| definition.covariate.as_ref());
    let covariate = covariate.and_then(|covariate| covariate.event_type.as_ref());
    [denominator, covariate]
        .into_iter()
        .flatten()
        .map(EventType::as_str)
        .chain([metric.event_type])
}

/// What was declared, and of what was seen beyond it the first `limit` in
/// the order of their texts: the choice depends on the events, not on when
/// they arrived.
fn names<'a>(
    declared: impl Iterator<Item = &'a str>,
    seen: impl Iterator<Item = &'a str>,
    limit: usize,
) -> Names {
    let declared: BTreeSet<&str> = declared.collect();
    let undeclared: Vec<&str> = seen
        .filter(|name| !declared.contains(name))
        .take(limit)
        .collect();
    Names::new(declared.into_iter().chain(undeclared).map(str::to_owned))
}

/// The variants that `definition` declares and those that came in. Where it declares any,
/// assignments named like a decision without a variant are no exposures: a client logged
/// that the unit got none. Of an experiment that nobody registered such a name may be a
/// variant, and so it is where it was declared before it was reserved.
fn variant_names(definition: &Definition, seen: Option<&IndexEntry>) -> Names {
    let declared: Vec<&str> = (definition.variants.iter())
        .map(|declared| declared.variant.as_str())
        .collect();
    let reserved: Vec<&str> = match declared.is_empty() {
        true => Vec::new(),
        false => (WITHOUT_VARIANT.into_iter())
            .filter(|word| !declared.contains(word))
            .collect(),
    };
    let seen = (seen.into_iter()).flat_map(|entry| entry.names.iter().map(String::as_str));
    let seen = seen.filter(|name| !reserved.contains(name));
    names(declared.iter().copied(), seen, MAX_VARIANTS)
        .ignoring(reserved.iter().map(|word| (*word).to_owned()))
}

fn computed(
    experiment: &Experiment,
    plan: &Plan,
    limits: &Limits,
    outcome: Result<Folded<Scorecard>, FoldError>,
) -> Computed {
    let next_event_at = outcome
        .as_ref()
        .ok()
        .and_then(|folded| {
            let times = [folded.next_event_at, folded.accumulator.next_user_at];
            times.into_iter().flatten().min()
        })
        .map(UnixMicros);
    let outcome = outcome.map(|folded| computation_of_cell(experiment, plan, limits, &folded, 0));
    Computed {
        outcome,
        next_event_at,
        funnels: Vec::new(),
    }
}

/// Collects what was computed of the users of one cell.
fn computation_of_cell(
    experiment: &Experiment,
    plan: &Plan,
    limits: &Limits,
    folded: &Folded<Scorecard>,
    cell: u32,
) -> Computation {
    let scorecard = &folded.accumulator;
    let variants = || {
        (plan.variants.texts().iter().zip(0..)).map(|(name, code)| (name, plan.slot(cell, code)))
    };
    let rows = scorecard
        .metrics()
        .iter()
        .enumerate()
        .flat_map(|(at, metric)| {
            variants().map(move |(variant, slot)| {
                let names = (variant, &metric.name);
                row(
                    names,
                    folded.users[slot],
                    metric.shape,
                    scorecard.sums(slot, at),
                )
            })
        });
    Computation {
        not_aggregated: scorecard.not_aggregated[cell as usize],
        metrics: rows.collect(),
        arrivals: arrivals(plan, scorecard),
        ..users_of_cell(experiment, plan, limits, folded, cell)
    }
}

/// Builds a computation of the users in `cell`, without metrics and events.
fn users_of_cell<A>(
    experiment: &Experiment,
    plan: &Plan,
    limits: &Limits,
    folded: &Folded<A>,
    cell: u32,
) -> Computation {
    let variants = plan.variants.texts().iter().zip(0..);
    let exposures = variants.map(|(variant, code)| {
        let slot = plan.slot(cell, code);
        VariantExposures {
            variant: variant.clone(),
            user_count: folded.users[slot],
            crossover_users: folded.crossovers[slot],
        }
    });
    Computation {
        fingerprint: fingerprint(experiment, limits),
        forced_users: folded.forced[cell as usize],
        unknown_variant: folded.unknown_variant[cell as usize],
        exposures: exposures.collect(),
        ..Computation::empty(experiment.definition.experiment_id.clone())
    }
}

/// Counts what became of the events of each type that has events.
fn arrivals(plan: &Plan, scorecard: &Scorecard) -> Vec<EventCounts> {
    let types = plan.event_types.texts().iter().zip(scorecard.arrivals());
    let with_events = types.filter(|(_, counts)| counts.events > 0);
    let row = |(event_type, counts): (&String, &TypeArrivals)| EventCounts {
        event_type: event_type.clone(),
        events: counts.events,
        counted: counts.counted,
        before_exposure: counts.before_exposure,
        after_window: counts.after_window,
        unexposed: counts.unexposed,
        excluded: counts.excluded,
        unknown_variant: counts.unknown_variant,
        unexposed_users: counts.unexposed_users,
        senders_exposed: counts.senders_exposed,
        unexposed_sample: counts.sample.clone(),
    };
    with_events.map(row).collect()
}

fn row(
    (variant, metric): (&String, &String),
    exposed: u64,
    shape: Shape,
    sums: &MetricSums,
) -> VariantMetric {
    let users = exposed - sums.waiting_users;
    // Without users there is no summary; means and rates are 0 then.
    let summary = Summary::from_exact(users, sums.total, sums.squared_total, UNIT).ok();
    VariantMetric {
        variant: variant.clone(),
        metric_name: metric.clone(),
        user_count: users,
        event_count: sums.events,
        total: sums.total,
        conversion_rate: if users == 0 {
            0.0
        } else {
            sums.converted_users as f64 / users as f64
        },
        mean_value: summary.map_or(0.0, |summary| summary.mean()),
        variance: summary.and_then(|summary| summary.variance()),
        converted_users: sums.converted_users,
        squared_total: sums.squared_total,
        squared_events: sums.squared_events,
        more: match shape {
            Shape::Plain | Shape::Retention { .. } => None,
            Shape::Denominator { .. } | Shape::Covariate { .. } => Some(MoreSums::Second {
                total: sums.second.total,
                squared_total: sums.second.squared_total,
                product: sums.second.product,
            }),
        },
    }
}

/// What the integer 1 stands for in sums of values.
const UNIT: f64 = 1e-4;

/// Stands for everything in the definitions that published rows depend on.
pub(crate) fn fingerprint(experiment: &Experiment, limits: &Limits) -> String {
    let definition = &experiment.definition;
    let variants: Vec<_> = definition
        .variants
        .iter()
        .map(|declared| &declared.variant)
        .collect();
    let named: Vec<_> = (definition.metrics.iter())
        .map(|(metric, _)| &metric.name)
        .collect();
    let mut meaning = serde_json::json!([
        MEANING,
        definition.start_at.map(|time| time.0),
        definition.end_at.map(|time| time.0),
        definition.attribution_window,
        variants,
        named,
        limits.undeclared_event_types,
    ]);
    let defined: Vec<_> = (experiment.defined_metrics.iter())
        .map(meaning_of)
        .collect();
    if let (serde_json::Value::Array(meaning), false) = (&mut meaning, defined.is_empty()) {
        meaning.push(defined.into());
    }
    let (high, _) = trialog_model::murmur3::murmur3_x64_128(meaning.to_string().as_bytes(), 0);
    format!("{high:016x}")
}

/// Everything in the definition of a metric that published rows depend on. A field that
/// came later is there only where it is used, so that definitions without it keep theirs.
fn meaning_of(definition: &MetricDefinition) -> serde_json::Value {
    let mut meaning = vec![
        serde_json::json!(definition.name),
        serde_json::json!(definition.kind),
        serde_json::json!(definition.event_type),
        serde_json::json!(definition.window),
        serde_json::json!(definition.direction),
    ];
    let parts = serde_json::json!([
        definition.denominator,
        definition.retention,
        definition.quantile,
        definition.winsorise,
        definition.covariate
    ]);
    let which_events = serde_json::json!([definition.delay, definition.min_value]);
    // Rows of quantiles count ties since; without them they would be tested where they must not.
    let counts_ties = serde_json::json!([definition.quantile.map(|_| "ties")]);
    for later in [parts, which_events, counts_ties] {
        let is_used =
            (later.as_array()).is_some_and(|fields| fields.iter().any(|field| !field.is_null()));
        meaning.extend(is_used.then_some(later));
    }
    meaning.into()
}
