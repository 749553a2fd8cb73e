//! The funnel: how many exposed users get how far through ordered steps.

pub mod several;

use trialog_model::duration::Window;
use trialog_model::time::UnixMicros;
use trialog_stats::{FunnelMatcher, FunnelSteps};

use crate::analysis::Analysis;
use crate::error::FoldError;
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row};

/// Describes the funnel of one experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunnelPlan {
    /// The steps. A type of event has the code that it has in the plan, and times are in
    /// microseconds.
    pub steps: FunnelSteps,
    /// How long after the exposure events count; without a length, until the experiment ends.
    pub window: Window,
}

/// Counts the users of each slot who reach each step.
#[derive(Debug, Clone)]
pub struct Funnel {
    matcher: FunnelMatcher,
    n_steps: usize,
    window: Window,
    /// Where funnels without a window end: with the experiment, if it does.
    end_at: i64,
    slot: usize,
    /// `[slot * n_steps + step]`
    reached: Vec<u64>,
}

impl Funnel {
    /// Returns the users of `slot` who reached each step, which do not rise.
    pub fn reached(&self, slot: usize) -> &[u64] {
        &self.reached[slot * self.n_steps..][..self.n_steps]
    }

    /// Takes the next event of the user, whose type has this code in the funnel.
    fn push(&mut self, code: u8, timestamp: i64) {
        let pushed = self.matcher.push(code, timestamp);
        debug_assert!(pushed.is_ok(), "the events of a user are in order");
    }
}

impl Analysis for Funnel {
    type Question = FunnelPlan;
    type Answer = Folded<Self>;

    fn for_plan(plan: &Plan, question: &FunnelPlan) -> Self {
        let n_steps = question.steps.len();
        Self {
            matcher: FunnelMatcher::new(question.steps),
            n_steps,
            window: question.window,
            end_at: plan.within.end.unwrap_or(i64::MAX),
            slot: 0,
            reached: vec![0; plan.n_slots() * n_steps],
        }
    }

    fn answer(folded: Folded<Self>) -> Folded<Self> {
        folded
    }
}

impl Accumulator for Funnel {
    fn horizon(&self, exposure: i64) -> i64 {
        match self.window == Window::UNBOUNDED {
            true => self.end_at,
            false => self.window.end(UnixMicros(exposure)),
        }
    }

    fn begin(&mut self, exposure: &Exposure) {
        self.slot = exposure.slot;
        self.matcher.start(exposure.at);
    }

    fn events(&mut self, events: &[Row]) {
        for event in events {
            // Other types of events have no code.
            if let Some(code) = event.name.code().and_then(|code| code.try_into().ok()) {
                self.push(code, event.timestamp);
            }
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        let depth = self.matcher.finish().len();
        let reached = &mut self.reached[self.slot * self.n_steps..][..depth];
        reached.iter_mut().for_each(|users| *users += 1);
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let pairs = self.reached.iter_mut().zip(other.reached);
        pairs.for_each(|(users, others)| *users += others);
        Ok(())
    }
}
