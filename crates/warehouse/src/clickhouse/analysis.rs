//! The analyses as SQL: touched experiments only, in pieces of bounded size.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use trialog_model::bucket::N_BUCKETS;
use trialog_model::duration::Window;
use trialog_model::event::EventKind;

use super::client::Client;
use super::sql::{Statement, list, quoted, table};
use crate::error::{FoldError, WarehouseError};
use crate::fold::arrivals::TypeArrivals;
use crate::fold::ranks::{RankedPlan, Ranks, Users};
use crate::fold::scorecard::{MetricPlan, MetricSums, Quantity, Scorecard, SecondSums, Shape};
use crate::fold::{Folded, Outcomes, Plan, UserFilter};
use crate::index::{IndexEntry, MAX_NAMES};

/// Rows that a statement reads at most, about: its groups then fit into memory. A larger
/// experiment is cut by users.
const PIECE_ROWS: u64 = 10_000_000;
/// Experiments that a statement is about at most.
pub(super) const PIECE_EXPERIMENTS: usize = 1_000;
/// The latest time that ClickHouse and we can compare without leaving the range of integers.
const FARTHEST: i64 = i64::MAX / 4;

const USERS: &str = include_str!("sql/users.sql");
const HAPPENED: &str = include_str!("sql/happened.sql");

/// What analyses see: the batches that were finished by a moment.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) client: Client,
    last: u64,
    except_for: Vec<u64>,
    abandoned: Option<Arc<AtomicBool>>,
}

/// Plans that are answered by the same statements, and the users that these look at.
struct Piece<'p> {
    plans: &'p [Plan],
    users: Range<Option<i64>>,
}

impl View {
    pub(super) fn new(client: Client, last: u64, except_for: Vec<u64>) -> Self {
        Self {
            client,
            last,
            except_for,
            abandoned: None,
        }
    }

    /// Lets analyses end with [`WarehouseError::Abandoned`] soon after `abandoned` is set.
    pub fn until(mut self, abandoned: Arc<AtomicBool>) -> Self {
        self.abandoned = Some(abandoned);
        self
    }

