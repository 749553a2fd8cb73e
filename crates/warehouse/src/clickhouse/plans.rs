//! Writes plans as SQL: cuts the work into pieces, fills in the statements of a piece, and has the
//! statements that several analyses begin with.

use std::ops::Range;

use serde_json::{Value, json};
use trialog_model::bucket::N_BUCKETS;

use super::sql::{Statement, list, quoted, table};
use super::view::View;
use crate::analysis::scorecard::MetricPlan;
use crate::error::WarehouseError;
use crate::fold::pieces::ranges;
use crate::fold::split::{DAY_MICROS, Split, encode_values};
use crate::fold::{Outcomes, Plan};

/// Rows that a statement reads at most, about: its groups then fit into memory. A larger
/// experiment is cut by users.
const PIECE_ROWS: u64 = 10_000_000;
/// Experiments that a statement is about at most.
pub(super) const PIECE_EXPERIMENTS: usize = 1_000;
/// The latest time that ClickHouse and we can compare without leaving the range of integers.
pub(crate) const FARTHEST: i64 = i64::MAX / 4;

/// Judges the assignments of each user: the table `judged`.
pub(crate) const USERS: &str = include_str!("sql/users.sql");
/// Reads the events of exposed users, each once: the tables `happened` and `counted`.
pub(crate) const HAPPENED: &str = include_str!("sql/happened.sql");

/// Plans that are answered by the same statements, and the users that these look at.
pub(crate) struct Piece<'p> {
    pub(crate) plans: &'p [Plan],
    pub(crate) users: Range<Option<i64>>,
}

impl View {
    /// Adds when the first event that waits becomes part of an answer.
    pub(crate) fn add_waiting<A>(
        &self,
        plans: &[Plan],
        outcomes: &mut Outcomes<A>,
    ) -> Result<(), WarehouseError> {
        let whole = Piece {
            plans,
            users: None..None,
        };
        let reach = vec![Reach::default(); plans.len()];
        let statement = self.statement_about(&[include_str!("sql/waiting.sql")], &whole, &reach);
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
    pub(crate) fn pieces<'p>(&self, plans: &'p [Plan]) -> Result<Vec<Piece<'p>>, WarehouseError> {
        let n_rows: u64 = plans.iter().map(|plan| plan.n_rows).sum();
        let n_pieces = n_rows.div_ceil(PIECE_ROWS);
        let cuts = match (plans, n_pieces) {
            ([plan], 2..) => self.user_cuts(plan.experiment.as_str(), n_pieces)?,
            _ => Vec::new(),
        };
        let pieces = ranges(&cuts).into_iter();
        Ok(pieces.map(|users| Piece { plans, users }).collect())
    }

    /// Finds users that cut the assignments of `experiment` into about `n_pieces` parts, in order.
    pub(crate) fn user_cuts(
        &self,
        experiment: &str,
        n_pieces: u64,
    ) -> Result<Vec<i64>, WarehouseError> {
        let levels: Vec<String> = (1..n_pieces)
            .map(|piece| (piece as f64 / n_pieces as f64).to_string())
            .collect();
        if levels.is_empty() {
            return Ok(Vec::new());
        }
        let statement = self
            .statement(&[include_str!("sql/cuts.sql")])
            .with("levels", levels.join(", "))
            .with("experiments", quoted(experiment));
        let rows = self
            .client
            .rows::<(Vec<i64>,)>("cut an experiment", statement.text())?;
        let mut cuts = rows.into_iter().next().map(|row| row.0).unwrap_or_default();
        cuts.sort_unstable();
        cuts.dedup();
        Ok(cuts)
    }

    /// Begins a statement about the plans of `piece`.
    pub(crate) fn statement_about(
        &self,
        parts: &[&str],
        piece: &Piece<'_>,
        reach: &[Reach],
    ) -> Statement {
        self.statement_with_values(parts, piece, reach, &[])
    }

    /// Begins a statement about the plans of `piece` in which `judged` has the values of `keys`.
    pub(crate) fn statement_with_values(
        &self,
        parts: &[&str],
        piece: &Piece<'_>,
        reach: &[Reach],
        keys: &[String],
    ) -> Statement {
        let first = &piece.plans[0];
        debug_assert!(
            piece
                .plans
                .iter()
                .all(|plan| plan.data_time == first.data_time
                    && plan.filter.segment == first.filter.segment
                    && plan.split == first.split),
            "plans of one statement have one data time, one segment and one split"
        );
        let rows: Vec<Value> = (piece.plans.iter().zip(reach).enumerate())
            .map(|(code, (plan, reach))| plan_row(code, plan, *reach))
            .collect();
        let experiments = piece.plans.iter().map(|plan| plan.experiment.as_str());
        self.statement(parts)
            .with("plans", table(PLAN_COLUMNS, &rows))
            .with("experiments", list(experiments))
            .with("users", users_between(&piece.users))
            .with("cell", cell_of_user(&first.split))
            .with("tag", tag(&first.filter.segment, &first.split, keys))
            .with("key_values", values_text(keys))
            .with("user_text", user_text(piece.plans))
            .with("n_buckets", N_BUCKETS.to_string())
            .with("data_time", first.data_time.min(FARTHEST).to_string())
    }
}

