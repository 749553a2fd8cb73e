//! Scorecards by cell against scorecards of the users that a filter chooses.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use trialog_warehouse::analysis::scorecard::Scorecard;
use trialog_warehouse::analysis::scorecard::by_keys::{ByKeys, ByKeysQuestion};
use trialog_warehouse::fold::split::{KeyCells, Split};
use trialog_warehouse::fold::{Folded, Plan, fold};
use trialog_warehouse::snapshot::Snapshot;
use trialog_warehouse::view::View;

use crate::questions::{plan, scorecard};
use crate::reference::Question;

/// Checks the cells of the `limit` largest values of `keys`.
pub(crate) fn check(
    snapshot: &Snapshot,
    question: &Question,
    keys: &[&str],
    limit: usize,
    n_threads: usize,
) -> Result<(), TestCaseError> {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    let whole_plan = plan(question, 9 << 20);
    let view = View::from(snapshot.clone());
    let group = std::slice::from_ref(&keys);
    let mut recorded = view
        .key_values(&whole_plan, group, limit, n_threads)
        .unwrap();
    let found = recorded.values.remove(0);
    let all = view
        .key_values(&whole_plan, group, 1_000, 1)
        .unwrap()
        .values
        .remove(0);
    prop_assert_eq!(
        &found.largest[..],
        &all.largest[..limit.min(all.largest.len())]
    );
    let of_largest: u64 = all.largest.iter().map(|value| value.users).sum();
    prop_assert_eq!(of_largest + all.missing, all.users);

    let cells = found.cells(&keys);
    let n_values = cells.values().len();
    let split_plan = Plan {
        split: Split::Keys(cells),
        ..whole_plan.clone()
    };
    let recorded_plan = Plan {
        exposures: recorded.exposures.map(Arc::new),
        ..split_plan.clone()
    };
    let n_variants = whole_plan.variants.len();
    let numbers =
        |plan: &Plan, cell: usize| Numbers::of_cell(snapshot, question, plan, cell, n_threads);
    for cell in 0..=n_values {
        let by_records = numbers(&recorded_plan, cell);
        prop_assert_eq!(by_records, numbers(&split_plan, cell));
    }
    for (cell, value) in found.largest.iter().enumerate() {
        let Some(by_cell) = numbers(&split_plan, cell) else {
            return Ok(());
        };
        prop_assert_eq!(by_cell.users.iter().sum::<u64>(), value.users);
        let pairs = keys.iter().zip(&value.values);
        // A filter cannot ask for a value that is missing.
        let Some(pairs): Option<Vec<_>> = pairs
            .map(|(key, value)| Some((key.clone(), value.clone()?)))
            .collect()
        else {
            continue;
        };
        let mut filtered = whole_plan.clone();
        filtered.filter.segment.extend(pairs);
        // Users of other cells may have events that wait, too.
        let without_time = |numbers| Numbers {
            next_event_at: None,
            ..numbers
        };
        let filtered = numbers(&filtered, 0).map(without_time);
        prop_assert_eq!(Some(without_time(by_cell)), filtered);
    }
    let cells: Option<Vec<Numbers>> = (0..=n_values)
        .map(|cell| numbers(&split_plan, cell))
        .collect();
    let (Some(cells), Some(whole)) = (cells, numbers(&whole_plan, 0)) else {
        return Ok(());
    };
    if found.missing > 0 {
        let missing = cells[n_values - 1].users.iter().sum::<u64>();
        prop_assert_eq!(missing, found.missing);
    }
    let mut together = Numbers::default();
    together.users.resize(n_variants, 0);
    together.crossovers.resize(n_variants, 0);
    together.totals.resize(whole.totals.len(), 0);
    for cell in &cells {
        together.add(cell);
    }
    prop_assert_eq!(together, whole);
    Ok(())
}