    /// The experiments with events of `kind`, in order.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn experiments(&self, kind: EventKind) -> Result<Vec<String>, WarehouseError> {
        let statement = self
            .statement(&[include_str!("sql/experiments.sql")])
            .with("table", table_of(kind));
        let rows = self
            .client
            .rows::<(String,)>("list experiments", statement.text())?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }

    /// What there is of each of `experiments`, for events of `kind`, by experiment.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn contents(
        &self,
        kind: EventKind,
        experiments: &[&str],
    ) -> Result<BTreeMap<String, IndexEntry>, WarehouseError> {
        let mut contents = BTreeMap::new();
        let (name, time) = match kind {
            EventKind::Assignment => ("variant", "assigned_at"),
            EventKind::Metric => ("event_type", "occurred_at"),
        };
        for some in experiments.chunks(PIECE_EXPERIMENTS) {
            self.check()?;
            let statement = self
                .statement(&[include_str!("sql/contents.sql")])
                .with("table", table_of(kind))
                .with("name", name)
                .with("time", time)
                .with("n_names", MAX_NAMES.to_string())
                .with("experiments", list(some.iter().copied()));
            type Contents = (String, u64, i64, Vec<String>, u64);
            let rows = self
                .client
                .rows::<Contents>("look at experiments", statement.text())?;
            contents.extend(rows.into_iter().map(
                |(experiment, rows, max_timestamp, names, n_distinct)| {
                    let entry = IndexEntry {
                        user_texts: None,
                        experiment: experiment.clone(),
                        rows,
                        max_timestamp,
                        more_names: n_distinct > names.len() as u64,
                        names,
                    };
                    (experiment, entry)
                },
            ));
        }
        Ok(contents)
    }

    /// The scorecards of `plans`, which are in the order of their experiments and have one data
    /// time and one segment; `metrics` are those of each plan.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses a statement.
    pub fn scorecards(
        &self,
        plans: &[Plan],
        metrics: &[Vec<MetricPlan>],
    ) -> Result<Outcomes<Scorecard>, WarehouseError> {
        let mut outcomes = Vec::with_capacity(plans.len());
        let mut at = 0;
        for own in groups(plans) {
            let metrics = &metrics[at..at + own.len()];
            at += own.len();
            let mut whole: Option<Outcomes<Scorecard>> = None;
            for piece in self.pieces(own)? {
                self.check()?;
                let part = self.scorecards_of(&piece, metrics)?;
                whole = Some(match whole {
                    None => part,
                    Some(whole) => whole.into_iter().zip(part).map(merged).collect(),
                });
            }
            let mut whole = whole.unwrap_or_default();
            self.add_waiting(own, &mut whole)?;
            outcomes.append(&mut whole);
        }
        Ok(outcomes)
    }

    /// Carries out the passes of `ranked` over the users of `plan`.
    ///
    /// # Errors
    ///
    /// The server cannot be reached; the inner error is the experiment's own.
    pub fn ranks(
        &self,
        plan: &Plan,
        ranked: Vec<RankedPlan>,
    ) -> Result<Result<Vec<RankedPlan>, FoldError>, WarehouseError> {
        let mut ranks = Ranks::new(plan, ranked);
        let plans = std::slice::from_ref(plan);
        for piece in self.pieces(plans)? {
            self.check()?;
            if let Err(error) = self.values_of(&piece, &mut ranks)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(ranks.into_plans()))
    }

    fn values_of(
        &self,
        piece: &Piece<'_>,
        ranks: &mut Ranks,
    ) -> Result<Result<(), FoldError>, WarehouseError> {
        let rows: Vec<Value> = (1..)
            .zip(ranks.plans())
            .map(|(number, own)| {
                metric_row(
                    piece.plans,
                    0,
                    number,
                    &own.metric,
                    own.quantity,
                    Part::First,
                )
            })
            .collect();
        let reach = vec![Reach::of(ranks.plans().iter().map(|own| &own.metric))];
        let statement = self
            .asked(
                &[USERS, HAPPENED, include_str!("sql/values.sql")],
                piece,
                &reach,
            )
            .with("metrics", table(METRIC_COLUMNS, &rows));
        // Users who did something, by variant and metric; number 0 has all of them.
        let mut n_users: BTreeMap<(u32, usize), u64> = BTreeMap::new();
        let mut outcome = Ok(());
        let action = "order users";
        self.client.each_row::<(u32, usize, String, u64)>(
            action,
            statement.text(),
            |(variant, number, value, n)| {
                *n_users.entry((variant, number)).or_default() += n;
                if let (Some(metric), Ok(value), Ok(())) =
                    (number.checked_sub(1), value.parse(), &outcome)
                {
                    outcome = ranks.add_users(variant as usize, metric, value, n);
                }
            },
        )?;
        let n_metrics = ranks.plans().len();
        let exposed: Vec<(u32, u64)> = (n_users.iter())
            .filter_map(|(&(variant, number), &n)| (number == 0).then_some((variant, n)))
            .collect();
        for (variant, n_exposed) in exposed {
            for metric in 0..n_metrics {
                let n_active = n_users.get(&(variant, metric + 1)).copied().unwrap_or(0);
                let counts_all = ranks.plans()[metric].users == Users::All;
                if let (Ok(()), true) = (&outcome, counts_all && n_exposed > n_active) {
                    outcome = ranks.add_users(variant as usize, metric, 0, n_exposed - n_active);
                }
            }
        }
        Ok(outcome)
    }

    fn scorecards_of(
        &self,
        piece: &Piece<'_>,
        metrics: &[Vec<MetricPlan>],
    ) -> Result<Outcomes<Scorecard>, WarehouseError> {
        let reach: Vec<Reach> = metrics.iter().map(Reach::of).collect();
        let mut gathered: Vec<Gathered> = (piece.plans.iter().zip(metrics))
            .map(|(plan, metrics)| Gathered::new(plan, metrics.len()))
            .collect();
        self.add_exposures(piece, &reach, &mut gathered)?;
        let rows: Vec<Value> = (metrics.iter().enumerate())
            .flat_map(|(code, own)| metric_rows(piece.plans, code, own))
            .collect();
        let metrics_table = table(METRIC_COLUMNS, &rows);
        // What became of events is told of all users only.
        let is_unfiltered = |plan: &Plan| plan.filter == UserFilter::default();
        if !rows.is_empty() && piece.plans.iter().any(is_unfiltered) {
            self.add_arrivals(piece, &reach, &metrics_table, &mut gathered)?;
        }
        if metrics.iter().any(|own| !own.is_empty()) {
            let has_retention =
                (metrics.iter().flatten()).any(|own| matches!(own.shape, Shape::Retention { .. }));
            if has_retention {
                self.add_unready(piece, &reach, &metrics_table, &mut gathered)?;
            }
            self.add_sums(piece, &reach, &metrics_table, &mut gathered)?;
        }
        let outcomes = gathered.into_iter().zip(piece.plans.iter().zip(metrics));
        Ok(outcomes
            .map(|(own, (plan, metrics))| own.outcome(plan, metrics))
            .collect())
    }

    fn add_exposures(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        gathered: &mut [Gathered],
    ) -> Result<(), WarehouseError> {
        let statement = self.asked(&[USERS, include_str!("sql/exposures.sql")], piece, reach);
        let rows = self
            .client
            .rows::<(usize, String, usize, u64)>("count exposed users", statement.text())?;
        for (code, status, variant, n) in rows {
            let own = &mut gathered[code];
            match status.as_str() {
                "forced" => own.forced += n,
                "unknown" => own.unknown_variant += n,
                "crossover" => own.crossovers[variant] += n,
                "left_out" => {}
                _ => own.users[variant] += n,
            }
        }
        Ok(())
    }

    fn add_unready(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        metrics: &str,
        gathered: &mut [Gathered],
    ) -> Result<(), WarehouseError> {
        let statement = self
            .asked(&[USERS, include_str!("sql/unready.sql")], piece, reach)
            .with("metrics", metrics);
        type Unready = (usize, usize, usize, u64, i64);
        let rows = self
            .client
            .rows::<Unready>("count users whose window is open", statement.text())?;
        for (code, variant, metric, n, until) in rows {
            let own = &mut gathered[code];
            own.sums(variant, metric - 1).waiting_users += n;
            // A window without an end ends as it does in the fold.
            let until = if until >= FARTHEST { i64::MAX } else { until };
            own.next_user_at = Some(own.next_user_at.map_or(until, |next| next.min(until)));
        }
        Ok(())
    }

    fn add_sums(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        metrics: &str,
        gathered: &mut [Gathered],
    ) -> Result<(), WarehouseError> {
        let statement = self
            .asked(
                &[USERS, HAPPENED, include_str!("sql/sums.sql")],
                piece,
                reach,
            )
            .with("metrics", metrics);
        type Sums = (
            usize,
            usize,
            usize,
            u64,
            u64,
            String,
            String,
            String,
            String,
            String,
            String,
        );
        let rows = self
            .client
            .rows::<Sums>("sum up events", statement.text())?;
        for (
            code,
            variant,
            metric,
            converted_users,
            events,
            squared_events,
            total,
            squared_total,
            second,
            squared_second,
            product,
        ) in rows
        {
            let own = &mut gathered[code];
            let Some(metric) = metric.checked_sub(1) else {
                own.not_aggregated += events;
                continue;
            };
            if metric >= own.n_metrics {
                continue;
            }
            // Sums are wider there; what does not fit here is an overflow, as in the fold.
            let exact = || {
                Some(MetricSums {
                    converted_users,
                    events,
                    squared_events: squared_events.parse().ok()?,
                    total: total.parse().ok()?,
                    squared_total: squared_total.parse().ok()?,
                    second: SecondSums {
                        total: second.parse().ok()?,
                        squared_total: squared_second.parse().ok()?,
                        product: product.parse().ok()?,
                    },
                    waiting_users: 0,
                })
            };
            match exact() {
                Some(sums) => {
                    let waiting_users = own.sums(variant, metric).waiting_users;
                    *own.sums(variant, metric) = MetricSums {
                        waiting_users,
                        ..sums
                    };
                }
                None => own.overflow = Some(own.overflow.map_or(metric, |other| other.min(metric))),
            }
        }
        Ok(())
    }

    fn add_arrivals(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        metrics: &str,
        gathered: &mut [Gathered],
    ) -> Result<(), WarehouseError> {
        let statement = self
            .asked(&[USERS, include_str!("sql/arrivals.sql")], piece, reach)
            .with("metrics", metrics);
        type Counts = (
            usize,
            String,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            Vec<i64>,
        );
        let rows = self
            .client
            .rows::<Counts>("count what became of events", statement.text())?;
        for (
            code,
            event_type,
            events,
            counted,
            before_exposure,
            after_window,
            unexposed,
            excluded,
            unknown_variant,
            unexposed_users,
            senders_exposed,
            sample,
        ) in rows
        {
            let counts = TypeArrivals {
                events,
                counted,
                before_exposure,
                after_window,
                unexposed,
                excluded,
                unknown_variant,
                unexposed_users,
                senders_exposed,
                sample,
            };
            gathered[code].arrivals.push((event_type, counts));
        }
        Ok(())
    }

    /// Adds when the first event that waits becomes part of an answer.
    fn add_waiting(
        &self,
        plans: &[Plan],
        outcomes: &mut Outcomes<Scorecard>,
    ) -> Result<(), WarehouseError> {
        let whole = Piece {
            plans,
            users: None..None,
        };
        let reach = vec![Reach::default(); plans.len()];
        let statement = self.asked(&[include_str!("sql/waiting.sql")], &whole, &reach);
        for (code, at) in self
            .client
            .rows::<(usize, i64)>("look for later events", statement.text())?
        {
            if let Ok(folded) = &mut outcomes[code] {
                folded.next_event_at = Some(at);
            }
        }
        Ok(())
    }

    /// Cuts a group of plans that is one large experiment by its users.
    fn pieces<'p>(&self, plans: &'p [Plan]) -> Result<Vec<Piece<'p>>, WarehouseError> {
        let n_rows: u64 = plans.iter().map(|plan| plan.n_rows).sum();
        let n_pieces = n_rows.div_ceil(PIECE_ROWS);
        let mut cuts = Vec::new();
        if let ([plan], true) = (plans, n_pieces > 1) {
            let levels: Vec<String> = (1..n_pieces)
                .map(|piece| (piece as f64 / n_pieces as f64).to_string())
                .collect();
            let statement = self
                .statement(&[include_str!("sql/cuts.sql")])
                .with("levels", levels.join(", "))
                .with("experiments", quoted(plan.experiment.as_str()));
            let rows = self
                .client
                .rows::<(Vec<i64>,)>("cut an experiment", statement.text())?;
            cuts = rows.into_iter().next().map(|row| row.0).unwrap_or_default();
            cuts.sort_unstable();
            cuts.dedup();
        }
        let starts = std::iter::once(None).chain(cuts.iter().copied().map(Some));
        let ends = cuts.iter().copied().map(Some).chain([None]);
        Ok(starts
            .zip(ends)
            .map(|(start, end)| Piece {
                plans,
                users: start..end,
            })
            .collect())
    }

    /// A statement about the plans of `piece`.
    fn asked(&self, parts: &[&str], piece: &Piece<'_>, reach: &[Reach]) -> Statement {
        let first = &piece.plans[0];
        debug_assert!(
            piece
                .plans
                .iter()
                .all(|plan| plan.data_time == first.data_time
                    && plan.filter.segment == first.filter.segment),
            "plans that are asked about together have one data time and one segment"
        );
        let rows: Vec<Value> = (piece.plans.iter().zip(reach).enumerate())
            .map(|(code, (plan, reach))| plan_row(code, plan, *reach))
            .collect();
        let experiments = piece.plans.iter().map(|plan| plan.experiment.as_str());
        self.statement(parts)
            .with("plans", table(PLAN_COLUMNS, &rows))
            .with("experiments", list(experiments))
            .with("users", users(&piece.users))
            .with("tag", tag(&first.filter.segment))
            .with("user_text", user_text(piece.plans))
            .with("n_buckets", N_BUCKETS.to_string())
            .with("data_time", first.data_time.min(FARTHEST).to_string())
    }

    /// A statement that sees the batches of this view.
    pub(super) fn statement(&self, parts: &[&str]) -> Statement {
        let mut visible = format!("batch <= {}", self.last);
        if !self.except_for.is_empty() {
            let numbers: Vec<String> = self.except_for.iter().map(u64::to_string).collect();
            visible.push_str(&format!(" AND batch NOT IN ({})", numbers.join(", ")));
        }
        Statement::new(parts).with("visible", visible)
    }

    pub(super) fn check(&self) -> Result<(), WarehouseError> {
        let is_set = |abandoned: &Arc<AtomicBool>| abandoned.load(Ordering::Relaxed);
        match self.abandoned.as_ref().is_some_and(is_set) {
            true => Err(WarehouseError::Abandoned),
            false => Ok(()),
        }
    }
}