/// Groups plans that one statement answers; a large one is a group by itself.
pub(crate) fn groups(plans: &[Plan]) -> impl Iterator<Item = &[Plan]> {
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
pub(crate) struct Reach {
    /// Where the last window ends, in microseconds after the exposure.
    longest: i64,
    /// Whether a metric ends with the experiment.
    is_open: bool,
}

impl Reach {
    pub(crate) fn from_metrics<'m>(metrics: impl IntoIterator<Item = &'m MetricPlan>) -> Self {
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

/// Writes the condition that a user is among `users`.
pub(crate) fn users_between(users: &Range<Option<i64>>) -> String {
    let start = users.start.map(|start| format!("user_id >= {start}"));
    let end = users.end.map(|end| format!("user_id < {end}"));
    let conditions: Vec<String> = [start, end].into_iter().flatten().collect();
    match conditions.is_empty() {
        true => "true".to_owned(),
        false => conditions.join(" AND "),
    }
}

/// Writes what a context is compared by: its lowest bit says whether it lies in the segment,
/// the next 31 are its cell, and above is its checksum, by which assignments that differ in
/// nothing else are ordered.
fn tag(segment: &[(String, String)], split: &Split, keys: &[String]) -> String {
    if segment.is_empty() && !split.reads_contexts() && keys.is_empty() {
        return "toUInt64(1)".to_owned();
    }
    let conditions: Vec<String> = (segment.iter())
        .map(|(key, value)| {
            let (key, value) = (quoted(key), quoted(value));
            format!("mapContains(attributes, {key}) AND attributes[{key}] = {value}")
        })
        .collect();
    let in_segment = match conditions.is_empty() {
        true => "1".to_owned(),
        false => conditions.join(" AND "),
    };
    format!(
        "bitOr(bitShiftLeft(toUInt64(CRC32(context)), 32), bitOr(bitShiftLeft(toUInt64({}), 1), toUInt64({in_segment})))",
        cell_of_context(split)
    )
}

/// Writes the number of the cell of a user, whose first assignment is at hand.
fn cell_of_user(split: &Split) -> String {
    let Split::Days(cells) = split else {
        return "bitAnd(bitShiftRight(first.5, 1), 2147483647)".to_owned();
    };
    if cells.days().is_empty() {
        return "0".to_owned();
    }
    let days: Vec<String> = cells.days().iter().map(i64::to_string).collect();
    let numbers: Vec<String> = (0..days.len()).map(|at| at.to_string()).collect();
    // Division there rounds towards 0, and days before 1970 are negative.
    let day = format!("intDiv(first.1, {DAY_MICROS}) - (first.1 % {DAY_MICROS} < 0)");
    format!(
        "transform(toInt64({day}), [{}], [{}], {})",
        days.join(", "),
        numbers.join(", "),
        days.len()
    )
}

/// Writes the number of a context's cell.
fn cell_of_context(split: &Split) -> String {
    match split {
        Split::Whole | Split::Days(_) => "0".to_owned(),
        // Without a cell of its own every value is in the last one.
        Split::Keys(cells) if cells.values().is_empty() => "0".to_owned(),
        Split::Keys(cells) => {
            let texts: Vec<String> = cells.values().iter().map(encode_values).collect();
            let numbers: Vec<String> = (0..texts.len()).map(|at| at.to_string()).collect();
            format!(
                "transform({}, [{}], [{}], {})",
                values_text(cells.keys()),
                list(texts.iter().map(String::as_str)),
                numbers.join(", "),
                texts.len()
            )
        }
    }
}

/// Writes the values of `keys` as one text, as [`encode_values`] does; empty without keys.
fn values_text(keys: &[String]) -> String {
    let value = |key: &String| {
        let key = quoted(key);
        format!(
            r"if(mapContains(attributes, {key}), concat('+', replaceAll(replaceAll(attributes[{key}], '\x01', '\x011'), '\x00', '\x010')), '-')"
        )
    };
    let values: Vec<String> = keys.iter().map(value).collect();
    match values.as_slice() {
        [] => "''".to_owned(),
        [one] => one.clone(),
        _ => format!("concat({})", values.join(r", '\x00', ")),
    }
}