/// Checks that several groups of keys in one pass give what each gives by itself.
pub(crate) fn check_groups(
    snapshot: &Snapshot,
    question: &Question,
    groups: &[&[&str]],
    limit: usize,
    n_threads: usize,
) -> Result<(), TestCaseError> {
    let owned = |keys: &&[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    let groups: Vec<Vec<String>> = groups.iter().map(owned).collect();
    let whole_plan = plan(question, 9 << 20);
    let view = View::from(snapshot.clone());
    let values = |groups: &[Vec<String>]| {
        let found = view.key_values(&whole_plan, groups, limit, n_threads);
        found.unwrap().values
    };
    let found = values(&groups);
    let one_by_one = groups.iter().map(|keys| values(std::slice::from_ref(keys)));
    prop_assert_eq!(&found, &one_by_one.flatten().collect::<Vec<_>>());

    let cells = groups.iter().zip(&found);
    let cells: Vec<KeyCells> = cells.map(|(keys, found)| found.cells(keys)).collect();
    let asked = ByKeysQuestion {
        metrics: scorecard(question, &whole_plan).metrics().to_vec(),
        groups: cells.clone(),
    };
    let plans = std::slice::from_ref(&whole_plan);
    let together = view.run::<ByKeys>(plans, &[asked], n_threads).unwrap();
    // A sum may leave its range; where it does, it does so in all of them or in one cell.
    let Some(Ok(together)) = together.into_iter().next() else {
        return Ok(());
    };
    prop_assert_eq!(together.len(), groups.len());
    for (cells, folded) in cells.into_iter().zip(together) {
        let split_plan = Plan {
            split: Split::Keys(cells),
            ..whole_plan.clone()
        };
        for cell in 0..split_plan.split.n_cells() {
            let by_itself = Numbers::of_cell(snapshot, question, &split_plan, cell, n_threads);
            let by_itself = by_itself.map(|numbers| Numbers {
                next_event_at: None,
                ..numbers
            });
            let in_one_pass = Numbers {
                next_event_at: None,
                ..Numbers::from_folded(&folded, &split_plan, cell)
            };
            prop_assert_eq!(by_itself, Some(in_one_pass));
        }
    }
    Ok(())
}

/// What is counted of the users of a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Numbers {
    users: Vec<u64>,
    crossovers: Vec<u64>,
    forced: u64,
    unknown_variant: u64,
    not_aggregated: u64,
    next_event_at: Option<i64>,
    /// The totals by variant and metric.
    totals: Vec<i128>,
}

impl Numbers {
    /// Folds `plan`; none where a sum leaves its range.
    fn of_cell(
        snapshot: &Snapshot,
        question: &Question,
        plan: &Plan,
        cell: usize,
        n_threads: usize,
    ) -> Option<Self> {
        let outcome = fold(snapshot, std::slice::from_ref(plan), n_threads, |plan| {
            scorecard(question, plan)
        });
        let folded: Folded<Scorecard> = outcome.unwrap().pop()?.ok()?;
        Some(Self::from_folded(&folded, plan, cell))
    }

    fn from_folded(folded: &Folded<Scorecard>, plan: &Plan, cell: usize) -> Self {
        let scorecard = &folded.accumulator;
        let slots = plan.slot(cell as u32, 0)..plan.slot(cell as u32, 0) + plan.variants.len();
        let n_metrics = scorecard.metrics().len();
        let places = slots
            .clone()
            .flat_map(|slot| (0..n_metrics).map(move |metric| (slot, metric)));
        Self {
            totals: places
                .map(|(slot, metric)| scorecard.sums(slot, metric).total)
                .collect(),
            users: folded.users[slots.clone()].to_vec(),
            crossovers: folded.crossovers[slots].to_vec(),
            forced: folded.forced[cell],
            unknown_variant: folded.unknown_variant[cell],
            not_aggregated: scorecard.not_aggregated[cell],
            next_event_at: folded.next_event_at,
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = self.users.iter_mut().zip(&other.users);
        pairs.for_each(|(sum, users)| *sum += users);
        let pairs = self.crossovers.iter_mut().zip(&other.crossovers);
        pairs.for_each(|(sum, users)| *sum += users);
        let pairs = self.totals.iter_mut().zip(&other.totals);
        pairs.for_each(|(sum, total)| *sum += total);
        self.forced += other.forced;
        self.unknown_variant += other.unknown_variant;
        self.not_aggregated += other.not_aggregated;
        let times = [self.next_event_at, other.next_event_at];
        self.next_event_at = times.into_iter().flatten().min();
    }
}