fn table_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Assignment => "assignments",
        EventKind::Metric => "metric_events",
    }
}

/// Plans that one statement answers, large ones by themselves.
fn groups(plans: &[Plan]) -> impl Iterator<Item = &[Plan]> {
    let mut rest = plans;
    std::iter::from_fn(move || {
        let mut n_rows = 0;
        let n_more = (rest.iter().take(PIECE_EXPERIMENTS))
            .take_while(|plan| {
                n_rows += plan.n_rows;
                n_rows <= PIECE_ROWS
            })
            .count();
        let (group, others) = rest.split_at(n_more.max(1).min(rest.len()));
        rest = others;
        (!group.is_empty()).then_some(group)
    })
}

const PLAN_COLUMNS: &str = "code UInt32, experiment_id String, starts_at Int64, ends_at Int64, exposed_from Int64, exposed_to Int64, longest Int64, open_until Int64, variants Array(String), ignored Array(String), salt String, left_out_from UInt16, left_out_to UInt16";

fn plan_row(code: usize, plan: &Plan, reach: Reach) -> Value {
    let from = |time: Option<i64>| time.unwrap_or(-FARTHEST).max(-FARTHEST);
    let to = |time: Option<i64>| time.unwrap_or(FARTHEST).min(FARTHEST);
    json!([
        code,
        plan.experiment,
        from(plan.within.start),
        to(plan.within.end),
        from(plan.filter.exposed.start),
        to(plan.filter.exposed.end),
        reach.longest,
        if reach.is_open {
            to(plan.within.end)
        } else {
            -FARTHEST
        },
        plan.variants.texts(),
        plan.variants.ignored(),
        plan.left_out.as_ref().map_or("", |units| &units.salt),
        plan.left_out
            .as_ref()
            .map_or(0, |units| units.buckets.start),
        plan.left_out.as_ref().map_or(0, |units| units.buckets.end),
    ])
}

