//! Computes the scorecard by the values of each of several groups of keys in one pass.
//!
//! The events of a user are summed once. What they come to is added to one cell of each group, so
//! that twenty keys cost little more than one.

use crate::analysis::Analysis;
use crate::analysis::scorecard::{MetricPlan, Scorecard};
use crate::error::FoldError;
use crate::fold::split::{
    CellNumbers, Cells, ContextReader, KeyCells, Split, Tuples, encode_into, places_of,
};
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row, Status};

/// Which scorecards to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByKeysQuestion {
    /// The metrics.
    pub metrics: Vec<MetricPlan>,
    /// The cells of each group of keys.
    pub groups: Vec<KeyCells>,
}

/// Gathers a scorecard by cell for each group of keys. The plan itself splits nothing.
pub struct ByKeys {
    /// Sums the events of one user after the other, and gathers nothing.
    user: Scorecard,
    groups: Vec<Group>,
    reader: ContextReader,
    /// The values of a context as one text.
    text: String,
    /// The cells of a context, one of each group.
    tuples: Tuples,
    tuple: Vec<u32>,
    exposure: Exposure,
}

/// A group of keys that are crossed.
struct Group {
    /// The places of its keys among all keys.
    places: Vec<usize>,
    cells: CellNumbers,
    plan: Plan,
    folded: Folded<Scorecard>,
}

impl Group {
    fn new(plan: &Plan, places: Vec<usize>, cells: &KeyCells, metrics: &[MetricPlan]) -> Self {
        let plan = Plan {
            split: Split::Keys(cells.clone()),
            exposures: None,
            ..plan.clone()
        };
        let scorecard = Scorecard {
            arrivals: None,
            ..Scorecard::new(&plan, metrics.to_vec())
        };
        Self {
            places,
            cells: CellNumbers::new(cells),
            folded: Folded::new(&plan, scorecard),
            plan,
        }
    }
}

impl Analysis for ByKeys {
    type Question = ByKeysQuestion;
    type Answer = Vec<Folded<Scorecard>>;

    fn for_plan(plan: &Plan, question: &ByKeysQuestion) -> Self {
        debug_assert_eq!(plan.split, Split::Whole, "the groups split");
        let metrics = &question.metrics;
        let keys: Vec<Vec<String>> = (question.groups.iter())
            .map(|cells| cells.keys().to_vec())
            .collect();
        let (keys, places) = places_of(&keys);
        let groups = question.groups.iter().zip(places);
        let groups = groups.map(|(cells, places)| Group::new(plan, places, cells, metrics));
        Self {
            user: Scorecard {
                arrivals: None,
                ..Scorecard::new(plan, metrics.clone())
            },
            groups: groups.collect(),
            reader: ContextReader::new(keys),
            text: String::new(),
            tuples: Tuples::new(question.groups.len()),
            tuple: Vec::with_capacity(question.groups.len()),
            exposure: Exposure::default(),
        }
    }

    fn answer(folded: Folded<Self>) -> Self::Answer {
        let next_event_at = folded.next_event_at;
        let groups = folded.accumulator.groups.into_iter();
        groups
            .map(|group| Folded {
                next_event_at,
                ..group.folded
            })
            .collect()
    }
}

impl Cells for ByKeys {
    fn cell(&mut self, context: &str) -> u32 {
        self.reader.read(context);
        self.tuple.clear();
        for group in &self.groups {
            self.text.clear();
            let values = group.places.iter().map(|place| self.reader.value(*place));
            encode_into(&mut self.text, values);
            self.tuple.push(group.cells.get(&self.text));
        }
        self.tuples.number(&self.tuple)
    }
}

impl Accumulator for ByKeys {
    fn horizon(&self, exposure: i64) -> i64 {
        self.user.horizon(exposure)
    }

    fn cells(&mut self) -> Option<&mut dyn Cells> {
        Some(self)
    }

    fn assigned(&mut self, _user: i64, status: &Status) {
        if let Some(tuple) = status.cell() {
            let cells = self.groups.iter_mut().zip(self.tuples.get(tuple));
            for (group, cell) in cells {
                let status = status.in_cell(&group.plan, *cell);
                group.folded.count(&group.plan, &status);
            }
        }
        // Of an exposed user the number is still in use.
        if !matches!(status, Status::Exposed(_)) {
            self.tuples.clear_if_many();
        }
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.exposure = *exposure;
        self.user.begin(&Exposure {
            cell: 0,
            ..*exposure
        });
    }

    fn events(&mut self, events: &[Row]) {
        self.user.events(events);
    }

    fn end(&mut self) -> Result<(), FoldError> {
        let not_aggregated = std::mem::take(&mut self.user.not_aggregated[0]);
        let cells = self.tuples.get(self.exposure.cell);
        for (group, cell) in self.groups.iter_mut().zip(cells) {
            let scorecard = &mut group.folded.accumulator;
            scorecard.not_aggregated[*cell as usize] += not_aggregated;
            scorecard.add_user(
                &self.user.user,
                group.plan.slot(*cell, self.exposure.variant),
            )?;
        }
        self.tuples.clear_if_many();
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let mut pairs = self.groups.iter_mut().zip(other.groups);
        pairs.try_for_each(|(group, other)| group.folded.merge(other.folded))
    }
}
