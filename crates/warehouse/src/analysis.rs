//! Defines the analyses of events: each is an accumulator of the fold in a file of its own. Where
//! it is worth it, SQL beside it computes the same numbers inside ClickHouse.

pub mod arrivals;
pub mod cohorts;
pub mod funnel;
pub mod keys;
pub mod ranks;
pub mod scorecard;
pub mod values;

use crate::error::FoldError;
#[cfg(feature = "clickhouse")]
use crate::error::WarehouseError;
use crate::fold::{Accumulator, Folded, Plan};

/// An analysis of experiments: a question, the accumulator that folds the events, and what
/// becomes of it. [`crate::view::View::run`] runs it over whichever warehouse there is.
pub trait Analysis: Accumulator + Sized {
    /// What to find out about one experiment, beside its plan.
    type Question: Sync;
    /// What was found out about one experiment.
    type Answer;

    /// Makes the accumulator of an experiment, before its first user.
    fn for_plan(plan: &Plan, question: &Self::Question) -> Self;

    /// Makes the answer out of what was folded.
    fn answer(folded: Folded<Self>) -> Self::Answer;

    /// Runs the analysis as SQL, with the answer that folding would give; `None` where it has
    /// no SQL, and its events are read and folded. Plans are in the order of their experiments
    /// and have one data time and one segment.
    #[cfg(feature = "clickhouse")]
    fn push_down(
        _view: &crate::clickhouse::View,
        _plans: &[Plan],
        _questions: &[Self::Question],
    ) -> Option<Result<Answers<Self>, WarehouseError>> {
        None
    }
}

/// The answer about each experiment, in the order of the plans; an overflow is the
/// experiment's own.
pub type Answers<A> = Vec<Result<<A as Analysis>::Answer, FoldError>>;