/// A user as text among copies of an assignment, where a plan has a use for it: texts are long.
fn user_text(plans: &[Plan]) -> &'static str {
    match plans.iter().any(|plan| plan.left_out.is_some()) {
        true => "minIf(user_text, user_text <> '')",
        false => "''",
    }
}

/// How far after an exposure events matter.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    /// Where the last window ends, in microseconds after the exposure.
    longest: i64,
    /// Whether a metric ends with the experiment.
    is_open: bool,
}

impl Reach {
    fn of<'m>(metrics: impl IntoIterator<Item = &'m MetricPlan>) -> Self {
        let mut reach = Self::default();
        for metric in metrics {
            match metric.window.micros() {
                Some(length) => reach.longest = reach.longest.max(length + metric.delay),
                None => reach.is_open = true,
            }
        }
        reach
    }
}

/// Which of a metric's sums an event type goes into.
#[derive(Clone, Copy)]
enum Part {
    First = 0,
    Second = 1,
    Before = 2,
    Nothing = 3,
}

const METRIC_COLUMNS: &str = "code UInt32, metric UInt32, event_type String, part UInt8, min_value Int64, delay Int64, since Int64, window Int64, period Int64, retention UInt8, quantity UInt8";

/// The rows of each metric of a plan: one for every event type that it is made of.
fn metric_rows(plans: &[Plan], code: usize, metrics: &[MetricPlan]) -> Vec<Value> {
    let mut rows = Vec::new();
    for (number, metric) in (1..).zip(metrics) {
        let quantity = match metric.shape {
            Shape::Covariate { quantity, .. } => quantity,
            _ => Quantity::Total,
        };
        let mut add = |metric: &MetricPlan, part| {
            rows.push(metric_row(plans, code, number, metric, quantity, part))
        };
        add(metric, Part::First);
        match metric.shape {
            Shape::Denominator { event_type } => add(
                &MetricPlan {
                    event_type,
                    min_value: None,
                    ..metric.clone()
                },
                Part::Second,
            ),
            Shape::Covariate { event_type, .. } => add(
                &MetricPlan {
                    event_type,
                    min_value: metric.min_covariate(event_type),
                    ..metric.clone()
                },
                Part::Before,
            ),
            Shape::Plain | Shape::Retention { .. } => {}
        }
    }
    // An event type that is expected and in no metric is not one that nobody named.
    let used = metrics.iter().flat_map(event_types_of);
    let used: BTreeSet<u32> = used.collect();
    let unused = (0..plans[code].event_types.len() as u32).filter(|own| !used.contains(own));
    rows.extend(unused.map(|event_type| {
        let metric = MetricPlan {
            name: String::new(),
            event_type,
            window: Window::UNBOUNDED,
            delay: 0,
            min_value: None,
            shape: Shape::Plain,
        };
        let number = metrics.len() + 1;
        metric_row(plans, code, number, &metric, Quantity::Total, Part::Nothing)
    }));
    rows
}

