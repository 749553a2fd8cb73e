//! The funnel: how many exposed users get how far through ordered steps.

pub mod several;
mod times;

use std::path::PathBuf;

use trialog_model::duration::Window;
use trialog_model::time::UnixMicros;
use trialog_stats::{FunnelMatcher, FunnelSteps};

use crate::analysis::Analysis;
use crate::error::FoldError;
use crate::fold::{Accumulator, Exposure, Folded, Plan, Row};

use self::times::Observed;
pub use self::times::{StepEvent, StepTimes};

/// Describes the funnel of one experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunnelPlan {
    /// The steps. A type of event has the code that it has in the plan, and times are in
    /// microseconds.
    pub steps: FunnelSteps,
    /// How long after the exposure events count; without a length, until the experiment ends.
    pub window: Window,
    /// The directory for times that memory does not hold; without it no times are kept.
    pub times: Option<PathBuf>,
}

/// Counts the users of each slot who reach each step.
#[derive(Debug)]
pub struct Funnel {
    matcher: FunnelMatcher,
    n_steps: usize,
    window: Window,
    /// Where funnels without a window end: with the experiment, if it does.
    end_at: i64,
    /// From when on events have not been read.
    seen_until: i64,
    exposure: Exposure,
    /// `[slot * n_steps + step]`
    reached: Vec<u64>,
    times: Option<StepTimes>,
}

impl Funnel {
    /// Returns how long the users took, if that was asked for.
    pub fn into_times(self) -> Option<StepTimes> {
        self.times
    }

    /// How long the user was observed. Without a window that is never long enough.
    fn observed(&self) -> Observed {
        let horizon = self.horizon(self.exposure.at);
        Observed {
            micros: horizon.min(self.seen_until).abs_diff(self.exposure.at),
            is_mature: self.window != Window::UNBOUNDED && horizon <= self.seen_until,
        }
    }

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
            // Events at the data time are read.
            seen_until: plan.data_time.saturating_add(1),
            exposure: Exposure::default(),
            reached: vec![0; plan.n_slots() * n_steps],
            times: (question.times.as_ref())
                .map(|directory| StepTimes::new(plan.n_slots(), n_steps, directory)),
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
        self.exposure = *exposure;
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
        let observed = self.observed();
        let slot = self.exposure.slot;
        let times = self.matcher.finish();
        let reached = &mut self.reached[slot * self.n_steps..][..times.len()];
        reached.iter_mut().for_each(|users| *users += 1);
        if let Some(kept) = &mut self.times {
            kept.add(slot, times, observed);
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let pairs = self.reached.iter_mut().zip(other.reached);
        pairs.for_each(|(users, others)| *users += others);
        if let (Some(kept), Some(others)) = (&mut self.times, other.times) {
            kept.merge(others);
        }
        Ok(())
    }
}
