//! Iterates over the users of an experiment in order, with the exposure status of each.

use crate::error::WarehouseError;
use crate::fold::exposure::{Status, status};
use crate::fold::history::{Copies, History};
use crate::fold::recorded::RecordReader;
use crate::fold::side::{Reading, SegmentFilter, Side};
use crate::fold::split::{CellFinder, Cells, Split};
use crate::fold::{Plan, note_waiting};
use crate::user_texts::LeastText;

/// Users with assignments, each of whom is taken once.
pub(super) enum Assigned<'a> {
    /// Their assignments are read here.
    Events(Box<Assignments<'a>>),
    /// An earlier pass has read them.
    Recorded(RecordReader<'a>),
}

/// The assignments of an experiment, and what reads their contexts.
pub(super) struct Assignments<'a> {
    side: &'a mut Side,
    segment: Option<SegmentFilter>,
    finder: Option<CellFinder>,
}

impl<'a> Assigned<'a> {
    /// Reads the assignments of `plan` out of `side`, which has entered the experiment.
    pub(super) fn from_events(plan: &Plan, side: &'a mut Side) -> Self {
        let finder = match &plan.split {
            Split::Whole | Split::Days(_) => None,
            Split::Keys(cells) => Some(CellFinder::new(cells)),
        };
        Self::Events(Box::new(Assignments {
            side,
            segment: SegmentFilter::new(&plan.filter.segment),
            finder,
        }))
    }

    /// The next user.
    pub(super) fn user(&self) -> Option<i64> {
        match self {
            Self::Events(assignments) => assignments.side.user(),
            Self::Recorded(records) => records.user(),
        }
    }

    /// Passes over users before `user`.
    pub(super) fn skip_to(&mut self, user: i64) -> Result<(), WarehouseError> {
        match self {
            Self::Events(assignments) => assignments.side.skip_to(user),
            // Records begin with the first user of their piece.
            Self::Recorded(_) => Ok(()),
        }
    }

    /// Takes `user`, who comes next. `cells` number the contexts instead of the split of the
    /// plan; `next_event_at` becomes the time of the first assignment that waits for a later run,
    /// if that is earlier.
    pub(super) fn take(
        &mut self,
        plan: &Plan,
        user: i64,
        cells: Option<&mut dyn Cells>,
        history: &mut History,
        next_event_at: &mut Option<i64>,
    ) -> Result<Status, WarehouseError> {
        match self {
            Self::Recorded(records) => records.take(plan),
            Self::Events(assignments) => {
                let status = assignments.take(plan, user, cells, history)?;
                note_waiting(next_event_at, history.first_beyond(plan.data_time));
                Ok(status)
            }
        }
    }
}

impl Assignments<'_> {
    fn take(
        &mut self,
        plan: &Plan,
        user: i64,
        cells: Option<&mut dyn Cells>,
        history: &mut History,
    ) -> Result<Status, WarehouseError> {
        history.begin(Copies::SameId);
        let mut text = LeastText::default();
        let of_plan = self.finder.as_mut().map(|finder| finder as &mut dyn Cells);
        let mut reading = Reading {
            horizon: plan.data_time.saturating_add(1),
            names: &plan.variants,
            segment: self.segment.as_mut(),
            cells: match cells {
                Some(cells) => Some(cells),
                None => of_plan,
            },
            text: plan.left_out.as_ref().map(|_| &mut text),
        };
        self.side.take(user, &mut reading, history)?;
        let is_left_out =
            (plan.left_out.as_ref()).is_some_and(|units| units.has(user, text.as_str()));
        Ok(match status(plan, user, history)? {
            Status::Unexposed => Status::Unexposed,
            _ if is_left_out => Status::LeftOut,
            status => status,
        })
    }
}