fn event_types_of(metric: &MetricPlan) -> impl Iterator<Item = u32> + use<> {
    let other = match metric.shape {
        Shape::Denominator { event_type } | Shape::Covariate { event_type, .. } => Some(event_type),
        Shape::Plain | Shape::Retention { .. } => None,
    };
    other.into_iter().chain([metric.event_type])
}

fn metric_row(
    plans: &[Plan],
    code: usize,
    number: usize,
    metric: &MetricPlan,
    quantity: Quantity,
    part: Part,
) -> Value {
    let (since, period, is_retention) = match metric.shape {
        Shape::Retention { from } => (from, 0, 1),
        Shape::Covariate { period, .. } => (0, period, 0),
        Shape::Plain | Shape::Denominator { .. } => (0, 0, 0),
    };
    let quantity = match quantity {
        Quantity::Converted => 0,
        Quantity::Events => 1,
        Quantity::Total => 2,
    };
    json!([
        code,
        number,
        plans[code].event_types.texts()[metric.event_type as usize],
        part as u8,
        metric.min_value.unwrap_or(i64::MIN),
        metric.delay,
        since,
        metric.window.micros().unwrap_or(-1),
        period,
        is_retention,
        quantity,
    ])
}

/// The condition that a user is among `users`.
fn users(users: &Range<Option<i64>>) -> String {
    let start = users.start.map(|start| format!("user_id >= {start}"));
    let end = users.end.map(|end| format!("user_id < {end}"));
    let conditions: Vec<String> = [start, end].into_iter().flatten().collect();
    match conditions.is_empty() {
        true => "true".to_owned(),
        false => conditions.join(" AND "),
    }
}

/// What a context is compared by: its lowest bit says whether it lies in the segment, the
/// others are of its checksum, by which assignments that differ in nothing else are ordered.
fn tag(segment: &[(String, String)]) -> String {
    if segment.is_empty() {
        return "toUInt32(1)".to_owned();
    }
    let conditions: Vec<String> = (segment.iter())
        .map(|(key, value)| {
            let (key, value) = (quoted(key), quoted(value));
            format!("mapContains(attributes, {key}) AND attributes[{key}] = {value}")
        })
        .collect();
    format!(
        "bitOr(bitAnd(CRC32(context), 4294967294), toUInt32({}))",
        conditions.join(" AND ")
    )
}

fn merged(
    (left, right): (
        Result<Folded<Scorecard>, FoldError>,
        Result<Folded<Scorecard>, FoldError>,
    ),
) -> Result<Folded<Scorecard>, FoldError> {
    let mut left = left?;
    left.merge(right?)?;
    Ok(left)
}

/// What statements have told about an experiment so far.
struct Gathered {
    users: Vec<u64>,
    crossovers: Vec<u64>,
    forced: u64,
    unknown_variant: u64,
    n_metrics: usize,
    sums: Vec<MetricSums>,
    not_aggregated: u64,
    next_user_at: Option<i64>,
    /// The first metric of which a sum left its range.
    overflow: Option<usize>,
    /// What became of events, by their type.
    arrivals: Vec<(String, TypeArrivals)>,
}

impl Gathered {
    fn new(plan: &Plan, n_metrics: usize) -> Self {
        let n_variants = plan.variants.len();
        Self {
            users: vec![0; n_variants],
            crossovers: vec![0; n_variants],
            forced: 0,
            unknown_variant: 0,
            n_metrics,
            sums: vec![MetricSums::default(); n_variants * n_metrics],
            not_aggregated: 0,
            next_user_at: None,
            overflow: None,
            arrivals: Vec::new(),
        }
    }

    fn sums(&mut self, variant: usize, metric: usize) -> &mut MetricSums {
        &mut self.sums[variant * self.n_metrics + metric]
    }

    fn outcome(self, plan: &Plan, metrics: &[MetricPlan]) -> Result<Folded<Scorecard>, FoldError> {
        if let Some(metric) = self.overflow {
            return Err(FoldError::SumOverflow {
                experiment: plan.experiment.clone(),
                metric: metrics[metric].name.clone(),
            });
        }
        let mut scorecard = Scorecard::new(plan, metrics.to_vec());
        for (event_type, counts) in &self.arrivals {
            let code = plan.event_types.code(event_type);
            let types = scorecard.arrivals_mut();
            if let Some(known) = code.and_then(|code| types.get_mut(code as usize)) {
                known.merge(counts);
            }
        }
        Ok(Folded {
            users: self.users,
            crossovers: self.crossovers,
            forced: self.forced,
            unknown_variant: self.unknown_variant,
            next_event_at: None,
            accumulator: scorecard.with_sums(self.sums, self.not_aggregated, self.next_user_at),
        })
    }
}
